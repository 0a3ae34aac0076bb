"""The ordered cleanup, and children that are asked in turn."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import CleanupError, News
from endtask_receiver.children import ChildLeftError, Children
from endtask_receiver.testing import fake

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real]


def test_steps_run_in_reverse_order_and_each_is_reported() -> None:
    """Last come, first served."""
    done: list[str] = []
    said: list[News] = []
    with fake() as stop:
        stop._listeners.append(said.append)
        stop.cleanup(done.append, "first", name="the database")
        stop.cleanup(done.append, "second")
        assert stop.cleaned == ()
    assert done == ["second", "first"]
    assert [(s.name, s.outcome, s.budget_s, s.error) for s in stop.cleaned] == [
        ("list.append", "done", None, None),
        ("the database", "done", None, None),
    ]
    assert [n.kind for n in said] == ["cleanup", "cleanup"]
    assert said[1].text.startswith("the database: done after 0.0")


def test_without_steps_there_is_nothing_to_report() -> None:
    """And nothing is loaded for it."""
    with fake() as stop:
        pass
    assert stop.cleaned == ()


def test_a_step_without_a_name_or_a_function_name_is_shown_as_it_is() -> None:
    """So that it can be found."""
    import functools

    with fake() as stop:
        stop.cleanup(functools.partial(int, 3))
    assert stop.cleaned[0].name.startswith("functools.partial(<class 'int'>")


def test_a_step_without_a_budget_runs_in_the_thread_that_cleans_up() -> None:
    """Sqlite and windows may only be closed by the thread that opened them."""
    threads: list[threading.Thread] = []
    with fake() as stop:
        stop.cleanup(lambda: threads.append(threading.current_thread()))
        stop.cleanup(lambda: threads.append(threading.current_thread()), budget_s=20)
    assert threads[1] is threading.current_thread()
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


def test_a_step_that_does_not_keep_its_budget_is_left_behind() -> None:
    """And the next one has its turn."""
    go = threading.Event()
    done: list[str] = []
    try:
        with fake(real_time=True) as stop:
            stop.cleanup(done.append, "next")
            stop.cleanup(go.wait, budget_s=0.05, name="stuck")
        assert done == ["next"]
        assert [(s.name, s.outcome) for s in stop.cleaned] == [("stuck", "abandoned"), ("list.append", "done")]
        assert 0.05 <= stop.cleaned[0].took_s < 20
        assert str(stop.cleaned[0]).startswith("stuck: abandoned after 0.")
    finally:
        go.set()


def test_no_step_may_take_more_than_is_left_to_the_deadline() -> None:
    """But even when nothing is left it gets a tenth of a second."""
    with fake(grace_s=5) as stop:
        stop.cleanup(int, budget_s=60, name="b")
        stop.cleanup(stop.advance, 4, budget_s=60, name="a")
        stop.cleanup(int, budget_s=1, name="short")
        stop.ask()
    assert [(s.name, s.budget_s) for s in stop.cleaned] == [("short", 1), ("a", 5), ("b", 1)]
    with fake(grace_s=5) as stop:
        stop.cleanup(int, budget_s=60)
        stop.ask()
        stop.advance(100)
    assert stop.cleaned[0].budget_s == 0.1


def test_all_steps_run_whatever_the_others_do_and_the_error_comes_at_the_end() -> None:
    """Nothing is swallowed."""
    done: list[str] = []
    with (
        pytest.raises(CleanupError, match=r"failed after 0.00 s .ZeroDivisionError: .*; .*KeyError") as raised,
        fake() as stop,
    ):
        stop.cleanup(done.append, "first")
        stop.cleanup({}.__getitem__, "x", budget_s=20)
        stop.cleanup(lambda: 1 // 0)
        stop.cleanup(done.append, "last")
    assert done == ["last", "first"]
    assert [s.outcome for s in raised.value.steps] == ["done", "failed", "failed", "done"]
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_step_that_exits_exits_after_the_others() -> None:
    """SystemExit is not an error."""
    done: list[str] = []
    with pytest.raises(SystemExit), fake() as stop:
        stop.cleanup(done.append, "first")
        stop.cleanup(sys.exit, 4)
    assert done == ["first"]


def test_a_step_may_add_steps_and_the_cleanup_runs_once() -> None:
    """`finish` within the block does not run it twice."""
    done: list[str] = []
    with pytest.raises(SystemExit) as ended, fake() as stop:
        stop.cleanup(lambda: stop.cleanup(done.append, "added"))
        stop.finish()
    assert ended.value.code == 0
    assert done == ["added"]
    assert len(stop.cleaned) == 2


# ---------------------------------------------------------------- children

OBEYS = """
import signal, sys, time
from endtask_receiver import listen
with listen() as stop:
    print("ready", flush=True)
    stop.wait()
    print("asked", flush=True)
