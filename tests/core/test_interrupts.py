"""How a blocking run holds Ctrl+C back in the middle of a step, with signal masks and without them."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from endtask import _api

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def python_handler() -> Iterator[None]:
    """Python's own handler, whatever ran before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    """Ctrl+C, now."""
    signal.raise_signal(signal.SIGINT)


def deaf(kind: str) -> _api._Deaf:
    """The kind that is tried."""
    if kind == "masks" and not hasattr(signal, "pthread_sigmask"):
        pytest.skip("this system has no signal masks")
    return _api._Deaf() if kind == "masks" else _api._DeafByHandler()


@pytest.mark.parametrize("kind", ["masks", "handler"])
def test_interrupt_comes_when_it_is_listened_for(kind: str) -> None:
    """Not in the middle of a step, and not lost."""
    with deaf(kind) as held:
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            held.listen()
        held.ignore()
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            held.listen()
        with pytest.raises(KeyboardInterrupt):
            interrupt()  # while it listens, at once
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("kind", ["masks", "handler"])
def test_interrupt_of_the_last_step_comes_at_the_end(kind: str) -> None:
    """Whoever called us hears it."""
    with pytest.raises(KeyboardInterrupt), deaf(kind):
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_of_the_program_is_called_later_and_not_replaced() -> None:
    """What it wanted to do at Ctrl+C, it does."""
    heard: list[int] = []
    own = lambda number, _frame: heard.append(number)  # noqa: E731
    signal.signal(signal.SIGINT, own)
    with deaf("handler") as held:
        interrupt()
        assert heard == []
        held.listen()
        assert heard == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own


def test_ignored_interrupt_stays_ignored() -> None:
    """The program has decided."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deaf("handler") as held:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        interrupt()
        held.listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_are_left_alone() -> None:
    """Only the main thread hears it, and only there a handler can be set."""
    seen: list[object] = []

    def run() -> None:
        with deaf("handler") as held:
            seen.append(signal.getsignal(signal.SIGINT))
            held.listen()
            held.ignore()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
