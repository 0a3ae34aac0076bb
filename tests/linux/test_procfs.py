"""Raw readers of /proc: strange names, long lists, what vanishes, what is hidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.linux import names, procfs, ties
from endtask._backends.linux.reader import ProcReader
from endtask.errors import OsCallError, TargetError
from endtask.model import Row
from tests.linux.children import eventually, python, refusal, running, sleeps

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

_SLEEP = shutil.which("sleep") or "/bin/sleep"
_ROOT = os.geteuid() == 0

_NUMBERS = st.integers(min_value=-1, max_value=2**64 - 1)


def _free_pid() -> int:
    """Return a pid that was ours a moment ago and is nobody's now."""
    done = subprocess.Popen([_SLEEP, "0"])
    done.wait()
    return done.pid


# --------------------------------------------------------------------------- stat


@given(
    comm=st.binary(max_size=63).filter(lambda b: b"\0" not in b),
    state=st.sampled_from("RSDTtZXIx"),
    pid=st.integers(min_value=1, max_value=2**22),
    rest=st.lists(_NUMBERS, min_size=49, max_size=49),
)
def test_parse_stat_any_name_gives_every_field(comm: bytes, state: str, pid: int, rest: list[int]) -> None:
    """Whatever bytes the name holds, also parentheses, newlines and a faked rest of the line, the fields are right."""
    raw = b"%d (%b) %b %b\n" % (pid, comm, state.encode(), b" ".join(b"%d" % n for n in rest))
    row = procfs.parse_stat(raw)
    ppid, pgid, sid, tty, _, flags = rest[:6]
    expected = Row(pid, ppid, pgid, sid, rest[18], state, os.fsdecode(comm), bool(flags & 0x200000), tty)
    assert row == expected
    assert procfs.thread_count(raw) == rest[16]
    assert procfs.encode(row.comm) == comm


