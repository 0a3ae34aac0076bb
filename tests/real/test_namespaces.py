"""Programs inside a pid namespace: its first process with and without a handler, one of the others, and the launcher outside."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.linux.children import REST

from .observer import need

if TYPE_CHECKING:
    from .lab import Lab
    from .observer import Handle, Program

pytestmark = [pytest.mark.real, pytest.mark.slow]

_INIT = f"""
import os, signal, sys
{REST}
if sys.argv[1] == "handler":
    def heard(number, frame):
        open(sys.argv[2], "w").write("clean")
        os._exit(4)
    signal.signal(signal.SIGTERM, heard)
elif sys.argv[1] == "reaper":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = os.fork()
if not inner:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execvp("sleep", ["sleep", "600"])
os.write(2, b"ready\\n")
if sys.argv[1] != "reaper":
    rest()
os.waitpid(inner, 0)
os.write(2, b"reaped\\n")
rest()
"""


class Namespace:
    """A pid namespace with a Python program as its first process, and one more.

    Attributes:
        launcher: `unshare`, outside.
        init: Our handle on the first process.
        inner: Our handle on the other one.
    """

    def __init__(self, lab: Lab, kind: str) -> None:
        options = ["--fork", "--pid"] if os.geteuid() == 0 else ["--fork", "--pid", "--user", "--map-root-user"]
        command = [need("unshare"), *options]
        refused = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
        if refused.returncode:
            pytest.skip(f"needs pid namespaces: {refused.stderr.strip()}")
        self.launcher: Program = lab.start(
            *command, sys.executable, lab.write("init.py", _INIT), kind, lab.path("data")
        )
        self.launcher.expect(b"ready")
        (init,) = lab.children(self.launcher.pid)
        (inner,) = lab.children(init)
        self.init: Handle = lab.handle(init)
        self.inner: Handle = lab.handle(inner)


def test_a_namespace_init_without_a_handler_does_not_hear_and_the_report_says_so(lab: Lab) -> None:
    """The kernel throws the request away (pid_namespaces(7)); `look` knew it before."""
    space = Namespace(lab, "plain")
    look = lab.look(space.init.pid)
    assert look.prediction("TERM")["answer"] == "immune"
    assert look.prediction("KILL")["answer"] == "ends"

    report = lab.stop(space.init.pid, "--only", "-t", "500ms")

    assert report.outcome == "running"
    assert "namespace-init" in report.codes()
    assert not space.init.ended
    assert not space.inner.ended


def test_a_namespace_init_takes_the_whole_namespace_with_it_when_forced(lab: Lab) -> None:
    """KILL from outside works, and the kernel kills the rest."""
    space = Namespace(lab, "plain")

    report = lab.stop(space.init.pid, "--force-after", "300ms")

    assert report.outcome == "forced"
    assert space.inner.wait()
    assert space.launcher.wait()
    lab.nothing_left()


def test_a_namespace_init_with_a_handler_cleans_up(lab: Lab) -> None:
    """It hears; what else is in there ends with it."""
    space = Namespace(lab, "handler")
    assert lab.look(space.init.pid).prediction("TERM")["answer"] == "handler"

    report = lab.stop(space.init.pid, "-t", "40s")

    assert report.outcome == "stopped"
    end = report.target["members"][0]["end"]
    assert end is not None
    assert end["status"] == 4
    assert lab.read("data") == "clean"
    assert space.inner.wait()
    lab.nothing_left()


def test_a_process_inside_a_namespace_is_stopped_alone(lab: Lab) -> None:
    """By its pid as we see it; its init is another program, and sees its child end."""
    space = Namespace(lab, "reaper")

    report = lab.stop(space.inner.pid, "--watch", "0")

    assert report.outcome == "stopped"
    space.launcher.expect(b"reaped")
    assert not space.init.ended


def test_the_launcher_of_a_namespace_is_stopped_with_what_it_launched(lab: Lab) -> None:
    """`unshare` passes nothing on; the tree is asked, and nothing is left."""
    space = Namespace(lab, "handler")

    report = lab.stop(space.launcher.pid, "-t", "10s")

    assert report.outcome == "stopped"
    assert lab.read("data") == "clean"
    lab.nothing_left()
