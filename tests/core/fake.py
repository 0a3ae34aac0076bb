"""A machine in memory for the resolver: no clock of its own, nothing happens unless a test says so.

Decision: beside the simulated system (random lives on a virtual clock) the resolver needs the opposite, a machine on which one thing happens at one exact call.
`before` runs a hook right before the n-th call of a method, so a test can replace a process between the list and the handle.
"""

from __future__ import annotations

from endtask._backends.signals_only import SignalsOnly
from endtask.errors import AccessDeniedError, EndtaskError, GoneError, OsCallError, TargetError
from endtask.model import Facts, Listener, PidRef, ProcessEnd, Receipt, Request, Row, SignalSets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import ForkWatch, Part, Pin, Sweep, Waiter

USERS = {"root": 0, "ana": 1000}


def says_why(error: EndtaskError) -> None:
    """Look that an error that random input led to says something to a person."""
    assert error.message
    assert error.exit_code in (1, 2, 3, 77)


class Process:
    """One process of the machine; tests change it as they like."""

    def __init__(
        self,
        pid: int,
        name: str,
        *,
        ppid: int = 1,
        sid: int = 0,
        pgid: int = 0,
        start: int = 0,
        uid: int = 1000,
        cmdline: tuple[str, ...] | None = None,
        cwd: str | None = "/",
        kernel: bool = False,
        exited: bool = False,
        denied: bool = False,
    ) -> None:
        self.pid = pid
        self.name = name
        self.ppid = ppid
        self.sid = sid or pid
        self.pgid = pgid or pid
        self.start = start or pid
        self.uid = uid
        self.cmdline = (name,) if cmdline is None else cmdline
        self.cwd = cwd
        self.kernel = kernel
        self.exited = exited
        self.denied = denied
        self.token = ""

    def row(self) -> Row:
        """Return its line of the process table."""
        comm = self.name.encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")
        return Row(self.pid, self.ppid, self.pgid, self.sid, self.start, "Z" if self.exited else "S", comm, self.kernel)


class FakePin:
    """A handle on exactly one `Process`."""

    def __init__(self, machine: FakeBackend, process: Process) -> None:
        self.process = process
        self.ref = PidRef(process.pid, process.token)
        self.exact = True
        self.mechanism = "fake"
        self._machine = machine

    def close(self) -> None:
        """Forget the handle."""
        self._machine.pins.discard(self)


