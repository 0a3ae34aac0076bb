"""A program that hangs for ever: the handler puts something into a queue, and interrupts the main thread while that has the lock of the queue."""

from __future__ import annotations

import faulthandler
import queue
import random
import signal

jobs: queue.Queue[int] = queue.Queue()


def on_request(_number: int, _frame: object) -> None:
    """Tell the worker to stop."""
    faulthandler.dump_traceback_later(3, exit=True)  # show where it hangs, and give up
    jobs.put(-1)
    faulthandler.cancel_dump_traceback_later()


signal.signal(signal.SIGALRM, on_request)  # a timer in place of a request
while True:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 200e-6))
    job = 0
    while job != -1:
        jobs.put(1)
        job = jobs.get()
