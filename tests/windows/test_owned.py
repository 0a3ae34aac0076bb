"""`owned` on Windows: a job object holds the tree, it is gone when the block ends, and the report shows it."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import contextlib
import ctypes
import gc
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._backends.launching import Launch
from endtask._backends.windows import errors, launch
from endtask._backends.windows.winapi import jobapi, kernel32
from tests.windows.lab import (
    OWN_CONSOLE,
    PATIENCE_S,
    STOPPED_BY_ITSELF,
    UNDER_WINE,
    Lab,
    Target,
    has_ended,
    open_handle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._owned import Owned
    from endtask.model import MemberReport, TargetReport

ENDABLE = 0x101001  # SYNCHRONIZE, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE
SLEEPS = "import time; print('ready', flush=True); time.sleep(120)"


def python(text: str, *words: str) -> list[str]:
    """Return the command line of a small program."""
    return [sys.executable, "-I", "-S", "-c", text, *words]


def start(
    lab: Lab, program: str, mode: str, number: int = 0, text: str = "", *, ready: str = "ready", **how: object
) -> tuple[Owned, Target]:
    """Own a target of the laboratory; return the command and the target, which has said that it is ready."""
    words, event = lab.words(program, mode, number, text)
    command = endtask.owned(words, **how)  # type: ignore[arg-type]  # handed through
    target = follow(lab, command.pid, event, words)
    if ready:
        target.wait_for(ready)
    return command, target


def follow(lab: Lab, pid: int, event: int, words: Sequence[str]) -> Target:
    """Follow a process that somebody else has started; it is ended with the laboratory."""
    handle = open_handle(pid, ENDABLE)
    target = Target(pid, handle, lab.log_of(words), event, owned=[handle, event])
    lab.started.append(target)
    return target


def verdict(command: Owned) -> TargetReport:
    """Return what became of a command that was stopped."""
    assert command.report is not None
    (target,) = command.report.targets
    return target


def proved(target: TargetReport) -> bool:
    """Return whether the empty job is what shows it."""
    return [("job-empty", "proved")] == [(e.mechanism, e.strength) for e in target.evidence]


def asked(member: MemberReport) -> list[str]:
    """Return what a member was delivered."""
    return [r.request for r in member.receipts if r.status == "delivered"]


# --------------------------------------------------------------------------- polite


def test_a_console_program_ends_by_its_own_handler(lab: Lab) -> None:
    """Asked by Ctrl+C, it cleans up, and its own exit code is what it leaves."""
    command, target = start(lab, "etconsole", "graceful", 100)
    with command:
        pass
    told = verdict(command)
    assert ("stopped", 0) == (told.outcome, command.report.exit_code if command.report else None)
    assert proved(told)
    (member,) = told.members
    assert (["CTRL_C"], STOPPED_BY_ITSELF) == (asked(member), member.end.status if member.end else None)
    assert target.heard("control 0") == 1
    assert "atexit" in target.texts


def test_a_command_with_a_receiver_says_what_it_does(lab: Lab) -> None:
    """By its pipe, as to `stop`: it learns the reason, and the report has its words."""
    command, target = start(lab, "receiver", "tells", grace_s=20, reason="deploy 12")
    command.stop()
    (member,) = verdict(command).members
    assert asked(member) == ["STOP_EVENT"]
    assert [(said.kind, said.text) for said in member.said][:2] == [("heard", "STOP_EVENT"), ("tell", "draining")]
    assert target.texts[2].endswith(" deploy 12"), target.texts


@pytest.mark.parametrize("extend_s", [30.0, 0.0])
def test_a_command_with_a_receiver_gets_more_time_if_that_was_allowed(lab: Lab, extend_s: float) -> None:
    """The grace grows by what it needs, or it is forced at its end."""
    command, target = start(lab, "receiver", "needs", 8000, grace_s=4, extend_s=extend_s)
    command.stop()
    told = verdict(command)
    (need,) = [said for said in told.members[0].said if said.kind == "need"]
    assert (need.granted_s > 3.9) == (told.granted_s > 3.9) == bool(extend_s)
    if extend_s:
        assert told.outcome == "stopped"
        assert float(target.wait_for("left").text.split()[1]) > 4.5


def test_a_window_is_closed_and_a_listener_hears_its_event(lab: Lab) -> None:
    """Each is asked in the way that it can hear, as by `stop`."""
    window, _ = start(lab, "etwindow", "close")
    listener, _ = start(lab, "etconsole", "event")
    for command, request in ((window, "WM_CLOSE"), (listener, "STOP_EVENT")):
        command.stop()
        told = verdict(command)
        assert ("stopped", [request]) == (told.outcome, asked(told.members[0]))
        assert proved(told)


def test_python_cleans_up(lab: Lab) -> None:
    """CPython makes KeyboardInterrupt of it: `finally` and `atexit` run."""
    command, target = start(lab, "python", "plain")
    command.stop()
    assert {"KeyboardInterrupt", "finally", "atexit"} <= set(target.texts)
    assert verdict(command).outcome == "stopped"


def test_the_end_of_its_input_is_asked_first_where_the_caller_says_so(lab: Lab) -> None:
    """It reads its input to the end, and leaves by itself."""
    command, target = start(lab, "etconsole", "stdin", stdin=subprocess.PIPE, stdin_eof=True)
    command.stop()
    told = verdict(command)
    assert ("stopped", ["STDIN_EOF"]) == (told.outcome, asked(told.members[0]))
    assert target.heard("stdin ended") == 1
    assert target.heard("control") == 0


def test_the_end_of_input_needs_a_pipe() -> None:
    """What is not ours cannot be closed by us."""
    with pytest.raises(ValueError, match="so it needs"):
        endtask.owned(python(SLEEPS), stdin_eof=True)


def test_deaf_to_the_end_of_its_input_it_is_asked_further(lab: Lab) -> None:
    """The first request is not the only one."""
    command, _ = start(lab, "etconsole", "graceful", 1, stdin=subprocess.PIPE, stdin_eof=True, grace_s=2.0)
    command.stop()
    assert asked(verdict(command).members[0])[:2] == ["STDIN_EOF", "CTRL_C"]
    assert verdict(command).outcome == "stopped"


# --------------------------------------------------------------------------- force


def test_a_stubborn_program_is_forced_and_that_is_told(lab: Lab) -> None:
    """Force is part of the promise of the block, and it is never hidden."""
    command, target = start(lab, "etconsole", "true", grace_s=0.5)
    with command:
        pass
    told = verdict(command)
    assert ("forced", 10) == (told.outcome, command.report.exit_code if command.report else None)
    assert proved(told)
    assert asked(told.members[0])[-1] == "TERMINATE"
    assert target.wait_exit() == 1


def test_without_force_it_is_named_and_runs_on(lab: Lab) -> None:
    """Nothing is forced when force was not allowed, also not by letting go of the job."""
    command, target = start(lab, "etconsole", "true", grace_s=0.3, force=False)
    report = command.stop()
    assert ("running", 124) == (report.targets[0].outcome, report.exit_code)
    assert str(command.pid) in report.targets[0].reasons[0].text
    del command
    gc.collect()
    assert target.running


def test_a_dialog_is_not_answered_by_us(lab: Lab) -> None:
    """Unsaved work: one WM_CLOSE, then only observation; the reason names the dialog."""
    command, target = start(lab, "etwindow", "dialog", grace_s=2.0, force=False)
    report = command.stop()
    assert report.targets[0].outcome == "running"
    assert "dialog" in {r.code for r in report.targets[0].reasons}
    assert target.heard("WM_CLOSE") == 1


def test_grace_of_nothing_forces_at_once(lab: Lab) -> None:
    """Nobody is asked before."""
    command, _ = start(lab, "etconsole", "graceful", grace_s=0.0)
    command.stop()
    told = verdict(command)
    assert ("forced", ["TERMINATE"]) == (told.outcome, asked(told.members[0]))


# --------------------------------------------------------------------------- trees


def test_a_manager_stops_its_own_children(lab: Lab) -> None:
    """The command is asked first, and its children are its own affair as long as it lives."""
    command, target = start(lab, "ettree", "manage", 3)
    target.wait_for("ready", 4)
    command.stop()
    told = verdict(command)
    assert ("stopped", 4) == (told.outcome, len(told.members))
    assert [1, 0, 0, 0] == [len(asked(m)) for m in told.members]
    assert target.heard("child ended") == 3


def test_what_a_root_leaves_is_asked_when_it_has_gone(lab: Lab) -> None:
    """The children that it did not take with it get their own request."""
    command, target = start(lab, "ettree", "keep", 3)
    target.wait_for("ready", 4)
    command.stop()
    told = verdict(command)
    assert ("stopped", 4) == (told.outcome, len(told.members))
    assert proved(told)
    assert all(asked(m) for m in told.members)
    assert {"target", "owned"} == {m.tie for m in told.members}


@pytest.mark.parametrize(("mode", "number"), [("orphans", 3), ("chain", 1)])
def test_orphans_are_found_by_the_job(lab: Lab, mode: str, number: int) -> None:
    """Whoever started them has gone (as the fork of MSYS does it): no parent link leads to them, the job does."""
    command, target = start(lab, "ettree", mode, number, ready="")
    orphans = number if mode == "orphans" else 1
    if mode == "orphans":
        assert command.wait(PATIENCE_S) is not None
    for child in range(orphans) if mode == "orphans" else [1]:  # of `chain` the second child is the leaf
        leaf = lab.child(target, child + 1)
        leaf.wait_for(f"ready pid={leaf.pid}")
    command.stop()
    told = verdict(command)
    assert told.outcome == "stopped"
    assert proved(told)
    assert sum(m.tie == "owned" and bool(asked(m)) for m in told.members) == orphans


def test_a_child_in_a_console_of_its_own_or_without_one_is_in_the_job(lab: Lab) -> None:
    """Consoles and process groups do not matter to the job."""
    for text in ("console", "detached", "no-window", "group"):
        command, target = start(lab, "ettree", "keep", 1, text, grace_s=1.0)
        target.wait_for("ready", 2)
        command.stop()
        told = verdict(command)
        host = [
            m for m in told.members if m.name == "conhost.exe"
        ]  # a console of its own has a host, which is in the job, too
        assert ("forced" if text == "group" and UNDER_WINE else "stopped", 2) == (
            told.outcome,
            len(told.members) - len(host),
        )
        assert not any(m.receipts for m in host), "it ends with its clients, and never before them"
        assert proved(told)


def test_a_tree_that_is_born_again_is_forced_to_the_last(lab: Lab) -> None:
    """It answers each request by a new child: at the end of the grace the job ends all of them at once."""
    command, target = start(lab, "ettree", "breeder", grace_s=1.0)
    target.wait_for("child ")
    command.stop()
    told = verdict(command)
    assert told.outcome == "forced"
    assert proved(told)
    assert target.heard("child ") >= 2


def test_no_child_can_break_away(lab: Lab) -> None:
    """CREATE_BREAKAWAY_FROM_JOB is refused (error 5), so nobody leaves unseen."""
    text = (
        "import subprocess,sys\n"
        "try: subprocess.Popen(['cmd', '/c', 'exit'], creationflags=0x01000000)\n"
        "except OSError as error: sys.exit(error.winerror)\n"
    )
    command = endtask.owned([sys.executable, "-c", text])
    end = command.wait(PATIENCE_S)
    command.stop()
    assert (end.status if end else None) == errors.ACCESS_DENIED


def test_a_tree_inside_of_another_tree() -> None:
    """A job in a job: the inner one is gone and proved, and the outer one still holds its own."""
    inner = python("print('inner', flush=True)")
    text = (
        f"import sys; sys.path[:0] = {sys.path!r}\nimport endtask\n"
        f"with endtask.owned({inner!r}) as c: c.wait(30)\n"
        "print(c.report.targets[0].outcome, c.report.targets[0].evidence[0].mechanism, flush=True)\n"
    )
    with endtask.owned([sys.executable, "-c", text], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        said = command.stdout.read().split()
        command.wait(PATIENCE_S)
    assert [b"inner", b"stopped", b"job-empty"] == said
    assert verdict(command).outcome == "stopped"


def test_two_hundred_children_end_together(lab: Lab) -> None:
    """The list of the job has any length, and the end of all is one call."""
    text = (
        "import subprocess, sys, time\n"
        "children = [subprocess.Popen([sys.argv[1], *sys.argv[2:-1], 'leaf']) for _ in range(200)]\n"
        "print('full', flush=True)\ntime.sleep(120)\n"
    )
    words, event = lab.words("ettree", "leaf")
    command = endtask.owned([*python(text), *words[:3], "leaf"], stdout=subprocess.PIPE, grace_s=0.0)
    root = follow(lab, command.pid, event, words)
    assert command.stdout is not None
    assert command.stdout.readline().strip() == b"full"
    began = time.monotonic()
    command.stop()
    took_s = time.monotonic() - began
    command.stdout.close()
    told = verdict(command)
    assert ("forced", 201) == (told.outcome, len(told.members))
    assert proved(told)
    assert all(m.exited for m in told.members)
    assert not root.running
    assert took_s < PATIENCE_S


# --------------------------------------------------------------------------- what happens to us


OWNER = """
import sys; sys.path[:0] = {path!r}
import endtask
with endtask.owned({words!r}, force={force}) as command:
    print(command.pid, flush=True)
    command.wait(120)
