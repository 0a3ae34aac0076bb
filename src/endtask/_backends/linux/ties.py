"""What only inheritance gives: our mark, the environment, the nameless objects that a process holds open.

Decision: each is read alone and none is a proof; who asks combines them with the process table.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux.descriptors import links
from endtask._backends.linux.procfs import decode, environ, look

_MARK = b"ENDTASK_MARK="
_RUNTIME = b"XDG_RUNTIME_DIR"


def marks(pid: int) -> tuple[str, ...]:
    """Return the values of `ENDTASK_MARK` in the environment the process started with, empty if none or unreadable."""
    return tuple(decode(entry[len(_MARK) :]) for entry in environ(pid) or () if entry.startswith(_MARK))


# What shells, terminals, Python (PEP 538) and Wine change for every command or in every level; all else is inherited as it is.
_VOLATILE = (
    b"_=",
    b"SHLVL=",
    b"PWD=",
    b"OLDPWD=",
    b"LC_CTYPE=",
    b"COLUMNS=",
    b"LINES=",
    b"WINESERVERSOCKET=",
    b"WINEPRELOADRESERVE=",
)


_MOST_KEPT = 256  # environments; some KiB each


class Kinships:
    """Reads kinship; processes with the same environment share one answer, because ten thousand of a kind would not fit otherwise."""

    __slots__ = ("_known", "_runtime")

    def __init__(self) -> None:
        self._known: dict[bytes, frozenset[bytes]] = {}
        self._runtime: dict[int, bytes] = {}  # of whom was read, by pid

    def of(self, pid: int) -> frozenset[bytes]:
        """Return the entries of the initial environment, empty if there is none or it may not be read.

        Without what is changed all the time; a program that starts another one rarely changes more than one or two of the rest.
        """
        raw = look(b"/proc/%d/environ" % pid, of_memory=True)
        if len(self._runtime) >= _MOST_KEPT:
            self._runtime.clear()
        self._runtime[pid] = value_of(_RUNTIME, raw or b"")
        if not raw:
            return frozenset()
        found = self._known.get(raw)
        if found is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            found = frozenset([e for e in raw.split(b"\0") if e and not e.startswith(_VOLATILE)])
            self._known[raw] = found
        return found

    def runtime_folder(self, pid: int) -> bytes:
        """Return XDG_RUNTIME_DIR in the initial environment, empty if there is none; without another read of what `of` has read."""
        known = self._runtime.pop(pid, None)
        return value_of(_RUNTIME, look(b"/proc/%d/environ" % pid, of_memory=True) or b"") if known is None else known


def value_of(name: bytes, environment: bytes) -> bytes:
    """Return the value of a variable in the bytes of an environment, empty if it has none."""
    return (b"\0" + environment).partition(b"\0" + name + b"=")[2].partition(b"\0")[0]


def kinship(pid: int) -> frozenset[bytes]:
    """Return what `Kinships.of` tells of a single process."""
    return Kinships().of(pid)


def shared_objects(pid: int) -> frozenset[str]:
    """Return the pipes, sockets and deleted files that the process holds open, as text; empty if unreadable.

    They have no name by which a stranger could open them, so whoever holds the same one got it from a common
    ancestor (or was handed it through a socket, unix(7) SCM_RIGHTS).
    """
    found = set()
    try:
        for path, target in links(pid):
            if target.startswith((b"pipe:[", b"socket:[")):
                found.add(decode(target))
            elif target.endswith(b" (deleted)") and target.startswith(b"/"):
                kind = _deleted(path)
                if kind:
                    found.add(kind)
    except PermissionError:
        return frozenset()  # ignored: not ours to see, and the caller has other ties
    return frozenset(found)


def _deleted(path: bytes) -> str:
    """Return device and inode of an open regular file without a name, else an empty string."""
    try:
        seen = os.stat(path)
    except OSError:
        return ""  # ignored: closed meanwhile
    # `st_nlink` 0, because a file that is really called "x (deleted)" has the same link text.
    return f"deleted:{seen.st_dev}:{seen.st_ino}" if seen.st_mode & 0o170000 == 0o100000 and not seen.st_nlink else ""
