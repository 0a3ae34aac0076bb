"""Words for what happens on the way, and verdicts that need no job."""

from __future__ import annotations

import signal

import pytest

from endtask._find import Target
from endtask._job import JobMember
from endtask._requests import parse_request
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
        (ProcessEnd(signal=signal.SIGUSR1, source="pidfd"), "ended by USR1"),
        (ProcessEnd(signal=32, source="pidfd"), "ended by signal 32"),
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


def test_every_signal_has_its_usual_name() -> None:
    """Of two names for one number the usual one; what a plan calls a signal, the report calls it too."""
    names = {int(number): signal_name(number) for number in signal.valid_signals()}
    assert {n: names[n] for n in (6, 10, 12, 17, 29)} == {6: "ABRT", 10: "USR1", 12: "USR2", 17: "CHLD", 29: "IO"}
    suspending = ("STOP", "TSTP", "TTIN", "TTOU")
    requests = {n: parse_request(name, signals=True) for n, name in names.items() if name not in suspending}
    assert all(r.number == n for n, r in requests.items())
    assert ["RTMIN", "RTMIN+1", "RTMAX"] == [names[n] for n in (signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX)]


def test_number_that_no_signal_has_is_a_number() -> None:
    """The C library keeps two for itself."""
    assert [signal_name(n) for n in (1, 2, 15, 32, 99)] == ["HUP", "INT", "TERM", "signal 32", "signal 99"]


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


def test_receipt_of_a_process_without_a_visible_name_says_so() -> None:
    """`/proc` mounted with hidepid: the pid is all that is known."""
    receipt = Receipt("TERM", "denied", 0.0, "not permitted")
    words = receipt_in_words(receipt, JobMember(PidRef(12, "34"), "", "target"))
    assert words == "TERM -> 12 (name hidden): denied, not permitted"


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
