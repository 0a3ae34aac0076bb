"""A traceback out of a handler that only wants to print a line: it has interrupted the main thread in the middle of the same."""

from __future__ import annotations

import os
import signal

log = open(os.devnull, "w")  # noqa: SIM115  # as long as the program


def on_request(_number: int, _frame: object) -> None:
    """Say that we have heard."""
    print("stopping ...", file=log, flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0.001)  # that went well; so once more


signal.signal(signal.SIGALRM, on_request)  # a timer in place of a request
signal.setitimer(signal.ITIMER_REAL, 0.001)
while True:
    print("working", file=log, flush=True)
