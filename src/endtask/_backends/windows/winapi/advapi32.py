"""Prototypes of advapi32.dll that concern access tokens and accounts; those of the service manager are in `services.py`."""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import BOOL, DWORD, HANDLE, LPCWSTR, LPVOID, bind, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("advapi32")

TOKEN_QUERY = 0x0008

# TOKEN_INFORMATION_CLASS
TOKEN_USER = 1
TOKEN_INTEGRITY_LEVEL = 25
TOKEN_IS_APP_CONTAINER = 29

# SID_NAME_USE
SID_TYPE_USER = 1
SID_TYPE_WELL_KNOWN_GROUP = 5  # LocalSystem and the service accounts are of this type

ERROR_NONE_MAPPED = 1332

_PDWORD = ctypes.POINTER(DWORD)

OpenProcessToken: Callable[[int, int, ByRef], bool] = bind(
    _dll, "OpenProcessToken", BOOL, HANDLE, DWORD, ctypes.POINTER(HANDLE)
)
GetTokenInformation: Callable[[int, int, ByRef, int, ByRef], bool] = bind(
    _dll, "GetTokenInformation", BOOL, HANDLE, ctypes.c_int, LPVOID, DWORD, _PDWORD
)
GetLengthSid: Callable[[int], int] = bind(_dll, "GetLengthSid", DWORD, LPVOID)
LookupAccountSidW: Callable[[str | None, ByRef, ByRef, ByRef, ByRef, ByRef, ByRef], bool] = bind(
    _dll, "LookupAccountSidW", BOOL, LPCWSTR, LPVOID, LPVOID, _PDWORD, LPVOID, _PDWORD, _PDWORD
)
LookupAccountNameW: Callable[[str | None, str, ByRef, ByRef, ByRef, ByRef, ByRef], bool] = bind(
    _dll, "LookupAccountNameW", BOOL, LPCWSTR, LPCWSTR, LPVOID, _PDWORD, LPVOID, _PDWORD, _PDWORD
)
