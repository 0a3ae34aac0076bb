"""The stop of a tree that the system holds together, on a machine in memory: time, births and exits as the test says."""

from __future__ import annotations

import json

import pytest

import endtask
from endtask._held import Held, policy_of, within
from endtask._plan import make_policy
from endtask._tree_stop import later
from endtask.errors import OsCallError
from endtask.model import Facts, PidRef, Policy, ProcessEnd, Receipt, Report, Request, WindowsFacts
from tests.core.fake import FakeBackend, FakePin, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from endtask._backends.base import Part, Pin, Waiter
    from endtask.model import Kind, ReceiptStatus, Row

ROOT = 10


class Machine(FakeBackend):
    """Processes that answer requests after some seconds, on a clock that only a wait moves.

    Attributes:
        answers: (pid, request) -> seconds until it exits.
        sent: (second, pid, request), in order.
        refuses: Status of the receipt for a request.
        ladderless: Who can be asked with nothing.
        silent: Who listens to the stop event and cannot say that it has heard.
        codes: Exit codes.
    """

    def __init__(self, *processes: Process) -> None:
        super().__init__(*processes)
        self.answers: dict[tuple[int, str], float] = {}
        self.sent: list[tuple[float, int, str]] = []
        self.refuses: dict[str, ReceiptStatus] = {}
        self.ladderless: set[int] = set()
        self.silent: set[int] = set()
        self.codes: dict[Process, int] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.clock = 0.0
        self.talks: dict[int, Talk] = {}

    @property
    def has_ladders(self) -> bool:
        return True

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        """Do something when the clock gets there."""
        self._events.append((time_s, len(self._events), act))

    def exit(self, *pids: int, code: int = 7) -> None:
        """Let processes exit; as long as somebody holds them, they can be held."""
        for pid in pids:
            self.processes[pid].exited = True
            self.codes[self.processes[pid]] = code

    def run_to(self, until: float) -> None:
        """Move the clock on."""
        for event in sorted(e for e in self._events if e[0] <= until):
            if event in self._events:
                self._events.remove(event)
                self.clock = max(self.clock, event[0])
                event[2]()
        self.clock = max(self.clock, until)

    def next_event(self) -> float | None:
        """Return when something happens by itself."""
        return min((e[0] for e in self._events), default=None)

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        pid = pin.ref.pid
        kind: Kind = "unknown" if pid in self.ladderless else "console"
        listens = pid in self.silent
        known = WindowsFacts(
            kind, console="another", same_machine=True, same_user=True, above_us=False, receiver=listens
        )
        return Facts(pin.ref, self.processes[pid].name if pid in self.processes else "gone", windows=known)

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        pid = pin.ref.pid
        self.sent.append((self.clock, pid, request.name))
        if request.name in self.refuses:
            return Receipt(request.name, self.refuses[request.name], at_s, "refused")
        self.react(pid, request.name)
        return Receipt(request.name, "delivered", at_s)

    def react(self, pid: int, name: str) -> None:
        """Let a process answer a request."""
        after_s = self.answers.get((pid, name))
        if after_s is not None:
            self.at(self.clock + after_s, lambda: self.exit(pid))

    def end(self, pin: Pin) -> ProcessEnd:
        assert isinstance(pin, FakePin)
        return ProcessEnd(self.codes[pin.process], source="handle")

    def waiter(self) -> Waiter:
        return Wait(self)

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> Talk | str:
        return self.talks.get(pin.ref.pid, "")


class Talk:
    """A conversation: what comes is put in by the test.

    Attributes:
        came: What was not drained yet.
        said: What we said.
    """

    def __init__(self, *lines: dict[str, object]) -> None:
        self.came = b""
        self.said: list[dict[str, object]] = []
        self.open = True
        self.put({"endtask": 1, "hello": {}})
        for line in lines:
            self.put(line)

    def put(self, line: dict[str, object]) -> None:
        """Let the application say something."""
        self.came += json.dumps(line).encode() + b"\n"

    def say(self, data: bytes) -> bool:
        self.said.append(json.loads(data))
        return self.open

    def drain(self) -> bytes:
        came, self.came = self.came, b""
        return came

    def wait(self, timeout_s: float) -> bool:
        return bool(self.came)

    def close(self) -> None:
        self.open = False


