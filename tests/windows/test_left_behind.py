"""What a program starts in its last moments: it is no stranger, because the pid of its parent is still held."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import subprocess
from typing import TYPE_CHECKING

import endtask
from tests.windows.lab import DETACHED, NO_WINDOW

if TYPE_CHECKING:
    from tests.windows.lab import Lab

# At Ctrl+C it starts a program that only waits, and ends.
LEAVES_AN_HEIR = """
import subprocess, sys, time
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    subprocess.Popen(sys.argv[2:], creationflags=int(sys.argv[1]))
"""


def test_child_that_was_started_in_the_last_moment_is_found_and_asked(lab: Lab) -> None:
    """Its parent has ended when the table shows it, and is known to have been its parent all the same."""
    heir, _event = lab.words("etconsole", "none")
    words = [sys.executable, "-I", "-S", "-c", LEAVES_AN_HEIR, str(DETACHED), *heir]
    with subprocess.Popen(words, creationflags=NO_WINDOW, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == b"ready"
        (target,) = endtask.stop(str(parent.pid), watch_s=0).targets
        assert (target.outcome, target.suspects) == ("stopped", ())
        found = target.members[-1]
        assert (found.name, found.tie, found.exited) == ("etconsole.exe", f"child of {parent.pid}", True)
        assert [(r.request, r.status) for r in found.receipts] == [("CTRL_C", "delivered")]
