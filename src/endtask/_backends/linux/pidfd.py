"""Pins: a held handle that can mean only one process, on every kernel the best one it has.

Decision: the way to hold and to signal a process is probed once per backend, on ourselves, never guessed from a version.

========= ============================ ========================= ==========================
mechanism  held by                      signalled by              exact
========= ============================ ========================= ==========================
pidfd      pidfd_open(2), kernel 5.3    pidfd_send_signal(2)      yes
procfd     a descriptor of /proc/PID    pidfd_send_signal(2)      yes (kernel 5.1)
procfd     a descriptor of /proc/PID    kill(2) after a look      no: a small window remains
========= ============================ ========================= ==========================

The last two rows are for old kernels and for containers whose seccomp filter answers ENOSYS or EPERM to the new calls.
Rejected: to take EPERM at its word. Docker before 20.10 says EPERM for every call that it does not know (moby/moby#41665).
"""

from __future__ import annotations

import errno
import os
import select
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._backends.linux.limits import DescriptorLimit
from endtask.errors import AccessDeniedError, GoneError, OsCallError
from endtask.model import PidRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    # `signal` costs 2.4 ms for its enums; the C module below it has the same functions.
    import signal as _signal
    from types import TracebackType

    from typing_extensions import Self

    from endtask._backends.base import Pin
else:
    import _signal

_PROC_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # O_PATH will not do: pidfd_send_signal answers EBADF
_STAT_BYTES = 2048
_LARGEST_PID = 0x7FFFFFFF  # pid_t is an int; pid_max ends at 2^22, proc_sys_kernel(5)


class LinuxPin:
    """A live handle on one process; a context manager.

    Attributes:
        ref: The identity as a value.
        fd: The pidfd, or the descriptor of /proc/PID; -1 once closed.
        exact: Whether signals through it can never reach another process.
        mechanism: `pidfd` or `procfd`.
        last_stat: What /proc/PID/stat said when a polled process was seen dead, if its status in there is real; else empty.
    """

    __slots__ = ("exact", "fd", "last_stat", "mechanism", "ref")

    def __init__(self, fd: int, ref: PidRef, mechanism: str = "pidfd", *, exact: bool = True) -> None:
        self.fd = fd
        self.ref = ref
        self.mechanism = mechanism
        self.exact = exact
        self.last_stat = b""

    def close(self) -> None:
        """Release the handle; closing twice is allowed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self.fd >= 0:
            self.close()


def own(pin: Pin) -> LinuxPin:
    """Return *pin* as one of ours: pins of another backend are a mistake of the caller."""
    assert isinstance(pin, LinuxPin), f"{pin!r} was not opened by the Linux backend"
    return pin


# --------------------------------------------------------------------------- fields of /proc/PID/stat


def stat_through(folder_fd: int) -> bytes | None:
    """Return `stat` of the process whose /proc folder is held, None once it has been reaped.

    Raises:
        OSError: Any other reason.
    """
    try:
        fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder_fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return os.read(fd, _STAT_BYTES)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def stat_fields(raw: bytes) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the third (the state) on; the second may hold any byte."""
    return raw[raw.rindex(b")") + 2 :].split()


def is_dead(raw: bytes) -> bool:
    """Return whether a `stat` line tells that every thread has exited.

    `Z` alone does not: a main thread that has called pthread_exit(3) shows it while other threads run.
    """
    fields = stat_fields(raw)
    return fields[0] in (b"Z", b"X", b"x") and fields[17] in (b"0", b"1")


def status_is_real(raw: bytes, exe: bytes, folder_fd: int | None) -> bool:
    """Return whether the status of a zombie in `stat` (field 52) is what it exited with.

    Without the rights of ptrace(2) the field reads 0, like a success.
    The link `exe` is behind the same check (proc_pid_exe(5)): a zombie answers ENOENT to those who may, EACCES to others.
    """
    if stat_fields(raw)[49] != b"0":
        return True
    try:
        os.readlink(exe, dir_fd=folder_fd)
    except PermissionError:
        return False
    except OSError:
        return True  # ENOENT of a zombie; if it was reaped meanwhile, whoever calls looks again
    return True


def start_token(raw: bytes) -> str:
    """Return the start time in a `stat` line as the weak form of a token."""
    return f"t{stat_fields(raw)[19].decode()}"


# --------------------------------------------------------------------------- opening


