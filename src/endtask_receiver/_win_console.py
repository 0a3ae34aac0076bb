"""Console events, heard by a control handler.

Decision: a control handler of our own. Python hears Ctrl+C and Ctrl+Break only, in the main thread, and most waits of the main thread do not end for them
(lock, join, queue, socket, child: measured). The system calls a control handler in a thread of its own, at once.

After CLOSE, LOGOFF and SHUTDOWN the process is ended when the handler returns, or after a limit ("HandlerRoutine callback function" page).
So it does not return before the limit: not even when the application is done with its cleanup, because threads are still to be joined and `atexit` functions to run.
The process ends by itself, and the waiting handler with it.

Race: handlers are called under the lock that SetConsoleCtrlHandler takes too, on Windows and on Wine.
Whoever takes a handler back while it waits, waits for it; so `close` leaves a waiting handler where it is, and that one takes itself back.

Race: the system can call a handler after the interpreter has gone, which is a crash. So the ears close before that, in an `atexit` function;
as it was registered by `listen`, those that the program has registered since then have run. After it the system does what it does without us.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from _thread import allocate_lock

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver import _win_limits as limits
from endtask_receiver._request import StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from endtask_receiver._stop import Stop

NAMES = {
    calls.CTRL_C_EVENT: "CTRL_C_EVENT",
    calls.CTRL_BREAK_EVENT: "CTRL_BREAK_EVENT",
    calls.CTRL_CLOSE_EVENT: "CTRL_CLOSE_EVENT",
    calls.CTRL_LOGOFF_EVENT: "CTRL_LOGOFF_EVENT",
    calls.CTRL_SHUTDOWN_EVENT: "CTRL_SHUTDOWN_EVENT",
}
_SIGNALS: dict[int, int] = {calls.CTRL_C_EVENT: signal.SIGINT, calls.CTRL_BREAK_EVENT: signal.SIGBREAK}
_LIMITS: dict[int, Callable[[], float]] = {
    calls.CTRL_CLOSE_EVENT: limits.close_s,
    calls.CTRL_LOGOFF_EVENT: limits.shutdown_s,
    calls.CTRL_SHUTDOWN_EVENT: limits.shutdown_s,
}
_SERVICES = 0  # the session of services

# The table of control handlers belongs to the process, and so does what we have in it: the ears, the innermost `listen` last.
_ears: list[ConsoleEar] = []


class ConsoleEar:
    """Hears console events."""

    def __init__(self, codes: Iterable[int]) -> None:
        self._codes = tuple(codes)
        self._callback = calls.CONTROL_HANDLER(self._on_event)
        self._state = allocate_lock()
        self._never = allocate_lock()
        self._never.acquire()
        self._closing = False
        self._waiting = 0  # calls of ours that do not return yet
        self._installed = False
        self._stop: Stop

    # ------------------------------------------------------------------ begin and end

    def start(self, stop: Stop) -> None:
        """Install the handler."""
        self._stop = stop
        _ears.append(self)
        atexit.register(self.close)
        self._install()

    def _install(self) -> None:
        """Install it; it then stays in memory, whatever becomes of us: the system may call it."""
        # COMPAT: Wine keeps the table when the console changes, Windows clears it; so the first call may fail, and nothing is there twice.
        if self._installed:
            calls.SetConsoleCtrlHandler(self._callback, False)
        else:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._callback))
        self._installed = bool(calls.SetConsoleCtrlHandler(self._callback, True))

    def _remove(self) -> None:
        if self._installed:
            self._installed = False
            if calls.SetConsoleCtrlHandler(self._callback, False) and not self._waiting:
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(self._callback))

    def close(self) -> None:
        """Take the handler back; what was installed before it, hears again."""
        atexit.unregister(self.close)
        if self in _ears:
            _ears.remove(self)
        with self._state:
            self._closing = True
            waiting = self._waiting
        if not waiting:
            self._remove()

    def again(self) -> None:
        """Install it anew, last of all."""
        with self._state:
            waiting = self._waiting or self._closing
        if not waiting:
            self._install()

    def describe(self) -> tuple[str, ...]:
        """Return what is heard, event by event."""
        if not self._installed:
            return ("console: no handler could be installed",)
        return tuple(self._describe(code) for code in self._codes)

    def _describe(self, code: int) -> str:
        if code == calls.CTRL_C_EVENT and _ctrl_c_is_off():
            # Whoever started us wants it so: CREATE_NEW_PROCESS_GROUP, or SetConsoleCtrlHandler(NULL, TRUE) in a parent.
            return "CTRL_C_EVENT: ignored since before us, left alone"
        if _is_ignored(code):
            return f"{NAMES[code]}: ignored since before us, left alone"
        held = ", and the system is held up while we clean up" if code in _LIMITS else ""
        chained = ", and so does what was installed before" if _chained(code) is not None else ""
        return f"{NAMES[code]}: a control handler hears it{held}{chained}"

    # ------------------------------------------------------------------ hearing

    def _on_event(self, code: int) -> bool:
        """Be the handler, in a thread that the system has made for this event."""
        if code == calls.CTRL_LOGOFF_EVENT and _is_service():
            return True  # nothing happens, and nobody after us ends the process either
        limit_s = self._begin(code)
        if limit_s is None:
            return False  # the next handler's turn
        if not _is_ignored(code):
            self._tell(code, limit_s)
        if limit_s:
            self._never.acquire(True, limits.within(limit_s))
            self._end()
        return True

    def _begin(self, code: int) -> float | None:
        """Return so many seconds the handler may wait, 0 if it must not; None if this is not for us."""
        if code not in self._codes:
            return None
        limit = _LIMITS.get(code)
        limit_s = limit() if limit is not None else 0.0
        with self._state:
            if self._closing:
                return None
            if limit_s:
                self._waiting += 1
        return limit_s

    def _end(self) -> None:
        """Stop waiting; the last one takes the handler back if we were closed meanwhile. That is allowed: the lock is recursive."""
        with self._state:
            self._waiting -= 1
            last = self._closing and not self._waiting
        if last:
            self._waiting += 1  # the callback still runs: it must not be freed
            self._remove()

    def _tell(self, code: int, limit_s: float) -> None:
        for ear in tuple(_ears):  # also the outer ones: nobody else tells them
            if code in ear._codes:
                now = ear._stop._clock()
                deadline = now + limits.within(limit_s) if limit_s else None
                ear._stop._heard(StopRequest(now, "console", deadline, NAMES[code]))
        chained = _chained(code)
        if chained is not None:
            # Race: if the handler is taken away just now, the default action of C's `raise` ends the process.
            signal.raise_signal(chained)


def _is_ignored(code: int) -> bool:
    number = _SIGNALS.get(code)
    return number is not None and signal.getsignal(number) is signal.SIG_IGN


def _chained(code: int) -> int | None:
    """Return the signal that the program handles itself, None if it does not.

    The handlers that raise KeyboardInterrupt or cancel the main task do not count: that is what we are for, and nobody has asked for them.
    """
    number = _SIGNALS.get(code)
    handler = signal.getsignal(number) if number is not None else None
    if not callable(handler) or handler is signal.default_int_handler:
        return None
    owner = getattr(getattr(handler, "func", None), "__self__", None)  # a partial of a method of asyncio's Runner
    return None if type(owner).__module__ == "asyncio.runners" else number


def _is_service() -> bool:
    """Return whether LOGOFF means somebody else's session: services get it for every user (HandlerRoutine page)."""
    return calls.session_of(os.getpid()) == _SERVICES


def _ctrl_c_is_off() -> bool:
    """Return whether this process ignores Ctrl+C by inheritance: bit 0 of ConsoleFlags in its parameters."""
    wide = ctypes.sizeof(ctypes.c_void_p) == 8
    parameters = ctypes.c_void_p.from_address(calls.RtlGetCurrentPeb() + (0x20 if wide else 0x10)).value
    return parameters is not None and bool(
        ctypes.c_uint32.from_address(parameters + (0x18 if wide else 0x14)).value & 1
    )


def console_changed() -> None:
    """Install all handlers anew. To be called after AttachConsole, AllocConsole or FreeConsole: these clear the table of handlers."""
    for ear in tuple(_ears):
        ear.again()
