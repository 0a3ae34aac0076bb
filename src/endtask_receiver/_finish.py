"""How the process ends, so that its exit status tells the truth.

Decision: who was ended by a signal dies by that signal (`WIFSIGNALED`), because that is what a parent asks:
a shell stops its loop after Ctrl+C only then (bash; with status 130 it goes on, measured), and systemd counts a death by TERM as clean and a status of 143 not.
A shell shows the death by TERM as 143 all the same.
Before it dies, the interpreter ends in the usual way: `finally`, threads joined, `atexit`, output flushed.
So the signal is sent at the very end, by an object that lives in `sys` and is destroyed when the interpreter empties that module, the last of all.
Rejected: an `atexit` callback (those that were registered before it would not run: `logging`, `multiprocessing`),
and exit statuses above 128 in general (not a death, see above; `finish("status")` for those who want them, and for process 1 of a container, whom no default action ends).
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop

FORCED = 0xC000013A - (
    1 << 32
)  # STATUS_CONTROL_C_EXIT, as a signed number: what Windows says of a program that Ctrl+C ended
_MAIN_THREAD_S = 0.2  # so long the main thread gets to die by the signal itself
_KEPT = "_endtask_receiver_death"


def finish(stop: Stop, how: int | str | None = None) -> NoReturn:
    """Run the cleanup and end the process; `finally` blocks and `atexit` functions run.

    Requests are heard until the interpreter is gone: a second one changes nothing, a third one ends the process at once.

    Args:
        stop: What was heard.
        how: None for the truth: death by the signal that asked, else 0. `signal` and `status` choose how that death is told:
            by dying, or by 128 + its number. A number is an exit status.

    Raises:
        SystemExit: Always.
        ValueError: *how* is none of these.
    """
    status, number = status_of(stop, how)
    stop._unwind()
    stop._stay()
    if number and sys.platform != "win32":
        die_at_end(number)
    raise SystemExit(status)


def die_at_end(number: int) -> None:
    """Have the interpreter die by a signal when all else is done, whatever its exit status would be."""
    setattr(sys, _KEPT, _Death(number))


def status_of(stop: Stop, how: int | str | None) -> tuple[int, int]:
    """Return the exit status, and the number of the signal to die by, 0 for none.

    Raises:
        ValueError: *how* is neither a status nor a word that we know.
    """
    if isinstance(how, int):
        return how, 0
    if how not in {None, "signal", "status"}:
        raise ValueError(f"how is `signal`, `status` or an exit status; got {how!r}")
    if sys.platform == "win32":
        from endtask_receiver import _win_finish

        return _win_finish.status_of(stop.request, how), 0
    number = _number(stop.request)
    return (128 + number if number else 0), (number if how != "status" and number in _fatal() else 0)


def _number(request: StopRequest | None) -> int:
    """Return the number of the signal that asked, 0 if it was none."""
    if request is None or request.channel != "signal":
        return 0
    import signal

    found = getattr(signal, request.name, None)
    if found is not None:
        return int(found)
    return int(request.name.rsplit(" ", 1)[-1])  # a real-time signal, see _posix


def _fatal() -> frozenset[int]:
    """Return the signals whose default action ends a process without a core file, signal(7)."""
    import signal

    names = ("HUP", "INT", "PIPE", "ALRM", "TERM", "USR1", "USR2", "PROF", "VTALRM", "IO", "PWR", "STKFLT")
    return frozenset(int(getattr(signal, "SIG" + n)) for n in names if hasattr(signal, "SIG" + n))


class _Death:
    """Dies by a signal when it is destroyed, at the very end of the interpreter; if that fails, the exit status says 128 + number."""

    def __init__(self, number: int) -> None:
        import signal

        self._number = number
        # Everything that is needed then is held here: modules are empty by that time.
        self._process = os.getpid()
        self._getpid = os.getpid
        self._kill = os.kill
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))

    def __del__(self) -> None:
        # The interpreter has set all handlers to the default action before it empties the modules.
        if self._getpid() == self._process:  # not in a forked child
            self._kill(self._process, self._number)


def exit_now(request: StopRequest) -> None:
    """End the process without anything else; from anywhere, also from a handler. No I/O, no locks, no cleanup: it was asked three times."""
    number = _number(request)
    if sys.platform == "win32":
        os._exit(FORCED)
    if number:
        die_by(number)
    os._exit(128 + (number or 15))  # asked by other means: what a shell says of TERM


def die_by(number: int) -> None:
    """Die by a signal, as if nobody handled it. Returns only for process 1 of a container, which no default action ends."""
    import signal

    try:
        signal.signal(number, signal.SIG_DFL)
    except ValueError:
        # Only the main thread can do that. Its handler is called once more, and sees that the process ends; it may be in a long call.
        os.kill(os.getpid(), number)
        never = allocate_lock()
        never.acquire()
        never.acquire(timeout=_MAIN_THREAD_S)
        return
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
