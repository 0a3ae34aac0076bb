"""Judges an answer of the command by what an independent observer saw: process handles, exit codes, and what the targets themselves wrote.

Nothing here asks endtask twice: every sentence of a report is held against the world outside of it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.windows.schemas import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.windows.lab import Target

Created = TypeVar("Created")

# The command line reference, not the product's own table.
CODES = {
    "stopped": 0,
    "already-gone": 0,
    "forced": 10,
    "running": 124,
    "vetoed": 124,
    "not-permitted": 77,
    "unreachable": 77,
    "unproven": 3,
    "respawned": 11,
}
# How the words begin the line of a target that is not simply stopped.
HEADS = {
    "forced": "forced:",
    "running": "still running:",
    "vetoed": "said no:",
    "unreachable": "no way to ask:",
    "unproven": "unproven:",
    "not-permitted": "not permitted:",
    "already-gone": "already gone:",
}
_FORCE = frozenset(("TERMINATE", "EXIT_PROCESS"))
_PATIENCE_S = 120.0
_starting = threading.Lock()


@dataclass(frozen=True)
class Answer:
    """What the command said."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    took_s: float

    @property
    def report(self) -> dict[str, Any]:
        """The JSON document, which must follow its schema."""
        document: dict[str, Any] = json.loads(self.out)
        validate(document)
        return document

    @property
    def target(self) -> dict[str, Any]:
        """The only target of the report."""
        (target,) = self.report["targets"]
        return dict(target)

    @property
    def outcome(self) -> str:
        """The word for the only target."""
        return str(self.target["outcome"])

    @property
    def sent(self) -> list[str]:
        """What was sent to the target itself: `WM_CLOSE delivered`."""
        return [f"{r['request']} {r['status']}" for r in self.target["members"][0]["receipts"]]

    @property
    def reasons(self) -> list[str]:
        """The codes of the reasons."""
        return [r["code"] for r in self.target["reasons"]]

    def because(self, code: str) -> str:
        """Return the text of the first reason with that code."""
        return next(str(r["text"]) for r in self.target["reasons"] if r["code"] == code)

    def __str__(self) -> str:
        return f"endtask {' '.join(self.words)}: {self.code} after {self.took_s:.2f} s\n{self.out}{self.err}"


def create(make: Callable[[], Created]) -> Created:
    """Create a process, one at a time: a handle that one thread is about to close must not be inherited by the child of another."""
    with _starting:
        return make()


