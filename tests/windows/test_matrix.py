"""The matrix of Windows: what `endtask stop PID -t 3s` says about each kind of target is true, every time.

One run of each kind here; `ENDTASK_MATRIX_RUNS=10` repeats each that often.
The targets of one run are stopped side by side, because most of the time is spent by waiting.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING

import pytest

from tests.windows.kinds import REQUESTS, Kind, Scene
from tests.windows.lab import Lab
from tests.windows.matrix import KINDS, SERVICES
from tests.windows.truth import Answer, endtask, lies, lies_in_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.windows.lab import Target

RUNS = int(os.environ.get("ENDTASK_MATRIX_RUNS", "1"))
SIDE_BY_SIDE = 6
BUDGET = ("-t", "3s")
pytestmark = [pytest.mark.real, pytest.mark.slow]

FORMS = [(name, form) for name, kind in KINDS.items() for form in ("json", *(["words"] if kind.words else []))]


# --------------------------------------------------------------------------- playing


def judge(targets: Path, name: str, form: str) -> str:
    """Play one kind once; return every lie, empty if all is true."""
    kind = KINDS[name]
    with contextlib.ExitStack() as stack:
        scene = Scene(stack.enter_context(Lab(targets)), stack, name)
        target = kind.start(scene)
        planned = [] if form == "json" else _planned(kind, target)
        answer = endtask("stop", target.pid, *BUDGET, *kind.options, *(["--json"] if form == "json" else []))
        found = _lies(kind, scene, target, answer) if form == "json" else lies_in_words(answer, target, kind.outcome)
        found += planned
        return "".join(f"\nLIE: {lie}" for lie in found) + (f"\n{target.texts}\n{answer}" if found else "")


def _planned(kind: Kind, target: Target) -> list[str]:
    """Return the lies of `plan`, which sends nothing and names what the stop will send, in that order; less is sent if the target ends before."""
    answer = endtask("plan", target.pid, *BUDGET, *kind.options, "--json")
    asked = [a for m in answer.report["targets"][0]["members"][:1] for a in m["asked"]]
    sent = [each.partition(" ")[0] for each in kind.sent]
    found = [] if asked[: len(sent)] == sent else [f"it is planned to be asked with {asked}, and the truth is {sent}"]
    heard = [text for text in target.texts if text.startswith(REQUESTS)]
    return found + ([f"planning was heard: {heard}"] if heard else [])


def _lies(kind: Kind, scene: Scene, target: Target, answer: Answer) -> list[str]:
    found = lies(answer, [target, *scene.others] if kind.outcome == "stopped" and kind.with_others else [target])
    sent = [a if a in e.split("|") else e for a, e in zip_longest(answer.sent, kind.sent, fillvalue="nothing")]
    expected = (kind.outcome, sent, list(kind.reasons), kind.ends)
    actual = (answer.outcome, answer.sent, answer.reasons, target.exit_code)
    if actual != expected:
        found.append(f"it is {expected}, and the answer is {actual}")
    if not kind.one_log:
        heard = {start: target.heard(start) for start in kind.heard}
        others = [t for t in target.texts if t.startswith(REQUESTS) and not t.startswith(tuple(kind.heard) or "-")]
        if heard != kind.heard or others:
            found.append(f"it must hear {kind.heard}, and heard {heard} and {others}")
    if not found and kind.more is not None:
        try:
            kind.more(scene, target, answer)
        except (AssertionError, ValueError) as error:
            found.append(f"{kind.more.__name__}: {error!r}")
    return found


def _safely(targets: Path, name: str, form: str) -> str | Exception:
    try:
        return judge(targets, name, form)
    except Exception as error:  # noqa: BLE001 - told by the test of that kind, not by whichever comes first
        return error


@pytest.fixture(scope="module")
def played(targets: Path, goes_on: Callable[[], None]) -> dict[tuple[str, str], list[str | Exception]]:
    """Every kind played, some at the same time."""
    results: dict[tuple[str, str], list[str | Exception]] = {each: [] for each in FORMS}
    together = [each for each in FORMS if each[0] not in SERVICES]
    alone = [each for each in FORMS if each[0] in SERVICES]
    for _run in range(RUNS):
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for each, result in zip(together, pool.map(lambda e: _safely(targets, *e), together), strict=True):
                results[each].append(result)
                goes_on()
        for each in alone:
            results[each].append(_safely(targets, *each))
            goes_on()
    return results


def test_plain_wait_sends_nothing(targets: Path) -> None:
    """`wait` speaks of no request, because there was none."""
    with Lab(targets) as lab:
        target = lab.start("etwindow", "swallow")
        answer = endtask("wait", target.pid, "-t", "300ms", "--json")
        assert not lies(answer, [target]), answer
        assert (answer.outcome, answer.sent, answer.reasons) == ("running", [], ["nothing"])
        assert target.texts == [f"ready pid={target.pid}"]


def test_matrix_has_enough_kinds() -> None:
    """All of the ways in which programs hear, and do not hear, on Windows."""
    assert len(KINDS) >= 25


@pytest.mark.parametrize(("name", "form"), FORMS, ids=["-".join(each) for each in FORMS])
def test_every_word_is_true(name: str, form: str, played: dict[tuple[str, str], list[str | Exception]]) -> None:
    """Outcome, exit code, receipts, reasons and ends agree with what was seen from outside, in every run."""
    for result in played[name, form]:
        if isinstance(result, Exception):
            raise result
        assert not result
