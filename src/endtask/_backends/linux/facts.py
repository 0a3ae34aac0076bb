"""Everything that `look` needs about one pinned process, read from /proc.

Decision: one pass of small reads, then one question to the pin whether it still runs. If it does, the pid was its own
all the while, so every line that was read belongs to it (the rule of systemd's pidref). If it does not, only what a
zombie still shows is kept.

A field that cannot be read keeps its default, and its name stands in `Facts.unknown` with the reason.
Where the main thread has exited and others run on, one of these speaks for the process: /proc/PID itself is empty then.

Limits of `reaper`, which the kernel tells nobody (PR_GET_CHILD_SUBREAPER answers only to oneself): it follows from sessions.
A child is born into its parent's session and can only leave it as the leader of a new one, so a process in a foreign
session that it does not lead was adopted. Whether a leader was adopted is known below systemd, which marks what it
starts, and taken for granted below a plain init; below any other pid 1 it is unknown. An orphan that never left the
session of its adopter looks like a child.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux import cgroups, names, procfs, signal_sets, sockets, wine
from endtask._backends.linux.loops import shell_arguments
from endtask._backends.linux.managers import find_managers
from endtask._backends.linux.surroundings import Ancestor, Surroundings
from endtask.errors import OsCallError
from endtask.model import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from endtask._backends.base import Pin
    from endtask._backends.linux.reader import ProcReader
    from endtask.model import Listener, Manager, PidRef, Row, SignalSets, WineFacts

_DEAD = ("Z", "X", "x")
_SCRIPT_BYTES = 1 << 16
_MOST_ANCESTORS = 64
_INITS = frozenset(("init", "busybox", "openrc-init", "runit", "s6-svscan", "procd"))
_NOT_PERMITTED = "not permitted: it needs the rights to trace the process (ptrace)"
_HIDDEN = "hidden from us: `/proc` is mounted with hidepid, or it is another user's"
_ENDED = "it ended while it was read"


class _Draft:
    """The facts while they are being read: the same names as in `Facts`."""

    __slots__ = (
        "age_s", "cgroup", "cmdline", "core_dumping", "cwd", "environ", "exe", "exited", "frozen", "managers", "may_signal", "name",
        "namespace_init", "other_namespace", "parent", "parent_name", "ports", "reaper", "ref", "row", "signals",
        "thread", "threads", "tracer", "tty", "uid", "unknown", "user", "wait_channel", "wine",
    )  # fmt: skip

    def __init__(self, ref: PidRef) -> None:
        self.ref = ref
        self.row: Row | None = None
        self.parent: Row | None = None
        self.thread = ref.pid
        self.name = self.exe = self.user = self.tty = self.frozen = self.wait_channel = ""
        self.cgroup = self.parent_name = self.cwd = ""
        self.cmdline: tuple[str, ...] = ()
        self.environ: dict[str, str] | None = None
        self.uid = -1
        self.may_signal: bool | None = None
        self.age_s = -1.0
        self.threads = 1
        self.tracer = 0
        self.exited = self.namespace_init = self.other_namespace = self.core_dumping = self.reaper = False
        self.signals: SignalSets | None = None
        self.managers: tuple[Manager, ...] = ()
        self.ports: tuple[Listener, ...] = ()
        self.wine: WineFacts | None = None
        self.unknown: dict[str, str] = {}

    def facts(self, state: str, ppid: int) -> Facts:
        row = self.row
        return Facts(
            self.ref, self.name, ppid, row.pgid if row else 0, row.sid if row else 0, state, self.exited, self.exe,
            self.cmdline, self.uid, self.user, self.age_s, self.threads, self.tty, bool(row and row.kernel), self.signals,
            self.namespace_init, self.other_namespace, self.tracer, self.frozen, self.wait_channel, self.core_dumping,
            self.cgroup, self.parent_name, self.managers, self.ports, self.reaper, tuple(self.unknown.items()),
            wine=self.wine, may_signal=self.may_signal,
        )  # fmt: skip


def collect(reader: ProcReader, pin: Pin, table: Mapping[int, Row] | None = None) -> Facts:
    """Read the facts of a pinned process; what ends meanwhile is said in the fields, never raised.

    Args:
        reader: Whose clock, caches and pins are used.
        pin: The process.
        table: A process table for the names of the ancestors; without it each is read for itself.
    """
    draft = _Draft(pin.ref)
    pid = pin.ref.pid
    try:
        procfs.require()
        raw = procfs.stat_raw(pid)
    except OsCallError as exc:
        draft.unknown["everything"] = exc.message
        return _without_proc(draft, reader, pin)
    if not raw:
        reason = _ENDED if reader.exited(pin) else _HIDDEN
        draft.unknown["everything"] = reason
        return _without_proc(draft, reader, pin)
    row = draft.row = procfs.parse_stat(raw)
    draft.threads = procfs.thread_count(raw)
    draft.name = row.comm
    draft.age_s = reader.age_s(row)
    state = row.state
    if state in _DEAD and draft.threads > 1:
        draft.thread = procfs.living_thread(pid)
        state = _state(pid, draft.thread) or state
    _identity(draft, reader, table)
    if state not in _DEAD:
        _condition(draft, reader)
        if not row.kernel:
            _belongings(draft)
            _upkeep(draft, table)
    return _settle(draft, reader, pin, state)


def _settle(draft: _Draft, reader: ProcReader, pin: Pin, state: str) -> Facts:
    """Ask the pin last: whatever was read is this process's own if it runs, or is a zombie, now."""
    row = draft.row
    assert row is not None
    draft.may_signal = reader.may_signal(pin)
    if not reader.exited(pin):
        return draft.facts(state, row.ppid)
    again = procfs.row(pin.ref.pid)
    if again is not None and again.state in _DEAD and again.start == row.start:
        draft.exited = True
        draft.may_signal = None  # nobody is left to hear it
        draft.unknown.clear()  # what a zombie does not show is not unknown: it has gone
        return draft.facts(again.state, again.ppid)
    late = _Draft(pin.ref)
    late.exited = True
    late.name = draft.name
    late.unknown["everything"] = _ENDED
    return late.facts("X", 0)


