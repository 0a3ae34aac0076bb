"""The asynchronous driver with a waiter that has no descriptor and calls instead, from any thread: in asyncio and in trio, on every system."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from endtask._async import _turn_asyncio, _turn_trio

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 60.0


class NewsWaiter:
    """A waiter as Windows has it: news come by a call."""

    poll_s: float | None = None

    def __init__(self) -> None:
        self.wake: Callable[[], None] | None = None
        self.kept: Callable[[], None] | None = None
        self.pending = False
        self.registered = threading.Event()

    def fileno(self) -> None:
        """There is no descriptor."""
        return

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """Remember whom to call; call at once what has happened."""
        self.wake = wake
        if wake is not None:
            self.kept = wake
            if self.pending:
                wake()
            self.registered.set()

    def tell(self) -> None:
        """Something has ended: call from a thread that belongs to nobody."""
        assert self.registered.wait(LIMIT_S)
        assert self.kept is not None
        self.kept()

    def add(self, pin: object, key: int) -> None: ...
    def drop(self, pin: object) -> None: ...
    def wait(self, timeout_s: float | None) -> list[int]:
        return []

    def close(self) -> None: ...


def run_asyncio(waiter: NewsWaiter, timeout_s: float) -> None:
    """One turn in asyncio."""
    asyncio.run(asyncio.wait_for(_turn_asyncio(waiter, timeout_s), LIMIT_S))


def run_trio(waiter: NewsWaiter, timeout_s: float) -> None:
    """One turn in trio."""

    async def main() -> None:
        with trio.fail_after(LIMIT_S):
            await _turn_trio(waiter, timeout_s)

    trio.run(main)


both = pytest.mark.parametrize("run", [run_asyncio, run_trio])


@both
def test_turn_ends_with_the_news(run: Callable[[NewsWaiter, float], None]) -> None:
    """They come from another thread, once or twice."""
    waiter = NewsWaiter()

    def tell_twice() -> None:
        waiter.tell()
        waiter.tell()

    teller = threading.Thread(target=tell_twice)
    teller.start()
    run(waiter, LIMIT_S * 2)
    teller.join()
    assert waiter.wake is None


@both
def test_turn_ends_at_once_for_news_that_are_there(run: Callable[[NewsWaiter, float], None]) -> None:
    """Told while it is asked to tell."""
    waiter = NewsWaiter()
    waiter.pending = True
    run(waiter, LIMIT_S * 2)
    assert waiter.wake is None


@both
def test_turn_ends_when_the_time_is_up(run: Callable[[NewsWaiter, float], None]) -> None:
    """Without any news."""
    waiter = NewsWaiter()
    run(waiter, 0.01)
    assert waiter.registered.is_set()
    assert waiter.wake is None


@both
def test_news_for_a_loop_that_has_gone_are_ignored(run: Callable[[NewsWaiter, float], None]) -> None:
    """A call may be under way when the loop ends; it must not raise in the system's thread."""
    waiter = NewsWaiter()
    run(waiter, 0.01)
    waiter.tell()
