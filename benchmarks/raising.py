"""What breaks when a signal handler raises, or takes a lock: counted, by hand.

    python3 benchmarks/raising.py              # 5,000 requests for each row, some two minutes
    python3 benchmarks/raising.py 20000

One request at a random moment within 200 microseconds, then a look at what it has left behind; each row in a process of its own.
The loops do nothing else, so the figures are near the upper end of what a program can meet. The order is the point.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src")]

from endtask_receiver import StopRequested, listen  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NORMAL = 5_000
CHILDREN_EACH = 25  # a child costs as much as many locks: one request of so many
WAITS_EACH = 20  # what is rare needs more of them
OVER_S = 0.2

lock = threading.Lock()


def alarm(least_s: float = 20e-6, most_s: float = 200e-6) -> None:
    """Have this process asked in a moment."""
    signal.setitimer(signal.ITIMER_REAL, random.uniform(least_s, most_s))


def raising(requests: int, work: Callable[[], object], broken: Callable[[], bool], most_s: float = 200e-6) -> int:
    """Return how many of so many requests have broken something, if the handler raises as that of Ctrl+C does."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    count = 0
    for _ in range(requests):
        try:
            alarm(most_s=most_s)
            while True:
                work()
        except (KeyboardInterrupt, RuntimeError):  # a condition says that its lock is not held
            pass
        count += broken()
    return count


def lock_was_left() -> bool:
    """Return whether the lock is held, and open it."""
    left = lock.locked()
    if left:
        lock.release()
    return left


# ---------------------------------------------------------------- the handler raises


def by_hand() -> None:
    """Take a lock in two steps."""
    lock.acquire()
    try:
        pass
    finally:
        lock.release()


def by_with() -> None:
    """Take a lock in one step."""
    with lock:
        pass


class Held:
    """A context manager in Python."""

    def __enter__(self) -> None:
        lock.acquire()

    def __exit__(self, *_error: object) -> None:
        lock.release()


def by_class() -> None:
    """Take it by a class."""
    with Held():
        pass


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold it, as a generator."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def by_generator() -> None:
    """Take it by a generator."""
    with held():
        pass


def in_a_queue(requests: int) -> tuple[int, int]:
    """Put and get; broken: its lock is left held, so that the next `get` waits for ever, or an item is gone."""
    jobs: list[queue.Queue[int]] = [queue.Queue()]

    def work() -> None:
        jobs[0].put(1)
        jobs[0].get()

    def broken() -> bool:
        left = jobs[0].mutex.locked()
        jobs[0] = queue.Queue()
        return left

    return raising(requests, work, broken), requests


def in_a_child(requests: int) -> tuple[int, int]:
    """Run a child; broken: it runs on, and nobody knows it."""
    requests //= CHILDREN_EACH
    ends = list(os.pipe())

    def work() -> None:
        subprocess.run(["cat"], stdin=ends[0], check=False)

    def broken() -> bool:
        left = child_runs_on()
        for end in ends:
            os.close(end)  # what was left ends by this
        if left:
            os.waitpid(-1, 0)
        ends[:] = os.pipe()
        return left

    return raising(requests, work, broken, 3e-3), requests


def child_runs_on() -> bool:
    """Return whether a child of ours runs on; one that was killed is gone in a moment."""
    for _ in range(20):
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        time.sleep(0.01)
    return True


# ---------------------------------------------------------------- the handler takes a lock, or only sets a flag


def putting(requests: int) -> tuple[int, int]:
    """Have the handler put into a queue; broken: the interrupted thread has the lock that it would wait for, for ever."""
    jobs: queue.Queue[int] = queue.Queue()
    deadlocks = heard = 0

    def on_request(_number: int, _frame: object) -> None:
        nonlocal deadlocks, heard
        heard += 1
        deadlocks += jobs.mutex.locked()  # there is no other thread: it is ours

    signal.signal(signal.SIGALRM, on_request)
    for request in range(requests):
        alarm()
        while heard == request:
            jobs.put(1)
            jobs.get()
    return deadlocks, requests


def late_by_a_handler(requests: int) -> tuple[int, int]:
    """Have the handler open a lock that the main thread waits for; broken: it is called when the time of the wait is over."""
    latch = threading.Lock()
    latch.acquire()
    signal.signal(signal.SIGALRM, lambda _number, _frame: latch.release())
    late = 0
    for _ in range(requests * WAITS_EACH):
        alarm()
        if not latch.acquire(timeout=OVER_S):
            late += 1
            latch.acquire()  # by now it has been called, or will be
    return late, requests * WAITS_EACH


def late_by_the_receiver(requests: int) -> tuple[int, int]:
    """Wait on the receiver in the same way."""
    late = 0
    for _ in range(requests * WAITS_EACH):
        with listen(signals=["ALRM"]) as stop:
            alarm()
            late += not stop.wait(OVER_S)
            stop.wait()
    return late, requests * WAITS_EACH


# ---------------------------------------------------------------- the receiver


def at_the_flag(requests: int) -> tuple[int, int]:
    """Look at the flag between two turns."""
    count = 0
    for _ in range(requests):
        with listen(signals=["ALRM"]) as stop:
            alarm()
            while not stop:
                by_hand()
        count += lock_was_left()
    return count, requests


def at_a_checkpoint(requests: int) -> tuple[int, int]:
    """Raise, but at a place that the program has chosen."""
    count = 0
    for _ in range(requests):
        with listen(signals=["ALRM"]) as stop:
            try:
                alarm()
                while True:
                    by_hand()
                    stop.checkpoint()
            except StopRequested:
                pass
        count += lock_was_left()
    return count, requests


def locks(work: Callable[[], object]) -> Callable[[int], tuple[int, int]]:
    """Return the count for one way to take a lock."""
    return lambda requests: (raising(requests, work, lock_was_left), requests)


ROWS: dict[str, Callable[[int], tuple[int, int]]] = {
    "the handler raises in `lock.acquire()`, `try`, `finally`: the lock is left held": locks(by_hand),
    "the handler raises in a class with `__enter__` and `__exit__`: the lock is left held": locks(by_class),
    "the handler raises in a `@contextmanager`: the lock is left held": locks(by_generator),
    "the handler raises in `with lock`: the lock is left held": locks(by_with),
    "the handler raises in `queue.put` and `queue.get`: the lock of the queue is left held": in_a_queue,
    "the handler raises within 3 ms of the begin of `subprocess.run`: the child is left behind": in_a_child,
    "the handler puts into a queue that the main thread uses: it hangs for ever": putting,
    "the handler releases a lock that the main thread waits for: heard when the wait is over": late_by_a_handler,
    "`stop.wait` of the receiver: heard when the wait is over": late_by_the_receiver,
    "the receiver's flag, looked at between two turns: the lock is left held": at_the_flag,
    "`stop.checkpoint()` between two turns: the lock is left held": at_a_checkpoint,
}


def main() -> None:
    """Count one row if there is its number, else have all of them counted."""
    requests = int(sys.argv[1]) if sys.argv[1:] else NORMAL
    names = list(ROWS)
    if sys.argv[2:]:
        name = names[int(sys.argv[2])]
        broken, of = ROWS[name](requests)
        print(f"| {name} | {broken:,} of {of:,} | {broken / of:.2%} |")
        return
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    print("| what, and what came of it | how often | |\n|---|---|---|", flush=True)
    for number in range(len(names)):
        begin = time.monotonic()
        subprocess.run([sys.executable, __file__, str(requests), str(number)], check=True)
        print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