"""


def owner_of(words: Sequence[str], *, force: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process that owns a command; return it and the command's pid."""
    text = OWNER.format(path=sys.path, words=list(words), force=force)
    owner = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def test_the_tree_ends_with_its_owner_that_is_killed(lab: Lab) -> None:
    """TerminateProcess on the owner in the middle: the kernel closes the job, and everything in it is gone."""
    words, event = lab.words("ettree", "keep", 3)
    owner, pid = owner_of(words, force=True)
    root = follow(lab, pid, event, words)
    root.wait_for("ready", 4)
    children = [lab.child(root, number) for number in (1, 2, 3)]
    owner.kill()
    for process in (root, *children):
        process.wait_exit()
    assert owner.wait(PATIENCE_S) == 1
    assert owner.stdout is not None
    owner.stdout.close()


def test_the_tree_outlives_a_killed_owner_that_may_not_force(lab: Lab) -> None:
    """The end with the job is force, and that was not allowed."""
    words, event = lab.words("ettree", "keep", 1)
    owner, pid = owner_of(words, force=False)
    root = follow(lab, pid, event, words)
    root.wait_for("ready", 2)
    owner.kill()
    owner.wait(PATIENCE_S)
    assert owner.stdout is not None
    owner.stdout.close()
    child = lab.child(root)
    assert root.running
    assert child.running


