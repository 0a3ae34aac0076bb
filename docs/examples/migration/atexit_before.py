"""A cleanup by `atexit`, and a handler so that it runs at all."""

from __future__ import annotations

import atexit
import signal
import sys
import time

atexit.register(print, "closed the database")
atexit.register(print, "saved")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
while True:
    time.sleep(0.01)  # a step of the work
