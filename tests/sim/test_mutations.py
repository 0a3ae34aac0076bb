"""The invariants bite: an engine that is broken on purpose is caught by a few random lives.

Each mutation takes one promise out of the engine (or out of the machine) and names the rules of which one must notice it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from endtask import _conversation, _engine, _job, _outcome, _prepare, _said, _scope
from endtask._backends.sim import handles
from endtask._backends.sim.backend import SimBackend
from endtask._backends.sim.lives import life
from endtask._backends.sim.spec import Life, Op, Spec, World
from endtask._outline import target_plan
from endtask._record import replace
from endtask._request import deliver
from endtask._requests import KILL
from endtask.model import Report

from .run import Broken, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    Mutate = Callable[[pytest.MonkeyPatch], None]

WITHIN = 2500  # lives


def _sends_to_strangers(patch: pytest.MonkeyPatch) -> None:
    owned = _scope.owned

    def more(family: _scope.Family, target: int, *rest: Any, **named: Any) -> Any:
        ties = owned(family, target, *rest, **named)
        stranger = next((p for p, r in family.table.items() if p > target and not r.kernel and p not in ties), None)
        if stranger is not None:
            ties[stranger] = (f"child of {target}", 1)
        return ties

    patch.setattr(_scope, "owned", more)


def _signals_the_bare_pid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimBackend, "reached_by", lambda self, pin: self.system.table.get(pin.ref.pid))


def _does_not_look_again(patch: pytest.MonkeyPatch) -> None:
    table = SimBackend.table

    def first(self: SimBackend) -> Any:
        if self not in seen:
            seen[self] = table(self)
        return seen[self]

    seen: dict[SimBackend, Any] = {}
    patch.setattr(SimBackend, "table", first)
    patch.setattr(SimBackend, "fork_watch", lambda _self, _waiter: None)


def _overlooks_suspects(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_outcome, "proved", lambda _job: True)


def _believes_in_an_exit(patch: pytest.MonkeyPatch) -> None:
    wait = handles.SimWaiter.wait

    def early(self: handles.SimWaiter, timeout_s: float | None) -> list[int]:
        return wait(self, timeout_s) or list(self._keys.values())[:1]

    patch.setattr(handles.SimWaiter, "wait", early)


def _forces_unasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("endtask._engine.deliver", lambda backend, pin, _request, at_s: deliver(backend, pin, KILL, at_s))


def _forgets_to_thaw(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handles.SimSweep, "_let_go", lambda _self: None)


def _asks_again_and_again(patch: pytest.MonkeyPatch) -> None:
    ask = _job.Job._ask

    def again(self: _job.Job, members: list[_job.JobMember]) -> Any:
        for member in members:
            member.asked_step = -1
        return [*ask(self, members), *(_job.Send(m, self.current) for m in members if self.current and m.concerns_us)]

    patch.setattr(_job.Job, "_ask", again)


def _loses_receipts(patch: pytest.MonkeyPatch) -> None:
    receipt = _job.Job.receipt

    def lose(self: _job.Job, member: _job.JobMember, said: Any, now: float) -> Any:
        actions = receipt(self, member, said, now)
        if member is not self.target:
            member.receipts.clear()
        return actions

    patch.setattr(_job.Job, "receipt", lose)


def _is_always_content(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Report, "exit_code", property(lambda _self: 0))


def _says_stopped(patch: pytest.MonkeyPatch) -> None:
    outcome = _outcome.outcome
    patch.setattr(_outcome, "outcome", lambda job: "stopped" if outcome(job) == "forced" else outcome(job))


def _ignores_keep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_prepare.Preparer, "_is_kept", lambda *_args: False)


def _asks_the_children_first(patch: pytest.MonkeyPatch) -> None:
    ask = _job.Job._ask
    patch.setattr(_job.Job, "_ask", lambda self, _members: ask(self, self._open())[::-1])


def _forgets_the_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_job.Job, "wake_at", property(lambda _self: None))


def _leaks_handles(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_prepare.Prepared, "close", lambda _self: None)


def _plans_something_else(patch: pytest.MonkeyPatch) -> None:
    def other(backend: Any, ready: Any) -> Any:
        return replace(target_plan(backend, ready), ref=replace(ready.target.ref, token="1"))

    patch.setattr("endtask._outline.target_plan", other)


def _asks_while_it_only_looks(patch: pytest.MonkeyPatch) -> None:
    def ask(backend: Any, ready: Any) -> Any:
        backend.send(ready.pins[ready.target.ref.pid], ready.policy.steps[0].request, 0.0)
        return target_plan(backend, ready)

    patch.setattr("endtask._outline.target_plan", ask)


def _tells_no_verdict(patch: pytest.MonkeyPatch) -> None:
    emit = _engine.Run._emit

    def quiet(self: _engine.Run, kind: str, *rest: Any, **named: Any) -> None:
        if kind != "settled":
            emit(self, kind, *rest, **named)

    patch.setattr(_engine.Run, "_emit", quiet)


def _grants_too_much(patch: pytest.MonkeyPatch) -> None:
    needs = _job.Job.needs

    def generous(self: _job.Job, member: _job.JobMember, seconds: float, now: float) -> float:
        self.policy = replace(self.policy, extend_s=self.policy.extend_s + 1.0)
        return needs(self, member, seconds, now)

    patch.setattr(_job.Job, "needs", generous)


def _does_not_keep_its_word(patch: pytest.MonkeyPatch) -> None:
    needs = _job.Job.needs

    def forget(self: _job.Job, member: _job.JobMember, seconds: float, now: float) -> float:
        before = (self.step_ends, self.deadline)
        granted_s = needs(self, member, seconds, now)
        self.step_ends, deadline = before[0], self.deadline
        self.deadline = deadline
        return granted_s

    patch.setattr(_job.Job, "needs", forget)
    patch.setattr(_job.Job, "_begin_step", _begin_at_once)


def _begin_at_once(self: _job.Job, index: int, now: float) -> Any:
    """Begin a step whatever the time is."""
    self.step = index
    self.step_ends = self.deadline
    request = self.policy.steps[index].request
    return [_job.Force()] if _job.sweeps(request) else self._ask(self._open())


def _shows_what_it_hears(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_conversation, "clean", lambda text: text)


def _forgets_what_was_said(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_said, "add", lambda entries, entry: entries.__setitem__(slice(None), [entry]))


MUTATIONS: dict[str, tuple[Mutate, tuple[str, ...]]] = {
    "sends to strangers": (_sends_to_strangers, ("stranger", "never")),
    "signals the bare pid": (_signals_the_bare_pid, ("stranger", "never", "lie")),
    "does not look again": (_does_not_look_again, ("lie",)),
    "overlooks suspects": (_overlooks_suspects, ("lie",)),
    "believes in an exit": (_believes_in_an_exit, ("lie",)),
    "forces unasked": (_forces_unasked, ("force",)),
    "forgets to thaw": (_forgets_to_thaw, ("thaw",)),
    "asks again and again": (_asks_again_and_again, ("twice",)),
    "loses receipts": (_loses_receipts, ("receipts", "events")),
    "is always content": (_is_always_content, ("code",)),
    "says stopped after force": (_says_stopped, ("outcome", "events")),
    "ignores keep": (_ignores_keep, ("keep",)),
    "asks the children first": (_asks_the_children_first, ("order",)),
    "forgets the deadline": (_forgets_the_deadline, ("time", "hang")),
    "leaks handles": (_leaks_handles, ("leak",)),
    "plans something else": (_plans_something_else, ("plan",)),
    "asks while it only looks": (_asks_while_it_only_looks, ("read-only",)),
    "grants too much": (_grants_too_much, ("extend",)),
    "does not keep its word": (_does_not_keep_its_word, ("promise",)),
    "shows what it hears": (_shows_what_it_hears, ("said",)),
    "forgets what was said": (_forgets_what_was_said, ("extend", "outcome")),
    "tells no verdict": (_tells_no_verdict, ("events",)),
}


def _storm(seed: int) -> Life:
    """The first member that is asked ends all others, and a bystander takes their pids at once."""
    first = Spec("first", on=((15, (Op("tell", n=15, who="group"), Op("exit"))),))
    target = Spec("target", flags=("session",), children=(first, *(Spec("member") for _ in range(8))))
    churner = Spec(
        "churner", (Op("forks", 0.0008, 390, child=Spec("short", (Op("wait", 0.002), Op("exit")))),), environ="churn"
    )
    return Life(
        seed,
        World(pid_max=28, call_s=0.003, processes=26, forks=420),
        (target, churner),
        before_s=0.0,
        what=("pid=target",),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the rules notices the mutation within a few lives."""
    mutate, rules = MUTATIONS[name]
    mutate(monkeypatch)
    for seed in range(1, WITHIN + 1):
        one = _storm(seed) if name == "signals the bare pid" else life(seed)
        found = judge(one, choice=seed % 5 == 0)
        if isinstance(found, Broken) and found.rule in rules:
            return
    pytest.fail(f"{WITHIN} lives did not notice it")
