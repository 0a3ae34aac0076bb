"""What application and requester say to each other, without a transport and in a time that the test makes."""

from __future__ import annotations

import json
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endtask_receiver import News, Policy, Stop, StopRequest, _channel
from endtask_receiver._channel import LATE_S, NEWS_MAX, NOT_ALLOWED, PACE_S, PEERS_MAX, Channel
from endtask_receiver._channel_lines import TEXT_MAX, clean, encode
from endtask_receiver._channel_talk import LAST_MAX, LINE_MAX, LINES_MAX, OUT_MAX, PATIENCE_S, Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Clock:
    """A time that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A stop, its channel, and a transport that loses nothing and does nothing by itself."""

    def __init__(self, policy: Policy | None = None, name: str = "ingest") -> None:
        self.clock = Clock()
        self.ended: list[StopRequest] = []
        self.stop = Stop(10.0, policy, name, clock=self.clock, end=self.ended.append)
        self.wakes = 0
        self.channel = Channel(self.stop, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def connect(self, pid: int = 77, uid: int = 1000) -> Talk:
        conversation = self.channel.open(pid, uid)
        assert conversation is not None
        return Talk(self, conversation)

    def signal(self, name: str = "SIGTERM", later_s: float = 0.0) -> None:
        """Do what a signal does."""
        self.clock.now += later_s
        self.stop._heard(StopRequest(self.clock.now, "signal", name=name))


class Talk:
    """The requester's end."""

    def __init__(self, bench: Bench, conversation: Conversation) -> None:
        self.bench = bench
        self.conversation = conversation
        self._greeting: dict[str, object] = {"endtask": 1}

    def say(self, **message: object) -> None:
        self.conversation.feed(json.dumps(self._greeting | message).encode() + b"\n")
        self._greeting = {}

    def notice(self, left_s: object = 9.0, request: str = "TERM", reason: str = "deploy 12") -> None:
        self.say(notice={"request": request, "left_s": left_s, "reason": reason, "by": "a test"})

    def heard(self) -> list[dict[str, Any]]:
        """Return what the application has said since the last time, line by line."""
        self.bench.channel.pump()
        lines = bytes(self.conversation.out).splitlines()
        self.conversation.sent(len(self.conversation.out))
        return [json.loads(line) for line in lines]

    def words(self) -> list[str]:
        """Return the same, without what it says in detail."""
        return [word for message in self.heard() for word in message if word != "endtask"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """What nearly all of them need."""
    made = Bench()
    yield made
    made.stop.close()


# ---------------------------------------------------------------- one within another


def test_one_within_another_hears_and_says_the_same(bench: Bench) -> None:
    """A request by the channel, a notice, its words, and the time that is granted."""
    talk = bench.connect()
    inner = Stop(5.0, name="inner", clock=bench.clock)
    bench.channel.join(inner)
    talk.notice(9.0)
    bench.signal()
    inner._heard(StopRequest(bench.clock.now, "signal", name="SIGTERM"))
    for stop in (bench.stop, inner):
        assert stop.request is not None
        assert (stop.request.reason, stop.left()) == ("deploy 12", 9.0)
    inner.tell("draining", 1, 2)
    inner.need(20, "flushing")
    assert talk.words() == ["hello", "noted", "heard", "tell", "need"]
    talk.say(granted={"left_s": 20.0})
    assert (inner.left(), bench.stop.left()) == (20.0, 20.0)
    inner.veto("recording")
    assert talk.words() == ["veto"]


def test_a_request_by_the_channel_is_told_once(bench: Bench) -> None:
    """By the outer one, whoever has heard it first."""
    talk = bench.connect()
    inner = Stop(5.0, clock=bench.clock)
    bench.channel.join(inner)
    talk.say(request={"left_s": 9.0, "reason": "deploy 12"})
    assert [stop.asked for stop in (bench.stop, inner)] == [True, True]
    assert talk.words() == ["hello", "heard"]


def test_who_has_left_is_not_listened_to(bench: Bench) -> None:
    """Neither are its notices kept, nor its words told."""
    talk = bench.connect()
    inner = Stop(5.0, clock=bench.clock)
    bench.channel.join(inner)
    talk.heard()
    bench.channel.leave(inner)
    bench.channel.leave(inner)
    inner.tell("nobody listens")
    talk.say(request={"left_s": 9.0})
    assert not inner.asked
    assert talk.words() == ["heard"]
    assert inner._listeners == []


# ---------------------------------------------------------------- what is said to whom


def test_who_connects_is_told_who_we_are(bench: Bench) -> None:
    """At once, and in the first line of this side the version."""
    (hello,) = bench.connect().heard()
    assert hello["endtask"] == 1
    assert hello["hello"] | {"pid": 0} == {
        "pid": 0,
        "name": "ingest",
        "grace_s": 10.0,
        "state": "running",
        "left_s": None,
    }


def test_who_comes_late_is_told_what_was_asked_and_the_last_progress(bench: Bench) -> None:
    """It knows as much as the others, and hears nothing twice."""
    bench.signal()
    bench.stop.tell("draining", 1, 15)
    bench.stop.tell("draining", 3, 15)
    bench.clock.now += 4
    late = bench.connect()
    hello, heard, tell = late.heard()
    assert hello["hello"]["state"] == "asked"
    assert hello["hello"]["left_s"] == 6.0
    assert heard == {"heard": {"name": "SIGTERM", "channel": "signal", "ago_s": 4.0, "left_s": 6.0}}
    assert tell == {"tell": {"text": "draining", "done": 3, "total": 15}}
    assert late.heard() == []


def test_its_state_is_told_as_it_gets_worse(bench: Bench) -> None:
    """Asked, in a hurry, ending."""
    states = []
    for _ in range(3):
        bench.signal(later_s=1)
        states.append(bench.connect().heard()[0]["hello"]["state"])
    assert states == ["asked", "hurry", "ending"]


def test_everybody_hears_of_every_distinct_request_once(bench: Bench) -> None:
    """Whichever way it came; a repeat is none."""
    two = [bench.connect(), bench.connect(78)]
    for talk in two:
        talk.words()
    for later_s in (0, 0.1, 0.1, 1.0):
        bench.signal(later_s=later_s)
    assert [talk.words() for talk in two] == [["heard", "heard"]] * 2
    assert [talk.words() for talk in two] == [[], []]


def test_a_signal_that_two_ears_report_crosswise_is_heard_once(bench: Bench) -> None:
    """The thread notes it first, and the handler is counted first: it is one request all the same."""
    talk = bench.connect()
    talk.words()

    def handler() -> None:
        bench.stop.remove_waker(handler)
        bench.clock.now += 0.001
        bench.stop._heard(StopRequest(bench.clock.now, "signal", name="SIGTERM"), lambda: False)

    bench.stop.add_waker(handler)
    bench.stop._heard(StopRequest(bench.clock.now, "signal", name="SIGTERM"), lambda: True)
    assert bench.stop.request is not bench.stop.requests[0]
    assert talk.words() == ["heard"]
    bench.signal(later_s=1.0)
    assert talk.words() == ["heard"]


def test_a_further_request_wakes_whatever_it_means() -> None:
    """Also if the policy says that all of them are the same: somebody wants to hear that it was heard."""
    bench = Bench(Policy(steps=["ask"]))
    wakes: list[int] = []
    bench.stop.add_waker(lambda: wakes.append(1))
    talk = bench.connect()
    bench.signal()
    assert talk.words() == ["hello", "heard"]
    before = len(wakes)
    bench.signal(later_s=1)
    assert len(wakes) > before
    assert talk.words() == ["heard"]


def test_after_a_veto_the_next_request_is_news_again(bench: Bench) -> None:
    """And the veto is told, with its reason."""
    talk = bench.connect()
    bench.signal()
    bench.stop.veto("recording")
    assert [m for m in talk.heard() if "veto" in m] == [{"veto": {"text": "recording"}}]
    bench.signal(later_s=1)
    assert talk.words() == ["heard"]


def test_who_is_let_in_late_hears_the_refusal_that_came_before(bench: Bench) -> None:
    """A thread lets it in; the handler of its signal, and who waits for that, may be faster. It is told how long ago that was."""
    bench.signal()
    bench.stop.veto("recording")
    bench.clock.now += 0.25
    assert bench.connect().heard()[1:] == [{"veto": {"text": "recording", "ago_s": 0.25}}]
    bench.clock.now += LATE_S
    assert bench.connect().words() == ["hello"], "a refusal is the answer to one request"


def test_a_refusal_is_past_when_somebody_asks_again(bench: Bench) -> None:
    """That request cannot be refused any more."""
    bench.signal()
    bench.stop.veto("recording")
    bench.signal(later_s=0.5)
    assert bench.connect().words() == ["hello", "heard"]


def test_who_is_let_in_late_hears_what_is_needed_still(bench: Bench) -> None:
    """And for how long from now on; not if that is granted already, or past."""
    bench.signal()
    bench.stop.need(30, "flushing")
    bench.clock.now += 2
    talk = bench.connect()
    assert talk.heard()[2:] == [{"need": {"seconds": 28.0, "text": "flushing"}}]
    talk.say(granted={"left_s": 28.0})
    assert bench.stop.left() == 28.0
    assert bench.connect().words() == ["hello", "heard"]
    bench.clock.now += 3
    bench.stop.need(40)
    assert talk.words() == ["need"]
    assert bench.connect().words() == ["hello", "heard", "need"]
    bench.clock.now += 41
    assert bench.connect().words() == ["hello", "heard"]


def test_what_an_earlier_request_needed_is_not_told(bench: Bench) -> None:
    """It was refused since."""
    bench.signal()
    bench.stop.need(30, "flushing")
    bench.stop.veto("recording")
    bench.clock.now += LATE_S + 1
    bench.signal()
    assert bench.connect().words() == ["hello", "heard"]


def test_what_is_needed_is_told_once(bench: Bench) -> None:
    """Also to who comes while that waits for its turn."""
    bench.connect()
    bench.signal()
    bench.stop.need(20)
    bench.channel.pump()
    bench.stop.need(30)
    talk = bench.connect()
    bench.clock.now += PACE_S
    assert talk.words() == ["hello", "heard", "need"]


def test_all_kinds_of_news_are_told_in_order(bench: Bench) -> None:
    """In the words of the protocol."""
    talk = bench.connect()
    bench.signal()
    bench.stop.tell("draining", 3, 15)
    bench.stop.need(8, "flushing")
    with bench.stop.shield(2, "commit"):
        pass
    bench.stop.cleanup(int, name="close db")
    bench.stop._unwind()
    assert talk.heard()[2:] == [
        {"tell": {"text": "draining", "done": 3, "total": 15}},
        {"need": {"seconds": 8.0, "text": "flushing"}},
        {"shield": {"seconds": 2.0, "text": "commit"}},
        {"cleanup": {"seconds": pytest.approx(0, abs=1), "text": "close db: done after 0.00 s"}},
    ]


def test_progress_that_waits_is_only_the_latest(bench: Bench) -> None:
    """However much there was; what else was said in between keeps its place."""
    talk = bench.connect()
    talk.heard()
    for done in range(100_000):
        bench.stop.tell("draining", done)
    bench.stop.need(8)
    for done in range(100_000):
        bench.stop.tell("flushing", done)
    assert bench.wakes == 1
    told = talk.heard()
    assert [next(iter(m)) for m in told] == ["tell", "need"], "the second `tell` is the one that was said first"
    assert told[0]["tell"]["done"] == 99_999
    assert talk.heard() == []
    assert bench.channel.due_s() is None


def test_programs_that_tell_in_loops_are_heard_now_and_then(bench: Bench) -> None:
    """At once, then at a pace that nobody needs to call a flood; the last one is always told."""
    talk = bench.connect()
    talk.heard()
    told: list[int] = []
    for turn in range(1000):
        bench.stop.tell("draining", turn)
        told += [m["tell"]["done"] for m in talk.heard()]
        bench.clock.now += 0.001
    assert told[0] == 0
    assert len(told) in {50, 51}
    due_s = bench.channel.due_s()
    assert due_s is not None
    assert 0 <= due_s <= PACE_S
    bench.clock.now += due_s
    assert [m["tell"]["done"] for m in talk.heard()] == [999]
    assert bench.channel.due_s() is None


def test_the_pace_of_one_kind_is_not_that_of_another(bench: Bench) -> None:
    """More time is needed now, however often progress is told."""
    talk = bench.connect()
    bench.signal()
    bench.stop.tell("a")
    talk.heard()
    bench.stop.tell("b")
    bench.stop.need(5)
    assert talk.words() == ["need"]
    bench.stop.veto("no")
    assert talk.words() == ["veto"]
    bench.clock.now += PACE_S
    assert talk.words() == ["tell"]


def test_what_comes_while_it_is_sent_is_told_once(bench: Bench) -> None:
    """Another thread tells in the middle of `pump`; its word is there twice then."""
    talk = bench.connect()
    talk.heard()
    bench.stop.tell("a")
    bench.channel._news.append("tell")
    assert talk.words() == ["tell"]
    bench.stop.tell("b")
    bench.channel._news.append("tell")
    assert talk.words() == []
    assert bench.channel._news == ["tell"]
    bench.clock.now += 1
    assert talk.words() == ["tell"]
    bench.channel._news.append("tell")
    bench.clock.now += 1
    assert talk.words() == []


def test_a_program_without_its_library_ends_conversations_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has locked itself up, and what is loaded late is out of its reach; it still says who it is."""
    monkeypatch.setitem(sys.modules, "json", None)
    conversation = bench.channel.open(1, 0)
    assert conversation is not None
    assert b'"hello"' in conversation.out
    conversation.feed(b'{"endtask":1}\n')
    assert conversation.over


@given(text=st.text(), number=st.none() | st.floats(0, 1e7) | st.integers(-(10**15), 10**15))
def test_lines_are_json(text: str, number: float | None) -> None:
    """Written without `json`, read by it."""
    message: dict[str, Any] = {"tell": {"text": clean(text), "done": number, 'a "word"': {}}}
    line = encode(message)
    assert json.loads(line) == message
    assert line.count(b"\n") == 1


def test_news_that_nobody_sends_are_bounded_and_a_veto_is_not_lost(bench: Bench) -> None:
    """The thread that sends them may be kept from it for a long time."""
    talk = bench.connect()
    bench.signal()
    for turn in range(10 * NEWS_MAX):
        bench.stop._say(News(turn, kind="cleanup"))
    bench.stop.veto("no")
    assert len(bench.channel._news) == NEWS_MAX + 1
    while bench.channel._news:
        words = talk.words()
    assert words[-1] == "veto"


def test_who_looks_at_a_request_waits_for_its_notice(bench: Bench) -> None:
    """The notice was sent before the signal, and the signal was faster."""
    talk = bench.connect(4711)
    bench.channel._server = 0  # the transport is another thread
    rounds: list[str] = []

    def transport() -> None:
        if not rounds:
            rounds.append("read")
            bench.channel._server = -1
            talk.notice(5.0)
            bench.channel.pump()
            bench.channel.pump()
            bench.channel._server = 0

    bench.signal()
    bench.channel._wake = lambda: threading.Thread(target=transport).start()
    request = bench.stop.request
    assert request is not None
    assert (request.reason, bench.stop.deadline) == ("deploy 12", 105.0)


def test_it_waits_a_moment_at_most_and_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may be held up; and most requests have no notice."""
    bench.connect(4711)
    bench.channel._server = 0
    monkeypatch.setattr(_channel, "SETTLE_S", 0.001)
    bench.signal()
    for _ in range(3):
        assert bench.stop.left() == 10.0
    assert len(bench.channel._rounds[0]) == 1
    bench.signal("SIGINT", 1)
    assert bench.stop.request is not None
    assert len(bench.channel._rounds[0]) == 2
    bench.channel.close()
    assert bench.channel._rounds == ([], [])


def test_nobody_waits_for_what_cannot_come(bench: Bench) -> None:
    """Without a conversation, in the thread that would have to read it, for what tells its own story, for what was long ago."""
    bench.channel._server = 0
    bench.signal()
    assert bench.stop.left() == 10.0
    talk = bench.connect(4711)
    bench.signal("SIGINT", 1)
    assert bench.stop.left() == 9.0, "this thread is the transport"
    bench.clock.now += 1
    bench.channel._server = 0
    assert bench.stop.left() == 8.0, "that was long ago"
    bench.clock.now += 1
    talk.say(request={"left_s": 3})
    assert bench.stop.left() == 3.0
    assert bench.channel._rounds == ([], [])


def test_what_was_heard_is_told_before_the_refusal(bench: Bench) -> None:
    """Also if it came so fast that nobody had been told of the request."""
    talk = bench.connect()
    talk.words()
    bench.signal()
    bench.stop.veto("no")
    assert talk.words() == ["heard", "veto"]


def test_the_last_words_are_told_before_the_end(bench: Bench) -> None:
    """Then nobody is heard any more."""
    talk = bench.connect()
    talk.heard()
    bench.stop.tell("done")
    bench.channel.close()
    assert json.loads(bytes(talk.conversation.out)) == {"tell": {"text": "done", "done": None, "total": None}}
    assert talk.conversation.over
    talk.say(request={"left_s": 1})
    assert not bench.stop.asked
    assert bench.stop._listeners == []
    bench.stop.tell("nobody listens")


def test_a_forked_child_forgets_all_of_it(bench: Bench) -> None:
    """Twice is no error: the stop has forgotten its listeners too."""
    bench.connect()
    bench.stop._in_child()
    bench.channel.forget()
    assert bench.channel.conversations == ()
    assert bench.stop._wakers == []


# ---------------------------------------------------------------- what is asked


def test_a_request_by_the_channel_is_a_request(bench: Bench) -> None:
    """With everything that a signal cannot tell."""
    talk = bench.connect(4711, 1000)
    talk.say(request={"left_s": 9.9, "reason": "deploy 12", "by": "a test"})
    assert bench.stop.request == StopRequest(100.0, "channel", 109.9, "CHANNEL", 4711, "deploy 12", 1000)
    assert bench.stop.left() == pytest.approx(9.9)
    assert talk.words() == ["hello", "heard"]


def test_requests_by_the_channel_count_like_all_others(bench: Bench) -> None:
    """Within the window they are the same; a second distinct one hurries, whichever way it comes."""
    talk = bench.connect()
    talk.say(request={"left_s": 9})
    talk.say(request={"left_s": 9})
    assert not bench.stop.hurry
    bench.clock.now += 1
    bench.stop.ask()
    assert bench.stop.hurry
    bench.clock.now += 1
    talk.say(request={"left_s": 9})
    assert [r.channel for r in bench.ended] == ["channel"]


def test_a_request_may_name_no_deadline(bench: Bench) -> None:
    """Then ours counts."""
    bench.connect().say(request={})
    assert bench.stop.left() == 10.0


def test_who_dies_has_asked_all_the_same(bench: Bench) -> None:
    """Nothing is taken back."""
    talk = bench.connect()
    talk.say(request={"left_s": 3, "reason": "deploy"})
    talk.conversation.lost()
    talk.conversation.lost()
    assert bench.stop.asked
    assert bench.stop.left() == 3.0
    assert bench.channel.conversations == ()


# ---------------------------------------------------------------- notices


def test_a_notice_asks_for_nothing_and_tells_what_belongs_to_the_request(bench: Bench) -> None:
    """Whoever is woken by the request knows it at once."""
    talk = bench.connect(4711)
    talk.notice(9.0)
    assert talk.heard()[1] == {"noted": {"request": "TERM"}}
    assert not bench.stop.asked
    seen: list[StopRequest | None] = []
    bench.stop.add_waker(lambda: seen.append(bench.stop.request))
    bench.signal(later_s=1)
    assert seen[0] == StopRequest(101.0, "signal", 109.0, "SIGTERM", 4711, "deploy 12", 1000)
    assert bench.stop.requests == (bench.stop.request,)
    assert bench.stop.left() == 8.0
    assert [m["heard"]["left_s"] for m in talk.heard() if "heard" in m] == [8.0]


def test_a_notice_that_comes_a_moment_late_belongs_to_it_too(bench: Bench) -> None:
    """They take two ways. Everybody hears once of the request."""
    talk = bench.connect(4711)
    bench.signal()
    first = talk.words()
    bench.clock.now += 0.1
    talk.notice(5.0)
    request = bench.stop.request
    assert request is not None
    assert (request.reason, request.pid) == ("deploy 12", 4711)
    assert bench.stop.requests == (request,)
    assert bench.stop.left() == 5.0
    assert first + talk.words() == ["hello", "heard", "noted"]


def test_a_notice_that_comes_much_later_belongs_to_the_next_one(bench: Bench) -> None:
    """Its deadline counts from now on: somebody waits."""
    talk = bench.connect(4711)
    bench.signal()
    bench.clock.now += 2
    talk.notice(3.0, "INT")
    assert bench.stop.left() == 3.0
    assert bench.stop.requests[0].reason == ""
    bench.signal("SIGINT", 0.1)
    assert [r.reason for r in bench.stop.requests] == ["", "deploy 12"]
    assert bench.stop.hurry


def test_a_notice_need_not_name_a_deadline(bench: Bench) -> None:
    """Then there is a reason, and ours counts."""
    talk = bench.connect()
    talk.notice(None, "INT", "a")
    bench.signal("SIGINT")
    bench.signal("SIGINT", 1)
    talk.notice(None, "INT", "b")
    assert [r.reason for r in bench.stop.requests] == ["a", "b"]
    assert bench.stop.left() == 9.0


def test_a_request_with_a_deadline_of_its_own_keeps_it(bench: Bench) -> None:
    """The session ends when it ends; the reason is the notice's, and used up."""
    bench.connect().notice(5, "WM_CLOSE")
    bench.stop._heard(StopRequest(100.0, "session-end", 102.0, "WM_ENDSESSION"))
    assert [(r.deadline, r.reason) for r in bench.stop.requests] == [(102.0, "deploy 12")]
    assert bench.stop._notices == []


def test_no_time_at_all_is_a_deadline_too(bench: Bench) -> None:
    """It is over at once."""
    bench.connect().say(request={"left_s": 0})
    assert bench.stop.left() == 0.0
    assert bench.stop.hurry


def test_a_notice_is_used_once(bench: Bench) -> None:
    """The second request is somebody else's."""
    bench.connect().notice()
    bench.signal()
    bench.signal("SIGINT", 1)
    assert [r.reason for r in bench.stop.requests] == ["deploy 12", ""]


def test_the_same_signal_heard_by_two_ears_has_one_notice(bench: Bench) -> None:
    """The echo is no request; the notice is used up by the one that counts."""
    bench.connect().notice()
    bench.signal()
    bench.stop._heard(StopRequest(bench.clock.now, "signal", name="SIGTERM"), lambda: True)
    assert [r.reason for r in bench.stop.requests] == ["deploy 12"]
    assert bench.stop._notices == []


def test_of_two_notices_the_one_of_the_same_word_counts_or_the_last(bench: Bench) -> None:
    """Two requesters at once."""
    bench.connect(1).notice(9, "INT", "a")
    bench.connect(2).notice(8, "TERM", "b")
    bench.connect(3).notice(7, "HUP", "c")
    bench.signal("SIGTERM")
    bench.signal("SIGUSR1", 1)
    bench.signal("SIGINT", 1)
    assert [r.reason for r in bench.stop.requests] == ["b", "c", "a"]


def test_a_notice_lasts_as_long_as_its_connection(bench: Bench) -> None:
    """And a newer one takes its place."""
    talk = bench.connect()
    talk.notice(9, "TERM", "a")
    talk.notice(8, "TERM", "b")
    assert [n.reason for n in bench.stop._notices] == ["b"]
    talk.conversation.lost()
    bench.signal()
    assert bench.stop.request == StopRequest(100.0, "signal", name="SIGTERM")


def test_a_request_that_tells_its_own_story_needs_no_notice(bench: Bench) -> None:
    """The program itself, or somebody by the channel."""
    bench.connect(1).notice()
    bench.connect(2).say(request={"left_s": 4, "reason": "mine"})
    assert [(r.pid, r.reason) for r in bench.stop.requests] == [(2, "mine")]
    assert len(bench.stop._notices) == 1


def test_a_notice_that_meets_a_request_before_it_is_counted_belongs_to_it(bench: Bench) -> None:
    """Somebody reads it in the very moment in which a handler has noted the request and not counted it yet."""
    talk = bench.connect(4711)

    def read() -> None:
        bench.stop.remove_waker(read)
        talk.notice(5.0)

    bench.stop.add_waker(read)
    bench.signal()
    request = bench.stop.request
    assert request is not None
    assert request.reason == "deploy 12"
    assert bench.stop.requests == (request,)
    assert bench.stop.left() == 5.0


def test_a_notice_of_a_request_that_is_held_back_belongs_to_it(bench: Bench) -> None:
    """A shield is open; the one that waits is the last one."""
    talk = bench.connect(4711)
    bench.signal()
    with bench.stop.shield(60):
        bench.signal(later_s=1)
        talk.notice(5.0)
    assert [r.reason for r in bench.stop._counted] == ["", "deploy 12"]


def test_a_request_that_was_refused_before_it_was_counted_keeps_its_notice(bench: Bench) -> None:
    """It is refused by whoever it woke; it stays refused."""
    bench.connect(4711).notice(5.0)
    bench.stop.add_waker(lambda: bench.stop.veto("no"))
    bench.signal()
    assert not bench.stop.asked
    assert [r.reason for r in bench.stop.requests] == ["deploy 12"]


# ---------------------------------------------------------------- deadlines


def test_of_several_requesters_the_earliest_deadline_counts(bench: Bench) -> None:
    """What one says again replaces what it said before, for it knows."""
    one, two = bench.connect(1), bench.connect(2)
    one.say(request={"left_s": 5})
    two.say(request={"left_s": 60})
    assert bench.stop.left() == 5.0
    one.notice(8)
    assert bench.stop.left() == 8.0
    one.notice(90)
    assert bench.stop.left() == 60.0


def test_who_is_unknown_can_only_make_it_earlier(bench: Bench) -> None:
    """A program asks itself."""
    bench.stop.ask(deadline_s=5)
    bench.clock.now += 1
    bench.stop.ask(deadline_s=90)
    assert bench.stop.left() == 4.0


def test_any_number_of_requesters_costs_no_memory(bench: Bench) -> None:
    """They come one after the other."""
    bench.stop.ask(deadline_s=9)
    for pid in range(1000):
        talk = bench.connect(pid)
        talk.notice(8 - pid / 1000)
        talk.conversation.lost()
    assert len(bench.stop._claims) <= 65
    assert bench.stop.left() == pytest.approx(7.001)
    assert bench.stop._notices == []


def test_more_time_is_given_by_who_was_asked_for_it(bench: Bench) -> None:
    """Once for each time that it was needed."""
    talk = bench.connect()
    talk.say(request={"left_s": 2})
    talk.say(granted={"left_s": 100})
    assert bench.stop.left() == 2.0, "nobody has asked for more"
    assert bench.stop.need(8, "flushing") == 2.0
    assert talk.words() == ["hello", "heard", "need"]
    talk.say(granted={"left_s": 8})
    assert bench.stop.left() == 8.0
    talk.say(granted={"left_s": 100})
    assert bench.stop.left() == 8.0
    bench.stop.need(20)
    talk.heard()
    talk.say(not_granted={"left_s": 8})
    talk.say(granted={"left_s": 100})
    assert bench.stop.left() == 8.0


def test_given_time_makes_the_deadline_pass_anew(bench: Bench) -> None:
    """Who had to hurry still has to, and a policy that ends at the deadline ends at the new one."""
    bench = Bench(Policy(overdue="exit"))
    talk = bench.connect()
    talk.say(request={"left_s": 2})
    bench.stop.need(5)
    talk.heard()
    bench.clock.now += 1
    talk.say(granted={"left_s": 5})
    bench.clock.now += 4
    bench.stop._tick()
    assert bench.ended == []
    bench.clock.now += 1
    bench.stop._tick()
    assert len(bench.ended) == 1


def test_time_that_is_given_after_a_veto_is_nothing(bench: Bench) -> None:
    """There is no deadline that could move."""
    talk = bench.connect()
    talk.say(request={"left_s": 2})
    bench.stop.need(5)
    talk.heard()
    bench.stop.veto("no")
    talk.say(granted={"left_s": 50})
    assert bench.stop.deadline is None
    bench.signal(later_s=20)
    assert bench.stop.left() == 10.0


# ---------------------------------------------------------------- what is no line of ours

BAD = [
    b"",
    b"hello",
    b"[]",
    b"7",
    b'"request"',
    b"null",
    b"{",
    b"\xff\xfe{\x00}\x00",
    b'{"endtask":1',
    b"[" * 4000,
    b'{"a":' * 800,
    b"{}",
    b'{"request":{"left_s":9}}',
    b'{"endtask":"1","request":{"left_s":9}}',
    b'{"endtask":true,"request":{"left_s":9}}',
    b'{"endtask":0,"request":{"left_s":9}}',
    b'{"endtask":1.5,"request":{"left_s":9}}',
    b'{"endtask":1,"request":9}',
    b'{"endtask":1,"request":null}',
    b'{"endtask":1,"request":[9]}',
    b'{"endtask":1,"request":{"left_s":"9"}}',
    b'{"endtask":1,"request":{"left_s":true}}',
    b'{"endtask":1,"request":{"left_s":-1}}',
    b'{"endtask":1,"request":{"left_s":NaN}}',
    b'{"endtask":1,"request":{"left_s":Infinity}}',
    b'{"endtask":1,"request":{"left_s":1e8}}',
    b'{"endtask":1,"request":{"left_s":1e999}}',
    b'{"endtask":1,"request":{"left_s":' + b"9" * 4000 + b"}}",
    b'{"endtask":1,"request":{"left_s":9,"reason":7}}',
    b'{"endtask":1,"request":{"left_s":9,"by":[]}}',
    b'{"endtask":1,"notice":{"left_s":9,"request":7}}',
    b'{"endtask":1,"notice":7}',
    b'{"endtask":1,"granted":{}}',
    b'{"endtask":1,"granted":{"left_s":null}}',
    b'{"endtask":1,"not_granted":7}',
]


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:40])
def test_what_is_no_line_of_ours_ends_the_conversation_and_asks_for_nothing(bench: Bench, line: bytes) -> None:
    """Nor does it raise."""
    talk = bench.connect()
    talk.conversation.feed(line + b"\n")
    assert (talk.conversation.over, talk.conversation.why) == (True, "it sends what is no line of ours")
    assert bytes(talk.conversation.out) == b""
    talk.conversation.feed(b'{"endtask":1,"request":{"left_s":9}}\n')
    assert not bench.stop.asked
    assert bench.stop._notices == []


