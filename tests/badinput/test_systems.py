"""Systems that hide, refuse or lack something: no /proc, hidepid, few descriptors, no pidfds, another user's machine.

Each gives one clear sentence and the right code, and where it works all the same, the evidence says how weakly.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.linux import nopidfd
from tests.matrix.cases import Cell, judge
from tests.targets.lab import ROOT, command, environment, free_port, process_table, run, together, unique
from tests.targets.truth import lies
from tests.traps.test_traps_words import as_nobody, nobody_python

if TYPE_CHECKING:
    from tests.targets.lab import Answer, Lab, Scene

pytestmark = [pytest.mark.real, pytest.mark.slow]


# --------------------------------------------------------------------------- no /proc


def without_proc(how: str) -> list[str]:
    """Return the words before a command that make it see no /proc; skip where that cannot be done."""
    script = {
        "unmounted": "umount -l /proc",
        "empty": "mount -t tmpfs none /proc",
        "only-self": "mount -t tmpfs none /proc && mkdir /proc/self && ln -s / /proc/self/fd",
    }[how]
    words = ["unshare", "--mount", "/bin/sh", "-c", f'{script} && exec "$@"', "sh"]
    if not ROOT or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and a mount namespace")
    return words


@pytest.mark.needs_root
@pytest.mark.parametrize("how", ["unmounted", "empty", "only-self"])
def test_no_proc_is_said_and_nothing_is_claimed(scene: Scene, how: str) -> None:
    """Every verb and every WHAT: exit 3, /proc is named, nobody is called gone, nobody is asked."""
    words = without_proc(how)
    target = scene.target("polite", port=free_port())
    words_of = {"pid": str(target.pid), "name": target.name, "port": f":{target.port}", "file": f"file:{scene.folder}"}
    verbs = ("stop", "look", "plan", "why", "wait") if how == "empty" else ("stop",)
    calls = [[verb, what] for verb in verbs for what in words_of.values()]

    def one(argv: list[str]) -> str:
        answer = scene.endtask(*argv, *(["-t", "1s"] if argv[0] in ("stop", "wait", "plan") else []), prefix=words)
        faults = []
        if answer.code != 3:
            faults.append(f"code {answer.code}")
        if "/proc" not in answer.err or "Traceback" in answer.text or "internal fault" in answer.text:
            faults.append("no clear sentence")
        return f"{faults}: {answer}" if faults else ""

    assert "\n".join(f for f in together(one, calls, 6) if f) == ""
    assert not scene.exited(target.pid)


# --------------------------------------------------------------------------- hidepid


@pytest.mark.needs_root
@pytest.mark.parametrize("option", ["1", "2", "4"])
def test_hidden_processes_are_not_called_gone(lab: Lab, own_namespace: None, option: str) -> None:
    """User 65534 and a root process with /proc mounted `hidepid=`: by pid "not permitted", its own process it can stop."""
    python = nobody_python()
    scene = lab.scene(namespace=True)
    hidden = scene.target("default", port=free_port())
    own = scene.target("polite", uid=65534) if Path(os.path.realpath("/usr/bin/python3")).exists() else None
    words = ["/bin/sh", "-c", f'mount -t proc -o hidepid={option} proc /proc && exec "$@"', "sh", *as_nobody()]
    mount = ["unshare", "--mount", *words]
    if run(["nsenter", "--target", str(scene.outer), "--pid", "--mount", "--", *mount, "true"]).code:
        pytest.skip("needs a /proc that can be mounted with hidepid")

    def endtask(*argv: object) -> Answer:
        enter = ["nsenter", "--target", str(scene.outer), "--pid", "--mount", "--", *mount]
        return run([*enter, python, *command(*argv)[1:]], shown=argv, observe=scene.running, cwd="/")

    by_pid = endtask("stop", hidden.pid, "-t", "1s", "--json")
    assert by_pid.code == 77, str(by_pid)
    assert "gone" not in by_pid.text
    for verb in ("look", "why", "wait"):
        answer = endtask(verb, hidden.pid, *(["-t", "300ms"] if verb == "wait" else []))
        assert answer.code in (77, 124) or (answer.code == 0 and verb != "wait"), str(answer)
        assert "Traceback" not in answer.text
        assert "no process has the pid" not in answer.text, str(answer)
        assert f"{hidden.pid} (name hidden)" in answer.text or hidden.name in answer.text, str(answer)
    in_words = endtask("stop", hidden.pid, "-t", "1s")
    assert f"not permitted: {hidden.pid} (name hidden)" in in_words.text or hidden.name in in_words.text, str(in_words)
    by_name = endtask("stop", hidden.name, "-t", "1s")
    assert by_name.code == 77, str(by_name)
    missing_ok = endtask("stop", hidden.name, "-t", "1s", "--missing-ok")
    assert missing_ok.code == 77, str(missing_ok)
    by_port = endtask("stop", f":{hidden.port}", "-t", "1s")
    assert by_port.code == 77, str(by_port)
    nobody_there = endtask("stop", 30000, "-t", "1s")
    assert nobody_there.code == 1, str(nobody_there)
    if own is not None:
        mine = endtask("stop", own.pid, "-t", "40s", "--watch", "0", "--json")
        assert mine.code in (0, 3), str(mine)
        assert scene.exited(own.pid)
        assert not lies(mine, scene, outside=[hidden.pid]), str(mine)
    assert not scene.exited(hidden.pid)


# --------------------------------------------------------------------------- rights


@pytest.mark.needs_root
def test_a_tree_of_which_only_a_part_is_ours(scene: Scene) -> None:
    """User 65534 stops its own process, whose child belongs to root: not permitted, and the child is named."""
    python = nobody_python()
    if not Path(os.path.realpath("/usr/bin/python3")).exists():
        pytest.skip("needs a Python that user 65534 can run")
    mine = scene.target("polite", uid=65534)
    answer = run(
        [*as_nobody(), python, "-m", "endtask", "stop", str(mine.pid), "-t", "5s", "--watch", "0", "--json"],
        observe=scene.running,
        cwd="/",
    )
    assert answer.code in (0, 3), str(answer)
    assert not lies(answer, scene), str(answer)
    assert scene.exited(mine.pid)


@pytest.mark.needs_root
def test_an_unprivileged_user_reads_a_pid_file_of_root(scene: Scene) -> None:
    """A pid file that may not be read is "not permitted" or told as unreadable, never "stale"."""
    python = nobody_python()
    target = scene.target("default")
    secret = scene.folder / "secret.pid"
    secret.write_text(str(target.pid), encoding="ascii")
    secret.chmod(0o600)
    answer = run([*as_nobody(), python, "-m", "endtask", "stop", f"pidfile:{secret}"], observe=scene.running, cwd="/")
    assert answer.code in (77, 1), str(answer)
    assert "stale" not in answer.text
    assert "Traceback" not in answer.text
    assert not scene.exited(target.pid)


# --------------------------------------------------------------------------- descriptors


@pytest.mark.parametrize("limit", [64, 16])
def test_few_descriptors_and_many_targets(scene: Scene, limit: int) -> None:
    """RLIMIT_NOFILE 64 and 300 independent targets: all are stopped, each end is seen on a handle."""
    name = unique("few")
    parent = scene.target("many", count=300, child=name, mild=1)
    words = ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]
    answer = scene.endtask("stop", name, "--all", "-t", "20s", "--watch", "0", "--json", prefix=words)
    assert "Traceback" not in answer.text
    assert not lies(answer, scene, outside=[parent.pid]), str(answer)[-3000:]
    if limit >= 64:
        assert answer.code == 0, str(answer)[-3000:]
        assert len(answer.targets) == 300
    else:
        assert answer.code in (0, 3), str(answer)[-3000:]


def test_few_descriptors_and_one_large_tree(scene: Scene) -> None:
    """RLIMIT_NOFILE 64 and a tree of 301: stopped and true, or one sentence that says what is missing."""
    target = scene.target("many", count=300, child=unique("few"), mild=1)
    words = ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    answer = scene.endtask("stop", target.pid, "-t", "20s", "--watch", "0", "--json", prefix=words)
    assert "Traceback" not in answer.text
    assert "internal fault" not in answer.text, str(answer)[-3000:]
    if answer.code == 0:
        assert not lies(answer, scene), str(answer)[-3000:]
    else:
        assert answer.code in (3, 124), str(answer)[-3000:]
        assert "descriptor" in answer.text or answer.code == 124, str(answer)[-3000:]


# --------------------------------------------------------------------------- no pidfds

OLD = [sys.executable, "-I", nopidfd.__file__]
OLD_KINDS = [
    "quick",
    "default",
    "ignores",
    "stopped",
    "child-ignores",
    "escapee",
    "respawned-0.2s",
    "zombie",
    "becomes-zombie",
]
OLD_KERNELS = [
    ("ENOSYS", "both", OLD_KINDS),
    ("EPERM", "both", OLD_KINDS),
    ("ENOSYS", "open", OLD_KINDS[1:6]),
    ("ENOSYS", "send", OLD_KINDS[1:6]),
]


@pytest.mark.parametrize(("error", "calls", "kinds"), OLD_KERNELS, ids=lambda p: p if isinstance(p, str) else "")
def test_a_kernel_without_pidfds_gives_no_lie(lab: Lab, error: str, calls: str, kinds: list[str]) -> None:
    """The matrix by pid with every pidfd call refused: true all the same."""
    prefix = [*OLD, error, calls]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs seccomp filters")
    cells = [
        Cell(kind, "pid", form, namespace=False)
        for kind in kinds
        for form in ("json", "text")[: 2 if calls == "both" else 1]
    ]
    judged = together(lambda cell: judge(lab, cell, prefix), cells, 8)
    assert "\n".join(str(j) for j in judged if j.lies) == ""


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_a_kernel_without_pidfds_says_how_weak_the_evidence_is(scene: Scene, error: str) -> None:
    """`observed`, not `proved`; the mechanism is no pidfd; EPERM of the call is not taken for "not permitted"."""
    prefix = [*OLD, error, "both"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs seccomp filters")
    target = scene.target("default")
    answer = scene.endtask("stop", target.pid, "--watch", "0", "--json", prefix=prefix)
    assert answer.code == 0, str(answer)
    evidence = cast("list[dict[str, object]]", answer.target["evidence"])
    assert "pidfd" not in [e["mechanism"] for e in evidence], str(answer)
    assert "observed" in [e["strength"] for e in evidence], str(answer)
    assert not lies(answer, scene)
    assert errno.errorcode[getattr(errno, error)] == error


def test_nothing_is_left_behind(lab: Lab) -> None:
    """The laboratory itself: after a scene has closed, nothing that it started runs, escapees and stopped ones included."""
    scene = lab.scene()
    names = {
        scene.target(p, **o).name
        for p, o in (("escapee", {}), ("ignores", {"all": 1}), ("stopped", {}), ("child_ignores", {}), ("group", {}))
    }
    scene.close()
    assert not [s for s in process_table().values() if s.comm in names]
    assert shutil.which("sh")
    assert environment()
