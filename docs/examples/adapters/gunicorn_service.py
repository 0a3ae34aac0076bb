"""A WSGI application and the configuration of gunicorn that serves it until somebody asks.

Run it as `gunicorn -c gunicorn_service.py gunicorn_service:app`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from endtask_receiver.adapters import gunicorn_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

workers = 2
globals().update(gunicorn_.hooks(grace_s=20, name="gunicorn service"))


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer after some work."""
    print("asked", environ["PATH_INFO"], flush=True)
    time.sleep(0.5)  # the work
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
