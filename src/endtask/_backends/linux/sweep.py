"""The forced end that nothing escapes: hold everything still, then end everything.

Decision: three ways, the strongest that the system and our rights allow.

cgroup.kill    The kernel ends a whole cgroup at once, also what is being forked (kernel 5.14). Only where the cgroup is exactly the scope.
cgroup-freeze  Each process is moved into a cgroup of our own that is frozen: it can neither fork nor be continued by its friends (kernel 5.2).
sigstop        Each process gets SIGSTOP.

Why nothing is born unseen. The move waits for every fork that is under way (cgroup_threadgroup_rwsem in kernel/cgroup/cgroup.c), so after it
a child is either in the process table or in our cgroup. SIGSTOP does not abort a fork that has begun (copy_process in kernel/fork.c collects
signals for later, only KILL breaks it off), so a child may come after the signal: `settle` waits until all that was signalled has stopped.
Rejected: killing at once, parent first (a tree that forks at full rate survived that in every run);
lowering RLIMIT_NPROC, which does not bind root.

A tree that forks at full rate starves everybody else: 500 forking processes on two processors made one look at them take 11 seconds.
So a sweep runs at real-time priority where that is allowed (0.2 seconds then), and leaves the moves for SIGSTOP when they wait too long.

A guardian lets everything go if we die in between; whatever is held is told to it first.

Size: one forced end with its three ways, which share their guardian.
"""

from __future__ import annotations

import errno
import os
import sys
import time

assert sys.platform == "linux"

from endtask._backends.linux import cgroups, procfs
from endtask._backends.linux.guardian import Guardian, write_file
from endtask._backends.linux.pidfd import is_there, own, stat_fields, wait_readable
from endtask._backends.linux.urgency import Urgency
from endtask.errors import OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterator, Sequence
    from typing import Literal

    from endtask._backends.base import Pin
    from endtask._backends.linux.pidfd import LinuxPin, Pins
    from endtask.model import ReceiptStatus
else:
    import _signal

_KILL = "KILL"
_DENIED = "needs the same user as the process, or CAP_KILL"
_AT_ONCE_S = 0.0001  # for one that got SIGSTOP to stop, if a processor is free; if not, `settle` waits for all together
_SETTLE_S = 0.25  # for all that got SIGSTOP to come to rest; each needs microseconds of processor time
_LOOK_MS = 1  # between two looks at one that has not
_AT_REST = (b"T", b"t", b"Z", b"X", b"x")  # proc_pid_stat(5)
_SLOW_S = 0.005  # a move takes 25 microseconds, and more only while it waits for forks of starved processes
_EMPTY_S = 0.1  # for a killed cgroup to become empty; if it takes longer, the guardian removes it


def open_sweep(pins: Pins, at: cgroups.Mounts, cgroup: str = "") -> CgroupKill | HoldSweep:
    """Open the strongest forced end at hand.

    Args:
        pins: Opens pins and sends signals.
        at: Where the cgroups are mounted.
        cgroup: A cgroup that is exactly the scope, or empty.

    Raises:
        OsCallError: Nothing can be held safely, because no guardian can be started.
    """
    folder = _killable(at, cgroup)
    if folder is not None:
        return CgroupKill(pins, at, cgroup, folder)
    return HoldSweep(pins, at)


def _killable(at: cgroups.Mounts, cgroup: str) -> bytes | None:
    """Return the folder of *cgroup* if the kernel can end it as a whole and we are not in it."""
    folder = at.v2.folder(procfs.encode(cgroup)) if at.v2 and cgroup else None
    if folder is None or not os.access(folder + b"/cgroup.kill", os.W_OK):
        return None  # the root has no such file, kernels before 5.14 have none at all
    inside = cgroups.members(cgroup, _only_v2(at))
    # Empty: on hybrid systems the name may mean a cgroup of version 1, which this file would not end.
    return folder if inside and os.getpid() not in inside else None


def _only_v2(at: cgroups.Mounts) -> cgroups.Mounts:
    only = cgroups.Mounts(b"")
    only.v2 = at.v2
    return only


