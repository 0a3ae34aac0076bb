"""Services for the tests: made, started, looked at and removed through the service manager."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import itertools
import os
import subprocess
from ctypes import wintypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import Lab, Target, open_handle

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4
_ALL_ACCESS = 0xF01FF
_numbers = itertools.count(1)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _Status(ctypes.Structure):
    """SERVICE_STATUS_PROCESS."""

    _fields_ = (
        ("type", wintypes.DWORD),
        ("state", wintypes.DWORD),
        ("accepted", wintypes.DWORD),
        ("exit_code", wintypes.DWORD),
        ("specific_exit_code", wintypes.DWORD),
        ("checkpoint", wintypes.DWORD),
        ("wait_hint", wintypes.DWORD),
        ("pid", wintypes.DWORD),
        ("flags", wintypes.DWORD),
    )


_open_manager = _advapi32.OpenSCManagerW
_open_manager.restype = wintypes.HANDLE
_open_manager.argtypes = (wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)
_create_service = _advapi32.CreateServiceW
_create_service.restype = wintypes.HANDLE
_create_service.argtypes = (
    wintypes.HANDLE,
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
    *[wintypes.DWORD] * 4,
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
    ctypes.POINTER(wintypes.DWORD),
    ctypes.c_void_p,  # a list of names, each with its zero, and one more zero
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
)
_start_service = _advapi32.StartServiceW
_start_service.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p)
_query_status = _advapi32.QueryServiceStatusEx
_query_status.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.POINTER(_Status),
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
)
_delete_service = _advapi32.DeleteService
_delete_service.argtypes = (wintypes.HANDLE,)
_close_service = _advapi32.CloseServiceHandle
_close_service.argtypes = (wintypes.HANDLE,)


@dataclass
class Service:
    """A service that runs `etservice`."""

    name: str
    process: Target
    handle: int

    @property
    def state(self) -> int:
        """STOPPED, START_PENDING, STOP_PENDING or RUNNING, as the service manager says."""
        return int(_status(self.handle).state)

    @property
    def pid(self) -> int:
        """The pid that the service manager knows; 0 if it is stopped."""
        return int(_status(self.handle).pid)


class Services:
    """Makes services in a laboratory; at the end of the block they are ended and removed."""

    def __init__(self, lab: Lab) -> None:
        """Connect to the service manager; a test without the right to make services is skipped."""
        self.lab = lab
        self.made: list[Service] = []
        self._handles: list[int] = []
        self.manager = _open_manager(None, None, 0x3)  # SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE
        if not self.manager:
            pytest.skip(f"no right to make services: {ctypes.WinError(ctypes.get_last_error())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.lab.close()  # first: a service that is deleted while it runs stays until it has stopped
        for handle in self._handles:
            _delete_service(handle)
            _close_service(handle)
        _close_service(self.manager)

    def start(
        self, mode: str, number: int = 0, *, depends_on: Service | None = None, program: str = "etservice"
    ) -> Service:
        """Make a service and start it.

        Args:
            mode: See targets/service.c.
            number: See there.
            depends_on: A service that it needs.
            program: What runs it; see `Lab.start`.
        """
        name = f"endtask-test-{os.getpid()}-{next(_numbers)}"
        words, event = self.lab.words(program, mode, number, name, space="Global")
        needed = ctypes.create_unicode_buffer(f"{depends_on.name}\0") if depends_on else None
        line = subprocess.list2cmdline(words)
        # SERVICE_WIN32_OWN_PROCESS, SERVICE_DEMAND_START, SERVICE_ERROR_NORMAL
        account = None, None, needed, None, None
        handle = _create_service(self.manager, name, name, _ALL_ACCESS, 0x10, 3, 1, line, *account)
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        self._handles.append(handle)
        if not _start_service(handle, 0, None):
            raise ctypes.WinError(ctypes.get_last_error())
        service = Service(name, self._process(handle, words, event), handle)
        self.made.append(service)
        return service

    def _process(self, service: int, words: list[str], event: int) -> Target:
        """Return the process of a service that was started just now, ready."""
        pid = _status(service).pid
        handle = open_handle(pid, 0x101001)  # SYNCHRONIZE, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE
        target = Target(pid, handle, self.lab.log_of(words), event, owned=[event, handle])
        self.lab.started.append(target)
        target.wait_for("ready")
        assert _status(service).pid == pid
        return target


def _status(service: int) -> _Status:
    """Return what the service manager says of a service."""
    status, needed = _Status(), wintypes.DWORD()
    if not _query_status(service, 0, ctypes.byref(status), ctypes.sizeof(status), ctypes.byref(needed)):
        raise ctypes.WinError(ctypes.get_last_error())
    return status
