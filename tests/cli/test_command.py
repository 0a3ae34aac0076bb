"""The command around the library: what is written where, exit codes, and ends of the line that misbehave.

The library is replaced by functions that answer what a test says, so every ending can be had without a process.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from endtask import _api
from endtask.cli.console import Console, Stream
from endtask.cli.main import main
from endtask.errors import AmbiguousError, NothingMatchedError, PlanError
from endtask.model import Event, Evidence, MemberReport, Missing, PidRef, Planning, Report, TargetReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from endtask.model import Filter, Policy

    Listener = Callable[[Event], None]

REF = PidRef(4711, "99")
DONE = Report(
    (
        TargetReport(
            "x",
            REF,
            "web",
            "stopped",
            0.5,
            (MemberReport(REF, "web", "target", exited=True, exited_at_s=0.5),),
            (Evidence("pidfd", "proved", "its handle says so"),),
        ),
    ),
    elapsed_s=0.5,
)
EVENTS = (
    Event("selected", 0.0, "x", REF, "web", "4711 web"),
    Event("request", 0.0, "x", REF, "web", "TERM -> 4711 web"),
    Event("exited", 0.5, "x", REF, "web", "4711 web exited, status 0"),
    Event("settled", 0.5, "x", REF, "web", "4711 web: stopped", "stopped"),
)


class Library:
    """A library that answers what it is told, and remembers how it was called."""

    def __init__(self) -> None:
        self.report = DONE
        self.events: Sequence[Event] = EVENTS
        self.calls: list[tuple[tuple[str, ...], Policy]] = []
        self.ambiguous = False
        self.between: Callable[[], None] = lambda: None

    def stop(
        self,
        what: Sequence[str],
        filters: Filter,
        policy: Policy,
        *,
        keep: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> Report:
        """Answer as told."""
        self.calls.append((tuple(what), policy))
        if self.ambiguous and "web" in what and not policy.all:
            raise AmbiguousError(
                "`web` matches 2 independent programs",
                hint="use `--all`",
                matches=("12:345 web  user ana", "13:346 web  user bob"),
            )
        for event in self.events:
            if on_event is not None:
                on_event(event)
        self.between()
        return self.report


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Replace the library's verbs that act."""
    fake = Library()
    monkeypatch.setattr(_api, "stop", fake.stop)
    monkeypatch.setattr(_api, "wait", fake.stop)
    return fake


class Run:
    """What a command line gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def command(capfd: pytest.CaptureFixture[str], *argv: str) -> Run:
    """Run a command line in this process."""
    console = Console(Stream(1), Stream(2))
    code = main(argv, console)
    console.finish()
    written = capfd.readouterr()
    return Run(code, written.out, written.err)


# --- stdout is data, stderr is talk


def test_stop_writes_the_transcript_to_stdout(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """Events and the sum are the data; stderr stays empty."""
    run = command(capfd, "stop", "x")
    assert (
        run.out
        == "  0.00 s  TERM -> 4711 web\n  0.50 s  4711 web exited, status 0\nstopped 1 of 1 in 0.50 s, none forced\n"
    )
    assert (run.code, run.err) == (0, "")


def test_json_is_exactly_one_document(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """No event line, nothing else on stdout."""
    run = command(capfd, "stop", "x", "--json")
    assert json.loads(run.out)["schema"] == "endtask.report/1"
    assert run.err == ""


def test_jsonl_is_events_and_the_report_last(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """One object a line; the last one is the report."""
    lines = [json.loads(line) for line in command(capfd, "stop", "x", "--jsonl").out.splitlines()]
    assert [line["schema"] for line in lines] == ["endtask.event/1"] * 4 + ["endtask.report/1"]


def test_quiet_writes_nothing_but_errors(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """`-q`: silence, except for what matched nothing."""
    assert command(capfd, "stop", "x", "-q").out == ""
    library.report = Report((), (Missing("x", "no process is named `x`"),))
    run = command(capfd, "stop", "x", "-q")
    assert (run.code, run.out) == (1, "")
    assert "no process is named `x`" in run.err


def test_missing_ok_turns_the_error_into_data(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing to stop is success and no error message."""
    library.report = Report((), (Missing("x", "no process is named `x`"),), missing_ok=True)
    library.events = ()
    run = command(capfd, "stop", "x", "--missing-ok")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("nothing to stop:")


