"""Prototypes of ntdll.dll, and the structures that its questions about the system are answered with.

Microsoft documents these functions and the head of the structures (winternl.h, "NtQuerySystemInformation function", "NtQueryInformationProcess function");
the members beyond that have not moved since Windows Vista, and Wine fills the same ones (include/winternl.h of Wine).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import (
    DWORD,
    HANDLE,
    LONG,
    LPVOID,
    NTSTATUS,
    SIZE_T,
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

_dll = library("ntdll")

# "NTSTATUS Values"
STATUS_INFO_LENGTH_MISMATCH = 0xC0000004
STATUS_PROCESS_IS_TERMINATING = 0xC000010A

# SYSTEM_INFORMATION_CLASS
SYSTEM_PROCESS_INFORMATION = 5
SYSTEM_EXTENDED_HANDLE_INFORMATION = 64

# FILE_INFORMATION_CLASS
FILE_PROCESS_IDS_USING_FILE_INFORMATION = 47

# PROCESSINFOCLASS, THREADINFOCLASS
PROCESS_BASIC_INFORMATION = 0
PROCESS_BREAK_ON_TERMINATION = 29
PROCESS_COMMAND_LINE_INFORMATION = 60
PROCESS_PROTECTION_INFORMATION = 61
THREAD_SUSPEND_COUNT = 35

THREAD_STATE_WAITING = 5  # KTHREAD_STATE
WAIT_REASON_SUSPENDED = 5  # KWAIT_REASON


class UnicodeString(Structure):
    """UNICODE_STRING; the length counts bytes."""

    _fields_ = (("length", WORD), ("room", WORD), ("at", SIZE_T))
    length: int
    at: int


class SystemThread(Structure):
    """SYSTEM_THREAD_INFORMATION."""

    _fields_ = (
        ("kernel_time", ULONGLONG),
        ("user_time", ULONGLONG),
        ("created", ULONGLONG),
        ("wait_time", ULONG),
        ("start_address", SIZE_T),
        ("process", SIZE_T),
        ("thread", SIZE_T),
        ("priority", LONG),
        ("base_priority", LONG),
        ("context_switches", ULONG),
        ("state", ULONG),
        ("wait_reason", ULONG),
    )
    thread: int
    state: int
    wait_reason: int


class SystemProcess(Structure):
    """SYSTEM_PROCESS_INFORMATION; its threads follow."""

    _fields_ = (
        ("next", ULONG),
        ("threads", ULONG),
        ("working_set_private", ULONGLONG),
        ("hard_faults", ULONG),
        ("threads_high", ULONG),
        ("cycles", ULONGLONG),
        ("created", ULONGLONG),
        ("user_time", ULONGLONG),
        ("kernel_time", ULONGLONG),
        ("name", UnicodeString),
        ("base_priority", LONG),
        ("pid", SIZE_T),
        ("ppid", SIZE_T),
        ("handles", ULONG),
        ("session", ULONG),
        ("unique_key", SIZE_T),
        ("peak_virtual", SIZE_T),
        ("virtual", SIZE_T),
        ("page_faults", ULONG),
        ("peak_working_set", SIZE_T),
        ("working_set", SIZE_T),
        ("quota_peak_paged_pool", SIZE_T),
        ("quota_paged_pool", SIZE_T),
        ("quota_peak_non_paged_pool", SIZE_T),
        ("quota_non_paged_pool", SIZE_T),
        ("pagefile", SIZE_T),
        ("peak_pagefile", SIZE_T),
        ("private_pages", SIZE_T),
        ("input_output", ULONGLONG * 6),
    )
    next: int
    threads: int
    created: int
    user_time: int
    kernel_time: int
    name: UnicodeString
    pid: int
    ppid: int
    session: int
    working_set: int


class SystemHandle(Structure):
    """SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX."""

    _fields_ = (
        ("object", SIZE_T),
        ("pid", SIZE_T),
        ("handle", SIZE_T),
        ("access", ULONG),
        ("backtrace", WORD),
        ("type", WORD),
        ("attributes", ULONG),
        ("reserved", ULONG),
    )
    pid: int
    handle: int
    type: int


class ProcessBasic(Structure):
    """PROCESS_BASIC_INFORMATION."""

    _fields_ = (
        ("status", LONG),
        ("peb", SIZE_T),
        ("affinity", SIZE_T),
        ("priority", LONG),
        ("pid", SIZE_T),
        ("ppid", SIZE_T),
    )
    peb: int


NtQuerySystemInformation: Callable[[int, ByRef, int, ByRef], int] = bind(
    _dll, "NtQuerySystemInformation", NTSTATUS, ctypes.c_int, LPVOID, ULONG, ctypes.POINTER(ULONG)
)
NtQueryInformationProcess: Callable[[int, int, ByRef, int, ByRef], int] = bind(
    _dll, "NtQueryInformationProcess", NTSTATUS, HANDLE, ctypes.c_int, LPVOID, ULONG, ctypes.POINTER(ULONG)
)
NtQueryInformationThread: Callable[[int, int, ByRef, int, ByRef], int] = bind(
    _dll, "NtQueryInformationThread", NTSTATUS, HANDLE, ctypes.c_int, LPVOID, ULONG, ctypes.POINTER(ULONG)
)
NtQueryInformationFile: Callable[[int, ByRef, ByRef, int, int], int] = bind(
    _dll, "NtQueryInformationFile", NTSTATUS, HANDLE, LPVOID, LPVOID, ULONG, ctypes.c_int
)
RtlNtStatusToDosError: Callable[[int], int] = bind(_dll, "RtlNtStatusToDosError", DWORD, NTSTATUS)
# Of the last call of this thread that became a GetLastError; finer than that.
RtlGetLastNtStatus: Callable[[], int] = bind(_dll, "RtlGetLastNtStatus", NTSTATUS)
wine_get_version: Callable[[], bytes] | None = bind_if_there(_dll, "wine_get_version", ctypes.c_char_p)
