"""The examples that endtask was made for, each as its own test; the documentation shows them as a user types them (docs: "Windows, example by example")."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.windows.kinds import DEFAULT
from tests.windows.lab import DETACHED, OWN_CONSOLE, STOPPED_BY_ITSELF, UNDER_WINE
from tests.windows.truth import Answer, endtask, lies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.windows.lab import Lab, Target

pytestmark = [pytest.mark.real, pytest.mark.slow]
FORCED = 1


def stop(target: Target, *words: str) -> Answer:
    """Stop a target, and compare every word with what it did."""
    answer = endtask("stop", target.pid, *words, "--json")
    assert not lies(answer, [target]), f"{lies(answer, [target])}\n{answer}"
    return answer


def system_taskkill(*words: object) -> tuple[int, str]:
    """Run the taskkill of the system; return its exit code and what it wrote."""
    line = ["taskkill", *map(str, words)]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


# --------------------------------------------------------------------------- a window that swallows the request


def test_window_that_swallows_wm_close_four_times_is_reported_truthfully_each_time(lab: Lab) -> None:
    """Four stops are four requests, four times `running`, and no success; only force ends it, and says so."""
    target = lab.start("etwindow", "swallow")
    for number in range(1, 5):
        answer = stop(target, "--plan", "wm-close/0.5")
        assert (answer.outcome, answer.code, answer.sent) == ("running", 124, ["WM_CLOSE delivered"])
        assert answer.reasons == ["swallowed"]
        assert target.heard("WM_CLOSE") == number
        assert target.running
    answer = stop(target, "--now")
    assert (answer.outcome, answer.code, answer.sent) == ("forced", 10, ["TERMINATE delivered"])
    assert target.exit_code == FORCED
    assert target.heard("WM_CLOSE") == 4
    assert not target.heard("detach"), "TerminateProcess runs nothing in the process"


def test_earlier_requests_are_remembered(lab: Lab) -> None:
    """`why` says what was asked in vain, so that nobody asks a fifth time in hope."""
    target = lab.start("etwindow", "swallow")
    stop(target, "--plan", "wm-close/0.5")
    (told,) = json.loads(endtask("why", target.pid, "--json").out)["targets"]
    assert any("WM_CLOSE" in text for text in told["asked_before"])


def test_taskkill_of_the_system_calls_that_a_success_and_endtask_does_not(lab: Lab) -> None:
    """The message was queued, which is all that it tells."""
    target = lab.start("etwindow", "swallow")
    code, _text = system_taskkill("/pid", target.pid)
    assert code == 0
    assert target.wait_for("WM_CLOSE")
    assert target.running
    ours = endtask("taskkill", "/pid", target.pid, "/w", "1")
    assert ours.code == 1
    assert ours.out == ""
    assert "is still running" in ours.err
    assert target.running


# --------------------------------------------------------------------------- a console program in a console of its own


def test_console_program_in_its_own_console_ends_by_its_own_handler(lab: Lab) -> None:
    """Nobody owns a window that taskkill could write to. The thread that endtask starts runs the program's handler, and that decides to end."""
    target = lab.start("etconsole", "graceful", 100, flags=OWN_CONSOLE)
    if (
        UNDER_WINE
    ):  # on Windows what taskkill does depends on who owns the console's window, and on which terminal it is in
        code, text = system_taskkill("/pid", target.pid)
        assert code == 128, text
        assert target.running
        assert target.texts == [f"ready pid={target.pid}"]
    answer = stop(target)
    assert (answer.outcome, answer.code, answer.sent) == ("stopped", 0, ["CTRL_C delivered"])
    # The proof which path it took: the receipt names the thread, the handler ran once, the main function returned, and the code is the program's own.
    (member,) = answer.target["members"]
    assert member["receipts"][0]["detail"].startswith("by a thread at CtrlRoutine")
    assert member["end"] == {**member["end"], "status": STOPPED_BY_ITSELF, "source": "handle"}
    assert target.texts[1:] == ["control 0", "stop heard", "main returns 7", "atexit", "detach"]


def test_the_old_flags_reach_it_as_well(lab: Lab) -> None:
    """`endtask taskkill` asks it in the same way; SUCCESS is written when it has ended."""
    target = lab.start("etconsole", "graceful", 100, flags=OWN_CONSOLE)
    answer = endtask("taskkill", "/pid", target.pid)
    assert answer.out == f"SUCCESS: Sent termination signal to the process with PID {target.pid}.\n"
    assert (answer.code, answer.err, target.exit_code) == (0, "", STOPPED_BY_ITSELF)


@pytest.mark.needs_windows("Wine 8 has no choice.exe")
def test_choice_ends(lab: Lab) -> None:
    """The program of the example itself; it has no handler, so the default one ends it."""
    assert shutil.which("choice")
    target = lab.run(["choice", "/c", "yn"], flags=OWN_CONSOLE)
    answer = stop(target)
    assert (answer.outcome, answer.sent) == ("stopped", ["CTRL_C delivered"])