@given(st.binary(max_size=300))
def test_no_bytes_raise_or_ask(data: bytes) -> None:
    """Whatever they are."""
    bench = Bench()
    bench.connect().conversation.feed(data)
    assert not bench.stop.asked


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["left_s", "reason", "by"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["notice", "request", "granted", "not_granted", "unknown"]), JSON))
def test_no_message_raises_or_moves_the_deadline_out_of_its_bounds(message: dict[str, object]) -> None:
    """Well-formed, and of any types."""
    bench = Bench()
    bench.connect().say(**message)
    assert 0 <= bench.stop.left() <= 1e7
    assert bench.stop.faults == 0


def test_what_is_not_known_is_ignored(bench: Bench) -> None:
    """A later version says more."""
    talk = bench.connect()
    talk.say(endtask=2, weather="fine", request={"left_s": 9, "colour": [1, {"a": None}]})
    talk.say(more=[1])
    talk.say()
    assert not talk.conversation.over
    assert bench.stop.asked


# ---------------------------------------------------------------- bounds


def test_a_line_may_have_so_many_bytes_and_no_more(bench: Bench) -> None:
    """With its newline, however it comes."""
    good = b'{"endtask":1,"a":"' + b"x" * (LINE_MAX - 21) + b'"}\n'
    assert len(good) == LINE_MAX
    for data, over in ((good, False), (b" " + good, True), (good[:-1], False), (b" " + good[:-1], True)):
        talk = bench.connect()
        for at in range(0, len(data), 1000):
            talk.conversation.feed(data[at : at + 1000])
        assert talk.conversation.over == over, len(data)
        talk.conversation.lost()


