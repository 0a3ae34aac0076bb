"""Durations, the grammar of plans, options -> policy, the respawn watch."""

from __future__ import annotations

import math
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask._plan import Plan, make_policy, parse_duration, parse_steps, respawn_watch
from endtask._record import replace
from endtask._requests import KILL, parse_request
from endtask.errors import PlanError, UnsupportedRequestError
from endtask.model import Facts, Manager, PidRef, Policy, Request, Scope, Step, WindowsFacts
from tests.core.fake import says_why

WEEK_S = 7 * 24 * 3600

# --- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("10", 10.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1h1m1s1ms", 3661.001),
        (" 10s ", 10.0),
        ("168h", 604800.0),
    ],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    """A plain number means seconds; units may be joined."""
    assert seconds == pytest.approx(parse_duration(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1",
        "+1",
        "1e3",
        "1_000",
        "0x10",
        "inf",
        "nan",
        ".",
        "..",
        "1..2",
        "10 s",
        "10d",
        "10S",
        "s10",
        "٣",
        "1²",
        "1m 30s",
        "1\n2",
    ],
)
def test_duration_that_is_none_is_refused(text: str) -> None:
    """Nothing that Python's own float() takes beyond digits, a point and a unit is taken."""
    with pytest.raises(PlanError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["169h", "604801", "9" * 400, "9" * 5000, "100h100h"])
def test_duration_beyond_a_week_is_refused(text: str) -> None:
    """Every wait has a bound."""
    with pytest.raises(PlanError, match="longer than a week"):
        parse_duration(text)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=12), st.text("0123456789.smh e-+_", max_size=12)))
def test_duration_of_any_text_is_bounded_or_an_error(text: str) -> None:
    """Any text gives 0..a week or a PlanError."""
    try:
        seconds = parse_duration(text)
    except PlanError as error:
        says_why(error)
    else:
        assert 0 <= seconds <= WEEK_S


# --- requests


@pytest.mark.parametrize("text", ["TERM", "term", "SIGTERM", "sigterm", "-TERM", "-SIGTERM"])
def test_request_names_are_taken_as_people_write_them(text: str) -> None:
    """Case, `SIG` and kill's dash do not matter."""
    assert Request("TERM", "signal", 15) == parse_request(text)


def test_only_kill_is_force() -> None:
    """KILL is marked as force and no other signal is."""
    assert KILL == parse_request("kill")
    assert parse_request("KILL").forced
    for name in ("TERM", "INT", "HUP", "QUIT", "ABRT", "USR1", "RTMIN+1"):
        assert not parse_request(name).forced


