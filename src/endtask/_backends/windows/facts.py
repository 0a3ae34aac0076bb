"""Everything that `look` needs about one pinned process.

Decision: one picture of all processes, a few questions by handle, and at the end one question to the handle whether the process still runs.
If it does, the pid was its own all the while, because a pid is not given away while a handle is open; if it does not, only what does not change is kept.

A field that cannot be read keeps its default, and its name stands in `Facts.unknown` with the reason; those of `Facts.windows` as `windows.NAME`.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask._backends.windows import handles, images
from endtask._backends.windows.traits import Look
from endtask._record import replace
from endtask.errors import OsCallError
from endtask.model import Facts, Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.reader import TableReader
    from endtask._backends.windows.table import Snapshot
    from endtask.model import Listener, Service

_ENDED = "it ended while it was read"
_HIDDEN = "the process table does not show it"
_ORPHAN = "its parent has ended"


def collect(  # size: the order of the questions is the point
    reader: TableReader, pin: WindowsPin, *, company: bool = True
) -> Facts:
    """Read the facts of a pinned process; what ends meanwhile is said in the fields, never raised.

    Args:
        reader: Whose users and own traits are used.
        pin: The process.
        company: Whether to tell who else is on its console, too.
    """
    try:
        if handles.has_exited(pin):
            return ended(pin)
        snapshot = reader.processes.fresh()
    except OsCallError as exc:
        return Facts(pin.ref, f"pid {pin.ref.pid}", unknown=(("everything", exc.message),))
    pid = pin.ref.pid
    row = snapshot.row(pid)
    if row is None or row.start != pin.created:
        return not_shown(pin)
    look = Look(pin, row, snapshot)
    look.read_itself()
    windows = look.facts(reader.ourselves(), company=company)
    parent = snapshot.ancestors(pid)[:1]
    if not parent and row.ppid:
        look.unknown["parent_name"] = _ORPHAN
    uid = reader.users.number(look.sid) if look.sid else -1
    facts = Facts(
        pin.ref,
        row.comm,
        row.ppid,
        state="T" if windows.suspended else "R",
        exe=look.exe,
        cmdline=look.command_line(),
        uid=uid,
        user=reader.users.name(uid) if look.sid else "",
        age_s=reader.age_s(row),
        threads=len(snapshot.thread_ids(pid)),
        kernel=row.kernel,
        parent_name=snapshot.name(parent[0]) if parent else "",
        managers=_managers(look, snapshot, windows.services),
        ports=_ports(look),
        windows=windows,
    )
    if exited(pin):
        return replace(ended(pin), unknown=(("everything", _ENDED),))
    return replace(facts, unknown=tuple(look.unknown.items()))


def ended(pin: WindowsPin) -> Facts:
    """Return what is left of a process that has ended and that somebody (we, at least) still holds."""
    return Facts(pin.ref, images.name_of(pin.handle, pin.ref.pid), state="X", exited=True)


def not_shown(pin: WindowsPin) -> Facts:
    """Return what is left to say of a process that the process table does not show."""
    if exited(pin):
        return ended(pin)
    return Facts(pin.ref, images.name_of(pin.handle, pin.ref.pid), unknown=(("everything", _HIDDEN),))


def exited(pin: WindowsPin) -> bool:
    """Return whether a process is known to have ended."""
    try:
        return handles.has_exited(pin)
    except OsCallError:
        return False  # ignored: it is not known to have ended


def _ports(look: Look) -> tuple[Listener, ...]:
    from endtask._backends.windows import ports

    return look.ask("ports", lambda: ports.of_process(look.pin.ref.pid), ())


# --------------------------------------------------------------------------- who looks after it


def _managers(look: Look, snapshot: Snapshot, own: tuple[Service, ...]) -> tuple[Manager, ...]:
    """Return who may start it again: the service manager where it is a service, or where an ancestor is one (nssm, winsw, any server)."""
    if own:
        return tuple(_of_service(s) for s in own)
    above = snapshot.ancestors(look.pin.ref.pid)
    if not above:
        return ()
    from endtask._backends.windows import services

    hosts: dict[int, tuple[str, ...]] = {}
    hosts = look.ask("managers", services.by_pid, hosts)
    for pid in above:
        names = hosts.get(pid, ())
        if len(names) == 1:  # several in one process: which of them started it cannot be seen
            return (_above(names[0], pid, snapshot.name(pid)),)
    return ()


def _of_service(service: Service) -> Manager:
    restarts = {True: "yes", False: "no", None: "unknown"}[service.restarts]
    because = service.recovery or "it is a service"
    return Manager("service", service.name, _stop(service.name), restarts, because)


def _above(name: str, pid: int, program: str) -> Manager:
    because = f"{program} ({pid}), which started it or an ancestor of it, is the service {name}"
    return Manager("service", name, _stop(name), "unknown", because, certain=False, pid=pid)


def _stop(name: str) -> str:
    return f'sc stop "{name}"' if " " in name else f"sc stop {name}"
