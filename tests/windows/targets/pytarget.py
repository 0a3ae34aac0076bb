"""A Python program that the Windows tests stop: `pytarget.py LOG EVENT MODE [NUMBER [TEXT]]`, as the other targets (target.h).

Modes:
    plain      sleeps; KeyboardInterrupt, NUMBER ms of cleaning up, `finally` and `atexit` as Python does them
    signals    handlers for SIGINT and SIGBREAK that make the main loop end
    deaf-main  the same handlers, but the main thread waits where Python cannot run them
    handler    a control handler of its own that holds the event until the main thread has cleaned up
    asyncio    a task that is cancelled
    server     an HTTP server on a free port; the line `ready` names it
    tree       starts NUMBER children in mode `plain`, waits
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
import atexit
import ctypes
import os
import signal
import subprocess
import threading
import time
from ctypes import wintypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

LOG, EVENT, MODE = sys.argv[1:4]
NUMBER = int(sys.argv[4]) if len(sys.argv) > 4 else 0
STOPPED_BY_ITSELF, NOBODY_ENDED_IT = 7, 99

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.OpenEventW.restype = wintypes.HANDLE
_kernel32.OpenEventW.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR)
_kernel32.SetEvent.argtypes = (wintypes.HANDLE,)
_kernel32.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
_control_handler = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)
_kernel32.SetConsoleCtrlHandler.argtypes = (_control_handler, wintypes.BOOL)
_news = _kernel32.OpenEventW(0x2, False, EVENT)  # EVENT_MODIFY_STATE


def say(text: str) -> None:
    """Write one line to the log, then tell that it is there."""
    now = time.time_ns() // 100 + 116_444_736_000_000_000  # FILETIME counts from 1601
    file = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_BINARY)
    os.write(file, f"{now} {threading.get_native_id()} {text}\n".encode())
    os.close(file)
    if _news:
        _kernel32.SetEvent(_news)


def ready(more: str = "") -> None:
    """Tell the laboratory that from now on a request will be heard."""
    say(f"ready pid={os.getpid()}{more}")


def guard() -> None:
    """End this process when the test is over, or after 120 s."""
    end = _kernel32.OpenEventW(0x100000, False, f"{EVENT}.end")  # SYNCHRONIZE
    if end:
        _kernel32.WaitForSingleObject(end, 120_000)
    else:
        time.sleep(120)
    os._exit(NOBODY_ENDED_IT)


stop = threading.Event()


def on_signal(number: int, _: FrameType | None) -> None:
    """Note a signal."""
    say(f"signal {signal.Signals(number).name}")
    stop.set()


def plain() -> None:
    """Sleep until something interrupts."""
    try:
        ready()
        while True:
            time.sleep(1)  # short sleeps: each can be interrupted
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
        time.sleep(NUMBER / 1000)
        sys.exit(STOPPED_BY_ITSELF)
    finally:
        say("finally")


def signals() -> None:
    """Let signal handlers end the main loop."""
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGBREAK, on_signal)
    ready()
    while not stop.wait(0.1):  # a wait without a limit would keep the handler from running
        pass
    sys.exit(STOPPED_BY_ITSELF)


def deaf_main() -> None:
    """Wait where Python runs no signal handlers on Windows."""
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGBREAK, on_signal)
    ready()
    thread = threading.Thread(target=lambda: time.sleep(120), daemon=True)
    thread.start()
    thread.join()


def handler() -> None:
    """Clean up while a control handler holds the event."""

    def on_control(event: int) -> bool:
        say(f"control {event}")
        stop.set()
        if event >= 2:  # after CLOSE, LOGOFF and SHUTDOWN the system ends us when the handler returns
            threading.Event().wait(60)
        return True

    callback = _control_handler(on_control)  # in a variable: it must live as long as it may be called
    _kernel32.SetConsoleCtrlHandler(callback, True)
    ready()
    stop.wait()
    time.sleep(NUMBER / 1000)  # what a real program would save now
    say("cleaned up")
    sys.exit(STOPPED_BY_ITSELF)


def aio() -> None:
    """Let asyncio cancel a task."""

    async def work() -> None:
        try:
            ready(f" loop={type(asyncio.get_running_loop()).__name__}")
            await asyncio.sleep(120)
        except asyncio.CancelledError:
            say("cancelled")
            raise

    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
        sys.exit(STOPPED_BY_ITSELF)


def server() -> None:
    """Serve a folder, as many people do."""
    import http.server

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as service:
        ready(f" port={service.server_address[1]}")
        try:
            service.serve_forever()
        except KeyboardInterrupt:
            say("KeyboardInterrupt")
            sys.exit(STOPPED_BY_ITSELF)


def tree() -> None:
    """Start children, and wait."""
    words = [sys.executable, "-I", "-S", __file__, LOG, EVENT, "plain"]
    children = [subprocess.Popen(words) for _ in range(NUMBER)]
    for child in children:
        say(f"child {child.pid} of {os.getpid()}")
    plain()


if __name__ == "__main__":
    threading.Thread(target=guard, daemon=True).start()
    atexit.register(say, "atexit")
    modes = {"plain": plain, "signals": signals, "deaf-main": deaf_main, "handler": handler}
    modes |= {"asyncio": aio, "server": server, "tree": tree}
    modes[MODE]()
