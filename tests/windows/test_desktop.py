"""Windows: what is seen of them, and the requests that go through them."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import desktop, handles, table, window_list
from endtask._backends.windows.winapi import kernel32, user32
from endtask.errors import AccessDeniedError, TargetError
from endtask.model import Request, Window
from tests.windows.lab import DETACHED, PATIENCE_S, STOPPED_BY_ITSELF, UNDER_WINE

if TYPE_CHECKING:
    from types import FrameType

    from endtask.model import Receipt
    from tests.windows.lab import Lab, Target

WM_CLOSE = Request("WM_CLOSE", "window", 0x10)
WM_CLOSE_UNATTENDED = Request("WM_CLOSE", "window", 0x10, "unattended")
WM_ENDSESSION = Request("WM_ENDSESSION", "window", 0x16)
WM_QUIT = Request("WM_QUIT", "window", 0x12)


def send(target: Target, request: Request) -> Receipt:
    """Send one request through a pin of its own."""
    with handles.open_pin(target.pid) as pin:
        return desktop.send_window(pin, request, 1.5)


def by_title(target: Target) -> dict[str, Window]:
    """Return the windows of a target that have a title."""
    return {w.title: w for w in desktop.windows(target.pid) if w.title}


# --------------------------------------------------------------------------- what is seen


def test_no_python_runs_while_windows_are_listed(lab: Lab) -> None:
    """Ctrl+C would be raised in it, and ctypes prints and forgets what is raised in a callback: the interrupt would be lost."""
    lab.start("etwindow", "owned")
    ran: list[str] = []

    def note(frame: FrameType, event: str, _about: object) -> None:
        if event == "call":
            ran.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        found = window_list.top_level()
    finally:
        sys.setprofile(None)
    assert len(found) > 1
    assert ran == ["top_level", "_collect", "<lambda>"]


def test_every_window_is_seen_with_its_role(lab: Lab) -> None:
    """Visible, hidden, owned, tool and disabled windows are all listed, child windows are not."""
    target = lab.start("etwindow", "owned")
    seen = by_title(target)
    assert {t: w.role for t, w in seen.items() if w.role != "helper"} == {
        "owner": "hidden",
        "owned": "owned",
        "tool": "tool",
        "disabled": "main",
    }
    assert (seen["owned"].owner, seen["owned"].thread) == (seen["owner"].handle, seen["owner"].thread)
    assert [w.enabled for w in (seen["owned"], seen["tool"], seen["disabled"])] == [True, True, False]
    assert seen["owner"].class_name == "endtask target"


def test_a_message_only_window_is_seen_as_what_it_is(lab: Lab) -> None:
    """EnumWindows does not list it."""
    target = lab.start("etwindow", "message-only")
    assert by_title(target)["message only"].role == "message-only"


@pytest.mark.parametrize("mode", ["none", "queue"])
def test_a_program_without_windows_has_none(lab: Lab, mode: str) -> None:
    """What the system made for it does not count."""
    assert [w for w in desktop.windows(lab.start("etwindow", mode).pid) if w.role != "helper"] == []


def test_nobody_has_no_windows() -> None:
    """A pid that nobody has is no error."""
    assert desktop.windows(999_996) == ()


def test_a_dialog_is_read_with_its_texts_and_buttons(lab: Lab) -> None:
    """The question that a person sees, in words."""
    target = lab.start("etwindow", "dialog-open")
    (dialog,) = [w for w in desktop.windows(target.pid) if w.role == "dialog"]
    assert (dialog.title, dialog.texts) == ("etwindow", ("Save changes to Untitled?",))
    assert dialog.buttons == ("Yes", "No", "Cancel")
    assert dialog.owner == by_title(target)["main"].handle
    assert not by_title(target)["main"].enabled


def test_titles_and_their_owners(lab: Lab) -> None:
    """Wildcards, any case; a hidden window has no title that a person could mean."""
    target = lab.start("etwindow", "close", text="Quarter [3] *.txt")
    hidden = lab.start("etwindow", "hidden")
    assert desktop.titles(target.pid) == ("Quarter [3] *.txt",)
    assert desktop.titles(hidden.pid) == ()
    for pattern in ("Quarter [3] *.txt", "quarter*", "*[3]*", "QUARTER ?3? ?.TXT", "*"):
        assert target.pid in desktop.title_owners(pattern), pattern
    for pattern in ("quarter", "*4*", "", "Quarter [3] ?", "hidden"):
        assert target.pid not in desktop.title_owners(pattern), pattern
    assert hidden.pid not in desktop.title_owners("hidden")


# --------------------------------------------------------------------------- does it answer


def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets how long each question to a window may wait, in milliseconds: on a busy machine a clock would tell of others."""
    waits_ms: list[int] = []
    ask = window_list.ask

    def note(window: int, message: int, w: int, l: int, timeout_ms: int) -> tuple[int | None, int]:  # noqa: E741
        waits_ms.append(timeout_ms)
        return ask(window, message, w, l, timeout_ms)

    monkeypatch.setattr(window_list, "ask", note)
    return waits_ms


