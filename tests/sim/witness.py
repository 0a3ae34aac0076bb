"""Sits beside one run on a simulated machine and sees everything.

A `Witness` sees every signal before it is delivered and every event as it is told, and it knows who descends from whom whatever the process table says.
The rules that hold at every send are here, those for the report in `invariants.py`.
Each rule has a name, so that a failing life says which promise it breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask._backends.sim.process import CONT, KILL, STOP_SIGNALS, Group, Process, bit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._backends.sim.backend import SimBackend
    from endtask._backends.sim.spec import Life
    from endtask.model import Event, PidRef, Policy

HOLD = 0  # the number under which a sweep's hold is noted
EXACT_S = 1e-4  # what we say is rounded to a microsecond
SLACK_S = 0.2  # waits may end late by the race of a call; the time of calls themselves is counted exactly
_REAPERS = ("systemd", "init", "tini", "dumb-init")


class ViolationError(AssertionError):
    """A promise was broken.

    Attributes:
        rule: Its name.
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"[{rule}] {text}")
        self.rule = rule


class Alive:
    """A true descendant of a target that lived when the target was settled."""

    __slots__ = ("facts", "process", "since", "tie")

    def __init__(self, process: Process, tie: str, facts: str) -> None:
        self.process = process
        self.tie = tie
        self.since = process.changed_at
        self.facts = facts


class Sent:
    """One signal of ours."""

    __slots__ = ("at", "catches", "number", "process", "target_alive")

    def __init__(self, process: Process, number: int, at: float, *, catches: bool, target_alive: bool) -> None:
        self.process = process
        self.number = number
        self.at = at
        self.catches = catches
        self.target_alive = target_alive


