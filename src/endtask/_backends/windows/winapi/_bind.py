"""How a function of a Windows DLL becomes a Python callable: always with the types of its result and of every argument.

Decision: ctypes, because it comes with Python. Without declared types it passes and returns C ints, and a HANDLE of 64 bits loses its upper half.
Each module binds its own function objects, so that no other user of ctypes in the process can change their types.

Rejected: `ctypes.windll`, which is shared by the whole process and does not keep GetLastError.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What an API call takes by reference: the result of `byref`, a buffer, an array, or None.
ByRef = object

BOOL = wintypes.BOOL
BOOLEAN = wintypes.BOOLEAN
BYTE = ctypes.c_ubyte  # `wintypes.BYTE` is signed
WORD = wintypes.WORD
DWORD = wintypes.DWORD
LONG = wintypes.LONG
ULONG = wintypes.ULONG
ULONGLONG = ctypes.c_ulonglong
UINT = wintypes.UINT
HANDLE = ctypes.c_void_p  # None for NULL, else an int
HWND = ctypes.c_void_p
LPCSTR = ctypes.c_char_p
LPCWSTR = ctypes.c_wchar_p
LPVOID = ctypes.c_void_p
SIZE_T = ctypes.c_size_t
WPARAM = ctypes.c_size_t
LPARAM = ctypes.c_ssize_t
NTSTATUS = ctypes.c_ulong  # unsigned, so that 0xC0000004 can be compared as it is written

_ONLY_SYSTEM32 = 0x00000800  # LOAD_LIBRARY_SEARCH_SYSTEM32: never a DLL that lies beside some python.exe

last_error = ctypes.get_last_error  # the error of this thread's last call through these prototypes


def library(name: str) -> ctypes.WinDLL:
    """Return a DLL of the system, with GetLastError kept for `last_error`."""
    return ctypes.WinDLL(name, use_last_error=True, winmode=_ONLY_SYSTEM32)


def bind(dll: ctypes.WinDLL, name: str, result: type[Any] | None, *arguments: type[Any]) -> Any:
    """Return the function *name* with its types.

    Raises:
        AttributeError: The DLL has no such function.
    """
    function = dll[name]  # not an attribute: those are cached and shared
    function.restype = result
    function.argtypes = arguments
    return function


def bind_if_there(dll: ctypes.WinDLL, name: str, result: type[Any] | None, *arguments: type[Any]) -> Any:
    """Return the function *name* with its types, None where this version of Windows (or Wine) has not got it."""
    try:
        return bind(dll, name, result, *arguments)
    except AttributeError:
        return None
