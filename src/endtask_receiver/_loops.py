"""Which event loop runs here? Only a program that has imported trio can run in it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop


def in_trio() -> bool:
    """Return whether trio runs the task that asks."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def asked(stop: Stop) -> Coroutine[Any, Any, StopRequest]:
    """Return what waits until somebody asks."""
    if in_trio():
        from endtask_receiver import trio_

        return trio_.asked(stop)
    from endtask_receiver import aio

    return aio.asked(stop)


async def requests(stop: Stop) -> AsyncIterator[StopRequest]:
    """Yield every distinct request; it never ends by itself."""
    if in_trio():
        from endtask_receiver import trio_ as loop
    else:
        from endtask_receiver import aio as loop  # type: ignore[no-redef]  # the same functions for another loop
    seen = 0
    with loop.Bell(stop) as bell:
        while True:
            if stop._settle is not None:
                stop._settle()
            counted = stop._counted[seen:]
            for request in counted:
                yield request
            seen += len(counted)
            if len(stop._counted) <= seen:
                await bell.wait()
