"""Stop many sleepers by their name, and know that they have ended; whole commands."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from lab import SLEEPER, Lab, Row, Runs, cpu, faults, figures, median, shown, wall

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "endtask stop --all -q"
PAIR = "pkill + pidwait"
MEMORY_MIB = 40.0


def measure(lab: Lab, sleepers: int) -> list[Row]:
    """Return the row of the great number."""
    runs = _run(lab, sleepers, {})
    floor = median(wall(runs[OURS])) / median(wall(runs["C"]))
    work = median(cpu(runs[OURS])) / median(cpu(runs[PAIR]))
    memory = median([c.rss_mib for c in runs[OURS]])
    wrong = faults(runs)
    ours, others = figures(runs, OURS)
    cpu_ours, cpu_others = figures(runs, OURS, cpu)
    return [
        Row(
            f"stop {sleepers:,} sleepers by name, proved",
            f"{ours}; CPU {cpu_ours}; {memory:.0f} MiB",
            f"{others}. CPU: {cpu_others}",
            f"wall <= 1.3 x C, CPU <= 0.5 x {PAIR}, memory <= {MEMORY_MIB:.0f} MiB",
            "; ".join([f"{floor:.2f} x C", f"CPU {work:.2f} x {PAIR}", f"{memory:.0f} MiB", *wrong]),
            floor <= 1.3 and work <= 0.5 and memory <= MEMORY_MIB and not wrong,
        )
    ]


def measure_some(lab: Lab, sleepers: int = 1000) -> list[Row]:
    """Return the row of the smaller number, with the slower peers beside it."""
    more: dict[str, Sequence[str]] = {"killall -w": [shutil.which("killall") or "killall", "-w", SLEEPER]}
    fkill = lab.node("fkill")
    if fkill:
        more["fkill"] = [fkill, SLEEPER]
    runs = _run(lab, sleepers, more)
    pair = median(wall(runs[OURS])) / median(wall(runs[PAIR]))
    wrong = faults(runs)
    ours, others = figures(runs, OURS)
    return [
        Row(
            f"stop {sleepers:,}",
            f"{ours}; CPU {shown(cpu(runs[OURS]))}",
            others,
            f"<= 1.0 x {PAIR}",
            "; ".join([f"{pair:.2f} x", *wrong]),
            pair <= 1.0 and not any("endtask" in w for w in wrong),
        )
    ]


def _run(lab: Lab, sleepers: int, more: dict[str, Sequence[str]]) -> Runs:
    commands: dict[str, Sequence[str]] = {
        OURS: [lab.endtask, "stop", "--all", "-q", SLEEPER, "-t", "60s"],
        "C": [lab.floor("stopper"), SLEEPER],
        PAIR: ["sh", "-c", f"pkill -x {SLEEPER}; pidwait -x {SLEEPER}; true"],
        "psutil": [*lab.peer("psutil_stop.py"), "--name", SLEEPER],
        **more,
    }
    return lab.compare({name: partial(lab.run, words, sleepers=sleepers) for name, words in commands.items()})
