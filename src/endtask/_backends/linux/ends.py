"""How an exited process ended, also when it was never our child.

Decision: the kernel is asked in two places, because each answers only for half of the time.
After the process was reaped its pidfd knows the status (PIDFD_GET_INFO with PIDFD_INFO_EXIT, kernel 6.15); before that only
/proc/PID/stat does (field 52, and only for those who may ptrace(2) it). A process may be reaped between the two questions, so the first is put again.
Rejected: the exit events of the proc connector, which need root before 6.x and report only what ends after we began to listen.
"""

from __future__ import annotations

import errno
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._backends.linux.pidfd import is_dead, is_there, stat_fields, stat_through, status_is_real
from endtask.model import ProcessEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.linux.pidfd import LinuxPin

# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info) in its first published size, which every later kernel takes.
_INFO_BYTES = 64
_GET_INFO = (3 << 30) | (_INFO_BYTES << 16) | (0xFF << 8) | 11
_INFO_EXIT = 8
_EXIT_CODE = slice(60, 64)

_RUNNING = "it has not exited"
_NOT_OURS = "its parent has not reaped it, and only those who may trace it (ptrace) are told before"
_TOO_LATE = "it was reaped before its status could be read, and this kernel does not keep it (6.15 does)"
_NO_PIDFD = "it was reaped before its status could be read, and without a pidfd nobody keeps it"


def decode_status(status: int, source: str, parent: int = 0, parent_name: str = "") -> ProcessEnd:
    """Return a status of wait(2) in words: exit code in bits 8 to 15, signal in bits 0 to 6, core dump in bit 7."""
    number = status & 0x7F
    if number:
        return ProcessEnd(None, number, status & 0x80 != 0, source, "", parent, parent_name)
    return ProcessEnd(status >> 8 & 0xFF, 0, False, source, "", parent, parent_name)


class EndReader:
    """Reads ends; remembers that this kernel has not got the newer way."""

    __slots__ = ("_asks",)

    def __init__(self) -> None:
        self._asks = True

    def read(self, pin: LinuxPin) -> ProcessEnd:
        """Return how the process ended; what the system does not tell is said in `why_unknown`."""
        if pin.mechanism != "pidfd":
            return _from_folder(pin)
        # Twice: whatever was reaped between the question to the pidfd and the one to /proc answers in the second turn.
        for _ in range(2):
            status = self._ask(pin.fd)
            if status is not None:
                return decode_status(status, "pidfd")
            end = _from_stat(pin)
            if end is not None:
                return end
            if not self._asks:
                break
        return ProcessEnd(why_unknown=_TOO_LATE)

    def _ask(self, fd: int) -> int | None:
        """Return the wait(2) status that the pidfd keeps, None if it is not reaped yet or the kernel keeps none."""
        if not self._asks:
            return None
        import fcntl

        info = bytearray(_INFO_BYTES)
        info[:8] = _INFO_EXIT.to_bytes(8, sys.byteorder)
        try:
            fcntl.ioctl(fd, _GET_INFO, info)
        except ProcessLookupError:
            return None  # 6.13 and 6.14: gone, and its status with it
        except OSError as exc:
            # ENOTTY: no such call; EINVAL: older than 6.13. Neither will change while we run.
            if exc.errno in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                self._asks = False
            return None
        if not int.from_bytes(info[:8], sys.byteorder) & _INFO_EXIT:
            return None
        return int.from_bytes(info[_EXIT_CODE], sys.byteorder)


def _from_stat(pin: LinuxPin) -> ProcessEnd | None:
    """Return what /proc tells of a process that was not reaped yet, None if it has been."""
    pid = pin.ref.pid
    raw = procfs.stat_raw(pid)
    end = _zombie_end(raw, b"/proc/%d/exe" % pid, None) if raw else ProcessEnd(why_unknown=_NOT_OURS)
    # All of this belongs to the pinned process only if it still has the pid now.
    return end if is_there(pin) else None


def _from_folder(pin: LinuxPin) -> ProcessEnd:
    """Return what the held /proc folder tells; what was seen when it died is kept for after the reaping."""
    try:
        raw = stat_through(pin.fd)
    except OSError:
        raw = None  # ignored: hidden by now; what was seen before is still true
    if raw is None:
        if not pin.last_stat:
            return ProcessEnd(why_unknown=_NO_PIDFD)
        return decode_status(int(stat_fields(pin.last_stat)[49]), "stat")
    return _zombie_end(raw, b"exe", pin.fd)


def _zombie_end(raw: bytes, exe: bytes, folder_fd: int | None) -> ProcessEnd:
    """Return the end that a `stat` line shows, with the parent that has not reaped it."""
    if not is_dead(raw):
        return ProcessEnd(why_unknown=_RUNNING)
    fields = stat_fields(raw)
    parent = int(fields[1])
    name = procfs.short_name(parent) or "" if parent else ""
    if not status_is_real(raw, exe, folder_fd):
        return ProcessEnd(why_unknown=_NOT_OURS, unreaped_by=parent, unreaped_name=name)
    return decode_status(int(fields[49]), "stat", parent, name)
