"""The process table: what the kernel tells, what of it belongs together, and when an old picture may answer."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._backends.windows import handles, table
from endtask._backends.windows.winapi import ntdll
from endtask.errors import GoneError, OsCallError
from tests.windows.lab import SUSPENDED, UNDER_WINE
from tests.windows.lab_processes import LOCK, NOBODY, Child

if TYPE_CHECKING:
    from tests.windows.lab import Lab


def test_structures_have_the_sizes_that_the_kernel_gives_them() -> None:
    """A wrong member would shift all that follow; threads begin right behind the process."""
    sizes = [ctypes.sizeof(s) for s in (ntdll.SystemProcess, ntdll.SystemThread, ntdll.SystemHandle)]
    assert sizes == ([0x100, 0x50, 40] if ctypes.sizeof(ctypes.c_void_p) == 8 else [0xB8, 0x40, 28])


def test_row_of_a_child_tells_what_its_handle_tells() -> None:
    """Pid, parent, creation time, name and session, from one picture."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        row = table.take().row(child.pid)
        assert row is not None
        assert (row.pid, row.ppid, row.start) == (child.pid, os.getpid(), pin.created)
        assert (row.comm.lower(), row.kernel, row.state) == ("python.exe", False, "R")
        session = ctypes.c_ulong()
        assert ctypes.WinDLL("kernel32").ProcessIdToSessionId(child.pid, ctypes.byref(session))
        assert row.desktop_session == session.value
        assert (row.pgid, row.sid) == (0, 0)


def test_idle_process_is_left_out_and_everybody_else_is_there_once() -> None:
    """Nobody can hold pid 0."""
    snapshot = table.take()
    pids = snapshot.pids()
    assert 0 not in pids
    assert pids == sorted(set(pids))
    assert os.getpid() in pids
    assert set(snapshot.rows()) == set(pids)


def test_process_that_has_ended_is_in_no_picture_although_it_is_held() -> None:
    """And nothing is told of it."""
    with Child() as child:
        child.let_go()
        snapshot = table.take()
        assert snapshot.row(child.pid) is None
        assert snapshot.usage(child.pid) is None
        assert snapshot.suspended(child.pid) is None
        assert snapshot.thread_ids(child.pid) == []
        assert snapshot.created(child.pid) == -1


def test_children_and_ancestors_of_a_tree(lab: Lab) -> None:
    """The table leads from the root to the children and back to us."""
    root = lab.start("ettree", "keep", 2)
    first, second = (lab.child(root, number) for number in (1, 2))
    snapshot = table.take()
    assert snapshot.children(root.pid) == sorted([first.pid, second.pid])
    assert snapshot.ancestors(first.pid)[:2] == [root.pid, os.getpid()]
    assert second.pid not in snapshot.children(first.pid)  # Wine puts the host of a console below its first program


def test_orphan_keeps_the_pid_of_its_parent_and_has_no_ancestors(lab: Lab) -> None:
    """The number stays; whoever gets it later is older than nobody."""
    root = lab.start("ettree", "orphans", 1, ready=False)
    child = lab.child(root, 1)
    root.wait_exit()
    snapshot = table.take()
    row = snapshot.row(child.pid)
    assert row is not None
    assert row.ppid == root.pid
    assert snapshot.ancestors(child.pid) == []


def _snapshot(*processes: tuple[int, int, int, str]) -> table.Snapshot:
    """Return a picture of processes that do not exist: pid, ppid, creation time, name."""
    size = ctypes.sizeof(ntdll.SystemProcess)
    buffer = ctypes.create_string_buffer(size * len(processes) + 4096)
    names = size * len(processes)
    for number, (pid, ppid, created, name) in enumerate(processes):
        entry = ntdll.SystemProcess.from_buffer(buffer, number * size)
        entry.next = size if number < len(processes) - 1 else 0
        entry.pid, entry.ppid, entry.created = pid, ppid, created
        raw = name.encode("utf-16-le", "surrogatepass")
        ctypes.memmove(ctypes.addressof(buffer) + names, raw, len(raw))
        entry.name.length, entry.name.at = len(raw), ctypes.addressof(buffer) + names
        names += len(raw)
    return table.Snapshot(buffer)


