"""The process table: one question to the kernel, and what is kept of the answer.

Decision: NtQuerySystemInformation(SystemProcessInformation). It is one consistent picture with creation times, sessions, usage and the states of all threads,
needs no right on any process, and is what Task Manager shows.
Rejected: CreateToolhelp32Snapshot (no creation times, a call for each process); EnumProcesses (only numbers); psutil (a dependency).

A picture is old as soon as it is taken. What never changes in the life of a process (name, parent, session) may be answered from the last picture
*if* a handle on the pid shows the same creation time; everything else is read anew. Without that, selecting by name among n processes would take n pictures.

The parent's pid is the one Windows keeps: it is never updated, and may be anybody's by now. Who reads it compares creation times.
"""

from __future__ import annotations

import ctypes
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles, images
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask.errors import AccessDeniedError, OsCallError
from endtask.model import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.winapi.ntdll import SystemProcess, SystemThread

SYSTEM = 4  # pid of the kernel's own process
_FIRST_BYTES = 1 << 18
_ROUNDS = 16  # of asking again because the answer has grown
_ROOM_FOR_NEW = 1 << 14
_RECENT_S = 1.0
_DENIED_FRESH_S = 1.0  # how old a picture may be for a process that we may not open, so that no pin can go wrong by it


class Snapshot:
    """One picture of all processes.

    Attributes:
        at_s: When it was taken, by the monotonic clock.
        unborn: Pids of processes that Wine has not begun yet.
    """

    __slots__ = ("_at", "_base", "_buffer", "at_s", "unborn")

    def __init__(self, buffer: ctypes.Array[ctypes.c_char]) -> None:
        self.at_s = time.monotonic()
        self._buffer = buffer
        self._base = ctypes.addressof(buffer)
        self._at: dict[int, SystemProcess] = {}
        at = 0
        while True:
            entry = ntdll.SystemProcess.from_buffer(buffer, at)
            if entry.pid:  # 0 is the idle process: a counter of unused time, nothing that could be opened
                self._at[entry.pid] = entry
            if not entry.next:
                break
            at += entry.next
        self.unborn = [pid for pid, entry in self._at.items() if entry.created == handles.UNBORN]

    def pids(self) -> list[int]:
        """Return every pid, ascending."""
        return sorted(self._at)

    def created(self, pid: int) -> int:
        """Return the creation time of a process, -1 if it is not in the picture."""
        entry = self._at.get(pid)
        return -1 if entry is None else entry.created

    def name(self, pid: int) -> str:
        """Return the image name of a process that is in the picture."""
        name = self._at[pid].name
        if not name.at:
            return f"pid {pid}"
        # A name is any sequence of 16-bit units, so half a pair is kept as it is.
        return ctypes.string_at(name.at, name.length).decode("utf-16-le", "surrogatepass")

    def row(self, pid: int) -> Row | None:
        """Return one line, None if the process is not in the picture."""
        entry = self._at.get(pid)
        if entry is None:
            return None
        name = self.name(pid)
        kernel = is_kernel(pid, entry.ppid, name)
        state = "T" if not kernel and all_suspended(self._threads(entry)) else "R"
        return Row(pid, entry.ppid, 0, 0, entry.created, state, name, kernel, desktop_session=entry.session)

    def rows(self) -> dict[int, Row]:
        """Return all lines."""
        found = ((pid, self.row(pid)) for pid in self._at)
        return {pid: row for pid, row in found if row is not None}

    def children(self, pid: int) -> list[int]:
        """Return whose parent *pid* is; a process that is older than *pid* got a parent that had the number before."""
        born = self.created(pid)
        return sorted(p for p, e in self._at.items() if e.ppid == pid and e.created >= born >= 0)

    def ancestors(self, pid: int) -> list[int]:
        """Return the parent of *pid*, its parent, and so on, as long as each is older than its child."""
        line = [pid]
        while True:
            entry = self._at.get(line[-1])
            above = self._at.get(entry.ppid) if entry is not None else None
            if entry is None or above is None or above.created > entry.created or above.pid in line:
                return line[1:]
            line.append(above.pid)

    def usage(self, pid: int) -> tuple[float, float] | None:
        """Return processor seconds used and working set in KiB, None if the process is not in the picture."""
        entry = self._at.get(pid)
        return None if entry is None else ((entry.user_time + entry.kernel_time) / 1e7, entry.working_set / 1024)

    def thread_ids(self, pid: int) -> list[int]:
        """Return the ids of all threads, empty if the process is not in the picture."""
        entry = self._at.get(pid)
        return [] if entry is None else [t.thread for t in self._threads(entry)]

    def suspended(self, pid: int) -> bool | None:
        """Return whether all threads of a process are suspended; None if that cannot be told, or it is not in the picture."""
        entry = self._at.get(pid)
        if entry is None or not entry.threads:
            return None
        if all_suspended(self._threads(entry)):
            return True
        if any(t.state for t in self._threads(entry)):
            return False
        return _by_counts(self.thread_ids(pid))  # Wine gives no states

    def _threads(self, entry: SystemProcess) -> Iterator[SystemThread]:
        at = ctypes.addressof(entry) - self._base + ctypes.sizeof(ntdll.SystemProcess)
        size = ctypes.sizeof(ntdll.SystemThread)
        return (ntdll.SystemThread.from_buffer(self._buffer, at + n * size) for n in range(entry.threads))


def is_kernel(pid: int, ppid: int, name: str) -> bool:
    """Return whether a process is a part of the kernel: `System`, and what it has made without a program (`Registry`, `Memory Compression`) (pure).

    Everything that runs a program has its file name with its ending; these have names without.
    """
    return pid == SYSTEM or (ppid == SYSTEM and "." not in name)


