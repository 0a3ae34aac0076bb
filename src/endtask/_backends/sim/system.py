"""The kernel of the simulated machine: clock, process table, fork, exit, signals.

Decision: time is virtual and moves only when a call to the system lets it move, so that a life is a function of its seed and a million of them take minutes.
Everything that a real kernel does at once is one method here; everything that takes time is an event on one heap.
Longer than other modules, because the parts of a kernel call each other in circles: a signal ends a process, its end wakes its parent, its parent forks.

The semantics follow signal(7), wait(2), credentials(7), pid_namespaces(7), cgroups(7) and what was measured on Linux 6.18 where those are silent:
TERM to a stopped process stays pending, a version 2 frozen cgroup lets fatal signals through and version 1 does not let KILL through, D holds back KILL, a zombie swallows everything.

Size: one operating system.
"""

from __future__ import annotations

import heapq
from random import Random

from endtask._backends.sim.process import (
    CHLD,
    CONT,
    CORE_SIGNALS,
    DYING,
    FROZEN_V1,
    FROZEN_V2,
    HELD,
    KILL,
    QUIET_SIGNALS,
    STOP_SIGNALS,
    STOPPED,
    TRACED,
    UNINTERRUPTIBLE,
    Frame,
    Group,
    Process,
    bit,
)
from endtask._backends.sim.programs import execute
from endtask._backends.sim.spec import Spec, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BOOT_S = 100.0  # the clock's first value; what belongs to the machine itself started before
HANDLER_S = 0.00002  # from the delivery of a signal to the first line of its handler
GUARDIAN_S = 0.005  # after our own death a guardian needs that long to let go of what was held

_INIT = Spec("init", environ="init", flags=("session", "subreaper"))
_KTHREAD = Spec("kthreadd", flags=("kernel",))
_SHELL = Spec("bash", on=((1, ()), (2, ()), (15, ())), uid=-1, flags=("session",))  # interactive: none of these ends it
_US = Spec("endtask", flags=("group",))


