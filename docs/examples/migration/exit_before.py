"""An exception out of the handler, so that `finally` runs."""

from __future__ import annotations

import signal
import sys
import time


def on_signal(number: int, _frame: object) -> None:
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, on_signal)
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)  # a step of the work
finally:
    print("saved")
