"""Real programs that talk, stopped by the command: what is seen, what is reported, and what cannot hurt.

The programs are our own (`talker.py`), so that they can misbehave; at the end stand some with the receiver that applications have.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

import jsonschema

from endtask.cli.schema import schema_text
from tests.linux.children import python
from tests.talk.talker import talker

if TYPE_CHECKING:
    from tests.talk.conftest import Run

pytestmark = pytest.mark.real

OBEYS = """
hello()
line()
wait_signal()
heard_it()
say(tell={"text": "draining", "done": 3, "total": 15})
"""
STAYS = "time.sleep(600)\n"
GRACE_S = 2  # time enough to say something before force, on a busy machine too


def report_of(text: str) -> dict[str, Any]:
    """Return the report that is the last line, or the whole, of what was written; it follows its schema."""
    lines = text.splitlines()
    report: dict[str, Any] = json.loads(text if lines[0] == "{" else lines[-1])
    jsonschema.Draft202012Validator(json.loads(schema_text("report"))).validate(report)
    return report


def said_in(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the first target has said."""
    said: list[dict[str, Any]] = report["targets"][0]["members"][0]["said"]
    return said


def answered(endtask: Run, says: str, *arguments: object) -> str:
    """Run a command that only looks; again if a busy machine kept the program from answering in the tenth of a second that it has."""
    for _ in range(50):
        done = endtask(*arguments)
        if says in done.stdout:
            return done.stdout
    raise AssertionError(done.stdout)


# --------------------------------------------------------------------------- what a person sees


def test_stop_tells_what_the_application_says(runtime: pathlib.Path, endtask: Run) -> None:
    """Heard, progress, and then the end; the application learns the deadline and the reason."""
    with talker(OBEYS, runtime) as child:
        done = endtask("stop", child.pid, "--reason", "deploy 12")
        assert done.returncode == 0, done.stderr
        assert "heard SIGTERM after" in done.stdout
        assert "says: draining, 3 of 15" in done.stdout
        notice = json.loads(child.read_line().removeprefix(b"got "))["notice"]
    assert (notice["request"], notice["reason"]) == ("TERM", "deploy 12")
    assert notice["by"].startswith("endtask ")
    assert 5 < notice["left_s"] <= 10


def test_stop_tells_it_as_data(runtime: pathlib.Path, endtask: Run) -> None:
    """Each line of --jsonl follows the schema, and the report says the same."""
    with talker(OBEYS + 'say(cleanup={"text": "close db", "seconds": 0.2})', runtime) as child:
        done = endtask("stop", child.pid, "--jsonl")
    assert done.returncode == 0, done.stderr
    judge = jsonschema.Draft202012Validator(json.loads(schema_text("event")))
    events = [json.loads(text) for text in done.stdout.splitlines()[:-1]]
    for event in events:
        judge.validate(event)
    kinds = [e["kind"] for e in events]
    assert kinds[:3] == ["selected", "request", "heard"]
    assert kinds.count("said") == 2
    assert kinds.index("heard") < kinds.index("said") < kinds.index("exited")
    assert [s["kind"] for s in said_in(report_of(done.stdout))] == ["heard", "tell", "cleanup"]


def test_more_time_is_granted_where_the_caller_allows_it(runtime: pathlib.Path, endtask: Run) -> None:
    """Force waits for what was granted; the application is told so."""
    script = OBEYS + f'say(need={{"seconds": 60, "text": "flushing"}})\nline()\ntime.sleep({GRACE_S} + 0.5)'
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "--force-after", GRACE_S, "--extend", "90", "--json")
        child.read_line()
        granted = json.loads(child.read_line().removeprefix(b"got "))["granted"]
    report = report_of(done.stdout)
    assert (done.returncode, report["targets"][0]["outcome"]) == (0, "stopped")
    assert GRACE_S < granted["left_s"] <= 60.01
    need = said_in(report)[-1]
    assert need["missing_s"] == 0
    assert 60 - GRACE_S <= need["granted_s"] < 60
    assert report["targets"][0]["granted_s"] == need["granted_s"]


