"""What the pages show is what the command says: their sessions of Windows, typed again, and compared line by line.

Numbers, the user and who started a program are this run's own, so they are left out of the comparison; everything else must be the same.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.windows.lab import DETACHED, NO_WINDOW, OWN_CONSOLE, ROOT, UNDER_WINE, Lab
from tests.windows.lab_services import Services
from tests.windows.test_foreign_programs import Editor, start
from tests.windows.truth import endtask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.windows.lab import Target

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not UNDER_WINE, reason="the pages show what Wine says"),
]
PROMPT = "C:\\> "
PAGES = ("README.md", "docs/howto/windows.md", "docs/howto/windows-examples.md", "docs/howto/taskkill.md")
# What the target programs are called on the pages.
NAMES = {
    "stubborn": "etwindow",
    "background": "etwindow",
    "two-windows": "etwindow",
    "worker": "etconsole",
    "report-server": "etservice",
}


def sessions(page: str) -> Iterator[list[tuple[str, list[str]]]]:
    """Return the sessions of a page: commands with what they answer."""
    for block in re.findall(r"```text\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL):
        session: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith(PROMPT):
                session.append((line.removeprefix(PROMPT), []))
            elif session:
                session[-1][1].append(line)
        if any(answer for _, answer in session):
            yield session


SESSIONS = [(page, number, session) for page in PAGES for number, session in enumerate(sessions(page))]


# --------------------------------------------------------------------------- the stage


class Stage:
    """The programs that the pages speak of.

    Attributes:
        lab: Starts them.
        numbers: What stands for a number of the page in a command: pids, ports.
    """

    def __init__(self, lab: Lab, services: Services) -> None:
        """Give the targets the names that they have on the pages."""
        self.lab, self.services, self.numbers = lab, services, dict[str, str]()
        folder = lab.folder / "named"
        shutil.copytree(lab.targets, folder)
        for name, program in NAMES.items():
            shutil.copy(folder / f"{program}.exe", folder / f"{name}.exe")
        lab.targets = folder

    def stubborn(self, _words: str) -> None:
        """A window that swallows every request."""
        self.lab.start("stubborn", "swallow")

    def stubborn_asked_before(self, words: str) -> None:
        """The same, and it has been asked in vain."""
        self.stubborn(words)
        for _ in range(4):
            endtask("stop", "stubborn.exe", "-t", "2s")

    def worker(self, words: str) -> None:
        """A console program in a console of its own."""
        self._called(words, self.lab.start("worker", "graceful", 200, flags=OWN_CONSOLE))

    def background(self, _words: str) -> None:
        """A program of the Windows subsystem without windows."""
        self.lab.start("background", "none")

    def pythonw(self, _words: str) -> None:
        """The same in Python."""
        self.lab.start("pythonw", "plain", flags=DETACHED)

    def two_windows(self, words: str) -> None:
        """One that closes, and one that does not."""
        self.lab.start("two-windows", "two")
        self.stubborn(words)

    def notepad(self, _words: str) -> None:
        """With nothing to lose."""
        start(self.lab, "notepad")

    def unsaved(self, _words: str) -> None:
        """With a text that nobody has saved."""
        Editor(self.lab, "notepad")

    def unsaved_and_asked(self, words: str) -> None:
        """The same, and its question is on the screen."""
        self.unsaved(words)
        endtask("stop", "notepad", "-t", "1s")

    def server(self, _words: str) -> None:
        """Python's web server on a console that nobody sees."""
        self._serve(0)

    def unsaved_and_server(self, words: str) -> None:
        """Both."""
        self.unsaved(words)
        self._called(words, self._serve(0))

    def servers(self, _words: str) -> None:
        """Two of them on one console, with the program that started them."""
        code = (
            "import os, subprocess, sys\n"
            "line = [sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory']\n"
            "both = [subprocess.Popen([*line, os.path.join(sys.argv[1], str(8000 + n))], stdout=subprocess.PIPE,"
            " stderr=subprocess.DEVNULL) for n in (1, 2)]\n"
            "for each in both: each.stdout.readline()\n"
            "print('ready', flush=True)\n"
            "for each in both: each.wait()\n"
        )
        self._python("-c", code, str(self.lab.folder))
        self.numbers["http.server 8001"] = "8001"

    def ingest(self, _words: str) -> None:
        """A program with a receiver, which says what it does."""
        code = (
            "import time\nfrom endtask_receiver import listen\n"
            "with listen(grace_s=8, name='ingest') as stop:\n"
            "    print('ready', flush=True)\n"
            "    stop.wait()\n"
            "    for done in range(1, 6):\n"
            "        stop.tell('draining', done=done, total=5)\n"
            "        if done == 3: stop.need(6, 'flushing')\n"
            "        time.sleep(1)\n"
        )
        (self.lab.folder / "ingest.py").write_text(code)
        self._python(str(self.lab.folder / "ingest.py"))

    def report_server(self, _words: str) -> None:
        """A service that takes a moment to stop."""
        self.services.start("slow", 300, program="report-server")

    def _serve(self, port: int) -> Target:
        return self._python("-u", "-m", "http.server", str(port), "--bind", "127.0.0.1")

    def _python(self, *words: str) -> Target:
        """Start Python on a console that nobody sees, and wait for its first line."""
        line = [sys.executable, *words]
        popen = subprocess.Popen(
            line, creationflags=NO_WINDOW, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        target = self.lab.adopt(popen, self.lab.words("etconsole", "none")[1], None)
        assert popen.stdout is not None
        assert popen.stdout.readline()
        return target

    def _called(self, words: str, target: Target) -> None:
        """Remember that the page calls it by another pid."""
        for number in re.findall(r"(?:stop|/pid) (\d+)", words):
            self.numbers[number] = str(target.pid)


def scene(session: list[tuple[str, list[str]]]) -> Callable[[Stage, str], None] | None:
    """Return what must be there before a session is typed; None for one that is typed elsewhere, with its own test."""
    first = session[0][0]
    words = "\n".join(command for command, _ in session)
    table: list[tuple[str, Callable[[Stage, str], None]]] = [
        (r"notepad -t 5s\n(.*\n)*.*http\.server", Stage.unsaved_and_server),
        (r"taskkill /im notepad.exe /w 3\n(.*\n)*.*/pid", Stage.unsaved_and_server),
        (r"why stubborn", Stage.stubborn_asked_before),
        (r"two-windows", Stage.two_windows),
        (r"stubborn", Stage.stubborn),
        (r"background", Stage.background),
        (r"pythonw", Stage.pythonw),
        (r"notepad -t 5s", Stage.unsaved),
        (r"stop notepad --force-after", Stage.unsaved_and_asked),
        (r"notepad", Stage.notepad),
        (r"--no-inject -t", Stage.servers),
        (r"http\.server", Stage.server),
        (r"ingest", Stage.ingest),
        (r"report-server", Stage.report_server),
        (r"(taskkill /pid|endtask stop) \d+", Stage.worker),
    ]
    return next((prepare for pattern, prepare in table if re.search(pattern, words) or re.search(pattern, first)), None)


# --------------------------------------------------------------------------- typing and comparing


def type_in(stage: Stage, command: str, code: int) -> tuple[int, list[str]]:
    """Type one command; return its exit code and its lines."""
    if command == "echo %ERRORLEVEL%":
        return code, [str(code)]
    for shown, real in stage.numbers.items():
        command = re.sub(rf"(?<![\w/]){re.escape(shown)}\b", real, command)
    line = command if not command.startswith("endtask ") else f'"{sys.executable}" -m {command}'
    done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode().splitlines()


def essence(lines: list[str]) -> list[str]:
    """Return what of an answer is not this run's own."""
    found: list[str] = []
    for line in lines:
        text = re.sub(r'("[^"]*"  )?user \S+, up .*', "user", line)  # who and when, and the arguments of test programs
        text = re.sub(r"\(by a thread at CtrlRoutine.*\)$", "(by a thread)", text)  # how soon it came back
        text = re.sub(r"by a thread at CtrlRoutine.*$", "by a thread", text)
        text = re.sub(r"(endtask_receiver |endtask\.stop\.\d+\.)[0-9a-f]+", r"\1", text)
        text = re.sub(r"endtask-test[-\d]+", "a service", text)
        text = " ".join(re.sub(r"\d+(\.\d+)?", "#", text).split())
        said = re.search(r"says: (\w+),", text)  # of progress the newest is shown
        text = f"says {said[1]}" if said else text
        if "may belong to it" in text or text == "":  # whether the neighbour has ended by then
            continue
        if not (said and found and found[-1] == text):
            found.append(text)
    return found


@pytest.mark.parametrize(("page", "number", "session"), SESSIONS, ids=[f"{p[:-3]}-{n}" for p, n, _ in SESSIONS])
def test_a_session_of_the_pages_is_what_is_seen(
    targets: Path, page: str, number: int, session: list[tuple[str, list[str]]]
) -> None:
    """Typed again, it gives the same lines and the same exit codes."""
    prepare = scene(session)
    assert prepare is not None, f"{page}, session {number}: no test knows what it needs"
    with Lab(targets) as lab, Services(lab) as services:
        stage, code = Stage(lab, services), 0
        prepare(stage, "\n".join(command for command, _ in session))
        for command, shown in session:
            code, answer = type_in(stage, command, code)
            assert essence(answer) == essence(shown), "\n".join([command, *answer])