def test_parent_that_is_younger_than_its_child_is_a_stranger() -> None:
    """The number of a dead parent was given away anew."""
    snapshot = _snapshot((8, 4, 100, "old.exe"), (12, 8, 200, "child.exe"), (16, 12, 150, "orphan.exe"))
    assert snapshot.ancestors(12) == [8]
    assert snapshot.ancestors(16) == []
    assert snapshot.children(12) == []
    assert snapshot.children(8) == [12]


def test_circle_of_parents_ends() -> None:
    """Two that were created in the same instant, each with the other's number."""
    snapshot = _snapshot((8, 12, 100, "a.exe"), (12, 8, 100, "b.exe"))
    assert snapshot.ancestors(8) == [12]


@pytest.mark.parametrize(
    ("pid", "ppid", "name", "kernel"),
    [
        (4, 0, "System", True),
        (100, 4, "Registry", True),
        (1800, 4, "Memory Compression", True),
        (56, 4, "Secure System", True),
        (400, 4, "smss.exe", False),
        (400, 8, "Registry", False),
        (8, 0, "python.exe", False),
    ],
)
def test_parts_of_the_kernel_are_known(pid: int, ppid: int, name: str, kernel: bool) -> None:
    """They run no program, so their name has no ending."""
    row = _snapshot((pid, ppid, 1, name)).row(pid)
    assert row is not None
    assert (row.kernel, row.comm) == (kernel, name)


def test_name_may_hold_anything_that_utf_16_can() -> None:
    """Half of a pair, and nothing at all."""
    snapshot = _snapshot(
        (8, 0, 1, "caf\xe9 \ud83d\udc27.exe".encode("utf-16", "surrogatepass").decode("utf-16")), (12, 0, 1, "\udc27")
    )
    assert snapshot.name(8) == "caf\xe9 \U0001f427.exe"
    assert snapshot.name(12) == "\udc27"
    assert _snapshot((16, 0, 1, "")).name(16) == ""


def test_suspended_is_what_has_all_threads_suspended(lab: Lab) -> None:
    """Told from a process that only waits, and over again when it is resumed."""
    target = lab.start("etconsole", "none")
    assert table.take().suspended(target.pid) is False
    target.suspend()
    snapshot = table.take()
    assert snapshot.suspended(target.pid) is True
    if not UNDER_WINE:  # Wine shows no states of threads, so its rows cannot tell
        row = snapshot.row(target.pid)
        assert row is not None
        assert row.state == "T"
    target.resume()
    assert table.take().suspended(target.pid) is False


def test_process_that_was_started_suspended_is_suspended(lab: Lab) -> None:
    """Its only thread has not run yet."""
    target = lab.start("etconsole", "none", flags=SUSPENDED)
    assert table.take().suspended(target.pid) is True


def test_states_of_threads_decide_where_there_are_any() -> None:
    """State 5 is waiting, reason 5 is suspended (KTHREAD_STATE, KWAIT_REASON)."""

    def thread(state: int, reason: int) -> ntdll.SystemThread:
        made = ntdll.SystemThread()
        made.state, made.wait_reason = state, reason
        return made

    assert table.all_suspended(iter([thread(5, 5), thread(5, 5)]))
    assert not table.all_suspended(iter([thread(5, 5), thread(5, 6)]))
    assert not table.all_suspended(iter([thread(2, 5)]))
    assert not table.all_suspended(iter([]))


def test_old_picture_answers_only_for_the_same_process() -> None:
    """A handle with the same creation time proves it; without, a new one is taken."""
    processes = table.ProcessTable()
    first = processes.fresh()
    assert processes.holding(os.getpid()) is first
    with Child() as child:
        second = processes.holding(child.pid)
        assert second is not None
        assert second is not first
        assert processes.holding(child.pid) is second
        child.let_go()
        assert processes.holding(child.pid) is None
    assert processes.holding(0x7FFFFFF0) is None


def test_picture_that_shows_another_process_is_not_believed() -> None:
    """The pid was given away since: the row of the old one must never be taken for it."""
    processes = table.ProcessTable()
    processes._last = _snapshot((os.getpid(), 0, 1, "stranger.exe"))
    known = processes.holding(os.getpid())
    assert known is not None
    assert known.name(os.getpid()).lower() == "python.exe"