def test_more_time_is_not_granted_by_itself(runtime: pathlib.Path, endtask: Run) -> None:
    """A budget is a promise to the caller; what would have helped is said."""
    script = OBEYS + 'say(need={"seconds": 60, "text": "flushing"})\nline()\n' + STAYS
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "--force-after", GRACE_S)
        child.read_line()
        answer = json.loads(child.read_line().removeprefix(b"got "))
    assert done.returncode == 10
    assert "needs 60 s more: flushing (not granted: --extend" in done.stdout
    assert "would have granted it" in done.stdout
    assert answer["not_granted"]["left_s"] <= GRACE_S


def test_a_refusal_is_an_outcome(runtime: pathlib.Path, endtask: Run) -> None:
    """At once, with the application's reason; nothing is forced."""
    with talker(OBEYS + 'say(veto={"text": "recording"})\n' + STAYS, runtime) as child:
        done = endtask("stop", child.pid, "-t", "30")
        assert child.popen.poll() is None
    assert done.returncode == 124
    assert "said no:" in done.stdout
    assert "refuses: recording" in done.stdout


def test_a_refusal_that_came_before_the_greeting_is_one(runtime: pathlib.Path, endtask: Run) -> None:
    """The signal was faster than the thread that lets us in."""
    script = 'wait_signal()\nhello(veto={"text": "recording", "ago_s": 0.0})\n' + STAYS
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "-t", "30")
        assert child.popen.poll() is None
    assert done.returncode == 124
    assert "refuses: recording" in done.stdout


def test_the_refusal_of_an_earlier_request_is_not_ours(runtime: pathlib.Path, endtask: Run) -> None:
    """Whoever asks again gets an answer of its own."""
    script = 'hello(veto={"text": "recording", "ago_s": 30.0})\nwait_signal()\nheard_it()\n'
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "-t", "30")
    assert done.returncode == 0
    assert "refuses" not in done.stdout


def test_the_channel_asks_without_a_signal(runtime: pathlib.Path, endtask: Run) -> None:
    """One that hears no signal is asked by its receiver."""
    script = 'hello()\nline()\nheard_it("CHANNEL")\nos._exit(7)'
    with talker(
        "for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n" + script, runtime
    ) as child:
        done = endtask("stop", child.pid, "--plan", "channel/20/TERM/1")
        request = json.loads(child.read_line().removeprefix(b"got "))
        assert child.popen.wait() == 7
    assert done.returncode == 0
    assert "heard CHANNEL" in done.stdout
    assert 15 < request["request"]["left_s"] <= 21


def test_look_plan_and_why_know_it(runtime: pathlib.Path, endtask: Run) -> None:
    """Who has a receiver, and what one says that was asked already; nothing is asked."""
    script = """
while True:
    heard = {"name": "SIGTERM", "channel": "signal", "ago_s": 3.0, "left_s": 7.0}
    hello(state="asked", left_s=7.0, heard=heard, tell={"text": "draining", "done": 3, "total": 15})
"""
    with talker(script, runtime) as child:
        answered(endtask, 'yes, deadline known: "ingest", takes up to 10 s; heard SIGTERM 3 s ago', "look", child.pid)
        answered(endtask, "and says: draining, 3 of 15", "why", child.pid)
        plan = answered(
            endtask, '"ingest"', "plan", child.pid, "--plan", "channel/5/TERM/5", "--extend", "30", "--json"
        )
        data = json.loads(answered(endtask, '"ingest"', "look", child.pid, "--json"))
    assert data["seen"][0]["facts"]["receiver"]["state"] == "asked"
    jsonschema.Draft202012Validator(json.loads(schema_text("look"))).validate(data)
    planned = json.loads(plan)
    jsonschema.Draft202012Validator(json.loads(schema_text("plan"))).validate(planned)
    assert planned["targets"][0]["extend_s"] == 30
    assert planned["targets"][0]["members"][0]["answers"] == ["asks", "handler"]
    assert planned["targets"][0]["members"][0]["receiver"]["name"] == "ingest"


