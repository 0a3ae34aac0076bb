"""Who joins a target while it is being stopped: births that the kernel reports, and what the process table shows anew."""

from __future__ import annotations

from endtask._job import JobMember
from endtask.errors import AccessDeniedError, GoneError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Backend, Pin, Waiter
    from endtask._job import Job
    from endtask._prepare import Prepared, Preparer
    from endtask._scope import Family
    from endtask._watch import Births
    from endtask.model import PidRef, TargetReport

    Tell = Callable[[str, "Entry", PidRef | None, str, str], None]

_BORN = "started while stopping"


class Entry:
    """A job with what the engine knows about it.

    Attributes:
        number: Its place in the report.
        ready: Its handles and what was found out before.
        job: The state machine.
        by_pid: The member that has, or was the last to have, each pid.
        forced_before: Whether force was tried already.
        report: The verdict, None until it is settled.
    """

    __slots__ = ("by_pid", "forced_before", "job", "number", "ready", "report")

    def __init__(self, number: int, ready: Prepared, job: Job) -> None:
        self.number = number
        self.ready = ready
        self.job = job
        self.by_pid: dict[int, JobMember] = {m.ref.pid: m for m in job.members}
        self.forced_before = False
        self.report: TargetReport | None = None


class Discovery:
    """Finds members that were not known and begins to follow them.

    Args:
        backend: The operating system.
        preparer: Knows what is in scope by a process table.
        waiter: The one wait.
        births: The fork watch, None where there is none.
        tell: Called with kind, entry, identity, name and text of an event.
    """

    def __init__(self, backend: Backend, preparer: Preparer, waiter: Waiter, births: Births | None, tell: Tell) -> None:
        self.backend = backend
        self.preparer = preparer
        self.waiter = waiter
        self.births = births if preparer.policy.scope.kind != "only" else None
        self.tell = tell
        self.entries: dict[int, Entry] = {}  # the open ones by number
        self._members: list[tuple[Entry, JobMember]] = []  # by key of the wait

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

    def member(self, key: int) -> tuple[Entry, JobMember]:
        """Return whose exit the wait reported as *key*."""
        return self._members[key]

    def _follow(self, entry: Entry, member: JobMember) -> None:
        key = len(self._members)
        self._members.append((entry, member))
        self.waiter.add(entry.ready.pins[member.ref.pid], key)

    def born(self) -> list[tuple[Entry, list[JobMember]]]:
        """Take in every new descendant that the kernel reported."""
        found: dict[int, list[JobMember]] = {}
        for owners, pin, child, parent in self.births.collect() if self.births is not None else ():
            if pin is None:
                continue
            name = ""
            for number in owners:
                entry = self.entries.get(number)
                known = entry.by_pid.get(child) if entry is not None else None
                if entry is None or (known is not None and known.ref == pin.ref):
                    continue  # settled meanwhile, or the process table had it already
                handle = self._another(pin)
                if handle is None:
                    continue
                name = name or self._name(child)
                above = entry.by_pid.get(parent)
                kept = above is not None and above.kept
                member = self._join(entry, handle, name, _BORN, kept=kept)
                found.setdefault(number, []).append(member)
            pin.close()
        return [(self.entries[number], members) for number, members in found.items()]

    def _another(self, pin: Pin) -> Pin | None:
        """Return a second handle on the process of *pin*, so that each job closes its own."""
        try:
            return self.backend.pin(pin.ref.pid, pin.ref.token)
        except (GoneError, AccessDeniedError):
            return None  # ignored: it has gone; its own forks are followed by its pid

    def _name(self, pid: int) -> str:
        short = self.backend.short_name(pid)
        return self.backend.full_name(pid, short) if short is not None else ""

    def rescan(self, entry: Entry, family: Family) -> list[JobMember]:
        """Return members that the process table shows and that were not known."""
        ready = entry.ready
        new = []
        for pid, tie in self.preparer.scope_of(ready, family).items():
            known = entry.by_pid.get(pid)
            if known is None and pid == ready.target.ref.pid:
                continue
            if known is not None and (known.exited_at is None or self._is_zombie(pid)):
                continue
            pin = self._pin_row(pid, family, known)
            if pin is not None:
                new.append(self._join(entry, pin, self._name(pid), tie if known is None else _BORN, kept=False))
        if new and self.births is not None:
            self.births.own([ready.pins[m.ref.pid] for m in new], entry.number)
        return new

    def _pin_row(self, pid: int, family: Family, known: JobMember | None) -> Pin | None:
        """Open a handle on the process that the table shows under *pid*, None if it is another one, known, or has exited."""
        try:
            pin = self.backend.pin(pid)
        except (GoneError, AccessDeniedError):
            return (
                None  # ignored: gone meanwhile, or not ours to hold; a survivor of that kind is found by the next scan
            )
        row = self.backend.row(pid)
        same = row is not None and row.start == family.table[pid].start
        if not same or (known is not None and known.ref == pin.ref) or self.backend.exited(pin):
            pin.close()
            return None
        return pin

    def _is_zombie(self, pid: int) -> bool:
        """Whether the table shows the exited process itself."""
        row = self.backend.row(pid)
        return row is None or row.state == "Z"

    def _join(self, entry: Entry, pin: Pin, name: str, tie: str, *, kept: bool) -> JobMember:
        member = JobMember(pin.ref, name, tie, kept=kept)
        member.managed = name == entry.ready.target.name
        before = entry.ready.pins.pop(pin.ref.pid, None)
        if before is not None:  # an exited member had this pid: its story is over, its handle may go
            self.waiter.drop(before)
            before.close()
        entry.ready.pins[pin.ref.pid] = pin
        entry.by_pid[pin.ref.pid] = member
        self._follow(entry, member)
        self.tell("joined", entry, pin.ref, name, f"{pin.ref.pid} {name} found: {tie}")
        return member
