"""The forced end: nothing escapes by forking, nothing stays held when we die, nobody else is hit."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import cgroups, guardian, procfs, sweep
from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.waiter import LinuxWaiter
from endtask.errors import GoneError
from tests.linux.children import PATIENCE_S, Child, eventually, python, running
from tests.linux.old_kernel import output, script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from endtask._backends.linux.pidfd import LinuxPin

pytestmark = pytest.mark.real

_AT = cgroups.mounts()
_BOMB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bomb.py")
# Answers every line, so that a test sees whether it runs, without guessing how long.
_ECHO = "ready()\nfor line in sys.stdin: ready(line.strip())"


def _own_folder() -> bytes | None:
    where = cgroups.paths(os.getpid())
    folder = _AT.v2.folder(where.v2) if _AT.v2 and where else None
    return folder if folder is not None and os.access(folder, os.W_OK) else None


needs_cgroup = pytest.mark.skipif(_own_folder() is None, reason="no cgroup of version 2 can be made below our own")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
MECHANISMS = [pytest.param("cgroup-freeze", marks=needs_cgroup), "sigstop"]


@pytest.fixture
def pins() -> Pins:
    """Return a fresh opener."""
    return Pins()


@pytest.fixture
def cgroup() -> Iterator[str]:
    """Yield the path of an empty cgroup of our own."""
    where = cgroups.paths(os.getpid())
    own = _own_folder()
    assert where is not None
    assert own is not None
    name = b"/endtask-test-%d-%d" % (os.getpid(), time.monotonic_ns())
    os.mkdir(own + name)
    yield os.fsdecode(where.v2.rstrip(b"/") + name)
    eventually(lambda: cgroups.is_empty(os.fsdecode(where.v2.rstrip(b"/") + name), _AT) is True, "the cgroup is empty")
    os.rmdir(own + name)


def _open(pins: Pins, mechanism: str) -> sweep.HoldSweep:
    at = _AT
    if mechanism == "sigstop":
        at = cgroups.Mounts(b"")
    made = sweep.open_sweep(pins, at)
    assert isinstance(made, sweep.HoldSweep)
    assert made.mechanism == mechanism
    return made


def _runs(child: Child) -> bool:
    """Ask the echo for an answer: only what is neither stopped nor frozen gives one."""
    assert child.popen.stdin is not None
    child.popen.stdin.write(b"hello\n")
    child.popen.stdin.flush()
    return child.read_line() == b"hello\n"


def _is_still(child: Child) -> bool:
    assert child.popen.stdin is not None
    assert child.popen.stdout is not None
    child.popen.stdin.write(b"held\n")
    child.popen.stdin.flush()
    return not select.select([child.popen.stdout], [], [], 0.05)[0]


def _our_cgroups() -> list[bytes]:
    own = _own_folder()
    mark = b"endtask-%d-" % os.getpid()
    return [] if own is None else [name for name in os.listdir(own) if name.startswith(mark)]


def _state(pid: int) -> str:
    row = procfs.row(pid)
    return row.state if row else "gone"


# --------------------------------------------------------------------------- one process


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kill_ends_what_is_held(pins: Pins, mechanism: str) -> None:
    """Held first, then ended, with the kernel's receipt, and nothing is left of the tools."""
    with python(_ECHO) as child, pins.open(child.pid) as pin:
        made = _open(pins, mechanism)
        assert made.hold(pin) is None
        assert made.settle()
        assert _is_still(child)
        (receipt,) = made.kill([pin], 1.5)
        assert (receipt.request, receipt.status, receipt.at_s) == ("KILL", "delivered", 1.5)
        assert child.popen.wait(PATIENCE_S) == -signal.SIGKILL
        made.close()
        made.close()
        assert _our_cgroups() == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_close_without_kill_lets_it_run_on_where_it_was(pins: Pins, mechanism: str) -> None:
    """A sweep that is given up leaves everything as it was, also the cgroup."""
    with python(_ECHO) as child, pins.open(child.pid) as pin:
        before = procfs.look(b"/proc/%d/cgroup" % child.pid)
        made = _open(pins, mechanism)
        assert made.hold(pin) is None
        made.close()
        assert _runs(child)
        assert procfs.look(b"/proc/%d/cgroup" % child.pid) == before
        assert _our_cgroups() == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kill_ends_what_is_held_and_not_named_and_named_and_not_held(pins: Pins, mechanism: str) -> None:
    """Whatever was held is ended, and so is a pin that nobody held."""
    with python(_ECHO) as held, python(_ECHO) as named, pins.open(held.pid) as first, pins.open(named.pid) as second:
        made = _open(pins, mechanism)
        assert made.hold(first) is None
        assert [receipt.status for receipt in made.kill([second], 0.0)] == ["delivered"]
        assert held.popen.wait(PATIENCE_S) == named.popen.wait(PATIENCE_S) == -signal.SIGKILL
        made.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_sweep_goes_on_after_a_kill(pins: Pins, mechanism: str) -> None:
    """Newcomers that are found later are held and ended by the same sweep."""
    made = _open(pins, mechanism)
    for _ in range(2):
        with python(_ECHO) as child, pins.open(child.pid) as pin:
            assert made.hold(pin) is None
            assert made.settle()
            assert _is_still(child)
            made.kill([pin], 0.0)
            assert child.popen.wait(PATIENCE_S) == -signal.SIGKILL
    made.close()


