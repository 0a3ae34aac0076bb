"""A stop asks only for what it needs: whom else a console has costs a visit there, and what is forced needs no look at all."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._backends.windows import (
    console,
    desktop,
    facts,
    images,
    light,
    memory,
    ports,
    service_list,
    window_list,
)
from tests.windows.lab import NO_WINDOW

if TYPE_CHECKING:
    from types import ModuleType

    from tests.windows.lab import Lab


def counted(monkeypatch: pytest.MonkeyPatch, *functions: tuple[ModuleType, str]) -> dict[str, int]:
    """Count the calls of functions of modules, by name."""
    counts: dict[str, int] = {}

    def count(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        counts[name] = 0

        def call(*given: object, **named: object) -> object:
            counts[name] += 1
            return function(*given, **named)

        monkeypatch.setattr(module, name, call)

    for module, name in functions:
        count(module, name)
    return counts


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
    monkeypatch.setattr(light, "collect", count)
    root = lab.start("ettree", "keep", 3, "detached")  # no consoles, whose hosts Wine starts in its own time
    root.wait_for("child ", 3)
    if how == "force":
        (target,) = endtask.stop(str(root.pid), now=True, watch_s=0).targets
        assert (target.outcome, len(target.members)) == ("forced", 4)
    else:
        gone = lab.start("etconsole", "code", 5, ready=False)
        endtask.wait(str(gone.pid))
    assert looked == []


MANY = 12


def test_many_targets_are_asked_only_what_their_ladders_need(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these questions costs some milliseconds, and a stop asks them of every target, when it begins, at each look and for the verdict."""
    targets = [lab.start("etconsole", "true", ready=False) for _ in range(MANY)]
    for target in targets:
        target.wait_for("ready")
    counts = counted(
        monkeypatch,
        (facts, "collect"),
        (ports, "all_listeners"),
        (images, "module_paths"),
        (service_list, "active"),
        (console, "_visit"),
        (images, "image_of_file"),
        (memory, "read"),
        (window_list, "windows"),
        (desktop, "windows"),
    )
    report = endtask.stop(*[str(t.pid) for t in targets], timeout_s=1.0, watch_s=0)
    assert ["handler"] * MANY == [r.code for t in report.targets for r in t.reasons]
    assert (counts["collect"], counts["all_listeners"], counts["module_paths"], counts["_visit"]) == (0, 0, 0, 0)
    assert counts["active"] <= 5  # for all of them, once a second
    assert (
        counts["image_of_file"] == 1
    )  # they run one program; `inject` looks at the file only of those that have windows
    assert counts["read"] / MANY < 50  # of other processes' memory
    assert counts["windows"] <= MANY  # of all windows, by `inject`; the rest shares pictures


def test_nobody_is_waited_for_before_the_first_request(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a window answers says nothing about how its program is asked; two programs that hang cost no time until they have been asked."""
    targets = [lab.start("etwindow", "hang") for _ in range(2)]
    said: list[str] = []
    ask, close = window_list.ask, desktop._close

    def note_question(window: int, message: int, w: int, l: int, timeout_ms: int) -> tuple[int | None, int]:  # noqa: E741
        said.append(f"WM_NULL {'short' if timeout_ms <= window_list._AGAIN_MS else 'long'}")
        return ask(window, message, w, l, timeout_ms)

    def note_request(*given: object) -> object:
        said.append("WM_CLOSE")
        return close(*given)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(window_list, "ask", note_question)
    monkeypatch.setattr(desktop, "_close", note_request)
    report = endtask.stop(*[str(t.pid) for t in targets], timeout_s=2.0, watch_s=0, plan="wm-close/2")
    assert ["hung"] * 2 == [r.code for t in report.targets for r in t.reasons]
    assert said[:2] == ["WM_CLOSE"] * 2
    assert said.count("WM_NULL long") <= 2  # each once; from then on it is known
