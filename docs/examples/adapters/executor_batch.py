"""A batch in processes: asked to stop, it finishes the jobs that run, and says which are left.

Run it as `python executor_batch.py`.
"""

from __future__ import annotations

import time
from concurrent.futures import as_completed

from endtask_receiver import listen
from endtask_receiver.adapters.executors import Processes


def work(number: int) -> int:
    """Do one job."""
    time.sleep(0.1)
    return number * number


if __name__ == "__main__":
    with listen(grace_s=10, name="executor batch") as stop:
        done, left = 0, 0
        with Processes(stop, 2, pending="cancel") as pool:
            for future in as_completed([pool.submit(work, n) for n in range(1000)]):
                if future.cancelled() or future.exception() is not None:  # not begun, or cut at a second request
                    left += 1
                else:
                    done += 1
                    print("did", future.result(), flush=True)
        print("done", done, "left", left, flush=True)
        stop.finish()