def test_real_time_signals_are_counted_from_both_ends() -> None:
    """`RTMIN+n` and `RTMAX-n` name the platform's numbers, and nothing outside of them."""
    assert int(signal.SIGRTMIN) + 3 == parse_request("RTMIN+3").number
    assert int(signal.SIGRTMAX) - 1 == parse_request("SIGRTMAX-1").number
    assert int(signal.SIGRTMIN) == parse_request("RTMIN").number
    for text in ("RTMIN+99", "RTMAX-99", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+x", "RTMIN+" + "9" * 5000):
        with pytest.raises(PlanError):
            parse_request(text)


@pytest.mark.parametrize("text", ["STOP", "TSTP", "TTIN", "ttou", "SIGSTOP"])
def test_requests_that_suspend_are_refused(text: str) -> None:
    """A suspended process has not stopped in our sense."""
    with pytest.raises(PlanError, match="suspended"):
        parse_request(text)


@pytest.mark.parametrize(
    "text", ["", "9", "15", "FOO", "SIG", "SIG_DFL", "_BLOCK", "SIGSIGTERM", "TERM ", "--TERM", "ТERM", "RT"]
)
def test_unknown_request_is_refused(text: str) -> None:
    """What is no signal's name is a PlanError, numbers included."""
    with pytest.raises(PlanError, match="not a request"):
        parse_request(text)


@pytest.mark.parametrize("text", ["wm-close", "CTRL-BREAK", "service-stop", "terminate", "stop-event", "exit-process"])
def test_requests_of_windows_are_told_apart_from_unknown_ones(text: str) -> None:
    """A mechanism of another platform is unsupported (77), never replaced by something close."""
    with pytest.raises(UnsupportedRequestError) as caught:
        parse_request(text)
    assert caught.value.exit_code == 77


def test_stdin_request_carries_its_line() -> None:
    r"""`stdin:q` is text for the main process; `\n` means a line feed, quotes are taken off."""
    assert Request("stdin:q", "stdin", 0, "q") == parse_request("stdin:q")
    assert parse_request(r"stdin:quit\n").text == "quit\n"
    assert parse_request("stdin:'a b'").text == "a b"


def test_command_request_carries_its_command() -> None:
    """`cmd:` is a command; its slashes and blanks need quotes in a plan."""
    assert Request("cmd:'nginx -s quit'", "command", 0, "nginx -s quit") == parse_request("cmd:'nginx -s quit'")
    assert parse_request('cmd:"a"').text == "a"


@pytest.mark.parametrize("text", ["stdin:", "cmd:", "cmd:''", 'stdin:""'])
def test_request_without_content_is_refused(text: str) -> None:
    """Nothing after the colon is a mistake."""
    with pytest.raises(PlanError, match="nothing after the colon"):
        parse_request(text)


# --- plans


def steps(text: str) -> list[tuple[str, float | None]]:
    """Return names and waits of a plan."""
    return [(s.request.name, s.wait_s) for s in parse_steps(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TERM", [("TERM", None)]),
        ("TERM/10", [("TERM", 10.0)]),
        ("TERM/10/INT/5", [("TERM", 10.0), ("INT", 5.0)]),
        ("TERM/500ms/KILL", [("TERM", 0.5), ("KILL", None)]),
        ("stdin:q/3 TERM/10 KILL/5", [("stdin:q", 3.0), ("TERM", 10.0), ("KILL", 5.0)]),
        ("  TERM / 1m /KILL ", [("TERM", 60.0), ("KILL", None)]),
        ("cmd:'a/b c'/2/TERM", [("cmd:'a/b c'", 2.0), ("TERM", None)]),
        ("cmd:\"x 'y'\"/2/TERM", [("cmd:\"x 'y'\"", 2.0), ("TERM", None)]),
        ("TERM/0/KILL", [("TERM", 0.0), ("KILL", None)]),
    ],
)
def test_plan_is_read_in_schedule_form(text: str, expected: list[tuple[str, float | None]]) -> None:
    """Requests and waits alternate; blanks do as well as slashes; quotes protect both."""
    assert expected == steps(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("///", "empty"),
        ("10", "where a request should be"),
        ("10/TERM", "where a request should be"),
        ("TERM/5/5", "where a request should be"),
        ("TERM/INT", "how long to wait after `TERM`"),
        ("TERM/5/INT/HUP/5", "how long to wait after `INT`"),
        ("KILL/1/TERM", "goes on after force"),
        ("KILL/1/KILL", "goes on after force"),
        ("TERM/5/forever", "not a request"),
        ("TERM/-1", "not a request"),
        ("TERM/5x", "not a duration"),
        ("TERM/9e9", "not a duration"),
        ("TERM/200h", "longer than a week"),
        ("cmd:'open/5", "open quote"),
        ("9/10", "where a request should be"),
        ("STOP/5", "suspended"),
    ],
)
def test_malformed_plan_is_refused_with_its_fault(text: str, says: str) -> None:
    """Each malformed plan is a PlanError that names what is wrong, with exit code 2."""
    with pytest.raises(PlanError, match=says) as caught:
        parse_steps(text)
    assert caught.value.exit_code == 2


PIECES = st.sampled_from(
    [
        "TERM",
        "INT",
        "KILL",
        "RTMIN+2",
        "/",
        " ",
        "10",
        "1.5",
        "5s",
        "2m",
        ".",
        "stdin:q",
        "cmd:'a/b'",
        "cmd:",
        "'",
        '"',
        ":",
        "wm-close",
        "STOP",
        "²",
        "\ud800",
    ]
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(max_size=30), st.lists(PIECES, max_size=8).map("".join), st.lists(PIECES, max_size=8).map("/".join)
    )
)
def test_any_text_is_a_plan_or_a_clear_error(text: str) -> None:
    """No text leads to another exception than PlanError or UnsupportedRequestError, and a plan reads back as itself."""
    try:
        plan = Plan.parse(text)
    except (PlanError, UnsupportedRequestError) as error:
        says_why(error)
    else:
        assert plan.steps
        assert plan == Plan.parse(str(plan))


WAITS = st.one_of(
    st.integers(0, WEEK_S).map(float), st.floats(0, WEEK_S), st.sampled_from([1e-05, 123456.5, 604799.5, 0.1 + 0.2])
)
REQUESTS = st.sampled_from(
    ["TERM", "INT", "HUP", "RTMIN+1", "stdin:q", "stdin:'a/b c'", "cmd:'x -s \"y\"'", 'cmd:"/bin/z 1"']
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(REQUESTS, WAITS), max_size=4), st.one_of(REQUESTS, st.just("KILL")), st.one_of(st.none(), WAITS)
)
def test_text_of_a_plan_reads_back_as_the_same_plan(
    first: list[tuple[str, float]], last: str, last_wait: float | None
) -> None:
    """`Plan.parse(str(plan))` is the plan itself, however long or short its waits."""
    plan = Plan((*(Step(parse_request(r), w) for r, w in first), Step(parse_request(last), last_wait)))
    assert plan == Plan.parse(str(plan))


