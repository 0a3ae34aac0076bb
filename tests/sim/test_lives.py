"""Twenty thousand random lives keep every promise; the long mode is `python -m tests.sim.run --lives 1000000`."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import TYPE_CHECKING

import pytest

from endtask import _async
from endtask._backends.sim.lives import life

from .drive import live
from .run import judge, many, smaller
from .shrink import as_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._api import Session
    from endtask.model import Report

LIVES = 20_000
FIRST = 1


@pytest.mark.slow
def test_random_lives_keep_every_promise() -> None:
    """No seed breaks an invariant; one that does is made smaller and shown as a test."""
    total = many(FIRST, LIVES, min(4, multiprocessing.cpu_count()))
    if not total.broken:
        return
    first = total.broken[0]
    small, text = smaller(first.seed, first.rule)
    lines = [f"seed {b.seed}: {b.text}" for b in total.broken[:20]]
    pytest.fail(
        f"{len(total.broken)} of {LIVES} lives broke a promise\n"
        + "\n".join(lines)
        + "\n\n"
        + as_test(small, first.seed, first.rule, text)
    )


def test_random_lives_cover_every_outcome() -> None:
    """The lives are not all alike: each outcome that Linux can have occurs, and both kinds of early end."""
    outcomes = dict(many(FIRST, 1500, 1).outcomes)
    wanted = {
        "stopped",
        "forced",
        "running",
        "respawned",
        "already-gone",
        "not-permitted",
        "unproven",
        "AmbiguousError",
    }
    assert wanted <= set(outcomes)


def test_a_life_is_a_function_of_its_seed() -> None:
    """The same seed gives the same calls and the same outcome, so that a failure can be repeated."""
    for seed in range(40, 60):
        first, again = life(seed), life(seed)
        assert first == again
        assert judge(first) == judge(again)


def _asyncio(session: Session) -> Report:
    return asyncio.run(_async.drive(session))


def _trio(session: Session) -> Report:
    trio = pytest.importorskip("trio")
    report: Report = trio.run(_async.drive, session)
    return report


@pytest.mark.slow
@pytest.mark.parametrize("driver", [_asyncio, _trio])
def test_random_lives_keep_every_promise_in_an_event_loop(driver: Callable[[Session], Report]) -> None:
    """The asynchronous twin runs the same machine through the same lives."""
    for seed in range(FIRST, FIRST + 100):
        one = life(seed)
        if one.verb in ("stop", "wait") and not one.killed_at and not one.cancelled_at:
            live(one, driver=driver)
