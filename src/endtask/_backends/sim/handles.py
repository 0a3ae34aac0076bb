"""What the simulated system hands out: pins, waiters, fork watches and sweeps."""

from __future__ import annotations

from endtask._backends.sim.process import KILL
from endtask.model import PidRef, Receipt, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask._backends.base import Pin
    from endtask._backends.sim.backend import SimBackend
    from endtask._backends.sim.process import Process
    from endtask._backends.sim.talk import SimConversation

_KILL = Request("KILL", "signal", KILL, "", True)
LOOP_STEP_S = 0.05  # how far a look from an event loop moves the clock when nothing else does


class SimHangError(BaseException):
    """A wait without an end: nothing will ever happen again on this machine, and no time limit was given."""


class SimPin:
    """A handle on one simulated process.

    Attributes:
        ref: The identity.
        process: The process; not for the stages.
        closed: Whether it was closed.
    """

    __slots__ = ("_backend", "closed", "process", "ref")

    def __init__(self, backend: SimBackend, process: Process, ref: PidRef) -> None:
        self._backend = backend
        self.process = process
        self.ref = ref
        self.closed = False

    @property
    def dead(self) -> bool:
        """Whether endtask was killed: then the system closed it, and nothing that follows happens."""
        return self._backend.dead

    @property
    def exact(self) -> bool:
        return self._backend.system.world.pidfd

    @property
    def mechanism(self) -> str:
        return "sim"

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._backend.pins.pop(self, None)

    def __repr__(self) -> str:
        return f"SimPin({self.ref})"


def process_of(pin: Pin) -> Process:
    """Return the process of a pin that must be open and one of ours."""
    assert isinstance(pin, SimPin), f"a pin of another backend: {pin!r}"
    assert not pin.closed or pin.dead, f"{pin!r} was used after it had been closed"
    return pin.process


class SimWaiter:
    """Waits on simulated exits by moving the clock."""

    def __init__(self, backend: SimBackend) -> None:
        self._backend = backend
        self._ready: list[int] = []
        self._keys: dict[SimPin, int] = {}
        self._pipe: tuple[int, int] | None = None
        self.watch: SimForkWatch | None = None
        self.talks: dict[SimConversation, None] = {}
        self.closed = False

    @property
    def poll_s(self) -> float | None:
        return None

    def fileno(self) -> int:
        """Return a descriptor that is always readable: on this machine time moves only when somebody looks."""
        import os

        if self._pipe is None:
            self._pipe = os.pipe()
            os.write(self._pipe[1], b".")
        return self._pipe[0]

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """Refuse: event loops watch `fileno` here."""
        raise AssertionError("this waiter has a descriptor to watch")

    def add(self, pin: Pin, key: int) -> None:
        process = process_of(pin)
        assert isinstance(pin, SimPin)
        if pin in self._keys:
            return
        self._keys[pin] = key
        if process.exited:
            self._ready.append(key)
        else:
            process.watchers.append((self._ready, key))

    def drop(self, pin: Pin) -> None:
        assert isinstance(pin, SimPin)
        key = self._keys.pop(pin, None)
        if key is None:
            return
        pin.process.watchers[:] = [w for w in pin.process.watchers if not (w[0] is self._ready and w[1] == key)]
        while key in self._ready:
            self._ready.remove(key)

    def wait(self, timeout_s: float | None) -> list[int]:
        assert not self.closed or self._backend.dead, "a wait on a waiter that was closed"
        backend = self._backend
        backend.tick()
        if timeout_s is None or timeout_s > 0:
            backend.hear_interrupt()
        system = backend.system
        began = system.now
        if self._pipe is not None and not timeout_s:
            following = system.next_time()
            timeout_s = LOOP_STEP_S if following is None else min(LOOP_STEP_S, max(0.0, following - began))
        deadline = None if timeout_s is None else began + timeout_s
        if deadline is not None and system.rng.random() < backend.spurious:
            deadline = began + (deadline - began) * system.rng.random()  # woken without news, as a signal does
        while not self._ready and not self._has_news():
            following = system.next_time()
            if deadline is not None and (following is None or following > deadline):
                system.advance_to(deadline)
                break
            if following is None:
                raise SimHangError("nothing will ever happen again, and the wait has no end")
            system.advance_to(following)
        backend.waited_s += system.now - began
        keys = list(self._ready)
        self._ready.clear()
        return keys

    def _has_news(self) -> bool:
        return (self.watch is not None and bool(self.watch.news)) or any(talk.news for talk in self.talks)

    def close(self) -> None:
        assert not self.talks or self._backend.dead, "conversations end before the wait that they wake"
        if self._pipe is not None:
            import os

            os.close(self._pipe[0])
            os.close(self._pipe[1])
            self._pipe = None
        for pin in list(self._keys):
            self.drop(pin)
        self.closed = True
        self._backend.open_handles.pop(self, None)


