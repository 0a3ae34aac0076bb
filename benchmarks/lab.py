"""Runs commands over sleepers and tells what they cost: the tools that all measurements share.

Decision: nothing of Python lies between the clock and the command. `floor/nursery.c` starts the sleepers, the command and the clock;
this file only tells it what to run, and counts.
Cases that are compared are run in turns, round after round, each round beginning with the next one, so that a slow moment of the machine hits them all.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__).resolve().parent
# Nobody else's processes have these names: what is measured stops everything that has them.
SLEEPER, NEEDLE, BOMB = f"sleeper{os.getpid()}", f"needle{os.getpid()}", f"bomb{os.getpid()}"
NEEDLE_TITLE = f"{NEEDLE} --in a-haystack"
NOBODY = 65534
QUIET_SHARE = 0.25  # whoever watches over a machine with 10,000 processes needs some of it


class Cost(NamedTuple):
    """What one run of a command cost.

    Attributes:
        wall_s: From before its fork until its end was seen.
        cpu_s: User and system time of the command and of what it waited for.
        rss_mib: Peak memory of the largest process among those.
        status: Its exit status, negative for a signal.
        left: How many sleepers were there when it had ended.
    """

    wall_s: float
    cpu_s: float
    rss_mib: float
    status: int
    left: int


Runs = dict[str, list[Cost]]


class Lab:
    """Where everything that is measured is installed.

    Args:
        home: The folder that `set_up.py` filled.
        rounds: How often each case is run.
    """

    def __init__(self, home: Path, rounds: int) -> None:
        self.home = home
        self.rounds = rounds
        self.python = str(home / "venv" / "bin" / "python")
        self.endtask = str(home / "venv" / "bin" / "endtask")
        self.peer_python = str(home / "peers" / "bin" / "python")
        self.node_bin = home / "node" / "node_modules" / ".bin"

    def floor(self, name: str) -> str:
        """Return the path of a program made of `floor/`."""
        return str(self.home / "floor" / name)

    def peer(self, name: str) -> list[str]:
        """Return the command of a recipe of `peers/` that uses psutil."""
        return [self.peer_python, "-I", str(HERE / "peers" / name)]

    def node(self, name: str) -> str | None:
        """Return the path of a command that npm installed, None if it could not be installed."""
        path = self.node_bin / name
        return str(path) if path.exists() else None

    # ------------------------------------------------------------------ running

    def run(
        self, command: Sequence[str], *, sleepers: int = 0, needle: bool = False, uid: int = -1, timeout_s: float = 180
    ) -> Cost:
        """Run *command* as a descendant of the parent of so many sleepers, and end all of those afterwards."""
        words = [self.floor("nursery"), "-n", str(sleepers), "-s", SLEEPER, "-a", str(int(timeout_s))]
        if needle:
            words += ["-x", NEEDLE, "-X", NEEDLE_TITLE, "-u", str(uid)]
        read, write = os.pipe()
        try:
            with subprocess.Popen(
                ["/bin/sh", "-c", f'exec "$@" 3>&{write} {write}>&-', "sh", *words, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(write,),
            ) as nursery:
                os.close(write)
                write = -1
                nursery.wait(timeout_s)
            text = os.read(read, 4096)
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        if not text:
            raise RuntimeError(f"could not be run: {' '.join(command)}")
        told = json.loads(text)
        status = os.waitstatus_to_exitcode(told["status"])
        self._until_gone()
        return Cost(told["wall_s"], told["user_s"] + told["system_s"], told["rss_kib"] / 1024, status, told["left"])

    def _until_gone(self) -> None:
        """Wait until the sleepers of the last run have left the process table: their end is work for the kernel, and the next run's bad luck."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and count_named(SLEEPER, NEEDLE):
            time.sleep(0.01)

    def compare(self, cases: Mapping[str, Callable[[], Cost]], *, rounds: int = 0) -> Runs:
        """Run all *cases* in turns, and return what each run cost."""
        names = list(cases)
        runs: Runs = {name: [] for name in names}
        for number in range(rounds or self.rounds):
            at = number % len(names)
            for name in names[at:] + names[:at]:
                wait_for_quiet()
                runs[name].append(cases[name]())
        return runs


