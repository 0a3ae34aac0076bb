"""A requester made of a socket and nothing else, so that no test of the receiver depends on the other half."""

from __future__ import annotations

import glob
import json
import os
import socket
from typing import TYPE_CHECKING

from .lab import LIMIT_S

if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self


def folder() -> str:
    """Return where the receivers of this user have their sockets, as the tests have it."""
    return os.path.join(os.environ["XDG_RUNTIME_DIR"], "endtask")


def path_of(pid: int, where: str = "") -> str:
    """Return the socket of a process.

    Raises:
        AssertionError: There is none, or more than one.
    """
    found = glob.glob(f"{where or folder()}/{pid}.*")
    assert len(found) == 1, found
    return found[0]


class Requester:
    """Talks to one receiver; a context manager."""

    def __init__(self, pid: int, path: str = "") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        self._rest = b""
        self._greeting: dict[str, object] = {"endtask": 1}
        try:
            self.socket.connect(path or path_of(pid))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send bytes; return whether somebody took them."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def say(self, **message: object) -> bool:
        greeting, self._greeting = self._greeting, {}
        return self.send(json.dumps(greeting | message).encode() + b"\n")

    def notice(self, left_s: float = 9.0, request: str = "TERM", reason: str = "deploy 12") -> None:
        """Say what belongs to a request, and wait until that is known."""
        self.say(notice={"left_s": left_s, "request": request, "reason": reason, "by": "a test"})
        assert self.until("noted")["noted"] == {"request": request}

    def ask(self, left_s: float = 9.0, reason: str = "deploy 12") -> None:
        self.say(request={"left_s": left_s, "reason": reason, "by": "a test"})

    def hear(self) -> dict[str, Any] | None:
        """Return the next message, None at the end."""
        while b"\n" not in self._rest:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def until(self, word: str) -> dict[str, Any]:
        """Return the next message with a word in it.

        Raises:
            AssertionError: It ends before.
        """
        heard = []
        while (message := self.hear()) is not None:
            if word in message:
                return message
            heard.append(message)
        raise AssertionError(f"no {word}; {heard}")

    def rest(self) -> list[dict[str, Any]]:
        """Return all messages up to the end."""
        return list(iter(self.hear, None))
