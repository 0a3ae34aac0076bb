"""endtask_receiver on Windows: a program with it obeys what Windows has to ask by, and ends by its own decision."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import json
import subprocess
from ctypes import wintypes
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, inject, stop_event
from endtask._backends.windows import services as endtask_services
from endtask.model import PidRef, Request
from endtask_receiver import Stop
from endtask_receiver import service as service_
from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, OWN_CONSOLE, PATIENCE_S, STOPPED_BY_ITSELF, SUSPENDED
from tests.windows.lab_security import security_of
from tests.windows.lab_services import RUNNING, STOP_PENDING, STOPPED

if TYPE_CHECKING:
    from tests.windows.lab import Lab, SeenWindow, Target
    from tests.windows.lab_services import Services

STOP_EVENT = Request("STOP_EVENT", "event")
CTRL_C_EXIT = 0xC000013A
WM_CLOSE, WM_QUERYENDSESSION, WM_QUIT, WM_ENDSESSION = 0x10, 0x11, 0x12, 0x16
CLOSEAPP, LOGOFF = 0x1, 0x80000000
PROGRAMS = [("receiver", OWN_CONSOLE), ("receiver", NO_WINDOW), ("receiver", DETACHED), ("receiverw", 0)]

_user32 = ctypes.WinDLL("user32", use_last_error=True)
_post = _user32.PostMessageW
_post.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
_notify = _user32.SendNotifyMessageW
_notify.argtypes = _post.argtypes
_post_to_thread = _user32.PostThreadMessageW
_post_to_thread.argtypes = (wintypes.DWORD, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
_thread_of = _user32.GetWindowThreadProcessId
_thread_of.argtypes = (wintypes.HWND, ctypes.POINTER(wintypes.DWORD))
_send = _user32.SendMessageTimeoutW
_send.restype = ctypes.c_ssize_t
_send.argtypes = (*_post.argtypes, wintypes.UINT, wintypes.UINT, ctypes.POINTER(ctypes.c_size_t))

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_wait = _kernel32.WaitForSingleObject
_wait.argtypes = (wintypes.HANDLE, wintypes.DWORD)
_create_event = _kernel32.CreateEventW
_create_event.restype = wintypes.HANDLE
_create_event.argtypes = (ctypes.c_void_p, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)
_open_event = _kernel32.OpenEventW
_open_event.restype = wintypes.HANDLE
_open_event.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR)


def hidden(target: Target) -> SeenWindow:
    """Return the window of the receiver."""
    (window,) = [w for w in target.windows if w.class_name.startswith("endtask_receiver")]
    assert not window.visible
    return window


def taskkill(target: Target) -> subprocess.CompletedProcess[str]:
    """Ask as everybody does, without /f."""
    return subprocess.run(
        ["taskkill", "/pid", str(target.pid)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def ctrl(target: Target, number: int) -> str:
    """Ask by a console event that only this process hears."""
    with handles.open_pin(target.pid) as pin:
        return inject.send_inject(pin, Request("CTRL", "inject", number), 0.0).status


def ask(target: Target) -> str:
    """Ask by the stop event."""
    with handles.open_pin(target.pid) as pin:
        return stop_event.send_event(pin, STOP_EVENT, 0.0).status


def cleaned(target: Target, channel: str, name: str, code: int = STOPPED_BY_ITSELF) -> bool:
    """Return whether it ended by its own decision, after a cleanup, asked in this way."""
    assert target.wait_exit() == code
    assert target.heard(f"asked {channel} {name} ") == target.heard("asked") == 1, target.texts
    return (target.heard("cleaned up"), target.heard("atexit")) == (1, 1)


# --------------------------------------------------------------------------- everything that asks


@pytest.mark.parametrize("mode", ["loop", "asyncio", "cancel"])
@pytest.mark.parametrize(("program", "flags"), PROGRAMS)
def test_taskkill_without_force_stops_it(lab: Lab, program: str, flags: int, mode: str) -> None:
    """A console program and one without any window, which it cannot stop without a receiver."""
    target = lab.start(program, mode, 50, flags=flags)
    assert taskkill(target).returncode == 0
    assert cleaned(target, "window", "WM_CLOSE")


@pytest.mark.parametrize("program", ["receiver", "receiverw"])
def test_taskkill_without_force_ends_it_with_0(lab: Lab, program: str) -> None:
    """The status is the program's own."""
    target = lab.start(program, "zero", 50, flags=NO_WINDOW)
    assert taskkill(target).returncode == 0
    assert cleaned(target, "window", "WM_CLOSE", 0)


