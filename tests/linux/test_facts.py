"""Facts of real processes in every state that changes an answer."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import cgroups, procfs
from endtask._backends.linux.backend import LinuxBackend
from endtask._backends.linux.signal_sets import Masks, combine
from tests.linux.children import eventually, python, refusal, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from endtask.model import Facts, SignalSets

pytestmark = pytest.mark.real

_SLEEP = shutil.which("sleep") or "/bin/sleep"
_TERM, _INT, _HUP, _USR1 = (1 << (n - 1) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1))
_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not _ROOT, reason="needs root")
_MACHINE = os.uname().machine


def _facts(pid: int, *, table: bool = False) -> Facts:
    backend = LinuxBackend()
    with backend.pin(pid) as pin:
        return backend.facts(pin, backend.table() if table else None)


def _signals(pid: int) -> SignalSets:
    found = LinuxBackend().signals(pid)
    assert found is not None
    return found


# --------------------------------------------------------------------------- signals


def test_handler_ignored_and_default_are_told_apart() -> None:
    """One bit each."""
    code = "signal.signal(15, lambda *_: None); signal.signal(1, signal.SIG_IGN); ready(); sys.stdin.read()"
    with python(code) as child:
        seen = _signals(child.pid)
        assert seen.caught & _TERM
        assert seen.ignored & _HUP
        assert not (seen.caught | seen.ignored | seen.blocked | seen.waited) & _USR1
        assert seen.waited_known
        assert _facts(child.pid).signals == seen


def test_blocked_needs_every_thread() -> None:
    """What one thread leaves open is delivered there."""
    code = """
        import threading
        signal.pthread_sigmask(signal.SIG_BLOCK, [15, 1])
        def other():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [1])
            ready()
            threading.Event().wait()
        threading.Thread(target=other, daemon=True).start()
        sys.stdin.read()
    """
    with python(textwrap.dedent(code)) as child:
        seen = _signals(child.pid)
        assert seen.blocked & _TERM
        assert not seen.blocked & _HUP
        os.kill(child.pid, signal.SIGTERM)
        assert _signals(child.pid).pending & _TERM


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_sigwait_is_seen_although_the_mask_hides_it(thread: bool) -> None:
    """The kernel takes what is waited for out of the mask while it waits."""
    code = f"""
        import threading
        signal.pthread_sigmask(signal.SIG_BLOCK, [15, 10])
        def wait():
            ready()
            signal.sigwait([15, 10])
        if {thread}:
            threading.Thread(target=wait, daemon=True).start()
            sys.stdin.read()
        else:
            wait()
    """
    if _MACHINE not in ("x86_64", "aarch64"):
        pytest.skip(f"the number of rt_sigtimedwait on {_MACHINE} is not known to endtask")
    with python(textwrap.dedent(code)) as child:
        eventually(lambda: bool(_signals(child.pid).waited), "the child waits")
        seen = _signals(child.pid)
        assert seen.waited == _TERM | _USR1
        assert seen.waited_known
        assert not (seen.caught | seen.ignored) & _TERM


def test_signalfd_takes_what_is_blocked() -> None:
    """And only that: an unblocked signal does not wait for the reader."""
    code = """
        import ctypes, struct
        signal.pthread_sigmask(signal.SIG_BLOCK, [15])
        mask = struct.pack("=Q", (1 << 14) | 1).ljust(128, b"\\0")
        assert ctypes.CDLL(None).signalfd(-1, mask, 0) >= 0
        ready()
        sys.stdin.read()
    """
    with python(textwrap.dedent(code)) as child:
        seen = _signals(child.pid)
        assert seen.blocked == _TERM
        assert seen.waited == _TERM


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        ([], (0, 0, 0)),
        ([(True, 4, 0)], (4, 0, 0)),
        ([(True, 4, 0), (False, 6, 0)], (4, 0, 0)),
        ([(True, 0, 4)], (0, 4, 0)),
        ([(True, 4, 0), (False, 0, 4)], (0, 4, 0)),  # the others block what one waits for: as it should be
        ([(True, 0, 0), (False, 0, 4)], (0, 0, 0)),  # the main thread is offered it first, and it ends the process
        ([(True, 4, 0), (False, 0, 4), (False, 0, 0)], (0, 0, 4)),  # either of two threads: nobody can tell
        ([(False, 4, 0), (False, 0, 4)], (0, 4, 0)),  # the main thread has exited
    ],
)
def test_combine(threads: list[tuple[bool, int, int]], expected: tuple[int, int, int]) -> None:
    """What the masks of all threads mean for the process."""
    assert combine([Masks(main=m, blocked=b, waiting=w) for m, b, w in threads]) == expected


# --------------------------------------------------------------------------- identity


def test_facts_of_an_ordinary_program(tmp_path: Path) -> None:
    """Everything plain, with and without a process table."""
    program = tmp_path / "a program with (a) long name"
    shutil.copy(_SLEEP, program)
    with running([str(program), "60"], new_session=True) as child:
        seen = _facts(child.pid)
        assert _facts(child.pid, table=True).name == seen.name == program.name
        assert seen.ref.pid == child.pid
        assert (seen.ppid, seen.sid, seen.pgid) == (os.getpid(), child.pid, child.pid)
        assert (seen.state, seen.exited, seen.kernel, seen.threads, seen.tty) == ("S", False, False, 1, "")
        assert seen.exe == str(program)
        assert seen.cmdline == (str(program), "60")
        assert seen.uid == os.geteuid()
        assert seen.user == LinuxBackend().user_name(os.geteuid())
        assert 0 <= seen.age_s < 60
        assert seen.wait_channel
        assert seen.parent_name == procfs.short_name(os.getpid())
        assert not seen.reaper
        assert not seen.other_namespace
        assert seen.tracer == 0
        assert seen.ports == ()
        assert seen.unknown == ()
        assert not [m for m in seen.managers if m.kind == "loop"]


def test_a_shell_loop_above_is_named() -> None:
    """The parent that would start it again, with the keyword that it rests on."""
    with running(["sh", "-c", f"while :; do {_SLEEP} 60 & echo ready $!; wait; done"], says=b"ready") as shell:
        below = int(shell.said.split()[1])
        loop = next(m for m in _facts(below).managers if m.kind == "loop")
        assert (loop.pid, loop.stop, loop.certain) == (shell.pid, f"endtask stop {shell.pid}", False)
        assert "`while`" in loop.because
        os.kill(shell.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, shell.pid, os.WSTOPPED)
        os.kill(below, signal.SIGKILL)


def test_the_script_of_a_shell_is_read_where_the_shell_stands(tmp_path: Path) -> None:
    """A relative path means the shell's working directory."""
    (tmp_path / "run.sh").write_text(f"# keeps it alive\nuntil false; do\n {_SLEEP} 60 & echo ready $!; wait\ndone\n")
    with running(["sh", "run.sh"], says=b"ready", cwd=str(tmp_path)) as shell:
        below = int(shell.said.split()[1])
        loop = next(m for m in _facts(below).managers if m.kind == "loop")
        assert (loop.name, loop.pid) == ("sh run.sh", shell.pid)
        assert "`until`" in loop.because
        os.kill(shell.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, shell.pid, os.WSTOPPED)
        os.kill(below, signal.SIGKILL)


