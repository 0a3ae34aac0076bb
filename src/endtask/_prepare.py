"""From the selection to everything that a stop needs before the first request: members, their handles, suspects, the respawn watch.

`plan` and `stop` both come through here, so they can never choose different processes.
The fork watch must be open before the process table is read: what is born later is reported by it, what was born before is in the table.

Size: what is read before the first request, in the order in which it must be read.
"""

from __future__ import annotations

from endtask import _scope
from endtask._inspect import catches
from endtask._plan import respawn_watch
from endtask._suspects import find_suspects
from endtask._words import is_shell, runs_script
from endtask.errors import GoneError, OsCallError, RefusedError
from endtask.model import PidRef, Suspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._backends.base import Backend, Pin
    from endtask._find import Target
    from endtask._scope import Family
    from endtask.model import Facts, Manager, Policy, Request, Row

_CLOCK_S = 0.02  # between two readings of a clock that ticks every 16 ms (GetSystemTimeAsFileTime)
_SMALL = 2000  # processes whose table costs some 20 ms to read
_FEW = 64  # targets for which everything that may be needed later is read at once
_KIN = 64  # members whose environment and open files are remembered for the search for suspects
_LAUNCH_PADS = frozenset(("explorer.exe", "start.exe", "userinit.exe"))  # a person started it there, once
_RESTARTERS = frozenset(
    ("supervisord", "runsv", "s6-supervise", "supervise", "pm2", "PM2", "monit", "circusd", "containerd-shim")
)


class Origin:
    """Where a target came from, and so where a successor would come from; shared by all targets with the same parent.

    Attributes:
        parent: Pid of the parent, 0 or 1 if it cannot start anything again.
        name: Its name.
        top: Below whom a successor would be: the parent, or the manager further up, whose script or shell in between ends with the target.
        pin: Handle on that one, None where there is none.
        cgroup: The unit's or container's cgroup, empty for none.
        manager: Who would start it again.
        watch_s: Seconds to watch for a respawn.
        because: Why that long.
        before: The process table from before: what is in there is no successor.
    """

    __slots__ = ("because", "before", "cgroup", "manager", "name", "parent", "pin", "top", "watch_s")

    def __init__(self, parent: int, name: str, watch_s: float, because: str, manager: Manager | None) -> None:
        self.parent = self.top = parent
        self.name = name
        self.watch_s = watch_s
        self.because = because
        self.manager = manager
        self.pin: Pin | None = None
        self.cgroup = ""
        self.before: dict[int, Row] = {}


class Prepared:
    """One target, ready to be stopped.

    Attributes:
        target: The selected process.
        row: Its line of the process table, None if it could not be seen.
        above: Its ancestors, the parent first.
        members: Identity, name, tie and kept of everything in scope, the target first.
        pins: Open handles by pid.
        cgroup: Cgroup that is the target's own, or that was asked for; empty for none.
        catches: Request names that the target takes itself.
        is_shell: Whether the target is a command shell.
        suspects: Orphans that may have come from it.
        rows: The members' lines of the process table by pid.
        unheld: Members that no handle could be opened on.
        kin: What children of the members inherit (see `Backend.kinship`), None while it has not been read.
        cwd: The target's working directory, empty if unknown.
        home: The target's cgroup, whoever else is in there.
        uid: The target's user, None if unknown.
        shared: Private objects of the members (see `Backend.shared_objects`).
        origin: Where a successor would come from, None where nobody is watched.
        cmdline: Its arguments, read only if a respawn is watched for.
        warnings: What should be known before.
        seen: Facts of the members by pid, from before the first request, where the way to ask depends on them (Windows).
        ladders: What `ask` means for each of them.
        policy: How to stop this target: `ask` has become the rungs of the longest ladder.
    """

    __slots__ = (
        "above",
        "catches",
        "cgroup",
        "cmdline",
        "cwd",
        "home",
        "is_shell",
        "kin",
        "ladders",
        "members",
        "origin",
        "pins",
        "policy",
        "row",
        "rows",
        "seen",
        "shared",
        "suspects",
        "target",
        "uid",
        "unheld",
        "warnings",
    )

    def __init__(self, target: Target, row: Row | None, policy: Policy) -> None:
        self.target = target
        self.policy = policy
        self.seen: dict[int, Facts] = {}
        self.ladders: dict[int, tuple[Request, ...]] = {}
        self.row = row
        self.above: list[int] = []
        self.members: list[tuple[PidRef, str, str, bool]] = []
        self.pins: dict[int, Pin] = {}
        self.cgroup = ""
        self.catches: frozenset[str] | None = None
        self.suspects: tuple[Suspect, ...] = ()
        self.is_shell = False
        self.kin: frozenset[frozenset[bytes]] | None = None
        self.cwd = ""
        self.home = ""
        self.uid: int | None = None
        self.unheld: list[Suspect] = []
        self.rows: dict[int, Row] = {} if row is None else {row.pid: row}
        self.shared: frozenset[str] = frozenset()
        self.origin: Origin | None = None
        self.cmdline: tuple[str, ...] = ()
        self.warnings: list[str] = []

    def close(self) -> None:
        """Release every handle."""
        for pin in self.pins.values():
            pin.close()
        self.pins.clear()


