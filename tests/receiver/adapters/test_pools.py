"""multiprocessing.Pool: finished or ended by the deadline, nobody waits for ever, no process is left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import Stop
from endtask_receiver.adapters.pools import Pool, PoolEndedError
from tests.receiver.lab import LIMIT_S, Program

from .lab import ask, begun, ends_whole

if TYPE_CHECKING:
    from .lab import Gate

pytestmark = [pytest.mark.real, pytest.mark.slow]

CODE = """
import multiprocessing, os, sys
from endtask_receiver import listen
from endtask_receiver.adapters.pools import Pool, PoolEndedError
from hearing import EACH, say_requests

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(number):
    say("work")
    with open(sys.argv[1], "rb", buffering=0) as gate:
        gate.read(1)
    return number

WAYS = {
    "map": lambda pool: pool.map(work, range(8), 1),
    "starmap": lambda pool: pool.starmap(work, [(n,) for n in range(8)], 1),
    "async": lambda pool: [result.get() for result in [pool.apply_async(work, (n,)) for n in range(8)]],
    "imap": lambda pool: list(pool.imap(work, range(8))),
    "imap_unordered": lambda pool: sorted(pool.imap_unordered(work, range(8), 2)),
}

def main():
    _gate, grace_s, pending, context, way = sys.argv[1:]
    with listen(grace_s=float(grace_s), policy=EACH) as stop:
        say_requests(stop)
        stop._listeners.append(lambda news: say(news.text, news.done, news.total))
        stop.cleanup(say, "cleaned", name="say")
        with Pool(stop, 2, context=multiprocessing.get_context(context), pending=pending) as pool:
            try:
                say(*WAYS[way](pool))
            except PoolEndedError as error:
                say(error)
            try:
                say(pool.apply(abs, (-1,)))
            except PoolEndedError:
                say("nothing new")
        stop.finish()

if __name__ == "__main__":
    main()
"""
WAYS = ("map", "starmap", "async", "imap", "imap_unordered")


ENV = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


class Jobs(Program):
    """A program with eight jobs and two workers, of which both are busy."""

    def __init__(
        self, gate: Gate, way: str, *, context: str = "fork", grace_s: float = LIMIT_S, pending: str = "finish"
    ) -> None:
        program = Path(gate.path).with_name("program.py")
        program.write_text(CODE)
        super().__init__(program, gate.path, str(grace_s), pending, context, way, env=ENV)
        begun(self, lambda: self.expect("work", "work"))


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_taken_on_is_finished(gate: Gate, context: str, number: signal.Signals) -> None:
    """Ctrl+C too, which a terminal sends to the workers as well."""
    with Jobs(gate, "map", context=context) as program:
        if number == signal.SIGINT:
            for pid in children(program.pid):
                os.kill(pid, number)
        ask(program, number)
        program.expect("results 0 1")
        gate.open()
        lines = ends_whole(program, -number)
        assert {"0 1 2 3 4 5 6 7", "nothing new", "cleaned"} <= set(lines)
        assert program.errors() == ""


@pytest.mark.parametrize("way", WAYS)
def test_nobody_waits_for_ever_when_the_time_is_over(gate: Gate, way: str) -> None:
    """Not even in a call without a limit."""
    with Jobs(gate, way, grace_s=3) as program:
        at = program.send()
        lines = ends_whole(program, -signal.SIGTERM)
        assert time.monotonic() - at < LIMIT_S / 2
        assert {"the pool was asked to stop, and this was not done", "nothing new", "cleaned"} <= set(lines)
        assert program.errors() == ""


def test_what_waits_can_be_refused_at_once(gate: Gate) -> None:
    """What runs is finished."""
    with Jobs(gate, "async", pending="cancel") as program:
        ask(program)
        program.expect("results 0 8")
        gate.open()
        lines = ends_whole(program, -signal.SIGTERM)
        assert lines.count("work") == 0
        assert "the pool was asked to stop, and this was not done" in lines
        assert program.errors() == ""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_second_request_cuts(gate: Gate, context: str) -> None:
    """Whatever time would be left."""
    with Jobs(gate, "map", context=context) as program:
        ask(program)
        program.expect("results 0 1")
        program.send()
        assert "cleaned" in ends_whole(program, -signal.SIGTERM)
        assert program.errors() == ""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_end_with_their_parent(gate: Gate, context: str) -> None:
    """Whatever ends it."""
    with Jobs(gate, "map", context=context) as program:
        program.send(signal.SIGKILL)
        ends_whole(program, -signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the process ids of its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


# ---------------------------------------------------------------- in this process


def read_at(gate: str) -> None:
    """Be a job that ends when the test says so."""
    with open(gate, "rb", buffering=0) as file:
        file.read(1)


def test_a_pool_that_nobody_stops_is_as_ever(gate: Gate) -> None:
    """All calls, with callbacks and errors."""
    stop = Stop()
    seen: list[object] = []
    with Pool(stop, 2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert pool.apply(abs, (-3,)) == 3
        assert list(pool.imap(abs, range(-5, 0), 2)) == [5, 4, 3, 2, 1]
        assert sorted(pool.imap_unordered(abs, range(-3, 0))) == [1, 2, 3]
        assert pool.map_async(abs, [-4], callback=seen.append).get(LIMIT_S) == [4]
        failing = pool.apply_async(int, ("x",), error_callback=seen.append)
        with pytest.raises(ValueError, match="invalid literal"):
            failing.get(LIMIT_S)
        assert failing.ready()
        assert not failing.successful()
        slow = pool.apply_async(read_at, (gate.path,))
        with pytest.raises(multiprocessing.TimeoutError):
            slow.get(0)
        with pytest.raises(ValueError, match="not ready"):
            slow.successful()
        gate.open()
        slow.wait(LIMIT_S)
        assert slow.successful()
    assert seen[0] == [4]
    assert isinstance(seen[1], ValueError)
    assert stop._wakers == []
    assert stop._dying == []


def test_a_block_that_is_left_by_an_error_ends_its_workers() -> None:
    """As in the standard pool."""
    with pytest.raises(KeyError), Pool(Stop(), 1) as pool:
        pool.apply_async(time.sleep, (1000,))
        raise KeyError


def test_other_words_are_errors() -> None:
    """At once; and so is an iterator after a request."""
    with pytest.raises(ValueError, match="pending is finish or cancel"):
        Pool(Stop(), 1, pending="later")
    stop = Stop()
    with Pool(stop, 1) as pool:
        stop.ask()
        with pytest.raises(PoolEndedError):
            pool.imap(abs, [1])
