"""What is no process, may not be touched, or makes no sense: a sentence, the right exit code, and nothing is sent."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import DETACHED, NO_WINDOW, STOPPED_BY_ITSELF, UNDER_WINE, Lab
from tests.windows.lab_processes import LOCK, NOBODY, ONLY_LOOK, Child
from tests.windows.truth import Answer, endtask, lies

if TYPE_CHECKING:
    from tests.windows.lab import Target

pytestmark = [pytest.mark.real, pytest.mark.slow]
SIDE_BY_SIDE = 4
USAGE, NOT_PERMITTED, NOTHING = 2, 77, 1

# `{pid}` is a program that runs, takes every event with a handler of its own, and must have heard nothing afterwards.
REFUSED: dict[str, tuple[int, str]] = {
    # no process
    "stop 0": (USAGE, "pid 0 is no process"),
    "look 0": (USAGE, "pid 0 is no process"),
    "stop {pid+1}": (NOTHING, "no process has that number (Windows opens its neighbour {pid} for it)"),
    "stop {pid+2}": (NOTHING, "no process has that number"),
    "look {pid+3}": (NOTHING, "no process has that number"),
    "stop 4294967292": (NOTHING, "no process has the pid 4294967292"),
    "stop 4294967296": (USAGE, "is larger than any pid"),
    "stop -1": (USAGE, "a pid is a positive number"),
    "stop {pid}:1": (NOTHING, "the pid belongs to another process by now"),
    "stop {pid}:abc": (USAGE, "has no valid token"),
    "look {pid}:1": (NOTHING, "the pid belongs to another process by now ({pid}:"),
    "stop 4294967292:1": (NOTHING, "no process has the pid 4294967292"),
    "stop -- -5": (USAGE, "hint: a pid is a positive number"),
    "stop nosuch.exe": (NOTHING, "no process is named"),
    "stop a/b": (NOTHING, "a name has no slash"),
    # what nobody may stop
    "stop {us}": (USAGE, "an ancestor of endtask"),
    # plans of another system, and plans that are none
    "stop {pid} --plan TERM": (NOT_PERMITTED, "Windows has no signals between processes\n\nhint: use `ask`"),
    "stop {pid} --plan TERM/5/KILL": (NOT_PERMITTED, "`TERM` is a signal"),
    "stop {pid} --plan SIGINT/5": (NOT_PERMITTED, "`SIGINT` is a signal"),
    "stop {pid} --plan STOP": (NOT_PERMITTED, "`STOP` is a signal"),
    "stop {pid} --plan bogus": (USAGE, "known are `ask`, `channel`, `kill`, `stop-event`, `wm-close`"),
    "stop {pid} --plan /": (USAGE, "for example `ask/10/kill/5`"),
    "stop {pid} --plan": (USAGE, "for example `--plan wm-close/10/ctrl-c/5`"),
    "stop {pid} --plan ask/5/10": (USAGE, "for example `ask/10/kill/5`"),
    "stop {pid} -s INT": (USAGE, "`--plan ask/10` names the request"),
    "stop -INT {pid}": (USAGE, "hint: `--plan ctrl-c/10`"),
    "stop -15 {pid}": (USAGE, "`--plan ask/10` asks and waits 10 s"),
    "stop {pid} --plan 5/wm-close": (USAGE, "has the time `5` where a request should be"),
    "stop {pid} --plan terminate/5/wm-close": (USAGE, "the plan goes on after force"),
    "stop {pid} --plan stdin:": (USAGE, "says nothing after the colon"),
    "stop {pid} --now --plan ask": (USAGE, "`--now` forces at once"),
    "stop {pid} -t 1s --force-after 5s": (USAGE, "the whole budget is 1 s"),
    # requests that it cannot hear
    "stop {pid} --plan wm-close/1": (NOT_PERMITTED, "next  `endtask look {pid}` says what it can hear"),
    "stop {pid} --plan wm-quit/1": (NOT_PERMITTED, "none of its threads has a message queue"),
    "stop {pid} --plan stop-event/1": (NOT_PERMITTED, "it does not listen: there is no event of its name"),
    "stop {pid} --plan service-stop/1": (NOT_PERMITTED, "it hosts no service"),
    "stop {pid} --plan console-ctrl-c/1": (NOT_PERMITTED, "it is on no console"),
    "stop {pid} --plan stdin:q": (NOT_PERMITTED, "Windows lets nobody but the process that made it write"),
    # scopes that Windows does not have
    "stop {pid} --group": (USAGE, "there is no process group on this system"),
    "stop {pid} --session-of": (USAGE, "there is no process session on this system"),
    "look {pid} --cgroup": (USAGE, "there is no process cgroup on this system"),
    "wait {pid} --group -t 1s": (USAGE, "hint: use `--tree` (default) or `--only`"),
    # other forms of WHAT
    "stop win:": (USAGE, "names no title"),
    "stop win:no-such-title-{pid}": (NOTHING, "no visible window has a title like"),
    "look win:*no-such-title-{pid}*": (NOTHING, "no visible window has a title like"),
    "stop unit:x": (USAGE, "systemd units cannot be named"),
    "stop :0": (USAGE, "ports go from 1 to 65535"),
    "stop :70000": (USAGE, "is not a port"),
    "stop udp:1": (NOTHING, "nobody listens on udp port 1"),
    "stop file:C:\\no\\such": (NOTHING, "there is no such folder"),
    "stop pidfile:C:\\no\\such": (NOTHING, "cannot be read: there is no such file"),
    "stop pidfile:C:\\windows": (NOTHING, "cannot be read: it is no regular file"),
    "stop pidfile:": (USAGE, r"for example `pidfile:C:\nginx\logs\nginx.pid`"),
    "stop file:": (USAGE, r"for example `file:C:\logs\app.log`"),
    # filters
    "stop {pid} --user nobody-here": (USAGE, "there is no user `nobody-here`"),
    "stop {pid} --session x": (USAGE, "needs a number"),
    "stop {pid} --session 999": (NOTHING, "does not pass the filters"),
    "stop {pid} --parent 1": (NOTHING, "does not pass the filters"),
    "stop {pid} --cmdline (": (USAGE, "is not a regular expression"),
    "stop {pid} --older 1h": (NOTHING, "does not pass the filters"),
    "stop {pid} --cwd C:\\nowhere": (NOTHING, "does not pass the filters"),
    "stop {pid} --fi NONSENSE_eq_x": (USAGE, "`NONSENSE` in the filter"),
    "stop {pid} --fi PID_like_3": (USAGE, "is not an operator"),
    "stop {pid} --fi PID_eq_x": (USAGE, "should be a number"),
    "stop {pid} --fi STATUS_gt_RUNNING": (USAGE, "use `eq` or `ne`"),
    "stop {pid} --fi IMAGENAME_eq": (USAGE, "is not a filter"),
    "stop {pid} --fi STATUS_eq_SUSPENDED": (NOTHING, "does not pass the filters"),
    # words that are none
    "frobnicate {pid}": (USAGE, "is not a verb of endtask"),
    "kill {pid}": (USAGE, "did you mean `endtask stop`?"),
    "-9 {pid}": (USAGE, "`--now` forces at once"),
    "run": (USAGE, "for example `endtask run -- python -m pytest`"),
    "stop {pid} --nonsense": (USAGE, "is not an option"),
    "stop {pid} --json --jsonl": (USAGE, "exclude each other"),
    "look {pid} --unattended": (USAGE, "it belongs to stop, plan, run"),
    "stop {pid} --keep {pid}": (USAGE, "both to be stopped and to be left alone"),
}


@pytest.fixture(scope="module")
def refused(targets: Path) -> dict[str, tuple[Answer, int]]:
    """Every line of the table, some at the same time, and the pid of the program that they are about."""
    with Lab(targets) as lab, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        target = lab.start("etconsole", "true", flags=DETACHED)
        known = {"{pid}": target.pid, "{us}": os.getpid(), **{f"{{pid+{n}}}": target.pid + n for n in (1, 2, 3)}}

        def run(line: str) -> Answer:
            for name, number in known.items():
                line = line.replace(name, str(number))
            return endtask(*(word.replace("_", " ") for word in line.split()))

        answers = dict(zip(REFUSED, pool.map(run, REFUSED), strict=True))
        assert target.running
        assert target.heard("control") == 0, target.texts
        return {line: (answer, target.pid) for line, answer in answers.items()}


@pytest.mark.parametrize("line", REFUSED)
def test_refusal_is_a_sentence_and_a_code(line: str, refused: dict[str, tuple[Answer, int]]) -> None:
    """What, which, why; the program that was named has heard nothing."""
    answer, pid = refused[line]
    code, sentence = REFUSED[line]
    assert answer.code == code, answer
    assert sentence.replace("{pid}", str(pid)) in answer.err + answer.out, answer
    assert "Traceback" not in answer.err
    if code == USAGE:
        assert answer.err.startswith("endtask: ")
        assert "\n\nhint: " in answer.err
        assert answer.out == ""


def test_help_shows_what_works_here() -> None:
    """Examples with requests, programs and quotes of Windows."""
    text = endtask("plan", "--help").out
    assert "endtask plan notepad --plan wm-close/10/ctrl-c/5" in text
    assert "--plan TERM" not in text
    assert "win:TITLE" in text


@pytest.mark.parametrize(
    "words", [[""], ["{pid}", "--fi", ""], ["{pid}", "--plan", ""]], ids=["what", "filter", "plan"]
)
def test_empty_words_are_refused(lab: Lab, words: list[str]) -> None:
    """An empty variable must never mean everything."""
    target = lab.start("etconsole", "true", flags=DETACHED)
    answer = endtask("stop", *(w.replace("{pid}", str(target.pid)) for w in words))
    assert answer.code == USAGE, answer
    assert target.heard("control") == 0


def test_system_process_is_refused() -> None:
    """Pid 4 is the kernel itself; Wine has no such process."""
    answer = endtask("stop", 4, "--now")
    expected = (NOTHING, "no process has the pid 4") if UNDER_WINE else (USAGE, "part of the Windows kernel")
    assert (answer.code, expected[1] in answer.err) == (expected[0], True), answer


# --------------------------------------------------------------------------- ended, and exit codes that look like life


@pytest.mark.parametrize("code", [5, 259])
def test_process_that_has_ended_and_is_still_held_is_already_gone(lab: Lab, code: int) -> None:
    """OpenProcess succeeds, and 259 means STILL_ACTIVE to whoever asks for the exit code: only the handle tells."""
    target = lab.start("etconsole", "code", code, ready=False)
    assert target.wait_exit() == code
    answer = endtask("stop", target.pid, "--json")
    assert not lies(answer, [target]), answer
    assert (answer.outcome, answer.code) == ("already-gone", 0)
    assert answer.target["members"][0]["end"]["status"] == code


def test_exit_code_259_is_an_end(lab: Lab) -> None:
    """A program that takes the event and ends with 259 has stopped."""
    code = "import sys, time\nprint(1, flush=True)\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    sys.exit(259)"
    line = [sys.executable, "-I", "-S", "-c", code]
    popen = subprocess.Popen(line, creationflags=NO_WINDOW, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    target = lab.adopt(popen, lab.words("etconsole", "none")[1], None)
    assert popen.stdout is not None
    popen.stdout.readline()
    answer = endtask("stop", target.pid, "-t", "20s", "--json")
    assert not lies(answer, [target]), answer
    assert (answer.outcome, answer.target["members"][0]["end"]["status"]) == ("stopped", 259)


# --------------------------------------------------------------------------- denied is not gone


def test_process_that_may_not_be_opened_is_not_permitted_and_not_gone() -> None:
    """Error 5 says that it is there."""
    with Child(LOCK, NOBODY) as child:
        for words in (["stop", child.pid], ["stop", child.pid, "--now"], ["stop", child.pid, "--missing-ok"]):
            answer = endtask(*words)
            assert (answer.code, "access is denied" in answer.err) == (NOT_PERMITTED, True), answer
        assert child.popen.poll() is None


@pytest.mark.parametrize("words", [(), ("--now",)], ids=["asked", "forced"])
def test_process_that_may_only_be_looked_at_is_not_permitted(words: tuple[str, ...]) -> None:
    """It is found and named, and what was refused stands in the receipt."""
    with Child(LOCK, ONLY_LOOK) as child:
        answer = endtask("stop", child.pid, *words, "--json")
        assert (answer.outcome, answer.code) == ("not-permitted", NOT_PERMITTED), answer
        assert any("access is denied" in r["detail"] for r in answer.target["members"][0]["receipts"]), answer
        assert child.popen.poll() is None


def test_foreign_object_under_the_name_of_the_stop_event_is_no_receiver(lab: Lab) -> None:
    """Names are shared by all kinds of objects: it is refused in words, and not touched."""
    target = lab.start("etconsole", "event-foreign")
    answer = endtask("stop", target.pid, "--plan", "stop-event/1", "--json")
    assert not lies(answer, [target]), answer
    assert (answer.outcome, answer.sent) == ("unreachable", ["STOP_EVENT impossible"])
    assert "is the name of something that is no event" in answer.because("impossible")
    (seen,) = json.loads(endtask("look", target.pid, "--json").out)["seen"]
    assert seen["facts"]["windows"]["receiver"] is False


# --------------------------------------------------------------------------- nobody listens


def test_stop_without_anybody_who_reads_is_a_stop(lab: Lab) -> None:
    """The reader has gone, or there never was one (pythonw.exe has no standard output): the code stays true."""
    command = [sys.executable, "-m", "endtask", "stop"]
    first = lab.start("etconsole", "graceful", flags=NO_WINDOW)
    with subprocess.Popen([*command, str(first.pid)], stdout=subprocess.PIPE) as broken:
        assert broken.stdout is not None
        broken.stdout.close()
    assert (broken.returncode, first.exit_code) == (0, STOPPED_BY_ITSELF)
    second = lab.start("etconsole", "graceful", flags=NO_WINDOW)
    pythonw = str(Path(sys.executable).with_name("pythonw.exe"))
    silent = subprocess.run([pythonw, *command[1:], str(second.pid)], creationflags=DETACHED, check=False, timeout=60)
    assert (silent.returncode, second.exit_code) == (0, STOPPED_BY_ITSELF)


def test_words_from_standard_input_end_as_windows_ends_lines(lab: Lab) -> None:
    """What `endtask find` prints can be read back, carriage returns and all."""
    both = [lab.start("etconsole", "graceful", flags=NO_WINDOW) for _ in range(2)]
    lines = "".join(f"{t.pid}:{t.created} etconsole.exe\r\n" for t in both)
    command = [sys.executable, "-m", "endtask", "stop", "-", "-t", "20s", "--json"]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done
    assert [t["outcome"] for t in json.loads(done.stdout)["targets"]] == ["stopped", "stopped"]
    assert [t.exit_code for t in both] == [STOPPED_BY_ITSELF] * 2


# --------------------------------------------------------------------------- endtask is asked to stop


def wait_until_asked(target: Target) -> None:
    """Wait until the command has sent its request."""
    target.wait_for("control 0")


def test_command_that_is_interrupted_says_what_was_sent_and_what_still_runs(lab: Lab) -> None:
    """One endtask stops another one, as a Ctrl+C does: it asks nothing more, tells the truth, and ends with 130."""
    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    line = [sys.executable, "-m", "endtask", "stop", str(target.pid), "-t", "60s", "--json"]
    popen = subprocess.Popen(line, creationflags=NO_WINDOW, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command = lab.adopt(popen, lab.words("etconsole", "none")[1], None)
    wait_until_asked(target)
    answer = endtask("stop", command.pid, "-t", "20s", "--json")
    assert not lies(answer, [command]), answer
    assert (answer.outcome, answer.sent) == ("stopped", ["CTRL_C delivered"])
    out, err = popen.communicate(timeout=60)
    report = json.loads(out)
    assert (command.exit_code, report["exit_code"], report["cancelled"], err) == (130, 130, True, b"")
    (told,) = report["targets"]
    assert (told["outcome"], [r["request"] for r in told["members"][0]["receipts"]]) == ("running", ["CTRL_C"])
    assert told["reasons"][0]["code"] == "cancelled"
    assert (target.running, target.heard("control")) == (True, 1)
