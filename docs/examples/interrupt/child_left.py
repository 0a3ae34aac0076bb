"""A child that nobody waits for: KeyboardInterrupt came while `subprocess.run` was starting it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

reader, writer = os.pipe()  # the children read until we are gone
signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer in place of the user's Ctrl+C


def child_runs_on() -> bool:
    """Return whether a child of ours runs on; one that was killed is gone in a moment."""
    for _ in range(50):
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        time.sleep(0.01)
    return True


requests = 0
while not child_runs_on():
    requests += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(100e-6, 3e-3))
        subprocess.run(["cat"], stdin=reader)  # noqa: PLW1510  # it never ends by itself
    except KeyboardInterrupt:
        pass
print(f"request {requests}: `subprocess.run` is over, and its child runs on")
