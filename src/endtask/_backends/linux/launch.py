"""Starts a command as the head of a tree that is ours: own session, own cgroup where allowed, a mark that is inherited, and us as the subreaper.

Decision: fork and exec by hand. posix_spawn(3) cannot move the child into a cgroup before it runs, and after that it could have forked already.
Only for a process without threads, such as the keeper.
"""

from __future__ import annotations

import errno
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


def make_cgroup(name: bytes) -> bytes:
    """Make a cgroup below our own that the kernel can end as a whole; return its folder, empty if that is not possible."""
    at, where = cgroups.mounts(), cgroups.paths(os.getpid())
    parent = at.v2.folder(where.v2) if at.v2 and where and where.v2 else None
    if parent is None:
        return b""
    folder = parent + b"/" + name
    try:
        os.mkdir(folder)
    except OSError:
        return b""  # ignored: read-only or not ours
    if os.access(folder + b"/cgroup.kill", os.W_OK):
        return folder
    os.rmdir(folder)  # COMPAT: until kernel 5.14 is the floor
    return b""


def remove_cgroup(folder: bytes) -> None:
    """Remove a cgroup and what the command has made below it; whoever is left in there goes back to the cgroup above."""
    above = folder.rpartition(b"/")[0] + b"/cgroup.procs"
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            for pid in procfs.read_all(path + b"/cgroup.procs").split():
                write_file(above, pid)
            os.rmdir(path)
        except OSError:
            return  # ignored: they fork faster than they are moved, or may not be moved; an empty folder harms nobody


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
