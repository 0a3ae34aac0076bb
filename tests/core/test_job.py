"""The state machine of one stop, stepped by hand: every event in every order that a real system can produce."""

from __future__ import annotations

import pytest

from endtask._job import (
    LINGER_S,
    SHELL_ALONE_S,
    SUSPECTS_S,
    TARGET_ALONE,
    Force,
    Job,
    JobMember,
    Scan,
    Send,
    Settle,
    Watch,
)
from endtask._outcome import outcome
from endtask._plan import Plan, make_policy
from endtask.model import Evidence, PidRef, Policy, ProcessEnd, Receipt, Respawn, Scope, Suspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._job import Action
    from endtask.model import ReceiptStatus

BEGIN = 100.0  # the clock does not begin at zero
END = ProcessEnd(0, source="pidfd")
CATCHES = frozenset({"TERM", "INT"})
NOTHING: frozenset[str] = frozenset()
PROVED = (Evidence("pidfd", "proved", "all exited"),)
OTHER = Respawn(PidRef(99, "1"), "app", "5 loop")


def words(actions: Iterable[Action]) -> list[str]:
    """Return actions as words: `TERM 10`, `force`, `scan`, `watch`, `settle`."""
    plain = {Force: "force", Scan: "scan", Watch: "watch", Settle: "settle"}
    return [f"{a.request.name} {a.member.ref.pid}" if isinstance(a, Send) else plain[type(a)] for a in actions]


class Story:
    """A job with short verbs; times count from the start of the run."""

    def __init__(
        self,
        plan: str = "TERM/10",
        others: int = 0,
        *,
        catches: frozenset[str] | None = CATCHES,
        watch_s: float = 0.0,
        policy: Policy | None = None,
        shell: bool = False,
    ) -> None:
        self.members = [JobMember(PidRef(10, "1"), "app", "target", catches=catches)]
        self.members += [JobMember(PidRef(11 + n, "1"), "child", "child of 10") for n in range(others)]
        self.job = Job(policy or make_policy(plan=plan), self.members, watch_s=watch_s, target_is_shell=shell)

    def start(self) -> list[str]:
        """Begin the run."""
        return words(self.job.start(BEGIN))

    def tick(self, at_s: float) -> list[str]:
        """Let the clock strike, and every alarm that has become due, as the engine does."""
        found = self.job.tick(BEGIN + at_s)
        for _turn in range(10):
            if self.wakes_at is None or self.wakes_at > at_s:
                break
            found += self.job.tick(BEGIN + at_s)
        return words(found)

    def exit(self, pid: int, at_s: float, end: ProcessEnd = END) -> list[str]:
        """See the exit of a member."""
        return words(self.job.exited(self.member(pid), end, BEGIN + at_s))

    def answer(self, pid: int, status: ReceiptStatus, at_s: float = 0.0, request: str = "TERM") -> list[str]:
        """Let the system answer a request."""
        return words(self.job.receipt(self.member(pid), Receipt(request, status, at_s), BEGIN + at_s))

    def join(self, *pids: int, at_s: float, kept: bool = False) -> list[str]:
        """Find new members."""
        new = [JobMember(PidRef(p, "1"), "new", "started while stopping", kept=kept) for p in pids]
        return words(self.job.joined(new, BEGIN + at_s))

    def scanned(
        self, at_s: float, *, evidence: tuple[Evidence, ...] = PROVED, suspects: tuple[Suspect, ...] = ()
    ) -> list[str]:
        """Complete the scan."""
        return words(self.job.scanned(BEGIN + at_s, evidence=evidence, suspects=suspects))

    def member(self, pid: int) -> JobMember:
        """Return the member with that pid."""
        return next(m for m in self.job.members if m.ref.pid == pid)

    @property
    def wakes_at(self) -> float | None:
        """When it wants to be woken, from the start."""
        return None if self.job.wake_at is None else self.job.wake_at - BEGIN


# --- one process