def all_suspended(threads: Iterator[SystemThread]) -> bool:
    """Return whether there are threads, and all of them wait because they are suspended (pure)."""
    any_thread = False
    for thread in threads:
        any_thread = True
        if thread.state != ntdll.THREAD_STATE_WAITING or thread.wait_reason != ntdll.WAIT_REASON_SUSPENDED:
            return False
    return any_thread


def _by_counts(thread_ids: list[int]) -> bool | None:
    """Return whether every thread has a suspend count above 0 (Windows 8.1 and later, Wine); None if not all may be asked."""
    for number in thread_ids:
        opened = kernel32.OpenThread(kernel32.THREAD_QUERY_LIMITED_INFORMATION, False, number)
        if not opened:
            return None
        count = ctypes.c_ulong()
        with handles.Handle(opened) as thread:
            status = ntdll.NtQueryInformationThread(
                thread, ntdll.THREAD_SUSPEND_COUNT, ctypes.byref(count), ctypes.sizeof(count), None
            )
        if status:
            return None
        if not count.value:
            return False
    return bool(thread_ids)


def take() -> Snapshot:
    """Take a picture of all processes; one that Wine has not begun yet is waited for, for a moment (`handles.birth`).

    Whoever is in the picture all the same without a creation time cannot be pinned, and the error says why.

    Raises:
        OsCallError: The kernel does not give one.
    """
    snapshot = Snapshot(query_system(ntdll.SYSTEM_PROCESS_INFORMATION, _FIRST_BYTES))
    if not snapshot.unborn:
        return snapshot
    until = time.perf_counter() + handles.BIRTH_S
    for _ in range(_ROUNDS):
        try:
            handles.open_pin(snapshot.unborn[0]).close()
        except OsCallError:
            pass  # ignored: it is looked at again
        snapshot = Snapshot(query_system(ntdll.SYSTEM_PROCESS_INFORMATION, _FIRST_BYTES))
        if not snapshot.unborn or time.perf_counter() >= until:
            break
    return snapshot


def query_system(what: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """Return the answer of NtQuerySystemInformation to a question whose answer grows while one asks.

    Raises:
        OsCallError: There is none.
    """
    status = 0
    for _ in range(_ROUNDS):
        buffer = ctypes.create_string_buffer(size)
        needed = ctypes.c_ulong()
        status = ntdll.NtQuerySystemInformation(what, buffer, size, ctypes.byref(needed))
        if status != ntdll.STATUS_INFO_LENGTH_MISMATCH:
            break
        size = max(size * 2, needed.value + _ROOM_FOR_NEW)  # some classes say what they need, some do not
    if status:
        raise errors.failed("NtQuerySystemInformation", ntdll.RtlNtStatusToDosError(status))
    return buffer


def ended_row(pid: int) -> Row | None:
    """Return the line of a process that has ended and that somebody still holds a handle on, state `Z`; None for all others.

    No picture shows it, but whoever names its pid can open it, like a zombie of POSIX; and what it has started still carries its pid.
    """
    try:
        with handles.open_pin(pid) as pin:
            if not handles.has_exited(pin):
                return None
            basic = ntdll.ProcessBasic()
            size = ctypes.sizeof(basic)
            what = ntdll.PROCESS_BASIC_INFORMATION
            unknown = ntdll.NtQueryInformationProcess(pin.handle, what, ctypes.byref(basic), size, None)
            name = images.name_of(pin.handle, pid)
            return Row(pid, 0 if unknown else basic.ppid, 0, 0, pin.created, "Z", name)
    except OsCallError:
        return None


class ProcessTable:
    """Answers by pid, from the last picture where a handle proves that it is still true, else from a new one."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def fresh(self) -> Snapshot:
        """Take a picture and keep it.

        Raises:
            OsCallError: The kernel does not give one.
        """
        self._last = take()
        return self._last

    def showing(self, pin: WindowsPin, most_s: float) -> Snapshot:
        """Return a picture that shows the pinned process, from the last *most_s* seconds or taken now.

        Raises:
            OsCallError: The kernel does not give one.
        """
        last = self._last
        if last is not None and time.monotonic() - last.at_s <= most_s and last.created(pin.ref.pid) == pin.created:
            return last
        return self.fresh()

    def recent(self, pid: int) -> Snapshot | None:
        """Return what `holding` does, from a picture that is at most a second old: for what changes slowly and is asked about everybody."""
        last = self._last
        if last is not None and time.monotonic() - last.at_s > _RECENT_S:
            self._last = None
        return self.holding(pid)

    def holding(self, pid: int) -> Snapshot | None:
        """Return a picture in which *pid* is the process that has that number now, None if nobody (living) has it."""
        last = self._last
        if last is not None and last.created(pid) >= 0:
            known = _still(pid, last)
            if known is not None:
                return last if known else None
        try:
            last = self.fresh()
        except OsCallError:
            return None  # ignored: who may not see the table sees nobody; `table` says so
        return last if last.created(pid) >= 0 else None


def _still(pid: int, last: Snapshot) -> bool | None:
    """Return whether the process that has *pid* now is the one in the picture and runs (False: nobody has it, or it has ended); None: look again."""
    try:
        with handles.open_pin(pid) as pin:
            if pin.created != last.created(pid):
                return None
            return not handles.has_exited(pin)
    except AccessDeniedError:
        return True if time.monotonic() - last.at_s < _DENIED_FRESH_S else None
    except OsCallError:
        return None
