"""How long after its end is the exit of a process noticed?

The process reads the clock as its last act. What lies between is its teardown in the kernel, which the C program beside it pays too,
the wake-up, and the tool.
"""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

from lab import HERE, Lab, Row, median, shown, wait_for_quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

EXITS = 40  # for each tool
GOAL_S = 0.0005
OURS = "endtask"


def measure(lab: Lab) -> list[Row]:
    """Return the row of the noticing."""
    tools = {
        OURS: [lab.python, "-I", str(HERE / "peers" / "endtask_notice.py")],
        "C, poll on a pidfd": [lab.floor("noticer")],
        "psutil": lab.peer("psutil_notice.py"),
        "shell loop, sleep 0.1": ["sh", str(HERE / "peers" / "shell_notice.sh")],
    }
    noticed: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(max(5, lab.rounds)):
        for name, words in tools.items():
            wait_for_quiet()
            noticed[name] += _delays(lab, words, EXITS // 5)
    ours = median(noticed[OURS])
    return [
        Row(
            "exit noticed",
            shown(noticed[OURS]),
            "; ".join(f"{name} {shown(values)}" for name, values in noticed.items() if name != OURS),
            f"median <= {GOAL_S * 1e3:g} ms, no polling",
            f"{ours * 1e3:.2f} ms, {ours / median(noticed['C, poll on a pidfd']):.1f} x C",
            ours <= GOAL_S,
        )
    ]


def _delays(lab: Lab, words: Sequence[str], exits: int) -> list[float]:
    """Return for so many processes the seconds from their last act to the tool's word."""
    delays = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        for _ in range(exits):
            with subprocess.Popen(
                [lab.floor("mortal")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=None
            ) as mortal:
                tool.stdin.write(f"{mortal.pid}\n")
                tool.stdin.flush()
                tool.stdout.readline()  # "waiting"
                ended, _ = mortal.communicate(f"{random.uniform(60, 200):.3f}\n", timeout=30)
            delays.append(_seconds(tool.stdout.readline()) - int(ended) / 1e9)
        tool.stdin.close()
    return delays


def _seconds(word: str) -> float:
    """Return the time that a tool wrote, as seconds of CLOCK_MONOTONIC; a shell only has the uptime, exact to 10 ms."""
    if word.startswith("uptime"):
        return float(word.split()[1]) - time.clock_gettime(time.CLOCK_BOOTTIME) + time.monotonic()
    return int(word) / 1e9
