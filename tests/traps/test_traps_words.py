"""The traps of others, as tests: who is selected, what is foretold, what is explained; and nothing ever hangs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.targets.lab import (
    ISOLATED,
    ROOT,
    Lab,
    command,
    environment,
    eventually,
    process_table,
    run,
    together,
    unique,
)
from tests.targets.truth import lies, schema_faults

if TYPE_CHECKING:
    from tests.targets.lab import Answer, Scene, Target

pytestmark = pytest.mark.real

NOBODY = 65534


def refs(answer: Answer) -> list[list[str]]:
    """Return the members of each target of a plan or report."""
    return [[str(m["ref"]) for m in cast("list[dict[str, object]]", t["members"])] for t in answer.targets]


def predictions(answer: Answer) -> dict[str, str]:
    """Return request -> answer of the only process that a `look` has seen."""
    (seen,) = cast("list[dict[str, dict[str, list[dict[str, str]]]]]", answer.document["seen"])
    return {p["request"]: p["answer"] for p in seen["forecast"]["predictions"]}


def seen(answer: Answer) -> dict[str, dict[str, object]]:
    """Return the only process that a `look` has seen."""
    assert not schema_faults(answer.document)
    (one,) = cast("list[dict[str, dict[str, object]]]", answer.document["seen"])
    return one


# --------------------------------------------------------------------------- 9, 10: rights


def nobody_python() -> str:
    """Return a Python that user 65534 can run endtask with; skip where there is none."""
    if not ROOT or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become another user")
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [*as_nobody(), python, "-c", "import endtask.cli.main"]
        if (
            Path(python).exists()
            and subprocess.run(probe, env=environment(), cwd="/", capture_output=True, check=False).returncode == 0
        ):
            return python
    pytest.skip("needs a Python and an endtask that user 65534 can read")


def as_nobody() -> list[str]:
    """Return the words that make a command run as user 65534."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


@pytest.mark.needs_root
@pytest.mark.slow
@pytest.mark.parametrize("selector", ["pid", "name", "port"])
def test_trap_10_another_users_process_is_not_permitted_never_gone(scene: Scene, selector: str) -> None:
    """EPERM is exit 77 and "not permitted"; the process runs on."""
    python = nobody_python()
    from tests.targets.lab import free_port

    target = scene.target("default", port=free_port())
    word = {"pid": str(target.pid), "name": target.name, "port": f":{target.port}"}[selector]
    for form in ([], ["--json"]):
        answer = run(
            [*as_nobody(), python, "-m", "endtask", "stop", word, "-t", "2s", *form], observe=scene.running, cwd="/"
        )
        assert answer.code == 77, str(answer)
        assert "gone" not in answer.text.replace("gone:", ""), str(answer)
        assert not lies(answer, scene), str(answer)
        assert not scene.exited(target.pid)
    if selector != "port":
        assert "not permitted" in run([*as_nobody(), python, "-m", "endtask", "stop", word], cwd="/").text


@pytest.mark.needs_root
@pytest.mark.slow
def test_trap_09_unreadable_is_unknown_never_gone_never_reused(scene: Scene) -> None:
    """`look` as another user says what it cannot read; `wait` on a process that may not be signalled still proves its end."""
    python = nobody_python()
    target = scene.target("polite", delay=0)
    look = run([*as_nobody(), python, "-m", "endtask", "look", str(target.pid), "--json"], cwd="/")
    assert look.code == 0, str(look)
    facts = seen(look)["facts"]
    assert facts["exited"] is False
    assert facts["unknown"], "a stranger cannot read everything"
    waiting = run(
        [*as_nobody(), python, "-m", "endtask", "wait", str(target.pid), "-t", "300ms"], observe=scene.running, cwd="/"
    )
    assert waiting.code == 124, str(waiting)
    assert not lies(waiting, scene)


@pytest.mark.needs_root
@pytest.mark.parametrize("options", [[], ["--now"]])
def test_plan_says_before_that_we_may_not_ask(scene: Scene, options: list[str]) -> None:
    """`plan` as another user: the answer is "not permitted", and a warning says whose process it is; so do `look` and `why`."""
    python = nobody_python()
    target = scene.target("default")
    words = [*as_nobody(), python, "-m", "endtask"]
    plan = run([*words, "plan", str(target.pid), *options, "--json"], cwd="/")
    (planned,) = cast("list[dict[str, list[str]]]", plan.targets[0]["members"])
    assert planned["answers"] == ["denied"], str(plan)
    warning = "we may not send it a signal: it belongs to user root"
    assert [f"{target.pid} {target.name}: {warning}"] == plan.targets[0]["warnings"], str(plan)
    for verb in ("look", "why"):
        assert warning in run([*words, verb, str(target.pid)], cwd="/").text
    assert warning not in scene.endtask("plan", target.pid).text


