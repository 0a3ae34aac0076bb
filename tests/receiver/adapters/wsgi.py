"""The applications that gunicorn serves in the tests: one of WSGI, one of ASGI."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer when the gate is opened, or never."""
    say("in flight")
    if environ["PATH_INFO"] == "/gate":
        with open(os.environ["GATE"], "rb", buffering=0) as gate:
            gate.read(1)
    else:
        time.sleep(1000)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"whole"]


async def asgi(scope: Any, _receive: Any, send: Any) -> None:
    """Do the same in a loop."""
    if scope["type"] != "http":
        return
    say("in flight")
    loop, opened = asyncio.get_running_loop(), asyncio.Event()
    if scope["path"] == "/gate":
        fd = os.open(os.environ["GATE"], os.O_RDONLY | os.O_NONBLOCK)
        loop.add_reader(fd, opened.set)
        await opened.wait()
        loop.remove_reader(fd)
    else:
        await opened.wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"whole"})


def say(*words: object) -> None:
    """Write a line with one system call: several processes share the pipe."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())
