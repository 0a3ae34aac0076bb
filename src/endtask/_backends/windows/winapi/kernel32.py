"""Prototypes of kernel32.dll.

The process status functions are here under the names that kernel32 gives them (`K32...`): psapi.dll only passes them on since Windows 7.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import (
    BOOL,
    BOOLEAN,
    DWORD,
    HANDLE,
    LPCSTR,
    LPCWSTR,
    LPVOID,
    SIZE_T,
    UINT,
    ULONG,
    ULONGLONG,
    WORD,
    bind,
    bind_if_there,
    library,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("kernel32")

# --------------------------------------------------------------------------- processes

# "Process Security and Access Rights"
PROCESS_TERMINATE = 0x0001
PROCESS_CREATE_THREAD = 0x0002
PROCESS_VM_OPERATION = 0x0008
PROCESS_VM_READ = 0x0010
PROCESS_VM_WRITE = 0x0020
PROCESS_DUP_HANDLE = 0x0040
PROCESS_SET_QUOTA = 0x0100
PROCESS_QUERY_INFORMATION = 0x0400
PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
SYNCHRONIZE = 0x00100000
THREAD_QUERY_LIMITED_INFORMATION = 0x0800
STILL_ACTIVE = 259

OpenProcess: Callable[[int, bool, int], int | None] = bind(_dll, "OpenProcess", HANDLE, DWORD, BOOL, DWORD)
OpenThread: Callable[[int, bool, int], int | None] = bind(_dll, "OpenThread", HANDLE, DWORD, BOOL, DWORD)
GetProcessIdOfThread: Callable[[int], int] = bind(_dll, "GetProcessIdOfThread", DWORD, HANDLE)
CloseHandle: Callable[[int], bool] = bind(_dll, "CloseHandle", BOOL, HANDLE)
GetCurrentProcess: Callable[[], int] = bind(_dll, "GetCurrentProcess", HANDLE)
GetProcessId: Callable[[int], int] = bind(_dll, "GetProcessId", DWORD, HANDLE)
GetProcessTimes: Callable[[int, ByRef, ByRef, ByRef, ByRef], bool] = bind(
    _dll, "GetProcessTimes", BOOL, HANDLE, *(ctypes.POINTER(ULONGLONG),) * 4
)
GetExitCodeProcess: Callable[[int, ByRef], bool] = bind(_dll, "GetExitCodeProcess", BOOL, HANDLE, ctypes.POINTER(DWORD))
GetExitCodeThread: Callable[[int, ByRef], bool] = bind(_dll, "GetExitCodeThread", BOOL, HANDLE, ctypes.POINTER(DWORD))
GetProcessHandleCount: Callable[[int, ByRef], bool] = bind(
    _dll, "GetProcessHandleCount", BOOL, HANDLE, ctypes.POINTER(DWORD)
)
TerminateProcess: Callable[[int, int], bool] = bind(_dll, "TerminateProcess", BOOL, HANDLE, UINT)
QueryFullProcessImageNameW: Callable[[int, int, ByRef, ByRef], bool] = bind(
    _dll, "QueryFullProcessImageNameW", BOOL, HANDLE, DWORD, LPVOID, ctypes.POINTER(DWORD)
)
ProcessIdToSessionId: Callable[[int, ByRef], bool] = bind(
    _dll, "ProcessIdToSessionId", BOOL, DWORD, ctypes.POINTER(DWORD)
)
WTSGetActiveConsoleSessionId: Callable[[], int] = bind(_dll, "WTSGetActiveConsoleSessionId", DWORD)
IsWow64Process: Callable[[int, ByRef], bool] = bind(_dll, "IsWow64Process", BOOL, HANDLE, ctypes.POINTER(BOOL))
# COMPAT: until Windows 10 1709 is the floor.
IsWow64Process2: Callable[[int, ByRef, ByRef], bool] | None = bind_if_there(
    _dll, "IsWow64Process2", BOOL, HANDLE, ctypes.POINTER(WORD), ctypes.POINTER(WORD)
)
# Windows 8.1
IsProcessCritical: Callable[[int, ByRef], bool] | None = bind_if_there(
    _dll, "IsProcessCritical", BOOL, HANDLE, ctypes.POINTER(BOOL)
)
# Windows 8
GetProcessInformation: Callable[[int, int, ByRef, int], bool] | None = bind_if_there(
    _dll, "GetProcessInformation", BOOL, HANDLE, ctypes.c_int, LPVOID, DWORD
)
# Windows 8; returns the error itself
GetPackageFullName: Callable[[int, ByRef, ByRef], int] | None = bind_if_there(
    _dll, "GetPackageFullName", DWORD, HANDLE, ctypes.POINTER(DWORD), LPVOID
)
CreateRemoteThread: Callable[[int, ByRef, int, int, int, int, ByRef], int | None] = bind(
    _dll, "CreateRemoteThread", HANDLE, HANDLE, LPVOID, SIZE_T, LPVOID, LPVOID, DWORD, LPVOID
)
ReadProcessMemory: Callable[[int, int, ByRef, int, ByRef], bool] = bind(
    _dll, "ReadProcessMemory", BOOL, HANDLE, LPVOID, LPVOID, SIZE_T, ctypes.POINTER(SIZE_T)
)

# --------------------------------------------------------------------------- waiting

WAIT_OBJECT_0 = 0
WAIT_TIMEOUT = 258
INFINITE = 0xFFFFFFFF
WT_EXECUTEONLYONCE = 0x00000008
INVALID_HANDLE_VALUE = ctypes.c_void_p(-1).value or 0

# WaitOrTimerCallback: the context, and whether the wait timed out.
WAIT_CALLBACK = ctypes.WINFUNCTYPE(None, ctypes.c_size_t, BOOLEAN)

WaitForSingleObject: Callable[[int, int], int] = bind(_dll, "WaitForSingleObject", DWORD, HANDLE, DWORD)
RegisterWaitForSingleObject: Callable[[ByRef, int, object, int, int, int], bool] = bind(
    _dll,
    "RegisterWaitForSingleObject",
    BOOL,
    ctypes.POINTER(HANDLE),
    HANDLE,
    WAIT_CALLBACK,
    ctypes.c_size_t,
    ULONG,
    ULONG,
)
UnregisterWaitEx: Callable[[int, int], bool] = bind(_dll, "UnregisterWaitEx", BOOL, HANDLE, HANDLE)

EVENT_MODIFY_STATE = 0x0002
CreateEventW: Callable[[ByRef, bool, bool, str | None], int | None] = bind(
    _dll, "CreateEventW", HANDLE, LPVOID, BOOL, BOOL, LPCWSTR
)
OpenEventW: Callable[[int, bool, str], int | None] = bind(_dll, "OpenEventW", HANDLE, DWORD, BOOL, LPCWSTR)
SetEvent: Callable[[int], bool] = bind(_dll, "SetEvent", BOOL, HANDLE)
ResetEvent: Callable[[int], bool] = bind(_dll, "ResetEvent", BOOL, HANDLE)

# --------------------------------------------------------------------------- job objects

JOB_OBJECT_BASIC_ACCOUNTING = 1  # JobObjectBasicAccountingInformation
JOB_OBJECT_BASIC_PROCESS_ID_LIST = 3  # JobObjectBasicProcessIdList


class JobAccounting(Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION."""

    _fields_ = (
        ("user_time", ULONGLONG),
        ("kernel_time", ULONGLONG),
        ("period_user_time", ULONGLONG),
        ("period_kernel_time", ULONGLONG),
        ("page_faults", DWORD),
        ("total", DWORD),
        ("active", DWORD),
        ("terminated", DWORD),
    )
    total: int
    active: int


