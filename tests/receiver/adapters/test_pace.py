"""The moments of a stop: asked, time to cut, time over."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

from endtask_receiver import Policy, Stop
from endtask_receiver.adapters._pace import Pace, left_to_drain
from endtask_receiver.testing import fake
from tests.receiver.lab import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable


class Moments:
    """Notes what is called, and when."""

    def __init__(
        self, stop: Stop, *, reserve_s: float = 1.0, turn: bool = False, on_asked: Callable[[], object] = bool
    ) -> None:
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        say = self._said.put
        self.pace = Pace(
            stop,
            asked=lambda: (on_asked(), say("asked")),
            cut=lambda: say("cut"),
            over=lambda: say("over"),
            turn=(lambda: say("turn")) if turn else None,
            reserve_s=reserve_s,
        )

    def next(self) -> str:
        """Return the next one."""
        return self._said.get(timeout=LIMIT_S)

    def silent(self) -> bool:
        """Return whether there is none at the moment."""
        return self._said.empty()


def test_the_reserve_is_a_fifth_at_most() -> None:
    """A second of a short time would be too much of it."""
    with fake(10) as stop:
        assert left_to_drain(stop) == float("inf")
        stop.ask()
        assert left_to_drain(stop, 1.0) == 9.0
        assert left_to_drain(stop, 5.0) == 8.0
        stop.advance(9.5)
        assert left_to_drain(stop) == 0.0
    with fake(10) as stop:
        stop.ask(deadline_s=2)
        assert left_to_drain(stop) == 1.6


def test_the_moments_come_in_their_order_and_once() -> None:
    """The cut before the deadline, and the end a moment before it."""
    stop = Stop(0.5)
    moments = Moments(stop)
    begin = time.monotonic()
    stop.ask()
    assert [moments.next(), moments.next()] == ["asked", "cut"]
    assert time.monotonic() - begin >= 0.4
    assert moments.next() == "over"
    assert time.monotonic() - begin >= 0.475
    stop.ask()
    moments.pace.close()
    assert moments.silent()
    assert stop._wakers == []


def test_a_second_request_cuts_at_once() -> None:
    """Whatever time is left."""
    stop = Stop(1000, Policy(window_s=0))
    moments = Moments(stop)
    stop.ask()
    assert moments.next() == "asked"
    stop.ask()
    assert moments.next() == "cut"
    moments.pace.close()


def test_a_deadline_that_moves_moves_the_cut() -> None:
    """Further away, as the application needs it."""
    stop = Stop(0.2)
    moments = Moments(stop, on_asked=lambda: stop.need(0.6))
    begin = time.monotonic()
    stop.ask()
    assert [moments.next(), moments.next()] == ["asked", "cut"]
    assert time.monotonic() - begin >= 0.4
    moments.pace.close()


def test_a_refused_request_is_followed_no_further_and_the_next_one_anew() -> None:
    """From the beginning."""
    stop = Stop(1000, Policy(steps=("ask", "ask", "hurry"), window_s=0))
    moments = Moments(stop)
    stop.ask()
    assert moments.next() == "asked"
    assert stop.veto("recording")
    stop.ask()
    assert moments.next() == "asked"
    stop.ask()
    assert moments.next() == "cut"
    moments.pace.close()


def test_whoever_can_only_look_gets_turns() -> None:
    """Every now and then."""
    stop = Stop(1000)
    moments = Moments(stop, turn=True)
    stop.ask()
    assert [moments.next() for _ in range(3)] == ["asked", "turn", "turn"]
    moments.pace.close()


def test_nothing_happens_after_the_end() -> None:
    """A request that comes then is somebody else's."""
    stop = Stop(0.1)
    moments = Moments(stop)
    moments.pace.close()
    stop.ask()
    moments.pace._wake()
    assert moments.silent()
