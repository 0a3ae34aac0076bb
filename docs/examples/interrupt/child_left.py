"""A child that nobody waits for: KeyboardInterrupt came while `subprocess.run` was starting it."""

from __future__ import annotations

import os
import random
import signal
import subprocess

reader, writer = os.pipe()  # the children read until we are gone
signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer in place of the user's Ctrl+C


def have_children() -> bool:
    """Return whether a child of ours runs."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


requests = 0
while not have_children():
    requests += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(100e-6, 3e-3))
        subprocess.run(["cat"], stdin=reader)  # noqa: PLW1510  # it never ends by itself
    except KeyboardInterrupt:
        pass
print(f"request {requests}: `subprocess.run` is over, and its child runs on")
