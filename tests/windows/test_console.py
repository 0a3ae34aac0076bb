"""Consoles: who is on one, events for everybody there, and who is never hit by them."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import json
import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import endtask
from endtask._backends.windows import console, handles
from endtask._backends.windows.winapi import kernel32
from endtask.model import Request
from tests.windows.lab import (
    DETACHED,
    NEW_GROUP,
    NO_WINDOW,
    OWN_CONSOLE,
    SHARED_CONSOLE,
    STOPPED_BY_ITSELF,
    UNDER_WINE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask.model import Receipt
    from tests.windows.lab import Lab, Target

CONSOLE_CTRL_C = Request("CONSOLE_CTRL_C", "console", 0)
CONSOLE_CTRL_BREAK = Request("CONSOLE_CTRL_BREAK", "console", 1)
STOPS = int(os.environ.get("ENDTASK_STOPS", "200"))
BATCH = 25  # the siblings end by themselves after two minutes, as all targets do, and a busy machine is slow


def send(target: Target, request: Request = CONSOLE_CTRL_C) -> Receipt:
    """Send one request through a pin of its own."""
    with handles.open_pin(target.pid) as pin:
        return console.send_console(pin, request, 5.0)


def only(*targets: Target) -> Request:
    """Return a Ctrl+C that may hit these and nobody else."""
    return Request("CONSOLE_CTRL_C", "console", 0, ",".join(str(t.pid) for t in targets))


def family(lab: Lab) -> tuple[Target, Target, Target]:
    """Return a parent and two children on a console of their own."""
    root = lab.start("ettree", "keep", 2, flags=OWN_CONSOLE)
    children = lab.child(root, 1), lab.child(root, 2)
    for child in children:
        child.wait_for(f"ready pid={child.pid}")
    return root, *children


def on_a_console(targets: Path, flags: int, job: str, *words: str) -> dict[str, Any]:
    """Run a job of `caller.py` below a parent that has a console, and siblings on it."""
    line = [sys.executable, "-m", "tests.windows.caller", "parent", str(targets), str(flags), job, *words]
    done = subprocess.run(line, creationflags=NO_WINDOW, capture_output=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["child_before"] is not None, (report, done.stderr.decode())  # the caller died
    return report


def assert_nobody_here_was_hit(report: dict[str, Any]) -> None:
    """Nothing reached the caller, its parent and its siblings; and they were not deaf: each heard the one event of the proof."""
    assert report["before"] == [0, 0, 0]
    assert report["child_before"] == []
    assert report["after"] == [1, 1, 1]


# --------------------------------------------------------------------------- who is there


@pytest.mark.parametrize("flags", [OWN_CONSOLE, NO_WINDOW, NO_WINDOW | NEW_GROUP])
def test_a_program_on_a_console_of_its_own_is_alone_there(lab: Lab, flags: int) -> None:
    """The helper that looked does not count itself."""
    target = lab.start("etconsole", "true", flags=flags)
    assert console.members(target.pid) == ((target.pid,), "")
    assert target.heard("control") == 0


def test_everybody_on_a_console_is_listed(lab: Lab) -> None:
    """Whom a console-wide event would hit."""
    root, *children = family(lab)
    for process in (root, *children):
        pids, reason = console.members(process.pid)
        assert (sorted(pids), reason) == (sorted(t.pid for t in (root, *children)), "")


@pytest.mark.slow
def test_more_members_than_the_first_list_holds(lab: Lab) -> None:
    """The helper asks again when its list was too short for all."""
    target = lab.start("ettree", "keep", 64, flags=NO_WINDOW)
    target.wait_for(f"ready pid={target.pid}")
    pids, _reason = console.members(target.pid)
    children = {int(text.split()[1]) for text in target.texts if text.startswith("child ")}
    assert (len(children), set(pids)) == (64, {target.pid, *children})


@pytest.mark.parametrize(("program", "mode"), [("etconsole", "true"), ("etwindow", "close"), ("etwindow", "none")])
def test_a_program_on_no_console(lab: Lab, program: str, mode: str) -> None:
    """Known from its own memory, without a helper."""
    assert console.members(lab.start(program, mode, flags=DETACHED).pid) == ((), "it is on no console")


def test_a_program_that_has_ended_is_on_no_console(lab: Lab) -> None:
    """Neither is one that never was."""
    target = lab.start("etconsole", "code", 0, flags=NO_WINDOW, ready=False)
    target.wait_exit()
    for pid in (target.pid, 999_996):
        pids, reason = console.members(pid)
        assert pids == ()
        assert reason


def test_our_own_console_is_listed_without_a_helper(targets: Path) -> None:
    """We are on it ourselves."""
    report = on_a_console(targets, SHARED_CONSOLE, "listed")
    own, of_sibling, pid = report["found"]
    assert own == of_sibling
    assert set(report["pids"]) <= set(own)
    assert pid in own
    assert_nobody_here_was_hit(report)


def test_from_outside_a_console_all_its_members_are_listed(targets: Path) -> None:
    """By the helper: we are on no console, our parent and its children are."""
    report = on_a_console(targets, DETACHED, "listed")
    own, of_sibling, _pid = report["found"]
    assert own == []
    assert of_sibling == sorted(report["pids"][:3])
    assert_nobody_here_was_hit(report)


# --------------------------------------------------------------------------- everybody hears it


@pytest.mark.parametrize("flags", [OWN_CONSOLE, NO_WINDOW])
def test_ctrl_c_reaches_a_program_on_another_console(lab: Lab, flags: int) -> None:
    """It runs its handler, once, and ends by its own decision."""
    target = lab.start("etconsole", "graceful", 10, flags=flags)
    receipt = send(target)
    assert (receipt.request, receipt.status, receipt.at_s) == ("CONSOLE_CTRL_C", "delivered", 5.0)
    assert receipt.detail == f"to everybody on its console: etconsole.exe {target.pid}"
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard("control 0") == target.heard("control") == 1


def test_a_process_group_of_its_own_hears_it_once_when_it_wants_to(lab: Lab) -> None:
    """Console-wide means whatever the group; Wine has to be told which there are."""
    target = lab.start("etconsole", "enable", flags=NO_WINDOW | NEW_GROUP)
    assert send(target).status == "delivered"
    target.wait_exit()
    assert target.heard("control 0") == target.heard("control") == 1


def test_it_can_be_sent_from_a_process_group_of_ones_own(lab: Lab) -> None:
    """Such a sender ignores Ctrl+C, and so would the helper, which has to hear the event."""
    target = lab.start("etconsole", "graceful", 10, flags=NO_WINDOW)
    code = (
        "from endtask._backends.windows import console, table\n"
        f"print(console._visit({target.pid}, '0', (), '', console._leaders({target.pid}, table.take())))"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, creationflags=NO_WINDOW | NEW_GROUP, capture_output=True, text=True, check=True)
    assert "generated=0, heard=True" in done.stdout
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard("control") == 1


def test_everybody_on_the_console_hears_it(lab: Lab) -> None:
    """That is what console-wide means; the receipt names them."""
    root, *children = family(lab)
    receipt = send(children[0])
    assert receipt.status == "delivered"
    for process in (root, *children):
        assert f"ettree.exe {process.pid}" in receipt.detail
        process.wait_exit()
    assert root.heard("control 0") == 1


def test_a_python_program_in_a_hidden_console_hears_it(lab: Lab) -> None:
    """KeyboardInterrupt, `finally`, atexit."""
    target = lab.start("python", "plain", flags=NO_WINDOW)
    assert send(target).status == "delivered"
    target.wait_exit()
    assert target.heard("atexit") == 1


@pytest.mark.skipif(not UNDER_WINE, reason="on Windows it works, see below")
def test_under_wine_ctrl_break_fails_in_words(lab: Lab) -> None:
    """Nothing else is sent in its place."""
    target = lab.start("etconsole", "graceful", flags=NO_WINDOW)
    receipt = send(target, CONSOLE_CTRL_BREAK)
    assert receipt.status == "failed"
    assert receipt.detail == "GenerateConsoleCtrlEvent: the handle is invalid (error 6)"
    assert target.running
    assert target.heard("control") == 0


@pytest.mark.needs_windows("Wine 8 cannot generate Ctrl+Break")
def test_ctrl_break_reaches_a_program_that_ignores_ctrl_c(lab: Lab) -> None:
    """A process group of its own."""
    target = lab.start("etconsole", "graceful", flags=NO_WINDOW | NEW_GROUP)
    assert send(target, CONSOLE_CTRL_BREAK).status == "delivered"
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard("control 1") == 1


# --------------------------------------------------------------------------- and who must not


def test_nobody_is_hit_who_was_not_agreed_to(lab: Lab) -> None:
    """The helper looks who is there at the moment of sending; a longer list than agreed means: nothing."""
    root, *children = family(lab)
    receipt = send(root, only(root, children[0]))
    assert receipt.status == "impossible"
    expected = f"ettree.exe {children[1].pid} would be hit as well, and that was not agreed to"
    assert receipt.detail == expected
    assert root.heard("control") == 0
    assert send(root, only(*children)).status == "delivered"  # the target itself need not be named
    for process in (root, *children):
        process.wait_exit()


def test_the_console_of_our_parent_is_never_hit(targets: Path) -> None:
    """We are elsewhere; an event there would end the shell that started us."""
    report = on_a_console(targets, DETACHED, "shared")
    status, detail, _pid = report["found"]
    assert status == "impossible"
    assert (
        detail
        == f"python.exe {report['pids'][0]}, from which endtask was started, is on the same console and would be hit"
    )
    assert_nobody_here_was_hit(report)


def test_our_own_console_is_never_hit(targets: Path) -> None:
    """Whoever is on it besides us."""
    report = on_a_console(targets, SHARED_CONSOLE, "shared")
    status, detail, _pid = report["found"]
    assert (status, detail) == ("impossible", "endtask itself is on the same console and would be hit")
    assert_nobody_here_was_hit(report)
    assert report["child_after"] == [0]


@pytest.mark.slow
def test_stops_of_console_programs_never_reach_the_caller_its_parent_or_its_siblings(
    targets: Path, goes_on: Callable[[], None]
) -> None:
    """By threads and by console-wide events, on shared, hidden and no consoles; ENDTASK_STOPS=1000 for the long run."""
    for _batch in range(STOPS // BATCH):
        report = on_a_console(targets, SHARED_CONSOLE, "stops", str(BATCH))
        goes_on()
        assert report["found"] == []
        assert_nobody_here_was_hit(report)
        assert report["child_after"] == [0]


# --------------------------------------------------------------------------- process groups of our own


def test_events_for_a_process_group(targets: Path) -> None:
    """Ctrl+Break to a group on our console and to nobody else; what would hit the whole console is refused."""
    report = on_a_console(targets, SHARED_CONSOLE, "group")
    (ctrl_c, elsewhere, ctrl_break), first_heard, elsewhere_heard, first = report["found"]
    assert ctrl_c == ["impossible", "a process group of its own cannot be sent Ctrl+C, only Ctrl+Break"]
    assert elsewhere == ["impossible", "it is not on our console, so its group cannot be reached from here"]
    assert elsewhere_heard == 0
    if UNDER_WINE:
        assert ctrl_break == ["failed", "GenerateConsoleCtrlEvent: the handle is invalid (error 6)"]
        assert first_heard == 0
    else:
        assert ctrl_break == ["delivered", f"to the process group {first} on our console"]
        assert first_heard == 1
    assert_nobody_here_was_hit(report)


def test_without_a_console_no_group_can_be_reached() -> None:
    """A service, pythonw.exe."""
    code = "from endtask._backends.windows import console; print(console.send_group(8, 1))"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, creationflags=DETACHED, capture_output=True, text=True, check=True)
    expected = ("impossible", "we are on no console ourselves, so no event can be sent from here")
    assert done.stdout.strip() == str(expected)


# --------------------------------------------------------------------------- when it cannot be done


def test_a_program_on_no_console_cannot_be_asked_by_one(lab: Lab) -> None:
    """Nothing is started for it in vain."""
    receipt = send(lab.start("etconsole", "true", flags=DETACHED))
    assert (receipt.status, receipt.detail) == ("impossible", "it is on no console")


@pytest.mark.parametrize("flags", [NO_WINDOW, NO_WINDOW | NEW_GROUP])
def test_a_program_that_ignores_ctrl_c_keeps_it_from_the_others(lab: Lab, flags: int) -> None:
    """The event would hit everybody but the one it is for."""
    target = lab.start("etconsole", "ignore", flags=flags)
    receipt = send(target)
    assert receipt.status == "impossible"
    assert receipt.detail.startswith("it ignores Ctrl+C")


def test_a_program_that_has_ended_is_gone(lab: Lab) -> None:
    """Seen before, or by the helper."""
    target = lab.start("etconsole", "graceful", flags=NO_WINDOW)
    with handles.open_pin(target.pid) as pin:
        assert console.send_console(pin, CONSOLE_CTRL_C, 0.0).status == "delivered"
        target.wait_exit()
        assert console.send_console(pin, CONSOLE_CTRL_C, 0.0).status == "gone"


def test_a_helper_that_does_not_answer_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its handle; and nothing is said to have been sent."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    monkeypatch.setattr(console, "_HELPER_S", 0.5)
    monkeypatch.setattr(console, "program", lambda: ["-c", "import time; time.sleep(60)"])
    begin = time.perf_counter()
    receipt = send(target)
    assert time.perf_counter() - begin < 20
    assert receipt.status == "impossible"
    assert receipt.detail == "the helper that joins consoles did not answer"
    assert console.members(target.pid) == ((), "the helper that joins consoles did not answer")
    assert target.heard("control") == 0


def test_a_helper_that_dies_in_the_middle_leaves_it_open_what_was_sent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two lines."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    monkeypatch.setattr(console, "program", lambda: ["-c", "print('list 4'); print('generating'); raise SystemExit(3)"])
    receipt = send(target)
    assert receipt.status == "failed"
    assert receipt.detail == "the helper ended with code 3; whether the event was sent is not known"


def test_without_a_python_that_can_be_started_it_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python is a part of another program, that program is not started."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    monkeypatch.setattr(console, "interpreter", lambda: "")
    receipt = send(target)
    assert receipt.status == "impossible"
    assert "is no Python that could start the helper" in receipt.detail
    monkeypatch.setattr(console, "interpreter", lambda: r"C:\no\such\python.exe")
    assert "could not be started" in send(target).detail


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("python.exe", True),
        ("pythonw.exe", True),
        ("python3.11.exe", True),
        ("pypy3.exe", True),
        ("blender.exe", False),
        ("pythonservice.exe", False),
        ("endtask.exe", False),
    ],
)
def test_which_program_is_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chosen: bool) -> None:
    """By its name; others may do anything with our arguments."""
    path = tmp_path / name
    path.write_bytes(b"")
    monkeypatch.setattr(sys, "_base_executable", str(path))
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path / "nowhere"))
    assert console.interpreter() == (str(path) if chosen else "")
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "python.exe").write_bytes(b"")
    assert console.interpreter() == str(path if chosen else tmp_path / "nowhere" / "python.exe")


def test_the_helper_works_from_an_archive(lab: Lab, tmp_path: Path) -> None:
    """A zip file can be imported from; the helper is then given as text."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    package = Path(endtask.__file__).parent
    archive = tmp_path / "endtask.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package.parent))
    code = f"from endtask._backends.windows import console; print(console.program()[0], console.members({target.pid}))"
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, text=True, check=True)
    assert done.stdout.split(None, 1) == ["-c", f"(({target.pid},), '')\n"]


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "code", "visit"),
    [
        ("", 1, console.Visit(-1, (), (), -1, False, 1)),
        ("attach 6\n", 1, console.Visit(6, (), (), -1, False, 1)),
        ("list 8 4\n", 0, console.Visit(0, (8, 4), (), -1, False, 0)),
        ("list\n", 0, console.Visit(0, (), (), -1, False, 0)),
        ("list 8 4\nrefused 4\n", 1, console.Visit(0, (8, 4), (4,), -1, False, 1)),
        ("list 8\ngenerating\n", None, console.Visit(0, (8,), (), -2, False, None)),
        ("list 8\ngenerating\ngenerate 6\n", 0, console.Visit(0, (8,), (), 6, False, 0)),
        ("list 8\ngenerating\ngenerate 0\nheard\n", 0, console.Visit(0, (8,), (), 0, True, 0)),
    ],
)
def test_what_the_helper_says(text: str, code: int | None, visit: console.Visit) -> None:
    """Each line as soon as it is true, so that a helper that is cut off has said how far it came."""
    assert console.parse(text, code) == visit


