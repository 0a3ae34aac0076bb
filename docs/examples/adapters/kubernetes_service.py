"""A web service for a container: tells when it is ready, and drains within the time that the pod gives it.

Run it as `env --block-signal=TERM python kubernetes_service.py 8000`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from endtask_receiver import Policy, Stop, listen
from endtask_receiver.adapters import uvicorn_


class Service:
    """Answers, and says whether it wants more."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status = 200
        if scope["path"] == "/ready":
            status = 503 if self.stop else 200
        else:
            print("asked", scope["path"], flush=True)
            await asyncio.sleep(0.5)  # the work
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def main() -> None:
    """Serve until the pod ends."""
    grace_s = float(os.environ.get("GRACE_S", "20"))
    with listen(grace_s, policy=Policy(overdue="exit"), name="service") as stop:
        uvicorn_.serve(Service(stop), stop, host="0.0.0.0", port=int(sys.argv[1]))  # noqa: S104  # all of the pod
        stop.finish()


if __name__ == "__main__":
    main()
