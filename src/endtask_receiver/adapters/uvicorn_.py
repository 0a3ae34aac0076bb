"""uvicorn: serves until somebody asks, answers what is in flight, and is gone by the deadline.

    with listen(grace_s=20) as stop:
        uvicorn_.serve("module:app", stop, port=8000)
        stop.finish()

What it changes: uvicorn waits for requests without a limit, and a second TERM changes nothing. Here a request that has not been
answered shortly before the deadline, or at a second request to stop, is cancelled (its client gets a 500), and the lifespan's shutdown follows.
What does not even end then is left behind at the deadline.

Decision: uvicorn is told by its own attributes (`should_exit`, `force_exit`, `server_state`), and its signal handlers are left out:
two that handle one signal is one too many, and ours hears Windows and endtask as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from endtask_receiver._loops import Bell
from endtask_receiver.adapters._leaving import all_by_the_deadline
from endtask_receiver.adapters._pace import RESERVE_S, left_to_drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any

    from uvicorn import Server

    from endtask_receiver._stop import Stop

_TURN_S = 0.1  # uvicorn looks so often itself; it tells nobody when a connection ends


def serve(app: Any, stop: Stop, *, reserve_s: float = RESERVE_S, **options: Any) -> None:
    """Serve until somebody asks, then stop; returns when that is done.

    Args:
        app: As for `uvicorn.run`.
        stop: What hears.
        reserve_s: So much of the time is kept for what comes after the requests, such as the lifespan's shutdown; at most a fifth of it.
        options: As for `uvicorn.run`, but for `app_dir`, `workers` and `reload`, and `timeout_graceful_shutdown`, which is what *stop* has.

    Raises:
        ValueError: An option is given that belongs to another way to start.
        SystemExit: The start has failed.
    """
    import uvicorn

    strange = {"reload", "timeout_graceful_shutdown", "workers"} & set(options)
    if strange:
        raise ValueError(f"{', '.join(sorted(strange))}: one process serves here, for as long as `stop` says")
    server = uvicorn.Server(uvicorn.Config(app, **options))
    try:
        _serve(server, stop, reserve_s)
    finally:
        if server.config.uds:
            with contextlib.suppress(FileNotFoundError):
                os.remove(server.config.uds)  # as `uvicorn.run` does


def _serve(server: Server, stop: Stop, reserve_s: float) -> None:
    serving = all_by_the_deadline(run(server, stop, reserve_s=reserve_s), stop)
    factory = getattr(server.config, "get_loop_factory", None)  # COMPAT: uvicorn 0.36 has it
    if factory is None or not hasattr(asyncio, "Runner"):  # COMPAT: Python 3.11 has it
        asyncio.run(serving)
        return
    with asyncio.Runner(loop_factory=factory()) as runner:
        runner.run(serving)


async def run(
    server: Server, stop: Stop, sockets: Sequence[socket.socket] | None = None, *, reserve_s: float = RESERVE_S
) -> None:
    """Do the same in a loop that runs, with a server that was made before.

    Args:
        server: A `uvicorn.Server`.
        stop: What hears.
        sockets: Those to serve on, None for what the server's configuration says.
        reserve_s: See `serve`.
    """
    setattr(server, "capture_signals", contextlib.nullcontext)  # noqa: B010  # a method of its class, which handles signals
    serving = asyncio.ensure_future(server.serve(None if sockets is None else list(sockets)))
    follower = _Follower(server, stop, reserve_s)
    following = asyncio.ensure_future(follower.follow())
    try:
        await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
        if stop.asked:
            follower.tell()
        if serving.done():
            serving.result()
    finally:
        following.cancel()
        serving.cancel()


class _Follower:
    """Tells the server what is asked, and whoever asked how far it is."""

    def __init__(self, server: Server, stop: Stop, reserve_s: float) -> None:
        self._server = server
        self._stop = stop
        self._reserve_s = reserve_s
        self._cancelled: set[asyncio.Task[None]] = set()
        self._most = self._told = 0

    async def follow(self) -> None:
        """Follow; returns when the server must be left behind: at the deadline."""
        stop = self._stop
        with Bell(stop) as bell:
            while not stop.asked:
                await bell.wait()
            self._server.should_exit = True
            while stop.left() > 0:
                cut = left_to_drain(stop, self._reserve_s) <= 0
                if cut and not self._server.started:
                    return  # the application's start hangs
                if cut:
                    self._cut()
                self.tell()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(bell.wait(), min(_TURN_S, stop.left()))

    def _cut(self) -> None:
        for task in self._server.server_state.tasks - self._cancelled:
            self._cancelled.add(task)
            task.cancel()

    def tell(self) -> None:
        """Tell how many connections are closed, if that has changed."""
        connections = len(self._server.server_state.connections)
        if connections != self._told:
            self._most, self._told = max(self._most, connections), connections
            self._stop.tell("connections closed", self._most - connections, self._most)
