"""The asynchronous twins on real children: in asyncio and in trio, without threads, cancellable, leaving nothing open."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

import endtask
from endtask._async import drive
from endtask.model import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

    from endtask.model import Event

    Main = Callable[[], Coroutine[object, object, object]]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="no backend for this platform yet"),
]

LIMIT_S = 60  # no test of this module may take longer, whatever goes wrong

# Says "ready", then ends at the end of its standard input; what TERM does is the argument's affair.
CHILD = """
import signal, sys
signal.signal(signal.SIGTERM, {"default": signal.SIG_DFL, "ignore": signal.SIG_IGN, "note": lambda *_: None}[sys.argv[1]])
print("ready", flush=True)
sys.stdin.read()
"""


_NUMBERS = itertools.count()


class Child:
    """A real child of ours: until we reap it nobody else can have its pid."""

    def __init__(self, on_term: str) -> None:
        # An environment of its own: what else this machine starts meanwhile cannot be taken for its orphan.
        own = {**os.environ, "ENDTASK_TEST_CHILD": f"{os.getpid()} {next(_NUMBERS)}"}
        command = [sys.executable, "-I", "-S", "-c", CHILD, on_term]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not exited; a zombie has."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def let_go(self) -> None:
        """End its standard input, and so itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        """End it for good and reap it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def child_that() -> Iterator[Callable[[str], Child]]:
    """Start children; each is ended afterwards."""
    children: list[Child] = []

    def start(on_term: str) -> Child:
        children.append(Child(on_term))
        return children[-1]

    yield start
    for child in children:
        child.close()


def run_asyncio(main: Main) -> object:
    """Run in asyncio with a limit."""

    async def limited() -> object:
        return await asyncio.wait_for(main(), LIMIT_S)

    return asyncio.run(limited())


def run_trio(main: Main) -> object:
    """Run in trio with a limit."""

    async def limited() -> object:
        with trio.fail_after(LIMIT_S):
            return await main()

    return trio.run(limited)


RUNNERS = pytest.mark.parametrize("run", [run_asyncio, run_trio], ids=["asyncio", "trio"])


def open_files() -> set[str]:
    """Return what we have open, by kind and number."""
    names = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue  # ignored: the descriptor of the listing itself
    return names


@RUNNERS
def test_stop_async_stops_and_proves(run: Callable[[Main], object], child_that: Callable[[str], Child]) -> None:
    """The same verdict as the blocking form, with evidence, and nothing stays open."""
    child = child_that("default")
    before = open_files()
    report = run(lambda: endtask.stop_async(child.pid, timeout_s=50))
    assert isinstance(report, Report)
    assert ("stopped", 0) == (report.targets[0].outcome, report.exit_code)
    assert report.targets[0].evidence
    assert not child.runs
    assert before == open_files()


def test_event_loop_of_asyncio_runs_on_meanwhile_without_threads(child_that: Callable[[str], Child]) -> None:
    """The child ends only when another task of the same loop lets it: a blocked loop would never."""
    child = child_that("note")
    threads: list[int] = []

    async def main() -> Report:
        sent = asyncio.Event()

        async def release() -> None:
            await sent.wait()
            threads.append(threading.active_count())
            child.let_go()

        def hear(event: Event) -> None:
            if event.kind == "request":
                sent.set()

        releasing = asyncio.create_task(release())
        report = await endtask.stop_async(child.pid, timeout_s=50, on_event=hear)
        await releasing
        return report

    before = threading.active_count()
    report = run_asyncio(main)
    assert isinstance(report, Report)
    assert report.targets[0].outcome == "stopped"
    assert [before] == threads


def test_event_loop_of_trio_runs_on_meanwhile_without_threads(child_that: Callable[[str], Child]) -> None:
    """The same in trio."""
    child = child_that("note")
    threads: list[int] = []
    reports: list[Report] = []

    async def main() -> None:
        sent = trio.Event()

        def hear(event: Event) -> None:
            if event.kind == "request":
                sent.set()

        async def ask() -> None:
            reports.append(await endtask.stop_async(child.pid, timeout_s=50, on_event=hear))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await sent.wait()
            threads.append(threading.active_count())
            child.let_go()

    before = threading.active_count()
    run_trio(main)
    assert ["stopped"] == [r.targets[0].outcome for r in reports]
    assert [before] == threads


def test_two_stops_share_one_loop(child_that: Callable[[str], Child]) -> None:
    """Each waits on its own descriptor."""
    children = [child_that("default") for _ in range(2)]

    async def main() -> list[Report]:
        return list(await asyncio.gather(*(endtask.stop_async(c.pid, timeout_s=50) for c in children)))

    reports = run_asyncio(main)
    assert isinstance(reports, list)
    assert ["stopped"] * 2 == [r.targets[0].outcome for r in reports]


@RUNNERS
def test_wait_async_sends_nothing(run: Callable[[Main], object], child_that: Callable[[str], Child]) -> None:
    """It only waits: a child that would end by TERM is still there when the time is over, and seen when it ends by itself."""
    child = child_that("default")
    report = run(lambda: endtask.wait_async(child.pid, timeout_s=0.05))
    assert isinstance(report, Report)
    assert ("running", True) == (report.targets[0].outcome, child.runs)
    child.let_go()
    report = run(lambda: endtask.wait_async(child.pid, timeout_s=50))
    assert isinstance(report, Report)
    assert ("stopped", ()) == (report.targets[0].outcome, report.targets[0].members[0].receipts)


@RUNNERS
def test_timeout_is_kept_in_the_loop(run: Callable[[Main], object], child_that: Callable[[str], Child]) -> None:
    """A child that ignores TERM is running when the budget is spent (demand 3.1)."""
    child = child_that("ignore")
    report = run(lambda: endtask.stop_async(child.pid, timeout_s=0.05))
    assert isinstance(report, Report)
    assert ("running", 124) == (report.targets[0].outcome, report.exit_code)
    assert child.runs


@RUNNERS
def test_force_works_in_the_loop(run: Callable[[Main], object], child_that: Callable[[str], Child]) -> None:
    """The planned force, and its word."""
    child = child_that("ignore")
    report = run(lambda: endtask.stop_async(child.pid, force_after_s=0.05))
    assert isinstance(report, Report)
    assert "forced" == report.targets[0].outcome
    assert not child.runs


def test_cancel_in_asyncio_stops_the_asking(child_that: Callable[[str], Child]) -> None:
    """What was sent stays sent, force never comes, and nothing stays open."""
    child = child_that("ignore")

    async def main() -> None:
        before = open_files()
        sent = asyncio.Event()

        def hear(event: Event) -> None:
            if event.kind == "request":
                sent.set()

        stopping = asyncio.create_task(endtask.stop_async(child.pid, plan="TERM/20/KILL/5", on_event=hear))
        await sent.wait()
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert before == open_files()

    run_asyncio(main)
    assert child.runs


def test_cancel_in_trio_stops_the_asking(child_that: Callable[[str], Child]) -> None:
    """The same in trio."""
    child = child_that("ignore")

    async def main() -> None:
        before = open_files()
        with trio.CancelScope() as scope:

            def hear(event: Event) -> None:
                if event.kind == "request":
                    scope.cancel()

            await endtask.stop_async(child.pid, plan="TERM/20/KILL/5", on_event=hear)
        assert scope.cancelled_caught
        assert before == open_files()

    run_trio(main)
    assert child.runs


@RUNNERS
def test_error_comes_out_of_the_coroutine_and_leaves_nothing_open(run: Callable[[Main], object]) -> None:
    """A word that makes no sense, and a word for ourselves."""
    before = open_files()
    with pytest.raises(endtask.TargetError):
        run(lambda: endtask.stop_async("0"))
    with pytest.raises(endtask.RefusedError):
        run(lambda: endtask.stop_async(os.getpid()))
    assert before == open_files()


def test_outside_of_an_event_loop_it_is_a_runtime_error(child_that: Callable[[str], Child]) -> None:
    """Neither asyncio nor trio: said, and nothing stays open."""
    child = child_that("ignore")
    before = open_files()
    coroutine = endtask.stop_async(child.pid)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
    assert before == open_files()


# --- the driver alone


class SilentWaiter:
    """A wait whose descriptor never becomes readable: where exits must be polled for (old kernels)."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.polled = 0
        self.poll_s: float | None = 0.001

    def fileno(self) -> int:
        """Return the silent descriptor."""
        return self.read

    def wait(self, timeout_s: float | None) -> list[int]:
        """Report an exit at the third look."""
        assert timeout_s == 0, "the event loop waits, not we"
        self.polled += 1
        return [7] if self.polled == 3 else []

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.read)
        os.close(self.write)


class PolledSession:
    """A session that ends when key 7 has exited."""

    def __init__(self) -> None:
        self.waiter = SilentWaiter()
        self.keys: list[list[int]] = []

    def steps(self) -> Generator[float, list[int], Report]:
        """Wait for an hour, as a run without alarms does."""
        while [7] not in self.keys:
            self.keys.append((yield 3600.0))
        return Report((), elapsed_s=1.0)


@RUNNERS
def test_waiter_that_must_be_polled_is_polled(run: Callable[[Main], object]) -> None:
    """Without pidfds nothing becomes readable, so the loop looks by itself, however long the run would wait."""
    session = PolledSession()
    try:
        report = run(lambda: drive(session))  # type: ignore[arg-type]  # a stand-in with what drive uses
        assert Report((), elapsed_s=1.0) == report
        assert [[], [], [7]] == session.keys
    finally:
        session.waiter.close()
