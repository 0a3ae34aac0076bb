"""The demonstration: the real command on real programs, and nothing left behind."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real]


def test_demo_shows_every_ending_and_leaves_nothing() -> None:
    """Polite, slow, stubborn, escaped and supervised: each exit code is met, and all that was started is shown to be gone."""
    done = subprocess.run(
        [sys.executable, "-m", "endtask", "demo"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done
    assert done.stderr == ""
    codes = [int(code) for code in re.findall(r"^exit code (\d+):", done.stdout, re.MULTILINE)]
    assert codes == [0, 0, 124, 10, 0, 11, 0]
    assert "demo-stubborn ignores TERM" in done.stdout
    assert re.search(r"came back: \d+ demo-worker as \d+", done.stdout)
    assert re.search(r"all \d+ processes that this demonstration started are gone", done.stdout)


def test_demo_that_is_killed_takes_its_programs_along() -> None:
    """SIGKILL in the middle: the stage sees its input end, and ends what it started."""
    with subprocess.Popen([sys.executable, "-m", "endtask", "demo"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        pid = 0  # of the stubborn one, which lives for another two seconds
        while "A stubborn one" not in demo.stdout.readline():
            pass
        while not pid:
            found = re.match(r"\$ endtask look (\d+)", demo.stdout.readline())
            pid = int(found[1]) if found else 0
        handle = os.pidfd_open(pid)
        demo.kill()
        try:
            ended, _, _ = select.select([handle], [], [], 30)
        finally:
            os.close(handle)
    assert ended


def test_demo_ends_at_one_interrupt_and_leaves_nothing() -> None:
    """Ctrl+C while it waits for a program ends the demonstration, not only that act."""
    with subprocess.Popen([sys.executable, "-m", "endtask", "demo"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while not re.search(r"TERM -> \d+ demo-slow", demo.stdout.readline()):
            pass
        demo.send_signal(signal.SIGINT)  # it takes two and a half seconds to end
        rest = demo.stdout.read()
    assert demo.returncode == 130
    assert "3. A stubborn one" not in rest
    assert re.search(r"all \d+ processes that this demonstration started are gone", rest)
