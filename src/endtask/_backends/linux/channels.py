"""Requests that are no signals: text for the standard input, and a command of the user.

Decision: both say no where they cannot be sure whom they reach. A terminal belongs to a person, a file answers nobody,
and a socket may lead anywhere; only a pipe or FIFO that the process itself reads gets the text.
The command runs without a shell, so that nothing in a process's name can become a command.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

assert sys.platform == "linux"

from endtask._backends.linux.pidfd import is_there
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.linux.pidfd import LinuxPin
    from endtask.model import Request

_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFBLK: "a disk",
}
_SIGPIPE, _SIGXFSZ = 13, 25  # Python ignores both, and a program would inherit that; signal(7)


def write_stdin(pin: LinuxPin, request: Request, at_s: float) -> Receipt:
    """Write the text of *request* into the pipe that the process has as standard input."""
    path = f"/proc/{pin.ref.pid}/fd/0"
    try:
        why = _unfit(path)
        if why:
            return Receipt(request.name, "impossible", at_s, why)
        # Not blocking: a pipe that nobody reads fails with ENXIO, a full one with EAGAIN, fifo(7).
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        return _not_opened(pin, request, at_s, exc)
    try:
        # If the process is there now, it was when its descriptor was opened: then this is its own.
        if not is_there(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return Receipt(request.name, "impossible", at_s, "its standard input has just been replaced")
        data = request.text.encode("utf-8", "surrogateescape")
        if os.write(fd, data) < len(data):
            return Receipt(
                request.name, "failed", at_s, "write: the pipe took only a part of the text; it is not being read"
            )
    except BlockingIOError:
        return Receipt(request.name, "failed", at_s, "write: its standard input is full, it does not read it")
    except OSError as exc:
        return Receipt(request.name, "failed", at_s, f"write to its standard input: {exc.strerror}")
    finally:
        os.close(fd)
    return Receipt(request.name, "delivered", at_s, "written to the pipe that is its standard input")


def _unfit(path: str) -> str:
    """Return why the standard input cannot be written to, empty if it is a pipe."""
    info = os.stat(path)
    mode = info.st_mode
    if stat.S_ISFIFO(mode):
        return ""
    kind = _KINDS.get(stat.S_IFMT(mode), "not a pipe")
    if stat.S_ISCHR(mode):
        kind = "/dev/null" if info.st_rdev == os.makedev(1, 3) else "a terminal or another device"
    return f"its standard input is {kind}; only a pipe or a FIFO can be written to"


def _not_opened(pin: LinuxPin, request: Request, at_s: float, exc: OSError) -> Receipt:
    code = exc.errno
    if code in (errno.EACCES, errno.EPERM):
        text = "its standard input may not be opened: needs the same user as the process, or CAP_SYS_PTRACE"
        return Receipt(request.name, "denied", at_s, text)
    if code == errno.ENXIO:
        return Receipt(request.name, "impossible", at_s, "nobody reads the pipe that is its standard input")
    if code in (errno.ENOENT, errno.ESRCH):
        if is_there(pin):
            return Receipt(request.name, "impossible", at_s, "its standard input is closed, or it has exited")
        return Receipt(request.name, "gone", at_s, "it had exited already")
    return Receipt(request.name, "failed", at_s, f"open its standard input: {exc.strerror}")


class Commands:
    """Starts commands, and collects those that have ended so that none stays behind as a zombie."""

    __slots__ = ("_pids",)

    def __init__(self) -> None:
        self._pids: list[int] = []

    def start(self, pin: LinuxPin, request: Request, at_s: float) -> Receipt:
        """Start the command in the text of *request*; `{pid}` in it stands for the process."""
        import shlex

        self.reap()
        try:
            words = [word.replace("{pid}", str(pin.ref.pid)) for word in shlex.split(request.text)]
        except ValueError as exc:
            return Receipt(request.name, "failed", at_s, f"`{request.text}` is not a command: {exc}")
        if not words:
            return Receipt(request.name, "failed", at_s, "the command is empty")
        if not is_there(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        try:
            self._pids.append(_spawn(words))
        except OSError as exc:
            return Receipt(request.name, "failed", at_s, f"`{words[0]}` could not be started: {exc.strerror}")
        except ValueError as exc:
            return Receipt(request.name, "failed", at_s, f"`{request.text}` could not be started: {exc}")
        return Receipt(request.name, "delivered", at_s, f"started `{shlex.join(words)}`")

    def reap(self) -> None:
        """Collect what has ended; never waits."""
        left = []
        for pid in self._pids:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    left.append(pid)
            except ChildProcessError:
                pass  # ignored: another part of the program has reaped it
        self._pids = left


def _spawn(words: list[str]) -> int:
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    # A group of its own: Ctrl+C for us is not meant for it.
    return os.posix_spawnp(words[0], words, os.environ, file_actions=null, setpgroup=0, setsigdef=(_SIGPIPE, _SIGXFSZ))
