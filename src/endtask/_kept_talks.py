"""The conversations with the receivers of a tree that a keeper holds (POSIX).

The keeper asks, and knows nothing of conversations; its owner talks, and decides by the same state machine as `stop` what is granted.
What comes of it the keeper is told: that its time grows (`extend`), and that the command is ending by itself, so that what it has started is left to it (`alone`).

Decision: in the owner and not in the keeper, which must stay small enough to be trusted with everybody's end.
"""

from __future__ import annotations

from endtask._discover import Entry
from endtask._find import Target
from endtask._job import Job, JobMember
from endtask._prepare import Prepared
from endtask._receivers import Receivers
from endtask._requests import TERM
from endtask.errors import OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Backend
    from endtask.model import PidRef, Policy, Said

_TURN_S = 0.05  # what the keeper is told so late may come after it has forced
_MOST_ABOVE = 64  # ancestors, from a process up to the keeper


class KeptTalks:
    """All conversations of one stop.

    Args:
        backend: The operating system.
        policy: The plan that the keeper follows, with what may be granted.
        command: Identity and name of the command.
        keeper: Pid of the keeper.
        started_at: When the command was started: times count from there.
        tell_keeper: Sends a line to the keeper.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        command: tuple[PidRef, str],
        keeper: int,
        started_at: float,
        tell_keeper: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._keeper = keeper
        self._tell_keeper = tell_keeper
        self._waiter = backend.waiter()
        ref, name = command
        self._job = Job(policy, [JobMember(ref, name, "target")])
        self._entry = Entry(0, Prepared(Target(name, ref, name, None), None, policy), self._job)
        self._job.start(backend.now())  # what it wants done is done by the keeper
        self._receivers = Receivers(
            backend, self._waiter, started_at, self._entry.owners, lambda _entry, _actions: None
        )
        self._met: set[int] = set()
        self._told_s = 0.0
        self._told_alone = False

    @property
    def granted_s(self) -> float:
        """By how many seconds the time of the keeper has grown."""
        return self._job.extended_s

    @property
    def vetoed(self) -> bool:
        """Whether the command has refused."""
        return self._job.target.vetoed

    def said(self, pid: int) -> tuple[Said, ...]:
        """Return what a process has said."""
        member = self._entry.by_pid.get(pid)
        return () if member is None else tuple(member.said)

    def meet(self, pid: int, name: str) -> None:
        """Tell the receiver of a process, if it has one, what belongs to the request that it has just got, or is about to get."""
        if pid in self._met:
            return
        self._met.add(pid)
        try:
            pin = self._backend.pin(pid)
        except OsCallError:
            return  # ignored: it has gone, and the keeper tells
        try:
            if not self._is_ours(pid) or self._receivers.meet(pin) is not None:
                return
            member = self._entry.by_pid.get(pid)
            if member is None or member.ref != pin.ref:
                member = self._entry.by_pid[pid] = JobMember(pin.ref, name, "owned")
                self._job.members.append(member)
            self._receivers.prepare(self._entry, member, TERM)
        finally:
            pin.close()

    def _is_ours(self, pid: int) -> bool:
        """Whether a process stands below the keeper; looked at after its pin was opened."""
        for _generation in range(_MOST_ABOVE):
            row = self._backend.row(pid)
            if row is None or row.ppid <= 1:
                return False
            pid = row.ppid
            if pid == self._keeper:
                return True
        return False

    def wait(self, control: int, timeout_s: float | None) -> tuple[float, bool]:
        """Wait until the keeper says something on *control*, and listen to everybody meanwhile.

        Args:
            control: Descriptor of the keeper's lines.
            timeout_s: At most so long, None for as long as it takes.

        Returns:
            By how many seconds the keeper's time has grown, and whether the keeper has said something; not if the time is up, or has grown.
        """
        import selectors  # `subprocess` has loaded it

        until = None if timeout_s is None else self._backend.now() + timeout_s
        more_s = self.hear() if self._receivers.pending else 0.0
        if more_s > 0:
            return more_s, False
        news = self._waiter.fileno()
        assert news is not None, "every POSIX system has one"
        with selectors.DefaultSelector() as both:
            for fd in (control, news):
                both.register(fd, selectors.EVENT_READ)
            while True:
                left_s = None if until is None else max(0.0, until - self._backend.now())
                ready = {key.fd for key, _events in both.select(left_s)}
                more_s = self.hear()
                if control in ready or more_s > 0 or not ready:
                    return more_s, control in ready

    def hear(self) -> float:
        """Take in what has come; return by how many seconds the keeper's time has grown since the last call."""
        self._waiter.wait(0)
        if self._backend.now() > self._job.ends_at - _TURN_S:
            self._job.state = "settled"  # nothing is granted any more
        self._receivers.hear()
        more_s = self._job.extended_s - self._told_s
        if more_s > 0:
            self._told_s = self._job.extended_s
            self._tell_keeper(f"extend {more_s:.6f}")
        if self._job.target.listens and not self._told_alone:
            self._told_alone = True
            self._tell_keeper("alone")
        return more_s

    def close(self) -> None:
        """End every conversation."""
        self._receivers.close()
        self._waiter.close()


def begin(
    command: tuple[PidRef, str],
    keeper: int,
    terms: tuple[float, float, str],
    started_at: float,
    tell_keeper: Callable[[str], None],
) -> KeptTalks:
    """Get ready to talk, and tell the command what belongs to the request that it gets next; *terms* are grace, extension and reason."""
    from endtask._backends import default_backend
    from endtask._plan import make_policy

    grace_s, extend_s, reason = terms
    policy = make_policy(timeout_s=grace_s, extend_s=extend_s, reason=reason)
    talks = KeptTalks(default_backend(), policy, command, keeper, started_at, tell_keeper)
    talks.meet(command[0].pid, command[1])
    return talks
