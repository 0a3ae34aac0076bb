"""Drives any number of jobs on one backend with one wait.

The run is a generator that yields how long it wants to wait and is sent the keys of the processes that have exited.
So one piece of code serves the blocking driver, the asynchronous one (asyncio, trio) and the simulated system.

Decision: what costs a look at the whole machine (the process table after an exit) is shared by all jobs of a run and is done again at the earliest
after four times its own duration, so that ten thousand targets that end one after the other cost a few looks, not ten thousand.

Size: one loop and what it does in a turn; what could leave has left to `_discover`, `_force`, `_verdict` and `_watch`.
"""

from __future__ import annotations

from endtask import _scope, _suspects, _watch
from endtask._discover import Discovery, Entry
from endtask._job import Force, Job, JobMember, Look, Scan, Send, Settle, Watch
from endtask._receivers import Receivers
from endtask._record import replace
from endtask._request import deliver
from endtask._verdict import end_in_words, gone, not_begun, observe, receipt_in_words, verdict
from endtask._words import called
from endtask.errors import OsCallError
from endtask.model import Event, PidRef, Receipt, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from endtask._backends.base import Backend, Waiter
    from endtask._find import Target
    from endtask._job import Action
    from endtask._prepare import Prepared, Preparer
    from endtask._watch import Births
    from endtask.model import Policy, Request, Row, Suspect

    Wait = Generator[float, list[int], None]

_RESPAWN_LOOK_S = 0.025
_LONGEST_PAUSE_S = 0.25  # between two looks at the process table, however long one took
_TOGETHER = 50  # trees that are held at the same time
_ROUNDS = 100  # of force and scans before the clock is read again
_SPARE = 16  # descriptors that must be free before one more waiting target is begun
_SLICE_S = 0.01  # of beginning with targets, or of looks, before exits and deadlines are looked at