@pytest.mark.parametrize("mode", ["loop", "asyncio", "cancel"])
@pytest.mark.parametrize(("program", "flags"), PROGRAMS)
def test_endtask_stop_asks_by_the_stop_event(lab: Lab, program: str, flags: int, mode: str) -> None:
    """`look` knows the receiver, `stop` uses it first, and the proof is the end of the process."""
    target = lab.start(program, mode, 50, flags=flags)
    looked = endtask("look", target)
    assert looked["seen"][0]["facts"]["windows"]["receiver"] is True
    report = json.dumps(endtask("stop", target))
    assert '"STOP_EVENT"' in report
    assert "WM_CLOSE" not in report
    assert cleaned(target, "event", "STOP_EVENT")


def endtask(verb: str, target: Target) -> dict[str, list[dict[str, dict[str, dict[str, object]]]]]:
    """Run the command and return its JSON."""
    command = [sys.executable, "-m", "endtask", verb, str(target.pid), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]  # JSON


@pytest.mark.parametrize("mode", ["loop", "asyncio"])
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "CTRL_C_EVENT"),
        (1, "CTRL_BREAK_EVENT"),
        (2, "CTRL_CLOSE_EVENT"),
        (5, "CTRL_LOGOFF_EVENT"),
        (6, "CTRL_SHUTDOWN_EVENT"),
    ],
)
def test_console_event_is_heard(lab: Lab, number: int, name: str, mode: str) -> None:
    """By a thread of the system's, whatever the main thread does."""
    target = lab.start("receiver", mode, 50, flags=NO_WINDOW)
    assert ctrl(target, number) == "delivered"
    assert cleaned(target, "console", name)


@pytest.mark.parametrize("number", [2, 6])
def test_the_system_is_held_up_until_the_process_has_ended(lab: Lab, number: int) -> None:
    """When the handler of one of these returns, the system ends the process: cleanup of 1 s, and `atexit`, come first."""
    target = lab.start("receiver", "loop", 1000, flags=NO_WINDOW)
    with handles.open_pin(target.pid) as pin:
        detail = inject.send_inject(pin, Request("CTRL", "inject", number), 0.0).detail
    assert "not back yet" in detail
    assert cleaned(target, "console", {2: "CTRL_CLOSE_EVENT", 6: "CTRL_SHUTDOWN_EVENT"}[number])
    left_s = float(next(t for t in target.texts if t.startswith("asked")).split()[-1])
    assert 0 < left_s <= 4.75  # of the 5 s that Windows gives; a busy machine has used some of it by then


def test_window_is_asked_whether_the_session_may_end_and_that_it_does(lab: Lab) -> None:
    """Restart Manager and endtask: yes; then the request, without holding anybody up."""
    target = lab.start("receiverw", "loop", 50, flags=0)
    window, reply = hidden(target).handle, ctypes.c_size_t()
    assert _send(window, WM_QUERYENDSESSION, 0, CLOSEAPP, 0, 10_000, ctypes.byref(reply))
    assert (reply.value, target.heard("asked")) == (1, 0)  # a question; others may say no
    assert _send(window, WM_ENDSESSION, 0, CLOSEAPP, 0, 10_000, ctypes.byref(reply))
    assert target.heard("asked") == 0  # somebody has said no
    assert _notify(window, WM_ENDSESSION, 1, CLOSEAPP)
    assert cleaned(target, "session-end", "WM_ENDSESSION")


def test_end_of_the_session_waits_for_the_cleanup(lab: Lab) -> None:
    """When the message is answered, the system may end the process: so it is not, as long as that runs."""
    target = lab.start("receiverw", "loop", 1000, flags=0)
    window, reply = hidden(target).handle, ctypes.c_size_t()
    assert not _send(window, WM_ENDSESSION, 1, LOGOFF - (1 << 32), 0, 15_000, ctypes.byref(reply))  # it never answers
    assert target.heard("cleaned up") == 1
    assert cleaned(target, "session-end", "WM_ENDSESSION")


