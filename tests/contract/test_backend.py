"""What every backend promises (`_backends/base.py`): the same tests on the simulated system and on the real kernel."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from endtask.errors import GoneError, OsCallError, TargetError, UnsupportedRequestError
from endtask.model import Request

from .stages import SimStage, Stage, real_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from endtask._backends.base import Conversation, Pin, Waiter
    from endtask.model import Row

TERM = Request("TERM", "signal", 15)
CONT = Request("CONT", "signal", 18)
KILL = Request("KILL", "signal", 9, "", True)
PATIENCE_S = 60.0
NOBODY = 4_000_001  # below the kernel's own limit, above every pid_max that is in use


@pytest.fixture(params=["sim", "linux"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Both places, one after the other."""
    if request.param == "sim":
        yield SimStage()
        return
    if sys.platform != "linux":
        pytest.skip("the Linux backend needs Linux")
    with real_stage() as real:
        yield real


def _wait_for(waiter: Waiter, count: int = 1) -> list[int]:
    """Return the keys of the next exits; several waits, because one may return early."""
    keys: list[int] = []
    for _ in range(1000):
        keys += waiter.wait(PATIENCE_S)
        if len(keys) >= count:
            break
    return keys


def _exit_of(stage: Stage, pin: Pin) -> None:
    waiter = stage.backend.waiter()
    waiter.add(pin, 1)
    assert _wait_for(waiter) == [1]
    waiter.drop(pin)
    waiter.close()


# ---------------------------------------------------------------------- conversations


def test_a_process_without_a_receiver_has_no_conversation(stage: Stage) -> None:
    """Nothing to say about it, and nothing left open."""
    pin, waiter = stage.backend.pin(stage.start("polite")), stage.backend.waiter()
    assert stage.backend.converse(pin, waiter) == ""
    assert stage.backend.converse(pin, waiter, stage.backend.row(pin.ref.pid)) == ""
    pin.close()
    waiter.close()


def _hear(waiter: Waiter, conversation: Conversation, word: bytes) -> bytes:
    """Return what was said up to *word*, woken by the news of it."""
    said = b""
    for _ in range(1000):
        said += conversation.drain()
        if word in said or not conversation.open:
            break
        waiter.wait(PATIENCE_S)
    assert word in said
    return said


def test_a_conversation_brings_news_and_ends_with_the_process(stage: Stage) -> None:
    """The greeting, what is said when it is asked, and its end: each wakes the wait. Afterwards nothing can be said."""
    pin, waiter = stage.backend.pin(stage.start("talker")), stage.backend.waiter()
    conversation = stage.backend.converse(pin, waiter)
    assert not isinstance(conversation, str), conversation
    assert conversation.open
    assert conversation.wait(PATIENCE_S)
    _hear(waiter, conversation, b'"hello"')
    assert conversation.drain() == b""
    assert not conversation.wait(0.0)
    assert conversation.say(b'{"endtask":1,"notice":{"left_s":1.0}}\n')
    stage.backend.send(pin, TERM, 0.0)
    _hear(waiter, conversation, b'"heard"')
    for _ in range(1000):
        if not conversation.open:
            break
        waiter.wait(PATIENCE_S)
        assert conversation.drain() == b""
    assert not conversation.open
    assert not conversation.say(b"{}\n")
    assert not conversation.wait(0.0)
    for _ in range(2):
        conversation.close()
    assert stage.backend.converse(pin, waiter) == ""
    waiter.close()
    pin.close()


# ---------------------------------------------------------------------- pins


def test_pin_holds_the_process_and_its_token_finds_it_again(stage: Stage) -> None:
    """A ref is pid and token, and pinning by both gives the same process."""
    pid = stage.start("sleeper")
    pin = stage.backend.pin(pid)
    again = stage.backend.pin(pid, pin.ref.token)
    assert pin.ref == again.ref
    assert pin.ref.pid == pid
    assert pin.ref.token
    assert pin.mechanism
    for handle in (pin, again, again):
        handle.close()


def test_pin_of_nobody_is_gone(stage: Stage) -> None:
    """Nobody has that pid: GoneError, never a handle."""
    with pytest.raises(GoneError):
        stage.backend.pin(NOBODY)


def test_pin_with_the_token_of_another_process_is_gone(stage: Stage) -> None:
    """The token decides: a pid with another process's token is nobody."""
    first, second = stage.start("sleeper"), stage.start("sleeper")
    pin = stage.backend.pin(first)
    with pytest.raises(GoneError):
        stage.backend.pin(second, pin.ref.token)
    pin.close()


