"""What shows that a newcomer is the target's own program once more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from endtask import _scans, _watch
from endtask._backends.sim.spec import Op, Spec
from endtask._plan import make_policy
from endtask.model import PidRef, Row
from tests.core.test_engine import EXIT, Machine, polite

if TYPE_CHECKING:
    from typing import Any

LINE = ("sleep", "601")


def likeness(line: tuple[str, ...] | None, *, before: tuple[str, ...] = LINE, name: str = "sleep") -> str:
    """Return what shows it for a newcomer with this command line, where the target had the one *before*."""
    backend: Any = SimpleNamespace(command_line=lambda _pid: line, cgroup=lambda _pid: "")
    ready: Any = SimpleNamespace(cmdline=before, target=SimpleNamespace(name="sleep"))
    origin: Any = SimpleNamespace(cgroup="", parent=10)
    return _watch._likeness(backend, ready, origin, Row(11, 10, 11, 11, 5, "S", name, False), name, on_port=False)


@pytest.mark.parametrize(
    ("line", "before", "shown"),
    [
        (LINE, LINE, "with the same command line"),
        (("sleep", "602"), LINE, ""),
        ((), LINE, ""),
        (None, LINE, "with the same name; the command lines could not be compared"),
        (LINE, (), "with the same name; the command lines could not be compared"),
        ((), (), ""),
    ],
    ids=["same", "other", "in the middle of execve", "unreadable", "target unreadable", "both"],
)
def test_the_command_line_tells(line: tuple[str, ...] | None, before: tuple[str, ...], shown: str) -> None:
    """A new name without a line is that of a process that has only begun: nothing is said of it before it has one."""
    assert likeness(line, before=before) == shown


def test_another_name_is_another_program() -> None:
    """Unless the whole command line is the same."""
    assert likeness(("cat",), name="cat") == ""
    assert likeness(LINE, name="cat") == "with the same command line"


def test_successor_has_the_name_that_it_has_by_now() -> None:
    """The table was read between fork and execve, the command line afterwards: it is no `bash` with the command line of a `sleep`."""
    backend: Any = SimpleNamespace(
        command_line=lambda _pid: LINE,
        full_name=lambda _pid, short: short,
        short_name=lambda pid: {11: "sleep", 10: "bash"}[pid],
        pin=lambda pid: SimpleNamespace(ref=PidRef(pid, "1"), close=lambda: None),
        exited=lambda _pin: False,
    )
    ready: Any = SimpleNamespace(cmdline=LINE, target=SimpleNamespace(name="sleep"))
    origin: Any = SimpleNamespace(cgroup="", parent=10, top=10, manager=None)
    found = _watch._succeeds(backend, ready, origin, Row(11, 10, 11, 11, 5, "S", "bash", False), 0.5, on_port=False)
    assert found is not None
    assert (found.name, found.by) == ("sleep", "10 bash")


def test_many_that_are_watched_cost_a_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end one after the other; each end is no reason to look at all the others once more."""
    looks: list[float] = []

    def counted(*about: Any) -> list[Row]:
        looks.append(machine.system.now)
        return _newcomers(*about)

    _newcomers = _watch.newcomers
    monkeypatch.setattr(_watch, "newcomers", counted)
    each = [polite(f"app{n}", after=(Op("wait", 0.002 * n), *EXIT)) for n in range(200)]
    machine = Machine(Spec("supervisord", restart_s=60.0, restarts=1, children=tuple(each)))
    report = machine.stop("app*", policy=make_policy(all=True, watch_s=0.5))
    assert {t.outcome for t in report.targets} == {"stopped"}
    assert len(looks) < 3 + report.elapsed_s / _scans._RESPAWN_LOOK_S


def test_who_is_watched_is_looked_at_right_before_the_verdict() -> None:
    """However long it is until the next look: what came back in the last moment came back."""
    machine = Machine(Spec("supervisord", restart_s=0.5, restarts=3, children=(polite("app"),)))
    report = machine.stop("app", policy=make_policy(watch_s=0.5001))
    assert report.targets[0].outcome == "respawned"


@pytest.mark.parametrize("lists", [True, False], ids=["child lists", "table"])
def test_below_a_manager_further_up_all_that_is_new_is_looked_at(lists: bool) -> None:
    """The shell between a supervisor and its program ends with that, and the next one has another."""
    rows = {
        pid: Row(pid, parent, pid, pid, 5, "S", "sh", False) for pid, parent in ((30, 1), (41, 30), (42, 41), (32, 30))
    }
    below = {30: [32, 41], 41: [42]}
    backend: Any = SimpleNamespace(
        children=lambda pid: below.get(pid, []) if lists else None, table=lambda: rows, row=rows.get
    )
    origin: Any = SimpleNamespace(top=30, parent=31, cgroup="", before={32: rows[32]})
    assert [r.pid for r in _watch.newcomers(backend, origin)] == [41, 42]
    origin.parent = 30
    assert [r.pid for r in _watch.newcomers(backend, origin)] == [41], (
        "a parent's grandchildren are its children's affair"
    )