def _without_proc(draft: _Draft, reader: ProcReader, pin: Pin) -> Facts:
    """Return the little that the pin itself knows: whether it runs, and from kernel 6.13 on its parent and its owner."""
    draft.exited = reader.exited(pin)
    draft.may_signal = None if draft.exited else reader.may_signal(pin)
    ids = reader.kernel_ids(pin)
    ppid = 0
    if ids is not None:
        ppid, draft.uid = ids
        draft.user = reader.user_name(draft.uid)
        draft.parent_name = procfs.short_name(ppid) or "" if ppid else ""
    return draft.facts("X" if draft.exited else "?", ppid)


def _state(pid: int, thread: int) -> str:
    raw = procfs.look(b"/proc/%d/task/%d/stat" % (pid, thread))
    return chr(raw[raw.rindex(b")") + 2]) if raw else ""


# --------------------------------------------------------------------------- the parts


def _path(draft: _Draft, name: bytes) -> bytes:
    """Return the path of a file about the process; that of a living thread where the main thread has exited."""
    pid = draft.ref.pid
    return b"/proc/%d/%b" % (pid, name) if draft.thread == pid else b"/proc/%d/task/%d/%b" % (pid, draft.thread, name)


def _try(draft: _Draft, field: str, read: Callable[[bytes], bytes], name: bytes) -> bytes | None:
    """Return what *read* says of a file, None with an entry in `unknown` if it may not be read."""
    try:
        return read(_path(draft, name))
    except PermissionError:
        draft.unknown[field] = _NOT_PERMITTED
    except OSError:
        return None  # ignored: gone, which the pin tells at the end, or this kernel has no such file
    return None


def _identity(draft: _Draft, reader: ProcReader, table: Mapping[int, Row] | None) -> None:
    row = draft.row
    assert row is not None
    draft.tty = tty_name(row.tty)
    if row.ppid:
        draft.parent = (table or {}).get(row.ppid) or procfs.row(row.ppid)
        if draft.parent is not None:
            draft.parent_name = names.full_name(row.ppid, draft.parent.comm)
        else:
            draft.unknown["parent_name"] = _HIDDEN
    uid = procfs.owner(row.pid)
    if uid is not None:
        draft.uid = uid
        draft.user = reader.user_name(uid)
    cmdline = _try(draft, "cmdline", procfs.read_all, b"cmdline")
    draft.cmdline = procfs.split_arguments(cmdline or b"")
    if not row.kernel:
        exe = _try(draft, "exe", os.readlink, b"exe")
        draft.exe = procfs.decode(exe) if exe else ""
        draft.name = names.longer(row.comm, draft.exe, draft.cmdline)


