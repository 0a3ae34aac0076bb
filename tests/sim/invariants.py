"""The promises of endtask as invariants of the report, judged by what only the simulator knows.

Reading order: `witness.py` for who is whose and for the rules at every send, then `Judge.check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask._backends.sim.process import CONT, HELD, KILL, Process

from .witness import EXACT_S, HOLD, SLACK_S, Alive, ViolationError, Witness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask.model import Report, TargetReport

LINGER_S = 0.3  # the moment that suspects are given to end by themselves before the verdict
_CODES = {
    "stopped": 0,
    "already-gone": 0,
    "forced": 10,
    "respawned": 11,
    "running": 124,
    "vetoed": 124,
    "not-permitted": 77,
    "unreachable": 77,
    "unproven": 3,
}
_SUCCESS = ("stopped", "forced", "already-gone")


class Judge(Witness):
    """A witness that judges the report, and what is left behind."""

    def check(self, report: Report) -> None:
        """Judge the report of `stop` or `wait`."""
        for target in report.targets:
            self._check_target(target, report)
        self._check_codes(report)
        self._check_events(report)
        self._check_time(report)
        if self.sends:
            self._check_receipts(report)
            if len(report.targets) == 1 and not report.missing:
                self._check_order(report.targets[0])

    def check_left(self) -> None:
        """Judge what is left behind, also after a failure or our own death."""
        held = [p for p in self.system.table.values() if p.held_by_us and not p.exited and p.block & HELD]
        if held:
            raise ViolationError("thaw", f"still held after the end: {held}")
        if not self.backend.dead and (self.backend.pins or self.backend.open_handles):
            raise ViolationError("leak", f"still open: {list(self.backend.pins) or list(self.backend.open_handles)}")

    def _check_target(self, target: TargetReport, report: Report) -> None:
        process = self.processes(target.ref)[-1]
        members = {}
        for member in target.members:
            found = self.processes(member.ref)
            members[found[-1].serial] = member
            if len(found) > 1:
                continue
            it = found[0]
            if member.exited and not it.exited:
                raise ViolationError("lie", f"{it} is reported as exited and runs")
            if member.end is not None and member.end.known and member.exited:
                told = (member.end.status, member.end.signal)
                true = (None if it.signal else it.status, it.signal)
                if told != true:
                    raise ViolationError("end", f"{it} ended by {true}, reported {told}")
            if (
                not member.exited
                and it.exited
                and not report.cancelled
                and it.exited_at < self.began + target.elapsed_s - self._late()
            ):
                raise ViolationError("stale", f"{it} exited long before the verdict and is reported as alive")
            killed = any(
                s.process is it and s.number == KILL and (not it.exited or s.at <= it.exited_at) for s in self.sent
            )
            known = member.end is not None and member.end.known
            if member.forced and known and not killed and not (it.signal == KILL and it.namespace is not None):
                raise ViolationError("forced", f"{it} is reported as forced, and no KILL reached it alive")
        self._check_outcome(target, process, members.keys(), report)
        self._check_ports(target)
        if not report.cancelled:
            self._check_respawn(target, process)
        self._check_said(target)

    def _check_said(self, target: TargetReport) -> None:
        """What was said is told: as often, and granted only what the policy allows."""
        extend_s = self.policy.extend_s
        granted = sum(s.granted_s for m in target.members for s in m.said)
        if target.granted_s > extend_s + EXACT_S or abs(granted - target.granted_s) > EXACT_S:
            raise ViolationError("extend", f"{target.granted_s} s granted, {granted} s told, {extend_s} s allowed")
        told = {str(e.ref) for e in self.events if e.kind in ("heard", "said", "needs", "refuses")}
        for member in target.members:
            if member.said and str(member.ref) not in told:
                raise ViolationError("events", f"{member.ref} said something, and nobody was told")
            times = [s.at_s for s in member.said]
            if times != sorted(times) or len(times) > 64:
                raise ViolationError("said", f"{len(times)} entries of {member.ref}, out of order or too many")
            if any(not s.text.isprintable() or len(s.text) > 500 for s in member.said):
                raise ViolationError("said", f"{member.ref}: a text that is not fit to be shown")
        refused = any(s.kind == "veto" for m in target.members for s in m.said)
        if target.outcome == "vetoed" and not refused:
            raise ViolationError("outcome", "vetoed, and nobody has refused")

    def _check_ports(self, target: TargetReport) -> None:
        for port in target.ports:
            seen_at = self.origin + port.at_s
            holders = [p for n, p in self.listening.get(str(target.ref), ()) if f":{n}" == port.port]
            before = [p for p in holders if max(p.born_at, p.changed_at) < seen_at]
            if port.free and before:
                raise ViolationError("port", f"{port.port} is said to be free, and {before} listen")

    def _check_respawn(self, target: TargetReport, process: Process) -> None:
        if target.outcome == "respawned" and target.respawn is not None:
            new = self.processes(target.respawn.ref)[-1]
            # Without fork events a child that the target left behind cannot be told from a successor; both are no success.
            if new.born_at < self.origin or new is process:
                raise ViolationError("respawn", f"{new} is no successor: it began before the run")
        asked = any(r.status == "delivered" for r in target.members[0].receipts) if target.members else False
        if target.outcome not in ("stopped", "forced") or not self.policy.watch_s or not asked:
            return
        settled_at = self.settled[str(target.ref)][2]
        missed = [p for p in self.successors.get(str(target.ref), ()) if p.born_at < settled_at - self._late()]
        if missed:
            raise ViolationError("respawn", f"{target.outcome}, and {missed} took its place while it was watched for")

    def _late(self) -> float:
        """Return by how much a look may be late: the time that our own calls took."""
        own = self.system.now - self.began - (self.backend.waited_s - self.waited)
        return SLACK_S + own

    def _check_outcome(self, target: TargetReport, process: Process, members: Iterable[int], report: Report) -> None:
        word = target.outcome
        known = [self.system.everyone[s - 1] for s in members]
        if self.life.world.pidfd:
            if word == "already-gone" and any(s.process in known and s.number != HOLD for s in self.sent):
                raise ViolationError("outcome", "already-gone, and something was sent")
            killed = [
                s
                for s in self.sent
                if s.number == KILL and s.process in known and not (s.process.exited and s.at > s.process.exited_at)
            ]
            ended = [s for s in killed if s.process.signal == KILL]  # the others were ending already when it came
            if word == "stopped" and ended:
                raise ViolationError("outcome", f"stopped, and {ended[0].process} was killed")
            if word == "forced" and not killed:
                raise ViolationError("outcome", "forced, and no KILL was delivered to a living process")
        if word in ("stopped", "forced") and not target.evidence:
            raise ViolationError("evidence", f"{word} without evidence")
        settled = self.settled.get(str(target.ref))
        if settled is None:
            raise ViolationError("events", f"{target.ref} was never told to be settled")
        if settled[0] != word:
            raise ViolationError("events", f"settled as {settled[0]}, reported as {word}")
        if word == "running" and not report.cancelled:
            self._check_running(target, settled[2])
        if word in (*_SUCCESS, "respawned"):
            if target.members and target.members[0].kept:
                raise ViolationError("keep", f"the target {process} is kept, and the outcome is {word}")
            # What is suspected of another target, or is a target itself, is in the report with its own verdict.
            refs = [
                r
                for t in report.targets
                for r in (t.ref, *(s.ref for s in t.suspects), *(m.ref for m in t.survivors))
                if t is not target or r != t.ref
            ]
            named = {p.serial for r in refs for p in self.processes(r)}
            if target.respawn is not None and word == "respawned":
                named |= {p.serial for p in self.processes(target.respawn.ref)}
            kept = self._kept_late(target)
            alive = [a for a in settled[1] if a.process.serial not in named and kept.isdisjoint(a.process.roots)]
            self._check_empty(target, process, alive, settled[2], known)

    def _kept_late(self, target: TargetReport) -> set[int]:
        """Return the members that the report calls kept and that have the name to be kept: they may be born after we have looked, and before endtask does."""
        return {p.serial for m in target.members if m.kept and m.name in self.life.keep for p in self.processes(m.ref)}

    def _check_running(self, target: TargetReport, settled_at: float) -> None:
        alive = [
            p
            for m in target.survivors
            for p in self.processes(m.ref)
            if not p.exited or p.exited_at > settled_at - self._late()
        ]
        if not alive:
            raise ViolationError("outcome", "running, and every survivor had exited long before")

    def _check_empty(
        self, target: TargetReport, process: Process, alive: list[Alive], settled_at: float, known: list[Process]
    ) -> None:
        """Success: nothing lives that a look after the last exit could have found or suspected."""
        exits = [p.exited_at for p in known if p.exited and p.serial not in self.spared and p.exited_at <= settled_at]
        looked = max([self.began, *exits])
        if not self.life.world.pidfd and len(self.processes(target.ref)) > 1:
            return
        for one in alive:
            if one.process is process or (one.tie and one.since <= looked):
                raise ViolationError(
                    "lie",
                    f"{target.outcome}, and {one.facts} lives (since {one.since:.6f}, last exit {looked:.6f}): {one.tie}",
                )
            proofs = [e for e in target.evidence if e.mechanism == "fork-events" and e.strength == "proved"]
            if proofs and self.policy.scope.kind == "tree" and not self._escaped_before(process, one.process):
                raise ViolationError("proof", f"every fork was seen, and {one.facts} lives")
        for evidence in target.evidence:
            if evidence.mechanism == "cgroup-empty" and evidence.strength == "proved":
                inside = [a.process for a in alive if a.process.cgroup in evidence.text and a.process.cgroup != "/"]
                if inside:
                    raise ViolationError("proof", f"the cgroup was shown to be empty, and {inside} live")

    def _escaped_before(self, target: Process, process: Process) -> bool:
        """Return whether the line from *target* to *process* was broken, or out of sight, before endtask started."""
        line: Process | None = process
        while line is not None and line is not target:
            if line.serial in self.outset and (
                self.outset[line.serial] or "hidden" in line.flags or "no-pin" in line.flags
            ):
                return True
            if line.flags & {"hidden", "no-pin"}:
                return True
            line = line.born_of
        return False

    def _check_codes(self, report: Report) -> None:
        codes = {_CODES[t.outcome] for t in report.targets}
        if report.force_ok and 10 in codes:
            codes = (codes - {10}) | {0}
        for missing in report.missing:
            codes.add(77 if missing.code == "not-permitted" else 0 if report.missing_ok else 1)
        expected = next((c for c in (3, 2, 77, 124, 11, 10, 1, 0) if c in codes), 0)
        if report.cancelled:
            expected = 130
        if report.exit_code != expected:
            raise ViolationError("code", f"exit code {report.exit_code}, the outcomes mean {expected}")

    def _check_events(self, report: Report) -> None:
        told = {str(e.ref) for e in self.events if e.kind in ("selected", "settled", "joined")}
        exited = {str(e.ref) for e in self.events if e.kind == "exited"}
        for target in report.targets:
            for member in target.members:
                late = member.tie != "target" and str(member.ref) not in told and member.tie == "started while stopping"
                if late:
                    raise ViolationError("events", f"{member.ref} joined and nobody was told")
                started = member.exited_at_s is not None and self.origin + member.exited_at_s
                at_once = started and self.processes(member.ref)[-1].exited_at <= started + 1e-9
                if member.exited and str(member.ref) not in exited and not at_once:
                    raise ViolationError("events", f"{member.ref} exited and nobody was told")
        said = sum(e.kind == "request" for e in self.events)
        have = sum(not r.detail.startswith("as part of") for t in report.targets for m in t.members for r in m.receipts)
        if said != have:
            raise ViolationError("events", f"{said} requests were told, {have} are in the report")

    def _check_time(self, report: Report) -> None:
        watch = 3.0 if self.policy.watch_s is None else self.policy.watch_s
        rounds = 1 if self.life.world.capacity > 100 else max(1, len(report.targets))
        granted = max((t.granted_s for t in report.targets), default=0.0)
        limit = rounds * (self.policy.budget_s + granted + watch + LINGER_S) + self._late()
        if report.elapsed_s > limit:
            raise ViolationError("time", f"took {report.elapsed_s:.3f} s, the bound is {limit:.3f} s")

    def _check_receipts(self, report: Report) -> None:
        said: dict[tuple[int, str], int] = {}
        for target in report.targets:
            for member in target.members:
                serial = self.processes(member.ref)[-1].serial
                for receipt in member.receipts:
                    if receipt.status == "delivered" and not receipt.detail.startswith("as part of"):
                        key = (serial, receipt.request)
                        said[key] = said.get(key, 0) + 1
        if not self.life.world.pidfd:
            return
        names = {s.request.number: s.request.name for s in self.policy.steps if s.request.kind == "signal"}
        names |= {65: "stdin", 66: "cmd", 67: "CHANNEL", CONT: "CONT"}
        done: dict[tuple[int, str], int] = {}
        for sent in self.sent:
            if sent.number != HOLD:
                key = (sent.process.serial, names[sent.number])
                done[key] = done.get(key, 0) + 1
        said = {
            (s, "stdin" if n.startswith("stdin") else "cmd" if n.startswith("cmd") else n): c
            for (s, n), c in said.items()
        }
        for key in {*said, *done}:
            ours, true = said.get(key, 0), done.get(key, 0)
            if not ours and key[1] == "KILL" and key[0] in self.backend.ended_whole:
                continue  # the end of a cgroup takes what nobody can see, and what is born in that instant
            if ours != true and not (key[1] == "KILL" and ours and true):
                raise ViolationError(
                    "receipts", f"{key[1]} to {self.system.everyone[key[0] - 1]}: {true} sent, {ours} in the report"
                )

    def _check_order(self, target: TargetReport) -> None:
        """Polite order: the main process first; the rest when it has gone, does not catch the request, or has had its grace."""
        first = self.processes(target.ref)[-1]
        if first.serial in self.kept or not self.life.world.pidfd:
            return
        asked: dict[int, float] = {}
        for sent in self.sent:
            number = sent.number
            if number in (KILL, HOLD, CONT):
                continue
            if sent.process is first:
                asked.setdefault(number, sent.at)
            elif sent.target_alive:
                if number not in asked and not any(m.status != "delivered" for m in target.members[0].receipts):
                    raise ViolationError("order", f"{sent.process} was asked by {number} before the target {first}")
                step = next((s for s in self.policy.schedule() if s[0].number == number), None)
                left = self.origin + self.policy.budget_s - asked.get(number, sent.at)
                alone = 0.4 * min(step[2] - step[1], left) if step is not None else 0.0
                if sent.catches and number in asked and sent.at < asked[number] + alone - self._late():
                    raise ViolationError(
                        "order", f"{sent.process} was asked by {number} while the target {first} had its grace"
                    )
