"""The guardian: a process that lets everything run on if we die while we hold it still.

Decision: a child forked before the first hold, which reads from a pipe what is held, and acts when the pipe ends or when we do.
SIGSTOP and the cgroup freezer outlive whoever used them (measured: stopped for ever), so somebody has to outlive us who knows.
Rejected: PTRACE_SEIZE, which reverts by itself, but disturbs debuggers and needs more rights; PDEATHSIG, which follows the thread that forked.

It is nobody's child (forked twice), so that no program that uses this library sees an exit it did not expect; it has a session of its own,
blocks every signal that can be blocked, and holds no descriptor but its own, so that it never keeps another's pipe open.

Lines on the pipe, written *before* the deed they speak of::

    stop PID TOKEN            about to get SIGSTOP
    move PID TOKEN FOLDER     about to be moved out of the cgroup FOLDER
    cgroup FOLDER             our own frozen cgroup, about to be made
    over                      nothing is held any more; only the cgroup is to be removed
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask.errors import EndtaskError, OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from endtask._backends.linux.pidfd import Pins
else:
    import _signal

_LAST_S = 60.0  # for how long the guardian waits for the last process of our cgroup to end


class Held:
    """What is held still, and how to let it go.

    Attributes:
        folder: Folder of our own frozen cgroup, empty for none.
        moved: (pid, token) -> folder of the cgroup it came from.
        stopped: (pid, token) of those that SIGSTOP holds.
    """

    __slots__ = ("folder", "moved", "stopped")

    def __init__(self) -> None:
        self.folder = b""
        self.moved: dict[tuple[int, str], bytes] = {}
        self.stopped: set[tuple[int, str]] = set()

    def forget(self, pid: int, token: str) -> None:
        """It needs no letting go any more."""
        self.moved.pop((pid, token), None)
        self.stopped.discard((pid, token))

    def let_go(self, pins: Pins) -> None:
        """Let everything run on: back into its own cgroup, thawed, continued."""
        for (pid, token), origin in self.moved.items():
            _move_back(pins, pid, token, origin)
        self.moved.clear()
        if self.folder:
            write_file(self.folder + b"/cgroup.freeze", b"0")
        for pid, token in self.stopped:
            try:
                with pins.open(pid, token) as pin:
                    pins.signal(pin, _signal.SIGCONT)
            except (EndtaskError, OSError):
                pass  # ignored: it has gone, or became another user's and is beyond us
        self.stopped.clear()

    def remove(self, wait_s: float) -> bool:
        """Remove our own cgroup once it is empty; False if it is not within *wait_s* seconds."""
        if not self.folder:
            return True
        if not _wait_empty(self.folder, wait_s):
            return False
        try:
            os.rmdir(self.folder)
        except FileNotFoundError:
            pass  # ignored: the other one of us was faster
        except OSError:
            return False
        self.folder = b""
        return True

    def apply(self, line: bytes) -> bool:
        """Take one line from the pipe; False for the last one."""
        word, _, rest = line.partition(b" ")
        if word == b"over":
            self.moved.clear()
            self.stopped.clear()
            return False
        if word == b"cgroup":
            self.folder = rest
            return True
        pid, token, *origin = rest.split(b" ", 2)  # a folder may have spaces, and no newline: the kernel forbids it
        key = (int(pid), token.decode())
        if word == b"move":
            self.moved[key] = origin[0]
        else:
            self.stopped.add(key)
        return True

    def lines(self) -> bytes:
        """Return all of it as lines, for a new guardian."""
        found = [b"cgroup %b\n" % self.folder] if self.folder else []
        found += [b"move %d %b %b\n" % (pid, token.encode(), at) for (pid, token), at in self.moved.items()]
        found += [b"stop %d %b\n" % (pid, token.encode()) for pid, token in self.stopped]
        return b"".join(found)


def _move_back(pins: Pins, pid: int, token: str, origin: bytes) -> None:
    try:
        with pins.open(pid, token) as pin:
            if not pins.exited(pin):
                write_file(origin + b"/cgroup.procs", b"%d" % pid)
    except EndtaskError:
        pass  # ignored: it has gone; whoever is left in the frozen cgroup is thawed there


def write_file(path: bytes, data: bytes) -> int:
    """Write *data* into a file of the kernel; return the error number, 0 for success."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as exc:
        return exc.errno or errno.EIO
    try:
        os.write(fd, data)
    except OSError as exc:
        return exc.errno or errno.EIO
    finally:
        os.close(fd)
    return 0


