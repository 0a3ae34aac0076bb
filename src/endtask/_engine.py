"""Drives any number of jobs on one backend with one wait.

The run is a generator that yields how long it wants to wait and is sent the keys of the processes that have exited.
So one piece of code serves the blocking driver, the asynchronous one (asyncio, trio) and the simulated system.

Decision: what costs a look at the whole machine (the process table after an exit) is shared by all jobs of a run and is done again at the earliest
after four times its own duration, so that ten thousand targets that end one after the other cost a few looks, not ten thousand.
"""

from __future__ import annotations

import heapq

from endtask import _prepare, _scope, _watch, _why
from endtask._job import Force, Job, JobMember, Scan, Send, Settle, Watch
from endtask._plan import KILL
from endtask._request import deliver
from endtask.errors import AccessDeniedError, GoneError
from endtask.model import Event, MemberReport, PidRef, ProcessEnd, Reason, Receipt, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from endtask._backends.base import Backend, Pin, Sweep, Waiter
    from endtask._find import Target
    from endtask._job import Action
    from endtask._prepare import Prepared, Preparer
    from endtask._watch import Births
    from endtask.model import Policy

    Wait = Generator[float, list[int], None]

_RESPAWN_LOOK_S = 0.025
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM"}


class Entry:
    """A job with what the engine knows about it: its handles and its report."""

    __slots__ = ("by_pid", "forced_before", "job", "number", "ready", "report")

    def __init__(self, number: int, ready: Prepared, job: Job) -> None:
        self.number = number
        self.ready = ready
        self.job = job
        self.by_pid: dict[int, JobMember] = {m.ref.pid: m for m in job.members}
        self.forced_before = False
        self.report: TargetReport | None = None


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
        self.waiter = waiter
        self.births = births
        self.started_at = started_at
        self.on_event = on_event
        self.cancelled = False
        self._queue = list(targets)[::-1]
        self._results: list[TargetReport | Entry] = []
        self._entries: dict[int, Entry] = {}
        self._members: list[tuple[Entry, JobMember]] = []
        self._timers: list[tuple[float, int]] = []
        self._to_scan: list[Entry] = []
        self._to_force: list[Entry] = []
        self._watching: list[Entry] = []
        self._asked: dict[tuple[PidRef, str], str] = {}
        self._next_scan = 0.0
        self._several = len(self._queue) > 1

    # ------------------------------------------------------------------ the loop

    def go(self) -> Wait:
        """Run until every job is settled."""
        try:
            self._admit()
            while self._entries:
                self._look_around()
                if not self._entries:
                    break
                keys = yield self._timeout()
                now = self.backend.now()
                for key in keys:
                    self._on_exit(key, now)
                self._on_births(now)
                self._on_time(now)
                self._admit()
        except KeyboardInterrupt:
            self._cancel()

    def reports(self) -> tuple[TargetReport, ...]:
        """Return the verdicts in the order of the targets."""
        return tuple(r for r in (r.report if isinstance(r, Entry) else r for r in self._results) if r is not None)

    def close(self) -> None:
        """Release every handle; for a run that was given up."""
        for entry in list(self._entries.values()):
            self._release(entry)
        for target in self._queue:
            if target.pin is not None:
                target.pin.close()

    def _cancel(self) -> None:
        """The user wants us to stop asking: say what was sent and what still runs."""
        self.cancelled = True
        now = self.backend.now()
        for entry in list(self._entries.values()):
            self._perform(entry, entry.job.cancel(now))
        for target in reversed(self._queue):
            reason = Reason("cancelled", "nothing was sent: endtask was interrupted before its turn")
            self._results.append(TargetReport(target.what, target.ref, target.name, "running", reasons=(reason,)))
            if target.pin is not None:
                target.pin.close()
        self._queue.clear()

    def _clock(self) -> float:
        return self.backend.now() - self.started_at

    def _timeout(self) -> float:
        now = self.backend.now()
        until = self._timers[0][0] if self._timers else now + 3600.0
        if self._watching:
            until = min(until, now + _RESPAWN_LOOK_S)
        if self._to_scan:
            until = min(until, self._next_scan)
        return max(0.0, until - now)

    # ------------------------------------------------------------------ admission

    def _admit(self) -> None:
        """Begin with as many targets as there are descriptors for; the others wait for their turn."""
        while self._queue:
            waiting = self._queue[-1]
            if waiting.pin is None and self._entries and self.backend.capacity() < 16:
                return
            target = self._queue.pop()
            ready = self.preparer.prepare(target)
            if ready is None:
                self._results.append(_gone(target, self._clock()))
                self._emit("settled", target.what, target.ref, target.name, "already gone", outcome="already-gone")
            else:
                self._begin(ready)

    def _begin(self, ready: Prepared) -> None:
        members = [JobMember(ref, name, tie, kept=kept) for ref, name, tie, kept in ready.members]
        members[0].catches = ready.catches
        entry = Entry(len(self._results), ready, Job(self.policy, members, watch_s=ready.watch_s))
        self._results.append(entry)
        self._entries[entry.number] = entry
        if self.on_event is not None:
            text = f"{ready.target.ref.pid} {ready.target.name}"
            more = len(members) - 1
            self._emit("selected", ready.target.what, ready.target.ref, ready.target.name, f"{text} and {more} more" if more else text)
        for member in members:
            self._follow(entry, member)
        if self.births is not None and self.policy.scope.kind != "only":
            self.births.own(list(ready.pins.values()), entry.number)
        now = self.backend.now()
        # What has exited already is known before anything is sent: a zombie is not asked.
        for member in members:
            pin = ready.pins[member.ref.pid]
            if self.backend.exited(pin):
                entry.job.exited(member, self.backend.end(pin), now)
        self._perform(entry, entry.job.start(now))

    def _follow(self, entry: Entry, member: JobMember) -> None:
        key = len(self._members)
        self._members.append((entry, member))
        self.waiter.add(entry.ready.pins[member.ref.pid], key)

    # ------------------------------------------------------------------ events

    def _on_exit(self, key: int, now: float) -> None:
        entry, member = self._members[key]
        if member.exited_at is not None or entry.report is not None:
            return
        end = self.backend.end(entry.ready.pins[member.ref.pid])
        if self.on_event is not None:
            text = f"{member.ref.pid} {member.name} {end_in_words(end)}"
            self._emit("exited", entry.ready.target.what, member.ref, member.name, text)
        self._perform(entry, entry.job.exited(member, end, now))

    def _on_births(self, now: float) -> None:
        for entry, members in self._discover_births().items():
            self._perform(self._entries[entry], self._entries[entry].job.joined(members, now))

    def _discover_births(self) -> dict[int, list[JobMember]]:
        """Take in every new descendant that the kernel reported."""
        found: dict[int, list[JobMember]] = {}
        if self.births is None:
            return found
        for owners, pin, child, parent in self.births.collect():
            open_owners = [o for o in owners if o in self._entries]
            if pin is None or not open_owners:
                if pin is not None:
                    pin.close()
                continue
            entry = self._entries[open_owners[0]]
            known = entry.by_pid.get(child)
            if known is not None and known.ref == pin.ref:
                pin.close()  # the process table had it already
                continue
            parent_member = entry.by_pid.get(parent)
            kept = parent_member is not None and parent_member.kept
            row = self.backend.row(child)
            name = self.backend.full_name(child, row.comm) if row is not None else ""
            found.setdefault(entry.number, []).append(self._join(entry, pin, name, "started while stopping", kept=kept))
        return found

    def _join(self, entry: Entry, pin: Pin, name: str, tie: str, *, kept: bool) -> JobMember:
        member = JobMember(pin.ref, name, tie, kept=kept)
        before = entry.ready.pins.pop(pin.ref.pid, None)
        if before is not None:  # an exited member had this pid: its story is over, its handle may go
            self.waiter.drop(before)
            before.close()
        entry.ready.pins[pin.ref.pid] = pin
        entry.by_pid[pin.ref.pid] = member
        self._follow(entry, member)
        if self.on_event is not None:
            self._emit("joined", entry.ready.target.what, pin.ref, name, f"{pin.ref.pid} {name} found: {tie}")
        return member

    def _on_time(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            _at, number = heapq.heappop(timers)
            entry = self._entries.get(number)
            if entry is not None:
                self._perform(entry, entry.job.tick(now))
        for entry in list(self._watching):
            respawn = _watch.successor(self.backend, entry.ready, self._clock())
            if respawn is not None:
                self._emit("respawn", entry.ready.target.what, respawn.ref, respawn.name, f"{respawn.ref.pid} {respawn.name} started again by {respawn.by}")
                self._perform(entry, entry.job.successor(respawn, now))
            elif entry.ready.parent is not None and self.backend.exited(entry.ready.parent):
                self._perform(entry, entry.job.unwatch(now))

    # ------------------------------------------------------------------ actions

    def _perform(self, entry: Entry, actions: list[Action]) -> None:
        queue = list(actions)
        while queue:
            action = queue.pop(0)
            if isinstance(action, Send):
                queue += self._send(entry, action)
            elif isinstance(action, Scan):
                self._to_scan.append(entry)
            elif isinstance(action, Force):
                if entry not in self._to_force:
                    self._to_force.append(entry)
            elif isinstance(action, Watch):
                self._watching.append(entry)
                self._emit("watching", entry.ready.target.what, None, "", f"watching {entry.job.watch_s:g} s for a respawn: {entry.ready.watch_because}")
            elif isinstance(action, Settle):
                self._finish(entry)
        wake_at = entry.job.wake_at
        if wake_at is not None and entry.report is None:
            heapq.heappush(self._timers, (wake_at, entry.number))

    def _send(self, entry: Entry, action: Send) -> list[Action]:
        member, request = action.member, action.request
        if member.exited_at is not None or entry.job.state == "settled":
            return []
        now = self.backend.now()
        at_s = now - self.started_at
        what = entry.ready.target.what
        asked = (member.ref, request.name)
        if self._several and asked in self._asked:  # another target of this run owns it too: one request is enough
            receipts = [Receipt(request.name, "delivered", at_s, f"asked already as part of `{self._asked[asked]}`")]
        else:
            receipts = deliver(self.backend, entry.ready.pins[member.ref.pid], request, at_s)
            if self._several and receipts[0].status == "delivered":
                self._asked[asked] = what
        actions: list[Action] = []
        for receipt in receipts:
            if self.on_event is not None:
                self._emit("request", what, member.ref, member.name, receipt_in_words(receipt, member))
            actions += entry.job.receipt(member, receipt, now)
        return actions

    def _look_around(self) -> None:
        """Carry out what is done for several jobs at once: force and scans."""
        while self._to_force or (self._to_scan and self.backend.now() >= self._next_scan):
            if self._to_force:
                entries, self._to_force = self._to_force, []
                for entry in entries:
                    if entry.report is None:
                        self._force(entry)
            else:
                self._scan()

    def _scan(self) -> None:
        entries, self._to_scan = self._to_scan, []
        entries = [e for e in entries if e.report is None and e.job.state == "proving"]
        if not entries:
            return
        began = self.backend.now()
        self._on_births(began)
        family = None
        if self.policy.scope.kind != "only" and (self.births is None or not self.births.complete):
            family = _scope.Family(self.backend.table())
        for entry in entries:
            if entry.job.state == "proving":
                self._scan_one(entry, family)
        ended = self.backend.now()
        self._next_scan = ended + 4 * (ended - began)

    def _scan_one(self, entry: Entry, family: _scope.Family | None) -> None:
        ready, job = entry.ready, entry.job
        if family is not None:
            new = self._rescan(entry, family)
            if new:
                self._perform(entry, job.joined(new, self.backend.now()))
                return
        at_s = self._clock()
        pins = ready.pins.values()
        shown = _watch.evidence(
            self.backend,
            ready,
            births=self.births,
            at_s=at_s,
            mechanism=ready.pins[ready.target.ref.pid].mechanism,
            exact=all(p.exact for p in pins),
            kind=self.policy.scope.kind,
        )
        suspects = _watch.late_suspects(self.backend, family, ready) if family is not None else _prepare.still_there(self.backend, ready.suspects)
        ports = _watch.port_state(self.backend, ready, started_s=at_s, at_s=at_s)
        for port in ports:
            self._emit("port", ready.target.what, None, "", f"port {port.port.lstrip(':')} free" if port.free else f"port {port.port.lstrip(':')} held by {port.holder}")
        for suspect in suspects:
            self._emit("suspect", ready.target.what, suspect.ref, suspect.name, f"{suspect.ref.pid} {suspect.name} may belong to it: {suspect.because}")
        self._perform(entry, job.scanned(self.backend.now(), evidence=shown, suspects=suspects, ports=ports))

    def _rescan(self, entry: Entry, family: _scope.Family) -> list[JobMember]:
        """Return members that the process table shows and that were not known."""
        ready = entry.ready
        new = []
        for pid, tie in self.preparer.scope_of(ready, family).items():
            known = entry.by_pid.get(pid)
            if known is not None and (known.exited_at is None or self._is_same(ready.pins.get(pid))):
                continue
            if known is None and pid == ready.target.ref.pid:
                continue
            try:
                pin = self.backend.pin(pid)
            except (GoneError, AccessDeniedError):
                continue  # ignored: gone meanwhile; what may not be opened is found again by the next scan's caller as unproven
            row, expected = self.backend.row(pid), family.table[pid]
            if row is None or row.start != expected.start or (known is not None and known.ref == pin.ref) or self.backend.exited(pin):
                pin.close()
                continue
            new.append(self._join(entry, pin, self.backend.full_name(pid, row.comm), tie if known is None else "started while stopping", kept=False))
        if new and self.births is not None:
            self.births.own([ready.pins[m.ref.pid] for m in new], entry.number)
        return new

    def _is_same(self, pin: Pin | None) -> bool:
        """Whether the process table still shows the exited process itself: a zombie."""
        if pin is None:
            return False
        row = self.backend.row(pin.ref.pid)
        return row is None or row.state == "Z"

    # ------------------------------------------------------------------ force

    def _force(self, entry: Entry) -> None:
        """End everything in scope; a tree is held still first, so that nothing is born while the rest dies."""
        job, ready = entry.job, entry.ready
        alive = [m for m in job.members if m.concerns_us]
        if len(job.members) == 1 and not entry.forced_before:
            entry.forced_before = True
            self._perform(entry, [Send(m, KILL) for m in alive])
            return
        entry.forced_before = True
        whole = ready.cgroup if ready.cgroup and not any(m.kept for m in job.members) and self.policy.scope.kind in ("tree", "cgroup") else ""
        if whole and not self._exactly(whole, ready):
            whole = ""
        sweep = self.backend.open_sweep(whole)
        try:
            held, refused = self._hold_all(entry, sweep)
            receipts = sweep.kill([ready.pins[m.ref.pid] for m in held], self._clock())
        finally:
            sweep.close()
        now = self.backend.now()
        actions: list[Action] = []
        for member, receipt in [*refused, *zip(held, receipts)]:
            self._emit("request", ready.target.what, member.ref, member.name, receipt_in_words(receipt, member))
            actions += job.receipt(member, receipt, now)
        self._perform(entry, actions)

    def _exactly(self, cgroup: str, ready: Prepared) -> bool:
        """Whether the cgroup holds nothing but the scope: killing it whole then hits nobody else."""
        pids = self.backend.cgroup_pids(cgroup)
        return pids is not None and not any(p in self.preparer.own_line or p <= 1 for p in pids)

    def _hold_all(self, entry: Entry, sweep: Sweep) -> tuple[list[JobMember], list[tuple[JobMember, Receipt]]]:
        """Hold member after member until a look around finds nobody new."""
        job, ready = entry.job, entry.ready
        held: list[JobMember] = []
        refused: list[tuple[JobMember, Receipt]] = []
        done: set[JobMember] = set()
        limit = max(job.deadline, self.backend.now() + 1.0)
        while self.backend.now() < limit:
            todo = [m for m in job.members if m.concerns_us and m not in done]
            for member in todo:
                done.add(member)
                receipt = sweep.hold(ready.pins[member.ref.pid])
                if receipt is None:
                    held.append(member)
                elif receipt.status != "gone":
                    refused.append((member, receipt))
            fresh: list[JobMember] = []
            for number, members in self._discover_births().items():
                other = self._entries[number]
                if other is entry:
                    fresh += members
                else:
                    self._perform(other, other.job.joined(members, self.backend.now()))
            if self.births is None or not self.births.complete or not job.members:
                fresh += self._rescan(entry, _scope.Family(self.backend.table()))
            job.joined(fresh, self.backend.now())  # the answer would be Force, which is what we are doing
            if not fresh:
                break
        return held, refused

    # ------------------------------------------------------------------ the verdict

    def _finish(self, entry: Entry) -> None:
        job, ready = entry.job, entry.ready
        if entry.report is not None:
            return
        elapsed = self._clock()
        word = _why.outcome(job)
        members = tuple(self._member_report(ready, m) for m in job.members)
        reasons = self._reasons(entry)
        target = ready.target
        entry.report = TargetReport(
            target.what,
            target.ref,
            target.name,
            word,
            elapsed,
            members,
            job.evidence if word not in ("running", "not-permitted", "unreachable") else (),
            tuple(reasons),
            job.ports,
            job.respawn,
            job.suspects,
            _why.advice(word, target.ref.pid, reasons, job),
        )
        self._emit("settled", target.what, target.ref, target.name, f"{target.ref.pid} {target.name}: {word}", outcome=word)
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        for pin in entry.ready.pins.values():
            self.waiter.drop(pin)
        entry.ready.close()
        self._entries.pop(entry.number, None)
        if entry in self._watching:
            self._watching.remove(entry)

    def _member_report(self, ready: Prepared, member: JobMember) -> MemberReport:
        end = member.end
        if end is not None and (not end.known or end.unreaped_by) and ready.pins.get(member.ref.pid) is not None:
            pin = ready.pins[member.ref.pid]
            if pin.ref == member.ref:
                end = self.backend.end(pin)  # by now it may have been reaped, and only then the kernel tells
        exited_at = None if member.exited_at is None else max(0.0, member.exited_at - self.started_at)
        return MemberReport(
            member.ref, member.name, member.tie, member.exited_at is not None, exited_at, end, member.forced, tuple(member.receipts), member.kept
        )

    def _reasons(self, entry: Entry) -> list[Reason]:
        job, ready = entry.job, entry.ready
        found: list[Reason] = []
        if job.cancelled:
            found.append(Reason("cancelled", "endtask was interrupted"))
        for member in job.members:
            if not member.concerns_us:
                continue
            facts = self.backend.facts(ready.pins[member.ref.pid])
            stuck = _why.forced_without_effect(member, facts)
            if stuck is not None:
                found.append(stuck)
            found += _why.member_reasons(job, member, facts)
        found += _why.scope_reasons(job)
        return found

    def _emit(self, kind: str, what: str, ref: PidRef | None, name: str, text: str, *, outcome: str = "") -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, self._clock(), what, ref, name, text, outcome))