class System:
    """A machine.

    Attributes:
        world: What it can do.
        rng: The one source of randomness.
        now: The clock, seconds.
        table: Pid -> process, zombies included.
        everyone: Every process that ever lived, by serial.
        init: The first process.
        shell: The shell that endtask is started from.
        us: The process of endtask itself.
        happened: How many events have happened.
        fork_logs: Told (parent pid, child pid) of every fork.
        on_signal: Told of every signal of ours before it is delivered.
        on_said: Told of every line of ours to a receiver, with the time.
        frozen: Frozen cgroups and by which version's freezer.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = Random(seed)
        self.now = BOOT_S
        self.table: dict[int, Process] = {}
        self.everyone: list[Process] = []
        self.fork_logs: list[Callable[[int, int], None]] = []
        self.on_signal: list[Callable[[Process, int], None]] = []
        self.on_said: list[Callable[[Process, dict[str, object], float], None]] = []
        self.frozen: dict[str, str] = {}
        self._heap: list[tuple[float, int, Callable[[Process, int], None], Process, int]] = []
        self._sequence = 0
        self.happened = 0
        self._last_pid = 0
        self._used: dict[int, int] = {}
        self._living = 0
        self.init = self._first(_INIT, 0.0)
        self._first(_KTHREAD, 0.0)
        shell = self.fork(self.init, _SHELL)
        assert shell is not None
        shell.uid = world.uid
        shell.environ = "shell"
        self.shell = shell
        self.us = self.start_us()

    def _first(self, spec: Spec, now: float) -> Process:
        self._last_pid += 1
        process = Process(self._last_pid, len(self.everyone) + 1, spec, None, now)
        self._enter(process)
        return process

    def start_us(self) -> Process:
        """Start endtask from the shell; once more after it has been killed."""
        us = Process(max(self.table) + self.world.pid_max, len(self.everyone) + 1, _US, self.shell, self.now)
        self._enter(us)  # above pid_max and outside the limits: on a full machine nobody could ask at all
        return us

    # ------------------------------------------------------------------ time

    def at(self, time: float, do: Callable[[Process, int], None], process: Process, number: int = 0) -> None:
        """Plan *do* for *process* at *time*."""
        self._sequence += 1
        heapq.heappush(self._heap, (time, self._sequence, do, process, number))

    def next_time(self) -> float | None:
        """Return when the next thing happens, None if nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def advance_to(self, time: float) -> None:
        """Let everything happen that is due until *time*."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            when, _, do, process, number = heapq.heappop(heap)
            self.now = max(self.now, when)
            self.happened += 1
            do(process, number)
        self.now = max(self.now, time)

    def settle(self, seconds: float) -> None:
        """Let *seconds* go by."""
        self.advance_to(self.now + seconds)

    # ------------------------------------------------------------------ fork and exec

    def fork(self, parent: Process, spec: Spec) -> Process | None:
        """Let *parent* start a program; None when the machine is full (EAGAIN)."""
        if self._living >= self.world.processes or len(self.everyone) >= self.world.forks:
            return None
        pid = self._free_pid()
        if not pid:
            return None
        child = Process(pid, len(self.everyone) + 1, spec, parent, self.now)
        self._enter(child)
        for log in self.fork_logs:
            log(parent.pid, pid)
        child.frames.append(Frame(spec.main, self.now))
        self._first_state(child)
        for grandchild in spec.children:
            self.fork(child, grandchild)
        self.at(self.now, self.run, child, 0)
        return child

    def _first_state(self, child: Process) -> None:
        flags = child.flags
        if child.cgroup in self.frozen:
            child.block |= FROZEN_V1 if self.frozen[child.cgroup] == "v1" else FROZEN_V2
        if flags:
            if "stopped" in flags:
                child.block |= STOPPED
            if "traced" in flags:
                child.block |= TRACED
            if "uninterruptible" in flags:
                child.block |= UNINTERRUPTIBLE

    def _enter(self, process: Process) -> None:
        self.everyone.append(process)
        self.table[process.pid] = process
        self._living += 1
        self._use(process.pid)
        self._use(process.group.pid)
        self._use(process.session.pid)

    def _free_pid(self) -> int:
        """Return the next pid that is no process, group or session, as alloc_pid of the kernel does (cyclic)."""
        pid = self._last_pid
        used = self._used
        last = self.world.pid_max
        for _ in range(last):
            pid = pid + 1 if pid + 1 < last else 5
            if pid not in used:
                self._last_pid = pid
                return pid
        return 0

    def _use(self, pid: int) -> None:
        self._used[pid] = self._used.get(pid, 0) + 1

    def _unuse(self, pid: int) -> None:
        left = self._used[pid] - 1
        if left:
            self._used[pid] = left
        else:
            del self._used[pid]

    def regroup(self, process: Process, *, session: bool) -> None:
        """setsid(2) or setpgid(0, 0): make it leader of a session or a group of its own, unless it leads one already."""
        if process.group.pid == process.pid:
            return  # EPERM from setsid(2) for a group leader, no change for setpgid(2)
        own = Group(process)
        process.past = (*process.past, process.group, process.session)
        process.changed_at = self.now
        self._unuse(process.group.pid)
        self._use(own.pid)
        process.group = own
        if session:
            self._unuse(process.session.pid)
            self._use(own.pid)
            process.session = own
        process.row_cache = None

    # ------------------------------------------------------------------ running programs

    def run(self, process: Process, generation: int) -> None:
        """Let the program of *process* go on; *generation* tells whether that plan is still meant."""
        if process.generation != generation or process.exited:
            return
        if process.block:
            process.late = True
            return
        process.late = False
        execute(self, process)

    def wake(self, process: Process, after_s: float = 0.0) -> None:
        """Plan that *process* goes on; older plans are void."""
        process.generation += 1
        self.at(self.now + after_s, self.run, process, process.generation)

    def hinder(self, process: Process, why: int) -> None:
        """Something keeps *process* from running from now on."""
        if not process.exited:
            process.block |= why
            process.row_cache = None

    def release(self, process: Process, why: int) -> None:
        """That cause is over: what was pending is delivered, then the program goes on."""
        if process.exited or not process.block & why:
            return
        process.block &= ~why
        process.row_cache = None
        if process.block & DYING:
            return
        if process.pending & bit(KILL) and not process.block & (UNINTERRUPTIBLE | FROZEN_V1):
            self.die(process, 0, KILL)
            return
        if process.block:
            return
        for talk in list(process.talks):
            talk.greet()
        if process.errands:
            for do, whom, number in process.errands:
                self.at(self.now, do, whom, number)
            process.errands.clear()
        self.deliver_pending(process)
        if process.late and not process.exited and not process.block:
            self.wake(process)

    def deliver_pending(self, process: Process) -> None:
        """Deliver what was pending and is not blocked, lowest number first."""
        pending = process.pending & ~(process.blocked & ~process.waited)
        process.pending &= ~pending
        number = 1
        while pending and not process.exited:
            if pending & 1:
                self.post(process, number)
            pending >>= 1
            number += 1

    def freeze(self, cgroup: str, version: str) -> None:
        """Freeze a cgroup: `v1` or `v2`."""
        self.frozen[cgroup] = version
        for process in self.table.values():
            if process.cgroup == cgroup:
                self.hinder(process, FROZEN_V1 if version == "v1" else FROZEN_V2)

    def thaw(self, cgroup: str) -> None:
        """Thaw a cgroup."""
        if self.frozen.pop(cgroup, None) is None:
            return
        for process in [p for p in self.table.values() if p.cgroup == cgroup]:
            self.release(process, FROZEN_V1)
            self.release(process, FROZEN_V2)

    # ------------------------------------------------------------------ signals

    def may_signal(self, sender_uid: int, process: Process) -> bool:
        """Return what kill(2) says about permission."""
        return sender_uid in (0, process.uid)

    def post(self, process: Process, number: int) -> None:
        """Deliver a signal (or a line on standard input, or a command) to *process*."""
        if process.exited or process.kernel or process.block & DYING:
            return
        if number == KILL:
            self._post_kill(process)
        elif number == CONT:
            process.pending &= ~sum(bit(n) for n in STOP_SIGNALS)
            self.release(process, STOPPED)
            if process.block & HELD and self.world.sweep == "sigstop":
                self.release(process, HELD)  # whoever sends CONT in between undoes a hold that is only a SIGSTOP
            if process.caught & bit(CONT):
                self._post_other(process, number)
        elif number == 19:
            process.pending &= ~bit(CONT)
            if process.block & (UNINTERRUPTIBLE | FROZEN_V1):
                process.pending |= bit(number)
            else:
                self.hinder(process, STOPPED)
        else:
            self._post_other(process, number)

    def _post_kill(self, process: Process) -> None:
        if process.block & (UNINTERRUPTIBLE | FROZEN_V1):
            process.pending |= bit(KILL)
        else:
            self.die(process, 0, KILL)

    def _post_other(self, process: Process, number: int) -> None:
        one = bit(number)
        if process.blocked & one and not process.waited & one:
            process.pending |= one
            return
        takes = (process.caught | process.waited) & one
        if not takes:
            if process.namespace is process or process.ignored & one or number in QUIET_SIGNALS or number > 64:
                return
            if process.block == FROZEN_V2 and number not in CORE_SIGNALS and number not in STOP_SIGNALS:
                self.die(process, 0, number)  # the version 2 freezer turns a fatal default signal into a kill
                return
        if process.block or (takes and any(f.serves == number for f in process.frames)):
            process.pending |= one
        elif takes:
            self._handle(process, number)
        elif number in STOP_SIGNALS:
            self.hinder(process, STOPPED)
        else:
            self.die(process, 0, number, core=number in CORE_SIGNALS)

    def _handle(self, process: Process, number: int) -> None:
        count = process.heard.get(number, 0)
        process.heard[number] = count + 1
        scripts = [ops for n, ops in process.spec.on if n == number]
        process.frames.append(Frame(scripts[min(count, len(scripts) - 1)] if scripts else (), self.now, number))
        self.wake(process, HANDLER_S)

    # ------------------------------------------------------------------ the end

    def die(self, process: Process, status: int, signal: int = 0, *, core: bool = False) -> None:
        """Begin the end of *process*: it runs no code of its own any more."""
        if process.exited or process.block & DYING:
            return
        process.status, process.signal, process.core = status, signal, core
        process.frames.clear()
        process.generation += 1
        self.hinder(process, DYING)
        if process.namespace is process:
            for other in [p for p in self.table.values() if p.namespace is process and p is not process]:
                self.post(other, KILL)  # pid_namespaces(7): the end of the first process kills all others
        if process.spec.exit_s > 0:
            self.at(self.now + process.spec.exit_s, self._end, process)
        else:
            self._end(process, 0)

    def _end(self, process: Process, _: int) -> None:
        """The process has exited: it is a zombie now."""
        if process.namespace is process and any(
            p.namespace is process and not p.exited and p is not process for p in self.table.values()
        ):
            self.at(self.now + 0.01, self._end, process)  # the first process of a namespace ends last
            return
        process.exited = True
        process.exited_at = self.now
        process.row_cache = None
        process.ports = frozenset()
        process.objects = frozenset()
        process.held_by_us = False
        for talk in list(process.talks):
            talk.hang_up()
        self._living -= 1
        for ready, key in process.watchers:
            ready.append(key)
        process.watchers.clear()
        self._orphan_children(process)
        parent = process.parent
        if parent is not None:
            self._tell_parent(parent, process)

    def _orphan_children(self, process: Process) -> None:
        if not process.children:
            return
        heir = self._reaper_of(process)
        children, process.children = process.children, []
        for child in children:
            child.parent = heir
            child.row_cache = None
            child.changed_at = self.now
            heir.children.append(child)
            if child.exited:
                self._tell_parent(heir, child)

    def _reaper_of(self, process: Process) -> Process:
        """Return who adopts its children: the nearest living subreaper above, the namespace's first process, or init."""
        above = process.parent
        while above is not None and above is not self.init:
            if above.namespace is not process.namespace:
                break
            if (
                not above.exited
                and not above.block & DYING
                and ("subreaper" in above.flags or above.namespace is above)
            ):
                return above
            above = above.parent
        own = process.namespace
        return own if own is not None and own is not process and not own.exited else self.init

    def _tell_parent(self, parent: Process, child: Process) -> None:
        """SIGCHLD: the parent reaps, waits on, or starts its child again, each as its program says."""
        if parent.ignored & bit(CHLD) or parent is self.init or parent.kernel:
            self.at(self.now, self.reap, child)
        elif parent.spec.reap_s >= 0:
            self.at(self.now + parent.spec.reap_s, self._reap_by, child, parent.serial)
        if parent.exited or (not parent.frames and not parent.restarts):
            return
        if parent.frames and parent.frames[-1].joins:
            self.wake(parent)
        if parent.restarts > 0:
            for index, spec in enumerate(parent.spec.children):
                if spec is child.spec:
                    parent.restarts -= 1
                    self.at(self.now + parent.spec.restart_s, self._restart, parent, index)

    def _restart(self, parent: Process, index: int) -> None:
        if parent.exited or parent.block & DYING:
            return
        if parent.block:
            parent.errands.append((self._restart, parent, index))
        else:
            self.fork(parent, parent.spec.children[index])

    def _reap_by(self, child: Process, serial: int) -> None:
        parent = self.everyone[serial - 1]
        if child.parent is not parent or parent.exited:
            return  # whoever adopted it has been told
        if parent.block:
            parent.errands.append((self._reap_by, child, serial))
        else:
            self.reap(child, 0)

    def reap(self, process: Process, _: int) -> None:
        """Its parent has waited for it: the pid is free."""
        if process.reaped:
            return
        process.reaped = True
        del self.table[process.pid]
        if process.parent is not None:
            process.parent.children.remove(process)
        self._unuse(process.pid)
        self._unuse(process.group.pid)
        self._unuse(process.session.pid)

    # ------------------------------------------------------------------ what endtask holds

    def hold(self, process: Process) -> None:
        """A sweep of ours holds *process* still."""
        process.held_by_us = True
        self.hinder(process, HELD)

    def fork_in_flight(self, process: Process) -> float:
        """Let a fork that has begun be completed although SIGSTOP has arrived; return when (the past if there is none).

        copy_process in kernel/fork.c collects signals for later; only KILL breaks a fork off.
        """
        frame = process.frames[-1] if process.frames else None
        if frame is None or process.block or self.rng.random() < 0.5:
            return 0.0
        op = next(
            (o for o in frame.ops[frame.at : frame.at + 2] if o.do in ("fork", "forks") and o.child is not None), None
        )
        if op is None or op.child is None:
            return 0.0
        child = op.child
        when = self.now + 2 * self.world.call_s * self.rng.random()

        def complete(parent: Process, _: int) -> None:
            if not parent.exited and not parent.block & DYING:
                self.fork(parent, child)

        self.at(when, complete, process)
        return when

    def let_go(self, processes: Iterable[Process]) -> None:
        """A sweep of ours, or the guardian after our death, lets them run on."""
        for process in processes:
            if process.held_by_us:
                process.held_by_us = False
                self.release(process, HELD)
