"""The keeper: whatever a command starts is gone in the end, also when its owner or everybody else is killed."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import cgroups, procfs
from endtask._backends.linux.pidfd import Pins
from tests.linux.children import PATIENCE_S, REST, eventually, refusal
from tests.linux.old_kernel import SOURCES, output, script, without_pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.real

_KEEPER = os.path.join(SOURCES, "endtask", "_keeper.py")
_BOMB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bomb.py")
_NO_FILTER = refusal(without_pidfds(["true"]))
_PRELUDE = f"import os, signal, sys, time\n{REST}\ndef ready(): os.write(1, b'ready\\n')\n"
# A grandchild that leaves its tree by a double fork and its session by setsid(2), and is deaf to TERM.
_ESCAPEE = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(15, signal.SIG_IGN)
        ready()
        signal.pause()
    os._exit(0)
os.wait()
"""


class Owner:
    """The owner's end of the control socket.

    Attributes:
        keeper: The keeper.
        lines: What it has said.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        grace_s: float = 5.0,
        force: bool = True,
        runner: Sequence[str] = (),
        mark: str = "mark",
    ) -> None:
        self.control, theirs = socket.socketpair()
        fd = theirs.fileno()
        self.keeper = subprocess.Popen(
            [
                *runner,
                sys.executable,
                "-I",
                "-S",
                _KEEPER,
                str(fd),
                str(grace_s),
                str(int(force)),
                mark,
                "--",
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(fd,),
            start_new_session=True,
            bufsize=0,
        )
        theirs.close()
        self.lines: list[str] = []
        self._rest = b""
        self._ended = False

    def hear(self, word: str) -> str:
        """Return the first line that begins with *word*, waiting for it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for line in self.lines:
                if line.split()[0] == word:
                    return line
            assert not self._ended, f"the keeper ended after {self.lines}"
            assert self._read(deadline - time.monotonic()), f"only {self.lines} in {PATIENCE_S} s"

    def hear_all(self) -> list[str]:
        """Return all lines up to the end of the socket."""
        while not self._ended:
            assert self._read(PATIENCE_S), f"only {self.lines} in {PATIENCE_S} s"
        return self.lines

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.control], [], [], max(0.0, timeout_s))[0]:
            return False
        data = self.control.recv(65536)
        self._ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in lines]
        return True

    def says(self) -> bytes:
        """Return one line that the command writes."""
        assert self.keeper.stdout is not None
        assert select.select([self.keeper.stdout], [], [], PATIENCE_S)[0]
        return self.keeper.stdout.readline()

    def stop(self, grace_s: float, *, force: bool) -> None:
        """Ask for a stop."""
        self.control.sendall(b"stop %g %d\n" % (grace_s, force))

    @property
    def main(self) -> int:
        """The pid of the command."""
        return int(self.hear("started").split()[1])


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    """Yield a list for owners; whatever they own is gone when the test ends."""
    made: list[Owner] = []
    yield made
    for owner in made:
        owner.control.close()
        owner.keeper.wait(PATIENCE_S)
        for stream in (owner.keeper.stdin, owner.keeper.stdout):
            if stream is not None:
                stream.close()


def _python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _PRELUDE + code]


def _children_of(session: int) -> list[int]:
    return [row.pid for row in procfs.table().values() if row.sid == session and row.state not in "ZX"]


def _marked(mark: str) -> list[int]:
    wanted = b"ENDTASK_MARK=" + mark.encode()
    return [pid for pid in procfs.list_pids() if wanted in (procfs.environ(pid) or ())]


def _folder(cgroup: str) -> bytes:
    at = cgroups.mounts()
    assert at.v2 is not None
    return at.v2.folder(os.fsencode(cgroup)) or b""


def _cgroup_of(owner: Owner) -> list[str]:
    """Return the cgroup that a keeper has made, if there is one now."""
    where = cgroups.paths(os.getpid())
    if cgroups.mounts().v2 is None or where is None:
        return []
    path = os.fsdecode(where.v2).rstrip("/") + f"/endtask-owned-{owner.keeper.pid}"
    return [path] if os.path.isdir(_folder(path)) else []


