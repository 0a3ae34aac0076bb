"""What all tests of the receiver need."""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from .lab import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob: list[str] = []
if sys.platform == "win32":
    collect_ignore_glob += ["test_posix.py", "test_fork.py", "test_moments.py", "test_storm.py", "test_blocking.py"]
    collect_ignore_glob += ["test_channel_posix.py"]
    collect_ignore_glob += ["test_examples.py"]  # tests/windows has those of Windows


@pytest.fixture(scope="session", autouse=True)
def own_folder() -> Iterator[str]:
    """Sockets of the channel are made in a folder of the tests, which is gone afterwards, whoever was killed."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    folder = os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="endtask-tests-")
    yield folder
    del os.environ["XDG_RUNTIME_DIR"]
    if before is not None:
        os.environ["XDG_RUNTIME_DIR"] = before
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen in memory."""
    if importlib.util.find_spec("tkinter") is None:
        pytest.skip("this Python has no tkinter")
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no Xvfb")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-nolisten", "tcp", "-screen", "0", "320x240x24"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        if not select.select([reader], [], [], LIMIT_S)[0]:
            pytest.skip("Xvfb does not start here")
        yield ":" + os.read(reader, 16).decode().strip()
    finally:
        os.close(reader)
        server.terminate()
        server.wait()
