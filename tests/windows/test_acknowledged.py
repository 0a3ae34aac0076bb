"""A program that has said that it heard the stop event is cleaning up, and is asked nothing more."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import subprocess
from typing import TYPE_CHECKING

import endtask
from tests.windows.lab import NO_WINDOW

if TYPE_CHECKING:
    from tests.windows.lab import Lab


def test_endtask_run_is_left_to_stop_its_command(lab: Lab) -> None:
    """The command needs longer than the first rung has; a console event to `run` would have it given up."""
    command, event = lab.words("etconsole", "graceful", 2500)
    run = [sys.executable, "-m", "endtask", "run", "-t", "20s", "--", *command]
    with subprocess.Popen(run, creationflags=NO_WINDOW, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        told = lab.adopt(running, event, command)
        told.wait_for("ready")
        (target,) = endtask.stop(str(running.pid), timeout_s=4, watch_s=0).targets
        assert target.outcome == "stopped"
        asked = {m.name: [r.request for r in m.receipts] for m in target.members}
        assert asked == {"python.exe": ["STOP_EVENT"], "etconsole.exe": []}
        assert "main returns 7" in told.texts
