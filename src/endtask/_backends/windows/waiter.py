"""One wait for the exit of any number of pinned processes: the thread pool of Windows watches their handles.

Decision: RegisterWaitForSingleObject. WaitForMultipleObjects takes 64 handles, the pool any number, with a thread for each 63 of them or (since Windows 8) for all.
Its callback notes which registration fired and sets one event, for which the caller waits.

- The caller's wait is CPython's own (`_winapi`), because only that one ends at Ctrl+C; a wait through ctypes would not hear it until it is over.
- A registration is taken back with INVALID_HANDLE_VALUE, which waits for a callback that is under way, so that none comes after `drop`.
  That cannot lock up: ctypes lets go of the interpreter lock around the call, and the callback takes no other lock of ours.
  Wine can leave one on its way all the same (and says so, ERROR_IO_PENDING): what that will touch is then kept for good.
- The callback is made from things that outlive it (a list, an event); it does not hold the waiter, so that a forgotten waiter can be collected and end its registrations.

Rejected: a thread for each 63 processes (160 threads for ten thousand); a completion port of `_overlapped`, whose wait does not hear Ctrl+C.
"""

from __future__ import annotations

import ctypes
import math
import sys
import time

assert sys.platform == "win32"

import _winapi

from endtask._backends.windows import errors
from endtask._backends.windows.handles import own
from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import last_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Pin, Waiter

_IO_PENDING = 997
_LONGEST_MS = 0x7FFFFFFF  # 24 days; the caller asks again

# What a thread of the pool may still call after its registration was taken back; freed, it would be called all the same.
_kept: list[object] = []


