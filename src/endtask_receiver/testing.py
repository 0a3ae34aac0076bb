"""A stop for tests: no signals, no clock, no waiting, and no process that ends.

    from endtask_receiver.testing import fake

    def test_the_worker_finishes_its_job():
        with fake(at_look=3) as stop:      # asked when the program looks for the third time
            assert work(stop) == "finished 2 jobs"

Time stands still until the program waits: then it jumps.
"""

from __future__ import annotations

import time

from endtask_receiver._core import Core
from endtask_receiver._finish import status_of
from endtask_receiver._stop import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from endtask_receiver._request import Policy, StopRequest

_flag = Core.__dict__["asked"]  # the slot beneath the property


class NobodyAsksError(AssertionError):
    """The program waits without a limit, and nothing is planned that would ask it: it would wait for ever."""


class FakeStop(Stop):
    """A `Stop` that the test holds in its hand.

    Attributes:
        ended: The request that would have ended the process at once, None if there was none.
        looks: How often the program has looked whether somebody has asked.
        now: The time, in seconds; it begins with 0. Not used in real time.
    """

    __slots__ = ("_at_look", "_planned", "_real_time", "ended", "looks", "now")

    def __init__(self, grace_s: float, policy: Policy | None, *, at_look: int | None, real_time: bool) -> None:
        self._at_look = at_look
        self._real_time = real_time
        self._planned: list[float] = []
        self.ended: StopRequest | None = None
        self.looks = 0
        self.now = 0.0
        super().__init__(grace_s, policy, clock=time.monotonic if real_time else self._time, end=self._note_end)

    def _time(self) -> float:
        return self.now

    def _note_end(self, request: StopRequest) -> None:
        self.ended = request

    @property
    def asked(self) -> bool:
        """Whether anybody has asked; looking is counted."""
        if not _flag.__get__(self):
            self.looks += 1
            if self.looks == self._at_look:
                self.ask("the test said so", channel="test")
        return bool(_flag.__get__(self))

    @asked.setter
    def asked(self, value: bool) -> None:
        _flag.__set__(self, value)

    def add_waker(self, waker: Callable[[], object]) -> None:
        """Do what `Stop.add_waker` does; that is no look."""
        looks, self.looks, at_look, self._at_look = self.looks, 0, self._at_look, None
        try:
            super().add_waker(waker)
        finally:
            self.looks, self._at_look = looks, at_look

    # ------------------------------------------------------------------ what tests say

    def ask_in(self, seconds: float) -> None:
        """Plan a request for later: it comes while the program waits, or when the test lets time pass."""
        self._planned.append(self.now + seconds)
        self._planned.sort()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._planned and self._planned[0] <= end:
            self._come()
        self.now = end
        self._tick()

    def _come(self) -> None:
        self.now = max(self.now, self._planned.pop(0))
        self.ask("the test planned it", channel="test")

    # ------------------------------------------------------------------ what the program does

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait without waiting: time jumps to the next planned request, or to the end of the wait.

        Raises:
            NobodyAsksError: There is neither.
        """
        if self._real_time:
            return super().wait(timeout_s)
        if self.asked:
            return True
        if timeout_s is None:
            if not self._planned:
                raise NobodyAsksError("it would wait for ever: nobody asks; plan a request with `ask_in` or `at_look`")
            self._come()
        elif self._planned and self._planned[0] <= self.now + timeout_s:
            self._come()
        else:
            self.advance(max(timeout_s, 0.0))
        return bool(_flag.__get__(self))

    def finish(self, how: int | str | None = None) -> NoReturn:
        """Do what `Stop.finish` does, but never die by a signal.

        Raises:
            SystemExit: Always, with the exit status that a shell would show.
        """
        status = status_of(self, how)[0]
        self._unwind()
        raise SystemExit(status)


def fake(
    grace_s: float = 10.0,
    policy: Policy | None = None,
    *,
    at_look: int | None = None,
    real_time: bool = False,
) -> FakeStop:
    """Return a stop for a test; use it as a context manager, as `listen`.

    Args:
        grace_s: So long the program takes, if the requester names no deadline.
        policy: What repeated requests mean.
        at_look: Somebody asks when the program looks for this time; the first is 1.
            A test that tries them all has tried every place where the program can stop.
        real_time: Whether waits really wait; for programs with threads.
    """
    return FakeStop(grace_s, policy, at_look=at_look, real_time=real_time)
