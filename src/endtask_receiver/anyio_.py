"""anyio: await the request, and be cancelled by it, in whichever loop anyio runs.

Under trio listen with `watch=False`, see `trio_`.
"""

from __future__ import annotations

import anyio

from endtask_receiver import _loops
from endtask_receiver._loops import asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._stop import Stop

__all__ = ["asked", "cancel_on_stop", "wait"]


async def wait(stop: Stop, timeout_s: float | None = None) -> bool:
    """Wait until somebody asks; at most so many seconds. Returns whether somebody has."""
    with anyio.move_on_after(timeout_s):
        await asked(stop)
    return stop.asked


class cancel_on_stop(_loops.Scope):  # noqa: N801  # used like a function
    """A cancel scope that somebody's request cancels: `with cancel_on_stop(stop): ...`, which gives the scope, and ends without an error."""

    _library = anyio
    if TYPE_CHECKING:

        def __enter__(self) -> anyio.CancelScope: ...