class Witness:
    """Watches one run of endtask on one simulated machine.

    Args:
        life: The life.
        backend: What endtask is given.
        policy: What it is asked to do.
        kept: What must be left alone.
        sends: Whether the verb may send anything at all.
    """

    def __init__(
        self, life: Life, backend: SimBackend, policy: Policy, kept: Iterable[Process], *, sends: bool
    ) -> None:
        self.life = life
        self.backend = backend
        self.system = backend.system
        self.policy = policy
        spared = list(kept)
        self.spared = frozenset(p.serial for p in spared)
        # One that runs another program meanwhile may have had either name when the word was resolved.
        self.kept = frozenset(p.serial for p in spared if all(op.do != "exec" for op in p.spec.main))
        self.sends = sends
        self.began = self.origin = self.system.now
        self.waited = backend.waited_s
        self.targets: list[Process] = []
        self.selected_at = 0
        self.sent: list[Sent] = []
        self.events: list[Event] = []
        self.settled: dict[str, tuple[str, list[Alive], float]] = {}
        self.listening: dict[str, list[tuple[int, Process]]] = {}
        self.successors: dict[str, list[Process]] = {}
        self.parents: dict[int, Process | None] = {}
        self.outset = {p.serial: _untied(p) for p in self.system.table.values()}
        self.environ: dict[int, str] = {}
        self.units: dict[int, str] = {}
        self.cgroups: dict[int, set[str]] = {}
        self.objects: dict[int, frozenset[str]] = {}
        self.home: dict[int, tuple[str, int]] = {}
        self.numbers = {s.request.number: s for s in policy.steps if s.request.kind == "signal"}
        kinds = {s.request.kind for s in policy.steps}
        self.extra = {65} if "stdin" in kinds else set()
        if "command" in kinds:
            self.extra.add(66)
        if "channel" in kinds:
            self.extra.add(67)
        self.promised: dict[int, list[float]] = {}  # what each process was told: when its time is over
        line: Process | None = backend.us
        never = []
        while line is not None:
            never.append(line.serial)
            line = line.parent
        self.never = frozenset(never)
        self.system.on_signal.append(self.on_signal)
        self.system.on_said.append(self.on_said)

    def close(self) -> None:
        """Stop watching."""
        self.system.on_signal.remove(self.on_signal)
        self.system.on_said.remove(self.on_said)

    # ------------------------------------------------------------------ who is who

    def processes(self, ref: PidRef) -> list[Process]:
        """Return the process of *ref*; several where tokens are only start times."""
        if not ref.token:  # a handle was refused: the pid is all that could be told
            return [p for p in self.system.everyone if p.pid == ref.pid and not p.reaped]
        if ref.token.startswith("t"):
            return [p for p in self.system.everyone if p.pid == ref.pid and f"t{p.start}" == ref.token]
        return [self.system.everyone[int(ref.token) - 1]]

    def owns(self, target: Process, process: Process) -> bool:
        """Return whether *process* was ever the target's own, by the scope of the policy."""
        kind = self.policy.scope.kind
        if process is target:
            return True
        if kind == "only":
            return False
        if kind == "tree":
            if target.serial in process.roots:
                return True
            adopted = process.parent is not process.born_of
            group = process.group
            mine = group.leader is target or target.serial in group.leader.roots
            return ((mine or process.session.leader is target) and adopted) or self._in_its_unit(target, process)
        own: Group | str = target.cgroup if kind == "cgroup" else target.group if kind == "group" else target.session
        olds: set[Group | str] = {own, *(p for p in target.past if isinstance(p, str) == (kind == "cgroup"))}
        return any(self._was_in(self.system.everyone[s - 1], olds) for s in process.roots)

    def _in_its_unit(self, target: Process, process: Process) -> bool:
        """Return whether *target* was the oldest of a unit's cgroup when it was selected, and *process* an orphan in it that is younger."""
        unit = self.units.get(target.serial, "")
        if not unit or process.start < target.start:
            return False
        line = [self.system.everyone[s - 1] for s in process.roots]  # itself, or whose child it is
        return any(
            unit in (p.cgroup, *p.past) and (p.parent is self.system.init or p.parent is not p.born_of) for p in line
        )

    def _was_in(self, process: Process, groups: set[Group | str]) -> bool:
        ever = {process.group, process.session, process.cgroup, *process.past}
        if ever & groups:
            return True
        return any(
            isinstance(g, str) and isinstance(e, str) and e.startswith(g.rstrip("/") + "/")
            for g in groups
            for e in ever
        )

    # ------------------------------------------------------------------ at every send

    def on_signal(self, process: Process, number: int) -> None:
        """A signal of ours is about to be delivered."""
        target = self.targets[0] if self.targets else process
        catches = bool((target.caught | target.waited) & bit(number)) if 0 < number < 65 else False
        self.sent.append(Sent(process, number, self.system.now, catches=catches, target_alive=not target.exited))
        name = f"{number} to {process}"
        if not self.sends:
            raise ViolationError("read-only", f"`{self.life.verb}` sent {name}")
        if process.serial in self.never or process is self.system.init or process.kernel:
            raise ViolationError("never", f"sent {name}: ourselves, an ancestor, pid 1 or a kernel thread")
        candidates = [process]
        if not self.system.world.pidfd:
            candidates = [p for p in self.system.everyone if p.pid == process.pid and p.start == process.start]
        if any(p.serial in self.kept for p in candidates) and len(candidates) == 1:
            raise ViolationError("keep", f"sent {name}, which was to be kept")
        if not any(self.owns(t, p) for t in self.targets for p in candidates):
            raise ViolationError("stranger", f"sent {name}, which never belonged to {self.targets}")
        self._planned(process, number, name)

    def _planned(self, process: Process, number: int, name: str) -> None:
        if number in STOP_SIGNALS:
            raise ViolationError("suspend", f"sent {name}: nothing may be left stopped")
        if number in (KILL, HOLD):
            if KILL not in self.numbers:
                raise ViolationError("force", f"sent {name}: force was not in the plan")
            self._kept_its_word(process, name)
            return
        if number == CONT:
            return
        steps = [s for s in self.policy.steps if s.request.number == number and s.request.kind == "signal"]
        if not steps and number not in self.extra:
            raise ViolationError("plan", f"sent {name}: no such request in the plan")
        times = sum(s.process is process and s.number == number for s in self.sent)
        if steps and times > len(steps):
            raise ViolationError("twice", f"sent {name} {times} times for {len(steps)} steps")

    # ------------------------------------------------------------------ what we say

    def on_said(self, process: Process, message: dict[str, object], at: float) -> None:
        """A line of ours to a receiver."""
        if not self.sends:
            raise ViolationError("read-only", f"`{self.life.verb}` said {message} to {process}")
        if not any(self.owns(t, process) for t in self.targets):
            raise ViolationError("stranger", f"said {message} to {process}, which never belonged to {self.targets}")
        for word in ("notice", "request", "granted", "not_granted"):
            said = message.get(word)
            if isinstance(said, dict) and said["left_s"] > 0:  # else its time was over before it was told
                self._told_its_time(process, word, at + said["left_s"])

    def _told_its_time(self, process: Process, word: str, until: float) -> None:
        """Nobody's time gets shorter than it was told, or longer than the policy allows."""
        if self.targets[1:]:
            return  # several targets have times of their own, and may share the process
        times = self.promised.setdefault(process.serial, [])
        everybody = [t for told in self.promised.values() for t in told]
        if everybody and until > min(everybody) + self.policy.extend_s + EXACT_S:
            raise ViolationError("extend", f"{word} of {until - min(everybody):.6f} s more to {process}")
        if times and until < times[-1] - EXACT_S:
            raise ViolationError("promise", f"{word}: {process} had {times[-1]:.6f}, and now {until:.6f}")
        times.append(until)

    def _kept_its_word(self, process: Process, name: str) -> None:
        until = max(self.promised.get(process.serial, [0.0]))
        if self.system.now < until - EXACT_S and not self.targets[1:]:
            raise ViolationError("promise", f"sent {name}, which was told that it has until {until:.6f}")

    # ------------------------------------------------------------------ events

    def on_event(self, event: Event) -> None:
        """Endtask tells what happens."""
        if self.events and event.at_s < self.events[-1].at_s - 1e-9:
            raise ViolationError("events", f"time goes back in {event}")
        self.events.append(event)
        self.origin = self.system.now - event.at_s
        if event.kind == "selected" and event.ref is not None:
            self._selected(event.ref)
        elif event.kind == "settled" and event.ref is not None:
            found = self.processes(event.ref)
            self.settled[str(event.ref)] = (event.outcome, self._living(found[-1]), self.system.now)
            self.listening[str(event.ref)] = [(port, p) for p in self.system.table.values() for port in p.ports]
            self.successors[str(event.ref)] = self._successors(found[-1])

    def _selected(self, ref: PidRef) -> None:
        found = self.processes(ref)
        if not found:
            raise ViolationError("identity", f"{ref} never existed")
        target = found[-1]
        self.targets.append(target)
        if not self.targets[1:]:  # what had lost its line by the time of the first look cannot be found by forks
            self.outset = {p.serial: _untied(p) for p in self.system.table.values()}
        self.selected_at = self.system.happened
        self.parents[target.serial] = target.parent
        self.cgroups[target.serial] = {p.cgroup for p in self.system.table.values() if target.serial in p.roots}
        inside = [p for p in self.system.table.values() if p.cgroup == target.cgroup and not p.exited]
        if target.cgroup.endswith(".service") and all(p.start >= target.start for p in inside):
            self.units[target.serial] = target.cgroup
        above = target.parent
        blind = target.exited or not self._readable(target)
        self.environ[target.serial] = "" if blind else target.environ
        self.home[target.serial] = (target.cgroup, target.uid)
        known = above.objects if above is not None and self._readable(above) else frozenset()
        self.objects[target.serial] = frozenset() if blind else target.objects - known

    def _readable(self, process: Process) -> bool:
        return (
            not process.flags & {"hidden", "unreadable"} and self.backend.uid in (0, process.uid) and not process.exited
        )

    # ------------------------------------------------------------------ what lives on

    def _living(self, target: Process) -> list[Alive]:
        """Return the true descendants that live now, each with the tie or the suspicion that could be seen."""
        found = []
        for process in self.system.table.values():
            if process.exited or target.serial not in process.roots or "hidden" in process.flags:
                continue
            if any(s in self.spared for s in process.roots):
                continue
            found.append(Alive(process, self._tie(target, process), f"{process} below {process.parent}"))
        return found

    def _successors(self, target: Process) -> list[Process]:
        """Return the living processes of the same name that the target's parent has started since the target ended."""
        parent = self.parents.get(target.serial)
        if parent is None or not target.exited or "hidden" in parent.flags or parent is self.system.init:
            return []
        return [
            p
            for p in parent.children
            if p.born_of is parent
            and p.name == target.name
            and p.born_at > target.exited_at
            and not p.exited
            and not p.flags & {"hidden", "no-pin", "leader-gone"}
        ]

    def _tie(self, target: Process, process: Process) -> str:
        """Return by which fact that can be read *process* could be found or suspected, empty if by none."""
        if process is target:
            return "it is the target"
        kind = self.policy.scope.kind
        if kind == "only":
            return ""
        if kind in ("group", "session"):
            same = process.group is target.group if kind == "group" else process.session is target.session
            return f"same {kind}" if same else ""
        if kind == "cgroup":
            return "same cgroup" if process.cgroup == target.cgroup and self.system.world.cgroups else ""
        if process.parent is process.born_of:
            return ""  # whoever is above it is judged instead: the one at the top has lost its parent
        if process.session.leader is target:
            return "session of the target"
        if process.group.leader is target and self._looks_adopted(process):
            return "group of the target"
        return self._suspicion(target, process)

    def _looks_adopted(self, process: Process) -> bool:
        """Return whether the table shows that its parent only adopted it; a shell may be the parent of all of a pipeline's group."""
        parent = process.parent
        if parent is None or parent is self.system.init or "hidden" in parent.flags:
            return True
        return parent.session is not process.session and process.session.leader is not process

    def _suspicion(self, target: Process, process: Process) -> str:
        if target.serial not in self.environ or not self._readable(process) or process.start < target.start:
            return ""
        parent = process.parent
        if parent is not self.system.init:
            if parent is None or parent.serial not in self._above(target):
                return ""
            leaders = (process.session.leader, process.group.leader)
            if parent.comm not in _REAPERS and not any(g.exited for g in leaders):
                return ""
        if self.objects[target.serial] & process.objects:
            return "same pipe"
        # What a manager keeps apart is not the target's, unless members of the target were in that unit too.
        other = process.cgroup.endswith(".service") and process.cgroup not in self.cgroups[target.serial]
        changes = any(op.do == "environ" for op in target.spec.main) and target.changed_at > self.began
        if other or changes:
            return ""
        same = bool(self.environ[target.serial]) and self.environ[target.serial] == process.environ
        cgroup, uid = self.home[target.serial]
        moved = process.cgroup != cgroup or uid not in (0, process.uid)  # nobody does that without rights
        return "same environment" if same and not moved else ""

    def _above(self, process: Process) -> set[int]:
        """Return the serials of the ancestors, as far as the table shows them."""
        above = set()
        parent = process.parent
        while parent is not None and "hidden" not in parent.flags:
            above.add(parent.serial)
            parent = parent.parent
        return above


def _untied(process: Process) -> bool:
    """Return whether *process* had lost its parent, with its session and group led by nobody of its line."""
    return process.parent is not process.born_of
