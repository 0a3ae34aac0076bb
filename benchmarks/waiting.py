"""Wait a minute for 1,000 processes that do not end: what does the waiting cost?

All tools wait at the same time for the same sleepers; they do not touch each other.
Processor time is the scheduler's own account (`/proc/PID/schedstat`), read when everybody has come to rest and again before the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from lab import SLEEPER, Lab, Row, median, shown

WAITERS = 1000
SETTLE_S = 3.0
GOAL_S = 0.020


class Wait(NamedTuple):
    """What one tool used.

    Attributes:
        before_s: Processor seconds until it had come to rest.
        waiting_s: Processor seconds from there on.
        wakes: How often it left the processor by itself while it waited.
    """

    before_s: float
    waiting_s: float
    wakes: int


def measure(lab: Lab, seconds: float) -> list[Row]:
    """Return the row of the wait."""
    commands = {
        "endtask wait": [lab.endtask, "wait", "--all", "-q", SLEEPER, "-t", f"{seconds + 30}s"],
        "pidwait": ["pidwait", "-x", SLEEPER],
        "psutil": [*lab.peer("psutil_wait.py"), SLEEPER, str(seconds + 30)],
    }
    found: dict[str, list[Wait]] = {name: [] for name in commands}
    for _ in range(lab.rounds):
        for name, wait in _round(lab, commands, seconds).items():
            found[name].append(wait)
    cells = {
        name: f"{shown([w.waiting_s for w in waits])}, {median([w.wakes for w in waits]):.0f} wake-ups"
        f" (start {median([w.before_s for w in waits]) * 1e3:.0f} ms)"
        for name, waits in found.items()
    }
    ours = median([w.waiting_s for w in found["endtask wait"]])
    return [
        Row(
            f"waiting {seconds:g} s for {WAITERS:,} processes, CPU",
            cells.pop("endtask wait"),
            "; ".join(f"{name} {cell}" for name, cell in cells.items()),
            f"<= {GOAL_S * 1e3:.0f} ms",
            f"{ours * 1e3:.1f} ms",
            ours <= GOAL_S,
        )
    ]


def _round(lab: Lab, commands: dict[str, list[str]], seconds: float) -> dict[str, Wait]:
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told")
        words = [sys.executable, __file__, str(seconds), str(told), json.dumps(commands)]
        lab.run(words, sleepers=WAITERS, timeout_s=seconds + 60)
        return {name: Wait(*wait) for name, wait in json.loads(told.read_text()).items()}


# --------------------------------------------------------------------------- below the sleepers' parent


def probe(seconds: float, told: Path, commands: dict[str, list[str]]) -> None:
    """Run all *commands* at once for so many seconds, and write down what they used."""
    running = {name: subprocess.Popen(words, stdout=subprocess.DEVNULL) for name, words in commands.items()}
    time.sleep(SETTLE_S)
    before = {name: _used(process.pid) for name, process in running.items()}
    time.sleep(seconds)
    after = {name: _used(process.pid) for name, process in running.items()}
    for process in running.values():
        process.kill()
        process.wait()
    told.write_text(
        json.dumps(
            {
                name: (before[name][0], after[name][0] - before[name][0], after[name][1] - before[name][1])
                for name in running
            }
        )
    )


def _used(pid: int) -> tuple[float, int]:
    """Return processor seconds and voluntary switches of a process with one thread."""
    seconds = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    status = Path(f"/proc/{pid}/status").read_text()
    return seconds, int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


if __name__ == "__main__":
    probe(float(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
