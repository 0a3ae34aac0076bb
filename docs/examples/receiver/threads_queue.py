"""Threads and a queue: asked to stop, it takes nothing new and does what it has taken. Whoever asks twice gets the rest as a list.

Run it as `python threads_queue.py FOLDER`.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from pathlib import Path
from queue import Queue

from endtask_receiver import Stop, listen

THREADS = 4
END = -1


class Log:
    """A file to which all threads append, line by line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()

    def add(self, job: int) -> None:
        """Write one line, and see that it has left this process."""
        with self._lock:  # never broken by a request: nothing raises here
            self._file.write(f"{job}\n")
            self._file.flush()


def work(stop: Stop, jobs: Queue[int], done: Log, left: Log) -> None:
    """Be one of the threads."""
    for job in iter(jobs.get, END):
        if stop.hurry:  # asked a second time, or the deadline is over
            left.add(job)
            continue
        time.sleep(0.02)  # the work
        done.add(job)


def drain(jobs: Queue[int], threads: list[threading.Thread]) -> None:
    """Let the threads finish what is in the queue."""
    for _ in threads:
        jobs.put(END)  # behind the last job
    for thread in threads:
        thread.join()


def main() -> None:
    """Work until somebody asks."""
    folder = Path(sys.argv[1])
    jobs: Queue[int] = Queue(maxsize=100)
    done, left = Log(folder / "done"), Log(folder / "left")
    with listen(grace_s=10, name="threads and a queue") as stop:
        words = (stop, jobs, done, left)
        # Daemons, so that one which hangs does not keep the process: the budget of the cleanup bounds it.
        threads = [threading.Thread(target=work, args=words, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        stop.cleanup(drain, jobs, threads, budget_s=8)
        print("ready", flush=True)
        for job in stop.iterate(itertools.count()):
            jobs.put(job)
            print("taken", job, flush=True)
        stop.finish()


if __name__ == "__main__":
    main()
