"""Only wait, with psutil: `psutil_wait.py NAME SECONDS`."""

from __future__ import annotations

import sys

import psutil

found = [p for p in psutil.process_iter(["name"]) if p.info["name"] == sys.argv[1]]
_, alive = psutil.wait_procs(found, timeout=float(sys.argv[2]))
sys.exit(1 if alive else 0)
