"""The wait: any number of handles, each exit once, Ctrl+C, and nothing left behind."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles
from endtask._backends.windows import waiter as waiter_module
from endtask._backends.windows.waiter import WindowsWaiter
from endtask._backends.windows.winapi import kernel32
from endtask.errors import OsCallError
from tests.windows.lab_processes import Child, event_pins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from endtask._backends.windows.handles import WindowsPin

PATIENCE_S = 30.0
MANY = 10_000


@pytest.fixture
def waiter() -> Iterator[WindowsWaiter]:
    """A waiter that is closed afterwards."""
    made = WindowsWaiter()
    yield made
    made.close()


def collect(waiter: WindowsWaiter, count: int) -> list[int]:
    """Return the keys of so many exits."""
    keys: list[int] = []
    while len(keys) < count:
        new = waiter.wait(PATIENCE_S)
        assert new, f"{len(keys)} of {count} in {PATIENCE_S} s"
        keys += new
    return keys


def signal_all(pins: list[WindowsPin]) -> None:
    """Let all of them have ended."""
    for pin in pins:
        assert kernel32.SetEvent(pin.handle)


def interrupter(waiting: threading.Event) -> threading.Thread:
    """Start a thread that raises SIGINT once *waiting* is set: raise(SIGINT) in another thread is what the console's handler thread does."""

    def interrupt() -> None:
        waiting.wait()
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_exit_is_reported_once_and_then_never(waiter: WindowsWaiter) -> None:
    """One exit, one key."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        waiter.add(pin, 7)
        assert waiter.wait(0) == []
        child.let_go()
        assert collect(waiter, 1) == [7]
        assert waiter.wait(0) == []
        waiter.drop(pin)


def test_process_that_has_ended_before_is_reported_too(waiter: WindowsWaiter) -> None:
    """It does not matter who was first."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        child.let_go()
        waiter.add(pin, 1)
        assert collect(waiter, 1) == [1]


def test_pin_that_is_added_again_is_reported_with_the_new_key(waiter: WindowsWaiter) -> None:
    """The earlier registration is taken back; one that was reported can be added again."""
    (pin,) = event_pins(1)
    waiter.add(pin, 1)
    waiter.add(pin, 2)
    signal_all([pin])
    assert collect(waiter, 1) == [2]
    waiter.add(pin, 3)
    assert collect(waiter, 1) == [3]


def test_dropped_pin_is_nobodys_news(waiter: WindowsWaiter) -> None:
    """Also when it had fired already and nobody had asked."""
    first, second, third = pins = list(event_pins(3))
    for key, pin in enumerate(pins):
        waiter.add(pin, key)
    waiter.drop(first)
    waiter.drop(first)
    signal_all([second])
    news = threading.Event()
    waiter.on_news(news.set)
    assert news.wait(PATIENCE_S)
    waiter.drop(second)  # it has fired, and its number lies in the queue
    assert waiter.wait(0) == []
    signal_all([first, third])
    assert collect(waiter, 1) == [2]
    assert waiter.wait(0) == []


