"""What a forked child hears.

Decision: nothing, unless it was said otherwise: its dispositions are what they were before `listen`, and its copy of the object is as if nobody had asked.
Signals are held back around the fork, so that none meets the child while it still has the handlers of its parent:
it would write into the wake-up descriptor that both share, and the *parent* would take itself for asked (CPython 3.10 and 3.11, measured).

Our threads pause meanwhile: no child inherits what they hold.
(Python 3.13 warns of a fork beside threads all the same: it counts them when they run again; 3.12 counts before.)

A child that is started by `exec` needs nothing of this: handlers do not survive it, and our descriptors are closed by it.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import signal
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask_receiver._ear import ForkedEar
    from endtask_receiver._watcher import Watcher

WORDS = ("inert", "forward")

# What is installed in a process belongs to the process, like the table of handlers itself; `os.register_at_fork` cannot be undone.
_ears: list[ForkedEar] = []
_held: dict[
    int, tuple[Iterable[int], list[Watcher]]
] = {}  # by threads that are in a fork: their masks, and whom they have paused
_registered: list[bool] = []


def checked(fork: str) -> str:
    """Return the word if it is one.

    Raises:
        ValueError: It is none.
    """
    if fork not in WORDS:
        raise ValueError(f"fork is {' or '.join(WORDS)}; got {fork!r}")
    return fork


def enter(ear: ForkedEar) -> None:
    """Have an ear looked after at forks."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    _ears.append(ear)


def leave(ear: ForkedEar) -> None:
    """Undo `enter`."""
    if ear in _ears:
        _ears.remove(ear)


def every_signal() -> set[int]:
    """Return all signals: what a thread blocks that is not to be interrupted by any."""
    return {int(n) for n in signal.valid_signals()}


def _watchers() -> list[Watcher]:
    found = [getattr(ear, "watcher", None) for ear in tuple(_ears)]
    return [each for each in found if each is not None]


def _before() -> None:
    numbers = {n for ear in tuple(_ears) for n in ear.previous}
    watchers = _watchers()
    _held[get_ident()] = (signal.pthread_sigmask(signal.SIG_BLOCK, numbers), watchers)
    for watcher in watchers:
        watcher.pause()


def _in_parent() -> None:
    mask, watchers = _held.pop(get_ident())
    for watcher in watchers:
        watcher.resume()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    ears, _ears[:] = tuple(_ears), ()
    begin = [ear.in_child() for ear in reversed(ears)]  # the inner ones first, as they would be closed
    for stop in {id(ear.stop): ear.stop for ear in ears}.values():
        stop._in_child()
    for again in begin:
        if again is not None:
            again()
    mask, _watchers_of_the_parent = _held[get_ident()]
    _held.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
