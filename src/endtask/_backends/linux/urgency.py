"""Runs us before a tree that is to end.

Decision: the lowest real-time priority for the moment of force, where that is allowed (CAP_SYS_NICE, RLIMIT_RTPRIO).
A tree that forks at full rate starves everybody else: with 500 forking processes on two processors one look at them took 11 seconds, and 0.05 so.
The kernel leaves 5 % of the time to all others, sched(7), "Limiting the CPU usage of real-time and deadline processes".
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"


class Urgency:
    """Runs the calling thread at real-time priority from now on, until `end`; nothing changes where that is not allowed."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: tuple[int, os.sched_param] | None = None
        try:
            policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
            if policy in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
                self._before = policy, parameter
        except (OSError, AttributeError):
            return  # ignored: not allowed, or a C library without it (musl): then it takes longer

    def end(self) -> None:
        """Go back to what was before; calling it twice is allowed."""
        before, self._before = self._before, None
        if before is not None:
            try:
                os.sched_setscheduler(0, *before)
            except PermissionError:
                return  # ignored: our rights were dropped meanwhile