def test_while_the_session_ends_the_stop_event_is_heard(lab: Lab) -> None:
    """The thread is on hold, and not deaf."""
    target = lab.start("receiverw", "stubborn", flags=0)
    window = hidden(target).handle
    assert _notify(window, WM_ENDSESSION, 1, LOGOFF - (1 << 32))
    target.wait_for("cleaned up")
    later(target)
    assert ask(target) == "delivered"
    target.wait_for("hurry 2")


def later(target: Target) -> None:
    """Wait until a request counts as another one: 0.3 s after the last. Waiting for time is the point here."""
    assert target.running
    _wait(target.handle, 500)


def test_end_of_the_message_loop_is_a_request(lab: Lab) -> None:
    """WM_QUIT is posted to a thread."""
    target = lab.start("receiverw", "loop", 50, flags=0)
    assert _post_to_thread(_thread_of(hidden(target).handle, None), WM_QUIT, 0, 0)
    assert cleaned(target, "window", "WM_QUIT")


# --------------------------------------------------------------------------- what repeated requests mean


def test_third_request_ends_it_at_once(lab: Lab) -> None:
    """Ask, hurry, exit: by three different ways."""
    target = lab.start("receiver", "stubborn", flags=NO_WINDOW)
    assert taskkill(target).returncode == 0
    target.wait_for("cleaned up")
    later(target)
    assert ask(target) == "delivered"
    target.wait_for("hurry 2")
    later(target)
    assert ctrl(target, 0) == "delivered"
    assert target.wait_exit() == CTRL_C_EXIT
    assert target.heard("atexit") == 0


def test_storm_of_messages_is_one_request(lab: Lab) -> None:
    """Within the window for duplicates they count once, and none is lost."""
    target = lab.start("receiverw", "loop", 50, flags=0)
    window = hidden(target).handle
    for _ in range(2000):
        _post(window, WM_CLOSE, 0, 0)  # it may be gone by now
    assert cleaned(target, "window", "WM_CLOSE")


@pytest.mark.parametrize("mode", ["finish", "asyncio"])
def test_requests_to_its_last_moment_change_nothing(lab: Lab, mode: str) -> None:
    """In the cleanup, after it, while the interpreter ends: no hang, no crash.

    Not by threads at CtrlRoutine: Wine's CreateRemoteThread does not return when its target is just ending.
    """
    for _ in range(5):
        target = lab.start("receiver", mode, 20, flags=NO_WINDOW)
        window = hidden(target).handle
        assert ask(target) == "delivered"
        while target.running:
            _post(window, WM_CLOSE, 0, 0)
            ask(target)
        assert target.exit_code == (STOPPED_BY_ITSELF if mode == "asyncio" else 0)
        assert (target.heard("asked event STOP_EVENT"), target.heard("cleaned up"), target.heard("atexit")) == (1, 1, 1)


def test_refused_request_does_not_make_it_deaf(lab: Lab) -> None:
    """The next one counts."""
    target = lab.start("receiver", "veto", flags=NO_WINDOW)
    assert taskkill(target).returncode == 0
    target.wait_for("vetoed True")
    later(target)
    assert ask(target) == "delivered"
    assert cleaned(target, "event", "STOP_EVENT")


# --------------------------------------------------------------------------- the exit status


@pytest.mark.parametrize(
    ("mode", "number", "code"),
    [
        ("finish", 0, CTRL_C_EXIT),
        ("finish", 1, CTRL_C_EXIT),
        ("status", 0, 130),
        ("status", 1, 149),
        ("status", 2, 129),
    ],
)
def test_exit_status_after_a_console_event_tells_the_truth(lab: Lab, mode: str, number: int, code: int) -> None:
    """`finish` says so as Windows does, or as shells from Unix expect it."""
    target = lab.start("receiver", mode, flags=NO_WINDOW)
    assert ctrl(target, number) == "delivered"
    assert target.wait_exit() == code
    assert target.heard("atexit") == 1


@pytest.mark.parametrize("mode", ["finish", "status"])
def test_exit_status_after_a_polite_request_is_0(lab: Lab, mode: str) -> None:
    """It was the program's own decision."""
    target = lab.start("receiver", mode, flags=NO_WINDOW)
    assert ask(target) == "delivered"
    assert target.wait_exit() == 0