def test_process_that_may_not_be_opened_is_in_the_table() -> None:
    """The table needs no right on anybody."""
    with Child(LOCK, NOBODY) as child:
        processes = table.ProcessTable()
        known = processes.holding(child.pid)
        assert known is not None
        assert known.name(child.pid).lower() == "python.exe"
        assert processes.holding(child.pid) is known  # nobody can pin it, so a second makes no difference


def test_question_that_has_no_answer_is_an_error() -> None:
    """Not an empty table."""
    with pytest.raises(OsCallError, match="NtQuerySystemInformation"):
        table.query_system(0x7FFFFFFF, 64)


# --------------------------------------------------------------------------- processes that Wine has not begun yet


def half_born(monkeypatch: pytest.MonkeyPatch, pid: int, looks: int) -> None:
    """Let a process be shown without a creation time for so many looks, in pictures and by its handle."""
    left = [looks]
    query, times = table.query_system, handles.times

    def picture(what: int, size: int) -> ctypes.Array[ctypes.c_char]:
        buffer = query(what, size)
        at = 0
        while True:
            entry = ntdll.SystemProcess.from_buffer(buffer, at)
            if entry.pid == pid and left[0] > 0:
                entry.created = handles.UNBORN
            if not entry.next:
                return buffer
            at += entry.next

    def by_handle(handle: int, about: int = 0) -> tuple[int, int, int, int]:
        found = times(handle, about)
        if about == pid and left[0] > 0:
            left[0] -= 1
            return handles.UNBORN, *found[1:]
        return found

    monkeypatch.setattr(table, "query_system", picture)
    monkeypatch.setattr(handles, "times", by_handle)


def test_process_that_has_not_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that nobody has a moment later is no identity."""
    with Child() as child:
        half_born(monkeypatch, child.pid, 3)
        with handles.open_pin(child.pid) as pin:
            assert pin.created != handles.UNBORN
        half_born(monkeypatch, child.pid, 3)
        assert table.take().created(child.pid) == pin.created


def test_process_that_never_begins_is_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays in the picture, so that nobody takes it for gone, and nobody can pin it."""
    monkeypatch.setattr(handles, "BIRTH_S", 0.02)
    with Child() as child:
        half_born(monkeypatch, child.pid, 1_000_000)
        assert table.take().unborn == [child.pid]
        with pytest.raises(OsCallError, match="Wine has not begun it yet") as told:
            handles.open_pin(child.pid)
        assert not isinstance(told.value, GoneError)


def test_process_that_ends_before_it_has_begun_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for any more."""
    with Child() as child, handles.open_pin(child.pid):
        child.let_go()
        half_born(monkeypatch, child.pid, 1_000_000)
        with pytest.raises(GoneError, match="before it had begun"):
            handles.open_pin(child.pid)


def test_child_that_has_not_begun_is_named_and_never_taken_for_nobody(
    monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    """Its parent obeys; what it has just started may live on, and a success would be a lie."""
    monkeypatch.setattr(handles, "BIRTH_S", 0.02)
    root = lab.start("ettree", "keep", 1)
    child = lab.child(root, 1)
    half_born(monkeypatch, child.pid, 1_000_000)
    (target,) = endtask.stop(str(root.pid), timeout_s=2.0, watch_s=0).targets
    assert target.outcome != "stopped"
    assert any(str(child.pid) in r.text and "Wine has not begun it yet" in r.text for r in target.reasons)
    assert child.running


def test_pictures_of_a_machine_on_which_programs_start_show_true_times() -> None:
    """On Wine every program that starts is without a creation time for a moment; no picture and no pin takes that for one."""
    began = handles.now_filetime()
    children: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        children.extend(subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) for _ in range(10))

    starter = threading.Thread(target=start)
    starter.start()
    times: dict[int, set[int]] = {}
    while starter.is_alive():
        picture = table.take()
        assert picture.unborn == []
        for pid in picture.pids():
            times.setdefault(pid, set()).add(picture.created(pid))
    for child in children:
        with handles.open_pin(child.pid) as pin:
            assert began <= pin.created <= handles.now_filetime()
            assert pin.created in times.get(child.pid, {pin.created})
        child.wait()
