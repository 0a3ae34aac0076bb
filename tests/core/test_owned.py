"""`owned`: a command's tree is gone when the block ends, whatever happens, and the report shows it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

import endtask
from endtask._kept import Kept

pytestmark = pytest.mark.slow

DEAF = "import signal,sys,time; signal.signal(15,signal.SIG_IGN); signal.alarm(60); print('ready',flush=True); time.sleep(60)"
ESCAPES = "import os,signal,sys,time\nsignal.alarm(60)\nif os.fork()==0:\n os.setsid()\n if os.fork(): os._exit(0)\n signal.alarm(60); print(os.getpid(),flush=True); time.sleep(60)\ntime.sleep(60)"


def ends(pid: int) -> bool:
    """Wait for the end of a process that may have gone already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    gone = bool(poller.poll(60_000))
    os.close(handle)
    return gone


def python(text: str) -> list[str]:
    """Return the command line of a small program."""
    return [sys.executable, "-I", "-S", "-c", text]


def test_block_ends_with_the_tree_gone_and_proved() -> None:
    """What escaped by a double fork and setsid is found too, because the keeper adopts it."""
    with endtask.owned(python(ESCAPES), stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        escaped = int(command.stdout.readline())
    assert command.report is not None
    target = command.report.targets[0]
    assert ("stopped", 0) == (target.outcome, command.report.exit_code)
    assert ["subreaper"] == [e.mechanism for e in target.evidence]
    assert {command.pid, escaped} <= {m.ref.pid for m in target.members}
    assert ends(escaped)


def test_deaf_command_is_forced_and_told_so() -> None:
    """Force is part of the promise of the block, and it is never hidden."""
    with endtask.owned(python(DEAF), grace_s=0.2, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"ready\n"
    assert command.report is not None
    assert ("forced", 10) == (command.report.targets[0].outcome, command.report.exit_code)
    assert command.report.forced


def test_without_force_a_deaf_command_is_reported_as_running() -> None:
    """Nothing is forced when force was not allowed; the report names who is left."""
    command = endtask.owned(python(DEAF), grace_s=0.2, force=False, stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == b"ready\n"
    report = command.stop()
    try:
        assert ("running", 124) == (report.targets[0].outcome, report.exit_code)
        assert str(command.pid) in report.targets[0].reasons[0].text
    finally:
        endtask.stop(command.ref, now=True, watch_s=0)
        command.stdout.close()


def test_end_of_the_command_is_known_after_the_stop() -> None:
    """`poll` and `wait` answer from memory when the keeper has gone."""
    command = endtask.owned(python("raise SystemExit(7)"))
    first = command.wait(60)
    assert first is not None
    assert first.status == 7
    command.stop()
    assert first == command.poll() == command.wait()


def test_missing_program_is_an_os_error() -> None:
    """A command that cannot be started raises what `subprocess` would raise."""
    with pytest.raises(FileNotFoundError):
        endtask.owned("/no/such/program")


def test_tree_is_gone_when_its_owner_is_killed() -> None:
    """SIGKILL to the owner in the middle of the block: the keeper stops the tree by itself."""
    inner = python("import signal,time; signal.alarm(60); print('x',flush=True); time.sleep(60)")
    owner = f"import endtask,sys,time\nwith endtask.owned({inner!r}, grace_s=1) as c:\n print(c.pid, flush=True)\n time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE)
    assert process.stdout is not None
    numbers = (process.stdout.readline(), process.stdout.readline())
    pid = next(int(n) for n in numbers if n.strip().isdigit())
    process.kill()
    process.wait()
    assert ends(pid)
    process.stdout.close()


def test_tree_is_found_by_its_mark_when_the_keeper_is_killed() -> None:
    """SIGKILL to the keeper: everything with the mark is stopped, and the report does not call that proved."""
    with endtask.owned(python(ESCAPES), stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        escaped = int(command.stdout.readline())
        assert isinstance(command._holder, Kept)
        os.kill(command._holder.keeper.pid, signal.SIGKILL)  # the test plays the murderer
    assert command.report is not None
    assert command.report.exit_code == 3
    assert {"unproven"} == {t.outcome for t in command.report.targets}
    assert ends(escaped)
    assert ends(command.pid)


def test_owner_with_closed_streams_owns_its_tree_as_well() -> None:
    """Descriptors 0 to 2 may be free in the owner; nothing of ours may get their numbers."""
    inner = python("import signal,time; signal.alarm(60); time.sleep(60)")
    owner = (
        "import os,sys,endtask\nout=os.dup(1)\nfor fd in (0,1,2): os.close(fd)\n"
        f"with endtask.owned({inner!r}, grace_s=1) as c: os.write(out, b'%d\\n' % c.pid)\n"
        "os.write(out, c.report.targets[0].outcome.encode())"
    )
    done = subprocess.run([sys.executable, "-c", owner], stdout=subprocess.PIPE, check=False)
    pid, outcome = done.stdout.split()
    assert outcome == b"stopped"
    assert ends(int(pid))


def test_member_that_its_own_parent_reaps_has_exited_in_the_report() -> None:
    """In a tree with a parent that waits, the keeper does not see each end; the empty tree shows it."""
    with endtask.owned(["sh", "-c", "sleep 60 & echo ready; wait; wait"], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        command.stdout.readline()
    assert command.report is not None
    assert all(m.exited and m.end is not None for m in command.report.targets[0].members)


def test_end_of_its_input_is_asked_first_where_the_caller_says_so() -> None:
    """`cat` leaves by itself when its input ends, and that is all that it was asked with."""
    command = endtask.owned(["cat"], stdin=subprocess.PIPE, stdin_eof=True)
    report = command.stop()
    (member,) = report.targets[0].members
    assert ("stopped", ["STDIN_EOF"]) == (report.targets[0].outcome, [r.request for r in member.receipts])
    assert (member.end.status if member.end else None) == 0


def test_deaf_to_the_end_of_its_input_it_is_asked_further() -> None:
    """The grace is shared between the two."""
    with endtask.owned(["sleep", "60"], stdin=subprocess.PIPE, stdin_eof=True, grace_s=4.0) as command:
        pass
    assert command.report is not None
    assert ["STDIN_EOF", "TERM"] == [r.request for r in command.report.targets[0].members[0].receipts]


def test_end_of_input_needs_a_pipe_and_a_command_is_not_empty() -> None:
    """What is not ours cannot be closed by us."""
    with pytest.raises(ValueError, match="so it needs"):
        endtask.owned(["cat"], stdin_eof=True)
    empty: tuple[str | list[str], ...] = ("", " ", [])
    for nothing in empty:
        with pytest.raises(ValueError, match="empty"):
            endtask.owned(nothing)