def test_pin_of_a_reaped_process_is_gone_by_token(stage: Stage) -> None:
    """Once reaped, a ref can never be pinned again."""
    pid = stage.start("leaver")
    pin = stage.backend.pin(pid)
    _exit_of(stage, pin)
    stage.reap(pid)
    with pytest.raises(GoneError):
        stage.backend.pin(pid, pin.ref.token)
    pin.close()


def test_capacity_counts_open_pins(stage: Stage) -> None:
    """Every pin takes one place, and closing gives it back."""
    pid = stage.start("sleeper")
    before = stage.backend.capacity()
    pins = [stage.backend.pin(pid) for _ in range(5)]
    assert stage.backend.capacity() == before - 5
    for pin in pins:
        pin.close()
    assert stage.backend.capacity() == before


# ---------------------------------------------------------------------- exits


def test_exited_tells_running_from_zombie_and_reaped(stage: Stage) -> None:
    """A zombie has exited, and stays so when it is reaped."""
    pid = stage.start("sleeper")
    pin = stage.backend.pin(pid)
    assert not stage.backend.exited(pin)
    assert stage.backend.send(pin, TERM, 0.0).status == "delivered"
    _exit_of(stage, pin)
    assert stage.backend.exited(pin)
    row = stage.backend.row(pid)
    assert row is not None
    assert row.state == "Z"
    stage.reap(pid)
    assert stage.backend.exited(pin)
    assert stage.backend.row(pid) is None
    pin.close()


def test_wait_reports_an_exit_once(stage: Stage) -> None:
    """One exit, one key; also for a process that had exited before it was added."""
    pids = [stage.start("sleeper") for _ in range(3)]
    pins = [stage.backend.pin(p) for p in pids]
    waiter = stage.backend.waiter()
    for key, pin in enumerate(pins):
        waiter.add(pin, key)
    assert waiter.wait(0) == []
    for pin in pins[:2]:
        stage.backend.send(pin, TERM, 0.0)
    assert sorted(_wait_for(waiter, 2)) == [0, 1]
    assert waiter.wait(0) == []
    late = stage.backend.pin(pids[0])
    waiter.add(late, 9)
    assert _wait_for(waiter) == [9]
    waiter.close()
    for pin in (*pins, late):
        pin.close()


def test_wait_forgets_a_dropped_pin(stage: Stage) -> None:
    """After `drop` its exit is nobody's news; unknown pins are ignored."""
    first, second = (stage.backend.pin(stage.start("sleeper")) for _ in range(2))
    waiter = stage.backend.waiter()
    waiter.add(first, 1)
    waiter.add(second, 2)
    waiter.drop(first)
    waiter.drop(first)
    stage.backend.send(first, TERM, 0.0)
    stage.backend.send(second, TERM, 0.0)
    assert _wait_for(waiter) == [2]
    _exit_of(stage, first)
    assert waiter.wait(0) == []
    waiter.close()
    first.close()
    second.close()


def test_wait_ends_when_the_time_is_up(stage: Stage) -> None:
    """Nothing happens: an empty answer, and not before the time (give or take an early return)."""
    pin = stage.backend.pin(stage.start("sleeper"))
    waiter = stage.backend.waiter()
    waiter.add(pin, 1)
    began = stage.backend.now()
    while (left := began + 0.05 - stage.backend.now()) > 0:
        assert waiter.wait(left) == []
    assert stage.backend.now() - began < PATIENCE_S
    waiter.close()
    pin.close()


def test_end_tells_the_status_or_says_why_not(stage: Stage) -> None:
    """Of a zombie and of a reaped process: the true status, or unknown with the reason; and who has not reaped it."""
    pid = stage.start("leaver")
    pin = stage.backend.pin(pid)
    _exit_of(stage, pin)
    end = stage.backend.end(pin)
    assert (end.status, end.signal) == (7, 0) if end.known else end.why_unknown
    assert end.unreaped_by == stage.parent_of("leaver")
    stage.reap(pid)
    end = stage.backend.end(pin)
    assert (end.status, end.signal) == (7, 0) if end.known else end.why_unknown
    assert end.unreaped_by == 0
    pin.close()


