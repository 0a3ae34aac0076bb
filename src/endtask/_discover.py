"""Who joins a target while it is being stopped: births that the kernel reports, and what the process table shows anew."""

from __future__ import annotations

from endtask._job import JobMember
from endtask._suspects import as_suspect
from endtask._words import called
from endtask.errors import GoneError, OsCallError
from endtask.model import PidRef, Suspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Backend, Pin, Waiter
    from endtask._job import Job
    from endtask._prepare import Prepared, Preparer
    from endtask._scope import Family
    from endtask._watch import Births
    from endtask.model import Row, TargetReport

    Tell = Callable[[str, "Entry", PidRef | None, str, str], None]

_BORN = "started while stopping"
_TICK_S = 0.02  # start times come in ticks of 10 ms


class Entry:
    """A job with what the engine knows about it.

    Attributes:
        number: Its place in the report.
        ready: Its handles and what was found out before.
        job: The state machine.
        by_pid: The member that has, or was the last to have, each pid.
        keys: By which the wait reports its members.
        doubtful: Processes that carry an id of the target, or that no handle could be opened on, as suspects by pid.
        forced_before: Whether force was tried already.
        report: The verdict, None until it is settled.
        woken_at: Time for which an alarm is set, 0 for none.
    """

    __slots__ = ("by_pid", "doubtful", "forced_before", "job", "keys", "number", "ready", "report", "woken_at")

    def __init__(self, number: int, ready: Prepared, job: Job) -> None:
        self.number = number
        self.ready = ready
        self.job = job
        self.by_pid: dict[int, JobMember] = {m.ref.pid: m for m in job.members}
        self.doubtful: dict[int, Suspect] = {s.ref.pid: s for s in ready.unheld}
        self.forced_before = False
        self.keys: list[int] = []
        self.report: TargetReport | None = None
        self.woken_at = 0.0

    def owners(self, ref: PidRef) -> list[tuple[Entry, JobMember]]:
        """Return this job with the part that a process has in it; nothing if it is settled, or the process is none of its own."""
        member = self.by_pid.get(ref.pid) if self.report is None else None
        return [(self, member)] if member is not None and member.ref == ref else []

    def doubt(self, backend: Backend, row: Row, tie: str) -> None:
        """Note a process that carries an id of the target and started when no member carried it any more, or whose parent is in doubt itself."""
        if tie.startswith("child of"):
            because = f"is a {tie}, and could not be shown to have been started by the target"
        else:
            because = f"carries the target's {tie}, but started when no process of the target did so any more"
        suspect = as_suspect(backend, row, because)
        if suspect is not None:
            self.doubtful[row.pid] = suspect

    def unheld(self, pid: int, name: str, because: str) -> None:
        """Note a process that belongs to the target and that we cannot hold."""
        self.doubtful[pid] = Suspect(PidRef(pid), name, because)


