"""The command on Windows: every verb on real processes, its output on pipes, files and consoles, and where it keeps its journal."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from endtask import _journal
from endtask._backends import understands_escapes
from endtask.cli.console import Stream
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.windows.lab import Lab


@pytest.fixture
def child() -> Iterator[Child]:
    """A program that only waits."""
    with Child() as started:
        yield started


def endtask(*words: str, check: int | None = 0, **environment: str) -> str:
    """Run the command and return what it writes to standard output."""
    command = [sys.executable, "-m", "endtask", *words]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env={**os.environ, **environment}, check=False, timeout=60
    )
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + ("" if check == 0 else done.stderr)


def test_version_needs_no_process() -> None:
    """The first thing that anybody tries."""
    assert endtask("version").startswith("endtask ")


def test_verbs_that_only_look_say_who_it_is(child: Child) -> None:
    """And send nothing."""
    ref = endtask("find", str(child.pid)).split()
    assert ref[0].startswith(f"{child.pid}:")
    assert ref[1] == "python.exe"
    for verb in ("look", "why", "plan"):
        assert f"python.exe {child.pid}" in endtask(verb, ref[0])
    looked = json.loads(endtask("look", ref[0], "--json"))
    assert looked["seen"][0]["facts"]["windows"]["kind"] == "console"
    assert child.popen.poll() is None


def test_question_that_needs_no_window_loads_no_window_manager(child: Child) -> None:
    """Loading user32.dll makes a console program one of the desktop's."""
    code = (
        "import sys, endtask; from endtask._api import find; from endtask.model import Filter;"
        f"assert find(['{child.pid}'], Filter());"
        "print([m for m in sys.modules if 'user32' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_wait_that_is_over_says_running(child: Child) -> None:
    """Exit code 124, as timeout(1) has it."""
    assert "still running" in endtask("wait", str(child.pid), "--timeout", "0.2", check=124)


def test_stop_with_force_says_forced_with_proof(child: Child) -> None:
    """Exit code 10, and the handle as evidence."""
    report = json.loads(endtask("stop", str(child.pid), "--now", "--json", check=10))
    (target,) = report["targets"]
    assert target["outcome"] == "forced"
    assert ("handle", "proved") in [(e["mechanism"], e["strength"]) for e in target["evidence"]]
    assert child.popen.wait() == 1


def test_stop_asks_before_it_forces(lab: Lab) -> None:
    """A program with a window hears WM_CLOSE."""
    target = lab.start("etwindow", "close")
    assert "stopped" in endtask("stop", str(target.pid))
    assert target.wait_exit() == 7


def test_what_may_not_be_ended_is_not_permitted() -> None:
    """Exit code 77, and the process is there."""
    with Child(LOCK, ONLY_LOOK) as locked:
        text = endtask("stop", str(locked.pid), "--now", check=77)
        assert "denied" in text or "not permitted" in text
        assert locked.popen.poll() is None


def test_report_file_is_written(child: Child, tmp_path: Path) -> None:
    """In each of the formats."""
    child.let_go()
    for suffix in ("json", "md", "xml"):
        path = tmp_path / f"report.{suffix}"
        endtask("stop", str(child.pid), "--report", str(path))
        assert "python.exe" in path.read_text(encoding="utf-8")
        assert [p.name for p in tmp_path.glob(".*")] == []


def test_what_was_asked_in_vain_is_remembered(lab: Lab, tmp_path: Path) -> None:
    """In the user's own folder for local data."""
    target = lab.start("etwindow", "swallow")
    endtask("stop", str(target.pid), "--timeout", "0.6", check=124, LOCALAPPDATA=str(tmp_path))
    raw = (tmp_path / "endtask" / "asked").read_bytes()
    assert b"WM_CLOSE" in raw
    assert b"\r" not in raw
    why = endtask("why", str(target.pid), LOCALAPPDATA=str(tmp_path))
    assert re.search(r"before +WM_CLOSE( and WM_ENDSESSION were| was) sent \d+ s ago, delivered", why), why


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("veto", ["--unattended"], "said no when it was asked the last time"),
        ("hide", [], "runs on without a window that can be seen: it may go on in the notification area"),
    ],
)
def test_what_it_did_instead_of_ending_is_told_later_too(
    lab: Lab, tmp_path: Path, mode: str, options: list[str], words: str
) -> None:
    """`why` looks at it, and remembers what cannot be seen."""
    target = lab.start("etwindow", mode)
    endtask("stop", str(target.pid), "--timeout", "2", *options, check=124, LOCALAPPDATA=str(tmp_path))
    assert words in endtask("why", str(target.pid), LOCALAPPDATA=str(tmp_path))


