"""One simulated process: what the kernel keeps of it, and what only the simulator knows.

Decision: parentage is kept twice, as the kernel shows it (`parent`, which changes when a parent dies) and as it was (`born_of`), because the difference is what a stop must not lose.
"""

from __future__ import annotations

from endtask.model import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.sim.spec import Op, Spec
    from endtask._backends.sim.talk import SimConversation

# Why a process cannot run right now, as bits of Process.block.
STOPPED, HELD, FROZEN_V2, FROZEN_V1, UNINTERRUPTIBLE, TRACED, DYING = 1, 2, 4, 8, 16, 32, 64

HUP, INT, QUIT, KILL, TERM, CHLD, CONT, STOP = 1, 2, 3, 9, 15, 17, 18, 19
STDIN, COMMAND, CHANNEL = (
    65,
    66,
    67,
)  # not signals: a line on standard input, a stop command that reaches the program, a request to its receiver
CORE_SIGNALS = frozenset((3, 4, 5, 6, 7, 8, 11, 24, 25, 31))  # default action: core, signal(7)
QUIET_SIGNALS = frozenset((17, 18, 23, 28))  # default action: nothing that matters here
STOP_SIGNALS = frozenset((19, 20, 21, 22))


def bit(number: int) -> int:
    """Return the mask of a signal number."""
    return 1 << (number - 1)


def mask(numbers: tuple[int, ...]) -> int:
    """Return the mask of some signal numbers."""
    total = 0
    for number in numbers:
        total |= 1 << (number - 1)
    return total


class Group:
    """A process group or a session: its number outlives its leader for as long as it has members.

    Attributes:
        pid: Its number.
        leader: Who led it when it was made.
    """

    __slots__ = ("leader", "pid")

    def __init__(self, leader: Process) -> None:
        self.pid = leader.pid
        self.leader = leader


class Frame:
    """A program or a handler in progress.

    Attributes:
        ops: Its operations.
        at: Index of the next one.
        wake: Not before this time.
        joins: Whether it waits until no child runs.
        serves: The signal that it handles, 0 for a program; while it runs that signal stays pending (sigaction(2) without SA_NODEFER).
    """

    __slots__ = ("at", "joins", "ops", "serves", "wake")

    def __init__(self, ops: tuple[Op, ...], wake: float, serves: int = 0) -> None:
        self.ops = ops
        self.serves = serves
        self.at = 0
        self.wake = wake
        self.joins = False


