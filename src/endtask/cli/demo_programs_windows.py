"""The sample programs of `endtask demo` on Windows; started by path, one process each, never imported by endtask.

They do what those of `demo_programs.py` do: each has a console of its own (without a window), says `ready NAME PID` when it can be asked,
and ends by itself after two minutes, whatever happens. `stage` starts them on request.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from ctypes import wintypes

assert sys.platform == "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LONGEST_S = 120
SLOW_S = 2.5
_NO_WINDOW = 0x08000000  # CREATE_NO_WINDOW
_CTRL_C = 0
_WAIT_OBJECT_0, _FIRST_OF_ANY = 0, False

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.CreateEventW.restype = wintypes.HANDLE
_kernel32.SetEvent.argtypes = (wintypes.HANDLE,)
_kernel32.WaitForMultipleObjects.argtypes = (
    wintypes.DWORD,
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.BOOL,
    wintypes.DWORD,
)
_HANDLER = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)
_kernel32.SetConsoleCtrlHandler.argtypes = (ctypes.c_void_p, wintypes.BOOL)

_asked = _kernel32.CreateEventW(None, True, False, None)


def polite() -> NoReturn:
    """Exits as soon as it is asked."""
    _hear()
    _ready("polite")
    _wait()
    sys.exit(0)


def slow() -> NoReturn:
    """Needs two and a half seconds to put its work away."""
    _hear()
    _ready("slow")
    _wait()
    threading.Event().wait(SLOW_S)  # stands for writing out what is in memory
    sys.exit(0)


def stubborn() -> NoReturn:
    """Ignores Ctrl+C, and does nothing at any other event."""
    _kernel32.SetConsoleCtrlHandler(None, True)  # "SetConsoleCtrlHandler": the attribute that children inherit
    _set_handler(_DEAF)
    _ready("stubborn")
    _wait()
    sys.exit(0)


def family() -> NoReturn:
    """Has a child that leaves for a console of its own, and exits without a word to it."""
    _hear()
    _start("runaway")
    _ready("family")
    _wait()
    sys.exit(0)


def runaway() -> NoReturn:
    """The child of `family`: on its own console, where events for its family's do not reach it."""
    _hear()
    _ready("runaway")
    _wait()
    sys.exit(0)


def supervisor() -> NoReturn:
    """Starts its worker again whenever it ends."""
    _hear()
    _ready("supervisor")
    while True:
        child = _start("worker", stdin=subprocess.PIPE)
        handle = int(child._handle)  # type: ignore[attr-defined]  # noqa: SLF001  # one wait for it and for being asked
        if _wait(handle) != _WAIT_OBJECT_0 + 1:
            if child.stdin is not None:
                child.stdin.close()  # its sign to end
            child.wait()
            sys.exit(0)


def worker() -> NoReturn:
    """The child of `supervisor`; ends when it is asked, and when its supervisor says so or has gone."""
    _hear()
    threading.Thread(target=_end_with_input, daemon=True).start()
    _ready("worker")
    _wait()
    sys.exit(0)


def stage() -> NoReturn:
    """Start a program for each name on standard input; end them all with it."""
    children = [_start(line.strip()) for line in sys.stdin]
    for child in children:
        child.kill()  # our own children, by their handles: the demonstration was cut short
    sys.exit(0)


PROGRAMS = {p.__name__: p for p in (polite, slow, stubborn, family, runaway, supervisor, worker, stage)}


def _start(name: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    # An option that means nothing to Python: all of them are called python.exe, and this stands where every list shows it.
    words = [sys.executable, "-I", "-X", f"demo={name}", os.path.abspath(__file__), name]
    return subprocess.Popen(words, stdin=stdin, stdout=1, stderr=subprocess.DEVNULL, creationflags=_NO_WINDOW)


def _hear() -> None:
    """Let Ctrl+C end `_wait`; what else comes is left to whoever is next, "HandlerRoutine"."""
    _set_handler(_NOTE)


def _note(event: int) -> bool:
    if event == _CTRL_C:
        _kernel32.SetEvent(_asked)
    return event == _CTRL_C


def _deaf(_event: int) -> bool:
    return True


_NOTE, _DEAF = _HANDLER(_note), _HANDLER(_deaf)  # kept, because Windows calls them


def _set_handler(handler: ctypes._FuncPointer) -> None:
    _kernel32.SetConsoleCtrlHandler(ctypes.cast(handler, ctypes.c_void_p), True)


def _wait(*handles: int) -> int:
    """Wait until we are asked (0) or the first handle is signalled (1), at most for two minutes."""
    every = (wintypes.HANDLE * (1 + len(handles)))(_asked, *handles)
    found: int = _kernel32.WaitForMultipleObjects(len(every), every, _FIRST_OF_ANY, LONGEST_S * 1000)
    return found


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    _kernel32.SetEvent(_asked)


def _ready(name: str) -> None:
    """Tell the demonstration that the program can be asked now, in one write."""
    os.write(1, f"ready {name} {os.getpid()}\n".encode())


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
