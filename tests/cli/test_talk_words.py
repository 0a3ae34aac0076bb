"""What applications say, as it is shown: plain lines, the live view, reports, `look` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask.cli import describe, live, render, report_files
from endtask.cli.console import Console, Stream, shown
from endtask.model import (
    Event,
    Evidence,
    Facts,
    Forecast,
    Looked,
    MemberReport,
    PidRef,
    Planned,
    Planning,
    Reason,
    Receipt,
    Receiver,
    Report,
    Said,
    Seen,
    TargetPlan,
    TargetReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from endtask.cli.console import Line

REF = PidRef(4242, "7")


def text(lines: Iterable[Line]) -> str:
    """Return lines as they are written without colour."""
    return "\n".join(shown(line if isinstance(line, str) else "".join(t for _, t in line)) for line in lines)


def said(at_s: float, words: str, kind: str = "said") -> Event:
    """Return an event of an application's word."""
    return Event(kind, at_s, "ingest", REF, "ingest", f"4242 ingest {words}")


# --------------------------------------------------------------------------- while it happens


def test_progress_is_told_once_a_second() -> None:
    """Only the numbers change: a line a second is enough; other words are told at once."""
    lines = render.EventLines()
    told = [
        lines.line(said(0.1, "says: draining, 1 of 15")),
        lines.line(said(0.2, "says: draining, 2 of 15")),
        lines.line(said(0.3, "says: flushing")),
        lines.line(said(0.9, "says: flushing")),
        lines.line(said(1.4, "says: flushing")),
        lines.line(said(1.5, "refuses: recording", "refuses")),
    ]
    assert [line is not None for line in told] == [True, False, True, False, True, True]
    assert text([told[-1]] if told[-1] is not None else []) == "  1.50 s  4242 ingest refuses: recording"


def test_one_that_never_shuts_up_does_not_fill_the_screen() -> None:
    """After a hundred lines the rest is only counted; `-v` shows all of it."""
    events = [said(n / 10, f"says: part {'x' * n}") for n in range(300)]
    lines, all_lines = render.EventLines(), render.EventLines(verbose=True)
    assert sum(lines.line(e) is not None for e in events) == render.LINES + 1
    assert sum(all_lines.line(e) is not None for e in events) == 300


def test_however_much_one_says_it_hides_no_request_and_no_end() -> None:
    """A hundred of its words are shown, refusals too, and of its children; and what is done to others all the same."""
    lines = render.EventLines()
    told = [lines.line(said(0.1, f"refuses: {n}", "refuses")) for n in range(300)]
    assert sum(line is not None for line in told) == render.LINES + 1
    told = [lines.line(Event("joined", 0.1, "web", text="found: started while stopping")) for _n in range(300)]
    assert sum(line is not None for line in told) == render.LINES + 1
    assert "2.00 s  KILL -> 4711 other" in text(
        [lines.line(Event("request", 2.0, "other", text="KILL -> 4711 other")) or ""]
    )


def test_the_live_view_shows_what_is_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the clock of the process."""
    monkeypatch.setattr(live, "start_clock", lambda _tick, _busy: None)
    view = live.LiveView(Console(Stream(1), Stream(2)), 10.0, lines=False)
    for event in (
        Event("selected", 0.0, "ingest", REF, "ingest", "4242 ingest"),
        Event("request", 0.0, "ingest", REF, "ingest", "TERM -> 4242 ingest"),
        said(0.1, "says: draining, 3 of 15\x1b[2J"),
    ):
        view(event)
    row = view.rows()[1]
    assert "4242 ingest  asked by TERM" in row
    assert "says: draining, 3 of 15\\x1b[2J" in row
    view(Event("exited", 0.5, "ingest", REF, "ingest", "4242 ingest exited"))
    assert len(view.rows()) == 1


def test_the_live_view_says_what_it_waits_for_when_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never "waiting for 0", nor a budget that the watch for a respawn is no part of."""
    monkeypatch.setattr(live, "start_clock", lambda _tick, _busy: None)
    view = live.LiveView(Console(Stream(1), Stream(2)), 6.0, lines=False)
    view(Event("selected", 0.0, "ingest", REF, "ingest", "4242 ingest"))
    assert "waiting for 1" in view.rows()[0]
    view(Event("exited", 0.5, "ingest", REF, "ingest", "4242 ingest exited"))
    assert [row.partition(" s  ")[2] for row in view.rows()] == ["looking for what is left"]
    view(Event("watching", 0.5, "ingest", None, "", "watching 2 s for a respawn: as asked"))
    assert [row.partition(" s  ")[2] for row in view.rows()] == ["watching for a respawn"]


