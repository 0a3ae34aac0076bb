"""Real programs that listen: started from source text or from a file, read line by line, asked by signals, and ended whatever happens."""

from __future__ import annotations

import glob
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

_FORK = "is multi-threaded, use of fork() may lead to deadlocks in the child"
# Unbuffered, `print` writes a line and its end one after the other, and another process may write between the two.
_WHOLE_LINES = "import sys; sys.stdout and sys.stdout.reconfigure(line_buffering=True, write_through=False)\n"
LIMIT_S = float(
    os.environ.get("ENDTASK_LIMIT_S", "60")
)  # no test waits longer for anything; generous for loaded machines


class Program:
    """One running program; a context manager that leaves nothing behind."""

    def __init__(
        self,
        code: str | os.PathLike[str],
        *words: str,
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        stdin: int | None = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the program
        self._rest = b""
        what = ["-c", _WHOLE_LINES + textwrap.dedent(code)] if isinstance(code, str) else [os.fspath(code)]
        self.process = subprocess.Popen(
            [*prefix, python, "-X", "faulthandler", *what, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._errors.close()

    def line(self) -> str:
        """Return the next line that it prints.

        Raises:
            AssertionError: It ended, or said nothing.
        """
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        end = time.monotonic() + LIMIT_S
        while b"\n" not in self._rest:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"it said nothing in {LIMIT_S:g} s; {self.errors()}")
            data = os.read(fd, 65536)
            if not data:
                raise AssertionError(
                    f"it has ended with {self.process.wait()}; it said {self._rest!r}; {self.errors()}"
                )
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def expect(self, *lines: str) -> None:
        """Read lines, which must be these."""
        for wanted in lines:
            got = self.line()
            assert wanted == got, f"{self.errors()}"

    def send(self, number: int = signal.SIGTERM) -> float:
        """Send a signal, and return when."""
        at = time.monotonic()
        self.process.send_signal(number)
        return at

    def settle(self) -> None:
        """Wait until its main thread sleeps, or has computed for a while: it is in the call that the test is about.

        Raises:
            AssertionError: It does neither.
        """
        end, asleep, began = time.monotonic() + LIMIT_S, 0, None
        while time.monotonic() < end:
            with open(f"/proc/{self.pid}/task/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            began = ticks if began is None else began
            asleep = asleep + 1 if fields[0] == "S" else 0
            if asleep == 5 or ticks - began > 20:
                return
            time.sleep(0.01)  # nobody tells when a process falls asleep
        raise AssertionError("it neither sleeps nor computes")

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end.

        Returns:
            Its status as `subprocess` tells it, and the lines that it has printed since.
        """
        status = self.process.wait(LIMIT_S)
        assert self.process.stdout is not None
        rest = self._rest + self.process.stdout.read()
        return status, rest.decode().splitlines()

    def errors(self) -> str:
        """Return what it has written to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().splitlines(keepends=True)
        if sys.version_info[:2] == (3, 13):  # it counts threads after a fork, when ours runs again: see _fork
            lines = [a for a, b in zip(lines, ["", *lines], strict=False) if _FORK not in a and _FORK not in b]
        return "".join(lines)

    def ends(self, status: int, *lines: str) -> None:
        """Wait for its end, which must be this, without a word on standard error."""
        assert (status, list(lines)) == self.end(), self.errors()
        assert self.errors() == ""


def proc_status(pid: int, field: str) -> int:
    """Return a mask of signals out of `/proc/PID/status`."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1], 16)
    raise AssertionError(field)


MINORS = range(9, 15)


def interpreter(minor: int) -> str:
    """Return an interpreter of Python 3.*minor*; skips the test, with the reason, where there is none."""
    if minor == sys.version_info[1]:
        return sys.executable
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    wanted = [*sorted(glob.glob(f"{root}/versions/3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}") or ""]
    for path in wanted:
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"there is no Python 3.{minor} here")


def folder_of_the_receiver() -> str:
    """Return the folder from which the receiver is imported in these tests."""
    import endtask_receiver

    return os.path.dirname(os.path.dirname(endtask_receiver.__file__))
