r"""One target's stop as a pure state machine: (state, event, now) -> (state, actions).

A stop is a conversation with things that die, fork, freeze and lie at any moment, so the decision of what happens next knows no clock, no operating system and no I/O.
The engine feeds events and carries out the actions; tests and the simulated system step it by hand.

States::

    asking ---- everything in scope has exited ----> proving --- empty ---> watching ---> settled
      ^  \______ budget is spent, or refused ___________|__________________________________^
      |_______________ the scan found new members ______|

Polite order: the target first; the rest at once if the target does not catch the request or is gone, otherwise when half of the step is over,
except its workers (members that run the same program), which are left to it as long as it lives: asking the backends of a database server would turn its gentle shutdown into another one.
A target that says itself that it has heard the request (its receiver does, `listens`) is left alone with all that it has started as long as it runs;
it may refuse, or ask for more time, which it gets as far as the policy allows: then everything that follows moves, force and the end as well.
What is left when a target that caught the request has exited is given a moment (`LINGER_S`) before it is asked: most have been told by it, and a second request makes many programs drop their cleanup.

Size: the whole state machine; a state that lives in two files cannot be checked by reading.
"""

from __future__ import annotations

from endtask._requests import FORCE_STATUS, FORCED, KILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from endtask.model import (
        Evidence,
        PidRef,
        Policy,
        PortState,
        ProcessEnd,
        Reason,
        Receipt,
        Request,
        Respawn,
        Row,
        Said,
        Suspect,
    )

    State = Literal["new", "asking", "proving", "watching", "settled"]

LINGER_S = 0.25
# The part of a step for which a target that catches the request is left alone with its own children.
# Over 48 real programs the best rule was: the main process first, because one that catches the request stops its children better than we can,
# and the rest when it is gone or its grace is over.
TARGET_ALONE = 0.5
SHELL_ALONE_S = (
    1.0  # a shell runs its trap only when the command that it waits for has ended, so that one is asked soon
)
SUSPECTS_S = 0.25  # how long suspects have to end by themselves before they are reported
# When a process that was asked is looked at to say what it is doing meanwhile (a dialog, a hung window): a program that obeys has mostly gone by the first.
LOOKS_S = (0.4, 1.5, 4.0)
LATE_S = 0.5  # for force that comes when the budget is spent already
LOOK_S = 1.0  # what a look may take where windows do not answer
FOR_ALL = frozenset(("signal", "ask", "window", "inject", "event", "terminate"))  # kinds that speak to any process


class JobMember:
    """A process in scope and what has become of it so far.

    Attributes:
        ref: Identity.
        name: Process name.
        tie: Why it is in scope.
        kept: Whether it is to be left alone.
        catches: Names of the requests that the program takes itself; None: unknown, treated as all.
        exited_at: Time of the exit, None while it runs.
        end: How it ended.
        receipts: What was sent.
        asked_step: Number of the last step that was sent to it, -1 for none.
        denied: Whether we may not ask it.
        row: Its line of the process table when it was last looked at, None if it could not be seen.
        managed: Whether it runs the same program as the target: a worker, which a target that catches the request tells itself.
        forced: Whether force was delivered while it ran.
        ladder: What `ask` means for it, most polite first; None where a signal means it for everybody.
        state: What a look at it has shown since it was asked (Windows).
        heard: Whether it has said itself that it heard a request: it is ending then, and asked nothing more.
        listens: Whether it has said so in a conversation: what the plan says is still asked, because a receiver knows what a second request means.
        vetoed: Whether it has refused in a conversation.
        said: What it has said.
    """

    __slots__ = (
        "asked_step",
        "catches",
        "denied",
        "end",
        "exited_at",
        "forced",
        "heard",
        "kept",
        "ladder",
        "listens",
        "managed",
        "name",
        "receipts",
        "ref",
        "row",
        "said",
        "state",
        "tie",
        "vetoed",
    )

    def __init__(
        self, ref: PidRef, name: str, tie: str, *, kept: bool = False, catches: frozenset[str] | None = None
    ) -> None:
        self.ref = ref
        self.name = name
        self.tie = tie
        self.kept = kept
        self.catches = catches
        self.exited_at: float | None = None
        self.end: ProcessEnd | None = None
        self.receipts: list[Receipt] = []
        self.asked_step = -1
        self.denied = False
        self.managed = False
        self.row: Row | None = None
        self.forced = False
        self.ladder: tuple[Request, ...] | None = None
        self.state: tuple[Reason, ...] = ()
        self.heard = False
        self.listens = False
        self.vetoed = False
        self.said: list[Said] = []

    @property
    def concerns_us(self) -> bool:
        """Whether the target cannot be called stopped while this one runs."""
        return self.exited_at is None and not self.kept


