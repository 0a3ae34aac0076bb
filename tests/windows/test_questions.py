"""The open questions about real Windows can be asked; the answers are for a person (tools/windows_report.py)."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from typing import TYPE_CHECKING

import pytest

from tests.windows.questions import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.windows.lab import Lab
    from tests.windows.questions import Measurement


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_a_question_has_answers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, question: Callable[[Lab], Iterator[Measurement]]
) -> None:
    """It runs to its end, with a result for each case."""
    monkeypatch.setattr("tests.windows.questions.PATIENCE_S", 0.05)
    monkeypatch.setattr("tests.windows.questions.CLOSE_LIMIT_S", 0.05)
    monkeypatch.setattr("tests.windows.questions.ROUNDS", 1)
    answers = list(question(lab))
    assert len(answers) > 3
    assert all(answer.case and answer.result for answer in answers)