def answers(target: Target) -> bool:
    """Return whether a program answers its windows, however busy the machine is; what it was sent before it has handled then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_list, "_PROBE_MS", int(PATIENCE_S * 1000))
        patch.setattr(window_list, "_PROBES_S", PATIENCE_S)
        return desktop.hung(desktop.windows(target.pid)) is False


def test_a_program_that_answers_does_not_hang(lab: Lab) -> None:
    """One question, answered at once."""
    target = lab.start("etwindow", "swallow")
    assert answers(target)
    hidden = lab.start("etwindow", "hidden")
    assert answers(hidden)


def test_a_hung_program_is_known_within_a_second(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before Windows itself calls it hung, which takes five seconds."""
    target = lab.start("etwindow", "hang")
    seen = desktop.windows(target.pid)
    waits_ms = limits(monkeypatch)
    assert desktop.hung(seen) is True
    assert 0 < sum(waits_ms) < 1000


def test_a_suspended_program_does_not_answer_either(lab: Lab) -> None:
    """Its windows are there and dead; that it is suspended is another fact."""
    target = lab.start("etwindow", "close")
    target.suspend()
    assert desktop.hung(desktop.windows(target.pid)) is True
    target.resume()
    assert answers(target)


def test_without_a_window_nobody_can_be_asked() -> None:
    """None is neither yes nor no."""
    assert desktop.hung(()) is None
    assert desktop.hung([Window(0x7FFFFFF0, role="main", visible=True)]) is None  # it is gone


# --------------------------------------------------------------------------- WM_CLOSE


def test_wm_close_ends_a_program_with_a_window(lab: Lab) -> None:
    """Once, to its window, and the receipt says so."""
    target = lab.start("etwindow", "close")
    receipt = send(target, WM_CLOSE)
    assert (receipt.request, receipt.status, receipt.at_s) == ("WM_CLOSE", "delivered", 1.5)
    assert receipt.detail == 'to 1 window "main"'
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard("WM_CLOSE") == 1


def test_wm_close_goes_to_every_main_window(lab: Lab) -> None:
    """A program with two windows is closed by closing both."""
    target = lab.start("etwindow", "two")
    receipt = send(target, WM_CLOSE)
    assert receipt.status == "delivered"
    assert receipt.detail.startswith("to 2 windows ")
    assert target.wait_exit() == STOPPED_BY_ITSELF


def test_a_program_of_the_console_subsystem_with_a_window_is_asked_the_same_way(lab: Lab) -> None:
    """What counts is the window."""
    target = lab.start("etconsole", "window")
    assert send(target, WM_CLOSE).status == "delivered"
    assert target.wait_exit() == STOPPED_BY_ITSELF


def test_a_program_that_swallows_wm_close_keeps_all_its_windows(lab: Lab) -> None:
    """The helper windows of the system are not asked: WM_CLOSE would destroy the input method's (facts: finding 7)."""
    target = lab.start("etwindow", "swallow")
    before = {(w.handle, w.class_name, w.visible) for w in target.windows}
    assert send(target, WM_CLOSE).status == "delivered"
    target.wait_for("WM_CLOSE")
    assert answers(target)  # it has handled everything that was sent
    assert {(w.handle, w.class_name, w.visible) for w in target.windows} == before
    if UNDER_WINE:
        assert "IME" in {name for _handle, name, _visible in before}  # else this test shows nothing


