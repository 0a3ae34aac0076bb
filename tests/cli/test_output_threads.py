"""What writes and draws from a thread, where the system has no signals and cannot say whether a write would block; tried on every system."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from endtask.cli import console, live_clock
from endtask.cli.console import Stream
from endtask.cli.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; who closes one says so by -1."""
    ends = list(os.pipe())
    yield ends[0], ends[1]
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # the test has closed it


def read_all(fd: int, size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def test_text_comes_out_in_order(pipe: tuple[int, int]) -> None:
    """Whole and once."""
    pump = Pump(pipe[1])
    for number in range(100):
        pump.put(b"%d\n" % number)
    pump.finish()
    expected = b"".join(b"%d\n" % n for n in range(100))
    assert read_all(pipe[0], len(expected)) == expected
    assert pump.error == 0


def test_reader_that_does_not_read_holds_nobody_up(pipe: tuple[int, int]) -> None:
    """Far more than a pipe takes is accepted at once, and comes out when somebody reads."""
    pump = Pump(pipe[1])
    text = b"x" * 1_000_000
    pump.put(text)  # a write would block here for ever
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(pipe[0], len(text))))
    reader.start()
    pump.finish()
    reader.join(PATIENCE_S)
    assert got == [text]


def test_reader_that_has_gone_ends_it_with_epipe(pipe: tuple[int, int]) -> None:
    """And what comes afterwards is dropped."""
    os.close(pipe[0])
    pump = Pump(pipe[1])
    pump.put(b"x")
    pump.finish()
    assert pump.error == errno.EPIPE
    pump.put(b"y")
    pump.finish()


def test_stream_writes_by_a_thread_where_nothing_can_be_asked(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: no poll, and the other end is no file."""
    monkeypatch.setattr(console, "_readiness", lambda _fd: None)
    stream = Stream(pipe[1])
    stream.line("hello \x1b[2J")
    stream.finish()
    expected = f"hello \\x1b[2J{os.linesep}".encode()
    assert read_all(pipe[0], len(expected)) == expected
    os.close(pipe[0])
    stream.raw("lost")
    stream.finish()
    assert stream.error == errno.EPIPE


def test_stream_that_is_not_there_loses_its_text_and_nothing_else(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program without a console may have none (pythonw.exe); what it tells in the middle of a stop must not break it off."""
    monkeypatch.delattr("select.poll")
    os.close(pipe[1])
    stream = Stream(pipe[1])
    stream.line("TERM -> 12 nginx")
    stream.line("12 nginx exited")
    stream.finish()
    assert stream.error == errno.EBADF


def test_lines_end_as_the_system_ends_them(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of Windows expect both characters."""
    monkeypatch.setattr(os, "linesep", "\r\n")
    monkeypatch.setattr(os, "device_encoding", lambda _fd: "cp850")
    stream = Stream(pipe[1])
    stream.lines(["a", "b"])
    stream.finish()
    assert read_all(pipe[0], 6) == b"a\r\nb\r\n"


def test_console_of_windows_gets_its_own_code_page(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are read by it; what it has not got is escaped."""
    monkeypatch.setattr(os, "linesep", "\r\n")
    monkeypatch.setattr(os, "isatty", lambda _fd: True)
    monkeypatch.setattr(os, "device_encoding", lambda _fd: "cp850")
    stream = Stream(pipe[1], color=False)
    stream.line("caf\xe9 \u20ac")
    stream.finish()
    expected = b"caf\x82 \\u20ac\r\n"
    assert read_all(pipe[0], len(expected)) == expected


# --------------------------------------------------------------------------- the clock


def test_clock_without_signals_ticks_until_it_is_told_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick that says no is the last one."""
    monkeypatch.setattr(live_clock, "FIRST_TICK_S", 0.001)
    monkeypatch.setattr(live_clock, "TICK_S", 0.001)
    ticks: list[int] = []
    done = threading.Event()

    def tick() -> bool:
        ticks.append(threading.get_ident())
        if len(ticks) == 3:
            done.set()
        return len(ticks) < 3

    clock = live_clock._ThreadClock(tick)
    assert done.wait(PATIENCE_S)
    clock.stop()
    assert len(ticks) == 3
    assert threading.get_ident() not in ticks


def test_clock_without_signals_waits_for_who_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tick comes into the middle of a drawing, and none after the end."""
    monkeypatch.setattr(live_clock, "FIRST_TICK_S", 0.001)
    monkeypatch.setattr(live_clock, "TICK_S", 0.001)
    ticks: list[int] = []
    ticked = threading.Event()

    def tick() -> bool:
        ticks.append(1)
        ticked.set()
        return True

    clock = live_clock._ThreadClock(tick)
    assert ticked.wait(PATIENCE_S)
    with clock:
        before = len(ticks)
        ticked.clear()
        assert not ticked.wait(0.05)
        assert len(ticks) == before
    assert ticked.wait(PATIENCE_S)
    clock.stop()
    after = len(ticks)
    ticked.clear()
    assert not ticked.wait(0.02)
    assert len(ticks) == after


def test_clock_is_chosen_by_what_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGALRM where there is one."""
    monkeypatch.delattr("signal.SIGALRM", raising=False)
    clock = live_clock.start_clock(lambda: False, lambda: False)
    assert isinstance(clock, live_clock._ThreadClock)
    clock.stop()
