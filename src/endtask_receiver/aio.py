"""asyncio: await the request, and be cancelled by it.

`await stop` and `async for request in stop` need nothing of this module.

Decision: `loop.add_signal_handler` is not used: it takes the handlers of others away without a word, Windows has none, and a forked child stays deaf with it (CPython 3.9-3.13).
"""

from __future__ import annotations

import asyncio

from endtask_receiver import _loops
from endtask_receiver._loops import asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from endtask_receiver._stop import Stop

__all__ = ["asked", "cancel_on_stop", "wait"]


async def wait(stop: Stop, timeout_s: float | None = None) -> bool:
    """Wait until somebody asks.

    Args:
        stop: What hears.
        timeout_s: At most so long; None for as long as it takes.

    Returns:
        Whether somebody has asked.
    """
    try:
        await asyncio.wait_for(asked(stop), timeout_s)
    except asyncio.TimeoutError:
        pass  # ignored: that is the answer
    return stop.asked


class cancel_on_stop(_loops.Canceller):  # noqa: N801  # used like a function
    """Cancel what is in the block of `async with cancel_on_stop(stop):` when somebody asks; the block then ends without an error.

    Attributes:
        cancelled: Whether that has happened.
    """

    def __init__(self, stop: Stop, when: str = "asked") -> None:
        super().__init__(stop, when)
        self.cancelled = False
        self._open = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object]

    async def __aenter__(self) -> cancel_on_stop:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._open = True
        self._begin()
        return self

    def _cancel(self) -> None:
        if self._open and not self.cancelled:
            self.cancelled = True
            self._task.cancel()

    def _limit(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if seconds <= 0:
            self._cancel()
        elif self._open:
            # The deadline may move while we wait: look again then.
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._open = False
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        if not self.cancelled:
            return False
        uncancel = getattr(self._task, "uncancel", None)  # COMPAT: Python 3.11 counts who cancels
        others = uncancel is not None and uncancel() > 0
        return kind is not None and issubclass(kind, asyncio.CancelledError) and not others
