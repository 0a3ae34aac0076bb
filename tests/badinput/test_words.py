"""Words that make no sense, names that are meant to break parsers: one clear sentence, the right code, never a traceback, nobody hit."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, cast

import pytest

from tests.targets.lab import ISOLATED, can_unshare, command, look_at, run, together, unique
from tests.targets.truth import lies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.targets.lab import Answer, Lab, Scene

pytestmark = pytest.mark.real


def clear(answer: Answer, *codes: int) -> None:
    """Check that an answer is an error as it should be: right code, one sentence, perhaps a hint, nothing of Python."""
    assert answer.code in codes, str(answer)
    assert "Traceback" not in answer.text, str(answer)
    assert "internal fault" not in answer.text, str(answer)
    said = [line for line in answer.err.splitlines() if line.startswith("endtask: ")]
    assert said, f"no sentence: {answer}"
    assert not said[0].endswith(".") or said[0].endswith("..."), f"a period after one sentence: {answer}"
    if answer.code == 2:
        assert "hint: " in answer.err, f"no hint: {answer}"
    assert answer.took_s < 30


# --------------------------------------------------------------------------- names

ODD_NAMES = {
    "blank": "od d{}",
    "newline": "od\n{}",
    "tab": "od\t{}",
    "parentheses": "od) R 1 ({}",
    "closing": "){}",
    "escape": "\x1b[31m{}",
    "not-utf8": "\udcff\udcfe{}",
    "umlaut": "ö{}",
    "quote": "'\"`${}",
    "percent": "%s%n{}",
    "backslash": "\\n{}",
    "dash": "-9{}",
    "comma": "a,b;{}",
    "equals": "a={}",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_odd_names_are_found_stopped_and_shown_safely(lab: Lab, form: str) -> None:
    """Each program is selected by exactly its name, its neighbours live, and nothing of the name reaches the terminal raw."""
    scene = lab.scene()
    targets = {}
    for kind, pattern in ODD_NAMES.items():
        short = unique("")
        name = os.fsdecode(os.fsencode(pattern.format(short))[:15])
        targets[kind] = (name, scene.target("default", name=name))
    neighbour = scene.target("default", name="od")

    def one(kind: str) -> None:
        name, target = targets[kind]
        more = ["--json"] if form == "json" else []
        for verb in ("look", "plan", "why") if form == "text" else ():
            answer = scene.endtask(verb, *more, "--", name)
            assert answer.code == 0, f"{kind}: {answer}"
            safe(answer)
        answer = scene.endtask("stop", "-t", "5s", "--watch", "0", *more, "--", name)
        assert answer.code == 0, f"{kind}: {answer}"
        safe(answer)
        assert scene.exited(target.pid), f"{kind}: {answer}"
        if form == "json" and kind != "not-utf8":  # shown as \xff there: JSON is Unicode
            assert answer.target["name"] == name, f"{kind}: {answer}"

    together(one, targets, 6)
    assert not scene.exited(neighbour.pid)
    assert {s.pid for s in scene.running()} == {neighbour.pid}


def safe(answer: Answer) -> None:
    """Check that no control character but the newline is in the output."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", answer.text), repr(answer.text)


@pytest.mark.slow
def test_a_name_longer_than_the_kernel_keeps_is_matched_whole(scene: Scene) -> None:
    """`comm` is cut at 15 bytes: the whole name matches, the cut one and a longer one that begins alike do not."""
    stem = unique("long")
    first, second = f"{stem}-alpha-worker-number-one", f"{stem}-alpha-worker-number-two"
    one = scene.target("default", name=first)
    two = scene.target("default", name=second)
    assert look_at(one.pid).comm == first[:15]  # type: ignore[union-attr]  # it runs
    cut = scene.endtask("plan", first[:15])
    assert cut.code == 1, str(cut)
    answer = scene.endtask("stop", first, "--watch", "0", "--json")
    assert answer.code == 0, str(answer)
    assert scene.exited(one.pid)
    assert not scene.exited(two.pid)
    assert answer.target["name"] == first
    assert scene.endtask("stop", f"{stem}-*-t?o", "--watch", "0").code == 0


