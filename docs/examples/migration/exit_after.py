"""The same with the receiver: an exception, but at a place that the program has chosen."""

from __future__ import annotations

import time

from endtask_receiver import StopRequested, listen

with listen() as stop:
    print("ready", flush=True)
    try:
        while True:
            time.sleep(0.01)  # a step of the work
            stop.checkpoint()
    except StopRequested:
        print("saved")
    # 128 + the number of the signal. Without the word: death by the signal, which a shell shows as the same number.
    stop.finish("status")
