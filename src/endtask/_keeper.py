"""The keeper: the small program that stands between `owned(command)` and the command, and leaves nothing of it behind.

Run as `python -I -S _keeper.py FD GRACE_S FORCE MARK -- COMMAND...`, in a session of its own. FD is one end of a socket pair.
It becomes the subreaper of what it starts (PR_SET_CHILD_SUBREAPER, prctl(2)): every orphan of the tree becomes its child, however it was made,
so ECHILD of wait(2) is the kernel's word that nothing is left. The command gets a session of its own, ENDTASK_MARK=MARK in its environment,
the keeper's standard streams, and a cgroup of its own where that is allowed.

Lines to the owner::

    started PID TOKEN           the command runs
    failed ERRNO TEXT           it could not be started; the keeper has ended
    exited code N | signal N    the command itself has ended; what it started may run on
    asked PID NAME              got TERM
    forced PID NAME             got KILL
    reaped PID NAME code N      has ended (also `signal N`): the command at any time, all others while a stop is under way
    left PID NAME               still runs when the time of a stop is over, and force was not allowed or not permitted
    empty                       nothing is left; the keeper has ended

Lines from the owner::

    stop GRACE_S FORCE          TERM to the command first; to all others when it has gone, when half of the time is over, or at once if it
                                does not catch TERM; after GRACE_S seconds KILL to all if FORCE is 1, else `left`

When the socket ends without a stop, the owner has died: the keeper stops by the GRACE_S and FORCE that it was started with.

Decision: this file imports nothing of ours, so that it starts in a few milliseconds, and it never holds anything still:
if it is killed itself, nothing stays stopped or frozen. KILL alone is enough here, because it breaks off a fork that is under way
(copy_process in kernel/fork.c), and whoever was born before becomes our child when its parent dies.
It waits on the socket, on SIGCHLD and on the pidfds of what it has asked; it never polls.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

_LINGER_S = (
    0.25  # what is left when the command has ended was mostly told by it: a second request would cut its cleanup short
)
_ALONE = 0.5  # the part of the grace in which a command that catches TERM is left alone with its children
_FLUSH_S = 5.0
_MOST_OUT = 8 << 20  # an owner that does not read for so long gets no more names
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_IGNORED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGTSTP,
    _signal.SIGTTIN,
    _signal.SIGTTOU,
)
_LISTENED = select.EPOLLIN | select.EPOLLONESHOT


def read_file(path: str) -> bytes:
    """Return a file of /proc to its end, empty if it cannot be read."""
    parts = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # ignored: the process has gone
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        pass  # ignored: it has gone while we read
    finally:
        os.close(fd)
    return b"".join(parts)


def write_file(path: str, text: str) -> bool:
    """Write into a file of the kernel; return whether it took it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def stat_of(pid: int) -> tuple[bytes, bytes, int, bytes] | None:
    """Return name, state, parent and start time of a process, None if it has gone."""
    raw = read_file(f"/proc/{pid}/stat")
    if not raw:
        return None
    end = raw.rindex(b")")
    fields = raw[end + 2 :].split()
    return raw[raw.index(b"(") + 1 : end], fields[0], int(fields[1]), fields[19]


