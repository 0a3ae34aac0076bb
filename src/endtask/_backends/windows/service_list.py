"""Which services live in a process, what depends on them, and what the service manager does when they die.

Decision: everything is asked of the service manager, by service: a process does not know, and a shared one (svchost.exe) hosts many.

What the list says is true for the moment in which it was made; whoever stops a service hears from the service manager what has changed since.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.winapi import services as api
from endtask._backends.windows.winapi._bind import DWORD, last_error
from endtask.errors import OsCallError
from endtask.model import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

STATES = {
    api.SERVICE_STOPPED: "stopped",
    api.SERVICE_START_PENDING: "start-pending",
    api.SERVICE_STOP_PENDING: "stop-pending",
    api.SERVICE_RUNNING: "running",
    api.SERVICE_CONTINUE_PENDING: "continue-pending",
    api.SERVICE_PAUSE_PENDING: "pause-pending",
    api.SERVICE_PAUSED: "paused",
}
_RESTART_WORDS = {
    api.SC_ACTION_RESTART: "starts it again",
    api.SC_ACTION_REBOOT: "restarts the computer",
    api.SC_ACTION_RUN_COMMAND: "runs a command",
}
_ROUNDS = 8  # of asking again because the answer has grown
_MOST_CONFIG = 8192  # bytes: QueryServiceConfig and QueryServiceConfig2 pages


class Scm:
    """A handle of the service manager, or of one service."""

    __slots__ = ("_handle",)

    def __init__(self, call: str, handle: int | None) -> None:
        if not handle:
            raise errors.failed(call, last_error())
        self._handle = handle

    @property
    def handle(self) -> int:
        """The number that the calls take."""
        return self._handle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        api.CloseServiceHandle(self._handle)


def open_manager() -> Scm:
    """Open the service manager for listing and for opening services.

    Raises:
        OsCallError: It does not answer.
    """
    access = api.SC_MANAGER_CONNECT | api.SC_MANAGER_ENUMERATE_SERVICE
    return Scm("OpenSCManager", api.OpenSCManagerW(None, None, access))


def open_service(manager: Scm, name: str, access: int) -> Scm:
    """Open one service.

    Raises:
        AccessDeniedError: Windows refuses these rights.
        OsCallError: There is no such service.
    """
    return Scm("OpenService", api.OpenServiceW(manager.handle, name, access))


# --------------------------------------------------------------------------- which live where


class Found:
    """One active service, copied out of the answer of the service manager."""

    __slots__ = ("accepts", "display", "flags", "name", "pid", "state")

    def __init__(self, entry: api.EnumeratedService) -> None:
        self.name = entry.name
        self.display = entry.display or entry.name
        self.pid = entry.status.pid
        self.state = entry.status.state
        self.accepts = entry.status.accepts
        self.flags = entry.status.flags


def active(manager: Scm) -> list[Found]:
    """Return every service that is not stopped.

    Raises:
        OsCallError: The service manager does not answer.
    """
    needed, count, resume = DWORD(), DWORD(), DWORD()
    size = 0
    for _round in range(_ROUNDS):
        buffer = ctypes.create_string_buffer(size)
        resume.value = 0
        done = api.EnumServicesStatusExW(
            manager.handle,
            api.SC_ENUM_PROCESS_INFO,
            api.SERVICE_WIN32,
            api.SERVICE_ACTIVE,
            buffer if size else None,
            size,
            ctypes.byref(needed),
            ctypes.byref(count),
            ctypes.byref(resume),
            None,
        )
        if done:
            return [Found(e) for e in (api.EnumeratedService * count.value).from_buffer(buffer)] if size else []
        if last_error() != errors.MORE_DATA:
            break
        size += needed.value + 1024  # more may be started meanwhile
    raise errors.failed("EnumServicesStatusEx", last_error())


def by_pid() -> dict[int, tuple[str, ...]]:
    """Return the names of all active services by the process that hosts them.

    Raises:
        OsCallError: The service manager does not answer.
    """
    found: dict[int, tuple[str, ...]] = {}
    with open_manager() as manager:
        for service in active(manager):
            if service.pid:
                found[service.pid] = (*found.get(service.pid, ()), service.name)
    return found


def hosted(pid: int) -> tuple[Service, ...]:
    """Return the services that a process hosts, with what a stop has to know of them.

    Raises:
        OsCallError: The service manager does not answer.
    """
    with open_manager() as manager:
        return tuple(describe(manager, s) for s in active(manager) if s.pid == pid)


def describe(manager: Scm, found: Found) -> Service:
    """Return what a stop has to know of a service; what cannot be read is left out."""
    try:
        with open_service(manager, found.name, api.SERVICE_ENUMERATE_DEPENDENTS) as service:
            dependents = _running_dependents(service)
    except OsCallError:
        dependents = ()  # ignored: the service manager itself refuses to stop it before them, error 1051
    try:
        with open_service(manager, found.name, api.SERVICE_QUERY_CONFIG) as service:
            recovery, restarts = _recovery(service)
    except OsCallError:
        recovery, restarts = "", None
    return Service(
        found.name,
        found.display,
        STATES.get(found.state, "unknown"),
        bool(found.accepts & api.SERVICE_ACCEPT_STOP),
        dependents,
        recovery,
        restarts,
    )


def _running_dependents(service: Scm) -> tuple[str, ...]:
    """Return the names of active services that depend on one, in the order in which they have to be stopped (EnumDependentServices page).

    Raises:
        OsCallError: They cannot be listed.
    """
    needed, count = DWORD(), DWORD()
    size = 0
    for _round in range(_ROUNDS):
        buffer = ctypes.create_string_buffer(size)
        if api.EnumDependentServicesW(
            service.handle,
            api.SERVICE_ACTIVE,
            buffer if size else None,
            size,
            ctypes.byref(needed),
            ctypes.byref(count),
        ):
            # With no room and no dependents it succeeds at once.
            return tuple(d.name for d in (api.DependentService * count.value).from_buffer(buffer)) if size else ()
        if last_error() != errors.MORE_DATA:
            break
        size = needed.value + 1024
    raise errors.failed("EnumDependentServices", last_error())


# --------------------------------------------------------------------------- recovery


def _recovery(service: Scm) -> tuple[str, bool | None]:
    """Return in words what the service manager does when a service dies, and whether that starts it again.

    Raises:
        OsCallError: That cannot be read (Wine does not keep it).
    """
    needed = DWORD()
    buffer = ctypes.create_string_buffer(_MOST_CONFIG)
    if not api.QueryServiceConfig2W(
        service.handle, api.SERVICE_CONFIG_FAILURE_ACTIONS, buffer, len(buffer), ctypes.byref(needed)
    ):
        raise errors.failed("QueryServiceConfig2", last_error())
    actions = api.FailureActions.from_buffer(buffer)
    steps = [(actions.actions[i].kind, actions.actions[i].delay_ms) for i in range(actions.count)]
    return recovery_in_words(steps), any(kind == api.SC_ACTION_RESTART for kind, _delay in steps)


def recovery_in_words(steps: Sequence[tuple[int, int]]) -> str:
    """Return failure actions as text: `starts it again after 60 s, the third time runs a command` (pure).

    Args:
        steps: Kind and delay in milliseconds for the first failure, the second, and so on; the last one stands for all that follow.
    """
    times = ("", "the second time ", "the third time ")
    parts: list[str] = []
    before = None
    for number, (kind, delay_ms) in enumerate(steps):
        words = _RESTART_WORDS.get(kind, "does nothing")
        if delay_ms and kind in _RESTART_WORDS:
            words += f" after {delay_ms / 1000:g} s"
        if words != before:
            parts.append((times[number] if number < len(times) else f"failure {number + 1} ") + words)
        before = words
    return "" if parts == ["does nothing"] else ", ".join(parts)


# --------------------------------------------------------------------------- progress


def progress(name: str) -> tuple[str, int, float] | None:
    """Return the state of a service, its checkpoint and its wait hint in seconds; None if it cannot be asked.

    A service that is stopping counts its checkpoint up, at least once within each wait hint ("Service State Transitions" page).
    """
    try:
        with open_manager() as manager, open_service(manager, name, api.SERVICE_QUERY_STATUS) as service:
            status = status_of(service)
    except OsCallError:
        return None
    return STATES.get(status.state, "unknown"), status.checkpoint, status.wait_hint_ms / 1000


def status_of(service: Scm) -> api.ServiceStatusProcess:
    """Return how a service is.

    Raises:
        OsCallError: It cannot be asked.
    """
    status, needed = api.ServiceStatusProcess(), DWORD()
    if not api.QueryServiceStatusEx(
        service.handle, api.SC_STATUS_PROCESS_INFO, ctypes.byref(status), ctypes.sizeof(status), ctypes.byref(needed)
    ):
        raise errors.failed("QueryServiceStatusEx", last_error())
    return status


def program_of(service: Scm) -> str:
    """Return the command line that a service is started with.

    Raises:
        OsCallError: It cannot be read.
    """
    needed = DWORD()
    buffer = ctypes.create_string_buffer(_MOST_CONFIG)
    if not api.QueryServiceConfigW(service.handle, buffer, len(buffer), ctypes.byref(needed)):
        raise errors.failed("QueryServiceConfig", last_error())
    return api.ServiceConfig.from_buffer(buffer).path or ""
