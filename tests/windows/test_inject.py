"""A thread at CtrlRoutine or ExitProcess: exactly one process is asked, whatever console it is on."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, images, inject, memory, remote_thread
from endtask._backends.windows.winapi import kernel32
from endtask.errors import OsCallError
from endtask.model import Request
from tests.windows.lab import (
    DETACHED,
    NEW_GROUP,
    NO_WINDOW,
    OWN_CONSOLE,
    PATIENCE_S,
    STOPPED_BY_ITSELF,
    SUSPENDED,
    UNDER_WINE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask.model import Receipt
    from tests.windows.lab import Lab, Target

CTRL_C = Request("CTRL_C", "inject", 0)
CTRL_BREAK = Request("CTRL_BREAK", "inject", 1)
CTRL_CLOSE = Request("CTRL_CLOSE", "inject", 2)
CTRL_SHUTDOWN = Request("CTRL_SHUTDOWN", "inject", 6)
EVENTS = [CTRL_C, CTRL_BREAK, CTRL_CLOSE, CTRL_SHUTDOWN]
EXIT_PROCESS = Request("EXIT_PROCESS", "inject", -1, "", forced=True)
CONSOLES = [OWN_CONSOLE, NO_WINDOW, DETACHED]
DEFAULT_HANDLER = 0 if UNDER_WINE else 0xC000013A


def send(target: Target, request: Request) -> Receipt:
    """Send one request through a pin of its own."""
    with handles.open_pin(target.pid) as pin:
        return inject.send_inject(pin, request, 3.0)


# --------------------------------------------------------------------------- who hears it


@pytest.mark.parametrize("flags", CONSOLES)
@pytest.mark.parametrize("request_", EVENTS, ids=lambda r: r.name)
def test_the_handler_of_a_console_program_runs(lab: Lab, request_: Request, flags: int) -> None:
    """On a console of its own, on one without a window, on none: it hears the event and ends by its own decision."""
    target = lab.start("etconsole", "graceful", 10, flags=flags)
    receipt = send(target, request_)
    assert (receipt.request, receipt.status, receipt.at_s) == (request_.name, "delivered", 3.0)
    assert receipt.detail.startswith("by a thread at CtrlRoutine")
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard(f"control {request_.number}") == target.heard("control") == 1
    assert target.heard("atexit") == 1


def test_a_program_on_the_console_of_its_parent_is_the_only_one_to_hear_it(lab: Lab) -> None:
    """Its parent and its sibling are on the same console."""
    root = lab.start("ettree", "keep", 2, flags=OWN_CONSOLE)
    first, second = lab.child(root, 1), lab.child(root, 2)
    first.wait_for(f"ready pid={second.pid}")
    first.wait_for(f"ready pid={first.pid}")
    assert send(first, CTRL_C).status == "delivered"
    assert first.wait_exit() == DEFAULT_HANDLER
    assert root.heard("control") == 0
    assert root.running
    assert second.running


@pytest.mark.parametrize("mode", ["none", "queue", "message-only"])
def test_a_program_of_the_windows_subsystem_ends_by_the_default_handler(lab: Lab, mode: str) -> None:
    """It has no handler of its own: ExitProcess, and its DLLs hear that."""
    target = lab.start("etwindow", mode)
    assert send(target, CTRL_SHUTDOWN).status == "delivered"
    assert target.wait_exit() == DEFAULT_HANDLER
    assert (target.heard("detach"), target.heard("atexit")) == (1, 0)


@pytest.mark.parametrize("mode", ["none", "false"])
def test_where_no_handler_takes_the_event_the_program_ends(lab: Lab, mode: str) -> None:
    """The default handler is ExitProcess: a clean end without atexit."""
    target = lab.start("etconsole", mode)
    detail = send(target, CTRL_C).detail
    assert detail.startswith("by a thread at CtrlRoutine")
    assert "a handler took it" not in detail
    assert target.wait_exit() == DEFAULT_HANDLER
    assert (target.heard("detach"), target.heard("atexit")) == (1, 0)


@pytest.mark.parametrize("request_", EVENTS, ids=lambda r: r.name)
def test_a_handler_that_takes_the_event_and_lives_is_told_from_the_thread(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, request_: Request
) -> None:
    """A hint, from the exit code of the thread, if that is back in time."""
    monkeypatch.setattr(inject, "_COMES_BACK_MS", int(PATIENCE_S * 1000))
    target = lab.start("etconsole", "true", flags=OWN_CONSOLE)
    receipt = send(target, request_)
    assert "a handler took it" in receipt.detail
    assert target.running
    assert target.heard(f"control {request_.number}") == 1


def test_a_thread_that_ended_with_its_process_says_nothing_of_handlers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the status of the process, 0 of a program that has just left by its own handler, while its handle does not tell of the end yet."""

    class Back(inject.Patience):
        def is_back(self, _thread: int) -> bool:
            return True

    def ended(_thread: int, code: object) -> bool:
        code._obj.value = 0  # type: ignore[attr-defined]  # what `byref` refers to
        return True

    target = lab.start("etconsole", "true", flags=NO_WINDOW)
    monkeypatch.setattr(kernel32, "GetExitCodeThread", ended)
    with handles.open_pin(target.pid) as pin:
        assert inject._hint(pin, 0, CTRL_CLOSE.number, Back()) == " (back with exit code 0)"


