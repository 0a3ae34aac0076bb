"""The rig itself: a CPython for Windows, and targets that start, say what they hear, and end."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
import ctypes
import os
import subprocess
from ctypes import wintypes
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import (
    DETACHED,
    NEW_GROUP,
    NO_WINDOW,
    NOBODY_ENDED_IT,
    OWN_CONSOLE,
    STOPPED_BY_ITSELF,
    SUSPENDED,
    UNDER_WINE,
    Lab,
    has_ended,
    patient,
)
from tests.windows.lab_consoles import PseudoConsole, borrow_console
from tests.windows.lab_services import RUNNING, Services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WM_CLOSE, WM_QUERYENDSESSION, WM_ENDSESSION = 0x10, 0x11, 0x16
user32 = ctypes.WinDLL("user32", use_last_error=True)
post_message = user32.PostMessageW
post_message.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
send_message = user32.SendMessageW
send_message.restype = wintypes.LPARAM
send_message.argtypes = post_message.argtypes


def test_python_is_a_real_one_for_windows() -> None:
    """The tests run with what Windows users have, ctypes and the Proactor loop included."""
    assert sys.version_info >= (3, 10)
    assert os.sep == "\\"
    assert isinstance(asyncio.get_event_loop_policy(), asyncio.WindowsProactorEventLoopPolicy)
    assert ctypes.sizeof(ctypes.c_void_p) == 8


def test_asyncio_runs_a_program_and_reads_its_output() -> None:
    """Pipes, the completion port and a process handle work together."""

    async def run() -> tuple[bytes, int | None]:
        code = "print('hello'); raise SystemExit(300)"
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        output, _ = await child.communicate()
        return output, child.returncode

    assert asyncio.run(run()) == (b"hello\r\n", 300)


def test_an_exit_code_is_not_cut_and_259_does_not_mean_running(lab: Lab) -> None:
    """32 bits come through, STILL_ACTIVE among them."""
    for code in (0, 259, 0xC000013A):
        target = lab.start("etconsole", "code", code, ready=False)
        assert target.wait_exit() == code


@pytest.mark.parametrize(
    "mode", ["close", "two", "hidden", "owned", "veto", "slow", "swallow", "dialog", "hide", "save"]
)
def test_a_window_target_shows_its_windows(lab: Lab, mode: str) -> None:
    """Each mode with windows has some when it says that it is ready."""
    target = lab.start("etwindow", mode)
    mine = [w for w in target.windows if w.class_name == "endtask target"]
    titles = {"two": {"first", "second"}, "hidden": {"hidden"}, "owned": {"owner", "owned", "tool", "disabled"}}
    assert {w.title for w in mine} == titles.get(mode, {"main"})


def test_a_window_target_closes_when_asked_and_says_so(lab: Lab) -> None:
    """The log tells the whole story of a regular end."""
    target = lab.start("etwindow", "close")
    (window,) = [w for w in target.windows if w.class_name == "endtask target"]
    assert post_message(window.handle, WM_CLOSE, 0, 0)
    assert target.wait_exit() == STOPPED_BY_ITSELF
    expected = ['WM_CLOSE "main"', "WM_DESTROY", "loop left with 7", "main returns 7", "atexit", "detach"]
    assert target.texts[1:] == expected


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("swallow", ['WM_CLOSE "main"']),
        ("save", ['WM_CLOSE "main"']),
        ("dialog", ['WM_CLOSE "main"', "dialog open"]),
        ("hide", ['WM_CLOSE "main"', "hidden"]),
    ],
)
def test_a_window_target_that_stays_says_what_it_heard(lab: Lab, mode: str, said: list[str]) -> None:
    """WM_CLOSE is handled, and the program runs on."""
    target = lab.start("etwindow", mode)
    (window,) = [w for w in target.windows if w.class_name == "endtask target"]
    assert post_message(window.handle, WM_CLOSE, 0, 0)
    target.wait_for(said[-1])
    assert target.texts[1:] == said
    assert target.running
    assert [w.visible for w in target.windows if w.handle == window.handle] == [mode != "hide"]


@pytest.mark.parametrize(("mode", "answer"), [("close", 1), ("veto", 0), ("save", 1)])
def test_a_window_target_answers_whether_the_session_may_end(lab: Lab, mode: str, answer: int) -> None:
    """The one message with a yes or no."""
    target = lab.start("etwindow", mode)
    (window,) = [w for w in target.windows if w.class_name == "endtask target"]
    assert send_message(window.handle, WM_QUERYENDSESSION, 0, 1) == answer
    if mode == "save":
        send_message(window.handle, WM_ENDSESSION, 1, 1)
        assert target.wait_exit() == STOPPED_BY_ITSELF
        assert target.heard("saved") == 1


def test_a_dialog_is_on_the_screen_when_the_target_says_so(lab: Lab) -> None:
    """The main window is disabled, the box belongs to it."""
    target = lab.start("etwindow", "dialog-open")
    (box,) = [w for w in target.windows if w.class_name == "#32770"]
    (main,) = [w for w in target.windows if w.class_name == "endtask target"]
    assert (box.title, box.owner, box.enabled, main.enabled) == ("etwindow", main.handle, True, False)


@pytest.mark.parametrize("mode", ["message-only", "none", "queue"])
def test_a_target_without_windows_has_none(lab: Lab, mode: str) -> None:
    """What EnumWindows does not list."""
    assert [w for w in lab.start("etwindow", mode).windows if w.class_name == "endtask target"] == []


@pytest.mark.parametrize("flags", [OWN_CONSOLE, NO_WINDOW, DETACHED, NO_WINDOW | NEW_GROUP])
def test_a_console_target_starts_with_every_kind_of_console(lab: Lab, flags: int) -> None:
    """It is ready and runs until somebody ends it."""
    target = lab.start("etconsole", "true", flags=flags)
    assert target.running


def test_a_pseudo_console_ends_its_programs_when_it_is_closed(lab: Lab) -> None:
    """What a terminal does when its window is closed."""
    with PseudoConsole(lab) as terminal:
        target = terminal.start("etconsole", "none")
        if UNDER_WINE:
            # Its conhost ends them only if somebody has asked for the console's window before (measured, Wine 8.0).
            borrow_console(target.pid, "kernel32.GetConsoleWindow()")
        terminal.close()
        target.wait_exit()


def test_a_borrowed_console_knows_its_members(lab: Lab) -> None:
    """The target, and the process that looks."""
    target = lab.start("etconsole", "true", flags=OWN_CONSOLE)
    code = "members = (ctypes.c_uint * 16)()\nprint(*members[: kernel32.GetConsoleProcessList(members, 16)])"
    members = borrow_console(target.pid, code).split()
    assert str(target.pid) in members
    assert len(members) == 2


def test_a_suspended_target_says_nothing_until_it_is_resumed(lab: Lab) -> None:
    """It exists from its creation on."""
    target = lab.start("etconsole", "none", flags=DETACHED | SUSPENDED)
    assert target.texts == []
    target.resume()
    target.wait_for("ready")


def test_the_end_of_standard_input_ends_a_target_that_reads_it(lab: Lab) -> None:
    """A pipe that only we hold."""
    target = lab.start("etconsole", "stdin", flags=NO_WINDOW, stdin=subprocess.PIPE)
    assert target.popen is not None
    assert target.popen.stdin is not None
    target.popen.stdin.close()
    assert target.wait_exit() == STOPPED_BY_ITSELF


def test_the_end_of_the_laboratory_reaches_orphans(targets: Path) -> None:
    """Children whose parent is long gone end with the test."""
    with Lab(targets) as lab:
        root = lab.start("ettree", "orphans", 3, ready=False)
        children = [lab.child(root, number) for number in (1, 2, 3)]
        assert root.wait_exit() == 0
        for child in children:
            child.wait_for(f"ready pid={child.pid}")  # it was alone then
        first = children[0]
        first.owned.clear()  # we close it ourselves, to look at it after the end
    assert has_ended(first.handle)
    assert first.exit_code == NOBODY_ENDED_IT


def test_a_chain_has_a_worker_that_no_living_parent_leads_to(lab: Lab) -> None:
    """The middle has gone, the worker runs."""
    root = lab.start("ettree", "chain")
    worker = lab.child(root, 2)
    worker.wait_for(f"ready pid={worker.pid}")
    assert root.running
    assert worker.pid != int(root.wait_for("child ", 1).text.split()[1])


@pytest.mark.parametrize("mode", ["plain", "signals", "deaf-main", "handler", "asyncio", "server"])
def test_a_python_target_is_ready_in_every_mode(lab: Lab, mode: str) -> None:
    """The Python that runs the tests is a target, too."""
    assert lab.start("python", mode, flags=NO_WINDOW).running


def test_a_python_without_a_console_is_a_target_of_the_windows_subsystem(lab: Lab) -> None:
    """pythonw.exe starts and ends as the others."""
    if not os.path.exists(os.path.join(os.path.dirname(sys.executable), "pythonw.exe")):
        pytest.skip("this Python has no pythonw.exe")
    assert lab.start("pythonw", "plain").running


@pytest.mark.parametrize("mode", ["stop", "slow", "refuse"])
def test_a_service_runs_and_is_removed(services: Services, mode: str) -> None:
    """The service manager knows its process."""
    service = services.start(mode, 100)
    assert service.state == RUNNING
    assert service.pid == service.process.pid


@pytest.mark.parametrize(
    ("errors", "calls"), [([1359, 1359, 0], 3), ([1359] * 9, 5), ([5, 0], 1)], ids=["comes", "never", "denied"]
)
def test_process_that_wine_loses_before_it_begins_is_created_again(errors: list[int], calls: int) -> None:
    """A few times; any other error is what it is."""
    left = list(errors)

    def create(*words: object) -> tuple[int, int, int, int]:
        assert words == ("a", 1)
        error = left.pop(0)
        if error:
            raise OSError(0, "", None, error)
        return 4, 8, 12, 16

    if errors[calls - 1] == 0:
        assert patient(create)("a", 1) == (4, 8, 12, 16)
    else:
        with pytest.raises(OSError, match=str(errors[0])):
            patient(create)("a", 1)
    assert len(errors) - len(left) == calls


def test_test_with_much_to_do_is_not_taken_for_one_that_hangs(
    pytestconfig: pytest.Config, goes_on: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of it has the whole time."""
    begun: list[tuple[float, bool]] = []
    monkeypatch.setattr(
        "faulthandler.dump_traceback_later", lambda limit_s, **how: begun.append((limit_s, how["exit"]))
    )
    goes_on()
    limit_s, leaves = (pytestconfig.getini(f"faulthandler_{name}") for name in ("timeout", "exit_on_timeout"))
    assert begun == ([(float(limit_s), leaves)] if float(limit_s or 0) else [])


@pytest.mark.needs_windows("it proves that the marker is obeyed")
def test_what_needs_windows_does_not_run_under_wine() -> None:
    """The skip must come from the marker, not from luck."""
    assert not UNDER_WINE
