"""The moment between a notice and its request: who answers in it hears the request with its deadline, and nobody waits longer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from endtask._discover import Entry
from endtask._find import Target
from endtask._job import Job, JobMember
from endtask._plan import make_policy
from endtask._prepare import Prepared
from endtask._requests import TERM
from endtask._talks import _NOTED_S, _PATIENCE_S, Talks
from endtask.model import PidRef

if TYPE_CHECKING:
    from endtask._backends.base import Backend

HELLO: dict[str, object] = {"endtask": 1, "hello": {"name": "ingest", "grace_s": 10.0}}
NOTED: dict[str, object] = {"noted": {"request": "TERM"}}


class Clock:
    """As much of a backend as is asked here."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s


class Talk:
    """A conversation in which each piece comes after some seconds."""

    def __init__(self, clock: Clock, *pieces: tuple[float, bytes]) -> None:
        self.clock = clock
        self.pieces = [(clock.now_s + at_s, data) for at_s, data in pieces]
        self.open = True

    def say(self, data: bytes) -> bool:
        assert b"notice" in data
        return self.open

    def wait(self, timeout_s: float) -> bool:
        until = self.clock.now_s + timeout_s
        at = self.pieces[0][0] if self.pieces else until + 1
        self.clock.now_s = max(self.clock.now_s, min(at, until))
        return at <= until

    def drain(self) -> bytes:
        due = [data for at, data in self.pieces if at <= self.clock.now_s]
        del self.pieces[: len(due)]
        self.open = self.open and b"" not in due
        return b"".join(due)

    def close(self) -> None:
        self.open = False


def lines(*messages: dict[str, object]) -> bytes:
    """Return messages as an application sends them."""
    return b"".join(json.dumps(m).encode() + b"\n" for m in messages)


def member_of(pid: int) -> tuple[Entry, JobMember]:
    """Return a target of its own that is being asked."""
    ref, policy = PidRef(pid), make_policy(timeout_s=5.0)
    job = Job(policy, [JobMember(ref, "ingest", "target")])
    job.start(0.0)
    return Entry(0, Prepared(Target("ingest", ref, "ingest", None), None, policy), job), job.target


class Desk:
    """All conversations of a run."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.owned: dict[PidRef, tuple[Entry, JobMember]] = {}
        self.talks = Talks(
            cast("Backend", self.clock),
            0.0,
            lambda ref: [self.owned[ref]],
            lambda _entry, _actions: None,
        )

    def prepare(self, pid: int, *pieces: tuple[float, bytes]) -> JobMember:
        """Say the notice to a process that answers like this; return it."""
        entry, member = self.owned[PidRef(pid)] = member_of(pid)
        self.talks.begin(member.ref, Talk(self.clock, *pieces))
        self.talks.prepare(entry, member, TERM)
        return member


def test_the_request_waits_for_the_answer_to_its_notice() -> None:
    """As long as that takes, whatever else is said before."""
    desk = Desk()
    desk.prepare(7, (0.001, lines(HELLO)), (0.002, lines({"tell": {"text": "busy"}})), (0.003, lines(NOTED)))
    assert desk.clock.now_s == pytest.approx(0.003)


def test_what_is_said_meanwhile_is_not_lost() -> None:
    """It is taken in with the next news, and nobody waits for those."""
    desk = Desk()
    member = desk.prepare(7, (0.001, lines(HELLO, {"tell": {"text": "busy"}}, NOTED)))
    assert member.said == []
    assert desk.talks.pending
    desk.talks.hear()
    assert [(s.kind, s.text) for s in member.said] == [("tell", "busy")]
    assert not desk.talks.pending


@pytest.mark.parametrize("piece", [b"", b"garbage\n"])
def test_one_that_hangs_up_or_talks_nonsense_is_not_waited_for(piece: bytes) -> None:
    """Its request goes out, and the conversation is over with the next look."""
    desk = Desk()
    member = desk.prepare(7, (0.001, piece), (0.01, lines(NOTED)))
    assert desk.clock.now_s == pytest.approx(0.001)
    assert desk.talks.pending
    desk.talks.hear()
    assert not desk.talks.knows(member.ref)
    assert not desk.talks.pending


def test_one_that_does_not_answer_gets_the_request_a_moment_later() -> None:
    """It is stopped, or in one long call."""
    desk = Desk()
    desk.prepare(7)
    assert desk.clock.now_s == pytest.approx(_NOTED_S)


def test_hundreds_that_do_not_answer_take_no_longer_than_a_few() -> None:
    """The patience of a run is bounded: its budget is a promise."""
    desk = Desk()
    for pid in range(7, 307):
        desk.prepare(pid, *[(n / 1000, b"{}\n" if n else lines(HELLO)) for n in range(20)])
    assert desk.clock.now_s == pytest.approx(_PATIENCE_S)
