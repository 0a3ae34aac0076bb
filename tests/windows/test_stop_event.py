"""The named stop event: the protocol of the sender, against targets that listen, are deaf, or have lost the name."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import os
from ctypes import wintypes
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, stop_event
from endtask.model import PidRef, Request
from tests.windows.lab import DETACHED, NO_WINDOW, STOPPED_BY_ITSELF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from endtask.model import Receipt
    from tests.windows.lab import Lab, Target

    Make = Callable[..., int]

STOP_EVENT = Request("STOP_EVENT", "event")

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_create_event = _kernel32.CreateEventW
_create_event.restype = wintypes.HANDLE
_create_event.argtypes = (ctypes.c_void_p, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)
_set_event = _kernel32.SetEvent
_set_event.argtypes = (wintypes.HANDLE,)
_local_free = _kernel32.LocalFree
_local_free.argtypes = (ctypes.c_void_p,)
_to_descriptor = _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW
_to_descriptor.argtypes = (wintypes.LPCWSTR, wintypes.DWORD, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)


class SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (("size", wintypes.DWORD), ("descriptor", ctypes.c_void_p), ("inherit", wintypes.BOOL))


@pytest.fixture
def make() -> Iterator[Make]:
    """Make events that a test listens to by itself, under the name of any process."""
    made: list[int] = []

    def event(name: str, sddl: str = "") -> int:
        attributes = None
        descriptor = ctypes.c_void_p()
        if sddl:
            assert _to_descriptor(sddl, 1, ctypes.byref(descriptor), None)
            attributes = ctypes.byref(
                SecurityAttributes(ctypes.sizeof(SecurityAttributes), descriptor.value, wintypes.BOOL(False))
            )
        handle = _create_event(attributes, True, False, name)
        _local_free(descriptor)
        assert handle
        made.append(handle)
        return int(handle)

    yield event
    for handle in made:
        _winapi.CloseHandle(handle)


def send(target: Target) -> Receipt:
    """Send the request through a pin of its own."""
    with handles.open_pin(target.pid) as pin:
        return stop_event.send_event(pin, STOP_EVENT, 2.0)


def ref_of(target: Target) -> PidRef:
    """Return its identity, from the laboratory's own eyes."""
    return PidRef(target.pid, str(target.created))


def is_set(handle: int) -> bool:
    """Return whether an event is set."""
    return _winapi.WaitForSingleObject(handle, 0) == _winapi.WAIT_OBJECT_0


def test_the_name_holds_pid_and_creation_time() -> None:
    """Decimal pid, sixteen lower-case hexadecimal digits: the other half of the protocol depends on it."""
    assert stop_event.name(PidRef(1234, str(0x01DC_5E0A_BC12_3456))) == "endtask.stop.1234.01dc5e0abc123456"
    assert stop_event.name(PidRef(4, "1")) == "endtask.stop.4.0000000000000001"


@pytest.mark.parametrize("flags", [DETACHED, NO_WINDOW])
def test_a_program_that_listens_ends(lab: Lab, flags: int) -> None:
    """Seen before, asked, ended by its own decision."""
    target = lab.start("etconsole", "event", flags=flags)
    assert stop_event.present(ref_of(target)) is True
    receipt = send(target)
    assert (receipt.request, receipt.status, receipt.at_s) == ("STOP_EVENT", "delivered", 2.0)
    assert receipt.detail == f"Local\\{stop_event.name(ref_of(target))} set"
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert stop_event.present(ref_of(target)) is False  # no handle of ours keeps the name alive


def test_a_program_that_does_nothing_about_it_has_been_asked_all_the_same(lab: Lab) -> None:
    """The second time the receipt says that it had been asked before."""
    target = lab.start("etconsole", "event-deaf")
    assert send(target).detail.endswith(" set")
    assert send(target).detail.endswith("was set already: it has been asked before")
    assert target.running


def test_a_program_without_the_event_does_not_listen(lab: Lab) -> None:
    """Known before, and refused in words."""
    target = lab.start("etconsole", "graceful")
    assert stop_event.present(ref_of(target)) is False
    receipt = send(target)
    assert (receipt.status, receipt.detail) == ("impossible", "it does not listen: there is no event of its name")
    assert target.running