class SimForkWatch:
    """Tells every fork, or most of them where the world says `lossy`."""

    def __init__(self, backend: SimBackend, waiter: SimWaiter) -> None:
        self._backend = backend
        self._waiter = waiter
        self._lossy = backend.system.world.fork_watch == "lossy"
        self._lost = False
        self.news: list[tuple[int, int]] = []
        waiter.watch = self
        backend.system.fork_logs.append(self._log)

    @property
    def lost(self) -> bool:
        return self._lost

    def _log(self, parent: int, child: int) -> None:
        if self._lossy and self._backend.system.rng.random() < 0.2:
            self._lost = True
        else:
            self.news.append((parent, child))

    def drain(self) -> list[tuple[int, int]]:
        self._backend.tick()
        news, self.news = self.news, []
        return news

    def close(self) -> None:
        logs = self._backend.system.fork_logs
        if self._log in logs:
            logs.remove(self._log)
        self._waiter.watch = None
        self._backend.open_handles.pop(self, None)


class SimSweep:
    """Holds processes and ends them; the system lets go of what is held when we die.

    `sigstop` can be undone by a CONT from anywhere, and a fork that is under way goes on after it; `cgroup-freeze` waits for such forks;
    `cgroup.kill` ends a whole cgroup in one instant.
    """

    def __init__(self, backend: SimBackend, cgroup: str) -> None:
        self._backend = backend
        world = backend.system.world
        self._cgroup = cgroup if world.sweep == "cgroup.kill" and world.cgroups else ""
        self._mechanism = "cgroup.kill" if self._cgroup else "sigstop" if world.sweep == "cgroup.kill" else world.sweep
        self._rest_at = 0.0
        self.held: list[Process] = []

    @property
    def mechanism(self) -> str:
        return self._mechanism

    def hold(self, pin: Pin) -> Receipt | None:
        backend = self._backend
        backend.tick()
        process = backend.reached_by(pin)
        if process is None:
            return Receipt("KILL", "gone", 0.0, "hold: no such process")
        if not backend.system.may_signal(backend.uid, process):
            return Receipt("KILL", "denied", 0.0, "hold: operation not permitted")
        if process.exited:
            return Receipt("KILL", "gone", 0.0, "it had exited already")
        backend.note(process, 0)
        if not process.kernel:
            if self._mechanism == "sigstop":
                self._rest_at = max(self._rest_at, backend.system.fork_in_flight(process))
            backend.system.hold(process)
            self.held.append(process)
        return None

    def settle(self) -> bool:
        """Wait until no fork is under way any more; see `LinuxBackend`'s sweep."""
        self._backend.tick()
        if self._rest_at > self._backend.system.now:
            self._backend.system.advance_to(self._rest_at)
        return True

    def kill(self, pins: Sequence[Pin], at_s: float) -> list[Receipt]:
        backend = self._backend
        backend.tick()
        ended: list[Process] = []
        if self._cgroup:
            ended += (p for p in backend.system.table.values() if p.cgroup == self._cgroup and not p.exited)
            for process in ended:
                backend.ended_whole.add(process.serial)
                backend.note(process, KILL)
                backend.system.post(process, KILL)
        whole = Receipt("KILL", "delivered", at_s, "cgroup.kill")
        receipts = [whole if process_of(pin) in ended else backend.send(pin, _KILL, at_s) for pin in pins]
        self._let_go()
        return receipts

    def _let_go(self) -> None:
        held, self.held = self.held, []
        self._backend.system.let_go(held)

    def close(self) -> None:
        if self._backend.dead:
            return  # our code runs no more: the guardian lets go
        self._let_go()
        self._backend.open_handles.pop(self, None)
