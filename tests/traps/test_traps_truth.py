"""The traps of others, as tests: what is said about the end of a process, its tree and its port is true."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from typing import TYPE_CHECKING, cast

import pytest

from tests.targets.lab import can_unshare, command, eventually, free_port, port_open, run, sees_forks, together, unique
from tests.targets.truth import lies

if TYPE_CHECKING:
    from tests.targets.lab import Answer, Lab, Scene

pytestmark = pytest.mark.real


def members(answer: Answer) -> list[dict[str, object]]:
    """Return the members of all targets of a report."""
    return [m for target in answer.targets for m in cast("list[dict[str, object]]", target["members"])]


def reasons(answer: Answer) -> list[str]:
    """Return the codes of all reasons of a report."""
    return [str(r["code"]) for target in answer.targets for r in cast("list[dict[str, object]]", target["reasons"])]


def assert_true(answer: Answer, scene: Scene, code: int, **how: object) -> None:
    """Check the exit code and every word."""
    assert answer.code == code, str(answer)
    assert not lies(answer, scene, **how), str(answer)  # type: ignore[arg-type]  # passed through


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_trap_01_ignores_term_and_force_is_not_allowed(scene: Scene, form: str) -> None:
    """Not success; pid, request and the fact that it still runs are named."""
    target = scene.target("ignores")
    answer = scene.endtask("stop", target.pid, "-t", "300ms", *(["--json"] if form == "json" else []))
    assert_true(answer, scene, 124)
    assert target.pid in answer.left_pids()
    if form == "text":
        assert re.search(rf"^still running: {target.pid} {target.name} .*TERM.*delivered", answer.out, re.MULTILINE), (
            str(answer)
        )
        assert f"{target.pid} {target.name} ignores TERM" in answer.out
    else:
        (member,) = members(answer)
        assert member["exited"] is False
        assert member["forced"] is False
        assert [(r["request"], r["status"]) for r in cast("list[dict[str, object]]", member["receipts"])] == [
            ("TERM", "delivered")
        ]
        assert "ignored" in reasons(answer)


@pytest.mark.slow
def test_trap_02_success_only_after_the_exit(scene: Scene) -> None:
    """A process that needs 1.2 s is called stopped after 1.2 s, not before, with the status that its parent got."""
    target = scene.target("polite", delay=1.2, status=42)
    answer = scene.endtask("stop", target.pid, "--watch", "0", "--json")
    assert answer.took_s >= 1.2
    assert_true(answer, scene, 0)
    (member,) = members(answer)
    assert cast("float", member["exited_at_s"]) >= 1.2
    end = cast("dict[str, object]", member["end"])
    assert end["status"] in (42, None)
    assert end["status"] == 42 or end["why_unknown"]


@pytest.mark.slow
def test_trap_03_escalation_fires_1000_of_1000(scene: Scene) -> None:
    """Every one of 1,000 processes that ignore TERM is asked first and forced afterwards."""
    name = unique("deaf")
    parent = scene.target("many", count=1000, child=name)
    answer = scene.endtask("stop", name, "--all", "--force-after", "300ms", "-t", "50s", "--watch", "0", "--json")
    assert_true(answer, scene, 10, outside=[parent.pid])
    assert len(answer.targets) == 1000
    assert {t["outcome"] for t in answer.targets} == {"forced"}
    sent = [tuple(r["request"] for r in cast("list[dict[str, object]]", m["receipts"])) for m in members(answer)]
    assert set(sent) == {("TERM", "KILL")}
    assert len(sent) == 1000


@pytest.mark.slow
def test_trap_03_escalation_reaches_every_member_of_a_tree(scene: Scene) -> None:
    """The same for one target with 300 children."""
    target = scene.target("many", count=300, child=unique("deaf"))
    answer = scene.endtask("stop", target.pid, "--force-after", "300ms", "-t", "50s", "--watch", "0", "--json")
    assert_true(answer, scene, 10)
    assert sum(bool(m["forced"]) for m in members(answer)) >= 300
    assert len(members(answer)) == 301


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["--tree", "--group"])
def test_trap_04_leader_exits_and_a_group_member_ignores(scene: Scene, scope: str) -> None:
    """The survivor is listed, as a member or (adopted by a stranger, in a tree) as a suspect; no success."""
    target = scene.target("group")
    answer = scene.endtask("stop", target.pid, scope, "-t", "2s", "--watch", "0")
    assert_true(answer, scene, 3 if answer.code == 3 and scope == "--tree" else 124)
    assert scene.exited(target.pid)
    assert re.search(rf"^(still running:|  suspect ) {target.pids['member']} ", answer.out, re.MULTILINE), str(answer)


def escaped(answer: Answer) -> bool:
    """Return whether a successor was born unseen and is named as a suspect: nobody can do more where forks are not reported."""
    if sees_forks() or answer.code != 3:
        return False
    suspects = [s for target in answer.targets for s in cast("list[dict[str, object]]", target["suspects"])]
    assert suspects, str(answer)
    assert all(target["outcome"] == "unproven" for target in answer.targets), str(answer)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--now", "--force-after=200ms"])
@pytest.mark.parametrize("kind", ["reborn", "wild"])
def test_trap_06_fork_storm_while_stopping_leaves_no_survivor(scene: Scene, how: str, kind: str) -> None:
    """Processes that fork when asked, or all the time, are all gone after a forced end."""
    options: dict[str, object] = {"wild": 1} if kind == "wild" else {}
    target = scene.target("storm", limit=400, **options)
    answer = scene.endtask("stop", target.pid, how, "-t", "40s", "--watch", "0", "--json")
    if escaped(answer):
        return
    assert answer.code in (0, 10), str(answer)
    assert not lies(answer, scene), str(answer)
    assert not scene.running()


@pytest.mark.slow
def test_trap_06_successors_born_while_stopping_are_asked_too(scene: Scene) -> None:
    """A chain of successors, each in a session of its own and born by the request itself, is followed to its end."""
    target = scene.target("storm", limit=40)
    answer = scene.endtask("stop", target.pid, "-t", "40s", "--watch", "0", "--json")
    if escaped(answer):
        return
    assert_true(answer, scene, 0)
    assert len(members(answer)) > 20, str(answer)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [True, False])
def test_trap_07_zombie_that_nobody_reaps_is_gone_and_the_parent_is_named(
    scene: Scene, dead: bool
) -> None:  # a parameter of the test
    """Success without spending the time, and "not reaped by PARENT" is said."""
    options: dict[str, object] = {"dead": 3} if dead else {}
    target = scene.target("zombie", child=unique("undead"), **options)
    answer = scene.endtask("stop", target.pid, "-t", "50s", "--watch", "0", "--json")
    assert_true(answer, scene, 0, outside=[target.pids["parent"]])
    assert answer.took_s < 45
    assert answer.target["outcome"] == ("already-gone" if dead else "stopped")
    end = cast("dict[str, object]", members(answer)[0]["end"])
    assert end["unreaped_by"] == target.pids["parent"]
    words = scene.endtask("stop", target.pid, "--watch", "0")
    assert_true(words, scene, 0, outside=[target.pids["parent"]])
    assert f"not reaped by {target.pids['parent']}" in words.out, str(words)


@pytest.mark.slow
def test_trap_11_a_newcomer_on_the_port_is_not_our_failure(scene: Scene) -> None:
    """Success; the document names the newcomer as somebody else."""
    target = scene.target("default", port=free_port())
    newcomer = scene.target("waits_for_port", take=target.port)
    answer = scene.endtask("stop", f":{target.port}", "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert scene.exited(target.pid)
    assert not scene.exited(newcomer.pid)
    eventually(lambda: port_open(target.port))
    (state,) = cast("list[dict[str, object]]", answer.target["ports"])
    if not state["free"]:
        assert (state["ours"], state["holder_pid"]) == (False, newcomer.pid)


@pytest.mark.slow
def test_trap_11_success_only_when_the_listener_is_gone(scene: Scene) -> None:
    """A child that ignores TERM and shares the listening socket: no success, the port is named."""
    target = scene.target("child_ignores", port=free_port())
    answer = scene.endtask("stop", f":{target.port}", "-t", "600ms", "--watch", "0")
    assert_true(answer, scene, 124, port=target.port, port_free=not port_open(target.port))
    assert port_open(target.port)


@pytest.mark.slow
def test_trap_12_rebind_right_after_success_100_of_100(lab: Lab) -> None:
    """The port can be bound without SO_REUSEADDR the moment endtask returns."""
    scenes = [lab.scene() for _ in range(4)]

    def rounds(scene: Scene) -> list[str]:
        faults = []
        for _ in range(25):
            target = scene.target("default", port=free_port(), plain=1, daemon=True)
            answer = scene.endtask("stop", f":{target.port}", "-q")
            with socket.socket() as again:
                try:
                    again.bind(("127.0.0.1", target.port))
                except OSError as error:
                    faults.append(f"{error}: {answer}")
            if answer.code != 0:
                faults.append(str(answer))
        return faults

    assert [fault for faults in together(rounds, scenes, 4) for fault in faults] == []


@pytest.mark.slow
def test_trap_13_a_closed_port_is_not_a_stopped_process(scene: Scene) -> None:
    """A server that closes its port on TERM and runs on is not called stopped, neither by port nor by pid."""
    target = scene.target("closes_port", port=free_port())
    answer = scene.endtask("stop", f":{target.port}", "-t", "2s", "--watch", "0")
    assert_true(answer, scene, 124, port=target.port, port_free=True)
    by_pid = scene.endtask("stop", target.pid, "-t", "400ms", "--watch", "0")
    assert_true(by_pid, scene, 124)
    by_port = scene.endtask("stop", f":{target.port}")
    assert by_port.code == 1, str(by_port)
    assert "nobody listens" in by_port.text


def test_trap_15_a_negative_number_never_becomes_a_process_group(lab: Lab) -> None:
    """Refused before any call: `-5` and `-- -5` mean no group; in a namespace of its own, because -1 would mean everybody."""
    if not can_unshare():
        pytest.skip("needs a pid namespace of its own to be safe")
    scene = lab.scene(namespace=True)
    target = scene.target("default")
    for words in (["--", f"-{target.pid}"], [f"-{target.pid}"], ["--", "-1"], ["--", "-0"], ["--", f"+{target.pid}"]):
        answer = scene.endtask("stop", *words)
        assert answer.code == 2, str(answer)
        assert "hint:" in answer.err
    assert not scene.exited(target.pid)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["--group", "--session-of"])
def test_trap_15_our_own_group_or_session_is_no_way_to_hit_us(scene: Scene, scope: str) -> None:
    """A target in the group (session) of endtask and of the shell that runs it: only the target ends."""
    script = f'sleep 60 >/dev/null 2>&1 & p=$!; trap "kill $p 2>/dev/null" EXIT; "$@" stop $p {scope} -t 30s --now --watch 0; echo "code $?"; kill -0 $$ && echo alive'
    # A session of its own, so that nothing but this script can be in scope.
    argv = ["setsid", "--wait", "/bin/sh", "-c", script, "sh", *command()]
    answer = run(argv, observe=scene.running)
    assert answer.out.splitlines()[-2:] == ["code 10", "alive"], str(answer)


@pytest.mark.slow
def test_trap_15_a_shared_cgroup_is_planned_without_us(scene: Scene) -> None:
    """The plan for the cgroup that we live in, too, holds neither endtask nor its ancestors; only planned, because it is everybody's cgroup."""
    target = scene.target("default")
    answer = scene.endtask("plan", target.pid, "--cgroup", "--json")
    if answer.code == 2:
        assert "root cgroup" in answer.err
        return
    assert answer.code == 0, str(answer)
    planned = {
        int(str(m["ref"]).partition(":")[0])
        for t in answer.targets
        for m in cast("list[dict[str, object]]", t["members"])
    }
    assert target.pid in planned
    assert not planned & {1, os.getpid(), os.getppid()}


