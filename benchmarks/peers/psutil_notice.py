"""Reads pids from standard input, waits for each with psutil, writes CLOCK_MONOTONIC in nanoseconds when its end was noticed."""

from __future__ import annotations

import sys
import time

import psutil

for line in sys.stdin:
    process = psutil.Process(int(line))
    print("waiting", flush=True)
    process.wait(20)
    print(time.monotonic_ns(), flush=True)
