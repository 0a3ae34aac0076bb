"""The Backend protocol over the simulated machine.

Every call lets a little time go by first, sometimes up to whatever would have happened next, so that anything can happen between any two calls, and inside those that read many processes.
Longer than other modules, because the protocol has 46 methods.

Size: one method for each of the protocol.
"""

from __future__ import annotations

from endtask._backends.signals_only import SignalsOnly
from endtask._backends.sim.handles import SimForkWatch, SimHangError, SimPin, SimSweep, SimWaiter, process_of
from endtask._backends.sim.process import COMMAND, FROZEN_V1, FROZEN_V2, HELD, STDIN, STOPPED, TRACED, Process
from endtask._backends.sim.system import GUARDIAN_S
from endtask._backends.sim.talk import SimConversation
from endtask.errors import AccessDeniedError, GoneError, OsCallError, TargetError, UnsupportedRequestError
from endtask.model import Facts, Listener, Manager, PidRef, ProcessEnd, Receipt, Row, SignalSets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Part, Pin, Waiter
    from endtask._backends.sim.system import System
    from endtask.model import Request

_EPERM, _ENOENT, _ESRCH, _EMFILE, _EINVAL = 1, 2, 3, 24, 22
_ALL = (1 << 64) - 1
_USERS = {"root": 0, "ana": 1000, "ben": 1001}


class RequesterKilledError(BaseException):
    """Endtask itself was killed with SIGKILL at this call: no line of its code runs after it."""