def test_polite_process_is_asked_proved_and_settled() -> None:
    """The plain story: ask, exit, scan, settle."""
    story = Story()
    assert story.start() == ["TERM 10"]
    assert story.answer(10, "delivered") == []
    assert story.exit(10, 0.3) == ["scan"]
    assert story.scanned(0.3) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_process_that_stays_is_running_when_the_budget_is_spent() -> None:
    """Nothing is forced that was not planned (demand 3.1)."""
    story = Story(catches=NOTHING)
    story.start()
    story.answer(10, "delivered")
    assert story.wakes_at == 10
    assert story.tick(9.99) == []
    assert story.tick(10) == ["settle"]
    assert outcome(story.job) == "running"


def test_steps_follow_each_other_at_their_times() -> None:
    """TERM, then INT after its wait, then force after its."""
    story = Story("TERM/3/INT/2/KILL/1", catches=NOTHING)
    assert story.start() == ["TERM 10"]
    assert story.wakes_at == 3
    assert story.tick(2.9) == []
    assert story.tick(3) == ["INT 10"]
    assert story.wakes_at == 5
    assert story.tick(5) == ["force"]
    assert story.wakes_at == 6
    assert story.tick(6) == ["settle"]


def test_waits_count_from_when_a_step_really_began() -> None:
    """A late clock shortens no step but the last, which ends with the budget."""
    story = Story("TERM/3/INT/2/KILL/5", catches=NOTHING)
    story.start()
    assert story.tick(4) == ["INT 10"]
    assert story.wakes_at == 6
    assert story.tick(6) == ["force"]
    assert story.wakes_at == 10


def test_force_that_was_held_up_comes_all_the_same() -> None:
    """Two hundred targets can keep us from the clock until the budget is spent; nobody is left running whom the plan forces."""
    story = Story("TERM/1/KILL/1", catches=NOTHING)
    story.start()
    assert story.tick(2.5) == ["force"]
    assert story.wakes_at == 3
    assert story.tick(3) == ["settle"]
    assert outcome(story.job) == "running"
    story = Story("TERM/3", catches=NOTHING)
    story.start()
    assert story.tick(3.5) == ["settle"]


def test_forced_end_is_told_as_forced() -> None:
    """A KILL that was delivered while it ran makes `forced`."""
    story = Story("TERM/1/KILL/5")
    story.start()
    story.answer(10, "delivered")
    assert story.tick(1) == ["force"]
    story.answer(10, "delivered", 1.0, "KILL")
    assert story.exit(10, 1.1, ProcessEnd(signal=9, source="pidfd")) == ["scan"]
    assert story.scanned(1.1) == ["settle"]
    assert outcome(story.job) == "forced"
    assert story.member(10).forced


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (ProcessEnd(0, source="pidfd"), "stopped"),
        (ProcessEnd(signal=15, source="pidfd"), "stopped"),
        (ProcessEnd(signal=9, source="pidfd"), "forced"),
        (ProcessEnd(why_unknown="this kernel does not tell"), "forced"),
    ],
)
def test_force_that_came_too_late_is_told_by_the_end(end: ProcessEnd, word: str) -> None:
    """KILL met a process that was on its way out: the kernel's word decides, and without one it counts as forced."""
    story = Story("TERM/1/KILL/5")
    story.start()
    story.answer(10, "delivered")
    story.tick(1)
    story.answer(10, "delivered", 1.0, "KILL")
    story.exit(10, 1.0, end)
    story.scanned(1.0)
    assert word == outcome(story.job)


def test_request_by_another_target_of_the_run_is_noted() -> None:
    """Two targets own one process: both reports show what it was sent, and force is told by both."""
    story = Story("KILL/5", others=1)
    story.start()
    assert story.job.told(story.member(11), Receipt("KILL", "delivered", 0.1, "as part of `other`"), BEGIN + 0.1) == []
    assert story.member(11).forced
    assert ["KILL"] == [r.request for r in story.member(11).receipts]


def test_refusal_to_another_target_of_the_run_settles_ours() -> None:
    """The process is our target too, and it was found out that nobody may ask it."""
    story = Story()
    story.start()
    assert words(story.job.told(story.member(10), Receipt("TERM", "denied", 0.1), BEGIN + 0.1)) == ["settle"]
    assert outcome(story.job) == "not-permitted"