def _condition(draft: _Draft, reader: ProcReader) -> None:
    """Read what decides about a request: masks, tracer, namespace, freezer, kernel call."""
    pid = draft.ref.pid
    lines = procfs.status(pid)
    draft.signals = signal_sets.signal_sets(pid, lines)
    if draft.signals is None or lines is None:
        draft.unknown["signals"] = "`/proc/PID/status` could not be read"
        return
    if not draft.signals.waited_known:
        draft.unknown["signals.waited"] = f"whether a thread waits for a signal: {_NOT_PERMITTED}"
    draft.tracer = int(lines.get(b"TracerPid", b"0"))
    draft.core_dumping = lines.get(b"CoreDumping") == b"1"
    _namespace(draft, lines)
    channel = _try(draft, "wait_channel", lambda path: procfs.read_once(path, 256), b"wchan")
    draft.wait_channel = procfs.decode(channel) if channel and channel != b"0" else ""
    where = cgroups.paths(pid)
    if where is None:
        draft.unknown["cgroup"] = _HIDDEN
        return
    draft.cgroup = where.main
    draft.frozen = cgroups.frozen(where, reader.mounts())


def _namespace(draft: _Draft, lines: Mapping[bytes, bytes]) -> None:
    # "NSpid: 4711 12 1": its pid in each pid namespace from that of this /proc down to its own, proc_pid_status(5)
    numbers = lines.get(b"NSpid", b"").split()
    if numbers:
        draft.other_namespace = len(numbers) > 1
        draft.namespace_init = draft.other_namespace and numbers[-1] == b"1"
        return
    # COMPAT: until kernel 4.1 is the floor, which added the line.
    theirs = _try(draft, "other_namespace", os.readlink, b"ns/pid")
    draft.other_namespace = theirs is not None and theirs != procfs.link(b"/proc/self/ns/pid")
    if draft.other_namespace:
        draft.unknown["namespace_init"] = "this kernel does not show pids of other namespaces"


def _belongings(draft: _Draft) -> None:
    cwd = _try(draft, "cwd", os.readlink, b"cwd")
    draft.cwd = procfs.decode(cwd) if cwd else ""
    draft.unknown.pop("cwd", None)  # no field of Facts; the judgement of managers does without it
    try:
        draft.ports = sockets.of_process(draft.ref.pid)
    except PermissionError:
        draft.unknown["ports"] = _NOT_PERMITTED
    except OsCallError as exc:
        draft.unknown["ports"] = exc.message


def _upkeep(draft: _Draft, table: Mapping[int, Row] | None) -> None:
    """Judge who looks after the process."""
    raw = _try(draft, "managers", procfs.read_all, b"environ")
    if raw is None:
        draft.unknown.setdefault("managers", "its environment could not be read")
    draft.environ = None if raw is None else environment(raw)
    _judge_reaper(draft)
    if "managers" in draft.unknown:
        draft.unknown["managers"] = f"its environment may hold more: {draft.unknown['managers']}"
    draft.managers = find_managers(
        Surroundings(
            draft.ref.pid,
            draft.cgroup,
            draft.environ or {},
            draft.cwd,
            ancestors(draft.row, table),
            draft.reaper,
            os.uname().nodename,
        )
    )
    found = wine.look_at(draft.ref.pid, draft.name, draft.exe, draft.cmdline, draft.environ, (draft.uid, draft.user))
    if found is not None:
        draft.wine, draft.managers, draft.cmdline = found.facts, (found.manager, *draft.managers), found.cmdline
        draft.unknown.update(found.unknown)


def environment(raw: bytes) -> dict[str, str]:
    """Return the entries of an environment by name; of two with one name the first, as getenv(3) does."""
    found: dict[str, str] = {}
    for entry in raw.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(procfs.decode(name), procfs.decode(value))
    return found


