"""A lock that is held, and by nobody: KeyboardInterrupt came between `acquire` and `try`."""

from __future__ import annotations

import random
import signal
import threading

lock = threading.Lock()
signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer in place of the user's Ctrl+C
requests = 0
while not lock.locked():
    requests += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 200e-6))
        while True:
            lock.acquire()
            try:
                pass  # the work
            finally:
                lock.release()
    except KeyboardInterrupt:
        pass
print(f"request {requests}: the lock is held, and by nobody")
