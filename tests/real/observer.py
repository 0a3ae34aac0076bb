"""The observer: its own view of the process table, its own handles, the pipes and ports of the programs.

Nothing here uses endtask's own code, so that a report is compared with something that cannot share its mistakes.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

T = TypeVar("T")
PATIENCE_S = 60.0  # how long a test waits for what must come; only a failing test ever waits that long
# Where Debian keeps servers: not in an ordinary user's PATH, and PostgreSQL's in a folder of its own.
MORE_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin", os.path.dirname(sys.executable))


def need(program: str, folders: Sequence[str] = ()) -> str:
    """Return the path of *program*, or skip the test and name it."""
    path = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *MORE_FOLDERS, *folders)))
    if path is None:
        pytest.skip(f"needs `{program}`: not installed (tools/install-test-programs)")
    return path


def until(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Wait for what no handle, pipe or line tells, and return it; only where nothing better exists."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        select.select([], [], [], 0.01)
    return value


# --------------------------------------------------------------------------- the process table


class Process(NamedTuple):
    """One line of the process table as the observer reads it."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    start: int


def read_process(pid: int) -> Process | None:
    """Return the line of *pid*, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None  # ignored: it has gone
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19]))


def processes() -> dict[int, Process]:
    """Return the process table."""
    table = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {row.pid: row for row in table if row is not None}


def name_of(pid: int) -> str:
    """Return the short name of *pid*, empty if there is none."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""  # ignored: it has gone


def link_of(path: str) -> str:
    """Return where a link leads, empty if it cannot be read."""
    try:
        return os.readlink(path)
    except OSError:
        return ""  # ignored: gone, or not ours to read


def environment_of(pid: int) -> bytes:
    """Return the environment that a process started with, empty if it cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""  # ignored: gone, or not ours to read


class Handle:
    """The observer's own pidfd."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    @property
    def token(self) -> str:
        """The number by which the kernel tells this process from a later one with its pid (pidfs, kernel 6.9)."""
        return str(os.fstat(self.fd).st_ino)

    def wait(self, timeout_s: float = PATIENCE_S) -> bool:
        """Return whether it ends in time."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.wait(0)

    def send(self, number: int) -> None:
        """Send a signal, past endtask."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


# --------------------------------------------------------------------------- programs


class Output:
    """What a program prints: read as it comes, kept, and waited for by content."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._seen = 0
        self.text = b""

    def _read(self, timeout_s: float) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(timeout_s * 1000):
            return False
        chunk = os.read(self._fd, 1 << 16)
        self.text += chunk
        return bool(chunk)

    def expect(self, word: bytes, timeout_s: float = PATIENCE_S) -> bytes:
        """Return the next line with *word* in it; what came before is passed over."""
        deadline = time.monotonic() + timeout_s
        while True:
            place = self.text.find(word, self._seen)
            end = self.text.find(b"\n", place)
            if place >= 0 and end >= 0:
                self._seen = end + 1
                return self.text[self.text.rfind(b"\n", 0, place) + 1 : end]
            if not self._read(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"no {word!r} in the output:\n{self.text.decode(errors='replace')}")

    def rest(self, timeout_s: float = PATIENCE_S) -> bytes:
        """Return everything until the last writer has closed its end."""
        deadline = time.monotonic() + timeout_s
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self.text

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._fd)


class Program(Handle):
    """A real program, started by the test and reaped as soon as it ends, as its usual parent would."""

    def __init__(self, popen: subprocess.Popen[bytes], output: Output) -> None:
        super().__init__(popen.pid)
        self.popen = popen
        self.output = output
        self._reaper = threading.Thread(target=popen.wait, daemon=True)
        self._reaper.start()

    def returncode(self, timeout_s: float = PATIENCE_S) -> int:
        """Return how it ended as `subprocess` tells: the status, or minus the signal."""
        self._reaper.join(timeout_s)
        assert self.popen.returncode is not None, "it has not ended"
        return self.popen.returncode

    def expect(self, word: bytes) -> bytes:
        """Wait for a line of its output."""
        return self.output.expect(word)

    def close(self) -> None:
        """Let go of everything; the process has ended."""
        self._reaper.join(PATIENCE_S)
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.output.close()
        super().close()


class Gate:
    """A door on a loopback port that a request in flight waits at: the test knows when it has come, and lets it pass."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self.port: int = self._listener.getsockname()[1]
        self._guest: socket.socket | None = None

    def arrived(self) -> None:
        """Wait until somebody is at the door, and until the first of what he says has come."""
        self._guest, _address = self._listener.accept()
        self._guest.settimeout(PATIENCE_S)
        self._guest.recv(1 << 16)

    def open(self, words: bytes = b"pass\n") -> None:
        """Let him pass."""
        assert self._guest is not None
        self._guest.sendall(words)
        self._guest.close()
        self._guest = None

    def close(self) -> None:
        """Take the door away."""
        if self._guest is not None:
            self._guest.close()
        self._listener.close()


class Client:
    """One request to a server on loopback; an answer that was cut shows as such."""

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.sendall(request)

    @classmethod
    def get(cls, port: int, path: str) -> Client:
        """Ask for *path* by HTTP/1.0."""
        return cls(port, f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())

    def answer(self) -> bytes:
        """Return everything until the server closes; a reset counts as a close."""
        received = b""
        with self._socket:
            while True:
                try:
                    chunk = self._socket.recv(1 << 16)
                except ConnectionResetError:
                    return received
                if not chunk:
                    return received
                received += chunk

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(PATIENCE_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0
