"""What a process holds open: the links in /proc/PID/fd.

Decision: the link's text first, because reading it touches no file system; `stat` follows it only where the text asks for it.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux.procfs import decode, failed, living_thread, thread_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def descriptors(pid: int) -> tuple[bytes, list[bytes]] | None:
    """Return the folder of the descriptors' links (with a slash) and their names, None if the process has gone.

    Threads with a descriptor table of their own (clone(2) without CLONE_FILES) are not looked into.

    Raises:
        PermissionError: They may not be seen: it needs the rights of ptrace(2), proc_pid_fd(5).
        OsCallError: Something else went wrong.
    """
    folder = b"/proc/%d/fd/" % pid
    try:
        names = os.listdir(folder)
        if not names:
            # A main thread that has exited shows nothing although other threads hold the files: ask one of these.
            threads = thread_ids(pid)
            if threads is not None and len(threads) > 1:
                folder = b"/proc/%d/task/%d/fd/" % (pid, living_thread(pid))
                names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        raise
    except OSError as exc:
        raise failed("listdir fd", exc, pid) from exc
    return folder, names


def links(pid: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (path of the descriptor's link, where it points to) for everything that the process holds open.

    Raises:
        PermissionError: They may not be seen.
        OsCallError: Something else went wrong.
    """
    found = descriptors(pid)
    if found is None:
        return
    folder, names = found
    for name in names:
        path = folder + name
        try:
            target = os.readlink(path)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ignored: closed meanwhile
        except PermissionError:
            raise
        except OSError as exc:
            raise failed("readlink fd", exc, pid) from exc
        yield path, target


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