def test_force_at_once_asks_nothing() -> None:
    """`--now` is the forced step alone."""
    story = Story(policy=make_policy(now=True))
    assert story.start() == ["force"]


def test_process_that_had_exited_before_is_asked_nothing() -> None:
    """Exit before start: straight to the proof, nothing sent, `already-gone`."""
    story = Story()
    assert story.exit(10, 0.0) == []
    assert story.start() == ["scan"]
    assert story.scanned(0.0) == ["settle"]
    assert outcome(story.job) == "already-gone"
    assert story.member(10).receipts == []


def test_vanished_before_the_request_is_already_gone() -> None:
    """The request met nobody: it did not stop because of us (issue 2, 7)."""
    story = Story()
    story.start()
    assert story.answer(10, "gone") == []
    assert story.exit(10, 0.001) == ["scan"]
    assert story.scanned(0.001) == ["settle"]
    assert outcome(story.job) == "already-gone"


def test_second_report_of_an_exit_changes_nothing() -> None:
    """Zombie and reaped are told once."""
    story = Story(others=1)
    story.start()
    story.exit(10, 1)
    assert story.exit(10, 2) == []
    assert story.member(10).exited_at == BEGIN + 1
    assert story.job.open == 1


# --- the order in a tree


def test_target_that_does_not_catch_is_asked_with_the_rest_at_once() -> None:
    """It cannot tell its children, so they are told too."""
    story = Story(others=2, catches=frozenset())
    assert story.start() == ["TERM 10", "TERM 11", "TERM 12"]


@pytest.mark.parametrize("catches", [frozenset({"TERM"}), None])
def test_target_that_catches_is_asked_alone_first(catches: frozenset[str] | None) -> None:
    """A handler (or an unreadable mask) leaves the children to the target for half of the step."""
    story = Story(others=2, catches=catches)
    assert story.start() == ["TERM 10"]
    assert story.wakes_at == 10 * TARGET_ALONE
    assert story.tick(4.9) == []
    assert story.tick(5) == ["TERM 11", "TERM 12"]
    assert story.wakes_at == 10


def test_catching_is_asked_for_each_request() -> None:
    """A handler for INT says nothing about TERM."""
    story = Story("TERM/4/INT/4", others=1, catches=frozenset({"INT"}))
    assert story.start() == ["TERM 10", "TERM 11"]
    assert story.tick(4) == ["INT 10"]
    assert story.tick(6) == ["INT 11"]


def test_script_is_left_alone_only_for_a_moment() -> None:
    """A shell runs its trap only after the running command has ended, so that one is asked soon."""
    story = Story(others=1, shell=True)
    assert story.start() == ["TERM 10"]
    assert story.wakes_at == SHELL_ALONE_S
    assert story.tick(SHELL_ALONE_S) == ["TERM 11"]


def test_what_is_left_gets_a_moment_after_the_target_has_exited() -> None:
    """Most children have been told by the target; a second request at once would make them drop their cleanup."""
    story = Story(others=2)
    story.start()
    story.answer(10, "delivered")
    assert story.exit(10, 1.0) == []
    assert story.wakes_at == pytest.approx(1.0 + LINGER_S)
    assert story.exit(11, 1.1) == []
    assert story.tick(1.0 + LINGER_S) == ["TERM 12"]
    assert story.exit(12, 1.3) == ["scan"]


def test_moment_after_the_exit_never_makes_the_rest_wait_longer() -> None:
    """When the target exits just before its half is over, the half stands."""
    story = Story(others=1)
    story.start()
    story.exit(10, 4.9)
    assert story.wakes_at == 5


def test_rest_that_was_asked_already_is_not_asked_again() -> None:
    """One step asks everybody at most once."""
    story = Story(others=1)
    story.start()
    assert story.tick(5) == ["TERM 11"]
    assert story.exit(10, 6) == []
    assert [story.tick(t) for t in (6.0 + LINGER_S, 7.0, 9.0)] == [[], [], []]


def test_child_that_exits_first_changes_nothing_for_the_target() -> None:
    """Only the end of the target matters for the order."""
    story = Story(others=2)
    story.start()
    assert story.exit(11, 0.5) == []
    assert story.wakes_at == 5
    assert story.tick(5) == ["TERM 12"]


