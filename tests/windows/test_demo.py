"""The demonstration on Windows: the same story with programs of Windows, and nothing left behind."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import os
import re
import subprocess

import pytest

import endtask
from tests.windows.lab import NO_WINDOW, PATIENCE_S, UNDER_WINE, open_handle

pytestmark = [pytest.mark.slow, pytest.mark.real]
DEMO = [sys.executable, "-m", "endtask", "demo"]


def test_demo_tells_the_same_story_as_on_linux() -> None:
    """Polite, slow, stubborn, departed and supervised: each exit code is met, and all that was started is shown to be gone."""
    environ = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=300, env=environ)
    assert (done.returncode, done.stderr) == (0, ""), done
    codes = [int(code) for code in re.findall(r"^exit code (\d+):", done.stdout, re.MULTILINE)]
    # Wine takes "ignores Ctrl+C" for every event: then nothing is sent. On Windows Ctrl+Break is, in vain.
    assert codes == [0, 0, 77 if UNDER_WINE else 124, 10, 0, 11, 0], done.stdout
    assert [f"{n}." for n in range(1, 6)] == re.findall(r"^\d\.", done.stdout, re.MULTILINE)
    assert "A stubborn one ignores Ctrl+C" in done.stdout
    assert re.search(r"stubborn .*\n(.*\n)*?.*CTRL_C: ignored", done.stdout)
    assert re.search(r"came back: \d+ python.exe as \d+ python.exe", done.stdout)
    assert re.search(r"all \d+ processes that this demonstration started are gone", done.stdout)
    assert "TERM" not in done.stdout.replace("TERMINATE", "")


def test_demo_that_is_killed_takes_its_programs_along() -> None:
    """TerminateProcess in the middle: the stage sees its input end, and ends what it started."""
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, creationflags=NO_WINDOW) as demo:
        assert demo.stdout is not None
        pid = 0
        for line in demo.stdout:
            found = re.match(r"\$ endtask stop (\d+) --force-after 1s", line)  # of the stubborn one
            if found:
                pid = int(found[1])
                break
        handle = open_handle(pid)
        demo.kill()
        try:
            assert _winapi.WaitForSingleObject(handle, int(PATIENCE_S * 1000)) == 0
        finally:
            _winapi.CloseHandle(handle)


def test_demo_that_is_asked_ends() -> None:
    """One console event ends the demonstration, not only the act that it meets, and its programs with it."""
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, creationflags=NO_WINDOW) as demo:
        assert demo.stdout is not None
        while "CTRL_C -> " not in demo.stdout.readline():
            pass
        (target,) = endtask.stop(str(demo.pid), timeout_s=PATIENCE_S, watch_s=0).targets
        rest = demo.stdout.read()
    assert (target.outcome, demo.returncode) == ("stopped", 130), rest
    assert "nothing that this demonstration started is left" in rest
