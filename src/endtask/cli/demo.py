"""`endtask demo`: real programs, looked at, stopped and explained by the same code as the verbs; the same story on every system.

Decision: every act is a command line that is parsed and carried out as if it had been typed, so what is shown is what a reader gets.
All programs are started by the demonstration itself, and at the end every one of them is shown to be gone by its identity.
What differs between the systems lies in `demo_posix.py` and `demo_windows.py`, and in the sample programs.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading

from endtask.cli import help as help_texts
from endtask.cli.parser import parse
from endtask.errors import EndtaskError, NothingMatchedError

if sys.platform == "win32":
    from endtask.cli import demo_windows as system
else:
    from endtask.cli import demo_posix as system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from endtask.cli.console import Console
    from endtask.model import Report

_LAST_S = 5.0
READY_S = 60.0  # a loaded machine starts Python slowly


class Stage:
    """The process that starts the sample programs; a context manager that ends it."""

    def __init__(self) -> None:
        import subprocess

        if not system.PYTHON:
            raise EndtaskError(
                "the demonstration does not know where Python is", hint="run it as `python3 -m endtask demo`"
            )
        self._process = subprocess.Popen(
            [system.PYTHON, "-I", system.PROGRAMS, "stage"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=system.SESSION,
            creationflags=system.FLAGS,
        )
        # A thread reads, because Windows has no wait for a pipe. It ends with the last program that holds the other end.
        self._said: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        self.refs: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process.stdin is not None:
            process.stdin.close()  # its sign to end what it started and itself
        import subprocess

        try:
            process.wait(_LAST_S)
        except subprocess.TimeoutExpired:
            process.kill()  # our own child
            process.wait()
        self._reader.join(_LAST_S)
        if process.stdout is not None and not self._reader.is_alive():
            process.stdout.close()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            self._said.put(line)
        self._said.put(b"")

    def start(self, name: str, *others: str) -> dict[str, int]:
        """Start a program and wait until it and the *others* that it starts are ready; return their pids by name."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"{name}\n".encode())
        wanted = {name, *others}
        pids: dict[str, int] = {}
        while wanted - set(pids):
            found = self.read_ready(READY_S)
            if not found:
                raise EndtaskError(f"the sample program `{name}` did not start within {READY_S:g} s")
            pids.update(found)
        return pids

    def read_ready(self, timeout_s: float) -> dict[str, int]:
        """Return the next program that has said that it is ready, and note who it is; empty if there was none in time."""
        try:
            line = self._said.get(timeout=timeout_s) if timeout_s else self._said.get_nowait()
        except queue.Empty:
            return {}
        if not line:
            self._said.put(line)  # the end, also for whoever asks next
            return {}
        _ready, name, number = line.decode().split()
        self._note(int(number))
        return {name: int(number)}

    def _note(self, pid: int) -> None:
        """Remember the exact identity, so that the end can be shown for this process and no later one with its pid."""
        from endtask import _api
        from endtask.model import Filter

        with contextlib.suppress(NothingMatchedError):  # a worker that was stopped before we read of it, it has gone
            self.refs += [str(ref) for ref, _name in _api.find((str(pid),), Filter())]


class Demo:
    """Carries out the acts."""

    def __init__(self, console: Console, stage: Stage) -> None:
        self.console = console
        self.stage = stage
        self.number = 0

    def title(self, text: str) -> None:
        """Begin an act."""
        self.number += 1
        self.console.out.line("")
        self.console.out.line((("head", f"{self.number}. {text}"),))

    def say(self, text: str) -> None:
        """Say a sentence between two commands."""
        self.console.out.line("")
        self.console.out.line(text)

    def command(self, *argv: str) -> int:
        """Show a command line, carry it out, and show its exit code.

        Raises:
            KeyboardInterrupt: Ctrl+C came meanwhile: the command has said what it did by then, and nobody wants to see the next one.
        """
        import shlex

        from endtask.cli.main import INTERRUPTED, dispatch

        out = self.console.out
        out.line("")
        out.line((("dim", "$ "), ("head", shlex.join(["endtask", *argv]))))
        try:
            code = dispatch(parse(argv), self.console)
        except EndtaskError as error:
            self.console.complain(error.message, error.hint)
            code = error.exit_code
        if argv[0] == "stop":
            out.line((("dim", f"exit code {code}: {dict(help_texts.EXIT_CODES).get(code, '')}"),))
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code