@pytest.mark.parametrize("mechanism", [*MECHANISMS, pytest.param("cgroup.kill", marks=needs_cgroup)])
def test_what_had_exited_is_gone_and_not_forced(pins: Pins, mechanism: str, request: pytest.FixtureRequest) -> None:
    """The kernel takes KILL for a zombie; the receipt does not call that forced."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    other = subprocess.Popen(["sleep", "100"])
    cgroup = ""
    if mechanism == "cgroup.kill":
        cgroup = str(request.getfixturevalue("cgroup"))
        _enter(cgroup, other.pid)
    made = sweep.open_sweep(pins, _AT, cgroup) if cgroup else _open(pins, mechanism)
    assert made.mechanism == mechanism
    with pins.open(process.pid) as zombie, pins.open(other.pid) as alive:
        refused = made.hold(zombie)
        assert refused is not None
        assert refused.status == "gone"
        assert made.hold(alive) is None
        process.wait()
        assert [receipt.status for receipt in made.kill([zombie, alive], 0.0)] == ["gone", "delivered"]
        made.close()
    other.wait()


def test_stopped_before_stays_stopped_after(pins: Pins) -> None:
    """Somebody else has stopped it: giving up does not continue it."""
    with python(_ECHO) as child, pins.open(child.pid) as pin:
        pins.signal(pin, signal.SIGSTOP)
        eventually(lambda: _state(child.pid) == "T", "it is stopped")
        made = _open(pins, "sigstop")
        assert made.hold(pin) is None
        made.close()
        assert _state(child.pid) == "T"


@needs_cgroup
def test_settle_takes_a_foreign_freezer_for_rest(pins: Pins, cgroup: str) -> None:
    """What somebody else has frozen cannot take SIGSTOP, and cannot fork either."""
    assert _AT.v2 is not None
    folder = _AT.v2.folder(os.fsencode(cgroup))
    assert folder is not None
    with python(_ECHO) as child, pins.open(child.pid) as pin:
        _enter(cgroup, child.pid)
        guardian.write_file(folder + b"/cgroup.freeze", b"1")
        eventually(lambda: b"frozen 1" in procfs.read_once(folder + b"/cgroup.events", 256), "it is frozen")
        made = _open(pins, "cgroup-freeze")
        assert made._stop(pin) is None  # as if it could not be moved
        assert made.settle()
        made.close()
        guardian.write_file(folder + b"/cgroup.freeze", b"0")
        assert _runs(child)


@needs_cgroup
def test_hold_of_a_child_born_frozen_takes_it_as_held(pins: Pins) -> None:
    """A child whose parent was moved in the middle of its fork is in our cgroup from its first moment; giving up brings it home."""
    with python(_ECHO) as child, pins.open(child.pid) as pin:
        before = procfs.look(b"/proc/%d/cgroup" % child.pid)
        made = _open(pins, "cgroup-freeze")
        guardian.write_file(made._guardian.held.folder + b"/cgroup.procs", b"%d" % child.pid)
        made._moves_well = False
        assert made.hold(pin) is None
        assert made.settle()
        assert made.mechanism == "cgroup-freeze"
        made.close()
        assert _runs(child)
        assert procfs.look(b"/proc/%d/cgroup" % child.pid) == before


def test_settle_waits_for_every_thread(pins: Pins) -> None:
    """After it no thread of a busy process runs any more."""
    code = """
