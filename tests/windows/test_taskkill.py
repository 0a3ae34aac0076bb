"""`taskkill` and `tasklist` on Windows: truth about programs that answer, swallow, ask back and hang; the cases of the old log among them."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import csv
import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import OWN_CONSOLE, STOPPED_BY_ITSELF

if TYPE_CHECKING:
    from tests.windows.lab import Lab, Target


class Said:
    """What a command line wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def endtask(*argv: str) -> Said:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "endtask", *argv], capture_output=True, text=True, check=False, timeout=120
    )
    return Said(done.returncode, done.stdout, done.stderr)


def image(target: Target) -> str:
    """Return the image name of one of our own targets, which no stranger has."""
    (row,) = rows("/fi", f"PID eq {target.pid}")
    return row[0]


def rows(*argv: str) -> list[list[str]]:
    """Return what `tasklist` lists, as CSV without a header."""
    done = endtask("tasklist", *argv, "/fo", "csv", "/nh")
    assert (done.code, done.err) == (0, "")
    return [] if done.out.startswith("INFO") else list(csv.reader(io.StringIO(done.out)))


def test_success_means_that_the_window_and_its_process_have_gone(lab: Lab) -> None:
    """Asked by WM_CLOSE, ended by its own decision, and only then SUCCESS."""
    target = lab.start("etwindow", "plain")
    done = endtask("taskkill", "/PID", str(target.pid))
    assert done.out == f"SUCCESS: Sent termination signal to the process with PID {target.pid}.\n"
    assert (done.code, done.err, target.exit_code) == (0, "", STOPPED_BY_ITSELF)


def test_window_that_swallows_the_request_is_never_a_success(lab: Lab) -> None:
    """Asked twice, told twice that it still runs, and ended by /F."""
    target = lab.start("etwindow", "swallow")
    for _ in range(2):
        done = endtask("taskkill", "/pid", str(target.pid), "/w", "1")
        assert (done.code, done.out) == (1, "")
        assert f"ERROR: The process with PID {target.pid} was asked (WM_CLOSE" in done.err
        assert "and is still running." in done.err
        assert target.running
    forced = endtask("taskkill", "-f", "-pid", str(target.pid))
    assert forced.out == f"SUCCESS: The process with PID {target.pid} has been terminated.\n"
    assert (forced.code, target.running) == (0, False)


def test_dialog_that_waits_for_a_person_is_the_reason(lab: Lab) -> None:
    """The line after ERROR says what the program asks."""
    target = lab.start("etwindow", "dialog")
    done = endtask("taskkill", "/pid", str(target.pid), "/w", "3")
    assert done.code == 1
    assert "Reason: " in done.err
    assert "dialog" in done.err.lower(), done.err
    assert target.running


def test_console_program_in_a_console_of_its_own_is_asked(lab: Lab) -> None:
    """What classic taskkill can only force: its handler runs, and it ends by itself."""
    target = lab.start("etconsole", "graceful", flags=OWN_CONSOLE)
    done = endtask("taskkill", "/pid", str(target.pid))
    assert done.code == 0, done.err
    assert done.out == f"SUCCESS: Sent termination signal to the process with PID {target.pid}.\n"
    assert target.exit_code == STOPPED_BY_ITSELF


def test_every_process_of_a_name_is_meant_whatever_the_case(lab: Lab) -> None:
    """Names compare as file names do; filters narrow them."""
    first, second = (lab.start("etwindow", "plain") for _ in range(2))
    name = image(first)
    done = endtask(
        "taskkill",
        "/im",
        name.upper(),
        "/fi",
        f"PID ne {second.pid}",
        "/fi",
        f"PID ge {first.pid}",
        "/fi",
        f"PID le {first.pid}",
    )
    assert done.out == f'SUCCESS: Sent termination signal to the process "{name}" with PID {first.pid}.\n'
    assert (done.code, first.running, second.running) == (0, False, True)


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["/im", "no-such-program.exe"], 128, 'ERROR: The process "no-such-program.exe" not found.\n'),
        (["/pid", "0"], 128, 'ERROR: The process "0" not found.\n'),
        (["/im", "no-such-program.exe", "/fi", "PID gt 0"], 0, "INFO: No tasks running with the specified criteria.\n"),
    ],
)
def test_what_does_not_exist_has_the_codes_of_windows(argv: list[str], code: int, text: str) -> None:
    """128, or nothing that matches the filters."""
    done = endtask("taskkill", *argv)
    assert (done.code, done.out + done.err) == (code, text)


def test_titles_and_sessions_are_listed_and_can_be_asked_for(lab: Lab) -> None:
    """`/V` shows the title of the window; the filter finds its owner."""
    target = lab.start("etwindow", "plain")
    title = next(w.title for w in target.windows if w.visible and w.title)
    (row,) = rows("/v", "/fi", f"PID eq {target.pid}")
    assert row[8] == title
    assert row[5] == "Running"
    assert row[3].isdigit()
    assert str(target.pid) in [r[1] for r in rows("/fi", f"WINDOWTITLE eq {title[:3]}*")]
    assert not rows("/fi", f"PID eq {target.pid}", "/fi", "SESSIONNAME eq no-such-session")


def test_suspended_process_is_listed_as_one(lab: Lab) -> None:
    """STATUS eq SUSPENDED: all threads stand still."""
    target = lab.start("etconsole", "true")
    target.suspend()
    found = rows("/v", "/fi", f"PID eq {target.pid}", "/fi", "STATUS eq SUSPENDED")
    target.resume()
    assert [row[5] for row in found] == ["Suspended"]
