"""Random moments from exec to exit: a correct end in time, or the default action; never a hang, never a traceback.

`ENDTASK_MOMENTS=10000` makes it as long as it should be once before a release.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from .lab import LIMIT_S
from .talk import Requester

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.real, pytest.mark.slow]

MOMENTS = int(os.environ.get("ENDTASK_MOMENTS", "60"))
LIFE = os.path.join(os.path.dirname(__file__), "life.py")
GRACE_S = 5.0
CHANNEL = 0
ANY_TIME = (
    signal.SIGTERM,
    signal.SIGHUP,
)  # their default action says nothing; that of Ctrl+C is a traceback of Python's


class Life:
    """One life: begun, asked, and what came of it."""

    def __init__(self, how: str) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, LIFE, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    def listens(self) -> bool:
        """Wait until it listens; False if it has ended before."""
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 10) == b"listening\n"  # and not a byte more

    def ask(self, number: int) -> None:
        """Ask by a signal, or by the channel if it is no number of one."""
        if number != CHANNEL:
            self.process.send_signal(number)
            return
        try:
            with Requester(self.process.pid) as requester:
                requester.ask(GRACE_S)
        except (OSError, AssertionError):
            pass  # it has ended

    def end(self) -> tuple[int, str, str, float]:
        """Return its status, what it said, what went wrong, and how long it took from now on."""
        begin = time.monotonic()
        try:
            out, err = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            return -9, out.decode(), "HANG " + err.decode(), LIMIT_S
        return self.process.returncode, out.decode(), err.decode(), time.monotonic() - begin


def length(how: str) -> float:
    """Return how long a life takes on this machine, now."""
    lives = []
    for _ in range(3):
        life = Life(how)
        status, out, err, _took = life.end()
        assert (status, out, err) == (0, "listening\ncleaned\n", "")
        lives.append(time.monotonic() - life.began)
    return sorted(lives)[1]


def faults(status: int, out: str, err: str, took_s: float, number: int, *, listened: bool, ended_at_once: bool) -> str:
    """Return what is wrong with an end, an empty text if nothing is (pure)."""
    if err:
        return f"it wrote: {err}"
    if status not in {0, -number, 128 + (number or signal.SIGTERM)}:
        return f"status {status}"
    if took_s > GRACE_S + 10:
        return f"it took {took_s:.1f} s"
    if listened and "cleaned" not in out and not ended_at_once:
        return f"it listened and did not clean up: {out!r}"
    return ""


def many(times: int, one: Callable[[random.Random], str]) -> None:
    """Do something many times, on as many lives at once as there are processors, and fail with all that was wrong."""
    seed = random.randrange(2**32)
    jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
    for turn in range(times):
        jobs.put(seed + turn)
    wrong: list[str] = []

    def worker() -> None:
        while True:
            try:
                each = jobs.get_nowait()
            except queue.Empty:
                return
            fault = one(random.Random(each))
            if fault:
                wrong.append(f"seed {each}: {fault}")

    crew = [threading.Thread(target=worker) for _ in range(os.cpu_count() or 1)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert wrong == [], f"{len(wrong)} of {times}"


@pytest.mark.parametrize("how", ["finish", "fall off the end"])
def test_one_request_at_any_moment_of_a_life(how: str) -> None:
    """Before the first import, during imports, start-up, work, shield, cleanup, and while the interpreter ends."""
    life_s = length(how)

    def one(chance: random.Random) -> str:
        number, at_s = chance.choice(ANY_TIME), chance.uniform(0, life_s * 1.1)
        life = Life(how)
        time.sleep(max(0.0, life.began + at_s - time.monotonic()))  # the moment is what is drawn
        life.ask(number)
        status, out, err, took_s = life.end()
        fault = faults(status, out, err, took_s, number, listened="listening" in out, ended_at_once=False)
        return fault and f"{signal.Signals(number).name} at {at_s * 1000:.1f} of {life_s * 1000:.0f} ms: {fault}"

    many(MOMENTS // 3, one)


def test_requests_at_any_moment_of_a_listening_life() -> None:
    """One to three, Ctrl+C and the channel too, from the first moment on that it listens."""
    life_s = length("finish")

    def one(chance: random.Random) -> str:
        number = chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, CHANNEL))
        moments = sorted(chance.uniform(0, life_s) for _ in range(chance.randint(1, 3)))
        life = Life("finish")
        if not life.listens():
            return f"it did not listen: {life.end()}"
        began = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            life.ask(number)
        status, out, err, took_s = life.end()
        fault = faults(status, out, err, took_s, number, listened=True, ended_at_once=len(moments) == 3)
        return fault and f"{signal.Signals(number).name if number else 'channel'} at {moments}: {fault}"

    many(MOMENTS // 3, one)
