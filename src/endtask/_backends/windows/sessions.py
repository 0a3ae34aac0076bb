"""The names of sessions, and the processes that a session or all of Windows cannot do without."""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

from endtask._backends.windows import images, memory
from endtask._backends.windows.handles import Handle, open_process
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import DWORD
from endtask.errors import OsCallError

_SERVICES = "Services"  # what tasklist calls session 0, to which nobody logs on since Windows Vista
_CONSOLE = "Console"


def session_name(session: int) -> str:
    """Return the name of a session: `Services`, `Console`, `RDP-Tcp#0`; empty if it has none (disconnected) or is unknown."""
    if session == 0:
        return _SERVICES
    from endtask._backends.windows.winapi import wtsapi32

    text, size = ctypes.c_void_p(), DWORD()
    what = wtsapi32.WTS_WIN_STATION_NAME
    if wtsapi32.WTSQuerySessionInformationW(
        wtsapi32.WTS_CURRENT_SERVER_HANDLE, session, what, ctypes.byref(text), ctypes.byref(size)
    ):
        try:
            return ctypes.wstring_at(text.value) if text.value else ""
        finally:
            wtsapi32.WTSFreeMemory(text.value or 0)
    # Remote Desktop Services do not run, or this is Wine, which tells no names: the session at the screen is known all the same.
    return _CONSOLE if session == kernel32.WTSGetActiveConsoleSessionId() else ""


def is_critical(handle: int) -> bool | None:
    """Return whether Windows stops when an opened process ends, None if the system does not tell."""
    if kernel32.IsProcessCritical is not None:
        flag = ctypes.c_long()
        if kernel32.IsProcessCritical(handle, ctypes.byref(flag)):
            return bool(flag.value)
    number = ctypes.c_ulong()
    size = ctypes.sizeof(number)
    what = ntdll.PROCESS_BREAK_ON_TERMINATION
    if ntdll.NtQueryInformationProcess(handle, what, ctypes.byref(number), size, None):
        return None
    return bool(number.value)


# Programs of Wine that stand for parts of Windows: without them no program of the prefix runs on (Wine: programs/).
_WINES_OWN = frozenset(
    (
        "services.exe",
        "winedevice.exe",
        "plugplay.exe",
        "svchost.exe",
        "rpcss.exe",
        "wineboot.exe",
        "winemenubuilder.exe",
    )
)
_DESKTOP = "/desktop"  # Wine starts `explorer.exe /desktop` below the first program that makes a window


def untouchable(pid: int) -> str:
    """Return why a process must never be stopped, and is in nobody's tree; empty for all others and where it cannot be told."""
    try:
        with Handle(open_process(pid, kernel32.PROCESS_QUERY_LIMITED_INFORMATION)) as handle:
            if kernel32.GetProcessId(handle) != pid:
                return ""
            if is_critical(handle):
                return "Windows stops when it ends (critical process)"
            return _systems_helper(pid, handle)
    except OsCallError:
        return ""  # ignored: gone, or so well protected that nobody can stop it


def _systems_helper(pid: int, handle: int) -> str:
    """Return what a program of the system does for other processes, empty if it is an ordinary one; judged by its path, not by its name."""
    folder = os.environ.get("SystemRoot", "C:\\windows").lower()  # noqa: SIM112 - as Windows spells it
    path = images.path_of(handle).lower()
    if not path.startswith(f"{folder}\\system32\\"):
        return ""
    name = path.rpartition("\\")[2]
    if name == "conhost.exe":
        return "it is the console of other processes and ends with the last of them"
    if ntdll.wine_get_version is None:
        return ""
    if name in _WINES_OWN:
        return "it stands for a part of Windows in Wine; `wineserver -k` ends all of a prefix"
    if name == "explorer.exe" and _DESKTOP in (memory.command_line_of(pid) or "").lower():
        return "it is the desktop of Wine; `wineserver -k` ends all of a prefix"
    return ""
