"""The forced end: one process, and a tree that starts others while it is ended."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, jobs, table
from endtask._backends.windows.winapi import kernel32
from tests.windows.lab import SUSPENDED
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from tests.windows.lab import Lab

# Starts another one of itself as fast as it can, and is not counted by anybody; NUMBER generations at most.
BREEDER = """
import os, subprocess
left = int(sys.argv[1])
if left:
    subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys\\n" + sys.argv[2], str(left - 1), sys.argv[2]],
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
"""


def test_terminate_ends_a_process_with_exit_code_one() -> None:
    """The code that taskkill /F gives."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        receipt = jobs.terminate(pin, 1.5)
        assert (receipt.request, receipt.status, receipt.at_s) == ("TERMINATE", "delivered", 1.5)
        assert child.popen.wait() == 1
        assert handles.end_of(pin).status == 1


def test_terminate_of_what_has_ended_is_gone_and_not_denied() -> None:
    """Windows refuses it with ACCESS_DENIED, Wine takes it: neither was forced by us."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        child.let_go()
        assert jobs.terminate(pin, 0.0).status == "gone"


def test_terminate_of_a_protected_process_is_denied_with_the_call() -> None:
    """What may be looked at need not be ours to end."""
    with Child(LOCK, ONLY_LOOK) as child, handles.open_pin(child.pid) as pin:
        receipt = jobs.terminate(pin, 0.0)
        assert receipt.status == "denied"
        assert "OpenProcess: access is denied (error 5)" in receipt.detail
        assert not handles.has_exited(pin)


def test_terminate_ends_a_suspended_process(lab: Lab) -> None:
    """It needs nothing of the process's own to run."""
    target = lab.start("etconsole", "none", flags=SUSPENDED)
    with handles.open_pin(target.pid) as pin:
        assert jobs.terminate(pin, 0.0).status == "delivered"
        assert target.wait_exit() == 1


def test_held_process_takes_its_later_children_with_it(lab: Lab) -> None:
    """What is born after `hold` is in the job, whoever knows of it; the proof is that nobody in it is active."""
    root = lab.start("ettree", "breeder")
    old = lab.child(root, 1)
    sweep = jobs.JobSweep()
    with handles.open_pin(root.pid) as pin:
        assert sweep.hold(pin) is None
        assert sweep.hold(pin) is None  # twice does no harm
        assert (sweep.mechanism, sweep.settle(), sweep.active()) == ("job", True, 1)
        _start_another(root.pid)
        late = lab.child(root, 2)
        assert (sweep.active() or 0) >= 2  # the host of a console that Wine makes for a child is born inside as well
        (receipt,) = sweep.kill([pin], 2.0)
        assert (receipt.status, receipt.at_s, receipt.detail) == ("delivered", 2.0, "with its job object")
        assert root.wait_exit() == late.wait_exit() == 1
        assert sweep.active() == 0
        assert old.running, "it was there before and was not held"
    sweep.close()


def _start_another(pid: int) -> None:
    """Tell a breeder to start a child, by a thread at its control handler."""
    from endtask._backends.windows import inject
    from endtask.model import Request

    with handles.open_pin(pid) as pin:
        assert inject.send_inject(pin, Request("CTRL_BREAK", "inject", 1), 0.0).status == "delivered"


def test_child_of_a_held_process_may_be_held_too(lab: Lab) -> None:
    """It is inside already."""
    root = lab.start("ettree", "breeder")
    sweep = jobs.JobSweep()
    with handles.open_pin(root.pid) as pin:
        sweep.hold(pin)
        _start_another(root.pid)
        late = lab.child(root, 2)
        with handles.open_pin(late.pid) as other:
            assert sweep.hold(other) is None
            assert (sweep.active() or 0) >= 2  # with the host of a console that Wine may have made for a child
            receipts = sweep.kill([pin, other], 0.0)
            assert {r.status for r in receipts} <= {"delivered", "gone"}
            assert late.wait_exit() == 1
    sweep.close()


def test_sweep_that_is_closed_lets_everybody_live(lab: Lab) -> None:
    """A job of ours that goes, because we gave up or were killed, ends nobody."""
    target = lab.start("etconsole", "none")
    sweep = jobs.JobSweep()
    with handles.open_pin(target.pid) as pin:
        sweep.hold(pin)
        sweep.close()
        sweep.close()
        assert target.running
        assert not handles.has_exited(pin)
        again = jobs.JobSweep()  # it is still in the first job, which nobody can name any more
        assert again.hold(pin) is None
        assert [r.status for r in again.kill([pin], 0.0)] == ["delivered"]
        assert target.wait_exit() == 1
        again.close()