class Process:
    """A process, a zombie, or the memory of one that has been reaped.

    Attributes:
        serial: Number over the whole life of the machine; the token when handles are exact.
        parent: Whom the kernel calls its parent; None for the first ones.
        born_of: Who forked it.
        exited: Whether it has ended (a zombie or gone).
        reaped: Whether it is gone from the table.
        late: Whether it had something to do while it could not run.
        errands: What the system does for it (reaping, starting again) once it can run.
        generation: Changes whenever planned steps of its program have become void.
        heard: How many deliveries of each signal its handlers have taken.
        held_by_us: Whether a sweep of ours holds it.
        roots: Serials of itself and all true ancestors.
        talks: Conversations with its receiver.
        past: Groups, sessions and cgroups that it was in before.
        changed_at: When a tie of it last changed: parent, group, session, cgroup, name, environment, user.
    """

    __slots__ = (
        "block",
        "blocked",
        "born_at",
        "born_of",
        "caught",
        "cgroup",
        "changed_at",
        "children",
        "comm",
        "core",
        "environ",
        "errands",
        "exited",
        "exited_at",
        "flags",
        "frames",
        "generation",
        "group",
        "heard",
        "held_by_us",
        "ignored",
        "late",
        "marks",
        "name",
        "namespace",
        "objects",
        "parent",
        "past",
        "pending",
        "pid",
        "ports",
        "reaped",
        "restarts",
        "roots",
        "row_cache",
        "serial",
        "session",
        "signal",
        "spec",
        "start",
        "status",
        "talks",
        "uid",
        "waited",
        "watchers",
    )

    def __init__(self, pid: int, serial: int, spec: Spec, born_of: Process | None, now: float) -> None:
        self.pid = pid
        self.serial = serial
        self.spec = spec
        self.name = spec.name
        self.comm = spec.name[:15]
        self.born_of = born_of
        self.parent = born_of
        self.roots: frozenset[int] = frozenset((serial,)) if born_of is None else born_of.roots | {serial}
        self.children: list[Process] = []
        self.start = int(now * 100)
        self.born_at = now
        self.changed_at = now
        self.past: tuple[Group | str, ...] = ()
        self.flags = frozenset(spec.flags)
        self._begin()
        self.session: Group
        self.group: Group
        if born_of is None:
            self.uid = max(spec.uid, 0)
            self.cgroup = spec.cgroup or "/"
            self.environ = spec.environ
            self.marks = spec.marks
            self.objects = frozenset(spec.objects)
            self.ports = frozenset(spec.ports)
            self.namespace: Process | None = None
            self.session = self.group = Group(self)
        else:
            self._inherit(born_of, spec)

    def _begin(self) -> None:
        """Set what every process begins with."""
        spec = self.spec
        self.block = 0
        self.pending = 0
        self.ignored = mask(spec.ignored)
        self.blocked = mask(spec.blocked)
        self.waited = mask(spec.waited)
        self.caught = mask(tuple(n for n, _ in spec.on)) & ~self.waited
        self.frames: list[Frame] = []
        self.generation = 0
        self.late = False
        self.errands: list[tuple[Callable[[Process, int], None], Process, int]] = []
        self.heard: dict[int, int] = {}
        self.exited = False
        self.reaped = False
        self.exited_at = -1.0
        self.status = 0
        self.signal = 0
        self.core = False
        self.held_by_us = False
        self.restarts = spec.restarts
        self.watchers: list[tuple[list[int], int]] = []
        self.row_cache: Row | None = None
        self.talks: list[SimConversation] = []

    def _inherit(self, parent: Process, spec: Spec) -> None:
        """Fork: everything is the parent's, unless the program says otherwise."""
        self.uid = parent.uid if spec.uid < 0 else spec.uid
        self.cgroup = spec.cgroup or parent.cgroup
        self.environ = spec.environ or parent.environ
        self.marks = spec.marks or (parent.marks if not spec.environ else ())
        self.objects = parent.objects | frozenset(spec.objects)
        self.ports = parent.ports | frozenset(spec.ports)
        self.namespace = self if "namespace" in self.flags else parent.namespace
        self.ignored |= parent.ignored & ~self.caught  # execve(2): ignored stays ignored, handlers are reset
        self.blocked |= parent.blocked & ~parent.waited
        self.session = parent.session
        self.group = parent.group
        if "session" in self.flags:
            self.session = self.group = Group(self)
        elif "group" in self.flags:
            self.group = Group(self)
        parent.children.append(self)

    @property
    def token(self) -> str:
        """The exact token."""
        return str(self.serial)

    @property
    def kernel(self) -> bool:
        """Whether it is a kernel thread."""
        return "kernel" in self.flags

    @property
    def namespace_init(self) -> bool:
        """Whether it is the first process of a pid namespace below ours."""
        return self.namespace is self

    @property
    def state(self) -> str:
        """The letter that proc_pid_stat(5) shows."""
        if self.exited or "leader-gone" in self.flags:
            return "Z"
        block = self.block
        if block & (UNINTERRUPTIBLE | FROZEN_V1):
            return "D"
        if block & TRACED:
            return "t"
        if block & (STOPPED | HELD) and not block & DYING:
            return "T"
        return "I" if self.kernel else "R" if block & DYING else "S"

    def row(self) -> Row:
        """Return its line of the process table."""
        row = self.row_cache
        if row is None:
            ppid = self.parent.pid if self.parent is not None else 0
            self.row_cache = row = Row(
                self.pid, ppid, self.group.pid, self.session.pid, self.start, self.state, self.comm, self.kernel, 0
            )
        return row

    def __repr__(self) -> str:
        word = "reaped" if self.reaped else "zombie" if self.exited else self.state
        return f"<{self.pid}:{self.serial} {self.name} {word}>"
