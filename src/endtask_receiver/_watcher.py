"""One thread that waits on descriptors and looks at the clock, so that a request is noticed whatever the main thread does.

Decision: `_thread` instead of `threading`.
The thread must not be joined at the end of the program, nothing else asks for it, and `threading` costs more than the import of this package may take.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import fcntl
import os
import select
import signal
import time
from _thread import allocate_lock, get_ident, get_native_id, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from endtask_receiver._stop import Stop

_POKE = b"\0"  # no signal has this number
_GONE_S = 0.05  # it is a matter of microseconds; where there is no /proc, of none
_END_S = 1.0  # the thread needs microseconds to end, unless a callback of the application holds it up


class Watcher:
    """Waits on a pipe of its own, which takes numbers of signals, and on any number of other descriptors."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = (away(fd) for fd in os.pipe())
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self.on_byte: Callable[[int], object] | None = None
        self.on_turn: Callable[[], float | None] | None = (
            None  # after each wake-up; says in how many seconds it wants another one
        )
        self._wish_s: float | None = None
        self._changed = False
        self._others: dict[int, tuple[int, Callable[[int], bool]]] = {}
        self._closing = False
        self._abandoned = False
        self._kept = False
        self._pausing = False
        self._pauses = 0
        self._blocked: tuple[int, ...] = ()
        self._native = 0
        self._thread: int | None = None
        self._ended = allocate_lock()
        self._stop: Stop

    def add(self, fd: int, events: int, on_event: Callable[[int], bool]) -> None:
        """Wait on another descriptor too, or for other events of it. Before `start`, or in the watching thread; else `poke` afterwards.

        Args:
            fd: The descriptor.
            events: Which events of `poll` are meant; POLLHUP comes always.
            on_event: Called with the events in the watching thread; says whether to go on waiting on it.
        """
        self._others[fd] = (events, on_event)
        self._changed = True

    def remove(self, fd: int) -> None:
        """Wait on it no more; nothing happens if nobody does. To be called before it is closed."""
        if self._others.pop(fd, None) is not None:
            self._changed = True

    def start(self, stop: Stop, blocked: Iterable[int] = ()) -> None:
        """Begin.

        Args:
            stop: Whose deadlines are looked at.
            blocked: Signals that this thread leaves to the main thread, which is the one that they are to interrupt.
        """
        self._stop = stop
        self._blocked = tuple(blocked)
        self._ended.acquire()
        stop.add_waker(self.poke)  # a request from inside the program brings a deadline too
        start_new_thread(self._run, (self._blocked,))

    def poke(self) -> None:
        """Have the thread look around. From anywhere, also from a handler, and after the end."""
        try:
            os.write(self.write_fd, _POKE)
        except OSError:
            pass  # ignored: the pipe is full, so the thread will wake anyway; or it is closed, and nobody has to wake

    def close(self, *, keep_pipe: bool = False) -> None:
        """End the thread, and close the pipe when nobody can use it any more.

        Args:
            keep_pipe: Somebody still writes into it.
        """
        if self._closing:
            return
        self._closing = True
        self._kept = keep_pipe
        if self._ended.locked():
            self._stop.remove_waker(self.poke)
            self.poke()
            mine = self._thread == get_ident()
            if mine or not self._ended.acquire(timeout=_END_S):
                # The thread is in a callback, perhaps in the one that closes us: whoever comes last closes the pipe.
                self._abandoned = True
                if not self._ended.acquire(False):
                    return
        self._close_pipe()

    def forget(self) -> None:
        """Close our end of the pipe in a forked child, where there is no such thread."""
        self._closing = True
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._kept:
            return
        # Whoever pokes us later must not write into a file that gets this number.
        mine, self.read_fd, self.write_fd = (self.read_fd, self.write_fd), -1, -1
        for fd in mine:
            shut(fd)

    def pause(self) -> None:
        """End the thread for a while, before a fork.

        A child inherits what the other threads hold, and never gets it back; Python warns of a fork beside threads (since 3.12).
        Nothing is lost: what comes meanwhile stays in the pipe.
        """
        self._pauses += 1
        if self._pauses > 1 or self._closing or not self._ended.locked() or self._thread == get_ident():
            return
        self._pausing = True
        self.poke()
        if self._ended.acquire(timeout=_END_S):
            self._ended.release()
            _until_gone(self._native)

    def resume(self) -> None:
        """Go on after a fork, in the parent."""
        self._pauses -= 1
        if self._pauses or not self._pausing:
            return
        self._pausing = False
        if not self._closing and self._ended.acquire(False):
            start_new_thread(self._run, (self._blocked,))

    def _run(self, blocked: tuple[int, ...]) -> None:
        self._thread = get_ident()
        self._native = get_native_id()
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        again = True
        while again:
            self._watch()
            self._ended.release()
            # It was in a callback all the time that the pause took: whoever gets the lock sees to it that somebody watches.
            again = not self._pausing and not self._closing and self._ended.acquire(False)
        if self._abandoned and self._ended.acquire(False):
            self._close_pipe()

    def _watch(self) -> None:
        poll = self._poll()
        while not self._closing and not self._pausing:
            due_s = self._stop._due_s()
            waits = [seconds for seconds in (due_s, self._wish_s) if seconds is not None]
            for fd, events in poll.poll(min(waits) * 1000 if waits else None):
                self._on_event(fd, events)
            if due_s is not None:
                self._stop._tick()
            if self.on_turn is not None and not self._closing:
                self._wish_s = self.on_turn()
            if self._changed:
                poll = self._poll()

    def _poll(self) -> select.poll:
        self._changed = False
        poll = select.poll()
        # What belongs to a request is read before the request itself, if both are there: poll tells in this order.
        for fd, (events, _call) in tuple(self._others.items()):
            poll.register(fd, events)
        poll.register(self.read_fd, select.POLLIN)
        return poll

    def _on_event(self, fd: int, events: int) -> None:
        if fd == self.read_fd:
            self._read()
            return
        _events, call = self._others.get(fd, (0, None))  # none: removed in this very turn
        if call is not None and not self._closing and not call(events):
            self.remove(fd)

    def _read(self) -> None:
        try:
            numbers = os.read(self.read_fd, 4096)
        except BlockingIOError:
            return  # ignored: somebody else has read it, who shares our pipe since a fork
        except OSError:
            self._closing = True  # the program has closed all descriptors that it had: there is nothing left to watch
            return
        if self.on_byte is not None:
            for number in numbers:
                if number:
                    self.on_byte(number)


def away(fd: int) -> int:
    """Return the descriptor under a number that is none of the standard streams: a daemon has closed them, and code may still write there."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def shut(fd: int) -> None:
    """Close a descriptor, unless somebody has closed it: programs that become daemons close whatever is open."""
    try:
        os.close(fd)
    except OSError:
        pass  # ignored: it is closed


def _until_gone(native: int) -> None:
    """Wait until a thread that has nothing more to do is gone for the kernel too: that is who is asked how many threads there are."""
    end = time.monotonic() + _GONE_S
    while os.path.exists(f"/proc/self/task/{native}") and time.monotonic() < end:
        os.sched_yield()
