"""The words: identity, exit codes and their rank, schedules, the JSON form."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask.model import (
    OUTCOMES,
    Evidence,
    Explanation,
    Facts,
    Forecast,
    Looked,
    MemberReport,
    Missing,
    PidRef,
    Planning,
    Policy,
    Prediction,
    ProcessEnd,
    Receipt,
    Report,
    Request,
    Scope,
    Step,
    TargetReport,
    worst_code,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import Outcome

# The command line reference, "the highest in this order wins"; 130 is the user's own Ctrl+C.
RANK = (3, 2, 77, 124, 130, 11, 10, 1, 0)
CODES: dict[Outcome, int] = {
    "stopped": 0,
    "already-gone": 0,
    "forced": 10,
    "respawned": 11,
    "running": 124,
    "vetoed": 124,
    "not-permitted": 77,
    "unreachable": 77,
    "unproven": 3,
}


def target(outcome: Outcome, *members: MemberReport) -> TargetReport:
    """Return a verdict with that word."""
    return TargetReport("x", PidRef(7, "8"), "x", outcome, members=members)


def test_pid_ref_text_is_pid_and_token() -> None:
    """The text form is the one of util-linux, without a colon where the token is unknown."""
    assert str(PidRef(12, "34")) == "12:34"
    assert str(PidRef(12)) == "12"


def test_every_outcome_has_a_code() -> None:
    """No word is without an exit code, and the table is that of the reference."""
    assert CODES == {o: Report((target(o),)).exit_code for o in OUTCOMES}


def test_worst_code_follows_the_order_of_the_reference() -> None:
    """For every pair the code that stands first wins, whatever the order of the targets."""
    for first, second in itertools.combinations(RANK, 2):
        assert first == worst_code((first, second)) == worst_code((second, first))


def test_worst_code_of_nothing_is_success() -> None:
    """Nothing to judge is nothing wrong."""
    assert worst_code(()) == 0


@settings(deadline=None)
@given(st.lists(st.sampled_from(OUTCOMES), max_size=6), st.integers(0, 2), st.booleans(), st.booleans())
def test_exit_code_of_a_report_is_the_worst_of_its_parts(
    words: list[Outcome], missing: int, missing_ok: bool, force_ok: bool
) -> None:
    """The code of a report is the worst code of targets and missing words, with the allowances applied."""
    codes = [CODES[w] for w in words] + [1] * missing
    if force_ok:
        codes = [0 if c == 10 else c for c in codes]
    if missing_ok:
        codes = [0 if c == 1 else c for c in codes]
    expected = min(codes, key=RANK.index, default=0)
    report = Report(
        tuple(target(w) for w in words),
        tuple(Missing("y", "nobody") for _ in range(missing)),
        missing_ok=missing_ok,
        force_ok=force_ok,
    )
    assert expected == report.exit_code
    assert (expected == 0) is report.ok


def test_missing_ok_does_not_excuse_what_may_not_be_seen() -> None:
    """`--missing-ok` is about nobody being there, not about being refused."""
    missing = (Missing(":1", "somebody listens", "not-permitted"),)
    assert Report((), missing, missing_ok=True).exit_code == 77
    assert Planning((), missing, missing_ok=True).exit_code == 77
    assert Looked((), missing).exit_code == 77
    assert Explanation((), missing).exit_code == 77


def test_force_ok_does_not_excuse_a_respawn() -> None:
    """`--force-ok` turns only 10 into 0."""
    assert Report((target("respawned"),), force_ok=True).exit_code == 11
    assert Report((target("forced"),), force_ok=True).ok


@pytest.mark.parametrize("word", OUTCOMES)
def test_cancelled_report_says_130(word: Outcome) -> None:
    """Ctrl+C on endtask itself gives 130 whatever the state of the targets was."""
    assert Report((target(word),), cancelled=True).exit_code == 130


def test_nothing_matched_is_1_and_missing_ok_makes_it_0() -> None:
    """The reference: 1 nothing matched."""
    missing = (Missing("y", "nobody"),)
    assert Report((), missing).exit_code == 1
    assert Report((), missing, missing_ok=True).exit_code == 0
    assert (Looked((), missing).exit_code, Explanation((), missing).exit_code) == (1, 1)
    assert (Planning((), missing).exit_code, Planning((), missing, missing_ok=True).exit_code) == (1, 0)


def test_survivors_are_those_that_run_and_were_not_kept() -> None:
    """A kept member is no survivor, an exited one neither."""
    members = (
        MemberReport(PidRef(1), "gone", "target", exited=True),
        MemberReport(PidRef(2), "kept", "child of 1", exited=False, kept=True),
        MemberReport(PidRef(3), "left", "child of 1", exited=False),
    )
    assert ["left"] == [m.name for m in Report((target("running", *members),)).survivors]


def test_forced_tells_whether_any_process_was_forced() -> None:
    """Force can never be hidden in a report."""
    polite = MemberReport(PidRef(1), "a", "target", exited=True)
    forced = MemberReport(PidRef(2), "b", "child of 1", exited=True, forced=True)
    assert not Report((target("stopped", polite),)).forced
    assert Report((target("forced", polite, forced),)).forced


def test_end_is_known_only_with_a_source() -> None:
    """An end without a source is unknown, even with status 0."""
    assert not ProcessEnd().known
    assert ProcessEnd(0, source="pidfd").known


def test_forecast_answers_unknown_for_what_was_not_asked() -> None:
    """A request that was not asked about has no answer."""
    forecast = Forecast((Prediction("TERM", "ends"),))
    assert forecast.answer("TERM") == "ends"
    assert forecast.answer("HUP") == "unknown"


def test_report_json_is_plain_and_complete() -> None:
    """`to_json` gives data that json can write, refs as text, the exit code included."""
    member = MemberReport(
        PidRef(7, "8"),
        "x\udcff",
        "target",
        True,
        0.5,
        ProcessEnd(0, source="pidfd"),
        receipts=(Receipt("TERM", "delivered"),),
    )
    verdict = TargetReport("x", PidRef(7, "8"), "x", "stopped", 0.5, (member,), (Evidence("pidfd", "proved", "gone"),))
    data = json.loads(json.dumps(Report((verdict,), elapsed_s=0.5).to_json()))
    assert data["schema"] == "endtask.report/1"
    assert data["exit_code"] == 0
    assert data["targets"][0]["ref"] == "7:8"
    assert data["targets"][0]["members"][0]["name"] == "x\\xff"
    assert data["targets"][0]["members"][0]["end"]["status"] == 0


def test_every_document_names_its_schema_and_its_code() -> None:
    """Each document of the command carries the version of its form and the exit code."""
    documents = {
        "endtask.report/1": Report(()).to_json(),
        "endtask.look/1": Looked(()).to_json(),
        "endtask.plan/1": Planning(()).to_json(),
        "endtask.why/1": Explanation(()).to_json(),
    }
    for schema, data in documents.items():
        assert (schema, 0) == (data["schema"], data["exit_code"])


def test_facts_say_unknown_by_default() -> None:
    """A fact that nobody read is not a claim."""
    facts = Facts(PidRef(7), "x")
    assert ("?", None, -1, -1.0) == (facts.state, facts.signals, facts.uid, facts.age_s)


TERM = Request("TERM", "signal", 15)
KILL = Request("KILL", "signal", 9, "", True)


@pytest.mark.parametrize(
    ("waits", "budget", "expected"),
    [
        ((None,), 10.0, [(0.0, 10.0)]),
        ((3.0,), 10.0, [(0.0, 10.0)]),  # the last step gets all that is left
        ((4.0, None), 10.0, [(0.0, 4.0), (4.0, 10.0)]),
        ((4.0, 2.0), 10.0, [(0.0, 4.0), (4.0, 10.0)]),
        ((4.0, 20.0, 1.0), 10.0, [(0.0, 4.0), (4.0, 10.0), (10.0, 10.0)]),
    ],
)
def test_schedule_gives_each_step_its_time(
    waits: tuple[float | None, ...], budget: float, expected: list[tuple[float, float]]
) -> None:
    """Steps follow each other, and nothing is planned after the budget."""
    policy = Policy(tuple(Step(TERM, w) for w in waits), budget, Scope())
    assert expected == [(begins, ends) for _request, begins, ends in policy.schedule()]
