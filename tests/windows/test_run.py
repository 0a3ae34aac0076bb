"""`endtask run` on Windows: the command's own 32-bit status, and events to endtask that stop the tree."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import stop_event
from endtask._backends.windows.handles import open_pin
from endtask._backends.windows.hearing import Ears
from endtask._backends.windows.inject import send_inject
from endtask._held import policy_of, within
from endtask._plan import make_policy
from endtask._requests import CTRL_BREAK, CTRL_C, CTRL_CLOSE, CTRL_SHUTDOWN, STOP_EVENT
from endtask._tree_stop import later
from tests.windows.lab import NO_WINDOW, PATIENCE_S, STOPPED_BY_ITSELF, Lab, Target, open_handle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from endtask.model import Request

LEAVES = (
    "import subprocess as s, sys\n"
    "print(s.Popen(sys.argv[1:], stdin=s.DEVNULL, stdout=s.DEVNULL, stderr=s.DEVNULL).pid, flush=True)"
)


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `endtask run` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "endtask", "run", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        input=text if text is not None else "",
    )


def leaves(words: Sequence[str]) -> list[str]:
    """Return a command that starts another one, and leaves it."""
    return [sys.executable, "-I", "-S", "-c", LEAVES, *words]


# --------------------------------------------------------------------------- status


@pytest.mark.parametrize("code", [0, 7, 259, 300, 0x7FFFFFFF, 0x80000000, 0xC000013A, 0xFFFFFFFF])
def test_status_of_the_command_is_ours(code: int) -> None:
    """All 32 bits of it, and not a word."""
    done = run("--", "cmd", "/c", f"exit {code - (1 << 32) if code >> 31 else code}")
    assert (done.returncode & 0xFFFFFFFF, done.stdout, done.stderr) == (code, "", "")


def test_streams_are_the_commands_own() -> None:
    """What comes in goes to it, and what it says comes out, on both."""
    text = "import sys; print(sys.stdin.read().upper()); print('told', file=sys.stderr)"
    done = run("--", sys.executable, "-c", text, text="hello")
    assert (done.returncode, done.stdout.split(), done.stderr.split()) == (0, ["HELLO"], ["told"])


def test_command_that_is_not_there_is_127_and_one_that_is_none_126(lab: Lab) -> None:
    """As a shell has it, with a sentence."""
    done = run("--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert "there is no such command" in done.stderr
    assert "cmd /c" in done.stderr
    broken = lab.folder / "broken.exe"
    broken.write_bytes(b"no program")
    done = run("--", str(broken))
    assert (done.returncode, "no program" in done.stderr) == (126, True)


def test_a_batch_file_is_found_and_refuses_what_it_would_misread(lab: Lab) -> None:
    """Its status is its own; an argument that cmd.exe would read is a usage error."""
    batch = lab.folder / "say.cmd"
    batch.write_text("@exit /b 5\r\n")
    assert run("--", str(batch), "a b").returncode == 5
    done = run("--", str(batch), "100%")
    assert (done.returncode, "batch file" in done.stderr) == (2, True)


# --------------------------------------------------------------------------- what is left


def test_what_the_command_leaves_is_stopped_and_told(lab: Lab) -> None:
    """Its parent has gone; what was done stands on stderr."""
    words, event = lab.words("etconsole", "graceful", 50)
    done = run("--", *leaves(words))
    _winapi.CloseHandle(event)
    assert done.returncode == 0
    assert "stopped 2 of 2" in done.stderr
    assert "cleaned" in lab.log_of(words).read_text() or "main returns 7" in lab.log_of(words).read_text()


def test_leftover_that_is_deaf_is_code_124_or_10(lab: Lab) -> None:
    """Without force it still runs; with force it is told apart."""
    words, event = lab.words("etconsole", "true")
    left = run("-t", "1s", "--", *leaves(words))
    assert left.returncode == 124
    assert "still running" in left.stderr
    pid = int(left.stdout.split()[0])
    handle = open_handle(pid, 0x101001)
    lab.started.append(Target(pid, handle, lab.log_of(words), event, owned=[event, handle]))
    for option, code in ((), 10), (("--force-ok",), 0):
        words, event = lab.words("etconsole", "true")
        done = run("--force-after", "500ms", *option, "--", *leaves(words))
        _winapi.CloseHandle(event)
        assert done.returncode == code


def test_any_plan_can_be_carried_out(lab: Lab) -> None:
    """The tree is stopped by the machine of `stop`, so its mechanisms can be named."""
    words, event = lab.words("etconsole", "true")
    done = run("-v", "--plan", "ctrl-break/0.3/ctrl-close/0.3/terminate", "--", *leaves(words))
    _winapi.CloseHandle(event)
    assert done.returncode == 10
    said = [line for line in done.stderr.splitlines() if "delivered" in line]
    assert ["CTRL_BREAK", "CTRL_CLOSE", "TERMINATE"] == [line.split()[2] for line in said]


def test_input_of_the_command_is_not_ours_to_write(lab: Lab) -> None:
    """A step that would need its pipe says that it cannot, and the next one comes."""
    words, event = lab.words("etconsole", "graceful")
    done = run("-v", "--plan", "stdin:q/0.3/ctrl-c/5", "--", *leaves(words))
    _winapi.CloseHandle(event)
    assert done.returncode == 0
    assert "CTRL_C delivered" in done.stderr


# --------------------------------------------------------------------------- endtask is asked


class Running:
    """An `endtask run` that waits for its command."""

    def __init__(self, lab: Lab, mode: str, *options: str, number: int = 100) -> None:
        self.words, event = lab.words("etconsole", mode, number)
        self.report = lab.folder / "report.md"
        argv = [sys.executable, "-m", "endtask", "run", "--report", str(self.report), *options, "--", *self.words]
        self.process = subprocess.Popen(
            argv, creationflags=NO_WINDOW, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        lab.adopt(self.process, _event(), None)
        own = open_handle(self.process.pid)
        probe = Target(self.process.pid, own, lab.log_of(self.words), event)
        pid = int(probe.wait_for("ready").text.split("pid=")[1].split()[0])
        _winapi.CloseHandle(own)
        handle = open_handle(pid, 0x101001)
        self.target = Target(pid, handle, lab.log_of(self.words), event, owned=[handle, event])
        lab.started.append(self.target)

    def ask(self, request: Request) -> None:
        """Ask endtask itself, and nobody else."""
        with open_pin(self.process.pid) as pin:
            way = stop_event.send_event if request == STOP_EVENT else send_inject
            receipt = way(pin, request, 0.0)
        assert receipt.status == "delivered", receipt

    def wait(self) -> int:
        """Return the exit code of endtask."""
        return self.process.wait(PATIENCE_S)


def _event() -> int:
    from endtask._backends.windows.winapi import kernel32

    return int(kernel32.CreateEventW(None, False, False, None) or 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [(CTRL_C, 130), (CTRL_BREAK, 149), (CTRL_CLOSE, 129), (CTRL_SHUTDOWN, 143), (STOP_EVENT, 143)],
)
def test_an_event_to_endtask_stops_the_tree(lab: Lab, request_: Request, code: int) -> None:
    """Asked to stop, endtask stops what it owns, writes its report, and says by its code what it was; the command ends by its own handler."""
    running = Running(lab, "graceful")
    running.ask(request_)
    assert code == running.wait()
    assert running.target.wait_exit() == STOPPED_BY_ITSELF
    assert running.target.heard("control 0") == 1
    assert "| stopped |" in running.report.read_text()
    assert running.process.stderr is not None
    assert b"stopped 1 of 1" in running.process.stderr.read()


def test_the_stop_event_is_answered(lab: Lab) -> None:
    """Endtask listens to its own protocol, and says that it has heard."""
    running = Running(lab, "graceful", number=2000)
    with open_pin(running.process.pid) as pin:
        assert stop_event.present(pin.ref) is True
        assert stop_event.acknowledged(pin.ref) is False
        running.ask(STOP_EVENT)
        running.target.wait_for("control")
        assert stop_event.acknowledged(pin.ref) is True
    running.wait()


def test_a_closing_console_leaves_time_for_the_report(lab: Lab) -> None:
    """The system ends us five seconds later: the plan is cut to what is left, also its force."""
    running = Running(lab, "true", "--force-after", "60s")
    running.ask(CTRL_CLOSE)
    assert running.wait() == 129
    assert running.target.wait_exit() == 1
    assert "| forced |" in running.report.read_text()


@pytest.mark.parametrize(("options", "word"), [(("--force-after", "60s"), "forced"), ((), "running")])
def test_a_second_event_hurries(lab: Lab, options: tuple[str, ...], word: str) -> None:
    """What may be forced is forced at once, what may not is named; the report is written either way."""
    running = Running(lab, "true", "-t", "90s", *options)
    running.ask(STOP_EVENT)
    running.target.wait_for("control 0")
    running.ask(CTRL_BREAK)
    assert running.wait() == 130
    assert f"| {word} |" in running.report.read_text()
    assert running.target.running == (word == "running")


def test_a_second_event_hurries_also_while_the_first_is_left_to_work(lab: Lab) -> None:
    """What the console said may have reached the command, so it is not asked yet; whoever presses again does not want to wait."""
    running = Running(lab, "true", "-t", "90s", "--force-after", "80s")
    running.ask(CTRL_C)
    running.ask(CTRL_C)
    assert running.wait() == 130
    assert "| forced |" in running.report.read_text()
    assert running.target.heard("control") == 0


HELD_UP = """
import os, sys
from endtask.cli import main, run_command, run_windows
here = sys.argv.pop(1)
start, tell, heard = run_windows.start, run_command._tell, run_windows.Ears._on_event
def held_up(where, result):
    if here == where:
        print("held up", flush=True)
        os.read(0, 1)
    return result