def _start(owners: list[Owner], code: str, **how: object) -> Owner:
    owner = Owner(_python(code), **how)  # type: ignore[arg-type]  # handed through
    owners.append(owner)
    return owner


# --------------------------------------------------------------------------- start


def test_start_gives_session_mark_and_token(owners: list[Owner]) -> None:
    """The command leads a session of its own, carries the mark, and the token is the one that pins use."""
    owner = _start(owners, "ready(); signal.pause()", mark="here-i-am")
    owner.says()
    pid, token = owner.hear("started").split()[1:]
    with Pins().open(int(pid), token) as pin:
        assert pin.ref.token == token
    row = procfs.row(int(pid))
    assert row is not None
    assert (row.sid, row.ppid) == (int(pid), owner.keeper.pid)
    assert b"ENDTASK_MARK=here-i-am" in (procfs.environ(int(pid)) or ())


def test_start_signals_are_as_the_owner_had_them(owners: list[Owner]) -> None:
    """What the keeper and Python ignore for themselves is not inherited; what the owner ignored is."""
    code = "print(sorted(int(s) for s in range(1, 32) if signal.getsignal(s) is signal.SIG_IGN), flush=True); signal.pause()"
    plain = _start(owners, code)
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        deaf = _start(owners, code)
    finally:
        signal.signal(signal.SIGQUIT, before)
    own = [signal.SIGPIPE, signal.SIGXFSZ]  # the Python that is the command here ignores these itself
    assert plain.says() == b"[%d, %d]\n" % tuple(own)
    assert deaf.says() == b"[%d, %d, %d]\n" % (signal.SIGQUIT, *own)


@pytest.mark.parametrize(("command", "code"), [("/no/such/program", 2), ("/dev/null", 13)])
def test_start_that_fails_says_why_and_ends(owners: list[Owner], command: str, code: int) -> None:
    """The error is that of exec, and no keeper stays."""
    owner = Owner([command])
    owners.append(owner)
    assert owner.hear_all() == [f"failed {code} {os.strerror(code)}"]
    assert owner.keeper.wait(PATIENCE_S) == 0


def test_streams_pass_through_and_end_with_the_command(owners: list[Owner]) -> None:
    """The keeper does not keep the command's pipes open."""
    owner = _start(owners, "ready(); print(sys.stdin.read(), end='')")
    assert owner.says() == b"ready\n"
    assert owner.keeper.stdin is not None
    owner.keeper.stdin.write(b"hello\n")
    owner.keeper.stdin.close()
    assert owner.says() == b"hello\n"
    assert owner.says() == b"", "the end"
    assert owner.hear("exited") == "exited code 0"


@pytest.mark.parametrize(("code", "words"), [("sys.exit(7)", "code 7"), ("os.kill(os.getpid(), 9)", "signal 9")])
def test_exit_of_the_command_is_told(owners: list[Owner], code: str, words: str) -> None:
    """Its own end is told when it happens, and the keeper waits for the owner."""
    owner = _start(owners, code)
    assert owner.hear("exited") == f"exited {words}"
    assert owner.hear("reaped").startswith(f"reaped {owner.main} ")
    assert owner.keeper.poll() is None
    owner.stop(1, force=True)
    assert owner.hear_all()[-1] == "empty"


# --------------------------------------------------------------------------- stop


def test_stop_asks_the_command_first_and_proves_it(owners: list[Owner]) -> None:
    """An obedient command is asked, reaped, and the tree is empty."""
    owner = _start(owners, "ready(); signal.pause()")
    owner.says()
    owner.stop(5, force=True)
    name = os.path.basename(sys.executable)[:15]
    assert owner.hear_all() == [
        f"started {owner.main} {owner.lines[0].split()[2]}",
        f"asked {owner.main} {name}",
        "exited signal 15",
        f"reaped {owner.main} {name} signal 15",
        "empty",
    ]
    assert owner.keeper.wait(PATIENCE_S) == 0