# --------------------------------------------------------------------------- 20, 21: selection


@pytest.mark.slow
def test_trap_20_dry_run_and_stop_mean_the_same_processes(lab: Lab) -> None:
    """`plan` and `stop --dry-run` are equal byte for byte, and `stop` then concerns exactly those processes, in that order."""
    forms: list[tuple[str, dict[str, object], list[str]]] = [
        ("child_ignores", {}, []),
        ("many", {"count": 12, "child": unique("kid"), "mild": 1}, []),
        ("many", {"count": 12, "child": unique("kid"), "mild": 1}, ["--group"]),
        ("escapee", {}, ["--all"]),
        ("group", {}, ["--session-of"]),
        ("polite", {}, ["--only"]),
    ]

    def compare(form: tuple[str, dict[str, object], list[str]]) -> str:
        program, options, more = form
        with lab.scene(namespace=False) as scene:
            # With a parent in another session, so that `--session-of` holds the target's own processes only.
            target = scene.target(program, daemon="--session-of" in more, **options)
            word = target.name if "--all" in more else str(target.pid)
            arguments = [word, *more, "-t", "500ms", "--watch", "0", "--json"]
            planned = scene.endtask("plan", *arguments)
            dry = scene.endtask("stop", *arguments, "--dry-run")
            assert planned.out == dry.out, f"{planned}\n{dry}"
            assert planned.code == dry.code == 0, str(planned)
            assert not schema_faults(planned.document)
            assert len(planned.left) == len(dry.left), "a dry run has no effect"
            answer = scene.endtask("stop", *arguments)
            assert refs(answer) == refs(planned), f"{answer}\n{planned}"
            return str(answer)

    together(compare, forms)


@pytest.mark.slow
def test_trap_20_keep_is_planned_as_it_is_done(scene: Scene) -> None:
    """A kept member is named as left alone in the plan, and is."""
    target = scene.target("child_ignores")
    child = target.pids["child"]
    planned = scene.endtask("plan", target.pid, "--keep", child)
    assert re.search(rf"{child} .*left alone", planned.out), str(planned)
    answer = scene.endtask("stop", target.pid, "--keep", child, "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert answer.left_pids() == {child}
    assert not lies(answer, scene, outside=[child])


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["stop", "plan", "wait"])
def test_trap_21_several_programs_of_one_name_are_refused(scene: Scene, verb: str) -> None:
    """Exit 2, each is listed with its identity, nobody is asked; `--all` means all."""
    name = unique("twin")
    twins = [scene.target("default", name=name) for _ in range(3)]
    answer = scene.endtask(verb, name)
    assert answer.code == 2, str(answer)
    assert "3 independent programs" in answer.err
    for twin in twins:
        assert re.search(rf"\b{twin.pid}:\d+ {name}\b", answer.err), str(answer)
        assert not scene.exited(twin.pid)
    if verb == "stop":
        answer = scene.endtask("stop", name, "--all", "--watch", "0", "--json")
        assert answer.code == 0, str(answer)
        assert not lies(answer, scene), str(answer)
        assert len(answer.targets) == 3


@pytest.mark.slow
def test_trap_21_our_own_ancestors_are_never_selected(scene: Scene) -> None:
    """By name: a word that fits only an ancestor is refused; one that fits a stranger too means the stranger alone."""
    name = unique("anc")
    shell = scene.folder / name
    shell.symlink_to(os.path.realpath("/bin/sh"))
    script = '"$@"; echo "code $?"; :'
    only = run([str(shell), "-c", script, "sh", *command("stop", name, "-t", "30s")])
    assert "code 2" in only.out, str(only)
    assert "never selected" in only.err, str(only)
    stranger = scene.target("default", name=name)
    both = run(
        [str(shell), "-c", script, "sh", *command("stop", name, "-t", "30s", "--watch", "0")], observe=scene.running
    )
    assert "code 0" in both.out, str(both)
    assert scene.exited(stranger.pid)
    assert f"{stranger.pid} {name}" in both.out


