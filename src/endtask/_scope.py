"""Which processes a target owns, read from one process table (pure).

Scope is what the target *owns*: its descendants, and orphans that still carry its session, its process group or its own cgroup.
Who merely shares a session or a group with it while having a living parent there (the other half of a pipeline, the shell's other jobs) is not owned.

Decision: a tie that only makes it likely (same initial environment, same open pipes) makes a *suspect*, which is named and never signalled.
Rejected: acting on likely ties. Two daemons started by one script share their environment, and stopping the wrong one loses somebody's work.
"""

from __future__ import annotations

from endtask._words import is_shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from endtask.model import Row

# pid -> (tie in words, depth below the target)
if TYPE_CHECKING:
    Ties = dict[int, tuple[str, int]]


class Family:
    """Indexes over one process table, built once and shared by all targets of a run.

    Attributes:
        table: The table.
        children: Parent pid -> child pids.
        sessions: Session id -> pids.
        groups: Process group id -> pids.
        near: What `suspects` has found near the children of a line of ancestors.
    """

    __slots__ = (
        "_above",
        "_adopted",
        "_groups",
        "_leaders",
        "_lost",
        "_sessions",
        "_strangers",
        "children",
        "near",
        "table",
    )

    def __init__(self, table: dict[int, Row]) -> None:
        self.table = table
        children: dict[int, list[int]] = {}
        for row in table.values():
            children.setdefault(row.ppid, []).append(row.pid)
        self.children = children
        self._adopted: dict[int, list[Row]] = {}
        self._leaders: dict[int, list[Row]] = {}
        self._strangers: dict[tuple[str, int], list[Row]] = {}
        self._above: dict[int, list[int]] = {}
        self.near: dict[tuple[int, ...], list[Row]] = {}
        self._sessions: dict[int, list[int]] | None = None
        self._lost: list[Row] | None = None
        self._groups: dict[int, list[int]] | None = None

    @property
    def sessions(self) -> dict[int, list[int]]:
        if self._sessions is None:
            self._sessions = {}
            for row in self.table.values():
                self._sessions.setdefault(row.sid, []).append(row.pid)
        return self._sessions

    @property
    def groups(self) -> dict[int, list[int]]:
        if self._groups is None:
            self._groups = {}
            for row in self.table.values():
                self._groups.setdefault(row.pgid, []).append(row.pid)
        return self._groups

    def adopted(self, parent: int) -> list[Row]:
        """Return the children of *parent* that look adopted, not forked by it; found once for all targets."""
        found = self._adopted.get(parent)
        if found is None:
            rows = [self.table[pid] for pid in self.children.get(parent, ())]
            found = self._adopted[parent] = [r for r in rows if not r.kernel and _adopted(self, r, parent)]
        return found

    def is_adopted(self, row: Row) -> bool:
        """Return whether *row* looks adopted by its parent, not forked by it."""
        return _adopted(self, row, row.ppid)

    def leaders(self, parent: int) -> list[Row]:
        """Return the children of *parent* that lead a session of their own; found once for all targets."""
        found = self._leaders.get(parent)
        if found is None:
            rows = [self.table[pid] for pid in self.children.get(parent, ())]
            found = self._leaders[parent] = [r for r in rows if not r.kernel and r.sid == r.pid]
        return found

    def strangers(self, kind: str, parent: int, known: Callable[[Row], bool]) -> list[Row]:
        """Return those of the `adopted` or `leaders` below *parent*, or of the `lost`, that are not known; sieved once for all targets.

        Ten thousand orphans may be ten thousand targets, and none of them is a stranger to the others.
        """
        found = self._strangers.get((kind, parent))
        if found is None:
            rows = self.lost() if kind == "lost" else getattr(self, kind)(parent)
            found = self._strangers[kind, parent] = [r for r in rows if not known(r)]
        return found

    def ancestors(self, pid: int) -> list[int]:
        """Return the pids above *pid*, the parent first; those above a parent are found once for all its children."""
        row = self.table.get(pid)
        if row is None or row.ppid <= 0 or row.ppid == pid:
            return []
        parent = self.table.get(row.ppid)
        if parent is not None and parent.start > row.start:
            return []  # a parent is never younger: its pid was given away anew (Windows keeps a dead parent's pid)
        above = self._above.get(row.ppid)
        if above is None:
            above = self._above[row.ppid] = self._line(row.ppid)
        return [row.ppid, *(above if pid not in above else above[: above.index(pid)])]

    def _line(self, pid: int) -> list[int]:
        line: list[int] = []
        row = self.table.get(pid)
        while row is not None and row.ppid > 0 and row.ppid not in line and row.ppid != pid:
            above = self.table.get(row.ppid)
            if above is not None and above.start > row.start:
                break
            line.append(row.ppid)
            row = above
        return line

    def lost(self) -> list[Row]:
        """Return the processes whose parent has ended, where orphans keep its pid; found once for all targets."""
        if self._lost is None:
            rows = (r for r in self.table.values() if not r.kernel and r.ppid > 0)
            self._lost = [r for r in rows if r.ppid not in self.table or self.table[r.ppid].start > r.start]
        return self._lost

    def descendants(self, pid: int, into: Ties, depth: int = 0) -> None:
        """Add everything below *pid* to *into*; a child that is older than its parent is a reused pid and is left out."""
        queue = [(pid, depth)]
        while queue:
            parent, level = queue.pop()
            parent_row = self.table.get(parent)
            for child in self.children.get(parent, ()):
                if child in into or child == parent:
                    continue
                if parent_row is not None and self.table[child].start < parent_row.start:
                    continue
                into[child] = (f"child of {parent}", level + 1)
                queue.append((child, level + 1))