@pytest.mark.parametrize(
    "comm",
    [
        b"x) (y",
        b"(z)",
        b"a b",
        b"two\nlines",
        b"\xff\xfe",
        b") R 1 1 1 1",
        b"-9",
        b"tab\tbell\x07",
        b"12345678901234\xc3",
    ],
)
def test_strange_names_are_read_whole(comm: bytes) -> None:
    """A name that a process gave itself comes through unchanged, by every way of reading it."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0); ready(); sys.stdin.read()"
    with python(code, comm.hex()) as child:
        row = procfs.row(child.pid)
        assert row is not None
        assert os.fsencode(row.comm) == comm
        assert procfs.short_name(child.pid) == row.comm
        assert procfs.table()[child.pid].comm == row.comm
        assert names.full_name(child.pid, row.comm) == row.comm


@pytest.mark.parametrize(
    "name",
    [
        b"a-name-of-more-than-fifteen-bytes",
        b"exactly-15-byte",
        b"new\nline (in a) long name",
        b"fourteen-bytes\xc3\xa4-cut-inside-a-letter",
        b"invalid \xff utf-8, and long",
        b"short",
    ],
)
def test_full_name_of_a_copied_program_is_its_file_name(tmp_path: Path, name: bytes) -> None:
    """What the kernel cut at 15 bytes is found again in the arguments and in the executable."""
    copy = os.path.join(os.fsencode(tmp_path), name)
    shutil.copy(os.fsencode(_SLEEP), copy)
    for first in (copy, b"another name"):
        with running([first, b"60"], executable=copy) as child:
            short = procfs.short_name(child.pid)
            assert short is not None
            assert os.fsencode(short) == name[:15]
            assert os.fsencode(names.full_name(child.pid, short)) == name
            assert os.fsencode(ProcReader().full_name(child.pid, short)) == name


def test_full_name_of_a_script_is_the_scripts(tmp_path: Path) -> None:
    """The kernel names a script after its file, and the file stands in the arguments of the interpreter."""
    script = tmp_path / "a-script-with-a-long-name.sh"
    script.write_text("#!/bin/sh -u\necho ready\nread line\n")
    script.chmod(0o755)
    with running([str(script)], says=b"ready") as child:
        assert procfs.short_name(child.pid) == "a-script-with-a"
        assert names.full_name(child.pid, "a-script-with-a") == script.name


# --------------------------------------------------------------------------- arguments, environment


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (b"", ()),
        (b"a\0", ("a",)),
        (b"a\0b c\0\0", ("a", "b c", "")),
        (b"nginx: worker process", ("nginx: worker process",)),
        (b"postgres: writer\0\0\0\0\0", ("postgres: writer",)),
        (b"a\0\0b\0", ("a", "", "b")),
        (b"\xff\0", ("\udcff",)),
    ],
)
def test_split_arguments(raw: bytes, arguments: tuple[str, ...]) -> None:
    """Arguments end with a zero each; a title that was written over them may not."""
    assert procfs.split_arguments(raw) == arguments


def test_command_line_of_any_length_is_whole() -> None:
    """Long, empty and invalid arguments are all there."""
    arguments = [b"sleep", b"60", b"--", b"", b"x" * 100_000, b"\xff\n", b"y" * 120_000]
    with running(
        [sys.executable, "-I", "-S", "-c", "print('ready', flush=True); input()", *arguments], says=b"ready"
    ) as child:
        seen = procfs.command_line(child.pid)
    assert seen is not None
    assert [os.fsencode(a) for a in seen[5:]] == arguments


def test_marks_are_read_from_the_first_environment() -> None:
    """Every value of the mark is seen, and nothing that only begins like it."""
    reader = ProcReader()
    with running([_SLEEP, "60"], env={"ENDTASK_MARK": "a=b c", "ENDTASK_MARKS": "no"}) as child:
        assert reader.marks(child.pid) == ("a=b c",)
    with running([_SLEEP, "60"], env={}) as child:
        assert reader.marks(child.pid) == ()


def test_kinship_survives_shells_and_tells_others_apart() -> None:
    """What shells change themselves does not count; a variable of its own does."""
    env = {"PATH": os.environ["PATH"], "FAMILY": "one", "SHLVL": "7"}
    with running([_SLEEP, "60"], env=env) as plain, running([_SLEEP, "60"], env={**env, "FAMILY": "two"}) as other:
        command = f"cd /; {_SLEEP} 60 <&0 & echo ready $!; wait"
        with running(["bash" if shutil.which("bash") else "sh", "-c", command], says=b"ready", env=env) as shell:
            below = int(shell.said.split()[1])
            eventually(lambda: sleeps(below), "the shell's child is executed")
            assert ties.kinship(plain.pid) == ties.kinship(below) != frozenset()
            assert ties.kinship(plain.pid) != ties.kinship(other.pid)
            os.kill(below, 9)
    with running([_SLEEP, "60"], env={}) as bare:
        assert ties.kinship(bare.pid) == frozenset()


def test_shared_objects_are_pipes_sockets_and_deleted_files(tmp_path: Path) -> None:
    """Only what has no name by which a stranger could open it."""
    deleted, kept = tmp_path / "deleted", tmp_path / "kept (deleted)"
    a = os.open(deleted, os.O_CREAT | os.O_RDWR)
    b = os.open(kept, os.O_CREAT | os.O_RDWR)
    seen, named = os.fstat(a), os.fstat(b)
    deleted.unlink()
    r, w = os.pipe()
    try:
        with running([_SLEEP, "60"], inherit=(a, b, r)) as child:
            found = ties.shared_objects(child.pid)
    finally:
        for fd in (a, b, r, w):
            os.close(fd)
    assert f"deleted:{seen.st_dev}:{seen.st_ino}" in found
    assert all(text.startswith(("pipe:[", "socket:[", "deleted:")) for text in found)
    assert f"deleted:{named.st_dev}:{named.st_ino}" not in found


# --------------------------------------------------------------------------- trees


@pytest.mark.slow
def test_children_beyond_one_page_are_all_there() -> None:
    """The kernel hands out the list page by page; one read would lose most of 800 children."""
    code = """
        pids = []
        for _ in range(800):
            pid = os.posix_spawn(sys.argv[1], ["sleep", "60"], {})
            pids.append(pid)
        ready()
        sys.stdin.read(1)
        for pid in pids: os.kill(pid, 9)
        for pid in pids: os.waitpid(pid, 0)
        ready()
        sys.stdin.read()
    """
    with python(textwrap.dedent(code), _SLEEP) as child:
        found = procfs.children(child.pid)
        table = procfs.table()
        child.popen.stdin.write(b".")  # type: ignore[union-attr]  # a pipe, as `running` opens it
        child.popen.stdin.flush()  # type: ignore[union-attr]
        child.read_line()
        assert procfs.children(child.pid) == []
    assert found is not None
    assert len(found) == 800
    assert found == sorted(p for p, row in table.items() if row.ppid == child.pid)


def test_children_of_every_thread_are_found() -> None:
    """Each thread has a list of its own."""
    code = """
        import threading
        def start():
            os.posix_spawn(sys.argv[1], ["sleep", "60"], {})
            ready()
            os.read(0, 1)
        threading.Thread(target=start, daemon=True).start()
        threading.Event().wait()
    """
    with python(textwrap.dedent(code), _SLEEP) as child:
        found = procfs.children(child.pid)
        assert found is not None
        assert [procfs.short_name(p) for p in found] == ["sleep"]
        os.kill(found[0], 9)


def test_own_line_ends_at_the_first_process() -> None:
    """We, our parent, and so on."""
    line = ProcReader().own_line()
    assert line[:2] == (os.getpid(), os.getppid())
    assert len(set(line)) == len(line)


# --------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 31, 1 << 70, None])
def test_a_process_that_is_not_there_is_none_everywhere(pid: int | None) -> None:
    """Gone, or a number that no process can have: no reader raises for it, and none invents anything."""
    pid = _free_pid() if pid is None else pid
    reader = ProcReader()
    assert reader.short_name(pid) is None
    assert reader.row(pid) is None
    assert reader.owner(pid) is None
    assert reader.command_line(pid) is None
    assert reader.working_directory(pid) is None
    assert reader.usage(pid) is None
    assert reader.signals(pid) is None
    assert reader.children(pid) == []
    assert reader.marks(pid) == ()
    assert reader.modules(pid) == ()
    assert reader.kinship(pid) == frozenset()
    assert reader.shared_objects(pid) == frozenset()
    assert reader.cgroup(pid) == ""
    assert reader.full_name(pid, "fifteen-letters") == "fifteen-letters"


def test_table_and_list_agree_on_ourselves() -> None:
    """The table has every listed process that still runs, and the kernel's threads are marked."""
    reader = ProcReader()
    table = reader.table()
    row = table[os.getpid()]
    assert row == procfs.row(os.getpid())
    assert (row.ppid, row.sid, row.pgid) == (os.getppid(), os.getsid(0), os.getpgid(0))
    assert not row.kernel
    assert os.getpid() in reader.list_pids()
    assert 0 <= reader.age_s(row) < 1e6
    used = reader.usage(os.getpid())
    assert used is not None
    assert used[0] > 0
    assert used[1] > 1000
    if 2 in table and table[2].comm == "kthreadd":
        assert table[2].kernel