def test_trap_21_ourselves_our_parents_and_pid_1_by_number(scene: Scene) -> None:
    """Each is refused with a reason of its own."""
    words = {"1": "pid 1", str(os.getpid()): "an ancestor of endtask", str(os.getppid()): "ancestor"}
    for word, text in words.items():
        if word == "1" or int(word) > 1:
            answer = scene.endtask(
                "plan", word
            )  # resolved as `stop` does; if it ever were not refused, nobody would be hurt
            assert answer.code == 2, str(answer)
            assert text in answer.err or "pid 1" in answer.err, str(answer)
    itself = run(["/bin/sh", "-c", 'exec "$@" stop $$', "sh", *command()])
    assert itself.code == 2, str(itself)
    assert "endtask itself" in itself.err


# --------------------------------------------------------------------------- 22-25: what is foretold


@pytest.mark.slow
def test_trap_22_stopped_is_told_and_continue_is_a_step(scene: Scene) -> None:
    """`look` says that TERM waits for CONT, `why` that it is stopped; `plan` has both requests, `stop` sends both, and tells."""
    target = scene.target("stopped")
    eventually(lambda: any(s.state == "T" for s in scene.running()))
    look = scene.endtask("look", target.pid, "--json")
    assert seen(look)["facts"]["state"] == "T"
    assert predictions(look)["TERM"] == "after-continue"
    assert predictions(look)["KILL"] in ("ends", "ends-core")
    assert "stopped" in scene.endtask("look", target.pid).out
    why = scene.endtask("why", target.pid)
    assert "is stopped" in why.out, str(why)
    plan = scene.endtask("plan", target.pid, "--plan", "TERM/1/HUP/1", "--json")
    planned = cast("list[dict[str, object]]", plan.targets[0]["members"])[0]
    assert planned["asked"] == ["TERM", "CONT", "HUP"]
    assert planned["answers"] == ["after-continue", "continues", "ends"], "it runs by the time of the second step"
    answer = scene.endtask("stop", target.pid, "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene)
    receipts = cast("list[dict[str, object]]", answer.targets[0]["members"])[0]["receipts"]
    assert [r["request"] for r in cast("list[dict[str, object]]", receipts)] == ["TERM", "CONT"]


def below_unshare(scene: Scene, target: Target) -> int:
    """Return the pid (in our namespace) of a target that is pid 1 of a namespace made by `unshare`."""
    assert target.facts["pids"] == {"main": 1}
    return eventually(
        lambda: next((s.outer for s in process_table().values() if s.comm == target.name and s.pid == 1), 0)
    )


@pytest.mark.needs_root
@pytest.mark.slow
def test_trap_23_pid_1_of_a_container_without_a_handler_is_foretold(scene: Scene, own_namespace: None) -> None:
    """`look` knows before anything is sent that TERM is thrown away and KILL works; `stop` says why, and force works."""
    words = list(ISOLATED)
    target = scene.target("default", words=words)
    pid = below_unshare(scene, target)
    look = scene.endtask("look", pid, "--json")
    told = predictions(look)
    assert told["TERM"] == told["HUP"] == told["QUIT"] == "immune", str(look)
    assert told["INT"] == "handler"  # Python's own
    assert told["KILL"].startswith("ends")
    assert seen(look)["facts"]["namespace_init"] is True
    advice = cast("list[str]", seen(look)["forecast"]["advice"])
    assert advice, str(look)
    answer = scene.endtask("stop", pid, "-t", "300ms", "--watch", "0")
    assert answer.code == 124, str(answer)
    assert "first process of its pid namespace" in answer.out
    forced = scene.endtask("stop", pid, "--force-after", "200ms", "-t", "30s", "--watch", "0", "--json")
    assert forced.code == 10, str(forced)
    handler = scene.target("polite", words=words)
    look = scene.endtask("look", below_unshare(scene, handler), "--json")
    assert predictions(look)["TERM"] == "handler"


WRAPPERS = {
    "sh": (["/bin/sh", "-c", '"$@"; exit 3', "sh"], False),
    "timeout": (["timeout", "100"], True),
    "sudo": (["sudo", "-n"], True),
    "nice": (["nice", "-n", "1"], None),  # replaces itself: no wrapper is left
    "env": (["env", "A=b"], None),
    "nohup": (["nohup"], None),
}


def wrapped(scene: Scene, words: list[str]) -> tuple[int, int]:
    """Start a polite program below a wrapper; return its pid and its parent's."""
    name = unique("app")
    if not words[0].endswith("sudo"):
        app = scene.target("polite", name=name, words=words).pid
    else:  # closes every descriptor, the pipe that says `ready` too (sudo(8), closefrom)
        scene.start([*words, scene.stub(name), "polite"], ready=False)
        app = eventually(lambda: next((s.pid for s in scene.running() if s.comm == name and catches_term(s.outer)), 0))
    return app, next(s.ppid for s in scene.running() if s.pid == app)


def catches_term(pid: int) -> bool:
    """Return whether a process has its own handler for TERM by now (SigCgt, proc_pid_status(5))."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1 << 14)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_trap_24_the_process_that_receives_the_request_is_named(scene: Scene, wrapper: str) -> None:
    """`look` at a wrapper says whether it passes TERM on, and if not, whom to ask; `stop` of the wrapper ends both."""
    words, passes = WRAPPERS[wrapper]
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    if wrapper == "sudo" and subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs sudo without a password")
    app, parent = wrapped(scene, [shutil.which(words[0]) or words[0], *words[1:]])
    if passes is None:
        assert parent == scene.outer
        assert predictions(scene.endtask("look", app, "--json"))["TERM"] == "handler"
        return
    look = scene.endtask("look", parent, "--json")
    forecast = seen(look)["forecast"]
    assert forecast["passes_on"] is passes, str(look)
    words_out = scene.endtask("look", parent).out
    assert str(app) in words_out
    if not passes:
        assert forecast["ask_instead"] == app, str(look)
        assert re.search(rf"advice\s+.*{app}", words_out), words_out
    answer = scene.endtask("stop", parent, "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene), str(answer)


@pytest.mark.slow
@pytest.mark.parametrize("shell", [False, True], ids=["python-loop", "sh-loop"])
def test_trap_25_who_will_start_it_again_is_said_before(scene: Scene, shell: bool) -> None:
    """`look` names the loop (or says that the parent might start it again); stopping the loop itself ends both for good."""
    target = scene.supervised(0.1, shell=shell)
    supervisor = target.pids["supervisor"]
    look = scene.endtask("look", target.pid)
    assert str(supervisor) in look.out, str(look)
    if shell:
        managers = cast(
            "list[dict[str, object]]", seen(scene.endtask("look", target.pid, "--json"))["facts"]["managers"]
        )
        assert [m["kind"] for m in managers if m["pid"] == supervisor] == ["loop"], managers
    plan = scene.endtask("plan", target.pid)
    assert str(supervisor) in plan.out, str(plan)
    answer = scene.endtask("stop", supervisor, "--watch", "2s", "-t", "30s", "--json")
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene), str(answer)


@pytest.mark.slow
def test_trap_25_the_respawn_is_reported_with_the_way_to_end_it(scene: Scene) -> None:
    """Exit 11, the successor's pid, the loop's pid, and the command that stops the loop."""
    target = scene.supervised(0.1, shell=True)
    answer = scene.endtask("stop", target.pid, "-t", "30s")
    assert answer.code == 11, str(answer)
    assert not lies(answer, scene, outside=[target.pids["supervisor"]]), str(answer)
    (successor,) = answer.left_pids() - {target.pids["supervisor"]}
    assert re.search(rf"came back: {target.pid} \S+ as {successor} ", answer.out), str(answer)
    assert f"endtask stop {target.pids['supervisor']}" in answer.out
    assert "with the same command line" in answer.out


_PARENTS = {
    "script": ["/bin/sh", "-c", "sleep 601; sleep 602; :"],
    "loop": ["/bin/sh", "-c", "while true; do sleep 601; sleep 602; done"],
    "program": [
        sys.executable,
        "-c",
        "import subprocess as s; s.run(['sleep', '601'], check=False); s.run(['sleep', '602'], check=False)",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("parent", _PARENTS)
def test_trap_25_the_next_command_of_a_parent_is_no_respawn(parent: str) -> None:
    """A script, a loop and a program that run `sleep 601` and then `sleep 602`: stopped, exit 0, and the next one runs."""
    with subprocess.Popen(_PARENTS[parent], start_new_session=True) as runner:
        try:

            def child() -> int:
                return next((s.pid for s in process_table().values() if s.ppid == runner.pid and s.comm == "sleep"), 0)

            assert eventually(child)
            first = child()
            answer = run(command("stop", first, "--watch", "1s", "--json"))
            assert (answer.code, answer.target["respawn"]) == (0, None), str(answer)
            assert child() not in (0, first)
        finally:
            os.killpg(runner.pid, 9)  # its leader is our child and has not been reaped


# --------------------------------------------------------------------------- 27, 28: nothing hangs


@pytest.mark.slow
def test_trap_27_every_verb_has_a_bound(scene: Scene) -> None:
    """Against a process that ignores everything, a stopped one and a tree: each verb is back within its budget, and without one within the default."""
    deaf = scene.target("ignores", all=1)
    eternal = scene.target("many", count=20, child=unique("deaf"))
    calls: list[tuple[list[object], float, int]] = [
        (["stop", deaf.pid, eternal.pid, "-t", "500ms"], 0.5, 124),
        (["wait", deaf.pid, eternal.pid, "-t", "500ms"], 0.5, 124),
        (["stop", deaf.pid, "--plan", "TERM/200ms/INT/200ms/stdin:q/100ms", "-t", "500ms"], 0.5, 124),
        (["stop", deaf.pid, "--plan", "cmd:'sleep 30'", "-t", "500ms"], 0.5, 124),
        (["look", deaf.pid, eternal.pid], 0, 0),
        (["plan", deaf.pid, eternal.pid], 0, 0),
        (["why", deaf.pid, eternal.pid], 0, 0),
        (["stop", deaf.pid, "--only"], 10, 124),
        (["wait", deaf.pid], 10, 124),
    ]
    answers = together(lambda call: scene.endtask(*call[0]), calls)
    for answer, (_argv, bound, code) in zip(answers, calls, strict=True):
        assert answer.took_s < bound + 40, str(answer)
        assert answer.code == code, str(answer)


@pytest.mark.slow
def test_trap_28_a_descendant_that_holds_our_pipes_blocks_nobody(lab: Lab) -> None:
    """What `cmd:` leaves in the background, and what a command of `run` leaves, keep neither endtask nor its reader waiting."""
    scene = lab.scene()
    left = f"sleep 60.{os.getpid()}{unique('')[-1].encode().hex()}"  # a command line that nothing else has
    first, second = scene.target("polite", delay=0.3), scene.target("polite", delay=0.3)
    calls: list[list[object]] = [
        ["stop", first.pid, "--plan", f"cmd:\"sh -c '{left} & kill -TERM {{pid}}'\"", "-t", "30s", "--watch", "0"],
        [
            "stop",
            second.pid,
            "--plan",
            f"cmd:\"sh -c 'setsid {left} & kill -TERM {{pid}}'\"",
            "-t",
            "30s",
            "--watch",
            "0",
        ],
        ["run", "--", "/bin/sh", "-c", f"{left} & exit 4"],
        ["run", "--", "/bin/sh", "-c", f"setsid {left} & exit 4"],
    ]
    try:
        answers = together(lambda argv: scene.endtask(*argv), calls)
    finally:
        end_all_named(left)
    for answer in answers:
        assert answer.took_s < 50, str(answer)
    assert [a.code for a in answers[:2]] == [0, 0], [str(a) for a in answers]


def end_all_named(cmdline: str) -> None:
    """End the background jobs of this test by their unique command line."""
    import signal

    wanted = cmdline.replace(" ", "\0").encode() + b"\0"
    for pid in process_table():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == wanted:
                handle = os.pidfd_open(pid)
                if Path(f"/proc/{pid}/cmdline").read_bytes() == wanted:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ignored: gone, or not ours


@pytest.mark.slow
def test_trap_28_a_full_stdin_pipe_blocks_nobody(scene: Scene) -> None:
    """`stdin:q` to a process that does not read: the pipe is full, the step fails or waits, the budget holds."""
    source, sink = os.pipe()
    try:
        os.set_blocking(sink, False)
        while True:
            try:
                os.write(sink, b"x" * 65536)
            except BlockingIOError:
                break
        target = scene.target("default", stdin=source)
        answer = scene.endtask(
            "stop", target.pid, "--plan", "stdin:q/200ms/TERM/30", "-t", "40s", "--watch", "0", "--json"
        )
    finally:
        os.close(source)
        os.close(sink)
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene), str(answer)