def test_wm_close_opens_the_question_once_and_does_not_answer_it(lab: Lab) -> None:
    """A second WM_CLOSE would press Cancel (facts: finding 6): while the question is open, none is sent, whoever asks."""
    target = lab.start("etwindow", "dialog")
    assert send(target, WM_CLOSE).status == "delivered"
    target.wait_for("dialog open")
    receipt = send(target, WM_CLOSE)
    assert receipt.status == "impossible"
    expected = 'a dialog "etwindow" ("Save changes to Untitled?") with [Yes], [No], [Cancel] waits for a person'
    assert receipt.detail.startswith(expected)
    assert send(target, WM_CLOSE).status == "impossible"
    assert answers(target)
    assert (target.heard("WM_CLOSE"), target.heard("answer")) == (1, 0)
    assert [w.role for w in desktop.windows(target.pid) if w.class_name == "#32770"] == ["dialog"]


def test_unattended_wm_close_goes_past_a_dialog_to_the_window_behind_it(lab: Lab) -> None:
    """Nobody sits there to answer; the dialog itself is not answered by us either."""
    target = lab.start("etwindow", "dialog-open")
    receipt = send(target, WM_CLOSE_UNATTENDED)
    assert (receipt.status, receipt.detail) == ("delivered", 'to 1 window "main"')
    target.wait_for("WM_CLOSE")
    assert target.heard("answer") == 0


def test_a_program_that_hides_is_seen_to_have_hidden(lab: Lab) -> None:
    """To the tray: it answers, and its window is not visible any more."""
    target = lab.start("etwindow", "hide")
    assert send(target, WM_CLOSE).detail == 'to 1 window "main"'
    target.wait_for("hidden")
    assert by_title(target)["main"].role == "hidden"
    assert answers(target)


def test_a_program_with_hidden_windows_only_is_asked_by_those(lab: Lab) -> None:
    """There is nothing else that could be asked."""
    target = lab.start("etwindow", "hidden")
    receipt = send(target, WM_CLOSE)
    assert (receipt.status, receipt.detail) == ("delivered", 'to 1 hidden window "hidden"')
    assert target.wait_exit() == STOPPED_BY_ITSELF


def test_visible_windows_are_asked_and_hidden_ones_left_alone(lab: Lab) -> None:
    """A window that a hidden one owns is a main window to whoever sees it."""
    target = lab.start("etwindow", "owned")
    receipt = send(target, WM_CLOSE)
    assert receipt.status == "delivered"
    for title in ("owned", "tool", "disabled"):
        target.wait_for(f'WM_CLOSE "{title}"')
    assert answers(target)
    assert target.heard('WM_CLOSE "owner"') == 0
    assert send(target, WM_CLOSE).detail == 'to 1 hidden window "owner"'
    assert target.wait_exit() == STOPPED_BY_ITSELF


@pytest.mark.parametrize("mode", ["message-only", "none", "queue"])
@pytest.mark.parametrize("request_", [WM_CLOSE, WM_ENDSESSION])
def test_without_a_window_it_is_impossible_and_nothing_is_sent(lab: Lab, mode: str, request_: Request) -> None:
    """A message-only window is no window that a person could close."""
    target = lab.start("etwindow", mode)
    receipt = send(target, request_)
    assert receipt.status == "impossible"
    assert receipt.detail.startswith("it has no window that could be asked")
    assert ("message-only" in receipt.detail) == (mode == "message-only")
    assert target.texts == [target.texts[0]]


def test_wm_close_waits_in_the_queue_of_a_suspended_program(lab: Lab) -> None:
    """Delivered means queued: it is handled when the program runs on."""
    target = lab.start("etwindow", "close")
    target.suspend()
    assert send(target, WM_CLOSE).status == "delivered"
    assert target.running
    target.resume()
    assert target.wait_exit() == STOPPED_BY_ITSELF


