"""What each kind of Windows process is asked with, from its facts alone."""

from __future__ import annotations

import pytest

from endtask._ladder import expand, ladder
from endtask._plan import make_policy
from endtask._record import replace
from endtask.model import Facts, PidRef, Policy, Service, Window, WindowsFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import Kind

MAIN = Window(1, "main", "App", visible=True)


def policy(
    *, unattended: bool = False, inject: bool = True, console_wide: bool = False, dependents: bool = False
) -> Policy:
    """Return the default policy of Windows."""
    return make_policy(
        signals=False, unattended=unattended, inject=inject, console_wide=console_wide, dependents=dependents
    )


def facts(kind: Kind, **more: object) -> Facts:
    """Return the facts of process 12."""
    known: dict[str, object] = {"same_machine": True, "same_user": True, "above_us": False, "receiver": False, **more}
    return Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts(kind, **known))  # type: ignore[arg-type]  # by name


def rungs(given: Facts, asked: Policy | None = None, members: tuple[int, ...] = ()) -> list[str]:
    """Return the names of the requests."""
    return [r.name for r in ladder(given, asked or policy(), members).rungs]


def left_out(given: Facts, asked: Policy | None = None) -> dict[str, str]:
    """Return what is not on the ladder, and why."""
    return dict(ladder(given, asked or policy()).left_out)


def test_program_with_windows_is_asked_by_them() -> None:
    """WM_CLOSE first, because it is what the X of the window does; no thread is started in it."""
    assert rungs(facts("gui", windows=(MAIN,))) == ["WM_CLOSE", "WM_ENDSESSION"]


def test_unattended_program_is_asked_as_by_the_end_of_the_session() -> None:
    """Nobody could answer a dialog, so the request that must not open one comes first."""
    assert rungs(facts("gui", windows=(MAIN,)), policy(unattended=True)) == ["WM_ENDSESSION", "WM_CLOSE"]


@pytest.mark.parametrize(
    ("runtime", "first"),
    [("cpython", "CTRL_C"), ("dotnet", "CTRL_SHUTDOWN"), ("java", "CTRL_C"), ("cmd", "CTRL_CLOSE"), ("", "CTRL_C")],
)
def test_runtime_decides_the_gentlest_event(runtime: str, first: str) -> None:
    """Each runtime maps the events to something of its own."""
    assert rungs(facts("console", runtime=runtime, console="another"))[0] == first


@pytest.mark.parametrize("ignores", [False, True])
def test_java_is_never_asked_by_ctrl_break(ignores: bool) -> None:
    """It prints a thread dump and runs on."""
    assert "CTRL_BREAK" not in rungs(facts("console", runtime="java", console="another", ignores_ctrl_c=ignores))


@pytest.mark.parametrize("runtime", ["", "cpython", "dotnet", "java", "node", "go", "cmd", "powershell", "msys"])
@pytest.mark.parametrize("ignores", [False, True])
def test_one_console_event_and_no_second_one(runtime: str, ignores: bool) -> None:
    """Whoever runs on after it cleans up by a handler of its own, and a second event could end it in the middle of that."""
    given = facts("console", runtime=runtime, console="another", console_pids=(12,), ignores_ctrl_c=ignores)
    for asked in (policy(), policy(inject=False), policy(inject=False, console_wide=True)):
        assert len(rungs(given, asked)) == 1


def test_second_event_is_left_out_with_its_reason() -> None:
    """The first one that it hears is named."""
    found = left_out(facts("console", console="another"))
    assert found["CTRL_BREAK"].startswith("it hears CTRL_C, and a second event could end it")


def test_end_of_the_session_is_not_announced_while_a_dialog_waits() -> None:
    """A program may take it for the leave to drop what the dialog asks about; where nobody sits at the screen, nobody will answer."""
    dialog = Window(2, "Save", "#32770", visible=True, owner=1, role="dialog")
    given = facts("gui", windows=(MAIN, dialog))
    assert rungs(given) == ["WM_CLOSE"]
    assert "a dialog waits" in left_out(given)["WM_ENDSESSION"]
    assert rungs(given, policy(unattended=True)) == ["WM_ENDSESSION", "WM_CLOSE"]


def test_receiver_comes_first() -> None:
    """A program that listens to the stop event is asked by it before anything else."""
    assert rungs(facts("console", receiver=True))[0] == "STOP_EVENT"


def test_listener_that_cannot_say_that_it_heard_gets_no_console_event() -> None:
    """It may be cleaning up; one that could say so and has not is deaf."""
    for asked in (policy(), policy(inject=False, console_wide=True)):
        silent = facts("console", receiver=True, acknowledges=False, console="another", console_pids=(12,))
        assert rungs(silent, asked) == ["STOP_EVENT"]
        assert "in the middle of its clean-up" in left_out(silent, asked)["CTRL_C"]
        speaks = facts("console", receiver=True, acknowledges=True, console="another", console_pids=(12,))
        assert len(rungs(speaks, asked)) == 2
    assert rungs(facts("gui", receiver=True, acknowledges=False, windows=(MAIN,))) == [
        "STOP_EVENT",
        "WM_CLOSE",
        "WM_ENDSESSION",
    ]
    service = facts("service", receiver=True, acknowledges=None, services=(Service("s"),))
    assert rungs(service) == ["STOP_EVENT", "SERVICE_STOP"]