def test_dry_run_is_plan(library: Library, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop --dry-run` calls `plan` with the same policy and never `stop`."""
    seen: list[Policy] = []

    def plan(what: Sequence[str], filters: Filter, policy: Policy, *, keep: Sequence[str] = ()) -> Planning:
        seen.append(policy)
        return Planning(())

    monkeypatch.setattr(_api, "plan", plan)
    command(capfd, "stop", "x", "--dry-run", "--now")
    command(capfd, "plan", "x", "--now")
    assert seen[0] == seen[1]
    assert not library.calls


def test_many_events_are_counted_not_listed(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """Ten thousand lines help nobody; `-v` has them all, and what is unusual is always told."""
    library.events = [
        *(Event("exited", 0.1, "x", REF, "web", "gone") for _ in range(500)),
        Event("respawn", 0.2, "x", REF, "web", "it is back"),
    ]
    run = command(capfd, "stop", "x")
    assert run.out.count("gone\n") == 100
    assert "the rest is counted" in run.out
    assert "it is back" in run.out
    assert command(capfd, "stop", "x", "-v").out.count("gone\n") == 500


# --- errors


def test_error_is_a_sentence_and_a_hint(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """Message, blank line, hint; nothing on stdout."""
    run = command(capfd, "stop", "x", "-f")
    assert run.code == 2
    assert run.out == ""
    message, blank, hint = run.err.splitlines()
    assert message.startswith("endtask: `-f` is not taken")
    assert blank == ""
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(("error", "code"), [(PlanError("a"), 2), (NothingMatchedError("a"), 1)])
def test_error_of_the_library_ends_with_its_code(
    error: Exception, code: int, library: Library, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each error of the tree carries its exit code."""

    def fail() -> None:
        raise error

    library.between = fail
    assert command(capfd, "stop", "x", "-q").code == code


def test_fault_of_our_own_is_code_3_without_a_traceback(
    library: Library, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and how to see more; with ENDTASK_DEBUG the traceback."""

    def fail() -> None:
        raise ZeroDivisionError("oops\x1b")

    library.between = fail
    run = command(capfd, "stop", "x", "-q")
    assert run.code == 3
    assert "internal fault, ZeroDivisionError: oops\\x1b" in run.err
    assert "ENDTASK_DEBUG=1" in run.err
    assert "Traceback" not in run.err
    monkeypatch.setenv("ENDTASK_DEBUG", "1")
    assert "Traceback" in command(capfd, "stop", "x", "-q").err


def test_interrupt_is_130(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl+C outside the library's care."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    library.between = interrupt
    run = command(capfd, "stop", "x", "-q")
    assert (run.code, run.err) == (130, "")


# --- several programs for one word


def test_ambiguous_word_is_listed_and_refused_without_a_terminal(
    library: Library, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody to ask: the list, the hint, exit 2, nothing stopped."""
    library.ambiguous = True
    run = command(capfd, "stop", "web")
    assert run.code == 2
    assert "  12:345 web  user ana" in run.err
    assert "hint: use `--all`" in run.err
    assert len(library.calls) == 1


@pytest.mark.parametrize(("answer", "stopped"), [("y", True), ("yes", True), ("n", False), ("", False), ("yy", False)])
def test_ambiguous_word_is_asked_for_on_a_terminal(answer: str, stopped: bool, library: Library) -> None:
    """Yes concerns exactly what was shown; anything else is no."""
    library.ambiguous = True
    with Terminal() as terminal:
        terminal.type(answer + "\n")
        code = main(["stop", "a", "web", "-q"], terminal.console)
        written = terminal.read()
    assert "stop all 2? [y/N]" in written
    assert code == (0 if stopped else 2)
    assert ("nothing was done: the answer was no" in written) is not stopped
    last, policy = library.calls[-1]
    assert last == (("a", "12:345", "13:346") if stopped else ("a", "web"))
    assert policy.all is False


def test_yes_asks_no_questions(library: Library) -> None:
    """`-y` is no consent to more than one program: that is `--all`."""
    library.ambiguous = True
    with Terminal() as terminal:
        assert main(["stop", "web", "-y", "-q"], terminal.console) == 2
        assert "[y/N]" not in terminal.read()
        assert main(["stop", "web", "--all", "-q"], terminal.console) == 0


class Terminal:
    """A terminal as standard input, output and error of this process; a context manager."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        self.console = Console(Stream(self._slave), Stream(self._slave))
        self._stdin = os.dup(0)

    def __enter__(self) -> Terminal:  # noqa: PYI034
        os.dup2(self._slave, 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._stdin, 0)
        for fd in (self._stdin, self._master, self._slave):
            os.close(fd)

    def type(self, text: str) -> None:
        """Type *text* at the keyboard."""
        os.write(self._master, text.encode())

    def read(self) -> str:
        """Return what was written to the screen so far."""
        self.console.finish()
        data = b""
        while select.select([self._master], [], [], 0)[0]:
            data += os.read(self._master, 65536)
        return data.decode()


# --- targets on standard input


@pytest.fixture
def stdin() -> Iterator[Callable[[bytes], None]]:
    """Set what stands on standard input."""
    before = os.dup(0)

    def put(data: bytes) -> None:
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        os.dup2(reader, 0)
        os.close(reader)

    yield put
    os.dup2(before, 0)
    os.close(before)


def test_targets_come_from_standard_input(
    library: Library, capfd: pytest.CaptureFixture[str], stdin: Callable[[bytes], None]
) -> None:
    """`-`: one a line, mixed with others."""
    stdin(b"12:345 nginx\n:3000\n")
    command(capfd, "stop", "a", "-")
    assert library.calls[0][0] == ("a", "12:345", ":3000")


def test_empty_standard_input_matches_nothing(
    library: Library, capfd: pytest.CaptureFixture[str], stdin: Callable[[bytes], None]
) -> None:
    """No target at all is exit 1, with `--missing-ok` 0; nothing is called."""
    for verb in ("stop", "plan", "look", "why", "find"):
        stdin(b"\n")
        assert command(capfd, verb, "-").code == 1
    stdin(b"")
    assert command(capfd, "stop", "-", "--missing-ok").code == 0
    assert not library.calls


# --- the other end misbehaves


def test_full_disk_is_told_and_the_stop_finishes(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """ENOSPC on stdout: the run goes on, the message says what was lost."""
    full = os.open("/dev/full", os.O_WRONLY)
    console = Console(Stream(full), Stream(2))
    assert main(["stop", "x", "-v"], console) == 0
    assert console.finish() != 0
    os.close(full)
    assert "could not be written: No space left on device" in capfd.readouterr().err


def test_reader_that_has_gone_is_no_fault(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """EPIPE: dropped without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    console = Console(Stream(writer), Stream(2))
    assert main(["stop", "x"], console) == 0
    assert console.finish() == 0
    os.close(writer)
    assert capfd.readouterr().err == ""


def test_reader_that_does_not_read_holds_nothing_back(library: Library) -> None:
    """A full pipe: the run comes to its end, the rest is written when the reader goes on."""
    library.events = [Event("exited", 0.1, "x", REF, "web", "x" * 1000)] * 300
    reader, writer = os.pipe()
    console = Console(Stream(writer), Stream(2))
    assert main(["stop", "x", "-v"], console) == 0  # would hang for ever if events blocked
    child = os.fork()
    if child == 0:
        os.close(reader)
        console.finish()
        os._exit(0)
    os.close(writer)
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    os.close(reader)
    os.waitpid(child, 0)
    assert data.count(b"x" * 1000 + b"\n") == 300
    assert b"stopped 1 of 1" in data


def end_to_end(*argv: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    """Run the real command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "endtask", *argv], check=False, timeout=60, **more)  # type: ignore[call-overload,no-any-return]  # options of run


def test_closed_descriptors_are_filled() -> None:
    """Started with 0, 1 and 2 closed, the command still ends by its exit code."""
    code = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, [sys.executable, '-m', 'endtask', 'version'])"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_closed_pipe_in_the_whole_command() -> None:
    """`endtask --help | head -0`: no traceback, no noise from the interpreter's end."""
    reader, writer = os.pipe()
    os.close(reader)
    done = end_to_end("--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_full_disk_in_the_whole_command_is_code_3() -> None:
    """Output that was asked for and lost is not success."""
    with open("/dev/full", "wb") as full:
        done = end_to_end("schema", "report", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert b"could not be written" in done.stderr
    with open("/dev/full", "wb") as full:
        done = end_to_end("stop", "4194303", "--missing-ok", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0, "the exit code of a stop is the report's"
    assert b"could not be written" in done.stderr
    with open("/dev/full", "wb") as full:
        done = end_to_end("stop", "4194303", "--missing-ok", "--dry-run", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3, "of a dry run the words are all there is"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "nonsense-1"])
def test_terminal_encoding_that_cannot_show_a_name(encoding: str) -> None:
    """Characters that the stream cannot encode are escaped."""
    reader, writer = os.pipe()
    stream = Stream(writer, encoding)
    stream.line("caf\u00e9 \u65e5")
    stream.finish()
    os.close(writer)
    assert b"\\u65e5\n" in os.read(reader, 100)
    os.close(reader)


# --- colour


@pytest.mark.parametrize(
    ("environment", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_only_where_wanted(environment: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, unless NO_COLOR or TERM say otherwise."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Terminal() as terminal:
        terminal.console.out.line((("good", "x"),))
        assert ("\x1b[" in terminal.read()) is colored


def test_no_colour_in_a_pipe(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    """A pipe gets plain text."""
    assert "\x1b" not in command(capfd, "stop", "x").out


# --- live


def wait_for_ticks(count: int) -> None:
    """Let the clock of the live view strike *count* times: sigtimedwait would eat the signal, pause does not."""
    deadline = time.monotonic() + 60
    for _ in range(count):
        assert time.monotonic() < deadline
        signal.pause()


@pytest.mark.slow
def test_live_view_shows_who_is_waited_for_and_leaves_plain_lines(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a line for the process is drawn while it runs, and taken away."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    library.events = EVENTS[:2]
    library.between = lambda: wait_for_ticks(3)
    with Terminal() as terminal:
        assert main(["stop", "x"], terminal.console) == 0
        written = terminal.read()
    assert "waiting for 1" in written
    assert "TERM -> 4711 web" in written
    assert "stopped 1 of 1" in written
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.slow
def test_live_view_without_rich_is_plain_lines(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is an extra."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.live", None)
    library.between = lambda: wait_for_ticks(1)
    with Terminal() as terminal:
        assert main(["stop", "x"], terminal.console) == 0
        written = terminal.read()
    assert "waiting for" not in written
    assert "stopped 1 of 1" in written


@pytest.mark.slow
def test_live_view_escapes_names(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an escape sequence does not reach the terminal through the live view either."""
    monkeypatch.setenv("TERM", "xterm")
    library.events = (Event("request", 0.0, "x", REF, "w\x1b]0;own\x07", "TERM -> w\x1b]0;own\x07"),)
    library.between = lambda: wait_for_ticks(3)
    with Terminal() as terminal:
        main(["stop", "x"], terminal.console)
        written = terminal.read()
    assert "\x1b]0;own" not in written
    assert "w\\x1b]0;own\\x07" in written
    assert "asked by TERM" in written


# --- report files


def test_report_file_is_written_beside_the_words(
    library: Library, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`--report` adds a file and takes nothing away."""
    path = tmp_path / "r.json"
    assert "stopped 1 of 1" in command(capfd, "stop", "x", "--report", str(path)).out
    assert json.loads(path.read_text())["exit_code"] == 0


def test_every_report_file_is_written(library: Library, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One for the CI's own page and one for people; a name given twice is one file."""
    paths = [tmp_path / "r.json", tmp_path / "r.xml", tmp_path / "sub" / ".." / "r.json"]
    (tmp_path / "sub").mkdir()
    run = command(capfd, "stop", "x", *(word for path in paths for word in ("--report", str(path))))
    assert (run.code, run.err) == (0, "")
    assert json.loads(paths[0].read_text())["exit_code"] == 0
    assert "<testsuite" in paths[1].read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.xml", "sub"]


def test_report_file_that_is_lost_meanwhile_is_a_fault_and_the_others_are_written(
    library: Library, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its directory goes away between the check and the end."""
    folder = tmp_path / "gone"
    folder.mkdir()

    def lose() -> None:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    library.between = lose
    run = command(capfd, "stop", "x", "--report", str(folder / "r.md"), "--report", str(tmp_path / "r.md"))
    assert run.code == 3
    assert "r.md` could not be written: No such file or directory" in run.err
    assert (tmp_path / "r.md").exists()


def test_report_file_that_cannot_be_stops_nothing(
    library: Library, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A wrong path is found out before anything is sent."""
    words = ("--report", str(tmp_path / "good.md"), "--report", str(tmp_path / "no" / "r.json"))
    assert command(capfd, "stop", "x", *words).code == 2
    assert not library.calls
    assert not list(tmp_path.iterdir())


# --- start-up


def test_stop_imports_nothing_heavy() -> None:
    """The way of `endtask stop PID` on a pipe stays light: counted imports, no timing."""
    heavy = "typing dataclasses enum re subprocess pathlib json contextlib functools collections argparse logging socket threading asyncio ctypes rich"
    code = (
        "import sys; before = set(sys.modules)\n"
        "from endtask.cli import main, console\n"
        "main.main(['stop', '4194303'], console.standard_console())\n"
        f"print(sorted(set({heavy.split()!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]", done