@pytest.mark.slow
def test_trap_18_one_target_named_three_ways_gets_one_request(scene: Scene) -> None:
    """Pid, name and port of the same process: it counts one TERM."""
    counts = scene.folder / "counts"
    target = scene.target("counter", file=counts, port=free_port())
    answer = scene.endtask("stop", target.pid, target.name, f":{target.port}", "--watch", "0", "--json")
    assert_true(answer, scene, 0, port=target.port, port_free=not port_open(target.port))
    assert counts.read_text() == '{"SIGTERM": 1}\n'
    assert len(answer.targets) == 1


@pytest.mark.slow
def test_trap_18_a_member_that_is_named_too_gets_one_request(scene: Scene) -> None:
    """Parent and child both named: each counts one TERM, although the child is also a member of the parent's tree."""
    counts = scene.folder / "counts"
    target = scene.target("counter", file=counts, child=1)
    answer = scene.endtask("stop", target.pid, target.pids["child"], "--watch", "0", "-t", "30s")
    assert answer.code == 0, str(answer)
    assert not scene.running()
    lines = counts.read_text().splitlines()
    assert lines == ['{"SIGTERM": 1}'] * 2, lines


@pytest.mark.slow
def test_trap_19_each_step_of_a_plan_is_sent_once_and_in_order(scene: Scene) -> None:
    """`TERM/200ms/INT/200ms/HUP/30` asks three times, never twice with the same."""
    counts = scene.folder / "counts"
    target = scene.target("counter", file=counts, delay=3)
    answer = scene.endtask("stop", target.pid, "--plan", "TERM/200ms/INT/200ms/HUP/30", "--watch", "0", "--json")
    assert_true(answer, scene, 0)
    assert counts.read_text() == '{"SIGTERM": 1, "SIGINT": 1, "SIGHUP": 1}\n'
    times = [cast("float", r["at_s"]) for r in cast("list[dict[str, object]]", members(answer)[0]["receipts"])]
    assert times == sorted(times)


