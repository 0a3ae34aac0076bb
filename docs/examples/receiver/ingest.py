"""A job that whoever asks can follow: it says how far it is, asks for more time where that is too little, and refuses while it records.

Run it as `python ingest.py FOLDER JOBS [recording]`; FOLDER gets the numbers of the jobs in `done`, and in `left` what was not done any more.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from endtask_receiver import Stop, listen

JOB_S = 0.1  # the work for one of them


def drain(stop: Stop, jobs: range, folder: Path) -> None:
    """Do what has been accepted already; what is not done when it has to be cut short is written down."""
    needed_s = len(jobs) * JOB_S
    if needed_s > stop.left():
        stop.need(needed_s + 0.5, "draining")  # a wish: whoever asks may grant it
    todo = list(jobs)
    with (folder / "done").open("a") as done:
        while todo and not stop.hurry:
            time.sleep(JOB_S)
            print(todo.pop(0), file=done)
            stop.tell("draining", len(jobs) - len(todo), len(jobs))
    (folder / "left").write_text("".join(f"{job}\n" for job in todo))


def main() -> None:
    """Wait until somebody asks, and then for the end of the work."""
    folder, jobs, recording = Path(sys.argv[1]), range(int(sys.argv[2])), "recording" in sys.argv[3:]
    with listen(grace_s=10, name="ingest") as stop:
        stop.cleanup(time.sleep, 0.05, name="close the database")
        print("ready", flush=True)
        while not stop:
            stop.wait()
            if recording:
                stop.veto("recording until ten")  # goes on as if nobody had asked; who asks again cannot be refused
        drain(stop, jobs, folder)
        stop.finish()


if __name__ == "__main__":
    main()
