"""Who listens on a port: families, protocols, several holders, hidden holders."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.linux import sockets
from endtask._backends.linux.reader import ProcReader
from tests.linux.children import python, refusal, running

pytestmark = pytest.mark.real

_SLEEP = shutil.which("sleep") or "/bin/sleep"
_TABLE = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0
   1: 0100007F:0016 0100007F:0A0A 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0
   2: 00000000:0A0A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0
   3: 0100007F:1000 0100007F:0016 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0
   4: truncated
"""


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 here")


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is that of a little-endian machine")
def test_parse_takes_listening_sockets_of_the_port_only() -> None:
    """Connections, other ports, and the same digits in other columns do not count."""
    found = list(sockets.parse("tcp", _TABLE, 0x16))
    assert [(e.address, e.port, e.inode, e.uid) for e in found] == [("127.0.0.1", 22, 11, 1000)]
    assert [e.inode for e in sockets.parse("tcp", _TABLE)] == [11, 13, 14]
    assert [e.address for e in sockets.parse("tcp", _TABLE, 0x0A0A)] == ["*"]
    assert list(sockets.parse("udp", _TABLE)) == []


@given(st.binary(min_size=16, max_size=16) | st.binary(min_size=4, max_size=4))
def test_address_text_is_the_address(packed: bytes) -> None:
    """Every address survives the kernel's way of writing it."""
    words = [packed[i : i + 4] for i in range(0, len(packed), 4)]
    raw = b"".join(b"%08X" % int.from_bytes(word, sys.byteorder) for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    expected = socket.inet_ntop(family, packed) if any(packed) else "*"
    assert sockets.address_text(raw) == expected


@pytest.mark.parametrize(
    ("family", "kind", "address", "shown"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", "*"),
        pytest.param(socket.AF_INET6, socket.SOCK_STREAM, "::1", "::1", marks=needs_ipv6),
        pytest.param(socket.AF_INET6, socket.SOCK_STREAM, "::", "*", marks=needs_ipv6),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1"),
        pytest.param(socket.AF_INET6, socket.SOCK_DGRAM, "::1", "::1", marks=needs_ipv6),
    ],
)
def test_listener_and_all_its_holders_are_found(family: int, kind: int, address: str, shown: str) -> None:
    """The one who opened it and the child that inherited it."""
    reader = ProcReader()
    proto = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(family, kind) as ours:
        ours.bind((address, 0))
        if proto == "tcp":
            ours.listen()
        port = ours.getsockname()[1]
        with running([_SLEEP, "60"], inherit=(ours.fileno(),)) as child:
            found = [e for e in reader.listeners(proto, port) if e.inode == os.fstat(ours.fileno()).st_ino]
            assert [(e.proto, e.address, e.port, e.uid) for e in found] == [(proto, shown, port, os.geteuid())]
            assert found[0].pids == tuple(sorted((os.getpid(), child.pid)))
            assert str(found[0]) == (f":{port}" if proto == "tcp" else f"udp:{port}")
            assert [e.port for e in sockets.of_process(child.pid)] == [port]
    assert reader.listeners(proto, port) == []


def test_a_connected_udp_socket_does_not_listen() -> None:
    """It hears one peer only, so `ss -lu` does not count it either."""
    reader = ProcReader()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        assert len(reader.listeners("udp", port)) == 1
        ours.connect(("127.0.0.1", 9))
        assert reader.listeners("udp", port) == []


def test_a_holder_whose_main_thread_has_exited_is_found() -> None:
    """Then only its other threads show the files."""
    code = """
        import socket, threading
        s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
        main = threading.main_thread()
        def stay():
            fd = os.open("/proc/self/stat", os.O_RDONLY)
            while b") Z " not in os.pread(fd, 4096, 0): pass
            ready("ready %d" % s.getsockname()[1])
            threading.Event().wait()
        threading.Thread(target=stay).start()
        import ctypes
        ctypes.CDLL(None).pthread_exit(None)
    """
    with python(textwrap.dedent(code)) as child:
        port = int(child.said.split()[1])
        found = ProcReader().listeners("tcp", port)
        assert [e.pids for e in found] == [(child.pid,)]
        assert [e.port for e in sockets.of_process(child.pid)] == [port]


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_holder_that_we_may_not_see_leaves_no_pids() -> None:
    """The listener is known to everybody, its holder is not: no pid is invented."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        port = ours.getsockname()[1]
        code = """
            sys.path[:0] = sys.argv[2:]
            from endtask._backends.linux.reader import ProcReader
            from endtask._backends.linux import sockets
            os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
            found = ProcReader().listeners("tcp", int(sys.argv[1]))
            ready("ready %d %r" % (len(found), found[0].pids))
            sys.stdin.read()
        """
        with python(textwrap.dedent(code), str(port), *[p for p in sys.path if p]) as child:
            assert child.said == b"ready 1 ()\n"


@pytest.mark.needs_root
def test_ports_of_a_process_are_those_of_its_own_network() -> None:
    """The port of a process in another network namespace is its own, and it is nobody's in ours."""
    enter = ["unshare", "--net"]
    why = refusal([*enter, "true"])
    if why:
        pytest.skip(f"no network namespace: {why}")
    code = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); print('ready', s.getsockname()[1], flush=True); input()"
    with running([*enter, sys.executable, "-I", "-S", "-c", code], says=b"ready") as child:
        port = int(child.said.split()[1])
        assert [e.port for e in sockets.of_process(child.pid)] == [port]
        assert all(child.pid not in e.pids for e in ProcReader().listeners("tcp", port))


def test_a_process_without_sockets_has_no_ports() -> None:
    """And one that has gone has none either."""
    with running([_SLEEP, "60"]) as child:
        assert sockets.of_process(child.pid) == ()
    done = subprocess.Popen([_SLEEP, "0"])
    done.wait()
    assert sockets.of_process(done.pid) == ()
