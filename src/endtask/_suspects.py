"""Orphans that may have come from a target: their origin is likely, and nothing proves it. They are named, never signalled.

What cannot change hands sieves first (cgroup, user), then what only inheritance can give counts: open pipes and sockets, the environment.
Rejected: sieves that a daemon passes or fails at will, such as its working directory, its name or its age; each of them has hidden an escapee.
"""

from __future__ import annotations

from endtask import _scope
from endtask._words import each_once
from endtask.errors import GoneError, OsCallError
from endtask.model import PidRef, Suspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._backends.base import Backend
    from endtask._prepare import Prepared, Preparer
    from endtask._scope import Family
    from endtask.model import Row


def find_suspects(preparer: Preparer, family: Family, ready: Prepared) -> tuple[Suspect, ...]:
    """Return the orphans that may have come from the target: their origin is likely, and nothing proves it."""
    top, backend = ready.row, preparer.backend
    if top is None:
        return ()

    def known(row: Row) -> bool:
        """Whether it is a target itself, or one of ours; the pid of a target that has exited may be somebody else's by now."""
        before = preparer.family.table.get(row.pid) if row.pid in preparer.selected else None
        return row.pid in preparer.own_line or (before is not None and before.start == row.start)

    def member(row: Row) -> bool:
        """Whether it is a member, or the system's own, whoever it looks like."""
        before = ready.rows.get(row.pid)
        return (before is not None and before.start == row.start) or bool(backend.untouchable(row.pid, row.comm))

    found = []
    candidates = [r for r in _scope.suspects(family, top, ready.above, known) if not member(r)]
    if candidates:
        preparer.remember_kin(ready)
        shared = ready.shared = ready.shared or preparer.shared(ready)
        for row in candidates:
            because = _shares(preparer, row, top, shared) or _resembles(preparer, row, ready)
            if because:
                found.append((row, because))
    for row in _scope.group_strangers(family, top):
        if not known(row) and not member(row):
            found.append((row, f"in its process group, and its parent {row.ppid} may have started it or adopted it"))
    suspects = [as_suspect(backend, row, because) for row, because in found]
    return tuple(s for s in suspects if s is not None)


def _shares(preparer: Preparer, row: Row, top: Row, shared: frozenset[str]) -> str:
    both = shared & preparer.objects_of(row.pid, row.start) if shared else frozenset()
    if not both:
        return ""
    thing = max(both)  # a pipe or a socket has a name that tools show
    return f"an orphan that has {'a deleted file' if thing.startswith('deleted:') else thing} open, as {top.pid} has"


def _alike(theirs: frozenset[bytes], ready: Prepared) -> bool:
    """Whether everything that a member was started with is there: who starts another program adds entries and rarely changes one."""
    return any(kin <= theirs for kin in ready.kin or ())


def _resembles(preparer: Preparer, row: Row, ready: Prepared) -> str:
    """Return why an orphan may be the target's, judged by its environment; empty if it is not, or cannot be.

    What cannot change hands sieves first: nobody leaves a cgroup or takes another user's id without rights over them.
    """
    backend = preparer.backend
    top = ready.target.ref.pid
    if ready.kin and not _alike(preparer.kin_of(row), ready):
        return ""
    if backend.cgroup(row.pid) != ready.home or (ready.uid not in (0, None) and backend.owner(row.pid) != ready.uid):
        return ""
    if ready.kin:
        return f"an orphan that started after {top} with the same environment"
    same = ready.cwd not in ("", "/") and backend.working_directory(row.pid) == ready.cwd
    return f"an orphan that started after {top} in the same directory" if same else ""


def as_suspect(backend: Backend, row: Row, because: str) -> Suspect | None:
    try:
        pin = backend.pin(row.pid)
    except GoneError:
        return None
    except OsCallError:
        return Suspect(PidRef(row.pid), row.comm, because)
    try:
        again = backend.row(row.pid)
        if again is None or again.start != row.start or backend.exited(pin):
            return None
        facts = backend.facts(pin, company=False)
        return Suspect(pin.ref, facts.name, because, tuple(each_once(facts.ports)))
    finally:
        pin.close()


def still_there(backend: Backend, suspects: Iterable[Suspect]) -> tuple[Suspect, ...]:
    """Return those suspects that still run."""
    alive = []
    for suspect in suspects:
        try:
            pin = backend.pin(suspect.ref.pid, suspect.ref.token)
        except GoneError:
            continue
        except OsCallError:
            alive.append(suspect)
            continue
        try:
            if not backend.exited(pin):
                alive.append(suspect)
        finally:
            pin.close()
    return tuple(alive)
