"""Who listens on a port and who holds a file."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endtask._backends import default_backend
from endtask._backends.windows import files, ports
from endtask._backends.windows.winapi import ntdll
from endtask.errors import AccessDeniedError, OsCallError
from tests.windows.lab import UNDER_WINE
from tests.windows.lab_processes import LOCK, NOBODY, ONLY_LOOK, Child

if TYPE_CHECKING:
    from pathlib import Path

# Wine finds the owner of a socket by its descriptors in Linux, and a program gets its own only when it reads (dlls/nsiproxy.sys).
LISTEN = """
import socket
family, kind = (int(a) for a in sys.argv[1:3])
s = socket.socket(family, kind)
s.bind((sys.argv[3], 0))
if kind == socket.SOCK_STREAM: s.listen()
s.setblocking(False)
try: s.recv(1)
except OSError: pass
print(s.getsockname()[1])
"""


@pytest.mark.parametrize(
    ("proto", "family", "kind", "bound", "address"),
    [
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "127.0.0.1"),
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", "*"),
        ("tcp", socket.AF_INET6, socket.SOCK_STREAM, "::1", "::1"),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1"),
        ("udp", socket.AF_INET6, socket.SOCK_DGRAM, "::1", "::1"),
    ],
)
def test_listener_is_found_with_its_process(proto: str, family: int, kind: int, bound: str, address: str) -> None:
    """Both protocols, both families, and nobody under the other protocol."""
    backend = default_backend()
    other = "udp" if proto == "tcp" else "tcp"
    with Child(LISTEN, str(int(family)), str(int(kind)), bound) as child:
        port = int(child.said[0])
        (found,) = backend.listeners(proto, port)
        assert (found.proto, found.address, found.port, found.inode) == (proto, address, port, 0)
        assert found.pids in ((child.pid,), ()) if UNDER_WINE else found.pids == (child.pid,)
        assert all(one.pids != (child.pid,) for one in backend.listeners(other, port))
        if found.pids:
            assert [(one.proto, one.port) for one in ports.of_process(child.pid)] == [(proto, port)]
        child.let_go()
        assert backend.listeners(proto, port) == []


def test_connection_is_no_listener() -> None:
    """Only who listens can be in the way of another one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            assert default_backend().listeners("tcp", client.getsockname()[1]) == []


