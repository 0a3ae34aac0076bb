"""A stop of applications that talk: the decisions, stepped by hand, and whole stories on the simulated machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from endtask._backends.sim.spec import Op, Spec
from endtask._job import TARGET_ALONE
from endtask._outcome import outcome
from endtask._plan import make_policy
from endtask.errors import PlanError
from tests.core.test_engine import Machine
from tests.core.test_job import BEGIN, NOTHING, Story, words

if TYPE_CHECKING:
    from endtask.model import Policy, TargetReport

TERM, INT, CHANNEL = 15, 2, 67
CATCHES = frozenset({"TERM", "INT"})


def extended(plan: str, extend_s: float) -> Policy:
    """Return a policy that grants more time."""
    return make_policy(plan=plan, extend_s=extend_s, watch_s=0.0)


# --------------------------------------------------------------------------- decisions: more time


def test_a_wish_moves_everything_that_follows() -> None:
    """The current step, the next ones, force and the end move by what was granted."""
    story = Story(policy=extended("TERM/3/INT/2/KILL/1", 30.0))
    story.start()
    assert story.job.ends_at == BEGIN + 5
    assert story.job.needs(story.job.target, 8.0, BEGIN + 1) == pytest.approx(4.0)
    assert story.job.ends_at == BEGIN + 9
    assert story.tick(6.9) == []
    assert story.tick(7.0) == ["INT 10"]
    assert story.tick(8.9) == []
    assert story.tick(9.0) == ["force"]
    assert story.tick(9.99) == []
    assert story.tick(10.0) == ["settle"]


def test_nothing_is_granted_unless_allowed() -> None:
    """A budget is a promise to the caller."""
    story = Story("TERM/2/KILL/1")
    story.start()
    assert story.job.needs(story.job.target, 8.0, BEGIN + 1) == 0
    assert story.tick(2.0) == ["force"]


def test_altogether_no_more_is_granted_than_allowed() -> None:
    """Also not to one that asks again and again, or to several."""
    story = Story(others=1, policy=extended("TERM/2/KILL/1", 5.0))
    story.start()
    asked = [story.job.needs(m, 4.0, BEGIN + 1) for m in (*story.members, *story.members)]
    assert asked == [3.0, 0.0, 0.0, 0.0]
    assert story.job.needs(story.job.target, 100.0, BEGIN + 1) == 2.0
    assert story.job.needs(story.job.target, 100.0, BEGIN + 1) == 0
    assert story.job.ends_at == BEGIN + 7


def test_what_one_has_anyway_moves_nothing() -> None:
    """Who needs less than is left gets no more."""
    story = Story(policy=extended("TERM/10", 30.0))
    story.start()
    assert story.job.needs(story.job.target, 8.0, BEGIN + 1) == 0
    assert story.job.extended_s == 0


@pytest.mark.parametrize("late", ["forced", "settled", "gone"])
def test_a_late_wish_moves_nothing(late: str) -> None:
    """After force, after the verdict, after its end."""
    story = Story(policy=extended("TERM/2/KILL/1", 30.0))
    story.start()
    if late == "gone":
        story.exit(10, 0.5)
    else:
        story.tick(2.0)
    if late == "settled":
        story.tick(3.0)
    assert story.job.needs(story.job.target, 8.0, BEGIN + 3) == 0


def test_an_extension_leaves_the_children_alone_for_longer() -> None:
    """The part of the step in which the target is alone with its own ends later, too."""
    story = Story(others=1, policy=extended("TERM/10", 30.0))
    story.start()
    assert story.wakes_at == 10 * TARGET_ALONE
    story.job.needs(story.job.target, 18.0, BEGIN + 1)
    assert story.wakes_at == 10 * TARGET_ALONE + 9


# --------------------------------------------------------------------------- decisions: heard and refused


def test_who_has_heard_is_left_alone_with_its_own() -> None:
    """What it has started is its own affair while it ends, and is asked when it has gone."""
    story = Story("TERM/10", others=1, catches=NOTHING)
    story = Story("TERM/10", others=1)
    story.start()
    story.job.listens(story.job.target)
    assert story.tick(10 * TARGET_ALONE) == []
    story.exit(10, 6.0)
    assert story.tick(6.3) == ["TERM 11"]


def test_who_has_heard_is_still_asked_what_the_plan_says() -> None:
    """A second request means hurry to a receiver, and the plan says it explicitly."""
    story = Story("TERM/3/INT/2/KILL/1", others=1)
    story.start()
    story.job.listens(story.job.target)
    assert story.tick(3.0) == ["INT 10"]
    assert story.tick(5.0) == ["force"]


def test_who_refuses_is_believed() -> None:
    """Without force in the plan nothing is left to do."""
    story = Story("TERM/3/INT/2", others=1)
    story.start()
    story.answer(10, "delivered")
    assert words(story.job.vetoes(story.job.target, BEGIN + 1)) == ["settle"]
    assert outcome(story.job) == "vetoed"


def test_who_refuses_is_asked_nothing_more_and_forced_when_the_plan_says_it() -> None:
    """No polite step, no question to what it has started; force at its time, not before."""
    story = Story("TERM/3/INT/2/KILL/1", others=1)
    story.start()
    assert story.job.vetoes(story.job.target, BEGIN + 1) == []
    assert story.tick(1.5) == []
    assert story.tick(3.0) == []
    assert story.tick(4.9) == []
    assert story.tick(5.0) == ["force"]


def test_a_child_that_refuses_is_no_verdict() -> None:
    """It is not asked again; the target goes on, and what is left at the end is called by its name."""
    story = Story("TERM/3/INT/2", others=2, catches=NOTHING)
    story.start()
    assert story.job.vetoes(story.member(11), BEGIN + 1) == []
    assert story.tick(3.0) == ["INT 10", "INT 12"]
    for pid in (10, 12):
        story.exit(pid, 4.0)
    story.tick(5.0)
    assert outcome(story.job) == "vetoed"


def test_a_refusal_after_the_end_is_nothing() -> None:
    """It had ended, or was forced: words come late."""
    story = Story("TERM/1/KILL/1")
    story.start()
    story.tick(1.0)
    assert story.job.vetoes(story.job.target, BEGIN + 1.1) == []
    assert not story.job.vetoed


def test_a_conversation_that_ends_before_it_heard_is_no_way_to_ask() -> None:
    """The next way at once; after `heard` it is the application's own affair."""
    story = Story("channel/5/TERM/5")
    assert story.start() == ["CHANNEL 10"]
    story.answer(10, "delivered", request="CHANNEL")
    assert words(story.job.hangs_up(story.job.target, BEGIN + 0.1)) == ["TERM 10"]
    story = Story("channel/5/TERM/5")
    story.start()
    story.job.listens(story.job.target)
    assert story.job.hangs_up(story.job.target, BEGIN + 0.1) == []