# --------------------------------------------------------------------------- the stop event


def ref_of(target: Target) -> PidRef:
    """Return its identity, from the laboratory's own eyes."""
    return PidRef(target.pid, str(target.created))


def test_event_is_answered(lab: Lab) -> None:
    """Heard, within half a second; and gone with the process."""
    target = lab.start("receiver", "stubborn", flags=NO_WINDOW)
    assert (stop_event.present(ref_of(target)), stop_event.acknowledged(ref_of(target))) == (True, False)
    assert ask(target) == "delivered"
    target.wait_for("asked")
    later(target)
    assert stop_event.acknowledged(ref_of(target)) is True


@pytest.mark.parametrize("space", ["Local", "Global"])
def test_event_is_there_for_whom_it_was_said(lab: Lab, space: str) -> None:
    """Other sessions are let in by choice."""
    target = lab.start("receiver", "ears", text="everywhere=True" if space == "Global" else "", flags=NO_WINDOW)
    name = f"stop event: {space}\\{stop_event.name(ref_of(target))}"
    assert target.heard(f"ear {name}") == 1, target.texts
    assert target.heard("ear stop event: Global") == (space == "Global")


# --------------------------------------------------------------------------- what was there before, and what is not wanted


def test_handler_that_was_there_before_is_called_too_and_again_afterwards(lab: Lab) -> None:
    """Python's own handlers are neither replaced nor lost."""
    target = lab.start("receiver", "chained", flags=NO_WINDOW)
    assert ctrl(target, 0) == "delivered"
    target.wait_for("closed")
    assert (target.heard("asked"), target.heard("signal SIGINT")) == (1, 1)
    assert ctrl(target, 0) == "delivered"
    target.wait_for("signal SIGINT", 2)
    assert target.wait_exit() == STOPPED_BY_ITSELF


@pytest.mark.parametrize("how", ["window", "console", "event"])
def test_listen_within_listen_hears_the_same(lab: Lab, how: str) -> None:
    """The process has one console, and one stop event."""
    target = lab.start("receiver", "nested", flags=NO_WINDOW)
    if how == "window":
        assert taskkill(target).returncode == 0
    else:
        assert (ask(target) if how == "event" else ctrl(target, 0)) == "delivered"
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert (target.heard("inner"), target.heard("outer")) == (1, 1)


def test_handlers_can_be_installed_anew(lab: Lab) -> None:
    """As often as the console changes; they are there once."""
    target = lab.start("receiver", "again", 50, flags=NO_WINDOW)
    assert ctrl(target, 2) == "delivered"
    assert cleaned(target, "console", "CTRL_CLOSE_EVENT")


def test_without_a_window_the_rest_is_heard(lab: Lab) -> None:
    """No window, no user32: and it is said."""
    target = lab.start("receiver", "ears", 50, "window=False", flags=NO_WINDOW)
    assert target.windows == []
    assert target.heard("ear window: none") == 1
    assert ask(target) == "delivered"
    assert cleaned(target, "event", "STOP_EVENT")


def test_only_what_was_wanted_is_heard(lab: Lab) -> None:
    """INT is Ctrl+C and nothing else."""
    target = lab.start("receiver", "ears", 50, "signals=('INT', 'USR1'), channel=False", flags=NO_WINDOW)
    assert target.windows == []
    assert stop_event.present(ref_of(target)) is False
    assert [t for t in target.texts if t.startswith("ear")] == [
        "ear CTRL_C_EVENT: a control handler hears it",
        "ear signal USR1: not heard, Windows has nothing like it",
    ]
    assert ctrl(target, 0) == "delivered"
    assert cleaned(target, "console", "CTRL_C_EVENT")


def test_group_that_ignores_ctrl_c_is_left_alone(lab: Lab) -> None:
    """Whoever started it wants it so."""
    target = lab.start("receiver", "ears", flags=NO_WINDOW | NEW_GROUP)
    assert target.heard("ear CTRL_C_EVENT: ignored since before us") == 1, target.texts


# --------------------------------------------------------------------------- the ends


def test_end_of_standard_input_is_a_request_by_choice(lab: Lab) -> None:
    """Nothing is read from it."""
    target = lab.start("receiver", "loop", 50, "stdin=True", flags=NO_WINDOW, stdin=subprocess.PIPE)
    assert target.popen is not None
    assert target.popen.stdin is not None
    target.popen.stdin.close()
    assert cleaned(target, "stdin", "stdin")


