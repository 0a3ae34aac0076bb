"""hypercorn: serves until somebody asks, answers what is in flight, and is gone by the deadline.

    with listen(grace_s=20) as stop:
        hypercorn_.serve(app, stop, config)
        stop.finish()

In a program with a loop of its own, `await hypercorn_.run(app, stop, config)`.

What it changes: hypercorn cuts what is in flight after `graceful_timeout` (3 s) with a traceback and without the lifespan's shutdown,
and its own workers are ended while they still answer. Here one process serves; a request that has not been answered shortly before
the deadline, or at a second request to stop, is cancelled, and the lifespan's shutdown follows.

Decision: hypercorn is asked by its `shutdown_trigger`, with which it handles no signals, and what is in flight is counted around the application,
because hypercorn keeps it to itself.
"""

from __future__ import annotations

import asyncio
import contextlib

from endtask_receiver._loops import Bell, asked
from endtask_receiver.adapters._leaving import all_by_the_deadline
from endtask_receiver.adapters._pace import RESERVE_S, left_to_drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from hypercorn.config import Config

    from endtask_receiver._stop import Stop

_FOREVER_S = 1e6


def serve(app: Any, stop: Stop, config: Config | None = None, *, reserve_s: float = RESERVE_S) -> None:
    """Serve until somebody asks, then stop; returns when that is done.

    Args:
        app: An ASGI application, or a WSGI one.
        stop: What hears.
        config: A `hypercorn.config.Config`; None for an empty one. Its `graceful_timeout` and `workers` do not count here.
        reserve_s: So much of the time is kept for what comes after the requests, such as the lifespan's shutdown; at most a fifth of it.
    """
    asyncio.run(all_by_the_deadline(run(app, stop, config, reserve_s=reserve_s), stop))


async def run(app: Any, stop: Stop, config: Config | None = None, *, reserve_s: float = RESERVE_S) -> None:
    """Do the same in a loop that runs; see `serve`."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from hypercorn.utils import is_asgi

    config = config or Config()
    config.graceful_timeout = _FOREVER_S  # we cut, and the deadline may move
    flight = _Flight(stop)

    async def shutdown_trigger() -> None:
        flight.started = True
        await asked(stop)

    asgi = is_asgi(app)
    serving = asyncio.ensure_future(
        hypercorn_serve(
            flight.around(app) if asgi else app,
            config,
            shutdown_trigger=shutdown_trigger,
            mode="asgi" if asgi else "wsgi",
        )
    )
    following = asyncio.ensure_future(_follow(stop, flight, reserve_s))
    try:
        await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done() and not serving.cancelled():
            serving.result()
    finally:
        following.cancel()
        serving.cancel()


def trigger(stop: Stop, config: Config | None = None) -> Callable[[], Awaitable[None]]:
    """Return a `shutdown_trigger` for those who call `hypercorn.asyncio.serve` themselves.

    Args:
        stop: What hears.
        config: The one that is served with: its `graceful_timeout` becomes what is left to the deadline then.
    """

    async def wait() -> None:
        await asked(stop)
        if config is not None:
            config.graceful_timeout = stop.left()

    return wait


class _Flight:
    """The requests that the application has not answered yet.

    Attributes:
        started: Whether the server answers; before that it only waits for the application's start.
    """

    def __init__(self, stop: Stop) -> None:
        self.started = False
        self._stop = stop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._most = 0

    def around(self, app: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[None]]:
        """Return the application, watched."""

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            task = asyncio.current_task()
            if scope["type"] == "lifespan" or task is None:
                await app(scope, receive, send)
                return
            self._tasks.add(task)
            try:
                await app(scope, receive, send)
            finally:
                self._tasks.discard(task)
                if self._stop.asked:
                    self.tell()

        return watched

    def tell(self) -> None:
        """Tell how far it is."""
        self._most = max(self._most, len(self._tasks))
        if self._most:
            self._stop.tell("requests answered", self._most - len(self._tasks), self._most)

    def cut(self) -> None:
        """Cancel what is still there."""
        for task in self._tasks:
            task.cancel()


async def _follow(stop: Stop, flight: _Flight, reserve_s: float) -> None:
    """Cut what is in flight when it is time; returns when the server must be left behind: at the deadline."""
    with Bell(stop) as bell:
        while not stop.asked:
            await bell.wait()
        flight.tell()
        cut = False
        while stop.left() > 0:
            left = left_to_drain(stop, reserve_s)
            if left <= 0 and not flight.started:
                return  # the application's start hangs
            if left <= 0 and not cut:
                cut = True
                flight.cut()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(bell.wait(), stop.left() if cut else left)
