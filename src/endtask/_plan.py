"""Stage 3: text and options -> steps and policy; facts and policy -> the plan of a target (pure).

Decision: a plan is written in the schedule form of start-stop-daemon(8), `TERM/10/INT/5`, because it is short and operators know it.
Rejected: its `forever`, because every verb of endtask has a bound, and its bare signal numbers, because `9/10` reads like a time.
"""

from __future__ import annotations

from endtask._record import Record
from endtask.errors import PlanError, UnsupportedRequestError
from endtask.model import Policy, Request, Scope, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from endtask.model import Facts
else:
    import _signal  # `signal` costs 2.4 ms at start-up, its C module nothing

DEFAULT_BUDGET_S = 10.0
FORCE_WAIT_S = 5.0  # how long the end of a forced process is waited for, where nothing else is said
LONGEST_S = 7 * 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WINDOWS = frozenset(
    (
        "wm-close",
        "ctrl-c",
        "ctrl-break",
        "ctrl-close",
        "ctrl-shutdown",
        "stop-event",
        "service-stop",
        "terminate",
        "wm-quit",
        "wm-endsession",
        "inject",
    )
)
_SUSPENDING = frozenset(("STOP", "TSTP", "TTIN", "TTOU"))

KILL = Request("KILL", "signal", 9, "", True)


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


def parse_request(text: str) -> Request:
    """Return the request that *text* names: a signal (`TERM`, `SIGTERM`, `RTMIN+3`), `stdin:TEXT` or `cmd:COMMAND`.

    Raises:
        PlanError: There is no such request.
        UnsupportedRequestError: It exists on another platform only.
    """
    kind, colon, value = text.partition(":")
    if colon and kind in ("stdin", "cmd"):
        value = _unquote(value)
        if not value:
            raise PlanError(
                f"`{text}` says nothing after the colon", hint="for example `stdin:q` or `cmd:'nginx -s quit'`"
            )
        if kind == "stdin":
            value = value.replace("\\n", "\n")
        return Request(text, "stdin" if kind == "stdin" else "command", 0, value)
    word = text.lower()
    if word in _WINDOWS:
        raise UnsupportedRequestError(
            f"`{text}` is a request of Windows, this system does not have it", hint="use a signal such as `TERM`"
        )
    name = text.upper().removeprefix("-").removeprefix("SIG")
    if name in _SUSPENDING:
        raise PlanError(f"`{text}` would leave the process suspended, which is not a stop", hint="use `TERM`")
    number = _signal_number(name)
    if not number:
        hint = "use names such as `TERM`, `INT`, `KILL`; numbers are read as seconds"
        raise PlanError(f"`{text}` is not a request that endtask knows", hint=hint)
    return Request(name, "signal", number, "", number == KILL.number)


def _signal_number(name: str) -> int:
    if name.startswith(("RTMIN+", "RTMAX-")) and name[6:].isascii() and name[6:].isdigit() and len(name) < 9:
        offset = int(name[6:])
        base = getattr(_signal, "SIG" + name[:5], 0)
        number = base + offset if name[5] == "+" else base - offset
        inside = getattr(_signal, "SIGRTMIN", 1) <= number <= getattr(_signal, "SIGRTMAX", 0)
        return number if base and inside else 0
    if not name.isalnum():
        return 0
    value = getattr(_signal, "SIG" + name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] in "'\"" and value[-1] == value[0]:
        return value[1:-1]
    return value


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


def parse_steps(text: str) -> tuple[Step, ...]:
    """Parse a plan such as `TERM/10/INT/5` or `stdin:q/3 TERM/10 KILL/5`.

    Args:
        text: Requests, each followed by the seconds (or a duration with a unit) to wait for its effect.
            Only the last one may go without: it gets what is left of the budget.

    Raises:
        PlanError: It cannot be parsed.
        UnsupportedRequestError: A request exists on another platform only.
    """
    steps: list[Step] = []
    for token in _tokens(text):
        if token[0].isdigit() or token[0] == ".":
            if not steps or steps[-1].wait_s is not None:
                hint = "a plan is REQUEST/SECONDS/REQUEST/SECONDS, for example `TERM/10/KILL/5`"
                raise PlanError(f"the plan `{text}` has the time `{token}` where a request should be", hint=hint)
            steps[-1] = Step(steps[-1].request, parse_duration(token))
        else:
            steps.append(Step(parse_request(token)))
    _check(tuple(steps))
    return tuple(steps)


TERM = Step(Request("TERM", "signal", 15))


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
) -> Policy:
    """Return the policy that the options mean.

    Args:
        timeout_s: Whole budget in seconds; None: what the plan needs, or 10.
        plan: A plan or its text, None for `TERM`.
        force_after_s: Seconds after which KILL is added.
        now: Force at once.
        scope: Which processes belong to a target; None: the tree.
        watch_s: Seconds to watch for a respawn, None: as the facts call for.
        all: Whether one word may mean several programs.
        missing_ok: Whether nothing to stop is success.
        force_ok: Whether a forced end is success.

    Raises:
        PlanError: The options contradict each other or do not fit into the budget.
    """
    if now and (plan is not None or force_after_s is not None):
        raise PlanError("`--now` forces at once, so it cannot go with a plan or `--force-after`", hint="leave one out")
    if now:
        steps: tuple[Step, ...] = (Step(KILL),)
    else:
        steps = (TERM,) if plan is None else plan.steps if isinstance(plan, Plan) else parse_steps(plan)
    for name, value in (("timeout", timeout_s), ("force-after", force_after_s), ("watch", watch_s)):
        if value is not None and not 0 <= value <= LONGEST_S:
            raise PlanError(
                f"`--{name} {value}` is not a time between 0 and a week", hint="every wait of endtask has a bound"
            )
    _check(steps)
    if force_after_s is not None:
        steps = _with_force(steps, force_after_s)
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
    return Policy(steps, budget_s, scope or Scope(), watch_s, all, missing_ok, force_ok)


def _check(steps: tuple[Step, ...]) -> None:
    """Refuse steps that no text could have meant; a plan may also be built by hand."""
    if not steps:
        raise PlanError("the plan is empty", hint="for example `TERM/10/KILL/5`")
    for step in steps[:-1]:
        if step.wait_s is None:
            raise PlanError(
                f"the plan does not say how long to wait after `{step.request}`", hint=f"for example `{step.request}/5`"
            )
        if step.request.forced:
            raise PlanError("the plan goes on after force", hint="put `KILL` last")
    if any(s.wait_s is not None and not 0 <= s.wait_s <= LONGEST_S for s in steps):
        raise PlanError(
            "the plan has a wait that is not between 0 and a week", hint="every wait of endtask has a bound"
        )


def _with_force(steps: tuple[Step, ...], force_after_s: float) -> tuple[Step, ...]:
    if steps[-1].request.forced:
        raise PlanError("the plan ends by force already", hint="leave `--force-after` out")
    used = sum(s.wait_s or 0.0 for s in steps[:-1])
    wait = force_after_s - used
    if wait <= 0:
        raise PlanError(
            f"`--force-after {force_after_s:g}` comes before the plan's own last step at {used:g} s",
            hint="give it more time or shorten the plan",
        )
    return (*steps[:-1], Step(steps[-1].request, wait), Step(KILL))


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
    return _UNKNOWN_WATCH_S, f"its parent {facts.ppid} {facts.parent_name} might start it again"


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
