"""gunicorn: a master and its workers, sync, threaded and of ASGI; what is in flight is answered, the deadline is kept, nothing is left over."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.receiver.lab import LIMIT_S, Program

from .lab import Client, ask, begun, ends_whole, refused

if TYPE_CHECKING:
    from .lab import Gate

pytestmark = [pytest.mark.real, pytest.mark.slow]

CONFIG = """
import os
from endtask_receiver.adapters import gunicorn_
from hearing import EACH, say_requests
from wsgi import say

def on_stop(stop):
    say_requests(stop)
    stop._listeners.append(lambda news: say(news.text, news.done, news.total))
    stop.cleanup(say, "cleaned", name="say")

def post_worker_init(worker):
    say("started")

globals().update(gunicorn_.hooks(
    grace_s=float(os.environ["GRACE"]), policy=EACH, on_stop=on_stop, post_worker_init=post_worker_init
))
bind = "unix:" + os.environ["GATE"] + ".socket"
control_socket_disable = True
loglevel = "critical"
workers = 2
"""


class Server(Program):
    """A master with two workers, of which each has said that it has started."""

    def __init__(self, gate: Gate, *words: str, grace_s: float = LIMIT_S) -> None:
        self.where = gate.path + ".socket"
        config = Path(gate.path).with_name("gunicorn.conf.py")
        config.write_text(CONFIG)
        here = str(Path(__file__).parent)
        env = {
            "GATE": gate.path,
            "GRACE": str(grace_s),
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        code = "from gunicorn.app.wsgiapp import run; run()"
        app = "wsgi:asgi" if "asgi" in words else "wsgi:application"
        super().__init__(code, "-c", str(config), *words, app, env=env)
        begun(self, lambda: self.expect("started", "started"))


KINDS = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", "8"),
    "asgi": ("--worker-class", "asgi"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options for a kind of worker."""
    return KINDS[request.param]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_request_that_has_come_is_answered(kind: tuple[str, ...], gate: Gate, number: signal.Signals) -> None:
    """Six at once, of which two sync workers have only two in hand: the others wait in the queue of the socket."""
    with Server(gate, *kind) as server, ExitStack() as clients:
        six = [clients.enter_context(Client(server.where, "/gate")) for _ in range(6)]
        server.expect(*["in flight"] * (2 if "sync" in kind else 6))
        ask(server, number)
        server.expect("workers stopped 0 2")
        gate.open()
        assert [client.answer() for client in six] == [(200, "whole")] * 6
        lines = ends_whole(server, -number)
        assert {"workers stopped 2 2", "cleaned"} <= set(lines)
        assert refused(server.where)
        assert server.errors() == ""


def test_ctrl_c_at_the_whole_group_is_left_to_the_master(kind: tuple[str, ...], gate: Gate) -> None:
    """A terminal sends it to the workers too; they go on."""
    with Server(gate, *kind) as server, Client(server.where, "/gate") as client:
        server.expect("in flight")
        workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        assert len(workers) == 2
        for worker in workers:
            os.kill(int(worker), signal.SIGINT)
        ask(server, signal.SIGINT)
        server.expect("workers stopped 0 2")
        gate.open()
        assert client.answer() == (200, "whole")
        ends_whole(server, -signal.SIGINT)
        assert server.errors() == ""


def test_the_deadline_is_kept(kind: tuple[str, ...], gate: Gate) -> None:
    """A request without an end is cut before it."""
    with Server(gate, *kind, grace_s=4) as server, Client(server.where):
        server.expect("in flight")
        at = server.send()
        ends_whole(server, -signal.SIGTERM)
        assert 3.1 < time.monotonic() - at < LIMIT_S / 2


def test_a_second_request_cuts(kind: tuple[str, ...], gate: Gate) -> None:
    """Also as the TERM that gunicorn does not take for one."""
    with Server(gate, *kind) as server, Client(server.where):
        server.expect("in flight")
        ask(server)
        server.expect("workers stopped 0 2")
        at = server.send()
        ends_whole(server, -signal.SIGTERM)
        assert time.monotonic() - at < LIMIT_S / 2


def test_a_third_request_leaves_nobody_behind(gate: Gate) -> None:
    """The master ends at once, and takes its workers with it: they would notice only much later."""
    with Server(gate, *KINDS["gthread"]) as server, Client(server.where):
        server.expect("in flight")
        ask(server)
        server.expect("workers stopped 0 2")
        ask(server)
        server.send()
        assert "cleaned" not in ends_whole(server, -signal.SIGTERM)


def test_an_idle_server_stops_at_once(kind: tuple[str, ...], gate: Gate) -> None:
    """Nothing is waited for."""
    with Server(gate, *kind) as server:
        server.send()
        ends_whole(server, -signal.SIGTERM)
        assert server.errors() == ""


def test_other_signals_keep_their_meaning(gate: Gate) -> None:
    """HUP starts new workers, and QUIT ends all, with gunicorn's own status."""
    with Server(gate) as server:
        server.send(signal.SIGHUP)
        server.expect("started", "started")
        server.send(signal.SIGQUIT)
        ends_whole(server, 0)


def test_after_a_reload_a_request_is_what_it_was(gate: Gate) -> None:
    """HUP reads the configuration anew; the master that listens stays the same, with its cleanup and its exit status."""
    with Server(gate) as server:
        server.send(signal.SIGHUP)
        server.expect("started", "started")
        server.send()
        assert "cleaned" in ends_whole(server, -signal.SIGTERM)
        assert server.errors() == ""


def test_a_hook_that_would_be_lost_is_refused() -> None:
    """Those that are not used here are set as ever."""
    from endtask_receiver.adapters import gunicorn_

    with pytest.raises(ValueError, match="set it as ever: pre_fork"):
        gunicorn_.hooks(pre_fork=print)