def test_the_tree_ends_with_a_command_that_is_forgotten(lab: Lab) -> None:
    """Without a block and without a stop: the last handle on the job goes with the object."""
    command, target = start(lab, "ettree", "keep", 1)
    child = lab.child(target)
    del command
    gc.collect()
    target.wait_exit()
    child.wait_exit()


def test_nobody_inherits_the_job(lab: Lab) -> None:
    """Else the tree would live as long as any child of ours: a program that was started meanwhile with all our handles does not keep it."""
    command, target = start(lab, "ettree", "keep", 1)
    stranger = lab.adopt(subprocess.Popen(python(SLEEPS), close_fds=False, stdout=subprocess.DEVNULL), _event(), None)
    assert stranger.running
    del command
    gc.collect()
    target.wait_exit()


def _event() -> int:
    return int(kernel32.CreateEventW(None, False, False, None) or 0)


INTERRUPTED = """
import ctypes, sys; sys.path[:0] = {path!r}
import endtask
kernel32 = ctypes.windll.kernel32
done = open({report!r}, "w")
command = endtask.owned({words!r}, grace_s={grace_s})
try:
    with command:
        print(command.pid, file=done, flush=True)
        sys.stdin.readline()  # the test says when the child is ready
        kernel32.GenerateConsoleCtrlEvent(0, 0)  # what Ctrl+C at the keyboard does
        command.wait(60)
except KeyboardInterrupt:
    print("interrupted", file=done)
target = command.report.targets[0]
print(target.outcome, *(r.request for m in target.members for r in m.receipts), file=done, flush=True)
"""


