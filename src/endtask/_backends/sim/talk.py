"""Conversations with simulated programs: what a receiver says and hears, without a socket.

A program that is suspended says nothing and is not greeted until it runs again. Its end, and that of our own process, end the conversation.
"""

from __future__ import annotations

import json

from endtask._backends.sim.process import CHANNEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.sim.backend import SimBackend
    from endtask._backends.sim.handles import SimWaiter
    from endtask._backends.sim.process import Process
    from endtask._backends.sim.spec import Op

_PIECE = 1 << 16
_GRACE_S = 10.0
_NEWS = ("tell", "need", "veto", "shield", "cleanup")


class SimConversation:
    """A connection to the receiver in a simulated process.

    Attributes:
        process: Whom it is with.
        news: Whether there is something that was not drained.
        drained: Kinds of the messages that were read, in order.
    """

    def __init__(self, backend: SimBackend, process: Process, waiter: SimWaiter) -> None:
        self.process = process
        self.news = False
        self.drained: list[str] = []
        self._backend = backend
        self._waiter = waiter
        self._came = bytearray()
        self._greeted = False
        self._hung_up = False
        self._closed = False
        process.talks.append(self)
        waiter.talks[self] = None
        backend.open_handles[self] = None
        if not process.block:
            self.greet()

    # ------------------------------------------------------------------ the application's side

    def greet(self) -> None:
        """Say who it is; once, when it comes to it."""
        if self._greeted or self._hung_up:
            return
        self._greeted = True
        process = self.process
        if self._backend.uid not in (0, process.uid):
            self.receive({"endtask": 1, "refused": {"text": "only the same user and root may ask"}})
            self.hang_up()
            return
        asked = bool(process.heard)
        about = {"pid": process.pid, "name": process.name, "grace_s": _GRACE_S, "left_s": 5.0 if asked else None}
        self.receive({"endtask": 1, "hello": {**about, "state": "asked" if asked else "running"}})
        if asked:
            self.receive({"heard": {"name": "SIGTERM", "channel": "signal", "ago_s": 0.5, "left_s": 5.0}})

    def receive(self, message: dict[str, object]) -> None:
        """Take a line of the application."""
        self.receive_raw(json.dumps(message).encode() + b"\n")

    def receive_raw(self, data: bytes) -> None:
        """Take anything of the application."""
        if not self._hung_up and not self._closed:
            self._came += data
            self.news = True

    def hang_up(self) -> None:
        """The application closes it, or ends."""
        self._hung_up = self.news = True

    # ------------------------------------------------------------------ our side

    @property
    def open(self) -> bool:
        return not self._closed

    def say(self, data: bytes) -> bool:
        backend = self._backend
        if self._closed or self._hung_up or backend.dead:
            return False
        message = json.loads(data)
        at = backend.now()
        for observer in backend.system.on_said:
            observer(self.process, message, at)
        if "request" in message:
            backend.note(self.process, CHANNEL)
            backend.system.post(self.process, CHANNEL)
        backend.tick()
        return True

    def drain(self) -> bytes:
        backend = self._backend
        backend.tick()
        if self._closed:
            return b""
        data = bytes(self._came[:_PIECE])
        del self._came[:_PIECE]
        for line in data.split(b"\n"):
            self.drained += [kind for kind in ("heard", *_NEWS) if line.startswith(b'{"%s"' % kind.encode())]
        self.news = bool(self._came)
        if self._hung_up and not self._came and not data:
            self.close()
        elif self._hung_up:
            self.news = True  # its end is still to be read
        return data

    def wait(self, timeout_s: float) -> bool:  # its programs say at once what they say, or not at all
        return self.news and not self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.news = False
            self._waiter.talks.pop(self, None)
            self._backend.open_handles.pop(self, None)
            if self in self.process.talks:
                self.process.talks.remove(self)


def speak(process: Process, op: Op) -> None:
    """Let a program say something to everybody who has connected: *who* is the word, *s* seconds, *n* a count."""
    for talk in list(process.talks):
        talk.greet()
        if op.who == "garbage":
            talk.receive_raw(b'{"tell": \x1b]0;no\x07}\n')
        elif op.who == "flood":
            talk.receive_raw(b'{"tell":{"text":"busy"}}\n' * 2000)
        elif op.who == "long":
            talk.receive_raw(b"x" * 100_000)
        elif op.who == "hang-up":
            talk.hang_up()
        elif op.who == "heard":
            talk.receive({"heard": {"name": "SIGTERM", "channel": "signal", "ago_s": 0.0, "left_s": 5.0}})
        elif op.who == "tell":
            talk.receive({"tell": {"text": "draining\x1b[2J", "done": op.n, "total": 15}})
        else:
            talk.receive({op.who: {"text": op.who, "seconds": op.s}})