def test_end_tells_the_signal(stage: Stage) -> None:
    """A process ended by a signal has no exit status."""
    pin = stage.backend.pin(stage.start("sleeper"))
    assert not stage.backend.end(pin).known
    stage.backend.send(pin, TERM, 0.0)
    _exit_of(stage, pin)
    end = stage.backend.end(pin)
    assert (end.status, end.signal) == (None, 15) if end.known else end.why_unknown
    pin.close()


# ---------------------------------------------------------------------- requests


def test_send_reaches_the_handler(stage: Stage) -> None:
    """A program with a handler ends as it likes."""
    pin = stage.backend.pin(stage.start("polite"))
    receipt = stage.backend.send(pin, TERM, 1.5)
    assert (receipt.request, receipt.status, receipt.at_s) == ("TERM", "delivered", 1.5)
    _exit_of(stage, pin)
    end = stage.backend.end(pin)
    assert end.status == 3 if end.known else end.why_unknown
    pin.close()


def test_send_to_a_reaped_process_is_gone(stage: Stage) -> None:
    """Nobody is there: the receipt says so, and nothing else happens."""
    pid = stage.start("leaver")
    pin = stage.backend.pin(pid)
    _exit_of(stage, pin)
    stage.reap(pid)
    assert stage.backend.send(pin, TERM, 0.0).status == "gone"
    assert stage.backend.send(pin, KILL, 0.0).status == "gone"
    pin.close()


def test_force_to_a_zombie_is_gone(stage: Stage) -> None:
    """The kernel takes KILL for a zombie too; calling that forced would be a lie."""
    pin = stage.backend.pin(stage.start("leaver"))
    _exit_of(stage, pin)
    assert stage.backend.send(pin, KILL, 0.0).status == "gone"
    pin.close()


def test_send_refuses_what_the_system_does_not_have(stage: Stage) -> None:
    """Nothing is sent, and nothing stronger."""
    pin = stage.backend.pin(stage.start("sleeper"))
    with pytest.raises(UnsupportedRequestError):
        stage.backend.send(pin, Request("WM_CLOSE", "window"), 0.0)
    assert not stage.backend.exited(pin)
    pin.close()


def test_ignored_signal_is_seen_and_changes_nothing(stage: Stage) -> None:
    """SigIgn shows it; the request is delivered all the same, and the process runs on."""
    pid = stage.start("deaf")
    pin = stage.backend.pin(pid)
    signals = stage.backend.signals(pid)
    assert signals is not None
    assert signals.ignored & 1 << 14
    assert not signals.caught & 1 << 14
    assert stage.backend.send(pin, TERM, 0.0).status == "delivered"
    waiter = stage.backend.waiter()
    waiter.add(pin, 1)
    assert waiter.wait(0.02) == []
    assert not stage.backend.exited(pin)
    waiter.close()
    pin.close()


def test_caught_signal_is_seen(stage: Stage) -> None:
    """SigCgt shows a handler."""
    signals = stage.backend.signals(stage.start("stubborn"))
    assert signals is not None
    assert signals.caught & 1 << 14
    assert not (signals.ignored | signals.blocked) & 1 << 14


def test_stopped_process_keeps_the_request_until_it_is_continued(stage: Stage) -> None:
    """TERM to a stopped process is pending, and CONT lets it act (signal(7))."""
    pid = stage.start("polite")
    pin = stage.backend.pin(pid)
    assert not stage.backend.stopped(pin)
    stage.signal(pid, 19)
    assert stage.backend.stopped(pin)
    row = stage.backend.row(pid)
    assert row is not None
    assert row.state == "T"
    assert stage.backend.send(pin, TERM, 0.0).status == "delivered"
    signals = stage.backend.signals(pid)
    assert signals is not None
    assert signals.pending & 1 << 14
    assert not stage.backend.exited(pin)
    stage.backend.send(pin, CONT, 0.0)
    _exit_of(stage, pin)
    assert not stage.backend.stopped(pin)
    pin.close()


# ---------------------------------------------------------------------- who is there


def test_table_has_a_row_for_the_program(stage: Stage) -> None:
    """One row, the same in the table, alone, and in the facts."""
    pid = stage.start("stubborn")
    table = stage.backend.table()
    row = table[pid]
    alone = stage.backend.row(pid)
    assert alone is not None
    assert (row.pid, row.ppid, row.pgid, row.sid, row.start) == (
        alone.pid,
        alone.ppid,
        alone.pgid,
        alone.sid,
        alone.start,
    )
    assert (row.pid, row.ppid, row.pgid, row.sid) == (pid, stage.parent_of("stubborn"), pid, pid)
    assert not row.kernel
    assert row.start >= table[row.ppid].start
    assert stage.backend.age_s(row) < 3600
    with_pin = stage.backend.pin(pid)
    facts = stage.backend.facts(with_pin, table)
    assert (facts.ppid, facts.pgid, facts.sid, facts.exited) == (row.ppid, pid, pid, False)
    assert facts.signals is not None
    assert facts.signals.caught & 1 << 14
    with_pin.close()


