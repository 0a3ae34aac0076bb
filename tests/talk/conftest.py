"""Where the programs of a test have their sockets, and the command beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE_S = 60.0


@pytest.fixture
def runtime(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a runtime folder of the test's own."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def endtask(runtime: pathlib.Path, tmp_path: pathlib.Path) -> Run:
    """Run the command as a user does, without a terminal, with a journal of the test's own."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(runtime),
    }

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "endtask", *map(str, arguments)]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    return run
