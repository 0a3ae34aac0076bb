"""What a stop would do to a prepared target, in words: the answer of `plan`."""

from __future__ import annotations

from endtask._acquaint import acquaint, knowing
from endtask._inspect import not_ours, predict
from endtask._job import FOR_ALL, SHELL_ALONE_S, TARGET_ALONE
from endtask._record import replace
from endtask._request import CONT, waits_for_cont
from endtask._words import called
from endtask.model import Facts, PidRef, Planned, TargetPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend
    from endtask._prepare import Prepared
    from endtask.model import Policy, Request


def target_plan(backend: Backend, ready: Prepared) -> TargetPlan:
    """Return in words what a stop of *ready* would do."""
    policy = ready.policy
    receivers = acquaint(backend, ready.pins.values()) if any(not s.request.forced for s in policy.steps) else {}
    target = ready.target.ref.pid
    target_facts = knowing(backend.facts(ready.pins[target]), receivers)
    members = []
    warnings = _plan_warnings(target_facts, ready)
    for ref, name, tie, kept in ready.members:
        pin = ready.pins[ref.pid]
        facts = target_facts if ref == ready.target.ref else knowing(backend.facts(pin), receivers)
        planned = _planned(policy, ready, facts, (ref, name, tie, kept))
        members.append(planned)
        warnings += _losses(facts, planned)
        if "denied" in planned.answers and facts.may_signal is False:
            warnings.append(f"{called(ref.pid, name)}: {not_ours(facts)}")
    return TargetPlan(
        ready.target.what,
        ready.target.ref,
        ready.target.name,
        tuple(members),
        _steps(ready),
        policy.budget_s,
        ready.origin.watch_s if ready.origin is not None else 0.0,
        ready.origin.because if ready.origin is not None else "",
        ready.suspects,
        (*ready.warnings, *warnings),
        policy.extend_s,
    )


def _planned(policy: Policy, ready: Prepared, facts: Facts, member: tuple[PidRef, str, str, bool]) -> Planned:
    ref, name, tie, kept = member
    if kept:
        return Planned(ref, name, tie, "left alone")
    is_target = ref == ready.target.ref
    asked, answers = [], []
    for step in policy.steps:
        request = rung(ready, ref.pid, step.request)
        if request is not None and (is_target or step.request.kind in FOR_ALL):
            asked.append(request.name)
            denied = request.kind == "signal" and facts.may_signal is False
            answers.append("denied" if denied else predict(facts, request).answer)
            waits = waits_for_cont(request) and facts.state == "T"
            if waits and not denied and CONT.name not in asked:  # as `_request.deliver` does
                asked.append(CONT.name)
                answers.append(predict(facts, CONT).answer)
                facts = replace(facts, state="S")  # for the requests that follow
    when = "first" if is_target else _when(policy, ready, name)
    when = when if policy.steps else "waited for"
    return Planned(ref, name, tie, when, tuple(asked), tuple(answers), facts.receiver)


def rung(ready: Prepared, pid: int, request: Request) -> Request | None:
    """Return what a step means for a member; None if its ladder has no such rung."""
    if request.kind != "ask":
        return request
    ladder = ready.ladders.get(pid, ())
    return ladder[request.number] if request.number < len(ladder) else None


def _steps(ready: Prepared) -> tuple[tuple[str, float], ...]:
    """Return what the target is asked with, and when; a rung that only others have is named `ask`."""
    pid = ready.target.ref.pid
    steps = ((rung(ready, pid, request) or request, at) for request, at, _until in ready.policy.schedule())
    return tuple((request.name, at) for request, at in steps)


def _when(policy: Policy, ready: Prepared, name: str) -> str:
    """Return in words when a member other than the target is asked, by the rules of `_job`."""
    if not policy.steps:
        return ""
    request, begins, ends = policy.schedule()[0]
    if request.forced or (ready.catches is not None and request.name not in ready.catches):
        return "with it"
    if name == ready.target.name:
        return "when the target is gone"
    alone_s = (ends - begins) * TARGET_ALONE
    if ready.is_shell:
        alone_s = min(alone_s, SHELL_ALONE_S)
    return f"when the target is gone, or after {begins + alone_s:g} s"


def _losses(facts: Facts, planned: Planned) -> list[str]:
    """Return which requests end a Windows program (under Wine) that has not been asked before."""
    if facts.wine is None:
        return []
    from endtask._wine import loss

    for name, answer in zip(planned.asked, planned.answers, strict=True):
        if answer == "asks" or name.startswith(("cmd:", "stdin:")):
            return []  # it is asked first; what it makes of that is its own affair
        text = loss(facts, name, answer)
        if text:
            return [text]
    return []


def _plan_warnings(facts: Facts, ready: Prepared) -> list[str]:
    warnings = []
    who = called(facts.ref.pid, facts.name)
    for step in ready.policy.steps:
        request = rung(ready, facts.ref.pid, step.request)
        if request is None:
            if step.request.number == 0:
                from endtask._ladder import ladder  # only Windows has such steps

                why = "it has exited" if facts.exited else ladder(facts, ready.policy, list(ready.pins)).why_none
                warnings.append(f"{who} is not asked: {why}")
            continue
        prediction = predict(facts, request)
        if prediction.answer in ("ignored", "immune", "blocked", "refused-here", "denied"):
            warnings.append(f"{request.name} will have no effect on {who}: {prediction.because}")
    for manager in facts.managers:
        if manager.restarts == "yes":
            warnings.append(f"{manager.kind} {manager.name} starts it again; stop it for good with `{manager.stop}`")
    return warnings