def test_host_says_what_makes_a_pid_unique() -> None:
    """The boot and the pid namespace are in it."""
    host = ProcReader().host()
    assert set(host) == {"name", "boot", "pid_namespace", "kernel"}
    assert len(host["boot"]) == 36
    assert os.readlink("/proc/self/ns/pid") == f"pid:[{host['pid_namespace']}]"


def test_user_id_takes_names_and_numbers() -> None:
    """Numbers of other scripts, negatives and unknown names are refused in words."""
    reader = ProcReader()
    assert reader.user_id("root") == 0
    assert reader.user_id("65534") == 65534
    for bad in ("no-such-user", "-1", "٣", "", "1_0", "4294967296", "a\0b", "\ud800"):
        with pytest.raises(TargetError, match="no user"):
            reader.user_id(bad)
    assert reader.user_name(0) == "root"
    assert reader.user_name(4_000_000_000) == "4000000000"


_TRY = """
import sys
sys.path[:0] = sys.argv[1:]
from endtask._backends.linux.reader import ProcReader
from endtask.errors import OsCallError
for ask in (ProcReader().list_pids, ProcReader().table):
    try:
        ask()
    except OsCallError as exc:
        print(exc.message, "|", exc.hint)
print(ProcReader().own_line()[:1], ProcReader().short_name(1), ProcReader().row(1), ProcReader().children(1 << 22))
"""


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"], "`/proc` is not mounted"),
        (["unshare", "--pid", "--fork", "sh", "-c", '"$@"', "sh"], "belongs to another pid namespace"),
    ],
)
def test_without_a_proc_of_our_own_there_is_a_clear_sentence(prepare: list[str], message: str) -> None:
    """No /proc, or one whose numbers mean somebody else: an error with a hint, never an empty machine."""
    why = refusal([*prepare, "true"])
    if why:
        pytest.skip(f"no namespaces: {why}")
    command = [*prepare, sys.executable, "-c", _TRY, *[p for p in sys.path if p]]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3
    for line in lines[:2]:
        assert message in line
        assert "hint" not in line
        assert "mount -t proc" in line.partition("|")[2]


def test_a_full_descriptor_table_is_an_error_and_no_empty_machine() -> None:
    """EMFILE must not look as if nobody were there."""
    code = """
import resource
sys.path[:0] = sys.argv[1:]
from endtask._backends.linux.reader import ProcReader
from endtask.errors import OsCallError
reader = ProcReader()
reader.list_pids()
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
try:
    while True: os.dup(0)
except OSError: pass
for ask in (reader.table, lambda: reader.short_name(1), lambda: reader.command_line(1), lambda: reader.row(1)):
    try: ready("wrong: %r" % (ask(),))
    except OsCallError as exc: ready("ready %d %s" % (exc.code, exc.hint))
sys.stdin.read()
"""
    with python(code, *[p for p in sys.path if p]) as child:
        for line in (child.said, child.read_line(), child.read_line(), child.read_line()):
            assert line.startswith(b"ready 24 "), line
            assert b"ulimit -n" in line


@pytest.mark.skipif(not _ROOT, reason="needs root to start a process as another user")
def test_owner_is_exact_for_a_process_that_is_not_dumpable() -> None:
    """The folder keeps the user; only what lies in it is shown as root's."""
    code = "import ctypes; os.setresuid(65534, 65534, 65534); ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); ready(); sys.stdin.read()"
    with python(code) as child:
        assert os.stat(f"/proc/{child.pid}/status").st_uid == 0
        assert procfs.owner(child.pid) == 65534


def test_an_odd_error_is_raised_with_its_call() -> None:
    """What is neither gone nor forbidden is not swallowed."""
    with pytest.raises(OsCallError, match=r"[Ii]s a directory"):
        procfs.look(b"/proc/self/task")