def test_journal_lies_in_the_local_data_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless XDG_STATE_HOME says otherwise, which some set on every system."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", "C:\\local")
    assert _journal._path() == "C:\\local\\endtask\\asked"
    monkeypatch.delenv("LOCALAPPDATA")
    assert _journal._path().endswith("\\AppData\\Local\\endtask\\asked")
    monkeypatch.setenv("XDG_STATE_HOME", "D:\\state")
    assert _journal._path() == "D:\\state\\endtask\\asked"


def test_output_to_a_file_is_written_without_a_thread(tmp_path: Path) -> None:
    """A file takes every write at once."""
    path = tmp_path / "out.txt"
    with path.open("wb") as file:
        stream = Stream(file.fileno())
        stream.line("a")
        assert stream._pump is None
        stream.finish()
    assert path.read_bytes() == b"a\r\n"


def test_reader_that_goes_away_does_not_change_the_exit_code(child: Child) -> None:
    """`endtask ... | head`: the deed counts."""
    popen = subprocess.Popen(
        [sys.executable, "-m", "endtask", "stop", str(child.pid), "--now", "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert popen.stdout is not None
    assert popen.stderr is not None
    popen.stdout.close()
    assert popen.wait(60) == 10
    assert b"Traceback" not in popen.stderr.read()
    popen.stderr.close()
    assert child.popen.wait() == 1


def test_nul_and_pipes_are_no_terminals_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """`isatty` says yes to NUL."""
    monkeypatch.delenv("TERM", raising=False)
    fd = os.open("NUL", os.O_RDWR)
    try:
        assert not understands_escapes(fd)
        assert not Stream(fd).color
    finally:
        os.close(fd)
    assert not understands_escapes(999)


def test_new_console_of_our_own_shows_colours(tmp_path: Path) -> None:
    """Where the console can: Windows since 10 (1511), Wine."""
    note = tmp_path / "note.txt"
    code = (
        "import os, sys; from endtask._backends import understands_escapes as u; fd = os.open('CONOUT$', os.O_RDWR);"
        f"open({str(note)!r}, 'w').write(f'{{u(fd)}} {{u(fd)}} {{os.isatty(fd)}}')"
    )
    subprocess.run([sys.executable, "-c", code], creationflags=subprocess.CREATE_NEW_CONSOLE, check=True, timeout=60)
    assert note.read_text().split() in (["True", "True", "True"], ["False", "False", "True"])


def test_live_view_is_drawn_on_a_console_and_taken_away(child: Child, tmp_path: Path) -> None:
    """By a thread, because there is no SIGALRM; the run and its exit code are the same."""
    note = tmp_path / "note.txt"
    code = (
        "import sys; from endtask.cli import live; from endtask.cli.main import run; start = live._start_live\n"
        "def spied(stream):\n"
        "    found = start(stream)\n"
        f"    open({str(note)!r}, 'w').write(f'{{found is not None}} {{stream.color}}')\n"
        "    return found\n"
        f"live._start_live = spied; sys.argv = ['endtask', 'wait', '{child.pid}', '--timeout', '1']; run()"
    )
    popen = subprocess.Popen([sys.executable, "-c", code], creationflags=subprocess.CREATE_NEW_CONSOLE)
    assert popen.wait(60) == 124
    drawn, color = note.read_text().split()
    assert drawn == color  # where the console understands escape sequences
    assert child.popen.poll() is None
