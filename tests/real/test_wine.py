"""Programs of Windows under Wine: what a signal loses, and what asks them properly, in a prefix of our own."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from .answers import Report, pid_of
from .observer import PATIENCE_S, environment_of, name_of, need, processes, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lab import Lab
    from .observer import Program

pytestmark = [pytest.mark.real, pytest.mark.slow]

_SYSTEM = "C:\\windows\\system32\\"
_REFUSED = 2  # exit code: the words make no sense, or name what is never selected


class Wine:
    """A prefix with a server and a display of its own.

    Attributes:
        env: What programs of this prefix are started with.
    """

    def __init__(self, prefix: str, display: str) -> None:
        quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}  # no questions about .NET and a browser
        self.prefix = prefix
        self.env = {"WINEPREFIX": prefix, "DISPLAY": display, **quiet}

    def run(self, *words: str, **changed: str) -> int:
        """Run a command in the prefix to its end and return its status; Wine's services must not inherit a pipe of ours."""
        env = {**os.environ, **self.env, **changed}
        null = subprocess.DEVNULL
        done = subprocess.run(words, env=env, stdin=null, stdout=null, stderr=null, check=False, timeout=2 * PATIENCE_S)
        return done.returncode

    def window_of(self, pid: int, title: str) -> str:
        """Return the window of a process, waiting for it; Wine tells X the Unix pid (_NET_WM_PID)."""
        return self._xdotool("search", "--sync", "--onlyvisible", "--all", "--pid", str(pid), "--name", title).split()[
            0
        ]

    def titles_of(self, pid: int) -> set[str]:
        """Return the titles of its visible windows."""
        found = self._xdotool("search", "--onlyvisible", "--all", "--pid", str(pid), "--name", ".").split()
        return {self._xdotool("getwindowname", window).strip() for window in found}

    def keys(self, window: str, *words: str) -> None:
        """Send text or keys to a window."""
        self._xdotool(*words[:1], "--window", window, *words[1:])

    def focus(self, window: str) -> None:
        """Give a window the focus, which a window manager would."""
        self._xdotool("windowfocus", window)

    def _xdotool(self, *words: str) -> str:
        env = {**os.environ, **self.env}
        done = subprocess.run(
            ("xdotool", *words), env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        return done.stdout

    def pid_of(self, name: str) -> int:
        """Return the process of this prefix that has that short name."""
        entry = f"WINEPREFIX={self.prefix}".encode()
        for pid, row in processes().items():
            if name_of(pid).startswith(name) and row.state not in "ZX" and entry in environment_of(pid).split(b"\0"):
                return pid
        return 0


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A display that nobody looks at; without one Wine makes no windows."""
    for program in ("wine", "wineserver", "Xvfb", "xdotool"):
        need(program)
    read_end, write_end = os.pipe()
    null = subprocess.DEVNULL
    server = ("Xvfb", "-displayfd", str(write_end), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset")
    with subprocess.Popen(server, pass_fds=(write_end,), stdin=null, stdout=null, stderr=null) as running:
        os.close(write_end)
        try:
            assert select.select([read_end], [], [], PATIENCE_S)[0], "Xvfb says no display"
            yield f":{os.read(read_end, 16).decode().strip()}"
        finally:
            os.close(read_end)
            running.terminate()


@pytest.fixture(scope="module")
def wine(display: str) -> Iterator[Wine]:
    """A prefix that is made once; whatever runs in it at the end is ended by its own server."""
    folder = tempfile.mkdtemp(prefix="endtask-wine-")
    made = Wine(os.path.join(folder, "prefix"), display)
    try:
        assert made.run("wine", "wineboot", "--init", DISPLAY="") == 0  # without a display it is faster
        made.run("wineserver", "--wait")  # the desktop that came up without a display would swallow every window
        made.run(
            "wineserver", "--persistent"
        )  # the server, and the services that come with the next program, belong to no test
        # Without a window manager a managed window waits two seconds for one when it closes.
        key = "HKCU\\Software\\Wine\\X11 Driver"
        assert made.run("wine", "reg", "add", key, "/v", "Managed", "/d", "N") == 0
        yield made
    finally:
        made.run("wineserver", "--kill")  # fails where it has ended already
        made.run("wineserver", "--wait")
        shutil.rmtree(folder)


def _notepad(lab: Lab, wine: Wine) -> Program:
    """Start notepad by its path, so that the process that is started is the program, and wait for its window."""
    program = lab.start("wine", _SYSTEM + "notepad.exe", env=wine.env)
    wine.window_of(program.pid, "Notepad")
    return program


def _as_advised(lab: Lab, program: Program, wait: str = "") -> Report:
    """Run the command that `look` advises, as a shell would read it; *wait* replaces its ten seconds."""
    advice = lab.look(program.pid).seen["forecast"]["advice"][0]
    words = shlex.split(advice.split("`")[1])
    assert words[:2] == ["endtask", "stop"]
    if wait:
        words[-1] = words[-1].removesuffix("/10") + wait
    return lab.stop(*words[2:])


def test_signals_end_it_unasked_and_the_plan_says_so(lab: Lab, wine: Wine) -> None:
    """TERM has no handler in Wine: nothing of the program runs any more."""
    notepad = _notepad(lab, wine)
    seen = lab.look(notepad.pid).seen
    facts = seen["facts"]
    assert facts["name"] == "notepad.exe"
    manager = facts["managers"][0]
    assert (manager["kind"], manager["name"], manager["restarts"]) == ("wine", wine.prefix, "no")
    answers = {p["request"]: p["answer"] for p in seen["forecast"]["predictions"]}
    assert (answers["TERM"], answers["INT"], answers["HUP"]) == ("ends", "ignored", "ends")
    assert "unsaved work is lost" in lab.endtask("plan", notepad.pid).stdout

    report = lab.stop("notepad", "--parent", str(os.getpid()))

    assert report.outcome == "stopped"
    assert notepad.returncode() == -15


def test_the_advice_asks_one_program_by_its_windows(lab: Lab, wine: Wine) -> None:
    """The Windows pid is the right one: of two, the one that was named closes its window and exits by itself."""
    first, second = _notepad(lab, wine), _notepad(lab, wine)
    handle = lab.handle(first.pid)

    report = _as_advised(lab, second)

    assert report.outcome == "stopped"
    assert second.returncode() == 0
    assert not handle.ended


def test_unsaved_text_is_not_lost_by_the_advice(lab: Lab, wine: Wine) -> None:
    """The program asks its user, and the report says that it still runs and why that may be."""
    notepad = _notepad(lab, wine)
    window = wine.window_of(notepad.pid, "Notepad")
    wine.focus(window)
    wine.keys(window, "type", "hello")
    wine.keys(window, "key", "ctrl+f")
    wine.window_of(notepad.pid, "Find")  # keys are taken in order: when this dialog is there, the text is too

    report = _as_advised(lab, notepad, "/1")

    assert report.outcome == "running"
    assert any("may wait for an answer" in reason["text"] for reason in report.target["reasons"])
    until(lambda: "Notepad" in wine.titles_of(notepad.pid))  # the question
    assert lab.stop(notepad.pid).outcome == "stopped"


def test_console_program_is_asked_with_ctrl_c(lab: Lab, wine: Wine) -> None:
    """INT becomes CTRL_C_EVENT, so that it exits by itself; Wine has no command for what has no window."""
    read_end, write_end = os.pipe()
    try:
        shell = lab.start("wine", _SYSTEM + "cmd.exe", env=wine.env, stdin=read_end)
        shell.expect(b"Microsoft Windows")
        seen = lab.look(shell.pid).seen
        assert seen["facts"]["managers"][0]["stop"] == ""
        assert next(p for p in seen["forecast"]["predictions"] if p["request"] == "INT")["answer"] == "asks"

        report = _as_advised(lab, shell)

        assert report.outcome == "stopped"
        assert shell.returncode() == 0
    finally:
        os.close(read_end)
        os.close(write_end)


def test_file_selects_the_program_and_not_the_server_that_holds_it_too(lab: Lab, wine: Wine) -> None:
    """The server keeps the files of all programs: to stop it would take them all."""
    path = lab.path("held.txt")
    read_end, write_end = os.pipe()
    try:
        shell = lab.start("wine", _SYSTEM + "cmd.exe", "/c", f"pause > Z:{path}", env=wine.env, stdin=read_end)
        until(lambda: "Press any key" in lab.read("held.txt"))
        assert lab.look(f"file:{path}").seen["facts"]["ref"] == lab.look(shell.pid).seen["facts"]["ref"]
        assert lab.stop(f"file:{path}").outcome == "stopped"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_what_wine_runs_for_all_programs_is_refused(lab: Lab, wine: Wine) -> None:
    """The server, the services and the desktop; the sentence names the prefix."""
    notepad = _notepad(lab, wine)
    for name in ("wineserver", "services.exe", "explorer.exe", "winedevice.exe"):
        pid = wine.pid_of(name)
        assert pid, name
        done = lab.endtask("stop", pid)
        assert (done.returncode, wine.prefix in done.stderr) == (_REFUSED, True), done.stderr
        assert wine.pid_of(name) == pid
    assert lab.stop(notepad.pid).outcome == "stopped"


def test_launcher_owns_its_program_and_nothing_of_wines(lab: Lab, wine: Wine) -> None:
    """`wine notepad` is start.exe with notepad.exe in its session; the services that came up with them are not suspected."""
    launcher = lab.start("wine", "notepad", env=wine.env)
    program = until(lambda: wine.pid_of("notepad.exe"))
    wine.window_of(program, "Notepad")
    look = lab.look(launcher.pid)
    assert look.seen["forecast"]["ask_instead"] == program

    report = lab.stop(launcher.pid)

    assert report.outcome == "stopped"
    assert {pid_of(m["ref"]) for m in report.target["members"] if m["receipts"]} == {launcher.pid, program}


def test_what_a_program_has_started_is_never_a_silent_success(lab: Lab, wine: Wine) -> None:
    """Wine shows no parents: what may have come from it is named, and left alone."""
    lab.start("wine", "cmd", "/c", "start", "/wait", "notepad", env=wine.env)
    program = until(lambda: wine.pid_of("notepad.exe"))
    handle = lab.handle(program)

    report = lab.stop(wine.pid_of("cmd.exe"))

    assert report.outcome == "unproven"
    assert program in {pid_of(s["ref"]) for s in report.target["suspects"]}
    assert not handle.ended


def test_owned_program_takes_down_what_wine_started_for_it(lab: Lab, wine: Wine) -> None:
    """The first program of a prefix starts its server and services: they end with it, and TERM would have left one behind."""
    wine.run("wineserver", "--kill")
    wine.run("wineserver", "--wait")
    variables = [f"{name}={value}" for name, value in wine.env.items()]
    try:
        done = lab.endtask("run", "--", "env", *variables, "wine", "cmd", "/c", "exit")
        assert done.returncode == 0, done.stderr
        assert not wine.pid_of("winedevice.exe")
    finally:
        wine.run("wineserver", "--persistent")
