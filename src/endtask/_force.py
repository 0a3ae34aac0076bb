"""The forced end of a tree: hold everything still, look until nobody new turns up, end it all.

Killing one after the other loses against a tree that forks while it dies; what is held still cannot fork.
"""

from __future__ import annotations

from endtask import _scope
from endtask._job import Force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Sweep
    from endtask._discover import Discovery, Entry
    from endtask._job import Action, JobMember
    from endtask.model import Receipt

    Receipts = list[tuple[JobMember, Receipt]]
    Pending = list[tuple[Entry, list[Action]]]

_LAST_TRY_S = 1.0  # for holding a tree whose budget is spent already


def is_single(entry: Entry, discovery: Discovery) -> bool:
    """Return whether the target is one process without children, for which one KILL through its handle does."""
    if len(entry.job.members) > 1 or entry.forced_before:
        return False
    if discovery.preparer.policy.scope.kind == "only":
        return True  # what it starts in its last moment is nobody's business
    # None: only the whole table can tell, and that is read while it is held.
    return discovery.sees_births or discovery.backend.children(entry.ready.target.ref.pid) == []


def force(entry: Entry, discovery: Discovery, at_s: float) -> tuple[Receipts, Pending]:
    """End everything that is in scope.

    Returns:
        A receipt for each process that was held or could not be held, and what the jobs want done about the members that were found meanwhile.
    """
    sweep = discovery.backend.open_sweep(_whole_cgroup(entry, discovery))
    try:
        held, refused, pending = _hold_all(entry, discovery, sweep)
        receipts = sweep.kill([entry.ready.pins[m.ref.pid] for m in held], at_s)
    finally:
        sweep.close()
    return [*refused, *zip(held, receipts, strict=True)], pending


def _whole_cgroup(entry: Entry, discovery: Discovery) -> str:
    """Return the cgroup that is exactly the scope, so that killing it whole hits nobody else; empty if there is none."""
    cgroup = entry.ready.cgroup
    if not cgroup or any(m.kept for m in entry.job.members):
        return ""
    pids = discovery.backend.cgroup_pids(cgroup)
    if pids is None or any(p <= 1 or p in discovery.preparer.own_line for p in pids):
        return ""
    if discovery.preparer.policy.scope.kind == "cgroup":
        return cgroup  # the cgroup is what was asked for, whoever is born in it meanwhile
    return cgroup if all(p in entry.by_pid for p in pids) else ""


def _hold_all(entry: Entry, discovery: Discovery, sweep: Sweep) -> tuple[list[JobMember], Receipts, Pending]:
    """Hold member after member until a look around finds nobody new."""
    backend, job = discovery.backend, entry.job
    held: list[JobMember] = []
    refused: Receipts = []
    pending: Pending = []
    if (
        sweep.mechanism == "cgroup.kill"
    ):  # the kernel ends whatever is in there at that moment: nothing has to be held or found
        return [m for m in job.members if m.concerns_us], refused, pending
    done: set[JobMember] = set()
    limit = max(job.deadline, backend.now() + _LAST_TRY_S)
    while backend.now() < limit:
        for member in [m for m in job.members if m.concerns_us and m not in done]:
            done.add(member)
            receipt = sweep.hold(entry.ready.pins[member.ref.pid])
            if receipt is None:
                held.append(member)
            elif receipt.status != "gone":
                refused.append((member, receipt))
        sweep.settle()
        if not _look_again(entry, discovery, pending):
            break
    return held, refused, pending


def _look_again(entry: Entry, discovery: Discovery, pending: Pending) -> bool:
    """Take in who is new; return whether this target got anybody."""
    now = discovery.backend.now()
    born = discovery.born()
    if not discovery.sees_births and discovery.preparer.policy.scope.kind != "only":
        family = _scope.Family(discovery.backend.table())
        born.append((entry, discovery.rescan(entry, family)))
    found = False
    for owner, members in born:
        found = found or (owner is entry and bool(members))
        actions = owner.job.joined(members, now)
        # To be forced is what happens to this target's new members anyway.
        pending.append((owner, [a for a in actions if owner is not entry or not isinstance(a, Force)]))
    return found
