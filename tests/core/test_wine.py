"""What a signal means to a Windows program under Wine, and how it is asked properly: every answer was measured on Wine 8.0."""

from __future__ import annotations

import shlex

import pytest

from endtask._inspect import forecast, predict
from endtask._plan import parse_steps
from endtask._record import replace
from endtask._requests import parse_request
from endtask._why import reasons
from endtask.model import Facts, Manager, PidRef, Request, SignalSets, WineFacts

_CAUGHT = 0x6FE  # SigCgt of every program on Wine 8.0: INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, USR1, SEGV
_STOP = "env WINEPREFIX=/p /usr/lib/wine/wine64 taskkill /pid 260"
GUI = WineFacts("/p", 260, "C:\\a.exe", "gui", False, False)
CONSOLE = WineFacts("/p", 260, "C:\\a.exe", "console", True, False)


def program(wine: WineFacts, *, threads: int = 1, stop: str = _STOP, name: str = "a.exe") -> Facts:
    """Return a program under Wine as it sleeps."""
    manager = Manager("wine", wine.prefix, stop, "no")
    return Facts(
        PidRef(12, "34"),
        name,
        state="S",
        threads=threads,
        signals=SignalSets(caught=_CAUGHT),
        wine=wine,
        managers=(manager,),
    )


@pytest.mark.parametrize(
    ("wine", "request_", "threads", "expected", "because"),
    [
        (GUI, "TERM", 1, ("ends", True), "no window and no handler is asked"),
        (CONSOLE, "HUP", 1, ("ends", True), "unsaved work is lost"),
        (CONSOLE, "INT", 1, ("asks", True), "CTRL_C_EVENT"),
        (replace(CONSOLE, ignores_ctrl_c=True), "INT", 1, ("ignored", True), "ignores"),
        (GUI, "INT", 1, ("ignored", True), "this one has none"),
        (replace(GUI, console=True), "INT", 1, ("asks", True), "without one Windows ends it"),  # started from a console
        (WineFacts("/p"), "INT", 1, ("handler", False), "could not be read"),
        (GUI, "QUIT", 1, ("ends", True), "its only thread"),
        (GUI, "QUIT", 2, ("unknown", False), "the others run on"),
        (GUI, "KILL", 1, ("ends", True), "cannot be caught"),
    ],
)
def test_signal_means_what_wine_makes_of_it(
    wine: WineFacts, request_: str, threads: int, expected: tuple[str, bool], because: str
) -> None:
    """The masks are those of Wine: only INT reaches the program, and only where there is a console."""
    found = predict(program(wine, threads=threads), parse_request(request_))
    assert (found.answer, found.certain) == expected
    assert because in found.because


def test_signal_that_cannot_reach_it_is_told_as_for_any_process() -> None:
    """A blocked or unreadable mask comes before Wine."""
    blocked = replace(program(GUI), signals=SignalSets(blocked=1 << 14))
    assert predict(blocked, parse_request("TERM")).answer == "blocked"
    assert predict(replace(program(GUI), signals=None), parse_request("TERM")).answer == "unknown"


def _advice(facts: Facts) -> list[str]:
    return list(forecast(facts, ()).advice)


def _words(advice: str) -> list[str]:
    """Return the words that a shell makes of the command in a sentence."""
    return shlex.split(advice.split("`")[1])


@pytest.mark.parametrize(
    "stop",
    [
        _STOP,
        "env 'WINEPREFIX=/my games' wine taskkill /pid 260",
        "env WINEPREFIX=/a$b wine taskkill /pid 260",
        "env 'WINEPREFIX=/a$b `c` d' wine taskkill /pid 260",
    ],
)
def test_command_of_the_advice_can_be_pasted(stop: str) -> None:
    """Through the quotes of the shell and those of the plan comes Wine's own command as it was."""
    (advice,) = _advice(program(GUI, stop=stop))
    if "`c`" in stop:
        start = advice.index("endtask stop")
        words = shlex.split(advice[start : advice.rindex("`")])
    else:
        words = _words(advice)
    assert words[:4] == ["endtask", "stop", "12:34", "--plan"]
    (step,) = parse_steps(words[4])
    assert (step.request.kind, step.request.text, step.wait_s) == ("command", stop, 10.0)


def test_path_that_no_quotes_can_hold_is_asked_from_within() -> None:
    """Never a command that would say something else than it means."""
    (advice,) = _advice(program(GUI, stop="env 'WINEPREFIX=/a\"b' wine taskkill /pid 260"))
    assert "`wine taskkill /im a.exe`" in advice


def test_console_program_is_asked_with_ctrl_c() -> None:
    """Wine's taskkill finds no window there."""
    (advice,) = _advice(program(CONSOLE, stop=""))
    assert _words(advice)[2:] == ["12:34", "--plan", "INT/10"]
    (advice,) = _advice(program(replace(CONSOLE, ignores_ctrl_c=True), stop=""))
    assert "ignores Ctrl+C" in advice


def test_unknown_pid_and_kind_are_said() -> None:
    """The name asks all of that name, and without a window it asks nobody."""
    windows, others, console = _advice(program(WineFacts("/p"), stop="env WINEPREFIX=/p wine taskkill /im a.exe"))
    assert "taskkill /im a.exe" in windows
    assert "every a.exe of the prefix" in others
    assert "INT/10" in console


def test_prefix_that_is_out_of_sight_is_asked_from_within() -> None:
    """There is no command that could be run here."""
    (advice,) = _advice(program(WineFacts(""), stop=""))
    assert "from within its prefix" in advice


def test_launcher_points_to_the_program() -> None:
    """`wine notepad` is start.exe, which waits for notepad.exe."""
    launcher = program(CONSOLE, name="start.exe", stop="")
    found = forecast(launcher, (), [program(GUI)])
    assert found.passes_on is False
    assert found.ask_instead == 12
    assert "ask 12 a.exe itself" in found.advice[0]


def test_notes_say_which_program_it_is() -> None:
    """With its number in the prefix, and that its children do not show."""
    (note,) = forecast(program(GUI), ()).notes
    assert "C:\\a.exe under Wine, there with the pid 260" in note
    assert forecast(program(WineFacts()), ()).notes[0].startswith("it is the Windows program under Wine;")


def test_program_that_was_asked_by_a_command_and_stays_may_show_a_question() -> None:
    """`Save changes?` cannot be seen from here."""
    command = Request("cmd:'x'", "command", 0, "x")
    (reason,) = reasons(program(GUI), [command])
    assert "may wait for an answer" in reason.text
    assert not reason.certain


def test_interrupt_that_no_console_hears_is_the_reason() -> None:
    """And the way that is left is Wine's own."""
    (reason,) = reasons(program(GUI), [parse_request("INT")])
    assert (reason.code, reason.certain) == ("ignored", True)
    assert "taskkill" in reason.next
    (reason,) = reasons(program(CONSOLE, stop=""), [parse_request("INT")])
    assert reason.code == "handler"