class Send:
    """Action: deliver a request to one member."""

    __slots__ = ("member", "request")

    def __init__(self, member: JobMember, request: Request) -> None:
        self.member = member
        self.request = request


class Force:
    """Action: end everything in scope so that nothing escapes."""

    __slots__ = ()


class Look:
    """Action: see what the members that were asked are doing (Windows); answered by `Job.looked`."""

    __slots__ = ()


class Scan:
    """Action: look for members that were born meanwhile, suspects, ports; answered by `Job.scanned`."""

    __slots__ = ()


class Watch:
    """Action: report successors until the job settles; answered by `Job.successor`."""

    __slots__ = ()


class Settle:
    """Action: the job is over; the engine makes the report."""

    __slots__ = ()


if TYPE_CHECKING:
    Action = Send | Force | Look | Scan | Watch | Settle


class Job:
    """The stop of one target.

    Attributes:
        members: Everything in scope, the target first.
        open: How many of them still run and are not to be left alone.
        state: Where the machine is.
        wake_at: When `tick` must be called next, None if only events matter.
        refused: `not-permitted` or `unreachable` when the target could not be asked, else empty.
        cancelled: Whether the user stopped us.
        evidence, suspects, ports: Of the last scan.
        respawn: The successor that was seen.
        blocked: Whether a dialog waits for a person, so that nothing polite is sent.
        vetoed: Whether the target has answered no.
        extended_s: By how many seconds everything was moved because somebody asked for more time.
    """

    __slots__ = (
        "ask_ends",
        "blocked",
        "cancelled",
        "deadline",
        "evidence",
        "extended_s",
        "look_at",
        "looks",
        "members",
        "open",
        "policy",
        "ports",
        "refused",
        "respawn",
        "rest_at",
        "settled_at",
        "started_at",
        "state",
        "step",
        "step_ends",
        "suspects",
        "target_is_shell",
        "vetoed",
        "watch_s",
        "watch_until",
    )

    def __init__(
        self, policy: Policy, members: list[JobMember], *, watch_s: float = 0.0, target_is_shell: bool = False
    ) -> None:
        self.policy = policy
        self.members = members
        self.open = 0
        self.watch_s = watch_s
        self.target_is_shell = target_is_shell
        self.state: State = "new"
        self.started_at = 0.0
        self.deadline = 0.0
        self.step = -1
        self.step_ends = 0.0
        self.ask_ends = 0.0
        self.rest_at: float | None = None
        self.watch_until = 0.0
        self.settled_at = 0.0
        self.refused = ""
        self.cancelled = False
        self.evidence: tuple[Evidence, ...] = ()
        self.suspects: tuple[Suspect, ...] = ()
        self.ports: tuple[PortState, ...] = ()
        self.respawn: Respawn | None = None
        self.blocked = False
        self.vetoed = False
        self.extended_s = 0.0
        self.look_at: float | None = None
        self.looks = 0

    # ------------------------------------------------------------------ what the engine asks

    @property
    def target(self) -> JobMember:
        return self.members[0]

    @property
    def wake_at(self) -> float | None:
        if self.state == "watching":
            return self.watch_until
        if self.state != "asking":
            return None
        times = [self.step_ends, self.deadline]
        times += [t for t in (self.rest_at, self.look_at) if t is not None]
        return min(times)

    @property
    def current(self) -> Request | None:
        """The request of the step that we are in, None before the first or in a plain wait."""
        return self.policy.steps[self.step].request if 0 <= self.step < len(self.policy.steps) else None

    @property
    def ends_at(self) -> float:
        """When everything should be gone: then it is forced, or not waited for any more."""
        for request, at, _until in self.policy.schedule():
            if request.forced:
                return min(self.started_at + at + self.extended_s, self.deadline)
        return self.deadline

    def _open(self) -> list[JobMember]:
        return [m for m in self.members if m.concerns_us]

    # ------------------------------------------------------------------ events

    def start(self, now: float) -> list[Action]:
        """The run begins."""
        self.started_at = now
        self.deadline = now + self.policy.budget_s
        self.step_ends = self.deadline
        self.state = "asking"
        self.open = len(self._open())
        if not self.open:
            return self._prove()
        return self._begin_step(0, now) if self.policy.steps else []

    def receipt(self, member: JobMember, receipt: Receipt, now: float) -> list[Action]:
        """The system answered a request."""
        member.receipts.append(receipt)
        if receipt.status == "delivered" and receipt.request in FORCED:
            member.forced = member.forced or member.exited_at is None
        if receipt.status == "denied":
            return self._refused(member, now)
        if member is not self.target or self.state != "asking":
            return []
        if receipt.status in ("impossible", "failed"):
            return self._not_asked(now)
        if receipt.status == "vetoed":
            self.vetoed = True  # the program has said no: only force is left, where the plan has it
            return [] if any(s.request.forced for s in self.policy.steps) else self._settle(now)
        return []

    def _not_asked(self, now: float) -> list[Action]:
        """The target could not be asked in this way: the next way at once, or there is none."""
        if self.step + 1 < len(self.policy.steps):
            return self._begin_step(self.step + 1, now)
        if any(r.status == "delivered" for r in self.target.receipts):
            return []
        self.refused = "unreachable"
        return self._settle(now)

    def listens(self, member: JobMember) -> None:
        """A member says that it has heard a request."""
        member.listens = True

    def vetoes(self, member: JobMember, now: float) -> list[Action]:
        """A member refuses."""
        if self.state != "asking" or not member.concerns_us or (self.current is not None and self.current.forced):
            return []
        member.vetoed = True
        if member is not self.target:
            return []
        self.vetoed = True
        self.rest_at = None  # what it has started goes on with it
        return [] if any(s.request.forced for s in self.policy.steps) else self._settle(now)

    def hangs_up(self, member: JobMember, now: float) -> list[Action]:
        """The conversation with a member is over; what was asked by it (CHANNEL) and was not heard is asked in the next way at once."""
        request = self.current
        if self.state != "asking" or request is None or request.kind != "channel":
            return []
        return [] if member is not self.target or not member.concerns_us or member.listens else self._not_asked(now)

    def needs(self, member: JobMember, seconds: float, now: float) -> float:
        """A member asks for more time.

        Args:
            member: Who.
            seconds: So many, counted from now.
            now: The time.

        Returns:
            By how many seconds everything was moved for it: no more than the policy allows altogether, 0 if it has them anyway.
        """
        if self.state != "asking" or not member.concerns_us or (self.current is not None and self.current.forced):
            return 0.0
        more_s = min(now + seconds - self.ends_at, self.policy.extend_s - self.extended_s)
        if more_s <= 0:
            return 0.0
        self.extended_s += more_s
        self.deadline += more_s
        self.step_ends += more_s
        self.ask_ends += more_s
        if self.rest_at is not None and self.target.concerns_us:
            self.rest_at += more_s
        return more_s

    def told(self, member: JobMember, receipt: Receipt, now: float) -> list[Action]:
        """Another job of the run sent something to a process that both own."""
        member.receipts.append(receipt)
        if receipt.request in FORCED and receipt.status == "delivered" and member.exited_at is None:
            member.forced = True
        return self._refused(member, now) if receipt.status == "denied" else []

    def _refused(self, member: JobMember, now: float) -> list[Action]:
        member.denied = True
        if member is not self.target or self.state != "asking":
            return []
        self.refused = "not-permitted"
        return self._settle(now)

    def exited(self, member: JobMember, end: ProcessEnd, now: float) -> list[Action]:
        """A member has exited; seen on its handle."""
        if member.exited_at is not None:
            return []
        if member.concerns_us and self.state != "new":
            self.open -= 1
        member.exited_at = now
        member.end = end
        if end.known and not _by_force(end):
            member.forced = False  # it had ended by itself before force could act
        if self.state != "asking":
            return []
        if not self.open:
            return self._prove()
        if member is self.target and self._rest_unasked():
            self.rest_at = now + LINGER_S if self.rest_at is None else min(self.rest_at, now + LINGER_S)
        return []

    def joined(self, members: list[JobMember], now: float) -> list[Action]:
        """New members were found: they are asked what the others were asked."""
        self.members.extend(members)
        concerned = sum(m.concerns_us for m in members)
        self.open += concerned
        if self.state == "settled" or not concerned:
            return []
        if self.state in ("proving", "watching"):
            self.state = "asking"
        if now >= self.deadline:
            return self._out_of_time(now)
        if self.step < 0 and self.policy.steps:  # everything that was known had ended before anything was asked
            return self._begin_step(0, now)
        if self.rest_at is not None and not self.target.concerns_us:
            self.rest_at = min(self.rest_at, now + LINGER_S)
        if self.current is None or (self.rest_at is not None and self.target.concerns_us):
            return []  # a plain wait, or the target still has its grace: they are asked with the rest
        if sweeps(self.current):
            return [Force()]
        if self.rest_at is not None:
            return []
        return self._ask(members)

    def scanned(
        self,
        now: float,
        *,
        evidence: tuple[Evidence, ...] = (),
        suspects: tuple[Suspect, ...] = (),
        ports: tuple[PortState, ...] = (),
    ) -> list[Action]:
        """The scan that `Scan` asked for is complete; members that it found came through `joined` before."""
        if self.state != "proving":
            return []
        self.evidence = evidence
        self.suspects = suspects
        self.ports = ports
        if self.open:
            self.state = "asking"
            return self.tick(now)
        watch_s = self.watch_s if self._came_to_end_by_us() else 0.0
        if suspects:
            watch_s = max(watch_s, SUSPECTS_S)
        if watch_s > 0:
            self.state = "watching"
            self.watch_until = now + watch_s
            return [Watch()]
        return self._settle(now)

    def successor(self, respawn: Respawn, now: float) -> list[Action]:
        """Somebody started the program again."""
        if self.state != "watching":
            return []
        self.respawn = respawn
        return self._settle(now)

    def unwatch(self, now: float) -> list[Action]:
        """There is nobody left who could start it again."""
        return self._settle(now) if self.state == "watching" else []

    def tick(self, now: float) -> list[Action]:
        """The time of `wake_at` has come."""
        if self.state == "watching":
            return self._settle(now) if now >= self.watch_until else []
        if self.state != "asking":
            return []
        if now >= self.deadline:
            return self._out_of_time(now)
        over = now >= self.step_ends and self.step + 1 < len(self.policy.steps)
        if over and self._is_forced(self._due(now)):
            return self._next_step(now)  # whatever a look would show, and it may take its time
        if self.rest_at is not None and now >= self.rest_at:
            self.rest_at = None
            return self._ask(self._open())
        if self._is_force_near(now):
            self.look_at = None
        if (over and self._sees()) or (self.look_at is not None and now >= self.look_at):
            return [Look()]
        return self._next_step(now) if over else []

    def _is_force_near(self, now: float) -> bool:
        """Whether the next step is force, and so near that a look at a program which does not answer would hold it up."""
        index = self._due(now + LOOK_S)
        return self._is_forced(index) and (index > self.step + 1 or self.step_ends - now < LOOK_S)

    def _due(self, now: float) -> int:
        """Return which step is next: not a rung of `ask` when the time of `ask` is over, because others that did not answer have held up the rungs before."""
        index = self.step + 1
        while (
            index < len(self.policy.steps) and self.policy.steps[index].request.kind == "ask" and now >= self.ask_ends
        ):
            index += 1
        return index

    def _is_forced(self, index: int) -> bool:
        return index < len(self.policy.steps) and self.policy.steps[index].request.forced

    def looked(self, now: float, *, blocked: bool) -> list[Action]:
        """The look that `Look` asked for is done.

        Args:
            now: The time.
            blocked: Whether a dialog waits for a person, so that asking again would answer it.
        """
        if self.state != "asking":
            return []
        self.blocked = blocked
        self.looks += 1
        self.look_at = now + LOOKS_S[self.looks] - LOOKS_S[self.looks - 1] if self.looks < len(LOOKS_S) else None
        over = now >= self.step_ends and self.step + 1 < len(self.policy.steps)
        return self._next_step(now) if over else []

    def _next_step(self, now: float) -> list[Action]:
        """Go on with the plan; past a dialog, or where the target is ending, only with force.

        A target that has said in a conversation that it is ending has no need of another way to be asked the same; what a plan names itself is sent.
        """
        index = self._due(now)
        only_force = self.blocked or self.vetoed or self._ends_by_itself()
        while index < len(self.policy.steps):
            request = self.policy.steps[index].request
            another_way = request.kind == "ask" and request.number > 0 and self._has_the_word()
            if request.forced or not (only_force or another_way):
                break
            index += 1
        if index < len(self.policy.steps):
            return self._begin_step(index, now)
        self.step_ends = self.deadline
        return []

    def _out_of_time(self, now: float) -> list[Action]:
        """The budget is spent: nothing more is asked, but force that the plan has within it, and that other targets have held up, is made good."""
        schedule = self.policy.schedule()
        for index in range(self.step + 1, len(schedule)):
            request, begins, _ends = schedule[index]
            if request.forced and begins < self.policy.budget_s:
                self.deadline = now + LATE_S
                return self._begin_step(index, now)
        return self._settle(now)

    def cancel(self, now: float) -> list[Action]:
        """The user wants us to stop asking."""
        if self.state == "settled":
            return []
        self.cancelled = True
        return self._settle(now)

    # ------------------------------------------------------------------ decisions

    def _begin_step(self, index: int, now: float) -> list[Action]:
        request, begins, ends = self.policy.schedule()[index]
        if request.forced and self.step >= 0 and now < self.started_at + begins + self.extended_s:
            self.step = index - 1  # force comes when the plan says it, also when nothing was left to ask before
            self.step_ends = self.started_at + begins + self.extended_s
            self.look_at = None
            return []
        if self.current is None or self.current.kind != "ask":
            self.ask_ends = now + self._ask_s(index)
        self.step = index
        self.look_at = None
        last = index == len(self.policy.steps) - 1
        limit = min(self.deadline, self.ask_ends) if request.kind == "ask" else self.deadline
        self.step_ends = limit if last else min(now + (ends - begins), limit)
        self.rest_at = None
        if sweeps(request):
            return [Force()]
        if self._sees():
            self.looks = 0
            self.look_at = now + LOOKS_S[0]
        target = self.target
        others = [m for m in self._open() if m is not target]
        if not target.concerns_us:
            return self._ask(others)
        if request.kind not in FOR_ALL:
            return self._ask([target])  # standard input, commands and services speak to the main process only
        if request.kind == "ask" and not target.ladder and not any(m.ladder for m in others):
            return self._not_asked(now)
        if self._left_to_target(
            request
        ):  # also when it is alone: what it starts while it cleans up is left to it as well
            alone_s = (self.step_ends - now) * TARGET_ALONE
            self.rest_at = now + (min(alone_s, SHELL_ALONE_S) if self.target_is_shell else alone_s)
            return self._ask([target])
        return self._ask([target, *others])

    def _ask_s(self, index: int) -> float:
        """Return how long all rungs of `ask` from *index* on take together."""
        rungs = 0.0
        for request, begins, ends in self.policy.schedule()[index:]:
            if request.kind != "ask":
                break
            rungs += ends - begins
        return rungs

    def _sees(self) -> bool:
        """Whether a look can show what the current request has led to."""
        request = self.current
        return request is not None and request.kind not in ("signal", "stdin", "command")

    def _rest_unasked(self) -> bool:
        """Whether somebody has not been asked what the target was asked in this step."""
        request = self.current
        if request is None or request.kind not in FOR_ALL or request.forced:
            return False
        return any(m.concerns_us and m.asked_step < self.step for m in self.members)

    def _left_to_target(self, request: Request) -> bool:
        """Whether the target takes the request itself, so that its children are its own affair first."""
        return self.target.catches is None or request.name in self.target.catches

    def _ask(self, members: list[JobMember]) -> list[Action]:
        request = self.current
        if request is None:
            return []
        actions: list[Action] = []
        for member in members:
            if not member.concerns_us or member.asked_step >= self.step or member.denied:
                continue
            if not request.forced and (member.heard or self._ends_by_itself()):
                continue  # a second request could end it in the middle, and what it has started is its own affair first
            if not request.forced and (member.vetoed or (member is not self.target and self._has_the_word())):
                continue
            if request.kind not in FOR_ALL and member is not self.target:
                continue
            if member.managed and self.target.concerns_us and self._left_to_target(request):
                continue
            member.asked_step = self.step
            rung = _rung(member, request)
            if rung is not None:
                actions.append(Send(member, rung))
        return actions

    def _ends_by_itself(self) -> bool:
        """Whether the target has said that it heard a request, and still runs."""
        return self.target.heard and self.target.concerns_us

    def _has_the_word(self) -> bool:
        """Whether the target has said in a conversation that it is ending, or that it will not, and still runs."""
        return (self.target.listens or self.target.vetoed) and self.target.concerns_us

    def _came_to_end_by_us(self) -> bool:
        return any(r.status == "delivered" for m in self.members for r in m.receipts)

    def _prove(self) -> list[Action]:
        self.state = "proving"
        return [Scan()]

    def _settle(self, now: float) -> list[Action]:
        self.state = "settled"
        self.settled_at = now
        return [Settle()]


def sweeps(request: Request) -> bool:
    """Return whether a request is carried out for the whole scope at once, so that nothing escapes it."""
    return request.forced and request.kind in ("signal", "terminate")


def _rung(member: JobMember, request: Request) -> Request | None:
    """Return what a step means for a member; None if its ladder has no such rung."""
    if request.kind != "ask":
        return request
    ladder = member.ladder or ()
    return ladder[request.number] if request.number < len(ladder) else None


def _by_force(end: ProcessEnd) -> bool:
    """Return whether an end looks like that of a forced process; a process may have ended by itself right before."""
    return end.signal == KILL.number or (end.source == "handle" and end.status == FORCE_STATUS)
