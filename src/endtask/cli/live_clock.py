"""What drives the clock of the live view, and keeps it from drawing into the middle of something.

Decision: SIGALRM where there is one, because the library may fork a guardian in the middle of a run, and a fork of a process with threads
is undefined ground (fork(2), POSIX.1). A thread elsewhere (Windows), where nothing forks.

A tick of a signal comes in the middle of whatever the program does: it skips its turn if that is a write, a drawing or an import.
A tick of a thread waits for the lock that every drawing holds.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Protocol

    class Clock(Protocol):
        """Calls a function again and again until it is stopped."""

        def stop(self) -> None:
            """End the ticks; none comes afterwards."""

        def __enter__(self) -> None:
            """Begin something that no tick may come into the middle of."""

        def __exit__(self, *_: object) -> None: ...


FIRST_TICK_S = 0.3
TICK_S = 0.2


def start_clock(tick: Callable[[], bool], busy: Callable[[], bool]) -> Clock:
    """Return a clock that runs.

    Args:
        tick: Called after 0.3 seconds and then five times a second, until it returns False.
        busy: Whether a write is under way that a tick must not interrupt.
    """
    if hasattr(signal, "SIGALRM"):
        return _AlarmClock(tick, busy)
    return _ThreadClock(tick)


class _AlarmClock:
    """SIGALRM. While we draw: no tick on top, and Ctrl+C comes afterwards, or the lines on the screen would no longer be those that are taken away."""

    def __init__(self, tick: Callable[[], bool], busy: Callable[[], bool]) -> None:
        self._tick = tick
        self._busy = busy
        self._drawing = False
        # By name: type checkers of other systems do not know them.
        self._alarm: signal.Signals = getattr(signal, "SIGALRM")  # noqa: B009
        self._timer: Callable[..., object] = getattr(signal, "setitimer")  # noqa: B009
        self._real: int = getattr(signal, "ITIMER_REAL")  # noqa: B009
        self._mask: Callable[..., set[int]] = getattr(signal, "pthread_sigmask")  # noqa: B009
        self._how: tuple[int, int] = (getattr(signal, "SIG_BLOCK"), getattr(signal, "SIG_SETMASK"))  # noqa: B009
        self._before = signal.signal(self._alarm, self._on_alarm)
        self._timer(self._real, FIRST_TICK_S, TICK_S)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        if self._drawing or self._busy() or _importing(frame):
            return
        if not self._tick():
            self._timer(self._real, 0)  # no clock to draw: no waking up for it

    def stop(self) -> None:
        self._timer(self._real, 0)
        signal.signal(self._alarm, self._before)

    def __enter__(self) -> None:
        self._drawing = True
        self._masked = self._mask(self._how[0], (signal.SIGINT,))

    def __exit__(self, *_: object) -> None:
        self._drawing = False
        self._mask(self._how[1], self._masked)


class _ThreadClock:
    """A thread. What is drawn is drawn under a lock; Ctrl+C is heard by the main thread between two drawings of its own."""

    def __init__(self, tick: Callable[[], bool]) -> None:
        import threading

        self._tick = tick
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endtask-clock", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause_s = FIRST_TICK_S
        while not self._over.wait(pause_s):
            pause_s = TICK_S
            with self._lock:
                if self._over.is_set() or not self._tick():
                    return

    def stop(self) -> None:
        with self._lock:
            self._over.set()
        self._thread.join()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _importing(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is in the middle of an import: another one on top could see half a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
