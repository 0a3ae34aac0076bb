"""anyio: await the request, and be cancelled by it, in whichever loop anyio runs.

Under trio listen with `watch=False`, see `trio_`.
"""

from __future__ import annotations

import anyio

from endtask_receiver import _loops
from endtask_receiver.aio import WHEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop


async def asked(stop: Stop) -> StopRequest:
    """Wait until somebody asks; the same as `await stop`."""
    return await stop


async def wait(stop: Stop, timeout_s: float | None = None) -> bool:
    """Wait until somebody asks; at most so many seconds. Returns whether somebody has."""
    with anyio.move_on_after(timeout_s):
        await stop
    return stop.asked


def _caller() -> Callable[[Callable[[], object]], object]:
    """Return what has something called in the thread of the running loop, from anywhere."""
    if _loops.in_trio():
        import trio

        from endtask_receiver import trio_

        token = trio.lowlevel.current_trio_token()
        return lambda function: trio_.run_soon(token, function)
    import asyncio

    loop = asyncio.get_running_loop()

    def call(function: Callable[[], object]) -> None:
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # ignored: the loop is closed, and nobody waits in it any more

    return call


class cancel_on_stop:  # noqa: N801  # used like a function
    """A cancel scope that somebody's request cancels.

    with cancel_on_stop(stop):
        await serve_forever()
    # here: stopped
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
        self._stop = stop
        self._when = when
        self._call = _caller()
        self._scope = anyio.CancelScope()

    def __enter__(self) -> anyio.CancelScope:
        self._scope.__enter__()
        self._stop.add_waker(self._wake)
        return self._scope

    def _wake(self) -> None:
        self._call(self._look)

    def _look(self) -> None:
        if self._when == "asked" or (self._when == "hurry" and self._stop.hurry):
            self._scope.cancel()
        else:
            self._scope.deadline = anyio.current_time() + self._stop.left()

    def __exit__(self, *error: object) -> bool | None:
        self._stop.remove_waker(self._wake)
        return self._scope.__exit__(*error)  # type: ignore[arg-type]  # what Python gives
