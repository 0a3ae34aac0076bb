"""Words for what happens on the way, and verdicts that need no job."""

from __future__ import annotations

import pytest

from endtask._find import Target
from endtask._job import JobMember
from endtask._verdict import end_in_words, gone, not_begun, receipt_in_words, signal_name
from endtask.model import PidRef, ProcessEnd, Receipt, Report


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ProcessEnd(0, source="pidfd"), "exited, status 0"),
        (ProcessEnd(143, source="pidfd"), "exited, status 143"),
        (ProcessEnd(signal=15, source="pidfd"), "ended by TERM"),
        (ProcessEnd(signal=9, source="stat"), "ended by KILL"),
        (ProcessEnd(signal=11, core=True, source="pidfd"), "ended by SEGV, core dumped"),
        (ProcessEnd(signal=62, source="pidfd"), "ended by 62"),
        (ProcessEnd(), "exited, status unknown"),
        (ProcessEnd(why_unknown="this kernel does not tell"), "exited, status unknown (this kernel does not tell)"),
        (ProcessEnd(3, source="stat", unreaped_by=5, unreaped_name="lazy"), "exited, status 3, not reaped by 5 lazy"),
        (ProcessEnd(3, source="stat", unreaped_by=5), "exited, status 3, not reaped by 5"),
    ],
)
def test_end_is_said_as_far_as_it_is_known(end: ProcessEnd, words: str) -> None:
    """A status that the kernel did not tell is never made up."""
    assert words == end_in_words(end)


def test_reaping_is_left_out_where_it_is_too_early_to_tell() -> None:
    """At the instant of the exit no parent has reaped yet."""
    assert end_in_words(ProcessEnd(3, source="stat", unreaped_by=5), reaping=False) == "exited, status 3"


def test_signal_without_a_common_name_is_a_number() -> None:
    """Real-time signals differ between systems."""
    assert [signal_name(n) for n in (1, 2, 15, 40)] == ["HUP", "INT", "TERM", "40"]


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (Receipt("TERM", "delivered"), "TERM -> 12 app"),
        (Receipt("KILL", "delivered", 0.0, "cgroup.kill"), "KILL -> 12 app (cgroup.kill)"),
        (Receipt("TERM", "denied", 0.0, "operation not permitted"), "TERM -> 12 app: denied, operation not permitted"),
        (Receipt("TERM", "gone"), "TERM -> 12 app: gone"),
    ],
)
def test_receipt_is_said_with_what_went_wrong(receipt: Receipt, words: str) -> None:
    """Delivered needs no word, everything else has one."""
    assert words == receipt_in_words(receipt, JobMember(PidRef(12, "34"), "app", "target"))


def test_target_that_had_gone_is_proved_by_its_token() -> None:
    """Nobody has that identity any more: success, with evidence, and nothing was sent."""
    verdict = gone(Target("app", PidRef(12, "34"), "app", None), 0.5)
    assert ("already-gone", 0.5, ()) == (verdict.outcome, verdict.elapsed_s, verdict.members)
    assert ["proved"] == [e.strength for e in verdict.evidence]
    assert "12:34" in verdict.evidence[0].text


def test_target_whose_turn_never_came_is_not_called_stopped() -> None:
    """Interrupted before: nothing was sent, nothing is known."""
    verdict = not_begun(Target("app", PidRef(12, "34"), "app", None))
    assert ("running", ["cancelled"]) == (verdict.outcome, [r.code for r in verdict.reasons])
    assert "nothing was sent" in verdict.reasons[0].text
    assert Report((verdict,), cancelled=True).exit_code == 130