class Discovery:
    """Finds members that were not known and begins to follow them.

    Args:
        backend: The operating system.
        preparer: Knows what is in scope by a process table.
        waiter: The one wait.
        births: The fork watch, None where there is none.
        exited: Called when it is found out here that a member has exited.
        tell: Called with kind, entry, identity, name and text of an event.
    """

    def __init__(
        self,
        backend: Backend,
        preparer: Preparer,
        waiter: Waiter,
        births: Births | None,
        tell: Tell,
        exited: Callable[[Entry, JobMember, float], None],
    ) -> None:
        self.backend = backend
        self.preparer = preparer
        self.waiter = waiter
        self.births = births if preparer.policy.scope.kind != "only" else None
        self.tell = tell
        self.exited = exited
        self.entries: dict[int, Entry] = {}  # the open ones by number
        self._members: dict[int, tuple[Entry, JobMember]] = {}  # by key of the wait; of jobs that are not settled
        self._keys = 0
        self.holders: dict[int, list[Entry]] = {}  # who follows a pid

    @property
    def sees_births(self) -> bool:
        """Whether every fork since the start was seen."""
        return self.births is not None and self.births.complete

    def begin(self, entry: Entry) -> None:
        """Follow all members of a job that starts."""
        self.entries[entry.number] = entry
        for member in entry.job.members:
            self._follow(entry, member)
        if self.births is not None:
            self.births.own(list(entry.ready.pins.values()), entry.number)

    def end(self, entry: Entry) -> None:
        """Forget a job that is settled, and release its handles."""
        for pin in entry.ready.pins.values():
            self.waiter.drop(pin)
        entry.ready.close()
        self.entries.pop(entry.number, None)
        for key in entry.keys:
            del self._members[key]
        for pid in entry.by_pid:
            followers = [e for e in self.holders.pop(pid) if e is not entry]  # twice where a pid was given away anew
            if followers:
                self.holders[pid] = followers

    def member(self, key: int) -> tuple[Entry, JobMember] | None:
        """Return whose exit the wait reported as *key*, None if its job is settled already."""
        return self._members.get(key)

    def owners(self, ref: PidRef) -> list[tuple[Entry, JobMember]]:
        """Return every open job that a process belongs to, with its part there."""
        return [owner for entry in self.holders.get(ref.pid, ()) for owner in entry.owners(ref)]

    def _follow(self, entry: Entry, member: JobMember) -> None:
        key = self._keys
        self._keys += 1
        self._members[key] = (entry, member)
        entry.keys.append(key)
        self.holders.setdefault(member.ref.pid, []).append(entry)
        self.waiter.add(entry.ready.pins[member.ref.pid], key)

    def born(self) -> list[tuple[Entry, list[JobMember]]]:
        """Take in every new descendant that the kernel reported."""
        found: dict[int, list[JobMember]] = {}
        for owners, pin, child, parent in self.births.collect() if self.births is not None else ():
            if pin is None:
                continue
            spare: Pin | None = pin  # the first job that takes it in closes it; others open their own
            try:
                for number in owners:
                    entry = self.entries.get(number)
                    known = entry.by_pid.get(child) if entry is not None else None
                    if entry is None or (known is not None and known.ref == pin.ref):
                        continue  # settled meanwhile, or the process table had it already
                    handle = spare if spare is not None else open_pin(self.backend, child, pin.ref.token)
                    if isinstance(handle, str):
                        if handle:
                            entry.unheld(child, self._name(child), handle)
                        continue
                    spare = None
                    above = entry.by_pid.get(parent)
                    kept = above is not None and above.kept
                    member = self._join(entry, handle, self.backend.row(child), _BORN, kept=kept)
                    found.setdefault(number, []).append(member)
            finally:
                if spare is not None:
                    spare.close()
        return [(self.entries[number], members) for number, members in found.items()]

    def _name(self, pid: int) -> str:
        short = self.backend.short_name(pid)
        return self.backend.full_name(pid, short) if short is not None else ""

    def rescan(self, entry: Entry, family: Family) -> list[JobMember]:
        """Return members that a later process table shows and that were not known.

        Whoever has exited is never looked up by its pid again, because the pid may be somebody else's by now.
        What only carries a session, group or cgroup of the target counts if it was there while a member carried the same id:
        as long as an id has a carrier, the kernel does not give its number away (pid_namespaces(7), alloc_pid).
        What is younger than the last carrier is a suspect.
        """
        top = entry.ready.row
        if top is None:
            return []
        living = self._living(entry, family)
        new = []
        accepted = self._parents(entry, living)
        for pid, tie in self.preparer.later(entry.ready, top, family, living, [m.row for m in entry.job.members]):
            if pid in living:
                continue  # also one that was born while the table was read, and so is not in it
            row = family.table[pid]
            known = entry.by_pid.get(pid)
            if (known is not None and _same(known, row)) or self._is_new_id(entry, family, tie):
                continue
            below = row.ppid if tie.startswith("child of") else 0
            if below not in accepted if below else not self._carried(entry, row, tie):
                entry.doubt(self.backend, row, tie)
                continue
            pin = self._pin_row(entry, row, tie)
            if pin is not None:
                accepted.add(pid)
                kept = pin.ref in self.preparer.keep or _kept(entry, family, row)
                new.append(self._join(entry, pin, row, tie, kept=kept))
        if new and self.births is not None:
            held = (entry.ready.pins.get(m.ref.pid) for m in new)
            self.births.own([pin for pin in held if pin is not None], entry.number)
        return new

    def _parents(self, entry: Entry, living: set[int]) -> set[int]:
        """Return whose children belong to the target.

        Where orphans keep the pid of their parent, those that have ended meanwhile count as well: our handle kept the pid theirs, and `later` has compared the times.
        What a target had left behind that was gone before we began is not asked, because nobody has named it.
        """
        ended_at = entry.job.target.exited_at
        if self.backend.reparents or (ended_at is not None and ended_at <= entry.job.started_at):
            return set(living)
        return living.union(entry.ready.pins)

    def _is_new_id(self, entry: Entry, family: Family, tie: str) -> bool:
        """Whether the session or group of *tie* is led by somebody new: then its number was given away anew and says nothing."""
        kind, _, number = tie.partition(" ")
        if kind not in ("session", "group"):
            return False
        leader = family.table.get(int(number))
        before = self.preparer.family.table.get(int(number))
        if leader is None or (before is not None and before.start == leader.start):
            return False
        known = entry.by_pid.get(int(number))
        return known is None or not _same(known, leader)

    def _living(self, entry: Entry, family: Family) -> set[int]:
        """Return the pids of members that run, and look at their lines of the table anew (a process may call setsid)."""
        living = set()
        for member in entry.job.members:
            if member.exited_at is None and not self.backend.exited(entry.ready.pins[member.ref.pid]):
                living.add(member.ref.pid)
                member.row = family.table.get(member.ref.pid, member.row)
        return living

    def _carried(self, entry: Entry, row: Row, tie: str) -> bool:
        """Whether, while *row* was there, a member carried the same session or group, or the target was in the same cgroup."""
        by_cgroup = tie.startswith("cgroup")
        latest = 0.0
        for member in entry.job.members[:1] if by_cgroup else entry.job.members:
            ids = member.row
            if ids is None or not (by_cgroup or ids.sid == row.sid or ids.pgid == row.pgid):
                continue
            if member.exited_at is None:
                return True
            latest = max(latest, member.exited_at)
        return self.backend.age_s(row) > self.backend.now() - latest + _TICK_S

    def _pin_row(self, entry: Entry, row: Row, tie: str) -> Pin | None:
        """Open a handle on the process that the table shows, None if it is another one by now or has exited."""
        pin = open_pin(self.backend, row.pid)
        if isinstance(pin, str):
            if pin:
                entry.unheld(row.pid, row.comm, f"belongs to it ({tie}); {pin}")
            return None
        same = False
        try:
            now = self.backend.row(row.pid)
            same = now is not None and now.start == row.start and now.ppid == row.ppid and not self.backend.exited(pin)
        finally:
            if not same:
                pin.close()
        return pin if same else None

    def _join(self, entry: Entry, pin: Pin, row: Row | None, tie: str, *, kept: bool) -> JobMember:
        pid = pin.ref.pid
        name = self.backend.full_name(pid, row.comm) if row is not None else ""
        member = JobMember(pin.ref, name, tie, kept=kept)
        member.managed = name == entry.ready.target.name
        member.row = row
        old = entry.by_pid.get(pid)
        if (
            old is not None and old.exited_at is None
        ):  # its pid is taken, so it has exited, and the wait has not said it yet
            self.exited(entry, old, self.backend.now())
        before = entry.ready.pins.pop(pid, None)
        if before is not None:  # an exited member had this pid: its story is over, its handle may go
            self.waiter.drop(before)
            before.close()
        entry.ready.pins[pid] = pin
        if row is not None:
            entry.ready.rows[pid] = row
        if self.backend.has_ladders:
            member.ladder = self.preparer.climb(entry.ready, pid)
        entry.by_pid[pid] = member
        self._follow(entry, member)
        self.tell("joined", entry, pin.ref, name, f"{called(pid, name)} found: {tie}")
        return member


def _same(known: JobMember, row: Row) -> bool:
    """Whether the table shows a member itself; of one that had exited before the table was read it can only show the zombie."""
    return known.exited_at is None or row.state in ("Z", "X")


def _kept(entry: Entry, family: Family, row: Row) -> bool:
    """Whether it is below a member that is to be left alone."""
    above: Row | None = row
    while above is not None:
        member = entry.by_pid.get(above.ppid)
        if member is not None:
            return member.kept
        above = family.table.get(above.ppid) if above.ppid > 1 else None
    return False


def open_pin(backend: Backend, pid: int, token: str = "") -> Pin | str:
    """Return a handle, or why there is none: an empty text when the process has gone, else the reason."""
    try:
        return backend.pin(pid, token)
    except GoneError:
        return ""
    except OsCallError as exc:
        return f"no handle on it could be opened: {exc.message}"
