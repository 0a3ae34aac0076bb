"""A WSGI application of the tests, and a configuration of gunicorn that serves it."""

from __future__ import annotations

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


def say(*words: object) -> None:
    """Write a line with one system call: several processes share the pipe."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())
