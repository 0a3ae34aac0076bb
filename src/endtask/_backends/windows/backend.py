"""The Windows backend: what `reader.py` sees, and what is done through pins.

Decision: each way of asking lives in its own module and is imported when it is used, so that a program that only waits never loads the window manager's DLL.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask._backends.windows import handles
from endtask._backends.windows.handles import own
from endtask._backends.windows.reader import TableReader
from endtask.errors import OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.base import Backend, Conversation, ForkWatch, Pin, Waiter
    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.inject import Patience
    from endtask._backends.windows.jobs import JobSweep
    from endtask.model import ProcessEnd, Receipt, Request, Row

_MOST_HANDLES = 1 << 24  # of one process, "Kernel Objects"


class WindowsBackend(TableReader):
    """Windows as the stages see it."""

    def __init__(self) -> None:
        super().__init__()
        self._patience: Patience | None = None

    def capacity(self) -> int:
        """Return how many more pins may be open at the same time: more than there can be processes."""
        return _MOST_HANDLES - handles.open_count()

    def pin(self, pid: int, token: str = "") -> WindowsPin:
        """Open a handle on *pid*; one that has ended can be opened as long as anybody holds it, and `exited` tells.

        Raises:
            GoneError: Nobody has that pid, or another process than *token* says.
            AccessDeniedError: Windows refuses a handle.
        """
        return handles.open_pin(pid, token)

    def exited(self, pin: Pin) -> bool:
        """Return whether the process has ended, which its handle tells."""
        return handles.has_exited(own(pin))

    def ended_ago_s(self, pin: Pin) -> float | None:
        """Return for how many seconds the process has been ended, None while it runs."""
        return handles.ended_ago_s(own(pin))

    def end(self, pin: Pin) -> ProcessEnd:
        """Return how an exited process ended: its exit code, which everybody with a handle may read."""
        return handles.end_of(own(pin))

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        """Deliver one request; what Windows answers is in the receipt.

        Raises:
            UnsupportedRequestError: Windows has no request of that kind; nothing was sent.
        """
        mine, kind = own(pin), request.kind
        if kind == "terminate":
            from endtask._backends.windows import jobs

            return jobs.terminate(mine, at_s)
        if kind == "event":
            from endtask._backends.windows import stop_event

            return stop_event.send_event(mine, request, at_s)
        if kind == "window":
            from endtask._backends.windows import desktop

            return desktop.send_window(mine, request, at_s)
        if kind == "inject":
            from endtask._backends.windows import inject

            if self._patience is None:
                self._patience = inject.Patience()
            return inject.send_inject(mine, request, at_s, self._patience)
        if kind == "console":
            from endtask._backends.windows import console

            return console.send_console(mine, request, at_s)
        if kind == "service":
            from endtask._backends.windows import services

            return services.send_stop(mine, request, at_s)
        return _send_other(mine, request, at_s)

    def heard(self, pin: Pin, receipts: Sequence[Receipt]) -> bool:
        """Return whether a process that was asked by its stop event has acknowledged that."""
        if not any(r.request == "STOP_EVENT" and r.status == "delivered" for r in receipts):
            return False
        from endtask._backends.windows import stop_event

        try:
            return bool(stop_event.acknowledged(own(pin).ref))
        except OsCallError:
            return False  # ignored: what cannot be looked at says nothing

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> Conversation | str:
        """Connect to the receiver in a process, by its pipe; return why not, empty if it has none."""
        from endtask._backends.windows import channel
        from endtask._backends.windows.waiter import own_waiter

        return channel.connect(own(pin), own_waiter(waiter))

    def waiter(self) -> Waiter:
        """Return a new wait over any number of pins."""
        from endtask._backends.windows.waiter import WindowsWaiter

        return WindowsWaiter()

    def fork_watch(self, waiter: Waiter) -> ForkWatch | None:
        """Return None: only a driver, or a trace session of an administrator, is told of every process that starts."""
        return None

    def open_sweep(self, cgroup: str = "") -> JobSweep:
        """Open the strongest forced end at hand: a job object.

        Raises:
            OsCallError: None can be made.
        """
        from endtask._backends.windows.jobs import JobSweep

        return JobSweep()

    def close(self) -> None:
        """Nothing is held; the backend may be used on."""


def _send_other(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Do what is no mechanism of Windows.

    Raises:
        UnsupportedRequestError: There is no request of that kind; nothing was sent.
    """
    from endtask._backends.windows import commands

    if request.kind == "stdin":
        return commands.no_stdin(request, at_s)
    if request.kind == "command":
        return commands.start(pin, request, at_s)
    from endtask.errors import UnsupportedRequestError

    raise UnsupportedRequestError(
        f"`{request.name}` is of the kind `{request.kind}`, which Windows does not have",
        hint="use `ask`, or a mechanism such as `wm-close`",
    )


if TYPE_CHECKING:

    def _fulfils(backend: WindowsBackend) -> Backend:
        return backend