# --------------------------------------------------------------------------- the policy


@pytest.mark.parametrize("reason", ["a\nb", "\x1b[31m", "x" * 501])
def test_a_reason_is_one_line(reason: str) -> None:
    """It is shown by whoever is stopped."""
    with pytest.raises(PlanError, match="reason"):
        make_policy(reason=reason)


@pytest.mark.parametrize("extend_s", [-1.0, float("nan"), 1e9])
def test_an_extension_is_a_time(extend_s: float) -> None:
    """Between nothing and a week."""
    with pytest.raises(PlanError, match="extend"):
        make_policy(extend_s=extend_s)


# --------------------------------------------------------------------------- whole stories


def say(who: str, s: float = 0.0, n: int = 0) -> Op:
    """Return the operation that says something."""
    return Op("say", s, n, who)


def wait(s: float) -> Op:
    """Return the operation that waits."""
    return Op("wait", s)


LEAVE = Op("exit")


def talker(*ops: Op, number: int = TERM, children: tuple[Spec, ...] = (), more: tuple[str, ...] = ()) -> Spec:
    """Return a program with a receiver that does *ops* when it is asked."""
    return Spec("web", on=((number, ops),), flags=("receiver", *more), children=children)


def kinds(target: TargetReport) -> list[str]:
    """Return what kinds of words the target has said."""
    return [s.kind for s in target.members[0].said]