def test_a_slow_handler_is_not_waited_for(lab: Lab) -> None:
    """The engine has other targets."""
    target = lab.start("etconsole", "slow", 60_000)
    assert send(target, CTRL_C).detail == "by a thread at CtrlRoutine, which is not back yet"
    target.wait_for("control 0")
    assert target.heard("control 0 handled") == 0


@pytest.mark.parametrize("mode", ["handler", "signals", "plain"])
@pytest.mark.parametrize("program", ["python", "pythonw"])
def test_python_hears_ctrl_c_with_and_without_a_console(lab: Lab, program: str, mode: str) -> None:
    """Also as pythonw.exe, which has no console and no window."""
    target = lab.start(program, mode, flags=NO_WINDOW if program == "python" else DETACHED)
    assert send(target, CTRL_C).status == "delivered"
    target.wait_exit()
    assert target.heard("atexit") == 1


def test_a_suspended_program_hears_it_in_our_thread(lab: Lab) -> None:
    """All of its own threads stand still, and the handler runs."""
    target = lab.start("etconsole", "true", flags=OWN_CONSOLE)
    target.suspend()
    assert send(target, CTRL_CLOSE).status == "delivered"
    target.wait_for("control 2")
    target.resume()


# --------------------------------------------------------------------------- who does not


@pytest.mark.parametrize("mode", ["ignore", "ignore-handler"])
def test_a_program_that_ignores_ctrl_c_is_not_bothered(lab: Lab, mode: str) -> None:
    """No thread is made for nothing, and the receipt says why."""
    target = lab.start("etconsole", mode, flags=OWN_CONSOLE)
    receipt = send(target, CTRL_C)
    assert receipt.status == "impossible"
    assert receipt.detail.startswith("it ignores Ctrl+C")
    assert target.running
    assert target.heard("control") == 0


def test_a_process_group_of_its_own_ignores_ctrl_c(lab: Lab) -> None:
    """CREATE_NEW_PROCESS_GROUP sets the same flag, until the program takes it back."""
    deaf = lab.start("etconsole", "graceful", flags=NO_WINDOW | NEW_GROUP)
    assert send(deaf, CTRL_C).status == "impossible"
    hears = lab.start("etconsole", "enable", flags=NO_WINDOW | NEW_GROUP)
    assert send(hears, CTRL_C).status == "delivered"
    hears.wait_exit()
    assert hears.heard("control 0") == 1


@pytest.mark.skipif(not UNDER_WINE, reason="only Wine looks at the flag before every event")
@pytest.mark.parametrize("request_", [CTRL_BREAK, CTRL_CLOSE, CTRL_SHUTDOWN], ids=lambda r: r.name)
def test_under_wine_such_a_program_hears_nothing_at_all(lab: Lab, request_: Request) -> None:
    """And the receipt says that this is Wine's way."""
    target = lab.start("etconsole", "graceful", flags=NO_WINDOW | NEW_GROUP)
    receipt = send(target, request_)
    assert receipt.status == "impossible"
    assert "Wine then withholds" in receipt.detail


@pytest.mark.needs_windows("Wine withholds every event from a program that ignores Ctrl+C")
@pytest.mark.parametrize("request_", [CTRL_BREAK, CTRL_CLOSE, CTRL_SHUTDOWN], ids=lambda r: r.name)
@pytest.mark.parametrize("mode", ["ignore-handler", "graceful"])
def test_a_program_that_ignores_ctrl_c_hears_the_other_events(lab: Lab, mode: str, request_: Request) -> None:
    """The flag is about Ctrl+C alone."""
    target = lab.start("etconsole", mode, flags=NO_WINDOW | NEW_GROUP)
    assert send(target, request_).status == "delivered"
    target.wait_for(f"control {request_.number}")


