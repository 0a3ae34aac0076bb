"""trio: await the request, and be cancelled by it.

`await stop` and `async for request in stop` need nothing of this module.
Listen with `watch=False`: trio has the wake-up descriptor itself, and warns if it is not the only one.

Decision: trio is woken by `TrioToken.run_sync_soon`, which trio documents as safe in a signal handler.
"""

from __future__ import annotations

import trio

from endtask_receiver.aio import WHEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop


class Bell:
    """Rings in the running loop whenever there is something new. A context manager, in the task that waits."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def __enter__(self) -> Bell:
        self._stop.add_waker(self._wake)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.remove_waker(self._wake)

    def _wake(self) -> None:
        run_soon(self._token, self._ring)

    def _ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._event.wait()
        self._event = trio.Event()


def run_soon(token: trio.lowlevel.TrioToken, function: Callable[[], object]) -> None:
    """Have something called in trio's thread; from anywhere."""
    try:
        token.run_sync_soon(function, idempotent=True)
    except trio.RunFinishedError:
        pass  # ignored: nobody waits in it any more


async def asked(stop: Stop) -> StopRequest:
    """Wait until somebody asks; the same as `await stop`."""
    with Bell(stop) as bell:
        while not stop.asked:
            await bell.wait()
    request = stop.request
    assert request is not None
    return request


async def wait(stop: Stop, timeout_s: float | None = None) -> bool:
    """Wait until somebody asks; at most so many seconds. Returns whether somebody has."""
    with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
        await asked(stop)
    return stop.asked


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
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        self._scope.__enter__()
        self._stop.add_waker(self._wake)
        return self._scope

    def _wake(self) -> None:
        run_soon(self._token, self._look)

    def _look(self) -> None:
        if self._when == "asked" or (self._when == "hurry" and self._stop.hurry):
            self._scope.cancel()
        else:
            self._scope.deadline = trio.current_time() + self._stop.left()

    def __exit__(self, *error: object) -> bool | None:
        self._stop.remove_waker(self._wake)
        return self._scope.__exit__(*error)  # type: ignore[arg-type]  # what Python gives
