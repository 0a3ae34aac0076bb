"""tmux with a shell in it: who manages the shell, what ends it, and what a detached program is to the server."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from . import programs
from .answers import pid_of
from .observer import until

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_look_names_tmux_and_its_stop_command_works(lab: Lab) -> None:
    """The command that `look` prints is run as it stands, and ends the pane and nothing else."""
    tmux = programs.Tmux(lab)
    tmux.run("new-window", "-d", "-t", "test")

    (manager,) = (m for m in lab.look(tmux.shell.pid).seen["facts"]["managers"] if m["kind"] == "tmux")
    assert manager["restarts"] == "no"
    assert manager["pid"] == tmux.server.pid
    subprocess.run(["sh", "-c", manager["stop"]], check=True, timeout=60)

    assert tmux.shell.wait()
    tmux.works()


def test_an_interactive_shell_ignores_term_and_the_report_says_so(lab: Lab) -> None:
    """Bash with a terminal ignores TERM (bash(1), SIGNALS); the pane is as it was."""
    tmux = programs.Tmux(lab)
    assert lab.look(tmux.shell.pid).prediction("TERM")["answer"] == "ignored"

    report = lab.stop(tmux.shell.pid, "-t", "500ms")

    assert report.outcome == "running"
    (reason,) = (r for r in report.target["reasons"] if r["code"] == "ignored")
    assert reason["certain"]
    tmux.type("echo $((40+2))", appears="42")
    (explained,) = lab.why(tmux.shell.pid)["targets"]
    assert "ignored" in {r["code"] for r in explained["reasons"]}
    assert any("TERM" in line for line in explained["asked_before"])


def test_an_interactive_shell_is_ended_by_hup(lab: Lab) -> None:
    """HUP is how a terminal says goodbye."""
    tmux = programs.Tmux(lab)

    report = lab.stop(tmux.shell.pid, "--plan", "HUP/40")

    assert report.outcome == "stopped"
    assert tmux.shell.ended


def test_a_program_in_a_pane_is_stopped_and_its_shell_is_not(lab: Lab) -> None:
    """The shell is the parent, not a part of it: no respawn is watched for, and the prompt comes back."""
    tmux = programs.Tmux(lab)
    tmux.run("send-keys", "-t", "test", "sleep 600; echo status $?", "Enter")
    sleep = programs.wait_for_child(lab, tmux.shell.pid, "sleep")

    report = lab.stop(sleep)

    assert report.outcome == "stopped"
    assert [pid_of(m["ref"]) for m in report.target["members"]] == [sleep]
    until(lambda: f"\nstatus {128 + signal.SIGTERM}" in tmux.run("capture-pane", "-p", "-t", "test"))
    assert not tmux.shell.ended


def test_the_tmux_server_is_stopped_with_everything_in_it(lab: Lab) -> None:
    """Windows, shells, their jobs: gone, and seen to be gone."""
    tmux = programs.Tmux(lab)
    tmux.run("send-keys", "-t", "test", "sleep 600 & sleep 601", "Enter")
    until(lambda: len(lab.children(tmux.shell.pid)) == 2)
    handles = lab.watch()

    report = lab.stop(tmux.server.pid, "-t", "40s")

    assert report.outcome == "stopped"
    assert {pid_of(m["ref"]) for m in report.target["members"]} >= set(handles)
    lab.nothing_left()


def test_a_program_detached_from_a_pane_is_found_or_named(lab: Lab) -> None:
    """It left the tree and the session before anybody looked; success in silence would be a lie."""
    tmux = programs.Tmux(lab)
    tmux.run("send-keys", "-t", "test", "(setsid sleep 600 &)", "Enter")
    usual = (tmux.server.pid, tmux.shell.pid)
    until(
        lambda: any(row.sid == pid and row.ppid not in usual for pid, row in lab.living().items() if pid not in usual)
    )
    (escaped,) = set(lab.living()) - set(usual)

    report = lab.stop(tmux.server.pid, "-t", "40s")

    if escaped in lab.living():
        assert report.outcome == "unproven"
        assert escaped in {pid_of(s["ref"]) for s in report.target["suspects"]}
    else:
        assert escaped in {pid_of(m["ref"]) for m in report.target["members"]}