def test_next_step_begins_with_the_target_again() -> None:
    """The order is that of each step; members that have exited are left out."""
    story = Story("TERM/4/INT/4", others=2)
    story.start()
    story.tick(2)
    story.exit(12, 3)
    assert story.tick(4) == ["INT 10"]
    assert story.tick(6) == ["INT 11"]


def test_workers_are_left_to_a_target_that_lives() -> None:
    """Members that run the same program are asked only when the target is gone."""
    story = Story(others=2)
    story.member(11).managed = True
    story.start()
    assert story.tick(5) == ["TERM 12"]
    assert story.exit(10, 6) == []
    assert story.tick(6 + LINGER_S) == ["TERM 11"]


def test_workers_of_a_target_that_does_not_catch_are_asked_with_it() -> None:
    """A target that just dies tells nobody."""
    story = Story(others=1, catches=frozenset())
    story.member(11).managed = True
    assert story.start() == ["TERM 10", "TERM 11"]


def test_rest_is_asked_at_once_when_the_target_is_gone_before() -> None:
    """Exit before start leaves the children to us."""
    story = Story(others=2)
    story.exit(10, 0)
    assert story.start() == ["TERM 11", "TERM 12"]


def test_standard_input_speaks_to_the_target_only() -> None:
    """A line on standard input is the main process's affair; the signal after it is for all."""
    story = Story("stdin:q/4/TERM/4", others=1, catches=frozenset())
    assert story.start() == ["stdin:q 10"]
    assert story.tick(4) == ["TERM 10", "TERM 11"]


def test_line_for_a_target_that_is_gone_is_sent_to_nobody() -> None:
    """Standard input is the target's; its children are not asked in its place."""
    story = Story("TERM/2/stdin:q/2", others=1, catches=NOTHING)
    story.start()
    story.exit(10, 1)
    assert story.tick(2) == []
    assert story.tick(4) == ["settle"]


def test_rest_of_a_target_that_left_by_standard_input_is_asked_in_the_next_step() -> None:
    """A line cannot be sent to the children, TERM can."""
    story = Story("stdin:q/4/TERM/4", others=1)
    story.start()
    assert story.exit(10, 1) == []
    assert story.tick(4) == ["TERM 11"]


# --- force


def test_forced_step_forces_the_scope_once() -> None:
    """Force is one action for everything; what survives it is not sent another KILL by the way."""
    story = Story("TERM/2/KILL/5", others=2, catches=frozenset())
    story.start()
    assert story.tick(2) == ["force"]
    for pid in (10, 11, 12):
        story.answer(pid, "delivered", 2.0, "KILL")
    assert story.exit(10, 2.1) == []
    assert [story.tick(t) for t in (2.1 + LINGER_S, 3.0, 6.9)] == [[], [], []]
    assert story.tick(7) == ["settle"]
    assert outcome(story.job) == "running"


def test_member_that_joins_while_forcing_is_forced() -> None:
    """Born while the rest dies: force again (demand 3.6)."""
    story = Story("TERM/2/KILL/5", others=1, catches=frozenset())
    story.start()
    story.tick(2)
    assert story.join(20, at_s=2.1) == ["force"]


def test_member_found_by_the_scan_after_force_is_forced() -> None:
    """Everybody known has exited, the scan finds one more."""
    story = Story("KILL/5")
    story.start()
    story.answer(10, "delivered", 0.0, "KILL")
    assert story.exit(10, 0.1) == ["scan"]
    assert story.join(20, at_s=0.2) == ["force"]
    assert story.scanned(0.2) == []
    assert story.exit(20, 0.3) == ["scan"]
    assert story.scanned(0.3) == ["settle"]


def test_exit_before_the_receipt_of_force_is_not_forced() -> None:
    """It had ended by itself when KILL arrived."""
    story = Story("TERM/2/KILL/5")
    story.start()
    story.answer(10, "delivered")
    story.tick(2)
    assert story.exit(10, 2.0) == ["scan"]
    assert story.answer(10, "delivered", 2.0, "KILL") == []
    assert story.scanned(2.0) == ["settle"]
    assert outcome(story.job) == "stopped"


