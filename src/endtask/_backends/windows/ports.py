"""Who listens on a port: the tables of TCP and UDP sockets, IPv4 and IPv6.

Decision: GetExtendedTcpTable and GetExtendedUdpTable. They give the process that has *made* the socket; one that has inherited it is not in them,
and when the maker has ended, its pid still stands there ("GetExtendedTcpTable function"). A pid that nobody has any more is left out, so that such a listener has no pids.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.winapi import iphlpapi
from endtask._backends.windows.winapi._bind import DWORD
from endtask.model import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    _Table = tuple[Callable[[object, object, bool, int, int, int], int], str, int, int, type[ctypes.Structure]]

_ROUNDS = 8  # of asking again because the table has grown


def _tables(proto: str) -> tuple[_Table, ...]:
    if proto == "udp":
        call, kind = iphlpapi.GetExtendedUdpTable, iphlpapi.UDP_TABLE_OWNER_PID
        rows: tuple[type[ctypes.Structure], ...] = (iphlpapi.UdpRow, iphlpapi.Udp6Row)
    else:
        call, kind = iphlpapi.GetExtendedTcpTable, iphlpapi.TCP_TABLE_OWNER_PID_LISTENER
        rows = (iphlpapi.TcpRow, iphlpapi.Tcp6Row)
    name = f"GetExtended{proto.capitalize()}Table"
    families = (iphlpapi.AF_INET, iphlpapi.AF_INET6)
    return tuple((call, name, kind, family, row) for family, row in zip(families, rows, strict=True))


def all_listeners(proto: str) -> Iterator[tuple[str, int, int]]:
    """Yield address, port and pid of everybody who listens.

    Raises:
        OsCallError: The tables cannot be read.
    """
    for table in _tables(proto):
        for row in _rows(table):
            state = getattr(row, "state", iphlpapi.MIB_TCP_STATE_LISTEN)
            if state == iphlpapi.MIB_TCP_STATE_LISTEN:
                yield address_text(bytes(row.address)), int.from_bytes(bytes(row.port[:2]), "big"), row.pid


def _rows(table: _Table) -> Iterator[ctypes.Structure]:
    call, name, kind, family, row = table
    size = DWORD(1 << 14)
    for _ in range(_ROUNDS):
        buffer = ctypes.create_string_buffer(size.value)
        code = call(buffer, ctypes.byref(size), False, family, kind, 0)
        if code != errors.INSUFFICIENT_BUFFER:
            break
        size.value += 1 << 12  # it grows while we ask
    if code:
        raise errors.failed(name, code)
    count = DWORD.from_buffer(buffer).value
    # The rows follow the count; all of them are made of numbers of four bytes.
    return (row.from_buffer(buffer, 4 + n * ctypes.sizeof(row)) for n in range(count))


def address_text(raw: bytes) -> str:
    """Return an address as it is written, `*` for any (pure)."""
    if not any(raw):
        return "*"
    if len(raw) == 4:
        return ".".join(map(str, raw))
    groups = [f"{int.from_bytes(raw[at : at + 2], 'big'):x}" for at in range(0, 16, 2)]
    longest = max(
        ((run, at) for at in range(8) for run in range(2, 9 - at) if all(g == "0" for g in groups[at : at + run])),
        key=lambda found: (found[0], -found[1]),
        default=None,
    )
    if longest is None:
        return ":".join(groups)
    run, at = longest
    return f"{':'.join(groups[:at])}::{':'.join(groups[at + run :])}"  # RFC 5952


def listeners(proto: str, port: int, living: Container[int]) -> list[Listener]:
    """Return who listens on *port*.

    Args:
        proto: `tcp` or `udp`.
        port: Port number.
        living: The pids of all processes.

    Raises:
        OsCallError: The tables cannot be read.
    """
    return [
        Listener(proto, address, number, 0, (pid,) if pid in living else ())
        for address, number, pid in all_listeners(proto)
        if number == port
    ]


def of_process(pid: int) -> tuple[Listener, ...]:
    """Return the ports that a process listens on; of UDP every port that it is bound to, because nothing tells more.

    Raises:
        OsCallError: The tables cannot be read.
    """
    found = [
        Listener(proto, address, number, 0, (pid,))
        for proto in ("tcp", "udp")
        for address, number, owner in all_listeners(proto)
        if owner == pid
    ]
    return tuple(sorted(found, key=lambda e: (e.proto, e.port, e.address)))
