"""Programs that nobody here wrote: those that come with Wine (or Windows), and Python's own web server.

Unsaved text is the measure: it is in the window after every request that is no force, whatever the program does with it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import json
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ctypes import wintypes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import NO_WINDOW, OWN_CONSOLE, UNDER_WINE, windows_of
from tests.windows.truth import Answer, create, endtask, lies

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.windows.lab import Lab, SeenWindow, Target

pytestmark = [pytest.mark.real, pytest.mark.slow]
TEXT = "Dear diary, nobody has saved this."
WM_SETTEXT, WM_GETTEXT, WM_GETTEXTLENGTH, WM_COMMAND, WM_CHAR = 0xC, 0xD, 0xE, 0x111, 0x102
IDCANCEL, IDNO = 2, 7
EDITORS = {"notepad": "Edit", "wordpad": "RICHEDIT20W"}

_user32 = ctypes.WinDLL("user32", use_last_error=True)
_send_message = _user32.SendMessageW
_send_message.restype = ctypes.c_ssize_t
_send_message.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, ctypes.c_void_p)
_post_message = _user32.PostMessageW
_post_message.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
_callback = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
_enum_children = _user32.EnumChildWindows
_enum_children.argtypes = (wintypes.HWND, _callback, wintypes.LPARAM)
_class_name = _user32.GetClassNameW
_class_name.argtypes = (wintypes.HWND, wintypes.LPWSTR, ctypes.c_int)


def _wordpad() -> str:
    path = Path(os.environ["PROGRAMFILES"], "Windows NT", "Accessories", "wordpad.exe")
    if not path.exists():
        pytest.skip("this Windows has no wordpad")
    return str(path)


def start(lab: Lab, *words: str) -> Target:
    """Start a program with windows and wait until it looks at its input."""
    target = create(lambda: lab.run(words))
    target.wait_idle()
    return target


def stop(target: Target, *words: str) -> Answer:
    """Stop a target, and compare every word with what became of it."""
    answer = endtask("stop", target.pid, *words, "--json")
    assert not lies(answer, [target]), f"{lies(answer, [target])}\n{answer}"
    return answer


def child(window: int, class_name: str) -> int:
    """Return the child window of that class."""
    found: list[int] = []

    def see(each: int, _: int) -> bool:
        name = ctypes.create_unicode_buffer(100)
        _class_name(each, name, 100)
        if name.value.lower() == class_name.lower():
            found.append(each)
        return True

    _enum_children(window, _callback(see), 0)
    if not found:
        pytest.skip(f"the editor of this Windows has no field of the class {class_name}")
    return found[0]


class Editor:
    """A program with a window in which text can be written."""

    def __init__(self, lab: Lab, name: str) -> None:
        """Start it and write TEXT, letter by letter, as a person does; so it knows that this is not saved."""
        self.target = start(lab, _wordpad() if name == "wordpad" else name)
        main = next(w for w in self.target.windows if w.visible and not w.owner)
        self.field = child(main.handle, EDITORS[name])
        for letter in TEXT:
            _send_message(self.field, WM_CHAR, ord(letter), None)
        assert self.text == TEXT

    @property
    def text(self) -> str:
        """What its window shows."""
        size = _send_message(self.field, WM_GETTEXTLENGTH, 0, None) + 1
        buffer = ctypes.create_unicode_buffer(size)
        _send_message(self.field, WM_GETTEXT, size, ctypes.addressof(buffer))
        return buffer.value.rstrip("\r\n")

    @property
    def boxes(self) -> list[SeenWindow]:
        """The questions that it shows, the newest first."""
        return [w for w in windows_of(self.target.pid) if w.class_name == "#32770" and w.visible]

    def answer(self, button: int) -> None:
        """Press a button of every question, the newest first, until it is gone."""
        while boxes := self.boxes:
            _send_message(boxes[0].handle, WM_COMMAND, button, None)
            if button == IDNO:
                return


# --------------------------------------------------------------------------- nothing to lose

# Not taskmgr: now and then that of Wine 8 crashes when it closes, and its debugger stays behind.
PROGRAMS = ["notepad", "regedit", "winemine", "wordpad", "winecfg", "oleview", "clock", "winver", "control", "winefile"]


@pytest.mark.skipif(not UNDER_WINE, reason="some of these programs come with Wine only")
def test_programs_with_nothing_to_lose_close_when_asked(lab: Lab) -> None:
    """Ten of them side by side: each is asked by its window, ends by itself, and no force is needed."""
    targets = {name: start(lab, _wordpad() if name == "wordpad" else name) for name in PROGRAMS}
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(targets, pool.map(stop, targets.values()), strict=True))
    for name, answer in answers.items():
        assert (name, answer.outcome, answer.code, answer.sent) == (name, "stopped", 0, ["WM_CLOSE delivered"])
        assert targets[name].exit_code == 0


def test_program_is_found_by_the_title_of_its_window(lab: Lab) -> None:
    """A wildcard over the title, as a person sees it."""
    target = start(lab, "notepad")
    title = next(w.title for w in target.windows if w.visible)
    answer = endtask("stop", f"win:*{title[1:]}", "--json")
    assert not lies(answer, [target]), answer
    assert (answer.outcome, answer.target["what"]) == ("stopped", f"win:*{title[1:]}")


# --------------------------------------------------------------------------- something to lose


def side_by_side(lab: Lab, play: Callable[[Editor], None]) -> None:
    """Do the same with every editor at the same time."""
    editors = [Editor(lab, name) for name in EDITORS]
    with ThreadPoolExecutor(len(editors)) as pool:
        list(pool.map(play, editors))


def test_unsaved_text_is_kept_and_the_question_is_told(lab: Lab) -> None:
    """It asks whether to save; that is quoted with its buttons, nothing more is sent, and nothing is lost."""
    side_by_side(lab, _is_kept)


def _is_kept(editor: Editor) -> None:
    answer = stop(editor.target, "-t", "2s")
    assert (answer.outcome, answer.code, answer.sent) == ("running", 124, ["WM_CLOSE delivered"])
    assert answer.reasons == ["dialog"]
    if UNDER_WINE:
        assert "save" in answer.because("dialog").lower()
        assert "[Yes] [No] [Cancel]" in answer.because("dialog")
    assert len(editor.boxes) == 1
    assert editor.text == TEXT
    # Asked again while the question is there: there is no way to ask, and it is not answered for the person.
    again = stop(editor.target, "-t", "2s")
    assert (again.outcome, again.code, again.sent) == ("unreachable", 77, ["WM_CLOSE impossible"])
    assert again.reasons[0] == "dialog"
    assert len(editor.boxes) == 1
    assert editor.text == TEXT
    editor.answer(IDCANCEL)
    assert editor.text == TEXT


def test_answered_question_lets_the_stop_succeed(lab: Lab) -> None:
    """The question is told while endtask waits; a person answers it, and the program ends by itself, politely asked."""
    editor = Editor(lab, "notepad")
    line = [sys.executable, "-m", "endtask", "stop", str(editor.target.pid), "-t", "60s", "--jsonl"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as command:
        assert command.stdout is not None
        for text in command.stdout:
            if json.loads(text)["kind"] == "waiting":
                break
        assert "Would you like to save the changes?" in json.loads(text)["text"] or not UNDER_WINE
        assert editor.text == TEXT
        editor.answer(IDNO)
        *_events, last = command.stdout.read().splitlines()
    (target,) = json.loads(last)["targets"]
    assert (target["outcome"], command.returncode, editor.target.exit_code) == ("stopped", 0, 0)


def test_nobody_at_the_screen_is_no_reason_to_lose_text(lab: Lab) -> None:
    """`--unattended` announces the end of the session. What the program makes of that is its own affair; the text is there afterwards."""
    side_by_side(lab, _is_kept_unattended)


def _is_kept_unattended(editor: Editor) -> None:
    answer = stop(editor.target, "-t", "3s", "--unattended")
    assert answer.code == 124, answer
    assert "dialog" in answer.reasons
    assert editor.text == TEXT
    assert "TERMINATE delivered" not in answer.sent
    editor.answer(IDCANCEL)
    assert editor.text == TEXT


def test_force_is_what_loses_text(lab: Lab) -> None:
    """It was asked for, comes at its time, and is called what it is."""
    editor = Editor(lab, "notepad")
    answer = stop(editor.target, "--force-after", "1s")
    assert (answer.outcome, answer.code) == ("forced", 10)
    assert answer.sent == ["WM_CLOSE delivered", "TERMINATE delivered"]


# --------------------------------------------------------------------------- console programs


# Wine tells whose a listening socket is only when that process has got its descriptor, which it gets when it reads (dlls/nsiproxy.sys).
READS_ONCE = """
import runpy, socketserver, sys
activate = socketserver.TCPServer.server_activate
def read_once(server):
    activate(server)
    server.socket.setblocking(False)
    try:
        server.socket.recv(1)
    except OSError:
        pass
    server.socket.setblocking(True)
