"""What all tests of the receiver need."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob: list[str] = []
if sys.platform == "win32":
    collect_ignore_glob += [
        "test_posix.py",
        "test_fork.py",
        "test_moments.py",
        "test_storm.py",
        "test_blocking.py",
        "test_channel_posix.py",
    ]


@pytest.fixture(scope="session", autouse=True)
def default_dispositions() -> None:
    """A shell that runs the tests in the background has them ignore Ctrl+C, and every program that they start too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