# --------------------------------------------------------------------------- in the background, without windows


def test_background_program_of_the_windows_subsystem_is_asked(lab: Lab) -> None:
    """It has no window and no console. Without a handler of its own ExitProcess ends it, which its DLLs hear."""
    target = lab.start("etwindow", "none")
    if UNDER_WINE:
        assert system_taskkill("/pid", target.pid)[0] == 128
    answer = stop(target)
    assert (answer.outcome, answer.code, answer.sent) == ("stopped", 0, ["CTRL_C delivered"])
    assert target.exit_code == DEFAULT
    assert target.texts[1:] == ["detach"]


def test_background_python_program_runs_its_finally(lab: Lab) -> None:
    """pythonw.exe maps the event to KeyboardInterrupt, console or not."""
    target = lab.start("pythonw", "plain", flags=DETACHED)
    answer = stop(target)
    assert (answer.outcome, answer.sent) == ("stopped", ["CTRL_C delivered"])
    assert target.exit_code == STOPPED_BY_ITSELF
    assert target.texts[1:] == ["KeyboardInterrupt", "finally", "atexit"]


# --------------------------------------------------------------------------- a process group

GROUP = """
import json, sys
from pathlib import Path
from endtask._backends.windows import console
from tests.windows.lab import NEW_GROUP, SHARED_CONSOLE, Lab

with Lab(Path(sys.argv[1])) as lab:
    inside = lab.start("etconsole", "graceful", flags=SHARED_CONSOLE | NEW_GROUP)
    outside = lab.start("etconsole", "graceful", flags=SHARED_CONSOLE)
    answer = console.send_group(inside.pid, 1)
    if answer[0] == "delivered":
        inside.wait_exit()
    print(json.dumps([answer, inside.texts[1:], inside.exit_code, outside.texts[1:], outside.running]))
"""


def test_process_group_is_addressed_and_nobody_outside_of_it(targets: Path) -> None:
    """Ctrl+Break for the group of a child of ours: the sibling on the same console, and we, hear nothing."""
    line = [sys.executable, "-c", GROUP, str(targets)]
    done = subprocess.run(line, creationflags=OWN_CONSOLE, capture_output=True, check=True, timeout=60)
    (status, detail), heard, code, outside_heard, outside_runs = json.loads(done.stdout)
    assert (outside_heard, outside_runs) == ([], True)
    if UNDER_WINE:  # it knows no Ctrl+Break between processes: that is said, and nothing is claimed
        assert (status, detail) == ("failed", "GenerateConsoleCtrlEvent: the handle is invalid (error 6)")
        assert (heard, code) == ([], None)
    else:
        assert status == "delivered"
        assert heard[0] == "control 1"
        assert code == STOPPED_BY_ITSELF


# --------------------------------------------------------------------------- polite, wait, force

POLITE_WAIT_FORCE = ("--plan", "wm-close/0.5/terminate")


def test_polite_wait_force_does_not_wait_for_what_closes(lab: Lab) -> None:
    """Every main window is asked once, and the force is not needed."""
    target = lab.start("etwindow", "two")
    answer = stop(target, "--plan", "wm-close/30/terminate")
    assert (answer.outcome, answer.code, answer.sent) == ("stopped", 0, ["WM_CLOSE delivered"])
    assert target.heard("WM_CLOSE") == 2
    assert target.exit_code == STOPPED_BY_ITSELF
    assert answer.target["elapsed_s"] < 30


def test_polite_wait_force_ends_what_does_not_close(lab: Lab) -> None:
    """TerminateProcess comes when the plan says it and not before, and is called what it is."""
    targets = [lab.start("etwindow", mode) for mode in ("swallow", "dialog", "hide", "hang")]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda target: stop(target, *POLITE_WAIT_FORCE), targets))
    for target, answer in zip(targets, answers, strict=True):
        assert (answer.outcome, answer.code) == ("forced", 10)
        assert answer.sent == ["WM_CLOSE delivered", "TERMINATE delivered"]
        asked, forced = (r["at_s"] for r in answer.target["members"][0]["receipts"])
        assert asked < forced >= 0.5  # the plan counts from its begin, and asking takes a moment on a busy machine
        assert (target.exit_code, target.heard("detach")) == (FORCED, 0)


def test_polite_wait_force_asks_no_window_that_the_system_made(lab: Lab) -> None:
    """The input method's window is a top-level window of every such program; closing it tells the program nothing."""
    target = lab.start("etwindow", "swallow")
    before = [w.handle for w in target.windows if w.class_name == "IME"]
    stop(target, "--plan", "wm-close/0.5")
    assert [w.handle for w in target.windows if w.class_name == "IME"] == before
