"""A cleanup that is cut in the middle: Ctrl+C was pressed twice."""

from __future__ import annotations

import signal
import time

signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer in place of the user's Ctrl+C
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.3)  # the second one 0.3 s after the first
try:
    while True:
        time.sleep(1)
finally:
    for name in ("the queue", "the database", "the lock file"):
        time.sleep(0.2)
        print("closed", name, flush=True)
