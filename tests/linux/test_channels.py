"""Requests of every kind through the backend: signals, text for the standard input, commands."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux.backend import LinuxBackend
from endtask.errors import UnsupportedRequestError
from endtask.model import Request
from tests.linux.children import PATIENCE_S, eventually, python, refusal
from tests.linux.old_kernel import output, script, without_pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

_TERM = Request("TERM", "signal", signal.SIGTERM)
_KILL = Request("KILL", "signal", signal.SIGKILL, "", forced=True)
_QUIT = Request("stdin:q", "stdin", 0, "q\n")
_READER = "ready()\nready(sys.stdin.readline().strip())\nsignal.pause()"
_NO_FILTER = refusal(without_pidfds(["true"]))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def backend() -> Iterator[LinuxBackend]:
    """Yield a backend."""
    made = LinuxBackend()
    yield made
    made.close()


# --------------------------------------------------------------------------- signals


def test_send_signal_is_delivered(backend: LinuxBackend) -> None:
    """The receipt says when, and needs no words."""
    with python("ready(); signal.pause()") as child, backend.pin(child.pid) as pin:
        receipt = backend.send(pin, _TERM, 1.25)
        assert (receipt.request, receipt.status, receipt.at_s, receipt.detail) == ("TERM", "delivered", 1.25, "")
        assert child.popen.wait(PATIENCE_S) == -signal.SIGTERM
        assert backend.exited(pin)


def test_send_to_the_reaped_is_gone(backend: LinuxBackend) -> None:
    """There was nobody."""
    process = subprocess.Popen(["true"])
    with backend.pin(process.pid) as pin:
        process.wait()
        assert backend.send(pin, _TERM, 0.0).status == "gone"
        assert backend.send(pin, _QUIT, 0.0).status == "gone"
        assert backend.send(pin, Request("cmd:true", "command", 0, "true"), 0.0).status == "gone"


def test_send_force_to_a_zombie_is_gone_not_forced(backend: LinuxBackend) -> None:
    """The kernel takes KILL for a zombie; to call that forced would be a lie."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with backend.pin(process.pid) as pin:
        assert backend.send(pin, _KILL, 0.0).status == "gone"
    process.wait()


@needs_root
@pytest.mark.needs_root
def test_send_to_another_users_process_is_denied_with_what_it_needs() -> None:
    """Denied is neither gone nor delivered, for signals and for text."""
    with python(_READER) as child:
        code = f"""
        from endtask._backends.linux.backend import LinuxBackend
        from endtask._backends.linux import channels
        from endtask.model import Request
        backend = LinuxBackend()
        become_nobody()
        with backend.pin({child.pid}) as pin:
            for request in (Request("TERM", "signal", 15), Request("stdin:q", "stdin", 0, "q")):
                receipt = backend.send(pin, request, 0.0)
                print(receipt.status, receipt.detail)
        """
        first, second = output(script(code))
    assert first == "denied not permitted: needs the same user as the process, or CAP_KILL"
    assert second.startswith("denied ")
    assert "CAP_SYS_PTRACE" in second


def test_send_unknown_signal_has_failed(backend: LinuxBackend) -> None:
    """A number that no signal has is an error of the request."""
    with backend.pin(os.getpid()) as pin:
        receipt = backend.send(pin, Request("999", "signal", 999), 0.0)
    assert receipt.status == "failed"
    assert "999" in receipt.detail


def test_send_unknown_kind_is_unsupported(backend: LinuxBackend) -> None:
    """Nothing is sent, and nothing stronger."""
    with backend.pin(os.getpid()) as pin, pytest.raises(UnsupportedRequestError):
        backend.send(pin, Request("wm-close", "window"), 0.0)


@pytest.mark.skipif(bool(_NO_FILTER), reason=f"no seccomp filter can be set here: {_NO_FILTER}")
def test_send_on_an_old_kernel_says_that_it_was_not_exact() -> None:
    """The receipt tells that identity and signal were two calls."""
    code = """
    from endtask._backends.linux.backend import LinuxBackend
    from endtask.model import Request
    backend = LinuxBackend()
    pid, pipe = child()
    with backend.pin(pid) as pin:
        receipt = backend.send(pin, Request("TERM", "signal", 15), 0.0)
        print(receipt.status, pin.exact, receipt.detail)
    print(os.waitpid(pid, 0)[1])
    """
    receipt, status = output(without_pidfds(script(code)))
    assert receipt.startswith("delivered False kill(2) right after its start time (t")
    assert status == "15"


# --------------------------------------------------------------------------- standard input


def test_stdin_pipe_gets_the_text(backend: LinuxBackend) -> None:
    """What is asked for arrives, and the pipe of the one who holds it stays open."""
    with python(_READER) as child, backend.pin(child.pid) as pin:
        receipt = backend.send(pin, _QUIT, 2.0)
        assert (receipt.request, receipt.status, receipt.at_s) == ("stdin:q", "delivered", 2.0)
        assert child.read_line() == b"q\n"


