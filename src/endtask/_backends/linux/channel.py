"""The requester's end of a conversation with the receiver in a process: a local stream socket (unix(7)).

The receiver makes it in the first folder that it can use of `$XDG_RUNTIME_DIR/endtask`, `/run/user/UID/endtask`, `/tmp/endtask-UID` (UID: its effective user).
It is called `PID.START`: the start time in clock ticks (proc_pid_stat(5), field 22) tells it from that of an earlier process with its pid.
Whether it is the process's own says the kernel: the peer of a connection is
whoever called listen(2), with the pid that it had and the user that it was (SO_PEERCRED, socket(7)). A socket of anybody else is not used, whatever it is called.

Decision: a requester keeps nothing back for a side that does not read. What is said here are a few lines, and the kernel takes some 200 KiB for a peer that is busy.
The C module `_socket`, because `socket` brings 2 ms of enums.
"""

from __future__ import annotations

import math
import os
import sys

assert sys.platform == "linux"

import _socket

from endtask._backends.linux.pidfd import wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._backends.base import Conversation
    from endtask._backends.linux.limits import DescriptorLimit
    from endtask._backends.linux.waiter import LinuxWaiter
    from endtask.model import Row

_PIECE = 1 << 16
_FORMAT, _SOCKET = 0o170000, 0o140000  # S_IFMT, S_IFSOCK: inode(7)
_CREDENTIALS = 12  # struct ucred: pid, uid, gid
_KIND = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


class LinuxConversation:
    """A connected socket."""

    __slots__ = ("_fd", "_socket", "_waiter")

    def __init__(self, connected: _socket.socket, waiter: LinuxWaiter) -> None:
        self._socket = connected
        self._waiter = waiter
        self._fd = connected.fileno()
        waiter.add_source(self._fd)

    @property
    def open(self) -> bool:
        """Whether there may be more to read."""
        return self._fd >= 0

    def say(self, data: bytes) -> bool:
        """Send *data*; return whether the kernel took it. To a side that does not read the conversation is closed."""
        if self._fd < 0:
            return False
        try:
            if self._socket.send(data, _socket.MSG_NOSIGNAL) == len(data):
                return True
        except (BrokenPipeError, ConnectionResetError):
            return False  # ignored: it has closed, and what it said before may still be read
        except OSError:
            pass  # ignored: its queue is full, it does not read
        self.close()
        return False

    def drain(self) -> bytes:
        """Return what has come since the last call."""
        if self._fd < 0:
            return b""
        try:
            data = self._socket.recv(_PIECE)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""  # ECONNRESET: it was closed with words of ours unread
        if not data:
            self.close()
        return data

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to drain, at most *timeout_s* seconds; return whether there is."""
        return self._fd >= 0 and wait_readable(self._fd, math.ceil(max(0.0, timeout_s) * 1000))

    def close(self) -> None:
        """End it."""
        if self._fd >= 0:
            self._waiter.drop_source(self._fd)
            self._fd = -1
            self._socket.close()


class Way:
    """What a conversation needs of our side: who is woken by its news, and how many descriptors we may have."""

    __slots__ = ("limits", "waiter")

    def __init__(self, waiter: LinuxWaiter, limits: DescriptorLimit) -> None:
        self.waiter = waiter
        self.limits = limits


def converse(folders: Iterable[bytes], row: Row, uid: int, way: Way) -> Conversation | str:
    """Connect to the socket of a process.

    Args:
        folders: In which it may be, the likeliest first.
        row: Of the process, which is pinned.
        uid: Its effective user.
        way: Of our side.

    Returns:
        The conversation; or why there is none, see `Backend.converse`.
    """
    why_not = ""
    name = b"%d.%d" % (row.pid, row.start)
    for folder in folders:
        fd = _opened(folder, uid)
        if fd < 0:
            if os.path.lexists(folder + b"/" + name):
                why_not = f"a socket that is not its own: {os.fsdecode(folder)} is not a folder of its user alone"
            continue
        try:
            found = _enter(fd, name, (row.pid, uid), way)
        finally:
            os.close(fd)
        if found:
            return found
    return why_not


def _opened(folder: bytes, uid: int) -> int:
    """Open a folder that must be *uid*'s alone; return its descriptor, -1 if it is not."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1  # ignored: it has gone, is a link, or is closed to us
    seen = os.fstat(fd)
    if seen.st_uid == uid and not seen.st_mode & 0o077:
        return fd
    os.close(fd)
    return -1


def _enter(folder: int, name: bytes, whose: tuple[int, int], way: Way) -> Conversation | str:
    """Connect to what is called like the socket of a process, if it is one and the process's own; return empty if nothing is."""
    pid, uid = whose
    try:
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return ""  # ignored: the usual answer of a process without a receiver
    if seen.st_mode & _FORMAT != _SOCKET or seen.st_uid != uid:
        return f"something that is not its own socket is called `{os.fsdecode(name)}`"
    try:
        fd = way.limits.opened(lambda _pid: _socket.socket(_socket.AF_UNIX, _KIND).detach(), pid)
        ours = _socket.socket(_socket.AF_UNIX, _KIND, 0, fd)
    except OSError as exc:
        return f"no connection could be opened: {exc.strerror}"
    found: Conversation | str = ""
    try:
        # By the folder's descriptor: what is reached cannot be swapped for another one after the look at it.
        ours.connect(b"/proc/self/fd/%d/%b" % (folder, name))
        found = _whose(ours, pid, uid)
        if not found:
            found = LinuxConversation(ours, way.waiter)
    except (ConnectionRefusedError, FileNotFoundError):
        pass  # ignored: nobody listens there any more
    except BlockingIOError:
        found = "too many wait for it to answer"  # its queue of connections is full: unix(7), EAGAIN
    except OSError as exc:
        found = f"connect: {exc.strerror}"
    finally:
        if isinstance(found, str):
            ours.close()
    return found


def _whose(connected: _socket.socket, pid: int, uid: int) -> str:
    """Return why a peer is not the process that it should be, empty if it is."""
    peer = connected.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
    its_pid, its_uid = (int.from_bytes(peer[at : at + 4], sys.byteorder) for at in (0, 4))
    if its_pid == pid and its_uid == uid:
        return ""
    return f"a socket that is not its own: process {its_pid} of user {its_uid} made it"
