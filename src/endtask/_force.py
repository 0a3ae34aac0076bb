"""The forced end of a tree: hold everything still, look until nobody new turns up, end it all.

Killing one after the other loses against a tree that forks while it dies; what is held still cannot fork.
"""

from __future__ import annotations

from endtask import _scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Sweep
    from endtask._discover import Discovery, Entry
    from endtask._job import JobMember
    from endtask.model import Receipt

    Receipts = list[tuple[JobMember, Receipt]]

_LAST_TRY_S = 1.0  # for holding a tree whose budget is spent already


def is_single(entry: Entry, discovery: Discovery) -> bool:
    """Return whether the target is one process without children, for which one KILL through its handle does."""
    if len(entry.job.members) > 1 or entry.forced_before:
        return False
    return discovery.sees_births or not discovery.backend.children(entry.ready.target.ref.pid)


def force(entry: Entry, discovery: Discovery, at_s: float) -> tuple[Receipts, list[Entry]]:
    """End everything that is in scope.

    Returns:
        A receipt for each process that was held or could not be held, and other entries that got new members meanwhile.
    """
    backend = discovery.backend
    sweep = backend.open_sweep(_whole_cgroup(entry, discovery))
    try:
        held, refused, others = _hold_all(entry, discovery, sweep)
        receipts = sweep.kill([entry.ready.pins[m.ref.pid] for m in held], at_s)
    finally:
        sweep.close()
    return [*refused, *zip(held, receipts, strict=True)], others


def _whole_cgroup(entry: Entry, discovery: Discovery) -> str:
    """Return the cgroup that is exactly the scope, so that killing it whole hits nobody else; empty if there is none."""
    cgroup = entry.ready.cgroup
    if not cgroup or any(m.kept for m in entry.job.members):
        return ""
    pids = discovery.backend.cgroup_pids(cgroup)
    if pids is None or any(p <= 1 or p in discovery.preparer.own_line for p in pids):
        return ""
    in_scope = discovery.preparer.scope_of(entry.ready, _scope.Family(discovery.backend.table()))
    return cgroup if all(p in in_scope or p in entry.by_pid for p in pids) else ""


def _hold_all(entry: Entry, discovery: Discovery, sweep: Sweep) -> tuple[list[JobMember], Receipts, list[Entry]]:
    """Hold member after member until a look around finds nobody new."""
    backend, job = discovery.backend, entry.job
    held: list[JobMember] = []
    refused: Receipts = []
    others: list[Entry] = []
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
        fresh = _fresh(entry, discovery, backend, others)
        job.joined(fresh, backend.now())  # its answer would be Force, which is what we are doing
        if not fresh:
            break
    return held, refused, others


def _fresh(entry: Entry, discovery: Discovery, backend: Backend, others: list[Entry]) -> list[JobMember]:
    fresh: list[JobMember] = []
    for owner, members in discovery.born():
        if owner is entry:
            fresh += members
        else:
            owner.job.joined(members, backend.now())
            others.append(owner)
    if not discovery.sees_births and discovery.preparer.policy.scope.kind != "only":
        fresh += discovery.rescan(entry, _scope.Family(backend.table()))
    return fresh
