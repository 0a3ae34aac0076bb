"""Real servers on a socket of their own, clients that wait for an answer, gates that let them have it, and the proof that nothing is left over."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from tests.receiver.lab import LIMIT_S, Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self


def ends_whole(program: Program, status: int) -> list[str]:
    """Wait for the end of a program and of all that it has started; return what they have printed since.

    All of them hold the pipe that they print to, so its end is the end of the last one.

    Raises:
        AssertionError: Its status is another one, or somebody is left over.
    """
    assert status == program.process.wait(LIMIT_S), program.errors()
    assert program.process.stdout is not None
    fd, end, data = program.process.stdout.fileno(), time.monotonic() + LIMIT_S, program._rest
    program._rest = b""
    while True:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], "somebody is left over"
        more = os.read(fd, 65536)
        if not more:
            return data.decode().splitlines()
        data += more


def begun(program: Program, wait: Callable[[], object]) -> None:
    """Wait until a program is there; it is ended if it does not come so far."""
    try:
        wait()
    except BaseException:
        program.__exit__()
        raise


def ask(program: Program, number: int = signal.SIGTERM) -> None:
    """Send a signal, and wait until the program says that it has heard it: one that comes sooner would be the same one to the system.

    Another of its threads may be faster: what it says before that is left to be read.
    """
    program.send(number)
    others: list[str] = []
    try:
        while not (line := program.line()).startswith("heard"):
            others.append(line)
    finally:
        program._rest = "".join(f"{each}\n" for each in others).encode() + program._rest


class Gate:
    """A FIFO that a server waits on, in whatever way it can, until the test opens it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR)  # an open FIFO keeps what is in it

    def open(self) -> None:
        """Let whoever waits go on, and whoever comes later through; they all get a byte to read."""
        os.write(self._fd, b"!" * 64)

    def close(self) -> None:
        """Give it up; nobody is let through by that."""
        os.close(self._fd)


class Client:
    """One request on a connection of its own."""

    def __init__(self, where: str, path: str = "/") -> None:
        self.socket = connect(where)
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
        self._answer = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join(LIMIT_S)
        self.socket.close()

    def _read(self) -> None:
        try:
            while data := self.socket.recv(65536):
                self._answer += data
        except OSError as error:
            self._answer += f"[{type(error).__name__}]".encode()

    def answer(self) -> tuple[int, str]:
        """Wait for the answer; return its status, 0 if there was none, and its body."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "no answer, and no end of the connection"
        head, _, body = self._answer.partition(b"\r\n\r\n")
        words = head.split()
        return (int(words[1]) if len(words) > 1 else 0), body.decode()


def connect(where: str) -> socket.socket:
    """Connect to a server that is about to listen."""
    end = time.monotonic() + LIMIT_S
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_S)
        try:
            client.connect(where)
        except OSError:
            client.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)  # nobody tells when a socket begins to listen
        else:
            return client


def refused(where: str) -> bool:
    """Wait until nobody listens there any more; return whether that is so."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(where)
            except OSError:
                return True
        time.sleep(0.01)  # nobody tells when a socket is closed
    return False
