"""The end of a loop that is ours: what does not end is left behind at the deadline.

`asyncio.run` and `asyncio.Runner` cancel what still runs, and then wait for it without a limit: one coroutine that swallows its cancellation
would keep the process for ever.

Decision: they look for it in the list of all tasks, so what has not ended at the deadline is taken out of that list, by the function that
asyncio has for loops of other makes ("Extending" in its documentation). Rejected: a loop that is run without either of them, because they
know what else there is to close, and it is more with every version of Python.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from endtask_receiver._stop import Stop

_LAST_S = 0.1  # even if the deadline is over: most need less


async def all_by_the_deadline(serving: Coroutine[Any, Any, None], stop: Stop) -> None:
    """Await it, as the main task of a loop; if somebody has asked, nothing that it has begun keeps the loop beyond the deadline."""
    try:
        await serving
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if stop.asked and others:
            for task in others:
                task.cancel()
            _ended, left = await asyncio.wait(others, timeout=max(stop.left(), _LAST_S))
            for task in left:
                asyncio._unregister_task(task)
