"""A Windows service: its control handler hands requests on, and the service manager learns how far the stop is.

    stopping = Control(stop, status_handle)          # what RegisterServiceCtrlHandlerEx returned

    def handler(code, event_type, event_data, context):
        return stopping.control(code)
    ...
    stopping.report(RUNNING)
    work_until(stop)
    ...
    stopping.report(STOPPED)                         # last of all: the process may end with it

With pywin32, `win32service.SetServiceStatus` and `ReportServiceStatus` do the reporting; hand on the requests alone then: `Control(stop).control(code)`.

Decision: checkpoints rise when the application gets on (`Stop.tell`, `Stop.need`, each step of the cleanup), and not by a timer:
a service that hangs must not look as if it worked. Between two of them the wait hint says how long it may take at most.

Source: "SERVICE_STATUS structure", "Service Control Handler Function", "SERVICE_CONTROL_PRESHUTDOWN" (Microsoft Learn).
"""

from __future__ import annotations

import ctypes
import sys
from _thread import allocate_lock

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver import _win_limits as limits
from endtask_receiver._request import StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._request import News
    from endtask_receiver._stop import Stop

STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4

_NO_ERROR = 0
_NOT_IMPLEMENTED = 120  # ERROR_CALL_NOT_IMPLEMENTED: what a handler returns for a control that it does not know
_INTERROGATE = 4
_REQUESTS = {
    1: "SERVICE_CONTROL_STOP",
    5: "SERVICE_CONTROL_SHUTDOWN",
    15: "SERVICE_CONTROL_PRESHUTDOWN",
}
_SHUTDOWN = 5
_ACCEPT_STOP, _ACCEPT_SHUTDOWN, _ACCEPT_PRESHUTDOWN = 0x1, 0x4, 0x100
_OWN_PROCESS = 0x10
_LEAST_HINT_MS = 1000


class Control:
    """Between the service manager and a `Stop`."""

    def __init__(self, stop: Stop, status_handle: int | None = None, *, preshutdown: bool = False) -> None:
        """Prepare.

        Args:
            stop: Whom to tell.
            status_handle: What RegisterServiceCtrlHandlerEx returned; None if somebody else reports the status.
            preshutdown: Whether to be asked before the system shuts down, which gives more time, instead of when it does.
        """
        self._stop = stop
        self._handle = status_handle
        self._accepted = _ACCEPT_STOP | (_ACCEPT_PRESHUTDOWN if preshutdown else _ACCEPT_SHUTDOWN)
        self._state = START_PENDING
        self._checkpoint = 0
        self._exit_code = 0
        self._reporting = allocate_lock()
        stop._listeners.append(self._on_news)

    def control(self, code: int) -> int:
        """Be the handler's body: returns at once, with what the handler has to return.

        Args:
            code: SERVICE_CONTROL_...
        """
        if code == _INTERROGATE:
            self.report(self._state)
            return _NO_ERROR
        name = _REQUESTS.get(code)
        if name is None:
            return _NOT_IMPLEMENTED
        now = self._stop._clock()
        deadline = now + limits.within(limits.service_shutdown_s()) if code == _SHUTDOWN else None
        before = self._state
        self._stop._heard(StopRequest(now, "service", deadline, name))
        if self._state != STOPPED:
            self.report(STOP_PENDING)
            if not self._stop.asked:  # refused before that was reported: the news of it changed nothing
                self.report(before)
        return _NO_ERROR

    def report(self, state: int, exit_code: int | None = None) -> bool:
        """Tell the service manager the state; from any thread.

        Args:
            state: STOPPED, START_PENDING, STOP_PENDING or RUNNING.
            exit_code: Of the service, as a code of Windows; None for what was said before, 0 at first.

        Returns:
            Whether it took it.
        """
        with self._reporting:  # the handler has a thread of its own
            if self._state == STOPPED and state != STOPPED:
                return False  # nothing may be reported after that ("SetServiceStatus function" page)
            self._state = state
            self._exit_code = self._exit_code if exit_code is None else exit_code
            pending = state in {START_PENDING, STOP_PENDING}
            self._checkpoint = self._checkpoint + 1 if pending else 0
            if self._handle is None:
                return False
            status = calls.ServiceStatus(
                _OWN_PROCESS,
                state,
                self._accepted if state == RUNNING else 0,
                self._exit_code,
                0,
                self._checkpoint,
                self._hint_ms() if pending else 0,
            )
            return bool(calls.SetServiceStatus(self._handle, ctypes.byref(status)))

    def _hint_ms(self) -> int:
        return max(int(self._stop.left() * 1000), _LEAST_HINT_MS)

    def _on_news(self, news: News) -> None:
        if news.kind == "veto" and self._state == STOP_PENDING:
            self.report(RUNNING)
        elif self._state == STOP_PENDING:
            self.report(STOP_PENDING)
