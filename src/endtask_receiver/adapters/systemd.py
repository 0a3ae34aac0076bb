"""systemd: tells the service manager what the application tells whoever asked.

    with listen() as stop, Notifier(stop) as unit:
        unit.ready()                            # READY=1, with Type=notify
        for job in stop.iterate(jobs):
            unit.alive()                        # WATCHDOG=1, with WatchdogSec=
            work(job)

A request is told as STOPPING=1, `Stop.tell` as STATUS=, and `Stop.need` as EXTEND_TIMEOUT_USEC=:
the manager then waits so much longer before it kills, over TimeoutStopSec= too.
Where nobody listens (no NOTIFY_SOCKET) all of this does nothing.

Decision: no thread sends WATCHDOG=1: a program that hangs must not look as if it worked.
STOPPING=1 goes out from wherever the request is heard, perhaps a signal handler, so it does not wait; the others wait a second if the manager's queue is full.
The application's deadline does not stretch the manager's by itself: a request for time that nobody needs is how a stop that hangs looks.

Source: sd_notify(3), the section on the protocol; systemd.service(5) for the timeouts.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._request import News, StopRequest
    from endtask_receiver._stop import Stop

_WAIT_S = 1
_NOW = getattr(socket, "MSG_DONTWAIT", 0)  # there is no systemd where it is missing
_LONG_S = 1e9  # for ever: the manager wants a number
_TEXT_MAX = 500  # characters of a status: it is one line for people


class Notifier:
    """Between a `Stop` and the service manager. A context manager.

    Attributes:
        connected: Whether there is somebody to tell.
        failures: Messages that could not be sent; they are counted and go no further.
        watchdog_s: So often `alive` must be called, in seconds; None if nobody watches. Half of what the manager waits.
    """

    def __init__(self, stop: Stop, *, forget: bool = False) -> None:
        """Find the manager's socket; `close` gives it up.

        Args:
            stop: Whose state is told.
            forget: Whether to remove the variables from the environment, so that children do not speak for us.

        Raises:
            ValueError: NOTIFY_SOCKET names a kind of address that this module cannot speak to.
        """
        self._stop = stop
        self._socket: socket.socket | None = None
        self._address: str | bytes = b""
        self._told: StopRequest | None = None
        self.failures = 0
        self.watchdog_s = _watchdog_s()
        where = os.environ.get("NOTIFY_SOCKET", "")
        if where:
            self._connect(where)
        if forget:
            for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
                os.environ.pop(name, None)
        stop._listeners.append(self._on_news)
        stop.add_waker(self._on_wake)

    def _connect(self, where: str) -> None:
        if where[0] not in "/@" or not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"NOTIFY_SOCKET is neither a path nor an abstract name: {where!r}")
        # An abstract name begins with a zero byte, which is written as @.
        self._address = b"\0" + os.fsencode(where[1:]) if where[0] == "@" else where
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # The kernel waits for a place in the manager's queue, also for a socket that is not connected: `select` would not (unix(7), socket(7)).
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _WAIT_S, 0))

    @property
    def connected(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    # ------------------------------------------------------------------ what the application says

    def ready(self, status: str = "") -> bool:
        """Say that the start is over (READY=1); return whether it was sent."""
        return self.send("READY=1", *([_status(status)] if status else []))

    def alive(self) -> bool:
        """Say that the application gets on (WATCHDOG=1); return whether it was sent. To be called where it can see that it does."""
        return self.watchdog_s is not None and self.send("WATCHDOG=1")

    def send(self, *assignments: str) -> bool:
        """Send assignments in one message, such as `MAINPID=4711`; return whether it was sent."""
        return self._post(assignments, 0)

    def _post(self, assignments: tuple[str, ...], flags: int) -> bool:
        if self._socket is None:
            return False
        try:
            # What is no text, such as the name of a file, must not become an error of whoever tells it.
            self._socket.sendto("\n".join(assignments).encode(errors="backslashreplace"), flags, self._address)
        except OSError:
            self.failures += 1  # a full queue or a manager that is gone: nothing that could be done about it here
            return False
        return True

    # ------------------------------------------------------------------ what the stop says

    def _on_wake(self) -> None:
        request = self._stop.request
        if request is not None and request is not self._told:  # also woken by a second one, and by a new deadline
            self._told = request
            if not self._post(("STOPPING=1", _status(f"stopping: {request}")), _NOW):
                self._told = None  # again with the next message

    def _on_news(self, news: News) -> None:
        self._on_wake()  # whoever is woken by the request may speak before the one who heard it
        if news.kind == "need":
            more = f"EXTEND_TIMEOUT_USEC={int(max(0.0, min(news.seconds or 0, _LONG_S)) * 1_000_000)}"
            self.send(more, *([_status(news.text)] if news.text else []))
        elif news.kind == "veto":
            self.send(_status(f"goes on: {news.text}"))
        elif news.kind in {"tell", "cleanup"}:
            self.send(_status(_counted(news)))

    def close(self) -> None:
        """Tell no more. More than once is allowed."""
        if self._on_news in self._stop._listeners:
            self._stop._listeners.remove(self._on_news)
        self._stop.remove_waker(self._on_wake)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text[:_TEXT_MAX].split())  # one line: a second one would be an assignment


def _counted(news: News) -> str:
    if news.done is None:
        return news.text
    return f"{news.text}, {news.done}" + (f" of {news.total}" if news.total is not None else "")


def _watchdog_s() -> float | None:
    """Return half of what the manager waits for a sign of life, None if it does not wait for ours."""
    pid, usec = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or not int(usec) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
