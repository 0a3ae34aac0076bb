"""Who holds a file, and what a pid file says."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import cgroups, files
from endtask._backends.linux.reader import ProcReader
from endtask.errors import OsCallError
from tests.linux.children import python, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

_SLEEP = shutil.which("sleep") or "/bin/sleep"


def _holders(path: object) -> list[int]:
    return ProcReader().file_holders(str(path))[0]


def test_open_hard_linked_and_strange_names_are_found(tmp_path: Path) -> None:
    """The same file under any of its names, also under one that is no text."""
    name = os.path.join(os.fsencode(tmp_path), b"a \xff\n(b)")
    other = tmp_path / "other"
    fd = os.open(name, os.O_CREAT | os.O_RDWR)
    os.link(name, other)
    try:
        with running([_SLEEP, "60"], inherit=(fd,)) as child:
            for path in (os.fsdecode(name), other):
                assert _holders(path) == sorted((os.getpid(), child.pid))
    finally:
        os.close(fd)
    assert _holders(other) == []


def test_mapped_executable_and_working_directory_are_found(tmp_path: Path) -> None:
    """A file can be held without a descriptor."""
    program, data, folder = tmp_path / "program", tmp_path / "data (x)\ny", tmp_path / "folder"
    shutil.copy(_SLEEP, program)
    folder.mkdir()
    data.write_bytes(b"x" * 5000)
    with running([str(program), "60"], cwd=str(folder)) as child:
        assert _holders(program) == [child.pid]
        assert _holders(folder) == [child.pid]
        assert str(program) in ProcReader().modules(child.pid)
        assert ProcReader().working_directory(child.pid) == str(folder)
    code = (
        "import mmap; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); ready(); sys.stdin.read()"
    )
    with python(code, str(data)) as child:
        assert _holders(data) == [child.pid]
        assert str(data) in ProcReader().modules(child.pid)


def test_the_name_of_a_unix_socket_leads_to_its_holders(tmp_path: Path) -> None:
    """The descriptor is another object than the name, so /proc/net/unix connects them."""
    path = tmp_path / "a socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
        ours.bind(str(path))
        ours.listen()
        with running([_SLEEP, "60"], inherit=(ours.fileno(),)) as child:
            assert _holders(path) == sorted((os.getpid(), child.pid))


def test_a_fifo_is_held_by_its_readers(tmp_path: Path) -> None:
    """A FIFO has a name, and looking at it does not hang."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert _holders(path) == [os.getpid()]
    finally:
        os.close(fd)
    assert _holders(path) == []


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    """Not an empty answer."""
    with pytest.raises(OsCallError, match="no-such-file"):
        ProcReader().file_holders(str(tmp_path / "no-such-file"))
    for bad in ("a\0b", "\ud800"):
        with pytest.raises(OsCallError, match="no file name"):
            ProcReader().file_holders(bad)


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_processes_that_may_not_be_looked_into_are_counted(tmp_path: Path) -> None:
    """Whoever asks without rights is told how many could hold it unseen."""
    code = """
        sys.path[:0] = sys.argv[2:]
        from endtask._backends.linux.reader import ProcReader
        from endtask._backends.linux import files, sockets
        from endtask.errors import AccessDeniedError
        os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        holders, closed = ProcReader().file_holders("/")
        try: ProcReader().pid_file(sys.argv[1])
        except AccessDeniedError as exc: ready("ready %d %d %s" % (os.getpid() in holders, closed, exc.code))
        sys.stdin.read()
    """
    secret = tmp_path / "secret"
    secret.write_text("1")
    secret.chmod(0o600)
    with python(textwrap.dedent(code), str(secret), *[p for p in sys.path if p]) as child:
        _, _holds, closed, code_number = child.said.split()
        assert int(closed) > 0
        assert int(code_number) == 13


# --------------------------------------------------------------------------- pid files


def test_pid_file_gives_bytes_and_age(tmp_path: Path) -> None:
    """At most 4,096 bytes, whatever is in there; the age is that of the last write."""
    path = tmp_path / "x.pid"
    for content in (b"", b"123\n", b"\0\xff" * 5000):
        path.write_bytes(content)
        raw, age_s = ProcReader().pid_file(str(path))
        assert raw == content[:4096]
        assert 0 <= age_s < 60
    os.utime(path, (0, time.time() - 100))
    assert 99 < ProcReader().pid_file(str(path))[1] < 160
    os.utime(path, (0, time.time() + 1000))
    assert ProcReader().pid_file(str(path))[1] == 0


def test_pid_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A FIFO must not hang us; a folder, a device and a missing file are errors."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, "/dev/null", tmp_path / "missing", "a\0b", "\ud800"):
        with pytest.raises(OsCallError):
            ProcReader().pid_file(str(path))


# --------------------------------------------------------------------------- mounts


def test_network_mounts_are_known_by_their_type() -> None:
    """Whose server may be dead; a blank in the mount point is escaped by the kernel."""
    mountinfo = (
        b"31 23 0:28 / /mnt/a\\040b rw shared:1 - nfs4 server:/x rw\n"
        b"32 23 0:29 / /home rw - ext4 /dev/sda1 rw\n"
        b"33 23 0:30 / /media/u rw - fuse.sshfs u@h: rw\n"
        b"34 23 0:31 / /ntfs rw - fuseblk /dev/sdb1 rw\n"
    )
    assert files.network_mounts(mountinfo) == (b"/mnt/a b", b"/media/u")
    assert cgroups.unescape(b"a\\134b\\012") == b"a\\b\n"