def test_facts_of_an_ended_process_do_not_raise(stage: Stage) -> None:
    """A process may end while it is read: the fields say so."""
    pid = stage.start("leaver")
    pin = stage.backend.pin(pid)
    _exit_of(stage, pin)
    assert stage.backend.facts(pin).exited
    stage.reap(pid)
    assert stage.backend.facts(pin).exited
    pin.close()


def test_nobody_has_no_row_name_owner_or_command_line(stage: Stage) -> None:
    """Gone is None, never an error and never a default."""
    backend = stage.backend
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
    assert backend.cgroup(NOBODY) == ""
    assert backend.marks(NOBODY) == ()
    assert backend.kinship(NOBODY) == frozenset()
    assert backend.shared_objects(NOBODY) == frozenset()


def test_list_is_ascending_and_has_the_program(stage: Stage) -> None:
    """Every pid that we can see, once, in order."""
    pid = stage.start("sleeper")
    pids = stage.backend.list_pids()
    assert pid in pids
    assert pids == sorted(set(pids))


def test_children_of_a_parent(stage: Stage) -> None:
    """The direct children, or None where that needs the whole table; the table agrees."""
    pid = stage.start("parent")
    child = stage.child_of(pid)
    assert stage.backend.children(pid) in ([child], None)
    assert stage.backend.table()[child].ppid == pid
    assert stage.backend.children(child) in ([], None)


def test_child_of_a_dead_parent_is_adopted(stage: Stage) -> None:
    """The link is gone, the session stays."""
    pid = stage.start("parent")
    child = stage.child_of(pid)
    pin = stage.backend.pin(pid)
    orphan = stage.backend.pin(child)
    stage.backend.send(pin, KILL, 0.0)
    _exit_of(stage, pin)
    row = stage.backend.row(child)
    assert row is not None
    assert row.ppid != pid
    assert (row.sid, row.pgid) == (pid, pid)
    stage.backend.send(orphan, KILL, 0.0)
    _exit_of(stage, orphan)
    pin.close()
    orphan.close()


def test_own_line_begins_with_ourselves(stage: Stage) -> None:
    """Our pid, then our ancestors; the program is none of them."""
    line = stage.backend.own_line()
    pid = stage.start("sleeper")
    assert pid not in line
    row = stage.backend.row(line[0])
    assert row is not None
    if len(line) > 1:
        assert row.ppid == line[1]
    if not stage.simulated:
        assert line[0] == os.getpid()


def test_names(stage: Stage) -> None:
    """The short name has at most 15 bytes and begins the full one."""
    pid = stage.start("sleeper")
    short = stage.backend.short_name(pid)
    assert short
    assert len(short.encode()) <= 15
    assert stage.backend.full_name(pid, short).startswith(short)
    assert stage.backend.command_line(pid)


def test_owner_is_a_user_with_a_name(stage: Stage) -> None:
    """Owner, name and number fit together."""
    uid = stage.backend.owner(stage.start("sleeper"))
    assert uid is not None
    assert stage.backend.user_id(stage.backend.user_name(uid)) == uid
    assert stage.backend.user_id(str(uid)) == uid
    with pytest.raises(TargetError):
        stage.backend.user_id("no such user")


def test_kinship_is_inherited_and_differs_between_programs(stage: Stage) -> None:
    """A child has its parent's fingerprint; a program with another environment has another one."""
    pid = stage.start("parent")
    child = stage.child_of(pid)
    other = stage.start("sleeper", mark="contract-7")
    assert stage.backend.kinship(pid) == stage.backend.kinship(child) != frozenset()
    assert stage.backend.kinship(other) not in (frozenset(), stage.backend.kinship(pid))
    assert stage.backend.marks(other) == ("contract-7",)
    assert stage.backend.marks(pid) == ()


