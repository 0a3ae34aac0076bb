"""One obedient process: ask, wait for its end, answer; the whole command from a cold start."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from lab import NEEDLE, Lab, Row, cpu, faults, figures, median, shown, wall

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS_TIMES = 4  # the runs are short, so there can be more of them


def measure(lab: Lab) -> list[Row]:
    """Return the row of the cold start."""
    both = f"pkill -x {NEEDLE}; pidwait -x {NEEDLE}; true"
    commands: dict[str, Sequence[str] | None] = {
        "endtask stop PID": [lab.endtask, "stop", "{pid}"],
        "C": [lab.floor("stopper"), "-p", "{pid}"],
        "python -I -c pass": [lab.python, "-I", "-c", "pass"],
        "python -I -S -c pass": [lab.python, "-I", "-S", "-c", "pass"],
        "pkill + pidwait": ["sh", "-c", both],
        "psutil": [*lab.peer("psutil_stop.py"), "{pid}"],
    }
    slow: dict[str, Sequence[str] | None] = {
        "tree-kill (no wait)": _with(lab.node("tree-kill"), "{pid}", "SIGTERM"),
        "fkill": _with(lab.node("fkill"), "{pid}"),
        "killall -w": _with(shutil.which("killall"), "-w", NEEDLE),
    }
    runs = lab.compare(
        {name: partial(lab.run, words, needle=True) for name, words in commands.items() if words},
        rounds=lab.rounds * ROUNDS_TIMES,
    )
    runs |= lab.compare({name: partial(lab.run, words, needle=True) for name, words in slow.items() if words})
    ours, others = figures(runs, "endtask stop PID")
    start = median(wall(runs["endtask stop PID"])) / median(wall(runs["python -I -c pass"]))
    peers = median(wall(runs["endtask stop PID"])) / median(wall(runs["pkill + pidwait"]))
    asked = {name: costs for name, costs in runs.items() if "pass" not in name and "no wait" not in name}
    wrong = faults(asked)
    return [
        Row(
            "cold: ask one obedient process, wait for its end, answer",
            f"{ours}; CPU {shown(cpu(runs['endtask stop PID']))}",
            others,
            "<= 2.0 x `python -I -c pass`; ahead of pkill + pidwait",
            f"{start:.2f} x; {peers:.2f} x" + "".join(f"; {w}" for w in wrong),
            start <= 2.0 and peers < 1 and not any("endtask" in w for w in wrong),
        )
    ]


def _with(command: str | None, *words: str) -> list[str] | None:
    return [command, *words] if command else None
