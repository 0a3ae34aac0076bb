"""A batch in a pool of `multiprocessing`: asked to stop, it takes on nothing new, and finishes what runs.

Run it as `python pool_batch.py`.
"""

from __future__ import annotations

import time

from endtask_receiver import listen
from endtask_receiver.adapters.pools import Pool, PoolEndedError


def work(number: int) -> int:
    """Do one job."""
    time.sleep(0.1)
    return number * number


if __name__ == "__main__":
    with listen(grace_s=10, name="pool batch") as stop:
        done = 0
        with Pool(stop, 2, pending="cancel") as pool:
            try:
                for result in pool.imap(work, range(1000)):
                    done += 1
                    print("did", result, flush=True)
            except PoolEndedError:
                pass  # what follows was not begun
        print("done", done, "left", 1000 - done, flush=True)
        stop.finish()
