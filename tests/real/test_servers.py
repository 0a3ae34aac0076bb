"""Servers with a request in flight: nginx, uvicorn, node. The data is the answer to that request."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from . import programs
from .answers import pid_of
from .observer import listens

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.slow]


# --------------------------------------------------------------------------- nginx


def test_nginx_by_port_is_stopped_with_its_workers(lab: Lab) -> None:
    """All three hold the listening socket; the master is the target, the workers are its tree, and the port is free afterwards."""
    nginx = programs.start_nginx(lab)
    everybody = set(lab.living())

    report = lab.stop(f":{nginx.port}")

    assert report.outcome == "stopped"
    assert pid_of(report.target["ref"]) == nginx.pid
    assert {pid_of(m["ref"]) for m in report.target["members"]} == everybody
    assert report.asked()[nginx.pid] == ["TERM"]
    assert [(p["port"], p["free"]) for p in report.target["ports"]] == [(f":{nginx.port}", True)]
    lab.nothing_left()


def test_nginx_asked_by_quit_finishes_the_request_in_flight(lab: Lab) -> None:
    """QUIT is nginx' graceful end."""
    nginx = programs.start_nginx(lab)
    client = nginx.slow_request()
    handles = lab.watch()

    pending = lab.begin_stop(nginx.pid, "--plan", "QUIT/20")
    nginx.program.expect(b"gracefully shutting down")
    programs.pass_nginx(nginx)

    assert client.answer().endswith(b"complete\n")
    report = pending.result()
    lab.check(report, handles)
    assert report.outcome == "stopped"
    assert not listens(nginx.port)
    lab.nothing_left()


def test_nginx_asked_by_term_cuts_the_request_in_flight(lab: Lab) -> None:
    """TERM is nginx' fast end: a clean exit that loses work, which is why the plan can say QUIT."""
    nginx = programs.start_nginx(lab)
    client = nginx.slow_request()

    report = lab.stop(nginx.pid)

    assert report.outcome == "stopped"
    assert b"complete" not in client.answer()
    lab.nothing_left()


def test_nginx_that_still_serves_is_reported_as_running(lab: Lab) -> None:
    """The budget ends before the request in flight does: nothing is lost, nothing is claimed."""
    nginx = programs.start_nginx(lab)
    client = nginx.slow_request()

    report = lab.stop(nginx.pid, "--plan", "QUIT", "-t", "1s")
    assert report.outcome == "running"

    programs.pass_nginx(nginx)
    assert client.answer().endswith(b"complete\n")
    assert nginx.program.wait()
    lab.nothing_left()


def test_nginx_by_name_and_folder_is_one_program(lab: Lab) -> None:
    """Master and workers have the same name; they are one program and need no `--all`."""
    nginx = programs.start_nginx(lab)

    report = lab.stop("nginx", "--cwd", lab.home)

    assert report.outcome == "stopped"
    assert pid_of(report.target["ref"]) == nginx.pid
    lab.nothing_left()


def test_a_worker_of_nginx_comes_back_and_the_report_says_so(lab: Lab) -> None:
    """The master starts a new one at once: it is the master that must be asked."""
    nginx = programs.start_nginx(lab)
    worker = lab.children(nginx.pid)[0]

    report = lab.stop(worker, "--watch", "30s")

    assert report.outcome == "respawned"
    respawn = report.target["respawn"]
    assert respawn is not None
    assert pid_of(respawn["ref"]) in lab.children(nginx.pid)
    assert str(nginx.pid) in respawn["by"]
    nginx.works()


# --------------------------------------------------------------------------- uvicorn


def test_uvicorn_finishes_the_request_in_flight(lab: Lab) -> None:
    """It stops to listen, answers, runs the shutdown event of the application, and ends by the signal that it was sent."""
    uvicorn = programs.start_uvicorn(lab)
    client = uvicorn.slow_request()
    handles = lab.watch()

    pending = lab.begin_stop(f":{uvicorn.port}", "-t", "20s")
    uvicorn.program.expect(b"Shutting down")
    uvicorn.gate.open(b"complete\n")

    assert client.answer().endswith(b"complete\n")
    uvicorn.program.expect(b"shutdown event")
    report = pending.result()
    lab.check(report, handles)
    assert report.outcome == "stopped"
    assert uvicorn.program.returncode() == -signal.SIGTERM
    lab.nothing_left()


def test_uvicorn_that_still_drains_is_reported_as_running(lab: Lab) -> None:
    """By default it drains for ever; the report says so, and the request completes after all."""
    uvicorn = programs.start_uvicorn(lab)
    client = uvicorn.slow_request()

    report = lab.stop(uvicorn.pid, "-t", "1s")

    assert report.outcome == "running"
    assert report.codes() == {"handler"}
    assert not any(r["certain"] for r in report.target["reasons"])
    uvicorn.gate.open(b"complete\n")
    assert client.answer().endswith(b"complete\n")
    assert uvicorn.program.wait()


def test_uvicorn_with_workers_is_stopped_whole(lab: Lab) -> None:
    """The workers are stopped by their own parent; the helper of `multiprocessing` that ignores TERM ends with it."""
    uvicorn = programs.start_uvicorn(lab, "--workers", "2")
    uvicorn.works()

    report = lab.stop(uvicorn.pid, "-t", "20s")

    assert report.outcome == "stopped"
    assert len(report.target["members"]) >= 3
    assert not listens(uvicorn.port)
    lab.nothing_left()


# --------------------------------------------------------------------------- node


def test_node_with_a_handler_finishes_the_request_in_flight(lab: Lab) -> None:
    """`server.close` waits for what is in flight."""
    node = programs.start_node(lab, handler=True)
    client = node.slow_request()
    handles = lab.watch()

    pending = lab.begin_stop(f":{node.port}", "-t", "20s")
    node.program.expect(b"closing")
    node.gate.open(b"complete\n")

    assert client.answer().endswith(b"complete\n")
    report = pending.result()
    lab.check(report, handles)
    assert report.outcome == "stopped"
    assert node.program.returncode() == 0
    lab.nothing_left()


def test_node_without_a_handler_ends_by_the_signal(lab: Lab) -> None:
    """The request in flight is cut, and the report tells how it ended."""
    node = programs.start_node(lab, handler=False)
    client = node.slow_request()

    report = lab.stop(f":{node.port}")

    assert report.outcome == "stopped"
    end = report.target["members"][0]["end"]
    assert end is not None
    assert end["signal"] == signal.SIGTERM
    assert client.answer() == b""
    assert not listens(node.port)
    lab.nothing_left()