# --------------------------------------------------------------------------- what cannot hurt


NONSENSE = {
    "no JSON": 'raw(b"hello world\\n")',
    "another type": 'raw(b"[1, 2]\\n")',
    "a megabyte without a line": 'raw(b"x" * (1 << 20))',
    "a flood": 'raw(b\'{"tell":{"text":"busy"}}\\n\' * 20000)',
    "deep": 'raw(b"[" * 4000 + b"\\n")',
    "no UTF-8": 'raw(b"\\xff\\xfe\\n")',
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_not_listened_to(nonsense: str, runtime: pathlib.Path, endtask: Run) -> None:
    """The stop goes on by the plan, and what comes after it is not believed."""
    script = OBEYS + NONSENSE[nonsense] + '\nsay(need={"seconds": 60, "text": "more"})\n' + STAYS
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "--force-after", GRACE_S, "--extend", "60", "--jsonl")
    report = report_of(done.stdout)
    assert (done.returncode, report["targets"][0]["outcome"]) == (10, "forced"), done.stderr
    assert report["targets"][0]["granted_s"] == 0
    said = said_in(report)
    assert said[0]["kind"] == "heard"
    assert said[-1]["kind"] == "closed"
    assert len(done.stdout) < 2_000_000


def test_escape_sequences_reach_no_terminal(runtime: pathlib.Path, endtask: Run) -> None:
    """What an application says is text, whatever it is made of; also its name and what it tells."""
    evil = '"\\x1b]0;owned\\x07\\x1b[2J\\u202egnp\\r\\n\\x9b31m"'
    script = f"""
hello(name={evil}, state="asked", left_s=1.0)
heard_it({evil})
say(tell={{"text": {evil}}})
hello(name={evil})
line()
wait_signal()
heard_it({evil})
say(tell={{"text": {evil}}}, need={{"seconds": 60, "text": {evil}}}, veto={{"text": {evil}}})
{STAYS}"""
    with talker(script, runtime) as child:
        look = endtask("look", child.pid, "-v")
        stop = endtask("stop", child.pid, "-v", "-t", "30")
    for done in (look, stop):
        assert not any(c in done.stdout + done.stderr for c in "\x1b\x07\x9b\u202e\r")
    assert "refuses" in stop.stdout


def test_one_that_never_answers_is_waited_for_by_the_plan(runtime: pathlib.Path, endtask: Run) -> None:
    """It takes no connection, and acts on no signal: forced at its time; `look` calls it silent."""
    with talker(STAYS, runtime) as child:
        look = endtask("look", child.pid)
        done = endtask("stop", child.pid, "--force-after", "0.5")
    assert "yes, but it does not answer" in look.stdout
    assert done.returncode == 10


def test_one_with_a_full_queue_is_asked_without_a_conversation(runtime: pathlib.Path, endtask: Run) -> None:
    """Connecting does not wait: as many as its queue takes wait already."""
    with talker("door.listen(0)\nready()\nwait_signal()", runtime) as child:
        child.read_line()
        (path,) = (runtime / "endtask").glob(f"{child.pid}.*")
        waiting = []
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BlockingIOError:
            done = endtask("stop", child.pid, "--plan", "channel/20/TERM/10")
        finally:
            os.close(folder)
            for one in waiting:
                one.close()
    assert done.returncode == 0
    assert "CHANNEL" in done.stdout
    assert "impossible, too many wait for it to answer" in done.stdout


