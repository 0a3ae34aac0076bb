"""Lives one life: builds the machine, asks endtask what the life says, and lets the witnesses judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask import _api
from endtask._backends.sim.backend import RequesterKilledError, SimBackend
from endtask._backends.sim.handles import SimHangError
from endtask._backends.sim.system import System
from endtask._plan import make_policy
from endtask._record import Record, replace
from endtask.errors import AmbiguousError, EndtaskError
from endtask.model import Filter, Report, Scope

from .invariants import Judge
from .witness import ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.sim.process import Process
    from endtask._backends.sim.spec import Life
    from endtask.model import Explanation, Looked, Planning, Policy

    Validate = Callable[[dict[str, object]], None]
    Driver = Callable[[_api.Session], Report]

CALLS = 100_000  # a run that makes more calls to the system goes round in circles
AFTER_S = 5.0  # for how long the machine runs on after our own death, before a second run takes over


class Lived(Record):
    """What came of a life that broke no promise.

    Attributes:
        outcomes: The words of the last run, or the name of the error that it ended by.
        calls: Calls to the system.
        false_alarm: Whether it ended as `unproven` because of suspects, though nothing of the target lived.
    """

    outcomes: tuple[str, ...]
    calls: int
    false_alarm: bool = False


class Machine:
    """A life's machine with everything started."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.system = System(life.world, life.seed)
        for spec in life.roots:
            self.system.fork(self.system.init, spec)
        for spec in life.ours:
            self.system.fork(self.system.shell, spec)
        self.system.settle(life.before_s)

    def word(self, text: str) -> str:
        """Return the WHAT that *text* means on this machine: `pid=NAME` and `ref=NAME` name a program's first living process."""
        kind, equal, name = text.partition("=")
        if not equal:
            return text
        process = self.first(name)
        if process is None:
            return name
        token = process.token if self.life.world.pidfd else f"t{process.start}"
        return str(process.pid) if kind == "pid" else f"{process.pid}:{token}"

    def first(self, name: str) -> Process | None:
        """Return the first process of that name that is still in the table."""
        return next((p for p in self.system.everyone if p.name == name and not p.reaped and not p.kernel), None)

    def meant(self, text: str) -> list[Process]:
        """Return every process that *text* means."""
        _kind, equal, name = text.partition("=")
        if equal:
            process = self.first(name)
            return [] if process is None else [process]
        return [p for p in self.system.everyone if p.name == text and not p.exited and "hidden" not in p.flags]


def policy_of(life: Life) -> Policy:
    """Return the policy that the life's options mean."""
    options = dict(life.options)
    kind = options.pop("scope", "tree")
    return make_policy(scope=Scope(kind=kind), **options)  # type: ignore[arg-type]  # the options are make_policy's own, by construction


def live(life: Life, validate: Validate | None = None, driver: Driver = _api.drive) -> Lived:
    """Live *life* and judge it.

    Args:
        life: The life.
        validate: Checks the answer's JSON form.
        driver: Runs a session to its end.

    Raises:
        ViolationError: A promise was broken.
    """
    machine = Machine(life)
    try:
        lived = _run(machine, life, validate, driver)
        if lived.outcomes == ("killed",):
            machine.system.settle(AFTER_S)
            machine.system.start_us()
            again = replace(life, killed_at=0)
            lived = _run(machine, again, validate, driver)
    except SimHangError as hang:
        raise ViolationError("hang", str(hang)) from hang
    return lived


