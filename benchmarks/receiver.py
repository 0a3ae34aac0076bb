"""What the receiver costs, and how soon a request is noticed: by hand, ratios within one run.

    python3 benchmarks/receiver.py              # all of it, some two minutes
    python3 benchmarks/receiver.py flag         # one part: flag import noticed

It needs what the tests need: the table of blocking calls is theirs.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from endtask_receiver import Stop, listen  # noqa: E402

TURNS = 1_000_000
ROUNDS = 7
IMPORTS = 25
SHOTS = 3
LATE_S = 2.0


def median_ms(values: list[float]) -> str:
    """Return the median and the range, in milliseconds."""
    return f"{statistics.median(values) * 1e3:.2f} ({min(values) * 1e3:.2f}-{max(values) * 1e3:.2f})"


# ---------------------------------------------------------------- the flag


def empty(_stop: Stop, _event: threading.Event) -> None:
    """Do nothing."""
    for _ in range(TURNS):
        pass


def attribute(stop: Stop, _event: threading.Event) -> None:
    """Look at the attribute."""
    for _ in range(TURNS):
        if stop.asked:
            break


def truth(stop: Stop, _event: threading.Event) -> None:
    """Look at the truth."""
    for _ in range(TURNS):
        if stop:
            break


def iterate(stop: Stop, _event: threading.Event) -> None:
    """Go through items."""
    for _ in stop.iterate(range(TURNS)):
        pass


def an_event(_stop: Stop, event: threading.Event) -> None:
    """Look at an event of `threading`."""
    for _ in range(TURNS):
        if event.is_set():
            break


def a_wait_of_zero(stop: Stop, _event: threading.Event) -> None:
    """Wait for no time."""
    for _ in range(TURNS):
        if stop.wait(0):
            break


def flag() -> None:
    """The look at the flag in a hot loop, as a ratio to the same loop without it."""
    cases = [empty, attribute, truth, iterate, an_event, a_wait_of_zero]
    times: dict[str, list[float]] = {case.__name__: [] for case in cases}
    with listen() as stop:
        event = threading.Event()
        for turn in range(ROUNDS):
            for case in cases[turn % len(cases) :] + cases[: turn % len(cases)]:
                begin = time.perf_counter()
                case(stop, event)
                times[case.__name__].append(time.perf_counter() - begin)
    floor = statistics.median(times["empty"])
    print(f"\n| look | loop of {TURNS:,}, ms | ratio to the empty loop | ns a look |\n|---|---|---|---|")
    for case in cases:
        middle = statistics.median(times[case.__name__])
        print(
            f"| {case.__name__} | {median_ms(times[case.__name__])} | {middle / floor:.1f} | {(middle - floor) / TURNS * 1e9:.0f} |"
        )


# ---------------------------------------------------------------- the import


def imports() -> None:
    """The import beside that of an empty package and of what it does without."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty_package").mkdir()
        (Path(folder) / "empty_package" / "__init__.py").touch()
        names = ["empty_package", "endtask_receiver", "signal", "threading", "dataclasses", "asyncio"]
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(IMPORTS + 1):
            for name in names:
                code = (
                    f"import sys; sys.path += [{folder!r}, {str(ROOT / 'src')!r}]\n"
                    "from time import perf_counter as now; begin = now()\n"
                    f"import {name}\nprint(now() - begin)"
                )
                done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
                if turn:  # the first one compiles
                    times[name].append(float(done.stdout))
    floor = statistics.median(times["empty_package"])
    print("\n| import | ms | ratio to an empty package |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {median_ms(values)} | {statistics.median(values) / floor:.1f} |")


# ---------------------------------------------------------------- noticing

BEGIN = """
import os, signal, sys, threading, time
from endtask_receiver import listen
def noticed():
    os.write(1, b"%r\\n" % time.monotonic())
with listen({args}) as stop:
    stop.add_waker(noticed)
"""


def noticed() -> None:
    """From the system call that sends the signal to the moment when the receiver knows, in every blocking call of the tests."""
    from tests.receiver.test_blocking import CALLS, CHILD

    print("\n| the main thread is in | handler only, ms | receiver, ms |\n|---|---|---|")
    for name, (prepare, call) in CALLS.items():
        lines = [*prepare.replace("release = lock.release", "").splitlines(), "os.write(1, b'ready\\n')", call]
        body = "".join(f"    {line}\n" for line in lines if line.strip()).replace("CHILD", CHILD)
        handler = [shot(BEGIN.format(args="watch=False") + body) for _ in range(SHOTS)]
        both = handler if "trio" in name else [shot(BEGIN.format(args="") + body) for _ in range(SHOTS)]
        print(f"| {name} | {shown(handler)} | {shown(both)} |", flush=True)


def shown(values: list[float | None]) -> str:
    """Return the median in words; None is a request that was not noticed in time."""
    known = [v for v in values if v is not None]
    if len(known) * 2 <= len(values):
        return f"> {LATE_S * 1e3:.0f}"
    return median_ms(known) + ("" if len(known) == len(values) else f", {len(values) - len(known)} late")


def shot(code: str) -> float | None:
    """Start a program, have it block, ask it; return the seconds until it knew, None if it did not in time."""
    from tests.receiver.lab import Program

    with tempfile.TemporaryDirectory() as folder:
        environment = {"TMPDIR": folder, "PYTHONPATH": str(ROOT / "src")}
        with Program(code, stdin=subprocess.PIPE, env=environment) as program:
            program.expect("ready")
            program.settle()
            late = threading.Timer(LATE_S, program.process.kill)
            begin = time.monotonic()
            os.kill(program.pid, signal.SIGTERM)
            late.start()
            try:
                return float(program.line()) - begin
            except AssertionError:
                return None  # ended by the timer: not noticed in time
            finally:
                late.cancel()


PARTS = {"flag": flag, "import": imports, "noticed": noticed}


def main() -> None:
    """Run the parts that are named, or all."""
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main()
