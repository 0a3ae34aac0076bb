"""End a tree that forks at full rate: how many are left, and how long does it take?"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lab import BOMB, Lab, Row, count_named, median, shown, wait_for_quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIVE = 100
LAST_S = 8.0  # no bomb burns longer


class End(NamedTuple):
    """How one try went: seconds, and how many were left afterwards."""

    wall_s: float
    left: int


def measure(lab: Lab) -> list[Row]:
    """Return the rows of the forced end, with a cgroup and without."""
    ours = [lab.endtask, "stop", "--now", "-q", "--watch", "0", "{pid}", "-t", "20s"]
    others: dict[str, Sequence[str]] = {
        "killall -9": ["killall", "-9", BOMB],
        "pkill -KILL": ["pkill", "-KILL", "-x", BOMB],
        "psutil": [*lab.peer("psutil_kill_tree.py"), "{pid}"],
    }
    tree_kill = lab.node("tree-kill")
    if tree_kill:
        others["tree-kill"] = [tree_kill, "{pid}", "SIGKILL"]
    tries: dict[str, list[End]] = {"endtask": [], **{name: [] for name in others}}
    for _ in range(lab.rounds):
        for name, words in {"endtask": ours, **others}.items():
            tries[name].append(_try(words, lab, None))
    beside = "; ".join(f"{name} {_text(ends)}" for name, ends in tries.items() if name != "endtask")
    return [_with_cgroup(lab, ours), _row("without a cgroup of its own", tries["endtask"], 1.0, beside)]


def _with_cgroup(lab: Lab, ours: Sequence[str]) -> Row:
    mount = _unified()
    if mount is None:
        return _not_measured("there is no cgroup v2")
    folder = mount / f"endtask-bench-{os.getpid()}.service"
    try:
        folder.mkdir()
    except OSError as why:
        return _not_measured(str(why))
    try:
        ends = [_try([*ours, "--cgroup"], lab, folder) for _ in range(lab.rounds)]
    finally:
        _remove(folder)
    return _row("in a cgroup of its own", ends, 0.1, "the kernel's own cgroup.kill")


def _not_measured(why: str) -> Row:
    work = "forced end of a tree that forks at full rate, in a cgroup of its own"
    return Row(work, "-", "-", "0 left, <= 0.1 s", f"not measured: {why}", None)


def _row(where: str, ends: Sequence[End], goal_s: float, beside: str) -> Row:
    left = sum(e.left for e in ends)
    middle = median([e.wall_s for e in ends])
    work = f"forced end of a tree that forks at full rate ({ALIVE} at a time), {where}"
    measured = f"{left} left in {len(ends)} runs; {middle:.2f} s"
    return Row(work, _text(ends), beside, f"0 left, <= {goal_s:g} s", measured, left == 0 and middle <= goal_s)


def _text(ends: Sequence[End]) -> str:
    left = [e.left for e in ends]
    return f"{shown([e.wall_s for e in ends], 's', 1)}, left {min(left)}-{max(left)}"


def _try(words: Sequence[str], lab: Lab, cgroup: Path | None) -> End:
    wait_for_quiet()
    with subprocess.Popen(
        [lab.floor("bomb"), BOMB, str(ALIVE), str(LAST_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a service or a job has it: what loses its parent is still known by that
    ) as bomb:
        assert bomb.stdin is not None
        assert bomb.stdout is not None
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(bomb.pid))
        bomb.stdin.close()
        bomb.stdout.readline()
        began = time.monotonic()
        subprocess.run(
            [w.replace("{pid}", str(bomb.pid)) for w in words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        took = time.monotonic() - began
        left = count_named(BOMB)
        deadline = time.monotonic() + 2 * LAST_S
        while count_named(BOMB) and time.monotonic() < deadline:
            time.sleep(0.1)  # a survivor burns on until its time is over
    return End(took, left)


def _unified() -> Path | None:
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (mount / "cgroup.controllers").exists():
            return mount
    return None


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)  # ignored: the last one is on its way out
        else:
            return
