"""The requester's end of the pipe, against another side that does whatever a test wants."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import os
import threading
import time
from ctypes import wintypes
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import channel, handles
from endtask._backends.windows.channel import PipeConversation
from endtask._backends.windows.waiter import WindowsWaiter
from tests.windows.lab import NO_WINDOW, PATIENCE_S
from tests.windows.lab_pipe import Caller, pipe_of
from tests.windows.lab_tokens import run_at_low_integrity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.windows.lab import Lab

_OVERLAPPED_DUPLEX = 0x40000003
_ROOM = 4096  # bytes that the system keeps for the other side
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_current_thread = _kernel32.GetCurrentThread
_current_thread.restype = wintypes.HANDLE
_impersonate = _advapi32.ImpersonateNamedPipeClient
_impersonate.argtypes = (wintypes.HANDLE,)
_open_thread_token = _advapi32.OpenThreadToken
_open_thread_token.argtypes = (wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.POINTER(wintypes.HANDLE))
_token_information = _advapi32.GetTokenInformation
_token_information.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
)


class Pair:
    """Both ends: `ours`, and the other side's, `handle`; the pipe is this process's own, and so is used."""

    def __init__(self) -> None:
        self.waiter = WindowsWaiter()
        with handles.open_pin(os.getpid()) as pin:
            name = channel.name(pin.ref)
            self.handle = _winapi.CreateNamedPipe(name, _OVERLAPPED_DUPLEX, 0, 1, _ROOM, _ROOM, 0, 0)
            connecting = _winapi.ConnectNamedPipe(self.handle, overlapped=True)
            ours = channel.connect(pin, self.waiter)
        assert isinstance(ours, PipeConversation), ours
        self.ours = ours
        connecting.GetOverlappedResult(True)

    def write(self, data: bytes) -> None:
        """Say something from the other side; return when all of it was taken."""
        _winapi.WriteFile(self.handle, data, overlapped=True)[0].GetOverlappedResult(True)

    def read(self) -> bytes:
        """Read what the other side has got."""
        reading = _winapi.ReadFile(self.handle, 65536, overlapped=True)[0]
        reading.GetOverlappedResult(True)
        return bytes(reading.getbuffer() or b"")

    def end(self) -> None:
        """Close the other side."""
        handle, self.handle = self.handle, 0
        if handle:
            _winapi.CloseHandle(handle)

    def close(self) -> None:
        """Close all."""
        self.ours.close()
        self.end()
        self.waiter.close()

    def wait(self) -> None:
        """Wait for news."""
        begin = time.perf_counter()
        assert self.waiter.wait(PATIENCE_S) == []
        assert time.perf_counter() - begin < PATIENCE_S


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Connect two ends."""
    made = Pair()
    yield made
    made.close()


def test_news_wake_the_wait_without_a_key(pair: Pair) -> None:
    """And are there when it returns, once."""
    assert (pair.waiter.wait(0), pair.ours.drain()) == ([], b"")
    for number in range(5):
        pair.write(b"%d\n" % number)
        pair.wait()
        assert pair.ours.drain() == b"%d\n" % number
        assert (pair.waiter.wait(0), pair.ours.drain(), pair.ours.open) == ([], b"", True)


def test_news_wake_an_event_loop(pair: Pair) -> None:
    """By the waiter's call from a thread of the pool."""
    news = threading.Semaphore(0)
    pair.waiter.on_news(news.release)
    pair.write(b"one\n")
    assert news.acquire(timeout=PATIENCE_S)
    pair.waiter.wait(0)
    assert pair.ours.drain() == b"one\n"
    pair.write(b"two\n")
    assert news.acquire(timeout=PATIENCE_S)
    assert pair.ours.drain() == b"two\n"


def test_much_is_drained_in_pieces(pair: Pair) -> None:
    """At most 64 KiB at a time; the rest wakes the wait again."""
    much = bytes(range(256)) * 800
    writer = threading.Thread(target=pair.write, args=(much,))
    writer.start()
    got = b""
    while len(got) < len(much):
        pair.wait()
        piece = pair.ours.drain()
        assert len(piece) <= 65536
        got += piece
    writer.join()
    assert got == much


