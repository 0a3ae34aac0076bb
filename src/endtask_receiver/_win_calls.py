"""What the receiver calls of kernel32, advapi32 and ntdll, with the types of every argument.

Decision: our own function objects (`WinDLL(...)[name]`), so that no other user of ctypes in the program can change their types.
user32 is not here: loading it changes what a console program hears (see `_win_window`).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ONLY_SYSTEM32 = 0x00000800  # LOAD_LIBRARY_SEARCH_SYSTEM32: never a DLL that lies beside some python.exe

HANDLE = ctypes.c_void_p  # None for NULL, else an int; 64 bits
INFINITE = 0xFFFFFFFF
WAIT_TIMEOUT = 0x102
WAIT_FAILED = 0xFFFFFFFF
SYNCHRONIZE = 0x00100000
QUERY_LIMITED = 0x00001000  # PROCESS_QUERY_LIMITED_INFORMATION
ACCESS_DENIED = 5
INVALID_HANDLE = 6
BROKEN_PIPE = 109
ALREADY_EXISTS = 183
FILE_TYPE_CHAR = 2
FILE_TYPE_PIPE = 3
STD_INPUT_HANDLE = 0xFFFFFFF6  # -10
SDDL_REVISION_1 = 1

CTRL_C_EVENT = 0
CTRL_BREAK_EVENT = 1
CTRL_CLOSE_EVENT = 2
CTRL_LOGOFF_EVENT = 5
CTRL_SHUTDOWN_EVENT = 6

last_error = ctypes.get_last_error


def library(name: str) -> ctypes.WinDLL:
    """Return a DLL of the system."""
    return ctypes.WinDLL(name, use_last_error=True, winmode=_ONLY_SYSTEM32)


def bind(dll: ctypes.WinDLL, name: str, result: type[Any] | None, *arguments: type[Any]) -> Any:
    """Return the function *name* with its types."""
    function = dll[name]  # not an attribute: those are cached and shared
    function.restype = result
    function.argtypes = arguments
    return function


class SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (("size", wintypes.DWORD), ("descriptor", ctypes.c_void_p), ("inherit", wintypes.BOOL))


class ServiceStatus(ctypes.Structure):
    """SERVICE_STATUS."""

    _fields_ = (
        ("type", wintypes.DWORD),
        ("state", wintypes.DWORD),
        ("accepted", wintypes.DWORD),
        ("exit_code", wintypes.DWORD),
        ("specific_exit_code", wintypes.DWORD),
        ("checkpoint", wintypes.DWORD),
        ("wait_hint", wintypes.DWORD),
    )


CONTROL_HANDLER = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)

_kernel32 = library("kernel32")
_advapi32 = library("advapi32")

SetConsoleCtrlHandler = bind(_kernel32, "SetConsoleCtrlHandler", wintypes.BOOL, CONTROL_HANDLER, wintypes.BOOL)
CloseHandle = bind(_kernel32, "CloseHandle", wintypes.BOOL, HANDLE)
CreateEvent = bind(_kernel32, "CreateEventW", HANDLE, ctypes.c_void_p, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)
SetEvent = bind(_kernel32, "SetEvent", wintypes.BOOL, HANDLE)
WaitForMultipleObjects = bind(
    _kernel32,
    "WaitForMultipleObjects",
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(HANDLE),
    wintypes.BOOL,
    wintypes.DWORD,
)
WaitForSingleObject = bind(_kernel32, "WaitForSingleObject", wintypes.DWORD, HANDLE, wintypes.DWORD)
OpenProcess = bind(_kernel32, "OpenProcess", HANDLE, wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
GetCurrentProcess = bind(_kernel32, "GetCurrentProcess", HANDLE)
GetProcessTimes = bind(_kernel32, "GetProcessTimes", wintypes.BOOL, HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
ProcessIdToSessionId = bind(
    _kernel32, "ProcessIdToSessionId", wintypes.BOOL, wintypes.DWORD, ctypes.POINTER(wintypes.DWORD)
)
GetModuleHandle = bind(_kernel32, "GetModuleHandleW", HANDLE, wintypes.LPCWSTR)
LocalFree = bind(_kernel32, "LocalFree", HANDLE, HANDLE)
GetStdHandle = bind(_kernel32, "GetStdHandle", HANDLE, wintypes.DWORD)
GetFileType = bind(_kernel32, "GetFileType", wintypes.DWORD, HANDLE)
PeekNamedPipe = bind(
    _kernel32,
    "PeekNamedPipe",
    wintypes.BOOL,
    HANDLE,
    ctypes.c_void_p,
    wintypes.DWORD,
    *[ctypes.POINTER(wintypes.DWORD)] * 3,
)
DisconnectNamedPipe = bind(_kernel32, "DisconnectNamedPipe", wintypes.BOOL, HANDLE)
GetNamedPipeClientProcessId = bind(
    _kernel32, "GetNamedPipeClientProcessId", wintypes.BOOL, HANDLE, ctypes.POINTER(wintypes.DWORD)
)
ToSecurityDescriptor = bind(
    _advapi32,
    "ConvertStringSecurityDescriptorToSecurityDescriptorW",
    wintypes.BOOL,
    wintypes.LPCWSTR,
    wintypes.DWORD,
    ctypes.POINTER(HANDLE),
    ctypes.c_void_p,
)
SetServiceStatus = bind(_advapi32, "SetServiceStatus", wintypes.BOOL, HANDLE, ctypes.POINTER(ServiceStatus))
RtlGetCurrentPeb = bind(library("ntdll"), "RtlGetCurrentPeb", HANDLE)


class Handle:
    """A handle that is closed when nobody needs it any more, or earlier by `close`."""

    __slots__ = ("_close", "value")

    def __init__(self, value: int) -> None:
        self.value = value
        self._close = CloseHandle  # held here: at the end of the interpreter this module may be empty

    def close(self) -> None:
        """Close it; more than once is allowed."""
        value, self.value = self.value, 0
        if value:
            self._close(value)

    __del__ = close


def open_event(*, manual: bool) -> Handle:
    """Return a new event without a name.

    Raises:
        OSError: The system is out of memory or handles.
    """
    opened = CreateEvent(None, manual, False, None)
    if not opened:
        raise ctypes.WinError(last_error())
    return Handle(opened)


def creation_time(process: int) -> int:
    """Return when a process was created, as a FILETIME; 0 if we may not know.

    Args:
        process: A handle.
    """
    times = [wintypes.FILETIME() for _ in range(4)]
    if not GetProcessTimes(process, *[ctypes.byref(t) for t in times]):
        return 0
    return int((times[0].dwHighDateTime << 32) | times[0].dwLowDateTime)


def session_of(pid: int) -> int | None:
    """Return the session of a process, None if that cannot be told. Services live in session 0."""
    session = wintypes.DWORD()
    return int(session.value) if ProcessIdToSessionId(pid, ctypes.byref(session)) else None


def wait_any(handles: list[int], timeout_ms: int) -> int:
    """Wait for the first of some handles; return its index, or WAIT_TIMEOUT."""
    array = (HANDLE * len(handles))(*handles)
    return int(WaitForMultipleObjects(len(handles), array, False, timeout_ms))


def setting_ms(root: int, path: str, name: str, otherwise: int) -> int:
    """Return a number of milliseconds out of the registry, where these are texts.

    Args:
        root: `winreg.HKEY_...`.
        path: Of the key.
        name: Of the value.
        otherwise: What holds if it is not there.
    """
    import winreg

    try:
        with winreg.OpenKey(root, path) as key:
            return max(0, int(winreg.QueryValueEx(key, name)[0]))
    except (OSError, ValueError):
        return otherwise
