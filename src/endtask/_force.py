"""The forced end of a tree: hold everything still, look until nobody new turns up, end it all.

Killing one after the other loses against a tree that forks while it dies; what is held still cannot fork.
"""

from __future__ import annotations

from endtask import _scope
from endtask._job import Force

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask._backends.base import Sweep
    from endtask._discover import Discovery, Entry
    from endtask._job import Action, JobMember
    from endtask.model import Receipt

    Receipts = list[tuple[JobMember, Receipt]]
    Forced = tuple[Entry, Receipts]
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


def force(entries: Sequence[Entry], discovery: Discovery, clock: Callable[[], float]) -> tuple[list[Forced], Pending]:
    """End everything that is in the scope of some targets, which share the looks at the whole machine.

    Returns:
        For each target a receipt for each process that was held or could not be held, and what the jobs want done about the members that were found meanwhile.
    """
    trees: list[_Held] = []
    try:
        for entry in entries:
            trees.append(_Held(entry, discovery.backend.open_sweep(_whole_cgroup(entry, discovery))))
        pending = _hold_all(trees, discovery)
        return [(tree.entry, tree.kill(clock())) for tree in trees], pending
    finally:
        for tree in trees:
            tree.sweep.close()


class _Held:
    """What is held of one target.

    Attributes:
        sweep: Holds and ends it.
        limit: Until when nobody who is new is missed; later only what is held is ended.
    """

    __slots__ = ("_done", "_refused", "entry", "held", "limit", "sweep")

    def __init__(self, entry: Entry, sweep: Sweep) -> None:
        self.entry = entry
        self.sweep = sweep
        self.limit = 0.0
        self.held: list[JobMember] = []
        self._refused: Receipts = []
        self._done: set[JobMember] = set()

    def hold(self) -> None:
        """Hold every member that was not tried before."""
        for member in [m for m in self.entry.job.members if m.concerns_us and m not in self._done]:
            self._done.add(member)
            receipt = self.sweep.hold(self.entry.ready.pins[member.ref.pid])
            if receipt is None:
                self.held.append(member)
            elif receipt.status != "gone":
                self._refused.append((member, receipt))
        self.sweep.settle()

    def kill(self, at_s: float) -> Receipts:
        """End what is held."""
        receipts = self.sweep.kill([self.entry.ready.pins[m.ref.pid] for m in self.held], at_s)
        return [*self._refused, *zip(self.held, receipts, strict=True)]


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


def _hold_all(trees: list[_Held], discovery: Discovery) -> Pending:
    """Hold member after member until a look around finds nobody new."""
    backend = discovery.backend
    pending: Pending = []
    growing: list[_Held] = []
    for tree in trees:
        if tree.sweep.mechanism == "cgroup.kill":
            # The kernel ends whatever is in there at that moment: nothing has to be held or found.
            tree.held = [m for m in tree.entry.job.members if m.concerns_us]
        else:
            tree.limit = max(tree.entry.job.deadline, backend.now() + _LAST_TRY_S)
            growing.append(tree)
    while growing := [tree for tree in growing if backend.now() < tree.limit]:
        for tree in growing:
            tree.hold()
        grown = _look_again([tree.entry for tree in growing], discovery, pending)
        growing = [tree for tree in growing if tree.entry in grown]
    return pending


def _look_again(entries: list[Entry], discovery: Discovery, pending: Pending) -> set[Entry]:
    """Take in who is new; return which of the targets got anybody."""
    now = discovery.backend.now()
    born = discovery.born()
    if not discovery.sees_births and discovery.preparer.policy.scope.kind != "only":
        family = _scope.Family(discovery.backend.table())
        born += [(entry, discovery.rescan(entry, family)) for entry in entries]
    found: set[Entry] = set()
    for owner, members in born:
        if members and owner in entries:
            found.add(owner)
        actions = owner.job.joined(members, now)
        # To be forced is what happens to these targets' new members anyway.
        pending.append((owner, [a for a in actions if owner not in entries or not isinstance(a, Force)]))
    return found