def _wait_empty(folder: bytes, wait_s: float) -> bool:
    """Wait until no live process is in a cgroup; its `cgroup.events` wakes pollers on each change (cgroup-v2.rst)."""
    deadline = time.monotonic() + wait_s
    try:
        fd = os.open(folder + b"/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # ignored: it is not there, and rmdir will say so
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while b"populated 1" in os.pread(fd, 256, 0):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            poller.poll(left_s * 1000)
    except OSError:
        return True  # ENODEV: it was removed while we watched
    finally:
        os.close(fd)
    return True


# --------------------------------------------------------------------------- our end


class Guardian:
    """Our end of the pipe, and what the guardian knows.

    Attributes:
        held: What is held.
    """

    __slots__ = ("_pins", "_pipe", "held")

    def __init__(self, pins: Pins) -> None:
        """Start the guardian.

        Raises:
            OsCallError: There can be no new process or pipe; then nothing must be held.
        """
        self._pins = pins
        self.held = Held()
        self._pipe = -1
        self._start()

    def _start(self) -> None:
        try:
            self._pipe = _fork(self._pins)
        except OSError as exc:
            raise procfs.failed("fork", exc) from exc

    def note(self, line: bytes) -> None:
        """Tell what is about to be held. After this has returned it may be held.

        Raises:
            OsCallError: There is no guardian and there can be none.
        """
        self.held.apply(line)
        try:
            os.write(self._pipe, line + b"\n")  # at most PIPE_BUF with sane paths, so it is never torn: pipe(7)
        except BrokenPipeError:
            # Somebody has killed the guardian; what is held already gets a new one.
            os.close(self._pipe)
            self._pipe = -1
            self._start()
            _write_all(self._pipe, self.held.lines())

    def close(self) -> None:
        """Nothing is held any more: the guardian removes what is left of the cgroup and ends."""
        if self._pipe < 0:
            return
        pipe, self._pipe = self._pipe, -1
        try:
            os.write(pipe, b"over\n")
        except BrokenPipeError:
            pass  # ignored: it was killed, and there is nothing to do for it
        finally:
            os.close(pipe)

    def __del__(self) -> None:
        # Without `close` it is an accident: the end of the pipe lets everything go.
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _fork(pins: Pins) -> int:
    """Start the guardian and return the writing end of its pipe.

    Raises:
        OSError: No process, no memory, no descriptor.
    """
    _quiet_fork_warning()
    reading, writing = os.pipe()
    us = _handle_on_us(pins)
    # Blocked from before the fork on, so that there is no moment in which a Ctrl+C for all of us ends the guardian too.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        middle = os.fork()
        if middle == 0:
            _fork_again(pins, reading, us)
        os.waitpid(middle, 0)
    except ChildProcessError:
        pass  # ignored: SIGCHLD is ignored, or another part of the program has reaped it
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
        if us >= 0:
            os.close(us)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    return writing


def _handle_on_us(pins: Pins) -> int:
    """Return a pidfd of ourselves, -1 if there are none: a child of our program that inherits the pipe keeps it from ending."""
    try:
        with pins.open(os.getpid()) as pin:
            return os.dup(pin.fd) if pin.mechanism == "pidfd" else -1
    except OsCallError:
        return -1  # ignored: the pipe alone does it in all other cases


def _quiet_fork_warning() -> None:
    """Since Python 3.12 a fork in a program with threads warns, because the child may wait for a lock that nobody holds.

    The guardian takes none: it calls the kernel and leaves by _exit(2).
    """
    if sys.version_info >= (3, 12) and _thread_count() > 1:
        import warnings

        warnings.filterwarnings("ignore", r"This process .* is multi-threaded", DeprecationWarning, __name__)


def _thread_count() -> int:
    raw = procfs.stat_raw(os.getpid())
    return procfs.thread_count(raw) if raw else 2


# --------------------------------------------------------------------------- the guardian's end (after the fork: only calls to the kernel)


def _fork_again(pins: Pins, reading: int, us: int) -> NoReturn:
    try:
        os.setsid()
        if os.fork() == 0:
            _keep_only(reading, us)
            _guard(pins, reading, us)
    finally:
        os._exit(0)  # no handlers, no buffers: they belong to the one we were forked from


def _keep_only(*kept: int) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            os.closerange(fd, fd + 1)  # says nothing of EBADF: the descriptor of the listing itself is gone
    null = os.open("/dev/null", os.O_RDWR)
    while null < 2:
        null = os.dup(null)
    os.chdir("/")
    write_file(b"/proc/self/comm", b"endtask-guard")


def _guard(pins: Pins, reading: int, us: int) -> None:
    held = Held()
    rest = b""
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    if us >= 0:
        poller.register(us, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poller.poll()]
        # What we wrote before we died is still in the pipe: it is read to its end first.
        data = os.read(reading, 65536) if reading in ready else b""
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if not held.apply(line):
                held.remove(_LAST_S)
                return
        if not data:
            held.let_go(pins)
            held.remove(_LAST_S)
            return