# --- refusals


def test_denied_target_settles_at_once() -> None:
    """EPERM is an answer: nothing is waited for (demand 3.10)."""
    story = Story("TERM/2/KILL/5", others=1)
    story.start()
    assert story.answer(10, "denied") == ["settle"]
    assert outcome(story.job) == "not-permitted"


def test_denied_member_is_not_asked_again_and_not_called_gone() -> None:
    """A child of another user stays what it is: there."""
    story = Story("TERM/2/INT/2", others=1, catches=frozenset())
    story.start()
    assert story.answer(11, "denied") == []
    story.exit(10, 0.5)
    assert story.tick(2) == []
    assert story.tick(4) == ["settle"]
    assert outcome(story.job) == "not-permitted"


def test_denied_member_that_ends_by_itself_is_no_failure() -> None:
    """It followed its parent."""
    story = Story(others=1, catches=frozenset())
    story.start()
    story.answer(10, "delivered")
    story.answer(11, "denied")
    story.exit(10, 0.5)
    assert story.exit(11, 0.6) == ["scan"]
    assert story.scanned(0.6) == ["settle"]
    assert outcome(story.job) == "stopped"


@pytest.mark.parametrize("status", ["impossible", "failed"])
def test_step_that_cannot_be_sent_makes_way_for_the_next(status: ReceiptStatus) -> None:
    """A request that does not exist for this process costs none of its time."""
    story = Story("stdin:q/5/TERM/5", catches=NOTHING)
    story.start()
    assert story.answer(10, status, 0.0, "stdin:q") == ["TERM 10"]
    assert story.wakes_at == 10


@pytest.mark.parametrize("status", ["impossible", "failed"])
def test_target_for_which_no_request_exists_is_unreachable(status: ReceiptStatus) -> None:
    """No request of the plan exists for it: said at once, never replaced by a stronger one."""
    story = Story("stdin:q/5")
    story.start()
    assert story.answer(10, status, 0.0, "stdin:q") == ["settle"]
    assert outcome(story.job) == "unreachable"


def test_target_that_heard_one_request_is_waited_for() -> None:
    """The last step failing does not undo the first."""
    story = Story("TERM/2/stdin:q/5")
    story.start()
    story.answer(10, "delivered")
    assert story.tick(2) == ["stdin:q 10"]
    assert story.answer(10, "impossible", 2.0, "stdin:q") == []
    assert story.tick(7) == ["settle"]
    assert outcome(story.job) == "running"


def test_member_that_cannot_be_asked_does_not_end_the_job() -> None:
    """Only the target's answers steer the plan."""
    story = Story("TERM/2/INT/2", others=1, catches=frozenset())
    story.start()
    assert story.answer(11, "failed") == []
    assert story.job.state == "asking"


# --- joined


def test_newcomer_waits_with_the_rest_while_the_target_is_alone() -> None:
    """A child born in the target's own time is its own affair like the others."""
    story = Story(others=1)
    story.start()
    assert story.join(20, at_s=1) == []
    assert story.tick(5) == ["TERM 11", "TERM 20"]


def test_newcomer_of_a_lone_target_that_catches_is_left_to_it() -> None:
    """What it starts to clean up with (a dump, a hook) is its own affair until half of the step is over."""
    story = Story()
    assert story.start() == ["TERM 10"]
    assert story.join(20, at_s=1) == []
    assert story.wakes_at == 10 * TARGET_ALONE
    assert story.tick(10 * TARGET_ALONE) == ["TERM 20"]


def test_newcomer_of_a_dead_target_is_asked_after_a_moment() -> None:
    """The target that caught the request is gone, so its half of the step is over; what the scan finds gets the usual moment."""
    story = Story()
    story.start()
    story.answer(10, "delivered")
    assert story.exit(10, 0.5) == ["scan"]
    assert story.join(20, at_s=0.5) == []
    assert story.wakes_at == pytest.approx(0.5 + LINGER_S)
    assert story.tick(0.5 + LINGER_S) == ["TERM 20"]


