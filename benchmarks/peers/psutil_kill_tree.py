"""psutil's recipe for a tree: kill all descendants, then the process itself, then wait. `psutil_kill_tree.py PID`."""

from __future__ import annotations

import sys

import psutil

top = psutil.Process(int(sys.argv[1]))
found = [*top.children(recursive=True), top]
for process in found:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass  # ignored: it has gone by itself
_, alive = psutil.wait_procs(found, timeout=5)
sys.exit(1 if alive else 0)
