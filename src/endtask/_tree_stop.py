"""One stop of a tree that the system holds together (Windows: a job object), by the same state machine as `stop`.

What `_engine` has to find out, the container knows: who belongs to the tree, whether it is empty, and how to end it so that nothing escapes.
So there is no process table here, no ties, no suspects and no watch for births; the requests, their order and their times are those of `endtask stop` (`_job.py`, `_ladder.py`).
Who is born meanwhile is found whenever something exits, before a step, before force, and at the proof.

Decision: what the console tells us (Ctrl+C at the keyboard) it has told everybody on it, the command as well. A second Ctrl+C would cut a cleanup short,
so a command that may have heard the first has half of the time of the first step before it is asked. It may also have been for us alone; then that time is lost, and nothing else.

Rejected: to call what the console may have said a request of ours. Nobody can tell from inside whether it went to one process or to all.
"""

from __future__ import annotations

from contextlib import suppress

from endtask._discover import Entry, open_pin
from endtask._find import Target
from endtask._job import Force, Job, JobMember, Look, Scan, Send, Settle
from endtask._ladder import expand, ladder, needs_company
from endtask._prepare import Prepared
from endtask._receivers import Receivers
from endtask._record import replace
from endtask._request import deliver
from endtask._requests import TERMINATE
from endtask._verdict import observe, verdict
from endtask.errors import OsCallError
from endtask.model import Evidence, Reason, Receipt, Request, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from endtask._backends.base import Backend, Pin, Tree
    from endtask._job import Action
    from endtask.model import Policy, TargetReport

STDIN_EOF = Request("STDIN_EOF", "stdin", -1)  # the end of the command's standard input, which we hold
GROUP_BREAK = Request("GROUP_CTRL_BREAK", "group", 1)  # Ctrl+Break to the process group that the command leads

ALONE = 0.5  # the part of the first step in which what the console said is left to work
_COUNT_S = 0.01  # between two looks at a count that lags behind the handles
_COUNT_LIMIT_S = 2.0


def forces(policy: Policy) -> bool:
    """Return whether a plan ends by force."""
    return any(step.request.forced for step in policy.steps)


def later(policy: Policy, spent_s: float) -> Policy:
    """Return what is left of *policy* when *spent_s* seconds of its first step are over."""
    first, *others = policy.steps
    wait_s = None if first.wait_s is None else max(0.0, first.wait_s - spent_s)
    return replace(policy, steps=(Step(first.request, wait_s), *others), budget_s=max(0.0, policy.budget_s - spent_s))