import threading
for _ in range(8):
    threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()
ready()
signal.pause()
"""
    with python(code) as child, pins.open(child.pid) as pin:
        made = _open(pins, "sigstop")
        assert made.hold(pin) is None
        assert made.settle()
        assert {*sweep._thread_states(child.pid)} == {b"T"}
        made.kill([pin], 0.0)
        made.close()


@needs_root
@pytest.mark.needs_root
def test_hold_of_another_users_process_is_denied(pins: Pins) -> None:
    """Not permitted is said, and nothing was done."""
    with python(_ECHO) as child:
        code = f"""
        from endtask._backends.linux import cgroups, sweep
        import resource
        become_nobody()
        pin = pins.open({child.pid})
        made = sweep.open_sweep(pins, cgroups.mounts())
        print(made.hold(pin).status, made.kill([pin], 0.0)[0].status, made.mechanism)
        made.close()
        """
        assert output(script(code)) == ["denied denied sigstop"]
        assert _runs(child)


# --------------------------------------------------------------------------- cgroup.kill


def _enter(cgroup: str, pid: int) -> None:
    assert _AT.v2 is not None
    folder = _AT.v2.folder(os.fsencode(cgroup))
    assert folder is not None
    assert guardian.write_file(folder + b"/cgroup.procs", b"%d" % pid) == 0


@needs_cgroup
def test_cgroup_kill_ends_the_cgroup_and_the_pins_outside(pins: Pins, cgroup: str) -> None:
    """What is in the cgroup ends in one write, a member that lives elsewhere through its pin, nobody else."""
    with python(_ECHO) as inside, python(_ECHO) as outside, python(_ECHO) as stranger:
        _enter(cgroup, inside.pid)
        made = sweep.open_sweep(pins, _AT, cgroup)
        assert made.mechanism == "cgroup.kill"
        with pins.open(inside.pid) as first, pins.open(outside.pid) as second:
            assert made.hold(first) is made.hold(second) is None
            assert made.settle()
            receipts = made.kill([first, second], 0.0)
        assert [receipt.status for receipt in receipts] == ["delivered", "delivered"]
        assert "cgroup.kill" in receipts[0].detail
        assert "cgroup.kill" not in receipts[1].detail
        assert inside.popen.wait(PATIENCE_S) == outside.popen.wait(PATIENCE_S) == -signal.SIGKILL
        made.close()
        assert _runs(stranger)


@needs_cgroup
@pytest.mark.parametrize("path", ["/", "/no-such-cgroup", "relative", "/../x"])
def test_cgroup_that_cannot_be_killed_whole_is_not(pins: Pins, path: str) -> None:
    """The root, what is not there and what is not ours to see fall back to holding one by one."""
    made = sweep.open_sweep(pins, _AT, path)
    assert made.mechanism == "cgroup-freeze"
    made.close()


@needs_cgroup
def test_cgroup_that_we_are_in_is_not_killed(pins: Pins, cgroup: str) -> None:
    """A cgroup with ourselves in it is never ended as a whole."""
    pid = os.fork()
    if pid == 0:
        _enter(cgroup, os.getpid())
        made = sweep.open_sweep(Pins(), _AT, cgroup)
        os._exit(0 if made.mechanism != "cgroup.kill" else 1)
    assert os.waitpid(pid, 0)[1] == 0


# --------------------------------------------------------------------------- bombs


def _session(sid: int) -> list[int]:
    return [row.pid for row in procfs.table().values() if row.sid == sid and row.state not in "ZX"]


def _hold_all(pins: Pins, made: sweep.HoldSweep, sid: int) -> list[LinuxPin]:
    """Hold whatever is in the session until two looks find nobody new."""
    held: dict[int, LinuxPin] = {}
    quiet = 0
    deadline = time.monotonic() + PATIENCE_S
    while quiet < 2:
        assert time.monotonic() < deadline, "it never comes to rest"
        fresh = 0
        for pid in _session(sid):
            if pid in held:
                continue
            try:
                pin = pins.open(pid)
            except GoneError:
                continue
            if made.hold(pin) is None:
                held[pid] = pin
                fresh += 1
        quiet = quiet + 1 if made.settle() and not fresh else 0
    return list(held.values())


def _end_all(pins: Pins, made: sweep.HoldSweep, held: list[LinuxPin]) -> None:
    waiter = LinuxWaiter(pins)
    for key, pin in enumerate(held):
        waiter.add(pin, key)
    receipts = made.kill(held, 0.0)
    assert {receipt.status for receipt in receipts} <= {"delivered", "gone"}
    left = len(held)
    while left:
        got = len(waiter.wait(PATIENCE_S))
        assert got
        left -= got
    waiter.close()
    for pin in held:
        pin.close()


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", [*MECHANISMS, pytest.param("cgroup.kill", marks=needs_cgroup)])
def test_bomb_of_500_leaves_no_survivor(pins: Pins, mechanism: str, request: pytest.FixtureRequest) -> None:
    """A tree that forks at full rate is ended to the last process, by each mechanism."""
    cgroup = str(request.getfixturevalue("cgroup")) if mechanism == "cgroup.kill" else ""
    enter = ""
    if cgroup:
        assert _AT.v2 is not None
        enter = os.fsdecode(_AT.v2.folder(os.fsencode(cgroup)) or b"") + "/cgroup.procs"
    command = ["sh", "-c", f'[ -z "{enter}" ] || echo 0 > "{enter}"; exec "$@"', "sh"]
    with running([*command, sys.executable, "-I", "-S", _BOMB, "500", "10"], says=b"full", new_session=True) as bomb:
        if cgroup:
            whole = sweep.open_sweep(pins, _AT, cgroup)
            assert whole.mechanism == mechanism
            whole.kill([], 0.0)
            whole.close()
            eventually(lambda: cgroups.is_empty(cgroup, _AT) is True, "the cgroup is empty")
        else:
            made = _open(pins, mechanism)
            _end_all(pins, made, _hold_all(pins, made, bomb.pid))
            made.close()
        assert _session(bomb.pid) == []
        eventually(lambda: _our_cgroups() == [], "the cgroup is removed")


# --------------------------------------------------------------------------- our own death

_TOOL = """
from endtask._backends.linux import cgroups, sweep
at = cgroups.mounts() if sys.argv[1] == "cgroup-freeze" else cgroups.Mounts(b"")
held = [pins.open(int(pid)) for pid in sys.argv[2:]]
while True:
    made = sweep.open_sweep(pins, at)
    for pin in held:
        assert made.hold(pin) is None
        os.write(1, b"h")
    made.settle()
    os.write(1, b"s")
    made.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_killed_at_any_moment_leaves_nothing_held(mechanism: str) -> None:
    """SIGKILL between any two of our calls: everything runs on, in the cgroup it came from, and our cgroup goes."""
    dice = random.Random(7)
    with python(_ECHO) as one, python(_ECHO) as two, python(_ECHO) as three:
        children = [one, two, three]
        before = [procfs.look(b"/proc/%d/cgroup" % child.pid) for child in children]
        tools = []
        for _ in range(25):
            command = [*script(_TOOL), mechanism, *(str(child.pid) for child in children)]
            with _Tool(command) as tool:
                assert tool.stdout is not None
                for _ in range(dice.randrange(1, 12)):
                    assert os.read(tool.stdout.fileno(), 1)
                select.select([], [], [], dice.random() * 0.002)  # not a wait for anything: any moment will do
                tool.kill()
            tools.append(tool.pid)
            assert all(_runs(child) for child in children)
            eventually(
                lambda: [procfs.look(b"/proc/%d/cgroup" % child.pid) for child in children] == before, "all are back"
            )
        own = _own_folder()
        if own is not None:
            marks = tuple(b"endtask-%d-" % pid for pid in tools)
            eventually(lambda: not [name for name in os.listdir(own) if name.startswith(marks)], "the cgroups are gone")