def test_half_a_line_is_none(bench: Bench) -> None:
    """It may come byte by byte."""
    talk = bench.connect()
    line = b'{"endtask":1,"request":{"left_s":9}}\n'
    for at in range(len(line)):
        assert not bench.stop.asked
        talk.conversation.feed(line[at : at + 1])
    assert bench.stop.asked


def test_so_many_lines_a_second_are_looked_at(bench: Bench) -> None:
    """In the next second as many again."""
    talk = bench.connect()
    for second in range(3):
        bench.clock.now += 1
        for _ in range(LINES_MAX):
            talk.say()
        assert not talk.conversation.over, second
    talk.say()
    assert (talk.conversation.over, talk.conversation.why) == (True, "it sends too much")


def test_so_many_may_talk_at_a_time(bench: Bench) -> None:
    """One more is not let in, until one is gone."""
    talks = [bench.connect(pid) for pid in range(PEERS_MAX)]
    assert bench.channel.open(99, 0) is None
    talks[3].conversation.lost()
    assert bench.channel.open(99, 0) is not None


def test_who_does_not_read_is_left_alone(bench: Bench) -> None:
    """What waits for it is bounded; the others go on."""
    deaf, good = bench.connect(1), bench.connect(2)
    bench.signal()
    lines = 0
    while not deaf.conversation.over:
        bench.clock.now += PACE_S
        bench.stop.need(1, "x" * 400)
        lines += len(good.heard())
        assert len(deaf.conversation.out) <= OUT_MAX
    assert lines > 15
    assert deaf.conversation.why == "it does not read"
    assert bytes(deaf.conversation.out) == b""
    bench.clock.now += 1
    bench.stop.need(2, "the others go on")
    assert good.words() == ["need"]