class TreeStop:
    """One stop of one tree.

    Attributes:
        entry: The state machine, its handles, and what was seen before.
        stdin: The pipe whose end is the first request, None for none.
    """

    def __init__(
        self,
        backend: Backend,
        tree: Tree,
        name: str,
        policy: Policy,
        started_at: float,
        stdin: IO[bytes] | None = None,
    ) -> None:
        self.backend = backend
        self.tree = tree
        self.policy = policy
        self.started_at = started_at
        self.waiter = backend.waiter()
        self.stdin = stdin
        self._members: list[JobMember] = []  # by key of the wait
        self._unheld: dict[int, str] = {}
        self._scan_at: float | None = None
        self._scan_ends = 0.0
        self._began = 0.0
        self._rest_forced = False
        ref = tree.pin.ref
        ready = Prepared(Target(" ".join(tree.command), ref, name, None), backend.row(ref.pid), policy)
        self.entry = Entry(0, ready, Job(policy, [JobMember(ref, name, "target")]))
        # A handle of our own, because the report closes it: the pid cannot be another's while the tree holds the first.
        ready.pins[ref.pid] = backend.pin(ref.pid, ref.token)
        self._receivers = Receivers(
            backend, self.waiter, started_at, self.entry.owners, lambda _entry, todo: self._perform(todo)
        )
        self._follow(self.entry.job.target)

    @property
    def report(self) -> TargetReport | None:
        """The verdict, None until there is one."""
        return self.entry.report

    # ------------------------------------------------------------------ the loop

    def run(self, *, told: bool) -> None:
        """Stop it."""
        job = self.entry.job
        if told and self.tree.hears_console():
            self._leave_alone()
        self._take_in()
        self._note_exits()
        self._climb(job.members)
        job.policy = self.entry.ready.policy = expand(self.policy, max(len(m.ladder or ()) for m in job.members))
        self._began = self.backend.now()
        self._perform(job.start(self._began))
        while self.report is None:
            now = self.backend.now()
            times = [t for t in (job.wake_at, self._scan_at) if t is not None]
            times += [now] if self._receivers.pending else []
            self._hear(self.waiter.wait(max(0.0, min(times) - now) if times else None))
            self._receivers.hear()
            now = self.backend.now()
            if self._scan_at is not None and now >= self._scan_at:
                self._scan()
            if self.report is None and job.wake_at is not None and now >= job.wake_at:
                self._perform(job.joined(self._take_in(), now))  # who is new is asked with the others
                self._perform(job.tick(now))

    def _leave_alone(self) -> None:
        """Give what the console said its time to work."""
        first = self.policy.steps[0]
        began = self.backend.now()
        length_s = (self.policy.budget_s if first.wait_s is None else first.wait_s) * ALONE
        while (left_s := began + length_s - self.backend.now()) > 0 and self.tree.active() != 0:
            self._take_in()
            self._hear(self.waiter.wait(left_s))
        self.policy = later(self.policy, self.backend.now() - began)

    def hurry(self) -> None:
        """Ctrl+C once more: force at once what may be forced; else say what still runs."""
        job, now = self.entry.job, self.backend.now()
        if self.report is not None:
            return
        job.cancelled = True
        if forces(self.policy):
            job.members += self._take_in(climb=False)
            for member, receipt in self._end_all():
                member.receipts.append(receipt)
                member.forced = receipt.status == "delivered"
            until = now + _COUNT_LIMIT_S
            self._note_exits()
            while (self.tree.active() != 0 or any(m.concerns_us for m in job.members)) and self.backend.now() < until:
                self.waiter.wait(_COUNT_S)
                self._note_exits()
        self._note_exits()
        if self.tree.active() == 0:
            job.evidence = self._evidence()
        self._settle()

    # ------------------------------------------------------------------ who is in it

    def _follow(self, member: JobMember) -> None:
        self._members.append(member)
        self.waiter.add(self.entry.ready.pins[member.ref.pid], len(self._members) - 1)

    def _take_in(self, *, climb: bool = True) -> list[JobMember]:
        """Return who is in the tree and was not known; before the start they are added to the job here.

        A pid cannot change hands while a handle on it is open. So whoever is listed after his handle was opened, and still runs, is the one that the handle is on.
        """
        job = self.entry.job
        pins = self._open_new()
        listed = set(self.tree.pids()) if pins else set()
        new: list[JobMember] = []
        for pin in pins:
            if pin.ref.pid in listed and not self.backend.exited(pin):
                new.append(self._add(pin))
            else:
                pin.close()  # it has just ended, or the pid is somebody else's by now
        if job.state == "new":
            job.members += new
            return []
        self._climb(new if climb else ())
        return new

    def _open_new(self) -> list[Pin]:
        """Open handles on the pids in the tree that are not followed yet."""
        pins: list[Pin] = []
        for pid in self.tree.pids():
            known = self.entry.by_pid.get(pid)
            if known is not None and known.exited_at is None:
                continue
            pin = open_pin(self.backend, pid)
            if not isinstance(pin, str):
                pins.append(pin)
            elif pin:
                self._unheld[pid] = pin
        return pins

    def _add(self, pin: Pin) -> JobMember:
        ready, pid = self.entry.ready, pin.ref.pid
        before = ready.pins.pop(pid, None)
        if before is not None:  # of a member that has exited
            self.waiter.drop(before)
            before.close()
        ready.pins[pid] = pin
        name = self.backend.short_name(pid) or ""
        member = JobMember(pin.ref, name, "owned")
        member.managed = name.lower() == self.entry.job.target.name.lower()
        self.entry.by_pid[pid] = member
        self._follow(member)
        return member

    def _climb(self, members: Iterable[JobMember]) -> None:
        """Look at members and find what they can be asked with."""
        if all(step.request.forced for step in self.policy.steps):
            return
        living = [m for m in members if m.exited_at is None]
        table = self.backend.table() if living else {}  # one for all of them
        pids = self.tree.pids()
        for member in living:
            pid = member.ref.pid
            facts = self.backend.facts(self.entry.ready.pins[pid], table, company=False, part="ladder")
            if needs_company(facts, self.policy):
                facts = self.backend.facts(self.entry.ready.pins[pid], table, part="ladder")
            self.entry.ready.seen[pid] = facts
            rungs = list(ladder(facts, self.policy, pids).rungs)
            if member is self.entry.job.target:
                if self.tree.leads_group:
                    rungs.append(GROUP_BREAK)
                if self.stdin is not None and not self.stdin.closed:
                    rungs.insert(0, STDIN_EOF)
            member.ladder = self.entry.ready.ladders[pid] = tuple(rungs)

    def _hear(self, keys: list[int]) -> None:
        """Take in exits, and look who is left."""
        job = self.entry.job
        for key in keys:
            self._exited(self._members[key])
        if keys and job.state == "asking":
            self._perform(job.joined(self._take_in(), self.backend.now()))

    def _note_exits(self) -> None:
        """Take in the exits that the wait has not told yet."""
        for member in list(self.entry.job.members):
            if member.exited_at is None and self.backend.exited(self.entry.ready.pins[member.ref.pid]):
                self._exited(member)

    def _exited(self, member: JobMember) -> None:
        if member.exited_at is None:
            end = self.backend.end(self.entry.ready.pins[member.ref.pid])
            self._perform(self.entry.job.exited(member, end, self.backend.now()))

    # ------------------------------------------------------------------ actions

    def _perform(self, actions: list[Action]) -> None:
        queue = list(actions)
        while queue and self.report is None:
            action = queue.pop(0)
            if isinstance(action, Send):
                queue += self._send(action.member, action.request)
            elif isinstance(action, Look):
                queue += self._look()
            elif isinstance(action, Force):
                queue += self._force()
            elif isinstance(action, Scan):
                now = self.backend.now()
                force_at = self._began + sum(step.wait_s or 0.0 for step in self.policy.steps[:-1])
                self._scan_ends = max(now + _COUNT_LIMIT_S, force_at if self._unheld else now)
                self._scan()
            elif isinstance(action, Settle):
                self._settle()

    def _send(self, member: JobMember, request: Request) -> list[Action]:
        if member.exited_at is not None:
            return []
        why_not = "" if request.forced else self._receivers.introduce(self.entry, member, request)
        job, at_s = self.entry.job, self.backend.now() - self.started_at
        if request.kind == "group":
            if self._may_clean_up(member):
                return []
            return job.receipt(member, self.tree.ask_group(at_s), self.backend.now())
        if request.kind == "stdin" and self.stdin is not None:
            return job.receipt(member, self._end_input(request, at_s), self.backend.now())
        if request.kind == "channel":
            answer = self._receivers.ask(self.entry, member, request, why_not)
            return job.receipt(member, answer, self.backend.now())
        actions: list[Action] = []
        for receipt in deliver(self.backend, self.entry.ready.pins[member.ref.pid], request, at_s):
            actions += job.receipt(member, receipt, self.backend.now())
        return actions

    def _may_clean_up(self, member: JobMember) -> bool:
        """Whether it has heard an event of the console, or may have heard its stop event: a second event could end it in the middle of its clean-up."""
        from endtask._diagnosis import CONSOLE_EVENTS
        from endtask._ladder import listens_silently

        delivered = {r.request for r in member.receipts if r.status == "delivered"}
        if delivered & CONSOLE_EVENTS:
            return True
        before = self.entry.ready.seen[member.ref.pid].windows
        return "STOP_EVENT" in delivered and before is not None and listens_silently(before)

    def _end_input(self, request: Request, at_s: float) -> Receipt:
        assert self.stdin is not None, "asked for only with a pipe"
        if request.number != STDIN_EOF.number:
            return Receipt(request.name, "impossible", at_s, "what its standard input says is the caller's own affair")
        with suppress(BrokenPipeError):  # ignored: unwritten input of a command that has closed its end
            self.stdin.close()
        return Receipt(request.name, "delivered", at_s, "its standard input was closed")

    def _look(self) -> list[Action]:
        """See what the members that were asked are doing instead of ending."""
        blocked = False
        for member in self.entry.job.members:
            if member.exited_at is None and member.receipts:
                blocked = observe(self.backend, self.entry, member).blocked or blocked
        return self.entry.job.looked(self.backend.now(), blocked=blocked and not self.policy.unattended)

    def _force(self) -> list[Action]:
        """End all of it at once; whoever is found only afterwards is in there, too."""
        job, now = self.entry.job, self.backend.now()
        actions: list[Action] = [a for a in job.joined(self._take_in(climb=False), now) if not isinstance(a, Force)]
        for member, receipt in self._end_all():
            actions += job.receipt(member, receipt, now)
        return actions

    def _end_all(self) -> list[tuple[JobMember, Receipt]]:
        """End everything in the tree; return the receipts of those that were known to run."""
        at_s = self.backend.now() - self.started_at
        living = [m for m in self.entry.job.members if m.concerns_us]
        try:
            self.tree.end()
        except OsCallError as exc:
            return [(m, Receipt(TERMINATE.name, "failed", at_s, exc.message)) for m in living]
        return [(m, Receipt(TERMINATE.name, "delivered", at_s, "with its job object")) for m in living]

    def _scan(self) -> None:
        """Everything that is known has exited: is the tree empty?"""
        job, now = self.entry.job, self.backend.now()
        self._scan_at = None
        self._perform(job.joined(self._take_in(), now))
        if job.state != "proving":
            return
        if self.tree.active() != 0 and (now < self._scan_ends or self._force_rest()):
            self._scan_at = now + _COUNT_S  # a process is counted until the system has taken it apart
            return
        self._perform(job.scanned(now, evidence=self._evidence()))

    def _force_rest(self) -> bool:
        """End what could not be followed, once and where the plan ends by force; return whether that was done now."""
        if self._rest_forced or not forces(self.policy):
            return False
        self._rest_forced = True
        self.tree.end()
        self._scan_ends = self.backend.now() + _COUNT_LIMIT_S
        return True

    def _evidence(self) -> tuple[Evidence, ...]:
        mechanism, words = self.tree.evidence
        left, at_s = self.tree.active(), self.backend.now() - self.started_at
        if left == 0:
            return (Evidence(mechanism, "proved", words, at_s),)
        text = "how many processes are left could not be read" if left is None else f"{left} more processes are left"
        return (Evidence(mechanism, "unproven", text, at_s),)

    def _settle(self) -> None:
        """Make the verdict."""
        found = verdict(self.backend, self.entry, started_at=self.started_at)
        # What had ended by itself before it was asked is as gone as the block promises.
        outcome = "stopped" if found.outcome == "already-gone" else found.outcome
        outcome = "forced" if outcome == "stopped" and self._rest_forced else outcome
        reasons = tuple(Reason("unheld", f"{pid} was in the tree; {why}", pid=pid) for pid, why in self._unheld.items())
        self.entry.report = replace(found, outcome=outcome, reasons=(*found.reasons, *reasons))

    def close(self) -> None:
        """Release every handle but the tree's."""
        self._receivers.close()
        for pin in self.entry.ready.pins.values():
            self.waiter.drop(pin)
        self.entry.ready.close()
        self.waiter.close()