@pytest.mark.parametrize("request_", [WM_CLOSE, WM_ENDSESSION, WM_QUIT])
def test_a_program_that_has_ended_is_gone(lab: Lab, request_: Request) -> None:
    """Also while its pid can still be opened, because somebody holds a handle."""
    target = lab.start("etwindow", "close")
    with handles.open_pin(target.pid) as pin:
        assert desktop.send_window(pin, WM_CLOSE, 0.0).status == "delivered"
        target.wait_exit()
        receipt = desktop.send_window(pin, request_, 0.0)
    assert (receipt.status, receipt.detail) == ("gone", "it had exited already")


def test_only_the_pinned_process_is_asked(lab: Lab) -> None:
    """Its twin hears nothing."""
    target, twin = lab.start("etwindow", "close"), lab.start("etwindow", "close")
    send(target, WM_CLOSE)
    target.wait_exit()
    assert twin.running
    assert answers(twin)
    assert twin.heard("WM_CLOSE") == 0


# --------------------------------------------------------------------------- the end of the session


def test_the_end_of_the_session_is_announced_and_then_comes(lab: Lab) -> None:
    """A program that saves then, saves and ends."""
    target = lab.start("etwindow", "save")
    receipt = send(target, WM_ENDSESSION)
    assert receipt.status == "delivered"
    assert receipt.detail.startswith('to 1 window "main"; it agreed')
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.texts[1:4] == ["WM_QUERYENDSESSION 0x1", "WM_ENDSESSION 1 0x1", "saved"]


def test_a_veto_is_read_back_and_the_session_goes_on(lab: Lab) -> None:
    """The one message with a yes or no; after a no, the window hears that the session does not end."""
    target = lab.start("etwindow", "veto")
    receipt = send(target, WM_ENDSESSION)
    assert receipt.status == "vetoed"
    assert receipt.detail.startswith('window "main" answered no to WM_QUERYENDSESSION')
    target.wait_for("WM_ENDSESSION 0")
    assert target.heard("WM_ENDSESSION 1") == 0
    assert target.running


@pytest.mark.needs_windows("Wine 8 does not keep the reason that a program gives")
def test_a_veto_comes_with_the_reason_that_the_program_gave(lab: Lab) -> None:
    """ShutdownBlockReasonCreate, read by ShutdownBlockReasonQuery."""
    assert '"etwindow burns a disc"' in send(lab.start("etwindow", "veto"), WM_ENDSESSION).detail


def test_all_windows_are_asked_before_any_hears_the_end(lab: Lab) -> None:
    """Two windows, two questions, then twice the end."""
    target = lab.start("etwindow", "two")
    assert send(target, WM_ENDSESSION).detail.endswith("; all agreed to WM_QUERYENDSESSION")
    target.wait_for("WM_ENDSESSION 1", 2)
    kinds = [text.split()[0] for text in target.texts[1:]]
    assert kinds == ["WM_QUERYENDSESSION"] * 2 + ["WM_ENDSESSION"] * 2
    assert target.running  # its window procedure does nothing about it, which is what the system's own does, too


