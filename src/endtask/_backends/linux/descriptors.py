"""What a process holds open: the links in /proc/PID/fd.

Decision: the link's text first, because reading it touches no file system; `stat` follows it only where the text asks for it.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux.procfs import failed, living_thread, row, thread_ids

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
        try:
            names = os.listdir(folder)
        except PermissionError:
            # What has no memory of its own shows all as root's (task_dump_owner in fs/proc/base.c), a zombie for example.
            names = []
            if not _memoryless(pid):
                raise
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


def _memoryless(pid: int) -> bool:
    """Return whether a process, or its main thread, can hold nothing open: a zombie, or a kernel thread."""
    line = row(pid)
    return line is not None and (line.kernel or line.state in ("Z", "X", "x"))


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
