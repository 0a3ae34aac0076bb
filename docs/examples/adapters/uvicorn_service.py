"""An ASGI application, served by uvicorn until somebody asks.

Run it as `python uvicorn_service.py 8000`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from endtask_receiver import listen
from endtask_receiver.adapters import uvicorn_


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer after some work."""
    if scope["type"] != "http":
        return
    print("asked", scope["path"], flush=True)
    await asyncio.sleep(0.5)  # the work
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


if __name__ == "__main__":
    with listen(grace_s=20, name="uvicorn service") as stop:
        uvicorn_.serve(app, stop, port=int(sys.argv[1]))
        stop.finish()
