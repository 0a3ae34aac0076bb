"""How a process ended: the truth from whoever has it, and `unknown` with the reason when nobody has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import ends, procfs
from endtask._backends.linux.ends import EndReader, decode_status
from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.waiter import LinuxWaiter
from endtask.model import ProcessEnd
from tests.linux.children import PATIENCE_S, python, refusal
from tests.linux.old_kernel import output, script, without_pidfds

pytestmark = pytest.mark.real

_NO_FILTER = refusal(without_pidfds(["true"]))
needs_filter = pytest.mark.skipif(bool(_NO_FILTER), reason=f"no seccomp filter can be set here: {_NO_FILTER}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

# Starts a grandchild of the test, waits for a line, and reaps it or not.
_PARENT = """
pid = os.fork()
if pid == 0:
    sys.stdin.readline()
    if sys.argv[1][0] == "s":
        os.kill(os.getpid(), int(sys.argv[1][1:]))
    os._exit(int(sys.argv[1]))
ready(f"ready {pid}")
if sys.argv[2] == "reap":
    os.waitpid(pid, 0)
    ready("reaped")
else:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    ready("zombie")
signal.pause()
"""


def _end(how: str, then: str, reader: EndReader | None = None) -> tuple[ProcessEnd, int]:
    """Return how a process that is no child of ours ended, and the pid of its parent."""
    pins = Pins()
    with python(_PARENT, how, then) as parent, pins.open(int(parent.said.split()[1])) as pin:
        assert parent.popen.stdin is not None
        parent.popen.stdin.write(b"go\n")
        parent.popen.stdin.flush()
        parent.read_line()
        return (reader or EndReader()).read(pin), parent.pid


def _kernel_keeps_the_end() -> bool:
    process = subprocess.Popen(["false"])
    with Pins().open(process.pid) as pin:
        process.wait()
        return EndReader().read(pin).known


needs_info = pytest.mark.skipif(not _kernel_keeps_the_end(), reason="needs kernel 6.15 (PIDFD_INFO_EXIT)")


@needs_info
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("0", ProcessEnd(0, source="pidfd")),
        ("42", ProcessEnd(42, source="pidfd")),
        ("s15", ProcessEnd(None, signal.SIGTERM, source="pidfd")),
        ("s9", ProcessEnd(None, signal.SIGKILL, source="pidfd")),
    ],
)
def test_end_of_a_reaped_stranger_comes_from_its_pidfd(how: str, expected: ProcessEnd) -> None:
    """The kernel keeps the status for those who held the pidfd, whoever the parent was."""
    assert _end(how, "reap")[0] == expected


@pytest.mark.parametrize(("how", "status", "number"), [("0", 0, 0), ("7", 7, 0), ("s15", None, 15)])
def test_end_of_a_zombie_comes_from_stat_and_names_the_parent(how: str, status: int | None, number: int) -> None:
    """Before it is reaped only /proc knows, and who has not reaped it is named."""
    end, parent = _end(how, "leave")
    name = os.path.basename(sys.executable)[:15]
    assert end == ProcessEnd(status, number, source="stat", unreaped_by=parent, unreaped_name=name)


def test_end_reaped_between_the_two_questions_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie that its parent reaps after the pidfd was asked and before /proc is read does not become unknown."""
    process = subprocess.Popen(["sh", "-c", "exit 9"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    real = procfs.stat_raw

    def reap_first(pid: int) -> bytes | None:
        process.wait()
        return real(pid)

    with Pins().open(process.pid) as pin:
        monkeypatch.setattr(procfs, "stat_raw", reap_first)
        end = EndReader().read(pin)
    assert end == ProcessEnd(9, source="pidfd") or (not end.known and "reaped before" in end.why_unknown)


def test_end_reaped_on_an_older_kernel_is_unknown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has kept it: the answer says so, and names no status."""
    monkeypatch.setattr(ends, "_GET_INFO", 0xC040FF7F)  # a request that no kernel knows: ENOTTY, as before 6.13
    reader = EndReader()
    assert _end("5", "reap", reader)[0] == ProcessEnd(why_unknown=ends._TOO_LATE)
    assert _end("5", "leave", reader)[0].status == 5, "a zombie is still read from /proc"


def test_end_of_a_running_process_says_that_it_runs() -> None:
    """Asked too early it invents nothing."""
    with Pins().open(os.getpid()) as pin:
        assert EndReader().read(pin) == ProcessEnd(why_unknown=ends._RUNNING)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3)])
@needs_root
@pytest.mark.needs_root
def test_end_of_a_zombie_that_may_not_be_traced_is_unknown(code: int, status: int) -> None:
    """To others the kernel shows the status 0, which must not be taken for a success (trap: field 52 of stat)."""
    text = f"""
    from endtask._backends.linux import ends, procfs
    pid, pipe = child({code})
    os.close(pipe)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print(EndReader().read(pins.open(pid)).status)
    become_nobody()
    end = EndReader().read(pins.open(pid))
    print(end.known, end.unreaped_by == os.getpid(), end.why_unknown)
    """
    known, hidden = output(script(text))
    assert known == str(status)
    assert hidden.startswith("False True its parent has not reaped it")


@needs_filter
def test_end_without_pidfds_is_kept_only_if_it_was_seen() -> None:
    """The held folder shows a zombie; once it is reaped nobody knows, unless the waiter had seen it."""
    code = """
    for looks in (True, False):
        pid, pipe = child(4)
        with pins.open(pid) as pin:
            print(EndReader().read(pin).why_unknown)
            os.close(pipe)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            if looks:
                pins.exited(pin)
            os.waitpid(pid, 0)
            end = EndReader().read(pin)
            print(end.status, end.source, end.why_unknown)
    """
    assert output(without_pidfds(script(code))) == [
        ends._RUNNING,
        "4 stat ",
        ends._RUNNING,
        f"None  {ends._NO_PIDFD}",
    ]


@needs_info
def test_end_right_after_the_wait_is_never_wrong() -> None:
    """Whatever the parent does at that moment: each of many ends that the waiter reports has its own status."""
    pins = Pins()
    waiter = LinuxWaiter(pins)
    reader = EndReader()
    code = """
pids = []
for n in range(100):
    pid = os.fork()
    if pid == 0:
        sys.stdin.read()
        os._exit(n)
    pids.append(pid)
ready("ready " + " ".join(map(str, pids)))
sys.stdin.close()
for pid in pids:
    os.waitpid(pid, 0)
"""
    with python(code) as parent:
        held = [pins.open(int(pid)) for pid in parent.said.split()[1:]]
        for key, pin in enumerate(held):
            waiter.add(pin, key)
        assert parent.popen.stdin is not None
        parent.popen.stdin.close()
        found: dict[int, int | None] = {}
        while len(found) < len(held):
            for key in waiter.wait(PATIENCE_S):
                found[key] = reader.read(held[key]).status
        assert found == {n: n for n in range(100)}
    for pin in held:
        pin.close()
    waiter.close()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (0, ProcessEnd(0, source="wait")),
        (10752, ProcessEnd(42, source="wait")),
        (9, ProcessEnd(None, 9, source="wait")),
        (131, ProcessEnd(None, 3, core=True, source="wait")),
    ],
)
def test_decode_status_is_that_of_wait(raw: int, expected: ProcessEnd) -> None:
    """The bits are those of wait(2)."""
    assert decode_status(raw, "wait") == expected