def endtask(*words: object, environment: Mapping[str, str] | None = None, flags: int = 0) -> Answer:
    """Run the command as a user does, in a process of its own."""
    line = [str(w) for w in words]
    began = time.monotonic()
    command = create(
        lambda: subprocess.Popen(
            [sys.executable, "-m", "endtask", *line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            creationflags=flags,
        )
    )
    with command:
        out, err = (data.decode().replace("\r\n", "\n") for data in command.communicate(timeout=_PATIENCE_S))
    return Answer(tuple(line), command.returncode, out, err, time.monotonic() - began)


# --------------------------------------------------------------------------- judging


@dataclass
class Judge:
    """Collects what an answer says and the world does not.

    Attributes:
        answer: What the command said.
        known: Every process that the observer holds a handle on, by pid.
        lies: What was found.
    """

    answer: Answer
    known: dict[int, Target]
    lies: list[str] = field(default_factory=list)

    def must(self, true: object, lie: str) -> None:
        """Note *lie* unless something is true."""
        if not true:
            self.lies.append(lie)


def lies(answer: Answer, known: Iterable[Target]) -> list[str]:
    """Return every lie in an answer about targets that do not end by themselves.

    Args:
        answer: What the command said; as JSON or in words.
        known: The processes that the observer holds a handle on.
    """
    judge = Judge(answer, {t.pid: t for t in known})
    judge.must(not answer.err or answer.code in (1, 2, 77), f"it complains: {answer.err}")
    if "--json" in answer.words:
        report = answer.report
        judge.must(
            report["exit_code"] == answer.code, f"exit code {answer.code}, the report says {report['exit_code']}"
        )
        judge.must(not report["cancelled"], "it says that it was interrupted")
        for target in report["targets"]:
            _judge_target(judge, target)
    return judge.lies


def _judge_target(judge: Judge, target: dict[str, Any]) -> None:
    word, members = target["outcome"], target["members"]
    living = [m["ref"] for m in members if not m["exited"] and not m["kept"]]
    if len(judge.answer.report["targets"]) == 1:
        judge.must(judge.answer.code == CODES[word], f"{word} with exit code {judge.answer.code}")
    judge.must(
        bool(living) != (word in ("stopped", "forced", "unproven", "already-gone")), f"{word}, and {living} live"
    )
    if word in ("stopped", "forced"):
        judge.must(target["evidence"], f"{word} without any evidence")
        judge.must(all(e["strength"] != "unproven" for e in target["evidence"]), f"{word} with doubts")
        judge.must(not target["suspects"], f"{word} with suspects")
        for pid, known in judge.known.items():
            judge.must(not known.running, f"{word}, and {pid} still runs")
    judge.must(
        (word == "forced") == any(m["forced"] for m in members if word in ("forced", "stopped")), "forced or not?"
    )
    explained = {r["pid"] for r in target["reasons"]}
    for member in members:
        _judge_member(judge, member, target["elapsed_s"])
        if member["ref"] in living:
            judge.must(int(member["ref"].partition(":")[0]) in explained, f"no reason is given for {member['ref']}")
    for suspect in target["suspects"]:
        suspected = judge.known.get(int(suspect["ref"].partition(":")[0]))
        judge.must(suspected is None or suspected.running, f"{suspect['ref']} is suspected and has ended")


def _judge_member(judge: Judge, member: dict[str, Any], elapsed_s: float) -> None:
    pid, token = (int(part) for part in member["ref"].split(":"))
    known = judge.known.get(pid)
    if known is not None:
        judge.must(known.created == token, f"{pid} was created at {known.created}, not at {token}")
        judge.must(known.running != member["exited"], f"{pid} {'runs' if known.running else 'has ended'}")
        status = member["end"]["status"] if member["end"] else None
        judge.must(known.exit_code == status, f"{pid} has the exit code {known.exit_code}, not {status}")
    forcing = [r for r in member["receipts"] if r["request"] in _FORCE and r["status"] == "delivered"]
    judge.must(not member["forced"] or forcing, f"{pid} is called forced, and nothing forced it")
    times = [r["at_s"] for r in member["receipts"]]
    judge.must(times == sorted(times), f"the receipts of {pid} are in disorder: {times}")
    ended_s = member["exited_at_s"] if member["exited_at_s"] is not None else elapsed_s
    delivered = [r["at_s"] for r in member["receipts"] if r["status"] == "delivered"]
    judge.must(all(0 <= at <= ended_s <= elapsed_s for at in delivered), f"times of {pid}: {times}, end {ended_s}")


def lies_in_words(answer: Answer, target: Target, word: str) -> list[str]:
    """Return every lie in the words about a target, of which the observer knows that *word* is the right one."""
    judge = Judge(answer, {target.pid: target})
    pid, lines = target.pid, answer.out.splitlines()
    judge.must(answer.code == CODES[word], f"exit code {answer.code}, and it is {word}")
    sums = [line for line in lines if line.startswith("stopped ")]
    if word == "stopped":
        judge.must(len(sums) == 1 and sums[0].partition(" in ")[0].split()[1] == sums[0].split()[3], f"the sum: {sums}")
        judge.must(any(f" {pid} " in line and "exited, status" in line for line in lines), f"no end of {pid} is told")
        judge.must(not target.running, f"it says stopped, and {pid} runs")
    else:
        judge.must(not sums, f"it is {word}, and the words say {sums}")
        judge.must(any(line.startswith(f"{HEADS[word]} {pid} ") for line in lines), f"no line `{HEADS[word]} {pid}`")
        judge.must(any(line.startswith("  why") for line in lines), "it does not say why")
    return judge.lies