def test_text_of_a_plan_is_short() -> None:
    """Whole seconds are written without a fraction."""
    assert str(Plan.parse("term/10.0/KILL/500ms")) == "TERM/10/KILL/0.5"


# --- policy


def test_default_policy_asks_with_term_for_ten_seconds_and_never_forces() -> None:
    """Force is never implied."""
    policy = make_policy()
    assert Policy((Step(Request("TERM", "signal", 15)),), 10.0, Scope()) == policy
    assert not any(s.request.forced for s in policy.steps)


@pytest.mark.parametrize(
    ("timeout_s", "plan", "force_after_s", "now", "expected", "budget_s"),
    [
        (None, None, None, False, "TERM", 10.0),
        (3.0, None, None, False, "TERM", 3.0),
        (None, "TERM/3", None, False, "TERM/3", 3.0),
        (None, "TERM/3/INT", None, False, "TERM/3/INT", 13.0),
        (None, "TERM/3/KILL", None, False, "TERM/3/KILL", 8.0),
        (None, "TERM/3/KILL/1", None, False, "TERM/3/KILL/1", 4.0),
        (None, None, 4.0, False, "TERM/4/KILL", 9.0),
        (20.0, None, 4.0, False, "TERM/4/KILL", 20.0),
        (None, "TERM/3/INT", 4.0, False, "TERM/3/INT/1/KILL", 9.0),
        (None, "TERM/3/INT/9", 4.0, False, "TERM/3/INT/1/KILL", 9.0),
        (None, None, None, True, "KILL", 10.0),
        (2.0, None, None, True, "KILL", 2.0),
        (0.0, None, None, False, "TERM", 0.0),
    ],
)
def test_options_become_steps_and_budget(
    timeout_s: float | None, plan: str | None, force_after_s: float | None, now: bool, expected: str, budget_s: float
) -> None:
    """Each combination of options means the steps and the budget that the reference says."""
    policy = make_policy(timeout_s=timeout_s, plan=plan, force_after_s=force_after_s, now=now)
    assert (expected, budget_s) == (str(Plan(policy.steps)), policy.budget_s)
    assert policy == make_policy(
        timeout_s=timeout_s, plan=None if plan is None else Plan.parse(plan), force_after_s=force_after_s, now=now
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"now": True, "plan": "TERM"}, "--now"),
        ({"now": True, "force_after_s": 1.0}, "--now"),
        ({"plan": "TERM/5/KILL", "force_after_s": 9.0}, "ends by force already"),
        ({"plan": "TERM/5/INT", "force_after_s": 5.0}, "own last step"),
        ({"force_after_s": 0.0}, "no time to ask"),
        ({"plan": "TERM/5/INT", "timeout_s": 5.0}, "whole budget"),
        ({"force_after_s": 10.0, "timeout_s": 10.0}, "whole budget"),
        ({"plan": "nonsense"}, "not a request"),
        ({"plan": Plan(())}, "empty"),
        ({"timeout_s": -1.0}, "seconds|budget|bound|duration|week|wait"),
        ({"timeout_s": math.nan}, "seconds|budget|bound|duration|week|wait"),
        ({"timeout_s": math.inf}, "seconds|budget|bound|duration|week|wait"),
        ({"force_after_s": math.nan}, "seconds|budget|bound|duration|week|wait"),
        ({"watch_s": -1.0}, "seconds|budget|bound|duration|week|wait"),
        ({"watch_s": math.inf}, "seconds|budget|bound|duration|week|wait"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], says: str) -> None:
    """Contradictions and waits without a bound are PlanErrors; nothing is guessed."""
    with pytest.raises(PlanError, match=says):
        make_policy(**options)  # type: ignore[arg-type]  # wrong on purpose


TERM = parse_request("TERM")


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((Step(TERM, -1.0),), "between 0 and a week"),
        ((Step(TERM, math.nan),), "between 0 and a week"),
        ((Step(TERM, math.inf),), "between 0 and a week"),
        ((Step(TERM), Step(KILL)), "how long to wait after `TERM`"),
        ((Step(KILL, 1.0), Step(TERM)), "after force"),
    ],
)
def test_plan_made_by_hand_is_checked_like_a_text(steps: tuple[Step, ...], says: str) -> None:
    """What the grammar refuses cannot be slipped in as a value."""
    with pytest.raises(PlanError, match=says):
        make_policy(plan=Plan(steps))


