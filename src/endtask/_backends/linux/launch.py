"""Starts a command as the head of a tree that is ours: own session, own cgroup where allowed, a mark that is inherited, and us as the subreaper.

Decision: fork and exec by hand. posix_spawn(3) cannot move the child into a cgroup before it runs, and after that it could have forked already.
Only for a process without threads, such as the keeper.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux import cgroups, procfs
from endtask._backends.linux.guardian import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import NoReturn
else:
    import _signal

_ATTEMPTS = 3
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# What the starter ignores, because somebody else decides about its end.
_DEAF_TO = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGTSTP,
    _signal.SIGTTIN,
    _signal.SIGTTOU,
)
_PYTHONS_OWN = (
    _signal.SIGPIPE,
    _signal.SIGXFSZ,
)  # ignored by every Python, and a command would inherit that, signal(7)


def become_subreaper() -> bool:
    """Adopt all orphans that come from us, prctl(2); False where that is not possible."""
    try:
        import ctypes
    except ImportError:
        return False
    prctl = ctypes.CDLL(None).prctl
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, *(ctypes.c_ulong(n) for n in (1, 0, 0, 0))) == 0)


class OwnCgroup:
    """A cgroup that is ours as long as we live: the lock on its folder (flock(2)) says so to others, and goes with us however we end.

    Attributes:
        folder: Its folder.
    """

    __slots__ = ("_lock", "folder")

    def __init__(self, folder: bytes, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    def remove(self) -> None:
        """Remove it and what the command has made below it; whoever is left in there goes back to the cgroup above."""
        above = self.folder.rpartition(b"/")[0] + b"/cgroup.procs"
        for path, _, _ in os.walk(self.folder, topdown=False):
            try:
                for pid in procfs.read_all(path + b"/cgroup.procs").split():
                    write_file(above, pid)
                os.rmdir(path)
            except OSError:
                break  # ignored: they fork faster than they are moved, or may not be moved; who comes later removes it
        os.close(self._lock)


def _parent() -> bytes | None:
    at, where = cgroups.mounts(), cgroups.paths(os.getpid())
    return at.v2.folder(where.v2) if at.v2 and where and where.v2 else None


def make_cgroup(name: bytes) -> OwnCgroup | None:
    """Make a cgroup below our own that the kernel can end as a whole; None if that is not possible."""
    parent = _parent()
    if parent is None:
        return None
    folder = parent + b"/" + name
    for _attempt in range(_ATTEMPTS):
        try:
            os.mkdir(folder)
            lock = _lock(folder)
        except FileExistsError:
            remove_abandoned(name)  # of somebody who had our pid and was killed
            continue
        except FileNotFoundError:
            continue  # between the two lines somebody took it for one that was left behind
        except OSError:
            return None  # ignored: read-only or not ours
        if lock < 0:
            continue
        if os.access(folder + b"/cgroup.kill", os.W_OK):
            return OwnCgroup(folder, lock)
        os.rmdir(folder)  # COMPAT: until kernel 5.14 is the floor
        os.close(lock)
        return None
    return None


def _lock(folder: bytes) -> int:
    """Return a descriptor that holds the lock on a folder, -1 if somebody else holds it or has removed the folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(fd).st_ino:
            return fd
    except OSError:
        pass  # ignored: it is in use (EWOULDBLOCK), or has gone
    os.close(fd)
    return -1


def remove_abandoned(prefix: bytes) -> None:
    """Remove the cgroups that starters which were killed have left beside ours; one that is locked, or in which anybody lives, stays."""
    parent = _parent()
    if parent is None:
        return
    try:
        names = [n for n in os.listdir(parent) if n.startswith(prefix)]
    except OSError:
        return  # ignored: then nothing can be removed either
    for name in names:
        folder = b"%b/%b" % (parent, name)
        try:
            lock = _lock(folder)
            if lock < 0:
                continue
            try:
                for path, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(path)  # EBUSY where a process lives, also if it came just now (cgroups(7))
            finally:
                os.close(lock)
        except OSError:
            continue  # ignored: in use, gone, or not ours to remove


def start(command: Sequence[str], mark: str, folder: bytes, private: int) -> int:
    """Start *command* and return its pid; from now on we are deaf to all that is meant for the owner.

    Args:
        command: Program and arguments.
        mark: Goes into its environment as ENDTASK_MARK.
        folder: Folder of the cgroup for it, empty for ours.
        private: A descriptor of ours that it must not have.

    Raises:
        OSError: It could not be executed; nothing runs.
    """
    before = {number: _signal.getsignal(number) for number in _DEAF_TO}
    for number in _DEAF_TO:
        _signal.signal(number, _signal.SIG_IGN)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        ignored = {number for number, handler in before.items() if handler == _signal.SIG_IGN}
        os.close(private)
        _become(command, mark, folder, writing, ignored)
    os.close(writing)
    try:
        code = os.read(reading, 16)  # ends with nothing when exec closes the other end
    finally:
        os.close(reading)
    if code:
        os.waitpid(pid, 0)
        raise OSError(int(code), os.strerror(int(code)))
    return pid


def _become(command: Sequence[str], mark: str, folder: bytes, writing: int, ignored: set[_signal.Signals]) -> NoReturn:
    code = errno.EIO
    try:
        os.setsid()
        if folder:
            write_file(folder + b"/cgroup.procs", b"0")  # 0 is whoever writes; if it is refused it goes without
        _signal.set_wakeup_fd(-1)
        for number in (*_DEAF_TO, *_PYTHONS_OWN, _signal.SIGCHLD):
            _signal.signal(number, _signal.SIG_IGN if number in ignored else _signal.SIG_DFL)
        os.execvpe(command[0], list(command), {**os.environ, "ENDTASK_MARK": mark})
    except OSError as exc:
        code = exc.errno or code
    finally:
        os.write(writing, b"%d" % code)
        os._exit(127)