class Wait:
    """A wait that moves the machine's clock."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.keys: dict[FakePin, int] = {}

    @property
    def poll_s(self) -> float | None:
        return None

    def fileno(self) -> int | None:
        return None

    def on_news(self, wake: Callable[[], None] | None) -> None:
        raise AssertionError("nobody waits in a loop here")

    def add(self, pin: Pin, key: int) -> None:
        assert isinstance(pin, FakePin)
        self.keys[pin] = key

    def drop(self, pin: Pin) -> None:
        assert isinstance(pin, FakePin)
        self.keys.pop(pin, None)

    def wait(self, timeout_s: float | None) -> list[int]:
        machine = self.machine
        limit = machine.clock + (3600.0 if timeout_s is None else timeout_s)
        while not (found := [k for p, k in self.keys.items() if p.process.exited]):
            if any(t.came for t in machine.talks.values() if t.open and t.said):
                break
            coming = machine.next_event()
            if coming is None or coming > limit:
                machine.run_to(limit)
                break
            machine.run_to(coming)
        for pin in [p for p in self.keys if p.process.exited]:
            del self.keys[pin]
        return found

    def close(self) -> None:
        self.keys.clear()


class FakeTree:
    """A container with some pids in it.

    Attributes:
        inside: Pids.
        lag: How many more than there are the count says, until the clock has reached `lag_until`.
        hears: Whether it hears our console.
        ended: How often it was ended.
        broken: Whether it cannot be ended.
    """

    evidence = ("job-empty", "nothing is in it")

    def __init__(self, machine: Machine, *inside: int) -> None:
        self.machine = machine
        self.inside = set(inside)
        self.pin: Pin = machine.pin(ROOT)
        self.command = (r"C:\app\app.exe", "serve")
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self.leads_group = False
        self.hears = False
        self.lag_until = 0.0
        self.ended = 0
        self.broken = False
        self.unreadable = False
        self.closed = False
        self.group_status: ReceiptStatus = "delivered"

    def pids(self) -> list[int]:
        return sorted(p for p in self.inside if not self.machine.processes[p].exited)

    def active(self) -> int | None:
        if self.unreadable:
            return None
        return len(self.pids()) + (self.machine.clock < self.lag_until)

    def hears_console(self) -> bool:
        return self.hears

    def ask_group(self, at_s: float) -> Receipt:
        self.machine.sent.append((self.machine.clock, ROOT, "GROUP_CTRL_BREAK"))
        return Receipt("GROUP_CTRL_BREAK", self.group_status, at_s, "to the group")

    def end(self) -> None:
        self.ended += 1
        if self.broken:
            raise OsCallError("TerminateJobObject", 5)
        self.machine.exit(*self.pids(), code=1)

    def close(self) -> None:
        self.pin.close()
        self.closed = True


def tree(*children: int) -> tuple[Machine, FakeTree]:
    """Return a machine with a root and children in one container."""
    machine = Machine(Process(ROOT, "app.exe"), *(Process(pid, f"child{pid}.exe", ppid=ROOT) for pid in children))
    return machine, FakeTree(machine, ROOT, *children)


def stop(machine: Machine, container: FakeTree, policy: Policy | None = None, **how: object) -> Report:
    """Stop it, and look that no handle is left."""
    held = Held(container, policy or policy_of(10.0, force=True), backend=machine)
    report = held.stop(**how)  # type: ignore[arg-type]  # handed through
    assert container.closed
    assert not machine.pins
    return report


def sent(machine: Machine) -> list[str]:
    """Return what was sent, as `CTRL_C 10 @0`."""
    return [f"{name} {pid} @{at:g}" for at, pid, name in machine.sent]


def outcome(report: Report) -> tuple[str, int]:
    """Return the word and how many members there were."""
    return report.targets[0].outcome, len(report.targets[0].members)


def test_the_root_is_asked_and_its_children_are_its_own_affair() -> None:
    """It ends them before it ends; nobody else is asked."""
    machine, container = tree(11, 12)
    machine.answers[ROOT, "CTRL_C"] = 1.0
    machine.at(0.5, lambda: machine.exit(11, 12))
    report = stop(machine, container)
    assert sent(machine) == ["CTRL_C 10 @0"]
    assert outcome(report) == ("stopped", 3)
    assert [("job-empty", "proved")] == [(e.mechanism, e.strength) for e in report.targets[0].evidence]
    assert ["target", "owned", "owned"] == [m.tie for m in report.targets[0].members]


def test_orphans_of_a_root_that_had_ended_are_asked_at_once() -> None:
    """The container knows them; the command itself needs no request."""
    machine, container = tree(11)
    machine.answers[11, "CTRL_C"] = 0.1
    machine.exit(ROOT)
    report = stop(machine, container)
    assert sent(machine) == ["CTRL_C 11 @0"]
    assert outcome(report) == ("stopped", 2)


def test_what_had_ended_by_itself_is_stopped() -> None:
    """The block promises that the tree is gone, and that is proved."""
    machine, container = tree()
    machine.exit(ROOT)
    assert outcome(stop(machine, container)) == ("stopped", 1)
    assert machine.sent == []


def test_who_is_born_meanwhile_is_found_and_asked() -> None:
    """A successor that the root starts while it ends is in the container, too."""
    machine, container = tree()
    machine.answers[ROOT, "CTRL_C"] = 1.0
    machine.answers[20, "CTRL_C"] = 0.1

    def birth() -> None:
        machine.add(Process(20, "late.exe"))
        container.inside.add(20)

    machine.at(0.9, birth)
    report = stop(machine, container)
    assert [s.split(" @")[0] for s in sent(machine)] == ["CTRL_C 10", "CTRL_C 20"]
    assert outcome(report) == ("stopped", 2)


def test_a_pid_that_was_given_away_is_not_taken_in() -> None:
    """Between the list and the handle it became a stranger's: after the handle was opened the list does not name it any more."""
    machine, container = tree(11)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    held = Held(container, policy_of(10.0, force=True), backend=machine)

    def replace() -> None:
        machine.exit(11)
        container.inside.discard(11)
        machine.add(Process(11, "stranger.exe"))

    machine.before("pin", replace, nth=3)  # the tree's own, the stop's own, then this one
    report = held.stop()
    assert outcome(report) == ("stopped", 1)
    assert not machine.processes[11].exited


