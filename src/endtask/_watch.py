"""Stage 5: what was born meanwhile, is the scope empty and how do we know, are the ports free, did it come back.

Proof, strongest first: an empty cgroup that is exactly the scope; every handle ended and every fork since the start seen (`proved`);
every handle ended and the process table read again with nothing new in it (`observed`); anything less is `unproven`.
"""

from __future__ import annotations

from endtask import _scope, _suspects
from endtask._words import called
from endtask.errors import GoneError, OsCallError
from endtask.model import Evidence, PidRef, PortState, Respawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._backends.base import Backend, ForkWatch, Pin
    from endtask._prepare import Origin, Prepared, Preparer
    from endtask._scope import Family
    from endtask.model import Listener, Row, ScopeKind, Suspect


_TICK_S = 0.02  # start times come in ticks of 10 ms
_ROUNDS = 4  # of births that are taken in before anything else gets its turn


class Births:
    """Every fork of a member, told apart from forks of strangers that have a member's old pid.

    Events come in the order in which they happened, and the event of a fork is queued before the new process runs. Three rules follow:

    - When a member is taken in while it still runs, every queued event in which its pid is the *child* is its own birth or older;
      its forks are the events after that one, also those from before it was taken in.
    - When the pid of a member appears as the child later on, it is another process from there on.
    - When no newer fork of a child's pid is queued after its handle was opened, the handle holds that child.

    Attributes:
        complete: Whether every fork so far was seen and could be attributed.
        stirring: Whether the last `collect` saw any fork of a member: then its child may have forked again by now, also if it has exited already.
    """

    def __init__(self, backend: Backend, watch: ForkWatch) -> None:
        self._backend = backend
        self._watch = watch
        self._owners: dict[int, tuple[int, ...]] = {}
        self._since: dict[
            int, tuple[int, int]
        ] = {}  # pid -> number of its birth's event, number of the first event after it was taken in
        self._queue: list[tuple[int, int]] = []
        self._births: dict[int, int] = {}  # child pid -> number of its event, for the events in the queue
        self._first = 0  # number of the first event in the queue
        self._unsure = False
        self.stirring = False

    @property
    def complete(self) -> bool:
        return not self._unsure and not self._watch.lost

    def _pull(self) -> None:
        at = self._first + len(self._queue)
        forks = self._watch.drain()
        self._queue += forks
        for number, (_parent, child) in enumerate(forks, at):
            self._births[child] = number

    def own(self, pins: list[Pin], owner: int) -> None:
        """From now on forks of these processes belong to *owner*; those that were queued before are told by the next `collect`."""
        self._pull()
        end = self._first + len(self._queue)
        for pin in pins:
            pid = pin.ref.pid
            if self._backend.exited(pin):
                self._unsure = True  # whose forks the queued ones of its pid are cannot be told any more
                continue
            self._owners[pid] = (*self._owners.get(pid, ()), owner)
            self._since[pid] = (self._births.get(pid, -1), end)

    @property
    def pending(self) -> bool:
        """Whether queued events tell of forks of members that `collect` has not handed out yet."""
        return any(parent in self._owners for parent, _child in self._queue)

    def collect(self) -> list[tuple[tuple[int, ...], Pin | None, int, int]]:
        """Return (owners, handle or None if it has exited already, child pid, parent pid) of new descendants, oldest first.

        It ends also while the machine forks at full rate: forks of strangers stay queued, and those of members are taken in a few rounds at a time.
        """
        born: list[tuple[tuple[int, ...], Pin | None, int, int]] = []
        self.stirring = False
        self._pull()
        # Without the lost event of a pid's reuse, the forks of a stranger would be taken for a member's.
        if self._watch.lost:
            self._queue.clear()
            self._births.clear()
            return []
        for _round in range(_ROUNDS):
            batch, first = self._queue, self._first
            self._queue = []
            self._births = {}
            self._first += len(batch)
            opened: list[tuple[tuple[int, ...], Pin | None, int, int]] = []
            try:
                self._open(batch, first, opened)
                self._pull()
            except BaseException:
                for _owners, pin, _child, _parent in (*born, *opened):
                    if pin is not None:
                        pin.close()
                raise
            if not opened:
                break
            self.stirring = True
            newer = {child for _parent, child in self._queue}
            for owners, pin, child, parent in opened:
                overtaken = pin is not None and child in newer
                if pin is not None and overtaken:
                    pin.close()
                born.append((owners, None if overtaken else pin, child, parent))
            if not self.pending:
                break
        return born

    def _open(
        self, batch: list[tuple[int, int]], first: int, opened: list[tuple[tuple[int, ...], Pin | None, int, int]]
    ) -> None:
        """Add what the events tell of members to *opened*, with a handle where the pid is still the child's."""
        last = {child: index for index, (_parent, child) in enumerate(batch)}
        for index, (parent, child) in enumerate(batch):
            number = first + index
            if child in self._owners and number >= self._since[child][1]:
                del self._owners[child], self._since[child]
            owners = self._owners.get(parent)
            if not owners or number <= self._since[parent][0]:
                continue
            if child not in self._owners:
                self._owners[child] = owners
                self._since[child] = (number, number + 1)
            pin = None
            if last[child] == index:
                try:
                    pin = self._backend.pin(child)
                except GoneError:
                    pin = None  # its own forks are still followed by its pid
                except OsCallError:
                    self._unsure = True  # it may live on without a handle of ours
            opened.append((owners, pin, child, parent))


