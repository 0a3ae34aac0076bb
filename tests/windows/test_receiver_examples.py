"""The examples of the receiver's documentation on Windows: asked in the ways of Windows, they end by themselves and leave their work whole."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, inject, stop_event
from endtask.model import Request
from tests.windows.lab import NO_WINDOW, PATIENCE_S, ROOT, has_ended, open_handle

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXAMPLES = ROOT / "docs" / "examples"
CTRL_C_EXIT = 0xC000013A


class Program:
    """One example that runs."""

    def __init__(self, name: str, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, EXAMPLES / name, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            creationflags=NO_WINDOW,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def line(self) -> str:
        """Return the next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def ask(self, way: str) -> int:
        """Ask, and return the exit code that tells the truth about it."""
        if way == "taskkill":
            command = ["taskkill", "/pid", str(self.process.pid)]
            subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
            return 0
        with handles.open_pin(self.process.pid) as pin:
            if way == "event":
                receipt = stop_event.send_event(pin, Request("STOP_EVENT", "event"), 0.0)
            else:
                receipt = inject.send_inject(pin, Request("CTRL", "inject", int(way == "close") * 2), 0.0)
        assert receipt.status == "delivered"
        return 0 if way == "event" else CTRL_C_EXIT

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return its exit code and the lines until then."""
        assert self.process.stdout is not None
        lines = self.process.stdout.read().splitlines()
        return self.process.wait(PATIENCE_S), lines


@pytest.fixture(params=["event", "taskkill", "ctrl-c"])
def way(request: pytest.FixtureRequest) -> str:
    """How it is asked."""
    return str(request.param)


def numbers(path: Path) -> list[int]:
    """Return what stands in a file, one number a line."""
    return sorted(map(int, path.read_text().split()))


def test_loop_worker_leaves_no_half_written_file(way: str, tmp_path: Path) -> None:
    """Each file is either still to be done, or there as a whole."""
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    outbox.mkdir()
    names = {f"{n:03}" for n in range(300)}
    for name in names:
        (inbox / name).write_text("text " * 1000)
    with Program("receiver/loop_worker.py", inbox, outbox) as program:
        assert program.line() == "ready"
        done = [program.line() for _ in range(3)]
        status = program.ask(way)
        ended, lines = program.end()
    assert (ended, lines[-1].startswith("stopped by")) == (status, True), lines
    results = {line.removeprefix("done ") for line in [*done, *lines[:-1]]}
    assert set(os.listdir(outbox)) == results
    assert set(os.listdir(inbox)) == names - results
    assert {(outbox / name).read_text() for name in results} == {"TEXT " * 1000}


def test_threads_and_a_queue_lose_no_job(way: str, tmp_path: Path) -> None:
    """All that was taken is done."""
    with Program("receiver/threads_queue.py", tmp_path) as program:
        assert program.line() == "ready"
        taken = [program.line() for _ in range(10)]
        status = program.ask(way)
        ended, lines = program.end()
    assert ended == status, lines
    assert numbers(tmp_path / "done") == list(range(len(taken) + len(lines)))


def test_batch_goes_on_where_it_was(way: str, tmp_path: Path) -> None:
    """With status 75 in between."""
    total = 300
    with Program("receiver/batch.py", tmp_path / "state", total) as program:
        assert program.line() == "ready at 0"
        program.ask(way)
        assert program.end() == (75, [])
    assert os.listdir(tmp_path) == ["state"]
    with Program("receiver/batch.py", tmp_path / "state", total) as program:
        assert program.line() != "ready at 0"
        assert program.end() == (0, [f"the sum is {sum(n * n for n in range(total))}"])


def test_asyncio_service_answers_what_it_was_asked(way: str) -> None:
    """It closes what is idle, and what comes later is refused."""
    with Program("receiver/asyncio_service.py") as program:
        address = "127.0.0.1", int(program.line().removeprefix("ready on "))
        with (
            socket.create_connection(address, PATIENCE_S) as idle,
            socket.create_connection(address, PATIENCE_S) as busy,
        ):
            busy.sendall(b"one\n")
            assert program.line() == "asked one"
            status = program.ask(way)
            assert program.line().startswith("stopped by")
            with pytest.raises(ConnectionError):
                socket.create_connection(address, PATIENCE_S)
            answers = [b"".join(iter(lambda c=c: c.recv(4096), b"")) for c in (busy, idle)]  # type: ignore[misc]  # the default gives no type
        assert answers == [b"ONE\n", b""]
        assert program.end() == (status, [])


def tcl_is_there() -> bool:
    """Return whether tkinter has its library; the Python of the rig has none."""
    return (
        subprocess.run(
            [sys.executable, "-c", "import tkinter; tkinter.Tcl()"], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_notes_are_saved(way: str, tmp_path: Path) -> None:
    """Tkinter looks ten times a second."""
    if not tcl_is_there():
        pytest.skip("this Python has no library of Tcl")
    notes = tmp_path / "notes"
    notes.write_text("an old line\n")
    with Program("receiver/tk_notes.py", notes) as program:
        assert program.line() == "ready"
        status = program.ask(way)
        assert program.end() == (status, [])
    assert notes.read_text() == "an old line\nand a line that nobody has saved yet\n"


def test_workers_end_with_their_parent(way: str, tmp_path: Path) -> None:
    """Each after the turn that it had begun."""
    with Program("receiver/workers.py", tmp_path, "spawn") as program:
        pids = program.line().split()[1:]
        workers = [open_handle(int(pid)) for pid in pids]
        status = program.ask(way)
        assert program.end() == (status, [])
        ended = [has_ended(worker) for worker in workers]
        for worker in workers:
            _winapi.CloseHandle(worker)
    assert ended == [True, True, True]
    for name in os.listdir(tmp_path):
        words = [line.split()[0] for line in (tmp_path / name).read_text().splitlines()]
        assert words == ["begin", "end"] * (len(words) // 2)


@pytest.mark.parametrize("name", ["console_before.py", "console_after.py"])
@pytest.mark.parametrize("event", ["ctrl-c", "close"])
def test_after_the_migration_a_console_program_does_what_it_did_before(name: str, event: str) -> None:
    """A console that is closed gives it the time to save."""
    with Program(f"migration/{name}") as program:
        assert program.line() == "ready"
        program.ask(event)
        assert program.end() == (0, ["saved"])
