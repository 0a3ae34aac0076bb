"""Executors of `concurrent.futures`: nothing new, finished or cancelled by the deadline, no process left over."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import Policy, Stop
from endtask_receiver.adapters.executors import Processes, Threads, WorkLeftError
from tests.receiver.lab import LIMIT_S, Program

from .lab import ask, begun, ends_whole

if TYPE_CHECKING:
    from .lab import Gate

CODE = """
import concurrent.futures, os, sys, time
from endtask_receiver import Policy, listen
from endtask_receiver.adapters.executors import Processes, Threads, WorkLeftError
from hearing import say_requests

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(number):
    say("work")
    with open(sys.argv[2], "rb", buffering=0) as gate:
        gate.read(1)
    return number

def outcome(future):
    try:
        return future.result()
    except BaseException as error:
        return type(error).__name__

def main():
    kind, _gate, grace_s, pending, context = sys.argv[1:6]
    overdue = sys.argv[6] if len(sys.argv) > 6 else "hurry"
    with listen(grace_s=float(grace_s), policy=Policy(overdue=overdue, window_s=0)) as stop:
        say_requests(stop)
        stop._listeners.append(lambda news: say(news.text, news.done, news.total))
        stop.cleanup(say, "cleaned", name="say")
        if kind == "threads":
            make = lambda: Threads(stop, 2, pending=pending)
        else:
            import multiprocessing
            make = lambda: Processes(stop, 2, multiprocessing.get_context(context), pending=pending)
        try:
            with make() as pool:
                futures = [pool.submit(work, number) for number in range(8)]
                say("submitted")
                if "leave" in sys.argv:
                    raise StopIteration
                concurrent.futures.wait(futures)
                say("results", *(outcome(f) for f in futures), outcome(pool.submit(work, 9)))
        except WorkLeftError as error:
            say(error)
        except StopIteration:
            say("left in vain")
        stop.finish()

if __name__ == "__main__":
    main()
"""


ENV = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


class Pool(Program):
    """A program with eight jobs and two workers, of which both are busy."""

    def __init__(self, kind: str, gate: Gate, *words: str, grace_s: float = LIMIT_S, pending: str = "finish") -> None:
        program = Path(gate.path).with_name("program.py")
        program.write_text(CODE)
        name, _, context = kind.partition(" ")
        super().__init__(program, name, gate.path, str(grace_s), pending, context or "-", *words, env=ENV)
        begun(self, self._wait)

    def _wait(self) -> None:
        assert sorted(self.line() for _ in range(3)) == ["submitted", "work", "work"]


RUNNING = {"threads": 2, "processes": 5}  # at most: these are given to their queue before there is a worker for them
CANCELLED = {"threads": {"jobs done 6 8"}, "processes": {f"jobs done {n} 8" for n in range(1, 7)}}
KINDS = ("threads", "processes fork", "processes spawn", "processes forkserver")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which executor, and how its processes start."""
    return str(request.param)


@pytest.fixture(params=KINDS[1:3])
def processes(request: pytest.FixtureRequest) -> str:
    """The same, for what only processes can do."""
    return str(request.param)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_submitted_is_finished_and_nothing_new_is_begun(kind: str, gate: Gate, number: signal.Signals) -> None:
    """With all of it told, and no word from a worker."""
    with Pool(kind, gate) as program:
        ask(program, number)
        program.expect("jobs done 0 8")
        gate.open()
        lines = ends_whole(program, -number)
        assert "results 0 1 2 3 4 5 6 7 CancelledError" in lines
        assert {"jobs done 8 8", "cleaned"} <= set(lines)
        assert program.errors() == ""


@pytest.mark.real
@pytest.mark.slow
def test_what_waits_can_be_cancelled_at_once(kind: str, gate: Gate) -> None:
    """What runs is finished; whoever waits for the rest hears it."""
    with Pool(kind, gate, pending="cancel") as program:
        program.send()
        while program.line() not in CANCELLED[kind.partition(" ")[0]]:
            pass
        gate.open()
        lines = ends_whole(program, -signal.SIGTERM)
        results = next(line for line in lines if line.startswith("results")).split()[1:]
        done = results.index("CancelledError")
        assert results == [*map(str, range(done)), *["CancelledError"] * (9 - done)]
        assert 2 <= done <= RUNNING[kind.partition(" ")[0]]
        assert program.errors() == ""


