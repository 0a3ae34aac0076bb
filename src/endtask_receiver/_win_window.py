"""A hidden window that hears WM_CLOSE and the end of the session, and user32, which it needs.

Decision: a top-level window, because `taskkill`, the Restart Manager and the end of a session look for those; message-only windows are not found.
With it, a program without any window of its own obeys `taskkill` without /f.

The price: a console program that has loaded user32 gets no CTRL_LOGOFF_EVENT and CTRL_SHUTDOWN_EVENT any more ("SetConsoleCtrlHandler function" page),
which does no harm as long as this window hears the same; `listen(window=False)` is for those who do not want it.

WM_QUERYENDSESSION is a question: somebody else may say no, and the session goes on. So it is answered with yes, and nothing else happens.
WM_ENDSESSION is the request. When we return from it, the system may end the process: so we do not, until the limit is near.
Meanwhile the system shows why we are not done (ShutdownBlockReasonCreate).
When only the application is to be closed (ENDSESSION_CLOSEAPP: Restart Manager, endtask), nobody ends us: then we return at once.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver import _win_limits as limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Channel, name of the mechanism, seconds that the system gives us (None: it does not say)
    Hear = Callable[[str, str, "float | None"], object]

WM_CLOSE = 0x0010
WM_QUERYENDSESSION = 0x0011
WM_QUIT = 0x0012
WM_ENDSESSION = 0x0016
ENDSESSION_CLOSEAPP = 0x00000001
_QS_ALLINPUT = 0x04FF
_MWMO_INPUTAVAILABLE = 0x0004
_PM_REMOVE = 0x0001
_WS_EX_TOOLWINDOW = 0x00000080  # in no list of the user's, should it ever be shown
_WS_POPUP = 0x80000000

_LRESULT = ctypes.c_ssize_t
_WINDOW_PROCEDURE = ctypes.WINFUNCTYPE(_LRESULT, calls.HANDLE, wintypes.UINT, ctypes.c_size_t, ctypes.c_ssize_t)


class _WindowClass(ctypes.Structure):
    """WNDCLASSW."""

    _fields_ = (
        ("style", wintypes.UINT),
        ("procedure", _WINDOW_PROCEDURE),
        ("class_extra", ctypes.c_int),
        ("window_extra", ctypes.c_int),
        ("instance", calls.HANDLE),
        ("icon", calls.HANDLE),
        ("cursor", calls.HANDLE),
        ("background", calls.HANDLE),
        ("menu_name", wintypes.LPCWSTR),
        ("class_name", wintypes.LPCWSTR),
    )


_user32 = calls.library("user32")
_MESSAGE = ctypes.POINTER(wintypes.MSG)

_RegisterClass = calls.bind(_user32, "RegisterClassW", wintypes.ATOM, ctypes.POINTER(_WindowClass))
_UnregisterClass = calls.bind(_user32, "UnregisterClassW", wintypes.BOOL, wintypes.LPCWSTR, calls.HANDLE)
_CreateWindow = calls.bind(
    _user32,
    "CreateWindowExW",
    calls.HANDLE,
    wintypes.DWORD,
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
    wintypes.DWORD,
    *[ctypes.c_int] * 4,
    *[calls.HANDLE] * 4,
)
_DestroyWindow = calls.bind(_user32, "DestroyWindow", wintypes.BOOL, calls.HANDLE)
_DefWindowProc = calls.bind(
    _user32, "DefWindowProcW", _LRESULT, calls.HANDLE, wintypes.UINT, ctypes.c_size_t, ctypes.c_ssize_t
)
_PeekMessage = calls.bind(_user32, "PeekMessageW", wintypes.BOOL, _MESSAGE, calls.HANDLE, *[wintypes.UINT] * 3)
_DispatchMessage = calls.bind(_user32, "DispatchMessageW", _LRESULT, _MESSAGE)
_MsgWaitForMultipleObjectsEx = calls.bind(
    _user32,
    "MsgWaitForMultipleObjectsEx",
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(calls.HANDLE),
    *[wintypes.DWORD] * 3,
)
_ShutdownBlockReasonCreate = calls.bind(
    _user32, "ShutdownBlockReasonCreate", wintypes.BOOL, calls.HANDLE, wintypes.LPCWSTR
)
_ShutdownBlockReasonDestroy = calls.bind(_user32, "ShutdownBlockReasonDestroy", wintypes.BOOL, calls.HANDLE)


class HiddenWindow:
    """Lives in the thread that makes it: there it is opened, waited for and closed."""

    def __init__(self, title: str, hear: Hear, hold: Callable[[float], object]) -> None:
        """Prepare.

        Args:
            title: Where a user might see it.
            hear: Told of each request.
            hold: Called at the end of a session; returns when we are done, or after so many seconds.
        """
        self._title = title
        self._hear = hear
        self._hold = hold
        self._procedure = _WINDOW_PROCEDURE(self._on_message)
        self._class_name = f"endtask_receiver {id(self):x}"
        self._instance = calls.GetModuleHandle(None)
        self._window: int | None = None

    def open(self) -> bool:
        """Make the window; return whether there is one. There is none in a process without a desktop."""
        window_class = _WindowClass(procedure=self._procedure, instance=self._instance, class_name=self._class_name)
        if not _RegisterClass(ctypes.byref(window_class)):
            return False
        self._window = _CreateWindow(
            _WS_EX_TOOLWINDOW, self._class_name, self._title, _WS_POPUP, 0, 0, 0, 0, None, None, self._instance, None
        )
        return self._window is not None

    def close(self) -> None:
        """Destroy the window."""
        if self._window is not None:
            _DestroyWindow(self._window)
            self._window = None
        _UnregisterClass(self._class_name, self._instance)

    def wait_any(self, handles: list[int], timeout_ms: int) -> int:
        """Wait for handles and for messages; return the index of a handle, their number for messages, or WAIT_TIMEOUT."""
        array = (calls.HANDLE * len(handles))(*handles)
        return int(_MsgWaitForMultipleObjectsEx(len(handles), array, timeout_ms, _QS_ALLINPUT, _MWMO_INPUTAVAILABLE))

    def pump(self) -> None:
        """Take all messages that are there."""
        message = wintypes.MSG()
        while _PeekMessage(ctypes.byref(message), None, 0, 0, _PM_REMOVE):
            if message.message == WM_QUIT:  # posted to the thread; it has no window
                self._hear("window", "WM_QUIT", None)
            else:
                _DispatchMessage(ctypes.byref(message))

    def _on_message(self, window: int, message: int, word: int, more: int) -> int:
        if message == WM_CLOSE:
            self._hear("window", "WM_CLOSE", None)
            return 0  # not destroyed: whoever asks again must find it
        if message == WM_QUERYENDSESSION:
            return 1
        if message == WM_ENDSESSION:
            if word:
                self._end_session(window, more)
            return 0
        return int(_DefWindowProc(window, message, word, more))

    def _end_session(self, window: int, how: int) -> None:
        if how & ENDSESSION_CLOSEAPP:
            self._hear("session-end", "WM_ENDSESSION", None)
            return
        limit_s = limits.within(limits.close_s())
        _ShutdownBlockReasonCreate(window, f"{self._title}: cleaning up")
        self._hear("session-end", "WM_ENDSESSION", limit_s)
        self._hold(limit_s)
        _ShutdownBlockReasonDestroy(window)