def on_event(self, number):
    kept = heard(self, number)
    print("heard", flush=True)
    return kept
run_windows.Ears._on_event = on_event
run_windows.start = lambda *words: held_up("start", start(*words))
run_command._tell = lambda *words, **asked: held_up("tell", tell(*words, **asked))
main.run()
"""


@pytest.mark.parametrize(("where", "word"), [("start", "forced"), ("tell", "stopped")])
def test_two_events_while_nobody_listens_leave_a_report(lab: Lab, where: str, word: str) -> None:
    """Both come while the command is being started: the second is heard when it has been. Or the second comes while the report is made: it changes nothing."""
    words, event = lab.words("etconsole", "graceful" if where == "tell" else "true", 1)
    report = lab.folder / "report.md"
    options = ["--report", str(report), "-t", "90s", "--force-after", "80s"]
    argv = [sys.executable, "-c", HELD_UP, where, "run", *options, "--", *words]
    with subprocess.Popen(
        argv, creationflags=NO_WINDOW, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as us:
        lab.adopt(us, _event(), None)
        assert us.stdin is not None
        assert us.stdout is not None
        with open_pin(us.pid) as pin:
            own = open_handle(us.pid)
            Target(us.pid, own, lab.log_of(words), event).wait_for("ready")
            _winapi.CloseHandle(own)
            for line in (b"held up", b"heard", b"heard") if where == "start" else (b"heard", b"held up", b"heard"):
                if line == b"heard":
                    assert send_inject(pin, CTRL_C, 0.0).status == "delivered"
                assert us.stdout.readline().strip() == line
        us.stdin.write(b"x")
        assert us.wait(PATIENCE_S) == 130
    assert f"| {word} |" in report.read_text()
    _winapi.CloseHandle(event)


def test_the_tree_ends_with_endtask_that_is_killed(lab: Lab) -> None:
    """TerminateProcess on endtask: the job closes, and with it the tree ends, if the plan ends by force."""
    forced = Running(lab, "true", "--force-after", "60s")
    forced.process.kill()
    forced.target.wait_exit()
    polite = Running(lab, "true")
    polite.process.kill()
    polite.wait()
    assert polite.target.running, "force was not allowed"


def test_endtask_stops_an_endtask_that_runs_a_command(lab: Lab, tmp_path: Path) -> None:
    """From outside it is one polite request; the tree ends by its own plan."""
    running = Running(lab, "graceful")
    done = subprocess.run(
        [sys.executable, "-m", "endtask", "stop", "-v", str(running.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert running.target.wait_exit() == STOPPED_BY_ITSELF
    assert running.wait() == 143


# --------------------------------------------------------------------------- small parts


def test_ears_leave_nothing_behind() -> None:
    """After the block the process can be asked in its own way again, and the event has gone."""
    with open_pin(os.getpid()) as own:
        with Ears():
            assert stop_event.present(own.ref) is True
            with Ears() as second:  # the name is taken: it hears by the console alone
                assert second.limit_s is None
        assert stop_event.present(own.ref) is False


def test_a_plan_is_cut_to_the_time_that_is_left() -> None:
    """Every step gets the same part, and force still comes within the limit."""
    cut = within(policy_of(60.0, force=True), 4.0)
    assert (cut.budget_s, cut.steps[0].wait_s) == (4.0, 2.0)
    assert cut.steps[-1].request.forced
    assert within(policy_of(2.0, force=False), 4.0) == policy_of(2.0, force=False)
    rest = later(make_policy(plan="ctrl-c/3/wm-close/5", signals=False), 1.0)
    assert [s.wait_s for s in rest.steps] == [2.0, 5.0]
    assert later(policy_of(2.0, force=False), 5.0).budget_s == 0.0
