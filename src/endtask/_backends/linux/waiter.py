"""One wait for the exit of any number of pinned processes: an epoll over their pidfds.

Decision: level-triggered and one-shot. The kernel disarms an entry when it has reported it, so an exit costs no call of its own,
and an exit that happened before `add` is reported all the same.
Rejected: select(2) (ends at descriptor 1,023), a thread per process, waitid(2) (children only).

Only pins without a pidfd are polled: one millisecond, doubling to fifty, and never more than a fifth of the time.
"""

from __future__ import annotations

import select
import sys
import time

assert sys.platform == "linux"

from endtask._backends.linux.pidfd import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Pin
    from endtask._backends.linux.pidfd import LinuxPin, Pins

_EXIT = select.EPOLLIN | select.EPOLLONESHOT
_FIRST_S = 0.001
_LAST_S = 0.05
_SHARE = 5  # a look at all polled pins may take one part in so many of the time


class LinuxWaiter:
    """Reports each exit once, by the key that the caller gave."""

    __slots__ = ("_epoll", "_keys", "_next_s", "_pins", "_polled", "_sources")

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._epoll = select.epoll()
        self._keys: dict[int, int] = {}
        self._polled: dict[LinuxPin, int] = {}
        self._sources = 0
        self._next_s = _FIRST_S

    @property
    def poll_s(self) -> float | None:
        """Seconds after which `wait(0)` must be called again although nothing is readable; None where all wake it."""
        return self._next_s if self._polled else None

    def fileno(self) -> int:
        """Return the descriptor of the epoll, readable when `wait(0)` has something to say."""
        return self._epoll.fileno()

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """Refuse: event loops watch `fileno` here."""
        raise AssertionError("this waiter has a descriptor to watch")

    def add(self, pin: Pin, key: int) -> None:
        """Watch *pin*; its exit is reported once, as *key*, also if it has happened already."""
        mine = own(pin)
        if mine.mechanism != "pidfd":
            self._polled[mine] = key
            self._next_s = _FIRST_S
            return
        try:
            self._epoll.register(mine.fd, _EXIT)
        except FileExistsError:
            self._epoll.modify(mine.fd, _EXIT)  # reported before, or added twice: armed again with the new key
        self._keys[mine.fd] = key

    def drop(self, pin: Pin) -> None:
        """Forget *pin*; call before closing it. Unknown pins are ignored."""
        mine = own(pin)
        self._polled.pop(mine, None)
        if self._keys.pop(mine.fd, None) is not None:
            self._epoll.unregister(mine.fd)
        # One that was reported is disarmed, and closing its descriptor takes it out of the epoll: epoll(7), question 6.

    def add_source(self, fd: int) -> None:
        """Wake up when *fd* is readable, without a key: the fork watch has news."""
        self._epoll.register(fd, select.EPOLLIN)
        self._sources += 1

    def drop_source(self, fd: int) -> None:
        """Do not wake up for *fd* any more; harmless after `close`."""
        if not self._epoll.closed:
            self._epoll.unregister(fd)
            self._sources -= 1

    def wait(self, timeout_s: float | None) -> list[int]:
        """Block until something exits, or for *timeout_s* seconds (None: for ever, 0: only look).

        Signals do not cut it short: Python goes on with what is left of the time (PEP 475).

        Returns:
            The keys of the processes that have exited since the last call; empty when time is up or a source has news.
        """
        if self._polled:
            return self._wait_and_poll(timeout_s)
        return self._ready(timeout_s)[0]

    def _ready(self, timeout_s: float | None) -> tuple[list[int], bool]:
        """Return the keys of what the epoll has, and whether a source has news.

        The epoll is asked until it has no more, because one call gives at most its own number of events.
        """
        keys: list[int] = []
        news = False
        take = self._keys.pop
        room = min(len(self._keys) + self._sources, 4096) or 1
        while True:
            events = self._epoll.poll(timeout_s, room)
            for fd, _ in events:
                key = take(fd, None)
                if key is None:
                    news = True
                else:
                    keys.append(key)
            if len(events) < room or not keys:
                return keys, news
            timeout_s = 0

    def _wait_and_poll(self, timeout_s: float | None) -> list[int]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            began = time.monotonic()
            found = self._look()
            now = time.monotonic()
            least_s = (now - began) * _SHARE
            self._next_s = pause = max(self._next_s, least_s)
            if deadline is not None:
                pause = min(pause, max(0.0, deadline - now))
            keys, news = self._ready(0 if found else pause)
            found += keys
            if found:
                self._next_s = _FIRST_S
                return found
            self._next_s = min(self._next_s * 2, max(_LAST_S, least_s))
            if news or (deadline is not None and time.monotonic() >= deadline):
                return self._look() if pause else []

    def _look(self) -> list[int]:
        gone = [pin for pin in self._polled if self._pins.exited(pin)]
        return [self._polled.pop(pin) for pin in gone]

    def close(self) -> None:
        """Release the epoll; closing twice is allowed."""
        self._epoll.close()
