"""Reads pids from standard input, waits for each with endtask, writes CLOCK_MONOTONIC in nanoseconds when its end was noticed."""

from __future__ import annotations

import sys
import time

import endtask


def told(event: endtask.Event) -> None:
    """Say what happens."""
    if event.kind == "selected":
        print("waiting", flush=True)
    elif event.kind == "exited":
        print(time.monotonic_ns(), flush=True)


for line in sys.stdin:
    endtask.wait(int(line), timeout_s=20, on_event=told)