def test_what_was_said_is_told_and_reported() -> None:
    """Events as it happens, entries in the report, with times in order."""
    machine = Machine(talker(say("heard"), wait(0.1), say("tell", n=3), wait(0.1), say("cleanup", 0.2), LEAVE))
    target = machine.one("web")
    assert target.outcome == "stopped"
    assert kinds(target) == ["heard", "tell", "cleanup"]
    assert [e.kind for e in machine.events] == ["selected", "request", "heard", "said", "said", "exited", "settled"]
    heard, tell, _cleanup = target.members[0].said
    assert heard.seconds == pytest.approx(0.0, abs=0.01)
    assert (tell.done, tell.total, tell.text) == (3, 15, "draining\N{REPLACEMENT CHARACTER}[2J")
    assert 0.1 < tell.at_s < 0.2


def test_a_notice_carries_the_deadline_and_the_reason() -> None:
    """Right before each request, and nothing before force."""
    machine = Machine(talker(say("heard")))
    said: list[dict[str, object]] = []
    machine.system.on_said.append(lambda _p, message, _at: said.append(message))
    machine.one("web", policy=make_policy(plan="TERM/1/INT/1/KILL/1", reason="deploy 12", watch_s=0.0))
    notices = [m["notice"] for m in said]
    assert [(n["request"], round(n["left_s"], 1), n["reason"]) for n in notices] == [  # type: ignore[index]  # plain data
        ("TERM", 2.0, "deploy 12"),
        ("INT", 1.0, "deploy 12"),
    ]


def test_more_time_is_granted_and_kept() -> None:
    """A program that needs 3 s and says so is not forced after 1 s."""
    machine = Machine(talker(say("heard"), say("need", 3.0), wait(2.9), LEAVE))
    policy = make_policy(force_after_s=1.0, extend_s=10.0, watch_s=0.0)
    target = machine.one("web", policy=policy)
    assert target.outcome == "stopped"
    need = target.members[0].said[1]
    assert need.granted_s == pytest.approx(2.0, abs=0.01)
    assert need.until_s == pytest.approx(3.0, abs=0.01)
    assert target.granted_s == need.granted_s
    assert [e.extended_s for e in machine.events if e.kind == "needs"] == [need.granted_s]


def test_more_time_that_was_not_granted_is_in_the_report_with_the_option() -> None:
    """Forced as planned; the reason says what would have helped."""
    machine = Machine(talker(say("heard"), say("need", 3.0), wait(2.9), LEAVE))
    target = machine.one("web", policy=make_policy(force_after_s=1.0, watch_s=0.0))
    assert target.outcome == "forced"
    assert target.granted_s == 0
    (reason,) = target.reasons
    assert reason.code == "needs-time"
    assert reason.next == "`--extend 2.1s` would have granted it"
    assert machine.heard("web") == [TERM, 9]


def test_the_option_that_would_do_counts_what_was_granted_before() -> None:
    """To the process itself, and to others of its tree: less would not have been enough."""
    machine = Machine(talker(say("heard"), say("need", 3.0), wait(0.5), say("need", 4.0), wait(9.0), LEAVE))
    target = machine.one("web", policy=make_policy(force_after_s=1.0, extend_s=2.0, watch_s=0.0))
    assert target.granted_s == pytest.approx(2.0)
    wanted = [e.text for e in machine.events if e.kind == "needs"]
    assert "--extend 3.6s" in wanted[1]
    assert "--extend 3.6s" in target.reasons[0].next


def test_a_refusal_is_the_verdict() -> None:
    """Said, told, `vetoed`, and why."""
    machine = Machine(talker(say("heard"), wait(0.2), say("veto")))
    target = machine.one("web")
    assert target.outcome == "vetoed"
    assert target.elapsed_s < 1.0
    assert [r.code for r in target.reasons] == ["vetoed"]
    assert "refuses: veto" in target.reasons[0].text


