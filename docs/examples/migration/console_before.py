"""A control handler of Windows, set by SetConsoleCtrlHandler."""

from __future__ import annotations

import ctypes
import sys
import threading
from ctypes import wintypes

assert sys.platform == "win32"

asked = threading.Event()
finished = threading.Event()


@ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)
def on_event(event: int) -> bool:
    asked.set()
    if event >= 2:  # close, logoff, shutdown: when this returns, the system ends the process
        finished.wait(4.5)
    return True


ctypes.windll.kernel32.SetConsoleCtrlHandler(on_event, True)
print("ready", flush=True)
while not asked.wait(1):  # a wait without a limit would not let Ctrl+C through
    pass
print("saved", flush=True)
finished.set()