@pytest.mark.parametrize("mode", ["hang", "suspended"])
def test_a_program_that_does_not_answer_is_not_told_that_the_session_ends(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """No answer is no yes; and we do not wait for it for long."""
    target = lab.start("etwindow", "hang" if mode == "hang" else "save")
    if mode == "suspended":
        target.suspend()
    waits_ms = limits(monkeypatch)
    receipt = send(target, WM_ENDSESSION)
    assert receipt.status == "failed"
    assert "did not answer WM_QUERYENDSESSION within 1 s" in receipt.detail
    assert waits_ms == [1000]
    if mode == "suspended":
        target.resume()
        target.wait_for("WM_ENDSESSION 0")  # it was told at once that the session goes on
        assert target.heard("saved") == 0


def test_the_question_of_an_open_dialog_does_not_hinder_the_end_of_the_session(lab: Lab) -> None:
    """Its message loop hands on the messages of the other windows."""
    target = lab.start("etwindow", "dialog-open")
    assert send(target, WM_ENDSESSION).status == "delivered"
    target.wait_for("WM_ENDSESSION 1")
    assert target.heard("answer") == 0


# --------------------------------------------------------------------------- WM_QUIT


@pytest.mark.parametrize("mode", ["close", "swallow", "hide", "hidden", "queue", "message-only"])
def test_wm_quit_leaves_the_message_loop(lab: Lab, mode: str) -> None:
    """Whatever the program thinks of WM_CLOSE, and without any of it."""
    target = lab.start("etwindow", mode)
    receipt = send(target, WM_QUIT)
    assert receipt.status == "delivered"
    assert receipt.detail.endswith("with a message queue")
    assert target.wait_exit() == STOPPED_BY_ITSELF
    assert target.heard("WM_CLOSE") == 0


@pytest.mark.parametrize("request_", [WM_QUIT, Request("WM_QUIT", "window", 0x12, "unattended")])
def test_wm_quit_is_refused_while_a_dialog_is_open(lab: Lab, request_: Request) -> None:
    """It would answer the question as no button does, and lose what it asked about."""
    target = lab.start("etwindow", "dialog-open")
    receipt = send(target, request_)
    assert receipt.status == "impossible"
    assert '"Save changes to Untitled?"' in receipt.detail
    assert "WM_QUIT would answer it" in receipt.detail
    assert answers(target)
    assert target.heard("answer") == 0


def test_wm_quit_needs_a_message_queue(lab: Lab) -> None:
    """A console program has none."""
    target = lab.start("etconsole", "none")
    receipt = send(target, WM_QUIT)
    assert (receipt.status, receipt.detail) == ("impossible", "none of its threads has a message queue")
    assert target.running


# --------------------------------------------------------------------------- the rules, without any window


def window(handle: int, role: str = "main", **fields: object) -> Window:
    """Return a window of thread 1."""
    defaults = {"visible": role != "hidden", "thread": 1, "title": f"w{handle}"}
    return Window(handle, role=role, **{**defaults, **fields})  # type: ignore[arg-type]  # a shorthand of the tests


def test_a_window_that_is_disabled_for_reasons_of_the_program_is_asked() -> None:
    """Only a dialog's own thread is held by it."""
    disabled, other = window(1, enabled=False), window(2, thread=2)
    dialog = window(3, "dialog", owner=2, thread=2)
    assert desktop.close_targets([disabled])[0] == [disabled]
    assert desktop.close_targets([disabled, other, dialog])[0] == [disabled, other]
    held = window(2, thread=2, enabled=False)
    assert desktop.close_targets([disabled, held, dialog])[0] == [disabled]


def test_windows_of_the_system_are_never_asked() -> None:
    """Not even if there is nothing else."""
    system = [window(1, "helper"), window(2, "console"), window(3, "message-only", visible=False)]
    targets, why = desktop.close_targets(system)
    assert targets == []
    assert "1 message-only and that of its console" in why


def test_a_dialog_without_an_owner_is_never_asked() -> None:
    """It would be answered."""
    assert desktop.close_targets([window(1, "dialog"), window(2, "hidden")])[0] == []


def test_long_lists_of_windows_are_cut() -> None:
    """Three titles are enough."""
    assert desktop.in_words([window(n) for n in range(5)]) == '5 windows "w0", "w1", "w2", ...'
    assert desktop.in_words([window(1, title="")]) == "1 window"


@pytest.mark.parametrize(
    ("class_name", "helper"),
    [
        ("IME", True),
        ("MSCTFIME UI", True),
        ("PseudoConsoleWindow", True),
        ("#32768", True),
        ("#32770", False),
        (".NET-BroadcastEventWindow.4.0.0.0.1.0", True),
        ("ConsoleWindowClass", False),
        ("Notepad", False),
        ("", False),
    ],
)
def test_classes_that_the_system_makes(class_name: str, helper: bool) -> None:
    """Closing them destroys them and tells the program nothing."""
    assert window_list.is_helper(class_name) is helper


# --------------------------------------------------------------------------- windows of other shapes


class Odd:
    """A program of `odd_windows.py`."""

    def __init__(self, lab: Lab, mode: str, *words: str) -> None:
        """Start it, and wait until it has said which window it made, if it says so."""
        line = [sys.executable, str(Path(__file__).with_name("odd_windows.py")), mode, *words]
        self.popen = subprocess.Popen(line, stdout=subprocess.PIPE, creationflags=DETACHED)
        event = kernel32.CreateEventW(None, False, False, None)
        assert event
        self.target = lab.adopt(self.popen, event, None)
        assert self.popen.stdout is not None
        self.window = 0 if mode == "box" else int(self.popen.stdout.readline())

    def shows(self, role: str) -> Window:
        """Return its first window of a role, as soon as it has one."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for seen in desktop.windows(self.target.pid):
                if seen.role == role:
                    return seen
            assert self.target.running
            time.sleep(0.01)  # a window that appears makes no noise
        raise AssertionError([w for w in desktop.windows(self.target.pid) if w.role != "helper"])


def test_a_program_that_is_nothing_but_a_message_box_is_closed_like_a_window(lab: Lab) -> None:
    """Closing it is what a person would do to end the program."""
    odd = Odd(lab, "box")
    box = odd.shows("main")
    assert (box.title, box.class_name) == ("A question", "#32770")
    assert send(odd.target, WM_QUIT).status == "impossible"  # it would answer it
    assert send(odd.target, WM_CLOSE).status == "delivered"
    assert odd.target.wait_exit() == 2  # IDCANCEL


@pytest.mark.parametrize("mode", ["tray-box", "task-modal"])
def test_a_question_without_an_owner_is_a_dialog(lab: Lab, mode: str) -> None:
    """Beside a hidden window, or with all other windows disabled."""
    odd = Odd(lab, mode)
    dialog = odd.shows("dialog")
    assert (dialog.title, dialog.texts, dialog.owner) == ("A question", ("Really & truly?",), 0)
    assert dialog.buttons == ("Yes", "No", "Cancel")
    receipt = send(odd.target, WM_CLOSE)
    assert receipt.status == "impossible"
    assert "waits for a person" in receipt.detail
    assert odd.target.running


def test_a_palette_is_no_dialog(lab: Lab) -> None:
    """Its owner is enabled: it hinders nobody, and is closed with its owner."""
    odd = Odd(lab, "palette")
    palette = odd.shows("owned")
    assert (palette.title, palette.owner) == ("colours", odd.window)
    assert send(odd.target, WM_CLOSE).detail == 'to 1 window "main"'
    assert odd.target.wait_exit() == 7


def test_a_program_that_asks_the_user_when_it_is_asked_has_not_agreed(lab: Lab) -> None:
    """Some save by a question in the middle of the answer; that is neither yes nor no, and we do not wait for the person."""
    odd = Odd(lab, "asks")
    receipt = send(odd.target, WM_ENDSESSION)
    assert receipt.status == "failed"
    expected = 'window "main" did not answer WM_QUERYENDSESSION but opened a dialog "A question" ("Really & truly?")'
    assert receipt.detail.startswith(expected)
    assert odd.shows("dialog").buttons == ("Yes", "No", "Cancel")


def test_the_frame_around_a_packaged_app_is_a_window_of_the_app(lab: Lab) -> None:
    """Another process owns it; closing it is how a person closes the app."""
    frame = Odd(lab, "frame")
    app = Odd(lab, "app", str(frame.window))
    (seen,) = [w for w in desktop.windows(app.target.pid) if w.role == "main"]
    assert (seen.handle, seen.title) == (frame.window, "an app")
    assert app.target.pid in desktop.title_owners("an app")
    assert frame.target.pid not in desktop.title_owners("an app")
    assert send(app.target, WM_CLOSE).detail == 'to 1 window "an app"'
    assert frame.target.wait_exit() == 7


# --------------------------------------------------------------------------- when it cannot be seen or sent


def test_a_window_that_is_gone_reads_as_nothing() -> None:
    """Window handles are given away anew; one that means nothing is no error."""
    gone = 0x7FFFFFF0
    assert (window_list.owner_pid(gone), window_list.text_of(gone), window_list.class_of(gone)) == (0, "", "")
    assert window_list.ask(gone, 0, 0, 0, 100) == (None, window_list.INVALID_WINDOW)


def test_without_a_desktop_nothing_is_known_of_windows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, never "it has none"; a WHAT by title is refused, a title is left out."""
    target = lab.start("etwindow", "close")

    def refuse(_callback: object, _number: int) -> bool:
        ctypes.set_last_error(5)
        return False

    monkeypatch.setattr(user32, "EnumWindows", refuse)
    with pytest.raises(AccessDeniedError):
        desktop.windows(target.pid)
    with pytest.raises(TargetError, match="no window titles can be read here"):
        desktop.title_owners("*")
    assert desktop.titles(target.pid) == ()
    receipt = send(target, WM_CLOSE)
    assert (receipt.status, receipt.detail) == ("denied", "EnumWindows: access is denied (error 5)")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (5, "denied", "User Interface Privilege Isolation"),
        (1816, "failed", "its message queue is full"),
        (1450, "failed", "PostMessage: there are not enough system resources (error 1450)"),
        (1400, "impossible", "its windows have just been closed"),
    ],
)
def test_a_window_that_cannot_be_asked_is_told_in_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: int, status: str, words: str
) -> None:
    """Denied is not gone, and gone is not denied."""
    target = lab.start("etwindow", "two")

    def refuse(*_arguments: int) -> bool:
        ctypes.set_last_error(error)
        return False

    monkeypatch.setattr(user32, "PostMessageW", refuse)
    receipt = send(target, WM_CLOSE)
    assert receipt.status == status
    assert words in receipt.detail


