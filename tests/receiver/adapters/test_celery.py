"""celery: what runs is finished, the deadline is kept by every pool, nothing is left over. The broker is a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.receiver.lab import LIMIT_S, Program

from .lab import begun, ends_whole

if TYPE_CHECKING:
    from .lab import Gate

pytestmark = [pytest.mark.real, pytest.mark.slow]

RUNNING = {"prefork": 2, "threads": 2, "solo": 1}


IN_A_THREAD = """
import threading
import celery_tasks
from endtask_receiver import listen
with listen() as stop:
    worker = celery_tasks.app.Worker(pool="solo", concurrency=1, loglevel="CRITICAL", quiet=True)
    threading.Thread(target=worker.start, daemon=True).start()
    stop.wait()
    stop.finish()
"""


class Worker(Program):
    """A worker that listens; its tasks run."""

    def __init__(self, gate: Gate, pool: str, *, tasks: int = 0, grace_s: float = LIMIT_S, program: str = "") -> None:
        here = str(Path(__file__).parent)
        env = {
            "GATE": gate.path,
            "GRACE": str(grace_s),
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        if tasks:
            code = f"import celery_tasks\nfor _ in range({tasks}): celery_tasks.work.delay()"
            subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, check=True, timeout=LIMIT_S)
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "CRITICAL"]
        words = ["-q", "-A", "celery_tasks", "worker", "-P", pool, "-c", "2", *quiet]
        code = program or f"import sys; sys.argv[1:] = {words!r}\nfrom celery.__main__ import main; main()"
        super().__init__(code, env=env)
        begun(self, lambda: self.hears("listening", *["work"] * tasks))

    def hears(self, *wanted: str) -> None:
        """Wait until it has said all of this, among other things, in any order."""
        missing = list(wanted)
        while missing:
            line = self.line().removeprefix("| ")
            if line in missing:
                missing.remove(line)

    def ends(self, status: int) -> set[str]:  # type: ignore[override]  # it says more than we look at
        """Wait for the end of all of it; return what was said since."""
        lines = ends_whole(self, status)
        assert "Traceback" not in self.errors(), self.errors()
        return {line.removeprefix("| ") for line in lines}


@pytest.fixture(params=list(RUNNING))
def pool(request: pytest.FixtureRequest) -> str:
    """The kind of pool."""
    return str(request.param)


@pytest.mark.parametrize(
    ("pool", "number"),
    [("prefork", signal.SIGTERM), ("prefork", signal.SIGINT), ("threads", signal.SIGINT), ("solo", signal.SIGTERM)],
)
def test_tasks_that_run_are_finished(gate: Gate, pool: str, number: signal.Signals) -> None:
    """Ctrl+C too, which a terminal sends to the pool's processes as well."""
    with Worker(gate, pool, tasks=RUNNING[pool]) as worker:
        if number == signal.SIGINT:
            with open(f"/proc/{worker.pid}/task/{worker.pid}/children") as file:
                for pid in file.read().split():
                    os.kill(int(pid), number)
        worker.send(number)
        worker.hears(f"tasks done 0 {RUNNING[pool]}")
        gate.open()
        assert {"done", "cleaned"} <= worker.ends(-number)


def test_an_idle_worker_stops(gate: Gate, pool: str) -> None:
    """With nothing to finish."""
    with Worker(gate, pool) as worker:
        worker.send()
        assert "cleaned" in worker.ends(-signal.SIGTERM)


def test_the_deadline_is_kept(gate: Gate, pool: str) -> None:
    """Whatever still runs; celery alone waits for ever."""
    with Worker(gate, pool, tasks=RUNNING[pool], grace_s=4) as worker:
        at = worker.send()
        assert "done" not in worker.ends(-signal.SIGTERM)
        assert time.monotonic() - at < LIMIT_S / 2


def test_a_second_request_is_the_cold_shutdown(gate: Gate) -> None:
    """Also as the TERM that celery ignores."""
    with Worker(gate, "prefork", tasks=2) as worker:
        worker.send()
        worker.hears("tasks done 0 2")
        worker.send()
        said = worker.ends(-signal.SIGTERM)
        assert "done" not in said
        assert "cleaned" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_third_request_leaves_nobody_behind(gate: Gate, number: signal.Signals) -> None:
    """It ends at once; also in the cold shutdown, for which celery puts handlers of its own in the place of ours."""
    with Worker(gate, "prefork", tasks=2) as worker:
        worker.send(number)
        worker.hears("tasks done 0 2")
        worker.send(number)
        worker.hears("cold")
        worker.send(number)
        assert "done" not in worker.ends(-number)


def test_a_worker_in_a_thread_listens_too(gate: Gate) -> None:
    """Beside a program that has handlers, which a thread cannot change."""
    with Worker(gate, "solo", program=IN_A_THREAD) as worker:
        worker.send()
        assert "cleaned" in worker.ends(-signal.SIGTERM)
