"""Services: which of them live in a process, and asking them to stop through the service manager.

Decision: a service is stopped as a service, never as a process. The service manager knows how it wants to be told, what depends on it,
and takes its end for a crash otherwise, which may start it again.

A process may host several services (svchost.exe). Stopping the process means stopping all of them: all or none are asked.
What depends on a service is stopped before it, if the user agreed to that; the service manager refuses otherwise (error 1051, ControlService page).

Refused, with the reason: the services that Windows does not run without, and in Wine its own.

The process is waited for by its handle, like any other. `progress` reads how far a service has come (checkpoint, wait hint) for whoever wonders meanwhile.

Rejected: SERVICE_CONTROL_SHUTDOWN, which only the system may send; to end the process of a service that does not stop: that is another request.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles
from endtask._backends.windows.service_list import (
    STATES,
    active,
    by_pid,
    describe,
    hosted,
    open_manager,
    open_service,
    program_of,
    progress,
    status_of,
)
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi import services as api
from endtask._backends.windows.winapi._bind import last_error
from endtask.errors import AccessDeniedError, OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.service_list import Scm
    from endtask.model import ReceiptStatus, Request, Service

    Answer = tuple[ReceiptStatus, str]

__all__ = ["by_pid", "hosted", "progress", "send_stop"]

DEPENDENTS = "dependents"  # text of a SERVICE_STOP that may stop what depends on the service

# "System Error Codes", Service
_DEPENDENTS_RUN = 1051
_NOT_ACCEPTED = 1052
_NO_ANSWER = 1053
_NO_SUCH = 1060
_NOT_NOW = 1061
_NOT_RUNNING = 1062
_WORDS = {
    _DEPENDENTS_RUN: "other running services depend on it",
    _NOT_ACCEPTED: "it does not accept being stopped",
    _NO_ANSWER: "it did not answer the service manager in time",
    _NO_SUCH: "there is no such service any more",
    _NOT_NOW: "it cannot take a request at this moment: it is starting or stopping",
    _NOT_RUNNING: "it is not running",
    1115: "the system is shutting down",
}
# Without these Windows stops, restarts itself, or lets nobody log on. Most of them refuse SERVICE_CONTROL_STOP as well.
_VITAL = frozenset(
    (
        "brokerinfrastructure",
        "coremessagingregistrar",
        "dcomlaunch",
        "eventlog",
        "gpsvc",
        "keyiso",
        "lsm",
        "ntds",
        "plugplay",
        "power",
        "profsvc",
        "rpceptmapper",
        "rpcss",
        "samss",
        "schedule",
        "systemeventsbroker",
        "usermanager",
        "windefend",
    )
)
_ANSWER_S = 3.0  # for one control; the service manager itself waits 30 s for a handler that does not return (ControlService page)
_DEPENDENTS_S = 10.0  # for all dependents together
_LOOK_MS = 50


def send_stop(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Ask every service that a process hosts to stop.

    With the text `dependents` what depends on them is stopped before, which may take some seconds; the services themselves are not waited for.
    """
    try:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        with open_manager() as manager:
            status, detail = _stop_all(manager, pin, dependents=request.text == DEPENDENTS)
    except AccessDeniedError as exc:
        status, detail = "denied", f"{exc.call}: {errors.text_of(exc.code)}; services are stopped by administrators"
    except OsCallError as exc:
        status, detail = "failed", f"{exc.call}: {_text(exc.code)}"
    return Receipt(request.name, status, at_s, detail)


def _text(code: int) -> str:
    return f"{_WORDS[code]} (error {code})" if code in _WORDS else errors.text_of(code)


def _stop_all(manager: Scm, pin: WindowsPin, *, dependents: bool) -> Answer:
    # The pin is held, so a service with this pid lives in this process, and in no other that came later.
    found = [s for s in active(manager) if s.pid == pin.ref.pid]
    if not found:
        return "impossible", "it hosts no service"
    if any(s.flags & api.SERVICE_RUNS_IN_SYSTEM_PROCESS for s in found):
        return "impossible", "it is a process of the system that must always run (SERVICE_RUNS_IN_SYSTEM_PROCESS)"
    services = [describe(manager, s) for s in found]
    own = {s.name for s in services}
    for service in services:
        why_not = _why_not(manager, service, own, dependents=dependents)
        if why_not:
            alone = "" if len(services) == 1 else "; none of its services was asked"
            return "impossible", f"service {service.name}: {why_not}{alone}"
    # Each service lists its dependents in the order in which they have to be stopped; those of its own process are among them.
    before = list(dict.fromkeys(name for s in services for name in s.dependents))
    failure = _stop_before(manager, pin, before)
    if failure:
        return failure
    asked: list[str] = []
    for service in services:
        if service.name in before:
            continue
        status, detail = _stop_one(manager, service)
        if status != "delivered":
            rest = f"; {', '.join(asked)} asked before" if asked else ""
            return status, f"service {service.name}: {detail}{rest}"
        asked.append(service.name + (f" ({detail})" if detail else ""))
    after = f", after {', '.join(before)} had stopped" if before else ""
    return (
        "delivered",
        f"to service{'s' if len(asked) > 1 else ''} {', '.join(asked)} through the service manager{after}",
    )