class Preparer:
    """Prepares the targets of one run.

    Attributes:
        small: Whether the machine has so few processes that the table may be read once more without a need.

    Args:
        backend: The operating system.
        policy: How to stop.
        table: The process table, read after the fork watch was opened.
        births_seen: Whether the fork watch works: then nothing has to be remembered for a later search.
        selected: Pids of all targets of the run: what is a target itself is nobody's suspect.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        table: dict[int, Row],
        *,
        births_seen: bool,
        selected: Iterable[int] = (),
    ) -> None:
        self.backend = backend
        self.policy = policy
        self.family = _scope.Family(table)
        self.births_seen = births_seen
        self.small = len(table) <= _SMALL
        self.own_line = backend.own_line()
        self.selected = frozenset(selected)
        self.keep = frozenset(policy.scope.keep)
        self._kept_pids = frozenset(r.pid for r in self.keep)
        self._objects: dict[tuple[int, int], frozenset[str]] = {}
        self._kin: dict[tuple[int, int], frozenset[bytes]] = {}
        self._origins: dict[tuple[int, str, bool], Origin] = {}

    def prepare(self, target: Target) -> Prepared | None:
        """Open handles on everything that *target* owns; None when it has gone meanwhile."""
        backend = self.backend
        pin = target.pin
        if pin is None:
            try:
                pin = backend.pin(target.ref.pid, target.ref.token)
            except GoneError:
                return None
        target.pin = None  # the handle belongs to the prepared target from here on
        row = self.backend.row(target.ref.pid)
        if row is not None and row.state not in ("Z", "X") and self.backend.exited(pin):
            row = None  # the target went while its line was read, so the line may be somebody else's
        before = self.family.table.get(target.ref.pid)
        if row is not None and before is not None and before.start != row.start:
            # The table is older than the target, whose pid was somebody else's then.
            self.family = _scope.Family(self.backend.table())
        ready = Prepared(target, row, self.policy)
        ready.pins[pin.ref.pid] = pin
        try:
            self._fill(ready)
        except BaseException:
            ready.close()
            raise
        return ready

    def _fill(self, ready: Prepared) -> None:
        pid = ready.target.ref.pid
        ready.above = self.family.ancestors(pid)
        ready.cgroup = self._cgroup(ready)
        self._members(ready)
        if len(ready.members) > 1:
            ready.is_shell = is_shell(ready.target.name, self.backend.command_line(pid) or ())
            self._read_catches(ready)
        if self.policy.scope.kind == "tree" and ready.row is not None:
            if not self.births_seen or len(self.selected) <= _FEW:
                self.remember_kin(ready)
                ready.shared = self.shared(ready)
            ready.suspects = find_suspects(self, self.family, ready)
        if self.policy.steps:
            self._watch(ready)
        if self.backend.has_ladders:
            from endtask._ladder import expand

            for ref, *_rest in ready.members:
                self.climb(ready, ref.pid)
            ready.policy = expand(self.policy, max(map(len, ready.ladders.values()), default=0))

    def climb(self, ready: Prepared, pid: int) -> tuple[Request, ...]:
        """Look at a member and return what `ask` means for it; where nobody is asked, nobody is looked at."""
        from endtask._ladder import ladder, needs_company

        if all(s.request.forced and s.request.kind == "terminate" for s in self.policy.steps):
            return ()
        facts = self.backend.facts(ready.pins[pid], self.family.table, company=False, part="ladder")
        if needs_company(facts, self.policy):
            facts = self.backend.facts(ready.pins[pid], self.family.table, part="ladder")
        ready.seen[pid] = facts
        ready.ladders[pid] = ladder(facts, self.policy, list(ready.pins)).rungs
        return ready.ladders[pid]

    def remember_kin(self, ready: Prepared) -> None:
        """Read what children of the members inherit, while the members are there to be read."""
        if ready.kin is not None:
            return
        ready.kin = frozenset(k for k in map(self.backend.kinship, list(ready.pins)[:_KIN]) if k)
        pid = ready.target.ref.pid
        ready.cwd = self.backend.working_directory(pid) or ""
        ready.home = self.backend.cgroup(pid)
        ready.uid = self.backend.owner(pid)

    def shared(self, ready: Prepared) -> frozenset[str]:
        """Return the private objects of the members; what an ancestor holds too was given to more than this target."""
        shared = frozenset[str]().union(*map(self.backend.shared_objects, list(ready.pins)[:_KIN]))
        for ancestor in ready.above if shared else ():
            shared -= self.objects_of(ancestor)
        return shared

    def objects_of(self, pid: int, start: int = 0) -> frozenset[str]:
        """Return the private objects of a process that is asked about for many targets; *start* tells it from a later one with its pid."""
        key = (pid, start)
        if key not in self._objects:
            self._objects[key] = self.backend.shared_objects(pid)
        return self._objects[key]

    def kin_of(self, row: Row) -> frozenset[bytes]:
        """Return what a process has inherited that is asked about for many targets."""
        key = (row.pid, row.start)
        if key not in self._kin:
            self._kin[key] = self.backend.kinship(row.pid)
        return self._kin[key]

    # ------------------------------------------------------------------ members

    def check(self, targets: Iterable[Target]) -> None:
        """Refuse what must not be stopped with this scope, before anything is sent.

        Raises:
            RefusedError: A target is to be kept, or is in the root cgroup and the scope is its cgroup, or the system has no such scope.
        """
        kind = self.policy.scope.kind
        if not self.backend.reparents and kind not in ("tree", "only"):
            text = f"there is no process {kind} on this system"
            raise RefusedError(text, hint="use `--tree` (default) or `--only`")
        for target in targets:
            if target.ref in self.keep or not self._kept_pids.isdisjoint(self.family.ancestors(target.ref.pid)):
                text = f"`{target.what}` is both to be stopped and to be left alone"
                raise RefusedError(text, hint="name what it started instead, or leave `--keep` out")
            if self.policy.scope.kind == "cgroup" and self.backend.cgroup(target.ref.pid) in ("", "/"):
                text = f"process {target.ref.pid} is in the root cgroup, which holds the whole system"
                raise RefusedError(text, hint="use `--tree`, `--session-of` or `--group`")

    def _cgroup(self, ready: Prepared) -> str:
        """Return the cgroup that counts for the scope: the one asked for, or one that only this program is in."""
        kind = self.policy.scope.kind
        row = ready.row
        pid = ready.target.ref.pid
        if kind == "cgroup":
            return self.backend.cgroup(pid)
        if kind != "tree" or row is None or (row.ppid in self.own_line and row.ppid > 1):
            return ""
        above = self.family.table.get(row.ppid)
        if row.ppid > 1 and above is not None and not _scope.adopts(above.comm):
            return ""  # the main process of a unit or a container is started by its manager, which adopts orphans too
        cgroup = self.backend.cgroup(pid)
        if not _scope.own_cgroup(cgroup):
            return ""
        inside = self.backend.cgroup_pids(cgroup) or ()
        if pid not in inside or any(p in inside for p in (*ready.above, *self.own_line)):
            return ""
        rows = {p: self.family.table.get(p) or self.backend.row(p) for p in inside}
        unseen = [p for p, r in rows.items() if r is None]
        if unseen and not set(unseen).isdisjoint(self.backend.cgroup_pids(cgroup) or ()):
            return ""  # somebody in there is hidden from us, and may be the main process
        # The main process leads its session and is older than whatever else in there has its parent outside.
        tops = [r for r in rows.values() if r is not None and r.ppid not in inside and r.pid != pid]
        return cgroup if row.sid == pid and all(r.start > row.start for r in tops) else ""

    def _members(self, ready: Prepared) -> None:
        ready.members = [(ready.target.ref, ready.target.name, "target", self._is_kept(ready.target.ref, ready))]
        if self.policy.scope.kind == "only" or ready.row is None:
            return
        for pid, tie in self._ties(ready, ready.row):
            if pid not in ready.pins:
                self._add_member(ready, pid, tie)

    def _ties(self, ready: Prepared, row: Row) -> list[tuple[int, str]]:
        """Return pid and tie of everything in scope, the target first, parents before children."""
        if self.policy.scope.kind == "tree":
            ties = _scope.owned(self.family, row.pid, self._cgroup_pids(ready), ready.cgroup)
        else:
            ties = _scope.whole(self.family, row, self.policy.scope.kind, self._cgroup_pids(ready), ready.cgroup)
        return self._ordered(ties, row.pid)

    def later(
        self, ready: Prepared, top: Row, family: Family, living: Iterable[int], rows: Iterable[Row | None]
    ) -> list[tuple[int, str]]:
        """Return pid and tie of what a later table puts in scope.

        Args:
            ready: The target.
            top: Its row from before the stop.
            family: The later table.
            living: Members that still run.
            rows: Rows of all members, the exited ones included: whoever led a session or group gives it its name.
        """
        if self.policy.scope.kind != "tree":
            ties = _scope.whole(family, top, self.policy.scope.kind, self._cgroup_pids(ready), ready.cgroup)
            return [(pid, tie) for pid, tie in self._ordered(ties, 0) if tie != "target"]
        ties = dict.fromkeys(living, ("", 0))
        for pid in tuple(ties):
            family.descendants(pid, ties)
        if not self.backend.reparents:
            self._left_behind(ready, family, ties)
        for row in rows:
            if row is not None and row.sid == row.pid:
                _scope.orphans(family, top, family.sessions.get(row.pid, ()), f"session {row.pid}", ties)
            if row is not None and row.pgid == row.pid:
                _scope.orphans(family, top, family.groups.get(row.pid, ()), f"group {row.pid}", ties)
        _scope.orphans(family, top, self._cgroup_pids(ready), f"cgroup {ready.cgroup}", ties)
        return self._ordered(ties, 0)

    def _left_behind(self, ready: Prepared, family: Family, ties: _scope.Ties) -> None:
        """Add what ended members have started: where orphans keep the pid of their parent, it names nobody else as long as our handle holds it.

        The handle keeps the pid from being given away, so a child that names it and is not younger than the parent's end is the member's own.
        """
        for pid, pin in ready.pins.items():
            ago_s = self.backend.ended_ago_s(pin)
            if ago_s is None or pid in ties:
                continue
            for child in family.children.get(pid, ()):
                row = family.table[child]
                born_here = row.start >= ready.rows[pid].start if pid in ready.rows else True
                if child not in ties and born_here and self.backend.age_s(row) >= ago_s - _CLOCK_S:
                    ties[child] = (f"child of {pid}", 1)
                    family.descendants(child, ties, 1)

    def _cgroup_pids(self, ready: Prepared) -> Iterable[int]:
        return (self.backend.cgroup_pids(ready.cgroup) or ()) if ready.cgroup else ()

    def _ordered(self, ties: dict[int, tuple[str, int]], target: int) -> list[tuple[int, str]]:
        ordered = sorted(ties.items(), key=lambda item: item[1][1])
        return [(pid, tie) for pid, (tie, _depth) in ordered if pid == target or not self._never(pid)]

    def _never(self, pid: int) -> bool:
        """Whether a process is in nobody's scope: ourselves, what is above us, and what the system keeps beside others (a console's host)."""
        row = self.family.table.get(pid)
        short = None if row is None else row.comm
        return pid <= 1 or pid in self.own_line or bool(self.backend.untouchable(pid, short))

    def _add_member(self, ready: Prepared, pid: int, tie: str) -> None:
        """Open a handle on a process that the table puts in scope, if it is still the one the table meant."""
        expected = self.family.table[pid]
        try:
            pin = self.backend.pin(pid)
        except GoneError:
            return
        except OsCallError as exc:
            because = f"belongs to it ({tie}); no handle on it could be opened: {exc.message}"
            ready.unheld.append(Suspect(PidRef(pid), expected.comm, because))
            return
        ready.pins[pid] = pin
        row = self.backend.row(pid)
        # The handle was opened first and this row was read after it, so a row like the table's means that the handle holds the table's process.
        if row is None or row.start != expected.start or (row.comm != expected.comm and row.ppid != expected.ppid):
            ready.pins.pop(pid).close()
            return
        if tie.startswith("child of") and row.ppid != expected.ppid:
            because = f"was a {tie} a moment ago, and has lost that parent since"
            ready.unheld.append(Suspect(pin.ref, row.comm, because))
            ready.pins.pop(pid).close()
            return
        ready.rows[pid] = row
        ready.members.append((pin.ref, self.backend.full_name(pid, row.comm), tie, self._is_kept(pin.ref, ready)))

    def _is_kept(self, ref: PidRef, ready: Prepared) -> bool:
        """Whether `keep` names the process or one above it within the target."""
        if not self.keep:
            return False
        if ref in self.keep:
            return True
        above = self.family.ancestors(ref.pid)
        inside = above[: above.index(ready.target.ref.pid)] if ready.target.ref.pid in above else above
        return not self._kept_pids.isdisjoint(inside)

    def _read_catches(self, ready: Prepared) -> None:
        signals = self.backend.signals(ready.target.ref.pid)
        if signals is None:
            return
        requests = [s.request for s in self.policy.steps if s.request.kind == "signal"]
        ready.catches = frozenset(r.name for r in requests if catches(signals, r.number))

    # ------------------------------------------------------------------ who would start it again

    def _watch(self, ready: Prepared) -> None:
        row = ready.row
        if row is None or self.policy.watch_s == 0:
            return
        # Below pid 1 it matters whether the target looks adopted, elsewhere the parent says it all.
        key = (row.ppid, ready.cgroup, row.ppid == 1 and self.family.is_adopted(row))
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = self._origin(ready, row)
        ready.origin = origin
        if origin.watch_s > 0:
            ready.cmdline = self.backend.command_line(row.pid) or ()

    def _origin(self, ready: Prepared, row: Row) -> Origin:
        """Judge the parent of a target: would it start the target again?"""
        above = self.family.table.get(row.ppid)
        name = above.comm if above is not None else ""
        launcher = row.ppid > 1 and row.ppid in self.own_line
        if launcher and name not in _RESTARTERS and self.policy.watch_s is None:
            return Origin(row.ppid, name, 0.0, "its parent is the one who asks", None)
        facts = self.backend.facts(ready.pins[row.pid], self.family.table, company=False)
        arguments = self.backend.command_line(row.ppid) or ()
        shell = name.lower() in _LAUNCH_PADS or (is_shell(name, arguments) and not runs_script(name, arguments))
        watch_s, because = respawn_watch(facts, self.policy, launcher=launcher, shell=shell)
        manager = next((m for m in facts.managers if m.restarts != "no"), None)
        origin = Origin(row.ppid, facts.parent_name or name, watch_s, because, manager)
        origin.cgroup = ready.cgroup
        origin.before = self.family.table
        if watch_s <= 0:
            return origin
        if manager is not None and manager.pid > 1:
            origin.top = manager.pid if manager.pid in ready.above else row.ppid
        else:
            origin.top = self._above_scripts(row.ppid, ready.above)
        if origin.top > 1:
            try:
                origin.pin = self.backend.pin(origin.top)
            except OsCallError:
                origin.pin = None  # ignored: without it the watch only lasts its full time
        return origin

    def _above_scripts(self, parent: int, above: Iterable[int]) -> int:
        """Return who runs the script that the parent is, which ends with its command; the parent where that is a person, an adopter or nobody."""
        for pid in above:
            row = self.family.table.get(pid)
            if row is None or pid <= 1 or pid in self.own_line:
                return parent
            arguments = self.backend.command_line(pid) or ()
            if runs_script(row.comm, arguments):
                continue
            person = is_shell(row.comm, arguments) or row.comm.lower() in _LAUNCH_PADS
            return parent if person or _scope.adopts(row.comm) else pid
        return parent

    def close(self) -> None:
        """Release the handles on parents."""
        for origin in self._origins.values():
            if origin.pin is not None:
                origin.pin.close()
        self._origins.clear()
