"""What the command answered, as the tests ask for it; every document is validated against the shipped schema first."""

from __future__ import annotations

import json
import time
from importlib import resources
from typing import TYPE_CHECKING

import jsonschema

from .observer import PATIENCE_S

if TYPE_CHECKING:
    import subprocess

    from .documents import LookDoc, PredictionDoc, ReportDoc, SeenDoc, TargetDoc


class Answer:
    """What one run of the command said."""

    def __init__(self, code: int, out: str, err: str, started: float) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.wall_s = time.monotonic() - started

    def __repr__(self) -> str:
        return f"exit {self.code} after {self.wall_s:.2f} s\n{self.out}\n{self.err}"


class Report(Answer):
    """The answer of `stop --json`."""

    @property
    def document(self) -> ReportDoc:
        """The document, valid by the shipped schema."""
        validate(self.out, "report", self.err)
        document: ReportDoc = json.loads(self.out)
        return document

    @property
    def target(self) -> TargetDoc:
        """The only target."""
        (target,) = self.document["targets"]
        return target

    @property
    def outcome(self) -> str:
        """The word for the only target."""
        return self.target["outcome"]

    def codes(self) -> set[str]:
        """Return the codes of the reasons."""
        return {r["code"] for r in self.target["reasons"]}

    def asked(self) -> dict[int, list[str]]:
        """Return what was delivered to whom."""
        return {
            pid_of(m["ref"]): [r["request"] for r in m["receipts"] if r["status"] == "delivered"]
            for m in self.target["members"]
        }


class Look(Answer):
    """The answer of `look --json`."""

    @property
    def document(self) -> LookDoc:
        """The document, valid by the shipped schema."""
        validate(self.out, "look", self.err)
        document: LookDoc = json.loads(self.out)
        return document

    @property
    def seen(self) -> SeenDoc:
        """The only process."""
        (seen,) = self.document["seen"]
        return seen

    def prediction(self, request: str) -> PredictionDoc:
        """Return what it says about one request."""
        return next(p for p in self.seen["forecast"]["predictions"] if p["request"] == request)


class Pending:
    """A run of the command that is under way."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen
        self._started = time.monotonic()

    def result(self) -> Report:
        """Wait for its answer."""
        out, err = self._popen.communicate(timeout=2 * PATIENCE_S)
        return Report(self._popen.returncode, out, err, self._started)


def pid_of(ref: str) -> int:
    """Return the pid of `pid:token`."""
    return int(ref.partition(":")[0])


def validate(text: str, schema: str, talk: str) -> None:
    """Assert that *text* is a document that follows the shipped schema; *talk* is what the command said beside it."""
    assert text, f"no document; it said: {talk}"
    rules = json.loads((resources.files("endtask") / "schemas" / f"{schema}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(rules).validate(json.loads(text))