def _why_not(manager: Scm, service: Service, own: set[str], *, dependents: bool) -> str:
    """Return why a service must not or cannot be asked, empty if it can.

    Args:
        manager: The service manager.
        service: The service.
        own: Names of all services of its process, which are to be stopped with it.
        dependents: Whether the user agreed to stop others before.
    """
    if _is_wines_own(manager, service.name):
        return "it is a part of Wine itself"
    if service.name.lower() in _VITAL:
        return "Windows does not run without it"
    if vital := next((n for n in service.dependents if n.lower() in _VITAL), ""):
        return f"{vital} depends on it, and Windows does not run without that"
    if service.state == STATES[api.SERVICE_STOP_PENDING]:
        return ""  # it accepts nothing more, because it is stopping already
    if not service.accepts_stop:
        return _WORDS[_NOT_ACCEPTED]
    others = [n for n in service.dependents if n not in own]
    if others and not dependents:
        return f"{', '.join(others)} depend{'s' if len(others) == 1 else ''} on it and would have to be stopped before"
    return ""


def _is_wines_own(manager: Scm, name: str) -> bool:
    """Return whether this is Wine and a service is one of its own: its program is one that Wine brought, in the system folder."""
    if ntdll.wine_get_version is None:
        return False
    try:
        with open_service(manager, name, api.SERVICE_QUERY_CONFIG) as service:
            path = program_of(service)
    except OsCallError:
        return False
    folder = os.path.join(os.environ.get("SYSTEMROOT", r"C:\windows"), "system32") + "\\"
    return path.strip('"').lower().startswith(folder.lower())


def _stop_before(manager: Scm, pin: WindowsPin, names: Sequence[str]) -> Answer | None:
    """Stop what depends on the services of a process, one after the other; None when all have stopped."""
    deadline = time.monotonic() + _DEPENDENTS_S
    done: list[str] = []
    for name in names:
        before = f"; {', '.join(done)} had stopped before" if done else ""
        code = _control_stop(name)
        if code not in (None, 0, _NOT_RUNNING, _NOT_NOW):
            status: ReceiptStatus = "denied" if code == errors.ACCESS_DENIED else "failed"
            return status, f"dependent service {name}: {_text(code)}{before}"
        with open_service(manager, name, api.SERVICE_QUERY_STATUS) as service:
            while (now := status_of(service)).state != api.SERVICE_STOPPED:
                if time.monotonic() > deadline:
                    far = f"checkpoint {now.checkpoint}, wait hint {now.wait_hint_ms / 1000:g} s"
                    text = f"dependent service {name} has not stopped within {_DEPENDENTS_S:g} s ({far}){before}"
                    return "failed", text
                # No version of Windows has a handle for a service's state. The wait ends early if the target itself ends.
                kernel32.WaitForSingleObject(pin.handle, _LOOK_MS)
        done.append(name)
    return None


def _stop_one(manager: Scm, service: Service) -> Answer:
    """Ask one service; the detail is empty when there is nothing to say."""
    stopping = STATES[api.SERVICE_STOP_PENDING]
    if service.state == stopping:
        return "delivered", "it was stopping already"
    code = _control_stop(service.name)
    if code is None:
        return "delivered", f"its handler has not returned within {_ANSWER_S:g} s"
    if code == 0:
        return "delivered", ""
    if code == errors.ACCESS_DENIED:
        return "denied", f"ControlService: {_text(code)}; services are stopped by administrators"
    if code == _NOT_NOW:
        with open_service(manager, service.name, api.SERVICE_QUERY_STATUS) as opened:
            if STATES.get(status_of(opened).state) == stopping:
                return "delivered", "it was stopping already"
    refused = code in (_DEPENDENTS_RUN, _NOT_ACCEPTED, _NOT_RUNNING)
    return ("impossible" if refused else "failed"), f"ControlService: {_text(code)}"


def _control_stop(name: str) -> int | None:
    """Send SERVICE_CONTROL_STOP; return the error, 0 if it worked, None if the answer is still out.

    In a thread of its own, with handles of its own: a service whose handler does not return would hold us for thirty seconds, and with us every other target.
    """
    answer: list[int] = []

    def control() -> None:
        status = api.ServiceStatus()
        try:
            with open_manager() as manager, open_service(manager, name, api.SERVICE_STOP) as service:
                done = api.ControlService(service.handle, api.SERVICE_CONTROL_STOP, ctypes.byref(status))
                answer.append(0 if done else last_error())
        except OsCallError as exc:
            answer.append(exc.code)

    thread = threading.Thread(target=control, name="endtask-service-stop", daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    return answer[0] if answer else None