def test_process_in_a_job_of_somebody_else_is_held_inside_of_it(lab: Lab) -> None:
    """Nested jobs; two processes of two foreign jobs need two of ours."""
    foreign = [kernel32.CreateJobObjectW(None, None) for _ in range(2)]
    targets = [lab.start("etconsole", "none") for _ in foreign]
    sweep = jobs.JobSweep()
    pins = [handles.open_pin(t.pid) for t in targets]
    for job, pin in zip(foreign, pins, strict=True):
        assert job is not None
        with handles.open_more(pin, kernel32.PROCESS_SET_QUOTA | kernel32.PROCESS_TERMINATE) as handle:
            assert kernel32.AssignProcessToJobObject(job, handle)
        assert sweep.hold(pin) is None
    assert sweep.mechanism == "job"
    assert [r.status for r in sweep.kill(pins, 0.0)] == ["delivered", "delivered"]
    for target, pin in zip(targets, pins, strict=True):
        assert target.wait_exit() == 1
        pin.close()
    assert sweep.active() == 0
    sweep.close()
    for job in foreign:
        assert job is not None
        kernel32.CloseHandle(job)


def test_hold_of_what_has_ended_is_gone() -> None:
    """And so is its forced end."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        child.let_go()
        sweep = jobs.JobSweep()
        receipt = sweep.hold(pin)
        assert receipt is not None
        assert receipt.status == "gone"
        assert [r.status for r in sweep.kill([pin], 0.0)] == ["gone"]
        sweep.close()


def test_hold_of_what_may_not_be_ended_is_denied() -> None:
    """Nothing was done to it."""
    with Child(LOCK, ONLY_LOOK) as child, handles.open_pin(child.pid) as pin:
        sweep = jobs.JobSweep()
        receipt = sweep.hold(pin)
        assert receipt is not None
        assert receipt.status == "denied"
        sweep.close()
        assert child.popen.poll() is None


def test_process_that_may_be_ended_but_not_held_is_ended_by_its_handle() -> None:
    """The mechanism says so, because its later children could get away."""
    may_end = "D:(A;;0x101001;;;WD)"  # and PROCESS_TERMINATE, without PROCESS_SET_QUOTA
    with Child(LOCK, may_end) as child, handles.open_pin(child.pid) as pin:
        sweep = jobs.JobSweep()
        assert sweep.hold(pin) is None
        assert sweep.mechanism == "handle"
        (receipt,) = sweep.kill([pin], 0.0)
        assert (receipt.status, receipt.detail) == ("delivered", "")
        assert child.popen.wait() == 1
        sweep.close()


@pytest.mark.slow
def test_tree_that_starts_others_all_the_time_is_ended_as_a_whole() -> None:
    """Hold, look again until nobody new is there, end: nothing of it is left."""
    code = f"{BREEDER}\nimport time; time.sleep(60)"
    with Child(BREEDER, "40", code) as child:
        pins = {child.pid: handles.open_pin(child.pid)}
        sweep = jobs.JobSweep()
        while True:
            for pin in list(pins.values()):
                sweep.hold(pin)
            snapshot = table.take()
            new = [p for q in list(pins) for p in snapshot.children(q) if p not in pins]
            if not new:
                break
            for pid in new:
                pins[pid] = handles.open_pin(pid)
        sweep.kill(list(pins.values()), 0.0)
        child.popen.wait()
        for pin in pins.values():
            kernel32.WaitForSingleObject(pin.handle, 30_000)
            assert handles.has_exited(pin)
            pin.close()
        assert sweep.active() == 0
        sweep.close()


def test_whether_a_process_is_in_a_job_can_be_told(lab: Lab) -> None:
    """None where it may not be asked."""
    target = lab.start("etconsole", "none")
    sweep = jobs.JobSweep()
    with handles.open_pin(target.pid) as pin:
        sweep.hold(pin)
        with handles.open_more(pin, kernel32.PROCESS_QUERY_INFORMATION) as handle:
            assert jobs.is_in_job(handle) is True
    assert jobs.is_in_job(0) is None
    sweep.close()
