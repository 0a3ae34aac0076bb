"""The asynchronous driver on Windows: both loops of asyncio, woken by the thread pool."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._async import _turn_asyncio
from endtask._backends.windows.waiter import WindowsWaiter
from endtask._backends.windows.winapi import kernel32
from tests.windows.lab import NO_WINDOW
from tests.windows.lab_processes import Child, event_pins

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.windows.lab import Lab

    Run = Callable[[Awaitable[object]], object]

LIMIT_S = 30


@pytest.fixture(params=["proactor", "selector"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine in a loop of either kind."""

    def in_loop(work: Awaitable[object]) -> object:
        loop = asyncio.ProactorEventLoop() if request.param == "proactor" else asyncio.SelectorEventLoop()
        try:
            return loop.run_until_complete(asyncio.wait_for(work, LIMIT_S))
        finally:
            loop.close()

    return in_loop


def test_wait_ends_with_the_process(run: Run) -> None:
    """The loop runs on meanwhile, and is woken by the exit."""
    with Child() as child:

        async def main() -> endtask.Report:
            waiting = asyncio.create_task(endtask.wait_async(child.pid, timeout_s=LIMIT_S))
            begun = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, begun.set_result, None)
            await begun
            assert not waiting.done()
            child.let_go()
            return await waiting

        report = run(main())
        assert isinstance(report, endtask.Report)
        assert [t.outcome for t in report.targets] == ["stopped"]


def test_wait_without_an_end_lasts_its_time(run: Run) -> None:
    """Nothing wakes it but the clock."""
    with Child() as child:
        report = run(endtask.wait_async(child.pid, timeout_s=0.1))
        assert isinstance(report, endtask.Report)
        assert [t.outcome for t in report.targets] == ["running"]


def test_stop_with_force_ends_a_process(run: Run) -> None:
    """The whole way."""
    with Child() as child:
        report = run(endtask.stop_async(child.pid, now=True, timeout_s=LIMIT_S))
        assert isinstance(report, endtask.Report)
        assert [t.outcome for t in report.targets] == ["forced"]
        assert child.popen.wait() == 1


def test_many_runs_at_once_do_not_wake_each_other(run: Run) -> None:
    """Each has a wait of its own."""
    children = [Child() for _ in range(5)]

    async def main() -> list[str]:
        runs = [asyncio.create_task(endtask.wait_async(c.pid, timeout_s=LIMIT_S)) for c in children]
        await asyncio.sleep(0)  # all of them have opened their handles
        for child in children:
            child.let_go()
        return [r.targets[0].outcome for r in await asyncio.gather(*runs)]

    try:
        assert run(main()) == ["stopped"] * 5
    finally:
        for child in children:
            child.close()


def test_cancelled_run_leaves_the_process_alone_and_nothing_registered(run: Run) -> None:
    """What ends afterwards is nobody's news."""
    with Child() as child:

        async def main() -> None:
            task = asyncio.create_task(endtask.wait_async(child.pid, timeout_s=LIMIT_S))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(main())
        assert child.popen.poll() is None
        assert child.let_go() == 0


def test_turn_is_over_at_once_for_what_has_happened(run: Run) -> None:
    """An exit between two turns is not slept over."""
    (pin,) = event_pins(1)
    waiter = WindowsWaiter()
    waiter.add(pin, 3)
    kernel32.SetEvent(pin.handle)
    assert waiter.wait(LIMIT_S) == [3]
    waiter.add(pin, 4)

    async def main() -> list[int]:
        await _turn_asyncio(waiter, LIMIT_S)
        return waiter.wait(0)

    assert run(main()) == [4]
    waiter.close()


def test_ctrl_c_in_a_blocking_stop_is_a_report_and_not_an_exception() -> None:
    """Without signal masks a handler holds it back until the wait."""
    with Child() as child:
        before = signal.getsignal(signal.SIGINT)
        seen: list[str] = []

        def interrupt(event: endtask.Event) -> None:
            seen.append(event.kind)
            if event.kind == "selected":
                raiser = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
                raiser.start()
                raiser.join()

        report = endtask.wait(child.pid, timeout_s=LIMIT_S, on_event=interrupt)
        assert report.cancelled
        assert report.exit_code == 130
        assert "selected" in seen
        assert child.popen.poll() is None
        assert signal.getsignal(signal.SIGINT) is before


def test_what_an_application_says_wakes_the_loop(run: Run, lab: Lab) -> None:
    """It needs more time and gets it: somebody has listened before the time was over."""
    target = lab.start("receiver", "needs", 8000, flags=NO_WINDOW)
    report = run(endtask.stop_async(str(target.pid), timeout_s=4, extend_s=30, watch_s=0))
    assert isinstance(report, endtask.Report)
    (told,) = report.targets
    assert (told.outcome, told.granted_s > 3.9) == ("stopped", True)
    assert [said.kind for said in told.members[0].said][:2] == ["heard", "need"]
