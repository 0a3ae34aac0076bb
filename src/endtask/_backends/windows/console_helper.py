"""Borrows the console of another process for a moment: a program of its own, started by `console.py` and imported by nobody.

    python -I -S console_helper.py PID EVENT SPARED ALLOWED LEADERS

It joins the console of PID, lists who is on it, and unless that list names somebody who must not be hit, generates EVENT for everybody there.

    PID      a process on the console
    EVENT    0 (Ctrl+C), 1 (Ctrl+Break), or - to list only
    SPARED   pids joined by commas: if one of them is on the console, nothing is generated
    ALLOWED  pids joined by commas: if anybody else is on the console, nothing is generated; - for no limit
    LEADERS  pids joined by commas that may lead the process group of PID; only Wine needs them

Answers are lines on standard output, each written at once, so that the starter knows how far it came whatever happens to it:

    attach ERROR       AttachConsole failed
    list PID...        who is on the console, this program left out
    refused PID...     who must not be hit; nothing was generated
    generating         about to: whoever finds no further line knows that the event may be on its way
    generate ERROR     GenerateConsoleCtrlEvent; 0 when it worked
    heard              the event has come round to this program, so it has been dispatched

Why a program of its own: whoever joins a console leaves his own, loses his control handlers (AttachConsole page: the table is reset), and is hit by the event himself.
This program is started without a console, so nothing is lost, and it takes the event as handled.
It is started in a process group of its own, too: until its handler stands, it ignores Ctrl+C.

Newest first: the system asks the members of a console in that order (microsoft/terminal, src/host/input.cpp), and this program is the newest.
It must not end before it was asked: old versions of Windows break off the round at a member that has gone (same source, commit 09d8ac44ad).
"""

from __future__ import annotations

import ctypes
import sys
import threading

assert sys.platform == "win32"

_WAIT_S = 1.0  # for our own turn; it takes milliseconds
_FIRST = 64  # pids; more are asked for when there are more

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_Handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)
_kernel32.SetConsoleCtrlHandler.argtypes = (_Handler, ctypes.c_int)
_kernel32.AttachConsole.argtypes = (ctypes.c_ulong,)
_kernel32.GenerateConsoleCtrlEvent.argtypes = (ctypes.c_ulong, ctypes.c_ulong)
_kernel32.GetConsoleProcessList.argtypes = (ctypes.c_void_p, ctypes.c_ulong)
_kernel32.GetConsoleProcessList.restype = ctypes.c_ulong


def say(*words: object) -> None:
    """Write one line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def pids_of(text: str) -> set[int]:
    """Return the numbers in a list joined by commas."""
    return {int(word) for word in text.split(",") if word and word != "-"}


def members(own: int) -> list[int]:
    """Return who is on the console, newest first, without *own*."""
    room = _FIRST
    while True:
        found = (ctypes.c_ulong * room)()
        count = int(_kernel32.GetConsoleProcessList(found, room))
        if count <= room:  # else it says how many there are and fills nothing
            return [pid for pid in found[:count] if pid != own]
        room = count + _FIRST


def generate(event: int, groups: list[int]) -> int:
    """Generate *event* for each of *groups*; return the first error, 0 if there was none."""
    errors = []
    for group in groups:
        ctypes.set_last_error(0)
        done = _kernel32.GenerateConsoleCtrlEvent(event, group)
        errors.append(0 if done else ctypes.get_last_error())
    return errors[0]


def groups_of(there: list[int], leaders: set[int]) -> list[int]:
    """Return the groups that make up the whole console.

    Windows: group 0, which is everybody on it. Never a pid: one that leads no group counts as 0 again, and hits everybody twice (microsoft/terminal#335).
    Wine: 0 is the caller's own group only, which here is this program (server/console.c); the others are reached by the pids of their leaders,
    and a pid that leads no group on this console reaches nobody.
    """
    is_wine = hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
    return [0, *sorted(leaders.union(there))] if is_wine else [0]


def main(pid: int, event: str, spared: set[int], allowed: set[int] | None, leaders: set[int]) -> int:
    """Do it; see the module's description."""
    heard = threading.Event()

    def take(_event: int) -> int:
        heard.set()
        return 1  # handled

    handler = _Handler(take)  # a name of its own: it must live as long as the program
    _kernel32.FreeConsole()  # we should have none; if we do, it is not the one that was meant
    if not _kernel32.AttachConsole(pid):
        say("attach", ctypes.get_last_error())
        return 1
    _kernel32.SetConsoleCtrlHandler(handler, True)  # after AttachConsole, which empties the table
    _kernel32.SetConsoleCtrlHandler(
        _Handler(), False
    )  # NULL; a group of its own ignores Ctrl+C; now we want to hear it
    own = _kernel32.GetCurrentProcessId()
    there = members(own)
    say("list", *there)
    if event == "-":
        return 0
    hit = [p for p in there if p in spared or (allowed is not None and p not in allowed)]
    if hit:
        say("refused", *hit)
        return 1
    say("generating")
    error = generate(int(event), groups_of(there, leaders))
    say("generate", error)
    if not error and heard.wait(_WAIT_S):
        say("heard")
    return 0


if __name__ == "__main__":
    target, wanted, *lists = sys.argv[1:]
    limit = None if lists[1] == "-" else pids_of(lists[1])
    sys.exit(main(int(target), wanted, pids_of(lists[0]), limit, pids_of(lists[2])))
