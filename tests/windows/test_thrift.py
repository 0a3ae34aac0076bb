"""A stop asks only for what it needs: whom else a console has costs a visit there, and what is forced needs no look at all."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._backends.windows import console, facts
from tests.windows.lab import NO_WINDOW

if TYPE_CHECKING:
    from tests.windows.lab import Lab


def test_console_is_visited_only_where_a_thread_is_ruled_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each visit costs a tenth of a second, and twenty programs that are looked at four times would cost more than their whole budget."""
    visits: list[int] = []
    visit = console._visit

    def count(pid: int, *rest: object) -> console.Visit:
        visits.append(pid)
        return visit(pid, *rest)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(console, "_visit", count)
    deaf = lab.start("etconsole", "true", flags=NO_WINDOW)
    (target,) = endtask.stop(str(deaf.pid), timeout_s=2, watch_s=0).targets
    assert [r.code for r in target.reasons] == ["handler"]
    assert visits == []
    obedient = lab.start("etconsole", "graceful", flags=NO_WINDOW)
    (target,) = endtask.stop(str(obedient.pid), inject=False, watch_s=0).targets
    assert [r.request for r in target.members[0].receipts] == ["CONSOLE_CTRL_C"]
    assert visits == [obedient.pid] * 2  # who is there, and the event itself


@pytest.mark.parametrize("how", ["force", "wait"])
def test_who_is_not_asked_is_not_looked_at(lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Force that is wanted now comes now."""
    looked: list[int] = []
    collect = facts.collect

    def count(*given: object, **named: object) -> endtask.model.Facts:
        looked.append(1)
        return collect(*given, **named)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(facts, "collect", count)
    root = lab.start("ettree", "keep", 3, "detached")  # no consoles, whose hosts Wine starts in its own time
    root.wait_for("child ", 3)
    if how == "force":
        (target,) = endtask.stop(str(root.pid), now=True, watch_s=0).targets
        assert (target.outcome, len(target.members)) == ("forced", 4)
    else:
        gone = lab.start("etconsole", "code", 5, ready=False)
        endtask.wait(str(gone.pid))
    assert looked == []