def evidence(  # size: a table of proofs
    backend: Backend, ready: Prepared, *, births: Births | None, at_s: float, kind: ScopeKind
) -> tuple[Evidence, ...]:
    """Return what shows that nothing of the scope runs any more; every member has exited when this is called.

    Args:
        backend: The operating system.
        ready: The target.
        births: The fork watch, None where there is none.
        at_s: Seconds since the start of the run.
        kind: The kind of scope; of the process alone its handle says everything.
    """
    whole_cgroup = kind == "cgroup" and not any(is_kept for _ref, _name, _tie, is_kept in ready.members)
    mechanism = ready.pins[ready.target.ref.pid].mechanism
    if all(p.exact for p in ready.pins.values()):
        text = "every process in scope has exited, seen on a handle opened before the request"
        found = [Evidence(mechanism, "proved", text, at_s)]
    else:
        text = "every process in scope has exited; this kernel has no pidfds, so identity rests on start times"
        found = [Evidence(mechanism, "observed", text, at_s)]
    if kind == "only":
        return tuple(found)
    if ready.row is None:
        text = "the process is hidden from us, so what it had started before cannot be seen"
        return (*found, Evidence("process-table", "unproven", text, at_s))
    empty = backend.cgroup_empty(ready.cgroup) if ready.cgroup else None
    if empty is False and whole_cgroup:
        found.append(
            Evidence(
                "cgroup-empty", "unproven", f"the kernel reports that the cgroup {ready.cgroup} is not empty", at_s
            )
        )
    if empty:
        found.append(Evidence("cgroup-empty", "proved", f"the kernel reports the cgroup {ready.cgroup} as empty", at_s))
    if births is not None and not births.complete and ready.kin is None:
        text = "the kernel dropped fork events, and too little was remembered to look for what was born meanwhile"
        return (*found, Evidence("fork-events", "unproven", text, at_s))
    if births is not None and births.stirring:
        text = "processes of the scope were still being born when the time was over"
        return (*found, Evidence("fork-events", "unproven", text, at_s))
    if births is not None and births.complete:
        text = "every fork since the start was reported by the kernel, nothing of it is left"
        found.append(Evidence("fork-events", "proved", text, at_s))
    else:
        text = "the process table was read again after the last exit, nothing of the scope is in it"
        found.append(Evidence("process-table", "observed", text, at_s))
    return tuple(found)


def late_suspects(
    preparer: Preparer, family: Family | None, ready: Prepared, doubtful: Iterable[Suspect]
) -> tuple[Suspect, ...]:
    """Return the suspects that still run: those from before, the doubtful, and those that a later table shows."""
    found = {s.ref.pid: s for s in _suspects.still_there(preparer.backend, (*ready.suspects, *doubtful))}
    if family is not None and preparer.policy.scope.kind == "tree":
        for suspect in _suspects.find_suspects(preparer, family, ready):
            found.setdefault(suspect.ref.pid, suspect)
    return tuple(found.values())


# --------------------------------------------------------------------------- ports


def port_state(backend: Backend, ready: Prepared, *, at_s: float) -> tuple[PortState, ...]:
    """Return the state of each port that the target was named by, nothing for other targets."""
    return tuple(_port_state(backend, ready, proto, port, at_s) for proto, port in ready.target.ports)


def _port_state(backend: Backend, ready: Prepared, proto: str, port: int, at_s: float) -> PortState:
    """Return who has the port; a socket that was there before is the target's, whoever holds it now, and a new one is somebody else's and not our failure."""
    word = f":{port}" if proto == "tcp" else f"{proto}:{port}"
    listeners = backend.listeners(proto, port)
    if not listeners:
        return PortState(word, free=True, at_s=at_s)
    pids = sorted({p for listener in listeners for p in listener.pids})
    kept = {ref.pid for ref, _name, _tie, is_kept in ready.members if is_kept}
    sockets = ready.target.sockets
    ours = any(li.inode in sockets and not (li.pids and kept.issuperset(li.pids)) for li in listeners)
    holder = ", ".join(f"{p} {backend.short_name(p) or '?'}" for p in pids) or _hidden(backend, listeners)
    return PortState(word, free=False, holder=holder, holder_pid=pids[0] if pids else 0, ours=ours, at_s=at_s)


def _hidden(backend: Backend, listeners: list[Listener]) -> str:
    uid = listeners[0].uid  # -1: Windows, which does not tell
    return f"a process{f' of user {backend.user_name(uid)}' if uid >= 0 else ''} that we may not see"


# --------------------------------------------------------------------------- respawn


