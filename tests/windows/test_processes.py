"""What every backend promises (`_backends/base.py`), as far as it has a meaning on Windows: there are no signals, no zombies, no groups and no sessions of POSIX."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import time
from typing import TYPE_CHECKING

import pytest

from endtask._backends import default_backend
from endtask._backends.windows.backend import WindowsBackend
from endtask._backends.windows.handles import Handle
from endtask._backends.windows.winapi import kernel32
from endtask.errors import GoneError, OsCallError, TargetError, UnsupportedRequestError
from endtask.model import Request
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from endtask._backends.base import Backend
    from tests.windows.lab import Lab

NOBODY = 0x7FFFFFF0
TERMINATE = Request("TERMINATE", "terminate", -1, "", True)
PATIENCE_S = 30.0


@pytest.fixture
def backend() -> Backend:
    """The backend of this machine."""
    found = default_backend()
    assert isinstance(found, WindowsBackend)
    return found


@pytest.fixture
def child() -> Iterator[Child]:
    """A program that only waits."""
    with Child() as started:
        yield started


def test_it_says_what_kind_of_system_it_is(backend: Backend) -> None:
    """No generic request, no adoption of orphans, names without regard to case."""
    assert (backend.name, backend.folds_case, backend.has_ladders, backend.reparents) == ("windows", True, True, False)
    host = backend.host()
    assert host["name"]
    assert host["kernel"].startswith("Windows ")
    first = backend.now()
    assert backend.now() >= first


def test_pin_holds_the_process_and_its_token_finds_it_again(backend: Backend, child: Child) -> None:
    """A ref is pid and token."""
    pin = backend.pin(child.pid)
    again = backend.pin(child.pid, pin.ref.token)
    assert pin.ref == again.ref
    assert (pin.ref.pid, pin.exact, pin.mechanism) == (child.pid, True, "handle")
    for handle in (pin, again, again):
        handle.close()


def test_pin_of_nobody_and_of_another_is_gone(backend: Backend, child: Child) -> None:
    """Never a handle."""
    with pytest.raises(GoneError):
        backend.pin(NOBODY)
    with Child() as other:
        pin = backend.pin(other.pid)
        with pytest.raises(GoneError):
            backend.pin(child.pid, pin.ref.token)
        pin.close()


def test_process_that_ended_and_is_held_is_like_a_zombie(backend: Backend, child: Child) -> None:
    """It can be pinned, has exited, is in no table, and tells who it was, how it ended and when."""
    pin = backend.pin(child.pid)
    assert not backend.exited(pin)
    assert backend.ended_ago_s(pin) is None
    assert not backend.end(pin).known
    code = child.let_go()
    assert backend.exited(pin)
    end = backend.end(pin)
    assert (end.status, end.source, end.unreaped_by) == (code, "handle", 0)
    ago_s = backend.ended_ago_s(pin)
    assert ago_s is not None
    assert ago_s < 60
    row = backend.row(child.pid)
    assert row is not None
    assert (row.state, row.ppid, row.start, row.comm) == ("Z", os.getpid(), int(pin.ref.token), "python.exe")
    assert backend.short_name(child.pid) == "python.exe"
    assert child.pid not in backend.table()
    assert child.pid not in backend.list_pids()
    assert backend.status(child.pid) == ""
    assert backend.facts(pin).exited
    pin.close()


def test_capacity_is_more_than_there_can_be_processes(backend: Backend) -> None:
    """Nobody has to wait for a place."""
    assert backend.capacity() > 1_000_000


def test_wait_reports_each_exit_once(backend: Backend) -> None:
    """Also one that happened before."""
    waiter = backend.waiter()
    with Child() as first, Child() as second:
        pins = [backend.pin(first.pid), backend.pin(second.pid)]
        first.let_go()
        for key, pin in enumerate(pins):
            waiter.add(pin, key)
        assert waiter.wait(PATIENCE_S) == [0]
        assert waiter.wait(0) == []
        second.let_go()
        assert waiter.wait(PATIENCE_S) == [1]
        for pin in pins:
            waiter.drop(pin)
            pin.close()
    waiter.close()


# --------------------------------------------------------------------------- who is there


def test_row_is_the_same_alone_and_in_the_table(backend: Backend, child: Child) -> None:
    """And leads to us."""
    table = backend.table()
    row = table[child.pid]
    assert row == backend.row(child.pid)
    assert row.ppid == os.getpid()
    assert row.start >= table[row.ppid].start
    assert backend.age_s(row) < 300
    assert backend.list_pids() == sorted(backend.table())


def test_row_and_name_of_many_take_no_picture_for_each(
    backend: Backend, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selecting by name among n processes must not cost n pictures of n processes."""
    from endtask._backends.windows import table

    pids = backend.list_pids()
    taken = []
    take = table.take

    def counted() -> table.Snapshot:
        taken.append(1)
        return take()

    monkeypatch.setattr(table, "take", counted)
    names = {pid: backend.short_name(pid) for pid in pids}
    rows = {pid: backend.row(pid) for pid in pids}
    assert names[child.pid] == backend.full_name(child.pid, "python.exe") == "python.exe"
    assert rows[child.pid] is not None
    assert len(taken) <= 2  # somebody may have ended meanwhile


