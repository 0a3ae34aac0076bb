"""`endtask run`: the command's own status, unless its tree could not be stopped."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from endtask.cli import arguments, parser
from endtask.cli.run_posix import grace_and_force
from endtask.errors import PlanError
from tests.linux.children import REST

if TYPE_CHECKING:
    from pathlib import Path

IGNORES_TERM = (
    "import signal; signal.signal(15, signal.SIG_IGN); signal.alarm(100); print('ready', flush=True); signal.pause()"
)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], (10.0, False)),
        (["-t3s"], (3.0, False)),
        (["--force-after", "5s"], (5.0, True)),
        (["--now"], (0.0, True)),
        (["--plan", "TERM/4/KILL"], (4.0, True)),
    ],
)
def test_options_become_grace_and_force(argv: list[str], expected: tuple[float, bool]) -> None:
    """TERM, a grace, and force only where it was asked for."""
    assert grace_and_force(arguments.policy(parser.parse(["run", *argv, "x"]))) == expected


@pytest.mark.parametrize("plan", ["INT/5", "TERM/5/INT/5", "stdin:q/5"])
def test_other_plans_are_refused(plan: str) -> None:
    """The keeper knows no other steps: nothing is replaced in silence."""
    with pytest.raises(PlanError):
        grace_and_force(arguments.policy(parser.parse(["run", "--plan", plan, "x"])))


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run `endtask run` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "endtask", "run", *argv], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.real
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_status_of_the_command_is_ours(script: str, code: int) -> None:
    """Nothing left behind: the command's status, and not a word."""
    done = run("--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.real
def test_command_that_is_not_there_is_127() -> None:
    """As a shell has it, with a sentence."""
    done = run("--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert "there is no such command" in done.stderr


@pytest.mark.real
def test_what_the_command_leaves_is_stopped_and_told() -> None:
    """A child in a session of its own goes too; what was done stands on stderr."""
    done = run("--", "sh", "-c", "setsid sleep 300 & echo $!")
    assert done.returncode == 0
    assert "stopped" in done.stderr
    assert done.stdout.strip().isdigit()


@pytest.mark.real
@pytest.mark.slow
def test_leftover_that_ignores_term_is_code_124_or_10() -> None:
    """Without force it is still running; with force it is told apart."""
    child = f"p = subprocess.Popen([sys.executable, '-c', {IGNORES_TERM!r}], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)"
    script = [sys.executable, "-c", f"import subprocess, sys; {child}; p.stdout.readline()"]
    left = run("-t", "300ms", "--", *script)
    found = re.search(r"still running: (\d+)", left.stderr)
    assert found
    handle = os.pidfd_open(int(found[1]))
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    assert left.returncode == 124
    assert "still running" in left.stderr
    assert run("--force-after", "300ms", "--", *script).returncode == 10
    assert run("--force-after", "300ms", "--force-ok", "--", *script).returncode == 0


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_endtask_stops_the_tree(number: signal.Signals, tmp_path: Path) -> None:
    """Asked to stop, endtask stops what it owns and says by its code which signal it was."""
    report = tmp_path / "report.md"
    argv = [
        sys.executable,
        "-m",
        "endtask",
        "run",
        "--report",
        str(report),
        "--",
        "sh",
        "-c",
        "echo $$; exec sleep 300",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        handle = os.pidfd_open(int(command.stdout.readline()))
        command.send_signal(number)
        ended, _, _ = select.select([handle], [], [], 60)
        os.close(handle)
        assert ended
        assert command.wait(60) == 128 + number
    assert "| stopped |" in report.read_text()


TELLS_OF_TERM = f"import signal\n{REST}\nsignal.signal(15, lambda *_: print('TERM', flush=True)); signal.alarm(100); print('up', flush=True); rest()"


@pytest.mark.real
@pytest.mark.slow
def test_second_interrupt_asks_nobody_again_and_the_report_is_told() -> None:
    """Another request makes many programs drop their clean-up; and what was done, and by force, is told all the same."""
    argv = [sys.executable, "-m", "endtask", "run", "--force-after", "3s", "--", sys.executable, "-c", TELLS_OF_TERM]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "up\n"
        command.send_signal(signal.SIGINT)
        assert command.stdout.readline() == "TERM\n"
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (out, command.returncode) == ("", 130)
    assert "forced: " in err