class SimBackend(SignalsOnly):
    """What endtask sees of a simulated machine.

    Attributes:
        system: The machine.
        us: Our own process.
        uid: Our user.
        calls: Calls so far.
        killed_at: The call at which we are killed, 0 for never.
        cancelled_at: The call after which the user interrupts: the next wait raises KeyboardInterrupt; 0 for never.
        waited_s: Seconds spent in waits; the rest of the time went by in calls.
        spurious: The part of waits that return early without news.
        pins: Open pins.
        open_handles: Open waiters, fork watches and sweeps.
        dead: Whether we were killed.
        call_limit: More calls than that go round in circles, 0 for no limit.
        ended_whole: Serials of what was ended by the end of its cgroup.
        files: Pid files: path -> content and time of the last write.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.us = system.us
        self.uid = system.us.uid
        self.calls = 0
        self.killed_at = 0
        self.cancelled_at = 0
        self.waited_s = 0.0
        self.spurious = 0.02
        self.pins: dict[SimPin, None] = {}  # ordered, so that a life is the same every time
        self.open_handles: dict[object, None] = {}
        self.files: dict[str, tuple[bytes, float]] = {}
        self.dead = False
        self.call_limit = 0
        self.ended_whole: set[int] = set()

    # ------------------------------------------------------------------ time

    def tick(self) -> None:
        """One call to the system: some time goes by, or we die, or the user interrupts."""
        if self.dead:
            raise RequesterKilledError  # what `finally` clauses still try is not done by a dead process
        self.calls += 1
        if self.calls == self.call_limit:
            raise SimHangError(f"{self.calls} calls to the system, and no end")
        if self.calls == self.killed_at:
            self._die()
        system = self.system
        world = system.world
        chance = system.rng.random()
        if chance < world.race:
            following = system.next_time()
            if following is not None and following < system.now + 0.2:
                system.advance_to(following)
        elif chance > 1.0 - world.stall:
            system.settle(0.05 + 2.0 * system.rng.random())
        else:
            system.advance_to(system.now + world.call_s * 2 * chance)

    def hear_interrupt(self) -> None:
        """Raise what the user's Ctrl+C raises; endtask holds SIGINT back except while it waits."""
        if 0 < self.cancelled_at <= self.calls:
            self.cancelled_at = 0
            raise KeyboardInterrupt

    def _die(self) -> None:
        """SIGKILL to ourselves: handles close, and the guardians let go of what was held."""
        self.dead = True
        system = self.system
        for handle in list(self.open_handles):
            if isinstance(handle, SimSweep):
                held = list(handle.held)
                system.at(system.now + GUARDIAN_S, lambda _p, _n, held=held: system.let_go(held), system.init)  # type: ignore[misc]
            elif isinstance(handle, (SimWaiter, SimForkWatch, SimConversation)):
                handle.close()
        for pin in list(self.pins):
            pin.close()
        system.post(self.us, 9)
        raise RequesterKilledError

    # ------------------------------------------------------------------ what only reads

    @property
    def name(self) -> str:
        return "sim"

    @property
    def folds_case(self) -> bool:
        return False

    def now(self) -> float:
        return self.system.now

    def host(self) -> dict[str, str]:
        return {"name": "sim", "boot": "0", "pid_namespace": "0", "kernel": "sim"}

    def own_line(self) -> tuple[int, ...]:
        self.tick()
        line = []
        process: Process | None = self.us
        while process is not None:
            line.append(process.pid)
            process = process.parent
        return tuple(line)

    def list_pids(self) -> list[int]:
        self.tick()
        return sorted(pid for pid, p in self.system.table.items() if "hidden" not in p.flags)

    def _visible(self, pid: int) -> Process | None:
        self.tick()
        process = self.system.table.get(pid)
        return None if process is None or "hidden" in process.flags else process

    def _readable(self, pid: int) -> Process | None:
        """What needs the rights of ptrace(2) to be read: same user, or root, and not a zombie (it has no memory any more)."""
        process = self._visible(pid)
        if process is None or process.exited or "unreadable" in process.flags or self.uid not in (0, process.uid):
            return None
        return process

    def short_name(self, pid: int) -> str | None:
        process = self._visible(pid)
        return None if process is None else process.comm

    def full_name(self, pid: int, short: str) -> str:
        if len(short) < 15:
            return short
        process = self._visible(pid)
        return process.name if process is not None and process.comm == short else short

    def row(self, pid: int) -> Row | None:
        process = self._visible(pid)
        return None if process is None else process.row()

    def table(self) -> dict[int, Row]:
        """Read row by row: things happen in between, so the rows are not of one instant."""
        self.tick()
        system = self.system
        pids = sorted(system.table)
        breaks = {system.rng.randrange(len(pids)) for _ in range(3)}
        rows: dict[int, Row] = {}
        for index, pid in enumerate(pids):
            if index in breaks:
                self.tick()
            process = system.table.get(pid)
            if process is not None and "hidden" not in process.flags:
                rows[pid] = process.row()
        return rows

    def children(self, pid: int) -> list[int] | None:
        process = self._visible(pid)
        if not self.system.world.child_lists:
            return None
        if process is None:
            return []
        return sorted(c.pid for c in process.children if "hidden" not in c.flags)

    def owner(self, pid: int) -> int | None:
        process = self._visible(pid)
        return None if process is None else process.uid

    def user_id(self, name: str) -> int:
        if name in _USERS:
            return _USERS[name]
        if name.isascii() and name.isdigit():
            return int(name)
        raise TargetError(f"there is no user `{name}`")

    def user_name(self, uid: int) -> str:
        return next((n for n, u in _USERS.items() if u == uid), str(uid))

    def command_line(self, pid: int) -> tuple[str, ...] | None:
        process = self._visible(pid)
        if process is None:
            return None
        return () if process.exited or process.kernel else (process.name,)

    def working_directory(self, pid: int) -> str | None:
        process = self._readable(pid)
        return None if process is None else "/"

    def usage(self, pid: int) -> tuple[float, float] | None:
        process = self._visible(pid)
        return None if process is None else (0.0, 1024.0)

    def modules(self, pid: int) -> tuple[str, ...]:
        process = self._readable(pid)
        return () if process is None else (f"/usr/bin/{process.name}",)

    def age_s(self, row: Row) -> float:
        return max(0.0, self.system.now - row.start / 100)

    def listeners(self, proto: str, port: int) -> list[Listener]:
        self.tick()
        if proto != "tcp":
            return []
        holders = [p for p in self.system.table.values() if port in p.ports]
        if not holders:
            return []
        seen = sorted(
            p.pid for p in holders if "hidden" not in p.flags and "unreadable" not in p.flags and self.uid in (0, p.uid)
        )
        return [Listener("tcp", "*", port, 90_000 + port, tuple(seen), holders[0].uid)]

    def file_holders(self, path: str) -> tuple[list[int], int]:
        self.tick()
        name = path.rsplit("/", 1)[-1]
        closed = sum(p.uid != self.uid != 0 or "unreadable" in p.flags for p in self.system.table.values())
        held = sorted(
            p.pid for p in self.system.table.values() if p.name == name and not p.exited and self._may_read(p)
        )
        if not held and path not in self.files:
            raise OsCallError("stat", _ENOENT, text=f"there is no file `{path}`")
        return held, closed

    def _may_read(self, process: Process) -> bool:
        return not process.flags & {"hidden", "unreadable"} and self.uid in (0, process.uid)

    def pid_file(self, path: str) -> tuple[bytes, float]:
        self.tick()
        if path not in self.files:
            raise OsCallError("open", _ENOENT, text=f"there is no file `{path}`")
        content, written = self.files[path]
        return content[:4096], max(0.0, self.system.now - written)

    def cgroup(self, pid: int) -> str:
        process = self._visible(pid)
        return process.cgroup if process is not None and self.system.world.cgroups else ""

    def cgroup_pids(self, cgroup: str) -> list[int] | None:
        self.tick()
        if not self.system.world.cgroups:
            return None
        return sorted(p.pid for p in self._in_cgroup(cgroup))

    def _in_cgroup(self, cgroup: str) -> list[Process]:
        below = cgroup.rstrip("/") + "/"
        return [
            p for p in self.system.table.values() if not p.exited and (p.cgroup == cgroup or p.cgroup.startswith(below))
        ]

    def marks(self, pid: int) -> tuple[str, ...]:
        process = self._readable(pid)
        return () if process is None else process.marks

    def kinship(self, pid: int) -> frozenset[bytes]:
        process = self._readable(pid)
        return frozenset((process.environ.encode(),)) if process is not None and process.environ else frozenset()

    def shared_objects(self, pid: int) -> frozenset[str]:
        process = self._readable(pid)
        return frozenset() if process is None else process.objects

    # ------------------------------------------------------------------ pinned

    def capacity(self) -> int:
        self.tick()
        return max(0, self.system.world.capacity - len(self.pins))

    def pin(self, pid: int, token: str = "") -> SimPin:
        self.tick()
        if pid <= 0:
            raise OsCallError("pidfd_open", _EINVAL, pid)
        process = self.system.table.get(pid)
        if process is None:
            raise GoneError("pidfd_open", _ESRCH, pid)
        if "no-pin" in process.flags:
            raise AccessDeniedError("pidfd_open", _EPERM, pid, text="operation not permitted")
        if token and token != self._token(process):
            raise GoneError("pidfd_open", _ESRCH, pid, text="the pid belongs to another process by now")
        if len(self.pins) >= self.system.world.capacity + 8:
            raise OsCallError("pidfd_open", _EMFILE, pid, text="too many open files")
        pin = SimPin(self, process, PidRef(pid, token or self._token(process)))
        self.pins[pin] = None
        return pin

    def _token(self, process: Process) -> str:
        return process.token if self.system.world.pidfd else f"t{process.start}"

    def reached_by(self, pin: Pin) -> Process | None:
        """Return whom a signal through *pin* reaches: with an inexact handle whoever has the pid and the start time now."""
        process = process_of(pin)
        if self.system.world.pidfd:
            return None if process.reaped else process
        now = self.system.table.get(process.pid)
        return now if now is not None and now.start == process.start else None

    def note(self, process: Process, number: int) -> None:
        """Tell the observers what we are about to do to *process*: 0 means hold."""
        for observer in self.system.on_signal:
            observer(process, number)

    def exited(self, pin: Pin) -> bool:
        process = process_of(pin)
        self.tick()
        return process.exited

    def facts(  # size: one record
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        process = process_of(pin)
        self.tick()
        ref = pin.ref
        parent = process.parent
        if process.reaped or "hidden" in process.flags:
            name = "?" if process.reaped or "hidden" in process.flags else process.name
            return Facts(
                ref, name, state="X" if process.reaped else "?", exited=process.exited, unknown=(("state", "no entry"),)
            )
        signals = self.signals(ref.pid)
        kept = signals is not None
        return Facts(
            ref,
            process.name,
            ppid=parent.pid if parent is not None else 0,
            pgid=process.group.pid,
            sid=process.session.pid,
            state=process.state,
            exited=process.exited,
            exe=f"/usr/bin/{process.name}" if kept else "",
            cmdline=() if process.exited or process.kernel else (process.name,),
            uid=process.uid,
            user=self.user_name(process.uid),
            age_s=max(0.0, self.system.now - process.born_at),
            threads=2 if "leader-gone" in process.flags else 1,
            kernel=process.kernel,
            signals=signals,
            namespace_init=process.namespace_init,
            other_namespace=process.namespace is not None,
            tracer=1 if process.block & TRACED else 0,
            frozen="v2" if process.block & FROZEN_V2 else "v1" if process.block & FROZEN_V1 else "",
            cgroup=process.cgroup if self.system.world.cgroups else "",
            parent_name=parent.name if parent is not None else "",
            managers=_managers(process),
            reaper=parent is not process.born_of,
            may_signal=None if process.exited else self.system.may_signal(self.uid, process),
            unknown=() if kept else (("signals", "may not be read"),),
        )

    def signals(self, pid: int) -> SignalSets | None:
        process = self._visible(pid)
        if process is None or process.reaped or "unreadable" in process.flags:
            return None
        if process.kernel:
            return SignalSets(ignored=_ALL)
        return SignalSets(
            ignored=process.ignored & _ALL & ~process.caught,
            caught=process.caught & _ALL,
            blocked=process.blocked & _ALL & ~process.waited,
            pending=process.pending & _ALL,
            waited=process.waited & _ALL,
            waited_known=self.uid in (0, process.uid),
        )

    def stopped(self, pin: Pin) -> bool:
        process = process_of(pin)
        self.tick()
        return not process.exited and process.state == "T" and bool(process.block & (STOPPED | HELD))

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        if request.kind not in ("signal", "stdin", "command"):
            raise UnsupportedRequestError(f"`{request}` does not exist here")
        process_of(pin)
        self.tick()
        process = self.reached_by(pin)
        if process is None:
            return Receipt(request.name, "gone", at_s, "pidfd_send_signal: no such process")
        number = request.number
        if request.forced and process.exited:
            return Receipt(request.name, "gone", at_s, "it had exited already")
        if request.kind == "stdin":
            number = STDIN
            if "stdin" not in process.flags or process.exited:
                return Receipt(request.name, "impossible", at_s, "its standard input is no pipe")
        elif request.kind == "command":
            number = COMMAND
        if not self.system.may_signal(self.uid, process):
            return Receipt(request.name, "denied", at_s, "pidfd_send_signal: operation not permitted")
        self.note(process, number)
        self.system.post(process, number)
        return Receipt(request.name, "delivered", at_s, "sim")

    def end(self, pin: Pin) -> ProcessEnd:
        process = process_of(pin)
        self.tick()
        if not process.exited:
            return ProcessEnd(why_unknown="it still runs")
        parent = process.parent
        blame = (0, "") if process.reaped or parent is None else (parent.pid, parent.name)
        hidden = self.uid not in (0, process.uid) or bool(process.flags & {"hidden", "unreadable"})
        if not self.system.world.statuses or (hidden and not process.reaped):
            why = "this system does not tell" if not self.system.world.statuses else "a zombie of another user"
            return ProcessEnd(why_unknown=why, unreaped_by=blame[0], unreaped_name=blame[1])
        source = "pidfd" if process.reaped else "stat"
        status = None if process.signal else process.status
        return ProcessEnd(status, process.signal, process.core, source, "", blame[0], blame[1])

    def waiter(self) -> SimWaiter:
        self.tick()
        waiter = SimWaiter(self)
        self.open_handles[waiter] = None
        return waiter

    def fork_watch(self, waiter: Waiter) -> SimForkWatch | None:
        self.tick()
        if not self.system.world.fork_watch:
            return None
        assert isinstance(waiter, SimWaiter)
        watch = SimForkWatch(self, waiter)
        self.open_handles[watch] = None
        return watch

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> SimConversation | str:
        process = process_of(pin)
        if not process.flags & {"receiver", "planted"}:
            return ""  # without a tick: most processes have none, and what happens to them is not to depend on that
        self.tick()
        assert isinstance(waiter, SimWaiter)
        if process.exited or "hidden" in process.flags:
            return ""
        if "planted" in process.flags:
            return "a socket that is not its own: process 1 of user 1001 made it"
        return SimConversation(self, process, waiter)

    def open_sweep(self, cgroup: str = "") -> SimSweep:
        self.tick()
        sweep = SimSweep(self, cgroup)
        self.open_handles[sweep] = None
        return sweep

    def cgroup_empty(self, cgroup: str) -> bool | None:
        self.tick()
        return not self._in_cgroup(cgroup) if self.system.world.cgroups else None


def _managers(process: Process) -> tuple[Manager, ...]:
    found = []
    parent = process.parent
    if parent is not None and parent.spec.restart_s >= 0 and "supervisor" in parent.name:
        found.append(
            Manager(
                "supervisord", process.name, f"supervisorctl stop {process.name}", "yes", "its parent", pid=parent.pid
            )
        )
    leaf = process.cgroup.rsplit("/", 1)[-1]
    if leaf.endswith(".service"):
        found.append(Manager("systemd", leaf, f"systemctl stop {leaf}", "unknown", f"cgroup {process.cgroup}"))
    return tuple(found)
