"""A program that uses endtask on a console, with a parent and siblings on it that count what they hear.

    python -m tests.windows.caller parent TARGETS FLAGS JOB [WORD...]     the parent; prints one JSON document
    python -m tests.windows.caller JOB TARGETS PID [WORD...]              what it starts; prints what the job found, then what it heard

The parent is started on a console of its own. On the same console it starts two siblings, which say "handled" to every event and log it,
and the caller proper (with FLAGS as creation flags), which gets the pid of the second sibling.
When that has done its job, the parent generates a Ctrl+C for its own console, to show that everybody here would have heard one.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import json
import os
import subprocess
import threading
from ctypes import wintypes
from pathlib import Path
from typing import TYPE_CHECKING

from endtask._backends.windows import console, handles, inject, memory
from endtask.model import Request
from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, SHARED_CONSOLE, UNDER_WINE, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask.model import Receipt
    from tests.windows.lab import Target

CONSOLE_CTRL_C = Request("CONSOLE_CTRL_C", "console", 0)
CTRL_C = Request("CTRL_C", "inject", 0)
CTRL_CLOSE = Request("CTRL_CLOSE", "inject", 2)

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_handler = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)
_kernel32.SetConsoleCtrlHandler.argtypes = (_handler, wintypes.BOOL)


class Ears:
    """Counts the control events that this process hears."""

    def __init__(self) -> None:
        """Listen from now on."""
        self.heard: list[int] = []
        self.news = threading.Event()
        self._callback = _handler(self._take)
        assert _kernel32.SetConsoleCtrlHandler(self._callback, True)

    def _take(self, event: int) -> bool:
        self.heard.append(event)
        self.news.set()
        return True


def say(document: object) -> None:
    """Write one line of JSON at once."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def send(target: Target, request: Request) -> Receipt:
    """Send one request to a target of ours."""
    with handles.open_pin(target.pid) as pin:
        way: Callable[[handles.WindowsPin, Request, float], Receipt]
        way = console.send_console if request.kind == "console" else inject.send_inject
        return way(pin, request, 0.0)


# --------------------------------------------------------------------------- jobs


def started(lab: Lab, mode: str, flags: int) -> Target:
    """Start a console program; once more where Wine 8 has lost the process that would have been its console, which it does about once in two thousand times."""
    for _attempt in range(3):
        target = lab.start("etconsole", mode, flags=flags)
        seen = memory.parameters_of(target.pid, environment=False)
        if flags == DETACHED or seen is None or memory.has_console(seen.console_handle):
            return target
        assert UNDER_WINE
    raise AssertionError("three times in a row it could not be started")


def stops(lab: Lab, _pid: int, count: str) -> object:
    """Stop *count* console programs, one way after the other; return what went wrong."""
    ways = [
        (NO_WINDOW, CONSOLE_CTRL_C, "graceful"),
        (SHARED_CONSOLE, CTRL_C, "graceful"),
        (NO_WINDOW, CTRL_CLOSE, "none"),
        (SHARED_CONSOLE, CTRL_CLOSE, "none"),
        (DETACHED, CTRL_C, "graceful"),
    ]
    wrong = []
    for number in range(int(count)):
        flags, request, mode = ways[number % len(ways)]
        target = started(lab, mode, flags)
        receipt = send(target, request)
        try:
            code = target.wait_exit()
        except AssertionError as exc:
            wrong.append([number, str(receipt), str(exc), str(memory.parameters_of(target.pid, environment=False))])
            continue
        if receipt.status != "delivered" or (mode == "graceful" and (code != 7 or target.heard("control") != 1)):
            wrong.append([number, str(receipt), code, target.texts])
    return wrong


def shared(lab: Lab, pid: int) -> object:
    """Ask the console of the sibling, which is that of our parent and perhaps ours."""
    with handles.open_pin(pid) as pin:
        receipt = console.send_console(pin, CONSOLE_CTRL_C, 0.0)
    return [receipt.status, receipt.detail, os.getpid()]


def listed(lab: Lab, pid: int) -> object:
    """Return who is on our console, and on that of the sibling."""
    return [sorted(console.own_members()), sorted(console.members(pid)[0]), os.getpid()]


def group(lab: Lab, pid: int) -> object:
    """Send events to process groups."""
    first = lab.start("etconsole", "enable", flags=SHARED_CONSOLE | NEW_GROUP)
    elsewhere = lab.start("etconsole", "enable", flags=NO_WINDOW | NEW_GROUP)
    answers = [
        console.send_group(first.pid, 0),
        console.send_group(elsewhere.pid, 1),
        console.send_group(first.pid, 1),
    ]
    if answers[-1][0] == "delivered":
        first.wait_for("control 1")
    return [answers, first.heard("control"), elsewhere.heard("control"), first.pid]


JOBS: dict[str, Callable[..., object]] = {"stops": stops, "shared": shared, "listed": listed, "group": group}


# --------------------------------------------------------------------------- the two programs


def caller(job: str, targets: str, pid: str, *words: str) -> None:
    """Do a job; then, if we are on a console, wait until everybody on it is to hear something."""
    ears = Ears()
    with Lab(Path(targets)) as lab:
        found = JOBS[job](lab, int(pid), *words)
    say([found, ears.heard])
    if console.own_members():
        assert ears.news.wait(30)
    say(ears.heard)


def parent(targets: str, flags: str, job: str, *words: str) -> None:
    """Start the siblings and the caller, and report what everybody heard, before and after the proof that they hear."""
    ears = Ears()
    with Lab(Path(targets)) as lab:
        siblings = [lab.start("etconsole", "true", flags=SHARED_CONSOLE) for _ in range(2)]
        line = [sys.executable, "-m", "tests.windows.caller", job, targets, str(siblings[1].pid), *words]
        with subprocess.Popen(line, stdout=subprocess.PIPE, creationflags=int(flags)) as child:
            assert child.stdout is not None
            answer = child.stdout.readline()
            found, child_before = json.loads(answer) if answer else ("the caller died", None)
            before = [len(ears.heard), *(s.heard("control") for s in siblings)]
            assert _kernel32.GenerateConsoleCtrlEvent(0, 0)
            for sibling in siblings:
                sibling.wait_for("control 0")
            assert ears.news.wait(30)
            child_after = child.stdout.readline()
        after = [len(ears.heard), *(s.heard("control") for s in siblings)]
    report = {
        "found": found,
        "before": before,
        "after": after,
        "child_before": child_before,
        "child_after": json.loads(child_after or "null"),
        "pids": [os.getpid(), *(s.pid for s in siblings), child.pid],
    }
    say(report)


if __name__ == "__main__":
    if sys.argv[1] == "parent":
        parent(*sys.argv[2:])
    else:
        caller(*sys.argv[1:])
