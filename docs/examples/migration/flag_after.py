"""The same with the receiver."""

from __future__ import annotations

from endtask_receiver import listen

with listen() as stop:
    print("ready", flush=True)
    while not stop:
        stop.nap(1)
    print("saved")
