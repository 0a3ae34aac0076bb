"""The core and its shapes, in a time that the test makes: no signals, no waiting."""

from __future__ import annotations

import asyncio
import pickle
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import News, Policy, Stop, StopRequest, StopRequested
from endtask_receiver.testing import FakeStop, fake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class Clock:
    """A time that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of a test."""
    return Clock()


@pytest.fixture
def ended() -> list[StopRequest]:
    """What would have ended the process."""
    return []


@pytest.fixture
def stop(clock: Clock, ended: list[StopRequest]) -> Iterator[Stop]:
    """A stop in that time."""
    made = Stop(10.0, clock=clock, end=ended.append)
    yield made
    made.close()


def ask_apart(stop: Stop, clock: Clock, times: int = 1) -> None:
    """Ask so many times, each later than any window."""
    for _ in range(times):
        clock.now += 1.0
        stop.ask()


# ---------------------------------------------------------------- the first request


def test_nobody_has_asked_it_is_falsy_and_all_grace_is_left(stop: Stop) -> None:
    """The state of nearly all of a program's life."""
    assert not stop
    assert stop.asked is False
    assert stop.request is None
    assert stop.requests == ()
    assert stop.deadline is None
    assert stop.left() == 10.0
    assert repr(stop) == "<Stop of this process: not asked>"


def test_a_request_makes_it_truthy_and_starts_the_time(stop: Stop, clock: Clock) -> None:
    """What was asked can be read, and the deadline is our own grace."""
    stop.ask("enough")
    assert stop
    assert stop.request == StopRequest(100.0, "program", reason="enough")
    assert stop.deadline == 110.0
    clock.now += 4
    assert stop.left() == 6.0
    clock.now += 40
    assert stop.left() == 0.0


def test_the_deadline_of_the_requester_counts_and_the_nearest_one(stop: Stop) -> None:
    """A second message that only adds a deadline changes it, later ones do not move it away."""
    stop.ask()
    stop.ask(deadline_s=5)
    assert stop.left() == 5
    stop.ask(deadline_s=50)
    assert stop.left() == 5
    stop.ask(deadline_s=3)
    assert stop.left() == 3


# ---------------------------------------------------------------- repeated requests


def test_requests_within_the_window_count_once_however_many(stop: Stop, clock: Clock) -> None:
    """A key that is held down comes every 30 ms; that is one request."""
    for _ in range(1000):
        stop.ask()
        clock.now += 0.03
    assert stop.repeats == 999
    assert not stop.hurry
    assert len(stop.requests) == 64, "a flood must not cost memory"


def test_the_second_hurries_and_the_third_ends(stop: Stop, clock: Clock, ended: list[StopRequest]) -> None:
    """The usual policy."""
    ask_apart(stop, clock)
    assert (stop.hurry, stop.ending) == (False, False)
    assert repr(stop).endswith(": asked>")
    ask_apart(stop, clock)
    assert (stop.hurry, stop.ending) == (True, False)
    assert repr(stop).endswith(": hurry>")
    ask_apart(stop, clock)
    assert (stop.hurry, stop.ending) == (True, True)
    assert repr(stop).endswith(": ending>")
    assert [r.at for r in ended] == [103.0]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("ask",), ["", "", "", ""]),
        (("ask", "hurry"), ["", "hurry", "hurry", "hurry"]),
        (("ask", "exit"), ["", "exit", "exit", "exit"]),
        (("exit",), ["exit"] * 4),
        (("ask", "ask", "hurry", "exit"), ["", "", "hurry", "exit"]),
    ],
)
def test_the_policy_says_what_a_further_request_means(
    steps: tuple[str, ...], expected: list[str], clock: Clock, ended: list[StopRequest]
) -> None:
    """The last word is that of all further requests."""
    stop = Stop(policy=Policy(steps=steps), clock=clock, end=ended.append)
    seen = []
    for _ in expected:
        ask_apart(stop, clock)
        seen.append("exit" if stop.ending else "hurry" if stop.hurry else "")
    assert seen == expected


def test_many_distinct_requests_keep_the_last_word(clock: Clock) -> None:
    """Nothing grows for ever."""
    stop = Stop(policy=Policy(steps=("ask", "hurry")), clock=clock)
    ask_apart(stop, clock, 200)
    assert len(stop._counted) == 64
    assert stop.hurry