CreateJobObjectW: Callable[[ByRef, str | None], int | None] = bind(_dll, "CreateJobObjectW", HANDLE, LPVOID, LPCWSTR)
AssignProcessToJobObject: Callable[[int, int], bool] = bind(_dll, "AssignProcessToJobObject", BOOL, HANDLE, HANDLE)
TerminateJobObject: Callable[[int, int], bool] = bind(_dll, "TerminateJobObject", BOOL, HANDLE, UINT)
IsProcessInJob: Callable[[int, int | None, ByRef], bool] = bind(
    _dll, "IsProcessInJob", BOOL, HANDLE, HANDLE, ctypes.POINTER(BOOL)
)
QueryInformationJobObject: Callable[[int | None, int, ByRef, int, ByRef], bool] = bind(
    _dll, "QueryInformationJobObject", BOOL, HANDLE, ctypes.c_int, LPVOID, DWORD, ctypes.POINTER(DWORD)
)
SetInformationJobObject: Callable[[int, int, ByRef, int], bool] = bind(
    _dll, "SetInformationJobObject", BOOL, HANDLE, ctypes.c_int, LPVOID, DWORD
)

# --------------------------------------------------------------------------- files

FILE_READ_ATTRIBUTES = 0x0080
FILE_SHARE_ALL = 0x0007  # read, write, delete
OPEN_EXISTING = 3
FILE_FLAG_BACKUP_SEMANTICS = 0x02000000  # also for folders
FILE_TYPE_DISK = 1
DUPLICATE_SAME_ACCESS = 0x0002
SECURITY_SQOS_PRESENT = 0x00100000
SECURITY_IDENTIFICATION = 0x00010000


