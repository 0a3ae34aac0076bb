"""What the event loops have in common: awaiting a request, iterating over requests, cancelling a block.

Decision: a loop is woken by the one call of its own that may come from a signal handler:
asyncio's `call_soon_threadsafe`, which takes no lock, and trio's `TrioToken.run_sync_soon`, which trio documents as safe there.

Which loop runs here? Only a program that has imported trio can run in it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop

WHEN = ("asked", "hurry", "deadline")


def _trio() -> Any:
    """Return the module if trio runs the task that asks, else None."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


def running() -> tuple[Callable[[Callable[[], object]], None], Callable[[], float]]:
    """Return what has something called in the thread of the running loop, to be used from anywhere; and the loop's clock."""
    call: Callable[[Callable[[], object]], object]
    clock: Callable[[], float]
    trio = _trio()
    if trio is not None:
        call, clock = trio.lowlevel.current_trio_token().run_sync_soon, trio.current_time
    else:
        import asyncio

        loop = asyncio.get_running_loop()
        call, clock = loop.call_soon_threadsafe, loop.time

    def soon(function: Callable[[], object]) -> None:
        try:
            call(function)
        except RuntimeError:
            pass  # ignored: the loop has ended (trio's RunFinishedError is one, too), and nobody waits in it any more

    return soon, clock


class Bell:
    """Rings in the running loop whenever there is something new. A context manager, in the task that waits."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._soon, _clock = running()
        self._event = _event()

    def __enter__(self) -> Bell:
        self._stop.add_waker(self._wake)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.remove_waker(self._wake)

    def _wake(self) -> None:
        self._soon(self._ring)

    def _ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._event.wait()
        self._event = _event()  # trio's cannot be cleared


def _event() -> Any:
    trio = _trio()
    if trio is not None:
        return trio.Event()
    import asyncio

    return asyncio.Event()


async def asked(stop: Stop) -> StopRequest:
    """Wait until somebody asks; the same as `await stop`."""
    with Bell(stop) as bell:
        while not stop.asked:
            await bell.wait()
    request = stop.request
    assert request is not None
    return request


async def requests(stop: Stop) -> AsyncIterator[StopRequest]:
    """Yield every distinct request; it never ends by itself."""
    seen = 0
    with Bell(stop) as bell:
        while True:
            if stop._settle is not None:
                stop._settle()
            counted = stop._counted[seen:]
            for request in counted:
                yield request
            seen += len(counted)
            if len(stop._counted) <= seen:
                await bell.wait()


class Canceller:
    """Decides when a block is cancelled; how, is the loop's business."""

    def __init__(self, stop: Stop, when: str = "asked") -> None:
        """Say what hears, and when to cancel.

        Args:
            stop: What hears.
            when: `asked`; `hurry`, at a second request or the deadline; `deadline`, when the time is over, whatever comes.

        Raises:
            ValueError: *when* is none of these.
        """
        if when not in WHEN:
            raise ValueError(f"when is one of {', '.join(WHEN)}; got {when!r}")
        self._stop = stop
        self._when = when

    def _begin(self) -> None:
        self._soon, self._clock = running()
        self._stop.add_waker(self._wake)

    def _end(self) -> None:
        self._stop.remove_waker(self._wake)

    def _wake(self) -> None:
        self._soon(self._look)

    def _look(self) -> None:
        if self._when == "asked" or (self._when == "hurry" and self._stop.hurry):
            self._cancel()
        else:
            self._limit(self._stop.left())

    def _cancel(self) -> None:
        raise NotImplementedError

    def _limit(self, seconds: float) -> None:
        """Cancel in so many seconds; the deadline has moved if that was said before."""
        raise NotImplementedError


class Scope(Canceller):
    """The same for the loops that have cancel scopes."""

    _library: Any  # trio, or anyio

    def __enter__(self) -> Any:
        self._scope = self._library.CancelScope()
        self._scope.__enter__()
        self._begin()
        return self._scope

    def _cancel(self) -> None:
        self._scope.cancel()

    def _limit(self, seconds: float) -> None:
        # Not by the library's own function: anyio knows its loop in tasks only, and we are in a callback of the watching thread's making.
        self._scope.deadline = self._clock() + seconds

    def __exit__(self, *error: object) -> Any:
        self._end()
        return self._scope.__exit__(*error)