def test_stdin_fifo_gets_the_text(backend: LinuxBackend, tmp_path: Path) -> None:
    """A named pipe is as good."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=fd) as process:
        with backend.pin(process.pid) as pin:
            assert backend.send(pin, _QUIT, 0.0).status == "delivered"
        assert process.wait(PATIENCE_S) == 0
    os.close(fd)


def _refused(backend: LinuxBackend, stdin: int) -> str:
    with subprocess.Popen(["sleep", "100"], stdin=stdin) as process, backend.pin(process.pid) as pin:
        receipt = backend.send(pin, _QUIT, 0.0)
        process.kill()
    assert receipt.status == "impossible", receipt
    return receipt.detail


def test_stdin_that_is_no_pipe_is_impossible(backend: LinuxBackend, tmp_path: Path) -> None:
    """A terminal belongs to a person, a file answers nobody, a socket may lead anywhere: each is named, none is written to."""
    ours, theirs = pty.openpty()
    assert "terminal" in _refused(backend, theirs)
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    assert "/dev/null" in _refused(backend, subprocess.DEVNULL)
    file = tmp_path / "file"
    with file.open("w+b") as stream:
        assert "a file" in _refused(backend, stream.fileno())
        assert file.read_bytes() == b""
    left, right = socket.socketpair()
    with left, right:
        assert "a socket" in _refused(backend, right.fileno())


def test_stdin_closed_is_impossible(backend: LinuxBackend) -> None:
    """Whoever has closed it hears nothing there."""
    with python("os.close(0); ready(); signal.pause()") as child, backend.pin(child.pid) as pin:
        receipt = backend.send(pin, _QUIT, 0.0)
    assert receipt.status == "impossible"
    assert "closed" in receipt.detail


def test_stdin_full_has_failed_at_once(backend: LinuxBackend) -> None:
    """A program that does not read makes nobody wait."""
    with python("ready(); signal.pause()") as child, backend.pin(child.pid) as pin:
        assert child.popen.stdin is not None
        fd = child.popen.stdin.fileno()
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(fd, b"x" * 4096):
                pass
        receipt = backend.send(pin, _QUIT, 0.0)
    assert receipt.status == "failed"
    assert "full" in receipt.detail


# --------------------------------------------------------------------------- commands


def test_command_runs_with_the_pid_in_its_words(backend: LinuxBackend, tmp_path: Path) -> None:
    """It gets words, no shell, and the receipt says what was started."""
    path = tmp_path / "a b"
    request = Request("cmd:...", "command", 0, f"sh -c 'echo $0 > \"$1\"' {{pid}} '{path}'")
    with python("ready(); signal.pause()") as child, backend.pin(child.pid) as pin:
        receipt = backend.send(pin, request, 3.0)
        assert (receipt.status, receipt.at_s) == ("delivered", 3.0)
        assert receipt.detail.startswith("started `sh -c ")
        eventually(lambda: path.exists() and path.read_text() == f"{child.pid}\n", "the command has written")


def test_command_has_no_terminal_and_pythons_signals_are_undone(backend: LinuxBackend, tmp_path: Path) -> None:
    """Its streams lead nowhere, it has a group of its own, and SIGPIPE is as everybody expects it."""
    path = tmp_path / "seen"
    script_ = 'readlink /proc/$$/fd/0 /proc/$$/fd/2 > "$0.x"; grep SigIgn /proc/$$/status >> "$0.x"; mv "$0.x" "$0"'
    with backend.pin(os.getpid()) as pin:
        assert backend.send(pin, Request("cmd", "command", 0, f"sh -c '{script_}' {path}"), 0.0).status == "delivered"
    eventually(path.exists, "the command has written")
    *links, ignored = path.read_text().splitlines()
    assert links == ["/dev/null"] * 2
    assert int(ignored.split()[1], 16) >> (signal.SIGPIPE - 1) & 1 == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [("/no/such/program {pid}", "No such file"), ("'open quote", "not a command"), ("/dev/null", "Permission denied")],
)
def test_command_that_cannot_run_has_failed(backend: LinuxBackend, text: str, why: str) -> None:
    """Not found, not allowed, not even words: said at once."""
    with backend.pin(os.getpid()) as pin:
        receipt = backend.send(pin, Request("cmd", "command", 0, text), 0.0)
    assert receipt.status == "failed"
    assert why in receipt.detail


def test_commands_that_have_ended_are_reaped(backend: LinuxBackend) -> None:
    """None stays behind as a zombie of ours."""
    with backend.pin(os.getpid()) as pin:
        backend.send(pin, Request("cmd", "command", 0, "true"), 0.0)
    commands = backend._commands
    assert commands is not None
    (pid,) = commands._pids
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    backend.close()
    assert commands._pids == []
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