def test_without_anything_that_ends_it_the_third_only_says_so(clock: Clock) -> None:
    """A bare `Stop` has no process to end."""
    stop = Stop(clock=clock)
    ask_apart(stop, clock, 3)
    assert stop.ending


def test_what_must_be_done_before_the_end_is_done_and_cannot_prevent_it(
    stop: Stop, clock: Clock, ended: list[StopRequest]
) -> None:
    """Children that may be killed are killed then."""
    done: list[int] = []
    stop._dying += [lambda: done.append(1), lambda: done.append(1 // 0), lambda: done.append(3)]
    ask_apart(stop, clock, 3)
    assert done == [1, 3]
    assert stop.faults == 1
    assert len(ended) == 1


def test_a_policy_is_checked_when_it_is_made() -> None:
    """A wrong word is an error at once, not at the third Ctrl+C."""
    with pytest.raises(ValueError, match="steps"):
        Policy(steps=())
    with pytest.raises(ValueError, match="steps"):
        Policy(steps=("ask", "kill"))
    with pytest.raises(ValueError, match="overdue"):
        Policy(overdue="kill")


# ---------------------------------------------------------------- the clock


@pytest.mark.parametrize(("overdue", "hurry", "ending"), [("nothing", 0, 0), ("hurry", 1, 0), ("exit", 1, 1)])
def test_a_deadline_that_is_over_acts_once(
    overdue: str, hurry: bool, ending: bool, clock: Clock, ended: list[StopRequest]
) -> None:
    """By itself, when an ear with a thread looks at the clock."""
    stop = Stop(5.0, Policy(overdue=overdue), clock=clock, end=ended.append)
    assert stop._due_s() is None
    stop._tick()
    stop.ask()
    assert stop._due_s() == 5.0
    clock.now += 4
    stop._tick()
    assert (stop.hurry, stop._due_s()) == (False, 1.0)
    clock.now += 2
    assert stop._due_s() == 0.0
    stop._tick()
    stop._tick()
    assert (stop.hurry, stop.ending, len(ended)) == (bool(hurry), bool(ending), int(ending))
    assert stop._due_s() is None


def test_more_time_of_our_own_is_bounded(clock: Clock) -> None:
    """`need` moves our own deadline, but not for ever."""
    stop = Stop(10.0, Policy(extend_max_s=15.0), clock=clock)
    assert stop.need(5) == 10.0, "nobody has asked, so there is no deadline to move"
    stop.ask()
    assert stop.need(3, "nearly") == 10.0, "three more seconds are there anyway"
    clock.now += 9
    assert stop.need(8) == 8.0
    clock.now += 7
    assert stop.need(100) == pytest.approx(25 - 16)
    assert stop.need(100) == pytest.approx(9)


def test_more_time_of_the_requester_is_the_requesters_to_give(stop: Stop) -> None:
    """It may grant it; until then the deadline stands."""
    stop.ask(deadline_s=4)
    said: list[News] = []
    stop._listeners.append(said.append)
    assert stop.need(8, "the log") == 4
    assert [(n.kind, n.seconds, n.text) for n in said] == [("need", 8, "the log")]
    stop._granted(112.0, None)
    assert stop.left() == 12


# ---------------------------------------------------------------- echoes of what was refused


def test_the_echo_of_a_request_that_was_refused_wakes_nobody(stop: Stop, clock: Clock) -> None:
    """The watching thread may be late: whoever waits again goes on waiting, for the next one."""
    stop._heard(StopRequest(clock.now, "signal"))
    assert stop.veto("no")
    wakes: list[int] = []
    stop.add_waker(lambda: wakes.append(1))
    latch = stop._latch
    stop._heard(StopRequest(clock.now, "signal"), lambda: True)
    assert (stop.asked, stop.request, wakes) == (False, None, [])
    assert latch is stop._latch
    assert latch.locked()
    clock.now += 1
    stop._heard(StopRequest(clock.now, "signal"), lambda: False)
    assert (stop.asked, stop.hurry) == (True, True)
    assert wakes
    assert not latch.locked()


def test_an_echo_that_meets_the_refusal_is_refused_with_it(stop: Stop, clock: Clock) -> None:
    """It had been taken for a request when the veto came."""
    request = StopRequest(clock.now, "signal")
    stop._heard(request)

    def echo() -> bool:
        stop._refuse()
        stop._first.append(request)
        stop.asked = True
        return True

    stop._heard(StopRequest(clock.now, "signal"), echo)
    assert (stop.asked, stop.request) == (False, None)


# ---------------------------------------------------------------- shields


def test_a_shield_holds_back_what_would_hurry_and_what_would_end(
    stop: Stop, clock: Clock, ended: list[StopRequest]
) -> None:
    """The first request is known at once, the others when the block ends."""
    with stop.shield(60, "writing"):
        ask_apart(stop, clock)
        assert stop.asked
        ask_apart(stop, clock, 2)
        assert (stop.hurry, ended) == (False, [])
        assert stop._due_s() == pytest.approx(9 - 1), "the deadline is nearer than the end of the shield"
    assert (stop.hurry, len(ended)) == (True, 1)


def test_a_shield_has_a_limit(stop: Stop, clock: Clock) -> None:
    """Whoever stays in it too long is not protected any more."""
    with stop.shield(2.5):
        ask_apart(stop, clock, 2)
        assert not stop.hurry
        assert stop._due_s() == 0.5
        clock.now += 1
        assert stop._due_s() == 0.0
        stop._tick()
        assert stop.hurry
        with pytest.raises(StopRequested):
            stop.checkpoint()


def test_the_outer_shield_holds_when_the_inner_one_ends(stop: Stop, clock: Clock) -> None:
    """Shields nest."""
    with stop.shield(60):
        with stop.shield(1):
            ask_apart(stop, clock, 2)
        assert not stop.hurry
    assert stop.hurry


def test_a_shield_without_any_request_does_nothing(stop: Stop) -> None:
    """And costs nothing."""
    with stop.shield(1):
        pass
    assert not stop


def test_a_shield_that_begins_late_is_told(stop: Stop) -> None:
    """Whoever asked sees why it takes longer."""
    said: list[News] = []
    stop._listeners.append(said.append)
    stop.ask()
    with stop.shield(5, "the index"):
        pass
    assert said == [News(100.0, None, "shield", 5, "the index")]


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_raises_only_when_asked_and_saves_before(stop: Stop) -> None:
    """This is the only thing that raises."""
    saved: list[int] = []
    stop.checkpoint(lambda: saved.append(1))
    assert saved == []
    stop.ask("go")
    with pytest.raises(StopRequested, match="program: go") as raised:
        stop.checkpoint(lambda: saved.append(1))
    assert saved == [1]
    assert raised.value.stop is stop
    assert raised.value.request is stop.request
    assert not isinstance(raised.value, Exception)
    with pytest.raises(StopRequested):
        stop.checkpoint()


def test_a_checkpoint_in_a_shield_does_not_raise(stop: Stop) -> None:
    """But another thread's shield is not ours."""
    stop.ask()
    with stop.shield(5):
        stop.checkpoint()
        raised: list[bool] = []

        def elsewhere() -> None:
            try:
                stop.checkpoint()
            except StopRequested:
                raised.append(True)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert raised == [True]


def test_leaving_the_block_by_its_own_checkpoint_is_a_normal_end() -> None:
    """The error of another stop goes on."""
    with fake() as stop:
        stop.ask()
        stop.checkpoint()
    with pytest.raises(StopRequested), fake() as outer, fake():
        outer.ask()
        try:
            outer.checkpoint()
        finally:
            outer = fake()  # noqa: PLW2901  # the block of the outer one must not take it either
            raise StopRequested(outer)


def test_an_error_goes_through_and_cleanup_runs_first() -> None:
    """Nothing is swallowed."""
    done: list[int] = []
    with pytest.raises(KeyError), fake() as stop:
        stop.cleanup(done.append, 1)
        raise KeyError
    assert done == [1]


def test_checkpoints_within_the_cleanup_do_not_raise() -> None:
    """It would be cut by the very request that it answers."""
    done: list[int] = []

    def save(stop: Stop) -> None:
        stop.checkpoint()
        done.append(1)

    with fake() as each:
        each.cleanup(save, each)
        each.ask()
    assert done == [1]


# ---------------------------------------------------------------- loops


def test_iterate_drops_nothing_that_it_took() -> None:
    """A job that was taken from a queue is done, then it stops."""
    source = iter(range(10))
    seen = []
    with fake() as stop:
        for item in stop.iterate(source):
            seen.append(item)
            if item == 3:
                stop.ask()
        assert list(stop.iterate(source)) == []
    assert seen == [0, 1, 2, 3]
    assert next(source) == 4


def test_iterate_ends_with_its_items() -> None:
    """Without any request it is a plain loop."""
    with fake() as stop:
        assert list(stop.iterate("abc")) == ["a", "b", "c"]


def test_every_keeps_its_period_and_leaves_missed_turns_out() -> None:
    """A turn that takes two and a half periods costs two turns."""
    with fake() as stop:
        stop.ask_in(60)
        seen = []
        for turn in stop.every(10):
            seen.append((turn, stop.now))
            if turn == 1:
                stop.advance(25)
    assert seen == [(0, 0.0), (1, 10.0), (4, 40.0), (5, 50.0)]


def test_nap_says_whether_it_was_cut_short() -> None:
    """A sleep that ends at once."""
    with fake() as stop:
        stop.ask_in(5)
        assert stop.nap(3) is False
        assert stop.nap(3) is True
        assert stop.now == 5


# ---------------------------------------------------------------- waiting, in real time


def test_wait_ends_with_its_time_and_zero_only_looks() -> None:
    """Nobody asks."""
    stop = Stop()
    assert stop.wait(0) is False
    assert stop.wait(-5) is False
    assert stop.wait(0.01) is False
    stop.ask()
    assert stop.wait() is True


def test_all_waiters_are_released_by_one_request() -> None:
    """However many there are, and those that come later too."""
    stop = Stop()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(stop.wait())) for _ in range(20)]
    for thread in threads:
        thread.start()
    stop.ask()
    for thread in threads:
        thread.join(20)
    assert answers == [True] * 20
    assert stop.wait(1e12), "no time is too long for it"