def test_ports_and_terminal_are_named() -> None:
    """The port that it listens on, and the terminal that controls it."""
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        with running([_SLEEP, "60"], inherit=(ours.fileno(),)) as child:
            assert [str(p) for p in _facts(child.pid).ports] == [f":{ours.getsockname()[1]}"]
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    try:
        code = "import fcntl, termios; fd = int(sys.argv[1]); fcntl.ioctl(fd, termios.TIOCSCTTY, 0); ready(); sys.stdin.read()"
        with python(code, str(slave), inherit=(slave,), new_session=True) as child:
            assert f"/dev/{_facts(child.pid).tty}" == name
    finally:
        os.close(master)
        os.close(slave)


def test_a_process_started_by_one_that_has_gone_has_only_a_reaper() -> None:
    """A double fork with a session of its own: whoever is the parent now did not start it."""
    code = """
        import ctypes
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: adopt it, so that the test need not be init
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.read(r, 1)
                os._exit(0)
            os._exit(0)
        os.wait()
        pids = [int(p) for t in os.listdir("/proc/self/task") for p in open("/proc/self/task/%s/children" % t).read().split()]
        ready("ready %d" % pids[0])
        sys.stdin.read()
    """
    with python(textwrap.dedent(code)) as child:
        orphan = int(child.said.split()[1])
        seen = _facts(orphan)
        assert seen.ppid == child.pid
        assert seen.reaper
        assert all(m.kind != "loop" for m in seen.managers)
        assert not _facts(child.pid).reaper
        os.kill(orphan, signal.SIGKILL)