def test_newcomer_is_asked_at_once_when_the_rest_has_been_asked() -> None:
    """It is asked what the others were asked."""
    story = Story(others=1)
    story.start()
    story.tick(5)
    assert story.join(20, at_s=6) == ["TERM 20"]


def test_newcomer_found_while_proving_reopens_the_job() -> None:
    """Born during the scan: asked, waited for, scanned again (demand 3.6)."""
    story = Story(catches=NOTHING)
    story.start()
    story.answer(10, "delivered")
    assert story.exit(10, 0.5) == ["scan"]
    assert story.join(20, at_s=0.5) == ["TERM 20"]
    assert story.job.state == "asking"
    assert story.scanned(0.5) == []  # the scan that found it proves nothing
    assert story.exit(20, 0.7) == ["scan"]
    assert story.scanned(0.7) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_newcomer_found_after_the_deadline_is_told_and_not_asked() -> None:
    """The budget is spent: what was found still runs, and that is the verdict."""
    story = Story("TERM/2")
    story.start()
    story.exit(10, 1.9)
    assert story.join(20, at_s=2.1) == ["settle"]
    assert outcome(story.job) == "running"


def test_newcomer_in_a_plain_wait_is_only_waited_for() -> None:
    """`wait` sends nothing to anybody."""
    story = Story(policy=Policy((), 10.0, Scope()))
    assert story.start() == []
    assert story.join(20, at_s=1) == []
    assert story.exit(10, 2) == []
    assert story.exit(20, 3) == ["scan"]


@pytest.mark.parametrize("state", ["asking", "proving", "watching"])
def test_kept_newcomer_changes_nothing(state: str) -> None:
    """The child of a kept member is kept too; it neither reopens nor delays the job."""
    story = Story(watch_s=1.0)
    story.start()
    story.answer(10, "delivered")
    if state != "asking":
        story.exit(10, 0.5)
    if state == "watching":
        story.scanned(0.5)
    wakes_at = story.wakes_at
    assert story.join(20, at_s=0.6, kept=True) == []
    assert (state, wakes_at) == (story.job.state, story.wakes_at)
    if state == "proving":
        assert story.scanned(0.6) == ["watch"]


def test_newcomer_while_watching_reopens_the_job() -> None:
    """A member found late is stopped too."""
    story = Story(watch_s=5.0, catches=NOTHING)
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    assert story.scanned(0.5) == ["watch"]
    assert story.join(20, at_s=0.6) == ["TERM 20"]
    assert story.exit(20, 0.8) == ["scan"]
    assert story.scanned(0.8) == ["watch"]


def test_newcomer_after_the_verdict_is_nobodys_business() -> None:
    """A settled job stays settled."""
    story = Story()
    story.start()
    story.tick(10)
    assert story.join(20, at_s=11) == []
    assert story.job.state == "settled"


def test_newcomer_is_counted_once_and_its_exit_too() -> None:
    """`open` is the number of those that still concern us, after any mix of joins and exits."""
    story = Story(others=2)
    story.start()
    story.join(20, 21, at_s=1)
    story.join(22, at_s=1, kept=True)
    for pid in (11, 22, 20):
        story.exit(pid, 2)
    assert 3 == story.job.open == sum(m.concerns_us for m in story.job.members)


# --- proof


def test_end_without_evidence_is_unproven() -> None:
    """`stopped` never comes without evidence."""
    story = Story()
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    assert story.scanned(0.5, evidence=()) == ["settle"]
    assert outcome(story.job) == "unproven"


SUSPECT = Suspect(PidRef(77, "1"), "escapee", "same environment")


def test_suspects_get_a_moment_to_end_by_themselves() -> None:
    """An orphan of the target is often on its way out."""
    story = Story()
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    assert story.scanned(0.5, suspects=(SUSPECT,)) == ["watch"]
    assert story.wakes_at == pytest.approx(0.5 + SUSPECTS_S)
    assert story.tick(0.5 + SUSPECTS_S) == ["settle"]
    assert outcome(story.job) == "unproven"


