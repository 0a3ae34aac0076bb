"""asyncio: await the request, and be cancelled by it.

`await stop` and `async for request in stop` need nothing of this module.

Decision: the loop is woken by `call_soon_threadsafe`, from wherever the request was heard; it takes no lock, so that it may be called in a handler.
`loop.add_signal_handler` is not used: it takes the handlers of others away without a word, Windows has none, and a forked child stays deaf with it (CPython 3.9-3.13).
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop

WHEN = ("asked", "hurry", "deadline")


class Bell:
    """Rings in the running loop whenever there is something new. A context manager, in the task that waits."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __enter__(self) -> Bell:
        self._stop.add_waker(self._ring)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.remove_waker(self._ring)

    def _ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            pass  # ignored: the loop is closed, and nobody waits in it any more

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._event.wait()
        self._event.clear()


async def asked(stop: Stop) -> StopRequest:
    """Wait until somebody asks; the same as `await stop`."""
    with Bell(stop) as bell:
        while not stop.asked:
            await bell.wait()
    request = stop.request
    assert request is not None
    return request


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


class cancel_on_stop:  # noqa: N801  # used like a function
    """Cancel what is in this block when somebody asks; the block then ends without an error.

        async with cancel_on_stop(stop):
            await serve_forever()
        # here: stopped

    Attributes:
        cancelled: Whether that has happened.
    """

    def __init__(self, stop: Stop, when: str = "asked") -> None:
        """Prepare.

        Args:
            stop: What hears.
            when: `asked`; `hurry`, at a second request or the deadline; `deadline`, when the time is over, whatever comes.

        Raises:
            ValueError: *when* is none of these.
        """
        if when not in WHEN:
            raise ValueError(f"when is one of {', '.join(WHEN)}; got {when!r}")
        self.cancelled = False
        self._stop = stop
        self._when = when
        self._open = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[object]

    async def __aenter__(self) -> cancel_on_stop:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._stop.add_waker(self._wake)
        return self

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            pass  # ignored: the loop is closed, and with it the block

    def _look(self) -> None:
        if not self._open or self.cancelled:
            return
        stop = self._stop
        if self._when == "asked" or (self._when == "hurry" and stop.hurry) or stop.left() <= 0:
            self.cancelled = True
            self._task.cancel()
        elif self._timer is None or self._timer.cancelled():
            # The deadline may move while we wait: look again then.
            self._timer = self._loop.call_later(stop.left(), self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._open = False
        self._stop.remove_waker(self._wake)
        if self._timer is not None:
            self._timer.cancel()
        if not self.cancelled:
            return False
        uncancel = getattr(self._task, "uncancel", None)  # COMPAT: Python 3.11 counts who cancels
        others = uncancel is not None and uncancel() > 0
        return kind is not None and issubclass(kind, asyncio.CancelledError) and not others