def test_force_ends_all_at_its_time() -> None:
    """With those who are found only then."""
    machine, container = tree(11)
    report = stop(machine, container, policy_of(4.0, force=True))
    assert container.ended == 1
    assert outcome(report) == ("forced", 2)
    assert all(m.forced and m.receipts[-1].request == "TERMINATE" for m in report.targets[0].members)
    assert machine.clock == 4.0


def test_force_that_fails_is_told() -> None:
    """A receipt that says so, and no success."""
    machine, container = tree()
    container.broken = True
    report = stop(machine, container, policy_of(1.0, force=True))
    assert outcome(report)[0] == "running"
    assert report.targets[0].members[0].receipts[-1].status == "failed"


def test_without_force_it_is_left_and_named() -> None:
    """Nothing is ended."""
    machine, container = tree(11)
    report = stop(machine, container, policy_of(2.0, force=False))
    assert (container.ended, outcome(report)[0], report.exit_code) == (0, "running", 124)


def test_a_count_that_lags_is_waited_for() -> None:
    """The handle of the last process is signalled before the system has taken it apart."""
    machine, container = tree()
    machine.answers[ROOT, "CTRL_C"] = 1.0
    container.lag_until = 1.5
    report = stop(machine, container)
    assert outcome(report) == ("stopped", 1)
    assert 1.5 <= machine.clock < 2.0


def test_a_member_that_cannot_be_held_is_no_success() -> None:
    """It was in there and nobody could follow it: without force it is unproven, and named."""
    machine, container = tree(11)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    machine.processes[11].denied = True
    report = stop(machine, container, policy_of(5.0, force=False))
    assert outcome(report) == ("unproven", 1)
    assert ["unheld"] == [r.code for r in report.targets[0].reasons]