def owned(family: Family, target: int, cgroup_pids: Iterable[int] = (), cgroup: str = "") -> Ties:
    """Return what *target* owns, itself first, while it is there.

    Args:
        family: The process table.
        target: Pid of the target.
        cgroup_pids: Members of a cgroup that is the target's own, empty if it has none of its own.
        cgroup: That cgroup's path, for the words.
    """
    ties: Ties = {target: ("target", 0)}
    row = family.table.get(target)
    if row is None:
        return ties
    family.descendants(target, ties)
    orphans(family, row, cgroup_pids, f"cgroup {cgroup}", ties)
    done: set[int] = set()
    while len(done) < len(ties):  # sessions and groups of the members, and of what they bring in
        for pid in [p for p in ties if p not in done]:
            done.add(pid)
            if family.table[pid].sid == pid:
                orphans(family, row, family.sessions.get(pid, ()), f"session {pid}", ties)
            if family.table[pid].pgid == pid:
                orphans(family, row, family.groups.get(pid, ()), f"group {pid}", ties)
    return ties


def orphans(family: Family, top: Row, pids: Iterable[int], tie: str, ties: Ties) -> None:
    """Add those of *pids* to *ties* that lost their parent and are not older than *top*, and what is below them."""
    for pid in pids:
        row = family.table.get(pid)
        if pid in ties or row is None or row.kernel or row.start < top.start:
            continue
        if is_orphan(family, row):
            ties[pid] = (tie, 1)
            family.descendants(pid, ties, 1)


def is_orphan(family: Family, row: Row) -> bool:
    """Return whether the parent of *row* only reaps it.

    The kernel does not say it. What can be seen: the parent is the first process of the namespace, is hidden, or lives outside the session of its "child",
    which a parent that merely forked does not, unless the child called setsid(2) itself and so leads that session.
    """
    if row.ppid <= 1:
        return True
    parent = family.table.get(row.ppid)
    if parent is None:
        return True
    return row.sid not in (parent.sid, row.pid)


def whole(family: Family, target: Row, kind: str, cgroup_pids: Iterable[int] = (), cgroup: str = "") -> Ties:
    """Return everything of a scope that is not a tree: the target's process group, session or cgroup, or only itself.

    Args:
        family: The process table.
        target: The target's row as it was when the run began; it may be gone by now.
        kind: `only`, `group`, `session` or `cgroup`.
        cgroup_pids: Members of the cgroup.
        cgroup: Its path, for the words.
    """
    now = family.table.get(target.pid)
    ties: Ties = {target.pid: ("target", 0)} if now is None or now.start == target.start else {}
    if kind == "only":
        return ties
    if kind == "group":
        pids: Iterable[int] = family.groups.get(target.pgid, ())
        tie = f"group {target.pgid}"
    elif kind == "session":
        pids = family.sessions.get(target.sid, ())
        tie = f"session {target.sid}"
    else:
        pids = cgroup_pids
        tie = f"cgroup {cgroup}"
    for pid in pids:
        other = family.table.get(pid)
        if other is not None and not other.kernel and pid not in ties:
            ties[pid] = (tie, 1)
    return ties


def group_strangers(family: Family, target: Row) -> list[Row]:
    """Return members of a group that the target leads whose parent may have started or adopted them; nobody can tell which.

    The other half of a shell's pipeline is innocent: its parent is the shell that started the target too.
    """
    if target.pgid != target.pid:
        return []
    found = []
    for pid in family.groups.get(target.pid, ()):
        row = family.table[pid]
        parent = family.table.get(row.ppid)
        if parent is not None and not is_shell(parent.comm) and row.start >= target.start:
            found.append(row)
    return found