def test_a_burst_of_news_is_told_piece_by_piece(bench: Bench) -> None:
    """Who reads gets all of it, whatever it is altogether; nothing of it is put off."""
    talk = bench.connect()
    bench.signal()
    talk.heard()
    steps = [f"step {n} {'x' * 400}" for n in range(200)]
    for step in steps:
        bench.stop._say(News(0.1, kind="cleanup", text=step))
    told: list[str] = []
    turns = 0
    while bench.channel.due_s() is not None:
        assert bench.channel.due_s() == 0
        turns += 1
        told += [message["cleanup"]["text"] for message in talk.heard()]
    assert told == steps
    assert turns > 5
    assert not talk.conversation.over


def test_a_burst_waits_for_one_that_reads_slowly(bench: Bench) -> None:
    """So long and no longer: then it does not read, and the others get what is left."""
    slow, good = bench.connect(1), bench.connect(2)
    bench.signal()
    good.heard()
    for n in range(100):
        bench.stop._say(News(0.1, kind="cleanup", text=f"step {n} {'x' * 400}"))
    told = good.words() + good.words()
    assert bench.channel.due_s() == PATIENCE_S  # or when somebody has read
    slow.conversation.sent(len(slow.conversation.out))
    assert bench.channel.due_s() == 0
    told += good.words()
    while (due_s := bench.channel.due_s()) is not None:
        bench.clock.now += due_s
        told += good.words()
    assert told == ["cleanup"] * 100
    assert slow.conversation.why == "it does not read"


