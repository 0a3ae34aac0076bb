"""A handler that sets a flag, as it should, and a program that sees it late: after the signal Python goes on with the call."""

from __future__ import annotations

import os
import signal
import threading
import time

from endtask_receiver import listen

SOON_S = 0.5
NAP_S = 2.0
LONG_S = 60.0  # that this one is left is seen however busy the machine is


def ask_soon() -> float:
    """Have this process asked in a moment; return when."""
    threading.Timer(SOON_S, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return time.monotonic() + SOON_S


asked = False


def on_request(_number: int, _frame: object) -> None:
    """Set the flag."""
    global asked  # noqa: PLW0603  # that is how it is done
    asked = True


signal.signal(signal.SIGTERM, on_request)
at = ask_soon()
while not asked:
    time.sleep(NAP_S)
print(
    "a flag and time.sleep: seen at once" if time.monotonic() - at < NAP_S / 2 else "a flag and time.sleep: seen late"
)
signal.signal(signal.SIGTERM, signal.SIG_DFL)

with listen() as stop:
    at = ask_soon()
    while not stop:
        stop.nap(LONG_S)
    print("stop.nap: seen at once" if time.monotonic() - at < LONG_S / 2 else "stop.nap: seen late")
