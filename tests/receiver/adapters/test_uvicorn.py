"""uvicorn: what is in flight is answered, the deadline is kept, and the second request is heard."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.receiver.lab import LIMIT_S, Program

from .lab import Client, Gate, ends_whole, refused

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

APP = """
import asyncio, os, sys
from endtask_receiver import Policy, listen
from endtask_receiver.adapters import uvicorn_

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if "frozen" in sys.argv:
            print("frozen")
            await asyncio.Event().wait()
        await send({"type": "lifespan.startup.complete"})
        print("started")
        await receive()
        print("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("in flight")
    if scope["path"] == "/gate":
        loop = asyncio.get_running_loop()
        fd, opened = os.open(sys.argv[2], os.O_RDONLY | os.O_NONBLOCK), asyncio.Event()
        loop.add_reader(fd, opened.set)
        await opened.wait()
        loop.remove_reader(fd)
    elif scope["path"] == "/stubborn":
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("cancelled")
    else:
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})

def main():
    with listen(grace_s=float(sys.argv[3])) as stop:
        stop._listeners.append(lambda news: print(news.text, news.done, news.total))
        uvicorn_.serve(app, stop, uds=sys.argv[1], log_level="critical")
        print("served")
        stop.finish()

if __name__ == "__main__":
    main()
"""


class Server(Program):
    """One that listens on a socket of its own."""

    def __init__(self, folder: Path, *words: str, grace_s: float = LIMIT_S) -> None:
        self.where = str(folder / "socket")
        self.gate = Gate(folder)
        super().__init__(APP, self.where, self.gate.path, str(grace_s), *words)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_and_late_ones_refused(tmp_path: Path, number: signal.Signals) -> None:
    """It tells how many connections are left, runs the lifespan's shutdown, and dies by what has asked."""
    with Server(tmp_path) as server:
        server.expect("started")
        with Client(server.where, "/gate") as one, Client(server.where, "/gate") as two:
            server.expect("in flight", "in flight")
            server.send(number)
            server.expect("connections closed 0 2")
            assert refused(server.where)
            server.gate.open()
            assert [one.answer(), two.answer()] == [(200, "whole"), (200, "whole")]
        lines = ends_whole(server, -number)
        assert {"shutdown", "connections closed 2 2"} <= set(lines)
        assert lines[-1] == "served"
        assert server.errors() == ""


def test_an_idle_server_stops_at_once(tmp_path: Path) -> None:
    """Nothing is waited for."""
    with Server(tmp_path) as server:
        server.expect("started")
        at = server.send()
        assert ends_whole(server, -signal.SIGTERM)[-2:] == ["shutdown", "served"]
        assert time.monotonic() - at < LIMIT_S / 2


def test_the_deadline_is_kept(tmp_path: Path) -> None:
    """A request without an end is cancelled before it: its client gets an answer."""
    with Server(tmp_path, grace_s=5) as server:
        server.expect("started")
        with Client(server.where) as client:
            server.expect("in flight")
            at = server.send()
            assert client.answer()[0] == 500
            assert ends_whole(server, -signal.SIGTERM)[-1] == "served"
            assert 3.9 < time.monotonic() - at < LIMIT_S / 2


def test_a_second_request_cuts(tmp_path: Path) -> None:
    """Whatever time would be left; also as the TERM that uvicorn itself does not take for one."""
    with Server(tmp_path) as server:
        server.expect("started")
        with Client(server.where) as client:
            server.expect("in flight")
            server.send()
            server.expect("connections closed 0 1")
            time.sleep(0.35)  # what comes sooner is the same request
            server.send()
            assert client.answer()[0] == 500
        assert {"shutdown", "served"} <= set(ends_whole(server, -signal.SIGTERM))


def test_a_request_that_cannot_be_cancelled_is_cancelled_once(tmp_path: Path) -> None:
    """A third request ends the process, as everywhere."""
    with Server(tmp_path) as server:
        server.expect("started")
        with Client(server.where, "/stubborn"):
            server.expect("in flight")
            server.send()
            server.expect("connections closed 0 1")
            for _ in range(2):
                time.sleep(0.35)  # what comes sooner is the same request
                server.send()
            assert ends_whole(server, -signal.SIGTERM) == ["cancelled"]  # once


def test_an_application_that_does_not_start_is_left_at_a_second_request(tmp_path: Path) -> None:
    """Alone, uvicorn waits for it for ever."""
    with Server(tmp_path, "frozen") as server:
        server.expect("frozen")
        server.send(signal.SIGINT)
        time.sleep(0.35)  # what comes sooner is the same request
        server.send(signal.SIGINT)
        assert ends_whole(server, -signal.SIGINT) == ["served"]
        assert server.errors() == ""


def test_options_of_other_ways_to_start_are_refused() -> None:
    """Nothing that comes close."""
    from endtask_receiver import Stop
    from endtask_receiver.adapters import uvicorn_

    with pytest.raises(ValueError, match="reload, workers: one process serves here"):
        uvicorn_.serve("a:b", Stop(), workers=2, reload=True)
