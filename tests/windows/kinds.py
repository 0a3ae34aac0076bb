"""The kinds of Windows target of the matrix, and what is true about each after `endtask stop PID` with nothing but a budget.

What is expected follows from what a program does, not from what endtask says. Where Wine does something else than Windows, the kind says so in words.

Decision: exact counts of everything that a target can hear. A line that is missing is a receipt that lies; one too many is a request that nobody told of.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.windows.lab import (
    DETACHED,
    HERE,
    NO_WINDOW,
    OWN_CONSOLE,
    STOPPED_BY_ITSELF,
    SUSPENDED,
    UNDER_WINE,
    Lab,
    Target,
    open_handle,
)
from tests.windows.lab_consoles import PseudoConsole
from tests.windows.lab_services import Service, Services
from tests.windows.truth import create

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from tests.windows.truth import Answer

OWN = STOPPED_BY_ITSELF
# Windows: the default handler ends with ExitProcess(STATUS_CONTROL_C_EXIT). Wine: with ExitProcess(0) (dlls/kernelbase/console.c).
DEFAULT = 0 if UNDER_WINE else 0xC000013A
LIVES = None
# Everything that a target writes when it hears something.
REQUESTS = (
    "WM_CLOSE",
    "SC_CLOSE",
    "WM_QUERYENDSESSION",
    "WM_ENDSESSION",
    "control",
    "signal",
    "KeyboardInterrupt",
    "stop heard",
)


@dataclass
class Scene:
    """Where one target is started, with what it needs."""

    lab: Lab
    stack: contextlib.ExitStack
    name: str
    others: list[Target] = field(default_factory=list)
    """Further processes that the observer holds: children, neighbours."""
    service: Service | None = None

    def start(self, program: str, mode: str, number: int = 0, text: str = "", *, flags: int = DETACHED) -> Target:
        """Start a target with an environment that no other scene has: an orphan of another one would be a suspect here, and rightly so."""
        stdin = subprocess.PIPE if mode == "stdin" else None

        def make() -> Target:
            os.environ["ENDTASK_SCENE"] = f"{self.name} {id(self)}"
            return self.lab.start(program, mode, number, text, flags=flags, stdin=stdin, ready=False)

        target = create(make)
        if not flags & SUSPENDED:
            target.wait_for("ready")
        return target

    def batch(self, body: str, mode: str, number: int = 0) -> Target:
        """Start cmd.exe with a target in a command line or a batch file; `{}` stands for the target."""
        words, event = self.lab.words("etconsole", mode, number)
        line = body.format(subprocess.list2cmdline(words))
        if "\n" in line:
            file = self.lab.folder / f"{self.name}.cmd"
            file.write_text(line)
            line = str(file)

        def make() -> subprocess.Popen[bytes]:
            os.environ["ENDTASK_SCENE"] = f"{self.name} {id(self)}"
            return subprocess.Popen(f"cmd /c {line}", creationflags=OWN_CONSOLE, stdin=subprocess.DEVNULL)

        target = self.lab.adopt(create(make), event, words)
        pid = int(target.wait_for("ready").text.partition("=")[2])
        self.others.append(self.hold(pid, target))
        return target

    def hold(self, pid: int, parent: Target) -> Target:
        """Open a handle on a process that a target started, while it is known to run."""
        handle = open_handle(pid, 0x101001)  # SYNCHRONIZE, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE
        child = Target(pid, handle, parent.log, parent.event, owned=[handle])
        self.lab.started.append(child)
        return child

    def children(self, root: Target, count: int) -> Target:
        """Wait for the children of an `ettree` or of a Python tree, and hold them."""
        for number in range(1, count + 1):
            child = self.lab.child(root, number)
            root.wait_for(f"ready pid={child.pid}")
            self.others.append(child)
        return root


@dataclass(frozen=True)
class Kind:
    """One kind of target, and the truth about it.

    Attributes:
        start: Starts it.
        outcome: The word.
        sent: What went to the target itself, with the system's answer, in order.
        heard: How often a line with that beginning stands in its log; every beginning of REQUESTS that is not named must not be there.
        ends: Its exit code; LIVES if it must not end.
        reasons: Codes of the reasons, in order.
        options: More words of the command line.
        more: What else the observer looks at.
        wine: What is different on a real Windows, in words; empty if nothing is.
        words: Whether the answer in words is judged, too.
        with_others: Whether the further processes of the scene belong to it.
        one_log: Whether others write into its log, so that nothing can be counted there.
    """

    start: Callable[[Scene], Target]
    outcome: str
    sent: tuple[str, ...]
    heard: dict[str, int]
    ends: int | None
    reasons: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    more: Callable[[Scene, Target, Answer], None] | None = None
    wine: str = ""
    words: bool = False
    with_others: bool = False
    one_log: bool = False


# --------------------------------------------------------------------------- what else is looked at


def asks_a_person(scene: Scene, target: Target, answer: Answer) -> None:
    """The box is on the screen, unanswered, and the report quotes it."""
    (box,) = [w for w in target.windows if w.class_name == "#32770"]
    assert box.visible
    assert not next(w for w in target.windows if w.handle == box.owner).enabled
    assert target.heard("answer") == 0
    assert '"etwindow Save changes to Untitled?" [Yes] [No] [Cancel]' in answer.because("dialog")


def may_ask_a_person(scene: Scene, target: Target, answer: Answer) -> None:
    """It opened a second window after it was asked, and disabled none: that may be a question, and nothing more is sent."""
    assert sorted(w.title for w in target.windows if w.class_name == "odd") == ["Save?", "main"]
    assert all(w.enabled for w in target.windows if w.class_name == "odd")
    assert '"Save?"' in answer.because("question")


def workers_are_left_to_it(scene: Scene, target: Target, answer: Answer) -> None:
    """Its children run its own program, so they are its affair while it lives; it started one more instead."""
    assert target.heard("child ") == 3
    text = answer.because("not-asked")
    assert f"the same program as {target.pid} ettree.exe" in text


def is_hidden(scene: Scene, target: Target, answer: Answer) -> None:
    """Its window is there and not to be seen."""
    (main,) = [w for w in target.windows if w.title == "main"]
    assert not main.visible


def only_the_owner_is_left(scene: Scene, target: Target, answer: Answer) -> None:
    """What could be seen is closed; the hidden window that owned it is not."""
    assert [(w.title, w.visible) for w in target.windows if w.class_name == "endtask target"] == [("owner", False)]
    assert "hidden ones only" in answer.because("windowless")


def vetoes(scene: Scene, target: Target, answer: Answer) -> None:
    """It gave a reason, and is told that the session goes on."""
    assert target.heard("WM_ENDSESSION 0 ") == 1
    assert "answered no" in answer.because("vetoed")
    if not UNDER_WINE:  # ShutdownBlockReasonCreate does nothing there
        assert "burns a disc" in answer.because("vetoed")


def saves(scene: Scene, target: Target, answer: Answer) -> None:
    """It did what the end of a session is for."""
    assert target.heard("saved") == 1


def closes_when_resumed(scene: Scene, target: Target, answer: Answer) -> None:
    """The request had arrived: it is heard as soon as the threads run again."""
    target.resume()
    assert target.wait_exit() == OWN
    assert target.heard("WM_CLOSE") == 1


def cleans_up_when_resumed(scene: Scene, target: Target, answer: Answer) -> None:
    """The handler had run; the thread that it woke ends the program now."""
    target.resume()
    assert target.wait_exit() == OWN


def left_by_default_handler(scene: Scene, target: Target, answer: Answer) -> None:
    """ExitProcess: its DLLs hear the end, the program itself runs no further."""
    assert (target.heard("detach"), target.heard("atexit")) == (1, 0)


def left_by_itself(scene: Scene, target: Target, answer: Answer) -> None:
    """Its main function returned."""
    assert (target.heard("detach"), target.heard("atexit")) == (1, 1)


def python_cleaned_up(scene: Scene, target: Target, answer: Answer) -> None:
    """Python ended as a program does that was interrupted."""
    assert target.heard("atexit") == 1


def neighbours_heard_nothing(scene: Scene, target: Target, answer: Answer) -> None:
    """Who is on the same console runs on and knows of nothing."""
    for other in scene.others:
        assert other.running
        assert other.log == target.log or not other.heard("control")


def children_were_asked(scene: Scene, target: Target, answer: Answer) -> None:
    """Each by itself, after its parent had ended without doing it."""
    rest = answer.target["members"][1:]
    assert sorted(int(m["ref"].split(":")[0]) for m in rest) == sorted(t.pid for t in scene.others)
    assert [r["request"] for m in rest for r in m["receipts"]] == ["CTRL_C"] * len(rest)


def children_were_left_to_it(scene: Scene, target: Target, answer: Answer) -> None:
    """It ends them itself, so they are not asked."""
    assert target.heard("child ended") == 2
    assert not [r for m in answer.target["members"][1:] for r in m["receipts"]]


def orphans_are_named(scene: Scene, target: Target, answer: Answer) -> None:
    """No tie proves whose they are; that they run is never called a success, and they are not touched."""
    suspects = sorted(int(s["ref"].split(":")[0]) for s in answer.target["suspects"])
    assert suspects == sorted(t.pid for t in scene.others)
    neighbours_heard_nothing(scene, target, answer)


def its_child_ended_itself(scene: Scene, target: Target, answer: Answer) -> None:
    """The child of cmd.exe hears its own request; the rest of the batch file is never run."""
    (child,) = scene.others
    assert child.exit_code == OWN
    assert not list(scene.lab.folder.glob("never-*"))


def state(state: int) -> Callable[[Scene, Target, Answer], None]:
    """Return a look at what the service manager says."""

    def look(scene: Scene, target: Target, answer: Answer) -> None:
        assert scene.service is not None
        assert scene.service.state == state

    return look


# --------------------------------------------------------------------------- how they are started


def window(mode: str, number: int = 0) -> Callable[[Scene], Target]:
    """Return what starts a program with windows."""
    return lambda scene: scene.start("etwindow", mode, number)


def windowc(mode: str) -> Callable[[Scene], Target]:
    """Return what starts a program with windows and a console."""
    return lambda scene: scene.start("etwindowc", mode, flags=OWN_CONSOLE)


def console(mode: str, number: int = 0, flags: int = OWN_CONSOLE) -> Callable[[Scene], Target]:
    """Return what starts a console program."""
    return lambda scene: scene.start("etconsole", mode, number, flags=flags)


def python(mode: str, number: int = 0, *, program: str = "python", flags: int = NO_WINDOW) -> Callable[[Scene], Target]:
    """Return what starts a Python program."""
    return lambda scene: scene.start(program, mode, number, flags=flags)


def odd(mode: str) -> Callable[[Scene], Target]:
    """Return what starts a program whose windows are made in unusual ways; it writes no log."""

    def start(scene: Scene) -> Target:
        line = [sys.executable, "-I", "-S", str(HERE / "odd_windows.py"), mode]
        popen = create(
            lambda: subprocess.Popen(line, stdout=subprocess.PIPE, creationflags=NO_WINDOW, stdin=subprocess.DEVNULL)
        )
        target = scene.lab.adopt(popen, scene.lab.words("etconsole", "none")[1], None)
        assert popen.stdout is not None
        assert popen.stdout.readline()
        return target

    return start


def suspended(program: str, mode: str, number: int = 0) -> Callable[[Scene], Target]:
    """Return what starts a program and suspends all its threads."""

    def start(scene: Scene) -> Target:
        target = scene.start(program, mode, number, flags=OWN_CONSOLE if program == "etconsole" else DETACHED)
        target.suspend()
        return target

    return start


def tree(program: str, mode: str, count: int) -> Callable[[Scene], Target]:
    """Return what starts a program and its children."""
    return lambda scene: scene.children(scene.start(program, mode, count, flags=OWN_CONSOLE), count)


def chain(scene: Scene) -> Target:
    """A child that starts another one and ends, as the fork of MSYS does: the other one's parent is nobody any more."""
    root = scene.start("ettree", "chain", 1, flags=OWN_CONSOLE)
    middle = scene.lab.child(root, 1)
    line = root.wait_for("child ", 2)
    scene.others.append(scene.hold(int(line.text.split()[1]), root))
    root.wait_for(f"ready pid={scene.others[0].pid}")
    middle.wait_exit()
    return root


def shared(scene: Scene) -> Target:
    """Two programs and the one that started them, on one console."""
    root = scene.start("ettree", "keep", 2, flags=OWN_CONSOLE)
    scene.children(root, 2)
    target = scene.others.pop()
    scene.others.append(root)
    return target


def terminal(scene: Scene) -> Target:
    """Two programs in a pseudo console, as in Windows Terminal."""
    terminal = scene.stack.enter_context(PseudoConsole(scene.lab))
    scene.others.append(terminal.start("etconsole", "graceful"))
    return terminal.start("etconsole", "graceful", 100)


def service(mode: str, number: int = 0) -> Callable[[Scene], Target]:
    """Return what starts a service."""

    def start(scene: Scene) -> Target:
        scene.service = scene.stack.enter_context(Services(scene.lab)).start(mode, number)
        return scene.service.process

    return start
