"""The same with the receiver: the last one first, as `atexit` does, each within its time, and reported."""

from __future__ import annotations

from endtask_receiver import listen

with listen(grace_s=10) as stop:
    stop.cleanup(print, "closed the database", budget_s=3, name="database")
    stop.cleanup(print, "saved", budget_s=5)
    print("ready", flush=True)
    for _turn in stop.every(0.01):
        pass  # a step of the work
