"""The matrix: what endtask answers about nine kinds of target is true, every time.

One run of each cell here; `ENDTASK_MATRIX_RUNS=20` repeats each that often.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.matrix.cases import Cell, Judged, cells, judge
from tests.targets.lab import can_unshare, open_lab, together

if TYPE_CHECKING:
    from tests.targets.lab import Lab

RUNS = int(os.environ.get("ENDTASK_MATRIX_RUNS", "1"))
# Words and JSON come from the same report, so below pid 1 the daily run asks for one of them only.
_BELOW_PID_1 = ("text", "json") if RUNS > 1 else ("json",)
_CELLS = [*cells(namespace=False), *(cells(namespace=True, forms=_BELOW_PID_1) if can_unshare() else [])]
pytestmark = [pytest.mark.real, pytest.mark.slow]


def _safely(lab: Lab, cell: Cell) -> Judged | Exception:
    try:
        return judge(lab, cell)
    except Exception as error:  # noqa: BLE001  # told by the test of that cell, not by whichever comes first
        return error


@pytest.fixture(scope="module")
def played() -> dict[Cell, list[Judged | Exception]]:
    """Every cell played, many at the same time."""
    results: dict[Cell, list[Judged | Exception]] = defaultdict(list)
    order = [cell for _ in range(RUNS) for cell in _CELLS]
    with contextmanager(open_lab)() as lab:
        for cell, result in zip(order, together(partial(_safely, lab), order, 10), strict=True):
            results[cell].append(result)
    return results


@pytest.mark.parametrize("cell", _CELLS, ids=str)
def test_every_word_is_true(cell: Cell, played: dict[Cell, list[Judged | Exception]]) -> None:
    """The exit code and the words about this target are true in every run."""
    for result in played[cell]:
        if isinstance(result, Exception):
            raise result
        assert not result.lies, str(result)
