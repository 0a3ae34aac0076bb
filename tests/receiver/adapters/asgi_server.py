"""A program of the tests: an ASGI application, served by the library that the first word names, until somebody asks."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from hearing import EACH, say_requests  # type: ignore[import-not-found]  # beside this program

from endtask_receiver import listen

if TYPE_CHECKING:
    from endtask_receiver import News, Stop


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer when the gate is opened, or never."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    print("in flight")
    if scope["path"] == "/gate":
        await gate()
    elif scope["path"] == "/stubborn":
        await stubborn()
    else:
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})


async def lifespan(receive: Any, send: Any) -> None:
    """Say what the server wants."""
    await receive()
    if "frozen" in sys.argv:
        print("frozen")
        await asyncio.Event().wait()
    await send({"type": "lifespan.startup.complete"})
    print("started")
    await receive()
    print("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def gate() -> None:
    """Wait for the test, in a way that can be cancelled."""
    loop = asyncio.get_running_loop()
    fd, opened = os.open(sys.argv[3], os.O_RDONLY | os.O_NONBLOCK), asyncio.Event()
    loop.add_reader(fd, opened.set)
    await opened.wait()
    loop.remove_reader(fd)


async def stubborn() -> None:
    """Wait for ever, in a way that cannot."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled")


def show(news: News) -> None:
    """Print what whoever asked would see."""
    print(news.text, news.done, news.total)


def serve(stop: Stop) -> None:
    """Serve by the library that was named."""
    kind, where = sys.argv[1:3]
    if kind == "uvicorn":
        from endtask_receiver.adapters import uvicorn_

        uvicorn_.serve(app, stop, uds=where, log_level="critical")
    else:
        from hypercorn.config import Config

        from endtask_receiver.adapters import hypercorn_

        config = Config()
        config.bind = [f"unix:{where}"]
        config.loglevel = "CRITICAL"
        if kind == "trigger":
            from hypercorn.asyncio import serve as hypercorn_serve

            trigger = hypercorn_.trigger(stop, config)
            asyncio.run(hypercorn_serve(app, config, shutdown_trigger=trigger))
            print(config.graceful_timeout > 3)
        else:
            hypercorn_.serve(app, stop, config)


def main() -> None:
    """Live."""
    with listen(grace_s=float(sys.argv[4]), policy=EACH) as stop:
        say_requests(stop)
        stop._listeners.append(show)
        serve(stop)
        print("served")
        stop.finish()


if __name__ == "__main__":
    main()