def test_a_waiter_that_is_broken_by_a_strange_handler_lets_the_others_through() -> None:
    """An exception may come right after the lock was taken; the latch must be open nevertheless."""

    class Breaking:
        """The latch, with a request and then somebody else's raising handler at the worst moment."""

        def __init__(self, stop: Stop) -> None:
            self.lock = stop._latch
            self.stop = stop

        def acquire(self, *args: Any) -> bool:
            self.stop.ask()
            assert self.lock.acquire(*args)
            raise KeyboardInterrupt

        def release(self) -> None:
            self.lock.release()

    stop = Stop()
    latch = stop._latch
    stop._latch = Breaking(stop)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        stop.wait()
    assert latch.acquire(timeout=5), "the latch stayed closed"


# ---------------------------------------------------------------- counting without waiting


def test_a_request_in_the_middle_of_counting_is_counted_when_that_is_done(stop: Stop, clock: Clock) -> None:
    """A handler that interrupts the count leaves its request, and the interrupted frame takes it."""
    inner: list[bool] = []

    def waker() -> None:  # runs in the middle of a count, as a handler would
        if not inner:
            inner.append(True)
            clock.now += 1
            stop.ask("within")
            assert stop._inbox, "it has not been counted yet: that would be a count within a count"

    ask_apart(stop, clock)
    stop.add_waker(lambda: None)
    stop._wakers.append(waker)
    ask_apart(stop, clock)
    assert stop._inbox == []
    assert [r.reason for r in stop.requests] == ["", "", "within"]
    assert stop.ending


