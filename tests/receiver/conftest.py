"""What all tests of the receiver need."""

from __future__ import annotations

import signal
import sys

import pytest

collect_ignore_glob: list[str] = []
if sys.platform == "win32":
    collect_ignore_glob += ["test_posix.py", "test_fork.py", "test_moments.py", "test_storm.py", "test_blocking.py"]


@pytest.fixture(scope="session", autouse=True)
def default_dispositions() -> None:
    """A shell that runs the tests in the background has them ignore Ctrl+C, and every program that they start too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