def test_one_that_dies_in_the_middle_has_ended(runtime: pathlib.Path, endtask: Run) -> None:
    """Its end is what counts, and what it said before is in the report."""
    script = OBEYS + 'raw(b\'{"tell":{"te\')\nos.kill(os.getpid(), signal.SIGKILL)'
    with talker(script, runtime) as child:
        done = endtask("stop", child.pid, "--json")
    report = report_of(done.stdout)
    assert report["targets"][0]["outcome"] == "stopped"
    assert [s["kind"] for s in said_in(report)] == ["heard", "tell"]


# --------------------------------------------------------------------------- whose socket it is


def planted(runtime: pathlib.Path, pid: int) -> pathlib.Path:
    """Return where the socket of a process would be."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        start = stat.read().rpartition(b")")[2].split()[19].decode()
    folder = runtime / "endtask"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{pid}.{start}"


def bound(place: pathlib.Path) -> socket.socket:
    """Return a socket at *place*, whose path may be too long for one: unix(7)."""
    door = socket.socket(socket.AF_UNIX)
    folder = os.open(place.parent, os.O_RDONLY)
    door.bind(f"/proc/self/fd/{folder}/{place.name}")
    os.close(folder)
    return door


def test_a_socket_of_another_process_is_not_used(runtime: pathlib.Path, endtask: Run) -> None:
    """Who listens there is somebody else: it is said, nothing is told to it, and the stop goes on without."""
    with python("ready(); signal.pause()", env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)}) as child:
        place = planted(runtime, child.pid)
        with bound(place) as door:
            door.listen(8)
            look = endtask("look", child.pid)
            done = endtask("stop", child.pid, "--plan", "channel/20/TERM/10")
            door.setblocking(False)
            heard = b""
            for _connection in range(2):
                talk, _ = door.accept()
                heard += talk.recv(4096)
                talk.close()
    assert "receiver  not usable: a socket that is not its own" in look.stdout
    assert done.returncode == 0
    assert "CHANNEL" in done.stdout
    assert "impossible, a socket that is not its own" in done.stdout
    assert heard == b""


@pytest.mark.parametrize("thing", ["file", "folder", "link", "pipe", "old socket"])
def test_what_is_no_living_socket_is_not_used(thing: str, runtime: pathlib.Path, endtask: Run) -> None:
    """A file of that name, a link to a socket of the process itself, a pipe that would block, a socket that nobody listens to."""
    with talker("wait_signal()", runtime) as child:
        place = planted(runtime, child.pid)
        elsewhere = runtime / "elsewhere"
        place.rename(elsewhere)
        if thing == "file":
            place.write_text("")
        elif thing == "folder":
            place.mkdir()
        elif thing == "link":
            place.symlink_to(elsewhere)
        elif thing == "pipe":
            os.mkfifo(place)
        else:
            bound(place).close()
        look, done = endtask("look", child.pid), endtask("stop", child.pid)
    assert done.returncode == 0
    assert "heard" not in done.stdout
    assert ("not usable" in look.stdout) == (thing != "old socket")


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710])
def test_a_folder_that_others_can_enter_is_not_used(mode: int, runtime: pathlib.Path, endtask: Run) -> None:
    """The receiver would not have used it either."""
    with talker("wait_signal()", runtime) as child:
        (runtime / "endtask").chmod(mode)
        look, done = endtask("look", child.pid), endtask("stop", child.pid)
        (runtime / "endtask").chmod(0o700)
    assert done.returncode == 0
    assert "heard" not in done.stdout
    assert "not a folder of its user alone" in look.stdout


def test_a_folder_that_is_a_link_is_not_followed(runtime: pathlib.Path, endtask: Run) -> None:
    """Whoever made it may have it lead to a file system that never answers, so nothing is looked up through it."""
    with talker("wait_signal()", runtime) as child:
        (runtime / "endtask").rename(runtime / "elsewhere")
        (runtime / "endtask").symlink_to(runtime / "elsewhere")
        look, done = endtask("look", child.pid), endtask("stop", child.pid)
    assert done.returncode == 0
    assert "heard" not in done.stdout
    assert "receiver" not in look.stdout


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_a_folder_of_another_user_is_not_used(runtime: pathlib.Path, endtask: Run) -> None:
    """Somebody else made the folder, and a socket in it, before the user did: both are not the process's own."""
    with talker("wait_signal()", runtime) as child:
        os.chown(runtime / "endtask", 12345, 12345)
        look, done = endtask("look", child.pid), endtask("stop", child.pid)
        os.chown(runtime / "endtask", 0, 0)
    assert done.returncode == 0
    assert "heard" not in done.stdout
    assert "not usable" in look.stdout


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_root_talks_with_a_program_of_another_user(runtime: pathlib.Path, endtask: Run) -> None:
    """By the folder of that user; what its environment names is not looked at."""
    uid = 54321
    folder = pathlib.Path(f"/tmp/endtask-{uid}")
    try:
        with talker(OBEYS, runtime, uid=uid, folder=str(folder)) as child:
            done = endtask("stop", child.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0
    assert "heard SIGTERM" in done.stdout


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_a_socket_that_another_user_planted_is_not_used(runtime: pathlib.Path, endtask: Run) -> None:
    """Even where the folder is the right one, and root was careless enough to leave it open for a moment."""
    with python("ready(); signal.pause()", env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)}) as child:
        place = planted(runtime, child.pid)
        with bound(place) as door:
            os.chown(place, 54321, 54321)
            door.listen()
            look = endtask("look", child.pid)
    assert "something that is not its own socket" in look.stdout


