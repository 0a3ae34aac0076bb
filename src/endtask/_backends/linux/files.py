"""Who holds a file, and what a pid file says.

Decision: a file is the same one when device and inode are the same, so hard links, bind mounts and other roots are found.
`stat` on a foreign descriptor asks that file's own file system, and a dead network server never answers:
what lies on a network file system is compared by name only, unless the file in question lies there itself.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends import pid_files
from endtask._backends.linux import cgroups, descriptors, procfs, sockets
from endtask.errors import AccessDeniedError, OsCallError

_S_IFMT, _S_IFREG, _S_IFCHR = 0o170000, 0o100000, 0o020000
_NETWORK = (
    b"nfs",
    b"cifs",
    b"smb",
    b"9p",
    b"ceph",
    b"afs",
    b"fuse ",
    b"fuse.",
    b"gfs",
    b"ocfs",
    b"lustre",
    b"ncp",
    b"coda",
)


class _Wanted:
    """What a holder's links and maps are compared with."""

    __slots__ = ("mapped", "mount", "network", "path", "seen", "socket")

    def __init__(self, path: bytes, seen: os.stat_result, network: tuple[bytes, ...]) -> None:
        self.path = os.path.realpath(path)
        self.seen = seen
        self.network = tuple(at for at in network if not _below(self.path, at))
        self.socket = sockets.unix_inodes(self.path) if sockets.is_socket(seen.st_mode) else frozenset()
        # Only these can be mapped; for others the costly maps need not be read.
        self.mapped = seen.st_mode & _S_IFMT in (_S_IFREG, _S_IFCHR)
        self.mount = procfs.link(b"/proc/self/ns/mnt")


def file_holders(path: str) -> tuple[list[int], int]:
    """Return the pids that hold *path*, and how many processes could not be looked into.

    To hold is: open, mapped, as executable, as working directory, or, for the name of a unix(7) socket, bound to it.

    Raises:
        OsCallError: The file does not exist or cannot be looked at.
        AccessDeniedError: It may not be looked at.
    """
    try:
        raw = procfs.encode(path)
        seen = os.stat(raw)
    except PermissionError as exc:
        raise AccessDeniedError("stat", exc.errno or 0, text=f"`{path}`: {exc.strerror}") from exc
    except (OSError, ValueError) as exc:
        raise _not_there("stat", path, exc) from exc
    wanted = _Wanted(raw, seen, network_mounts(procfs.look(b"/proc/self/mountinfo") or b""))
    holders, closed = [], 0
    for pid in procfs.list_pids():
        try:
            if _holds(pid, wanted):
                holders.append(pid)
        except PermissionError:
            closed += 1
    return holders, closed


def _not_there(call: str, path: str, exc: OSError | ValueError) -> OsCallError:
    if isinstance(exc, ValueError):  # a NUL in the name, or a surrogate that stands for no byte
        return OsCallError(call, 0, text=f"{path!a} is no file name")
    return OsCallError(call, exc.errno or 0, text=f"`{path}`: {exc.strerror}")


def _holds(pid: int, wanted: _Wanted) -> bool:
    """Return whether a process holds the file.

    Raises:
        PermissionError: It may not be looked into.
    """
    for _path, target in descriptors.links(pid):
        if target in wanted.socket:
            return True
        if target.startswith(b"/") and _same(_path, target, wanted):
            return True
    for name in (b"exe", b"cwd"):
        path = b"/proc/%d/%b" % (pid, name)
        target = procfs.link(path) or b""
        if target and _same(path, target, wanted):
            return True
    return wanted.mapped and _maps(pid, wanted)


def _same(path: bytes, target: bytes, wanted: _Wanted) -> bool:
    """Return whether the link *path*, which reads *target*, leads to the file."""
    if target != wanted.path and any(_below(target, at) for at in wanted.network):
        return False
    try:
        seen = os.stat(path)
    except OSError:
        return False  # ignored: closed meanwhile
    return seen.st_ino == wanted.seen.st_ino and seen.st_dev == wanted.seen.st_dev


def _maps(pid: int, wanted: _Wanted) -> bool:
    """Return whether the file is mapped, by proc_pid_maps(5): `range perms offset major:minor inode path`."""
    raw = procfs.look(b"/proc/%d/maps" % pid)
    if not raw:
        return False
    device, inode = wanted.seen.st_dev, wanted.seen.st_ino
    if b" %02x:%02x %d " % (os.major(device), os.minor(device), inode) in raw:
        return True
    # btrfs and overlayfs show another device number in maps than in stat: there the path decides, which is only
    # the same path in the same mount namespace. The kernel writes a newline in it as \012.
    ending = b" %b\n" % wanted.path.replace(b"\n", b"\\012")
    return ending in raw and procfs.link(b"/proc/%d/ns/mnt" % pid) == wanted.mount


def modules(pid: int) -> tuple[str, ...]:
    """Return the paths of the files mapped into a process, each once and in the order of their addresses, empty if unreadable."""
    raw = procfs.look(b"/proc/%d/maps" % pid) or b""
    paths: dict[bytes, None] = {}
    for line in raw.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith(b"/"):
            paths[fields[5].removesuffix(b" (deleted)").replace(b"\\012", b"\n")] = None
    return tuple(procfs.decode(path) for path in paths)


def network_mounts(mountinfo: bytes) -> tuple[bytes, ...]:
    """Return the mount points of network and user-space file systems, whose servers may be dead (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.split(b"\n"):
        left, _, right = line.partition(b" - ")
        if right.startswith(_NETWORK):
            found.append(cgroups.unescape(left.split()[4]))
    return tuple(found)


def _below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def pid_file(path: str) -> tuple[bytes, float]:
    """Return the first 4,096 bytes of a file and its age in seconds since the last write (0 if that lies in the future).

    Raises:
        OsCallError: It cannot be read, or is no regular file.
        AccessDeniedError: It may not be read.
    """
    # Without O_NONBLOCK a FIFO of that name would hold us for ever (fifo(7)); a terminal must not become ours.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return pid_files.read(procfs.encode(path), flags, path)
    except PermissionError as exc:
        raise AccessDeniedError("open", exc.errno or 0, text=f"`{path}`: {exc.strerror}") from exc
    except (OSError, ValueError) as exc:
        raise _not_there("open", path, exc) from exc
