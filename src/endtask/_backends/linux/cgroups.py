"""Control groups, read only: where a process is, who else is there, is it empty, is it frozen.

Decision: the mounts are looked up in mountinfo instead of assumed, because four layouts are in use: version 2 alone
at /sys/fs/cgroup, hybrid (version 2 at `unified`, controllers and `name=systemd` as version 1), version 1 alone, and
a container's own view of one branch.
"""

from __future__ import annotations

import errno
import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs

_NO_THREADED = errno.EOPNOTSUPP


def unescape(raw: bytes) -> bytes:
    """Return a path of mountinfo with its octal escapes resolved: a space is a backslash and 040."""
    first, *rest = raw.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


class Mount:
    """Where one hierarchy is mounted.

    Attributes:
        point: The mount point.
        root: The cgroup that is seen there, `/` for the whole hierarchy.
    """

    __slots__ = ("point", "root")

    def __init__(self, point: bytes, root: bytes) -> None:
        self.point = point
        self.root = root.rstrip(b"/")

    def folder(self, path: bytes) -> bytes | None:
        """Return the folder of cgroup *path*, None if it lies outside of what is mounted.

        `/proc/PID/cgroup` writes `/../x` for what is above our cgroup namespace (cgroup_namespaces(7)).
        """
        if not path.startswith(b"/") or b"/../" in path + b"/":
            return None
        if self.root and path != self.root and not path.startswith(self.root + b"/"):
            return None
        return self.point + path[len(self.root) :].rstrip(b"/")


class Mounts:
    """The hierarchies that matter here, None where they are not mounted.

    Attributes:
        v2: The unified hierarchy.
        named: Version 1, `name=systemd`.
        freezer: Version 1, freezer.
    """

    __slots__ = ("freezer", "named", "v2")

    def __init__(self, mountinfo: bytes) -> None:
        self.v2: Mount | None = None
        self.named: Mount | None = None
        self.freezer: Mount | None = None
        for line in mountinfo.split(b"\n"):
            # `id parent major:minor root point options [tag...] - type source options`, proc_pid_mountinfo(5)
            left, _, right = line.partition(b" - ")
            kind, _, rest = right.partition(b" ")
            if kind not in (b"cgroup", b"cgroup2"):
                continue
            fields = left.split()
            mount = Mount(unescape(fields[4]), unescape(fields[3]))
            options = rest.split()[-1].split(b",")
            if kind == b"cgroup2":
                self.v2 = _wider(self.v2, mount)
            elif b"name=systemd" in options:
                self.named = _wider(self.named, mount)
            elif b"freezer" in options:
                self.freezer = _wider(self.freezer, mount)


def _wider(old: Mount | None, new: Mount) -> Mount:
    return new if old is None or len(new.root) < len(old.root) else old


class Paths:
    """In which cgroups a process is, empty where it is in none that we know.

    Attributes:
        v2: In the unified hierarchy.
        named: In version 1, `name=systemd`.
        freezer: In version 1, freezer.
    """

    __slots__ = ("freezer", "named", "v2")

    def __init__(self, raw: bytes) -> None:
        self.v2 = self.named = self.freezer = b""
        for line in raw.split(b"\n"):
            number, _, rest = line.partition(b":")
            controllers, _, path = rest.partition(b":")
            path = path.removesuffix(b" (deleted)")  # removed while a zombie was left in it (cgroups(7))
            if number == b"0":
                self.v2 = path
            elif controllers == b"name=systemd":
                self.named = path
            elif b"freezer" in controllers.split(b","):
                self.freezer = path

    @property
    def main(self) -> str:
        """The cgroup that tells who manages it: version 2, on hybrid systems that of systemd."""
        return procfs.decode(self.named if self.v2 in (b"", b"/") and self.named else self.v2)


def mounts() -> Mounts:
    """Read our mounts."""
    return Mounts(procfs.look(b"/proc/self/mountinfo") or b"")


def paths(pid: int) -> Paths | None:
    """Read the cgroups of a process, None if gone or hidden."""
    raw = procfs.look(b"/proc/%d/cgroup" % pid)
    return None if raw is None else Paths(raw)


