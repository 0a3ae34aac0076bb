"""The transport of the channel on POSIX systems: a socket with a file in a folder of ours, see `_channel_place`.

Decision: whoever connects is asked of the kernel, who it is (SO_PEERCRED, unix(7)); what it says about itself is not believed.
Only the same user and root may talk; the folder keeps the others from coming that far.

Decision: the thread that watches for signals anyway serves the connections too; where there is none, one of our own does.
Nothing here waits for a requester: what the kernel does not take at once is kept by the conversation, up to a bound.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import _socket
import atexit
import os
import select
import time
from _thread import allocate_lock

from endtask_receiver import _channel_place, _fork
from endtask_receiver._channel import NOT_ALLOWED, Channel
from endtask_receiver._channel_place import Place, Socket, elsewhere
from endtask_receiver._watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from endtask_receiver._channel_talk import Conversation
    from endtask_receiver._stop import Stop

_READ = 4096  # bytes at a time
_ACCEPTS = 16  # at a time; requests are heard in between
_CALLERS_MAX = 64  # in a second; more wait before the door, so that the application gets its share of the interpreter
_LAST_S = 0.2  # so long the end of the program waits to say its last words; a callback of the application may hold up the thread
_RETRY_S = 1.0  # the door stays shut when no descriptor was free, or too many came
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
_SO_NOSIGPIPE = 0x1022  # where there is no MSG_NOSIGNAL; <sys/socket.h> of macOS

_all: list[ChannelEar] = []  # of this process, whose name the socket has: one of them has it, the others join


class ChannelEar:
    """Hears requests that come by the channel, and tells requesters what becomes of them."""

    previous: Mapping[int, object] = {}  # no signals
    served = True  # by the thread of another ear

    def __init__(self) -> None:
        self.stop: Stop  # from `start` on
        self.watcher: Watcher | None = None  # of our own
        self._host: Watcher  # whose thread serves us
        self._channel: Channel | None = None
        self._owner: ChannelEar | None = None  # whom we have joined
        self._place: Place
        self._peers: dict[int, _Peer] = {}  # by descriptor
        self._said: list[str] = []
        self._retry_at: float | None = None  # when the door is opened again
        self._second = 0.0  # when the callers began that are counted
        self._callers = 0
        self._serving = allocate_lock()

    # ------------------------------------------------------------------ begin and end

    def start(self, stop: Stop) -> None:
        """Make the socket, and have a thread serve it; join another `listen` of this process if that has it already."""
        self.stop = stop
        self._said.clear()
        owner = next((each for each in _all if each._channel is not None), None)
        if owner is None:
            self._open()
        else:
            self._join(owner)

    def _open(self) -> None:
        stop = self.stop
        place, said = _channel_place.make()
        self._said += [f"channel: not used: {why}" for why in said]
        if place is None:
            self._said.append("channel: not heard, there is no place for its socket")
            return
        self._place = place
        self._channel = Channel(stop, self._wake)
        others = [getattr(ear, "watcher", None) for ear in stop._ears]
        self._host = next((each for each in others if each is not None), None) or self._own()
        self._enter()
        atexit.register(self._at_exit)
        stop._dying.append(self._remove)
        self._host.on_turn = self._turn
        self._host.add(place.socket.fileno(), select.POLLIN, self._on_door)
        self._host.poke()
        self._said.append(f"channel: {place.path}")
        place.sweep()

    def _join(self, owner: ChannelEar) -> None:
        """Hear and say the same as another `listen` of this process."""
        channel = owner._channel
        assert channel is not None, "looked at by `start`"
        self._owner = owner
        self._enter()
        channel.join(self.stop)
        self.stop._dying.append(owner._remove)
        self._said.append("channel: another `listen` of this process has it, and shares it")

    def _leave(self) -> None:
        """Undo `_join`."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        if owner._channel is not None:
            owner._channel.leave(self.stop)
        if owner._remove in self.stop._dying:
            self.stop._dying.remove(owner._remove)

    def _enter(self) -> None:
        if self not in _all:
            _all.append(self)
            _fork.enter(self)

    def _own(self) -> Watcher:
        self.watcher = Watcher()
        self.watcher.start(self.stop, blocked=_fork.every_signal())
        return self.watcher

    def _at_exit(self) -> None:
        """Say the last, while there still is an interpreter to do so, and let nobody in any more. Who talks to us may go on."""
        self._remove()
        channel = self._channel
        if channel is not None and self._serving.acquire(timeout=_LAST_S):
            self._say(channel, last=True)
            self._serving.release()

    def _remove(self) -> None:
        """Remove the file. Also before the process ends at once."""
        self._place.remove()

    def close(self) -> None:
        """Say the last, and end all conversations. Another `listen` that is still there has the channel from now on."""
        channel, self._channel = self._channel, None
        self._let_go()
        if channel is None:
            return
        if self.watcher is not None:
            self.watcher.close()
        self._remove()
        channel.close()
        for peer in tuple(self._peers.values()):
            peer.flush()
            self._drop(peer)
        self._place.close()
        for ear in _all[::-1]:
            ear._leave()
            ear.start(ear.stop)

    def in_child(self) -> None:
        """Hear nothing, in a forked child: file and conversations are its parent's."""
        channel, self._channel = self._channel, None
        self._let_go()
        self._said = ["channel: not heard, this is a forked child"]
        if channel is None:
            return
        if self.watcher is not None:
            self.watcher.forget()
            self.watcher = None
        channel.forget()
        for peer in self._peers.values():
            peer.socket.close()
        self._peers.clear()
        self._place.close()

    def _let_go(self) -> None:
        self._leave()
        _fork.leave(self)
        if self in _all:
            _all.remove(self)
        atexit.unregister(self._at_exit)
        if self._remove in self.stop._dying:
            self.stop._dying.remove(self._remove)

    def describe(self) -> tuple[str, ...]:
        """Return where it listens, or why not."""
        return tuple(self._said)

    # ------------------------------------------------------------------ in the thread that serves

    def _wake(self) -> None:
        self._host.poke()

    def _turn(self) -> float | None:
        """Say what is new; return when to look again."""
        channel = self._channel
        if channel is None:
            return None
        with self._serving:
            self._say(channel)
        waits = [channel.due_s()]
        if self._retry_at is not None:
            waits.append(self._retry_at - time.monotonic())
            if self._retry_at <= time.monotonic():
                self._retry_at = None
                self._host.add(self._place.socket.fileno(), select.POLLIN, self._on_door)
        return min((max(each, 0.0) for each in waits if each is not None), default=None)

    def _say(self, channel: Channel, *, last: bool = False) -> None:
        channel.pump(last=last)
        for peer in tuple(self._peers.values()):
            self._settle(peer)

    def _on_door(self, _events: int) -> bool:
        """Let in who has connected."""
        for _ in range(_ACCEPTS):
            if self._channel is None or self._too_many():
                return False
            try:
                fd, _address = self._place.socket._accept()  # type: ignore[attr-defined]  # typeshed does not tell
                caller = elsewhere(Socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd))
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return True
            except OSError:  # no descriptor is free; the door would be reported as open again and again
                self._retry_at = time.monotonic() + _RETRY_S
                return False
            self._callers += 1
            with self._serving:
                self._admit(self._channel, caller)
        return True

    def _too_many(self) -> bool:
        """Say whether so many have come in this second that the next ones have to wait."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._callers = now, 0
        if self._callers < _CALLERS_MAX:
            return False
        self._retry_at = self._second + _RETRY_S
        return True

    def _admit(self, channel: Channel, socket: Socket) -> None:
        try:
            socket.setblocking(False)
            if not _NO_SIGNAL:
                socket.setsockopt(_socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
            pid, uid = _credentials(socket)
        except OSError:
            socket.close()  # it is gone already
            return
        refuse = "" if uid in {os.geteuid(), 0} else NOT_ALLOWED
        conversation = channel.open(pid or None, uid, refuse)
        if conversation is None:
            # Some may be gone without our knowledge: we have not been at `poll` since.
            for peer in tuple(self._peers.values()):
                peer.read()
                self._settle(peer)
            conversation = channel.open(pid or None, uid, refuse)
        if conversation is None or self._channel is None:  # one of them has asked, and whoever that woke has closed us
            socket.close()
            return
        peer = _Peer(socket, conversation)
        self._peers[socket.fileno()] = peer
        self._settle(peer)

    def _on_peer(self, peer: _Peer, events: int) -> bool:
        with self._serving:
            if events & (select.POLLIN | _GONE):
                peer.read()
            self._settle(peer)
        return peer.fd in self._peers

    def _settle(self, peer: _Peer) -> None:
        """Send what waits, and see to it that we hear of what comes next."""
        peer.flush()
        if peer.conversation.over:
            self._drop(peer)
            return
        events = select.POLLIN | (select.POLLOUT if peer.conversation.out else 0)
        if events != peer.events:
            peer.events = events
            self._host.add(peer.fd, events, lambda got: self._on_peer(peer, got))

    def _drop(self, peer: _Peer) -> None:
        if self._peers.pop(peer.fd, None) is not None:
            self._host.remove(peer.fd)
            peer.conversation.lost()
            peer.socket.close()


class _Peer:
    """A connection."""

    __slots__ = ("conversation", "events", "fd", "socket")

    def __init__(self, socket: Socket, conversation: Conversation) -> None:
        self.socket = socket
        self.fd = socket.fileno()
        self.conversation = conversation
        self.events = 0  # that we wait for

    def read(self) -> None:
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return  # ignored: it was reported for something else
        except OSError:
            data = b""
        if data:
            self.conversation.feed(data)
        else:
            self.conversation.lost()

    def flush(self) -> None:
        """Send what the kernel takes at once."""
        out = self.conversation.out
        try:
            if out:
                self.conversation.sent(self.socket.send(bytes(out), _NO_SIGNAL))
        except BlockingIOError:
            pass  # ignored: we are told when it goes on
        except OSError:
            out.clear()  # it is gone, but what it has said before is still to be read; then comes the end


def _credentials(socket: Socket) -> tuple[int | None, int | None]:
    """Return pid and uid of who has connected, each None if the kernel does not tell.

    Raises:
        OSError: It tells nothing.
    """
    option = getattr(_socket, "SO_PEERCRED", None)
    if option is not None:  # Linux: struct ucred, three int
        raw = socket.getsockopt(_socket.SOL_SOCKET, option, 12)
        return _int(raw, 0), _int(raw, 4)
    raw = socket.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred, <sys/ucred.h> of macOS and FreeBSD
    return None, _int(raw, 4)


def _int(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], sys.byteorder)
