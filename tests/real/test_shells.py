"""Shells: a loop with a trap, pipelines, and wrappers that do or do not pass a signal on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.linux.children import REST

from . import programs
from .answers import pid_of
from .observer import PATIENCE_S, name_of, need, until

if TYPE_CHECKING:
    from .lab import Lab
    from .observer import Handle, Program

pytestmark = [pytest.mark.real, pytest.mark.slow]


# --------------------------------------------------------------------------- a loop with a trap


def test_a_bash_loop_runs_its_trap(lab: Lab) -> None:
    """The trap runs when the command of the loop has ended, so that one is asked too: in the second half of the step."""
    loop = programs.start_bash_loop(lab)

    report = lab.stop(loop.pid, "-t", "8s")

    assert report.outcome == "stopped"
    assert loop.returncode() == 3
    assert lab.read("data") == "clean\n"
    lab.nothing_left()


def test_a_bash_loop_alone_cannot_hear_and_the_report_says_why(lab: Lab) -> None:
    """Bash waits for its command before it runs a trap (bash(1), SIGNALS)."""
    loop = programs.start_bash_loop(lab)

    report = lab.stop(loop.pid, "--only", "-t", "500ms")

    assert report.outcome == "running"
    assert "shell-trap" in report.codes()
    sleep = lab.handle(programs.wait_for_child(lab, loop.pid, "sleep"))
    sleep.send(signal.SIGTERM)  # what the report says would help
    assert loop.returncode() == 3
    assert lab.read("data") == "clean\n"


def test_what_a_loop_starts_again_in_a_subshell_came_back(lab: Lab) -> None:
    """The parent of the command, a subshell, ends with it; the loop above goes on, and that is who is watched."""
    loop = lab.start(need("bash"), lab.write("loop.sh", "echo ready\nwhile :; do (sleep 600; true); done\n"))
    loop.expect(b"ready")
    sleep = programs.wait_for_child(lab, programs.wait_for_child(lab, loop.pid, "bash"), "sleep")

    report = lab.stop(sleep, "--watch", "30s")

    assert (report.outcome, report.code) == ("respawned", 11)
    respawn = report.target["respawn"]
    assert respawn is not None
    assert respawn["next"] == f"`endtask stop {loop.pid}`"


def test_what_a_program_starts_again_by_a_shell_came_back(lab: Lab) -> None:
    """The parent of the command, a shell with `-c`, ends with it; its own parent starts both again."""
    code = "import subprocess\nwhile True: subprocess.run(['sh', '-c', 'sleep 600; true'])"
    runner = lab.start(sys.executable, "-c", code)
    sleep = programs.wait_for_child(lab, programs.wait_for_child(lab, runner.pid, "sh"), "sleep")

    report = lab.stop(sleep, "--watch", "30s")

    assert (report.outcome, report.code) == ("respawned", 11)
    respawn = report.target["respawn"]
    assert respawn is not None
    assert respawn["next"] == f"stop {runner.pid} first: `endtask stop {runner.pid}`"


_WAITING = """
trap 'echo clean >"$1"; exit 3' TERM
echo ready
while :; do sleep 600 & wait; done
"""


def test_a_shell_that_waits_for_a_background_command_runs_its_trap_at_once(lab: Lab) -> None:
    """A trapped signal ends the `wait` of the shell (POSIX, 2.11 Signals and Error Handling); what it leaves behind is asked too."""
    shell = lab.start(need("sh"), lab.write("waiting.sh", _WAITING), lab.path("data"))
    shell.expect(b"ready")
    programs.wait_for_child(lab, shell.pid, "sleep")

    report = lab.stop(shell.pid, "-t", "50s")

    assert report.outcome == "stopped"
    assert report.wall_s < 25
    assert shell.returncode() == 3
    assert lab.read("data") == "clean\n"
    lab.nothing_left()


# --------------------------------------------------------------------------- a pipeline

_FIRST = """
import os, signal, sys
log = open(sys.argv[1], "w")
def heard(number, frame):
    log.write("TERM\\n"); log.close(); os._exit(5)
