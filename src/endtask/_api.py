"""The verbs, on a given backend: what the command and the public functions are made of.

Order inside a stop: open the wait, open the fork watch, read the process table, select and pin, then ask.
In this order nothing can be born between the table and the watch without being seen by one of them.
"""

from __future__ import annotations

from endtask._engine import Run
from endtask._find import Finder
from endtask._find import find as _find
from endtask._inspect import forecast
from endtask._plan import parse_steps
from endtask._prepare import Preparer
from endtask._record import replace
from endtask._watch import Births
from endtask.errors import NothingMatchedError
from endtask.model import Explained, Explanation, Looked, Member, Missing, Planning, Report, Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from types import FrameType

    from endtask._backends.base import Backend
    from endtask._find import Found
    from endtask._prepare import Prepared
    from endtask.model import Event, Facts, Filter, Forecast, PidRef, Policy, Reason, Request, Row, Scope

    Steps = Generator[float, list[int], Report]
    Handler = Callable[[int, FrameType | None], object] | None
else:
    import _signal  # `signal` costs 2.4 ms at start-up, its C module nothing

LOOK_PLAN = "TERM/1/INT/1/HUP/1/QUIT/1/KILL"
# On Windows whatever a process may hear is asked about; what it cannot hear at all is left out of the answer.
LOOK_PLAN_WINDOWS = "stop-event/1/service-stop/1/wm-close/1/wm-endsession/1/ctrl-c/1/ctrl-break/1/ctrl-close/1/ctrl-shutdown/1/terminate"


def _backend(backend: Backend | None) -> Backend:
    if backend is not None:
        return backend
    from endtask._backends import default_backend

    return default_backend()


