"""Drives any number of jobs on one backend with one wait.

The run is a generator that yields how long it wants to wait and is sent the keys of the processes that have exited.
So one piece of code serves the blocking driver, the asynchronous one (asyncio, trio) and the simulated system.
What it finds out about the rest of the machine is found out elsewhere: who joins (`_discover`), who has a receiver (`_receivers`), who is left at the end (`_scans`).

Size: one loop and what it does in a turn, and how an action of a job is carried out; both share every queue.
"""

from __future__ import annotations

from endtask._discover import Discovery, Entry
from endtask._job import Force, Job, JobMember, Look, Scan, Send, Settle, Watch
from endtask._receivers import Receivers
from endtask._record import replace
from endtask._request import deliver
from endtask._scans import Scans
from endtask._verdict import end_in_words, gone, not_begun, observe, receipt_in_words, verdict
from endtask._words import called
from endtask.errors import OsCallError
from endtask.model import Event, PidRef, Receipt, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from endtask._backends.base import Backend, Waiter
    from endtask._find import Target
    from endtask._job import Action
    from endtask._prepare import Prepared, Preparer
    from endtask._watch import Births
    from endtask.model import Policy, Request

    Wait = Generator[float, list[int], None]

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
        self._to_force: list[Entry] = []
        self._to_look: dict[Entry, None] = {}
        self._asked: set[tuple[PidRef, str, int]] = set()
        self._sent: dict[PidRef, list[tuple[str, Receipt]]] = {}
        self._several = len(self._queue) > 1
        self._receivers = Receivers(backend, waiter, started_at, self.found.owners, self._perform, self._tell)
        self._scans = Scans(self.found, started_at, self._perform, self._tell, self._on_births)

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
        return max(0.0, self._scans.due_at(until) - now)

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
        self._scans.after_exit(entry)

    def _on_births(self, now: float) -> None:
        for entry, members in self.found.born():
            self._perform(entry, entry.job.joined(members, now))

    def _on_time(self, now: float) -> None:
        timers = self._timers
        if timers and timers[0][0] <= now:
            for key in self.found.waiter.wait(0):  # who ended in time must not be called running
                self._on_exit(key, now)
        self._scans.look_for_successors(now)  # before the verdict of those that were watched for long enough
        while timers and timers[0][0] <= now:
            number = self._next_timer()
            entry = self.found.entries.get(number)
            if entry is not None:
                entry.woken_at = 0.0
                self._perform(entry, entry.job.tick(now))

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
                self._scans.want(entry)
            elif isinstance(action, Force):
                if entry not in self._to_force:
                    self._to_force.append(entry)
            elif isinstance(action, Watch):
                self._scans.watch(entry)
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
            elif self._scans.due:
                self._scans.scan()
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

    # ------------------------------------------------------------------ the end

    def _finish(self, entry: Entry) -> None:
        if entry.report is not None:
            return
        target = entry.ready.target
        self._scans.look_a_last_time(entry)
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
        self._scans.after_end(entry)

    def _tell(self, kind: str, entry: Entry, ref: PidRef | None, name: str, text: str) -> None:
        if self.on_event is not None:
            extended_s = entry.job.extended_s if kind == "needs" else 0.0
            self.on_event(Event(kind, self._clock(), entry.ready.target.what, ref, name, text, extended_s=extended_s))

    def _emit(self, kind: str, what: str, ref: PidRef | None, name: str, text: str, *, outcome: str = "") -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, self._clock(), what, ref, name, text, outcome))


def _shared(what: str, receipt: Receipt) -> Receipt:
    return replace(receipt, detail=f"as part of `{what}`")
