"""The other half of `owned`: a command in a container of the system (Windows: a job object), which nothing that starts in it can leave.

There is no keeper process: the kernel knows who is in the container, and ends it all when the last handle closes, however our process ends.
That end is force, so a tree that must not be forced is left to itself when we are killed.
"""

from __future__ import annotations

from endtask._backends import default_backend
from endtask._plan import make_policy
from endtask._record import replace
from endtask._tree_stop import ALONE, TreeStop, forces
from endtask.model import Report, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Tree
    from endtask.model import PidRef, Policy, ProcessEnd

__all__ = ["Held", "forces", "policy_of"]

_FORCE_WAIT_S = 30.0  # for the end of what was forced


def policy_of(grace_s: float, *, force: bool, extend_s: float = 0.0, reason: str = "") -> Policy:
    """Return the plan of `owned`: ask each in its own way, and after *grace_s* force what is left, if that is allowed."""
    now = force and grace_s <= 0
    return make_policy(
        timeout_s=_FORCE_WAIT_S if now else grace_s + _FORCE_WAIT_S if force else grace_s,
        force_after_s=grace_s if force and not now else None,
        now=now,
        watch_s=0.0,
        extend_s=extend_s,
        reason=reason,
        signals=False,
    )


def within(policy: Policy, limit_s: float) -> Policy:
    """Return *policy* in at most *limit_s* seconds: every step gets the same part of its time, and none is extended."""
    policy = replace(policy, extend_s=min(policy.extend_s, max(0.0, limit_s - policy.budget_s)))
    if policy.budget_s <= limit_s:
        return policy
    # What follows the last step's beginning is mostly the wait for the end of what was forced: that is short, the steps before it are not.
    before_last = sum(step.wait_s or 0.0 for step in policy.steps[:-1])
    part = min(1.0, limit_s * ALONE / before_last) if before_last else 1.0
    steps = tuple(Step(s.request, None if s.wait_s is None else s.wait_s * part) for s in policy.steps)
    return replace(policy, steps=steps, budget_s=limit_s)


class Held:
    """A running command and everything that it starts.

    Attributes:
        ref: Identity of the command.
        stdin, stdout, stderr: Pipes, where they were asked for.
        lost: False: the system holds the tree.
        report: The verdict, None until `stop` has got to one.
    """

    def __init__(self, tree: Tree, policy: Policy, *, stdin_eof: bool = False, backend: Backend | None = None) -> None:
        self._tree = tree
        self._policy = policy
        self._stdin_eof = stdin_eof
        self._backend = backend or default_backend()
        self._started = self._backend.now()
        self._end: ProcessEnd | None = None
        self._closed = False
        self.ref: PidRef = tree.pin.ref
        typed = tree.command[0].replace("\\", "/").rpartition("/")[2]
        self._name = self._backend.short_name(self.ref.pid) or typed
        self.stdin, self.stdout, self.stderr = tree.stdin, tree.stdout, tree.stderr
        self.lost = False
        self.report: Report | None = None

    def fileno(self) -> int:
        """Return -1: there is no descriptor that tells of the end of a process."""
        return -1

    def poll(self) -> ProcessEnd | None:
        """Return how the command ended, None while it runs."""
        if self._end is None and not self._closed and self._backend.exited(self._tree.pin):
            self._end = self._backend.end(self._tree.pin)
        return self._end

    def wait(self, timeout_s: float | None = None) -> ProcessEnd | None:
        """Wait for the end of the command itself; None when the time is up."""
        if self.poll() is not None or self._closed:
            return self._end
        waiter = self._backend.waiter()
        try:
            waiter.add(self._tree.pin, 0)
            waiter.wait(timeout_s)
        finally:
            waiter.close()
        return self.poll()

    def stop(self, *, told: bool = False, limit_s: float | None = None, hurried: bool = False) -> Report:
        """Stop everything in the tree by the plan.

        Args:
            told: Whether the console may have told the command already what it told us.
            limit_s: At most that many seconds, None for what the plan has.
            hurried: Whether to ask nobody any more: what may be forced is forced at once, and the report says that it was cut short.

        Raises:
            KeyboardInterrupt: Ctrl+C meanwhile. What may be forced has been, and `report` says what came of it.
        """
        policy = self._policy if limit_s is None else within(self._policy, limit_s)
        stdin = self.stdin if self._stdin_eof else None
        run = TreeStop(self._backend, self._tree, self._name, policy, self._started, stdin)
        try:
            if hurried:
                run.hurry()
            else:
                run.run(told=told)
        except KeyboardInterrupt:
            run.hurry()
            raise
        finally:
            self.poll()
            target = run.report
            run.close()
            if target is not None:
                elapsed = self._backend.now() - self._started
                self.report = Report((target,), elapsed_s=elapsed, cancelled=run.entry.job.cancelled)
                self._closed = True
                self._tree.close()
        assert self.report is not None, "a stop ends with a verdict"
        return self.report