def test_a_member_that_cannot_be_held_is_forced_at_the_time_of_force() -> None:
    """The container ends it, and the word says so."""
    machine, container = tree(11)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    machine.processes[11].denied = True
    report = stop(machine, container, policy_of(5.0, force=True))
    assert outcome(report) == ("forced", 1)
    assert 5.0 <= machine.clock < 6.0


def test_an_unreadable_count_proves_nothing() -> None:
    """Unknown is not empty."""
    machine, container = tree()
    machine.answers[ROOT, "CTRL_C"] = 0.1
    container.unreadable = True
    report = stop(machine, container, policy_of(5.0, force=False))
    assert outcome(report) == ("unproven", 1)
    assert "could not be read" in report.targets[0].evidence[0].text


# --------------------------------------------------------------------------- what the console said


def test_what_the_console_said_has_half_of_the_first_step() -> None:
    """It ends by that alone, and nothing is sent."""
    machine, container = tree()
    container.hears = True
    machine.at(3.0, lambda: machine.exit(ROOT))
    report = stop(machine, container, told=True)
    assert (machine.sent, outcome(report), machine.clock) == ([], ("stopped", 1), 3.0)


def test_who_stays_is_asked_when_that_time_is_over() -> None:
    """And force comes when the plan says it, counted from the beginning."""
    machine, container = tree()
    container.hears = True
    report = stop(machine, container, policy_of(10.0, force=True), told=True)
    assert sent(machine)[0] == "CTRL_C 10 @5"
    assert outcome(report) == ("forced", 1)
    assert machine.clock == 10.0


def test_without_a_shared_console_it_is_asked_at_once() -> None:
    """What the console told us did not reach it."""
    machine, container = tree()
    machine.answers[ROOT, "CTRL_C"] = 0.1
    stop(machine, container, told=True)
    assert sent(machine) == ["CTRL_C 10 @0"]


def test_a_limit_brings_the_force_nearer() -> None:
    """The system ends us in four seconds: the plan ends before."""
    machine, container = tree()
    report = stop(machine, container, policy_of(60.0, force=True), limit_s=4.0)
    assert outcome(report) == ("forced", 1)
    assert machine.clock == 2.0


# --------------------------------------------------------------------------- interrupted


@pytest.mark.parametrize(("force", "word"), [(True, "forced"), (False, "running")])
def test_an_interrupt_hurries_and_leaves_a_report(force: bool, word: str) -> None:
    """What may be forced is forced now; what may not is named; the interrupt goes on."""
    machine, container = tree(11)

    def press() -> None:
        raise KeyboardInterrupt

    machine.at(1.0, press)
    held = Held(container, policy_of(60.0, force=force), backend=machine)
    with pytest.raises(KeyboardInterrupt):
        held.stop()
    assert held.report is not None
    assert (held.report.targets[0].outcome, held.report.exit_code) == (word, 130)
    assert container.closed
    assert not machine.pins


def test_hurried_from_the_beginning_nobody_is_asked() -> None:
    """A second Ctrl+C came before the stop had begun."""
    machine, container = tree(11)
    report = stop(machine, container, hurried=True)
    assert (machine.sent, outcome(report), report.exit_code) == ([], ("forced", 2), 130)


def test_an_interrupt_in_the_last_moment_does_not_forge_the_verdict() -> None:
    """Everything had ended by itself when it came."""
    machine, container = tree()
    machine.exit(ROOT)
    report = stop(machine, container, policy_of(5.0, force=False), hurried=True)
    assert outcome(report) == ("stopped", 1)


# --------------------------------------------------------------------------- requests of its own


class Pipe:
    """Standard input that somebody waits at the end of."""

    def __init__(self, machine: Machine, after_s: float | None) -> None:
        self.machine = machine
        self.after_s = after_s
        self.closed = False

    def close(self) -> None:
        """Let the command see the end."""
        self.closed = True
        if self.after_s is None:
            raise BrokenPipeError
        self.machine.at(self.machine.clock + self.after_s, lambda: self.machine.exit(ROOT))


