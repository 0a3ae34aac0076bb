"""A flag, set by handlers of `signal.signal`."""

from __future__ import annotations

import signal
import time

asked = False


def on_signal(*_: object) -> None:
    global asked
    asked = True


signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGINT, on_signal)
print("ready", flush=True)
while not asked:
    time.sleep(1)
print("saved")