# --------------------------------------------------------------------------- pids

NO_PROCESSES = {
    "0": 2,
    "00": 2,
    "000000000000000000": 2,
    "4194305": 2,
    "99999999999999999999": 2,
    "9" * 5000: 2,
    "-1": 2,
    "-0": 2,
    "+7": 2,
    "4194303": 1,
    "12abc": 1,
    "0x10": 1,
    "1_0": 1,
    " 7 ": 1,
    "7.0": 1,
    "\uff17": 1,  # a digit to Python, not to anybody who types a pid
    "\u0667": 1,
    "": 2,
    " ": 1,
    "\n": 1,
    "x" * 5000: 1,
    "4194303:": 2,
    "4194303:abc": 2,
    "4194303:t": 2,
    "4194303:1:2": 2,
    "4194303:123": 1,
    ":": 2,
    ":0": 2,
    ":65536": 2,
    ":-1": 2,
    ":http": 2,
    "udp:": 2,
    "udp:99999": 2,
    "tcp:x": 2,
    "file:": 2,
    "file:/nonexistent/file": 1,
    "pidfile:": 2,
    "win:title": 2,
    "unit:x.service": 2,
    "ctr:x": 2,
    "no-such-program-here": 1,
    "/bin/no-such-program-here": 1,
    "no*such*program": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["stop", "look", "plan", "why", "wait"])
def test_words_that_name_no_process(verb: str) -> None:
    """Usage is 2, nothing matched is 1; every verb says the same."""

    def one(case: tuple[str, int]) -> None:
        word, code = case
        more = ["-t", "1s"] if verb in ("stop", "wait", "plan") else []
        # Misunderstood, some of these words would mean everybody: so in a namespace of its own, or planned only.
        safe_verb = verb if verb != "stop" or can_unshare() else "plan"
        isolated = ISOLATED if verb == "stop" and can_unshare() else ()
        answer = run([*isolated, *command(safe_verb, *more, "--", word)], shown=[verb, word[:40]])
        if word == "file:/nonexistent/file" and answer.code == 3:
            pytest.fail(f"a file that does not exist is no fault of ours: {answer}")
        clear(answer, code)

    some = list(NO_PROCESSES.items())[:: 1 if verb == "stop" else 4]  # one resolver serves all verbs
    together(one, some, 6)


@pytest.mark.slow
def test_json_says_the_same_about_words_that_match_nothing() -> None:
    """With `--json` the document carries what was missing, and the exit code is the same."""
    answer = run(command("stop", "no-such-program-here", "4194303", "--json"))
    assert answer.code == 1, str(answer)
    missing = cast("list[dict[str, object]]", answer.document["missing"])
    assert [m["what"] for m in missing] == ["no-such-program-here", "4194303"]
    assert answer.document["targets"] == []
    fine = run(command("stop", "no-such-program-here", "--missing-ok"))
    assert fine.code == 0, str(fine)


def test_kernel_threads_are_refused() -> None:
    """Pid 2 and the name of a kernel thread: refused as such."""
    kernel = look_at(2)
    if kernel is None or kernel.comm != "kthreadd":
        pytest.skip("needs kthreadd as pid 2: no kernel threads in this namespace")
    for word in ("2", "kthreadd"):
        answer = run(command("stop", word))
        clear(answer, 2)
        assert "kernel thread" in answer.err


@pytest.mark.slow
def test_a_thread_id_is_not_taken_for_a_process(scene: Scene) -> None:
    """A thread's id is no pid: said clearly, and neither the thread nor its process is asked."""
    target = scene.target("deaf_thread")
    thread = cast("int", target.facts["thread"])
    for verb in ("stop", "look", "plan", "wait"):
        answer = scene.endtask(verb, thread, *(["-t", "1s"] if verb != "look" else []))
        clear(answer, 1, 2)
        assert "thread" in answer.err, str(answer)
        assert str(target.pid) in answer.err, f"it does not say whose thread it is: {answer}"
    assert not scene.exited(target.pid)