def test_the_live_view_shows_the_time_that_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is what the run has now; of several targets the one that was given most."""
    monkeypatch.setattr(live, "start_clock", lambda _tick, _busy: None)
    view = live.LiveView(Console(Stream(1), Stream(2)), 4.0, lines=False)
    view(Event("selected", 0.0, "ingest", REF, "ingest", "4242 ingest"))
    budgets = []
    for extended_s in (0.0, 2.2499, 8.0, 1.0):
        text = "4242 ingest needs 4 s more: flushing"
        view(Event("needs", 0.5, "ingest", REF, "ingest", text, extended_s=extended_s))
        budgets.append(view.rows()[0].partition(" s of ")[2].partition(" s ")[0])
    assert budgets == ["4", "6.2", "12", "12"]


# --------------------------------------------------------------------------- afterwards


def report() -> Report:
    """Return the report of one that asked for more and was forced."""
    words = (
        Said("heard", 0.01, "SIGTERM", seconds=0.0002),
        Said("need", 0.5, "flushing", seconds=8.0, missing_s=6.5, until_s=2.0),
    )
    receipts = (Receipt("TERM", "delivered", 0.009), Receipt("KILL", "delivered", 2.0))
    member = MemberReport(
        REF, "ingest", "target", exited=True, exited_at_s=2.0, forced=True, receipts=receipts, said=words
    )
    reason = Reason(
        "needs-time",
        "4242 ingest asked for more time than it was given: flushing",
        next="`--extend 6.5s` would have granted it",
    )
    proof = (Evidence("pidfd", "proved", "every handle has ended", 2.0),)
    return Report((TargetReport("ingest", REF, "ingest", "forced", 2.0, (member,), proof, (reason,)),), elapsed_s=2.0)


def test_a_report_says_what_was_not_granted() -> None:
    """With the option that would have granted it."""
    shown_lines = text(render.report_lines(report()))
    assert "why   4242 ingest asked for more time than it was given: flushing" in shown_lines
    assert "next  `--extend 6.5s` would have granted it" in shown_lines
    assert "heard" not in shown_lines


def test_a_verbose_report_has_requests_and_words_in_order() -> None:
    """What was sent and what was said, by their times."""
    lines = text(render.report_lines(report(), verbose=True)).splitlines()
    at = next(i for i, line in enumerate(lines) if "TERM delivered" in line)
    assert [line.split("s  ", 1)[1] for line in lines[at : at + 4]] == [
        "TERM delivered",
        "heard SIGTERM after 0.2 ms",
        "needs 8 s more: flushing (not granted: --extend 6.5s would)",
        "KILL delivered",
    ]


def test_report_files_have_it_too() -> None:
    """Markdown and JUnit are made of the same words."""
    for suffix in (".md", ".xml"):
        assert "needs 8 s more: flushing" in report_files.formatted(report(), "stop", suffix)


# --------------------------------------------------------------------------- before


def test_look_has_a_line_for_the_receiver() -> None:
    """Its name and how long it takes; a planted socket is a warning."""
    facts = Facts(REF, "ingest", receiver=Receiver("running", "ingest", 10.0))
    assert 'receiver  yes, deadline known: "ingest", takes up to 10 s' in text(
        describe.look_lines(Looked((Seen("4242", facts, Forecast(())),)))
    )
    facts = Facts(REF, "ingest", receiver=Receiver("unusable", detail="a socket that is not its own"))
    assert "receiver  not usable: a socket that is not its own" in text(
        describe.seen_lines(Seen("4242", facts, Forecast(())))
    )


def test_plan_has_it_and_what_may_be_added() -> None:
    """The budget, what may be added to it, and who can ask for it."""
    planned = Planned(REF, "ingest", "target", "first", ("TERM",), ("handler",), Receiver("running", "ingest", 10.0))
    plan = TargetPlan("4242", REF, "ingest", (planned,), (("TERM", 0.0),), 10.0, extend_s=30.0)
    lines = text(describe.plan_lines(Planning((plan,))))
    assert "budget 10 s, at most 30 s more if an application asks for it" in lines
    assert 'receiver  yes, deadline known: "ingest"' in lines
