"""runit and supervisord: what they manage comes back, and the report says so and names the command that ends it for good."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from . import programs
from .answers import pid_of
from .observer import MORE_FOLDERS, need

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.slow]

SUPERVISORS: dict[str, Callable[[Lab], programs.Supervised]] = {
    "runit": programs.start_runit,
    "supervisord": programs.start_supervisord,
}
each_supervisor = pytest.mark.parametrize("kind", SUPERVISORS)


@each_supervisor
def test_what_a_supervisor_starts_again_is_reported_as_respawned(lab: Lab, kind: str) -> None:
    """It did stop, and a stop that says so and no more would be half the truth."""
    service = SUPERVISORS[kind](lab)
    first = service.starts[-1]
    (manager,) = (m for m in lab.look(first).seen["facts"]["managers"] if m["kind"] == kind)
    assert manager["pid"] == service.supervisor.pid

    # Both wait a second before they start it again; the three seconds that are watched by default are short where the machine is busy.
    report = lab.stop(first, "--watch", "30s")

    assert report.outcome == "respawned"
    assert report.code == 11
    respawn = report.target["respawn"]
    assert respawn is not None
    assert pid_of(respawn["ref"]) == service.next_start()
    assert pid_of(respawn["ref"]) in lab.living()
    assert manager["stop"] in respawn["next"]


@each_supervisor
def test_the_stop_command_of_the_supervisor_ends_it_for_good(lab: Lab, kind: str) -> None:
    """The command that `look` prints is run as it stands."""
    service = SUPERVISORS[kind](lab)
    worker = lab.handle(service.starts[-1])
    (manager,) = (m for m in lab.look(worker.pid).seen["facts"]["managers"] if m["kind"] == kind)
    path = {"PATH": ":".join(("/usr/bin", "/bin", *MORE_FOLDERS))}

    subprocess.run(["sh", "-c", manager["stop"]], check=True, env=path, capture_output=True, timeout=60)

    assert worker.wait()
    assert set(lab.living()) == {service.supervisor.pid}


@each_supervisor
def test_a_supervisor_is_stopped_with_what_it_manages(lab: Lab, kind: str) -> None:
    """Asked alone, it stops its program itself, and starts nothing again."""
    service = SUPERVISORS[kind](lab)

    report = lab.stop(service.supervisor.pid, "-t", "20s")

    assert report.outcome == "stopped"
    assert report.asked()[service.supervisor.pid] == ["TERM"]
    assert {pid_of(m["ref"]) for m in report.target["members"]} >= {service.supervisor.pid, service.starts[-1]}
    lab.nothing_left()


def test_a_program_that_supervisord_lets_go_is_not_promised_to_come_back(lab: Lab) -> None:
    """By default it starts again only what ended unexpectedly (supervisord's `autorestart`); its configuration cannot be seen from outside."""
    text = f"#!/bin/sh\ntrap 'exit 0' TERM\necho $$ >>{lab.path('starts')}\nwhile :; do sleep 600 & wait; done\n"
    service = programs.start_supervisord(lab, worker=lab.write("clean.sh", text, 0o755), restart="unexpected")
    (manager,) = (m for m in lab.look(service.starts[-1]).seen["facts"]["managers"] if m["kind"] == "supervisord")

    report = lab.stop(service.starts[-1])

    assert report.outcome == "stopped"
    assert set(lab.living()) == {service.supervisor.pid}
    assert manager["restarts"] != "yes" or not manager["certain"]


def test_runsv_is_not_called_deaf_while_it_only_does_not_listen(lab: Lab) -> None:
    """It blocks TERM except while it waits, and for a second after a start it does not wait: that is no reason for force."""
    service = programs.start_runit(lab)
    subprocess.run([need("sv"), "down", lab.path("service")], check=True, capture_output=True, timeout=60)

    prediction = lab.look(service.supervisor.pid).prediction("TERM")

    assert prediction["answer"] == "handler" or not prediction["certain"], prediction
    assert lab.stop(service.supervisor.pid, "-t", "20s").outcome == "stopped"
