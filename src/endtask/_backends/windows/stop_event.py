r"""The named stop event: the one request that hits exactly one process, is heard in a millisecond, and can be looked for before.

Decision: a named event object, because it needs no window, no console, no thread of ours in the process, and no port.
nginx, Apache httpd, dockerd and PostgreSQL each invented their own; this is one name for everybody.

The protocol, of which this file is the sender's half:

1. A process that listens creates, as early as it can, an event object `Local\endtask.stop.PID.CREATED`.
   PID is its process id in decimal digits without leading zeros; CREATED its creation time, the FILETIME that GetProcessTimes gives,
   as sixteen hexadecimal digits in lower case, with leading zeros. Names of kernel objects are case sensitive.
   The creation time makes the name unique: a later process with the same pid has another one.
   A service, and whoever wants to be reached from another session, creates `Global\endtask.stop.PID.CREATED` instead or as well;
   creating *events* there needs no privilege ("Kernel object namespaces" page).
2. The event is manual-reset and not set. It stays set once it was set: it says "you have been asked", for the rest of the process's life.
   Security: SYSTEM and Administrators, and the owner with SYNCHRONIZE | EVENT_MODIFY_STATE.
   If CreateEvent finds an object of that name (ERROR_ALREADY_EXISTS 183, or ERROR_INVALID_HANDLE 6 for another kind of object),
   somebody has taken it: then the process does not listen to it.
3. Who asks opens it with EVENT_MODIFY_STATE (and SYNCHRONIZE, to see whether it is set already), sets it, and closes it at once:
   the object lives as long as anybody has it open, and a leaked handle would look like a listener that is still there.
   PulseEvent is never used (its page: unreliable).
4. A process that listens may create a second event of the same kind, name and security with `.ack` behind it, and sets it when it has heard the request.
   It should do so within half a second. The sender opens it with SYNCHRONIZE and never sets it.
   While it is there and not set, the process has not heard; of a process without it nobody can tell a deaf one from one that is cleaning up (`_ladder.py`).
5. No data is carried. A deadline or a reason needs another channel.

Rejected: the pid alone (a stranger can inherit it), an auto-reset event (the first of several waiters takes the request away from the others),
a section or a pipe (more to get wrong on both sides; they can come beside it).

Whoever runs in the same session can create an event of another process's name: then a request goes nowhere, and the plan goes on to its next step.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles
from endtask._backends.windows.handles import Handle
from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import last_error
from endtask.errors import AccessDeniedError, OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.windows.handles import WindowsPin
    from endtask.model import PidRef, Request

_SPACES = ("Local\\", "Global\\")
_ACK = ".ack"
_NONE = 2  # ERROR_FILE_NOT_FOUND
_FOREIGN = errors.INVALID_HANDLE  # the name belongs to an object of another kind


def name(ref: PidRef) -> str:
    """Return the name of the stop event of a process, without the name of a namespace (pure).

    Args:
        ref: With its token: the creation time as a FILETIME in decimal digits.
    """
    return f"endtask.stop.{ref.pid}.{int(ref.token):016x}"


def present(ref: PidRef) -> bool | None:
    """Return whether a process listens to its stop event, None if that could not be asked (denied)."""
    return _is_there(name(ref))


def can_acknowledge(ref: PidRef) -> bool | None:
    """Return whether a process that listens has the event by which it says that it heard; None if that could not be asked (denied)."""
    return _is_there(name(ref) + _ACK)


def _is_there(event: str) -> bool | None:
    denied = False
    for space in _SPACES:
        opened = _open(space + event, kernel32.SYNCHRONIZE)
        if isinstance(opened, Handle):
            opened.close()
            return True
        denied |= opened == errors.ACCESS_DENIED
    return None if denied else False


def acknowledged(ref: PidRef) -> bool | None:
    """Return whether a process has said that it heard the request; None if it has no such event, or we may not look at it."""
    for space in _SPACES:
        opened = _open(space + name(ref) + _ACK, kernel32.SYNCHRONIZE)
        if isinstance(opened, Handle):
            with opened as handle:
                return handles.signalled(handle)
    return None


def _open(full_name: str, access: int) -> Handle | int:
    """Return a handle on an event, or GetLastError."""
    opened = kernel32.OpenEventW(access, False, full_name)
    return Handle(opened) if opened else last_error()


# --------------------------------------------------------------------------- asking


def send_event(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Set the stop event of a process."""
    try:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        errors_met = []
        for space in _SPACES:
            full_name = space + name(pin.ref)
            opened = _open(full_name, kernel32.EVENT_MODIFY_STATE)
            if isinstance(opened, Handle):
                with opened as handle:
                    return Receipt(request.name, "delivered", at_s, _set(handle, full_name, pin.ref))
            errors_met.append(opened)
    except AccessDeniedError as exc:
        return Receipt(request.name, "denied", at_s, handles.refusal(exc))
    except OsCallError as exc:
        return Receipt(request.name, "failed", at_s, handles.refusal(exc))
    return _not_opened(pin, request, at_s, errors_met)


def _set(handle: int, full_name: str, ref: PidRef) -> str:
    """Set the event and return in words what came of it.

    Raises:
        OsCallError: It cannot be set.
    """
    before = _is_set(full_name)
    if not kernel32.SetEvent(handle):
        raise errors.failed("SetEvent", last_error(), ref.pid)
    text = f"{full_name} was set already: it has been asked before" if before else f"{full_name} set"
    return text + (", and it says that it has heard" if acknowledged(ref) else "")


def _is_set(full_name: str) -> bool:
    opened = _open(full_name, kernel32.SYNCHRONIZE)
    if not isinstance(opened, Handle):
        return False  # ignored: we may set it and not look at it
    with opened as handle:
        return handles.signalled(handle)


def _not_opened(pin: WindowsPin, request: Request, at_s: float, errors_met: list[int]) -> Receipt:
    if errors.ACCESS_DENIED in errors_met:
        return Receipt(request.name, "denied", at_s, "OpenEvent: it listens, and not to us: access is denied (error 5)")
    if _FOREIGN in errors_met:
        return Receipt(
            request.name, "impossible", at_s, f"OpenEvent: {name(pin.ref)} is the name of something that is no event"
        )
    if set(errors_met) == {_NONE}:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        return Receipt(request.name, "impossible", at_s, "it does not listen: there is no event of its name")
    return Receipt(request.name, "failed", at_s, f"OpenEvent: {errors.text_of(errors_met[0])}")
