"""Prototypes of kernel32.dll for a process that is started inside a job object: attributes, creation, standard handles, limits."""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import (
    BOOL,
    DWORD,
    HANDLE,
    LPCWSTR,
    LPVOID,
    SIZE_T,
    ULONGLONG,
    WORD,
    bind,
    library,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("kernel32")

# --------------------------------------------------------------------------- job limits

JOB_OBJECT_EXTENDED_LIMIT_INFORMATION = 9  # JobObjectExtendedLimitInformation
JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE = 0x00002000


class ExtendedLimits(Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("process_time", ULONGLONG),
        ("job_time", ULONGLONG),
        ("flags", DWORD),
        ("smallest_working_set", SIZE_T),
        ("largest_working_set", SIZE_T),
        ("active_processes", DWORD),
        ("affinity", SIZE_T),
        ("priority", DWORD),
        ("scheduling", DWORD),
        ("counters", ULONGLONG * 6),
        ("process_memory", SIZE_T),
        ("job_memory", SIZE_T),
        ("peak_process_memory", SIZE_T),
        ("peak_job_memory", SIZE_T),
    )
    flags: int


# --------------------------------------------------------------------------- creation

# "Process Creation Flags"
CREATE_SUSPENDED = 0x00000004
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_UNICODE_ENVIRONMENT = 0x00000400
EXTENDED_STARTUPINFO_PRESENT = 0x00080000
STARTF_USESTDHANDLES = 0x00000100
STD_HANDLES = (-10 & 0xFFFFFFFF, -11 & 0xFFFFFFFF, -12 & 0xFFFFFFFF)  # STD_INPUT_HANDLE, ...OUTPUT..., ...ERROR...

# UpdateProcThreadAttribute page; winbase.h makes the numbers out of a name's number and flags
PROC_THREAD_ATTRIBUTE_HANDLE_LIST = 0x00020002
PROC_THREAD_ATTRIBUTE_JOB_LIST = 0x0002000D  # Windows 10


class StartupInfoEx(Structure):
    """STARTUPINFOEXW."""

    _fields_ = (
        ("size", DWORD),
        ("reserved", LPVOID),
        ("desktop", LPCWSTR),
        ("title", LPCWSTR),
        ("place", DWORD * 7),
        ("flags", DWORD),
        ("show", WORD),
        ("reserved_size", WORD),
        ("reserved_data", LPVOID),
        ("streams", HANDLE * 3),
        ("attributes", LPVOID),
    )


class ProcessInformation(Structure):
    """PROCESS_INFORMATION."""

    _fields_ = (("process", HANDLE), ("thread", HANDLE), ("pid", DWORD), ("thread_id", DWORD))
    process: int | None
    thread: int | None
    pid: int


InitializeProcThreadAttributeList: Callable[[ByRef, int, int, ByRef], bool] = bind(
    _dll, "InitializeProcThreadAttributeList", BOOL, LPVOID, DWORD, DWORD, ctypes.POINTER(SIZE_T)
)
UpdateProcThreadAttribute: Callable[[ByRef, int, int, ByRef, int, ByRef, ByRef], bool] = bind(
    _dll, "UpdateProcThreadAttribute", BOOL, LPVOID, DWORD, SIZE_T, LPVOID, SIZE_T, LPVOID, LPVOID
)
DeleteProcThreadAttributeList: Callable[[ByRef], None] = bind(_dll, "DeleteProcThreadAttributeList", None, LPVOID)
CreateProcessW: Callable[[str | None, ByRef, ByRef, ByRef, bool, int, ByRef, str | None, ByRef, ByRef], bool] = bind(
    _dll,
    "CreateProcessW",
    BOOL,
    LPCWSTR,
    LPVOID,
    LPVOID,
    LPVOID,
    BOOL,
    DWORD,
    LPVOID,
    LPCWSTR,
    LPVOID,
    ctypes.POINTER(ProcessInformation),
)
ResumeThread: Callable[[int], int] = bind(_dll, "ResumeThread", DWORD, HANDLE)
GetStdHandle: Callable[[int], int | None] = bind(_dll, "GetStdHandle", HANDLE, DWORD)
CreatePipe: Callable[[ByRef, ByRef, ByRef, int], bool] = bind(
    _dll, "CreatePipe", BOOL, ctypes.POINTER(HANDLE), ctypes.POINTER(HANDLE), LPVOID, DWORD
)

# --------------------------------------------------------------------------- console events for ourselves

CONTROL_HANDLER = ctypes.WINFUNCTYPE(BOOL, DWORD)  # HandlerRoutine: the number of the event; whether it was handled
SetConsoleCtrlHandler: Callable[[object, bool], bool] = bind(_dll, "SetConsoleCtrlHandler", BOOL, CONTROL_HANDLER, BOOL)
