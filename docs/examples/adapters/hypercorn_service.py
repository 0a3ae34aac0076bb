"""An ASGI application, served by hypercorn until somebody asks.

Run it as `python hypercorn_service.py 127.0.0.1:8000`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from hypercorn.config import Config

from endtask_receiver import listen
from endtask_receiver.adapters import hypercorn_


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer after some work."""
    if scope["type"] != "http":
        return
    print("asked", scope["path"], flush=True)
    await asyncio.sleep(0.5)  # the work
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


if __name__ == "__main__":
    config = Config()
    config.bind = [sys.argv[1]]
    with listen(grace_s=20, name="hypercorn service") as stop:
        hypercorn_.serve(app, stop, config)
        stop.finish()