def with_pipe(after_s: float | None) -> tuple[Machine, FakeTree, Pipe]:
    """Return a tree whose command has a pipe from us."""
    machine, container = tree()
    pipe = Pipe(machine, after_s)
    container.stdin = pipe  # type: ignore[assignment]  # enough of one
    return machine, container, pipe


def test_the_end_of_input_is_the_first_request_where_the_caller_wants_it() -> None:
    """It is told as a receipt, and nothing else is sent."""
    machine, container, pipe = with_pipe(0.5)
    held = Held(container, policy_of(5.0, force=True), stdin_eof=True, backend=machine)
    report = held.stop()
    assert pipe.closed
    assert machine.sent == []
    assert [("STDIN_EOF", "delivered")] == [(r.request, r.status) for r in report.targets[0].members[0].receipts]


def test_a_pipe_that_is_broken_already_is_no_error() -> None:
    """The command has closed its end; then it is asked further."""
    machine, container, _pipe = with_pipe(None)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    report = Held(container, policy_of(5.0, force=True), stdin_eof=True, backend=machine).stop()
    assert outcome(report)[0] == "stopped"
    assert sent(machine)[0].startswith("CTRL_C 10")


def test_input_is_left_alone_where_the_caller_did_not_ask() -> None:
    """A pipe is the caller's own affair."""
    machine, container, pipe = with_pipe(0.1)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    Held(container, policy_of(5.0, force=True), backend=machine).stop()
    assert not pipe.closed


def test_a_text_for_its_input_is_not_ours_to_write() -> None:
    """The caller holds the pipe and may be in the middle of a line."""
    machine, container, pipe = with_pipe(0.1)
    machine.answers[ROOT, "CTRL_C"] = 0.1
    policy = make_policy(plan="stdin:q/1/ctrl-c/1", signals=False)
    report = Held(container, policy, stdin_eof=True, backend=machine).stop()
    assert [r.status for r in report.targets[0].members[0].receipts] == ["impossible", "delivered"]
    assert not pipe.closed


@pytest.mark.parametrize("status", ["delivered", "failed"])
def test_a_group_of_its_own_is_asked_as_one(status: ReceiptStatus) -> None:
    """Where the command leads one, that is the last rung of its ladder."""
    machine, container = tree()
    machine.ladderless.add(ROOT)
    container.leads_group = True
    container.group_status = status
    report = stop(machine, container, policy_of(2.0, force=True))
    assert sent(machine) == ["GROUP_CTRL_BREAK 10 @0"]
    assert outcome(report)[0] == "forced"


@pytest.mark.parametrize("status", ["delivered", "impossible"])
def test_a_group_is_asked_only_where_no_event_of_the_console_was_heard(status: ReceiptStatus) -> None:
    """A second one could end a program that cleans up after the first."""
    machine, container = tree()
    container.leads_group = True
    machine.refuses.update({name: status for name in ("CTRL_C", "CTRL_BREAK") if status != "delivered"})
    stop(machine, container, policy_of(2.0, force=True))
    asked = [line.split()[0] for line in sent(machine)]
    assert asked == (["CTRL_C"] if status == "delivered" else ["CTRL_C", "GROUP_CTRL_BREAK"])


def test_a_group_is_not_asked_after_a_stop_event_that_may_have_been_heard() -> None:
    """It may be cleaning up, and cannot say so."""
    machine, container = tree()
    container.leads_group = True
    machine.silent.add(ROOT)
    report = stop(machine, container, policy_of(2.0, force=False))
    assert sent(machine) == ["STOP_EVENT 10 @0"]
    assert ["unacknowledged"] == [r.code for r in report.targets[0].reasons]


# --------------------------------------------------------------------------- what it says