def test_suspects_that_have_gone_meanwhile_leave_a_clean_end() -> None:
    """The engine tells that none is left."""
    story = Story()
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    story.scanned(0.5, suspects=(SUSPECT,))
    story.job.suspects = ()
    assert words(story.job.unwatch(BEGIN + 0.6)) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_proof_may_take_longer_than_the_budget() -> None:
    """The budget is for the asking; an exit just before it is proved after it."""
    story = Story("TERM/2")
    story.start()
    story.answer(10, "delivered")
    assert story.exit(10, 1.99) == ["scan"]
    assert story.wakes_at is None
    assert story.tick(2.5) == []
    assert story.scanned(2.5) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_exit_during_the_scan_of_another_member_is_kept() -> None:
    """Exit of a newcomer right after it was found: the scan that is under way proves nothing, the next one does."""
    story = Story()
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    story.join(20, at_s=0.5)
    assert story.exit(20, 0.5) == ["scan"]
    assert story.scanned(0.5) == ["settle"]


# --- deadline and exit in both orders


def test_exit_seen_before_the_deadline_at_the_same_instant_wins() -> None:
    """Exit, then deadline: proved."""
    story = Story("TERM/2")
    story.start()
    story.answer(10, "delivered")
    assert story.exit(10, 2.0) == ["scan"]
    assert story.tick(2.0) == []
    assert story.scanned(2.0) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_deadline_seen_before_the_exit_at_the_same_instant_is_running() -> None:
    """Deadline, then exit: the verdict was given and stays."""
    story = Story("TERM/2")
    story.start()
    story.answer(10, "delivered")
    assert story.tick(2.0) == ["settle"]
    assert outcome(story.job) == "running"
    assert story.exit(10, 2.0) == []
    assert story.scanned(2.0) == []
    assert story.job.state == "settled"


def test_exit_before_its_receipt_is_still_asked_and_stopped() -> None:
    """A fast process is gone before the answer to the request is written down."""
    story = Story()
    story.start()
    assert story.exit(10, 0.0) == ["scan"]
    assert story.answer(10, "delivered") == []
    assert story.scanned(0.0) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_denied_after_the_exit_is_no_refusal() -> None:
    """What has exited cannot refuse."""
    story = Story(others=1, catches=frozenset())
    story.start()
    story.answer(11, "delivered")
    story.exit(11, 0.0)
    story.exit(10, 0.0)
    assert story.answer(10, "denied") == []
    assert story.scanned(0.0) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_step_and_exit_at_the_same_instant_send_nothing_to_the_dead() -> None:
    """Exit, then the time of the next step: no request to who has gone."""
    story = Story("TERM/2/INT/2", others=1, catches=frozenset())
    story.start()
    story.exit(10, 2.0)
    assert story.tick(2.0) == ["INT 11"]


# --- respawn watch


def test_successor_makes_respawned() -> None:
    """It stopped, and somebody started it again (demand 3.25)."""
    story = Story(watch_s=3.0)
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    assert story.scanned(0.5) == ["watch"]
    assert story.wakes_at == 3.5
    assert words(story.job.successor(OTHER, BEGIN + 1)) == ["settle"]
    assert outcome(story.job) == "respawned"


def test_watch_without_successor_ends_in_time() -> None:
    """The watch has its own bound."""
    story = Story(watch_s=3.0)
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    story.scanned(0.5)
    assert story.tick(3.4) == []
    assert story.tick(3.5) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_watch_ends_early_when_nobody_is_left_to_start_it() -> None:
    """The parent has gone too."""
    story = Story(watch_s=3.0)
    story.start()
    story.answer(10, "delivered")
    story.exit(10, 0.5)
    story.scanned(0.5)
    assert words(story.job.unwatch(BEGIN + 0.6)) == ["settle"]


def test_end_that_was_not_ours_is_not_watched() -> None:
    """A process that had gone before needs no watch for its successor."""
    story = Story(watch_s=3.0)
    story.exit(10, 0.0)
    story.start()
    assert story.scanned(0.0) == ["settle"]


def test_successor_outside_of_the_watch_is_ignored() -> None:
    """News for a job that does not watch change nothing."""
    story = Story()
    story.start()
    assert story.job.successor(OTHER, BEGIN + 1) == []
    assert story.job.unwatch(BEGIN + 1) == []
    assert story.job.respawn is None


