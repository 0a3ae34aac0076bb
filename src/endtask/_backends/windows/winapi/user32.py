"""Prototypes of user32.dll.

Loading it makes the calling process a GUI process for Windows (HandlerRoutine page: it then gets no LOGOFF and SHUTDOWN event),
so nothing imports this file before a window has to be looked for.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import (
    BOOL,
    DWORD,
    HWND,
    LONG,
    LPARAM,
    LPCWSTR,
    LPVOID,
    UINT,
    WPARAM,
    bind,
    bind_if_there,
    library,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("user32")

# --------------------------------------------------------------------------- finding windows

HWND_MESSAGE = ctypes.c_void_p(-3).value or 0  # parent of all message-only windows
GW_OWNER = 4
GWL_STYLE = -16
GWL_EXSTYLE = -20
WS_VISIBLE = 0x10000000
WS_DISABLED = 0x08000000
WS_EX_TOOLWINDOW = 0x00000080

# WNDENUMPROC: a window, the caller's number; the answer is whether to go on.
WINDOW_CALLBACK = ctypes.WINFUNCTYPE(BOOL, HWND, LPARAM)

EnumWindows: Callable[[object, int], bool] = bind(_dll, "EnumWindows", BOOL, WINDOW_CALLBACK, LPARAM)
EnumChildWindows: Callable[[int, object, int], bool] = bind(
    _dll, "EnumChildWindows", BOOL, HWND, WINDOW_CALLBACK, LPARAM
)
FindWindowExW: Callable[[int | None, int | None, str | None, str | None], int | None] = bind(
    _dll, "FindWindowExW", HWND, HWND, HWND, LPCWSTR, LPCWSTR
)
GetWindow: Callable[[int, int], int | None] = bind(_dll, "GetWindow", HWND, HWND, UINT)
GetWindowThreadProcessId: Callable[[int, ByRef], int] = bind(
    _dll, "GetWindowThreadProcessId", DWORD, HWND, ctypes.POINTER(DWORD)
)

# --------------------------------------------------------------------------- reading them: none of these sends a message

GetWindowLongW: Callable[[int, int], int] = bind(_dll, "GetWindowLongW", LONG, HWND, ctypes.c_int)
GetClassNameW: Callable[[int, ByRef, int], int] = bind(_dll, "GetClassNameW", ctypes.c_int, HWND, LPVOID, ctypes.c_int)
InternalGetWindowText: Callable[[int, ByRef, int], int] = bind(
    _dll, "InternalGetWindowText", ctypes.c_int, HWND, LPVOID, ctypes.c_int
)
GetDlgCtrlID: Callable[[int], int] = bind(_dll, "GetDlgCtrlID", ctypes.c_int, HWND)
IsHungAppWindow: Callable[[int], bool] = bind(_dll, "IsHungAppWindow", BOOL, HWND)
# Windows Vista; Wine 8 has only the other two of its family.
ShutdownBlockReasonQuery: Callable[[int, ByRef, ByRef], bool] | None = bind_if_there(
    _dll, "ShutdownBlockReasonQuery", BOOL, HWND, LPVOID, ctypes.POINTER(DWORD)
)

# --------------------------------------------------------------------------- messages

WM_NULL = 0x0000
WM_CLOSE = 0x0010
WM_QUERYENDSESSION = 0x0011
WM_QUIT = 0x0012
WM_ENDSESSION = 0x0016
ENDSESSION_CLOSEAPP = 0x00000001
SMTO_ABORTIFHUNG = 0x0002
SMTO_ERRORONEXIT = 0x0020

PostMessageW: Callable[[int, int, int, int], bool] = bind(_dll, "PostMessageW", BOOL, HWND, UINT, WPARAM, LPARAM)
PostThreadMessageW: Callable[[int, int, int, int], bool] = bind(
    _dll, "PostThreadMessageW", BOOL, DWORD, UINT, WPARAM, LPARAM
)
SendMessageTimeoutW: Callable[[int, int, int, int, int, int, ByRef], int] = bind(
    _dll,
    "SendMessageTimeoutW",
    ctypes.c_ssize_t,
    HWND,
    UINT,
    WPARAM,
    LPARAM,
    UINT,
    UINT,
    ctypes.POINTER(ctypes.c_size_t),
)
SendNotifyMessageW: Callable[[int, int, int, int], bool] = bind(
    _dll, "SendNotifyMessageW", BOOL, HWND, UINT, WPARAM, LPARAM
)
