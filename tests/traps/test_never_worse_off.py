"""What happens to endtask itself, and what targets do in its middle: nothing is left suspended, nothing is claimed that is not so."""

from __future__ import annotations

import json
import random
import select
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.targets.lab import (
    PATIENCE_S,
    command,
    environment,
    eventually,
    free_port,
    look_at,
    port_open,
    together,
    unique,
)
from tests.targets.truth import lies, schema_faults

if TYPE_CHECKING:
    from tests.targets.lab import Lab, Scene

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("options", [["--now"], ["--force-after", "20ms"]], ids=lambda o: o[0])
def test_killed_in_the_middle_nothing_stays_suspended(lab: Lab, options: list[str]) -> None:
    """SIGKILL at a random moment of a forced stop: whoever still lives runs on, and a second run takes over cleanly."""
    chance = random.Random(7)

    def one(moment_s: float) -> str:
        scene = lab.scene()
        target = scene.target("many", count=25, child=unique("deaf"))
        argv = command("stop", target.pid, *options, "-t", "30s", "--watch", "0")
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()) as process:
            select.select([], [], [], moment_s)  # the moment is what the test is about
            process.kill()
        try:
            eventually(lambda: not any(s.state in "Tt" for s in scene.running()))
        except TimeoutError:
            return f"suspended after a kill at {moment_s:.3f} s: {scene.running()}"
        again = scene.endtask("stop", target.pid, "--now", "-t", "30s", "--watch", "0")
        survivors = [s for s in scene.running() if s.pid == target.pid]
        scene.close()
        return str(again) if survivors or again.code not in (0, 1, 10) else ""

    assert [f for f in together(one, [chance.uniform(0.02, 0.16) for _ in range(16)], 4) if f] == []


@pytest.mark.parametrize(
    ("form", "number", "prefix"),
    [
        ("text", signal.SIGINT, ()),
        ("--json", signal.SIGINT, ()),
        ("--jsonl", signal.SIGINT, ()),
        ("text", signal.SIGTERM, ()),
        ("--json", signal.SIGHUP, ()),
        ("text", signal.SIGTERM, ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")),
    ],
)
def test_interrupted_endtask_tells_what_was_sent_and_what_still_runs(
    scene: Scene, form: str, number: signal.Signals, prefix: tuple[str, ...]
) -> None:
    """INT, TERM (of a CI job that is cancelled) or HUP to endtask, also where a script has made it deaf to INT: it asks nobody any more, says so, and leaves with 130."""
    target = scene.target("closes_port", port=free_port())
    argv = [*prefix, *command("stop", target.pid, "-t", "30s", *([form] if form != "text" else []))]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        eventually(lambda: not port_open(target.port))  # it has been asked
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert not scene.exited(target.pid)
    if form == "text":
        assert f"still running: {target.pid}" in out
        assert "TERM" in out
    else:
        document = json.loads(out if form == "--json" else out.splitlines()[-1])
        assert not schema_faults(document)
        assert (document["cancelled"], document["exit_code"]) == (True, 130)
        assert document["targets"][0]["members"][0]["receipts"][0]["status"] == "delivered"


def holds(pid: int, target: int) -> bool:
    """Return whether a process has a handle on another one: endtask knows by now whom it waits for."""
    line = f"\nPid:\t{target}\n"
    try:
        return any(line in info.read_text(encoding="ascii") for info in Path(f"/proc/{pid}/fdinfo").iterdir())
    except FileNotFoundError:  # closed, or ended, meanwhile
        return False


@pytest.mark.parametrize("deaf", [False, True])
def test_a_dead_main_thread_is_no_dead_process(scene: Scene, deaf: bool) -> None:
    """The main thread has ended, another one runs: state Z, and still not gone."""
    options: dict[str, object] = {"deaf": 1} if deaf else {}
    target = scene.target("dead_leader", **options)
    eventually(lambda: (seen := look_at(target.pid)) is not None and seen.state == "Z")
    assert not scene.exited(target.pid)
    answer = scene.endtask("stop", target.pid, "-t", "500ms" if deaf else "30s", "--watch", "0", "--json")
    assert answer.code == (124 if deaf else 0), str(answer)
    assert scene.exited(target.pid) is not deaf
    if not deaf:
        assert answer.target["outcome"] == "stopped", str(answer)
    else:
        forced = scene.endtask("stop", target.pid, "--now", "--watch", "0", "--json")
        assert forced.code == 10, str(forced)
        assert scene.exited(target.pid)


def test_a_target_that_suspends_itself_when_asked(scene: Scene) -> None:
    """Still running: it is continued when that is seen at once, or the reason is that it is stopped."""
    target = scene.target("stops_itself")
    answer = scene.endtask(
        "stop", target.pid, "-t", "2s", "--watch", "0"
    )  # time enough to do it, on a busy machine too
    assert answer.code == 124, str(answer)
    assert "is stopped" in answer.out or "CONT ->" in answer.out, str(answer)
    assert not lies(answer, scene)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_target_that_becomes_another_program_when_asked(scene: Scene, deaf: bool) -> None:
    """Same process, other name: followed by its handle to the end, or told as running."""
    options: dict[str, object] = {"deaf": 1} if deaf else {}
    target = scene.target("becomes", **options)
    answer = scene.endtask("stop", target.pid, "-t", "2s" if deaf else "30s", "--watch", "0", "--json")
    assert answer.code == (124 if deaf else 0), str(answer)
    assert not lies(answer, scene), str(answer)


@pytest.mark.parametrize("options", [{}, {"family": 6}, {"udp": 1}, {"family": 6, "udp": 1}], ids=str)
def test_two_programs_share_a_port(scene: Scene, options: dict[str, object]) -> None:
    """SO_REUSEPORT: refused without `--all`, both end with it; the document says that the port is free."""
    port = free_port()
    first, second = (scene.target("shares_port", port=port, **options) for _ in range(2))
    word = f"udp:{port}" if "udp" in options else f":{port}"
    refused = scene.endtask("stop", word)
    assert refused.code == 2, str(refused)
    assert not scene.exited(first.pid)
    answer = scene.endtask("stop", word, "--all", "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert scene.exited(first.pid)
    assert scene.exited(second.pid)
    for target in answer.targets:
        assert [p["free"] for p in cast("list[dict[str, object]]", target["ports"])] == [True], str(answer)


def test_wait_proves_the_end_of_what_others_stop(scene: Scene) -> None:
    """`wait` sends nothing; it is back when the process is gone, with the status."""
    target = scene.target("polite", delay=0.3, status=5)
    argv = command("wait", target.pid, "-t", "40s", "--json")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        eventually(lambda: holds(process.pid, target.pid))
        assert process.poll() is None
        scene.signal(target.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert scene.exited(target.pid)
    assert process.returncode == 0, out
    member = json.loads(out)["targets"][0]["members"][0]
    assert member["receipts"] == []
    assert member["end"]["status"] in (5, None)
