"""Hearing that we ourselves are asked to stop: console events, and our own stop event.

Decision: a control handler of our own, because CPython hears only Ctrl+C and Ctrl+Break. CLOSE, LOGOFF and SHUTDOWN come to control handlers alone,
and the system ends the process as soon as the handler of one of these returns ("HandlerRoutine" page): so it returns only when the process has ended itself.
The system waits about five seconds for that; `LIMIT_S` is what is left for a stop and its report.

Decision: whoever asks a second time does not want to wait, and that interrupts the main thread. But only while it waits or stops the tree: before, nobody could stop
what is just being started, and afterwards the report would be lost. An event that comes earlier is kept until then.

Decision: we also are what `stop_event.py` looks for, so that another endtask can ask us without any console, and we know then that it meant us alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

assert sys.platform == "win32"

import _winapi

from endtask._backends.windows import errors, stop_event
from endtask._backends.windows.handles import open_pin
from endtask._backends.windows.winapi import jobapi, kernel32
from endtask._backends.windows.winapi._bind import last_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self

    from endtask.model import PidRef

LIMIT_S = 4.0
_EXISTS = 183  # ERROR_ALREADY_EXISTS
# What shells and runtimes make of each event: the number of a signal. (libuv: CLOSE is SIGHUP; .NET: SHUTDOWN is SIGTERM; CPython: BREAK is SIGBREAK, 21)
_SIGNALS = {
    kernel32.CTRL_C_EVENT: 2,
    kernel32.CTRL_BREAK_EVENT: 21,
    kernel32.CTRL_CLOSE_EVENT: 1,
    kernel32.CTRL_LOGOFF_EVENT: 1,
    kernel32.CTRL_SHUTDOWN_EVENT: 15,
}
_TERM = 15


class Ears:
    """Hears that we are asked to stop; a context manager.

    Attributes:
        asked: Number of the signal that what asked us amounts to, 0 for nothing.
        told: Whether it came by the console, and so perhaps to everybody there.
        limit_s: Seconds until the system ends us, None if it does not.
    """

    def __init__(self) -> None:
        self.told = False
        self.limit_s: float | None = None
        self.asked = 0
        self._lock = threading.Lock()
        self._interrupts = self._again = False
        self._heard = _new_event(None)
        self._never = _new_event(None)
        self._stop = self._ack = 0
        self._handler = jobapi.CONTROL_HANDLER(self._on_event)

    def __enter__(self) -> Self:
        with open_pin(os.getpid()) as own:
            name = f"Local\\{stop_event.name(own.ref)}"
        self._stop = _new_event(name)
        self._ack = _new_event(f"{name}.ack") if self._stop else 0
        if not jobapi.SetConsoleCtrlHandler(self._handler, True):
            raise errors.failed("SetConsoleCtrlHandler", last_error())
        return self

    def __exit__(self, *_: object) -> None:
        if self.limit_s is not None:
            return  # the handler must not return before the process ends; it also holds the lock that taking it back needs
        jobapi.SetConsoleCtrlHandler(self._handler, False)
        for handle in (self._heard, self._never, self._stop, self._ack):
            if handle:
                kernel32.CloseHandle(handle)

    def _on_event(self, number: int) -> bool:
        """Run by a thread that the system makes for each event, one after the other."""
        first = not self.asked
        if number not in (kernel32.CTRL_C_EVENT, kernel32.CTRL_BREAK_EVENT):
            self.limit_s = LIMIT_S
        if first:
            self.told = True
            self.asked = _SIGNALS.get(number, _TERM)
            kernel32.SetEvent(self._heard)
        else:
            self._hurry()
        if self.limit_s is not None:
            kernel32.WaitForSingleObject(self._never, kernel32.INFINITE)
        return True

    def _hurry(self) -> None:
        with self._lock:
            self._again = True
            if self._interrupts:
                signal.raise_signal(signal.SIGINT)  # KeyboardInterrupt in the main thread, which is stopping the tree

    def done(self) -> None:
        """From now on nothing interrupts: the tree has been stopped, and what is left is to tell it."""
        with self._lock:
            self._interrupts = False

    def wait(self, ref: PidRef) -> None:
        """Wait until a process, which its caller holds, has ended, or we are asked to stop.

        Raises:
            KeyboardInterrupt: We were asked a second time, now or before; from here until `done` that is heard at any moment.
        """
        with self._lock:
            self._interrupts, again = True, self._again
        if again:
            raise KeyboardInterrupt
        with open_pin(ref.pid, ref.token) as pin:
            handles = [pin.handle, self._heard, *([self._stop] if self._stop else [])]
            while True:
                try:
                    first = _winapi.WaitForMultipleObjects(handles, False, kernel32.INFINITE)
                    break
                except InterruptedError:
                    continue  # a signal of CPython's own, without a handler that raises
        if first == 2:
            self.asked = _TERM
            if self._ack:
                kernel32.SetEvent(self._ack)


def _new_event(name: str | None) -> int:
    """Return a new event that stays set; 0 where something else has that name already: then nobody could be sure whom it means."""
    event = kernel32.CreateEventW(None, True, False, name)
    if event and last_error() != _EXISTS:
        return event
    if event:
        kernel32.CloseHandle(event)
    elif name is None:
        raise errors.failed("CreateEventW", last_error())
    return 0
