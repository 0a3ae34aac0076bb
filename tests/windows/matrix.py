"""The table of the matrix of Windows: each kind of target, and what is true about it after `endtask stop PID -t 3s`.

Size: a table, one row after the other.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from tests.windows import kinds
from tests.windows.kinds import DEFAULT, LIVES, OWN, Kind
from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, OWN_CONSOLE, SUSPENDED, UNDER_WINE
from tests.windows.lab_services import RUNNING, STOP_PENDING, STOPPED

CLOSED, ENDED_SESSION = "WM_CLOSE delivered", "WM_ENDSESSION delivered"
CTRL_C, CTRL_BREAK, CTRL_CLOSE = "CTRL_C delivered", "CTRL_BREAK delivered", "CTRL_CLOSE delivered"
ONE_CLOSE = {"WM_CLOSE": 1}
# A clean-up that lasts longer than the first half of the budget, after which a second request would come; the rest is for a busy machine.
LONG, LONG_MS = ("-t", "9s"), 5500
SESSION = {"WM_CLOSE": 1, "WM_QUERYENDSESSION": 1, "WM_ENDSESSION 1": 1}

WINDOWS = {
    "closes": Kind(kinds.window("close"), "stopped", (CLOSED,), ONE_CLOSE, OWN, more=kinds.left_by_itself, words=True),
    "two-windows": Kind(kinds.window("two"), "stopped", (CLOSED,), {"WM_CLOSE": 2}, OWN),
    "slow": Kind(kinds.window("slow", 400), "stopped", (CLOSED,), ONE_CLOSE, OWN),
    "closes-while-it-is-asked-again": Kind(
        kinds.window("slow", 2700),
        "stopped",
        # Its window goes while the answer is waited for, or, on a busy machine, a moment later.
        (CLOSED, "WM_ENDSESSION gone|WM_ENDSESSION impossible|WM_ENDSESSION failed"),
        ONE_CLOSE,
        OWN,
        options=("-t", "4s"),
    ),
    "swallows": Kind(
        kinds.window("swallow"), "running", (CLOSED, ENDED_SESSION), SESSION, LIVES, ("swallowed",), words=True
    ),
    "dialog-after": Kind(
        kinds.window("dialog"),
        "running",
        (CLOSED,),
        ONE_CLOSE,
        LIVES,
        ("dialog",),
        more=kinds.asks_a_person,
        words=True,
    ),
    "dialog-before": Kind(
        kinds.window("dialog-open"),
        "unreachable",
        ("WM_CLOSE impossible",),
        {},
        LIVES,
        ("dialog", "impossible"),
        more=kinds.asks_a_person,
        words=True,
    ),
    "question-in-a-window-of-its-own": Kind(
        kinds.odd("draws"), "running", (CLOSED,), {}, LIVES, ("question",), more=kinds.may_ask_a_person, one_log=True
    ),
    "veto-not-asked-for": Kind(kinds.window("veto"), "stopped", (CLOSED,), ONE_CLOSE, OWN),
    "veto": Kind(
        kinds.window("veto"),
        "vetoed",
        ("WM_ENDSESSION vetoed",),
        {"WM_QUERYENDSESSION": 1, "WM_ENDSESSION 0": 1},
        LIVES,
        ("vetoed",),
        ("--unattended",),
        kinds.vetoes,
        words=True,
    ),
    "saves-at-the-end-of-the-session": Kind(
        kinds.window("save"), "stopped", (CLOSED, ENDED_SESSION), SESSION, OWN, more=kinds.saves
    ),
    "tray": Kind(
        kinds.window("hide"), "running", (CLOSED, ENDED_SESSION), SESSION, LIVES, ("hidden",), more=kinds.is_hidden
    ),
    "hung": Kind(
        kinds.window("hang"), "running", (CLOSED, "WM_ENDSESSION failed"), {}, LIVES, ("hung", "failed"), words=True
    ),
    "hidden-window": Kind(kinds.window("hidden"), "stopped", (CLOSED,), ONE_CLOSE, OWN),
    "owned-windows": Kind(
        kinds.window("owned"),
        "running",
        (CLOSED, ENDED_SESSION),
        {"WM_CLOSE": 3, "WM_QUERYENDSESSION": 1, "WM_ENDSESSION 1": 1},
        LIVES,
        ("windowless",),
        more=kinds.only_the_owner_is_left,
    ),
    "message-only": Kind(
        kinds.window("message-only"), "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.left_by_default_handler
    ),
    "no-window": Kind(kinds.window("none"), "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.left_by_default_handler),
    "only-a-queue": Kind(kinds.window("queue"), "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.left_by_default_handler),
    "suspended-window": Kind(
        kinds.suspended("etwindow", "close"),
        "running",
        (CLOSED, "WM_ENDSESSION failed"),
        {},
        LIVES,
        ("suspended", "hung", "failed"),
        more=kinds.closes_when_resumed,
        words=True,
    ),
    "console-subsystem-window": Kind(kinds.windowc("close"), "stopped", (CLOSED,), ONE_CLOSE, OWN),
    "console-subsystem-dialog": Kind(
        kinds.windowc("dialog"), "running", (CLOSED,), ONE_CLOSE, LIVES, ("dialog",), more=kinds.asks_a_person
    ),
    "console-subsystem-hidden": Kind(
        kinds.windowc("hidden"), "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.left_by_default_handler
    ),
    "console-subsystem-message-only": Kind(kinds.windowc("message-only"), "stopped", (CTRL_C,), {}, DEFAULT),
    "console-with-a-window": Kind(kinds.console("window"), "stopped", (CLOSED,), ONE_CLOSE, OWN),
}

_DEAF = (
    "Wine takes the flag that Ctrl+C is ignored for every event (dlls/kernelbase/console.c), so nothing can be sent; "
    "Windows takes it for Ctrl+C alone, and Ctrl+Break is heard."
)


def _deaf(mode: str, flags: int, heard: dict[str, int], ends: int) -> Kind:
    """Return what is true of a program that ignores Ctrl+C."""
    start = kinds.console(mode, 100, flags)
    if UNDER_WINE:
        return Kind(start, "unreachable", (), {}, LIVES, ("not-asked",), wine=_DEAF, words=True)
    return Kind(start, "stopped", (CTRL_BREAK,), heard, ends, wine=_DEAF)


ONE_C = {"control 0": 1}
CLEANED = {"control 0": 1, "stop heard": 1}
CONSOLES = {
    "no-handler": Kind(
        kinds.console("none"), "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.left_by_default_handler, words=True
    ),
    "handler-passes-on": Kind(
        kinds.console("false"), "stopped", (CTRL_C,), ONE_C, DEFAULT, more=kinds.left_by_default_handler
    ),
    "handler-lives-on": Kind(kinds.console("true"), "running", (CTRL_C,), ONE_C, LIVES, ("handler",), words=True),
    "handler-takes-long": Kind(
        kinds.console("slow", 400), "running", (CTRL_C,), {"control 0": 2}, LIVES, ("handler",)
    ),  # the second line says that it has handled it
    "handler-exits": Kind(kinds.console("exit"), "stopped", (CTRL_C,), ONE_C, 9, more=kinds.left_by_itself),
    "own-console": Kind(
        kinds.console("graceful", 200), "stopped", (CTRL_C,), CLEANED, OWN, more=kinds.left_by_itself, words=True
    ),
    "hidden-console": Kind(
        kinds.console("graceful", 200, NO_WINDOW), "stopped", (CTRL_C,), CLEANED, OWN, more=kinds.left_by_itself
    ),
    "no-console": Kind(
        kinds.console("graceful", 200, DETACHED), "stopped", (CTRL_C,), CLEANED, OWN, more=kinds.left_by_itself
    ),
    "shared-console": Kind(
        kinds.shared, "stopped", (CTRL_C,), {}, DEFAULT, more=kinds.neighbours_heard_nothing, one_log=True
    ),
    "pseudo-console": Kind(kinds.terminal, "stopped", (CTRL_C,), CLEANED, OWN, more=kinds.neighbours_heard_nothing),
    "cleans-up-for-most-of-the-budget": Kind(
        kinds.console("graceful", LONG_MS), "stopped", (CTRL_C,), CLEANED, OWN, (), LONG, kinds.left_by_itself
    ),
    "takes-back-the-ignoring": Kind(kinds.console("enable"), "stopped", (CTRL_C,), ONE_C, DEFAULT),
    "ignores": _deaf("ignore", OWN_CONSOLE, {}, DEFAULT),
    "ignores-with-handler": _deaf("ignore-handler", OWN_CONSOLE, {"control 1": 1}, DEFAULT),
    "own-group": _deaf("graceful", NEW_GROUP | NO_WINDOW, {"control 1": 1, "stop heard": 1}, OWN),
    "stop-event": Kind(
        kinds.console("event"), "stopped", ("STOP_EVENT delivered",), {"stop heard": 1}, OWN, words=True
    ),
    "stop-event-and-a-long-clean-up": Kind(
        kinds.console("event", LONG_MS), "stopped", ("STOP_EVENT delivered",), {"stop heard": 1}, OWN, options=LONG
    ),
    "stop-event-not-listened-to": Kind(
        kinds.console("event-deaf"), "running", ("STOP_EVENT delivered",), {}, LIVES, ("unacknowledged",)
    ),
    "stop-event-not-acknowledged": Kind(
        kinds.console("event-deaf-ack"), "stopped", ("STOP_EVENT delivered", CTRL_C), {}, DEFAULT
    ),
    "stop-event-of-another-kind": Kind(kinds.console("event-foreign"), "stopped", (CTRL_C,), {}, DEFAULT),
    "waits-for-input": Kind(kinds.console("stdin"), "stopped", (CTRL_C,), {}, DEFAULT),
    "waits-alertably": Kind(kinds.console("apc"), "stopped", (CTRL_C,), {}, DEFAULT),
    "exit-needs-a-held-lock": Kind(kinds.console("hold-section"), "stopped", (CTRL_C,), {}, DEFAULT),
    "exit-needs-a-held-mutex": Kind(kinds.console("hold-mutex"), "stopped", (CTRL_C,), {}, DEFAULT),
    "exit-process-hangs": Kind(
        kinds.console("hold-event"),
        "running",
        ("EXIT_PROCESS delivered",),
        {},
        LIVES,
        ("exit-hangs",),
        ("--plan", "exit-process/1"),
    ),
    "exit-process-hangs-and-terminate-does-not": Kind(
        kinds.console("hold-event"),
        "forced",
        ("EXIT_PROCESS delivered", "TERMINATE delivered"),
        {},
        1,
        options=("--plan", "exit-process/1/terminate"),
    ),
    "exit-hangs": Kind(kinds.console("hold-event"), "running", (CTRL_C,), {}, LIVES, ("handler",)),
    "suspended": Kind(kinds.suspended("etconsole", "none"), "stopped", (CTRL_C,), {}, DEFAULT),
    "suspended-with-handler": Kind(
        kinds.suspended("etconsole", "graceful", 100),
        "running",
        (CTRL_C,),
        ONE_C,
        LIVES,
        ("suspended",),
        more=kinds.cleans_up_when_resumed,
    ),
    "born-suspended": Kind(
        kinds.console("none", 0, OWN_CONSOLE | SUSPENDED),
        "unreachable",
        ("CTRL_C impossible",),
        {},
        LIVES,
        ("suspended", "impossible"),
        wine="Where the DLLs of a new process are mapped before its first thread runs, CTRL_C can be sent to it.",
    ),
}

PY_C = {"KeyboardInterrupt": 1}
PYTHONS = {
    "python": Kind(kinds.python("plain"), "stopped", (CTRL_C,), PY_C, OWN, more=kinds.python_cleaned_up),
    "python-detached": Kind(
        kinds.python("plain", flags=DETACHED), "stopped", (CTRL_C,), PY_C, OWN, more=kinds.python_cleaned_up
    ),
    "python-cleans-up-for-most-of-the-budget": Kind(
        kinds.python("plain", LONG_MS), "stopped", (CTRL_C,), PY_C, OWN, (), LONG, kinds.python_cleaned_up
    ),
    "python-signals": Kind(
        kinds.python("signals"), "stopped", (CTRL_C,), {"signal SIGINT": 1}, OWN, more=kinds.python_cleaned_up
    ),
    "python-main-thread-waits": Kind(kinds.python("deaf-main"), "running", (CTRL_C,), {}, LIVES, ("handler",)),
    "python-handler": Kind(
        kinds.python("handler", 200), "stopped", (CTRL_C,), ONE_C, OWN, more=kinds.python_cleaned_up
    ),
    "python-asyncio": Kind(kinds.python("asyncio"), "stopped", (CTRL_C,), PY_C, OWN, more=kinds.python_cleaned_up),
    "pythonw": Kind(
        kinds.python("plain", program="pythonw", flags=DETACHED),
        "stopped",
        (CTRL_C,),
        PY_C,
        OWN,
        more=kinds.python_cleaned_up,
    ),
    "pythonw-asyncio": Kind(
        kinds.python("asyncio", program="pythonw", flags=DETACHED), "stopped", (CTRL_C,), PY_C, OWN
    ),
}
TREES = {
    "python-tree": Kind(
        kinds.tree("python", "tree", 2),
        "stopped",
        (CTRL_C,),
        {"KeyboardInterrupt": 3},
        OWN,
        more=kinds.children_were_asked,
        with_others=True,
        words=True,
    ),
    "tree-that-leaves-its-children": Kind(
        kinds.tree("ettree", "keep", 2),
        "stopped",
        (CTRL_C,),
        ONE_C,
        OWN,
        more=kinds.children_were_asked,
        with_others=True,
    ),
    "tree-that-ends-its-children": Kind(
        kinds.tree("ettree", "manage", 2),
        "stopped",
        (CTRL_C,),
        ONE_C,
        OWN,
        more=kinds.children_were_left_to_it,
        with_others=True,
    ),
    "tree-that-lives-on": Kind(
        kinds.tree("ettree", "breeder", 2),
        "running",
        (CTRL_C,),
        ONE_C,
        LIVES,
        ("handler", "not-asked", "not-asked", "not-asked"),
        more=kinds.workers_are_left_to_it,
    ),
    "tree-with-a-broken-chain": Kind(
        kinds.chain, "unproven", (CTRL_C,), ONE_C, OWN, ("suspect",), more=kinds.orphans_are_named, words=True
    ),
    "batch-line": Kind(
        lambda s: s.batch(f"{{}} & echo x > {s.lab.folder}\\never-1", "graceful", 200),
        "stopped",
        (CTRL_CLOSE,),
        CLEANED,
        DEFAULT,
        more=kinds.its_child_ended_itself,
        with_others=True,
    ),
    "batch-file": Kind(
        lambda s: s.batch(f"@echo off\n{{}}\necho x > {s.lab.folder}\\never-2\n", "graceful", 200),
        "stopped",
        (CTRL_CLOSE,),
        CLEANED,
        DEFAULT,
        more=kinds.its_child_ended_itself,
        with_others=True,
        words=True,
    ),
}
# One after the other: all of them have the same program and the same parent, so each looks like the successor of another.
SERVICES = {
    "service": Kind(
        kinds.service("stop"), "stopped", ("SERVICE_STOP delivered",), {"control 1": 1}, 0, more=kinds.state(STOPPED)
    ),
    "service-slow": Kind(
        kinds.service("slow", 200),
        "stopped",
        ("SERVICE_STOP delivered",),
        {"control 1": 1},
        0,
        more=kinds.state(STOPPED),
    ),
    "service-that-refuses": Kind(
        kinds.service("refuse"),
        "unreachable",
        ("SERVICE_STOP impossible",),
        {},
        LIVES,
        ("impossible",),
        more=kinds.state(RUNNING),
        words=True,
    ),
    "service-stuck": Kind(
        kinds.service("stuck"),
        "running",
        ("SERVICE_STOP delivered",),
        {"control 1": 1},
        LIVES,
        ("service-stopping",),
        more=kinds.state(STOP_PENDING),
    ),
}
KINDS = {**WINDOWS, **CONSOLES, **PYTHONS, **TREES, **SERVICES}
