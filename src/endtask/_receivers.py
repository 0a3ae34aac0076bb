"""The receivers of the processes that a run asks: who has one, and the conversations with them.

Most processes have none, and a stop of those must not pay for what is said to the others.
So the conversations themselves (`_talks`) are loaded with the first receiver that is met; before that, nothing here does anything.
"""

from __future__ import annotations

from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Pin, Waiter
    from endtask._discover import Entry
    from endtask._job import JobMember
    from endtask._talks import Owners, Perform, Talks, Tell
    from endtask.model import PidRef, Request, Row


class Receivers:
    """All receivers of a run.

    Args:
        backend: The operating system.
        waiter: The one wait, which hears of what they say.
        started_at: Backend time at which the run began.
        owners: Returns every job that a process belongs to, with its part there.
        perform: Carries out what a job wants done.
        tell: Tells whoever follows the run, None where nobody does.
    """

    __slots__ = ("_backend", "_owners", "_perform", "_started_at", "_talks", "_tell", "_waiter")

    def __init__(
        self,
        backend: Backend,
        waiter: Waiter,
        started_at: float,
        owners: Owners,
        perform: Perform,
        tell: Tell | None = None,
    ) -> None:
        self._backend = backend
        self._waiter = waiter
        self._started_at = started_at
        self._owners = owners
        self._perform = perform
        self._tell = tell
        self._talks: Talks | None = None

    def meet(self, pin: Pin, row: Row | None = None) -> str | None:
        """Begin the conversation with a process, unless there is one.

        Args:
            pin: The process.
            row: Its line of the process table, if it was read.

        Returns:
            None if there is a conversation now; else why there is none, empty for a process without a receiver.
        """
        if self._talks is not None and self._talks.knows(pin.ref):
            return None
        found = self._backend.converse(pin, self._waiter, row)
        if isinstance(found, str):
            return found
        if self._talks is None:
            from endtask._talks import Talks

            self._talks = Talks(self._backend, self._started_at, self._owners, self._perform, self._tell)
        self._talks.begin(pin.ref, found)
        return None

    def prepare(self, entry: Entry, member: JobMember, request: Request) -> None:
        """Tell a process that was met what belongs to a request that it is about to get on another way."""
        if self._talks is not None:
            self._talks.prepare(entry, member, request)

    def introduce(self, entry: Entry, member: JobMember, request: Request) -> str:
        """Meet the receiver of a member and tell it what belongs to a request.

        Returns:
            Why it cannot be told; empty where it was, or where there is none.
        """
        pid = member.ref.pid
        why_not = self.meet(entry.ready.pins[pid], entry.ready.rows.get(pid))
        if why_not is None:
            self.prepare(entry, member, request)
        return why_not or ""

    def ask(self, entry: Entry, member: JobMember, request: Request, why_not: str) -> Receipt:
        """Ask by the conversation itself (CHANNEL); *why_not* is what `introduce` has returned."""
        why_not = why_not or "it has no receiver"
        if self._talks is not None:
            return self._talks.ask(entry, member, request, why_not)
        return Receipt(request.name, "impossible", self._backend.now() - self._started_at, why_not)

    @property
    def pending(self) -> bool:
        """Whether something came that no news will wake anybody for."""
        return self._talks is not None and self._talks.pending

    def hear(self, only: PidRef | None = None) -> None:
        """Take in what has come, of all or of one process, and give it to the jobs."""
        if self._talks is not None:
            self._talks.hear(only)

    def end(self, entry: Entry) -> None:
        """Forget the processes of a job that is settled, as far as no other job has them."""
        if self._talks is not None:
            self._talks.end(entry)

    def close(self) -> None:
        """End every conversation."""
        if self._talks is not None:
            self._talks.close()
