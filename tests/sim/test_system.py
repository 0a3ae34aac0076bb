"""The simulated kernel does what was measured on the real one: what each state does with a request, who adopts, who reaps, which pids come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from endtask._backends.sim.backend import SimBackend
from endtask._backends.sim.spec import Op, Spec, World
from endtask._backends.sim.system import System
from endtask.model import Request

if TYPE_CHECKING:
    from endtask._backends.sim.process import Process

TERM, QUIT, KILL, CONT, STOP = 15, 3, 9, 18, 19
POLITE = ((TERM, (Op("exit", n=3),)),)
CALM = World(race=0.0, call_s=0.0)


def _start(spec: Spec, world: World = CALM) -> tuple[System, Process]:
    system = System(world, 1)
    process = system.fork(system.init, spec)
    assert process is not None
    system.settle(0.001)
    return system, process


def _after(system: System, process: Process, *signals: int, s: float = 0.01) -> str:
    """Send *signals* and return what has become of the process."""
    for number in signals:
        system.post(process, number)
    system.settle(s)
    if not process.exited:
        return process.state
    return f"signal {process.signal}" if process.signal else f"status {process.status}"


@pytest.mark.parametrize(
    ("spec", "signals", "what"),
    [
        (Spec("default"), (TERM,), "signal 15"),
        (Spec("core"), (QUIT,), "signal 3"),
        (Spec("handler", on=POLITE), (TERM,), "status 3"),
        (Spec("ignores", ignored=(TERM,)), (TERM,), "S"),
        (Spec("blocks", blocked=(TERM,)), (TERM,), "S"),
        (Spec("blocks and ignores", ignored=(TERM,), blocked=(TERM,)), (TERM,), "S"),
        (Spec("sigwait", on=POLITE, waited=(TERM,)), (TERM,), "status 3"),
        (Spec("stopped", flags=("stopped",)), (TERM,), "T"),
        (Spec("stopped", flags=("stopped",)), (KILL,), "signal 9"),
        (Spec("stopped", flags=("stopped",)), (TERM, CONT), "signal 15"),
        (Spec("stopped", flags=("stopped",)), (CONT, TERM), "signal 15"),
        (Spec("stopped", on=POLITE, flags=("stopped",)), (TERM, CONT), "status 3"),
        (Spec("stops", on=POLITE), (STOP, TERM), "T"),
        (Spec("traced", flags=("traced",)), (TERM,), "t"),
        (Spec("traced", flags=("traced",)), (KILL,), "signal 9"),
        (Spec("in the kernel", flags=("uninterruptible",)), (TERM,), "D"),
        (Spec("in the kernel", flags=("uninterruptible",)), (KILL,), "D"),
        (Spec("first of a namespace", flags=("namespace",)), (TERM, QUIT), "S"),
        (Spec("first of a namespace", on=POLITE, flags=("namespace",)), (TERM,), "status 3"),
        (Spec("first of a namespace", flags=("namespace",)), (KILL,), "signal 9"),
        (Spec("leader gone", (Op("leader-exit"),)), (), "Z"),
        (Spec("nothing", on=()), (17,), "S"),
    ],
)
def test_what_each_state_does_with_a_request(spec: Spec, signals: tuple[int, ...], what: str) -> None:
    """The table of facts, row by row."""
    system, process = _start(spec)
    assert _after(system, process, *signals) == what


@pytest.mark.parametrize(
    ("version", "on", "signal", "frozen", "thawed"),
    [
        ("v2", (), TERM, "signal 15", "signal 15"),
        ("v2", POLITE, TERM, "S", "status 3"),
        ("v2", (), QUIT, "S", "signal 3"),
        ("v2", (), KILL, "signal 9", "signal 9"),
        ("v1", (), TERM, "D", "signal 15"),
        ("v1", (), KILL, "D", "signal 9"),
    ],
)
def test_what_a_frozen_cgroup_lets_through(
    version: str, on: tuple[tuple[int, tuple[Op, ...]], ...], signal: int, frozen: str, thawed: str
) -> None:
    """Version 2 turns a fatal default signal into a kill; version 1 holds everything back, KILL included."""
    system, process = _start(Spec("frozen", on=on, cgroup="/a.service"))
    system.freeze("/a.service", version)
    assert _after(system, process, signal) == frozen
    system.thaw("/a.service")
    assert _after(system, process) == thawed


def test_a_kill_that_was_held_back_works_when_the_kernel_call_returns() -> None:
    """D ends: the pending KILL is delivered."""
    system, process = _start(Spec("disk", (Op("uninterruptible", 1.0),)))
    assert _after(system, process, KILL, s=0.5) == "D"
    assert _after(system, process, s=0.6) == "signal 9"


def test_a_second_signal_waits_for_the_handler_of_the_first() -> None:
    """Sigaction(2) without SA_NODEFER: the same signal is blocked while its handler runs."""
    slow = (Op("wait", 1.0),)
    system, process = _start(Spec("slow", on=((TERM, slow), (TERM, (Op("exit", n=2),)))))
    assert _after(system, process, TERM, TERM, s=0.5) == "S"
    assert process.pending & 1 << 14
    assert _after(system, process, s=0.6) == "status 2"


def test_the_end_of_a_namespace_ends_everything_in_it() -> None:
    """pid_namespaces(7): the first process takes all others with it."""
    system, process = _start(
        Spec("first", flags=("namespace",), children=(Spec("second", children=(Spec("third", ignored=(TERM,)),)),))
    )
    inside = [p for p in system.everyone if p.namespace is process]
    assert len(inside) == 3
    system.post(process, KILL)
    system.settle(0.1)
    assert all(p.exited for p in inside)


def test_orphans_go_to_the_nearest_subreaper() -> None:
    """prctl(2), PR_SET_CHILD_SUBREAPER; without one to init."""
    middle = Spec("middle", (Op("wait", 0.1), Op("exit")), children=(Spec("last"),))
    system, keeper = _start(Spec("keeper", flags=("subreaper",), children=(middle,)))
    last = next(p for p in system.everyone if p.name == "last")
    system.settle(0.2)
    assert last.parent is keeper
    system.post(keeper, KILL)
    system.settle(0.1)
    assert last.parent is system.init
    assert not last.exited


def test_a_zombie_stays_until_its_parent_reaps_or_ends() -> None:
    """Its pid is not free before, and it swallows every signal."""
    system, parent = _start(Spec("parent", reap_s=-1.0, children=(Spec("child", (Op("exit", n=4),)),)))
    child = next(p for p in system.everyone if p.name == "child")
    system.settle(5.0)
    assert child.exited
    assert not child.reaped
    assert child.state == "Z"
    system.post(child, KILL)
    assert child.status == 4
    system.post(parent, KILL)
    system.settle(0.1)
    assert child.reaped


def test_pids_come_back_but_not_while_a_group_or_session_bears_them() -> None:
    """alloc_pid of the kernel: a number in use by any of the three is not given away."""
    leader = Spec("leader", (Op("wait", 0.01), Op("exit")), flags=("session",), children=(Spec("member"),))
    system, process = _start(leader, World(race=0.0, call_s=0.0, pid_max=20, processes=15))
    churner = system.fork(system.init, Spec("churner", (Op("forks", 0.001, 100, child=Spec("short", (Op("exit"),))),)))
    assert churner is not None
    system.settle(1.0)
    assert process.reaped
    later = [p.pid for p in system.everyone if p.serial > churner.serial]
    assert len(set(later)) < len(later)
    assert process.pid not in later


def test_a_token_is_never_used_twice() -> None:
    """Pids come back, tokens do not."""
    system, _ = _start(
        Spec("churner", (Op("forks", 0.001, 100, child=Spec("short", (Op("exit"),))),)), World(pid_max=20)
    )
    system.settle(1.0)
    assert len({p.token for p in system.everyone}) == len(system.everyone) > 100


def test_listening_sockets_are_inherited() -> None:
    """The port is free only when the last holder has ended."""
    system, parent = _start(Spec("server", ports=(3000,), children=(Spec("worker"),)))
    backend = SimBackend(system)
    assert len(backend.listeners("tcp", 3000)[0].pids) == 2
    system.post(parent, KILL)
    assert len(backend.listeners("tcp", 3000)[0].pids) == 1
    system.post(system.everyone[-1], KILL) if system.everyone[-1].name == "worker" else None
    worker = next(p for p in system.everyone if p.name == "worker")
    system.post(worker, KILL)
    assert backend.listeners("tcp", 3000) == []


def test_supervisors_start_again_after_a_delay() -> None:
    """As often as they may, and no more."""
    system, _ = _start(
        Spec("supervisord", restart_s=0.5, restarts=2, children=(Spec("app", (Op("wait", 1.0), Op("exit"))),))
    )
    system.settle(10.0)
    assert sum(p.name == "app" for p in system.everyone) == 3


def test_our_death_lets_go_of_what_was_held() -> None:
    """The guardian's promise, simulated."""
    from endtask._backends.sim.backend import RequesterKilledError

    system, process = _start(Spec("held", on=POLITE))
    backend = SimBackend(system)
    sweep = backend.open_sweep()
    sweep.hold(backend.pin(process.pid))
    system.post(process, TERM)
    system.settle(1.0)
    assert not process.exited
    backend.killed_at = backend.calls + 1
    with pytest.raises(RequesterKilledError):
        backend.table()
    system.settle(0.1)
    assert process.status == 3


def test_a_hold_by_sigstop_is_undone_by_a_continue_from_elsewhere() -> None:
    """A frozen cgroup is not."""
    for mechanism, state in (("sigstop", "S"), ("cgroup-freeze", "T")):
        system, process = _start(Spec("held"), World(race=0.0, call_s=0.0, sweep=mechanism))
        backend = SimBackend(system)
        backend.open_sweep().hold(backend.pin(process.pid))
        assert _after(system, process, CONT) == state


def test_an_inexact_handle_reaches_whoever_has_the_pid_and_the_start_time() -> None:
    """What a system without pidfds does, and why the evidence says so."""
    system, first = _start(Spec("first"), World(race=0.0, call_s=0.0, pidfd=False, pid_max=8))
    backend = SimBackend(system)
    pin = backend.pin(first.pid)
    assert not pin.exact
    assert pin.ref.token == f"t{first.start}"
    system.post(first, KILL)
    system.settle(0.0001)
    system._last_pid = first.pid - 1
    second = system.fork(system.init, Spec("second"))
    assert second is not None
    assert (second.pid, second.start) == (first.pid, first.start)
    assert backend.send(pin, Request("TERM", "signal", TERM), 0.0).status == "delivered"
    assert second.exited