def test_children_are_told(backend: Backend, lab: Lab) -> None:
    """Direct ones only."""
    root = lab.start("ettree", "keep", 2)
    expected = sorted(lab.child(root, number).pid for number in (1, 2))
    assert backend.children(root.pid) == expected
    assert backend.children(NOBODY) == []


def test_orphan_keeps_its_parents_number(backend: Backend, lab: Lab) -> None:
    """Nobody adopts it."""
    root = lab.start("ettree", "orphans", 1, ready=False)
    orphan = lab.child(root, 1)
    root.wait_exit()
    row = backend.row(orphan.pid)
    assert row is not None
    assert row.ppid == root.pid


def test_own_line_begins_with_ourselves(backend: Backend, child: Child) -> None:
    """Then our ancestors; no child is among them."""
    line = backend.own_line()
    assert line[0] == os.getpid()
    assert child.pid not in line
    if len(line) > 1:
        assert line[1] == os.getppid()


def test_nobody_has_nothing(backend: Backend) -> None:
    """Gone is None, never an error and never a default."""
    answers = (
        backend.row(NOBODY),
        backend.short_name(NOBODY),
        backend.owner(NOBODY),
        backend.command_line(NOBODY),
        backend.working_directory(NOBODY),
        backend.signals(NOBODY),
        backend.usage(NOBODY),
    )
    assert answers == (None,) * 7
    assert (backend.cgroup(NOBODY), backend.cgroup_pids(""), backend.cgroup_empty("")) == ("", None, None)
    assert (backend.marks(NOBODY), backend.modules(NOBODY), backend.titles(NOBODY)) == ((), (), ())
    assert (backend.kinship(NOBODY), backend.shared_objects(NOBODY)) == (frozenset(), frozenset())
    assert (backend.services(NOBODY), backend.untouchable(NOBODY)) == ((), "")


def test_what_a_process_says_of_itself(backend: Backend, tmp_path: Path) -> None:
    """Arguments, folder, usage, modules."""
    with Child("x = bytearray(20_000_000)", "one", cwd=str(tmp_path)) as busy:
        line = backend.command_line(busy.pid)
        assert line is not None
        assert line[-1] == "one"
        folder = backend.working_directory(busy.pid)
        assert folder is not None
        assert os.path.samefile(folder, tmp_path)
        usage = backend.usage(busy.pid)
        assert usage is not None
        assert usage[0] >= 0
        assert usage[1] > 20_000
        assert any(os.path.samefile(m, sys.executable) for m in backend.modules(busy.pid)[:1])


def test_usage_follows_what_a_process_uses(backend: Backend) -> None:
    """A picture of it is at most a second old."""
    before = backend.usage(os.getpid())
    assert before is not None
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    backend.list_pids()
    after = backend.usage(os.getpid())
    assert after is not None
    assert after[0] - before[0] > 0.1


def test_owner_is_a_user_with_a_name(backend: Backend, child: Child) -> None:
    """Owner, name and number fit together."""
    uid = backend.owner(child.pid)
    assert uid is not None
    assert backend.user_id(backend.user_name(uid)) == uid
    assert backend.user_id(str(uid)) == uid
    with pytest.raises(TargetError):
        backend.user_id("no such user")


def test_kinship_is_inherited_and_differs_between_programs(backend: Backend) -> None:
    """A child has its parent's environment; another one has another."""
    code = f"import subprocess; p = subprocess.Popen([sys.executable, '-c', {'import sys; sys.stdin.read()'!r}]); print(p.pid)"
    with Child(code) as parent, Child(environment={"ENDTASK_MARK": "contract-7"}) as other:
        grandchild = int(parent.said[0])
        assert backend.kinship(parent.pid) == backend.kinship(grandchild) != frozenset()
        assert backend.kinship(other.pid) not in (frozenset(), backend.kinship(parent.pid))
        assert not any(e.startswith("=".encode("utf-16-le")) for e in backend.kinship(other.pid))
        assert backend.marks(other.pid) == ("contract-7",)
        assert backend.marks(parent.pid) == ()


@pytest.mark.needs_windows("Wine has no critical processes")
def test_critical_process_is_untouchable(backend: Backend) -> None:
    """Windows stops with it."""
    for pid, row in backend.table().items():
        if row.comm.lower() == "wininit.exe":
            try:
                backend.pin(pid).close()
            except OsCallError:
                pytest.skip("it may not be opened by this user, so nobody can stop it either")
            assert "critical process" in backend.untouchable(pid)