# --- cancel


@pytest.mark.parametrize(
    ("state", "word"), [("new", "running"), ("asking", "running"), ("proving", "unproven"), ("watching", "stopped")]
)
def test_cancel_settles_in_every_state(state: str, word: str) -> None:
    """Ctrl+C ends the asking at once, and the word is what is known at that moment."""
    story = Story(watch_s=3.0)
    if state != "new":
        story.start()
        story.answer(10, "delivered")
    if state in ("proving", "watching"):
        story.exit(10, 0.5)
    if state == "watching":
        story.scanned(0.5)
    assert state == story.job.state
    assert words(story.job.cancel(BEGIN + 1)) == ["settle"]
    assert story.job.cancelled
    assert word == outcome(story.job)


def test_cancel_of_a_settled_job_does_nothing() -> None:
    """The verdict was given."""
    story = Story()
    story.start()
    story.tick(10)
    assert story.job.cancel(BEGIN + 11) == []
    assert not story.job.cancelled


def test_nothing_is_sent_after_cancel() -> None:
    """Whatever happens then, the job is quiet."""
    story = Story("TERM/2/KILL/5", others=1)
    story.start()
    story.job.cancel(BEGIN + 1)
    assert [
        story.tick(2),
        story.exit(10, 3),
        story.join(20, at_s=3),
        story.answer(11, "delivered", 3),
        story.scanned(3),
    ] == [[]] * 5


# --- kept members and waits


def test_kept_member_is_neither_asked_nor_waited_for() -> None:
    """`--keep`: the target is stopped although the kept one runs on (demand 3.30)."""
    story = Story(others=2, catches=frozenset())
    story.member(11).kept = True
    assert story.start() == ["TERM 10", "TERM 12"]
    story.answer(10, "delivered")
    story.exit(10, 0.1)
    assert story.exit(12, 0.2) == ["scan"]
    assert story.scanned(0.2) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_exit_of_a_kept_member_is_noted_and_changes_nothing() -> None:
    """It may end by itself at any time."""
    story = Story(others=1)
    story.member(11).kept = True
    story.start()
    assert story.exit(11, 0.1) == []
    assert story.job.open == 1
    assert story.exit(10, 0.2) == ["scan"]


def test_plain_wait_sends_nothing_and_proves() -> None:
    """`wait` only waits."""
    story = Story(others=1, policy=Policy((), 5.0, Scope()))
    assert story.start() == []
    assert story.wakes_at == 5
    assert story.exit(10, 1) == []
    assert story.exit(11, 2) == ["scan"]
    assert story.scanned(2) == ["settle"]
    assert outcome(story.job) == "stopped"


def test_plain_wait_ends_with_its_budget() -> None:
    """No verb waits without a bound (demand 3.27)."""
    story = Story(policy=Policy((), 5.0, Scope()))
    story.start()
    assert story.tick(5) == ["settle"]
    assert outcome(story.job) == "running"


def test_budget_of_zero_asks_once_and_tells() -> None:
    """`--timeout 0` is fire and report."""
    story = Story(policy=make_policy(timeout_s=0.0))
    assert story.start() == ["TERM 10"]
    assert story.wakes_at == 0
    assert story.tick(0) == ["settle"]


# --- the machine always ends


@pytest.mark.parametrize("plan", ["TERM/10", "TERM/3/INT/2/KILL/5", "stdin:q/1/TERM/1", "KILL/1", "TERM/0/KILL/1"])
@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("catches", [None, frozenset[str]()])
def test_clock_alone_settles_every_job_by_its_deadline(plan: str, others: int, catches: frozenset[str] | None) -> None:
    """With nothing but its own alarms each job settles, in few turns and not after its budget (demand 3.27)."""
    story = Story(others=others, catches=catches, policy=make_policy(plan=Plan.parse(plan)))
    story.start()
    for _turn in range(20):
        at = story.job.wake_at
        if at is None:
            break
        story.job.tick(at)
    assert story.job.state == "settled"
    assert story.job.settled_at <= BEGIN + story.job.policy.budget_s
