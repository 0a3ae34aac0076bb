"""Whoever uses the command is never hit by it: neither endtask, nor what started it, nor a program on the same console that is no target.

Fifty console programs here; `ENDTASK_CALLER_RUNS=1000` for the long run.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import OWN_CONSOLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOPS = int(os.environ.get("ENDTASK_CALLER_RUNS", "50"))
PATIENCE_S = 600.0
BATCH = 10  # for one parent: its siblings end by themselves after two minutes, as all targets do, and a busy machine is slow
pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_no_event_reaches_the_caller_its_parent_or_its_siblings(targets: Path, goes_on: Callable[[], None]) -> None:
    """Threads and console-wide events stop what was named. At the end one Ctrl+C for the console shows that everybody there had ears."""
    for batch in range(max(1, STOPS // BATCH)):
        line = [sys.executable, "-m", "tests.windows.command_caller", "parent", str(targets), str(batch)]
        done = subprocess.run(line, creationflags=OWN_CONSOLE, capture_output=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        report = json.loads(done.stdout)
        assert report["wrong"] == []
        assert report["before"] == [], "nobody but the targets must have heard anything"
        goes_on()
        assert report["proof"] == [[0], [1], [1], [0]], "the parent, both siblings, the caller"
