r"""The named stop event: the receiver's half of the protocol of endtask.

The protocol: a process that listens creates a manual-reset event `Local\endtask.stop.PID.CREATED` (from other sessions: `Global\`),
CREATED being its creation time, the FILETIME of GetProcessTimes, as sixteen hexadecimal digits. Who asks, sets it.
It stays set: "you have been asked", for the rest of the process's life. `NAME.ack` is set by us when we have heard it.
SYSTEM and Administrators may do everything with them, the owner may wait for them and set them, nobody else anything.

A name that somebody else has taken already is not used: what he sets means nothing, and what we set would tell him.
"""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver._win_calls import Handle

# SDDL: protected; SYSTEM, Administrators: all; OWNER RIGHTS (whoever owns it, and no more than this): SYNCHRONIZE, EVENT_MODIFY_STATE
_SECURITY = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;0x00100002;;;OW)"
_SERVICES = 0


class StopEvent:
    """One name to be asked by.

    Attributes:
        name: Its full name.
        handle: What to wait on.
    """

    def __init__(self, name: str, handle: Handle, ack: Handle | None) -> None:
        self.name = name
        self.handle = handle
        self._ack = ack

    def acknowledge(self) -> None:
        """Say that the request was heard."""
        if self._ack is not None:
            calls.SetEvent(self._ack.value)

    def close(self) -> None:
        """Listen no more: the name is free again."""
        self.handle.close()
        if self._ack is not None:
            self._ack.close()

    def describe(self) -> str:
        """Return it in words."""
        return f"stop event: {self.name}" + ("" if self._ack is not None else "; the name of its answer is taken")


def open_events(*, everywhere: bool) -> tuple[list[StopEvent], list[str]]:
    """Create the events of this process; return them, and in words what could not be.

    Args:
        everywhere: Whether to be reached from other sessions too.
    """
    # In the session of services both names are one: `Local` is `Global` there ("Kernel object namespaces" page).
    service = calls.session_of(os.getpid()) == _SERVICES
    spaces = ("Global\\",) if service else ("Local\\", "Global\\") if everywhere else ("Local\\",)
    created = calls.creation_time(calls.GetCurrentProcess())
    events: list[StopEvent] = []
    faults: list[str] = []
    for space in spaces:
        name = f"{space}endtask.stop.{os.getpid()}.{created:016x}"
        ack = _create(name + ".ack")  # before the event: who finds that one, finds its answer too
        opened = _create(name)
        if isinstance(opened, Handle):
            events.append(StopEvent(name, opened, ack if isinstance(ack, Handle) else None))
            continue
        if isinstance(ack, Handle):
            ack.close()
        faults.append(f"stop event: {name} {_fault(opened)}")
    return events, faults


def _fault(error: int) -> str:
    if error in {calls.ALREADY_EXISTS, calls.INVALID_HANDLE, calls.ACCESS_DENIED}:
        return f"is not used: somebody else has that name (error {error})"
    return f"cannot be created (error {error})"


def _create(name: str) -> Handle | int:
    """Return a new event that is not set, or GetLastError."""
    descriptor = calls.HANDLE()
    if not calls.ToSecurityDescriptor(_SECURITY, calls.SDDL_REVISION_1, ctypes.byref(descriptor), None):
        return int(calls.last_error())
    try:
        size = ctypes.sizeof(calls.SecurityAttributes)
        attributes = calls.SecurityAttributes(size, descriptor, False)
        ctypes.set_last_error(0)
        opened = calls.CreateEvent(ctypes.byref(attributes), True, False, name)
        error = int(calls.last_error())
    finally:
        calls.LocalFree(descriptor)
    if not opened:
        return error
    handle = Handle(opened)
    if error == calls.ALREADY_EXISTS:
        handle.close()
        return error
    return handle