def test_service_is_asked_by_its_manager_and_by_nothing_else() -> None:
    """Whatever else ends it, the manager takes for a crash."""
    assert rungs(facts("service", services=(Service("spool"),))) == ["SERVICE_STOP"]


@pytest.mark.parametrize("consent", [False, True])
def test_dependent_services_are_stopped_only_with_consent(consent: bool) -> None:
    """The request itself says whether they may be."""
    given = facts("service", services=(Service("spool", dependents=("fax",)),))
    (request,) = ladder(given, policy(dependents=consent)).rungs
    assert request.text == ("dependents" if consent else "")


def test_ignored_ctrl_c_is_left_out_with_its_reason() -> None:
    """The flag is inherited from whoever started it in a group of its own."""
    given = facts("console", console="another", ignores_ctrl_c=True)
    assert rungs(given) == ["CTRL_BREAK"]
    assert left_out(given)["CTRL_C"] == "it ignores Ctrl+C"


def test_wine_ignores_every_event_with_ctrl_c() -> None:
    """So there is nothing to ask it with, and that is said."""
    given = facts("console", console="another", ignores_ctrl_c=True, wine=True)
    assert rungs(given) == []
    assert "Wine" in left_out(given)["CTRL_BREAK"]


@pytest.mark.parametrize(
    "more",
    [
        {"same_user": False},
        {"same_session": False, "session": 3},
        {"above_us": True, "integrity": "high"},
        {"same_machine": False, "machine": "x86"},
        {"protected": True},
    ],
    ids=lambda more: next(iter(more)),
)
def test_no_thread_is_started_across_a_border(more: dict[str, object]) -> None:
    """User, session, integrity, architecture, protection: each alone rules it out."""
    given = facts("console", console="none", **more)
    assert rungs(given) == []
    assert set(left_out(given)) == {"CTRL_C", "CTRL_BREAK"}


def test_no_inject_leaves_the_console_of_the_own_tree() -> None:
    """Everybody on that console belongs to the target, so an event for all of them needs no consent."""
    given = facts("console", console="another", console_pids=(12, 13))
    assert rungs(given, policy(inject=False), (13,)) == ["CONSOLE_CTRL_C"]


def test_console_event_that_would_hit_a_stranger_needs_consent() -> None:
    """Who would be hit is named."""
    given = facts("console", console="another", console_pids=(12, 99))
    asked = policy(inject=False)
    assert rungs(given, asked) == []
    assert "99" in left_out(given, asked)["CONSOLE_CTRL_C"]
    assert rungs(given, policy(inject=False, console_wide=True)) == ["CONSOLE_CTRL_C"]
    assert rungs(given, policy(console_wide=True)) == ["CTRL_C"]  # which hits nobody else


def test_our_own_console_is_never_hit_with_any_consent() -> None:
    """So no option is named that would allow it."""
    given = facts("console", console="this", console_pids=(12, 99))
    for asked in (policy(inject=False), policy(inject=False, console_wide=True)):
        assert rungs(given, asked) == []
        assert left_out(given, asked)["CONSOLE_CTRL_C"] == "it is on our own console: the event would hit endtask too"


def test_console_whose_members_are_unknown_is_left_alone() -> None:
    """Unknown is not empty."""
    given = facts("console", console="another")
    assert rungs(given, policy(inject=False)) == []
    assert "could not be seen" in left_out(given, policy(inject=False))["CONSOLE_CTRL_C"]


def test_the_host_of_a_console_is_never_asked() -> None:
    """It would take everybody on that console with it; it ends by itself when they have gone."""
    host = replace(facts("gui", windows=(MAIN,)), name="conhost.exe")
    assert rungs(host) == []
    assert "ask" in left_out(host)


def test_process_that_cannot_be_asked_says_why() -> None:
    """Once for each reason; which option would change it is a part of it."""
    shared = facts("console", console="another", console_pids=(12, 99))
    assert ladder(shared, policy(), ()).why_none == ""
    why = ladder(shared, policy(inject=False), ()).why_none
    assert (1, 1) == (why.count("--no-inject"), why.count("--console-wide"))
    deaf = facts("console", console="none", ignores_ctrl_c=True, wine=True)
    assert ladder(deaf, policy(), ()).why_none == "it ignores Ctrl+C, and Wine takes that for every console event"
    assert ladder(facts("unknown"), policy(), ()).why_none == "it hears nothing that could be sent"


def test_ask_becomes_one_step_for_each_rung() -> None:
    """The first gets half of the time, the others share the rest."""
    expanded = expand(policy(), 3)
    assert [(s.request.kind, s.request.number, s.wait_s) for s in expanded.steps] == [
        ("ask", 0, 5.0),
        ("ask", 1, 2.5),
        ("ask", 2, None),
    ]
    assert expanded.budget_s == 10.0


def test_force_keeps_its_time_behind_the_rungs() -> None:
    """`--force-after 6` is at 6 s, however many rungs come before it."""
    forced = expand(make_policy(signals=False, force_after_s=6.0), 3)
    assert [(r.name, at) for r, at, _until in forced.schedule()] == [
        ("ask", 0.0),
        ("ask", 3.0),
        ("ask", 4.5),
        ("TERMINATE", 6.0),
    ]


def test_plan_without_ask_is_left_as_it_is() -> None:
    """Whoever names mechanisms gets those and no others."""
    named = make_policy(signals=False, plan="wm-close/3/ctrl-close/2")
    assert expand(named, 5) is named
