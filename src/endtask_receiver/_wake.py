"""A descriptor that becomes readable when somebody asks: for loops that wait on descriptors and know nothing of us.

Decision: a pair of sockets, because Windows can wait on no other kind.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._stop import Stop


class WakeFd:
    """Gets one byte and keeps it."""

    def __init__(self, stop: Stop) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._stop = stop
        stop.add_waker(self._wake)

    def fileno(self) -> int:
        """Return the end to wait on."""
        return self._reader.fileno()

    def _wake(self) -> None:
        try:
            self._writer.send(b"\0")
        except OSError:
            pass  # ignored: it is full, so it is readable; or it is closed, and nobody waits

    def reset(self) -> None:
        """Make it unreadable again, unless somebody has asked anew."""
        try:
            while True:
                self._reader.recv(4096)
        except BlockingIOError:
            pass  # ignored: it is empty, which is the aim
        if self._stop.asked:
            self._wake()

    def close(self) -> None:
        """Close both ends."""
        self._stop.remove_waker(self._wake)
        self._reader.close()
        self._writer.close()
