"""What a forked child hears.

Decision: nothing, unless it was said otherwise: its dispositions are what they were before `listen`, and its copy of the object is as if nobody had asked.
Signals are held back around the fork, so that none meets the child while it still has the handlers of its parent:
it would write into the wake-up descriptor that both share, and the *parent* would take itself for asked (CPython 3.10 and 3.11, measured).

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

WORDS = ("inert", "forward")

# What is installed in a process belongs to the process, like the table of handlers itself; `os.register_at_fork` cannot be undone.
_ears: list[ForkedEar] = []
_masks: dict[int, Iterable[int]] = {}  # of the threads that are in a fork
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


def _before() -> None:
    numbers = {n for ear in tuple(_ears) for n in ear.previous}
    if numbers:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    ears, _ears[:] = tuple(_ears), ()
    begin = [ear.in_child() for ear in reversed(ears)]  # the inner ones first, as they would be closed
    for stop in {id(ear.stop): ear.stop for ear in ears}.values():
        stop._in_child()
    for again in begin:
        if again is not None:
            again()
    mask = _masks.get(get_ident())
    _masks.clear()
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
