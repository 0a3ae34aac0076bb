"""The interpreter of simulated programs: one function for each operation.

An operation returns whether the program can go on at the same instant.
"""

from __future__ import annotations

from endtask._backends.sim.process import (
    CHLD,
    STOPPED,
    TRACED,
    UNINTERRUPTIBLE,
    Frame,
    Process,
    bit,
)
from endtask._backends.sim.spec import Op, Spec
from endtask._backends.sim.talk import speak

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.sim.system import System

    Operation = Callable[[System, Process, Frame, Op], bool]

MOST_AT_ONCE = 200  # operations of one program at one instant: more is a program that never waits


def execute(system: System, process: Process) -> None:
    """Run the program of *process* until it waits, ends or has nothing left to do."""
    frames = process.frames
    for _ in range(MOST_AT_ONCE):
        if not frames or process.block or process.exited:
            process.late = bool(process.block)
            return
        frame = frames[-1]
        if frame.joins:
            if any(not c.exited for c in process.children):
                return
            frame.joins = False
        if frame.wake > system.now:
            system.wake(process, frame.wake - system.now)
            return
        if frame.at >= len(frame.ops):
            frames.pop()
            if frame.serves and process.pending:
                system.deliver_pending(process)
            continue
        op = frame.ops[frame.at]
        frame.at += 1
        if not OPERATIONS[op.do](system, process, frame, op):
            return
    system.wake(process, 0.001)


def _wait(system: System, process: Process, frame: Frame, op: Op) -> bool:
    frame.wake = system.now + op.s
    return True


def _exit(system: System, process: Process, frame: Frame, op: Op) -> bool:
    system.die(process, op.n)
    return False


def _raise(system: System, process: Process, frame: Frame, op: Op) -> bool:
    system.post(process, op.n)
    return not process.exited and not process.block


def _fork(system: System, process: Process, frame: Frame, op: Op) -> bool:
    assert op.child is not None
    system.fork(process, op.child)
    return True