def test_stop_leaves_the_children_to_a_command_that_handles_it(owners: list[Owner]) -> None:
    """A manager stops its own child: only the manager is asked."""
    code = """
child = os.fork()
if child == 0:
    signal.pause()
def stop(*_):
    os.kill(child, 10)
    os.wait()
    os._exit(0)
signal.signal(15, stop)
ready()
rest()
"""
    owner = _start(owners, code)
    owner.says()
    owner.stop(5, force=True)
    asked = [line for line in owner.hear_all() if line.startswith("asked")]
    assert [int(line.split()[1]) for line in asked] == [owner.main]
    assert "exited code 0" in owner.lines


def test_stop_asks_all_at_once_where_nobody_handles_it(owners: list[Owner]) -> None:
    """A command that has no handler passes nothing on: its child is asked too, at once, not after half of the time."""
    code = "if os.fork() == 0:\n    ready()\nsignal.pause()"
    owner = _start(owners, code)
    owner.says()
    began = time.monotonic()
    owner.stop(60, force=True)
    lines = owner.hear_all()
    assert time.monotonic() - began < 30
    assert sum(line.startswith("asked") for line in lines) == 2
    assert not any(line.startswith("forced") for line in lines)


def test_stop_wakes_a_stopped_command(owners: list[Owner]) -> None:
    """TERM stays pending in a stopped process: it is continued."""
    owner = _start(owners, "signal.signal(15, lambda *_: os._exit(3)); ready(); rest()")
    owner.says()
    os.kill(owner.main, signal.SIGSTOP)
    eventually(lambda: (row := procfs.row(owner.main)) is not None and row.state == "T", "it is stopped")
    owner.stop(30, force=False)
    owner.hear_all()
    assert "exited code 3" in owner.lines


def test_stop_forces_the_escapee_when_the_time_is_over(owners: list[Owner]) -> None:
    """Double fork, own session, deaf: it has become the keeper's child, and ends."""
    owner = _start(owners, _ESCAPEE + "signal.pause()", mark=f"escapee-of-{os.getpid()}")
    owner.says()
    mark = f"escapee-of-{os.getpid()}"
    eventually(lambda: len(_marked(mark)) == 2, "the one between the two has ended")
    (escaped,) = set(_marked(mark)) - {owner.main}
    owner.stop(2, force=True)  # time enough for its main process to end by itself
    lines = owner.hear_all()
    assert lines[-1] == "empty"
    assert not _cgroup_of(owner)
    assert [line.split()[1] for line in lines if line.startswith("forced")] == [str(escaped)]
    assert _marked(f"escapee-of-{os.getpid()}") == []


def test_stop_without_force_names_what_is_left_and_can_be_repeated(owners: list[Owner]) -> None:
    """Force was not allowed: what runs is named, and a second stop with force ends it."""
    owner = _start(owners, "signal.signal(15, signal.SIG_IGN); ready(); signal.pause()")
    owner.says()
    owner.stop(0.1, force=False)
    assert owner.hear("left").split()[1] == str(owner.main)
    assert _children_of(owner.main) == [owner.main]
    owner.stop(0.1, force=True)
    assert owner.hear_all()[-1] == "empty"


def test_stop_asks_the_successor_that_a_handler_starts(owners: list[Owner]) -> None:
    """A tree that is born again while it dies is found by the end of the one that bore it."""
    code = """
def again(*_):
    if os.fork() == 0:
        os.setsid()
        signal.signal(15, signal.SIG_DFL)
        signal.pause()
    os._exit(0)
signal.signal(15, again)
ready()
rest()
"""
    owner = _start(owners, code)
    owner.says()
    owner.stop(60, force=False)
    began = time.monotonic()
    assert owner.hear_all()[-1] == "empty"
    assert time.monotonic() - began < 28
    assert sum(line.startswith("asked") for line in owner.lines) == 2