def test_end_of_the_parent_is_a_request_by_choice(lab: Lab) -> None:
    """The child cleans up when nobody is left to ask it."""
    root = lab.start("receiver", "orphan", 50, flags=NO_WINDOW, ready=False)
    child = lab.child(root)
    child.wait_for(f"ready pid={child.pid}")
    assert ask(root) == "delivered"
    assert child.wait_exit() == STOPPED_BY_ITSELF
    assert child.heard("asked parent parent") == 1


# --------------------------------------------------------------------------- services


def test_service_hands_its_controls_on(services: Services) -> None:
    """The manager learns that it is stopping, how far it is, and that it has stopped; and nobody ends it."""
    service = services.start("service", 300, program="receiver")
    assert service.state == RUNNING
    assert service.process.heard("ear stop event: ") == 1
    with handles.open_pin(service.pid) as pin:
        receipt = endtask_services.send_stop(pin, Request("SERVICE_STOP", "service", 1), 0.0)
    assert receipt.status == "delivered"
    service.process.wait_for("asked service SERVICE_CONTROL_STOP")
    assert service.state in {STOP_PENDING, STOPPED}
    service.process.wait_for("cleaned up")
    service.process.wait_for("dispatcher returned")
    assert service.state == STOPPED
    assert service.process.wait_exit() == 0


def test_service_that_refuses_at_once_is_not_reported_as_stopping() -> None:
    """The handler and the refusal are two threads: whoever is later, the manager hears that the service runs."""
    stop, told = Stop(), []

    class Told(service_.Control):
        def report(self, state: int, exit_code: int | None = None) -> bool:
            told.append(state)
            return super().report(state, exit_code)

    control = Told(stop)
    control.report(service_.RUNNING)
    stop.add_waker(lambda: stop.veto("recording"))
    assert control.control(1) == 0
    assert not stop.asked
    assert told[-1] == service_.RUNNING


@pytest.mark.needs_windows("here services share the session of the user")
def test_service_ignores_that_somebody_logs_off(services: Services) -> None:
    """Services hear that of every user."""
    service = services.start("service", 0, program="receiver")
    assert ctrl(service.process, 5) == "delivered"
    later(service.process)
    assert service.process.heard("asked") == 0, service.process.texts
    assert ctrl(service.process, 6) == "delivered"
    service.process.wait_for("asked console CTRL_SHUTDOWN_EVENT")


# --------------------------------------------------------------------------- who may ask


def test_only_owner_and_administrators_may_touch_the_event(lab: Lab) -> None:
    """By its access control list, which inherits nothing."""
    target = lab.start("receiver", "loop", flags=NO_WINDOW)
    for tail in ("", ".ack"):
        handle = _open_event(0x20000, False, f"Local\\{stop_event.name(ref_of(target))}{tail}")  # READ_CONTROL
        assert handle, ctypes.get_last_error()
        text = security_of(handle)
        aces = [ace.split(";") for ace in text.partition("(")[2].rstrip(")").split(")(")]
        assert {(a[0], a[2], a[5]) for a in aces} >= {("A", "0x100002", "OW")}
        assert {(a[0], a[5]) for a in aces} == {("A", "BA"), ("A", "OW"), ("A", "SY")}
        assert text.startswith("D:P")
        _winapi.CloseHandle(handle)


def test_name_that_somebody_else_has_taken_is_not_used(lab: Lab) -> None:
    """A stranger's event means nothing; the program hears everything else, and says so."""
    target = lab.start("receiver", "ears", 50, flags=NO_WINDOW | SUSPENDED)
    taken = _create_event(None, True, False, f"Local\\{stop_event.name(ref_of(target))}")
    assert taken
    target.resume()
    target.wait_for("ready")
    assert [t for t in target.texts if "stop event" in t] == [
        f"ear stop event: Local\\{stop_event.name(ref_of(target))} is not used: somebody else has that name (error 183)"
    ]
    assert ask(target) == "delivered"  # to the stranger
    assert taskkill(target).returncode == 0
    assert cleaned(target, "window", "WM_CLOSE")
    _winapi.CloseHandle(taken)
