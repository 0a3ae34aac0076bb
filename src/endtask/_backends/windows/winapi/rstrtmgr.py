"""Prototypes of rstrtmgr.dll, the Restart Manager."""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import BOOL, DWORD, LPCWSTR, LPVOID, UINT, bind, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("rstrtmgr")

SESSION_KEY_LENGTH = 32  # CCH_RM_SESSION_KEY
_MAX_APP_NAME = 255
_MAX_SVC_NAME = 63


class RmProcessInfo(Structure):
    """RM_PROCESS_INFO; the start time is a FILETIME, which is aligned to four bytes."""

    _fields_ = (
        ("pid", DWORD),
        ("created_low", DWORD),
        ("created_high", DWORD),
        ("name", ctypes.c_wchar * (_MAX_APP_NAME + 1)),
        ("service", ctypes.c_wchar * (_MAX_SVC_NAME + 1)),
        ("kind", ctypes.c_int),
        ("status", DWORD),
        ("session", DWORD),
        ("restartable", BOOL),
    )
    pid: int


# The result of each is the error itself.
RmStartSession: Callable[[ByRef, int, ByRef], int] = bind(
    _dll, "RmStartSession", DWORD, ctypes.POINTER(DWORD), DWORD, LPVOID
)
RmRegisterResources: Callable[[int, int, ByRef, int, ByRef, int, ByRef], int] = bind(
    _dll, "RmRegisterResources", DWORD, DWORD, UINT, ctypes.POINTER(LPCWSTR), UINT, LPVOID, UINT, LPVOID
)
RmGetList: Callable[[int, ByRef, ByRef, ByRef, ByRef], int] = bind(
    _dll, "RmGetList", DWORD, DWORD, ctypes.POINTER(UINT), ctypes.POINTER(UINT), LPVOID, ctypes.POINTER(DWORD)
)
RmEndSession: Callable[[int], int] = bind(_dll, "RmEndSession", DWORD, DWORD)