def test_listener_whose_maker_has_gone_has_no_pids() -> None:
    """Its pid stands in the table, and may be anybody's next."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        (found,) = ports.listeners("tcp", server.getsockname()[1], living=())
        assert found.pids == ()


@given(st.ip_addresses())
def test_address_is_written_as_python_writes_it(address: object) -> None:
    """RFC 5952; the one for any is `*`."""
    import ipaddress

    assert isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    text = ports.address_text(address.packed)
    if not int(address):
        assert text == "*"
    else:
        assert ipaddress.ip_address(text) == address


# --------------------------------------------------------------------------- files

HOLD = "f = open(sys.argv[1], sys.argv[2])"


def test_open_file_is_found(tmp_path: Path) -> None:
    """By any of its names, however it was opened; not any more when it is closed."""
    path = tmp_path / "held.txt"
    path.write_text("x")
    other = tmp_path / "other.txt"
    other.write_text("x")
    with Child(HOLD, str(path), "r") as reader, Child(HOLD, str(path), "a") as writer:
        assert sorted(files.file_holders(str(path))[0]) == sorted([reader.pid, writer.pid])
        assert files.file_holders(str(path).upper())[0] == files.file_holders(str(path))[0]
        assert files.file_holders(str(other))[0] == []
        reader.let_go()
        assert files.file_holders(str(path))[0] == [writer.pid]


def test_hard_link_is_the_same_file(tmp_path: Path) -> None:
    """Volume and number decide, not the name."""
    path, link = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("x")
    os.link(path, link)
    with Child(HOLD, str(path), "r") as child:
        assert files.file_holders(str(link))[0] == [child.pid]


def test_our_own_handle_counts_and_the_one_for_looking_does_not(tmp_path: Path) -> None:
    """To ask must not find the asker."""
    path = tmp_path / "x.txt"
    path.write_text("x")
    assert files.file_holders(str(path))[0] == []
    with path.open(encoding="utf-8"):
        assert files.file_holders(str(path))[0] == [os.getpid()]


def test_folder_is_held_by_who_is_in_it(tmp_path: Path) -> None:
    """The current directory of a process is an open handle."""
    with Child(cwd=str(tmp_path)) as child:
        assert files.file_holders(str(tmp_path))[0] == [child.pid]


def test_program_and_library_are_held_by_who_runs_them() -> None:
    """A mapped file has no handle."""
    with Child() as child:
        assert child.pid in files.file_holders(sys.executable)[0]
        assert (
            child.pid
            in files.file_holders(
                sys.executable.replace("python.exe", f"python{sys.version_info[0]}{sys.version_info[1]}.dll")
            )[0]
        )


def test_pipes_of_others_do_not_hold_us_up(tmp_path: Path) -> None:
    """A pipe on which somebody waits answers no question for its name; it is not asked for one."""
    path = tmp_path / "x.txt"
    path.write_text("x")
    with Child() as child:  # it reads its standard input, a pipe, all the time
        assert child.pid not in files.file_holders(str(path))[0]


def test_process_that_may_not_be_looked_into_is_counted(tmp_path: Path) -> None:
    """Where every process has to be looked into; the Restart Manager needs no right."""
    path = tmp_path / "x.txt"
    path.write_text("x")
    before = files.file_holders(str(path))[1]
    with Child(LOCK, NOBODY):
        counted = files.file_holders(str(path))[1] - before
    assert counted == (1 if ntdll.wine_get_version is not None else 0)


@pytest.mark.needs_windows("Wine's Restart Manager finds nobody, and its file systems do not tell either")
def test_restart_manager_and_file_system_agree(tmp_path: Path) -> None:
    """Two ways, one answer."""
    path = tmp_path / "held.txt"
    path.write_text("x")
    with Child(HOLD, str(path), "r") as child, files.open_file(str(path)) as file:
        assert files._restart_manager(str(path)) == {child.pid}
        assert files.users_of(file) == {child.pid}


def test_folder_is_found_by_who_is_in_it_without_any_handle(tmp_path: Path) -> None:
    """The way that Windows goes; tried on Wine as well."""
    with (
        Child(cwd=str(tmp_path)) as child,
        Child(LOCK, ONLY_LOOK) as locked,
        files.open_file(str(tmp_path)) as file,
    ):
        holders, closed = files._of_folder(file, files.identity(file))
        assert holders == [child.pid]
        assert closed >= 1, locked.pid


@pytest.mark.parametrize("name", ["missing.txt", "no\\such\\folder", "a\0b"])
def test_file_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    """Not an empty answer."""
    with pytest.raises(OsCallError):
        files.file_holders(str(tmp_path / name))


def test_pid_file_is_read_with_its_age(tmp_path: Path) -> None:
    """The first 4,096 bytes, while its owner still writes to it."""
    path = tmp_path / "x.pid"
    with path.open("wb") as file:
        file.write(b"4711\r\n" + b"x" * 8000)
        file.flush()
        raw, age_s = files.pid_file(str(path))
    assert raw == (b"4711\r\n" + b"x" * 8000)[:4096]
    assert 0 <= age_s < 3600


@pytest.mark.parametrize("name", ["missing.pid", "a\0b"])
def test_pid_file_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    """It names the file."""
    with pytest.raises(OsCallError):
        files.pid_file(str(tmp_path / name))


def test_what_is_no_file_is_no_pid_file(tmp_path: Path) -> None:
    """A folder (which Windows denies, as it opens none that way) and a device are refused by what they are."""
    for path in (str(tmp_path), "NUL"):
        with pytest.raises(OsCallError, match="no regular file") as caught:
            files.pid_file(path)
        assert not isinstance(caught.value, AccessDeniedError)


def test_command_may_be_the_holder(tmp_path: Path) -> None:
    """Any program, not only Python."""
    path = tmp_path / "out.txt"
    with path.open("wb") as file:
        popen = subprocess.Popen(["cmd", "/k"], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT)
        try:
            assert popen.pid in files.file_holders(str(path))[0]
        finally:
            assert popen.stdin is not None
            popen.stdin.close()
            popen.wait()
