"""Select 1 of 10,000 processes, by name, by command line and by user; whole commands."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lab import HERE, NEEDLE, NEEDLE_TITLE, NOBODY, Lab, Row, figures, median, wall

if TYPE_CHECKING:
    from collections.abc import Sequence


class Goal(NamedTuple):
    """At most so many times pgrep, and (0: not asked for) so many times the C program."""

    pgrep: float
    floor: float = 0.0


def measure(lab: Lab, sleepers: int) -> list[Row]:
    """Return the three rows of the selection."""
    pgrep = shutil.which("pgrep") or "pgrep"
    by_name: dict[str, Sequence[str]] = {
        "endtask find NAME": [lab.endtask, "find", NEEDLE],
        "C": [lab.floor("selector"), "name", NEEDLE],
        "pgrep": [pgrep, "-x", NEEDLE],
        "pidof": ["pidof", NEEDLE],
        "ps": ["ps", "-C", NEEDLE, "-o", "pid="],
        "psutil": [*lab.peer("psutil_find.py"), "name", NEEDLE],
    }
    if lab.node("fkill"):
        by_name["fkill's list"] = ["node", str(HERE / "peers" / "ps_list.mjs"), str(lab.home / "node"), NEEDLE]
    by_cmdline: dict[str, Sequence[str]] = {
        "endtask find '*' --cmdline": [lab.endtask, "find", "*", "--cmdline", NEEDLE_TITLE],
        "C": [lab.floor("selector"), "cmdline", NEEDLE_TITLE],
        "pgrep": [pgrep, "-f", "--", NEEDLE_TITLE],
        "psutil": [*lab.peer("psutil_find.py"), "cmdline", NEEDLE_TITLE],
    }
    by_user: dict[str, Sequence[str]] = {
        "endtask find '*' --user": [lab.endtask, "find", "*", "--user", str(NOBODY)],
        "C": [lab.floor("selector"), "user", str(NOBODY)],
        "pgrep": [pgrep, "-u", str(NOBODY)],
        "psutil": [*lab.peer("psutil_find.py"), "user", str(NOBODY)],
    }
    return [
        _row(lab, sleepers, "name", by_name, Goal(0.20, 1.4)),
        _row(lab, sleepers, "full command line", by_cmdline, Goal(0.60)),
        _row(lab, sleepers, "user", by_user, Goal(0.20)),
    ]


def _row(lab: Lab, sleepers: int, what: str, commands: dict[str, Sequence[str]], goal: Goal) -> Row:
    runs = lab.compare(
        {name: partial(lab.run, words, sleepers=sleepers, needle=True, uid=NOBODY) for name, words in commands.items()}
    )
    own = next(iter(commands))
    wrong = [f"{name} failed" for name, costs in runs.items() if any(c.status for c in costs)]
    ours, others = figures(runs, own)
    middle = median(wall(runs[own]))
    pgrep, c = middle / median(wall(runs["pgrep"])), middle / median(wall(runs["C"]))
    wanted = f"<= {goal.pgrep:.2f} x pgrep" + (f", <= {goal.floor} x C" if goal.floor else "")
    met = pgrep <= goal.pgrep and (not goal.floor or c <= goal.floor) and not wrong
    measured = "; ".join([f"{pgrep:.2f} x pgrep", f"{c:.2f} x C", *wrong])
    return Row(f"select 1 of {sleepers:,} by {what}", ours, others, wanted, measured, met)