signal.signal(signal.SIGTERM, heard)
number = 0
try:
    while True:
        os.write(1, b"%d\\n" % number)
        number += 1
except BrokenPipeError:
    log.write("pipe\\n"); log.close(); os._exit(6)
"""

_LAST = """
import os, signal, sys
log = open(sys.argv[1], "w")
count = 0
def heard(number, frame):
    log.write("TERM\\n"); log.close(); os._exit(5)
signal.signal(signal.SIGTERM, heard)
for line in sys.stdin:
    if line.endswith("\\n"):
        assert int(line) == count, (line, count)
        if not count:
            os.write(2, b"ready\\n")  # then the one that writes is ready too
        count += 1
log.write(f"end of {'many' if count else 'no'} lines in order\\n"); log.close()
"""


class Pipeline:
    """`first | cat | last` below a bash that waits for it.

    Attributes:
        shell: The bash.
        first, middle, last: Our handles on the three.
    """

    def __init__(self, lab: Lab, *, jobs: bool = False) -> None:
        bash = need("bash")
        first = f"{sys.executable} {lab.write('first.py', _FIRST)} {lab.path('first')}"
        last = f"{sys.executable} {lab.write('last.py', _LAST)} {lab.path('last')}"
        line = f"{first} | cat | {last}"
        # With job control every pipeline is a process group of its own, as in a terminal.
        script = f"set -m; {line} & wait; echo over" if jobs else f"{line}; echo over"
        self.shell: Program = lab.start(bash, "-c", script)
        self.shell.expect(b"ready")
        self.middle: Handle = lab.handle(programs.wait_for_child(lab, self.shell.pid, "cat"))
        others = [pid for pid in lab.children(self.shell.pid) if pid != self.middle.pid]
        by_script = {_script_of(pid): lab.handle(pid) for pid in others}
        self.first: Handle = by_script["first.py"]
        self.last: Handle = by_script["last.py"]


def _script_of(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return os.path.basename(file.read().split(b"\0")[1].decode())


def test_one_program_of_a_pipeline_is_stopped_and_the_others_are_not_asked(lab: Lab) -> None:
    """The others share its group, its session and its pipes, and are none of its own: they end by the pipe, as pipelines do."""
    pipeline = Pipeline(lab)

    report = lab.stop(pipeline.middle.pid)

    assert report.outcome == "stopped"
    assert [pid_of(m["ref"]) for m in report.target["members"]] == [pipeline.middle.pid]
    assert pipeline.first.wait()
    assert pipeline.last.wait()
    assert lab.read("first") == "pipe\n"
    assert lab.read("last") == "end of many lines in order\n"
    assert pipeline.shell.returncode() == 0  # the status of the last one


def test_the_first_of_a_pipeline_is_stopped_and_the_rest_ends_by_itself(lab: Lab) -> None:
    """What was written arrives."""
    pipeline = Pipeline(lab)

    report = lab.stop(pipeline.first.pid)

    assert report.outcome == "stopped"
    assert lab.read("first") == "TERM\n"
    assert pipeline.last.wait()
    assert lab.read("last") == "end of many lines in order\n"


def test_a_pipeline_without_its_shell_is_no_part_of_one_of_its_programs(lab: Lab) -> None:
    """All three are orphans that share pipes: that is a suspicion, and it is over when the pipe has ended the others."""
    first = f"{sys.executable} {lab.write('first.py', _FIRST)} {lab.path('first')}"
    last = f"{sys.executable} {lab.write('last.py', _LAST)} {lab.path('last')}"
    shell = lab.start(need("bash"), "-c", f"{first} | cat | {last} &")
    shell.expect(b"ready")
    assert shell.returncode() == 0
    (middle,) = (pid for pid in lab.living() if name_of(pid) == "cat")

    report = lab.stop(middle)

    assert report.outcome == "stopped"
    assert [pid_of(m["ref"]) for m in report.target["members"]] == [middle]
    until(lambda: not lab.living())
    assert lab.read("first") == "pipe\n"
    assert lab.read("last") == "end of many lines in order\n"


def test_the_group_of_a_pipeline_is_stopped_whole(lab: Lab) -> None:
    """`--group` means all three, and not the shell that started them."""
    pipeline = Pipeline(lab, jobs=True)

    report = lab.stop(pipeline.middle.pid, "--group")

    assert report.outcome == "stopped"
    assert {pid_of(m["ref"]) for m in report.target["members"]} == {
        pipeline.first.pid,
        pipeline.middle.pid,
        pipeline.last.pid,
    }
    assert all(h.ended for h in (pipeline.first, pipeline.middle, pipeline.last))
    # Whoever is asked later may have been told by its pipe before: that race is the pipeline's own, and each end of it is a clean one.
    assert set(lab.read("first").split("\n")) - {""} in ({"TERM"}, {"pipe"}, {"pipe", "TERM"})
    done = "end of many lines in order"
    assert set(lab.read("last").split("\n")) - {""} in ({"TERM"}, {done}, {done, "TERM"})
    asked = {r["request"] for m in report.target["members"] for r in m["receipts"] if r["status"] == "delivered"}
    assert asked == {"TERM"}
    pipeline.shell.expect(b"over")
    assert pipeline.shell.returncode() in (0, 127)
    lab.nothing_left()


def test_a_daemon_that_somebody_else_starts_does_not_spoil_a_stop(lab: Lab) -> None:
    """It is an orphan, younger than the target, and of the same user with nearly the same environment, as all of a login session are."""
    target = lab.start(need("sleep"), "600", env={"OF": "the target"})
    stranger = lab.start(need("sh"), "-c", "setsid sleep 601 & echo started", env={"OF": "somebody else"})
    stranger.expect(b"started")
    assert stranger.returncode() == 0
    (daemon,) = until(lambda: [pid for pid in lab.living() if pid != target.pid and name_of(pid) == "sleep"])

    report = lab.stop(target.pid)

    assert report.outcome == "stopped"
    assert daemon in lab.living()


# --------------------------------------------------------------------------- wrappers

# A child that tells how it ended: by the request itself, or not at all.
_CHILD = f"""
import os, signal, sys
{REST}
def heard(number, frame):
    open(sys.argv[1], "w").write("TERM")
    os._exit(7)