def test_every_process_at_once_is_refused(lab: Lab) -> None:
    """`*` is many programs; only planned here, because the plan resolves as the stop does."""
    # On a machine where nothing else runs, there would be none; what one keeper has started is one program with it.
    scene, other = lab.scene(), lab.scene()
    scene.target("default")
    other.target("default")
    answer = scene.endtask("plan", "*")
    clear(answer, 2)
    assert "independent programs" in answer.err


# --------------------------------------------------------------------------- pid files


@pytest.mark.slow
def test_pid_files_that_are_none(lab: Lab) -> None:
    """Empty, huge, binary, missing, a folder, a FIFO, a device: a sentence each, within the time, nobody asked."""
    scene = lab.scene(namespace=can_unshare())  # some of them hold -1 and 0
    folder = scene.folder / "pidfiles"
    folder.mkdir()
    target = scene.target("default")
    contents = {
        "empty": b"",
        "blank": b"  \n\n",
        "huge": b"7" * 5_000_000,
        "binary": bytes(range(256)) * 20,
        "zeros": b"\0" * 4096,
        "word": b"nginx\n",
        "negative": b"-1\n",
        "minus": f"-{target.pid}\n".encode(),
        "zero": b"0\n",
        "one": b"1\n",
        "float": f"{target.pid}.0".encode(),
        "suffix": f"{target.pid}abc".encode(),
        "fullwidth": "\uff17\uff17".encode(),
        "too-large": b"4194305\n",
        "nobody": b"4194303\n",
        "ourselves": str(os.getpid()).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    words = [
        *(str(folder / n) for n in (*contents, "folder", "fifo", "loop", "missing", "no\nsuch")),
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "x" * 5000,
    ]

    def one(word: str) -> None:
        answer = scene.endtask("stop", f"pidfile:{word}", "-t", "1s")
        clear(answer, 1, 2)

    together(one, words, 6)
    assert not scene.exited(target.pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["{}", "{}\n", " {} \n", "{}\r\n", "{}\n/var/lib/postgresql\n1700000000\n5432\n", "\n{}\n"]
)
def test_pid_files_as_programs_write_them(scene: Scene, content: str) -> None:
    """With and without a newline, with blanks, with more lines after the first, as PostgreSQL does."""
    target = scene.target("default")
    file = scene.folder / unique("pid")
    file.write_text(content.format(target.pid), encoding="ascii")
    answer = scene.endtask("stop", f"pidfile:{file}", "--watch", "0")
    if content.startswith("\n"):
        clear(answer, 2)
    else:
        assert answer.code == 0, str(answer)
        assert not lies(answer, scene)


# --------------------------------------------------------------------------- plans, durations, filters

BAD_OPTIONS: list[tuple[list[str], int]] = [
    *(
        (["--plan", plan], 2)
        for plan in (
            "",
            "/",
            "10",
            "/10",
            "TERM/TERM",
            "TERM/5/INT/KILL",
            "TERM/-1",
            "TERM/1e3",
            "TERM/nan",
            "TERM/inf",
            "TERM/1..5",
            "TERM/5x",
        )
    ),
    *(
        (["--plan", plan], 2)
        for plan in (
            "KILL/5/TERM/5",
            "9/5",
            "15",
            "FOO/5",
            "SIGFOO",
            "STOP/5",
            "TSTP",
            "stdin:",
            "cmd:",
            "cmd:'x",
            "TERM/9999999",
            "NULL",
            "0",
        )
    ),
    *(
        (["--plan", plan], 2)
        for plan in (
            "RTMIN+99/5",
            "RTMIN-1",
            "RTMIN+x",
            "\udcff/5",
            "SIG",
            "SIG_IGN",
            "SIGTERM15",
            "TERM/" + "9" * 400,
            "X" * 5000,
        )
    ),
    *((["--plan", plan], 77) for plan in ("wm-close/5", "ctrl-break", "terminate", "service-stop/3")),
    *(
        (["-t", time], 2)
        for time in ("", "-5", "abc", "nan", "inf", "1e9", "10 s", "999999h", "5d", "1.2.3", "s", "0x10", "\u0665")
    ),
    (["--plan", "TERM/5/KILL/5", "-t", "3"], 2),
    (["--now", "--force-after", "5s"], 2),
    (["--force-after", "x"], 2),
    (["--force-after", "20s", "--plan", "TERM/30/INT"], 2),
    (["--cmdline", "("], 2),
    (["--cmdline", "[a-"], 2),
    (["--user", "no-such-user-here"], 2),
    (["--user", "-5"], 2),
    (["--older", "abc"], 2),
    (["--session", "x"], 2),
    (["--parent", "-1"], 2),
    (["--fi", "NONSENSE"], 2),
    (["--fi", "IMAGENAME xx y"], 2),
    (["--fi", "PID gt abc"], 2),
    (["--tree", "--only"], 2),
    (["--json", "--jsonl"], 2),
    (["--keep", "no-such-program-here"], 1),
    (["--no-such-option"], 2),
    (["-9"], 2),
    (["-KILL"], 2),
    (["-f"], 2),
    (["-t"], 2),
    (["--timeout="], 2),
    (["--tree=yes"], 2),
    (["--report", "/nonexistent/folder/report.xml"], 2),
    (["--report", "report.unknown"], 2),
]


@pytest.mark.slow
def test_options_that_make_no_sense_do_nothing(scene: Scene) -> None:
    """Malformed plans, durations, filters and contradictions: told, and the target is not touched."""
    target = scene.target("counter", file=scene.folder / "asked")

    def one(case: tuple[list[str], int]) -> str:
        options, code = case
        answer = scene.endtask("stop", target.pid, *options)
        try:
            clear(answer, code)
        except AssertionError as error:
            return str(error)[:600]
        return ""

    faults = [f for f in together(one, BAD_OPTIONS, 6) if f]
    assert not faults, "\n\n".join(faults)
    assert not scene.exited(target.pid)
    assert not (scene.folder / "asked").exists()


@pytest.mark.slow
def test_targets_on_standard_input(scene: Scene) -> None:
    """`-`: one a line; empty lines are nothing; rubbish is told; no line at all matches nothing."""
    first, second = scene.target("default"), scene.target("default")
    answer = scene.endtask("stop", "-", "--watch", "0", "--json", stdin=f"\n{first.pid}\n\n{second.pid}\n".encode())
    assert answer.code == 0, str(answer)
    assert not lies(answer, scene)
    assert len(answer.targets) == 2
    clear(scene.endtask("stop", "-", stdin=b""), 1)
    clear(scene.endtask("stop", "-", stdin=b"\n\n"), 1)
    clear(scene.endtask("stop", "-", stdin=b"\xff\xfe\0\x01\n"), 1, 2)
    clear(scene.endtask("stop", "-", stdin=b"0\n"), 2)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["", "stpo", "kill", "1234", ":3000", "--", "-", "\udcff", "x" * 5000])
def test_verbs_that_are_none(verb: str) -> None:
    """A clear refusal, with the way to say it."""
    clear(run(command(*([verb] if verb else []))), 2)


def test_the_journal_cannot_be_written(scene: Scene, tmp_path: Path) -> None:
    """A home directory that is a file, read-only or missing fails no stop."""
    from tests.targets.lab import environment

    target = scene.target("ignores")
    rubbish = tmp_path / "state"
    rubbish.write_bytes(b"")
    answer = scene.endtask(
        "stop", target.pid, "-t", "100ms", "--watch", "0", env=environment(XDG_STATE_HOME=str(rubbish))
    )
    assert answer.code == 124, str(answer)
    why = scene.endtask("why", target.pid, env=environment(XDG_STATE_HOME=str(rubbish)))
    assert why.code == 0, str(why)
