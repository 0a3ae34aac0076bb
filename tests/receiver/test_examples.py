"""The examples of the documentation, each as a real process: asked at any moment, it ends in time and leaves its work whole."""

from __future__ import annotations

import importlib
import inspect
import os
import random
import re
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import Policy, fake, listen

from .lab import LIMIT_S, Program
from .talk import Requester

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples" / "receiver"
LATER_S = 0.35  # after so long a request is no repetition of the one before

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
ONCE: dict[str, tuple[signal.Signals, ...]] = {
    "TERM": (TERM,),
    "INT": (INT,),
    "HUP": (HUP,),
    "TERM and INT": (TERM, INT),
}
TWICE = "TERM twice"


def ask(program: Program, way: str) -> None:
    """Ask; `twice` means: and again, if it still runs when that counts as another request."""
    program.send(signal.SIGSTOP)  # so that two come at once, however busy this machine is
    for number in ONCE.get(way, (TERM,)):
        program.send(number)
    program.send(signal.SIGCONT)
    if way == TWICE:
        try:
            program.process.wait(LATER_S)
        except subprocess.TimeoutExpired:
            program.send(TERM)


def read_some(program: Program, most: int) -> list[str]:
    """Read up to so many lines: the moment is a random one."""
    return [program.line() for _ in range(random.randint(0, most))]


def ended_truly(program: Program, way: str) -> list[str]:
    """Wait for the end, and return the lines until then; it died by what has asked it, and without a word of complaint."""
    status, lines = program.end()
    assert -status in ONCE.get(way, (TERM,)), (status, program.errors())
    assert program.errors() == ""
    return lines


