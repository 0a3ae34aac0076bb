"""psutil's own recipe: terminate, then wait_procs. `psutil_stop.py PID` or `psutil_stop.py --name NAME`."""

from __future__ import annotations

import sys

import psutil

if sys.argv[1] == "--name":
    found = [p for p in psutil.process_iter(["name"]) if p.info["name"] == sys.argv[2]]
else:
    found = [psutil.Process(int(sys.argv[1]))]
for process in found:
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        pass  # ignored: it has gone, and wait_procs says so
gone, alive = psutil.wait_procs(found, timeout=30)
sys.exit(1 if alive else 0)