# --------------------------------------------------------------------------- states


def test_a_stopped_process_says_t() -> None:
    """Suspended by job control, until it is continued."""
    backend = LinuxBackend()
    with running([_SLEEP, "60"]) as child, backend.pin(child.pid) as pin:
        assert not backend.stopped(pin)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert backend.stopped(pin)
        assert backend.facts(pin).state == "T"
        os.kill(child.pid, signal.SIGCONT)
        os.waitid(os.P_PID, child.pid, os.WCONTINUED)
        assert not backend.stopped(pin)


def test_a_traced_process_names_its_tracer() -> None:
    """Held by ptrace: state t, and who holds it."""
    code = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        pid = os.posix_spawn(sys.argv[1], ["sleep", "60"], {})
        if libc.ptrace(16, pid, 0, 0) != 0:  # PTRACE_ATTACH
            ready("ready refused %d" % ctypes.get_errno())
        os.waitpid(pid, 0)
        ready("ready %d" % pid)
        sys.stdin.read(1)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        ready()
        sys.stdin.read()
    """
    with python(textwrap.dedent(code), _SLEEP) as tracer:
        if b"refused" in tracer.said:
            pytest.skip(f"ptrace is not allowed here: errno {tracer.said.split()[-1].decode()}")
        seen = _facts(int(tracer.said.split()[1]))
        assert seen.state == "t"
        assert seen.tracer == tracer.pid
        assert tracer.popen.stdin is not None
        tracer.popen.stdin.write(b".")
        tracer.popen.stdin.flush()
        tracer.read_line()


def test_a_zombie_has_exited_and_names_its_parent() -> None:
    """It runs no code any more; nothing that it does not show counts as unknown."""
    done = subprocess.Popen([_SLEEP, "0"])
    os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)
    seen = _facts(done.pid)
    assert (seen.state, seen.exited, seen.ppid, seen.name) == ("Z", True, os.getpid(), "sleep")
    assert seen.parent_name == procfs.short_name(os.getpid())
    assert seen.unknown == ()
    backend = LinuxBackend()
    with backend.pin(done.pid) as pin:
        done.wait()
        late = backend.facts(pin)
        assert late.exited
        assert late.state == "X"
        assert not backend.stopped(pin)


def test_a_main_thread_that_has_exited_is_no_exited_process() -> None:
    """State Z with other threads is alive, and these speak for it."""
    code = """
        import threading, ctypes
        signal.pthread_sigmask(signal.SIG_BLOCK, [15])
        def stay():
            signal.pthread_sigmask(signal.SIG_BLOCK, [1])
            fd = os.open("/proc/self/stat", os.O_RDONLY)
            while b") Z " not in os.pread(fd, 4096, 0): pass
            ready()
            threading.Event().wait()
        threading.Thread(target=stay).start()
        ctypes.CDLL(None).pthread_exit(None)
    """
    backend = LinuxBackend()
    with python(textwrap.dedent(code)) as child, backend.pin(child.pid) as pin:
        row = backend.row(child.pid)
        assert row is not None
        assert row.state == "Z"
        seen = backend.facts(pin)
        assert not seen.exited
        assert seen.threads == 2
        assert seen.state in ("R", "S")
        assert seen.exe
        assert seen.cmdline
        assert seen.signals is not None
        assert seen.signals.blocked == _TERM | _HUP  # the dead thread's mask does not count
        assert seen.unknown == ()
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert backend.stopped(pin)
        os.kill(child.pid, signal.SIGCONT)


def test_a_kernel_thread_is_known() -> None:
    """By a flag of its own, whatever it is called."""
    if procfs.short_name(2) != "kthreadd":
        pytest.skip("pid 2 is not kthreadd: no kernel threads in this pid namespace")
    assert _facts(2).kernel


# --------------------------------------------------------------------------- cgroups


@contextlib.contextmanager
def _cgroup(mount: cgroups.Mount | None) -> Iterator[bytes]:
    """Make a cgroup, or skip the test with the reason."""
    if mount is None:
        pytest.skip("this cgroup hierarchy is not mounted")
    folder = mount.point + b"/endtask-test-%d" % os.getpid()
    try:
        os.mkdir(folder)
    except OSError as exc:
        pytest.skip(f"no cgroup can be made in {os.fsdecode(mount.point)}: {exc.strerror}")
    try:
        yield folder
    finally:
        eventually(lambda: _removed(folder), "the cgroup is empty")


def _removed(folder: bytes) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def _write(path: bytes, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def test_version_2_freezer_is_seen_also_from_above_and_emptiness_is_told() -> None:
    """A frozen process looks asleep; only its cgroup says it."""
    backend = LinuxBackend()
    with _cgroup(backend.mounts().v2) as folder:
        below = folder + b"/below"
        os.mkdir(below)
        name = "/" + os.fsdecode(folder.rpartition(b"/")[2])
        try:
            with running([_SLEEP, "60"]) as child:
                _write(below + b"/cgroup.procs", str(child.pid))
                assert backend.cgroup(child.pid) == f"{name}/below"
                assert backend.cgroup_pids(name) == [child.pid]
                assert backend.cgroup_empty(name) is False
                assert _facts(child.pid).frozen == ""
                _write(folder + b"/cgroup.freeze", "1")
                eventually(lambda: b"frozen 1" in procfs.read_all(below + b"/cgroup.events"), "it is frozen")
                seen = _facts(child.pid)
                assert (seen.frozen, seen.cgroup) == ("v2", f"{name}/below")
                _write(folder + b"/cgroup.freeze", "0")
            eventually(lambda: backend.cgroup_empty(name) is True, "the kernel says that it is empty")
            assert backend.cgroup_pids(name) == []
        finally:
            eventually(lambda: _removed(below), "the inner cgroup is empty")
    assert backend.cgroup_empty(name) is True
    assert backend.cgroup_pids(name) is None


def test_version_1_freezer_is_seen() -> None:
    """The old freezer holds back even KILL, so it must be told from the new one."""
    backend = LinuxBackend()
    with _cgroup(backend.mounts().freezer) as folder, running([_SLEEP, "60"]) as child:
        _write(folder + b"/cgroup.procs", str(child.pid))
        assert _facts(child.pid).frozen == ""
        _write(folder + b"/freezer.state", "FROZEN")
        try:
            assert _facts(child.pid).frozen == "v1"
        finally:
            _write(folder + b"/freezer.state", "THAWED")


def test_paths_and_mounts_of_every_layout() -> None:
    """Hybrid, pure, inside a container, outside of our cgroup namespace."""
    hybrid = cgroups.Paths(b"2:freezer:/f\n1:name=systemd:/system.slice/a.service\n0::/\n")
    assert (hybrid.main, hybrid.freezer) == ("/system.slice/a.service", b"/f")
    assert cgroups.Paths(b"0::/user.slice/a:b (deleted)\n").main == "/user.slice/a:b"
    assert cgroups.Paths(b"").main == ""
    at = cgroups.Mounts(
        b"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        b"42 31 0:38 /docker/1 /mnt rw - cgroup2 cgroup2 rw\n"
        b"37 31 0:34 / /sys/fs/a\\040b rw shared:1 - cgroup cgroup rw,freezer\n"
        b"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    )
    assert at.v2 is not None
    assert at.freezer is not None
    assert at.named is not None
    assert at.v2.folder(b"/") == b"/sys/fs/cgroup/unified"
    assert at.v2.folder(b"/a/b") == b"/sys/fs/cgroup/unified/a/b"
    assert at.v2.folder(b"/../a") is None
    assert at.v2.folder(b"") is None
    assert at.freezer.folder(b"/f") == b"/sys/fs/a b/f"
    inner = cgroups.Mount(b"/sys/fs/cgroup", b"/docker/1")
    assert inner.folder(b"/docker/1/x") == b"/sys/fs/cgroup/x"
    assert inner.folder(b"/docker/1") == b"/sys/fs/cgroup"
    assert inner.folder(b"/docker/12") is None
    assert cgroups.is_empty("", at) is None
    assert cgroups.is_empty("/../x", at) is None
    assert cgroups.members("/no-such-cgroup", at) is None


# --------------------------------------------------------------------------- namespaces and rights


def test_first_process_of_a_pid_namespace_is_known() -> None:
    """It is immune to what it does not handle; its children live there too and are not."""
    enter = ["unshare", *([] if _ROOT else ["--user", "--map-root-user"]), "--pid", "--fork", "--kill-child"]
    why = refusal([*enter, "true"])
    if why:
        pytest.skip(f"no pid namespace: {why}")
    with running([*enter, "sh", "-c", f"{_SLEEP} 60 & echo ready; wait"], says=b"ready") as child:
        below = procfs.children(child.pid)
        assert below
        init = _facts(below[0])
        assert init.namespace_init
        assert init.other_namespace
        inner = procfs.children(below[0])
        assert inner
        seen = _facts(inner[0])
        assert seen.other_namespace
        assert not seen.namespace_init
        assert not _facts(child.pid).other_namespace


_AS_NOBODY = """
sys.path[:0] = sys.argv[2:]
from endtask._backends.linux.backend import LinuxBackend
from endtask._backends.linux import facts
import endtask.errors, endtask._backends.linux.cgroups
import fcntl, pwd  # before the rights to read the library are gone
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
pid = int(sys.argv[1])
backend = LinuxBackend()
seen = backend.facts(backend.pin(pid))
ready("ready " + repr({
    "listed": pid in backend.list_pids(), "name": seen.name, "short": backend.short_name(pid), "ppid": seen.ppid, "uid": seen.uid,
    "exited": seen.exited, "unknown": dict(seen.unknown), "children": backend.children(pid), "waited_known": seen.signals and seen.signals.waited_known,
    "row": backend.row(pid) is not None, "owner": backend.owner(pid), "cmdline": seen.cmdline, "exe": seen.exe,
}))
sys.stdin.read()
"""


@pytest.mark.needs_root
@needs_root
@pytest.mark.parametrize("hidepid", [0, 1, 2, 4])
def test_what_hidepid_hides_is_unknown_and_never_gone(hidepid: int) -> None:
    """Another user's process: what may be read is read, the rest is named with its reason, and it lives."""
    prepare = ["unshare", "--mount", "sh", "-c", f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"', "sh"]
    why = refusal([*prepare, "true"])
    if why:
        pytest.skip(f"no hidepid={hidepid}: {why}")
    command = [
        *prepare,
        sys.executable,
        "-S",
        "-c",
        f"import os, sys\ndef ready(w): os.write(1, w.encode() + b'\\n')\n{_AS_NOBODY}",
    ]
    with (
        running([_SLEEP, "60"]) as target,
        running([*command, str(target.pid), *[p for p in sys.path if p]], says=b"ready") as asker,
    ):
        seen = eval(asker.said.partition(b" ")[2])
    assert seen["exited"] is False
    assert seen["exe"] == ""
    assert seen["listed"] is (hidepid < 2)
    unknown = seen["unknown"]
    if hidepid == 0:
        assert (seen["name"], seen["ppid"], seen["uid"], seen["cmdline"][1:]) == ("sleep", os.getpid(), 0, ("60",))
        assert set(unknown) == {"exe", "wait_channel", "ports", "managers", "signals.waited"} - (
            {"wait_channel"} - set(unknown)
        )
        assert all("ptrace" in reason for reason in unknown.values())
        assert seen["waited_known"] is False
        assert seen["children"] == []
        return
    assert seen["name"] == ""
    assert seen["short"] is None
    assert not seen["row"]
    assert seen["children"] is None
    assert "hidepid" in unknown["everything"]
    assert seen["owner"] == (0 if hidepid == 1 else None)
    if seen["uid"] != -1:  # from kernel 6.13 on the handle itself tells
        assert (seen["uid"], seen["ppid"]) == (0, os.getpid())