def test_stop_of_an_empty_tree_is_empty_at_once(owners: list[Owner]) -> None:
    """Nothing was left already."""
    owner = _start(owners, "pass")
    owner.hear("exited")
    owner.stop(60, force=True)
    assert owner.hear_all()[-1] == "empty"


def test_nonsense_from_the_owner_changes_nothing(owners: list[Owner]) -> None:
    """The keeper must not die of a line that it does not understand."""
    owner = _start(owners, "ready(); signal.pause()")
    owner.says()
    owner.control.sendall(b"\nhello\nstop\nstop 1\n")
    owner.stop(5, force=True)
    assert owner.hear_all()[-1] == "empty"


# --------------------------------------------------------------------------- death of others


def test_owner_that_dies_leaves_nothing(owners: list[Owner]) -> None:
    """The end of the socket is the owner's death, also by SIGKILL: the keeper stops by itself, escapees included."""
    mark = f"orphan-of-{os.getpid()}"
    owner = _start(
        owners, _ESCAPEE + "signal.signal(15, signal.SIG_IGN); ready(); signal.pause()", grace_s=0.2, mark=mark
    )
    assert owner.says() == owner.says() == b"ready\n"
    assert len(_marked(mark)) == 2
    owner.control.close()
    assert owner.keeper.wait(PATIENCE_S) == 0
    assert _marked(mark) == []


def test_owner_that_dies_without_force_leaves_only_the_deaf(owners: list[Owner]) -> None:
    """Force was not allowed: all are asked, who does not listen lives on, and the keeper ends."""
    owner = _start(owners, "signal.signal(15, signal.SIG_IGN); ready(); sys.stdin.read()", grace_s=0.1, force=False)
    owner.says()
    main = owner.main
    owner.control.close()
    assert owner.keeper.wait(PATIENCE_S) == 0
    assert not _cgroup_of(owner), "what is left goes back to where the keeper was"
    with Pins().open(main) as pin:
        assert not Pins().exited(pin)
        assert owner.keeper.stdin is not None
        owner.keeper.stdin.close()  # its input ends, and so does it
        eventually(lambda: Pins().exited(pin), "it ended")


def test_keeper_is_deaf_to_what_is_meant_for_its_owner(owners: list[Owner]) -> None:
    """TERM, INT, HUP and QUIT do not end it: only its owner decides."""
    owner = _start(owners, "ready(); signal.pause()")
    owner.says()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(owner.keeper.pid, number)
    owner.stop(5, force=True)
    assert owner.hear_all()[-1] == "empty"
    assert owner.keeper.wait(PATIENCE_S) == 0


def test_keeper_that_was_killed_leaves_nothing_held(owners: list[Owner]) -> None:
    """The keeper never stops or freezes anything, so its own death in the middle of a stop holds nobody still."""
    code = (
        "signal.signal(15, lambda *_: os.write(1, b'asked\\n')); ready(); rest(0); print(sys.stdin.read(), flush=True)"
    )
    owner = _start(owners, code)
    owner.says()
    main = owner.main
    owner.stop(60, force=True)
    assert owner.says() == b"asked\n"
    owner.keeper.kill()
    owner.keeper.wait()
    with Pins().open(main) as pin:
        assert owner.keeper.stdin is not None
        owner.keeper.stdin.write(b"still here")
        owner.keeper.stdin.close()
        assert owner.says() == b"still here\n"
        eventually(lambda: Pins().exited(pin), "it ended")
    if left := _cgroup_of(owner):
        # The next one takes away what nobody is in any more, and only that.
        with_somebody = _start(owners, "ready(); signal.pause()")
        with_somebody.says()
        assert _cgroup_of(with_somebody)
        next_one = _start(owners, "ready(); signal.pause()")
        next_one.stop(5, force=True)
        assert next_one.hear_all()[-1] == "empty"
        assert (left, _cgroup_of(owner), bool(_cgroup_of(with_somebody))) == (left, [], True)


