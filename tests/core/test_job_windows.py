"""The state machine of a stop where each process has its own ladder and dialogs wait for people."""

from __future__ import annotations

from endtask._job import LOOKS_S, Force, Job, JobMember, Look, Scan, Send, Settle, Watch
from endtask._ladder import expand
from endtask._outcome import outcome
from endtask._plan import make_policy
from endtask._requests import CTRL_C, CTRL_CLOSE, STOP_EVENT, WM_CLOSE, WM_ENDSESSION
from endtask.model import Evidence, PidRef, ProcessEnd, Receipt, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._job import Action
    from endtask.model import ReceiptStatus

BEGIN = 100.0
PROVED = (Evidence("handle", "proved", "all exited"),)
GUI = (WM_CLOSE, WM_ENDSESSION)
CONSOLE = (CTRL_C, CTRL_CLOSE)


def words(actions: Iterable[Action]) -> list[str]:
    """Return actions as words."""
    plain = {Force: "force", Scan: "scan", Watch: "watch", Settle: "settle", Look: "look"}
    return [f"{a.request.name} {a.member.ref.pid}" if isinstance(a, Send) else plain[type(a)] for a in actions]


class Story:
    """A job whose looks are answered as told; times count from the start of the run."""

    def __init__(self, *ladders: tuple[Request, ...], force_after_s: float | None = None) -> None:
        self.members = [JobMember(PidRef(10 + n, "1"), "app.exe", "target") for n in range(len(ladders))]
        for member, ladder in zip(self.members, ladders, strict=True):
            member.ladder = ladder
            member.name = f"app{member.ref.pid}.exe"
        policy = make_policy(signals=False, force_after_s=force_after_s)
        self.job = Job(expand(policy, max(map(len, ladders))), self.members)
        self.blocked = False
        self.began = words(self.job.start(BEGIN))

    def until(self, at_s: float) -> list[str]:
        """Let the clock run to *at_s*; return what was sent, as `WM_CLOSE 10 @5`."""
        found: list[str] = []
        for _turn in range(100):
            wakes = self.job.wake_at
            if wakes is None or wakes > BEGIN + at_s or self.job.state == "settled":
                return found
            queue = self.job.tick(wakes)
            while queue:
                action = queue.pop(0)
                if isinstance(action, Look):
                    queue += self.job.looked(wakes, blocked=self.blocked)
                else:
                    found.append(f"{words([action])[0]} @{wakes - BEGIN:g}")
        raise AssertionError("the clock does not run on")

    def answer(
        self, status: ReceiptStatus, request: Request = WM_CLOSE, at_s: float = 0.0, member: int = 0
    ) -> list[str]:
        """Let the system answer a request."""
        return words(self.job.receipt(self.members[member], Receipt(request.name, status, at_s), BEGIN + at_s))


def test_target_is_asked_rung_by_rung() -> None:
    """One request for each rung, at its time, and then only waiting."""
    story = Story(GUI)
    assert story.began == ["WM_CLOSE 10"]
    assert story.until(9.9) == ["WM_ENDSESSION 10 @5"]
    assert story.until(10) == ["settle @10"]
    assert outcome(story.job) == "running"


def test_each_member_is_asked_by_its_own_ladder() -> None:
    """A console child of a program with windows hears console events."""
    story = Story(GUI, CONSOLE)
    assert story.began == ["WM_CLOSE 10"]
    assert story.until(9.9) == ["CTRL_C 11 @2.5", "WM_ENDSESSION 10 @5", "CTRL_CLOSE 11 @7.5"]


def test_dialog_ends_the_asking() -> None:
    """The next request would answer it for the person."""
    story = Story(GUI)
    story.blocked = True
    assert story.until(9.9) == []
    assert outcome_at_end(story) == "running"


def test_answered_dialog_lets_the_asking_go_on() -> None:
    """Every look decides anew."""
    story = Story(GUI)
    story.blocked = True
    assert story.until(4.9) == []
    story.blocked = False
    assert story.until(9.9) == ["WM_ENDSESSION 10 @5"]


LISTENER = (STOP_EVENT, CTRL_C)


def test_who_says_that_it_has_heard_is_not_asked_again() -> None:
    """It is cleaning up, and a console event could end it in the middle of that."""
    story = Story(LISTENER)
    assert story.until(0.3) == []
    story.members[0].heard = True
    assert story.until(10) == ["settle @10"]
    assert Story(LISTENER).until(9.9) == ["CTRL_C 10 @5"]


def test_who_says_that_it_has_heard_is_left_alone_with_its_tree() -> None:
    """It ends what it has started; when it is gone without that, the rest is asked."""
    story = Story(LISTENER, CONSOLE)
    story.members[0].heard = True
    assert story.until(8) == []
    story.job.exited(story.members[0], ProcessEnd(0, source="handle"), BEGIN + 8)
    assert story.until(9) == ["CTRL_C 11 @8.25"]


def test_member_that_has_heard_is_spared_the_next_rung() -> None:
    """The others are asked as planned."""
    story = Story(GUI, LISTENER)
    assert story.until(3) == ["STOP_EVENT 11 @2.5"]
    story.members[1].heard = True
    assert story.until(9.9) == ["WM_ENDSESSION 10 @5"]


def test_who_has_heard_is_forced_when_that_was_asked_for() -> None:
    """At the time that the plan says."""
    story = Story(LISTENER, force_after_s=6.0)
    story.members[0].heard = True
    assert story.until(10) == ["force @6"]