class Session:
    """One stop or wait: the steps of the run and the wait that drives them.

    Use: iterate `steps()`; each value is how long to wait at most on `waiter`, and each `send` hands over the keys that `waiter.wait` returned.
    """

    def __init__(
        self,
        what: Sequence[str],
        filters: Filter,
        policy: Policy,
        keep: Sequence[str] = (),
        on_event: Callable[[Event], None] | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.backend = _backend(backend)
        self.what = what
        self.filters = filters
        self.policy = policy
        self.keep = keep
        self.on_event = on_event
        self.waiter = self.backend.waiter()

    def steps(self) -> Steps:  # size: the order of the opening and of the closing is the point
        """Run; the generator's return value is the report."""
        backend = self.backend
        started = backend.now()
        watch = run = found = None
        try:
            watch = backend.fork_watch(self.waiter) if self.policy.scope.kind != "only" else None
            births = Births(backend, watch) if watch is not None else None
            table = backend.table()
            policy = _with_keep(backend, self.policy, self.keep, table)
            found = Finder(backend, self.filters, several=policy.all, table=table).run(self.what)
            preparer = Preparer(
                backend,
                policy,
                table,
                births_seen=births is not None,
                selected=[t.ref.pid for t in found.targets],
            )
            preparer.check(found.targets)
            run = Run(backend, policy, preparer, found.targets, self.waiter, births, started, self.on_event)
            yield from run.go()
            report = Report(
                run.reports(),
                tuple(found.missing),
                backend.now() - started,
                run.cancelled,
                policy.missing_ok,
                policy.force_ok,
            )
            _remember(report, backend)
            return report
        finally:
            if run is not None:
                run.close()
            if found is not None:
                found.close()
            if watch is not None:
                watch.close()
            self.waiter.close()


def _with_keep(backend: Backend, policy: Policy, keep: Sequence[str], table: dict[int, Row]) -> Policy:
    """Resolve the words of `keep`; one that matches nothing is an error, because a typing mistake there loses somebody's process."""
    if not keep:
        return policy
    from endtask.model import Filter

    found = Finder(backend, Filter(), several=True, below_too=True, table=table).run(keep)
    refs = tuple(t.ref for t in found.targets)
    found.close()
    if found.missing:
        raise NothingMatchedError(
            f"nothing to keep: {found.missing[0].text}; nothing was sent", hint="leave `--keep` out, or correct it"
        )
    return replace(policy, scope=replace(policy.scope, keep=(*policy.scope.keep, *refs)))


def _remember(report: Report, backend: Backend) -> None:
    """Write down what was asked in vain, so that `why` can tell it later."""
    if backend.name == "sim" or all(t.outcome in ("stopped", "forced", "already-gone") for t in report.targets):
        return
    from endtask._journal import remember

    remember(report)


def drive(session: Session) -> Report:
    """Run a session to its end, blocking.

    Ctrl+C is heard while it waits and not in the middle of a step, so that what was sent is always in the report.
    """
    steps = session.steps()
    waiter = session.waiter
    with _deaf() as deaf:
        try:
            timeout_s = next(steps)
            while True:
                try:
                    deaf.listen()
                    keys = waiter.wait(timeout_s)
                    deaf.ignore()
                except KeyboardInterrupt as interrupt:
                    deaf.ignore()
                    timeout_s = steps.throw(interrupt)
                else:
                    timeout_s = steps.send(keys)
        except StopIteration as done:
            report: Report = done.value
            return report
        finally:
            steps.close()


class _Deaf:
    """Holds SIGINT back in this thread by its mask (pthread_sigmask(3)); what comes meanwhile comes at `listen`."""

    def __init__(self) -> None:
        self._mask = _signal.pthread_sigmask if hasattr(_signal, "pthread_sigmask") else None
        self._how = [int(getattr(_signal, name, 0)) for name in ("SIG_BLOCK", "SIG_SETMASK")]
        self._before: Iterable[int] = ()

    def __enter__(self) -> _Deaf:  # noqa: PYI034  # `Self` needs Python 3.11
        self._before = self._set(0, (_signal.SIGINT,))
        return self

    def _set(self, how: int, numbers: Iterable[int]) -> Iterable[int]:
        return () if self._mask is None else self._mask(self._how[how], numbers)

    def listen(self) -> None:
        """Hear it from now on, and what was held back at once."""
        self._set(1, self._before)

    def ignore(self) -> None:
        """Hold it back from now on."""
        self._set(0, (_signal.SIGINT,))

    def __exit__(self, *_exception: object) -> None:
        self.listen()


class _DeafByHandler(_Deaf):
    """The same without masks (Windows): a handler notes the signal, in the main thread, which alone hears it.

    What the program itself wanted to do at Ctrl+C is done later, not instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handler: Handler = None
        self._listening = False
        self._noted = False

    def __enter__(self) -> _DeafByHandler:  # noqa: PYI034
        handler = _signal.getsignal(_signal.SIGINT)
        if callable(handler):  # else it is ignored, or not Python's affair
            try:
                _signal.signal(_signal.SIGINT, self._on_signal)
                self._handler = handler
            except ValueError:
                pass  # ignored: not the main thread, which nothing can interrupt
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._listening and self._handler is not None:
            self._handler(number, frame)
        else:
            self._noted = True

    def listen(self) -> None:
        self._listening = True
        if self._noted and self._handler is not None:
            self._noted = False
            self._handler(_signal.SIGINT, None)

    def ignore(self) -> None:
        self._listening = False

    def __exit__(self, *_exception: object) -> None:
        if self._handler is not None:
            _signal.signal(_signal.SIGINT, self._handler)
            self.listen()


def _deaf() -> _Deaf:
    return _Deaf() if hasattr(_signal, "pthread_sigmask") else _DeafByHandler()


def stop(
    what: Sequence[str],
    filters: Filter,
    policy: Policy,
    *,
    keep: Sequence[str] = (),
    on_event: Callable[[Event], None] | None = None,
    backend: Backend | None = None,
) -> Report:
    """Ask, wait, prove. With a policy without steps: only wait and prove."""
    return drive(Session(what, filters, policy, keep, on_event, backend))


def wait(
    what: Sequence[str],
    filters: Filter,
    policy: Policy,
    *,
    keep: Sequence[str] = (),
    on_event: Callable[[Event], None] | None = None,
    backend: Backend | None = None,
) -> Report:
    """Wait for the end and prove it; nothing is sent, whatever steps the policy has."""
    return drive(Session(what, filters, replace(policy, steps=()), keep, on_event, backend))


def plan(
    what: Sequence[str], filters: Filter, policy: Policy, *, keep: Sequence[str] = (), backend: Backend | None = None
) -> Planning:
    """Return what `stop` with the same arguments would do; nothing is sent."""
    backend = _backend(backend)
    from endtask._outline import target_plan

    table = backend.table()
    policy = _with_keep(backend, policy, keep, table)
    found = Finder(backend, filters, several=policy.all, table=table).run(what)
    preparer = Preparer(backend, policy, table, births_seen=True, selected=[t.ref.pid for t in found.targets])
    plans = []
    for ready in _each(found, preparer):
        plans.append(target_plan(backend, ready))
    return Planning(tuple(plans), tuple(found.missing), policy.missing_ok)


def _each(found: Found, preparer: Preparer) -> Generator[Prepared, None, None]:
    """Prepare one target after the other and release it afterwards; who ends meanwhile is told as missing."""
    try:
        preparer.check(found.targets)
        for target in found.targets:
            ready = preparer.prepare(target)
            if ready is None:
                found.missing.append(Missing(target.what, f"process {target.ref.pid} has just ended", "gone"))
                continue
            try:
                yield ready
            finally:
                ready.close()
    finally:
        found.close()
        preparer.close()


def find(what: Sequence[str], filters: Filter, *, backend: Backend | None = None) -> list[tuple[PidRef, str]]:
    """Return identity and name of every match, and nothing else: the cheapest question."""
    return _find(_backend(backend), what, filters)


def look(what: Sequence[str], filters: Filter, *, scope: Scope, backend: Backend | None = None) -> Looked:
    """Return how everything that matches would answer; nothing is sent."""
    backend = _backend(backend)
    table = backend.table()
    found = Finder(backend, filters, several=True, table=table).run(what)
    preparer = Preparer(backend, _look_policy(backend, scope), table, births_seen=True)
    seen = tuple(_look_at(backend, ready, table)[0] for ready in _each(found, preparer))
    return Looked(seen, tuple(found.missing))


def _look_policy(backend: Backend, scope: Scope) -> Policy:
    from endtask.model import Policy

    text = LOOK_PLAN_WINDOWS if backend.has_ladders else LOOK_PLAN
    return Policy(parse_steps(text, signals=not backend.has_ladders), 10.0, scope, watch_s=0.0, all=True)


def _look_at(backend: Backend, ready: Prepared, table: dict[int, Row]) -> tuple[Seen, list[Facts]]:
    from endtask._acquaint import acquaint, knowing

    requests = [s.request for s in ready.policy.steps]
    target = ready.target.ref
    receivers = acquaint(backend, ready.pins.values())
    facts = knowing(backend.facts(ready.pins[target.pid], table), receivers)
    others = [ready.pins[ref.pid] for ref, *_rest in ready.members if ref != target]
    below = [knowing(backend.facts(pin, table), receivers) for pin in others]
    chain = tuple(_ancestors(backend, ready.above, keeps_the_dead=facts.windows is not None))
    tree = tuple(Member(ref, name, tie, kept=kept) for ref, name, tie, kept in ready.members)
    answers = forecast(facts, requests, below) if facts.windows is None else _answer(facts, requests, ready)
    seen = Seen(ready.target.what, facts, answers, tree, chain, ready.suspects)
    return seen, below


def _answer(facts: Facts, requests: Sequence[Request], ready: Prepared) -> Forecast:
    from endtask._answers import forecast_windows

    return forecast_windows(facts, requests, ready.policy, list(ready.pins))


def _ancestors(backend: Backend, above: Sequence[int], *, keeps_the_dead: bool) -> Iterator[tuple[int, str]]:
    """Yield pid and name of each ancestor, as far as they are there: Windows keeps the pid of a parent that has ended."""
    for pid in above:
        short = backend.short_name(pid)
        if short is None and keeps_the_dead:
            return
        yield pid, backend.full_name(pid, short) if short is not None else "?"


def why(what: Sequence[str], filters: Filter, *, scope: Scope, backend: Backend | None = None) -> Explanation:
    """Explain why everything that matches is (still) there; nothing is sent."""
    from endtask._journal import recall, said_no
    from endtask._why import explain

    backend = _backend(backend)
    table = backend.table()
    found = Finder(backend, filters, several=True, table=table).run(what)
    preparer = Preparer(backend, _look_policy(backend, scope), table, births_seen=True)
    explained = []
    for ready in _each(found, preparer):
        seen, below = _look_at(backend, ready, table)
        asked = () if backend.name == "sim" else recall(seen.facts.ref)
        reasons: tuple[Reason, ...] = explain(seen, below, asked_before=bool(asked), said_no=said_no(asked))
        explained.append(Explained(seen, reasons, asked))
    return Explanation(tuple(explained), tuple(found.missing))