def test_the_last_words_may_be_many(bench: Bench) -> None:
    """There is no next time, so they are sent in one piece; that has its bound, too."""
    talk = bench.connect()
    bench.signal()
    talk.heard()
    for n in range(200):
        bench.stop._say(News(0.1, kind="cleanup", text=f"step {n} {'x' * 400}"))
    bench.channel.close()
    assert bytes(talk.conversation.out).count(b"cleanup") == 200
    assert len(talk.conversation.out) < LAST_MAX


def test_who_may_not_ask_is_told_so_and_nothing_else(bench: Bench) -> None:
    """It takes nobody's place, and what it says is not looked at."""
    stranger = bench.channel.open(5, 65534, NOT_ALLOWED)
    assert stranger is not None
    assert json.loads(bytes(stranger.out)) == {"endtask": 1, "refused": {"text": NOT_ALLOWED}}
    assert stranger.over
    stranger.feed(b'{"endtask":1,"request":{"left_s":9}}\n')
    bench.stop.tell("not for you")
    bench.channel.pump()
    assert not bench.stop.asked
    assert b"not for you" not in stranger.out
    assert bench.channel.conversations == ()
    stranger.lost()


# ---------------------------------------------------------------- texts and numbers


def test_texts_are_short_and_control_nothing() -> None:
    """Neither a terminal nor the direction of writing; letters of all scripts stay."""
    assert clean("a\x1b[31m\r\n\x07\x9b\u202e\u2066\u2028\ud800b") == "a\ufffd[31m" + "\ufffd" * 8 + "b"
    assert clean("Größe 大きさ 🐍") == "Größe 大きさ 🐍"
    assert len(clean("x" * 10_000)) == TEXT_MAX
    assert clean(None) == ""