def tty_name(device: int) -> str:
    """Return the name of a terminal's device number as ps(1) shows it, empty for none."""
    if not device:
        return ""
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:  # Documentation/admin-guide/devices.txt: pseudo terminals
        return f"pts/{(major - 136) * 256 + minor}"
    target = procfs.link(b"/sys/dev/char/%d:%d" % (major, minor))
    return procfs.decode(target.rpartition(b"/")[2]) if target else f"{major}:{minor}"


# --------------------------------------------------------------------------- parents


def _judge_reaper(draft: _Draft) -> None:
    row, parent = draft.row, draft.parent
    assert row is not None
    if parent is None:
        return
    started = None if draft.environ is None else draft.environ.get("SYSTEMD_EXEC_PID", "")
    verdict = only_reaps(
        row,
        parent,
        started,
        user_manager=is_user_manager(parent),
        leader_there=procfs.exists(row.sid) if row.sid else True,
    )
    if verdict is None:
        draft.unknown["reaper"] = (
            f"it leads a session of its own: whether {parent.comm} started it or adopted it cannot be seen"
        )
    draft.reaper = bool(verdict)


def is_user_manager(row: Row) -> bool:
    """Return whether a row is that of `systemd --user`, which adopts the orphans of its user's services (systemd(1))."""
    return row.comm == "systemd" and row.pid != 1 and "--user" in (procfs.command_line(row.pid) or ())


def only_reaps(
    row: Row, parent: Row, started: str | None, *, user_manager: bool = False, leader_there: bool = True
) -> bool | None:
    """Return whether *parent* adopted the process of *row* instead of starting it; None if that cannot be told (pure).

    Args:
        row: The process.
        parent: Its parent.
        started: SYSTEMD_EXEC_PID in its environment (systemd 248: the pid of a unit's own process), empty if it has
            none, None if the environment could not be read.
        user_manager: Whether the parent is `systemd --user`.
        leader_there: Whether the leader of its session still exists.
    """
    init = parent.pid == 1
    systemd = user_manager or (init and parent.comm == "systemd")
    if row.sid == parent.sid or (systemd and started == str(row.pid)):
        return False
    if row.sid != row.pid:
        # Not born there, unless a parent that leads a session now started it before it made that session.
        return init or user_manager or parent.sid != parent.pid or not leader_there
    if systemd:
        return None if started is None else True
    if init and parent.comm in _INITS and not row.tty:
        return True  # what such an init starts itself, it starts on a terminal
    return None if init else False


def ancestors(row: Row | None, table: Mapping[int, Row] | None) -> tuple[Ancestor, ...]:
    """Return who is above *row*, the parent first, as far as we can see."""
    found: list[Ancestor] = []
    seen = {0}
    while row is not None and row.ppid not in seen and len(found) < _MOST_ANCESTORS:
        pid = row.ppid
        seen.add(pid)
        row = (table or {}).get(pid) or procfs.row(pid)
        if row is not None:
            found.append(_ancestor(row))
    return tuple(found)


def _ancestor(row: Row) -> Ancestor:
    pid = row.pid
    cmdline = procfs.command_line(pid) or ()
    cwd = ""
    if row.comm in ("runsv", "s6-supervise", "supervise"):
        cwd = procfs.decode(procfs.link(b"/proc/%d/cwd" % pid) or b"")
    kind, text = shell_arguments(cmdline)
    script = _script(pid, text) if kind == "script" else None
    return Ancestor(pid, row.comm, cmdline, cwd, script)


def _script(pid: int, path: str) -> str | None:
    """Return the beginning of the script that a shell runs, None if it cannot be read."""
    raw = procfs.encode(path)
    # Seen as the shell sees it: below its own root, or from where it works.
    below = b"/proc/%d/root" % pid if raw.startswith(b"/") else b"/proc/%d/cwd/" % pid
    try:
        fd = os.open(below + raw, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if os.fstat(fd).st_mode & 0o170000 != 0o100000:
                return None
            return procfs.decode(os.read(fd, _SCRIPT_BYTES))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None  # ignored: no rights, or the script was moved; the guess then says that it could not be read