@pytest.mark.parametrize(("mode", "grace_s", "requests"), [("graceful", 20.0, []), ("true", 1.0, ["CTRL_C"])])
def test_ctrl_c_at_the_keyboard_is_not_said_twice(lab: Lab, mode: str, grace_s: float, requests: list[str]) -> None:
    """On a shared console the command hears it as well: it has half of the time before it is asked again."""
    words, event = lab.words("etconsole", mode, 200)
    path = lab.folder / "said"
    text = INTERRUPTED.format(path=sys.path, report=str(path), words=words, grace_s=grace_s)
    owner = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, creationflags=OWN_CONSOLE)
    target = follow_ready(lab, event, words)
    assert owner.stdin is not None
    owner.stdin.write(b"go\n")
    owner.stdin.close()
    assert owner.wait(PATIENCE_S) == 0
    _, interrupted, said = path.read_text().splitlines()
    assert interrupted == "interrupted"
    outcome, *sent = said.split()
    if mode == "graceful":
        assert ("stopped", []) == (outcome, sent)
        assert target.heard("control 0") == 1, "once, by the console"
    else:
        assert outcome == "forced"
        assert [*requests] == sent[:1]


def follow_ready(lab: Lab, event: int, words: Sequence[str]) -> Target:
    """Follow a target that somebody else starts: its own first line says which process it is."""
    own = open_handle(os.getpid())
    probe = Target(os.getpid(), own, lab.log_of(words), event)
    pid = int(probe.wait_for("ready").text.split("pid=")[1].split()[0])
    _winapi.CloseHandle(own)
    return follow(lab, pid, event, words)