signal.signal(signal.SIGTERM, heard)
# script(1) hands TERM on and closes the terminal at once: its HUP must not end the program before its handler has run.
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(2, b"ready\\n")
rest()
"""


def _commands(lab: Lab) -> dict[str, list[str]]:
    child = [sys.executable, lab.write("child.py", _CHILD), lab.path("child")]
    line = " ".join(child)
    return {
        "sh": ["sh", "-c", f"{line}; echo after"],
        "bash": ["bash", "-c", f"{line}; echo after"],
        "timeout": ["timeout", "600", *child],
        "make": ["make", "-f", lab.write("Makefile", f"all:\n\t@{line}\n")],
        "strace": ["strace", "-f", "-qq", "-e", "trace=none", *child],
        # With SHELL unset it uses sh, which stays between (dash) unless it is told to be replaced.
        "script": ["script", "-q", "-c", f"exec {line}", "/dev/null"],
        "script of a shell": ["script", "-q", "-c", f"{line}; echo after", "/dev/null"],
        "sudo": ["sudo", "-n", *child],
        "flock": ["flock", lab.path("lock"), *child],
        "xargs": ["xargs", *child],
        "setsid": ["setsid", "--fork", "--wait", *child],
    }


# Whether TERM to the wrapper reaches the program, as seen with these versions.
_PASSES: dict[str, bool] = {
    "sh": False,
    "bash": False,
    "timeout": True,
    "make": True,
    "strace": True,
    "script": True,
    "script of a shell": False,
    "sudo": True,
    "flock": False,
    "xargs": False,
    "setsid": False,
}


def _start_wrapped(lab: Lab, name: str) -> tuple[Program, Handle]:
    command = _commands(lab)[name]
    need(command[0])
    if name == "sudo" and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs `sudo` without a password: not allowed here")
    wrapper = lab.start(*command)
    wrapper.expect(b"ready")
    child = next(p for p in lab.living() if _runs_child(p))
    return wrapper, lab.handle(child)


def _runs_child(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    return words[0] == sys.executable.encode()


@pytest.mark.parametrize("name", _PASSES)
def test_look_says_whether_a_wrapper_passes_the_request_on(lab: Lab, name: str) -> None:
    """What is claimed about a wrapper is what it does; unknown is allowed, a wrong claim is not."""
    wrapper, child = _start_wrapped(lab, name)
    claimed = lab.look(wrapper.pid).seen["forecast"]["passes_on"]

    wrapper.send(signal.SIGTERM)
    if _PASSES[name]:
        assert child.wait()
        assert lab.read("child") == "TERM"
    else:
        assert wrapper.wait()
        assert not child.ended

    assert claimed in (None, _PASSES[name])


@pytest.mark.parametrize("name", _PASSES)
def test_a_wrapper_is_stopped_with_what_it_wraps(lab: Lab, name: str) -> None:
    """Whatever the wrapper does, the program is asked by TERM, and nothing is left."""
    wrapper, child = _start_wrapped(lab, name)

    report = lab.stop(wrapper.pid, "-t", "8s")

    assert report.outcome == "stopped"
    assert child.ended
    assert lab.read("child") == "TERM"
    lab.nothing_left()


@pytest.mark.parametrize("name", ["sh", "bash"])
def test_look_names_the_program_behind_a_shell(lab: Lab, name: str) -> None:
    """A shell that only runs one program is not the one to ask."""
    wrapper, child = _start_wrapped(lab, name)

    forecast = lab.look(wrapper.pid).seen["forecast"]

    assert forecast["ask_instead"] == child.pid
    report = lab.stop(child.pid)
    assert report.outcome == "stopped"
    wrapper.expect(b"after")
    assert wrapper.wait()


_SERVER = """
require('net').createServer().listen(0, '127.0.0.1', function () { console.log('port', this.address().port); });
"""


def _start_npm(lab: Lab) -> tuple[Program, int]:
    npm = need("npm")
    need("node")
    lab.write("package.json", '{"name": "t", "version": "1.0.0", "scripts": {"start": "node server.js"}}')
    lab.write("server.js", _SERVER)
    home = {"npm_config_cache": lab.path("cache"), "HOME": lab.home}
    wrapper = lab.start(npm, "start", "--no-update-notifier", env=home)
    return wrapper, int(wrapper.expect(b"port ").split()[-1])


def test_npm_start_is_stopped_with_its_server(lab: Lab) -> None:
    """npm, a shell perhaps, and the server: all are gone and the port is free, whatever npm passes on."""
    wrapper, port = _start_npm(lab)

    report = lab.stop(wrapper.pid, "-t", "40s")

    assert report.outcome == "stopped"
    lab.nothing_left()
    assert lab.endtask("look", f":{port}").returncode == 1


def test_a_wrapper_around_npm_is_named_by_its_port(lab: Lab) -> None:
    """The holder of the port is the server, not npm: stopping it ends all three, and the port is free."""
    wrapper, port = _start_npm(lab)

    report = lab.stop(f":{port}", "-t", "40s")

    assert report.outcome == "stopped"
    assert report.target["name"] == "node"
    assert wrapper.wait(PATIENCE_S)
    lab.nothing_left()
