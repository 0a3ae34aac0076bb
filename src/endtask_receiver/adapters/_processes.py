"""The workers of a pool, of whichever kind: none hears Ctrl+C, and none outlives its parent."""

from __future__ import annotations

import signal
import sys

from endtask_receiver import workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class NoInterrupt:
    """Holds Ctrl+C back in this thread while it starts processes, so that none of them hears it before it can ignore it.

    They inherit the mask, through `exec` too. Windows has no masks: a worker that starts just then ends with a traceback there.
    """

    def __enter__(self) -> None:
        if sys.platform != "win32":
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_error: object) -> None:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def begin_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Be the initializer of a worker, and call another one."""
    workers.initialize()  # from here on Ctrl+C is ignored, and the end of the parent is ours
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if initializer is not None:
        initializer(*initargs)
