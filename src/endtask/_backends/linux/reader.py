"""The reading half of the Linux backend: every question that needs no handle, and the facts behind one.

Decision: the methods only forward to the modules beside this one, so that each of those can be read and tested alone.
What is imported at the top is what `endtask stop PID` needs; the rest is imported where it is used.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._backends.signals_only import SignalsOnly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Part, Pin
    from endtask._backends.linux.cgroups import Mounts
    from endtask._backends.linux.ties import Kinships
    from endtask.model import Facts, Listener, Row, SignalSets

_CUT = 15  # bytes that the kernel keeps of a name (TASK_COMM_LEN without its end)


class ProcReader(SignalsOnly):
    """All reading methods of `Backend`; `LinuxBackend` adds the handles."""

    def __init__(self) -> None:
        self._mounts: Mounts | None = None
        self._users: dict[int, str] = {}
        self._kinships: Kinships | None = None

    # ------------------------------------------------------------------ itself

    @property
    def name(self) -> str:
        """`linux`."""
        return "linux"

    @property
    def folds_case(self) -> bool:
        """False: names are bytes here."""
        return False

    def now(self) -> float:
        """Monotonic clock, seconds."""
        return time.monotonic()

    def host(self) -> dict[str, str]:
        """Return host name, boot id (random(4)), pid namespace (namespaces(7)) and kernel release; empty where unreadable."""
        uname = os.uname()
        boot = procfs.look(b"/proc/sys/kernel/random/boot_id") or b""
        namespace = procfs.link(b"/proc/self/ns/pid") or b""  # "pid:[4026531836]"
        return {
            "name": uname.nodename,
            "boot": boot.decode("ascii", "replace").strip(),
            "pid_namespace": namespace.partition(b"[")[2].rstrip(b"]").decode("ascii", "replace"),
            "kernel": uname.release,
        }

    def own_line(self) -> tuple[int, ...]:
        """Return our own pid and those of our ancestors, nearest first, as far as we can see."""
        line = [os.getpid()]
        above = os.getppid()
        while above > 0 and above not in line:
            line.append(above)
            row = procfs.row(above)
            above = row.ppid if row is not None else 0
        return tuple(line)

    # ------------------------------------------------------------------ who is there

    def list_pids(self) -> list[int]:
        """Return every pid that we can see, ascending.

        Raises:
            OsCallError: The process table cannot be read (no /proc).
        """
        return procfs.list_pids()

    def short_name(self, pid: int) -> str | None:
        """Return `comm`, None if gone or hidden. The cheapest question there is."""
        return procfs.short_name(pid)

    def full_name(self, pid: int, short: str) -> str:
        """Return the whole name where *short* was cut at 15 bytes, else *short*."""
        if len(short) < _CUT and short.isascii():
            return short  # the usual case, without another import
        from endtask._backends.linux import names

        return names.full_name(pid, short)

    def untouchable(self, pid: int, short: str | None = None) -> str:
        """Return why a process must never be stopped, empty for nearly all: what Wine has started for all programs of a prefix."""
        short = procfs.short_name(pid) if short is None else short
        if short is None or not (short.endswith(".exe") or short.startswith("wine")):
            return ""  # the usual case, without another import
        from endtask._backends.linux import wine

        return wine.own_part(pid, short)

    def row(self, pid: int) -> Row | None:
        """Return one line of the process table, None if gone or hidden."""
        return procfs.row(pid)

    def table(self) -> dict[int, Row]:
        """Return the whole process table; what vanishes while it is read is left out.

        Raises:
            OsCallError: The process table cannot be read (no /proc).
        """
        return procfs.table()

    def children(self, pid: int) -> list[int] | None:
        """Return the direct children, None where only the whole table can tell."""
        return procfs.children(pid)

    def owner(self, pid: int) -> int | None:
        """Return the effective user id, None if gone or hidden."""
        return procfs.owner(pid)

    def user_id(self, name: str) -> int:
        """Return the user id of *name*; a number as text is one too, unless a user is called that (id(1) does the same).

        Raises:
            TargetError: There is no such user.
        """
        import pwd

        from endtask.errors import TargetError

        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            # isascii: int() would also take digits of other scripts
            if name.isascii() and name.isdigit() and int(name) < 1 << 32:
                return int(name)
        raise TargetError(f"there is no user `{name}`", hint="give a login name or a number")

    def user_name(self, uid: int) -> str:
        """Return the login name of *uid*, the number as text if it has none."""
        known = self._users.get(uid)
        if known is None:
            import pwd

            try:
                known = pwd.getpwuid(uid).pw_name
            except KeyError:
                known = str(uid)
            self._users[uid] = known
        return known

    def command_line(self, pid: int) -> tuple[str, ...] | None:
        """Return the arguments, None if gone or unreadable."""
        return procfs.command_line(pid)

    def working_directory(self, pid: int) -> str | None:
        """Return the current directory, None if gone or unreadable (it needs the rights of ptrace(2))."""
        target = procfs.link(b"/proc/%d/cwd" % pid)
        return None if target is None else procfs.decode(target)

    def usage(self, pid: int) -> tuple[float, float] | None:
        """Return processor seconds used and resident memory in KiB, None if gone or hidden."""
        return procfs.usage(pid)

    def modules(self, pid: int) -> tuple[str, ...]:
        """Return the paths of the files mapped into a process, empty if unreadable."""
        from endtask._backends.linux import files

        return files.modules(pid)

    def age_s(self, row: Row) -> float:
        """Return for how many seconds the process of *row* has existed.

        A hint, exact to a clock tick of usually 10 ms. Both clocks are those of our own time namespace (time_namespaces(7)).
        """
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - row.start / procfs.CLOCK_TICKS)

    def session_name(self, row: Row) -> str:
        """Return the name of the controlling terminal, empty for none."""
        if not row.tty:
            return ""
        from endtask._backends.linux import facts

        return facts.tty_name(row.tty)

    # ------------------------------------------------------------------ who holds what

    def listeners(self, proto: str, port: int) -> list[Listener]:
        """Return who listens on a port (`tcp` or `udp`, IPv4 and IPv6, our network namespace).

        A listener whose holder we may not see has no pids.

        Raises:
            OsCallError: The tables cannot be read.
        """
        from endtask._backends.linux import sockets

        return sockets.listeners(proto, port)

    def file_holders(self, path: str) -> tuple[list[int], int]:
        """Return the pids that hold *path*, and how many processes could not be looked into.

        Raises:
            OsCallError: The file does not exist or cannot be looked at.
            AccessDeniedError: It may not be looked at.
        """
        from endtask._backends.linux import files

        return files.file_holders(path)

    def pid_file(self, path: str) -> tuple[bytes, float]:
        """Return the first 4,096 bytes of *path* and its age in seconds since the last write.

        Raises:
            OsCallError: It cannot be read.
            AccessDeniedError: It may not be read.
        """
        from endtask._backends.linux import files

        return files.pid_file(path)

    # ------------------------------------------------------------------ cgroups

    def mounts(self) -> Mounts:
        """Return where the cgroup hierarchies are mounted; read once."""
        if self._mounts is None:
            from endtask._backends.linux import cgroups

            self._mounts = cgroups.mounts()
        return self._mounts

    def cgroup(self, pid: int) -> str:
        """Return the cgroup of a process: version 2, on hybrid systems that of systemd; empty if unknown."""
        from endtask._backends.linux import cgroups

        where = cgroups.paths(pid)
        return where.main if where is not None else ""

    def cgroup_pids(self, cgroup: str) -> list[int] | None:
        """Return every pid in *cgroup* and below it, None if that cannot be read."""
        from endtask._backends.linux import cgroups

        return cgroups.members(cgroup, self.mounts())

    def cgroup_empty(self, cgroup: str) -> bool | None:
        """Return whether the kernel says that *cgroup* and all below it hold no live process; None if it cannot tell."""
        from endtask._backends.linux import cgroups

        return cgroups.is_empty(cgroup, self.mounts())

    # ------------------------------------------------------------------ ties

    def marks(self, pid: int) -> tuple[str, ...]:
        """Return the values of `ENDTASK_MARK` in the environment the process started with, empty if none or unreadable."""
        from endtask._backends.linux import ties

        return ties.marks(pid)

    def kinship(self, pid: int) -> frozenset[bytes]:
        """Return the entries of the initial environment that programs rarely change, empty if unreadable."""
        return self.kinships().of(pid)

    def kinships(self) -> Kinships:
        """Return what has been read of initial environments."""
        if self._kinships is None:
            from endtask._backends.linux import ties

            self._kinships = ties.Kinships()
        return self._kinships

    def shared_objects(self, pid: int) -> frozenset[str]:
        """Return the pipes, sockets and deleted files that a process holds open, as text; empty if unreadable."""
        from endtask._backends.linux import ties

        return ties.shared_objects(pid)

    # ------------------------------------------------------------------ pinned

    def exited(self, pin: Pin) -> bool:
        """Return whether every thread of the process has exited, judged by /proc alone; a backend with handles knows better.

        State Z is not enough: a main thread that has exited shows it while other threads run.
        """
        raw = procfs.stat_raw(pin.ref.pid)
        if not raw:
            return not procfs.exists(pin.ref.pid)
        return procfs.parse_stat(raw).state in ("Z", "X", "x") and procfs.thread_count(raw) <= 1

    def may_signal(self, pin: Pin) -> bool | None:
        """Return whether we may send it a signal; None: only a backend with handles knows."""
        return None

    def kernel_ids(self, pin: Pin) -> tuple[int, int] | None:
        """Return parent pid and effective user id as the handle itself tells them, also for a process that /proc hides.

        None without a pidfd, or before kernel 6.13 (PIDFD_GET_INFO in include/uapi/linux/pidfd.h).
        """
        from endtask._backends.linux.pidfd import LinuxPin

        if not isinstance(pin, LinuxPin) or pin.mechanism != "pidfd":
            return None
        import fcntl

        info = bytearray(
            64
        )  # struct pidfd_info in its first size: mask, cgroupid; pid, tgid, ppid, ruid, rgid, euid ...
        info[0] = 1 | 2  # PIDFD_INFO_PID, PIDFD_INFO_CREDS
        try:
            fcntl.ioctl(pin.fd, (3 << 30) | (len(info) << 16) | 0xFF0B, info)
        except OSError:
            return None  # ignored: an older kernel (ENOTTY, EINVAL), or it was reaped (ESRCH)
        if info[0] & 3 != 3:
            return None
        return int.from_bytes(info[24:28], sys.byteorder), int.from_bytes(info[36:40], sys.byteorder)

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        """Read everything that `look` needs; a process that ends meanwhile is said in the fields, never raised."""
        from endtask._backends.linux import facts

        return facts.collect(self, pin, table)

    def signals(self, pid: int) -> SignalSets | None:
        """Read the signal dispositions only, None if gone or unreadable."""
        from endtask._backends.linux import signal_sets

        return signal_sets.signal_sets(pid)

    def stopped(self, pin: Pin) -> bool:
        """Return whether the process is suspended by job control (state T), or one of its threads where the main one has exited."""
        pid = pin.ref.pid
        raw = procfs.stat_raw(pid)
        if not raw:
            return False
        state = raw[raw.rindex(b")") + 2]
        if state != ord("Z"):
            return state == ord("T")
        raw = procfs.look(b"/proc/%d/task/%d/stat" % (pid, procfs.living_thread(pid)))
        return raw is not None and raw[raw.rfind(b")") + 2 :][:1] == b"T"