def test_listeners_name_the_holder(stage: Stage) -> None:
    """Who listens on a port; nobody on a free one, and nobody any more after the end."""
    assert stage.backend.listeners("tcp", stage.port) == []
    pid = stage.start("listener")
    found = stage.backend.listeners("tcp", stage.port)
    assert [(one.proto, one.port, one.pids) for one in found] == [("tcp", stage.port, (pid,))]
    assert stage.backend.listeners("udp", stage.port) == []
    pin = stage.backend.pin(pid)
    stage.backend.send(pin, TERM, 0.0)
    _exit_of(stage, pin)
    assert stage.backend.listeners("tcp", stage.port) == []
    pin.close()


def test_files_that_are_not_there(stage: Stage, tmp_path: Path) -> None:
    """An error of the system, not an empty answer."""
    missing = str(tmp_path / "missing.pid")
    with pytest.raises(OsCallError):
        stage.backend.pid_file(missing)
    with pytest.raises(OsCallError):
        stage.backend.file_holders(missing)


def test_cgroup_holds_the_program(stage: Stage) -> None:
    """A program's cgroup, where there is one, lists it and is not empty."""
    pid = stage.start("sleeper")
    cgroup = stage.backend.cgroup(pid)
    if not cgroup:
        pytest.skip("no cgroups can be seen on this machine")
    pids = stage.backend.cgroup_pids(cgroup)
    assert pids is None or pid in pids
    assert stage.backend.cgroup_empty(cgroup) in (False, None)


# ---------------------------------------------------------------------- forks and force


def test_fork_watch_reports_a_fork(stage: Stage) -> None:
    """Parent and child, and the waiter is woken by it."""
    waiter = stage.backend.waiter()
    watch = stage.backend.fork_watch(waiter)
    if watch is None:
        waiter.close()
        pytest.skip("forks cannot be watched here (needs the initial namespaces and the right to)")
    pid = stage.start("parent")
    child = stage.child_of(pid)
    seen: list[tuple[int, int]] = []
    for _ in range(1000):
        seen += watch.drain()
        if (pid, child) in seen:
            break
        assert waiter.wait(PATIENCE_S) == []
    assert (pid, child) in seen
    assert not watch.lost
    watch.close()
    waiter.close()


def _members(stage: Stage, sid: int) -> dict[int, Row]:
    return {p: r for p, r in stage.backend.table().items() if r.sid == sid and r.state != "Z"}


def test_sweep_ends_a_tree_that_forks(stage: Stage) -> None:
    """Hold, look again until nothing new is there, kill: nothing of the session is left."""
    backend = stage.backend
    pid = stage.start("bomb")
    sweep = backend.open_sweep()
    assert sweep.mechanism
    pins: dict[int, Pin] = {}
    while new := {p for p in _members(stage, pid) if p not in pins}:
        for one in new:
            try:
                pins[one] = backend.pin(one)
            except GoneError:
                continue
            sweep.hold(pins[one])
        settle = getattr(sweep, "settle", None)
        if settle is not None:
            settle()
    receipts = sweep.kill(list(pins.values()), 0.0)
    assert len(receipts) == len(pins)
    assert {r.status for r in receipts} <= {"delivered", "gone"}
    sweep.close()
    waiter = backend.waiter()
    for key, pin in enumerate(pins.values()):
        waiter.add(pin, key)
    assert sorted(_wait_for(waiter, len(pins))) == list(range(len(pins)))
    assert _members(stage, pid) == {}
    waiter.close()
    for pin in pins.values():
        pin.close()


def test_sweep_that_is_closed_lets_go(stage: Stage) -> None:
    """What was held runs on as before, and hears what it was told meanwhile."""
    backend = stage.backend
    pid = stage.start("polite")
    pin = backend.pin(pid)
    sweep = backend.open_sweep()
    assert sweep.hold(pin) is None
    backend.send(pin, TERM, 0.0)
    assert not backend.exited(pin)
    sweep.close()
    _exit_of(stage, pin)
    assert not backend.stopped(pin)
    end = backend.end(pin)
    assert end.status == 3 if end.known else end.why_unknown
    pin.close()


def test_sweep_of_an_exited_process_says_gone(stage: Stage) -> None:
    """A zombie is not held and not forced."""
    pin = stage.backend.pin(stage.start("leaver"))
    _exit_of(stage, pin)
    sweep = stage.backend.open_sweep()
    receipt = sweep.hold(pin)
    assert receipt is not None
    assert receipt.status == "gone"
    assert [r.status for r in sweep.kill([pin], 0.0)] == ["gone"]
    sweep.close()
    pin.close()
