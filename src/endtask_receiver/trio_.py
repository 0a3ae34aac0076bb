"""trio: await the request, and be cancelled by it.

`await stop` and `async for request in stop` need nothing of this module.
Listen with `watch=False`: trio has the wake-up descriptor itself, and warns if it is not the only one.
"""

from __future__ import annotations

import trio

from endtask_receiver import _loops
from endtask_receiver._loops import asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._stop import Stop

__all__ = ["asked", "cancel_on_stop", "wait"]


async def wait(stop: Stop, timeout_s: float | None = None) -> bool:
    """Wait until somebody asks; at most so many seconds. Returns whether somebody has."""
    with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
        await asked(stop)
    return stop.asked


class cancel_on_stop(_loops.Scope):  # noqa: N801  # used like a function
    """A cancel scope that somebody's request cancels: `with cancel_on_stop(stop): ...`, which gives the scope, and ends without an error."""

    _library = trio
    if TYPE_CHECKING:

        def __enter__(self) -> trio.CancelScope: ...