def frozen(where: Paths, at: Mounts) -> str:
    """Return `v2` or `v1` when the process is held by that version's freezer, else an empty string.

    Version 1: `freezer.state` counts the ancestors in (cgroup-v1/freezer-subsystem.rst).
    Version 2: `cgroup.events` says `frozen 1` when all has come to rest; on the way there only `cgroup.freeze`
    of the cgroup or of an ancestor says it (cgroup-v2.rst).
    """
    if where.freezer and at.freezer:
        folder = at.freezer.folder(where.freezer)
        if folder is not None and (_line(folder + b"/freezer.state") or b"THAWED") != b"THAWED":
            return "v1"
    folder = at.v2.folder(where.v2) if where.v2 and at.v2 else None
    if folder is None or at.v2 is None:
        return ""
    if b"frozen 1" in (_line(folder + b"/cgroup.events") or b""):
        return "v2"
    while len(folder) > len(at.v2.point):
        if _line(folder + b"/cgroup.freeze") == b"1":
            return "v2"
        folder = folder.rpartition(b"/")[0]
    return ""


def _line(path: bytes) -> bytes | None:
    """Return a small file without the newline at its end, None if it cannot be read."""
    try:
        return procfs.read_once(path, 256).rstrip(b"\n")
    except OSError:
        return None  # ignored: no such file in a root cgroup or an older kernel, or not ours to read


def _folder(cgroup: str, at: Mounts) -> tuple[bytes | None, bytes | None]:
    """Return the existing folders of *cgroup* in version 2 and in `name=systemd`."""
    raw = procfs.encode(cgroup)
    v2 = at.v2.folder(raw) if at.v2 and raw else None
    named = at.named.folder(raw) if at.named and raw else None
    return (
        v2 if v2 is not None and os.path.isdir(v2) else None,
        named if named is not None and os.path.isdir(named) else None,
    )


def members(cgroup: str, at: Mounts) -> list[int] | None:
    """Return every pid in *cgroup* and below it, ascending; None if that cannot be read.

    On a hybrid system the same path can name a cgroup of version 2 and one of systemd: version 2 first,
    systemd's where that one holds nobody.
    """
    answers = [_walk(folder) for folder in _folder(cgroup, at) if folder is not None]
    known = [answer for answer in answers if answer is not None]
    return next(filter(None, known), []) if known else None


def _walk(folder: bytes) -> list[int] | None:
    """Return the pids in a folder and below it, None if its own list cannot be read."""
    found: set[int] = set()
    todo = [folder]
    while todo:
        current = todo.pop()
        try:
            found.update(map(int, procfs.read_all(current + b"/cgroup.procs").split()))
            with os.scandir(current) as entries:
                todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as exc:
            # ENOENT or ENODEV: removed meanwhile, and only an empty cgroup can be removed. EOPNOTSUPP: a threaded
            # cgroup, whose processes its domain above has listed already (cgroup-v2.rst, "Threads").
            below = current is not folder
            if exc.errno in (errno.ENOENT, errno.ENODEV) or (below and exc.errno == _NO_THREADED):
                continue
            return None
    found.discard(0)  # who lives outside of our pid namespace is shown as 0
    return sorted(found)


def is_empty(cgroup: str, at: Mounts) -> bool | None:
    """Return whether the kernel says that *cgroup* and all below it hold no live process; None if it cannot tell.

    Version 2 says so in `cgroup.events` (`populated`, zombies do not count). A cgroup that has been removed was
    empty before (cgroups(7)). In version 1 a listed process shows the contrary, but an empty list proves nothing,
    because a fork can slip in between two reads.
    """
    v2, named = _folder(cgroup, at)
    if v2 is None and named is None:
        raw = procfs.encode(cgroup)
        reachable = any(mount and mount.folder(raw) is not None for mount in (at.v2, at.named))
        return True if raw and reachable else None
    events = _line(v2 + b"/cgroup.events") if v2 is not None else None
    if events is not None and b"populated 1" in events:
        return False
    if named is not None and _walk(named):
        return False
    return None if events is None else b"populated 0" in events