def test_another_object_of_that_name_is_not_touched(lab: Lab) -> None:
    """Names are shared by events, mutexes and others: error 6."""
    target = lab.start("etconsole", "event-foreign")
    assert stop_event.present(ref_of(target)) is False
    receipt = send(target)
    assert receipt.status == "impossible"
    assert receipt.detail.endswith("is the name of something that is no event")
    assert target.running


def test_an_event_of_the_same_pid_and_another_time_is_somebody_elses(lab: Lab, make: Make) -> None:
    """A pid alone says nothing."""
    target = lab.start("etconsole", "none")
    ref = ref_of(target)
    handle = make("Local\\" + stop_event.name(PidRef(ref.pid, str(int(ref.token) - 1))))
    assert stop_event.present(ref) is False
    assert send(target).status == "impossible"
    assert not is_set(handle)


def test_a_program_that_has_ended_is_gone(lab: Lab, make: Make) -> None:
    """Even while its event is still there, because somebody else has it open."""
    target = lab.start("etconsole", "event")
    make("Local\\" + stop_event.name(ref_of(target)))  # opens the one that is there
    with handles.open_pin(target.pid) as pin:
        assert stop_event.send_event(pin, STOP_EVENT, 0.0).status == "delivered"
        target.wait_exit()
        receipt = stop_event.send_event(pin, STOP_EVENT, 0.0)
    assert (receipt.status, receipt.detail) == ("gone", "it had exited already")


def test_the_global_name_reaches_other_sessions(lab: Lab, make: Make) -> None:
    """A service listens there."""
    target = lab.start("etconsole", "none")
    handle = make("Global\\" + stop_event.name(ref_of(target)))
    assert stop_event.present(ref_of(target)) is True
    receipt = send(target)
    assert receipt.status == "delivered"
    assert receipt.detail.startswith("Global\\")
    assert is_set(handle)


def test_an_acknowledgement_is_seen(lab: Lab, make: Make) -> None:
    """None: there is none. False: not yet. True: it has heard."""
    target = lab.start("etconsole", "event-deaf")
    ref = ref_of(target)
    assert stop_event.acknowledged(ref) is None
    ack = make("Local\\" + stop_event.name(ref) + ".ack")
    assert stop_event.acknowledged(ref) is False
    assert send(target).detail.endswith(" set")
    _set_event(ack)
    assert stop_event.acknowledged(ref) is True
    assert send(target).detail.endswith(", and it says that it has heard")


def test_an_event_that_may_not_be_set_is_denied(lab: Lab, make: Make) -> None:
    """Error 5 means that somebody listens, and not to us."""
    target = lab.start("etconsole", "none")
    make("Local\\" + stop_event.name(ref_of(target)), "D:P(A;;0x100000;;;WD)")  # SYNCHRONIZE for everybody
    assert stop_event.present(ref_of(target)) is True
    receipt = send(target)
    assert receipt.status == "denied"
    assert "error 5" in receipt.detail


@pytest.mark.needs_windows("Wine grants SYNCHRONIZE on an event to its owner, whatever its security says")
def test_an_event_that_may_not_be_looked_at_is_neither_there_nor_not(lab: Lab, make: Make) -> None:
    """None: it could not be asked."""
    target = lab.start("etconsole", "none")
    make("Local\\" + stop_event.name(ref_of(target)), "D:P(A;;0x20000;;;WD)")  # READ_CONTROL for everybody
    assert stop_event.present(ref_of(target)) is None
    assert stop_event.acknowledged(ref_of(target)) is None


def test_access_denied_is_no_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a listener nor none: it could not be asked."""
    target = lab.start("etconsole", "event")
    monkeypatch.setattr(stop_event, "_open", lambda _name, _access: 5)
    assert stop_event.present(ref_of(target)) is None
    assert stop_event.acknowledged(ref_of(target)) is None
    assert send(target).status == "denied"


def test_our_own_process_does_not_listen() -> None:
    """The requester is no receiver."""
    with handles.open_pin(os.getpid()) as pin:
        assert stop_event.present(pin.ref) is False
