"""What a stop would do to a prepared target, in words: the answer of `plan`."""

from __future__ import annotations

from endtask._inspect import predict
from endtask._job import SHELL_ALONE_S, TARGET_ALONE
from endtask.model import Facts, PidRef, Planned, TargetPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend
    from endtask._prepare import Prepared
    from endtask.model import Policy


def target_plan(backend: Backend, policy: Policy, ready: Prepared) -> TargetPlan:
    """Return in words what a stop of *ready* would do."""
    target_facts = backend.facts(ready.pins[ready.target.ref.pid])
    schedule = policy.schedule()
    members = []
    for ref, name, tie, kept in ready.members:
        pin = ready.pins[ref.pid]
        facts = target_facts if ref == ready.target.ref else backend.facts(pin)
        members.append(_planned(policy, ready, facts, (ref, name, tie, kept)))
    return TargetPlan(
        ready.target.what,
        ready.target.ref,
        ready.target.name,
        tuple(members),
        tuple((r.name, at) for r, at, _until in schedule),
        policy.budget_s,
        ready.origin.watch_s if ready.origin is not None else 0.0,
        ready.origin.because if ready.origin is not None else "",
        ready.suspects,
        (*ready.warnings, *_plan_warnings(target_facts, policy)),
    )


def _planned(policy: Policy, ready: Prepared, facts: Facts, member: tuple[PidRef, str, str, bool]) -> Planned:
    ref, name, tie, kept = member
    if kept:
        return Planned(ref, name, tie, "left alone")
    is_target = ref == ready.target.ref
    asked, answers = [], []
    for step in policy.steps:
        if is_target or step.request.kind == "signal":
            prediction = predict(facts, step.request)
            asked.append(step.request.name)
            answers.append(prediction.answer)
    when = "first" if is_target else _when(policy, ready, name)
    return Planned(ref, name, tie, when if policy.steps else "waited for", tuple(asked), tuple(answers))


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


def _plan_warnings(facts: Facts, policy: Policy) -> list[str]:
    warnings = []
    for step in policy.steps:
        prediction = predict(facts, step.request)
        if prediction.answer in ("ignored", "immune", "blocked"):
            warnings.append(
                f"{step.request.name} will have no effect on {facts.ref.pid} {facts.name}: {prediction.because}"
            )
    for manager in facts.managers:
        if manager.restarts == "yes":
            warnings.append(f"{manager.kind} {manager.name} starts it again; stop it for good with `{manager.stop}`")
    return warnings
