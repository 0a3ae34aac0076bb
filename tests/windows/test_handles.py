"""Pins: whom a handle means, when it has ended, and what is refused."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os

import pytest

from endtask._backends.windows import handles
from endtask._backends.windows.winapi import kernel32
from endtask.errors import AccessDeniedError, GoneError
from tests.windows.lab_processes import LOCK, NOBODY, ONLY_LOOK, Child

UNUSED = 0x7FFFFFF0  # pids are small multiples of four


def test_token_is_the_creation_time_that_the_process_sees_itself() -> None:
    """Inside and outside of the process it is the same number."""
    code = """
import ctypes
times = (ctypes.c_ulonglong * 4)()
kernel32 = ctypes.WinDLL("kernel32")
kernel32.GetCurrentProcess.restype = ctypes.c_void_p
at = [ctypes.byref(times, 8 * n) for n in range(4)]
kernel32.GetProcessTimes(ctypes.c_void_p(kernel32.GetCurrentProcess()), *at)
print(times[0])
"""
    with Child(code) as child, handles.open_pin(child.pid) as pin:
        assert (pin.ref.pid, pin.ref.token, pin.created) == (child.pid, child.said[0], int(child.said[0]))
        assert (pin.exact, pin.mechanism) == (True, "handle")


def test_pin_by_token_finds_the_same_process_and_no_other() -> None:
    """The token decides: another one is another process."""
    with handles.open_pin(os.getpid()) as pin:
        handles.open_pin(os.getpid(), pin.ref.token).close()
        with pytest.raises(GoneError, match="another process by now"):
            handles.open_pin(os.getpid(), str(pin.created + 1))


@pytest.mark.parametrize("beside", [1, 2, 3])
def test_pin_of_a_number_beside_a_pid_is_gone(beside: int) -> None:
    """OpenProcess rounds down to a multiple of four; the handle tells whom it means."""
    assert kernel32.CloseHandle(handles.open_process(os.getpid() + beside, kernel32.PROCESS_QUERY_LIMITED_INFORMATION))
    with pytest.raises(GoneError, match="no process has that number"):
        handles.open_pin(os.getpid() + beside)


@pytest.mark.parametrize("pid", [-4, 0, UNUSED, 1 << 32, 1 << 70])
def test_pin_of_nobody_is_gone(pid: int) -> None:
    """No process can have or has that number."""
    with pytest.raises(GoneError):
        handles.open_pin(pid)


def test_process_that_has_ended_and_is_held_can_be_pinned_and_has_exited() -> None:
    """OpenProcess succeeds for it: only the wait tells, as for a zombie."""
    with Child() as child:
        with handles.open_pin(child.pid) as pin:
            assert not handles.has_exited(pin)
            assert handles.ended_ago_s(pin) is None
            assert handles.end_of(pin).why_unknown == "it still runs"
        child.let_go()  # our Popen holds it
        with handles.open_pin(child.pid, pin.ref.token) as again:
            assert handles.has_exited(again)
            ago_s = handles.ended_ago_s(again)
            assert ago_s is not None
            assert 0 <= ago_s < 60


@pytest.mark.parametrize("code", [0, 1, 7, 259, 0xC000013A, 0xFFFFFFFF])
def test_end_tells_the_exit_code_whatever_it_is(code: int) -> None:
    """All 32 bits, and 259 (STILL_ACTIVE) is a code like any other."""
    end_with = f"import os; sys.stdin.close = lambda: None; code = {code}"
    exit_hard = (
        "import ctypes, atexit; atexit.register(lambda: ctypes.WinDLL('kernel32').ExitProcess(ctypes.c_uint(code)))"
    )
    with Child(f"{end_with}\n{exit_hard}") as child, handles.open_pin(child.pid) as pin:
        child.let_go()
        end = handles.end_of(pin)
        assert (end.status, end.signal, end.source, end.known) == (code, 0, "handle", True)


def test_open_more_opens_the_same_process_with_more_rights() -> None:
    """The handle is another one, and is closed with the block."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        with handles.open_more(pin, kernel32.PROCESS_TERMINATE) as handle:
            assert handle != pin.handle
            assert kernel32.GetProcessId(handle) == child.pid
        assert not kernel32.GetProcessId(handle)


def test_open_more_refuses_another_process_with_the_same_pid() -> None:
    """The creation time is compared again, although a held pid cannot be given away."""
    with Child() as child, handles.open_pin(child.pid) as pin:
        stranger = handles.WindowsPin(0, child.pid, pin.created - 1)
        with pytest.raises(GoneError, match="another process"):
            handles.open_more(stranger, kernel32.PROCESS_TERMINATE)


def test_process_that_may_not_be_opened_is_denied_and_never_gone() -> None:
    """Error 5 says that it is there."""
    with Child(LOCK, NOBODY) as child, pytest.raises(AccessDeniedError, match="access is denied") as refused:
        handles.open_pin(child.pid)
    assert (refused.value.code, refused.value.exit_code) == (5, 77)


def test_process_that_may_only_be_looked_at_is_pinned_and_refuses_more() -> None:
    """A pin needs what even protected processes grant; the rest is denied at the moment of use."""
    with Child(LOCK, ONLY_LOOK) as child, handles.open_pin(child.pid) as pin:
        assert not handles.has_exited(pin)
        with pytest.raises(AccessDeniedError):
            handles.open_more(pin, kernel32.PROCESS_TERMINATE)
        child.let_go()
        # Refused or not, what has ended is never called forbidden.
        with pytest.raises(GoneError):
            handles.open_more(pin, kernel32.PROCESS_TERMINATE)


def test_closed_pin_and_handle_may_be_closed_again() -> None:
    """And nobody else's handle of the same number is closed by it."""
    pin = handles.open_pin(os.getpid())
    number = pin.handle
    pin.close()
    with handles.open_pin(os.getpid()) as other:
        pin.close()
        assert kernel32.GetProcessId(other.handle) == os.getpid(), number


@pytest.mark.needs_windows("Wine counts no handles")
def test_open_count_follows_what_is_open() -> None:
    """Each pin is one handle."""
    before = handles.open_count()
    with handles.open_pin(os.getpid()), handles.open_pin(os.getpid()):
        assert handles.open_count() == before + 2
    assert handles.open_count() == before > 0