def test_only_an_abandoned_cgroup_is_removed() -> None:
    """One that is locked stays though it is empty, and one that somebody lives in stays though nobody has locked it."""
    code = """
    import subprocess
    from endtask._backends.linux import launch
    prefix = b"endtask-test-%d-" % os.getpid()
    own = launch.make_cgroup(prefix + b"own")
    if own is None:
        sys.exit(print("no cgroup"))
    parent = os.path.dirname(own.folder) + b"/" + prefix
    for name in (b"left", b"lived-in"):
        os.mkdir(parent + name)
    os.mkdir(parent + b"left/below")
    sleeper = subprocess.Popen(["sleep", "60"])
    open(parent + b"lived-in/cgroup.procs", "w").write(str(sleeper.pid))
    def there():
        return sorted(n.decode() for n in (b"own", b"left", b"lived-in") if os.path.isdir(parent + n))
    launch.remove_abandoned(prefix)
    print(*there())
    again = launch.make_cgroup(prefix + b"own")
    print(again)
    sleeper.kill()
    sleeper.wait()
    own.remove()
    launch.remove_abandoned(prefix)
    print(*there())
    """
    assert output(script(code)) in (["no cgroup"], ["lived-in own", "None", ""])


def test_a_cgroup_whose_name_is_left_over_is_made_anew() -> None:
    """A keeper that was killed had our pid: its empty folder is no reason to go without one."""
    code = """
    from endtask._backends.linux import launch
    name = b"endtask-test-%d" % os.getpid()
    first = launch.make_cgroup(name)
    if first is None:
        sys.exit(print("no cgroup"))
    os.close(first._lock)
    second = launch.make_cgroup(name)
    print(second is not None)
    second.remove()
    """
    assert output(script(code)) in (["no cgroup"], ["True"])


# --------------------------------------------------------------------------- adversaries


def _no_cgroup() -> list[str]:
    """Return what runs a command where no cgroup can be made; empty if that is not possible here."""
    hide = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'for m in $(grep cgroup2 /proc/mounts | cut -d" " -f2); do umount -l "$m"; done; exec "$@"',
        "sh",
    ]
    return [] if refusal([*hide, "true"]) else hide


@pytest.mark.slow
@pytest.mark.parametrize("cgroup", [True, False])
def test_bomb_of_500_leaves_no_survivor(owners: list[Owner], cgroup: bool) -> None:
    """A tree that forks at full rate ends to the last process, also without a cgroup."""
    runner = [] if cgroup else _no_cgroup()
    if not cgroup and not runner:
        pytest.skip("the cgroup mounts cannot be hidden here")
    owner = Owner([sys.executable, "-I", "-S", _BOMB, "500", "10"], runner=runner)
    owners.append(owner)
    session = owner.main
    assert owner.says() == b"full\n"
    owner.stop(0, force=True)
    assert owner.hear_all()[-1] == "empty"
    assert _children_of(session) == []
    assert owner.keeper.wait(PATIENCE_S) == 0


@pytest.mark.skipif(bool(_NO_FILTER), reason=f"no seccomp filter can be set here: {_NO_FILTER}")
def test_old_kernel_keeps_as_well(owners: list[Owner]) -> None:
    """Without pidfds the pids of children are safe, because only the keeper can reap them."""
    owner = Owner(_python(_ESCAPEE + "signal.pause()"), runner=without_pidfds([]), mark="old")
    owners.append(owner)
    owner.says()
    assert owner.hear("started").split()[2].startswith("t")
    owner.stop(2, force=True)  # time enough for its main process to end by itself
    lines = owner.hear_all()
    assert lines[-1] == "empty"
    assert sum(line.startswith("forced") for line in lines) == 1


def test_keeper_removes_its_cgroup() -> None:
    """Nothing of it stays in the file system."""
    code = """
    from endtask._backends.linux import launch
    made = launch.make_cgroup(b"endtask-test-%d" % os.getpid())
    if made is not None:
        os.mkdir(made.folder + b"/below")
        made.remove()
    print(made is not None and os.path.exists(made.folder))
    """
    assert output(script(code)) == ["False"]