# --------------------------------------------------------------------------- ExitProcess


@pytest.mark.parametrize(
    ("program", "mode"),
    [
        ("etconsole", "true"),
        ("etconsole", "ignore-handler"),
        ("etwindow", "hang"),
        ("etwindow", "swallow"),
        ("etwindow", "dialog-open"),
        ("etconsole", "hold-section"),
        ("etconsole", "hold-mutex"),
    ],
)
def test_exit_process_ends_what_hears_nothing(lab: Lab, program: str, mode: str) -> None:
    """Forced: the DLLs hear it, the program does not."""
    target = lab.start(program, mode)
    receipt = send(target, EXIT_PROCESS)
    assert receipt.status == "delivered"
    assert receipt.detail.startswith("by a thread at ExitProcess")
    assert target.wait_exit() == 1
    assert (target.heard("detach"), target.heard("atexit"), target.heard("control")) == (1, 0, 0)


def test_exit_process_hangs_where_a_dll_waits_for_a_thread_that_was_cut(lab: Lab) -> None:
    """It is forced and yet no promise: only the handle tells the end."""
    target = lab.start("etconsole", "hold-event")
    assert send(target, EXIT_PROCESS).detail.endswith("which is not back yet")
    assert target.running


def test_a_program_that_hangs_in_its_end_is_not_called_forbidden(lab: Lab) -> None:
    """No thread can be made in it any more: GetLastError says that access is denied, and it is not."""
    target = lab.start("etconsole", "hold-event")
    send(target, CTRL_C)
    target.wait_for("detach")
    receipt = send(target, CTRL_C)
    assert receipt.status == "impossible"
    assert "in the middle of its end" in receipt.detail


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("request_", [CTRL_C, EXIT_PROCESS], ids=lambda r: r.name)
def test_a_program_that_has_ended_is_gone(lab: Lab, request_: Request) -> None:
    """Also while its pid can still be opened."""
    target = lab.start("etconsole", "none")
    with handles.open_pin(target.pid) as pin:
        assert inject.send_inject(pin, CTRL_C, 0.0).status == "delivered"
        target.wait_exit()
        receipt = inject.send_inject(pin, request_, 0.0)
    assert (receipt.status, receipt.detail) == ("gone", "it had exited already")


@pytest.mark.parametrize("mode", ["close", "dialog-open", "hidden"])
def test_a_program_with_windows_is_asked_by_them_alone(lab: Lab, mode: str) -> None:
    """The default handler would end it without a question, and what is unsaved with it, under the name of a request."""
    target = lab.start("etwindow", mode)
    receipt = send(target, CTRL_C)
    assert (receipt.status, receipt.detail.partition(":")[0]) == ("impossible", "it has windows and is asked by them")
    assert target.running


def test_a_program_that_has_not_been_started_up_is_left_alone(lab: Lab) -> None:
    """Its DLLs are not there yet: whatever lies at that address is not CtrlRoutine."""
    target = lab.start("etconsole", "none", flags=DETACHED | SUSPENDED)
    receipt = send(target, CTRL_C)
    if receipt.status == "delivered":  # a system that maps the DLL before the first thread runs: then it is CtrlRoutine
        target.resume()
        target.wait_exit()
    else:
        assert receipt.status == "impossible"
        assert "does not lie in it where it lies here" in receipt.detail
        target.resume()
        target.wait_for("ready")


def test_a_dll_that_lies_elsewhere_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header over there is compared before any thread is made."""
    target = lab.start("etconsole", "true")

    def other(handle: int, at: int, size: int) -> bytes:
        return b"\0" * size

    monkeypatch.setattr(memory, "read", other)
    receipt = send(target, EXIT_PROCESS)
    assert receipt.status == "impossible"
    assert "does not lie in it where it lies here" in receipt.detail
    assert target.running


def test_a_program_whose_memory_cannot_be_read_is_asked_all_the_same(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it ignores Ctrl+C is not known then; what comes of it is seen."""
    target = lab.start("etconsole", "true", flags=OWN_CONSOLE)

    def refuse(_handle: int, *, environment: bool) -> None:
        raise OsCallError("ReadProcessMemory", 299)

    monkeypatch.setattr(memory, "read_parameters", refuse)
    assert send(target, CTRL_C).status == "delivered"
    target.wait_for("control 0")