@pytest.mark.real
@pytest.mark.slow
def test_the_deadline_is_kept_by_ending_processes(processes: str, gate: Gate) -> None:
    """What waits is cancelled, what runs is ended; the cleanup has its turn, and nobody is left over."""
    with Pool(processes, gate, grace_s=4) as program:
        at = program.send()
        lines = ends_whole(program, -signal.SIGTERM)
        assert time.monotonic() - at < LIMIT_S / 2
        results = next(line for line in lines if line.startswith("results")).split()[1:]
        ended = results.count("BrokenProcessPool")
        assert results == [*["BrokenProcessPool"] * ended, *["CancelledError"] * (9 - ended)]
        assert 2 <= ended <= RUNNING["processes"]
        assert "cleaned" in lines
        assert program.errors() == ""


@pytest.mark.real
@pytest.mark.slow
def test_a_second_request_cuts(processes: str, gate: Gate) -> None:
    """Whatever time would be left."""
    with Pool(processes, gate) as program:
        ask(program)
        program.expect("jobs done 0 8")
        program.send()
        assert "cleaned" in ends_whole(program, -signal.SIGTERM)
        assert program.errors() == ""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("how", ["third", "killed"])
def test_workers_end_with_their_parent(processes: str, gate: Gate, how: str) -> None:
    """Asked a third time, or killed: 19 of 20 left orphans without this."""
    with Pool(processes, gate) as program:
        if how == "killed":
            program.send(signal.SIGKILL)
            ends_whole(program, -signal.SIGKILL)
            return
        ask(program)
        program.expect("jobs done 0 8")
        ask(program)
        program.send()
        ends_whole(program, -signal.SIGTERM)


@pytest.mark.real
@pytest.mark.slow
def test_workers_leave_ctrl_c_to_their_parent(processes: str, gate: Gate) -> None:
    """A terminal sends it to everybody."""
    with Pool(processes, gate) as program:
        everybody = [int(pid) for pid in children(program.pid)]
        assert len(everybody) >= 2
        for pid in everybody:
            os.kill(pid, signal.SIGINT)
        ask(program, signal.SIGINT)
        program.expect("jobs done 0 8")
        gate.open()
        assert "results 0 1 2 3 4 5 6 7 CancelledError" in ends_whole(program, -signal.SIGINT)
        assert program.errors() == ""


@pytest.mark.real
@pytest.mark.slow
def test_threads_that_still_run_are_said_and_the_program_ends_if_it_shall(gate: Gate) -> None:
    """Nobody can end a thread, so the whole process is ended at its deadline, if that is its policy."""
    with Pool("threads", gate, "exit", grace_s=3) as program:
        program.send()
        assert "cleaned" not in ends_whole(program, -signal.SIGTERM)
    with Pool("threads", gate, "hurry", "leave", grace_s=3) as program:
        program.send()
        lines = []
        while "cleaned" not in lines:
            lines.append(program.line())
        assert "2 jobs still running at the deadline, in threads" in lines
        gate.open()
        ends_whole(program, -signal.SIGTERM)


def children(pid: int) -> list[str]:
    """Return the process ids of its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


# ---------------------------------------------------------------- without processes


def test_a_block_that_nobody_stops_is_as_ever() -> None:
    """All is done, nothing is cancelled."""
    stop = Stop()
    with Threads(stop, 2) as pool:
        assert list(pool.map(abs, range(5))) == list(range(5))
    assert stop._wakers == []


def test_jobs_after_a_request_are_cancelled_futures() -> None:
    """Also for `map` and `wait`, which do not hang."""
    from concurrent.futures import CancelledError, wait

    stop = Stop()
    with Threads(stop, 2) as pool:
        stop.ask()
        future = pool.submit(abs, 1)
        assert future.cancelled()
        assert not wait([future], LIMIT_S).not_done
        with pytest.raises(CancelledError):
            list(pool.map(abs, [1]))


def test_threads_left_at_the_deadline_are_an_error() -> None:
    """With the block left at the deadline, and not when they end."""
    import threading

    stop, gate = Stop(0.3), threading.Event()
    with pytest.raises(WorkLeftError, match=r"^1 job still"), Threads(stop, 1) as pool:
        pool.submit(gate.wait)
        waiting = pool.submit(abs, 1)
        stop.ask()
    gate.set()
    assert waiting.cancelled()


def test_a_refused_request_leaves_the_executor_as_it_is() -> None:
    """It goes on, and follows the next request."""
    stop = Stop(policy=Policy(window_s=0))
    with Threads(stop, 1) as pool:
        stop.ask()
        assert stop.veto("recording")
        assert pool.submit(abs, -1).result(LIMIT_S) == 1
        stop.ask()
        assert pool.submit(abs, -1).cancelled()


def test_other_words_are_errors() -> None:
    """At once."""
    with pytest.raises(ValueError, match="pending is finish or cancel"):
        Threads(Stop(), pending="later")
    with pytest.raises(ValueError, match="pending is finish or cancel"):
        Processes(Stop(), 1, pending="later")
