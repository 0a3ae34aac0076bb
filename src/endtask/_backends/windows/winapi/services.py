"""Prototypes of the service control manager, which advapi32.dll exports.

A file of its own beside `advapi32.py`: that one is about tokens and security, and needed far more often.
"""

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
    bind,
    library,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("advapi32")

# "Service Security and Access Rights"
SC_MANAGER_CONNECT = 0x0001
SC_MANAGER_ENUMERATE_SERVICE = 0x0004
SERVICE_QUERY_CONFIG = 0x0001
SERVICE_QUERY_STATUS = 0x0004
SERVICE_ENUMERATE_DEPENDENTS = 0x0008
SERVICE_STOP = 0x0020

SC_ENUM_PROCESS_INFO = 0
SC_STATUS_PROCESS_INFO = 0
SERVICE_WIN32 = 0x00000030  # not the drivers
SERVICE_ACTIVE = 0x00000001  # everything that is not stopped
SERVICE_CONTROL_STOP = 0x00000001
SERVICE_ACCEPT_STOP = 0x00000001
SERVICE_RUNS_IN_SYSTEM_PROCESS = 0x00000001
SERVICE_CONFIG_FAILURE_ACTIONS = 2
SERVICE_CONFIG_FAILURE_ACTIONS_FLAG = 4

# SERVICE_STATUS, dwCurrentState
SERVICE_STOPPED = 1
SERVICE_START_PENDING = 2
SERVICE_STOP_PENDING = 3
SERVICE_RUNNING = 4
SERVICE_CONTINUE_PENDING = 5
SERVICE_PAUSE_PENDING = 6
SERVICE_PAUSED = 7

# SC_ACTION, Type
SC_ACTION_RESTART = 1
SC_ACTION_REBOOT = 2
SC_ACTION_RUN_COMMAND = 3


class ServiceStatus(Structure):
    """SERVICE_STATUS."""

    _fields_ = (
        ("kind", DWORD),
        ("state", DWORD),
        ("accepts", DWORD),
        ("exit_code", DWORD),
        ("own_exit_code", DWORD),
        ("checkpoint", DWORD),
        ("wait_hint_ms", DWORD),
    )
    state: int
    accepts: int
    checkpoint: int
    wait_hint_ms: int


class ServiceStatusProcess(Structure):
    """SERVICE_STATUS_PROCESS."""

    _fields_ = (*ServiceStatus._fields_, ("pid", DWORD), ("flags", DWORD))
    state: int
    accepts: int
    checkpoint: int
    wait_hint_ms: int
    pid: int
    flags: int


class EnumeratedService(Structure):
    """ENUM_SERVICE_STATUS_PROCESS."""

    _fields_ = (("name", LPCWSTR), ("display", LPCWSTR), ("status", ServiceStatusProcess))
    name: str
    display: str
    status: ServiceStatusProcess


class DependentService(Structure):
    """ENUM_SERVICE_STATUS."""

    _fields_ = (("name", LPCWSTR), ("display", LPCWSTR), ("status", ServiceStatus))
    name: str
    status: ServiceStatus


class ServiceConfig(Structure):
    """QUERY_SERVICE_CONFIG."""

    _fields_ = (
        ("kind", DWORD),
        ("start", DWORD),
        ("error_control", DWORD),
        ("path", LPCWSTR),
        ("load_order_group", LPCWSTR),
        ("tag", DWORD),
        ("dependencies", LPVOID),  # a list of strings, each ended by a null character
        ("account", LPCWSTR),
        ("display", LPCWSTR),
    )
    path: str | None


class Action(Structure):
    """SC_ACTION."""

    _fields_ = (("kind", DWORD), ("delay_ms", DWORD))
    kind: int
    delay_ms: int


class FailureActions(Structure):
    """SERVICE_FAILURE_ACTIONS."""

    _fields_ = (
        ("reset_s", DWORD),
        ("reboot_message", LPCWSTR),
        ("command", LPCWSTR),
        ("count", DWORD),
        ("actions", ctypes.POINTER(Action)),
    )
    count: int
    actions: ctypes._Pointer[Action]


OpenSCManagerW: Callable[[str | None, str | None, int], int | None] = bind(
    _dll, "OpenSCManagerW", HANDLE, LPCWSTR, LPCWSTR, DWORD
)
OpenServiceW: Callable[[int, str, int], int | None] = bind(_dll, "OpenServiceW", HANDLE, HANDLE, LPCWSTR, DWORD)
CloseServiceHandle: Callable[[int], bool] = bind(_dll, "CloseServiceHandle", BOOL, HANDLE)
EnumServicesStatusExW: Callable[[int, int, int, int, ByRef, int, ByRef, ByRef, ByRef, str | None], bool] = bind(
    _dll,
    "EnumServicesStatusExW",
    BOOL,
    HANDLE,
    ctypes.c_int,
    DWORD,
    DWORD,
    LPVOID,
    DWORD,
    ctypes.POINTER(DWORD),
    ctypes.POINTER(DWORD),
    ctypes.POINTER(DWORD),
    LPCWSTR,
)
EnumDependentServicesW: Callable[[int, int, ByRef, int, ByRef, ByRef], bool] = bind(
    _dll,
    "EnumDependentServicesW",
    BOOL,
    HANDLE,
    DWORD,
    LPVOID,
    DWORD,
    ctypes.POINTER(DWORD),
    ctypes.POINTER(DWORD),
)
QueryServiceStatusEx: Callable[[int, int, ByRef, int, ByRef], bool] = bind(
    _dll, "QueryServiceStatusEx", BOOL, HANDLE, ctypes.c_int, LPVOID, DWORD, ctypes.POINTER(DWORD)
)
QueryServiceConfigW: Callable[[int, ByRef, int, ByRef], bool] = bind(
    _dll, "QueryServiceConfigW", BOOL, HANDLE, LPVOID, DWORD, ctypes.POINTER(DWORD)
)
QueryServiceConfig2W: Callable[[int, int, ByRef, int, ByRef], bool] = bind(
    _dll, "QueryServiceConfig2W", BOOL, HANDLE, DWORD, LPVOID, DWORD, ctypes.POINTER(DWORD)
)
ControlService: Callable[[int, int, ByRef], bool] = bind(_dll, "ControlService", BOOL, HANDLE, DWORD, LPVOID)
