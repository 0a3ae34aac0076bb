"""The end of standard input, and the end of the parent process, as requests.

Decision: both are seen by `poll` on a descriptor; nothing is read and nobody is asked again and again.
The end of a pipe is POLLHUP, which comes even while there is something to read, so the application's input stays the application's.
The parent is a pidfd: opened by number and then compared with `getppid`, so that a parent that is gone already is seen too.

Rejected: PR_SET_PDEATHSIG (it follows the thread that started us), and asking `getppid` every second (late, and blind where a subreaper takes over).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import select
import stat

from endtask_receiver import _fork
from endtask_receiver._request import StopRequest
from endtask_receiver._watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from endtask_receiver._stop import Stop

_STDIN = 0
_PEER_CLOSED = getattr(
    select, "POLLRDHUP", 0
)  # half-closed sockets; Linux only, elsewhere the other end must close wholly
_OVER = select.POLLHUP | select.POLLERR | _PEER_CLOSED


class EndEar:
    """Hears the end of what we depend on."""

    previous: Mapping[int, object] = {}  # no signals

    def __init__(self, *, stdin: bool, parent: bool) -> None:
        self._stdin = stdin
        self._parent = parent
        self._said: list[str] = []
        self.watcher: Watcher | None = None
        self._pidfd = -1
        self.stop: Stop  # from `start` on

    def start(self, stop: Stop) -> None:
        """Open what there is to watch; a thread of its own watches it."""
        self.stop = stop
        self.watcher = Watcher()
        if self._stdin:
            self._watch_stdin(self.watcher)
        if self._parent:
            self._watch_parent(self.watcher)
        self.watcher.start(stop, blocked=_fork.every_signal())
        _fork.enter(self)

    def _watch_stdin(self, watcher: Watcher) -> None:
        try:
            mode = os.fstat(_STDIN).st_mode
        except OSError:
            self._said.append("standard input: closed, so it has no end to wait for")
            return
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(_STDIN)):
            self._said.append("standard input: a file or a device, so it has no end to wait for")
            return
        watcher.add(_STDIN, _PEER_CLOSED, self._on_stdin)
        self._said.append("standard input: its end is a request")

    def _on_stdin(self, events: int) -> bool:
        if events & _OVER:
            self._hear("stdin", "standard input has ended")
        return False  # also for POLLNVAL: the application has closed it, which is no request

    def _watch_parent(self, watcher: Watcher) -> None:
        pid, sentinel = _parent()
        if pid <= 1:
            self._said.append(f"parent: process {pid} does not end before us")
            return
        fd = _open_pidfd(pid)
        if fd is None:  # it is gone
            self._said.append("parent: it had ended before we began to listen")
            self._hear("parent", "the parent had ended before we began to listen")
            return
        if fd >= 0:
            self._pidfd = fd
            watcher.add(fd, select.POLLIN, self._on_parent)
        elif sentinel is not None:
            watcher.add(sentinel, select.POLLIN, self._on_parent)
        else:
            self._said.append("parent: this system has no way to wait for the end of a parent")
            return
        self._said.append(f"parent: the end of process {pid} is a request")

    def _on_parent(self, events: int) -> bool:
        if not events & select.POLLNVAL:
            self._hear("parent", "the parent has ended")
        return False

    def _hear(self, channel: str, reason: str) -> None:
        self.stop._heard(StopRequest(self.stop._clock(), channel, reason=reason))

    def close(self) -> None:
        """End the thread."""
        _fork.leave(self)
        if self.watcher is not None:
            self.watcher.close()
        self._close_pidfd()

    def in_child(self) -> None:
        """Hear nothing, in a forked child: neither our parent nor our input is the child's."""
        if self.watcher is not None:
            self.watcher.forget()
            self.watcher = None
        self._close_pidfd()
        self._said = ["standard input and parent: not heard, this is a forked child"]

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def describe(self) -> tuple[str, ...]:
        """Return what is watched."""
        return tuple(self._said)


def _parent() -> tuple[int, int | None]:
    """Return the pid of the parent, and a descriptor that is readable when it is gone, if there is one.

    A worker of `multiprocessing` may have been forked by a server: its parent is the process that wanted it.
    """
    process = sys.modules.get("multiprocessing.process")
    wanted = process.parent_process() if process is not None else None
    return (os.getppid(), None) if wanted is None else (wanted.pid, wanted.sentinel)


def _open_pidfd(pid: int) -> int | None:
    """Return a pidfd, -1 if this system has none, None if the process is gone."""
    opener = getattr(os, "pidfd_open", None)
    if opener is None:  # a system that is not Linux
        return -1
    try:
        fd: int = opener(pid)
    except ProcessLookupError:
        return None
    except OSError:
        return -1  # COMPAT: kernels before 5.3; and sandboxes
    if _has_ended(pid):  # meanwhile: the number may be somebody else's
        os.close(fd)
        return None
    return fd


def _has_ended(pid: int) -> bool:
    if os.getppid() == pid:
        return False
    sentinel = _parent()[1]
    if sentinel is None:
        return True
    look = select.poll()  # a server has forked us: ask the descriptor, `getppid` knows the server only
    look.register(sentinel, select.POLLIN)
    return bool(look.poll(0))