def open_pidfd(pid: int) -> int:
    """Return a pidfd, -1 where there are none or the process has gone."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


def token_of(pid: int) -> str:
    """Return the identity token of our own child: the inode of its pidfd where that is unique (kernel 6.9), else its start time."""
    fd = open_pidfd(pid)
    if fd >= 0:
        other = select.epoll()  # an anonymous inode, as pidfds were before 6.9: then both lie on one device
        try:
            if os.fstat(fd).st_dev != os.fstat(other.fileno()).st_dev:
                return str(os.fstat(fd).st_ino)
        finally:
            other.close()
            os.close(fd)
    known = stat_of(pid)
    return f"t{known[3].decode()}" if known else ""


def living_below(top: int) -> dict[int, bytes]:
    """Return pid and name of every living descendant of *top*."""
    if not os.path.exists("/proc/thread-self/children"):
        return _living_by_table(top)  # a kernel without CONFIG_PROC_CHILDREN
    found: dict[int, bytes] = {}
    todo = [top]
    while todo:
        pid = todo.pop()
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue  # ignored: it has gone, its children are someone else's by now and come with the next look
        for thread in threads:
            for child in map(int, read_file(f"/proc/{pid}/task/{thread}/children").split()):
                known = stat_of(child)
                if known is not None and child not in found and known[1] not in (b"X", b"x"):
                    todo.append(child)
                    if known[1] != b"Z" or _has_threads(child):
                        found[child] = known[0]
    return found


def _has_threads(pid: int) -> bool:
    """Whether other threads of a process run on although its main thread has exited."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def _living_by_table(top: int) -> dict[int, bytes]:
    table = {int(name): stat_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found: dict[int, bytes] = {}
    below = {top}
    while True:
        new = {pid: row for pid, row in table.items() if row and row[2] in below and pid not in below}
        if not new:
            return found
        below.update(new)
        found.update((pid, row[0]) for pid, row in new.items() if row and (row[1] != b"Z" or _has_threads(pid)))


def catches_term(pid: int) -> bool:
    """Return whether a process handles TERM itself; a blocked TERM is mostly one that a thread waits for."""
    masks = [
        line.split()[1]
        for line in read_file(f"/proc/{pid}/status").splitlines()
        if line[:7] in (b"SigCgt:", b"SigBlk:")
    ]
    return any(int(mask, 16) >> (_signal.SIGTERM - 1) & 1 for mask in masks)


def status_words(status: int) -> str:
    """Return a status of wait(2) in words."""
    return f"signal {status & 0x7F}" if status & 0x7F else f"code {status >> 8 & 0xFF}"


class Keeper:
    """One command and its tree.

    Attributes:
        main: Pid of the command.
        phase: `run`, `main` (only the command was asked), `rest` (all were), `force`, `left`.
    """

    def __init__(self, control: int, grace_s: float, *, force: bool) -> None:
        self.control = control
        self.default = (grace_s, force)
        self.main = 0
        self.main_runs = True
        self.phase = "run"
        self._force = False
        self._rest_at = self._ends_at = 0.0
        self._childless = False
        self._owner_gone = False
        self._in = self._out = b""
        self._pidfds: dict[int, int] = {}
        self._asked: set[int] = set()
        self._killed: set[int] = set()
        self._folder = ""
        self._epoll = select.epoll()
        self._wake, wake_writer = os.pipe()
        for fd in (self._wake, wake_writer, control):
            os.set_blocking(fd, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written to the pipe
        _signal.set_wakeup_fd(wake_writer)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(control, select.EPOLLIN)

    # ----------------------------------------------------------------- start

    def start(self, command: list[str], mark: str) -> None:
        """Start the command; says `started`, or `failed` and ends."""
        self._make_cgroup()
        before = {number: _signal.getsignal(number) for number in _IGNORED}
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)  # the owner decides about an end, and its own end decides it too
        reading, writing = os.pipe()
        self.main = os.fork()
        if self.main == 0:
            self._become(command, mark, before, writing)
        os.close(writing)
        code = os.read(reading, 16)  # ends with nothing when exec closes the other end
        os.close(reading)
        if code:
            os.waitpid(self.main, 0)
            self.say(f"failed {code.decode()} {os.strerror(int(code))}".encode())
            self.leave()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)  # we must not keep the command's pipes open
        os.chdir("/")
        self.say(f"started {self.main} {token_of(self.main)}".encode())

    def _become(self, command: list[str], mark: str, before: dict[int, object], writing: int) -> NoReturn:
        code = errno.EIO
        try:
            os.setsid()
            os.close(self.control)
            if self._folder:
                write_file(f"{self._folder}/cgroup.procs", "0")  # 0 is whoever writes; if it is refused we go without
            _signal.set_wakeup_fd(-1)
            ignored = {number for number, handler in before.items() if handler == _signal.SIG_IGN}
            for number in (*_IGNORED, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGXFSZ):
                _signal.signal(number, _signal.SIG_IGN if number in ignored else _signal.SIG_DFL)
            os.execvpe(command[0], command, {**os.environ, "ENDTASK_MARK": mark})
        except OSError as exc:
            code = exc.errno or code
        finally:
            os.write(writing, str(code).encode())
            os._exit(127)

    def _make_cgroup(self) -> None:
        """Make a cgroup below our own; without one KILL goes from process to process."""
        own = next((x[3:] for x in read_file("/proc/self/cgroup").decode().splitlines() if x.startswith("0::")), "")
        for line in read_file("/proc/self/mountinfo").decode("utf-8", "surrogateescape").splitlines():
            left, _, right = line.partition(" - ")
            root, point = left.split()[3:5]
            if (
                own
                and right.startswith("cgroup2 ")
                and "\\" not in point
                and (root == "/" or f"{own}/".startswith(f"{root}/"))
            ):
                folder = (
                    f"{point}{own if root == '/' else own[len(root) :]}".rstrip("/") + f"/endtask-owned-{os.getpid()}"
                )
                try:
                    os.mkdir(folder)
                except OSError:
                    continue  # ignored: read-only or not ours
                if os.access(f"{folder}/cgroup.kill", os.W_OK):
                    self._folder = folder
                    return
                os.rmdir(folder)  # COMPAT: until kernel 5.14 is the floor

    # ----------------------------------------------------------------- talk

    def say(self, line: bytes) -> None:
        """Queue one line for the owner; never waits for it."""
        if len(self._out) < _MOST_OUT and not self._owner_gone:
            self._out += line.replace(b"\n", b"?") + b"\n"
            self._flush()

    def _flush(self) -> None:
        try:
            self._out = self._out[os.write(self.control, self._out) :]
        except BlockingIOError:
            pass  # ignored: the epoll tells when there is room
        except OSError:
            self._out = b""  # EPIPE: nobody reads any more; the end of the socket says the same
        if not self._owner_gone:
            self._epoll.modify(self.control, select.EPOLLIN | (select.EPOLLOUT if self._out else 0))

    def _listen(self) -> None:
        try:
            data = os.read(self.control, 4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._owner_gone = True
            self._epoll.unregister(self.control)
            if self.phase == "run":
                self._begin(*self.default)
            return
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            word, grace_s, force = line.split()
            if word == b"stop":
                self._begin(float(grace_s), force=force == b"1")

    # ----------------------------------------------------------------- stop

    def _begin(self, grace_s: float, force: bool) -> None:
        """Begin to stop: the command first."""
        now = time.monotonic()
        self._force = force
        self._ends_at = self._rest_at = now + grace_s
        self._asked.clear()
        self.phase = "main"
        if self.main_runs and catches_term(self.main):
            self._rest_at = now + grace_s * _ALONE
            self._ask(self.main)
        else:
            self._rest_at = now

    def _ask(self, pid: int, name: bytes = b"") -> None:
        self._asked.add(pid)
        if self._send(pid, _signal.SIGTERM) != "sent":
            return
        known = stat_of(pid)
        self.say(b"asked %d %b" % (pid, name or (known[0] if known else b"")))
        if known and known[1] == b"T":
            self._send(pid, _signal.SIGCONT)  # a stopped process would keep TERM for later, signal(7)

    def _send(self, pid: int, number: int) -> str:
        """Send a signal to one of ours: `sent`, `gone` or `denied`."""
        fd = self._pidfds.get(pid, -1)
        if fd < 0:
            fd = open_pidfd(pid)
            if not self._is_ours(pid):
                if fd >= 0:
                    os.close(fd)
                return "gone"
        if fd >= 0 and pid not in self._pidfds:
            self._pidfds[pid] = fd
            self._epoll.register(fd, _LISTENED)
        try:
            if fd >= 0:
                _signal.pidfd_send_signal(fd, number)
            else:
                os.kill(
                    pid, number
                )  # COMPAT: until kernel 5.3 is the floor; a child of ours keeps its pid until we reap it
        except ProcessLookupError:
            return "gone"
        except PermissionError:
            return "denied"
        return "sent"

    def _is_ours(self, pid: int) -> bool:
        """Whether a pid stands below us in the tree; looked at after its pidfd was opened, so that the pidfd is one of ours too."""
        seen: set[int] = set()
        while pid > 1 and pid not in seen:
            seen.add(pid)
            known = stat_of(pid)
            if known is None:
                return False
            pid = known[2]
            if pid == os.getpid():
                return True
        return False

    def _advance(self) -> None:
        now = time.monotonic()
        if self.phase == "main" and not self.main_runs:
            self._rest_at = min(self._rest_at, now + _LINGER_S)
        if self.phase == "main" and now >= self._rest_at:
            self.phase = "rest"
        if self.phase == "rest":
            for pid, name in living_below(os.getpid()).items():
                if pid not in self._asked:
                    self._ask(pid, name)
        if self.phase in ("main", "rest") and now >= self._ends_at:
            self.phase = "force" if self._force else "left"
            if self._force:
                _hurry()
            else:
                self._tell_left(living_below(os.getpid()))
        if self.phase == "force":
            self._kill_all()

    def _kill_all(self) -> None:
        """KILL everything below us until a look around finds nobody new; each later end makes us look again."""
        if self._folder:
            inside = living_below(os.getpid())
            if write_file(f"{self._folder}/cgroup.kill", "1"):
                self._note_killed(inside)
        quiet = 0
        while quiet < 2:  # two, because a process that changes its parent can be missed once
            living = living_below(os.getpid())
            new = {pid: name for pid, name in living.items() if pid not in self._killed}
            denied = {pid: name for pid, name in living.items() if self._send(pid, _signal.SIGKILL) == "denied"}
            self._note_killed({pid: name for pid, name in new.items() if pid not in denied})
            if living and len(denied) == len(living):
                self.phase = "left"
                self._tell_left(denied)
                return
            quiet = 0 if set(new) - set(denied) else quiet + 1

    def _note_killed(self, killed: dict[int, bytes]) -> None:
        for pid, name in killed.items():
            if pid not in self._killed:
                self._killed.add(pid)
                self.say(b"forced %d %b" % (pid, name))

    def _tell_left(self, living: dict[int, bytes]) -> None:
        for pid, name in living.items():
            self.say(b"left %d %b" % (pid, name))

    def _reap(self) -> None:
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._childless = True
                return
            if info is None:
                return
            pid = info.si_pid
            known = stat_of(pid)  # a zombie still has its name
            status = status_words(os.waitpid(pid, 0)[1])
            if pid in self._pidfds:
                os.close(self._pidfds.pop(pid))
            self._killed.discard(pid)  # the number is free, and a new process may get it
            self._asked.discard(pid)
            if pid == self.main and self.main_runs:
                self.main_runs = False
                self.say(b"exited " + status.encode())
            elif self.phase == "run":
                continue
            self.say(b"reaped %d %b %b" % (pid, known[0] if known else b"", status.encode()))

    # ----------------------------------------------------------------- loop

    def run(self) -> NoReturn:
        """Live until nothing is left."""
        while True:
            for fd, _ in self._epoll.poll(self._pause_s()):
                if fd == self._wake:
                    os.read(self._wake, 4096)
                elif fd == self.control:
                    self._listen()
            self._reap()
            if self._out:
                self._flush()
            if self.phase != "run" and self._childless:
                self.say(b"empty")
                self.leave()
            self._advance()
            if self.phase == "left" and self._owner_gone:
                self.leave()

    def _pause_s(self) -> float | None:
        if self.phase not in ("main", "rest"):
            return None
        until = min(self._rest_at, self._ends_at) if self.phase == "main" else self._ends_at
        return max(0.0, until - time.monotonic())

    def leave(self) -> NoReturn:
        """Say the rest, remove the cgroup, end."""
        for folder, _, _ in os.walk(self._folder, topdown=False) if self._folder else ():
            try:
                os.rmdir(folder)
            except OSError:
                pass  # ignored: somebody else was put into it
        poller = select.poll()
        poller.register(self.control, select.POLLOUT)
        while self._out and poller.poll(_FLUSH_S * 1000):
            self._flush()
        os._exit(0)


def _hurry() -> None:
    """Run before the tree that is to end: at full rate it forks faster than we are given time to look (measured: 11 s for one look)."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (OSError, AttributeError):
        pass  # ignored: not allowed, then it takes longer


def _become_subreaper() -> bool:
    try:
        import ctypes
    except ImportError:
        return False
    prctl = ctypes.CDLL(None).prctl
    arguments = [ctypes.c_ulong(n) for n in (1, 0, 0, 0)]
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, *arguments) == 0)


def main() -> NoReturn:
    """Start what the command line says and keep it."""
    control, grace_s, force, mark, _, *command = sys.argv[1:]
    fd = int(control)
    os.set_inheritable(fd, False)
    keeper = Keeper(fd, float(grace_s), force=force == "1")
    if not _become_subreaper():
        keeper.say(b"failed %d no subreaper, so nothing could be proved" % errno.ENOSYS)
        keeper.leave()
    keeper.start(command, mark)
    keeper.run()


if __name__ == "__main__":
    main()