# --------------------------------------------------------------------------- what it costs


_COUNTS = """
import sys
sys.path[:0] = {path!r}
from endtask.cli import console, main
code = main.main(["stop", "-q", "{pid}"], console.standard_console())
words = ("talk", "conversation", "_said", "acquaint", "json", "linux.channel")
print(code, sorted(m for m in sys.modules if any(w in m for w in words)))
"""


def test_a_program_without_a_receiver_loads_nothing_more(runtime: pathlib.Path) -> None:
    """Also on a machine where others have one."""
    (runtime / "endtask").mkdir(mode=0o700)
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    with python("ready(); signal.pause()", env=env) as child:
        code = _COUNTS.format(path=sys.path, pid=child.pid)
        words = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout


def test_few_descriptors_are_kept_for_those_who_are_stopped(runtime: pathlib.Path) -> None:
    """Where there are hardly any, nobody is talked with, and the stop goes on."""
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with talker("wait_signal()", runtime) as child:
        command = [sys.executable, "-m", "endtask", "stop", "--plan", "channel/20/TERM/10", str(child.pid)]
        words = ["sh", "-c", 'ulimit -n 90; exec "$@"', "sh", *command]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "impossible, no descriptor can be spared" in done.stdout


# --------------------------------------------------------------------------- with the receiver that applications have


_LATE = """
sys.path[:0] = {path!r}
from endtask_receiver import _channel_posix, listen
with listen(name="ingest") as stop:
    ready()
    (ear,) = _channel_posix._all
    with ear._serving:  # its thread lets nobody in meanwhile
        stop.wait()
        {answer}
    while not stop.hurry:
        stop.nap(60) if not stop else time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [('stop.veto("recording")', 124, "refuses: recording"), ('stop.need(20, "flushing")', 10, "needs 2")],
)
def test_what_was_said_before_we_were_let_in_is_heard(
    answer: str, code: int, says: str, runtime: pathlib.Path, endtask: Run
) -> None:
    """The thread that lets us in was slower than the program that refused, or wanted more time."""
    script = "import time\n" + _LATE.format(path=sys.path, answer=answer)
    with python(script, env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)}) as child:
        done = endtask("stop", child.pid, *(["--force-after", GRACE_S] if code == 10 else ["-t", "30"]))
    assert (done.returncode, done.stderr) == (code, "")
    assert says in done.stdout
