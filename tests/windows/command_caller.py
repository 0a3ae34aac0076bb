"""A program that uses the command on a console, below a parent and beside siblings that count what they hear.

    python -m tests.windows.command_caller parent TARGETS BATCH     the parent, on a console of its own; prints one JSON document
    python -m tests.windows.command_caller caller TARGETS BATCH     what it starts on that console; stops ten programs with the command, in a way that BATCH chooses

At the end the parent generates a Ctrl+C for its console, to show that everybody on it would have heard one.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import json
import subprocess
from pathlib import Path

from tests.windows.caller import Ears, say
from tests.windows.lab import DETACHED, NO_WINDOW, OWN_CONSOLE, PATIENCE_S, SHARED_CONSOLE, STOPPED_BY_ITSELF, Lab

TEN = 10
# Creation flags and mode of the targets. The first four have a console of their own, so that an event for everybody on it hits only them.
ALONE = ((NO_WINDOW, "graceful"), (OWN_CONSOLE, "graceful"), (NO_WINDOW, "none"), (OWN_CONSOLE, "false"))
ANY = (*ALONE, (SHARED_CONSOLE, "graceful"), (SHARED_CONSOLE, "none"), (DETACHED, "graceful"))


def stop_ten(targets: Path, batch: int) -> list[object]:
    """Start ten programs and stop them with one command; return what went wrong.

    Every other command may start no thread, and uses the targets' consoles; half of the commands run on our own console, beside some of their targets.
    """
    inject = batch % 2 == 0
    chosen = [ANY[n % len(ANY)] if inject else ALONE[n % len(ALONE)] for n in range(TEN)]
    wrong: list[object] = []
    with Lab(targets) as lab:
        started = [lab.start("etconsole", mode, flags=flags) for flags, mode in chosen]
        line = [sys.executable, "-m", "endtask", "stop", *(str(t.pid) for t in started), "--json", "-t", "60s"]
        flags = SHARED_CONSOLE if batch % 4 < 2 else NO_WINDOW
        line += [] if inject else ["--no-inject"]
        done = subprocess.run(line, creationflags=flags, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        words = [t["outcome"] for t in json.loads(done.stdout or b'{"targets": []}')["targets"]]
        if done.returncode or done.stderr or words != ["stopped"] * TEN:
            wrong.append([batch, done.returncode, words, done.stderr.decode()])
        for target, (_flags, mode) in zip(started, chosen, strict=True):
            by_itself = mode != "graceful" or target.exit_code == STOPPED_BY_ITSELF
            if target.running or target.heard("control") != (mode != "none") or not by_itself:
                wrong.append([batch, mode, target.exit_code, target.texts])
    return wrong


def caller(targets: str, batch: str) -> None:
    """Stop ten programs, say what went wrong and what we heard; then wait for what everybody is to hear."""
    ears = Ears()
    wrong = stop_ten(Path(targets), int(batch))
    say([wrong, ears.heard])
    assert ears.news.wait(PATIENCE_S)
    say(ears.heard)


def parent(targets: str, batch: str) -> None:
    """Start two siblings and the caller, and report what everybody heard, before and after the proof that they hear."""
    ears = Ears()
    with Lab(Path(targets)) as lab:
        siblings = [lab.start("etconsole", "true", flags=SHARED_CONSOLE) for _ in range(2)]
        line = [sys.executable, "-m", "tests.windows.command_caller", "caller", targets, batch]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            wrong, caller_heard = json.loads(child.stdout.readline())
            before = [*ears.heard, *caller_heard, *(t for s in siblings for t in s.texts if t.startswith("control"))]
            assert ctypes.WinDLL("kernel32").GenerateConsoleCtrlEvent(0, 0)
            for sibling in siblings:
                sibling.wait_for("control 0")
            assert ears.news.wait(PATIENCE_S)
            proof = [ears.heard, *([s.heard("control")] for s in siblings), json.loads(child.stdout.readline())]
    say({"wrong": wrong, "before": before, "proof": proof})


if __name__ == "__main__":
    {"parent": parent, "caller": caller}[sys.argv[1]](*sys.argv[2:])