socketserver.TCPServer.server_activate = read_once
runpy.run_module("http.server", run_name="__main__", alter_sys=True)
"""


def web_server(lab: Lab, *first: str) -> tuple[Target, subprocess.Popen[bytes], int]:
    """Start Python's web server in a hidden console; return it when it serves, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-u", *first, str(port), "--bind", "127.0.0.1"]
    popen = subprocess.Popen(line, creationflags=NO_WINDOW, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    server = lab.adopt(popen, lab.words("etconsole", "none")[1], None)
    assert popen.stdout is not None
    assert b"Serving HTTP" in popen.stdout.readline()
    return server, popen, port


def test_web_server_in_a_hidden_console_is_stopped_by_its_port(lab: Lab) -> None:
    """It ends by its own handler, says so, and the port is free."""
    server, popen, port = web_server(lab, "-c", READS_ONCE)
    answer = endtask("stop", f":{port}", "-t", "20s", "--json")
    assert not lies(answer, [server]), answer
    assert (answer.outcome, answer.code, answer.sent) == ("stopped", 0, ["CTRL_C delivered"])
    assert server.exit_code == 0
    assert popen.stdout is not None
    assert b"Keyboard interrupt received" in popen.stdout.read()
    assert [(p["port"], p["free"]) for p in answer.target["ports"]] == [(f":{port}", True)]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_port_whose_owner_is_not_told_is_no_guess(lab: Lab) -> None:
    """Where Wine does not tell whose a port is, endtask says that, touches nobody, and the pid is still a way."""
    server, popen, port = web_server(lab, "-m", "http.server")
    by_port = endtask("stop", f":{port}", "-t", "5s")
    if UNDER_WINE:
        assert (by_port.code, server.running) == (77, True)
        assert "we may not see which process" in by_port.err
        assert stop(server).outcome == "stopped"
    assert server.wait_exit() == 0
    assert popen.stdout is not None
    assert b"Keyboard interrupt received" in popen.stdout.read()


def test_command_shell_and_the_program_that_it_waits_for(lab: Lab) -> None:
    """Both end, each by its own request; the rest of the line is never run."""
    never = lab.folder / "never"
    waits = f'{sys.executable} -u -c "print(1); import time; time.sleep(100)"'
    popen = subprocess.Popen(
        f"cmd /c {waits} & echo x > {never}",
        creationflags=OWN_CONSOLE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shell = lab.adopt(popen, lab.words("etconsole", "none")[1], None)
    assert popen.stdout is not None
    while popen.stdout.readline().strip() != b"1":
        assert shell.running
    answer = endtask("stop", shell.pid, "-t", "20s", "--json")
    assert not lies(answer, [shell]), answer
    assert (answer.outcome, answer.code, answer.sent) == ("stopped", 0, ["CTRL_CLOSE delivered"])
    first, second = answer.target["members"]
    assert (first["name"].lower(), second["name"].lower()) == ("cmd.exe", "python.exe")
    assert [r["request"] for r in second["receipts"]] == ["CTRL_C"]
    assert b"KeyboardInterrupt" in popen.stdout.read()
    assert not never.exists()


# --------------------------------------------------------------------------- what belongs to the system

SYSTEM = (
    ["services.exe", "rpcss.exe", "plugplay.exe", "winedevice.exe"] if UNDER_WINE else ["services.exe", "lsass.exe"]
)


def system_pids() -> dict[str, str]:
    """Return the pid of each of them."""
    done = endtask("tasklist", "/fo", "csv", "/nh")
    rows = [line.strip('"').split('","') for line in done.out.splitlines()]
    return {name: pid for name, pid, *_ in rows if name.lower() in SYSTEM}


def test_what_the_system_lives_by_is_refused() -> None:
    """By name and by pid, also with force and with `--all`; and it runs on."""
    before = system_pids()
    assert sorted(before) == sorted(SYSTEM)
    lines = [words for name, pid in before.items() for words in ([name], [name, "--all", "--now"], [pid, "--now"])]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda words: endtask("stop", *words), lines))
    for words, answer in zip(lines, answers, strict=True):
        assert (answer.code, answer.out) == (2, ""), answer
        assert words[0] in answer.err
        assert "hint: " in answer.err
    assert system_pids() == before
