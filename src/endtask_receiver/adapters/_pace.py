"""The moments of a stop, for whoever drains: asked, time to cut, time over.

Decision: what drains is cut a little before the deadline, so that the process is gone *by* the deadline:
what comes after it takes time too (connections closed, pools ended, the application's cleanup).
A second request cuts at once.
What does not even end then is over a moment before the deadline, not at it: whoever has set the deadline looks just then whether we are gone.

The thread begins with the request, not before: a program that nobody asks has no thread of ours beside its forks.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop

RESERVE_S = 1.0
_TURN_S = 0.5
_SHARE = 0.2  # of all the time; of a short one, a second would be too much
_LAST_S = 0.25
_LAST_SHARE = 0.05


def left_to_drain(stop: Stop, reserve_s: float = RESERVE_S) -> float:
    """Return the seconds until what still runs must be cut: 0 if it is time, infinite as long as nobody has asked.

    Args:
        stop: What hears.
        reserve_s: So much of the time is kept for what comes after; at most a fifth of it.
    """
    return 0.0 if stop.hurry and stop.asked else _left(stop, reserve_s, _SHARE)


def _left(stop: Stop, reserve_s: float, share: float) -> float:
    request, deadline = stop.request, stop.deadline
    if request is None or deadline is None:
        return float("inf")
    reserve_s = min(reserve_s, share * (deadline - request.at))
    return max(0.0, deadline - reserve_s - stop._clock())


class Pace:
    """Calls functions at the moments of a stop, in a thread of its own: none is called in a signal handler."""

    def __init__(
        self,
        stop: Stop,
        *,
        asked: Callable[[], object],
        cut: Callable[[], object],
        over: Callable[[], object],
        turn: Callable[[], object] | None = None,
        reserve_s: float = RESERVE_S,
    ) -> None:
        """Begin to follow; `close` ends it.

        Args:
            stop: What hears.
            asked: Called when somebody asks.
            cut: Called when what still runs must be cut: at a second request, or when the time to drain is over.
            over: Called when the time is over: a moment before the deadline.
            turn: Called every now and then in between, for those who can only look how far they are.
            reserve_s: See `left_to_drain`.
        """
        self._stop = stop
        self._asked, self._cut, self._over = asked, cut, over
        self._turn = turn
        self._reserve_s = reserve_s
        self._bell = allocate_lock()
        self._bell.acquire()
        self._running = allocate_lock()
        self._closed = False
        stop.add_waker(self._wake)

    def _wake(self) -> None:
        if not self._closed and self._running.acquire(False):
            start_new_thread(self._run, ())
        else:
            self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # ignored: it rings already

    def _run(self) -> None:
        again = True
        while again and not self._follow():
            self._running.release()
            # Whoever asked anew just before the release has only rung.
            again = self._stop.asked and self._running.acquire(False)

    def _follow(self) -> bool:
        """Follow one request to its end; return False if it was refused."""
        request = self._stop.request
        self._asked()
        if self._wait(request, lambda: left_to_drain(self._stop, self._reserve_s)):
            self._cut()
            if self._wait(request, lambda: _left(self._stop, _LAST_S, _LAST_SHARE)):
                self._over()
        return self._closed or self._stop.request is request

    def _wait(self, request: StopRequest | None, left: Callable[[], float]) -> bool:
        """Wait until nothing is left; return False if nobody waits for that any more: closed, or the request was refused."""
        while not self._closed and self._stop.request is request:
            seconds = left()
            if seconds <= 0:
                return True
            self._bell.acquire(timeout=min(seconds, TIMEOUT_MAX if self._turn is None else _TURN_S))
            if self._turn is not None:
                self._turn()
        return False

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        self._stop.remove_waker(self._wake)
        self._ring()