class FileInformation(Structure):
    """BY_HANDLE_FILE_INFORMATION; the times as pairs of DWORDs, because they are not aligned to eight bytes."""

    _fields_ = (
        ("attributes", DWORD),
        ("times", DWORD * 6),
        ("volume", DWORD),
        ("size_high", DWORD),
        ("size_low", DWORD),
        ("links", DWORD),
        ("index_high", DWORD),
        ("index_low", DWORD),
    )
    volume: int
    index_high: int
    index_low: int


CreateFileW: Callable[[str, int, int, ByRef, int, int, int | None], int | None] = bind(
    _dll, "CreateFileW", HANDLE, LPCWSTR, DWORD, DWORD, LPVOID, DWORD, DWORD, HANDLE
)
GetFileType: Callable[[int], int] = bind(_dll, "GetFileType", DWORD, HANDLE)
GetFileInformationByHandle: Callable[[int, ByRef], bool] = bind(
    _dll, "GetFileInformationByHandle", BOOL, HANDLE, ctypes.POINTER(FileInformation)
)
DuplicateHandle: Callable[[int, int, int, ByRef, int, bool, int], bool] = bind(
    _dll, "DuplicateHandle", BOOL, HANDLE, HANDLE, HANDLE, ctypes.POINTER(HANDLE), DWORD, BOOL, DWORD
)

GetNamedPipeServerProcessId: Callable[[int, ByRef], bool] = bind(
    _dll, "GetNamedPipeServerProcessId", BOOL, HANDLE, ctypes.POINTER(DWORD)
)

# --------------------------------------------------------------------------- modules and memory

LIST_MODULES_ALL = 0x03


class MemoryCounters(Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("size", DWORD),
        ("page_faults", DWORD),
        ("peak_working_set", SIZE_T),
        ("working_set", SIZE_T),
        ("quota_peak_paged_pool", SIZE_T),
        ("quota_paged_pool", SIZE_T),
        ("quota_peak_non_paged_pool", SIZE_T),
        ("quota_non_paged_pool", SIZE_T),
        ("pagefile", SIZE_T),
        ("peak_pagefile", SIZE_T),
    )
    working_set: int


GetModuleHandleW: Callable[[str | None], int | None] = bind(_dll, "GetModuleHandleW", HANDLE, LPCWSTR)
GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT = 0x2
GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS = 0x4
GetModuleHandleExW: Callable[[int, int, ByRef], bool] = bind(
    _dll, "GetModuleHandleExW", BOOL, DWORD, LPVOID, ctypes.POINTER(HANDLE)
)
GetProcAddress: Callable[[int, bytes], int | None] = bind(_dll, "GetProcAddress", LPVOID, HANDLE, LPCSTR)
EnumProcessModulesEx: Callable[[int, ByRef, int, ByRef, int], bool] = bind(
    _dll, "K32EnumProcessModulesEx", BOOL, HANDLE, LPVOID, DWORD, ctypes.POINTER(DWORD), DWORD
)
GetModuleFileNameExW: Callable[[int, int | None, ByRef, int], int] = bind(
    _dll, "K32GetModuleFileNameExW", DWORD, HANDLE, HANDLE, LPVOID, DWORD
)
GetProcessMemoryInfo: Callable[[int, ByRef, int], bool] = bind(
    _dll, "K32GetProcessMemoryInfo", BOOL, HANDLE, LPVOID, DWORD
)

# --------------------------------------------------------------------------- consoles

CTRL_C_EVENT = 0
CTRL_BREAK_EVENT = 1
CTRL_CLOSE_EVENT = 2
CTRL_LOGOFF_EVENT = 5
CTRL_SHUTDOWN_EVENT = 6

ENABLE_VIRTUAL_TERMINAL_PROCESSING = 0x0004

GetConsoleMode: Callable[[int, ByRef], bool] = bind(_dll, "GetConsoleMode", BOOL, HANDLE, ctypes.POINTER(DWORD))
SetConsoleMode: Callable[[int, int], bool] = bind(_dll, "SetConsoleMode", BOOL, HANDLE, DWORD)
GetConsoleProcessList: Callable[[ByRef, int], int] = bind(_dll, "GetConsoleProcessList", DWORD, LPVOID, DWORD)
GenerateConsoleCtrlEvent: Callable[[int, int], bool] = bind(_dll, "GenerateConsoleCtrlEvent", BOOL, DWORD, DWORD)
GetConsoleWindow: Callable[[], int | None] = bind(_dll, "GetConsoleWindow", HANDLE)

# --------------------------------------------------------------------------- time

GetSystemTimeAsFileTime: Callable[[ByRef], None] = bind(
    _dll, "GetSystemTimeAsFileTime", None, ctypes.POINTER(ULONGLONG)
)
LocalFree: Callable[[int], int | None] = bind(_dll, "LocalFree", HANDLE, HANDLE)