def test_a_windows_that_does_not_export_it_is_a_refusal_in_words(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither here nor there."""
    target = lab.start("etconsole", "true")
    monkeypatch.setattr(inject, "_MODULES", ())
    receipt = send(target, CTRL_C)
    assert receipt.status == "impossible"
    assert receipt.detail == "neither kernel32 nor kernelbase of this Windows exports CtrlRoutine"


@pytest.mark.parametrize("machine", ["x86", "arm64"])
def test_a_program_of_another_machine_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """The words; that the machine is told is shown by the test below."""
    target = lab.start("etconsole", "true")
    ours = kernel32.GetCurrentProcess()
    monkeypatch.setattr(images, "machine_of", lambda handle: "x64" if handle == ours else machine)
    receipt = send(target, CTRL_C)
    assert receipt.status == "impossible"
    assert receipt.detail == f"it is a {machine} process, and endtask here runs as x64: a thread cannot cross"


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (True, "it is a 32-bit process, and endtask here is not"),
        (None, "cannot be told: IsWow64Process: error 31"),
        (False, ""),
    ],
)
def test_where_the_machine_is_not_told_its_size_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, theirs: bool | None, words: str
) -> None:
    """Windows before 10: two machines, and one of them is WOW64."""
    target = lab.start("etconsole", "true")
    ours = kernel32.GetCurrentProcess()

    def answer(process: int, flag: object) -> bool:
        if process != ours and theirs is None:
            ctypes.set_last_error(31)
            return False
        flag._obj.value = int(bool(theirs) and process != ours)  # type: ignore[attr-defined]  # what `byref` was taken of
        return True

    monkeypatch.setattr(images, "machine_of", lambda _handle: "")
    monkeypatch.setattr(kernel32, "IsWow64Process", answer)
    receipt = send(target, CTRL_C)
    if words:
        assert receipt.status == "impossible"
        assert words in receipt.detail
    else:
        assert receipt.status in ("delivered", "impossible")  # the flag is asked for when its memory is read, too


@pytest.mark.needs_windows("there are no 32-bit programs in a 64-bit Wine prefix of the rig")
def test_a_32_bit_program_is_refused(lab: Lab) -> None:
    """SysWOW64 has 32-bit twins of the system's programs."""
    program = os.path.join(os.environ["SYSTEMROOT"], "SysWOW64", "ping.exe")
    target = lab.run([program, "-t", "127.0.0.1"], flags=NO_WINDOW)
    receipt = send(target, CTRL_C)
    assert receipt.status == "impossible"
    assert "it is a x86 process" in receipt.detail
    assert target.running


@pytest.mark.needs_windows("Wine lets every process of its user open every other one")
def test_a_protected_process_is_denied() -> None:
    """The system's own processes let nobody make a thread in them."""
    output = subprocess.run(
        ["tasklist", "/fi", "imagename eq csrss.exe", "/fo", "csv", "/nh"], capture_output=True, check=True
    )
    pid = int(output.stdout.split(b'","')[1])
    with handles.open_pin(pid) as pin:
        assert inject.send_inject(pin, CTRL_C, 0.0).status == "denied"


def test_a_process_that_may_not_be_opened_is_denied(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Error 5 with the right that was missing, in words."""
    target = lab.start("etconsole", "true")

    def refuse(_access: int, _inherit: bool, _pid: int) -> None:
        ctypes.set_last_error(5)

    with handles.open_pin(target.pid) as pin:
        monkeypatch.setattr(kernel32, "OpenProcess", refuse)
        receipt = inject.send_inject(pin, CTRL_C, 0.0)
    assert receipt.status == "denied"
    assert receipt.detail == "OpenProcess, with the right to make a thread in it: access is denied (error 5)"


@pytest.mark.parametrize(("error", "status"), [(5, "denied"), (8, "impossible"), (1455, "failed")])
def test_a_thread_that_cannot_be_made_is_told_in_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: int, status: str
) -> None:
    """Error 8 is what Windows says across sessions."""
    target = lab.start("etconsole", "true")

    def refuse(*_arguments: object) -> None:
        ctypes.set_last_error(error)

    monkeypatch.setattr(kernel32, "CreateRemoteThread", refuse)
    receipt = send(target, CTRL_C)
    assert receipt.status == status
    assert f"error {error}" in receipt.detail


# --------------------------------------------------------------------------- a call that does not come back


def block(monkeypatch: pytest.MonkeyPatch, until: threading.Event, meanwhile: Callable[[], None]) -> list[int]:
    """Let CreateRemoteThread wait until an event is set; return the processes that it was called for."""
    asked: list[int] = []
    create = kernel32.CreateRemoteThread

    def wait(process: int, *rest: object) -> int | None:
        asked.append(process)
        meanwhile()
        until.wait(60)
        return create(process, *rest)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(kernel32, "CreateRemoteThread", wait)
    return asked


def test_a_process_that_ends_while_the_call_waits_for_it_is_gone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wine waits for an answer of the process, and one that is ending may never give it: its end ends the wait, long before the limit."""
    target = lab.start("etconsole", "true")
    until = threading.Event()
    monkeypatch.setattr(remote_thread, "LIMIT_MS", 60_000)
    block(monkeypatch, until, lambda: _winapi.TerminateProcess(target.handle, 5))
    try:
        receipt = send(target, CTRL_C)
        assert (receipt.status, receipt.detail) == ("gone", "it had exited already")
    finally:
        until.set()


def test_a_call_that_does_not_come_back_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt says that nobody knows; what the call still uses is closed by nobody else, so that it hits no other process later."""
    target = lab.start("etconsole", "graceful", 10)
    until = threading.Event()
    monkeypatch.setattr(remote_thread, "LIMIT_MS", 50)
    asked = block(monkeypatch, until, lambda: None)
    try:
        receipt = send(target, CTRL_C)
        assert receipt.status == "failed"
        assert receipt.detail.startswith("CreateRemoteThread has not come back within 0.05 s: it may be ending")
        assert kernel32.GetProcessId(asked[0]) == target.pid
    finally:
        until.set()
    assert target.wait_exit() == STOPPED_BY_ITSELF  # the call went on, and reached whom it was for


GIVES_UP = """
import os, threading
from endtask._backends.windows import handles, inject, remote_thread
from endtask._backends.windows.winapi import kernel32
from endtask.model import Request
remote_thread.LIMIT_MS = 50
kernel32.CreateRemoteThread = lambda *_: threading.Event().wait()
with handles.open_pin(os.getppid()) as pin:
    print(inject.send_inject(pin, Request("CTRL_C", "inject", 0), 0.0).status)
"""


def test_a_call_that_never_comes_back_keeps_nobody_from_leaving() -> None:
    """The thread that waits in it lives only as long as its program."""
    done = subprocess.run([sys.executable, "-c", GIVES_UP], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["failed"]


@pytest.mark.parametrize("attempt", range(5))
def test_a_process_that_ends_at_that_moment_keeps_nobody_waiting(lab: Lab, attempt: int) -> None:
    """As near as a test gets to it: it is ended while it is asked."""
    target = lab.start("etconsole", "true")
    ender = threading.Timer(attempt * 0.002, lambda: _winapi.TerminateProcess(target.handle, 5))
    with handles.open_pin(target.pid) as pin:
        ender.start()
        receipt = inject.send_inject(pin, CTRL_C, 0.0)
    ender.join()
    assert receipt.status in ("delivered", "gone", "impossible", "failed")
    assert target.wait_exit() == 5


def test_hints_of_many_threads_are_not_waited_for_one_by_one() -> None:
    """Each may take a twentieth of a second, and a stop of two hundred programs would wait for ten."""
    patience = inject.Patience()
    event = kernel32.CreateEventW(None, True, False, None)
    assert event is not None
    with handles.Handle(event) as never:
        began = time.perf_counter()
        assert not any(patience.is_back(never) for _ in range(200))
        assert patience._again_at - began > 4 * inject._COMES_BACK_MS / 1000
        kernel32.SetEvent(never)
        assert patience.is_back(never)


# --------------------------------------------------------------------------- what a thread's exit code tells


@pytest.mark.parametrize(
    ("number", "code", "wine", "took"),
    [
        (0, 1, True, True),
        (0, 0, True, False),
        (6, 1, True, True),
        (0, 0, False, True),
        (1, 0, False, True),
        (0, 7, False, None),
        (2, 2, False, True),
        (6, 6, False, True),
        (2, 0, False, None),
        (-1, 0, False, None),
        (-1, 1, True, None),
    ],
)
def test_exit_codes_of_threads(number: int, code: int, wine: bool, took: bool | None) -> None:
    """Where it does not tell, nothing is guessed."""
    assert inject._took(number, code, wine=wine) is took


def test_functions_are_found_where_every_process_has_them() -> None:
    """Both, and nothing for a name that nobody exports."""
    assert inject.address_of("CtrlRoutine")
    assert inject.address_of("ExitProcess")
    assert inject.address_of("NoSuchFunctionOfWindows") == 0