def numbers(path: Path) -> list[int]:
    """Return what stands in a file, one number a line; a half-written one is an error."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return sorted(map(int, text.split()))


every_way = pytest.mark.parametrize("way", [*ONCE, TWICE])


@every_way
def test_the_loop_worker_leaves_no_half_written_file(way: str, tmp_path: Path) -> None:
    """Each file is either still to be done, or there as a whole."""
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    outbox.mkdir()
    names = {f"{n:03}" for n in range(300)}
    for name in names:
        (inbox / name).write_text("text " * 20_000)
    with Program(EXAMPLES / "loop_worker.py", str(inbox), str(outbox)) as program:
        program.expect("ready")
        done = read_some(program, 10)
        ask(program, way)
        done += ended_truly(program, way)
    assert re.fullmatch("stopped by SIG(TERM|INT|HUP)", done.pop())
    results = {line.removeprefix("done ") for line in done}
    assert set(os.listdir(outbox)) == results
    assert set(os.listdir(inbox)) == names - results != set()
    for name in results:
        assert (outbox / name).read_text() == "TEXT " * 20_000


@every_way
def test_threads_and_a_queue_lose_no_job(way: str, tmp_path: Path) -> None:
    """All that was taken is done; after a second request it is done or written down."""
    with Program(EXAMPLES / "threads_queue.py", str(tmp_path)) as program:
        program.expect("ready")
        taken = read_some(program, 120)
        ask(program, way)
        taken += ended_truly(program, way)
    done, left = numbers(tmp_path / "done"), numbers(tmp_path / "left")
    assert sorted(done + left) == list(range(len(taken)))
    assert taken == [f"taken {n}" for n in range(len(taken))]
    assert way == TWICE or not left


def test_the_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    """Asked again and again, at any moment, it comes to the same result as if it had never been asked."""
    total, ways = 300, [*ONCE, TWICE]
    for way in [*ways, *ways[:3]]:
        with Program(EXAMPLES / "batch.py", str(tmp_path / "state"), str(total)) as program:
            program.line()
            try:
                program.process.wait(random.random() / 10)  # any moment
            except subprocess.TimeoutExpired:
                ask(program, way)
            status, lines = program.end()
            assert program.errors() == ""
        assert os.listdir(tmp_path) == ["state"]
        # Who is asked again, or asked at all, when it has left its block, dies by that: it has saved by then.
        left = bool(lines) or way == TWICE
        assert status == (0 if lines else 75) or (left and -status in ONCE.get(way, (TERM,)))
    with Program(EXAMPLES / "batch.py", str(tmp_path / "state"), str(total)) as program:
        program.line()
        program.ends(0, f"the sum is {sum(n * n for n in range(total))}")


@every_way
def test_the_asyncio_service_answers_what_it_was_asked(way: str) -> None:
    """It refuses who comes later, and does not wait for who says nothing."""
    with Program(EXAMPLES / "asyncio_service.py") as program:
        port = int(program.line().removeprefix("ready on "))
        with connect(port) as idle, connect(port) as slow, connect(port) as busy:  # they are accepted in this order
            slow.sendall(b"half a quest")
            busy.sendall(b"one\n")
            program.expect("asked one")
            ask(program, way)
            assert program.line().startswith("stopped by SIG")
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            answers = [everything(c) for c in (busy, idle, slow)]
        assert answers == [b"ONE\n", b"", b""] or (way == TWICE and answers == [b"", b"", b""])
        assert ended_truly(program, way) == []


@every_way
def test_the_ingest_tells_how_far_it_is(way: str, tmp_path: Path) -> None:
    """Each job is done or written down; who asks sees it all, and may give it the time that it needs."""
    with Program(EXAMPLES / "ingest.py", str(tmp_path), "30") as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.notice(2.8)
            ask(program, way)
            if way != TWICE:
                assert requester.until("need")["need"]["seconds"] == 3.5
                requester.say(granted={"left_s": LIMIT_S})  # more than that: a busy machine is slow
            said = requester.rest()
        assert ended_truly(program, way) == []
    done, left = numbers(tmp_path / "done"), numbers(tmp_path / "left")
    assert done + left == list(range(30))
    assert not left or way == TWICE
    told = [m["tell"]["done"] for m in said if "tell" in m]
    assert told == sorted(set(told))  # of several in one moment the last one is told
    assert max(told, default=0) == len(done)
    assert any("close the database: done" in m["cleanup"]["text"] for m in said if "cleanup" in m)


def test_the_ingest_refuses_once(tmp_path: Path) -> None:
    """While it records; who insists ends it, and what was not done is written down."""
    with Program(EXAMPLES / "ingest.py", str(tmp_path), "8", "recording") as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.notice()  # it has let us in
            program.send(TERM)
            assert requester.until("veto")["veto"]["text"] == "recording until ten"
            try:
                program.process.wait(LATER_S)  # so that the next one counts as another request
            except subprocess.TimeoutExpired:
                program.send(TERM)
            requester.rest()
        assert ended_truly(program, "TERM") == []
    assert numbers(tmp_path / "left") == list(range(8))


def connect(port: int) -> socket.socket:
    """Connect to a service."""
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def everything(connection: socket.socket) -> bytes:
    """Read until the other end has closed."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


@every_way
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_anyio_service_loses_no_job(loop: str, way: str, tmp_path: Path) -> None:
    """As the threads do, on either loop."""
    with Program(EXAMPLES / "anyio_service.py", str(tmp_path), loop) as program:
        program.expect("ready")
        taken = read_some(program, 20)
        ask(program, way)
        taken += ended_truly(program, way)
    done, left = numbers(tmp_path / "done"), numbers(tmp_path / "left")
    assert sorted(done + left) == list(range(len(done) + len(left)))
    assert len(taken) <= len(done) + len(left)
    assert way == TWICE or not left


@every_way
def test_the_notes_are_saved(display: str, way: str, tmp_path: Path) -> None:
    """The window is closed as by its user."""
    notes = tmp_path / "notes"
    notes.write_text("an old line\n")
    with Program(EXAMPLES / "tk_notes.py", str(notes), env={"DISPLAY": display}) as program:
        program.expect("ready")
        ask(program, way)
        assert ended_truly(program, way) == []
    assert notes.read_text() == "an old line\nand a line that nobody has saved yet\n"
    assert os.listdir(tmp_path) == ["notes"]