HURRIED = """
import sys, threading; sys.path[:0] = {path!r}
import endtask, signal
command = endtask.owned({words!r}, grace_s=60, force={force})
print(command.pid, flush=True)
sys.stdin.readline()
threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
try:
    command.stop()
except KeyboardInterrupt:
    pass
report = command.report
print(report.targets[0].outcome, report.exit_code, flush=True)
"""


@pytest.mark.parametrize(("force", "expected"), [(True, b"forced 130"), (False, b"running 130")])
def test_ctrl_c_during_the_stop_hurries_it(lab: Lab, force: bool, expected: bytes) -> None:
    """What may be forced is forced at once; what may not is named. Either way there is a report."""
    words, event = lab.words("etconsole", "true")
    text = HURRIED.format(path=sys.path, words=words, force=force)
    owner = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    target = follow(lab, int(owner.stdout.readline()), event, words)
    target.wait_for("ready")
    assert owner.stdin is not None
    owner.stdin.write(b"go\n")
    owner.stdin.close()
    assert owner.stdout.readline().strip() == expected
    assert owner.wait(PATIENCE_S) == 0
    owner.stdout.close()  # the command has the other end as well
    assert target.running == (not force)


# --------------------------------------------------------------------------- starting


def test_end_of_the_command_is_known_after_the_stop() -> None:
    """`poll` and `wait` answer from memory; an exit code has 32 bits."""
    for code in (0, 259, 300, 0xC000013A):
        command = endtask.owned(["cmd", "/c", f"exit {code - (1 << 32) if code >> 31 else code}"])
        first = command.wait(PATIENCE_S)
        assert first is not None
        assert first.status == code
        command.stop()
        assert first == command.poll() == command.wait()
        assert verdict(command).outcome == "stopped"


def test_waiting_has_a_limit(lab: Lab) -> None:
    """None says that the time is up."""
    command, _ = start(lab, "etconsole", "graceful")
    assert command.wait(0.05) is None
    assert command.poll() is None
    command.stop()


def test_errors_are_those_of_subprocess(lab: Lab) -> None:
    """A command that cannot be started raises OSError with Windows's own number, and nothing is left."""
    broken = lab.folder / "broken.exe"
    broken.write_bytes(b"no program")
    cases: list[tuple[list[str], dict[str, str], int]] = [
        (["no-such-program-anywhere"], {}, 2),
        ([str(lab.folder / "missing.exe")], {}, 2),
        ([str(broken)], {}, 193),
        (["cmd", "/c", "exit"], {"cwd": str(lab.folder / "nowhere")}, 267),
    ]
    for words, how, code in cases:
        with pytest.raises(OSError) as caught:  # noqa: PT011  # the number says which
            endtask.owned(words, **how)  # type: ignore[arg-type]
        assert caught.value.winerror in (code, 3 if code == 2 else code)
    with pytest.raises(FileNotFoundError):
        endtask.owned("no-such-program-anywhere")
    with pytest.raises(ValueError, match="empty"):
        endtask.owned("  ")
    with pytest.raises(ValueError, match="illegal environment"):
        endtask.owned(["cmd"], env={"A=B": "c"})