def test_a_command_that_talks_gets_its_time() -> None:
    """It is told deadline and reason, gets more as far as that is allowed, and everything it said is in the report."""
    machine, container = tree()
    machine.talks[ROOT] = talk = Talk()
    machine.at(0.1, lambda: talk.put({"heard": {"name": "CTRL_C_EVENT", "ago_s": 0.0}}))
    machine.at(1.0, lambda: talk.put({"need": {"seconds": 5, "text": "flushing"}}))
    machine.at(5.5, lambda: machine.exit(ROOT))
    report = stop(machine, container, policy_of(2.0, force=True, extend_s=10.0, reason="deploy 12"))
    assert outcome(report) == ("stopped", 1)
    assert container.ended == 0
    target = report.targets[0]
    assert [s.kind for s in target.members[0].said] == ["heard", "need"]
    assert target.granted_s == pytest.approx(4.0)
    notice, granted = talk.said
    assert notice["notice"] == {
        "request": "CTRL_C",
        "left_s": 2.0,
        "reason": "deploy 12",
        "by": f"endtask {endtask.__version__}",
    }
    assert granted["granted"] == {"left_s": 5.0}
    assert not talk.open


def test_a_command_that_refuses_is_left_where_force_is_not_allowed() -> None:
    """Its refusal is the outcome, at once."""
    machine, container = tree(11)
    machine.talks[ROOT] = talk = Talk()
    machine.at(0.5, lambda: talk.put({"veto": {"text": "recording"}}))
    report = stop(machine, container, policy_of(5.0, force=False))
    assert outcome(report)[0] == "vetoed"
    assert machine.clock == 0.5
    assert sent(machine) == ["CTRL_C 10 @0"]


def test_a_command_is_asked_by_its_receiver_alone() -> None:
    """`channel` asks by the conversation; without one the next step follows at once."""
    machine, container = tree()
    machine.talks[ROOT] = talk = Talk()
    machine.at(0.5, lambda: machine.exit(ROOT))
    policy = make_policy(plan="channel/5/ctrl-c/5", watch_s=0.0, signals=False)
    assert outcome(stop(machine, container, policy)) == ("stopped", 1)
    assert [list(said) for said in talk.said] == [["endtask", "request"]]
    assert machine.sent == []
    machine, container = tree()
    machine.answers[ROOT, "CTRL_C"] = 0.5
    assert outcome(stop(machine, container, policy)) == ("stopped", 1)
    assert sent(machine) == ["CTRL_C 10 @0"]


def test_a_limit_leaves_no_room_for_more() -> None:
    """Who is ended by the system at a certain time cannot grant what lies behind it."""
    policy = policy_of(2.0, force=False, extend_s=10.0)
    assert within(policy, 4.0).extend_s == 2.0
    assert within(policy, 1.0).extend_s == 0.0
    assert within(policy, 60.0) == policy


# --------------------------------------------------------------------------- the command itself


def test_poll_and_wait_answer_from_memory_after_the_stop() -> None:
    """The handle is closed by then."""
    machine, container = tree()
    held = Held(container, policy_of(5.0, force=True), backend=machine)
    assert held.poll() is None
    assert held.wait(1.0) is None
    machine.at(2.0, lambda: machine.exit(ROOT))
    assert held.wait(5.0) == ProcessEnd(7, source="handle")
    held.stop()
    assert held.poll() == held.wait() == ProcessEnd(7, source="handle")
    assert (held.fileno(), held.ref, held.lost) == (-1, PidRef(ROOT, "4"), False)


def test_policies_of_a_block() -> None:
    """Force at its time, at once, or never; and what a limit and a delay make of them."""
    assert [s.request.name for s in policy_of(3.0, force=True).steps] == ["ask", "TERMINATE"]
    assert [s.request.name for s in policy_of(0.0, force=True).steps] == ["TERMINATE"]
    assert [s.request.name for s in policy_of(3.0, force=False).steps] == ["ask"]
    assert within(policy_of(2.0, force=False), 4.0) == policy_of(2.0, force=False)
    assert within(policy_of(60.0, force=True), 4.0).steps[0].wait_s == 2.0
    assert within(policy_of(60.0, force=False), 4.0).budget_s == 4.0
    assert later(policy_of(3.0, force=False), 1.0).budget_s == 2.0
    assert [s.wait_s for s in later(policy_of(3.0, force=True), 1.0).steps] == [2.0, None]