@every_way
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_end_with_their_parent(method: str, way: str, tmp_path: Path) -> None:
    """Each after the turn that it had begun."""
    with Program(EXAMPLES / "workers.py", str(tmp_path), method) as program:
        pids = program.line().split()[1:]
        ask(program, way)
        assert ended_truly(program, way) == []
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    for name in os.listdir(tmp_path):
        words = [line.split()[0] for line in (tmp_path / name).read_text().splitlines()]
        assert words == ["begin", "end"] * (len(words) // 2)


CHILD = """
import os
from endtask_receiver import listen
with listen() as stop:
    os.write(1, b"up\\n")
    stop.wait()
    os.write(1, b"asked\\n")
"""


@every_way
def test_children_are_asked(way: str) -> None:
    """One after the other; nobody is left."""
    words = [sys.executable, "-c", CHILD]
    with Program(EXAMPLES / "children.py", *words, env={"PYTHONUNBUFFERED": ""}) as program:  # see `_WHOLE_LINES`
        assert sorted(program.line() for _ in range(3)) == ["ready", "up", "up"]
        ask(program, way)
        assert ended_truly(program, way) == ["asked", "asked"]


# ---------------------------------------------------------------- what breaks without it

INTERRUPT = DOCS / "examples" / "interrupt"

# name -> (status, the last line that it prints, what its last words are); "" for none
BREAKS = {
    "lock_left.py": (0, r"request \d+: the lock is held, and by nobody", ""),
    "child_left.py": (0, r"request \d+: `subprocess.run` is over, and its child runs on", ""),
    "request_lost.py": (0, r"request \d+: the program goes on as if nobody had asked", "KeyboardInterrupt: ?"),
    "cleanup_cut.py": (-INT, "closed the queue", "KeyboardInterrupt"),
    "handler_deadlock.py": (1, "", r"  File .*handler_deadlock.py., line \d+ in <module>"),
    "handler_prints.py": (1, "", "RuntimeError: reentrant call inside .*"),
    "flag_late.py": (0, "stop.nap: seen at once", ""),
    "asyncio_term.py": (-TERM, "", ""),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_what_the_documentation_says_breaks_does_break(name: str) -> None:
    """Each of these happens in the end, with every Python; if one does not any more, the page is to be mended."""
    status, last_line, last_words = BREAKS[name]
    with Program(INTERRUPT / name) as program:
        ended, lines = program.end()
        errors = program.errors().splitlines()
    assert ended == status, (ended, errors)
    assert re.fullmatch(last_line, lines[-1] if lines else "")
    assert re.fullmatch(last_words, errors[-1] if errors else "")
    if name == "handler_deadlock.py":
        frames = "\n".join(errors)
        assert re.search(r"in put\n.* in on_request\n(.*\n)*.* in (put|get)\n", frames), (
            "it waits for what it has itself"
        )
    if name == "flag_late.py":
        assert lines[0] == "a flag and time.sleep: seen late"


TESTS: dict[str, Callable[..., None]] = {
    "loop_worker.py": test_the_loop_worker_leaves_no_half_written_file,
    "threads_queue.py": test_threads_and_a_queue_lose_no_job,
    "batch.py": test_the_batch_goes_on_where_it_was,
    "asyncio_service.py": test_the_asyncio_service_answers_what_it_was_asked,
    "anyio_service.py": test_the_anyio_service_loses_no_job,
    "tk_notes.py": test_the_notes_are_saved,
    "workers.py": test_workers_end_with_their_parent,
    "children.py": test_children_are_asked,
    "ingest.py": test_the_ingest_tells_how_far_it_is,
}


# ---------------------------------------------------------------- before and after

MIGRATION = DOCS / "examples" / "migration"

# name -> (status, what it prints) when it is asked by TERM
PAIRS: dict[str, tuple[int, list[str]]] = {
    "flag_before.py": (0, ["saved"]),
    "flag_after.py": (0, ["saved"]),
    "exit_before.py": (143, ["saved"]),
    "exit_after.py": (143, ["saved"]),
    "asyncio_before.py": (0, ["saved"]),
    "asyncio_after.py": (0, ["saved"]),
    "atexit_before.py": (0, ["saved", "closed the database"]),
    "atexit_after.py": (0, ["saved", "closed the database"]),
    "console_after.py": (0, ["saved"]),
}
WORKERS = {
    "forked_before.py": ["the worker runs on"],
    "forked_after.py": ["the worker has ended", "the parent was not asked"],
}
WINDOWS = {"console_before.py"}  # tests/windows/test_receiver_examples.py


@pytest.mark.parametrize("name", list(PAIRS))
def test_after_the_migration_it_does_what_it_did_before(name: str) -> None:
    """The same words, and the same status."""
    with Program(MIGRATION / name) as program:
        program.expect("ready")
        program.send(TERM)
        status, lines = PAIRS[name]
        program.ends(status, *lines)


@pytest.mark.parametrize("name", list(WORKERS))
def test_what_terminate_does_to_a_worker(name: str) -> None:
    """Asyncio's handler is left over in it; the receiver's is not."""
    with Program(MIGRATION / name) as program:
        status, lines = program.end()
    assert status == 0
    assert [line for line in lines if line != "the parent was asked"] == WORKERS[name]


def test_asyncio_takes_the_handler_of_somebody_else_away() -> None:
    """And does not give it back: the default action is left. The receiver does neither."""
    with Program(
        """
        import asyncio, signal
        from endtask_receiver import listen
        mine = lambda *_: print("mine")
        signal.signal(signal.SIGTERM, mine)
        with listen():
            signal.raise_signal(signal.SIGTERM)
        print(signal.getsignal(signal.SIGTERM) is mine)
        async def main():
            loop = asyncio.get_running_loop()
            called = asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, called.set)
            signal.raise_signal(signal.SIGTERM)
            await called.wait()
            print("asyncio's")
            loop.remove_signal_handler(signal.SIGTERM)
            print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        asyncio.run(main())
        """
    ) as program:
        program.ends(0, "mine", "True", "asyncio's", "True")


def test_the_test_of_the_documentation_passes() -> None:
    """It is one for pytest, and needs none."""
    page = runpy.run_path(str(DOCS / "examples" / "testing" / "test_worker.py"))
    tests = [function for name, function in page.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


PAGES = ("howto/receiver.md", "howto/keyboard-interrupt.md", "howto/receiver-migration.md", "reference/receiver.md")


@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_the_pages_name_only_what_there_is(page: str) -> None:
    """What stands between the examples: methods of `stop`, arguments of `listen`, functions of the modules, lines of Python."""
    text = (DOCS / page).read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, page, "exec")
    with fake() as stop:
        missing = [name for name in re.findall(r"(?<!\.)\bstop\.(\w+)", text) if not hasattr(stop, name)]
    for call in re.findall(r"(?<![\w.])listen\(([^()]*)\)", text):
        missing += set(re.findall(r"(\w+)=", call)) - set(inspect.signature(listen).parameters)
    for call in re.findall(r"\bPolicy\(([^()]*)\)", text):
        missing += set(re.findall(r"(\w+)=", call)) - set(inspect.signature(Policy).parameters)
    for module, name in re.findall(r"`(?:[^`]* )?(aio|anyio_|children|gui|trio_|workers)\.(\w+)", text):
        if not hasattr(importlib.import_module(f"endtask_receiver.{module}"), name):
            missing.append(name)
    assert not missing


def test_every_example_is_tested_and_shown() -> None:
    """The page includes the very files that run here."""
    assert shown("receiver.md", "receiver") == set(TESTS) == {path.name for path in EXAMPLES.glob("*.py")}
    names = {*PAIRS, *WORKERS, *WINDOWS}
    assert shown("receiver-migration.md", "migration") == names == {path.name for path in MIGRATION.glob("*.py")}
    assert shown("keyboard-interrupt.md", "interrupt") == set(BREAKS) == {path.name for path in INTERRUPT.glob("*.py")}


def shown(page: str, folder: str) -> set[str]:
    """Return which files of a folder a page includes."""
    text = (DOCS / "howto" / page).read_text()
    return set(re.findall(rf"\{{literalinclude\}} \.\./examples/{folder}/(\S+)", text))
