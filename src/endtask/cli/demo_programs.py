"""The sample programs of `endtask demo`; started by path, one process each, never imported by endtask.

Each has a session of its own, says `ready NAME PID` when it can be asked, and ends by itself after two minutes, whatever happens (alarm(2)).
`stage` starts them on request and reaps them, so that none stays behind as a zombie of the demonstration.
"""

from __future__ import annotations

import os
import select
import signal
import sys

assert sys.platform == "linux"  # /proc/self/comm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

LONGEST_S = 120
SLOW_S = 2.5


def polite() -> NoReturn:
    """Exits as soon as it is asked."""
    signal.signal(signal.SIGTERM, _exit)
    _ready("polite")
    _for_ever()


def slow() -> NoReturn:
    """Needs two and a half seconds to put its work away."""

    def finish(_number: int, _frame: FrameType | None) -> None:
        signal.sigtimedwait([], SLOW_S)  # stands for writing out what is in memory
        sys.exit(0)

    signal.signal(signal.SIGTERM, finish)
    _ready("slow")
    _for_ever()


def stubborn() -> NoReturn:
    """Ignores TERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _ready("stubborn")
    _for_ever()


def family() -> NoReturn:
    """Has a child that leaves for a session of its own, and exits without a word to it."""
    signal.signal(signal.SIGTERM, _exit)
    _start("runaway")
    _ready("family")
    _for_ever()


def runaway() -> NoReturn:
    """The child of `family`: in its own session, where signals to its family's group do not reach it."""
    _ready("runaway")
    _for_ever()


def supervisor() -> NoReturn:
    """Starts its worker again whenever it ends."""
    worker = 0

    def finish(_number: int, _frame: FrameType | None) -> None:
        if worker:
            os.kill(worker, signal.SIGTERM)  # our own child, not reaped yet: the pid is its own
        sys.exit(0)

    signal.signal(signal.SIGTERM, finish)
    _ready("supervisor")
    while True:
        worker = _start("worker")
        os.waitpid(worker, 0)
        worker = 0


def worker() -> NoReturn:
    """The child of `supervisor`."""
    signal.signal(signal.SIGTERM, _exit)
    _ready("worker")
    _for_ever()


def stage() -> NoReturn:
    """Start a program for each name on standard input; end them all with it."""
    children: set[int] = set()

    def reap(_number: int, _frame: FrameType | None) -> None:
        for pid in list(children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                children.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        # A child that ends before its pid is noted would be missed by the handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        children.add(_start(line.strip()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # our own children, not reaped yet: the demonstration was cut short
    sys.exit(0)


PROGRAMS = {p.__name__: p for p in (polite, slow, stubborn, family, runaway, supervisor, worker, stage)}


def _start(name: str) -> int:
    # POSIX's default signal mask for the child: the one of `stage` has SIGCHLD blocked at this moment.
    return os.posix_spawn(sys.executable, [sys.executable, "-I", __file__, name], os.environ, setsigmask=[])


def _ready(name: str) -> None:
    """Tell the demonstration that the program can be asked now, in one write."""
    os.write(1, f"ready {name} {os.getpid()}\n".encode())


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _for_ever() -> NoReturn:
    # Woken by the system: a handler of Python's is late for a signal that comes just before the call.
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    signal.set_wakeup_fd(sink)
    while True:
        select.select([source], [], [])
        os.read(source, 1)


def main(name: str) -> None:
    """Become the program of that name."""
    signal.alarm(LONGEST_S)
    if name != "stage":  # the stage got its session from who started it
        os.setsid()
        with open(
            "/proc/self/comm", "w", encoding="ascii"
        ) as comm:  # proc_pid_comm(5): a name that tells in every list
            comm.write(f"demo-{name}")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    PROGRAMS[name]()


if __name__ == "__main__":
    main(sys.argv[1])