class Pins:
    """Opens pins and sends signals through them, in the best way that this system has.

    Attributes:
        limits: The descriptor limit, which is raised when pins come near it.
    """

    __slots__ = ("_exact", "_mechanism", "_pidfs", "limits")

    def __init__(self) -> None:
        self.limits = DescriptorLimit()
        self._mechanism = ""
        self._exact = True
        self._pidfs = False

    def open(self, pid: int, token: str = "") -> LinuxPin:
        """Open a pin on *pid*, which must be the process of *token* if one is given.

        Raises:
            GoneError: Nobody has that pid, it is a thread of another process, or another process than *token* says.
            AccessDeniedError: The system refuses a handle.
            OsCallError: Anything else, for example no descriptor left.
        """
        if not self._mechanism:
            self._probe()
        if not 0 < pid <= _LARGEST_PID:
            raise GoneError("pidfd_open", errno.ESRCH, pid, text="no process can have that number")
        opener = _open_pidfd if self._mechanism == "pidfd" else _open_folder
        try:
            fd = self.limits.opened(opener, pid)
        except OSError as exc:
            raise _refused(exc, pid, self._mechanism) from exc
        try:
            return LinuxPin(fd, self._identify(fd, pid, token), self._mechanism, exact=self._exact)
        except BaseException:
            os.close(fd)
            raise

    def _probe(self) -> None:
        """Find out, on ourselves, how this system can hold and signal a process."""
        mechanism, fd = "pidfd", -1
        try:
            if hasattr(os, "pidfd_open"):  # missing in some builds of Python, PyPy among them
                fd = self.limits.opened(_open_pidfd, os.getpid())
        except OSError as exc:
            if exc.errno not in (errno.ENOSYS, errno.EPERM):
                raise procfs.failed("pidfd_open", exc) from exc
        if fd < 0:
            procfs.require()  # a folder number of another namespace's /proc would mean somebody else
            mechanism = "procfd"
            try:
                fd = self.limits.opened(_open_folder, os.getpid())
            except OSError as exc:
                raise procfs.failed("open /proc/self", exc) from exc
        try:
            self._exact = _takes_signals(fd)
            self._pidfs = mechanism == "pidfd" and _on_pidfs(fd)
        finally:
            os.close(fd)
        self._mechanism = mechanism

    def _identify(self, fd: int, pid: int, token: str) -> PidRef:
        """Return who is held, after a comparison with *token*."""
        if self._pidfs:
            best = str(os.fstat(fd).st_ino)
            if not token or token == best:
                return PidRef(pid, best)
            if token[:1] != "t":
                raise _another(pid, best, token)
            weak = self._start_token(fd, pid)
            if weak != token:
                raise _another(pid, weak, token)
            return PidRef(pid, best)
        best = self._start_token(fd, pid)
        if token and token[0] != "t":
            raise OsCallError(
                "pidfd_open",
                errno.ENOSYS,
                pid,
                text=f"the token `{token}` is the number of a pidfd, and here pidfds have none, so it cannot be compared",
                hint=f"this process is {pid}:{best}",
            )
        if token and token != best:
            raise _another(pid, best, token)
        return PidRef(pid, best)

    def _start_token(self, fd: int, pid: int) -> str:
        """Return the start time of the held process; never that of a later one with the same pid."""
        if self._mechanism == "procfd":
            try:
                raw = stat_through(fd)
            except OSError as exc:
                raise _refused(exc, pid, "procfd") from exc
        else:
            raw = procfs.stat_raw(pid)
            # What was read belongs to the held process if that is still there now: then it has held the pid all the time.
            if raw and not _there(fd):
                raw = None
            if not raw and _there(fd):
                why = "its start time is hidden (`/proc` with hidepid, or not mounted)"
                raise AccessDeniedError("read stat", errno.EACCES, pid, text=why)
        if not raw:
            raise GoneError("pidfd_open", errno.ESRCH, pid, text="it has just ended")
        return start_token(raw)

    # ----------------------------------------------------------------- using

    def exited(self, pin: LinuxPin) -> bool:
        """Return whether every thread of the process has exited; a zombie has (pidfd_open(2), "poll")."""
        if pin.mechanism == "pidfd":
            return wait_readable(pin.fd, 0)
        try:
            raw = stat_through(pin.fd)
        except OSError as exc:
            raise procfs.failed("read stat", exc, pin.ref.pid) from exc
        if raw is None:
            return True
        if not is_dead(raw):
            return False
        if status_is_real(raw, b"exe", pin.fd):
            pin.last_stat = raw  # nobody will tell once it is reaped
        return True

    def may_signal(self, pin: LinuxPin) -> bool | None:
        """Return whether we may send it a signal, None if it has gone; signal 0 is only checked and never sent (kill(2))."""
        try:
            self.signal(pin, 0)
        except PermissionError:
            return False
        except OSError:
            return None
        return True

    def signal(self, pin: LinuxPin, number: int) -> None:
        """Send signal *number*.

        Raises:
            ProcessLookupError: It has gone.
            PermissionError: We may not.
            OSError: The signal does not exist (EINVAL).
        """
        if pin.exact:
            _signal.pidfd_send_signal(pin.fd, number)
            return
        # Identity and signal are two calls here: whoever gets the pid in between is hit. So the pin says `exact=False`.
        if self.exited(pin):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        os.kill(pin.ref.pid, number)