@pytest.mark.parametrize("letter", ["x", "ß", "\U0001f40d", '"', "\\", "\n", "\ud800"])
def test_the_longest_text_fits_into_a_line(bench: Bench, letter: str) -> None:
    """Whatever it is made of."""
    bench.stop.name = letter * 10_000
    talk = bench.connect()
    bench.stop.tell(letter * 10_000, 10**40, 10**40)
    bench.channel.pump()
    lines = bytes(talk.conversation.out).splitlines(keepends=True)
    assert len(lines) == 2
    assert max(len(line) for line in lines) <= LINE_MAX


def test_numbers_that_are_none_are_not_told(bench: Bench) -> None:
    """What an application hands us may be anything."""
    talk = bench.connect()
    talk.heard()
    strange: Any = object()
    bench.stop.tell(strange, strange, 2**70)
    (tell,) = talk.heard()
    assert tell == {"tell": {"text": "", "done": None, "total": 10**15}}
    cases: list[tuple[Any, float]] = [(float("nan"), 0.0), (float("inf"), 1e7), (-5, 0.0), (Fraction(5, 2), 2.5)]
    for seconds, told in cases:
        bench.clock.now += 1
        bench.stop.need(seconds)
        assert [m["need"]["seconds"] for m in talk.heard()] == [told]


