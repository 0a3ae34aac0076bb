"""A cleanup that is cut in the middle: Ctrl+C was pressed twice."""

from __future__ import annotations

import signal

try:
    signal.raise_signal(signal.SIGINT)  # in place of the user's Ctrl+C
finally:
    for name in ("the queue", "the database", "the lock file"):
        if name == "the database":
            signal.raise_signal(signal.SIGINT)  # the second one, while that is closed
        print("closed", name, flush=True)