class FakeBackend(SignalsOnly):
    """The machine; the time is `clock` ticks, a tick is a second.

    Attributes:
        processes: By pid.
        pins: Open handles: a test that ends with one that nobody owns has found a leak.
        ports: (proto, port) -> listeners.
        open_files: path -> (pids, how many could not be looked into), or the error to raise.
        hidden: Pids without a row, as hidepid makes them.
        pid_files: path -> (content, age in seconds), or the error to raise.
    """

    def __init__(self, *processes: Process) -> None:
        self.processes: dict[int, Process] = {}
        self.pins: set[FakePin] = set()
        self.ports: dict[tuple[str, int], list[Listener]] = {}
        self.open_files: dict[str, tuple[list[int], int] | OsCallError] = {}
        self.hidden: set[int] = set()
        self.pid_files: dict[str, tuple[bytes, float] | OsCallError] = {}
        self.folds_case = False
        self.clock = 100_000.0
        self.room = 1000
        self._tokens = 0
        self._hooks: list[tuple[str, int, Callable[[], None]]] = []
        self._counts: dict[str, int] = {}
        self.ours = (900, 800, 1)
        self.add(Process(1, "init", ppid=0), Process(800, "bash"), Process(900, "endtask", ppid=800), *processes)

    # ------------------------------------------------------------------ for tests

    def add(self, *processes: Process) -> None:
        """Start processes; one with a known pid takes the place of the process that had it."""
        for process in processes:
            self._tokens += 1
            process.token = str(self._tokens)
            self.processes[process.pid] = process

    def remove(self, pid: int) -> None:
        """End a process and reap it."""
        self.processes.pop(pid).exited = True

    def before(self, call: str, act: Callable[[], None], *, nth: int = 1) -> None:
        """Run *act* right before the *nth* call of the method *call*."""
        self._hooks.append((call, nth, act))

    def _note(self, call: str) -> None:
        count = self._counts[call] = self._counts.get(call, 0) + 1
        for hook in [h for h in self._hooks if h[:2] == (call, count)]:
            self._hooks.remove(hook)
            hook[2]()

    # ------------------------------------------------------------------ the protocol

    @property
    def name(self) -> str:
        return "fake"

    def now(self) -> float:
        return self.clock

    def host(self) -> dict[str, str]:
        return {"name": "fake"}

    def own_line(self) -> tuple[int, ...]:
        return self.ours

    def list_pids(self) -> list[int]:
        self._note("list_pids")
        return sorted(self.processes)

    def short_name(self, pid: int) -> str | None:
        self._note("short_name")
        process = self.processes.get(pid)
        return None if process is None else process.row().comm

    def full_name(self, pid: int, short: str) -> str:
        process = self.processes.get(pid)
        return process.name if process is not None and process.row().comm == short else short

    def row(self, pid: int) -> Row | None:
        self._note("row")
        process = None if pid in self.hidden else self.processes.get(pid)
        return None if process is None else process.row()

    def table(self) -> dict[int, Row]:
        return {pid: p.row() for pid, p in self.processes.items()}

    def children(self, pid: int) -> list[int] | None:
        return sorted(p.pid for p in self.processes.values() if p.ppid == pid)

    def owner(self, pid: int) -> int | None:
        process = self.processes.get(pid)
        return None if process is None else process.uid

    def user_id(self, name: str) -> int:
        if name in USERS:
            return USERS[name]
        raise TargetError(f"there is no user `{name}`")

    def user_name(self, uid: int) -> str:
        return next((n for n, u in USERS.items() if u == uid), str(uid))

    def command_line(self, pid: int) -> tuple[str, ...] | None:
        process = self.processes.get(pid)
        return None if process is None else process.cmdline

    def working_directory(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        return None if process is None else process.cwd

    def usage(self, pid: int) -> tuple[float, float] | None:
        return (3725.0, 2048.0) if pid in self.processes else None

    def modules(self, pid: int) -> tuple[str, ...]:
        return (f"/usr/lib/{self.processes[pid].name}.so",) if pid in self.processes else ()

    def age_s(self, row: Row) -> float:
        return self.clock - row.start

    def listeners(self, proto: str, port: int) -> list[Listener]:
        self._note("listeners")
        return self.ports.get((proto, port), [])

    def file_holders(self, path: str) -> tuple[list[int], int]:
        holders = self.open_files.get(path, OsCallError("stat", 2, text="no such file"))
        if isinstance(holders, OsCallError):
            raise holders
        return holders

    def pid_file(self, path: str) -> tuple[bytes, float]:
        content = self.pid_files.get(path, OsCallError("open", 2, text="no such file"))
        if isinstance(content, OsCallError):
            raise content
        return content

    def cgroup(self, pid: int) -> str:
        return "/system.slice/web.service" if pid in self.processes else ""

    def cgroup_pids(self, cgroup: str) -> list[int] | None:
        return None

    def marks(self, pid: int) -> tuple[str, ...]:
        return ()

    def kinship(self, pid: int) -> frozenset[bytes]:
        return frozenset()

    def shared_objects(self, pid: int) -> frozenset[str]:
        return frozenset()

    def capacity(self) -> int:
        return self.room

    def pin(self, pid: int, token: str = "") -> FakePin:
        self._note("pin")
        process = self.processes.get(pid)
        if process is None:
            raise GoneError("pidfd_open", 3, pid)
        if process.denied:
            raise AccessDeniedError("pidfd_open", 1, pid, text="operation not permitted")
        if token and token != process.token:
            raise GoneError("pidfd_open", 3, pid, text="the pid belongs to another process by now")
        pin = FakePin(self, process)
        self.pins.add(pin)
        return pin

    def exited(self, pin: Pin) -> bool:
        assert isinstance(pin, FakePin)
        assert pin in self.pins, "a handle was used after it had been closed"
        return pin.process.exited

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        return Facts(pin.ref, "")

    def signals(self, pid: int) -> SignalSets | None:
        return None

    def stopped(self, pin: Pin) -> bool:
        return False

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        raise AssertionError("the resolver sends nothing")

    def end(self, pin: Pin) -> ProcessEnd:
        return ProcessEnd()

    def waiter(self) -> Waiter:
        raise AssertionError("the resolver does not wait")

    def fork_watch(self, waiter: Waiter) -> ForkWatch | None:
        return None

    def open_sweep(self, cgroup: str = "") -> Sweep:
        raise AssertionError("the resolver forces nothing")

    def cgroup_empty(self, cgroup: str) -> bool | None:
        return None