def _open_pidfd(pid: int) -> int:
    return os.pidfd_open(pid)


def _open_folder(pid: int) -> int:
    # /proc/TID opens for every thread, listed or not (proc(5)); pidfd_open(2) says EINVAL to a thread, and so do we.
    fd = os.open(b"/proc/%d" % pid, _PROC_FOLDER)
    state = procfs.status(pid)
    if state is None or state.get(b"Tgid", b"%d" % pid) == b"%d" % pid:
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _takes_signals(fd: int) -> bool:
    """Return whether pidfd_send_signal(2) works on a handle of ourselves; signal 0 only asks."""
    try:
        _signal.pidfd_send_signal(fd, 0)
    except (OSError, AttributeError):
        return False  # ENOSYS or EPERM: the kernel or a filter has not got it; nobody is forbidden to signal himself
    return True


def _there(fd: int) -> bool:
    """Return whether the process of a pidfd has not been reaped, so that its pid is still its own."""
    try:
        _signal.pidfd_send_signal(fd, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # EPERM of the kernel says that it is there, EPERM or ENOSYS of a filter says nothing.
        try:
            return b"Pid:\t-1\n" not in procfs.read_once(b"/proc/self/fdinfo/%d" % fd, _STAT_BYTES)
        except OSError:
            return True  # no /proc: then nothing was read from there that could belong to another process
    return True


def is_there(pin: LinuxPin) -> bool:
    """Return whether the process has not been reaped: all that was read by its pid since the pin was opened is its own."""
    if pin.mechanism == "pidfd":
        return _there(pin.fd)
    try:
        return stat_through(pin.fd) is not None
    except OSError:
        return True  # hidden from us (hidepid), and a folder whose process has gone says ESRCH before it says EPERM


def _on_pidfs(fd: int) -> bool:
    """Return whether the inode number of a pidfd is that process's own.

    Before kernel 6.9 a pidfd was an anonymous inode, and all of these share one number on one device; an epoll still is one.
    """
    other = select.epoll()
    try:
        return os.fstat(fd).st_dev != os.fstat(other.fileno()).st_dev
    finally:
        other.close()


def wait_readable(fd: int, timeout_ms: int) -> bool:
    """Return whether a descriptor is readable, at the latest after *timeout_ms*; a /proc folder always is."""
    poller = select.poll()  # not select(2): it fails above descriptor 1,023
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_ms))


# --------------------------------------------------------------------------- errors


def _another(pid: int, found: str, wanted: str) -> GoneError:
    return GoneError(
        "pidfd_open", errno.ESRCH, pid, text=f"the pid belongs to another process by now ({pid}:{found}, not :{wanted})"
    )


def _refused(exc: OSError, pid: int, mechanism: str) -> OsCallError:
    """Return the error of a pin that could not be opened, in words."""
    call = "pidfd_open" if mechanism == "pidfd" else f"open /proc/{pid}"
    code = exc.errno or 0
    if code in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
        # A thread id: ENOENT on 6.18, EINVAL before (measured; pidfd_open(2)).
        state = procfs.status(pid) if code != errno.ESRCH else None
        leader = (state or {}).get(b"Tgid", b"").decode()
        if leader and leader != str(pid):
            return GoneError(call, code, pid, text=f"it is a thread of process {leader}; name that one")
        if mechanism == "procfd" and procfs.exists(pid):
            text = "it exists, and `/proc` hides it (hidepid), so it cannot be held"
            return AccessDeniedError(call, errno.EACCES, pid, text=text, hint="ask as the same user or as root")
        return GoneError(call, errno.ESRCH, pid)
    if code in (errno.EPERM, errno.EACCES):
        return AccessDeniedError(call, code, pid, text=exc.strerror or "", hint="ask as the same user or as root")
    return procfs.failed(call, exc, pid)