def test_what_was_asked_before_a_refusal_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request is not hidden."""
    target = lab.start("etwindow", "two")
    post, left = user32.PostMessageW, [1]

    def once(*arguments: int) -> bool:
        if left:
            left.pop()
            return post(*arguments)
        ctypes.set_last_error(5)
        return False

    monkeypatch.setattr(user32, "PostMessageW", once)
    receipt = send(target, WM_CLOSE)
    assert receipt.status == "denied"
    assert "; before that, to 1 window " in receipt.detail


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(5, "denied", "integrity"), (1450, "failed", "WM_QUERYENDSESSION: there are not enough system resources")],
)
def test_an_end_of_session_that_cannot_be_announced_is_told_in_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: int, status: str, words: str
) -> None:
    """And is taken back."""
    target = lab.start("etwindow", "save")
    monkeypatch.setattr(window_list, "ask", lambda *_arguments: (None, error))
    receipt = send(target, WM_ENDSESSION)
    assert receipt.status == status
    assert words in receipt.detail
    target.wait_for("WM_ENDSESSION 0")
    assert target.heard("saved") == 0


def test_a_reason_for_a_veto_is_quoted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system keeps it."""

    def query(_window: int, buffer: object, _size: object) -> bool:
        assert isinstance(buffer, ctypes.Array)
        buffer.value = "burning"
        return True

    monkeypatch.setattr(user32, "ShutdownBlockReasonQuery", query)
    receipt = send(lab.start("etwindow", "veto"), WM_ENDSESSION)
    assert receipt.detail == 'window "main" answered no to WM_QUERYENDSESSION: "burning"'