def test_dialog_does_not_hold_back_force_that_was_asked_for() -> None:
    """It comes at its own time, and no polite rung before it."""
    story = Story(GUI, force_after_s=6.0)
    story.blocked = True
    assert story.until(10) == ["force @6"]


def test_looks_come_soon_and_seldom() -> None:
    """Some looks for each rung, none of them a poll."""
    story = Story(GUI)
    times = []
    while story.job.state == "asking" and story.job.wake_at is not None and story.job.wake_at < BEGIN + 5:
        at = story.job.wake_at
        if words(story.job.tick(at)) == ["look"]:
            story.job.looked(at, blocked=False)
            times.append(round(at - BEGIN, 3))
    assert times == list(LOOKS_S)


def test_no_look_holds_up_force() -> None:
    """A look at a program that does not answer takes a while, and force has its time."""
    story = Story((CTRL_C,), force_after_s=1.5)
    looks = []
    while story.job.state == "asking" and story.job.wake_at is not None and story.job.wake_at < BEGIN + 1.5:
        at = story.job.wake_at
        if words(story.job.tick(at)) == ["look"]:
            looks.append(round(at - BEGIN, 3))
            story.job.looked(at, blocked=False)
    assert looks == [0.4]
    assert story.until(2) == ["force @1.5"]
    near = Story((CTRL_C,), force_after_s=0.9)
    assert near.until(0.89) == []
    assert near.job.looks == 0
    assert near.until(2) == ["force @0.9"]


def test_explicit_no_settles_as_vetoed() -> None:
    """Waiting on changes nothing: the program has answered."""
    story = Story(GUI)
    story.answer("delivered")
    assert story.answer("vetoed", WM_ENDSESSION, 5.0) == ["settle"]
    assert outcome(story.job) == "vetoed"


def test_explicit_no_waits_for_force_that_was_asked_for() -> None:
    """The plan said so, and says when."""
    story = Story((WM_ENDSESSION, WM_CLOSE), force_after_s=6.0)
    assert story.answer("vetoed", WM_ENDSESSION) == []
    assert story.until(10) == ["force @6"]


def test_rung_that_cannot_be_sent_makes_way_for_the_next_at_once() -> None:
    """A window that has just gone is no reason to wait."""
    story = Story(CONSOLE)
    assert story.answer("impossible", CTRL_C, 0.1) == ["CTRL_CLOSE 10"]


def test_force_never_comes_before_its_time() -> None:
    """Also when no polite rung could be sent: the plan said when."""
    story = Story((CTRL_C,), force_after_s=5.0)
    assert story.answer("impossible", CTRL_C, 0.1) == []
    assert story.until(9) == ["force @5"]


def test_process_without_a_ladder_is_unreachable() -> None:
    """It is said at once: nobody will have asked it however long we wait."""
    story = Story(())
    assert story.began == ["settle"]
    assert outcome(story.job) == "unreachable"


def test_target_without_a_ladder_whose_child_has_one_is_waited_for() -> None:
    """The child's end may be all it waits for."""
    story = Story((), (CTRL_C,))
    assert story.began == []
    assert story.until(9.9) == ["CTRL_C 11 @5"]


def test_exit_status_of_force_tells_it_from_an_end_of_its_own() -> None:
    """Whoever ended by itself right before force is not called forced."""
    for status, word in ((1, "forced"), (0, "stopped")):
        story = Story((CTRL_C,), force_after_s=5.0)
        story.answer("delivered", CTRL_C)
        story.until(5)
        story.job.receipt(story.members[0], Receipt("TERMINATE", "delivered", 5.0), BEGIN + 5)
        story.job.exited(story.members[0], ProcessEnd(status, source="handle"), BEGIN + 5.01)
        story.job.scanned(BEGIN + 5.02, evidence=PROVED)
        assert outcome(story.job) == word


def outcome_at_end(story: Story) -> str:
    """Let the time run out and return the word."""
    assert story.until(10) == ["settle @10"]
    return outcome(story.job)


def test_who_has_heard_in_a_conversation_needs_no_other_way_to_be_asked() -> None:
    """The next rung would be a second request, which nobody has named; force comes at its time."""
    story = Story((STOP_EVENT, CTRL_C), force_after_s=8.0)
    assert story.began == ["STOP_EVENT 10"]
    story.job.listens(story.job.target)
    assert story.until(7.9) == []
    assert story.until(8.0) == ["force @8"]


def test_who_is_late_with_a_request_is_in_time_with_force() -> None:
    """Others that do not answer may hold up the second rung; force comes when the plan says it."""
    story = Story(GUI, force_after_s=3)
    assert story.began == ["WM_CLOSE 10"]
    story.job.tick(BEGIN + 2.5)
    assert words(story.job.looked(BEGIN + 2.5, blocked=False)) == ["WM_ENDSESSION 10"]
    assert story.until(4) == ["force @3"]


def test_request_whose_time_has_gone_by_is_left_out() -> None:
    """When its turn comes at last and force is due, force it is, without a look and without one more question."""
    story = Story(GUI, force_after_s=3)
    assert words(story.job.tick(BEGIN + 3.1)) == ["force"]
    story = Story(GUI, force_after_s=3)
    assert story.until(1.2) == []
    assert words(story.job.tick(BEGIN + 2.9)) == ["look"]
    assert words(story.job.looked(BEGIN + 3.1, blocked=False)) == ["force"]
