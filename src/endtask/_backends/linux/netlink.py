"""The fork watch: the kernel's proc connector tells every fork of the machine, so that nothing is born unseen.

Decision: a subscription counts only when the kernel has acknowledged it. The kernel handles the message within send(2), so the answer is there
at once and every later fork is reported (measured on 6.18; drivers/connector/cn_proc.c).
It works only in the initial pid and network namespaces: the numbers in the events are those of the initial pid namespace,
and another network namespace has no connector (ECONNREFUSED). Before kernel 6.6 it needs CAP_NET_ADMIN. Everywhere else there is no watch, and the report says so.

The messages, native byte order (include/uapi/linux/connector.h, cn_proc.h)::

    nlmsghdr 16   length, type, flags, sequence, sender
    cn_msg   20   index 1, value 1, sequence, acknowledge, length, flags
    proc_event    what, cpu, time (8 bytes), then for a fork: parent's thread and process, child's thread and process
"""

from __future__ import annotations

import errno
import os
import select
import sys

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from endtask._backends.linux.waiter import LinuxWaiter

_NETLINK_CONNECTOR = 11  # linux/netlink.h; Python has no name for it
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_GROUP = _INDEX = _VALUE = 1  # CN_IDX_PROC, CN_VAL_PROC
_NLMSG_DONE = 3
_LISTEN = 1  # PROC_CN_MCAST_LISTEN
_EVENT_NONE, _EVENT_FORK = 0, 1
_INITIAL_PID_NS = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h

# Where things are in a message, counted in words of four bytes, of which all of it is made. (`struct` would cost 0.2 ms at start-up.)
_ACK_AT, _EVENT_AT, _DATA_AT = 7, 9, 13
_FORK_WORDS = _DATA_AT + 4

_BUFFER = 16 << 20  # about 20,000 events: the kernel accounts some 800 bytes for each
_ACK_MS = 20
_MOST = 65_536  # events in one `drain`: a fork storm must not keep us in it for ever


class ProcConnector:
    """Reports every fork on the machine.

    Attributes:
        lost: Whether events were dropped because they came faster than they were read; from then on it proves nothing.
    """

    __slots__ = ("_open", "_ready", "_socket", "_waiter", "lost")

    def __init__(self, sock: _socket.socket, waiter: LinuxWaiter) -> None:
        self._socket = sock
        self._waiter = waiter
        self._open = True
        self.lost = False
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN)
        self._ready = poller.poll
        waiter.add_source(sock.fileno())

    def drain(self) -> list[tuple[int, int]]:
        """Return pairs (parent pid, child pid) of all forks since the last call, oldest first. Never blocks.

        The parent is the one that the child has: with CLONE_PARENT (clone(2)) that is the parent of the one that forked.
        """
        forks: list[tuple[int, int]] = []
        if not self._ready(0):
            return forks  # the usual answer, at a third of the cost of an exception
        receive = self._socket.recvfrom
        for _ in range(_MOST):
            try:
                data, sender = receive(4096)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                self.lost = True  # netlink(7): the buffer was full, and what did not fit is gone
                continue
            # Only the kernel has port 0; a program with the right capability could send to the group too.
            words = _words(data)
            if sender[0] != 0 or len(words) < _FORK_WORDS or words[_EVENT_AT] != _EVENT_FORK:
                continue
            parent, thread, child = words[_DATA_AT + 1 : _FORK_WORDS]
            if thread == child:  # else: a new thread of an old process
                forks.append((parent, child))
        return forks

    def close(self) -> None:
        """End the subscription; closing twice is allowed."""
        if self._open:
            self._open = False
            self._waiter.drop_source(self._socket.fileno())
            self._socket.close()


def open_watch(waiter: LinuxWaiter) -> ProcConnector | None:
    """Start to watch forks, None where the system or our rights do not allow it. News wake *waiter*.

    A fork that happens after this has returned is reported by `drain`.
    """
    try:
        if os.stat("/proc/self/ns/pid").st_ino != _INITIAL_PID_NS:
            return None
    except OSError:
        return None  # no /proc: it cannot be told whose pids they would be
    import _socket

    sock = None
    try:
        sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK, _NETLINK_CONNECTOR)
        _enlarge(sock)
        sock.bind((0, _GROUP))
        if _subscribe(sock):
            return ProcConnector(sock, waiter)
    except OSError:
        pass  # ignored: EPERM, EPROTONOSUPPORT, ECONNREFUSED all mean that there is no watch, which None says
    if sock is not None:
        sock.close()
    return None


def _enlarge(sock: _socket.socket) -> None:
    import _socket

    try:
        sock.setsockopt(_socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        # Without CAP_NET_ADMIN it is cut to net.core.rmem_max, socket(7).
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _BUFFER)


def _words(data: bytes) -> memoryview:
    """Return the whole words of a message as numbers in native byte order."""
    return memoryview(data)[: len(data) & ~3].cast("I")


def _message(acknowledge: int, *payload: int) -> bytes:
    body = _packed(4, _INDEX, _VALUE, 0, acknowledge) + _packed(2, 4 * len(payload), 0) + _packed(4, *payload)
    return _packed(4, 16 + len(body)) + _packed(2, _NLMSG_DONE, 0) + _packed(4, 0, 0) + body


def _packed(size: int, *numbers: int) -> bytes:
    return b"".join([number.to_bytes(size, sys.byteorder) for number in numbers])


def _subscribe(sock: _socket.socket) -> bool:
    """Ask for events and wait for the kernel's word that they will come."""
    # The answer goes to every listener of the machine, with this number and one more; its sequence is the kernel's own.
    mark = os.getpid()
    sock.send(_message(mark, _LISTEN))
    # Kernel 6.6 takes a mask too and then wakes us for forks only; older ones do not answer that form and keep the first.
    # In this order, because with the mask first the acknowledgement itself would be filtered.
    sock.send(_message(mark, _LISTEN, _EVENT_FORK))
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    for _ in range(_MOST):
        if not poller.poll(_ACK_MS):
            return False
        data, sender = sock.recvfrom(4096)
        words = _words(data)
        if sender[0] != 0 or len(words) <= _DATA_AT or words[_EVENT_AT] != _EVENT_NONE:
            continue  # an event of the moment before the mask, or somebody else's
        if words[_ACK_AT] == mark + 1:
            return words[_DATA_AT] == 0
    return False