def test_a_thread_that_refuses_wm_quit_for_another_reason_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Higher integrity, for example."""
    target = lab.start("etwindow", "close")

    def refuse(*_arguments: int) -> bool:
        ctypes.set_last_error(5)
        return False

    monkeypatch.setattr(user32, "PostThreadMessageW", refuse)
    receipt = send(target, WM_QUIT)
    assert (receipt.status, receipt.detail) == ("denied", "PostThreadMessage: access is denied (error 5)")


def test_a_thread_number_that_means_another_process_gets_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of threads are given away anew; the thread is opened and asked whose it is."""
    target, other = lab.start("etwindow", "queue"), lab.start("etwindow", "queue")
    strangers = table.take().thread_ids(other.pid)
    monkeypatch.setattr(table.Snapshot, "thread_ids", lambda _self, _pid: [*strangers, 999_996])
    assert send(target, WM_QUIT).status == "impossible"
    assert target.running
    assert other.running


def test_message_only_windows_are_listed_again_when_one_vanishes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """FindWindowEx cannot go on from a window that is gone."""
    answers = [(8, 0), (None, 1400), (8, 0), (12, 0), (None, 0)]

    def find(_parent: int, _after: int | None, _class: None, _title: None) -> int | None:
        answer, error = answers.pop(0)
        ctypes.set_last_error(error)
        return answer

    monkeypatch.setattr(user32, "FindWindowExW", find)
    assert window_list.message_only() == [8, 12]
