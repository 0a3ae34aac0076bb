"""The Linux backend: what `reader.py` sees, and what this side does through pins.

Decision: seeing and acting are two halves. `ProcReader` asks /proc by pid, which gives hints; everything here takes a pin.
"""

from __future__ import annotations

import os
import stat
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._backends.linux.pidfd import Pins, own
from endtask._backends.linux.reader import ProcReader
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Conversation, ForkWatch, Pin, Waiter
    from endtask._backends.linux.channels import Commands
    from endtask._backends.linux.ends import EndReader
    from endtask._backends.linux.pidfd import LinuxPin
    from endtask._backends.linux.sweep import CgroupKill, HoldSweep
    from endtask.model import ProcessEnd, Request, Row

_FEW = 64  # processes whose environment names a folder: who stops more than that at once finds the usual folders only
_SPARE = 64  # descriptors that must be left for those who are to be stopped
_DENIED = "not permitted: needs the same user as the process, or CAP_KILL"


class LinuxBackend(ProcReader):
    """Linux as the stages see it."""

    def __init__(self) -> None:
        super().__init__()
        self._pins = Pins()
        self._ends: EndReader | None = None
        self._commands: Commands | None = None
        self._folders: dict[int, tuple[bytes, ...]] = {}  # of the sockets of receivers, by user
        self._environments = 0  # that were looked at for such a folder

    def capacity(self) -> int:
        """Return how many more pins may be open at the same time, the hard limit of RLIMIT_NOFILE counted."""
        return self._pins.limits.room()

    def pin(self, pid: int, token: str = "") -> LinuxPin:
        """Open a handle on *pid*; *token* is compared in either of its two forms.

        Raises:
            GoneError: Nobody has that pid, it is a thread, or another process than *token* says.
            AccessDeniedError: The system refuses a handle.
            OsCallError: No descriptor is left.
        """
        return self._pins.open(pid, token)

    def exited(self, pin: Pin) -> bool:
        """Return whether every thread of the process has exited (a zombie counts as exited)."""
        return self._pins.exited(own(pin))

    def may_signal(self, pin: Pin) -> bool | None:
        """Return whether we may send it a signal, None if it has gone."""
        return self._pins.may_signal(own(pin))

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        """Deliver one request; what the kernel answers is in the receipt.

        Raises:
            UnsupportedRequestError: Linux has no request of that kind; nothing was sent.
        """
        mine = own(pin)
        if request.kind == "signal":
            return self._signal(mine, request, at_s)
        from endtask._backends.linux import channels

        if request.kind == "stdin":
            return channels.write_stdin(mine, request, at_s)
        if request.kind == "command":
            if self._commands is None:
                self._commands = channels.Commands()
            return self._commands.start(mine, request, at_s)
        from endtask.errors import UnsupportedRequestError

        raise UnsupportedRequestError(f"`{request.name}` is of the kind `{request.kind}`, which Linux does not have")

    def _signal(self, pin: LinuxPin, request: Request, at_s: float) -> Receipt:
        try:
            # The kernel takes KILL for a zombie too, and then we would call forced what has ended by itself.
            if request.forced and self._pins.exited(pin):
                return Receipt(request.name, "gone", at_s, "it had exited already")
            self._pins.signal(pin, request.number)
        except ProcessLookupError:
            return Receipt(request.name, "gone", at_s, "it had exited already")
        except PermissionError:
            return Receipt(request.name, "denied", at_s, _DENIED)
        except OSError as exc:
            return Receipt(request.name, "failed", at_s, f"signal {request.number}: {exc.strerror}")
        if pin.exact:
            return Receipt(request.name, "delivered", at_s)
        text = (
            f"kill(2) right after its start time ({pin.ref.token}) was compared: this system has no pidfd_send_signal"
        )
        return Receipt(request.name, "delivered", at_s, text)

    def end(self, pin: Pin) -> ProcessEnd:
        """Return how an exited process ended; what the system does not tell is said in `why_unknown`."""
        if self._ends is None:
            from endtask._backends.linux.ends import EndReader

            self._ends = EndReader()
        return self._ends.read(own(pin))

    def waiter(self) -> Waiter:
        """Return a new wait over any number of pins."""
        from endtask._backends.linux.waiter import LinuxWaiter

        return LinuxWaiter(self._pins)

    def fork_watch(self, waiter: Waiter) -> ForkWatch | None:
        """Start to watch forks, None outside of the initial namespaces or without the right. News wake *waiter*."""
        from endtask._backends.linux.netlink import open_watch
        from endtask._backends.linux.waiter import LinuxWaiter

        assert isinstance(waiter, LinuxWaiter), "the waiter was not made by the Linux backend"
        return open_watch(waiter)

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> Conversation | str:
        """Connect to the receiver in a process, without waiting for it; see `Backend.converse`."""
        pid = pin.ref.pid
        uid = procfs.owner(pid)
        places = () if uid is None else self._places(pid, uid)
        if row is None and places:
            row = procfs.row(pid)  # by its pid, which may be another's by now
            row = None if self._pins.exited(own(pin)) else row
        if uid is None or row is None:
            return ""
        name = b"%d.%d" % (pid, row.start)
        if not any(_has(place, name) for place in places):
            return ""  # the usual case, without another import
        from endtask._backends.linux import channel
        from endtask._backends.linux.waiter import LinuxWaiter

        assert isinstance(waiter, LinuxWaiter), "the waiter was not made by the Linux backend"
        if self._pins.limits.room() < _SPARE:
            return "no descriptor can be spared for a conversation"
        return channel.converse(places, row, uid, channel.Way(waiter, self._pins.limits))

    def _places(self, pid: int, uid: int) -> tuple[bytes, ...]:
        """Return the folders that there are in which a process of a user may have the socket of its receiver, in the order in which that tries them.

        They are looked for once for each user.
        What the environment of the process itself names counts only if it runs as our user: another's may name a file system that never answers.
        """
        ours = uid == os.geteuid()
        known = self._folders.get(uid)
        if known is None:
            usual = [b"/run/user/%d/endtask" % uid, b"/tmp/endtask-%d" % uid]
            if ours:
                usual.insert(0, os.environb.get(b"XDG_RUNTIME_DIR", b"") + b"/endtask")
            known = tuple(dict.fromkeys([f for f in usual if f.startswith(b"/") and _is_folder(f)]))
            self._folders[uid] = known
        if not ours or self._environments >= _FEW:
            return known
        self._environments += 1
        own = self.kinships().runtime_folder(pid) + b"/endtask"
        return (own, *known) if own.startswith(b"/") and own not in known and _is_folder(own) else known

    def open_sweep(self, cgroup: str = "") -> CgroupKill | HoldSweep:
        """Open the strongest forced end at hand; *cgroup* is one that is exactly the scope, or empty.

        Raises:
            OsCallError: Nothing can be held safely, because no guardian can be started.
        """
        from endtask._backends.linux import cgroups, sweep

        return sweep.open_sweep(self._pins, cgroups.mounts(), cgroup)

    def close(self) -> None:
        """Collect the commands that were started and have ended; the backend may be used on."""
        if self._commands is not None:
            self._commands.reap()


if TYPE_CHECKING:

    def _fulfils(backend: LinuxBackend) -> Backend:
        return backend


def _is_folder(path: bytes) -> bool:
    """Return whether there is a folder, and no link: that may be another user's, and lead to a file system that never answers."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _has(folder: bytes, name: bytes) -> bool:
    """Return whether something has a name in a folder; by its descriptor, because it may be swapped for a link at any time."""
    try:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
