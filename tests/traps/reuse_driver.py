"""Plays the scenarios of trap 8 as the first process of a pid namespace; the last line of its output is JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import endtask


def reuse(pid: int) -> None:
    """Make the next fork get *pid*."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1), encoding="ascii")


def start(asked: int, *, life_s: int = 60) -> int:
    """Fork a process that writes a byte for each request that it gets, and lives on."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCONT):
            signal.signal(number, lambda _number, _frame: os.write(asked, b"!") and None)
        signal.alarm(life_s)
        os.write(sink, b".")
        while True:
            signal.pause()
    os.read(source, 1)
    os.close(source)
    os.close(sink)
    return pid


def bury(pid: int) -> None:
    """End one of our children and reap it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def count(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    total = 0
    while select.select([pipe], [], [], 0)[0]:
        total += len(os.read(pipe, 4096))
    return total


def written(verb: str) -> dict[str, object]:
    """Ask for `pid:token` of a process whose pid belongs to another one by now."""
    source, sink = os.pipe()
    old = start(sink)
    ref = str(endtask.look(old).seen[0].facts.ref)
    bury(old)
    reuse(old)
    new = start(sink)
    assert new == old, "the pid was not reused"
    more = ["-t", "2s"] if verb in ("stop", "wait", "plan") else []
    done = subprocess.run(
        [sys.executable, "-m", "endtask", verb, ref, *more], capture_output=True, text=True, check=False
    )
    lives = os.waitpid(new, os.WNOHANG) == (0, 0)
    return {
        "code": done.returncode,
        "text": done.stdout + done.stderr,
        "asked": count(source) + (not lives),
        "pid": new,
    }


def middle(moment: str) -> dict[str, object]:
    """Replace the target by a newcomer with the same pid in the middle of a stop."""
    source, sink = os.pipe()
    silent = os.open("/dev/null", os.O_WRONLY)
    old = start(silent)
    newcomers: list[int] = []

    def replace(event: endtask.Event) -> None:
        if event.kind == moment and not newcomers:
            bury(old)
            reuse(old)
            newcomers.append(start(sink))

    report = endtask.stop(old, timeout_s=3, on_event=replace, watch_s=0)
    (new,) = newcomers
    assert new == old, "the pid was not reused"
    lives = os.waitpid(new, os.WNOHANG) == (0, 0)
    return {"outcome": report.targets[0].outcome, "asked": count(source), "newcomer_lives": lives}


def churn() -> dict[str, object]:
    """Fork victims and innocents as fast as possible in a space of about thirty pids, and stop the victims by name."""
    Path("/proc/sys/kernel/pid_max").write_text("330", encoding="ascii")
    source, sink = os.pipe()
    churner = os.fork()
    if churner == 0:
        _churn(sink)
    deadline = time.monotonic() + 4.0
    stops = hit = 0
    while time.monotonic() < deadline:
        report = endtask.stop("victim", all=True, timeout_s=0.2, scope="only", watch_s=0, missing_ok=True)
        stops += 1
        hit += sum(r.status == "delivered" for t in report.targets for m in t.members for r in m.receipts)
    bury(churner)
    return {"stops": stops, "hit_victims": hit, "hit_innocents": count(source)}


def _churn(hits: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.alarm(30)
    turn = 0
    while True:
        turn += 1
        try:
            pid = os.fork()
        except OSError:
            select.select([], [], [], 0.001)  # no pid is free
            continue
        if pid == 0:
            signal.alarm(5)
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            libc.prctl(15, b"victim" if turn % 2 else b"innocent", 0, 0, 0)  # PR_SET_NAME
            if not turn % 2:
                signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(hits, b"!") and None)
            select.select([], [], [], 0.002)
            os._exit(0)


def main() -> None:
    """Play the scenario that is named on the command line."""
    name, _, rest = sys.argv[1].partition("-")
    result = {"written": lambda: written(rest), "middle": lambda: middle(rest), "churn": churn}[name]()
    print(json.dumps(result))  # noqa: T201  # the result


main()
