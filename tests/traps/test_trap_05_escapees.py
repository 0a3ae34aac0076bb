"""Trap 5: a child that left before anybody looked: double fork, a session of its own, adopted by somebody else.

It is found by another tie and stopped too, or it is named as a suspect with exit 3; success in silence is a lie.
And the opposite: who merely started from the same shell is never asked.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.targets.lab import BARE, ROOT, can_unshare, eventually, free_port, port_open, unique
from tests.targets.truth import lies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.targets.lab import Answer, Lab, Scene, Target

pytestmark = [pytest.mark.real, pytest.mark.slow]

WAYS: dict[str, dict[str, object]] = {
    "fork": {},
    "exec": {"exec": 1},
    "shell-variables": {"vars": 1},
    "closed": {"closed": 1},
    "closed-exec": {"closed": 1, "exec": 1},
    "closed-shell-variables": {"closed": 1, "vars": 1},
    "closed-away": {"closed": 1, "away": "/", "exec": 1},
    "closed-elsewhere": {"closed": 1, "away": "/tmp", "exec": 1},
}
ADOPTERS = [False, *([True] if ROOT else [])]


def open_scene(lab: Lab, *, below_pid_1: bool) -> Scene:
    """Open a scene whose orphans are adopted by a subreaper, or by pid 1 of a namespace."""
    if below_pid_1 and not can_unshare():
        pytest.skip("needs a pid namespace")
    return lab.scene(namespace=below_pid_1)


def suspects(answer: Answer) -> set[int]:
    """Return the pids that a report names as suspects."""
    return {
        int(str(s["ref"]).partition(":")[0])
        for t in answer.targets
        for s in cast("list[dict[str, object]]", t["suspects"])
    }


def found_or_named(scene: Scene, target: Target, outside: Collection[int] = ()) -> None:
    """Stop the main process; the escapee must be gone, or named with exit 3."""
    escapee = target.pids["escapee"]
    answer = scene.endtask("stop", target.pid, "-t", "30s", "--watch", "0", "--json")
    assert not lies(answer, scene, outside=outside), str(answer)
    if answer.code == 3:
        assert suspects(answer) == {escapee}, str(answer)
        assert not scene.exited(escapee), "a suspect is never asked"
    else:
        assert answer.code == 0, str(answer)
        assert scene.exited(escapee), str(answer)


@pytest.mark.parametrize("below_pid_1", ADOPTERS, ids=lambda b: "pid-1" if b else "subreaper")
@pytest.mark.parametrize("way", WAYS)
def test_trap_05_escapee_is_found_or_named(lab: Lab, way: str, below_pid_1: bool) -> None:  # a parameter of the test
    """Whatever it has changed on its way."""
    scene = open_scene(lab, below_pid_1=below_pid_1)
    found_or_named(scene, scene.target("escapee", port=free_port(), **WAYS[way]))


@pytest.mark.parametrize("below_pid_1", ADOPTERS, ids=lambda b: "pid-1" if b else "subreaper")
@pytest.mark.parametrize("way", ["fork", "closed-exec"])
def test_trap_05_escapee_of_a_daemon_beside_an_older_daemon(lab: Lab, way: str, below_pid_1: bool) -> None:
    """The target is a daemon itself, and an older one was started by the same shell: no reason to be silent about the escapee."""
    scene = open_scene(lab, below_pid_1=below_pid_1)
    older = scene.target("default", daemon=True)
    found_or_named(scene, scene.target("escapee", port=free_port(), daemon=True, **WAYS[way]), outside={older.pid})
    assert not scene.exited(older.pid)


@pytest.mark.parametrize("below_pid_1", ADOPTERS, ids=lambda b: "pid-1" if b else "subreaper")
@pytest.mark.parametrize("way", ["fork", "exec", "shell-variables"])
def test_trap_05_escapee_that_holds_the_port_after_the_target_has_gone(lab: Lab, way: str, below_pid_1: bool) -> None:
    """The wrapper ended long before: by port the escapee is found and stopped."""
    scene = open_scene(lab, below_pid_1=below_pid_1)
    target = scene.target("escapee", port=free_port(), gone=1, **WAYS[way])
    eventually(lambda: scene.exited(target.pid))
    answer = scene.endtask("stop", f":{target.port}", "-t", "30s", "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene, port=target.port, port_free=not port_open(target.port)), str(answer)
    assert scene.exited(target.pids["escapee"])


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("below_pid_1", ADOPTERS, ids=lambda b: "pid-1" if b else "subreaper")
def test_trap_05_what_a_real_shell_left_behind(lab: Lab, shell: str, below_pid_1: bool) -> None:
    """`(setsid program &)` in a script: the shell changes SHLVL, _ and PWD on the way."""
    path = shutil.which(shell)
    if path is None or shutil.which("setsid") is None:
        pytest.skip(f"needs {shell} and setsid")
    scene = open_scene(lab, below_pid_1=below_pid_1)
    inner = 'echo "{\\"pids\\": {\\"main\\": $MAIN, \\"escapee\\": $$}}" >&3; exec 3>&-; exec sleep 115'
    script = f"cd /tmp; export MAIN=$$; (setsid {path} -c '{inner}' </dev/null >/dev/null 2>&1 &); exec 3>&-; while :; do sleep 100; done"
    argv = [path, "-c", script]
    target = scene._told(unique("sh"), scene.start(argv))
    found_or_named(scene, target)


@pytest.mark.parametrize("way", ["fork", "exec"])
def test_trap_05_born_while_it_is_stopped(lab: Lab, way: str) -> None:
    """A daemon that the target starts as its answer to TERM is asked too."""
    assert way
    scene = lab.scene()
    target = scene.target("storm", limit=1)
    answer = scene.endtask("stop", target.pid, "-t", "30s", "--watch", "0", "--json")
    assert answer.code in (0, 124, 3), str(answer)
    assert not lies(answer, scene), str(answer)


# --------------------------------------------------------------------------- and the opposite


@pytest.mark.parametrize("below_pid_1", ADOPTERS, ids=lambda b: "pid-1" if b else "subreaper")
def test_trap_05_innocents_of_the_same_shell_are_never_asked(
    lab: Lab, below_pid_1: bool, record_property: Callable[[str, object], None]
) -> None:
    """Daemons and jobs that the same shell started before and after: no request reaches them; those from before are not even suspected."""
    scene = open_scene(lab, below_pid_1=below_pid_1)
    counts = scene.folder / "asked"
    innocents: dict[str, Target] = {}

    def bystander(name: str, **how: object) -> None:
        innocents[name] = scene.target("counter", file=counts, delay=0.1, **how)

    bystander("daemon before", daemon=True)
    bystander("session before", session=True)
    bystander("job before")
    target = scene.target("polite", delay=0)
    bystander("daemon after", daemon=True)
    bystander("daemon after, other environment", daemon=True, env={"PATH": "/bin", "OTHER": "service"})
    bystander("session after", session=True)
    bystander("job after")
    if ROOT and Path(BARE[0]).resolve().is_relative_to("/usr"):
        scene.folder.chmod(0o777)
        bystander("daemon after, other user", daemon=True, uid=65534)
    answer = scene.endtask("stop", target.pid, "-t", "30s", "--watch", "0", "--json")
    assert answer.code in (0, 3), str(answer)
    assert scene.exited(target.pid)
    assert not counts.exists(), "an innocent was asked"
    for name, innocent in innocents.items():
        assert not scene.exited(innocent.pid), name
    named = [name for name, innocent in innocents.items() if innocent.pid in suspects(answer)]
    record_property("falsely suspected", named)
    # What the target could have started looks like that, too, with other rights as well: it may be suspected, and is only named.
    assert set(named) <= {"daemon after", "daemon after, other user", "session after"}, str(answer)


def test_trap_05_innocents_are_not_forced_either(lab: Lab) -> None:
    """The same under force, for a tree of several processes."""
    scene = lab.scene()
    counts = scene.folder / "asked"
    before = scene.target("counter", file=counts, daemon=True)
    target = scene.target("child_ignores")
    after = [scene.target("counter", file=counts, daemon=bool(n % 2)) for n in range(4)]
    answer = scene.endtask("stop", target.pid, "--now", "--watch", "0", "--json")
    assert answer.code in (10, 3), str(answer)
    assert scene.exited(target.pid)
    assert scene.exited(target.pids["child"])
    assert not counts.exists()
    assert not any(scene.exited(t.pid) for t in (before, *after))


def test_trap_05_members_of_one_pipeline_are_not_each_others(lab: Lab) -> None:
    """`a | b` of an interactive shell: stopping `a` by pid does not ask `b`, and does not doubt."""
    scene = lab.scene()
    path = shutil.which("bash")
    if path is None:
        pytest.skip("needs bash")
    a, b = scene.stub(unique("a")), scene.stub(unique("b"))
    told = scene.folder / "told"
    script = f"set -m; {a} default 3>{told}.a | {b} counter file={told}.asked delay=0.1 3>{told}.b; exec 3>&-; while :; do sleep 100; done"
    scene.start(
        [
            path,
            "-c",
            f"{script.partition(';')[0]}; ({script.partition('; ')[2].partition('; exec')[0]}) & echo '{{\"pids\": {{\"main\": '$$'}}}}' >&3; exec 3>&-; wait",
        ]
    )
    for half in ("told.a", "told.b"):
        eventually(lambda f=scene.folder / half: f.exists() and f.read_text())  # type: ignore[misc]  # bound early on purpose
    first = next(s for s in scene.running() if s.comm == a.rsplit("/", 1)[-1])
    answer = scene.endtask("stop", first.pid, "-t", "30s", "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert not (scene.folder / "told.asked").exists(), "the other half of the pipeline was asked"
