"""Prototypes of wtsapi32.dll: sessions of Remote Desktop Services."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import BOOL, DWORD, HANDLE, LPVOID, bind, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("wtsapi32")

WTS_CURRENT_SERVER_HANDLE = 0
WTS_WIN_STATION_NAME = 6  # WTS_INFO_CLASS

WTSQuerySessionInformationW: Callable[[int, int, int, ByRef, ByRef], bool] = bind(
    _dll,
    "WTSQuerySessionInformationW",
    BOOL,
    HANDLE,
    DWORD,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(DWORD),
)
WTSFreeMemory: Callable[[int], None] = bind(_dll, "WTSFreeMemory", None, LPVOID)