def test_what_it_said_last_is_heard(pair: Pair) -> None:
    """Then it is over, and that is news too."""
    pair.write(b"last words\n")
    pair.end()
    pair.wait()
    assert pair.ours.drain() == b"last words\n"
    if pair.ours.open:
        pair.wait()
        assert pair.ours.drain() == b""
    assert not pair.ours.open
    assert not pair.ours.say(b"too late\n")


def test_what_is_said_arrives_in_order(pair: Pair) -> None:
    """Also what does not fit into what the system keeps."""
    said = [b"%d" % number * 1000 for number in range(10)]
    assert all(map(pair.ours.say, said))
    got = b""
    while len(got) < 10_000:
        got += pair.read()
    assert got == b"".join(said)


def test_side_that_does_not_read_is_left(pair: Pair) -> None:
    """Nobody waits for it."""
    count = 0
    while pair.ours.say(b"x" * 1000):
        count += 1
        assert count < 100
    assert 4 < count < 40
    assert not pair.ours.open


def test_what_was_said_before_the_end_arrives(pair: Pair) -> None:
    """A requester says something and goes."""
    assert pair.ours.say(b"granted\n")
    pair.ours.close()
    pair.ours.close()  # twice is allowed
    assert pair.read() == b"granted\n"


def test_conversation_outlives_the_thread_that_began_it(pair: Pair) -> None:
    """Windows breaks off what a thread has begun to read when that ends ("Canceling Pending I/O Operations")."""
    pair.write(b"one\n")
    pair.wait()
    drained: list[bytes] = []
    thread = threading.Thread(target=lambda: drained.append(pair.ours.drain()))
    thread.start()
    thread.join()
    assert drained == [b"one\n"]
    pair.write(b"two\n")
    got = b""
    while not got:
        pair.wait()
        got = pair.ours.drain()
    assert (got, pair.ours.open) == (b"two\n", True)


def test_hundreds_of_conversations_leave_no_handle() -> None:
    """Opened, used and closed."""
    before = 0
    for number in range(120):
        pair = Pair()
        pair.write(b"hello\n")
        pair.wait()
        assert pair.ours.drain() == b"hello\n"
        pair.close()
        if number == 20:
            before = handles.open_count()
    assert handles.open_count() <= before + 5


def test_process_without_a_pipe_has_no_receiver() -> None:
    """An empty text: nothing to say about it."""
    waiter = WindowsWaiter()
    with handles.open_pin(os.getpid()) as pin:
        assert channel.connect(pin, waiter) == ""
    waiter.close()


# --------------------------------------------------------------------------- who may do what


@pytest.mark.needs_windows("under Wine the other side gets SecurityImpersonation, whatever it was opened with")
def test_other_side_learns_who_we_are_and_can_do_nothing_in_our_name(pair: Pair) -> None:
    """SecurityIdentification."""
    assert pair.ours.say(b"hello\n")
    pair.read()
    assert _impersonate(pair.handle)
    try:
        token, level, size = wintypes.HANDLE(), wintypes.DWORD(), wintypes.DWORD()
        assert _open_thread_token(_current_thread(), 0x8, True, ctypes.byref(token))  # TOKEN_QUERY
    finally:
        _advapi32.RevertToSelf()
    # TokenImpersonationLevel
    assert _token_information(token, 9, ctypes.byref(level), 4, ctypes.byref(size))
    _winapi.CloseHandle(token.value or 0)
    assert level.value == 1


_TRY = "import sys\ntry:\n    open(sys.argv[1], 'r+b', buffering=0)\n    print('open')\nexcept OSError as e:\n    print('refused')"


@pytest.mark.needs_windows("Wine knows integrity levels and does not act on them")
def test_process_of_low_integrity_may_not_talk(lab: Lab) -> None:
    """It may not write up."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    assert "refused" in run_at_low_integrity([sys.executable, "-I", "-S", "-c", _TRY, pipe_of(target)])


@pytest.mark.needs_windows("Wine has no pipes over the network")
def test_nobody_talks_over_the_network(lab: Lab) -> None:
    """PIPE_REJECT_REMOTE_CLIENTS, and the loopback of the redirector counts as remote."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    with pytest.raises(PermissionError):
        Caller(pipe_of(target).replace(r"\\.", r"\\localhost"))