@pytest.mark.slow
def test_ten_thousand_handles(waiter: WindowsWaiter) -> None:
    """No limit of 64, no thread of ours, every key once."""
    pins = list(event_pins(MANY))
    threads = threading.active_count()
    for key, pin in enumerate(pins):
        waiter.add(pin, key)
    assert threading.active_count() == threads
    assert waiter.wait(0) == []
    signal_all(pins)
    assert sorted(collect(waiter, MANY)) == list(range(MANY))
    assert waiter.wait(0) == []
    for pin in pins[: MANY // 2]:
        waiter.drop(pin)


@pytest.mark.slow
def test_drop_while_callbacks_are_under_way_neither_locks_up_nor_loses_others(waiter: WindowsWaiter) -> None:
    """A registration is taken back in the same moment in which its process ends, again and again."""
    for _ in range(200):
        pins = list(event_pins(4))
        for key, pin in enumerate(pins):
            waiter.add(pin, key)
        signal_all(pins)
        waiter.drop(pins[0])
        waiter.drop(pins[1])
        keys: set[int] = set()
        while not {2, 3} <= keys:
            keys.update(collect(waiter, 1))
        for pin in pins:
            waiter.drop(pin)
            pin.close()
        assert waiter.wait(0) == []


def test_wait_without_news_lasts_its_time(waiter: WindowsWaiter) -> None:
    """And not noticeably less."""
    import time

    (pin,) = event_pins(1)
    waiter.add(pin, 1)
    began = time.perf_counter()
    assert waiter.wait(0.05) == []
    assert time.perf_counter() - began >= 0.05


def test_ctrl_c_ends_a_wait_in_the_main_thread(waiter: WindowsWaiter) -> None:
    """A wait for ever must not be one for Ctrl+C."""
    (pin,) = event_pins(1)
    waiter.add(pin, 1)
    waiting = threading.Event()
    raiser = interrupter(waiting)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the thread is let go right before the wait
        waiting.set()
        waiter.wait(None)
    raiser.join()
    signal_all([pin])
    assert collect(waiter, 1) == [1]


def test_own_handler_for_ctrl_c_that_does_not_raise_lets_the_wait_go_on(waiter: WindowsWaiter) -> None:
    """What the program decided holds."""
    (pin,) = event_pins(1)
    waiter.add(pin, 1)
    before = signal.signal(signal.SIGINT, lambda *_: signal_all([pin]))
    waiting = threading.Event()
    raiser = interrupter(waiting)
    try:
        waiting.set()
        assert waiter.wait(PATIENCE_S) == [1]
    finally:
        signal.signal(signal.SIGINT, before)
        raiser.join()


def test_news_come_from_another_thread_and_at_once_for_what_has_happened(waiter: WindowsWaiter) -> None:
    """An event loop is woken for every exit, and for one that it did not hear."""
    first, second = pins = list(event_pins(2))
    for key, pin in enumerate(pins):
        waiter.add(pin, key)
    threads: list[int] = []
    told = threading.Event()

    def wake() -> None:
        threads.append(threading.get_ident())
        told.set()

    waiter.on_news(wake)
    signal_all([first])
    assert told.wait(PATIENCE_S)
    assert threads[0] != threading.get_ident()
    waiter.on_news(None)
    told.clear()
    waiter.on_news(wake)  # the first exit has not been asked for yet
    assert told.is_set()
    assert threads[-1] == threading.get_ident()
    waiter.on_news(None)
    told.clear()
    signal_all([second])
    assert sorted(collect(waiter, 2)) == [0, 1]
    assert not told.is_set()


def test_it_has_neither_a_descriptor_nor_a_need_to_be_polled(waiter: WindowsWaiter) -> None:
    """What the asynchronous driver decides by."""
    assert (waiter.fileno(), waiter.poll_s) == (None, None)


def test_forgotten_waiter_ends_its_registrations() -> None:
    """What the pool would call must not outlive it; nothing else holds the waiter."""
    (pin,) = event_pins(1)
    waiter = WindowsWaiter()
    waiter.add(pin, 1)
    event = waiter._event
    assert kernel32.SetEvent(event)
    del waiter
    assert not kernel32.SetEvent(event), "its event is still there"
    signal_all([pin])  # nobody is called


def test_closed_waiter_may_be_closed_again() -> None:
    """And forgets everything."""
    (pin,) = event_pins(1)
    waiter = WindowsWaiter()
    waiter.add(pin, 1)
    waiter.close()
    waiter.close()


def test_callback_that_may_still_come_finds_everything_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wine says so instead of waiting for it: then the function and the event are kept, and nobody hears of it."""
    take_back = kernel32.UnregisterWaitEx

    def pending(wait: int, event: int) -> bool:
        take_back(wait, event)
        ctypes.set_last_error(997)
        return False

    monkeypatch.setattr(kernel32, "UnregisterWaitEx", pending)
    kept = len(waiter_module._kept)
    (pin,) = event_pins(1)
    waiter = WindowsWaiter()
    event, callback = waiter._event, waiter._callback
    waiter.add(pin, 1)
    waiter.drop(pin)
    waiter.close()
    assert waiter_module._kept[kept:] == [callback]
    assert callable(callback)
    callback(1, 0)  # the late call
    assert kernel32.SetEvent(event)


def test_registration_that_cannot_be_taken_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be called for a process that nobody watches."""
    (pin,) = event_pins(1)
    waiter = WindowsWaiter()
    waiter.add(pin, 1)
    with monkeypatch.context() as patch:
        patch.setattr(kernel32, "UnregisterWaitEx", lambda _wait, _event: ctypes.set_last_error(6))
        with pytest.raises(OsCallError, match="UnregisterWaitEx"):
            waiter.drop(pin)
    waiter.close()


def test_registration_that_fails_is_an_error_and_leaves_nothing(
    waiter: WindowsWaiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool takes no more: the pin is not watched, and can be dropped and added again."""
    (pin,) = event_pins(1)
    with monkeypatch.context() as patch:
        patch.setattr(kernel32, "RegisterWaitForSingleObject", lambda *_: ctypes.set_last_error(1450))
        with pytest.raises(OsCallError, match="RegisterWaitForSingleObject"):
            waiter.add(pin, 1)
    waiter.drop(pin)
    waiter.add(pin, 2)
    signal_all([pin])
    assert collect(waiter, 1) == [2]