@pytest.mark.parametrize(
    ("visit", "status", "words"),
    [
        (console.Visit(5), "denied", "it is on a console that we may not join"),
        (console.Visit(6), "impossible", "it is on no console"),
        (console.Visit(31), "impossible", "it is just ending"),
        (console.Visit(87), "impossible", "there is no such process"),
        (console.Visit(1450), "impossible", "AttachConsole: there are not enough system resources (error 1450)"),
        (console.Visit(0, (4,), (), -2, False, 0xC000013A), "delivered", "(and to the helper, which it ended)"),
        (console.Visit(0, (4,), (), -2, False, None), "failed", "whether the event was sent is not known"),
    ],
)
def test_answers_in_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, visit: console.Visit, status: str, words: str
) -> None:
    """Errors of AttachConsole, and a helper that was hit by its own event (seen with winsw)."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    monkeypatch.setattr(console, "_visit", lambda *_arguments: visit)
    receipt = send(target)
    assert receipt.status == status
    assert words in receipt.detail


def test_long_lists_of_members_are_cut(lab: Lab) -> None:
    """Six names, and how many more; a pid that nobody has keeps its number."""
    from endtask._backends.windows import table

    snapshot = table.take()
    own = f"{snapshot.name(os.getpid())} {os.getpid()}"
    assert console.in_words([os.getpid(), 999_996], snapshot) == f"{own}, pid 999996"
    assert console.in_words([os.getpid()] * 9, snapshot) == ", ".join([own] * 6) + " and 3 more"


def test_the_error_of_a_group_event_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Windows says."""

    def refuse(_event: int, _group: int) -> bool:
        ctypes.set_last_error(87)
        return False

    monkeypatch.setattr(console, "own_members", lambda: (8, 4))
    monkeypatch.setattr(kernel32, "GenerateConsoleCtrlEvent", refuse)
    assert console.send_group(8, 1) == ("failed", "GenerateConsoleCtrlEvent: the parameter is wrong (error 87)")
