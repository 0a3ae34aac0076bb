"""Measures endtask beside its peers and prints the table: `python run.py [PART...]`.

Not part of the tests: figures depend on the machine and on what else it does. Read the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import cold
import exit_noticed
import forced
import growth
import selecting
import set_up
import stop_many
import waiting
from lab import HEAD, Lab, Row, say, take_turn

PARTS = ("cold", "select", "stop", "stop-some", "noticed", "waiting", "growth", "forced")


def measure(part: str, lab: Lab, given: argparse.Namespace) -> list[Row]:
    """Return the rows of one part."""
    if part == "cold":
        return cold.measure(lab)
    if part == "select":
        return selecting.measure(lab, given.many)
    if part == "stop":
        return stop_many.measure(lab, given.many)
    if part == "stop-some":
        return stop_many.measure_some(lab)
    if part == "noticed":
        return exit_noticed.measure(lab)
    if part == "waiting":
        return waiting.measure(lab, given.seconds)
    if part == "growth":
        return growth.measure(lab, given.most)
    return forced.measure(lab)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument("--home", type=Path, default=set_up.HOME, help="where set_up.py installed it all")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--many", type=int, default=10_000, help="sleepers for `select` and `stop` (default 10,000)")
    parser.add_argument("--most", type=int, default=10_000, help="the largest size for `growth` (default 10,000)")
    parser.add_argument("--seconds", type=float, default=60, help="how long `waiting` waits (default 60)")
    given = parser.parse_args()
    unknown = [p for p in given.parts if p not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    return given


def main() -> None:
    """Measure the parts that are asked for."""
    given = arguments()
    if not (given.home / "venv").exists():
        subprocess.run([sys.executable, set_up.__file__, "--home", str(given.home)], check=True)
    lab = Lab(given.home, given.rounds)
    lock = take_turn(Path(tempfile.gettempdir(), "endtask-benchmarks.lock"))
    print(_machine(lab), HEAD, sep="\n\n", flush=True)
    for name in given.parts or PARTS:
        say(f"== {name}")
        for row in measure(name, lab, given):
            print(row.line(), flush=True)
    os.close(lock)


def _machine(lab: Lab) -> str:
    version = subprocess.run([lab.endtask, "version"], capture_output=True, text=True, check=True).stdout.strip()
    now = datetime.now(timezone.utc)
    return (
        f"{version}, CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}, {lab.rounds} rounds, {now:%Y-%m-%d}"
    )


if __name__ == "__main__":
    main()