def _gone(target: Target, at_s: float) -> TargetReport:
    from endtask.model import Evidence

    shown = Evidence("token", "proved", f"no process has the identity {target.ref} any more", at_s)
    return TargetReport(target.what, target.ref, target.name, "already-gone", at_s, evidence=(shown,))


def signal_name(number: int) -> str:
    """Return `TERM` for 15; the number as text where it has no common name."""
    return _SIGNALS.get(number, str(number))


def end_in_words(end: ProcessEnd) -> str:
    """Return `exited, status 0`, `ended by TERM`, `exited, status unknown (...)`."""
    core = ", core dumped" if end.core else ""
    if end.signal:
        text = f"ended by {signal_name(end.signal)}{core}"
    elif end.status is not None:
        text = f"exited, status {end.status}"
    else:
        text = f"exited, status unknown ({end.why_unknown})" if end.why_unknown else "exited, status unknown"
    if end.unreaped_by:
        text += f", not reaped by {end.unreaped_by} {end.unreaped_name}".rstrip()
    return text


def receipt_in_words(receipt: Receipt, member: JobMember) -> str:
    """Return `TERM -> 12 nginx`, with what went wrong."""
    text = f"{receipt.request} -> {member.ref.pid} {member.name}"
    if receipt.status != "delivered":
        text += f": {receipt.status}, {receipt.detail}" if receipt.detail else f": {receipt.status}"
    elif receipt.detail:
        text += f" ({receipt.detail})"
    return text
