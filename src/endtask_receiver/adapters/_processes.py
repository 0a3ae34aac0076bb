"""The workers of a pool, of whichever kind: none hears Ctrl+C, and none outlives its parent."""

from __future__ import annotations

from endtask_receiver import workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def begin_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Be the initializer of a worker, and call another one."""
    workers.initialize()  # from here on Ctrl+C is ignored, and the end of the parent is ours
    if initializer is not None:
        initializer(*initargs)
