"""The parts of the command's JSON documents that these tests read; the whole documents are validated against the shipped schemas."""

from __future__ import annotations

from typing import TypedDict


class End(TypedDict):
    """How a process ended."""

    status: int | None
    signal: int
    source: str
    why_unknown: str
    unreaped_by: int


class ReceiptDoc(TypedDict):
    """What the system said to a request."""

    request: str
    status: str
    at_s: float
    detail: str


class MemberDoc(TypedDict):
    """A process in scope."""

    ref: str
    name: str
    tie: str
    exited: bool
    end: End | None
    forced: bool
    receipts: list[ReceiptDoc]


class EvidenceDoc(TypedDict):
    """What shows the end."""

    mechanism: str
    strength: str
    text: str


class ReasonDoc(TypedDict):
    """Why not."""

    code: str
    text: str
    certain: bool
    next: str
    pid: int


class PortDoc(TypedDict):
    """A port that the target was named by."""

    port: str
    free: bool
    holder: str
    ours: bool


class RespawnDoc(TypedDict):
    """Who took its place."""

    ref: str
    name: str
    by: str
    next: str


class SuspectDoc(TypedDict):
    """Who may belong to it."""

    ref: str
    name: str
    because: str


class TargetDoc(TypedDict):
    """The verdict on one target."""

    what: str
    ref: str
    name: str
    outcome: str
    elapsed_s: float
    members: list[MemberDoc]
    evidence: list[EvidenceDoc]
    reasons: list[ReasonDoc]
    ports: list[PortDoc]
    respawn: RespawnDoc | None
    suspects: list[SuspectDoc]
    next: str


class MissingDoc(TypedDict):
    """A WHAT to which nothing answered."""

    what: str
    text: str
    code: str


class ReportDoc(TypedDict):
    """The answer of `stop` and `wait`."""

    targets: list[TargetDoc]
    missing: list[MissingDoc]
    exit_code: int


class PredictionDoc(TypedDict):
    """What one request would do."""

    request: str
    answer: str
    certain: bool
    because: str


class ForecastDoc(TypedDict):
    """How a process would answer."""

    predictions: list[PredictionDoc]
    notes: list[str]
    advice: list[str]
    passes_on: bool | None
    ask_instead: int


class ManagerDoc(TypedDict):
    """Who looks after a process."""

    kind: str
    name: str
    stop: str
    restarts: str
    because: str
    certain: bool
    pid: int


class FactsDoc(TypedDict):
    """What could be read about a process."""

    ref: str
    name: str
    namespace_init: bool
    other_namespace: bool
    managers: list[ManagerDoc]


class TreeDoc(TypedDict):
    """A member of the tree that `look` shows."""

    ref: str
    name: str
    tie: str


class SeenDoc(TypedDict):
    """How one process looks."""

    what: str
    facts: FactsDoc
    forecast: ForecastDoc
    tree: list[TreeDoc]
    suspects: list[SuspectDoc]


class LookDoc(TypedDict):
    """The answer of `look`."""

    seen: list[SeenDoc]
    missing: list[MissingDoc]
    exit_code: int


class ExplainedDoc(TypedDict):
    """Why one target is still there."""

    reasons: list[ReasonDoc]
    asked_before: list[str]


class WhyDoc(TypedDict):
    """The answer of `why`."""

    targets: list[ExplainedDoc]
    exit_code: int
