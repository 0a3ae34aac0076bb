"""Commands that we own and that talk: the keeper asks, the owner talks, and the report tells both."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

import endtask
from tests.talk.talker import command

if TYPE_CHECKING:
    import pathlib

    from endtask import Owned

pytestmark = pytest.mark.real

OBEYS = """
hello()
notice = line()
wait_signal()
heard_it()
say(tell={"text": "draining", "done": 3, "total": 15})
"""
GRACE_S = 2.0  # time enough to say something before force, on a busy machine too
WANTS = OBEYS + f'say(need={{"seconds": 60, "text": "flushing"}})\nline()\ntime.sleep({GRACE_S} + 0.5)\n'


def started(words: list[str], runtime: pathlib.Path, **how: object) -> Owned:
    """Start a command that talks, and wait until it is ready to be asked."""
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    owned = endtask.owned(words, stdout=subprocess.PIPE, env=env, **how)  # type: ignore[arg-type]  # handed through
    assert owned.stdout is not None
    assert owned.stdout.readline() == b"ready\n"
    return owned


def test_what_an_owned_command_says_is_in_the_report(runtime: pathlib.Path) -> None:
    """It learns deadline and reason before it is asked, and its words are kept."""
    with started(command(OBEYS), runtime, reason="the test is over", grace_s=20.0) as owned:
        report = owned.stop()
        assert owned.stdout is not None
        notice = owned.stdout.readline()
    assert report.targets[0].outcome == "stopped"
    assert [s.kind for s in report.targets[0].members[0].said] == ["heard", "tell"]
    assert b"the test is over" in notice


def test_an_owned_command_gets_more_time_where_that_is_allowed(runtime: pathlib.Path) -> None:
    """The keeper is told, and forces later."""
    with started(command(WANTS), runtime, grace_s=GRACE_S, extend_s=90.0) as owned:
        report = owned.stop()
    target = report.targets[0]
    assert target.outcome == "stopped"
    assert 60 - GRACE_S <= target.granted_s < 60


def test_an_owned_command_gets_no_more_time_by_itself(runtime: pathlib.Path) -> None:
    """The block promises its end."""
    with started(command(WANTS), runtime, grace_s=GRACE_S) as owned:
        report = owned.stop()
    target = report.targets[0]
    assert target.outcome == "forced"
    assert target.granted_s == 0
    assert target.members[0].said[-1].missing_s > 50


def test_what_an_owned_command_has_started_talks_too(runtime: pathlib.Path) -> None:
    """A program behind a shell is asked by the keeper, and met by the owner."""
    words = ["sh", "-c", f"{shlex.join(command(WANTS))}; true"]
    with started(words, runtime, grace_s=GRACE_S, extend_s=90.0) as owned:
        report = owned.stop()
    talked = [m for m in report.targets[0].members if m.said]
    assert [[s.kind for s in m.said] for m in talked] == [["heard", "tell", "need"]]
    assert report.targets[0].outcome == "stopped"


def test_the_children_of_a_command_that_has_heard_are_left_to_it(runtime: pathlib.Path) -> None:
    """They are asked only when it has gone: what it has started is its own affair while it ends."""
    script = """
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    door.close()
    signal.pause()
hello()
line()
wait_signal()
heard_it()
time.sleep(1.2)
os.write(1, b"child %d\\n" % os.waitpid(child, os.WNOHANG)[0])
"""
    with started(command(script), runtime, grace_s=20.0) as owned:
        report = owned.stop()
        assert owned.stdout is not None
        said = owned.stdout.read().splitlines()
    assert said[-1] == b"child 0"
    assert report.targets[0].outcome == "stopped"


def test_a_refusal_of_an_owned_command_is_an_outcome(runtime: pathlib.Path) -> None:
    """Where force is not allowed, it stays, and that is what the report says."""
    with started(
        command(OBEYS + 'say(veto={"text": "recording"})\nsignal.pause()'), runtime, grace_s=20.0, force=False
    ) as owned:
        report = owned.stop()
        assert report.targets[0].outcome == "vetoed"
        assert report.exit_code == 124
        assert [r.code for r in report.targets[0].reasons] == ["vetoed", "running"]
        assert "refuses: recording" in report.targets[0].reasons[0].text
        endtask.stop(owned.pid, now=True)


@pytest.mark.parametrize("more", [{"extend_s": -1.0}, {"reason": "two\nlines"}])
def test_what_cannot_be_meant_starts_nothing(more: dict[str, object], runtime: pathlib.Path) -> None:
    """Refused before the command runs."""
    with pytest.raises(endtask.PlanError):
        endtask.owned(["true"], **more)  # type: ignore[arg-type]  # wrong on purpose
