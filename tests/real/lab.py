"""Starts real programs, watches them, runs the command, compares the two, and ends what is left.

What belongs to a program: its descendants, its session, whatever has its working directory in the program's own folder,
and whatever carries the mark of the test in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

from .answers import Look, Pending, Report, pid_of, validate
from .observer import (
    PATIENCE_S,
    Gate,
    Handle,
    Output,
    Process,
    Program,
    environment_of,
    link_of,
    listens,
    processes,
    read_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .documents import TargetDoc, WhyDoc
    from .observer import Client

_MARK = "ENDTASK_TEST_LAB"


class Lab:
    """What one test started, and the observer of it.

    Attributes:
        home: The test's own folder.
        shared: A folder of the whole run, for what takes long to make.
        programs: What was started.
    """

    def __init__(self, home: str, shared: str) -> None:
        self.home = home
        self.shared = shared
        self.mark = uuid.uuid4().hex
        self.programs: list[Program] = []
        self._closers: list[Callable[[], None]] = []
        self._adopted: set[int] = set()

    # ------------------------------------------------------------------ starting

    def path(self, name: str) -> str:
        """Return a path in the test's own folder."""
        return os.path.join(self.home, name)

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """Write a file into the test's own folder and return its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def read(self, name: str) -> str:
        """Return the text of a file in the test's own folder, empty if it does not exist."""
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def own(self, thing: Gate | Client | Handle) -> None:
        """Close *thing* when the test is over."""
        self._closers.append(thing.close)

    def gate(self) -> Gate:
        """Return a new gate."""
        gate = Gate()
        self.own(gate)
        return gate

    def start(
        self, *argv: str, env: Mapping[str, str] | None = None, user: str | None = None, stdin: int = subprocess.DEVNULL
    ) -> Program:
        """Start a program in a session and folder of its own; everything that it prints goes to its `output`."""
        read_end, write_end = os.pipe()
        try:
            popen = subprocess.Popen(
                argv,
                cwd=self.home,
                env={**os.environ, "LC_ALL": "C.UTF-8", _MARK: self.mark, **(env or {})},
                stdin=stdin,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                user=user,
                group=None if user is None else _group_of(user),
                extra_groups=None if user is None else [],
            )
        finally:
            os.close(write_end)
        program = Program(popen, Output(read_end))
        self.programs.append(program)
        return program

    def handle(self, pid: int) -> Handle:
        """Return our own handle on a process that a program started."""
        handle = Handle(pid)
        self.own(handle)
        return handle

    def adopt(self, pid: int) -> Handle:
        """Take a daemon that a program started for one of ours: with its session and its descendants."""
        self._adopted.add(pid)
        return self.handle(pid)

    # ------------------------------------------------------------------ observing

    def living(self) -> dict[int, Process]:
        """Return everything that belongs to what the test started and has not exited."""
        table = processes()
        tops = {p.pid for p in self.programs} | self._adopted
        mark = f"{_MARK}={self.mark}".encode()
        ours: dict[int, Process] = {}
        for pid, row in table.items():
            if row.state in "ZX":
                continue
            folder = link_of(f"/proc/{pid}/cwd")
            inside = folder == self.home or folder.startswith(self.home + "/") or folder == f"{self.home} (deleted)"
            if row.sid in tops or pid in tops or inside or mark in environment_of(pid).split(b"\0"):
                ours[pid] = row
        grown = True
        while grown:
            below = {
                pid: row for pid, row in table.items() if row.ppid in ours and pid not in ours and row.state not in "ZX"
            }
            ours.update(below)
            grown = bool(below)
        return ours

    def children(self, pid: int) -> list[int]:
        """Return the living children of *pid*."""
        return sorted(row.pid for row in processes().values() if row.ppid == pid and row.state not in "ZX")

    def watch(self) -> dict[int, Handle]:
        """Return our own handle on everything that lives now."""
        handles = {}
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = self.handle(pid)
        return handles

    # ------------------------------------------------------------------ the command

    def _command_env(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_STATE_HOME": self.home,
        }  # what was asked in vain is not noted in the developer's own memory

    def endtask(self, *words: str | int) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-m", "endtask", *map(str, words)],
            check=False,
            env=self._command_env(),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )

    def stop(self, *words: str | int) -> Report:
        """Run `endtask stop --json` and compare everything that it says with what we see ourselves."""
        handles = self.watch()
        started = time.monotonic()
        done = self.endtask("stop", "--json", *words)
        report = Report(done.returncode, done.stdout, done.stderr, started)
        self.check(report, handles)
        return report

    def begin_stop(self, *words: str | int) -> Pending:
        """Start `endtask stop --json` and return at once."""
        command = [sys.executable, "-m", "endtask", "stop", "--json", *map(str, words)]
        popen = subprocess.Popen(
            command,
            env=self._command_env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._closers.append(lambda: _end_command(popen))
        return Pending(popen)

    def look(self, *words: str | int) -> Look:
        """Run `endtask look --json`."""
        started = time.monotonic()
        done = self.endtask("look", "--json", *words)
        answer = Look(done.returncode, done.stdout, done.stderr, started)
        assert answer.code == answer.document["exit_code"], answer
        return answer

    def why(self, *words: str | int) -> WhyDoc:
        """Run `endtask why --json`."""
        done = self.endtask("why", "--json", *words)
        validate(done.stdout, "why", done.stderr)
        document: WhyDoc = json.loads(done.stdout)
        return document

    # ------------------------------------------------------------------ judging

    def check(self, report: Report, handles: Mapping[int, Handle]) -> None:
        """Compare a report with what the observer sees: every sentence of it that can be checked for any program."""
        assert report.code == report.document["exit_code"], report
        for target in report.document["targets"]:
            _check_words(target, report)
            for member in target["members"]:
                handle = handles.get(pid_of(member["ref"]))
                if handle is not None:
                    assert member["exited"] == handle.ended, (member, report)
                self._check_end(member["ref"], member["end"], report)
            for port in target["ports"]:
                number = int(port["port"].rpartition(":")[2])
                assert port["free"] is not listens(number), report

    def _check_end(self, ref: str, end: object, report: Report) -> None:
        """The exit status in the report is the one that the parent, which is us, was told."""
        program = next((p for p in self.programs if p.pid == pid_of(ref)), None)
        if program is None or not isinstance(end, dict) or not end["source"]:
            return
        code = program.returncode()
        assert (end["signal"], end["status"]) == ((-code, None) if code < 0 else (0, code)), report

    def nothing_left(self) -> None:
        """Assert that nothing of what the test started lives."""
        left = self.living()
        assert not left, [(row, link_of(f"/proc/{pid}/exe")) for pid, row in left.items()]

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End everything that the test started, by handle, and prove it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            left = self.living()
            if not left or time.monotonic() > deadline:
                break
            for pid, row in left.items():
                _end_one(pid, row)
        for closer in reversed(self._closers):
            closer()
        for program in self.programs:
            program.close()
        assert not left, f"could not be ended: {left}"


def _end_one(pid: int, row: Process) -> None:
    try:
        handle = Handle(pid)
    except ProcessLookupError:
        return  # ignored: it has gone, which is what we wanted
    now = read_process(pid)
    # The row is read again after the handle was opened: the same start time means that the handle holds the process that was meant.
    if now is not None and now.start == row.start:
        handle.send(signal.SIGKILL)
        handle.wait()
    handle.close()


def _end_command(popen: subprocess.Popen[str]) -> None:
    if popen.poll() is None:
        popen.kill()
    for pipe in (popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
    popen.wait(PATIENCE_S)


def _check_words(target: TargetDoc, report: Report) -> None:
    """The rules that hold for every verdict."""
    outcome, members = target["outcome"], target["members"]
    delivered = {r["request"] for m in members for r in m["receipts"] if r["status"] == "delivered"}
    if outcome in ("stopped", "forced"):
        assert target["evidence"], f"success without evidence: {report}"
        assert all(m["exited"] for m in members), report
        assert not target["suspects"], report
    if outcome == "stopped":
        assert "KILL" not in delivered, report
        assert report.code == 0, report
    if outcome == "running":
        assert not all(m["exited"] for m in members), report
        assert target["reasons"], f"running without a reason: {report}"
        assert report.code == 124, report
    if outcome == "forced":
        assert any(m["forced"] for m in members), report
        assert report.code == 10, report


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


@contextlib.contextmanager
def open_lab(home: str, shared: str) -> Iterator[Lab]:
    """Open a lab in the folder *home*; *shared* belongs to all labs of the run."""
    lab = Lab(home, shared)
    try:
        yield lab
    finally:
        lab.close()