def demo(console: Console) -> int:
    """Run the demonstration; 0 if everything that it started is shown to be gone, 130 if that is so after Ctrl+C."""
    from endtask.cli.main import INTERRUPTED

    where = f"in {system.PLACE}s of their own"
    console.out.line(f"endtask asks real programs to stop; it starts them itself, {where}, and touches no others.")
    with Stage() as stage:
        interrupted = _perform(Demo(console, stage))
        report = _clean_up(stage)
    console.out.line("")
    if report.exit_code not in (0, 10) or report.survivors:
        console.complain(
            "not everything that the demonstration started is shown to be gone; it ends by itself within two minutes"
        )
        return 3
    count = len(report.targets) + len(report.missing)
    if interrupted and count <= 1:
        console.out.line("nothing that this demonstration started is left")
        return INTERRUPTED
    console.out.line(
        (
            ("good", f"all {count} processes that this demonstration started are gone"),
            ("", ", each shown by its own identity"),
        )
    )
    if interrupted:
        return INTERRUPTED
    console.out.line("")
    console.out.line(
        "now your own: `endtask look :8080` says how it would answer, `endtask stop :8080` asks it, waits and proves; `endtask --help` has the rest"
    )
    return 0


def _perform(play: Demo) -> bool:
    """Show all acts; return whether Ctrl+C has ended them early."""
    try:
        for act in (_polite, _slow, _stubborn, _family, _supervised):
            act(play)
    except KeyboardInterrupt:
        return True
    return False


def _clean_up(stage: Stage) -> Report:
    """End whatever of our own is left, by exact identity, and return the proof for all of it."""
    from endtask import _api
    from endtask._plan import make_policy
    from endtask.model import Filter

    while stage.read_ready(0):
        pass  # workers that were started meanwhile
    policy = make_policy(now=True, watch_s=0.0, all=True, missing_ok=True)
    return _api.stop(tuple(stage.refs), Filter(), policy)


# --------------------------------------------------------------------------- the acts


def _polite(play: Demo) -> None:
    play.title(f"A polite program has its own handler for {system.REQUEST}")
    pid = str(play.stage.start("polite")["polite"])
    play.command("look", pid)
    play.command("stop", pid)


def _slow(play: Demo) -> None:
    play.title("A slow one needs a while to put its work away: success is said when it has gone, not before")
    pid = str(play.stage.start("slow")["slow"])
    play.command("stop", pid)


def _stubborn(play: Demo) -> None:
    play.title(f"A stubborn one ignores {system.REQUEST}: endtask knows before it asks, and does not force on its own")
    pid = str(play.stage.start("stubborn")["stubborn"])
    play.command("look", pid)
    play.command("stop", pid, "-t", "1s")
    play.command("why", pid)
    play.say("force has to be asked for, and is told apart in the words and in the exit code:")
    play.command("stop", pid, "--force-after", "1s")


def _family(play: Demo) -> None:
    play.title(f"A tree whose child has left for a {system.PLACE} of its own")
    pid = str(play.stage.start("family", "runaway")["family"])
    play.command("plan", pid)
    play.command("stop", pid)


def _supervised(play: Demo) -> None:
    play.title("A program that somebody starts again")
    pids = play.stage.start("supervisor", "worker")
    play.command("stop", str(pids["worker"]))
    play.stage.read_ready(READY_S)  # the new worker has begun
    play.say("so the supervisor is the one to ask:")
    play.command("stop", str(pids["supervisor"]))