def suspects(family: Family, top: Row, above: Sequence[int], known: Callable[[Row], bool]) -> list[Row]:
    """Return the orphans that could have come from a target, judged by the table alone; its known members among them.

    Whoever calls must narrow the list further by what only inheritance can give (`Backend.kinship`, `Backend.shared_objects`).
    An escaped child is adopted by pid 1 or by a subreaper, and a subreaper that adopts it is an ancestor of the target (prctl(2), PR_SET_CHILD_SUBREAPER).

    Args:
        family: The process table.
        top: The target's row, as it was before the stop.
        above: Its ancestors at that time.
        known: Says of whom every target of the run knows that it is nobody's suspect; the same for every call with this family.
    """
    if not (top.sid or top.pgid):  # no sessions and groups, so no adopters either
        lost = family.strangers("lost", 0, known)
        return [row for row in lost if row.start >= top.start and not _is_above(row, top, above)]
    near = _near(family, top, above, known)
    if not near or near[0].start < top.start:
        return []  # the usual answer: all of them were there before it
    return [
        row
        for row in near
        if row.start >= top.start and not _is_above(row, top, above) and not _other_launch(family, row, top)
    ]


def _near(family: Family, top: Row, above: Sequence[int], known: Callable[[Row], bool]) -> list[Row]:
    """Return the strangers that were adopted by pid 1 or an ancestor, or lead a session of their own there, the youngest first; found once for all siblings."""
    key = (top.sid == top.pid, *above)
    near = family.near.get(key)
    if near is not None:
        return near
    found = [r for parent in {1, *above} for r in family.strangers("adopted", parent, known)]
    line = [top, *(family.table[p] for p in above if p in family.table)]
    for own, parent in zip(line, above, strict=False):
        above_row = family.table.get(parent)
        if parent > 1 and own.sid != own.pid and above_row is not None and not is_shell(above_row.comm):
            # A runner that gives sessions to what it starts would have given one to the target's line.
            found += family.strangers("leaders", parent, known)
    near = family.near[key] = sorted(dict.fromkeys(found), key=lambda row: row.start, reverse=True)
    return near


def _is_above(row: Row, top: Row, above: Sequence[int]) -> bool:
    """Return whether *row* is an ancestor itself: one that began after the target only has the pid of an ancestor that has ended."""
    return row.pid in above and row.start <= top.start


def _other_launch(family: Family, row: Row, top: Row) -> bool:
    """Return whether a Windows program under Wine belongs to another command than the target.

    Wine forks twice for whatever it starts, so that every program is an orphan; but what a program starts stays in its process group or leads a session of
    its own (dlls/ntdll/unix/process.c, spawn_process), and nobody else's leader lives in either.
    """
    return row.comm.endswith(_WINDOWS) and row.pgid not in (row.pid, top.pgid) and _lives(family, row.pgid)


_WINDOWS = ".exe"  # how the names of programs under Wine end
_REAPERS = frozenset(
    ("systemd", "init", "tini", "dumb-init", "catatonit", "s6-svscan", "containerd-shim", "conmon", "runsvdir")
)


def adopts(name: str) -> bool:
    """Return whether a program of that name is known to adopt orphans."""
    return name in _REAPERS


def _adopted(family: Family, row: Row, parent: int) -> bool:
    """Return whether *parent* looks like the adopter of *row*, not like the one that forked it.

    A double fork leaves a session or a group whose leader has died; a living parent's own child is in a session that has one.
    The id 0 only says that the leader lives outside of our pid namespace.
    """
    above = family.table.get(parent)
    if above is not None and adopts(above.comm):
        return True
    if parent == 1 and (row.sid == row.pid or row.comm.endswith(_WINDOWS)):
        return True  # leads a session of its own below pid 1, as daemons do; Wine forks twice for all that it starts
    return any(leader and not _lives(family, leader) for leader in (row.sid, row.pgid))


def _lives(family: Family, pid: int) -> bool:
    row = family.table.get(pid)
    return row is not None and row.state not in ("Z", "X")


_SHARED_UNITS = frozenset(("cron.service", "crond.service", "atd.service", "ssh.service", "sshd.service"))
_CONTAINERS = ("docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-")


def own_cgroup(cgroup: str) -> bool:
    """Return whether a cgroup of that name holds one program: a service, or a container.

    Not a scope of a login or of a terminal, where unrelated jobs live together, and not a service whose children are other people's jobs.
    """
    parent, _, leaf = cgroup.rpartition("/")
    if leaf.endswith(".service"):
        return leaf not in _SHARED_UNITS and not leaf.startswith("user@")
    if leaf.endswith(".scope"):
        return leaf.startswith(_CONTAINERS)
    return parent.endswith("/docker") and len(leaf) == _CONTAINER_ID


_CONTAINER_ID = 64  # hexadecimal digits