def test_who_still_runs_is_explained_by_its_own_words() -> None:
    """Better than a guess from its masks."""
    machine = Machine(talker(say("heard"), say("tell", n=3)))
    target = machine.one("web", policy=make_policy(timeout_s=1.0, watch_s=0.0))
    assert target.outcome == "running"
    (reason,) = target.reasons
    assert (reason.code, reason.certain) == ("heard", True)
    assert "says: draining" in reason.text


def test_the_channel_asks_without_any_signal() -> None:
    """`CHANNEL` reaches the receiver, and nothing else is sent."""
    machine = Machine(talker(say("heard"), LEAVE, number=CHANNEL))
    target = machine.one("web", policy=make_policy(plan="channel/5/TERM/1", watch_s=0.0))
    assert target.outcome == "stopped"
    assert [(r.request, r.status) for r in target.members[0].receipts] == [("CHANNEL", "delivered")]
    assert machine.heard("web") == [CHANNEL]


@pytest.mark.parametrize("flag", ["", "planted"])
def test_the_channel_is_impossible_without_a_receiver(flag: str) -> None:
    """The next step at once; what stands in its place is said."""
    machine = Machine(Spec("web", on=((TERM, (LEAVE,)),), flags=(flag,) if flag else ()))
    target = machine.one("web", policy=make_policy(plan="channel/5/TERM/1", watch_s=0.0))
    assert target.outcome == "stopped"
    assert target.elapsed_s < 1.0
    first, _term = target.members[0].receipts
    assert first.status == "impossible"
    assert ("not its own" in first.detail) == bool(flag)


def test_the_channel_alone_leaves_no_way_to_ask() -> None:
    """Nothing stronger is sent instead."""
    machine = Machine(Spec("web", on=((TERM, (LEAVE,)),)))
    assert machine.one("web", policy=make_policy(plan="channel/5", watch_s=0.0)).outcome == "unreachable"
    assert machine.heard("web") == []


@pytest.mark.parametrize("nonsense", ["garbage", "flood", "long", "hang-up"])
def test_nonsense_changes_nothing(nonsense: str) -> None:
    """The stop goes on as without a receiver, and the report says that nobody listens any more."""
    machine = Machine(talker(say("heard"), say(nonsense), say("need", 30.0), wait(0.5), LEAVE))
    target = machine.one("web", policy=make_policy(force_after_s=1.0, extend_s=60.0, watch_s=0.0))
    assert target.outcome == "stopped"
    assert target.granted_s == 0
    assert kinds(target)[0] == "heard"
    assert ("closed" in kinds(target)) == (nonsense != "hang-up")
    assert "need" not in kinds(target)


def test_one_that_does_not_speak_with_us_is_asked_as_others_are() -> None:
    """A receiver of another user refuses us; its signals do what they do."""
    program = Spec("web", on=((TERM, (LEAVE,)),), flags=("receiver",), uid=1001)
    machine = Machine(program, uid=1000)
    target = machine.one("web")
    assert target.outcome == "not-permitted"
    assert kinds(target) in ([], ["refused"])


def test_two_targets_that_share_a_process_hear_it_both() -> None:
    """What a common member says is in the report of each, and it gets one answer."""
    child = Spec("child", on=((TERM, (say("heard"), say("need", 3.0), wait(0.5), LEAVE)),), flags=("receiver",))
    parent = Spec("web", on=((TERM, (wait(1.0), LEAVE)),), children=(child,))
    machine = Machine(parent)
    report = machine.stop("web", "child", policy=make_policy(timeout_s=2.0, extend_s=5.0, watch_s=0.0, all=True))
    said = [[s.kind for m in t.members if m.name == "child" for s in m.said] for t in report.targets]
    assert said == [["heard", "need"], ["heard", "need"]]


def test_a_stopped_receiver_holds_up_nobody() -> None:
    """It says nothing until it is continued, and is waited for no longer than by the plan."""
    machine = Machine(talker(say("heard"), LEAVE, more=("stopped",)))
    assert machine.one("web").outcome == "stopped"
    machine = Machine(talker(say("heard"), LEAVE, more=("uninterruptible",)))
    target = machine.one("web", policy=make_policy(timeout_s=1.0, watch_s=0.0))
    assert target.outcome == "running"
    assert target.members[0].said == ()
