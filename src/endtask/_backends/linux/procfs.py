"""Raw readers of /proc: one small read for each question, bytes in, values out.

Decision: plain `os.open`, `os.read` and `os.close` on absolute bytes paths.
File objects cost two to three times as much, and a directory descriptor saves nothing (measured over 20,000 processes).

What every reader here promises:

- A process that has gone, or that is hidden from us, is None; it may vanish between any two reads (ENOENT from open, ESRCH from read).
- Every other error, such as EMFILE, is an `OsCallError`: a full descriptor table must never look like an empty machine.
- Text is decoded as `os.fsdecode` does it, so names that are no valid UTF-8 survive the round trip.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask.errors import OsCallError
from endtask.model import Row

PF_KTHREAD = 0x00200000  # include/linux/sched.h; the flags field of proc_pid_stat(5)
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGESIZE") / 1024

_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()
_READ = os.O_RDONLY | os.O_CLOEXEC
_COMM_BYTES = 80  # 15 for programs, up to 63 for kernel threads (proc_task_name in fs/proc/array.c)
_STAT_BYTES = 2048  # a name, a letter and about 50 numbers of at most 20 digits
_PAGE = 4096
_LARGEST_PID = 0x7FFFFFFF  # pid_t is an int
_TEXT_LIMIT = 8 << 20  # arguments and environment together end at 6 MiB (execve(2), limits on size)

# PermissionError is among them: with hidepid=1 a foreign process answers EPERM to everything, so it is hidden, not gone.
_UNSEEN = (FileNotFoundError, ProcessLookupError, PermissionError)


def decode(raw: bytes) -> str:
    """Return *raw* as text, as `os.fsdecode` does."""
    return raw.decode(_ENCODING, _ERRORS)


def encode(text: str) -> bytes:
    """Return the bytes of *text*, the inverse of `decode`."""
    return text.encode(_ENCODING, _ERRORS)


def failed(call: str, exc: OSError, pid: int = 0) -> OsCallError:
    """Return *exc* as an error of this project, with a hint where one helps."""
    import errno

    hints = {
        errno.EMFILE: "endtask has no file descriptor left; raise the limit (`ulimit -n`)",
        errno.ENFILE: "the whole system has no file descriptor left (fs.file-max)",
    }
    return OsCallError(call, exc.errno or 0, pid, text=exc.strerror or "", hint=hints.get(exc.errno or 0, ""))


# --------------------------------------------------------------------------- reading a file


def read_once(path: bytes, size: int) -> bytes:
    """Return the answer of one read; for files that the kernel always gives whole.

    Raises:
        OSError: As the kernel says.
    """
    fd = os.open(path, _READ)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def read_all(path: bytes, limit: int = _TEXT_LIMIT) -> bytes:
    """Return the file up to its end, at most about *limit* bytes.

    Files of /proc that list things answer at most one page per read, whatever was asked for (fs/seq_file.c):
    only an empty read is the end.

    Raises:
        OSError: As the kernel says.
    """
    fd = os.open(path, _READ)
    try:
        first = os.read(fd, _PAGE)
        if not first:
            return first
        parts, total, size = [first], len(first), _PAGE
        while total < limit:
            part = os.read(fd, size)
            if not part:
                break
            parts.append(part)
            total += len(part)
            size = min(size * 2, 1 << 17)
        return b"".join(parts)
    finally:
        os.close(fd)


def look(path: bytes, *, of_memory: bool = False) -> bytes | None:
    """Return the whole file, None if the process is gone or hidden, or the file is not ours to read.

    Args:
        path: The file.
        of_memory: Whether it is `cmdline` or `environ`, which are copied from the memory of the process as far as the buffer reaches
            (proc_pid_cmdline_read and environ_read in fs/proc/base.c): an answer that does not fill it is the whole, without a second read.

    Raises:
        OsCallError: Something else went wrong.
    """
    try:
        raw = read_once(path, _PAGE) if of_memory else b""
        return raw if 0 < len(raw) < _PAGE else read_all(path)
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed(f"read {decode(path)}", exc) from exc


def link(path: bytes) -> bytes | None:
    """Return where a link of /proc points to, None if gone, hidden, or not ours to read.

    Raises:
        OsCallError: Something else went wrong.
    """
    try:
        return os.readlink(path)
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed(f"readlink {decode(path)}", exc) from exc


# --------------------------------------------------------------------------- who is there


def require() -> None:
    """Make sure that /proc shows the pids that our own system calls mean.

    Raises:
        OsCallError: /proc is not mounted, or it shows another pid namespace, where every number means somebody else.
    """
    try:
        seen = os.readlink(b"/proc/self")
    except OSError as exc:
        raise OsCallError(
            "readlink /proc/self",
            exc.errno or 0,
            text="`/proc` is not mounted, so no process can be looked at",
            hint="mount it: mount -t proc proc /proc",
        ) from exc
    if seen != b"%d" % os.getpid():
        # /proc numbers processes as the namespace in which it was mounted does, proc(5): not always ours.
        raise OsCallError(
            "readlink /proc/self",
            0,
            text=f"`/proc` belongs to another pid namespace: there we are {decode(seen)}, here {os.getpid()}",
            hint="mount this namespace's own: mount -t proc proc /proc (`unshare --mount-proc` does it)",
        )


def _names() -> list[bytes]:
    try:
        names = os.listdir(b"/proc")
    except OSError as exc:
        raise failed("listdir /proc", exc) from exc
    return [name for name in names if 48 <= name[0] < 58]


def list_pids() -> list[int]:
    """Return every pid that we can see, ascending.

    Raises:
        OsCallError: There is no usable /proc.
    """
    require()
    return sorted([int(name) for name in _names()])


def short_name(pid: int) -> str | None:
    """Return `comm`, None if the process is gone or hidden: the cheapest question there is.

    The name is raw: it may hold spaces, parentheses, newlines and bytes that are no text (proc_pid_comm(5)).
    """
    try:
        fd = os.open(b"/proc/%d/comm" % pid, _READ)
        try:
            raw = os.read(fd, _COMM_BYTES)
        finally:
            os.close(fd)
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed("read comm", exc, pid) from exc
    return raw[:-1].decode(_ENCODING, _ERRORS)  # exactly one newline is the kernel's, any other is the name's


def parse_stat(raw: bytes) -> Row:
    """Return the line of proc_pid_stat(5) as a row.

    The name may hold anything, also `) R 1`; after the last parenthesis there are only one letter and numbers.
    """
    start = raw.index(b"(")
    end = raw.rindex(b")")
    rest = raw[end + 2 :].split(None, 20)
    return Row(
        int(raw[:start]),
        int(rest[1]),
        int(rest[2]),
        int(rest[3]),
        int(rest[19]),
        chr(raw[end + 2]),
        raw[start + 1 : end].decode(_ENCODING, _ERRORS),
        int(rest[6]) & PF_KTHREAD != 0,
        int(rest[4]),
    )


def stat_raw(pid: int) -> bytes | None:
    """Return the bytes of `stat`, None if gone or hidden."""
    try:
        return read_once(b"/proc/%d/stat" % pid, _STAT_BYTES)
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed("read stat", exc, pid) from exc


def row(pid: int) -> Row | None:
    """Return one line of the process table, None if gone or hidden.

    A thread id that is no process answers too: /proc/TID exists although it is not listed (proc(5)). A pin refuses it.
    """
    raw = stat_raw(pid)
    return parse_stat(raw) if raw else None


def thread_count(raw: bytes) -> int:
    """Return field 20 of a `stat` line: how many threads have not been released yet."""
    return int(raw[raw.rindex(b")") + 2 :].split(None, 18)[17])


def usage(pid: int) -> tuple[float, float] | None:
    """Return processor seconds used and resident memory in KiB, None if gone or hidden.

    The memory in `stat` can lag behind by some pages for each processor (proc_pid_stat(5), "rss").
    """
    raw = stat_raw(pid)
    if not raw:
        return None
    fields = raw[raw.rindex(b")") + 2 :].split(None, 22)  # utime and stime are fields 14 and 15, rss is field 24
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS, int(fields[21]) * PAGE_KIB


def table() -> dict[int, Row]:
    """Return the whole process table; what vanishes while it is read is left out.

    Raises:
        OsCallError: There is no usable /proc.
    """
    require()
    rows: dict[int, Row] = {}
    open_, read, close = os.open, os.read, os.close  # local names: 10,000 turns of this loop are the command's time
    try:
        for name in _names():
            try:
                fd = open_(b"/proc/%b/stat" % name, _READ)
                try:
                    raw = read(fd, _STAT_BYTES)
                finally:
                    close(fd)
            except _UNSEEN:
                continue
            if raw:
                line = parse_stat(raw)
                rows[line.pid] = line
    except OSError as exc:
        raise failed("read stat", exc) from exc
    return rows


def exists(pid: int) -> bool:
    """Return whether some process has *pid*, also one that /proc hides from us (kill(2): EPERM means that it exists)."""
    if not 0 < pid <= _LARGEST_PID:
        return False  # to kill(2), 0 and negative numbers mean groups
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def thread_ids(pid: int) -> list[int] | None:
    """Return the ids of all threads, ascending, the main thread first; None if gone or hidden."""
    try:
        return sorted([int(name) for name in os.listdir(b"/proc/%d/task" % pid)])
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed("listdir task", exc, pid) from exc


def children(pid: int) -> list[int] | None:
    """Return the direct children, ascending; None where only the whole table can tell.

    Every thread has its own list (proc_tid_children(5)), and needs a kernel with CONFIG_PROC_CHILDREN.
    Children that come and go while it is read can be missed, so it is a hint; a fixed point of repeated reads is not.
    """
    threads = thread_ids(pid)
    if threads is None:
        return None if exists(pid) else []
    found: set[int] = set()
    for thread in threads:
        raw = look(b"/proc/%d/task/%d/children" % (pid, thread))
        if raw is not None:
            found.update(map(int, raw.split()))
        elif thread == pid and exists(pid) and not _has_children_files():
            return None
    return sorted(found)


def _has_children_files() -> bool:
    return os.path.exists(b"/proc/thread-self/children")


def living_thread(pid: int) -> int:
    """Return a thread that still runs: *pid* itself unless its main thread has exited before the others.

    Then /proc/PID shows a zombie without files, arguments and memory, while /proc/PID/task/OTHER still has them all.
    """
    for thread in thread_ids(pid) or [pid]:
        line = look(b"/proc/%d/task/%d/stat" % (pid, thread))
        if line and line[line.rindex(b")") + 2] not in b"ZXx":
            return thread
    return pid


# --------------------------------------------------------------------------- what it is


def owner(pid: int) -> int | None:
    """Return the effective user id, None if gone or hidden.

    The owner of the folder /proc/PID is exact, also for a process that is not dumpable:
    only what lies *in* the folder is then shown as root's (task_dump_owner in fs/proc/base.c; measured on 6.18).
    """
    try:
        return os.stat(b"/proc/%d" % pid).st_uid
    except _UNSEEN:
        return None
    except OSError as exc:
        raise failed("stat", exc, pid) from exc


def split_arguments(raw: bytes) -> tuple[str, ...]:
    """Return the arguments in the bytes of `cmdline`.

    A program may have written a title over them (proc_pid_cmdline(5)); the zeros with which it padded that are no arguments.
    """
    if not raw:
        return ()
    parts = (raw[:-1] if raw.endswith(b"\0") else raw).split(b"\0")
    if len(parts) > 2 and not any(parts[1:]):
        del parts[1:]
    return tuple(decode(part) for part in parts)


def command_line(pid: int) -> tuple[str, ...] | None:
    """Return the arguments, None if gone or unreadable; empty for a kernel thread and for a zombie."""
    raw = look(b"/proc/%d/cmdline" % pid, of_memory=True)
    return None if raw is None else split_arguments(raw)


def environ(pid: int) -> list[bytes] | None:
    """Return the entries of the environment that the process started with, None if gone or unreadable."""
    raw = look(b"/proc/%d/environ" % pid, of_memory=True)
    return None if raw is None else [entry for entry in raw.split(b"\0") if entry]


def parse_status(raw: bytes) -> dict[bytes, bytes]:
    """Return the lines of proc_pid_status(5) by their keys; the kernel escapes a newline in the name there."""
    lines = {}
    for line in raw.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon:
            lines[key] = value.strip()
    return lines


def status(pid: int, thread: int = 0) -> dict[bytes, bytes] | None:
    """Return `status` of a process or of one of its threads, None if gone or hidden."""
    raw = look(b"/proc/%d/task/%d/status" % (pid, thread) if thread else b"/proc/%d/status" % pid)
    return parse_status(raw) if raw else None
