"""What is asked of a process, for the children that it forks (`listen(fork="forward")`).

Decision: a socket that gets one message and keeps it.
All children look at it without taking it (MSG_PEEK), so one message serves any number of them, also those that are forked later.
Its other end is only open in the parent, so its end is the parent's end, and no child outlives its parent by mistake.

The child hears TERM and the like itself; INT it ignores, because a terminal sends it to everybody, and the parent decides.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import select
import signal
import socket
import struct

from endtask_receiver import _fork
from endtask_receiver._request import StopRequest
from endtask_receiver._watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from endtask_receiver._stop import Stop

_ASKED = struct.Struct("=cd")  # and the deadline: the monotonic clock is the same for all processes of a system
_CLOSED = b"c"


class Forwarder:
    """The parent's end; no ear of its own, but it begins and ends with them."""

    previous: Mapping[int, object] = {}  # no signals

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self.stop: Stop  # from `start` on
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def start(self, stop: Stop) -> None:
        """Begin to pass on."""
        self.stop = stop
        stop.add_waker(self._tell)
        _fork.enter(self)

    def _tell(self) -> None:
        deadline = self.stop.deadline
        if deadline is not None:
            try:
                self._writer.send(_ASKED.pack(b"a", deadline))
            except OSError:
                pass  # ignored: it is full, so it has been said; or closed

    def close(self) -> None:
        """Let the children know that no more will come; that is no request."""
        _fork.leave(self)
        self.stop.remove_waker(self._tell)
        try:
            self._writer.send(_CLOSED)
        except OSError:
            pass  # ignored: there is a request before it
        self._reader.close()
        self._writer.close()

    def in_child(self) -> Callable[[], object]:
        """Give up the parent's end, and begin as a child."""
        self._writer.close()
        return self._follow

    def _follow(self) -> None:
        from endtask_receiver._posix import SignalEar

        if signal.SIGINT in self._numbers:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        numbers = tuple(n for n in self._numbers if n != signal.SIGINT)
        for ear in (SignalEar(numbers, watch=True), FollowEar(self._reader), Forwarder(self._numbers)):
            self.stop._attach(ear)

    def describe(self) -> tuple[str, ...]:
        """Return one line."""
        return ("forked children: hear what is asked of us",)


class FollowEar:
    """The child's end."""

    previous: Mapping[int, object] = {}  # no signals

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader
        self.watcher: Watcher | None = None
        self.stop: Stop  # from `start` on

    def start(self, stop: Stop) -> None:
        """Watch the parent's message."""
        self.stop = stop
        self.watcher = Watcher()
        self.watcher.add(self._reader.fileno(), select.POLLIN, self._on_message)
        self.watcher.start(stop, blocked=signal.valid_signals())
        _fork.enter(self)

    def _on_message(self, _events: int) -> bool:
        data = self._reader.recv(_ASKED.size, socket.MSG_PEEK)
        if data[:1] == _CLOSED:
            return False
        deadline, reason = None, "the parent has ended"
        if len(data) == _ASKED.size:
            deadline, reason = _ASKED.unpack(data)[1], "the parent was asked"
        self.stop._heard(StopRequest(self.stop._clock(), "parent", deadline, reason=reason))
        return False

    def close(self) -> None:
        """End the thread."""
        _fork.leave(self)
        if self.watcher is not None:
            self.watcher.close()
        self._reader.close()

    def in_child(self) -> None:
        """Give it up: our child follows us, not our parent."""
        if self.watcher is not None:
            self.watcher.forget()
            self.watcher = None
        self._reader.close()

    def describe(self) -> tuple[str, ...]:
        """Return one line."""
        return ("parent: what it is asked, and its end, is a request",)