def _kill(pins: Pins, pin: LinuxPin, at_s: float) -> Receipt:
    """Send KILL; a process that has exited already was not forced, although the kernel would take the signal for a zombie."""
    try:
        if pins.exited(pin):
            return Receipt(_KILL, "gone", at_s, "it had exited already")
        pins.signal(pin, _signal.SIGKILL)
    except ProcessLookupError:
        return Receipt(_KILL, "gone", at_s, "it had exited already")
    except PermissionError:
        return Receipt(_KILL, "denied", at_s, f"SIGKILL: not permitted; {_DENIED}")
    except OSError as exc:
        return Receipt(_KILL, "failed", at_s, f"SIGKILL: {exc.strerror}")
    return Receipt(_KILL, "delivered", at_s)


class CgroupKill:
    """Ends a cgroup that is exactly the scope, in one write."""

    __slots__ = ("_at", "_cgroup", "_folder", "_pins", "mechanism")

    def __init__(self, pins: Pins, at: cgroups.Mounts, cgroup: str, folder: bytes) -> None:
        self.mechanism = "cgroup.kill"
        self._pins = pins
        self._at = _only_v2(at)
        self._cgroup = cgroup
        self._folder = folder

    def hold(self, pin: Pin) -> Receipt | None:
        """Nothing needs to be held: the kernel leaves no gap."""
        return _gone() if self._pins.exited(own(pin)) else None

    def kill(self, pins: Sequence[Pin], at_s: float) -> list[Receipt]:
        """End the cgroup, and each of *pins* that is not in it through its pin."""
        inside = set(cgroups.members(self._cgroup, self._at) or ())
        # Read after the list: a pid in it belongs to the pinned process if that still lives now.
        alive = [not self._pins.exited(own(pin)) for pin in pins]
        code = write_file(self._folder + b"/cgroup.kill", b"1")
        done = Receipt(_KILL, "delivered", at_s, f"cgroup.kill of {self._cgroup}")
        return [
            done if not code and lives and pin.ref.pid in inside else _kill(self._pins, own(pin), at_s)
            for pin, lives in zip(pins, alive, strict=True)
        ]

    def settle(self) -> bool:
        """Return True: nothing has to come to rest."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class HoldSweep:
    """Holds process after process, in a frozen cgroup of our own where that is possible, else by SIGSTOP."""

    __slots__ = ("_at", "_guardian", "_moves_well", "_pins", "_procs", "_restless", "_stops", "_thawed", "_urgency")

    def __init__(self, pins: Pins, at: cgroups.Mounts) -> None:
        self._pins = pins
        self._at = at
        self._procs = -1
        self._stops = 0
        self._moves_well = True
        self._thawed = False
        self._restless: list[LinuxPin] = []
        self._urgency = Urgency()  # before the fork: the guardian must not starve either
        try:
            self._guardian = Guardian(pins)
        except BaseException:
            self._urgency.end()
            raise
        try:
            self._make_cgroup()
        except BaseException:
            self.close()
            raise

    @property
    def mechanism(self) -> str:
        """`cgroup-freeze`, or `sigstop` where at least one could not be moved into our cgroup."""
        return "cgroup-freeze" if self._procs >= 0 and not self._stops else "sigstop"

    def _make_cgroup(self) -> None:
        """Make a frozen cgroup below our own, if we may; else SIGSTOP has to do."""
        where = cgroups.paths(os.getpid())
        parent = self._at.v2.folder(where.v2) if self._at.v2 and where and where.v2 else None
        if parent is None or not os.access(parent, os.W_OK):
            return
        folder = b"%b/endtask-%d-%d" % (parent, os.getpid(), time.monotonic_ns())
        self._guardian.note(b"cgroup " + folder)
        try:
            os.mkdir(folder)
            self._procs = os.open(folder + b"/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass  # ignored: read-only (containers), not ours, too deep; SIGSTOP needs none of it
        if self._procs < 0 or not self._freeze():
            self._forget_cgroup()

    def _freeze(self) -> bool:
        return write_file(self._guardian.held.folder + b"/cgroup.freeze", b"1") == 0

    def _forget_cgroup(self) -> None:
        if self._procs >= 0:
            os.close(self._procs)
            self._procs = -1
        self._guardian.held.remove(0)

    # ----------------------------------------------------------------- hold

    def hold(self, pin: Pin) -> Receipt | None:
        """Hold one process still so that it cannot fork; None when it is held, a receipt when not."""
        mine = own(pin)
        if self._pins.exited(mine):
            return _gone()
        if self._thawed:
            self._thawed = not self._freeze()
        if self._procs >= 0 and not self._thawed:
            answer = self._move(mine)
            if answer is not False:
                return answer
        return self._stop(mine)

    def _move(self, pin: LinuxPin) -> Receipt | Literal[False] | None:
        """Move one into the frozen cgroup; False if that cannot be done with this one."""
        pid = pin.ref.pid
        where = cgroups.paths(pid)
        origin = self._at.v2.folder(where.v2) if self._at.v2 and where and where.v2 else None
        if origin is None:
            return False
        if origin == self._guardian.held.folder:
            self._adopt(pid, pin.ref.token)
            return None
        if not self._moves_well:
            return False
        self._guardian.note(b"move %d %b %b" % (pid, pin.ref.token.encode(), origin))
        # The kernel takes a pid here and no pidfd: who it means is checked right before and right after.
        if not is_there(pin):
            return self._not_held(pin)
        began = time.monotonic()
        try:
            os.write(self._procs, b"%d" % pid)
        except OSError as exc:
            self._guardian.held.forget(pid, pin.ref.token)
            # EACCES, EPERM: not ours to move. EINVAL, EOPNOTSUPP: it may not leave, or it is in a threaded cgroup.
            return _gone() if exc.errno == errno.ESRCH and self._pins.exited(pin) else False
        if not is_there(pin):
            self._bring_home(pid, origin)
            return self._not_held(pin)
        self._moves_well = time.monotonic() - began < _SLOW_S
        return None

    def _adopt(self, pid: int, token: str) -> None:
        """It was born into our cgroup, because its parent was forking while it was moved: frozen since its first moment."""
        row = procfs.row(pid)
        moved = self._guardian.held.moved
        homes = [at for (parent, _), at in moved.items() if row and parent == row.ppid]
        home = homes[0] if homes else self._guardian.held.folder.rpartition(b"/")[0]
        self._guardian.note(b"move %d %b %b" % (pid, token.encode(), home))

    def _not_held(self, pin: LinuxPin) -> Receipt:
        self._guardian.held.forget(pin.ref.pid, pin.ref.token)
        return _gone()

    def _bring_home(self, pid: int, origin: bytes) -> None:
        """It was reaped between the two looks; if a stranger got its pid in that moment, the stranger has to go back.

        Where it came from is not written anywhere: the cgroup of its parent is where it was born.
        """
        row = procfs.row(pid)
        where = cgroups.paths(pid)
        ours = self._at.v2.folder(where.v2) if self._at.v2 and where and where.v2 else None
        if row is None or ours != self._guardian.held.folder:
            return
        home = cgroups.paths(row.ppid)
        folder = self._at.v2.folder(home.v2) if self._at.v2 and home and home.v2 else None
        write_file((folder or origin) + b"/cgroup.procs", b"%d" % pid)

    def _stop(self, pin: LinuxPin) -> Receipt | None:
        pid = pin.ref.pid
        raw = procfs.stat_raw(pid)
        state = stat_fields(raw)[0] if raw else b"?"
        if state != b"T":  # one that was stopped before us must not be continued after us
            self._guardian.note(b"stop %d %b" % (pid, pin.ref.token.encode()))
        try:
            self._pins.signal(pin, _signal.SIGSTOP)
        except ProcessLookupError:
            return self._not_held(pin)
        except OSError as exc:
            self._guardian.held.forget(pid, pin.ref.token)
            status: ReceiptStatus = "denied" if isinstance(exc, PermissionError) else "failed"
            return Receipt(_KILL, status, detail=f"SIGSTOP: {exc.strerror}; {_DENIED}")
        self._stops += 1
        until = time.monotonic() + _AT_ONCE_S
        while not _is_still(pid):
            if time.monotonic() >= until:
                self._restless.append(pin)
                break
            os.sched_yield()
        return None

    def settle(self) -> bool:
        """Wait until everything that got SIGSTOP has come to rest, so that no fork is under way any more.

        Returns:
            False if something has not within a quarter of a second; then a look around proves less.
        """
        deadline = time.monotonic() + _SETTLE_S
        while self._restless:
            self._restless = [pin for pin in self._restless if not self._rests(pin)]
            if not self._restless:
                break
            if time.monotonic() >= deadline:
                return False
            # There is no event for a stop of somebody else's child. This lets them run, and an exit ends it at once.
            wait_readable(self._restless[0].fd, _LOOK_MS)
        return True

    def _rests(self, pin: LinuxPin) -> bool:
        if pin.fd < 0 or _is_still(pin.ref.pid) or self._pins.exited(pin):
            return True  # a pin that was closed meanwhile concerns nobody any more
        # In somebody else's freezer SIGSTOP stays pending, and nothing moves.
        where = cgroups.paths(pin.ref.pid)
        return where is not None and cgroups.frozen(where, self._at) != ""

    # ----------------------------------------------------------------- kill

    def kill(self, pins: Sequence[Pin], at_s: float) -> list[Receipt]:
        """End everything that is held, and each of *pins* also if it is not; then let go."""
        held = self._guardian.held
        # Through each pin first: the kernel's answers are the receipts. What is held cannot fork meanwhile.
        receipts = [_kill(self._pins, own(pin), at_s) for pin in pins]
        killed = self._kill_cgroup()
        for number, (pin, receipt) in enumerate(zip(pins, receipts, strict=True)):
            key = (pin.ref.pid, pin.ref.token)
            if receipt.status == "denied" and killed and key in held.moved:
                receipts[number] = Receipt(_KILL, "delivered", at_s, "cgroup.kill")
            if receipts[number].status in ("delivered", "gone"):
                held.forget(*key)
        self._kill_rest()
        if held.folder and self._procs >= 0:
            write_file(held.folder + b"/cgroup.freeze", b"0")
            self._thawed = True
        return receipts

    def _kill_cgroup(self) -> bool:
        """End all in our own cgroup, also a child that was born while its parent was moved; whether the kernel did it."""
        if self._procs < 0:
            return False
        folder = self._guardian.held.folder
        if write_file(folder + b"/cgroup.kill", b"1") == 0:
            return True
        # COMPAT: until kernel 5.14 is the floor. They are frozen, so the list cannot grow.
        for pid in procfs.read_all(folder + b"/cgroup.procs").split():
            self._kill_member(int(pid), folder)
        return False

    def _kill_member(self, pid: int, folder: bytes) -> None:
        try:
            with self._pins.open(pid) as pin:
                where = cgroups.paths(pid)
                if where and self._at.v2 and self._at.v2.folder(where.v2) == folder and is_there(pin):
                    self._pins.signal(pin, _signal.SIGKILL)
        except (OsCallError, OSError):
            pass  # ignored: it has gone, or is not ours; it is let go with the rest

    def _kill_rest(self) -> None:
        """End what is held and was not named again."""
        held = self._guardian.held
        for pid, token in [*held.moved, *held.stopped]:
            try:
                with self._pins.open(pid, token) as pin:
                    if _kill(self._pins, pin, 0.0).status in ("delivered", "gone"):
                        held.forget(pid, token)
            except OsCallError:
                held.forget(pid, token)  # it has gone

    def close(self) -> None:
        """Let go of whatever is still held; the guardian ends. Closing twice is allowed."""
        self._urgency.end()
        self._restless.clear()
        held = self._guardian.held
        held.let_go(self._pins)
        if self._procs >= 0:
            os.close(self._procs)
            self._procs = -1
        held.remove(_EMPTY_S)
        self._guardian.close()


def _gone() -> Receipt:
    return Receipt(_KILL, "gone", detail="it had exited already")


def _is_still(pid: int) -> bool:
    """Return whether no thread of a process that got SIGSTOP can be forking.

    One stopped thread tells that all were told (do_signal_stop in kernel/signal.c), but of several the others may be on their way to rest.
    """
    raw = procfs.stat_raw(pid)
    if not raw:
        return True
    state = stat_fields(raw)[0]
    if procfs.thread_count(raw) <= 1:
        return state in _AT_REST
    return all(state in _AT_REST for state in _thread_states(pid))


def _thread_states(pid: int) -> Iterator[bytes]:
    for thread in procfs.thread_ids(pid) or ():
        raw = procfs.look(b"/proc/%d/task/%d/stat" % (pid, thread))
        if raw:
            yield stat_fields(raw)[0]
