"""Looks at the whole machine while targets are being stopped: who is left of them, what else may be, and who has come after them.

A scan answers what a job has asked for (`Scan`): it finds members that were not known, and gathers what shows that a target is gone.
After it the job may watch for a moment, for a successor or for suspects that end by themselves.

Decision: a look at the whole machine (the process table after an exit) is shared by all jobs of a run and is done again at the earliest after four times its own duration,
so that ten thousand targets that end one after the other cost a few looks, not ten thousand.
The same holds for the look at a parent of many; a target that has been watched for long enough gets one more look before the verdict.
"""

from __future__ import annotations

from endtask import _scope, _suspects, _watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask._discover import Discovery, Entry, Tell
    from endtask._job import Action
    from endtask.model import Row, Suspect

_RESPAWN_LOOK_S = 0.025
_LONGEST_PAUSE_S = 0.25  # between two looks at the process table, however long one took


class Scans:
    """All scans of a run, and what is watched after them.

    Args:
        found: Finds who belongs to a target.
        started_at: Backend time at which the run began.
        perform: Carries out what a job wants done.
        tell: Called with kind, entry, identity, name and text of an event.
        take_births: Gives the births that were reported until now to the jobs.
    """

    def __init__(
        self,
        found: Discovery,
        started_at: float,
        perform: Callable[[Entry, list[Action]], None],
        tell: Tell,
        take_births: Callable[[float], None],
    ) -> None:
        self._backend = found.backend
        self._preparer = found.preparer
        self._kind = found.preparer.policy.scope.kind
        self._found = found
        self._started_at = started_at
        self._perform = perform
        self._tell = tell
        self._take_births = take_births
        self._wanted: list[Entry] = []
        self._deferred: list[Entry] = []  # until another target has ended, which has the same port
        self._watching: list[Entry] = []
        # When to look for successors again: as a rule, and right before a verdict.
        self._watch_at = self._last_watch_at = 0.0
        self._next_at = 0.0
        self._last_table: tuple[float, _scope.Family] | None = None  # until when it is good enough, and the table

    # ------------------------------------------------------------------ when

    def want(self, entry: Entry) -> None:
        """Scan for a job, with the next look that is due."""
        self._wanted.append(entry)

    @property
    def due(self) -> bool:
        """Whether a scan is wanted and may be done now."""
        return bool(self._wanted) and self._backend.now() >= self._next_at

    def due_at(self, until: float) -> float:
        """Return when there is something to be looked at, *until* if that comes first."""
        if self._watching:
            until = min(until, self._watch_at)
        return min(until, self._next_at) if self._wanted else until

    def after_exit(self, entry: Entry) -> None:
        """A member of a job has exited."""
        self._take_deferred()
        if not self._found.sees_births and entry.report is None and self._kind != "only":
            self._wanted.append(entry)  # what it leaves behind is known by its ids now, and by nothing later

    def after_end(self, entry: Entry) -> None:
        """A job is settled."""
        if entry in self._watching:
            self._watching.remove(entry)
        self._take_deferred()

    def _take_deferred(self) -> None:
        self._wanted += self._deferred
        self._deferred.clear()

    # ------------------------------------------------------------------ is it gone

    def scan(self) -> None:
        """Look for new members of jobs that want to prove their end, or that lost a member and have no fork watch."""
        backend, late = self._backend, self._backend.now()
        entries = [e for e in self._wanted if e.report is None and (e.job.state == "proving" or late < e.job.deadline)]
        self._wanted = []
        if not entries:
            return
        began = backend.now()
        self._take_births(began)
        births = self._found.births
        # First things first: there may be members not known yet.
        if births is not None and (births.pending or births.stirring):
            self._wanted += [e for e in entries if began < e.job.deadline]
            entries = [e for e in entries if began >= e.job.deadline]
        family = None
        # With every fork seen, another table can only show what hopped while the first one was read; it is cheap on a small machine.
        # A group, session or cgroup is entered by other ways than birth.
        if self._kind != "only" and (self._kind != "tree" or not self._found.sees_births or self._preparer.small):
            family = _scope.Family(backend.table())
        for entry in dict.fromkeys(entries):
            if entry.report is None:  # a birth that came at the deadline has settled it meanwhile
                self._scan_one(entry, family)
        ended = backend.now()
        self._next_at = ended + min(4 * (ended - began), _LONGEST_PAUSE_S)

    def _scan_one(self, entry: Entry, family: _scope.Family | None) -> None:
        backend, ready, job = self._backend, entry.ready, entry.job
        new = self._found.rescan(entry, family) if family is not None else []
        if new:
            self._perform(entry, job.joined(new, backend.now()))
        if job.state != "proving":
            return
        at_s = backend.now() - self._started_at
        shown = _watch.evidence(backend, ready, births=self._found.births, at_s=at_s, kind=self._kind)
        known = {s.ref.pid: s for s in (*ready.suspects, *entry.doubtful.values())}
        suspects = self._suspects(entry, tuple(known.values()), family)
        ports = _watch.port_state(backend, ready, at_s=at_s)
        if any(p.ours for p in ports) and self._held_by_another(entry):
            self._deferred.append(entry)  # another target of this run has the port as well: wait for its end
            return
        for port in ports:
            state = "free" if port.free else f"held by {port.holder}"
            self._tell("port", entry, None, "", f"port {port.port.lstrip(':')} {state}")
        for suspect in suspects:
            text = f"{suspect.ref.pid} {suspect.name} may belong to it: {suspect.because}"
            self._tell("suspect", entry, suspect.ref, suspect.name, text)
        self._perform(entry, job.scanned(backend.now(), evidence=shown, suspects=suspects, ports=ports))

    def _held_by_another(self, entry: Entry) -> bool:
        """Whether another target that is not settled yet was selected by one of its ports and still runs."""
        ports = entry.ready.target.ports
        asking = (e for e in self._found.entries.values() if e is not entry and e.job.state == "asking")
        return any(port in ports for e in asking for port in e.ready.target.ports)

    def _suspects(
        self, entry: Entry, known: Sequence[Suspect], family: _scope.Family | None = None
    ) -> tuple[Suspect, ...]:
        """Return the suspects that run, and in place of one that has ended who has come after it: a fork that lets its parent exit is no end."""
        if family is None:
            left = _suspects.still_there(self._backend, known)
            if len(left) == len(known):
                return left
            family = _scope.Family(self._backend.table())
        return _watch.late_suspects(self._preparer, family, entry.ready, known)

    # ------------------------------------------------------------------ and afterwards

    def watch(self, entry: Entry) -> None:
        """Look out for who comes after a target, or for suspects that end by themselves, until its job is settled."""
        if not self._watching:
            self._watch_at = self._backend.now() + _RESPAWN_LOOK_S
        self._watching.append(entry)
        if entry.job.watch_s <= 0:
            return  # only suspects are given a moment
        because = entry.ready.origin.because if entry.ready.origin is not None else ""
        self._tell("watching", entry, None, "", f"watching {entry.job.watch_s:g} s for a respawn: {because}")

    def look_for_successors(self, now: float) -> None:
        """Look once at each parent, whose children may stand for many targets; if it is time, or a target has been watched for long enough."""
        if not self._watching or now < self._last_watch_at:
            return
        if now < self._watch_at and not any(e.job.watch_until <= now for e in self._watching):
            return
        backend, began = self._backend, self._backend.now()
        at_s = began - self._started_at
        rows: dict[int, list[Row]] = {}
        thinned: list[Entry] = []
        for entry in list(self._watching):
            origin = entry.ready.origin
            if origin is None or entry.job.watch_s <= 0:
                if len(_suspects.still_there(backend, entry.job.suspects)) < len(entry.job.suspects):
                    thinned.append(entry)
                continue
            if id(origin) not in rows:
                rows[id(origin)] = _watch.newcomers(backend, origin)
            respawn = _watch.successor(backend, entry.ready, origin, rows[id(origin)], entry.job.target.exited_at, at_s)
            if respawn is not None:
                text = f"{respawn.ref.pid} {respawn.name} started again by {respawn.by}"
                self._tell("respawn", entry, respawn.ref, respawn.name, text)
                self._perform(entry, entry.job.successor(respawn, now))
            elif origin.pin is not None and backend.exited(origin.pin):
                self._perform(entry, entry.job.unwatch(now))
        family = _scope.Family(backend.table()) if thinned else None  # one for all, read after they had ended
        for entry in thinned:
            entry.job.suspects = self._suspects(entry, entry.job.suspects, family)
            if not entry.job.suspects:
                self._perform(entry, entry.job.unwatch(now))
        ended = backend.now()
        took_s = min(ended - began, _LONGEST_PAUSE_S)
        self._last_watch_at = ended + max(_RESPAWN_LOOK_S / 2, took_s)
        self._watch_at = ended + min(max(_RESPAWN_LOOK_S, 4 * took_s), _LONGEST_PAUSE_S)

    def look_a_last_time(self, entry: Entry) -> None:
        """Look, right before the verdict, at what may have changed since the scan."""
        job = entry.job
        self._name_newborn(entry)
        suspects = self._suspects(entry, job.suspects)
        job.suspects = tuple(s for s in suspects if job.respawn is None or s.ref != job.respawn.ref)
        if job.ports:  # a watch for a respawn lies between the look at them and this verdict
            at_s = self._backend.now() - self._started_at
            job.ports = _watch.port_state(self._backend, entry.ready, at_s=at_s)
            if job.respawn is not None:  # a successor that has only begun may take a free port at any moment
                job.ports = tuple(p for p in job.ports if not p.free)

    def _name_newborn(self, entry: Entry) -> None:
        """Look once more who belongs to a target that runs on: where births are not reported, a child of a program that swallows its request is seen by nothing else."""
        job = entry.job
        if self._found.sees_births or self._kind == "only" or not any(m.concerns_us for m in job.members):
            return
        began = self._backend.now()
        if self._last_table is None or began >= self._last_table[0]:
            family = _scope.Family(self._backend.table())
            ended = self._backend.now()
            # Many give up at the same time, and one table does for all of them.
            self._last_table = (ended + min(4 * (ended - began), _LONGEST_PAUSE_S), family)
        new = self._found.rescan(entry, self._last_table[1])
        if new:
            self._perform(entry, job.joined(new, self._backend.now()))