class Run:
    """One run over all targets.

    Args:
        backend: The operating system.
        policy: How to stop.
        preparer: Opens what belongs to a target.
        targets: In the order of the report.
        waiter: The one wait.
        births: The fork watch, None where there is none.
        started_at: Backend time at which the run began.
        on_event: Told of everything as it happens.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        preparer: Preparer,
        targets: Iterable[Target],
        waiter: Waiter,
        births: Births | None,
        started_at: float,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.backend = backend
        self.policy = policy
        self.preparer = preparer
        self.started_at = started_at
        self.on_event = on_event
        self.cancelled = False
        self.found = Discovery(backend, preparer, waiter, births, self._tell, self._exited)
        self._queue = list(targets)[::-1]
        self._results: list[TargetReport | Entry] = []
        self._timers: list[tuple[float, int]] = []
        self._to_scan: list[Entry] = []
        self._to_force: list[Entry] = []
        self._to_look: dict[Entry, None] = {}
        self._watching: list[Entry] = []
        self._deferred: list[Entry] = []
        self._asked: set[tuple[PidRef, str, int]] = set()
        self._sent: dict[PidRef, list[tuple[str, Receipt]]] = {}
        self._next_scan = 0.0
        self._last_table: tuple[float, _scope.Family] | None = None  # until when it is good enough, and the table
        self._several = len(self._queue) > 1
        self._receivers = Receivers(backend, waiter, started_at, self.found.owners, self._perform, self._tell)

    # ------------------------------------------------------------------ the loop

    def go(self) -> Wait:
        """Run until every job is settled."""
        try:
            while self._queue or self.found.entries:
                more = self._admit()
                self._look_around()
                if not self.found.entries:
                    continue
                keys = yield 0.0 if more else self._timeout()
                now = self.backend.now()
                for key in keys:
                    self._on_exit(key, now)
                self._on_births(now)
                self._receivers.hear()
                self._on_time(now)
        except KeyboardInterrupt:
            self._cancel()

    def reports(self) -> tuple[TargetReport, ...]:
        """Return the verdicts in the order of the targets."""
        reports = (r.report if isinstance(r, Entry) else r for r in self._results)
        return tuple(r for r in reports if r is not None)

    def close(self) -> None:
        """Release every handle; for a run that was given up."""
        self._receivers.close()
        for entry in list(self.found.entries.values()):
            self.found.end(entry)
        for target in self._queue:
            target.close()
        self.preparer.close()

    def _cancel(self) -> None:
        """The user wants us to stop asking: say what was sent and what still runs."""
        self.cancelled = True
        self._receivers.hear()
        now = self.backend.now()
        for entry in list(self.found.entries.values()):
            for member in list(entry.job.members):
                # The same Ctrl+C may have ended it; the wait's own word is lost with the interrupt.
                if member.exited_at is None and self.backend.exited(entry.ready.pins[member.ref.pid]):
                    self._exited(entry, member, now)
            self._perform(entry, entry.job.cancel(now))
            self._finish(entry)  # also one that was settled when the interrupt came
        for target in reversed(self._queue):
            self._results.append(not_begun(target))
            self._emit("settled", target.what, target.ref, target.name, "not begun", outcome="running")
            target.close()
        self._queue.clear()

    def _clock(self) -> float:
        return self.backend.now() - self.started_at

    def _timeout(self) -> float:
        now = self.backend.now()
        births = self.found.births
        if self._to_force or self._to_look or (births is not None and births.pending) or self._receivers.pending:
            return 0.0
        until = self._timers[0][0] if self._timers else now + 3600.0
        if self._watching:
            until = min(until, now + _RESPAWN_LOOK_S)
        if self._to_scan:
            until = min(until, self._next_scan)
        return max(0.0, until - now)

    # ------------------------------------------------------------------ admission

    def _admit(self) -> bool:
        """Begin with as many targets as there are descriptors for; the others wait for their turn.

        Returns:
            Whether more can be begun at once: what has exited meanwhile, and what is due for those that were begun, comes first.
        """
        until = self.backend.now() + _SLICE_S
        while self._queue:
            if self._queue[-1].pin is None and self.found.entries and self.backend.capacity() < _SPARE:
                return False
            target = self._queue.pop()
            try:
                ready = self.preparer.prepare(target)
            except OsCallError:
                if not self.found.entries:
                    raise
                self._queue.append(target)  # no descriptor is left: its turn comes when another target has ended
                return False
            if ready is not None:
                self._begin(ready)
            else:
                self._results.append(gone(target, self._clock()))
                self._emit("settled", target.what, target.ref, target.name, "already gone", outcome="already-gone")
            if self.backend.now() >= until:
                return bool(self._queue)
        return False

    def _begin(self, ready: Prepared) -> None:
        members = [JobMember(ref, name, tie, kept=kept) for ref, name, tie, kept in ready.members]
        members[0].catches = ready.catches
        for member in members[1:]:
            member.managed = member.name == ready.target.name
        watch_s = ready.origin.watch_s if ready.origin is not None else 0.0
        if self.backend.has_ladders:
            for member in members:
                member.ladder = ready.ladders.get(member.ref.pid)
        job = Job(ready.policy, members, watch_s=watch_s, target_is_shell=ready.is_shell)
        entry = Entry(len(self._results), ready, job)
        self._results.append(entry)
        if self.on_event is not None:
            more = f" and {len(members) - 1} more" if len(members) > 1 else ""
            target = ready.target
            self._tell("selected", entry, target.ref, target.name, f"{called(target.ref.pid, target.name)}{more}")
        self.found.begin(entry)
        # What has exited already is known before anything is sent: a zombie is not asked.
        for member in members:
            pin = ready.pins[member.ref.pid]
            member.row = ready.rows.get(member.ref.pid)
            for what, receipt in self._sent.get(member.ref, ()):
                job.told(member, _shared(what, receipt), self.backend.now())
            if self.backend.exited(pin):
                end = self.backend.end(pin)
                job.exited(member, end, self.backend.now())
                if self.on_event is not None:
                    self._tell(
                        "exited",
                        entry,
                        member.ref,
                        member.name,
                        f"{called(member.ref.pid, member.name)} had {end_in_words(end)}",
                    )
        self._perform(entry, job.start(self.backend.now()))

    # ------------------------------------------------------------------ events

    def _on_exit(self, key: int, now: float) -> None:
        followed = self.found.member(key)
        if followed is not None and followed[1].exited_at is None:
            self._exited(*followed, now)

    def _exited(self, entry: Entry, member: JobMember, now: float) -> None:
        end = self.backend.end(entry.ready.pins[member.ref.pid])
        actions = entry.job.exited(member, end, now)
        self._receivers.hear(member.ref)  # its last words come before the news of its end
        if self.on_event is not None:
            # Whether the parent reaps it is seen a moment later; the report says it if it does not.
            text = f"{called(member.ref.pid, member.name)} {end_in_words(end, reaping=False)}"
            self._tell("exited", entry, member.ref, member.name, text)
        self._perform(entry, actions)
        self._to_scan += self._deferred
        self._deferred.clear()
        if not self.found.sees_births and entry.report is None and self.policy.scope.kind != "only":
            self._to_scan.append(entry)  # what it leaves behind is known by its ids now, and by nothing later

    def _on_births(self, now: float) -> None:
        for entry, members in self.found.born():
            self._perform(entry, entry.job.joined(members, now))

    def _on_time(self, now: float) -> None:
        timers = self._timers
        if timers and timers[0][0] <= now:
            for key in self.found.waiter.wait(0):  # who ended in time must not be called running
                self._on_exit(key, now)
        while timers and timers[0][0] <= now:
            number = self._next_timer()
            entry = self.found.entries.get(number)
            if entry is not None:
                entry.woken_at = 0.0
                self._perform(entry, entry.job.tick(now))
        if self._watching:
            self._look_for_successors(now)

    def _set_timer(self, at: float, number: int) -> None:
        # Most runs have one timer, which is never due: they need no heap, which is 0.25 ms at start-up.
        if not self._timers:
            self._timers.append((at, number))
            return
        from heapq import heappush

        heappush(self._timers, (at, number))

    def _next_timer(self) -> int:
        """Take out the timer that is due first; return whose it is."""
        from heapq import heappop

        return heappop(self._timers)[1]

    def _look_for_successors(self, now: float) -> None:
        """Look once at each parent, whose children may stand for many targets."""
        at_s = self._clock()
        rows: dict[int, list[Row]] = {}
        thinned: list[Entry] = []
        for entry in list(self._watching):
            origin = entry.ready.origin
            if origin is None or entry.job.watch_s <= 0:
                if len(_suspects.still_there(self.backend, entry.job.suspects)) < len(entry.job.suspects):
                    thinned.append(entry)
                continue
            if id(origin) not in rows:
                rows[id(origin)] = _watch.newcomers(self.backend, origin)
            respawn = _watch.successor(
                self.backend, entry.ready, origin, rows[id(origin)], entry.job.target.exited_at, at_s
            )
            if respawn is not None:
                text = f"{respawn.ref.pid} {respawn.name} started again by {respawn.by}"
                self._tell("respawn", entry, respawn.ref, respawn.name, text)
                self._perform(entry, entry.job.successor(respawn, now))
            elif origin.pin is not None and self.backend.exited(origin.pin):
                self._perform(entry, entry.job.unwatch(now))
        family = _scope.Family(self.backend.table()) if thinned else None  # one for all, read after they had ended
        for entry in thinned:
            entry.job.suspects = self._suspects(entry, entry.job.suspects, family)
            if not entry.job.suspects:
                self._perform(entry, entry.job.unwatch(now))

    # ------------------------------------------------------------------ actions

    def _perform(self, entry: Entry, actions: list[Action]) -> None:
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            if isinstance(action, Send):
                queue += self._send(entry, action)
            elif isinstance(action, Look):
                self._to_look[entry] = None
            elif isinstance(action, Scan):
                self._to_scan.append(entry)
            elif isinstance(action, Force):
                if entry not in self._to_force:
                    self._to_force.append(entry)
            elif isinstance(action, Watch):
                self._watching.append(entry)
                if entry.job.watch_s <= 0:
                    continue  # only suspects are given a moment
                because = entry.ready.origin.because if entry.ready.origin is not None else ""
                text = f"watching {entry.job.watch_s:g} s for a respawn: {because}"
                self._tell("watching", entry, None, "", text)
            elif isinstance(action, Settle):
                self._finish(entry)
        wake_at = entry.job.wake_at
        if wake_at is not None and entry in self._to_look:
            wake_at = max(wake_at, self.backend.now() + _SLICE_S)  # it has asked for the look, and waits for that
        if wake_at is not None and wake_at != entry.woken_at and entry.report is None:
            entry.woken_at = wake_at
            self._set_timer(wake_at, entry.number)

    def _look(self, entry: Entry) -> None:
        """See what the members that were asked are doing instead of ending, and tell what is new."""
        del self._to_look[entry]
        if entry.report is not None:
            return
        blocked = False
        for member in entry.job.members:
            if member.exited_at is not None or not member.receipts:
                continue
            before = member.state
            blocked = observe(self.backend, entry, member).blocked or blocked
            for reason in member.state:
                if reason not in before:
                    self._tell("waiting", entry, member.ref, member.name, reason.text)
        blocked = blocked and not self.policy.unattended
        self._perform(entry, entry.job.looked(self.backend.now(), blocked=blocked))

    def _send(self, entry: Entry, action: Send) -> list[Action]:
        member, request, job = action.member, action.request, entry.job
        if request.kind == "console" and not self.policy.console_wide:
            # Without consent only the target's own tree may be hit; whoever sends it looks who is there at that moment.
            own = ",".join(str(m.ref.pid) for m in job.members if m.exited_at is None)
            request = replace(request, text=own)
        if member.exited_at is not None or job.state == "settled":
            return []
        now = self.backend.now()
        if self._several:
            asked = (member.ref, request.name, job.step)
            if asked in self._asked:  # another target of this run owns it too: one request is enough
                return []
            self._asked.add(asked)
        actions: list[Action] = []
        border = self._border(entry, member, request)
        if border:
            return self._receipt(entry, member, Receipt(request.name, "impossible", now - self.started_at, border), now)
        why_not = "" if request.forced else self._receivers.introduce(entry, member, request)
        now = self.backend.now()  # the first acquaintance of a run takes some milliseconds
        if request.kind == "channel":
            return self._receipt(entry, member, self._receivers.ask(entry, member, request, why_not), now)
        for receipt in deliver(self.backend, entry.ready.pins[member.ref.pid], request, now - self.started_at):
            actions += self._receipt(entry, member, receipt, now)
        return actions

    def _border(self, entry: Entry, member: JobMember, request: Request) -> str:
        """Return why a request that a plan names must not go to a member, empty if it may: what `plan` says is not sent is not sent."""
        facts = entry.ready.seen.get(member.ref.pid)
        if request.kind != "inject" or facts is None or facts.windows is None:
            return ""
        from endtask._ladder import no_inject

        return no_inject(facts.windows, self.policy, forced=request.forced)

    def _receipt(self, entry: Entry, member: JobMember, receipt: Receipt, now: float) -> list[Action]:
        actions = entry.job.receipt(
            member, receipt, now
        )  # before anything else: an interrupt must not lose what was sent
        if self._several and receipt.status in ("delivered", "denied"):
            self._share(entry, member, receipt)
        if self.on_event is not None:
            self._tell("request", entry, member.ref, member.name, receipt_in_words(receipt, member))
        return actions

    def _share(self, entry: Entry, member: JobMember, receipt: Receipt) -> None:
        """Let the other targets that own the same process know what was sent to it, also those that begin later."""
        what = entry.ready.target.what
        self._sent.setdefault(member.ref, []).append((what, receipt))
        for other in list(self.found.holders.get(member.ref.pid, ())):
            twin = other.by_pid.get(member.ref.pid)
            if other is not entry and other.report is None and twin is not None and twin.ref == member.ref:
                self._perform(other, other.job.told(twin, _shared(what, receipt), self.backend.now()))

    # ------------------------------------------------------------------ for several jobs at once

    def _look_around(self) -> None:
        """Carry out force, looks and scans, in this order: a look at a window that does not answer takes its time, and two hundred looks do."""
        until = self.backend.now() + _SLICE_S
        for _round in range(_ROUNDS):  # a tree that is born faster than it is looked at must not keep us from the clock
            if self._to_force:
                entries, self._to_force = self._to_force, []
                self._force_all([e for e in entries if e.report is None])
            elif self._to_look:
                self._look(next(iter(self._to_look)))
                if self.backend.now() >= until:
                    return
            elif self._to_scan and self.backend.now() >= self._next_scan:
                self._scan()
            else:
                return

    def _force_all(self, entries: list[Entry]) -> None:
        """End the trees of targets; together where each would cost a look at the whole machine, so that the last one is not forced seconds after the first."""
        from endtask._force import is_single  # most stops need none of it

        alone = entries
        if not (self.backend.reparents or self.found.sees_births):
            shared = [e for e in entries if any(len(self.found.holders[m.ref.pid]) > 1 for m in e.job.members)]
            together = [e for e in entries if e not in shared]
            if len(together) > 1:
                alone = shared
                for at in range(0, len(together), _TOGETHER):
                    self._force([e for e in together[at : at + _TOGETHER] if e.report is None])
        for entry in alone:
            if entry.report is not None:
                continue
            if is_single(entry, self.found):
                entry.forced_before = True
                request = entry.job.current
                assert request is not None, "force is a step"
                self._perform(entry, [Send(m, request) for m in entry.job.members if m.concerns_us])
            else:
                self._force([entry])

    def _force(self, entries: list[Entry]) -> None:
        from endtask._force import force

        for entry in entries:
            entry.forced_before = True
        forced, pending = force(entries, self.found, self._clock)
        now = self.backend.now()
        for entry, receipts in forced:
            actions: list[Action] = []
            for member, receipt in receipts:
                actions += self._receipt(entry, member, receipt, now)
            self._perform(entry, actions)
        for other, wanted in pending:
            if other.report is None:
                self._perform(other, wanted)

    def _scan(self) -> None:
        """Look for new members of jobs that want to prove their end, or that lost a member and have no fork watch."""
        late = self.backend.now()
        entries = [e for e in self._to_scan if e.report is None and (e.job.state == "proving" or late < e.job.deadline)]
        self._to_scan = []
        if not entries:
            return
        began = self.backend.now()
        self._on_births(began)
        births = self.found.births
        if births is not None and (
            births.pending or births.stirring
        ):  # first things first: there may be members not known yet
            self._to_scan += [e for e in entries if began < e.job.deadline]
            entries = [e for e in entries if began >= e.job.deadline]
        family = None
        # With every fork seen, another table can only show what hopped while the first one was read; it is cheap on a small machine.
        # A group, session or cgroup is entered by other ways than birth.
        kind = self.policy.scope.kind
        if kind != "only" and (kind != "tree" or not self.found.sees_births or self.preparer.small):
            family = _scope.Family(self.backend.table())
        for entry in dict.fromkeys(entries):
            if entry.report is None:  # a birth that came at the deadline has settled it meanwhile
                self._scan_one(entry, family)
        ended = self.backend.now()
        self._next_scan = ended + min(4 * (ended - began), _LONGEST_PAUSE_S)

    def _scan_one(self, entry: Entry, family: _scope.Family | None) -> None:
        ready, job = entry.ready, entry.job
        new = self.found.rescan(entry, family) if family is not None else []
        if new:
            self._perform(entry, job.joined(new, self.backend.now()))
        if job.state != "proving":
            return
        at_s = self._clock()
        shown = _watch.evidence(self.backend, ready, births=self.found.births, at_s=at_s, kind=self.policy.scope.kind)
        known = {s.ref.pid: s for s in (*ready.suspects, *entry.doubtful.values())}
        suspects = self._suspects(entry, tuple(known.values()), family)
        ports = _watch.port_state(self.backend, ready, at_s=at_s)
        if any(p.ours for p in ports) and self._held_by_another(entry):
            self._deferred.append(entry)  # another target of this run has the port as well: wait for its end
            return
        for port in ports:
            state = "free" if port.free else f"held by {port.holder}"
            self._tell("port", entry, None, "", f"port {port.port.lstrip(':')} {state}")
        for suspect in suspects:
            text = f"{suspect.ref.pid} {suspect.name} may belong to it: {suspect.because}"
            self._tell("suspect", entry, suspect.ref, suspect.name, text)
        self._perform(entry, job.scanned(self.backend.now(), evidence=shown, suspects=suspects, ports=ports))

    # ------------------------------------------------------------------ the end

    def _held_by_another(self, entry: Entry) -> bool:
        """Whether another target that is not settled yet was selected by the same port and still runs."""
        port = entry.ready.target.port
        others = (e for e in self.found.entries.values() if e is not entry and e.ready.target.port == port)
        return any(e.job.state == "asking" for e in others)

    def _finish(self, entry: Entry) -> None:
        if entry.report is not None:
            return
        target = entry.ready.target
        job = entry.job
        self._name_newborn(entry)
        suspects = self._suspects(entry, job.suspects)
        job.suspects = tuple(s for s in suspects if job.respawn is None or s.ref != job.respawn.ref)
        if job.ports:  # a watch for a respawn lies between the look at them and this verdict
            at_s = self._clock()
            job.ports = _watch.port_state(self.backend, entry.ready, at_s=at_s)
            if job.respawn is not None:  # a successor that has only begun may take a free port at any moment
                job.ports = tuple(p for p in job.ports if not p.free)
        entry.report = verdict(self.backend, entry, started_at=self.started_at)
        word = entry.report.outcome
        self._emit(
            "settled",
            target.what,
            target.ref,
            target.name,
            f"{called(target.ref.pid, target.name)}: {word}",
            outcome=word,
        )
        self._receivers.end(entry)
        self._results[entry.number] = entry.report  # ten thousand entries are a lot of memory
        self.found.end(entry)
        if entry in self._watching:
            self._watching.remove(entry)
        self._to_scan += self._deferred
        self._deferred.clear()

    def _suspects(
        self, entry: Entry, known: Sequence[Suspect], family: _scope.Family | None = None
    ) -> tuple[Suspect, ...]:
        """Return the suspects that run, and in place of one that has ended who has come after it: a fork that lets its parent exit is no end."""
        if family is None:
            left = _suspects.still_there(self.backend, known)
            if len(left) == len(known):
                return left
            family = _scope.Family(self.backend.table())
        return _watch.late_suspects(self.preparer, family, entry.ready, known)

    def _name_newborn(self, entry: Entry) -> None:
        """Look once more who belongs to a target that runs on: where births are not reported, a child of a program that swallows its request is seen by nothing else."""
        job = entry.job
        if self.found.sees_births or self.policy.scope.kind == "only" or not any(m.concerns_us for m in job.members):
            return
        began = self.backend.now()
        if self._last_table is None or began >= self._last_table[0]:
            family = _scope.Family(self.backend.table())
            ended = self.backend.now()
            # Many give up at the same time, and one table does for all of them.
            self._last_table = (ended + min(4 * (ended - began), _LONGEST_PAUSE_S), family)
        new = self.found.rescan(entry, self._last_table[1])
        if new:
            self._perform(entry, job.joined(new, self.backend.now()))

    def _tell(self, kind: str, entry: Entry, ref: PidRef | None, name: str, text: str) -> None:
        if self.on_event is not None:
            extended_s = entry.job.extended_s if kind == "needs" else 0.0
            self.on_event(Event(kind, self._clock(), entry.ready.target.what, ref, name, text, extended_s=extended_s))

    def _emit(self, kind: str, what: str, ref: PidRef | None, name: str, text: str, *, outcome: str = "") -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, self._clock(), what, ref, name, text, outcome))


def _shared(what: str, receipt: Receipt) -> Receipt:
    return replace(receipt, detail=f"as part of `{what}`")
