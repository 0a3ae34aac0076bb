"""Stage 3: text and options -> steps and policy; facts and policy -> the plan of a target (pure).

Decision: a plan is written in the schedule form of start-stop-daemon(8), `TERM/10/INT/5`, because it is short and operators know it.
Rejected: its `forever`, because every verb of endtask has a bound, and its bare signal numbers, because `9/10` reads like a time.
"""

from __future__ import annotations

from endtask._record import Record
from endtask._requests import (
    ASK,
    EXIT_PROCESS,
    HAS_SIGNALS,
    KILL,
    TERM,
    TERMINATE,
    example_plan,
    parse_request,
    with_consent,
)
from endtask._words import called
from endtask.errors import PlanError
from endtask.model import Policy, Scope, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import Facts, Request

DEFAULT_BUDGET_S = 10.0
FORCE_WAIT_S = 5.0  # how long the end of a forced process is waited for, where nothing else is said
LONGEST_S = 7 * 24 * 3600.0
LONGEST_REASON = 500  # characters
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Return the seconds of `10`, `1.5`, `500ms`, `10s`, `2m`, `1h` or `1m30s`.

    Raises:
        PlanError: It is none of these, is negative, or is longer than a week.
    """
    rest = text.strip()
    total = 0.0
    if not rest or not rest.isascii():
        raise _bad_duration(text)
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        unit_length = len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))
        unit, rest = rest[:unit_length], rest[unit_length:]
        if not number.strip(".") or number.count(".") > 1 or (not unit and rest):
            raise _bad_duration(text)
        if unit and unit not in _UNITS:
            raise _bad_duration(text)
        total += float(number) * _UNITS[unit or "s"]
    if total > LONGEST_S:
        raise PlanError(f"`{text}` is longer than a week", hint="every wait of endtask has a bound")
    return total


def _bad_duration(text: str) -> PlanError:
    return PlanError(f"`{text}` is not a duration", hint="write seconds or a unit: `10`, `500ms`, `10s`, `2m`, `1h`")


def _tokens(text: str) -> list[str]:
    """Split at `/` and blanks, except inside quotes."""
    tokens: list[str] = []
    current = ""
    quote = ""
    for character in text:
        if quote:
            current += character
            quote = "" if character == quote else quote
        elif character in "'\"" and current.endswith(":"):
            current += character
            quote = character
        elif character == "/" or character.isspace():
            tokens.append(current)
            current = ""
        else:
            current += character
    if quote:
        raise PlanError(f"the plan `{text}` has an open quote", hint=f"close it with {quote}")
    tokens.append(current)
    return [t for t in tokens if t]


def parse_steps(text: str, *, signals: bool = HAS_SIGNALS) -> tuple[Step, ...]:
    """Parse a plan such as `TERM/10/INT/5`, `stdin:q/3 ask/10 kill/5` or `wm-close/5/ctrl-close/5`.

    Args:
        text: Requests, each followed by the seconds (or a duration with a unit) to wait for its effect.
            Only the last one may go without: it gets what is left of the budget.
        signals: Whether the system has signals; else it is Windows.

    Raises:
        PlanError: It cannot be parsed.
        UnsupportedRequestError: A request exists on another platform only.
    """
    steps: list[Step] = []
    for token in _tokens(text):
        if token[0].isdigit() or token[0] == ".":
            if not steps or steps[-1].wait_s is not None:
                hint = f"a plan is REQUEST/SECONDS/REQUEST/SECONDS, for example `{example_plan(signals=signals)}`"
                raise PlanError(f"the plan `{text}` has the time `{token}` where a request should be", hint=hint)
            steps[-1] = Step(steps[-1].request, parse_duration(token))
        else:
            steps.append(Step(parse_request(token, signals=signals)))
    _check(tuple(steps), signals=signals)
    return tuple(steps)


def make_policy(  # size: a table of contradictions
    *,
    timeout_s: float | None = None,
    plan: str | Plan | None = None,
    force_after_s: float | None = None,
    now: bool = False,
    scope: Scope | None = None,
    watch_s: float | None = None,
    all: bool = False,
    missing_ok: bool = False,
    force_ok: bool = False,
    unattended: bool = False,
    inject: bool = True,
    console_wide: bool = False,
    dependents: bool = False,
    extend_s: float = 0.0,
    reason: str = "",
    signals: bool = HAS_SIGNALS,
) -> Policy:
    """Return the policy that the options mean.

    Args:
        timeout_s: Whole budget in seconds; None: what the plan needs, or 10.
        plan: A plan or its text, None for `ask`: TERM where there are signals, else the politest ways that each process can hear.
        force_after_s: Seconds after which force is added.
        now: Force at once.
        scope: Which processes belong to a target; None: the tree.
        watch_s: Seconds to watch for a respawn, None: as the facts call for.
        all: Whether one word may mean several programs.
        missing_ok: Whether nothing to stop is success.
        force_ok: Whether a forced end is success.
        unattended: Whether a dialog is no reason to stop asking (Windows).
        inject: Whether a thread may be started in a process to ask it (Windows).
        console_wide: Whether others on the same console may be hit (Windows).
        dependents: Whether dependent services may be stopped before a service (Windows).
        extend_s: By so many seconds altogether everything may be moved if an application asks for more time.
        reason: Why it is stopped, for applications with a receiver.
        signals: Whether the system has signals; else it is Windows.

    Raises:
        PlanError: The options contradict each other or do not fit into the budget.
    """
    if now and (plan is not None or force_after_s is not None):
        raise PlanError("`--now` forces at once, so it cannot go with a plan or `--force-after`", hint="leave one out")
    force, ask = (KILL, TERM) if signals else (TERMINATE, ASK)
    if now:
        steps: tuple[Step, ...] = (Step(force),)
    elif plan is None:
        steps = (Step(ask),)
    else:
        steps = plan.steps if isinstance(plan, Plan) else parse_steps(plan, signals=signals)
    times = (("timeout", timeout_s), ("force-after", force_after_s), ("watch", watch_s), ("extend", extend_s))
    for name, value in times:
        if value is not None and not 0 <= value <= LONGEST_S:
            raise PlanError(
                f"`--{name} {value}` is not a time between 0 and a week", hint="every wait of endtask has a bound"
            )
    _check(steps, signals=signals)
    threads = [] if inject else [s.request for s in steps if s.request.kind == "inject"]
    if threads:
        hint = "leave one out; `console-ctrl-c` asks everybody on its console without one"
        raise PlanError(f"`{threads[0]}` is a thread in another program, which `--no-inject` rules out", hint=hint)
    if force_after_s is not None:
        steps = _with_force(steps, force_after_s, force)
    planned = sum(s.wait_s or 0.0 for s in steps)
    if timeout_s is None:
        last = FORCE_WAIT_S if steps[-1].request.forced and len(steps) > 1 else DEFAULT_BUDGET_S
        budget_s = planned if steps[-1].wait_s is not None else planned + last
    else:
        budget_s = timeout_s
    before_last = sum(s.wait_s or 0.0 for s in steps[:-1])
    if len(steps) > 1 and before_last >= budget_s:
        raise PlanError(
            f"the last step comes after {before_last:g} s, but the whole budget is {budget_s:g} s",
            hint=f"for example `--timeout {before_last + FORCE_WAIT_S:g}`",
        )
    consent = (unattended, inject, console_wide, dependents)
    steps = tuple(Step(with_consent(s.request, unattended=unattended, dependents=dependents), s.wait_s) for s in steps)
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise PlanError(f"`--reason` is one line of at most {LONGEST_REASON} characters", hint="shorten it")
    scope = scope or Scope()
    return Policy(steps, budget_s, scope, watch_s, all, missing_ok, force_ok, *consent, extend_s, reason)


def _check(steps: tuple[Step, ...], *, signals: bool) -> None:
    """Refuse steps that no text could have meant; a plan may also be built by hand."""
    if not steps:
        raise PlanError("the plan is empty", hint=f"for example `{example_plan(signals=signals)}`")
    for step, following in zip(steps, steps[1:], strict=False):  # noqa: RUF007  # one more module on the path of every stop
        if step.wait_s is None:
            raise PlanError(
                f"the plan does not say how long to wait after `{step.request}`", hint=f"for example `{step.request}/5`"
            )
        # Only a forced request that lets the process run its detach routines has something stronger after it.
        if step.request.forced and (step.request != EXIT_PROCESS or not following.request.forced):
            raise PlanError("the plan goes on after force", hint="put the forced step last")
    if any(s.wait_s is not None and not 0 <= s.wait_s <= LONGEST_S for s in steps):
        raise PlanError(
            "the plan has a wait that is not between 0 and a week", hint="every wait of endtask has a bound"
        )


def _with_force(steps: tuple[Step, ...], force_after_s: float, force: Request) -> tuple[Step, ...]:
    if steps[-1].request.forced:
        raise PlanError("the plan ends by force already", hint="leave `--force-after` out")
    used = sum(s.wait_s or 0.0 for s in steps[:-1])
    wait = force_after_s - used
    if force_after_s == 0 and not used:
        raise PlanError("`--force-after 0` leaves no time to ask", hint="use `--now` to force at once")
    if wait <= 0:
        raise PlanError(
            f"`--force-after {force_after_s:g}` comes before the plan's own last step at {used:g} s",
            hint="give it more time or shorten the plan",
        )
    return (*steps[:-1], Step(steps[-1].request, wait), Step(force))


_RESTARTERS_WATCH_S = 3.0  # supervisord, runit and s6 wait 1 s before they start again, systemd 0.1 s (their manuals)
_UNKNOWN_WATCH_S = 2.0  # most loops wait a second or less before they start it again


def respawn_watch(facts: Facts, policy: Policy, *, launcher: bool, shell: bool) -> tuple[float, str]:
    """Return for how many seconds to watch for a successor, and why.

    Args:
        facts: Of the target, with its managers.
        policy: `watch_s` of it wins when given.
        launcher: Whether the parent is ourselves or an ancestor of ours: then who asks us is who started it.
        shell: Whether the parent is an interactive shell.
    """
    if policy.watch_s is not None:
        return policy.watch_s, "as asked"
    service = facts.windows is not None and facts.windows.kind == "service"
    if service and not any(s.request.forced for s in policy.steps):
        return 0.0, "the service manager does not start again what it was asked to stop"
    for manager in facts.managers:
        if manager.restarts == "yes":
            return _RESTARTERS_WATCH_S, f"{manager.kind} {manager.name} restarts it"
        if manager.kind == "loop":
            return _RESTARTERS_WATCH_S, f"{manager.because}"
        if manager.kind == "systemd" and manager.name.endswith(".service"):
            return _RESTARTERS_WATCH_S, f"systemd {manager.name} may restart it"
        if manager.kind in ("docker", "podman", "kubernetes", "containerd"):
            return _RESTARTERS_WATCH_S, f"{manager.kind} {manager.name} may restart it"
    if launcher:
        return 0.0, "its parent is the one who asks"
    if shell:
        return 0.0, "its parent is an interactive shell"
    if facts.reaper or facts.ppid == 0:
        return 0.0, "its parent only reaps orphans"
    if facts.windows is not None and not facts.parent_name:
        return 0.0, "its parent has ended"  # Windows keeps the pid of a dead parent
    return _UNKNOWN_WATCH_S, f"its parent {called(facts.ppid, facts.parent_name)} might start it again"


def _seconds(value: float) -> str:
    """Return the shortest digits that `parse_duration` reads back as the same number."""
    text = repr(float(value))
    return f"{value:.330f}".rstrip("0") if "e" in text else text.removesuffix(".0")


class Plan(Record):
    """The steps of a stop.

    Attributes:
        steps: Requests with their waits, in order.
    """

    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Return the plan that *text* describes, for example `TERM/10/INT/5`.

        Raises:
            PlanError: It cannot be parsed.
            UnsupportedRequestError: A request exists on another platform only.
        """
        return cls(parse_steps(text))

    def __str__(self) -> str:
        return "/".join(f"{s.request}" if s.wait_s is None else f"{s.request}/{_seconds(s.wait_s)}" for s in self.steps)