@pytest.mark.slow
def test_trap_26_force_is_never_silent(scene: Scene) -> None:
    """Forced is told by the exit code, in words and in JSON; `--force-ok` changes the code and nothing else."""
    first, second, third = (scene.target("default") for _ in range(3))
    outside = [first.pid, second.pid, third.pid]
    words = scene.endtask("stop", first.pid, "--now", "--watch", "0")
    assert_true(words, scene, 10, outside=outside)
    assert f"forced: {first.pid}" in words.out
    document = scene.endtask("stop", second.pid, "--now", "--watch", "0", "--json")
    assert_true(document, scene, 10, outside=outside)
    assert document.target["outcome"] == "forced"
    fine = scene.endtask("stop", third.pid, "--now", "--watch", "0", "--force-ok")
    assert fine.code == 0, str(fine)
    assert f"forced: {third.pid}" in fine.out
    assert not scene.running()


@pytest.mark.slow
def test_trap_26_force_that_was_not_needed_is_not_used(scene: Scene) -> None:
    """With `--force-after` a polite process is asked and never forced; without it force never happens."""
    polite = scene.target("polite")
    answer = scene.endtask("stop", polite.pid, "--force-after", "5s", "--watch", "0", "--json")
    assert_true(answer, scene, 0)
    assert [r["request"] for r in cast("list[dict[str, object]]", members(answer)[0]["receipts"])] == ["TERM"]
    deaf = scene.target("ignores", all=1)
    answer = scene.endtask("stop", deaf.pid, "--plan", "TERM/100ms/INT/100ms/HUP/100ms/QUIT/100ms", "--watch", "0")
    assert_true(answer, scene, 124)
    assert not scene.exited(deaf.pid)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sleep") is None, reason="needs sleep")
def test_trap_29_a_stale_pid_file_is_told_and_nobody_is_asked(scene: Scene) -> None:
    """A process younger than the file is somebody else; a file with a dead pid is stale; a right one works."""
    target = scene.target("default")
    file = scene.folder / "server.pid"
    file.write_text(f"{target.pid}\n", encoding="ascii")
    os.utime(file, (1_000_000, 1_000_000))  # written long before the process started
    answer = scene.endtask("stop", f"pidfile:{file}")
    assert answer.code == 1, str(answer)
    assert "stale" in answer.text
    assert not scene.exited(target.pid)
    ended = scene.target("default")
    scene.signal(ended.pid, signal.SIGKILL)
    eventually(lambda: ended.pid in scene.reaped())
    file.write_text(f"{ended.pid}\n", encoding="ascii")
    answer = scene.endtask("stop", f"pidfile:{file}")
    assert answer.code == 1, str(answer)
    assert f"no process has the pid {ended.pid}" in answer.text
    file.write_text(f"{target.pid}\n", encoding="ascii")
    answer = scene.endtask("stop", f"pidfile:{file}", "--watch", "0")
    assert_true(answer, scene, 0)
