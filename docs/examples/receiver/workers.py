"""Worker processes: what the parent is asked, they are asked, with its deadline; none is left behind.

Run it as `python workers.py FOLDER METHOD`, the method being `spawn`, `fork` or `forkserver`.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from endtask_receiver import listen, workers


def work(link: workers.Link, folder: str, number: int) -> None:
    """Be a worker: listen there, too."""
    with workers.listen(link) as stop, (Path(folder) / f"worker{number}").open("w") as file:
        for turn in stop.every(0.02):
            file.write(f"begin {turn}\n")
            time.sleep(0.01)  # the work
            file.write(f"end {turn}\n")


def main() -> None:
    """Start the workers, and wait for them when somebody asks."""
    folder, method = sys.argv[1], sys.argv[2]
    multiprocessing.set_start_method(method)
    with listen(grace_s=10, name="workers") as stop:
        link = workers.Link(stop)
        processes = [multiprocessing.Process(target=work, args=(link, folder, number)) for number in range(3)]
        with workers.starting():  # a terminal's Ctrl+C does not meet a worker that does not listen yet
            for process in processes:
                process.start()
        print("ready", *(process.pid for process in processes), flush=True)
        stop.wait()
        for process in processes:
            process.join(stop.left())
            process.kill()  # nothing happens to one that has ended
        stop.finish()


if __name__ == "__main__":
    main()