def count_named(*names: str) -> int:
    """Return how many processes have one of these names and run; one that nobody has reaped yet does not."""
    wanted = [f"({name}) ".encode() for name in names]
    found = 0
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                stat = Path("/proc", pid, "stat").read_bytes()
            except OSError:
                continue  # ignored: it has gone
            found += any(name in stat and stat.split(name)[1][:1] not in b"ZX" for name in wanted)
    return found


# --------------------------------------------------------------------------- a quiet machine


def take_turn(path: Path) -> int:
    """Wait until no other run of the benchmarks is under way on this machine; return the lock, to be kept open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


_patience_s = [float(os.environ.get("BENCH_PATIENCE_S", "600"))]


def wait_for_quiet(share: float = QUIET_SHARE) -> None:
    """Wait until the processors have little to do; all waits of a run together are bounded, then it measures in whatever noise there is.

    Not by the load average: that is of a whole minute, and after the start of 10,000 processes it takes six to fall.
    """
    told = False
    while _patience_s[0] > 0:
        busy, all_s = _processor_seconds()
        time.sleep(0.5)
        _patience_s[0] -= 0.5
        busy_now, all_now = _processor_seconds()
        used = (busy_now - busy) / max(all_now - all_s, 0.01)
        if used < share:
            return
        if not told:
            say(f"waiting until the processors ({used:.0%} busy) are below {share:.0%}")
            told = True


def _processor_seconds() -> tuple[float, float]:
    """Return what all processors have spent at work, and altogether: proc(5), /proc/stat."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def say(text: str) -> None:
    """Tell whoever runs it what is being done."""
    print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------- figures


def wall(costs: Sequence[Cost]) -> list[float]:
    """Return the wall clock seconds of runs."""
    return [c.wall_s for c in costs]


def cpu(costs: Sequence[Cost]) -> list[float]:
    """Return the processor seconds of runs."""
    return [c.cpu_s for c in costs]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def shown(values: Sequence[float], unit: str = "ms", scale: float = 1e3) -> str:
    """Return `12.3 ms (11.9-14.0)`: the median, and the spread from the fastest to the slowest run."""
    low, mid, high = (f"{v * scale:.3g}" if v * scale < 100 else f"{v * scale:.0f}" for v in _three(values))
    return f"{mid} {unit} ({low}-{high})"


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)


class Row(NamedTuple):
    """One goal of the table.

    Attributes:
        work: What is done.
        ours: Figures of endtask.
        others: Figures of the floor and of the peers, from the same run.
        goal: The goal in words.
        ratio: What was measured against it, in words.
        met: Whether the goal is met; None where it cannot be said here.
    """

    work: str
    ours: str
    others: str
    goal: str
    ratio: str
    met: bool | None

    def line(self) -> str:
        """Return it as a line of a Markdown table."""
        verdict = {True: "yes", False: "**no**", None: "-"}[self.met]
        return f"| {self.work} | {self.ours} | {self.others} | {self.goal} | {self.ratio} | {verdict} |"


HEAD = "| work | endtask | beside it | goal | measured | met |\n|---|---|---|---|---|---|"


def figures(runs: Runs, ours: str, pick: Callable[[Sequence[Cost]], list[float]] = wall) -> tuple[str, str]:
    """Return the figures of our case, and those of all others in one cell."""
    others = "; ".join(f"{name} {shown(pick(costs))}" for name, costs in runs.items() if name != ours)
    return shown(pick(runs[ours])), others


def faults(runs: Runs, *, left: int = 0) -> list[str]:
    """Return what went wrong: a measurement of a command that did not do its work is none."""
    found = []
    for name, costs in runs.items():
        bad = [c for c in costs if c.left > left]
        if bad:
            found.append(f"{name} left {max(c.left for c in bad)} processes in {len(bad)} of {len(costs)} runs")
    return found