class _Tool:
    """A tool that is killed by the test."""

    def __init__(self, command: list[str], stdin: int | None = None) -> None:
        self.popen = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.popen

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


def test_guardian_that_was_killed_is_replaced(pins: Pins) -> None:
    """If the guardian dies before we do, a new one learns all that is held before anything more is."""
    code = """
    from endtask._backends.linux import cgroups, sweep
    made = sweep.open_sweep(pins, cgroups.Mounts(b""))
    first, second = (pins.open(int(pid)) for pid in sys.argv[1:])
    made.hold(first)
    broken, pipe = os.pipe()
    os.close(broken)
    os.dup2(pipe, made._guardian._pipe)  # what a dead guardian looks like from here; the real one ends by it
    os.close(pipe)
    made.hold(second)
    made.settle()
    os.write(1, b"held")
    sys.stdin.read()
    """
    with python(_ECHO) as one, python(_ECHO) as two, _Tool([*script(code), str(one.pid), str(two.pid)]) as tool:
        assert tool.stdout is not None
        assert os.read(tool.stdout.fileno(), 4) == b"held"
        tool.kill()
        assert _runs(one)
        assert _runs(two)


def test_guardian_keeps_no_pipe_of_ours_and_is_no_child_of_ours(pins: Pins) -> None:
    """Readers of our pipes see their end when we close them, and nobody reaps what he did not start."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    before = set(procfs.children(os.getpid()) or ())  # of other tests in this process
    guard = guardian.Guardian(pins)
    os.close(writing)
    assert os.read(reading, 1) == b"", "the end of the pipe"
    assert set(procfs.children(os.getpid()) or ()) <= before
    guard.close()
    os.close(reading)


def test_guardian_acts_although_a_child_of_ours_holds_its_pipe(pins: Pins) -> None:
    """A fork of our program that lives on does not keep the pipe's end from being seen: our own end counts."""
    code = """
    from endtask._backends.linux import cgroups, sweep
    made = sweep.open_sweep(pins, cgroups.Mounts(b""))
    pin = pins.open(int(sys.argv[1]))
    made.hold(pin)
    made.settle()
    if os.fork() == 0:
        os.close(1)
        sys.stdin.read()
        os._exit(0)
    os.write(1, b"held")
    sys.stdin.read()
    """
    reading, writing = os.pipe()
    with python(_ECHO) as child, _Tool([*script(code), str(child.pid)], reading) as tool:
        os.close(reading)
        assert tool.stdout is not None
        assert os.read(tool.stdout.fileno(), 4) == b"held"
        tool.kill()
        assert _runs(child)
    os.close(writing)  # ends the fork