def test_a_process_that_cannot_be_put_into_the_job_never_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the job cannot be given with the creation, the process is created suspended; if that fails, it is ended before its first instruction."""
    monkeypatch.setattr(jobapi, "PROC_THREAD_ATTRIBUTE_JOB_LIST", 0x0002FFFF)
    words, event = lab.words("etconsole", "code", 5)
    monkeypatch.setattr(kernel32, "AssignProcessToJobObject", lambda _job, _process: False)
    with pytest.raises(endtask.OsCallError, match="AssignProcessToJobObject"):
        endtask.owned(words)
    assert not lab.log_of(words).exists()
    _winapi.CloseHandle(event)


def test_old_windows_assigns_before_it_resumes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the attribute everything is as with it: what it starts at once is inside."""
    monkeypatch.setattr(jobapi, "PROC_THREAD_ATTRIBUTE_JOB_LIST", 0x0002FFFF)
    command, target = start(lab, "ettree", "keep", 2)
    target.wait_for("ready", 3)
    command.stop()
    assert ("stopped", 3) == (verdict(command).outcome, len(verdict(command).members))
    assert proved(verdict(command))


def test_streams_environment_and_folder_are_as_asked(lab: Lab) -> None:
    """As `subprocess` gives them."""
    text = "import os,sys; print(sys.stdin.read(), os.environ['MARK'], os.getcwd(), file=sys.stderr, flush=True)"
    env = {**os.environ, "MARK": "ünïcode = 1"}
    command = endtask.owned(
        [sys.executable, "-X", "utf8", "-c", text],
        cwd=str(lab.folder),
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert command.stdin is not None
    assert command.stdout is not None
    command.stdin.write(b"hello")
    command.stdin.close()
    said = command.stdout.read().decode()
    assert said.split() == ["hello", "ünïcode", "=", "1", str(lab.folder)]
    command.stop()
    command.stdout.close()
    with open(lab.folder / "out", "wb") as file:
        command = endtask.owned(python("print(1)"), stdin=subprocess.DEVNULL, stdout=file, stderr=file.fileno())
        command.wait(PATIENCE_S)
        command.stop()
    assert (lab.folder / "out").read_bytes().strip() == b"1"


def test_the_end_of_its_output_is_seen_although_we_live() -> None:
    """We keep no end of its pipes open."""
    command = endtask.owned(python("print('x')"), stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.read().strip() == b"x"
    command.stop()
    command.stdout.close()


def test_a_text_is_a_command_line_as_it_is() -> None:
    r"""Windows programs split it themselves: a backslash is no escape."""
    command = endtask.owned(
        rf'"{sys.executable}" -c "import sys; print(sys.argv[1:])" C:\a\b "c d"', stdout=subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stdout.read().strip() == repr(["C:\\a\\b", "c d"]).encode()
    command.stop()
    command.stdout.close()


def test_a_batch_file_gets_its_arguments(lab: Lab) -> None:
    """Found by PATH under its own ending, started by cmd.exe, with what cmd.exe would not read as its own."""
    batch = lab.folder / "say it.cmd"
    batch.write_text(f'@"{sys.executable}" -c "import sys; print(sys.argv[1:])" %*\r\n')
    words = ["a b", "c&d", "e|f", "^", "trailing\\", ""]
    with endtask.owned([str(lab.folder / "say it"), *words], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        said = command.stdout.read().strip()
    assert said == repr(words).encode()
    for bad in ('quote"', "%PATH%", "line\nbreak"):
        with pytest.raises(endtask.UsageError, match="batch file"):
            endtask.owned([str(batch), bad])


# --------------------------------------------------------------------------- groups


def test_a_group_of_its_own_only_where_no_thread_can_ask_it(lab: Lab) -> None:
    """A new group makes a program deaf to Ctrl+C, so it is the exception."""
    text = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from endtask._backends.windows.launch import needs_group\n"
        "same, other, gui = sys.argv[1:4]\n"
        "print(needs_group(same, inject=True), needs_group(same, inject=False), needs_group(other, inject=True),"
        " needs_group(gui, inject=False), needs_group(None, inject=False), file=open(sys.argv[4], 'w'))"
    )
    same = (lab.targets / "etconsole.exe").read_bytes()
    at = int.from_bytes(same[0x3C:0x40], "little") + 4
    other = lab.folder / "other.exe"
    other.write_bytes(same[:at] + (0xAA64).to_bytes(2, "little") + same[at + 2 :])  # ARM64
    said = lab.folder / "said"
    words = [str(lab.targets / "etconsole.exe"), str(other), str(lab.targets / "etwindow.exe"), str(said)]
    subprocess.run([sys.executable, "-c", text, *words], creationflags=OWN_CONSOLE, check=True)
    assert said.read_text().split() == ["False", "True", "True", "False", "False"]


def test_a_group_is_asked_as_a_whole_and_a_refusal_is_told(lab: Lab) -> None:
    """Ctrl+Break to the group of the command; Wine refuses that (error 6), and the receipt says so."""
    words, event = lab.words("etconsole", "graceful")
    text = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from endtask._backends.launching import Launch\nfrom endtask._owned import Owned\n"
        "from endtask._plan import make_policy\n"
        "policy = make_policy(timeout_s=31, force_after_s=1, inject=False, watch_s=0)\n"
        f"command = Owned(Launch({words!r}), grace_s=1, force=True, policy=policy)\n"
        "sys.stdin.readline()\n"
        "target = command.stop().targets[0]\n"
        "receipt = target.members[0].receipts[0]\n"
        "print(target.outcome, receipt.request, receipt.status, receipt.detail, sep='|', file=open(sys.argv[1], 'w'))\n"
    )
    said = lab.folder / "said"
    owner = subprocess.Popen([sys.executable, "-c", text, str(said)], stdin=subprocess.PIPE, creationflags=OWN_CONSOLE)
    target = follow_ready(lab, event, words)
    owner.communicate(b"go\n", PATIENCE_S)
    outcome, request, status, detail = said.read_text().strip().split("|")
    assert request == "GROUP_CTRL_BREAK"
    assert not target.running
    if UNDER_WINE:
        assert ("forced", "failed") == (outcome, status)
        assert "error 6" in detail
    else:
        assert ("stopped", "delivered") == (outcome, status)


# --------------------------------------------------------------------------- small parts


def test_a_job_counts_and_lists_any_number(lab: Lab) -> None:
    """The list grows until everybody fits."""
    tree = launch.start(_leaf(lab), ends_with_us=True)
    try:
        assert tree.pids() == [tree.pin.ref.pid]
        assert tree.active() == 1
    finally:
        tree.end()
        assert has_ended_soon(tree.pin.handle)
        assert tree.active() == 0
        tree.close()
        tree.close()  # twice is allowed


def _leaf(lab: Lab) -> Launch:
    words, event = lab.words("ettree", "leaf")
    _winapi.CloseHandle(event)
    return Launch(words)


def has_ended_soon(handle: int) -> bool:
    """Wait for the end of a process."""
    _winapi.WaitForSingleObject(handle, int(PATIENCE_S * 1000))
    return has_ended(handle)


def test_an_environment_block_is_sorted_and_ended() -> None:
    r"""As CreateProcess wants it: by name, without regard to case, a NUL behind each and one at the end."""
    block = launch.environment_block({"b": "2", "A": "1", "=C:": "C:\\"})
    assert block is not None
    assert ctypes.wstring_at(block, len(block)) == "=C:=C:\\\0A=1\0b=2\0\0"
    empty = launch.environment_block({})
    assert empty is not None
    assert ctypes.wstring_at(empty, len(empty)) == "\0\0"
    assert launch.environment_block(None) is None


def test_closing_a_pipe_that_the_command_has_left_is_no_error(lab: Lab) -> None:
    """Unwritten input of a command that has ended."""
    with endtask.owned(["cmd", "/c", "exit"], stdin=subprocess.PIPE) as command:
        command.wait(PATIENCE_S)
        assert command.stdin is not None
        with contextlib.suppress(OSError):
            command.stdin.write(b"x" * 100_000)
    assert verdict(command).outcome == "stopped"