def _run(machine: Machine, life: Life, validate: Validate | None, driver: Driver) -> Lived:
    backend = SimBackend(machine.system)
    backend.killed_at = life.killed_at
    backend.cancelled_at = life.cancelled_at
    backend.call_limit = CALLS
    policy = policy_of(life)
    kept = [p for w in life.keep for p in machine.meant(w)]
    witness = Judge(life, backend, policy, kept, sends=life.verb == "stop")
    try:
        answer = _ask(machine, life, policy, witness, driver)
    except RequesterKilledError:
        machine.system.settle(AFTER_S)
        witness.check_left()
        return Lived(("killed",), backend.calls)
    except KeyboardInterrupt:
        if witness.sent:
            raise ViolationError("cancel", "interrupted after something was sent, and no report tells of it") from None
        witness.check_left()
        return Lived(("interrupted",), backend.calls)
    except EndtaskError as error:
        if witness.sent:
            raise ViolationError("error", f"{error!r} after something was sent, and no report tells of it") from error
        if isinstance(error, AmbiguousError) and policy.all:
            raise ViolationError("error", f"{error!r} although several were allowed") from error
        witness.check_left()
        return Lived((type(error).__name__,), backend.calls)
    finally:
        witness.close()
    if validate is not None:
        validate(answer.to_json())
    witness.check_left()
    if not isinstance(answer, Report):
        return Lived((life.verb,), backend.calls)
    witness.check(answer)
    false = any(
        t.outcome == "unproven" and t.suspects and not any(r for r in witness.settled[str(t.ref)][1])
        for t in answer.targets
    )
    return Lived(tuple(t.outcome for t in answer.targets), backend.calls, false)


def _ask(
    machine: Machine, life: Life, policy: Policy, witness: Judge, driver: Driver
) -> Report | Planning | Looked | Explanation:
    what = [machine.word(w) for w in life.what]
    keep = [machine.word(w) for w in life.keep]
    wanted = Filter()
    backend = witness.backend
    if life.verb in ("stop", "wait"):
        asked = policy if life.verb == "stop" else replace(policy, steps=())
        return driver(_api.Session(what, wanted, asked, keep, witness.on_event, backend))
    if life.verb == "plan":
        return _api.plan(what, wanted, policy, keep=keep, backend=backend)
    if life.verb == "look":
        return _api.look(what, wanted, scope=policy.scope, backend=backend)
    return _api.why(what, wanted, scope=policy.scope, backend=backend)


def same_choice(life: Life) -> None:
    """See that `plan` and `stop` choose the same targets and members on the same machine.

    Only where nothing happens between the beginning and the choice; else they look at two different machines.

    Raises:
        ViolationError: They differ.
    """
    quiet = replace(life, world=replace(life.world, race=0.0, stall=0.0, call_s=1e-9), killed_at=0, cancelled_at=0)
    policy = policy_of(quiet)
    machine = Machine(quiet)
    backend = SimBackend(machine.system)
    happened = machine.system.happened
    words = [machine.word(w) for w in quiet.what]
    keep = [machine.word(w) for w in quiet.keep]
    planned: Planning | None = None
    refused: type[EndtaskError] | None = None
    try:
        planned = _api.plan(words, Filter(), policy, keep=keep, backend=backend)
    except EndtaskError as error:
        refused = type(error)
    if machine.system.happened != happened:
        return
    machine = Machine(quiet)
    backend = SimBackend(machine.system)
    witness = Judge(quiet, backend, policy, (), sends=True)

    class _EnoughError(BaseException):
        pass

    def stop_there(_process: Process, _number: int) -> None:
        raise _EnoughError

    machine.system.on_signal.append(stop_there)
    try:
        report = _api.stop(words, Filter(), policy, keep=keep, on_event=witness.on_event, backend=backend)
    except _EnoughError:
        report = None
    except EndtaskError as error:
        if refused is not type(error):
            raise ViolationError("plan", f"plan answered {refused or 'a plan'}, stop {error!r}") from error
        return
    if planned is None:
        raise ViolationError("plan", f"plan raised {refused}, stop did not")
    told = [str(e.ref) for e in witness.events if e.kind == "selected"]
    chosen = [str(t.ref) for t in planned.targets]
    if told != chosen[: len(told)] or (report is not None and len(chosen) != len(report.targets)):
        raise ViolationError("plan", f"plan chose {chosen}, stop {told}")