def test_guardian_in_a_program_with_threads_warns_nobody() -> None:
    """Since Python 3.12 a fork beside threads warns; ours takes no lock, and users with `-W error` are not hit."""
    code = """
    import threading, warnings
    warnings.simplefilter("error")
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    from endtask._backends.linux.guardian import Guardian
    Guardian(pins).close()
    stop.set()
    thread.join()
    print("fine")
    """
    assert output(script(code)) == ["fine"]


def test_held_lines_tell_a_new_guardian_everything() -> None:
    """What one guardian knew, another learns from the lines, also a folder with blanks."""
    held = guardian.Held()
    lines = [b"cgroup /sys/a b", b"move 12 345 /sys/c d", b"stop 13 t99"]
    for line in lines:
        assert held.apply(line)
    again = guardian.Held()
    for line in held.lines().splitlines():
        assert again.apply(line)
    assert (again.folder, again.moved, again.stopped) == (b"/sys/a b", {(12, "345"): b"/sys/c d"}, {(13, "t99")})
    assert not again.apply(b"over")
    assert not again.moved
    assert not again.stopped


def test_real_time_priority_ends_with_the_sweep(pins: Pins) -> None:
    """A sweep runs before others only while it is open."""
    before = os.sched_getscheduler(0)
    made = _open(pins, "sigstop")
    made.close()
    assert os.sched_getscheduler(0) == before
