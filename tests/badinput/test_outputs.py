"""Nobody listens to what endtask says: the stop goes on all the same, and the exit code stays true."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.targets.lab import PATIENCE_S, command, environment, together

if TYPE_CHECKING:
    from tests.targets.lab import Lab, Scene

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]

# What the shell does with endtask's descriptors, and the code of a verb that only tells something: 3 where an error has lost it.
# A stop has done its work, and its code tells of that.
PLUMBING = {
    "closed stdout": (">&-", 0),
    "closed stderr": ("2>&-", 0),
    "closed stdin": ("<&-", 0),
    "all closed": ("<&- >&- 2>&-", 0),
    "full disk": (">/dev/full", 3),
    "full disk for errors": ("2>/dev/full", 0),
    "full disk for both": (">/dev/full 2>&1", 3),
    "reader that has gone": ("| :", 0),
    "reader of one line": ("| head -n 1 >/dev/null", 0),
    "reader of one byte": ("| head -c 1 >/dev/null", 0),
    "reader that never reads": ("| sleep 1", 0),
}


def through(plumbing: str, *argv: object) -> tuple[int, str]:
    """Run endtask in a shell with that plumbing; return its own exit code and what it wrote to standard error."""
    code, _, pipe = plumbing.partition("|")
    words = shlex.join(command(*argv))
    script = f"exec 4>&1; {{ {words} {code} 4>&-; echo $? >&4; }}" + (f" | {pipe}" if pipe else "")
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False
    )
    number = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert number, done
    return int(number[-1]), done.stderr


@pytest.mark.parametrize("options", [[], ["--json"], ["--jsonl"], ["-v"], ["-q"]], ids=lambda o: "".join(o) or "words")
def test_stop_without_a_listener(lab: Lab, options: list[str]) -> None:
    """The target is stopped, the code is right, nothing of Python is seen."""
    scene = lab.scene()

    def one(name: str) -> str:
        plumbing, _code = PLUMBING[name]
        target = scene.target("polite", delay=0.05)
        got, err = through(plumbing, "stop", target.pid, "-t", "40s", "--watch", "0", *options)
        faults = [f"code {got}, not 0"] if got else []
        faults += ["the target runs"] if not scene.exited(target.pid) else []
        faults += [err] if "Traceback" in err or "Error" in err else []
        return f"{name}: {faults}" if faults else ""

    assert [f for f in together(one, PLUMBING, 6) if f] == []


@pytest.mark.parametrize("verb", ["look", "--help", "schema report"])
def test_the_other_verbs_without_a_listener(scene: Scene, verb: str) -> None:
    """Never a traceback; lost output is told by code 3."""
    target = scene.target("default")
    words = verb.split() + ([str(target.pid)] if verb in ("look", "plan", "why") else [])

    def one(name: str) -> str:
        plumbing, code = PLUMBING[name]
        got, err = through(plumbing, *words)
        return f"{name}: code {got}, {err}" if got != code or "Traceback" in err else ""

    assert [f for f in together(one, PLUMBING, 6) if f] == []


def test_a_reader_that_stops_reading_does_not_hold_back_the_stop(scene: Scene) -> None:
    """With a full pipe as standard output every request is still sent in time: text never stands in the way."""
    source, sink = os.pipe()
    try:
        os.set_blocking(sink, False)
        while True:
            try:
                os.write(sink, b"x" * 65536)
            except BlockingIOError:
                break
        os.set_blocking(sink, True)
        target = scene.target("many", count=50, child="quiet", mild=1)
        with subprocess.Popen(
            command("stop", target.pid, "-v", "-t", "40s", "--watch", "0"),
            stdout=sink,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as process:
            os.close(sink)
            sink = -1
            from tests.targets.lab import eventually

            eventually(lambda: not scene.running())
            os.close(source)  # now the reader goes
            source = -1
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    finally:
        for fd in (source, sink):
            if fd >= 0:
                os.close(fd)