def newcomers(backend: Backend, origin: Origin) -> list[Row]:
    """Return what has been started since by the same parent, below the same manager, or in the same cgroup."""
    pids = _started_by(backend, origin)
    if origin.cgroup:
        pids += backend.cgroup_pids(origin.cgroup) or ()
    rows = (backend.row(pid) for pid in sorted(set(pids)))
    return [r for r in rows if r is not None and _is_new(origin, r)]


def _started_by(backend: Backend, origin: Origin) -> list[int]:
    """Return the children of the parent; of a manager further up, all that is below it."""
    found: dict[int, None] = {}
    above = [origin.top] if origin.top > 1 else []
    family = None
    while above:
        pid = above.pop()
        children = backend.children(pid) if family is None else None
        if children is None:
            family = family or _scope.Family(backend.table())
            children = family.children.get(pid, [])
        if origin.top != origin.parent:
            above += [child for child in children if child not in found]
        found.update(dict.fromkeys(children))
    return list(found)


def _is_new(origin: Origin, row: Row) -> bool:
    before = origin.before.get(row.pid)
    return before is None or before.start != row.start


def successor(
    backend: Backend, ready: Prepared, origin: Origin, rows: list[Row], ended_at: float | None, at_s: float
) -> Respawn | None:
    """Return who has taken the place of the target, None if nobody has yet.

    Args:
        backend: The operating system.
        ready: The target.
        origin: Where a successor would come from.
        rows: What came from there since.
        ended_at: Backend time at which the target's exit was seen.
        at_s: Seconds since the start of the run.
    """
    old = ready.row
    if old is None:
        return None
    holders: set[int] = set()
    if ready.target.ports:
        listeners = [one for proto, port in ready.target.ports for one in backend.listeners(proto, port)]
        holders = {p for listener in listeners for p in listener.pids}
        held = map(backend.row, sorted(holders - {r.pid for r in rows}))
        rows = [*rows, *(r for r in held if r is not None and _is_new(origin, r))]
    for row in rows:
        member = ready.rows.get(row.pid)
        if row.start < old.start or row.state == "Z" or (member is not None and member.start == row.start):
            continue
        # Below an adopter, whoever was there before the target had ended may be the target's own child.
        late = ended_at is not None and backend.age_s(row) <= backend.now() - ended_at + _TICK_S
        if late or not (row.ppid == 1 or _scope.adopts(origin.name)):
            found = _succeeds(backend, ready, origin, row, at_s, on_port=row.pid in holders)
            if found is not None:
                return found
    return None


def _likeness(backend: Backend, ready: Prepared, origin: Origin, row: Row, name: str, *, on_port: bool) -> str:
    """Return what shows that a newcomer is the target's own program once more, empty if it is another one.

    A parent may start many programs of one name (a shell script its commands, `make` its compilers): only the whole command line tells them apart.
    A title that a program has written over it later is seen at a later look.
    """
    line = backend.command_line(row.pid)
    if line and line == ready.cmdline:
        return "with the same command line"
    if name != ready.target.name:
        return ""
    if on_port:
        return "with the same name, on the same port"
    if origin.cgroup and row.ppid == origin.parent and backend.cgroup(row.pid) == origin.cgroup:
        return f"with the same name, in the same cgroup {origin.cgroup}"  # its manager may give it other arguments
    # Empty is that of a process in the middle of execve(2), which has the new name already; a later look tells.
    if line is not None and (not line or ready.cmdline):
        return ""
    return "with the same name; the command lines could not be compared"


def _succeeds(
    backend: Backend, ready: Prepared, origin: Origin, row: Row, at_s: float, *, on_port: bool
) -> Respawn | None:
    name = backend.full_name(row.pid, row.comm)
    because = _likeness(backend, ready, origin, row, name, on_port=on_port)
    if not because:
        return None
    ref = _identity(backend, row)
    if ref is None:
        return None
    # The table may have had it between fork and execve, as its parent's namesake; execve(2) sets the name before the command line.
    name = backend.full_name(row.pid, backend.short_name(row.pid) or row.comm)
    manager = origin.manager
    if manager is not None:
        by = f"{manager.kind} {manager.name}".rstrip()
        return Respawn(ref, name, by, f"`{manager.stop}`" if manager.stop else f"stop {row.ppid} first", at_s, because)
    starter = row.ppid if origin.top == origin.parent else origin.top  # not the script in between, which is new as well
    by = called(starter, backend.short_name(starter) or "")
    how = f"stop {starter} first: `endtask stop {starter}`" if starter > 1 else ""
    return Respawn(ref, name, by, how, at_s, because)


def _identity(backend: Backend, row: Row) -> PidRef | None:
    """Return who a newcomer is, None if it has gone again: then the next look finds the one after it."""
    try:
        pin = backend.pin(row.pid)
    except GoneError:
        return None
    except OsCallError:  # no descriptor is free, or it may not be held: it is there all the same
        again = backend.row(row.pid)
        there = again is not None and again.start == row.start and again.state not in ("Z", "X")
        return PidRef(row.pid) if there else None
    ref, gone = pin.ref, backend.exited(pin)
    pin.close()
    return None if gone else ref