def _forks(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Fork *n* times, once every *s* seconds."""
    assert op.child is not None
    rest = (Op("forks", op.s, op.n - 1, op.who, op.child),) if op.n > 1 else ()
    system.fork(process, op.child)
    process.frames.append(Frame((Op("wait", op.s), *rest), system.now))
    return True


def _hop(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Fork, let the child start a session of its own, and exit: a program that changes its pid *n* times, every *s* seconds."""
    if op.n > 0:
        rest = (Op("wait", op.s), Op("hop", op.s, op.n - 1))
        spec = process.spec
        flags = tuple(sorted({*spec.flags, "session"} - {"group", "namespace", "stopped", "traced", "uninterruptible"}))
        child = Spec(
            spec.name,
            rest,
            spec.on,
            spec.ignored,
            spec.blocked,
            spec.waited,
            -1,
            spec.reap_s,
            exit_s=spec.exit_s,
            flags=flags,
        )
        if system.fork(process, child) is not None:
            system.die(process, 0)
            return False
    return True


def _setsid(system: System, process: Process, frame: Frame, op: Op) -> bool:
    system.regroup(process, session=True)
    return True


def _setpgid(system: System, process: Process, frame: Frame, op: Op) -> bool:
    system.regroup(process, session=False)
    return True


def _exec(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Another program in the same process: new name, handlers reset (execve(2))."""
    process.flags -= {"receiver"}
    for talk in list(process.talks):
        talk.hang_up()
    process.name = op.who
    process.comm = op.who[:15]
    process.caught = 0
    process.changed_at = system.now
    process.row_cache = None
    return True


def _setuid(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.uid = op.n
    process.changed_at = system.now
    return True


def _ignore(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ignored |= bit(op.n)
    process.caught &= ~bit(op.n)
    process.pending &= ~(bit(op.n) & ~process.blocked)
    return True


def _default(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ignored &= ~bit(op.n)
    process.caught &= ~bit(op.n)
    return True


def _catch(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ignored &= ~bit(op.n)
    process.caught |= bit(op.n)
    return True


def _block(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.blocked |= bit(op.n)
    return True


def _unblock(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.blocked &= ~bit(op.n)
    if process.pending & bit(op.n):
        process.pending &= ~bit(op.n)
        system.post(process, op.n)
    return not process.exited and not process.block


def _tell(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Send signal *n* to its `children`, `group` or `parent`."""
    if op.who == "children":
        others = list(process.children)
    elif op.who == "parent":
        others = [process.parent] if process.parent is not None and process.parent is not system.init else []
    else:
        others = [
            p for p in system.table.values() if p.group is process.group and p is not process and p is not system.us
        ]
    for other in others:
        if system.may_signal(process.uid, other):
            system.post(other, op.n)
    return not process.exited and not process.block


def _join(system: System, process: Process, frame: Frame, op: Op) -> bool:
    frame.joins = True
    return True


def _reap(system: System, process: Process, frame: Frame, op: Op) -> bool:
    for child in [c for c in process.children if c.exited]:
        system.reap(child, 0)
    return True


def _unlisten(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ports = frozenset()
    return True


def _listen(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ports |= {op.n}
    process.changed_at = system.now
    return True


def _move(system: System, process: Process, frame: Frame, op: Op) -> bool:
    if op.who not in system.frozen:
        process.past = (*process.past, process.cgroup)
        process.cgroup = op.who
        process.changed_at = system.now
    return True


def _environ(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """execve(2) with another environment and all private descriptors closed: what a careful daemon does."""
    process.environ = op.who
    process.changed_at = system.now
    process.marks = ()
    process.objects = frozenset()
    return True


def _stop(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Suspended by job control; continued after *s* seconds if given."""
    if op.s:
        system.at(system.now + op.s, _continue_later(system), process)
    system.hinder(process, STOPPED)
    process.late = True
    return False


def _continue_later(system: System) -> Callable[[Process, int], None]:
    def go_on(process: Process, _: int) -> None:
        system.post(process, 18)

    return go_on


def _held_for(why: int) -> Operation:
    def operation(system: System, process: Process, frame: Frame, op: Op) -> bool:
        def over(it: Process, _: int) -> None:
            system.release(it, why)

        if op.s:
            system.at(system.now + op.s, over, process)
        system.hinder(process, why)
        process.late = True
        return False

    return operation


def _freeze(system: System, process: Process, frame: Frame, op: Op) -> bool:
    """Somebody freezes its cgroup for *s* seconds; *who* is `v1` or `v2`."""
    cgroup = process.cgroup
    if cgroup in system.frozen or cgroup in (system.us.cgroup, "/"):
        return True

    def over(_: Process, __: int) -> None:
        system.thaw(cgroup)

    system.freeze(cgroup, op.who)
    system.at(system.now + op.s, over, process)
    process.late = True
    return False


def _leader_exit(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.flags |= {"leader-gone"}
    process.row_cache = None
    return True


def _say(system: System, process: Process, frame: Frame, op: Op) -> bool:
    speak(process, op)
    return True


def _autoreap(system: System, process: Process, frame: Frame, op: Op) -> bool:
    process.ignored |= bit(CHLD)
    return True


OPERATIONS: dict[str, Operation] = {
    "wait": _wait,
    "exit": _exit,
    "raise": _raise,
    "fork": _fork,
    "forks": _forks,
    "hop": _hop,
    "setsid": _setsid,
    "setpgid": _setpgid,
    "exec": _exec,
    "setuid": _setuid,
    "ignore": _ignore,
    "default": _default,
    "catch": _catch,
    "block": _block,
    "unblock": _unblock,
    "tell": _tell,
    "join": _join,
    "reap": _reap,
    "unlisten": _unlisten,
    "listen": _listen,
    "move": _move,
    "environ": _environ,
    "stop": _stop,
    "uninterruptible": _held_for(UNINTERRUPTIBLE),
    "trace": _held_for(TRACED),
    "freeze": _freeze,
    "leader-exit": _leader_exit,
    "autoreap": _autoreap,
    "say": _say,
}
