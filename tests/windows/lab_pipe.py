r"""Callers of the receiver's pipe that know nothing of endtask: the protocol as it is written down, byte by byte."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.windows.lab import NO_WINDOW, PATIENCE_S
from tests.windows.lab_security import security_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tests.windows.lab import Target

BUSY = 231  # ERROR_PIPE_BUSY
INSTANCES = 8
_IO_INCOMPLETE = 996
_GONE = (109, 232, 233)  # ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED


def pipe_of(target: Target) -> str:
    """Return the name of a process's pipe."""
    return rf"\\.\pipe\endtask.stop.{target.pid}.{target.created:016x}"


class Caller:
    """A connection that a test holds; a context manager."""

    def __init__(self, name: str) -> None:
        """Connect.

        Raises:
            OSError: There is no such pipe, or nobody is free there (BUSY).
        """
        access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
        self.handle = _winapi.CreateFile(name, access, 0, 0, _winapi.OPEN_EXISTING, _winapi.FILE_FLAG_OVERLAPPED, 0)
        self._writes: list[_winapi.Overlapped] = []
        self._rest = b""
        self._first = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Go away without a word."""
        handle, self.handle = self.handle, 0
        if handle:
            for each in self._writes:
                _settle(each)
            _winapi.CloseHandle(handle)

    def send(self, data: bytes) -> bool:
        """Send bytes; return whether somebody was there to take them. They may still be on their way."""
        try:
            self._writes.append(_winapi.WriteFile(self.handle, data, overlapped=True)[0])
        except OSError as error:
            if error.winerror not in _GONE:
                raise
            return False
        return True

    def say(self, **words: object) -> bool:
        """Send a message."""
        first = {"endtask": 1} if self._first else {}
        self._first = False
        return self.send(json.dumps({**first, **words}).encode() + b"\n")

    def hear(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind; what comes before it is not of interest.

        Raises:
            AssertionError: It ended, or nothing came.
        """
        while True:
            line = self.line()
            assert line, f"no {kind!r} before the end"
            said = json.loads(line)
            if kind in said:
                found: dict[str, Any] = said[kind]
                return found

    def line(self) -> bytes:
        """Return the next line, empty at the end.

        Raises:
            AssertionError: Nothing came.
        """
        while b"\n" not in self._rest:
            data = self._read()
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def ended(self) -> bool:
        """Wait for the end of the conversation; return whether it came."""
        try:
            while self.line():
                pass
        except AssertionError:
            return False
        return True

    def _read(self) -> bytes:
        try:
            reading = _winapi.ReadFile(self.handle, 65536, overlapped=True)[0]
            waited = _winapi.WaitForSingleObject(reading.event, int(PATIENCE_S * 1000))
            if waited != _winapi.WAIT_OBJECT_0:
                _settle(reading)
                raise AssertionError("nothing came")
            reading.GetOverlappedResult(False)
        except OSError as error:
            if error.winerror not in _GONE:
                raise
            return b""
        return bytes(reading.getbuffer() or b"")

    def security(self) -> str:
        """Return the owner and the access control list of the pipe, as SDDL."""
        return security_of(self.handle)


def _settle(operation: _winapi.Overlapped) -> None:
    try:
        operation.cancel()
        operation.GetOverlappedResult(True)
    except OSError:
        pass  # ignored: it had failed already


def call_and_stay(target: Target, line: bytes) -> subprocess.Popen[bytes]:
    """Start a process that connects, sends a line, says that it has, and stays until its standard input ends."""
    code = (
        "import sys; pipe = open(sys.argv[1], 'r+b', buffering=0); pipe.write(sys.argv[2].encode() + b'\\n');"
        "print('sent', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-I", "-S", "-c", code, pipe_of(target), line.decode()]
    caller = subprocess.Popen(words, creationflags=NO_WINDOW, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert caller.stdout is not None
    assert caller.stdout.readline().split() == [b"sent"]
    return caller
