"""What the pages show is what comes out: their transcripts, typed again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PROGRAMS = ("bash", "endtask", "pgrep", "python3", "ss")


@pytest.mark.parametrize("page", ["tutorial", "howto/receiver", "howto/services", "howto/taskkill"])
def test_a_page_shows_what_is_printed(page: str, tmp_path: Path) -> None:
    """But for numbers, names of users and of ancestors."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("", 3000))
        except OSError:
            pytest.skip("somebody else has port 3000, which the pages name")
    words = [sys.executable, str(ROOT / "tools" / "transcripts.py"), "--check", str(ROOT / "docs" / f"{page}.md")]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