def test_other_options_reach_the_policy() -> None:
    """Scope, watch and allowances are carried over unchanged."""
    scope = Scope("group", (PidRef(3, "4"),))
    policy = make_policy(scope=scope, watch_s=2.0, all=True, missing_ok=True, force_ok=True)
    assert (scope, 2.0) == (policy.scope, policy.watch_s)
    assert policy.all
    assert policy.missing_ok
    assert policy.force_ok


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(REQUESTS, st.floats(0, 100)), max_size=3),
    st.one_of(st.none(), st.floats(0, 1000)),
    st.one_of(st.none(), st.floats(0, 1000)),
)
def test_every_step_of_a_policy_has_its_time_inside_the_budget(
    first: list[tuple[str, float]], timeout_s: float | None, force_after_s: float | None
) -> None:
    """Whatever the options, each step begins when the one before ends, and the last begins before the budget is spent."""
    plan = Plan((*(Step(parse_request(r), w) for r, w in first), Step(parse_request("TERM"))))
    try:
        policy = make_policy(plan=plan, timeout_s=timeout_s, force_after_s=force_after_s)
    except PlanError:
        return
    at = 0.0
    schedule = policy.schedule()
    for _request, begins, ends in schedule:
        assert at == begins <= ends <= policy.budget_s
        at = ends
    assert at == policy.budget_s
    assert len(schedule) == 1 or schedule[-1][1] < policy.budget_s


# --- respawn watch


def watch(
    facts: Facts, *, watch_s: float | None = None, launcher: bool = False, shell: bool = False
) -> tuple[float, str]:
    """Return the respawn watch of *facts* under a default policy."""
    return respawn_watch(facts, make_policy(watch_s=watch_s), launcher=launcher, shell=shell)


PLAIN = Facts(PidRef(12), "x", ppid=9, parent_name="loop")


def managed(kind: str, name: str, restarts: str = "unknown") -> Facts:
    """Return the facts of a process with one manager."""
    return Facts(PidRef(12), "x", ppid=9, managers=(Manager(kind, name, restarts=restarts),))


def test_watch_that_was_asked_for_wins() -> None:
    """`--watch 7s` is 7 s, and `--watch 0` is none, whatever the facts."""
    assert watch(managed("systemd", "a.service", "yes"), watch_s=7.0)[0] == 7.0
    assert watch(managed("systemd", "a.service", "yes"), watch_s=0.0)[0] == 0.0


@pytest.mark.parametrize(
    "facts",
    [
        managed("supervisord", "a", "yes"),
        managed("systemd", "a.service"),
        managed("docker", "web"),
        managed("kubernetes", "p"),
    ],
)
def test_managed_process_is_watched_long_enough_for_its_manager(facts: Facts) -> None:
    """Managers wait up to a second before they start again (facts A5), so the watch is longer than that."""
    seconds, because = watch(facts)
    assert seconds >= 2.0
    assert facts.managers[0].name in because


def test_parent_that_cannot_restart_is_not_watched() -> None:
    """Our own launcher, an interactive shell and a reaper of orphans start nothing again."""
    assert watch(PLAIN, launcher=True)[0] == 0.0
    assert watch(PLAIN, shell=True)[0] == 0.0
    assert watch(Facts(PidRef(12), "x", ppid=0))[0] == 0.0
    assert watch(Facts(PidRef(12), "x", ppid=9, reaper=True))[0] == 0.0
    assert watch(Facts(PidRef(12), "x", ppid=1, reaper=True))[0] == 0.0


def test_orphan_of_windows_is_not_watched() -> None:
    """It keeps the pid of its dead parent, who starts nothing again."""
    orphan = Facts(PidRef(12), "x.exe", ppid=9, windows=WindowsFacts())
    assert (0.0, "its parent has ended") == watch(orphan)
    assert watch(replace(orphan, parent_name="loop.exe"))[0] > 0


def test_child_of_init_that_was_not_adopted_is_watched() -> None:
    """In a container pid 1 may be a supervisor."""
    assert watch(Facts(PidRef(12), "x", ppid=1, parent_name="keeper"))[0] > 0


def test_unknown_parent_is_watched_for_a_moment_and_named() -> None:
    """A plain loop may start it again."""
    seconds, because = watch(PLAIN)
    assert seconds > 0
    assert "9 loop" in because


@pytest.mark.parametrize("plan", ["ctrl-c/5", "ask/5/ctrl-shutdown/5", "exit-process/2/kill"])
def test_plan_with_a_thread_contradicts_no_inject(plan: str) -> None:
    """Whoever rules threads out must not get one by another option."""
    assert make_policy(plan=plan, signals=False).inject
    with pytest.raises(PlanError, match="`--no-inject` rules out"):
        make_policy(plan=plan, inject=False, signals=False)


def test_force_after_nothing_says_what_was_meant() -> None:
    """No time to ask is force at once, and that has a name."""
    with pytest.raises(PlanError) as caught:
        make_policy(force_after_s=0.0)
    assert "--now" in caught.value.hint
