"""What a system answers to the questions that only Windows has: shared by Linux and the simulated system.

Decision: a mixin, so that the engine asks the same questions everywhere and no backend repeats the answers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from endtask._backends.base import Conversation, Pin, Waiter
    from endtask.model import Receipt, Row

    class _Reads(Protocol):
        def row(self, pid: int) -> Row | None: ...
        def cgroup(self, pid: int) -> str: ...


class SignalsOnly:
    """A system on which a signal is the generic request, orphans are adopted, and windows are nobody's business."""

    @property
    def has_ladders(self) -> bool:
        """False: a signal is the same request for every process."""
        return False

    @property
    def reparents(self) -> bool:
        """True: init or a subreaper adopts an orphan, prctl(2)."""
        return True

    def ended_ago_s(self, pin: Pin) -> float | None:
        """None: the kernel does not keep when a process has ended."""
        return None

    def heard(self, pin: Pin, receipts: Sequence[Receipt]) -> bool:
        """False: no program can say that it has heard a signal."""
        return False

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> Conversation | str:
        """Return nothing: no process has a receiver, unless a backend knows better."""
        return ""

    def untouchable(self, pid: int, short: str | None = None) -> str:
        """Return nothing: pid 1 and kernel threads, which the table shows, are all that must not be touched."""
        return ""

    def title_owners(self, pattern: str) -> list[int]:
        """Refuse: there are no window titles that we can read.

        Raises:
            TargetError: Always.
        """
        from endtask.errors import TargetError

        raise TargetError(
            f"`win:{pattern}` asks for a window title, which only Windows processes have",
            hint="use a name or `--cmdline`",
        )

    def titles(self, pid: int) -> tuple[str, ...]:
        """Return nothing: there are no window titles that we can read."""
        return ()

    def session_name(self, row: Row) -> str:
        """Return nothing: which terminal a session has is the system's affair."""
        return ""

    def status(self: _Reads, pid: int) -> str:
        """Return `running` or `suspended` (state T); whether a program answers its user cannot be seen. Empty if it has exited."""
        row = self.row(pid)
        if row is None or row.state in ("Z", "X"):
            return ""
        return "suspended" if row.state == "T" else "running"

    def services(self: _Reads, pid: int) -> tuple[str, ...]:
        """Return the systemd service that the process is in, by its cgroup."""
        leaf = self.cgroup(pid).rpartition("/")[2]
        return (leaf,) if leaf.endswith(".service") else ()