class Odd:
    """A number as numpy has them, or one that is broken."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value  # type: ignore[return-value]  # that is what may be wrong with it

    def __float__(self) -> float:
        raise ValueError("broken")


@pytest.mark.parametrize(
    ("done", "told"), [(3, 3), (-3, -3), (True, None), (3.5, None), (Odd(7), 7), (Odd("7"), None), ("7", None)]
)
def test_numbers_of_other_kinds_are_numbers_too(bench: Bench, done: Any, told: int | None) -> None:
    """Those of numpy are none of Python's; what is broken is not told."""
    talk = bench.connect()
    talk.heard()
    bench.stop.tell("x", done)
    bench.stop._say(News(1.0, kind="cleanup", seconds=done))
    tell, cleanup = talk.heard()
    assert tell["tell"]["done"] == told
    assert cleanup["cleanup"]["seconds"] in {0.0, 3.0, 3.5, 7.0}


def test_the_reason_of_a_request_is_cleaned_too(bench: Bench) -> None:
    """An application writes it into its log."""
    talk = bench.connect()
    talk.say(request={"left_s": 1, "reason": "a\nb\x1b" + "x" * 1000})
    request = bench.stop.request
    assert request is not None
    assert request.reason.startswith("a\ufffdb\ufffdx")
    assert len(request.reason) == TEXT_MAX