"""
IGNORES = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nwhile True: signal.pause()"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """The children of a test, which are gone after it."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for child in found:
        if child.poll() is None:
            child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def start(started: list[subprocess.Popen[str]], code: str) -> subprocess.Popen[str]:
    """Start a child that says when it is ready."""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    started.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.slow
def test_children_are_asked_in_turn_the_last_one_first(started: list[subprocess.Popen[str]]) -> None:
    """Each is waited for before the next is asked."""
    with fake(real_time=True, grace_s=60) as stop:
        children = Children(stop)
        order: list[int] = []
        for _ in range(3):
            child = start(started, OBEYS)

            def ask(child: subprocess.Popen[str] = child) -> None:
                order.append(child.pid)
                assert all(c.poll() is not None for c in started[started.index(child) + 1 :])
                child.terminate()

            assert children.add(child, ask=ask) is child
        stop.ask()
    assert order == [c.pid for c in reversed(started)]
    assert [c.returncode for c in started] == [0, 0, 0]
    assert stop.cleaned[0].name == f"child {sys.executable}"


@pytest.mark.slow
def test_a_child_that_stays_is_reported_and_not_killed(started: list[subprocess.Popen[str]]) -> None:
    """Force is the caller's decision."""
    child = start(started, IGNORES)
    with (
        pytest.raises(CleanupError, match=r"was asked and still runs after 0.1 s") as raised,
        fake(real_time=True) as stop,
    ):
        Children(stop).add(child, budget_s=0.1, name="deaf")
        stop.ask()
    error = raised.value.steps[0].error
    assert isinstance(error, ChildLeftError)
    assert error.pid == child.pid
    assert child.poll() is None


@pytest.mark.slow
def test_a_child_that_stays_is_killed_if_that_was_said(started: list[subprocess.Popen[str]]) -> None:
    """After its slice: what is left, divided by the children that wait for their turn."""
    told: list[str] = []
    with fake(real_time=True, grace_s=0.4) as stop:
        stop._listeners.append(lambda news: told.append(news.text) if news.kind == "tell" else None)
        children = Children(stop)
        for _ in range(2):
            children.add(start(started, IGNORES), kill=True)
        stop.ask()
        begin = time.monotonic()
    assert time.monotonic() - begin < 30
    assert [c.returncode for c in started] == [-signal.SIGKILL] * 2
    assert stop.cleaned[0].took_s < 0.4 + 20
    assert stop._dying == []
    for child, text in zip(started[::-1], told, strict=True):
        assert f"({child.pid}) was asked, still runs after" in text


@pytest.mark.slow
def test_a_child_that_has_ended_is_not_asked(started: list[subprocess.Popen[str]]) -> None:
    """Its number may be somebody else's."""
    child = start(started, OBEYS)
    child.terminate()
    child.wait()
    with fake() as stop:
        Children(stop).add(child, ask=lambda: pytest.fail("it was asked"))
        stop.ask()


@pytest.mark.slow
def test_a_child_that_may_be_killed_is_killed_when_we_end_at_once(started: list[subprocess.Popen[str]]) -> None:
    """A third request leaves no orphan."""
    child = start(started, IGNORES)
    with fake() as stop:
        Children(stop).add(child, kill=True)
        for _ in range(3):
            stop.ask()
            stop.advance(1)
        assert stop.ended is not None
        assert child.wait(60) == -signal.SIGKILL


def test_a_child_is_named_by_its_program() -> None:
    """Whatever form the command has."""
    for words in ("true", ["true"], b"true"):
        child = subprocess.Popen(words, stdout=subprocess.PIPE)
        with fake() as stop:
            Children(stop).add(child)
        assert stop.cleaned[0].name == "child true"
        child.communicate()


def test_where_there_is_no_way_to_ask_a_child_one_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `terminate` is no question."""
    monkeypatch.setattr("endtask_receiver.children._CAN_ASK", False)
    child = subprocess.Popen(["true"])
    with fake() as stop, pytest.raises(ValueError, match="give one as `ask`"):
        Children(stop).add(child)
    child.wait()
