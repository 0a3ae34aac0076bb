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
                                does not catch TERM (but not to what Wine runs for its programs, which ends with the last of them);
                                after GRACE_S seconds KILL to all if FORCE is 1, else `left`
    extend SECONDS              that end comes so much later
    alone                       the command has said that it is ending: the others are asked only when it has gone

When the socket ends without a stop, the owner has died: the keeper stops by the GRACE_S and FORCE that it was started with.

Decision: it never holds anything still, so that nothing stays stopped or frozen if it is killed itself. KILL alone is enough here, because it
breaks off a fork that is under way (copy_process in kernel/fork.c), and whoever was born before becomes our child when its parent dies.
It waits on the socket, on SIGCHLD and on the pidfds of what it has asked; it never polls.
Of this package it uses only what reads /proc and holds processes (4 ms), which it finds beside itself: `-I -S` gives no path to it.
A little over 400 lines, because the protocol, the states and the loop are read together.

Size: one program that must be startable alone; its protocol takes a page of this text.
"""

from __future__ import annotations

# ruff: noqa: E402  # our own modules are found only after the path was set
import errno
import os
import select
import sys
import time
from contextlib import suppress

assert sys.platform == "linux"

if not __package__:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from endtask._backends.linux import launch, procfs
from endtask._backends.linux.guardian import write_file
from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.urgency import Urgency
from endtask.errors import AccessDeniedError, OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from endtask._backends.linux.pidfd import LinuxPin
else:
    import _signal

# What is left when the command has ended was mostly told by it: a second request at once would cut its cleanup short.
_LINGER_S = 0.25
_RETRY_S = 0.05
_ALONE = 0.5  # the part of the grace in which a command that catches TERM is left alone with its children
_FLUSH_S = 5.0
_CGROUP = b"endtask-owned-"  # and our pid
_LAST_STREAM = 2  # standard error
_MOST_OUT = 8 << 20  # an owner that does not read for so long gets no more names
_EXIT = select.EPOLLIN | select.EPOLLONESHOT


def living_below(top: int) -> dict[int, bytes]:
    """Return pid and name of every living descendant of *top*."""
    found: dict[int, bytes] = {}
    todo = [top]
    while todo:
        parent = todo.pop()
        children = procfs.children(parent)
        if children is None:  # a kernel without CONFIG_PROC_CHILDREN
            children = [row.pid for row in procfs.table().values() if row.ppid == parent]
        for pid in children:
            row = procfs.row(pid)
            if row is not None and pid not in found and row.state not in "Xx":
                todo.append(pid)
                # A main thread that has exited shows Z while other threads run.
                if row.state != "Z" or len(procfs.thread_ids(pid) or ()) > 1:
                    found[pid] = procfs.encode(row.comm)
    return found


def catches_term(pid: int) -> bool:
    """Return whether a process handles TERM itself; a blocked TERM is mostly one that a thread waits for."""
    state = procfs.status(pid) or {}
    masks = (state.get(b"SigCgt", b"0"), state.get(b"SigBlk", b"0"))
    return any(int(mask, 16) >> (_signal.SIGTERM - 1) & 1 for mask in masks)


def ends_by_itself(pid: int, name: bytes) -> bool:
    """Return whether a process ends with the last program that it serves: what Wine has started for a whole prefix.

    TERM would end its server before them, and one of them catches TERM and then waits for that server for ever (measured on Wine 8.0).
    """
    if not name.endswith(b".exe") and not name.startswith(b"wine"):
        return False  # nearly all, without another import
    from endtask._backends.linux import wine

    return bool(wine.own_part(pid, procfs.decode(name)))


def status_words(status: int) -> bytes:
    """Return a status of wait(2) in words."""
    return b"signal %d" % (status & 0x7F) if status & 0x7F else b"code %d" % (status >> 8 & 0xFF)


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
        self._alone = False
        self._childless = False
        self._failed = False
        self._owner_gone = False
        self._in = self._out = b""
        self._held: dict[int, LinuxPin] = {}
        self._asked: set[int] = set()
        self._killed: set[int] = set()
        self._cgroup: launch.OwnCgroup | None = None
        self._folder = b""
        self._pins = Pins()
        self._epoll = select.epoll()
        self._wake, wake_writer = os.pipe()
        for fd in (self._wake, wake_writer, control):
            os.set_blocking(fd, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written to the pipe
        _signal.set_wakeup_fd(wake_writer)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(control, select.EPOLLIN)

    def start(self, command: list[str], mark: str) -> None:
        """Start the command; says `started`, or `failed` and ends."""
        if not launch.become_subreaper():
            self.say(b"failed %d no subreaper, so nothing could be proved" % errno.ENOSYS)
            self.leave()
        self._cgroup = launch.make_cgroup(_CGROUP + b"%d" % os.getpid())
        self._folder = self._cgroup.folder if self._cgroup is not None else b""
        try:
            self.main = launch.start(command, mark, self._folder, self.control)
        except OSError as exc:
            self.say(f"failed {exc.errno} {exc.strerror}".encode())
            self.leave()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)  # we must not keep the command's pipes open
        os.chdir("/")
        self._hold(self.main)
        self.say(b"started %d %b" % (self.main, self._held[self.main].ref.token.encode()))
        launch.remove_abandoned(_CGROUP)

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
                self._begin(self.default[0], force=self.default[1])
            return
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            words = line.split()
            if len(words) == 3 and words[0] == b"stop":
                self._begin(float(words[1]), force=words[2] == b"1")
            elif self.phase in ("main", "rest") and words[:1] == [b"extend"]:
                self._ends_at += float(words[1])
                self._rest_at += float(words[1])
            elif self.phase == "main" and words[:1] == [b"alone"]:
                self._rest_at = self._ends_at
                self._alone = True

    # ----------------------------------------------------------------- stop

    def _begin(self, grace_s: float, *, force: bool) -> None:
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
        row = procfs.row(pid)
        self.say(b"asked %d %b" % (pid, name or (procfs.encode(row.comm) if row else b"")))
        if row and row.state == "T":
            self._send(pid, _signal.SIGCONT)  # a stopped process would keep TERM for later, signal(7)

    def _open(self, pid: int) -> LinuxPin | None:
        """Open a pin on one of ours, None if it has gone or was never ours.

        Raises:
            AccessDeniedError: It became somebody else's.
        """
        try:
            pin = self._pins.open(pid)
        except AccessDeniedError:
            raise
        except OsCallError:
            return None
        if self._is_ours(pid):
            return pin
        pin.close()
        return None

    def _hold(self, pid: int) -> LinuxPin | None:
        """Return the pin on one of ours whose exit wakes us, None if it has gone."""
        pin = self._held.get(pid) or self._open(pid)
        if pin is not None and pid not in self._held:
            self._held[pid] = pin
            if pin.mechanism == "pidfd":
                self._epoll.register(pin.fd, _EXIT)
        return pin

    def _release(self, pid: int) -> None:
        """It has ended: its number is free, and another one of ours may get it."""
        pin = self._held.pop(pid, None)
        if pin is not None:
            pin.close()
        self._asked.discard(pid)

    def _send(self, pid: int, number: int) -> str:
        """Send a signal to one of ours: `sent`, `gone` or `denied`."""
        try:
            pin = self._hold(pid)
            if pin is not None:
                self._pins.signal(pin, number)
                return "sent"
        except ProcessLookupError:
            self._release(pid)
        except (PermissionError, AccessDeniedError):
            return "denied"
        return "gone"

    def _kill(self, pid: int) -> str:
        """Send KILL to one of ours through a pin for the moment: there may be more of them than descriptors."""
        try:
            pin = self._open(pid)
            if pin is not None:
                with pin:
                    self._pins.signal(pin, _signal.SIGKILL)
                return "sent"
        except ProcessLookupError:
            pass  # ignored: gone, as the answer says
        except (PermissionError, AccessDeniedError):
            return "denied"
        return "gone"

    def _is_ours(self, pid: int) -> bool:
        """Whether a pid stands below us in the tree; looked at after its pin was opened, so that the pin is on one of ours too."""
        seen: set[int] = set()
        while pid > 1 and pid not in seen:
            seen.add(pid)
            row = procfs.row(pid)
            if row is None:
                return False
            pid = row.ppid
            if pid == os.getpid():
                return True
        return False

    def _advance(self) -> None:
        now = time.monotonic()
        if self.phase == "main" and not self.main_runs:
            self._rest_at = min(self._rest_at, now + _LINGER_S)
        if self.phase == "main" and now >= self._rest_at:
            self.phase = "rest"
        if self.phase == "rest" and not (self._alone and self.main_runs):
            for pid, name in living_below(os.getpid()).items():
                if pid not in self._asked and not ends_by_itself(pid, name):
                    self._ask(pid, name)
        if self.phase in ("main", "rest") and now >= self._ends_at:
            self.phase = "force" if self._force else "left"
            if self._force:
                Urgency()  # to the end: what forks at full rate leaves nobody else time to look
            else:
                self._tell_left(living_below(os.getpid()))
        if self.phase == "force":
            self._kill_all()

    def _kill_all(self) -> None:
        """KILL everything below us until a look around finds nobody new; each later end makes us look again."""
        if self._folder:
            write_file(self._folder + b"/cgroup.kill", b"1")  # at once: who they were is seen when they are reaped
        quiet = 0
        while quiet < 2:  # two, because a process that changes its parent can be missed once
            living = living_below(os.getpid())
            new = {pid: name for pid, name in living.items() if pid not in self._killed}
            denied = {pid: name for pid, name in living.items() if self._kill(pid) == "denied"}
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
            row = procfs.row(pid)  # a zombie still has its name
            name = procfs.encode(row.comm) if row else b""
            status = status_words(os.waitpid(pid, 0)[1])
            if self.phase == "force" and status == b"signal 9":
                self._note_killed({pid: name})
            self._release(pid)
            self._killed.discard(pid)
            if pid == self.main and self.main_runs:
                self.main_runs = False
                self.say(b"exited " + status)
            elif self.phase == "run":
                continue
            self.say(b"reaped %d %b %b" % (pid, name, status))

    # ----------------------------------------------------------------- loop

    def run(self) -> NoReturn:
        """Live until nothing is left."""
        while True:
            for fd, _ in self._epoll.poll(self._pause_s()):
                if fd == self._wake:
                    os.read(self._wake, 4096)
                elif fd == self.control:
                    self._listen()
                else:
                    self._release(next((pid for pid, pin in self._held.items() if pin.fd == fd), 0))
            self._reap()
            if self._out:
                self._flush()
            if self.phase != "run" and self._childless:
                self.say(b"empty")
                self.leave()
            try:
                self._advance()
                self._failed = False
            except OsCallError:
                self._failed = (
                    True  # no descriptor or memory for a moment: we must not die of that, our tree would run on
                )
            if self.phase == "left" and self._owner_gone:
                self.leave()

    def _pause_s(self) -> float | None:
        if self._failed:
            return _RETRY_S
        if self.phase not in ("main", "rest"):
            return None
        until = min(self._rest_at, self._ends_at) if self.phase == "main" else self._ends_at
        return max(0.0, until - time.monotonic())

    def leave(self) -> NoReturn:
        """Say the rest, remove the cgroup, end."""
        if self._cgroup is not None:
            self._cgroup.remove()
        poller = select.poll()
        poller.register(self.control, select.POLLOUT)
        while self._out and poller.poll(_FLUSH_S * 1000):
            self._flush()
        os._exit(0)


def end_children() -> None:
    """Kill our children until there are none: a child that is not reaped keeps its pid, and its orphans become our children."""
    while True:
        for pid in procfs.children(os.getpid()) or ():
            with suppress(ProcessLookupError):
                os.kill(pid, _signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main() -> NoReturn:
    """Start what the command line says and keep it."""
    control, grace_s, force, mark, _, *command = sys.argv[1:]
    # Where the owner had a standard stream closed, nothing of ours may get its number: it is given to the command and replaced later.
    while (spare := os.open("/dev/null", os.O_RDWR)) <= _LAST_STREAM:
        pass
    os.close(spare)
    fd = int(control)
    os.set_inheritable(fd, False)
    keeper = Keeper(fd, float(grace_s), force=force == "1")
    try:
        keeper.start(command, mark)
        keeper.run()
    except BaseException:
        end_children()  # a fault of ours must not leave the tree behind
        raise


if __name__ == "__main__":
    main()
