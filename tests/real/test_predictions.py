"""What `look` says about a signal against what happens when that signal is then sent, past endtask."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from . import databases, programs
from .observer import Handle, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lab import Lab

    Works = Callable[[], object]
    Started = tuple[Handle, Works]

pytestmark = [pytest.mark.real, pytest.mark.slow]


def _server(server: programs.Server) -> Started:
    return server.program, server.works


def _postgres(lab: Lab) -> Started:
    cluster, program = databases.start_postgres(lab)
    return program, lambda: cluster.sql("select 1")


def _tmux(lab: Lab) -> Started:
    tmux = programs.Tmux(lab)
    return tmux.server, tmux.works


def _jvm(lab: Lab) -> Started:
    program = programs.start_jvm(lab)
    return program, lambda: program.expect(b"Full thread dump")  # what a JVM makes of QUIT


def _ffmpeg(lab: Lab) -> Started:
    program = programs.start_ffmpeg(lab)
    return program, lambda: program.expect(b"frame=")


def _bash(lab: Lab) -> Started:
    program = programs.start_bash_loop(lab)
    return program, lambda: programs.wait_for_child(lab, program.pid, "sleep")


PROGRAMS: dict[str, Callable[[Lab], Started]] = {
    "nginx": lambda lab: _server(programs.start_nginx(lab)),
    "postgres": _postgres,
    "redis": lambda lab: _server(databases.start_redis(lab)),
    "uvicorn": lambda lab: _server(programs.start_uvicorn(lab)),
    "node": lambda lab: _server(programs.start_node(lab, handler=False)),
    "node-handler": lambda lab: _server(programs.start_node(lab, handler=True)),
    "jvm": _jvm,
    "ffmpeg": _ffmpeg,
    "tmux": _tmux,
    "bash-loop": _bash,
}

# What happens, as seen with these programs: `lives`, or how it ends (the status, minus the signal; "ends" for a daemon whose status only its adopter knows).
HAPPENS: dict[str, dict[str, int | str]] = {
    "nginx": {"TERM": 0, "INT": 0, "HUP": "lives", "QUIT": 0},
    "postgres": {"TERM": 0, "INT": 0, "HUP": "lives", "QUIT": 0},
    "redis": {"TERM": 0, "INT": 0, "HUP": "lives", "QUIT": -3},
    "uvicorn": {"TERM": -15, "INT": 0, "HUP": -1, "QUIT": -3},
    "node": {"TERM": -15, "INT": -2, "HUP": -1, "QUIT": -3},
    "node-handler": {"TERM": 0, "INT": -2, "HUP": -1, "QUIT": -3},
    "jvm": {"TERM": 143, "INT": 130, "HUP": 129, "QUIT": "lives"},
    "ffmpeg": {"TERM": 255, "INT": 255, "HUP": -1, "QUIT": 255},
    "tmux": {"TERM": "ends", "INT": "ends", "HUP": "lives", "QUIT": "lives"},
    "bash-loop": {"TERM": "lives", "INT": "lives", "HUP": "lives", "QUIT": "lives"},
}

CASES = [(program, name) for program, rows in HAPPENS.items() for name in rows]


@pytest.mark.parametrize(("program", "name"), CASES, ids=[f"{p}-{n}" for p, n in CASES])
def test_look_says_what_then_happens(lab: Lab, program: str, name: str) -> None:
    """The word for a signal is compatible with what the signal does, and where it is a promise, it is kept exactly."""
    handle, works = PROGRAMS[program](lab)
    prediction = lab.look(handle.pid).prediction(name)
    number = getattr(signal, f"SIG{name}")

    handle.send(number)
    happened = _what_happens(handle, works, expected=HAPPENS[program][name])

    assert happened == HAPPENS[program][name]
    answer = prediction["answer"]
    assert prediction["certain"], prediction
    if answer in ("ends", "ends-core"):
        assert happened == -number, prediction
    elif answer in ("ignored", "blocked", "immune", "nothing"):
        assert happened == "lives", prediction
    else:
        # The program's own affair: nothing may be promised, and nothing was.
        assert answer in ("handler", "waits-for-it"), prediction


def _what_happens(handle: Handle, works: Works, *, expected: int | str) -> int | str:
    """Return what came of the signal; a program that is expected to live must show that it does by working on."""
    if expected == "lives":
        works()
        if not handle.ended:
            return "lives"
    assert handle.wait(), "it neither ended nor worked"
    return handle.returncode() if isinstance(handle, Program) else "ends"


@pytest.mark.parametrize("program", ["nginx", "jvm", "tmux"])
def test_kill_is_predicted_as_the_end_and_is(lab: Lab, program: str) -> None:
    """KILL ends all of them, and `look` says so."""
    handle, _works = PROGRAMS[program](lab)
    prediction = lab.look(handle.pid).prediction("KILL")

    handle.send(signal.SIGKILL)

    assert handle.wait()
    assert prediction["answer"] == "ends"
    assert not isinstance(handle, Program) or handle.returncode() == -signal.SIGKILL


@pytest.mark.parametrize(("program", "passes_on"), [("nginx", None), ("postgres", None), ("bash-loop", False)])
def test_what_reaches_the_children_is_claimed_only_where_it_can_be_known(
    lab: Lab, program: str, passes_on: bool | None
) -> None:
    """A handler may tell the children or not: that is said as unknown; a shell does not, and that is said too."""
    handle, _works = PROGRAMS[program](lab)
    assert lab.look(handle.pid).seen["forecast"]["passes_on"] is passes_on


def test_a_shell_that_hears_the_request_itself_is_not_passed_over(lab: Lab) -> None:
    """Asking only the command inside a loop stops nothing: the loop starts the next one."""
    loop = programs.start_bash_loop(lab)
    sleep = programs.wait_for_child(lab, loop.pid, "sleep")
    assert lab.look(loop.pid).seen["forecast"]["ask_instead"] == 0

    lab.handle(sleep).send(signal.SIGTERM)

    assert programs.wait_for_child(lab, loop.pid, "sleep") != sleep or not loop.ended
    assert lab.read("data") == ""
