"""uvicorn and hypercorn: what is in flight is answered, the deadline is kept, and the second request is heard."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.receiver.lab import LIMIT_S, Program

from .lab import Client, Gate, ask, ends_whole, refused

pytestmark = [pytest.mark.real, pytest.mark.slow]

KINDS = {"uvicorn": "connections closed", "hypercorn": "requests answered"}


class Server(Program):
    """One that listens on a socket of its own."""

    def __init__(self, kind: str, gate: Gate, *words: str, grace_s: float = LIMIT_S) -> None:
        self.where = gate.path + ".socket"
        program = Path(__file__).with_name("asgi_server.py")
        super().__init__(program, kind, self.where, gate.path, str(grace_s), *words)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """By which library it serves."""
    return str(request.param)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_and_late_ones_refused(kind: str, gate: Gate, number: signal.Signals) -> None:
    """It tells how many connections are left, runs the lifespan's shutdown, and dies by what has asked."""
    with Server(kind, gate) as server:
        server.expect("started")
        with Client(server.where, "/gate") as one, Client(server.where, "/gate") as two:
            server.expect("in flight", "in flight")
            ask(server, number)
            server.expect(f"{KINDS[kind]} 0 2")
            assert refused(server.where)
            gate.open()
            assert [one.answer(), two.answer()] == [(200, "whole"), (200, "whole")]
        lines = ends_whole(server, -number)
        assert "shutdown" in lines
        done, total = [line for line in lines if line.startswith(KINDS[kind])][-1].split()[-2:]
        assert done == total
        assert int(total) >= 2  # whoever looked whether it still listens may have been let in, and is a connection, too
        assert lines[-1] == "served"
        assert server.errors() == ""


def test_an_idle_server_stops_at_once(kind: str, gate: Gate) -> None:
    """Nothing is waited for."""
    with Server(kind, gate) as server:
        server.expect("started")
        at = server.send()
        assert ends_whole(server, -signal.SIGTERM)[-2:] == ["shutdown", "served"]
        assert time.monotonic() - at < LIMIT_S / 2
        assert kind != "uvicorn" or not Path(server.where).exists()  # as after `uvicorn.run`


def test_the_deadline_is_kept(kind: str, gate: Gate) -> None:
    """A request without an end is cancelled before it: its client gets an answer."""
    with Server(kind, gate, grace_s=5) as server:
        server.expect("started")
        with Client(server.where) as client:
            server.expect("in flight")
            at = server.send()
            assert client.answer()[0] == 500
            assert ends_whole(server, -signal.SIGTERM)[-1] == "served"
            assert 3.9 < time.monotonic() - at < LIMIT_S / 2


def test_a_second_request_cuts(kind: str, gate: Gate) -> None:
    """Whatever time would be left; also as the TERM that uvicorn itself does not take for one."""
    with Server(kind, gate) as server:
        server.expect("started")
        with Client(server.where) as client:
            server.expect("in flight")
            ask(server)
            server.expect(f"{KINDS[kind]} 0 1")
            ask(server)
            assert client.answer()[0] == 500
        assert {"shutdown", "served"} <= set(ends_whole(server, -signal.SIGTERM))


def test_a_request_that_cannot_be_cancelled_is_cancelled_once(kind: str, gate: Gate) -> None:
    """A third request ends the process, as everywhere."""
    with Server(kind, gate) as server:
        server.expect("started")
        with Client(server.where, "/stubborn"):
            server.expect("in flight")
            ask(server)
            server.expect(f"{KINDS[kind]} 0 1")
            ask(server)
            server.expect("cancelled")
            server.send()
            assert ends_whole(server, -signal.SIGTERM) == []  # it was cancelled once


def test_a_request_that_cannot_be_cancelled_is_left_behind_at_the_deadline(kind: str, gate: Gate) -> None:
    """The end of the loop would wait for it for ever."""
    with Server(kind, gate, grace_s=3) as server:
        server.expect("started")
        with Client(server.where, "/stubborn"):
            server.expect("in flight")
            at = server.send()
            assert {"cancelled", "served"} <= set(ends_whole(server, -signal.SIGTERM))
            assert time.monotonic() - at < LIMIT_S / 2


def test_an_application_that_does_not_start_is_left_at_a_second_request(kind: str, gate: Gate) -> None:
    """Alone, uvicorn waits for it for ever."""
    with Server(kind, gate, "frozen") as server:
        server.expect("frozen")
        ask(server, signal.SIGINT)
        ask(server, signal.SIGINT)
        assert ends_whole(server, -signal.SIGINT) == ["served"]
        assert server.errors() == ""


def test_who_calls_hypercorn_himself_has_its_trigger(gate: Gate) -> None:
    """With what is left to the deadline as hypercorn's own limit."""
    with Server("trigger", gate) as server:
        server.expect("started")
        with Client(server.where, "/gate") as client:
            server.expect("in flight")
            ask(server)
            assert refused(server.where)
            gate.open()
            assert client.answer() == (200, "whole")
        assert ends_whole(server, -signal.SIGTERM) == ["shutdown", "True", "served"]
        assert server.errors() == ""


def test_options_of_other_ways_to_start_are_refused() -> None:
    """Nothing that comes close."""
    from endtask_receiver import Stop
    from endtask_receiver.adapters import uvicorn_

    with pytest.raises(ValueError, match="reload, workers: one process serves here"):
        uvicorn_.serve("a:b", Stop(), workers=2, reload=True)