def test_ordinary_process_may_be_touched(backend: Backend, child: Child) -> None:
    """Ours, for example."""
    assert backend.untouchable(child.pid) == ""


# --------------------------------------------------------------------------- requests


def test_send_refuses_what_windows_does_not_have(backend: Backend, child: Child) -> None:
    """Nothing is sent, and nothing stronger."""
    pin = backend.pin(child.pid)
    with pytest.raises(UnsupportedRequestError, match="which Windows does not have"):
        backend.send(pin, Request("TERM", "signal", 15), 0.0)
    assert not backend.exited(pin)
    pin.close()


def test_force_ends_a_process_and_says_gone_to_an_ended_one(backend: Backend, child: Child) -> None:
    """Exit code 1 tells that it was forced."""
    pin = backend.pin(child.pid)
    assert backend.send(pin, TERMINATE, 1.5).status == "delivered"
    assert child.popen.wait() == 1
    assert backend.send(pin, TERMINATE, 2.0).status == "gone"
    pin.close()


def test_force_that_is_not_allowed_is_denied(backend: Backend) -> None:
    """It is there, and stays."""
    with Child(LOCK, ONLY_LOOK) as locked:
        pin = backend.pin(locked.pid)
        assert backend.send(pin, TERMINATE, 0.0).status == "denied"
        assert not backend.exited(pin)
        pin.close()


@pytest.mark.parametrize(
    "request_",
    [
        Request("STOP_EVENT", "event", -1),
        Request("WM_CLOSE", "window", 0x10),
        Request("CTRL_C", "inject", 0),
        Request("CONSOLE_CTRL_C", "console", 0),
        Request("SERVICE_STOP", "service", 1),
        Request("cmd:hostname", "command", 0, "hostname"),
        TERMINATE,
    ],
)
def test_every_request_to_what_has_ended_is_gone(backend: Backend, child: Child, request_: Request) -> None:
    """Nobody is there: the receipt says so, and nothing else happens."""
    pin = backend.pin(child.pid)
    child.let_go()
    receipt = backend.send(pin, request_, 0.5)
    assert (receipt.request, receipt.status, receipt.at_s) == (request_.name, "gone", 0.5)
    pin.close()


def test_text_for_the_standard_input_of_a_stranger_is_impossible(backend: Backend, child: Child) -> None:
    """Windows opens no pipe by the process that reads it."""
    pin = backend.pin(child.pid)
    assert backend.send(pin, Request("stdin:q", "stdin", 0, "q"), 0.0).status == "impossible"
    pin.close()


def test_command_is_started_with_the_pid_and_without_a_shell(backend: Backend, child: Child, tmp_path: Path) -> None:
    """Its output is not ours; what it does is its own affair."""
    name = f"Local\\endtask.test.{os.getpid()}"
    event = kernel32.CreateEventW(None, True, False, name)
    assert event
    script = tmp_path / "write.py"
    script.write_text(
        f"import sys; open({str(tmp_path / 'note.txt')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        "import ctypes; k = ctypes.WinDLL('kernel32'); k.OpenEventW.restype = ctypes.c_void_p\n"
        f"k.SetEvent(ctypes.c_void_p(k.OpenEventW(2, False, {name!r})))\n"
    )
    text = f'"{sys.executable}" "{script}" {{pid}} & whoami'
    pin = backend.pin(child.pid)
    receipt = backend.send(pin, Request(f"cmd:{text}", "command", 0, text), 0.0)
    assert receipt.status == "delivered"
    assert str(child.pid) in receipt.detail
    with Handle(event) as done:
        assert kernel32.WaitForSingleObject(done, int(PATIENCE_S * 1000)) == kernel32.WAIT_OBJECT_0
    assert (tmp_path / "note.txt").read_text() == f"{child.pid} & whoami"
    pin.close()


@pytest.mark.parametrize("text", ["", "  ", "no-such-program-anywhere {pid}", "a\0b"])
def test_command_that_cannot_be_started_has_failed(backend: Backend, child: Child, text: str) -> None:
    """With the reason."""
    pin = backend.pin(child.pid)
    receipt = backend.send(pin, Request("cmd:x", "command", 0, text), 0.0)
    assert (receipt.status, bool(receipt.detail)) == ("failed", True)
    pin.close()


def test_births_are_watched_by_nobody(backend: Backend) -> None:
    """Windows tells them to drivers and administrators."""
    waiter = backend.waiter()
    assert backend.fork_watch(waiter) is None
    waiter.close()


def test_force_for_a_tree_is_a_job(backend: Backend, child: Child) -> None:
    """Through the protocol."""
    sweep = backend.open_sweep()
    pin = backend.pin(child.pid)
    assert (sweep.hold(pin), sweep.settle(), sweep.mechanism) == (None, True, "job")
    assert [r.status for r in sweep.kill([pin], 0.0)] == ["delivered"]
    assert child.popen.wait() == 1
    sweep.close()
    pin.close()