class WindowsWaiter:
    """Reports each exit once, by the key that the caller gave."""

    __slots__ = ("_callback", "_event", "_fired", "_keys", "_late", "_next", "_numbers", "_waits", "_wake")

    _keys: dict[int, int | None]  # by number of the registration; None for a source

    def __init__(self) -> None:
        event = kernel32.CreateEventW(None, True, False, None)  # manual reset: `wait` decides when the news are read
        if not event:
            raise errors.failed("CreateEventW", last_error())
        self._event = event
        self._fired: list[int] = []  # numbers of registrations; each single change of a list is atomic
        self._wake: list[Callable[[], None]] = []  # at most one; shared with the callback
        self._late = False  # whether a callback may still come
        self._next = 1
        self._keys = {}
        self._numbers: dict[int, int] = {}  # by handle
        self._waits: dict[int, int] = {}  # wait handle by number of the registration
        self._callback = _make_callback(event, self._fired, self._wake)

    @property
    def poll_s(self) -> float | None:
        """None: every exit wakes the waiter."""
        return None

    def fileno(self) -> int | None:
        """None: there is no descriptor; event loops are woken by `on_news`."""
        return None

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """Call *wake* from a thread of the pool whenever `wait(0)` has something to say, and at once if it has now; None ends that."""
        self._wake.clear()
        if wake is not None:
            self._wake.append(wake)
            if self._fired:
                wake()

    def add(self, pin: Pin, key: int) -> None:
        """Watch *pin*; its exit is reported once, as *key*, also if it has happened already.

        Raises:
            OsCallError: The pool takes no more.
        """
        mine = own(pin)
        self._register(mine.handle, key, mine.ref.pid)

    def add_source(self, event: int) -> None:
        """Wake up once when *event* is set, without a key: a conversation has news. It must stay set until then.

        Raises:
            OsCallError: The pool takes no more.
        """
        self._register(event, None, 0)

    def _register(self, handle: int, key: int | None, pid: int) -> None:
        self._forget(handle)
        number, self._next = self._next, self._next + 1
        self._keys[number] = key
        self._numbers[handle] = number
        wait = ctypes.c_void_p()
        if not kernel32.RegisterWaitForSingleObject(
            ctypes.byref(wait),
            handle,
            self._callback,
            number,
            kernel32.INFINITE,
            kernel32.WT_EXECUTEONLYONCE,
        ):
            code = last_error()
            del self._keys[number], self._numbers[handle]
            raise errors.failed("RegisterWaitForSingleObject", code, pid)
        self._waits[number] = wait.value or 0

    def drop(self, pin: Pin) -> None:
        """Forget *pin*; call before closing it. Unknown pins are ignored."""
        self._forget(own(pin).handle)

    def drop_source(self, event: int) -> None:
        """Do not wake up for *event* any more; call before closing it. Harmless after `close`."""
        self._forget(event)

    def _forget(self, handle: int) -> None:
        number = self._numbers.pop(handle, None)
        if number is not None:
            self._keys.pop(number, None)
            self._unregister(self._waits.pop(number))

    def _unregister(self, wait: int) -> None:
        """Take back a registration, and wait for its callback if that is under way."""
        if kernel32.UnregisterWaitEx(wait, kernel32.INVALID_HANDLE_VALUE):
            return
        code = last_error()
        if code != _IO_PENDING:
            # Nothing of it may be used any more, and it was ours: the number is wrong.
            raise errors.failed("UnregisterWaitEx", code)
        self._late = True

    def wait(self, timeout_s: float | None) -> list[int]:
        """Block until something exits, or for *timeout_s* seconds (None: for ever, 0: only look).

        Raises:
            KeyboardInterrupt: Ctrl+C, in the main thread; an exit that was about to be reported may then go unreported.

        Returns:
            The keys of the processes that have exited since the last call; empty when time is up or a source has news.
        """
        # Not `time.monotonic`, which moves in steps of 16 ms on Windows before Python 3.13.
        deadline = None if timeout_s is None else time.perf_counter() + timeout_s
        while True:
            found, news = self._take()
            if found or news or (deadline is not None and timeout_s == 0):
                return found
            left_s = None if deadline is None else deadline - time.perf_counter()
            if left_s is not None and left_s <= 0:
                return found
            # Rounded up: a wait that ends before its time would make its caller look in vain.
            left_ms = kernel32.INFINITE if left_s is None else min(math.ceil(left_s * 1000), _LONGEST_MS)
            try:
                _winapi.WaitForMultipleObjects([self._event], False, left_ms)
            except InterruptedError:
                continue  # Ctrl+C, and the program's own handler did not raise

    def _take(self) -> tuple[list[int], bool]:
        """Return the keys of what has fired and was not dropped, and whether a source was among it."""
        kernel32.ResetEvent(self._event)  # before the queue is read: what fires meanwhile sets it again
        count = len(self._fired)
        numbers = self._fired[:count]
        del self._fired[:count]  # what was added meanwhile stands behind
        keys = [self._keys.pop(number) for number in numbers if number in self._keys]
        exits = [key for key in keys if key is not None]
        return exits, len(exits) < len(keys)

    def close(self) -> None:
        """End all registrations; closing twice is allowed."""
        self._wake.clear()
        self._keys.clear()
        self._numbers.clear()
        while self._waits:
            self._unregister(self._waits.popitem()[1])
        event, self._event = self._event, 0
        if not event:
            return
        if self._late:
            _kept.append(self._callback)  # and the event, whose number must not become somebody else's
        else:
            kernel32.CloseHandle(event)

    def __del__(self) -> None:
        if getattr(self, "_event", 0):
            self.close()


def own_waiter(waiter: Waiter) -> WindowsWaiter:
    """Return *waiter* as one of ours: waiters of another backend are a mistake of the caller."""
    assert isinstance(waiter, WindowsWaiter), f"{waiter!r} was not made by the Windows backend"
    return waiter


def _make_callback(event: int, fired: list[int], wake: list[Callable[[], None]]) -> object:
    """Return what the pool calls: a function of C that runs Python, and must neither raise nor hold the waiter."""

    def on_exit(number: int, _timed_out: int) -> None:
        fired.append(number)
        kernel32.SetEvent(event)
        for call in tuple(wake):
            call()

    return kernel32.WAIT_CALLBACK(on_exit)