def test_a_request_while_another_thread_counts_is_taken_by_that_thread(stop: Stop) -> None:
    """Nobody waits for the lock, and nothing stays behind."""
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        go.wait(20)

    thread = threading.Thread(target=stop._in_turn, args=(hold,))
    thread.start()
    assert entered.wait(20)
    stop.ask()
    assert stop.asked, "the flag does not wait for the count"
    assert stop.request is not None
    assert stop.requests == ()
    go.set()
    thread.join(20)
    assert len(stop.requests) == 1


def test_many_threads_at_once_lose_nothing() -> None:
    """Every request is counted: as one of its own, or as a repetition."""
    stop = Stop()
    start = threading.Barrier(8)

    def storm() -> None:
        start.wait()
        for _ in range(500):
            stop.ask()

    threads = [threading.Thread(target=storm) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stop.repeats + len(stop._counted) == 4000


def test_an_echo_is_the_same_request(stop: Stop, clock: Clock) -> None:
    """Two ears hear one signal, the second a second later: the main thread was in a long call."""
    stop._heard(StopRequest(100.0, "signal", name="SIGTERM"), lambda: False)
    clock.now = 101.5
    stop._heard(StopRequest(101.5, "signal", name="SIGTERM"), lambda: True)
    assert not stop.hurry
    assert len(stop.requests) == 1
    stop._heard(StopRequest(101.6, "signal", name="SIGTERM"), lambda: False)
    assert stop.repeats == 1, "what comes in one burst with an echo is no second request"


# ---------------------------------------------------------------- refusing


def test_a_veto_goes_on_as_if_nobody_had_asked(stop: Stop) -> None:
    """And can be heard by whoever asked."""
    said: list[News] = []
    stop._listeners.append(said.append)
    assert stop.veto("nobody has asked") is False
    stop.ask(deadline_s=5)
    assert stop.veto("a backup runs") is True
    assert not stop
    assert stop.request is None
    assert stop.left() == 10.0
    assert stop.wait(0) is False
    assert [(n.kind, n.text) for n in said] == [("veto", "a backup runs")]


def test_after_a_veto_the_next_request_soon_is_the_second(stop: Stop, clock: Clock) -> None:
    """Nobody can be refused for ever: who insists is heard."""
    ask_apart(stop, clock)
    assert stop.veto("no")
    ask_apart(stop, clock)
    assert (stop.asked, stop.hurry) == (True, True)
    assert stop.veto("no again") is False


def test_a_second_request_cannot_be_refused_before_it_is_counted_either(stop: Stop, clock: Clock) -> None:
    """Whoever it has woken may be faster than the count."""
    ask_apart(stop, clock)
    assert stop.veto("no")
    refused: list[bool] = []
    waker = lambda: refused.append(stop.veto("no again"))  # noqa: E731  # removed below
    stop.add_waker(waker)
    ask_apart(stop, clock)
    stop.remove_waker(waker)
    assert refused[0] is False
    assert stop.asked
    assert stop.hurry


def test_long_after_a_veto_a_request_is_a_first_one(stop: Stop, clock: Clock) -> None:
    """Yesterday's refusal does not make today's question urgent."""
    ask_apart(stop, clock)
    assert stop.veto("no")
    clock.now += 3600
    stop.ask()
    assert (stop.asked, stop.hurry) == (True, False)
    assert stop.wait(0)


def test_a_request_that_the_echo_of_another_overtakes_counts(clock: Clock) -> None:
    """The thread has read the second one; before it counts that, the handler of the first one reports, at a later time."""
    stop = Stop(10.0, Policy(window_s=0.0), clock=clock)
    stop._heard(StopRequest(100.0, "signal"))
    stop._heard(StopRequest(100.002, "signal"), lambda: True)
    stop._heard(StopRequest(100.001, "signal"))
    assert (stop.repeats, stop.hurry) == (0, True)


def test_a_burst_that_is_told_in_another_order_is_one_request(stop: Stop) -> None:
    """The window holds in both directions, and is not moved back."""
    for at in (100.2, 100.0, 100.5):
        stop._heard(StopRequest(at, "signal"))
    assert (stop.repeats, stop.hurry) == (2, False)


def test_the_echo_of_a_refused_request_is_refused_too(stop: Stop, clock: Clock) -> None:
    """The second ear hears it after the veto."""
    stop._heard(StopRequest(100.0, "signal", name="SIGTERM"), lambda: False)
    assert stop.veto("no")
    clock.now += 1
    stop._heard(StopRequest(101.0, "signal", name="SIGTERM"), lambda: True)
    assert not stop
    assert stop.request is None


def test_a_request_that_is_refused_before_it_is_counted_stays_refused(stop: Stop, clock: Clock) -> None:
    """Whoever is woken may be faster than the count; the next one is the second nevertheless."""
    refused: list[bool] = []
    waker = lambda: refused.append(stop.veto("no"))  # noqa: E731  # removed below
    stop.add_waker(waker)
    ask_apart(stop, clock)
    assert refused == [True]
    assert not stop
    assert stop.request is None
    assert len(stop.requests) == 1
    stop.remove_waker(waker)
    ask_apart(stop, clock)
    assert (stop.asked, stop.hurry) == (True, True)


def test_a_request_that_meets_a_veto_is_heard(stop: Stop, clock: Clock) -> None:
    """It has set the flag already when the veto clears it; its count sets it again."""
    ask_apart(stop, clock)
    clock.now += 100

    def meet() -> None:
        # Somebody counts; meanwhile a veto and then a request arrive, in the order in which they will be taken.
        assert stop.veto("no")
        stop.ask("yes")

    stop._in_turn(meet)
    assert stop
    assert stop.request is not None
    assert stop.request.reason == "yes"
    assert stop.wait(0)


# ---------------------------------------------------------------- wakers and descriptors


def test_a_waker_is_called_for_the_first_and_for_the_urgent(stop: Stop, clock: Clock) -> None:
    """And at once if somebody has asked already; a fault of it harms nobody."""
    calls: list[str] = []
    first: Callable[[], object] = lambda: calls.append("first")  # noqa: E731  # compared below
    stop.add_waker(first)
    stop.add_waker(lambda: 1 // 0)
    ask_apart(stop, clock)
    assert calls == ["first"]
    assert stop.faults == 1
    stop.remove_waker(first)
    stop.remove_waker(first)
    stop.add_waker(lambda: calls.append("late"))
    assert calls == ["first", "late"]
    ask_apart(stop, clock)
    assert calls == ["first", "late", "late"]


def readable(stop: Stop) -> bool:
    """Return whether a loop would be woken."""
    return bool(select.select([stop.fileno()], [], [], 0)[0])


def test_the_descriptor_becomes_readable_and_stays_so() -> None:
    """For loops that know nothing of us."""
    stop = Stop()
    assert not readable(stop)
    stop.ask()
    assert readable(stop)
    assert readable(stop)
    stop.close()
    with pytest.raises(ValueError, match="file descriptor"):
        readable(stop)
    stop.ask()  # the socket is closed: nobody minds


def test_the_descriptor_of_one_that_was_asked_is_readable_at_once() -> None:
    """The order does not matter."""
    stop = Stop()
    stop.ask()
    assert readable(stop)
    stop.close()


def test_a_veto_makes_the_descriptor_unreadable_again(clock: Clock) -> None:
    """Unless somebody has asked anew."""
    stop = Stop(clock=clock)
    assert not readable(stop)
    stop.ask()
    assert stop.veto("no")
    assert not readable(stop)
    ask_apart(stop, clock)
    assert stop._wake_fd is not None
    stop._wake_fd.reset()
    assert readable(stop)
    for _ in range(100_000):  # more than fits
        stop._wake_fd._wake()
    assert readable(stop)
    stop._wake_fd.reset()
    stop.close()


def test_it_can_be_awaited_and_iterated() -> None:
    """The loop is found by itself; trio has a test of its own."""

    async def main(stop: Stop) -> list[str]:
        asyncio.get_running_loop().call_soon(stop.ask, "one")
        request = await stop
        seen = [request.reason]
        async for each in stop:
            seen.append(each.reason)
            if len(seen) == 3:
                return seen
            stop._heard(StopRequest(time.monotonic() + 5, "program", reason="two"))
        raise AssertionError

    assert asyncio.run(main(Stop())) == ["one", "one", "two"]


# ---------------------------------------------------------------- ears, ending, values


class _Ear:
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def start(self, stop: Stop) -> None:
        self.log.append(f"start {self.name}")

    def close(self) -> None:
        self.log.append(f"close {self.name}")

    def describe(self) -> tuple[str, ...]:
        return (f"{self.name} hears",)


def test_ears_are_closed_once_in_reverse_order() -> None:
    """The block does it."""
    log: list[str] = []
    with Stop(name="app") as stop:
        stop._attach(_Ear(log, "a"))
        stop._attach(_Ear(log, "b"))
        assert stop.ears == ("a hears", "b hears")
        assert "app" in repr(stop)
    stop.close()
    assert log == ["start a", "start b", "close b", "close a"]


def test_a_stop_that_stays_is_not_closed_by_its_block() -> None:
    """`finish` listens until the process is gone."""
    log: list[str] = []
    with Stop() as stop:
        stop._attach(_Ear(log, "a"))
        stop._stay()
    assert log == ["start a"]
    stop.close()
    assert log == ["start a", "close a"]


def test_finish_without_any_request_is_a_plain_exit() -> None:
    """Status 0, or the one that was given."""
    with pytest.raises(SystemExit) as ended, Stop() as stop:
        stop.finish()
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended, Stop() as stop:
        stop.finish(75)
    assert ended.value.code == 75
    with pytest.raises(ValueError, match="how is"):
        stop.finish("somehow")
    stop.close()


def test_a_child_begins_anew() -> None:
    """All that was the parent's is forgotten."""
    stop = Stop()
    stop.ask()
    stop.fileno()
    stop.cleanup(print, "never")
    stop._attach(_Ear([], "a"))
    stop._in_child()
    assert not stop
    assert (stop.ears, stop.requests, stop.cleaned, stop._wake_fd) == ((), (), (), None)
    stop._in_child()


def test_progress_is_told_to_whoever_listens(stop: Stop) -> None:
    """Nothing happens if nobody does."""
    stop.tell("draining", 3, 12)
    said: list[News] = []
    stop._listeners.append(said.append)
    stop.tell("draining", 4, 12)
    assert said == [News(100.0, 4, "tell", None, "draining", 12)]


def test_values_compare_and_show_and_do_not_change() -> None:
    """Requests, news and policies are values."""
    one = StopRequest(1.0, "signal", name="SIGTERM", pid=7, reason="deploy")
    assert one == StopRequest(1.0, "signal", name="SIGTERM", pid=7, reason="deploy")
    assert hash(one) == hash(StopRequest(1.0, "signal", name="SIGTERM", pid=7, reason="deploy"))
    assert one != StopRequest(2.0, "signal")
    assert one != "SIGTERM"
    assert str(one) == "SIGTERM from 7: deploy"
    assert str(StopRequest(1.0, "stdin")) == "stdin"
    assert repr(Policy()).startswith("Policy(extend_max_s=60.0, overdue='hurry'")
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError, match="does not change"):
        one.reason = "other"


# ---------------------------------------------------------------- the stop for tests


def test_a_fake_asks_at_a_look_of_the_program() -> None:
    """Whoever tries them all has tried every place where the program can stop."""

    def work(stop: FakeStop) -> int:
        done = 0
        while not stop:
            done += 1
            if stop.nap(1):
                break
        return done

    assert [work(fake(at_look=n)) for n in (1, 2, 3, 4)] == [0, 1, 1, 2]


def test_a_fake_that_would_wait_for_ever_says_so() -> None:
    """A test that hangs tells nothing."""
    with pytest.raises(AssertionError, match="wait for ever"), fake() as stop:
        stop.wait()
    with fake() as stop:
        stop.ask_in(3600)
        assert stop.wait()
        assert stop.now == 3600


def test_time_that_the_test_lets_pass_brings_what_was_planned() -> None:
    """In its order, and the deadline with it."""
    with fake(grace_s=2, policy=Policy(overdue="hurry")) as stop:
        stop.ask_in(5)
        stop.advance(4)
        assert not stop
        stop.advance(2)
        assert stop.request is not None
        assert (stop.request.at, stop.left(), stop.hurry) == (5, 1, False)
        stop.advance(1)
        assert stop.hurry


def test_a_fake_never_ends_the_process() -> None:
    """It notes that it would have, and its exit status is a shell's."""
    with fake() as stop:
        for _ in range(3):
            stop.ask(channel="signal")
            stop.advance(1)
    assert stop.ended is not None
    with pytest.raises(SystemExit) as ended, fake() as stop:
        stop._heard(StopRequest(0.0, "signal", name="SIGTERM"))
        stop.finish()
    assert ended.value.code == 143


def test_a_fake_in_real_time_waits() -> None:
    """For programs with threads."""
    with fake(real_time=True) as stop:
        thread = threading.Thread(target=stop.wait)
        thread.start()
        stop.add_waker(lambda: None)
        assert stop.wait(0.01) is False
        stop.ask()
        thread.join(20)
        assert not thread.is_alive()
