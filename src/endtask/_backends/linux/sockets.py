"""Who listens on a port: /proc/net/{tcp,tcp6,udp,udp6} and the holders of their sockets.

Decision: the text tables of proc_pid_net(5), which need no rights, instead of sock_diag(7), which needs a netlink
socket and the slow `socket` module; both give the inode number, and neither gives the holder.
The holder is whoever has a descriptor `socket:[inode]`, so only the whole of /proc/*/fd can name them all.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux import descriptors, procfs
from endtask.model import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = {"tcp": (b"tcp", b"tcp6"), "udp": (b"udp", b"udp6")}
# include/net/tcp_states.h: TCP_LISTEN is 10; a UDP socket that is bound and not connected has TCP_CLOSE, 7.
_LISTENS = {"tcp": b"0A", "udp": b"07"}


def listeners(proto: str, port: int) -> list[Listener]:
    """Return who listens on a port in our network namespace; a listener whose holder we may not see has no pids.

    A UDP socket listens when it is bound and not connected to one peer, as `ss -lu` counts.

    Raises:
        OsCallError: The tables cannot be read.
    """
    found = [entry for table in _TABLES[proto] for entry in parse(proto, _table(b"/proc/net/" + table), port)]
    if not found:
        return []
    holders = _holders({entry.inode for entry in found})
    return [Listener(e.proto, e.address, e.port, e.inode, tuple(holders.get(e.inode, ())), e.uid) for e in found]


def of_process(pid: int) -> tuple[Listener, ...]:
    """Return the ports that one process listens on, in its own network namespace.

    Raises:
        PermissionError: Its descriptors may not be seen.
        OsCallError: The tables cannot be read.
    """
    inodes = set()
    folder = b""
    for path, target in descriptors.links(pid):
        if target.startswith(b"socket:["):
            inodes.add(int(target[8:-1]))
            # of a living thread, where the main thread has exited
            folder = folder or path[: path.rindex(b"/fd/")] + b"/net/"
    if not inodes:
        return ()
    found = []
    for proto, tables in _TABLES.items():
        for table in tables:
            raw = _table(folder + table)
            found += [
                Listener(e.proto, e.address, e.port, e.inode, (pid,), e.uid)
                for e in parse(proto, raw)
                if e.inode in inodes
            ]
    return tuple(sorted(found, key=lambda e: (e.proto, e.port, e.address)))


def _table(path: bytes) -> bytes:
    try:
        return procfs.read_all(path, limit=1 << 30)  # a long table must not lose its end
    except (FileNotFoundError, ProcessLookupError):
        # ignored: no IPv6 in this kernel, or the process has gone. No table at all is for `require` to say.
        procfs.require()
        return b""
    except OSError as exc:
        raise procfs.failed(f"read {procfs.decode(path)}", exc) from exc


def parse(proto: str, raw: bytes, port: int = -1) -> Iterator[Listener]:
    """Yield the listening sockets in one table of proc_pid_net(5), without holders.

    Args:
        proto: `tcp` or `udp`.
        raw: The table.
        port: Only this port; -1 for all.
    """
    state = _LISTENS[proto]
    wanted = b"%04X" % port if port >= 0 else b""
    for line in raw.split(b"\n"):
        # `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`
        if (wanted and wanted not in line) or state not in line:
            continue  # cheap first: most lines of a busy server are connections
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] != state:
            continue
        address, _, number = fields[1].partition(b":")
        if not wanted or number == wanted:
            yield Listener(proto, address_text(address), int(number, 16), int(fields[9]), (), int(fields[7]))


def address_text(raw: bytes) -> str:
    """Return the address in the form of the tables as text, `*` for any.

    Each group of eight digits is a 32-bit word as it lies in memory: network order, printed as the machine's own number.
    """
    words = [int(raw[i : i + 8], 16) for i in range(0, len(raw), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    if not any(packed):
        return "*"
    if len(packed) == 4:
        return ".".join(map(str, packed))
    from _socket import AF_INET6, inet_ntop  # not `socket`: 9 ms to import (measured)

    return inet_ntop(AF_INET6, packed)


def _holders(inodes: set[int]) -> dict[int, list[int]]:
    """Return the pids that hold each of *inodes*; whom we may not look into is missing."""
    wanted = {b"socket:[%d]" % inode: inode for inode in inodes}
    found: dict[int, list[int]] = {}
    for pid in procfs.list_pids():
        try:
            held = {wanted[target] for _, target in descriptors.links(pid) if target in wanted}
        except PermissionError:
            continue  # ignored: not ours to see; the listener stays without this holder
        for inode in held:
            found.setdefault(inode, []).append(pid)
    return found


def unix_inodes(path: bytes) -> frozenset[bytes]:
    """Return the link texts of the sockets that are bound to *path*, as proc_pid_net(5) `unix` lists them.

    Accepted connections carry the path of their listener, so their holders count as well.

    Raises:
        OsCallError: The table cannot be read.
    """
    found = set()
    for line in _table(b"/proc/net/unix").split(b"\n"):
        # `Num RefCount Protocol Flags Type St Inode Path`
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == path:
            found.add(b"socket:[%b]" % fields[6])
    return frozenset(found)


def is_socket(mode: int) -> bool:
    """Return whether *mode* of stat(2) is that of a socket's name in the file system."""
    return mode & 0o170000 == 0o140000
