"""The public functions: what the verbs of the command do, in three lines of Python.

They never print.
A process that does not stop is an outcome in the report; an exception means that nothing could be tried or known.
"""

from __future__ import annotations

from endtask import _api
from endtask._plan import make_policy
from endtask.errors import TargetError
from endtask.model import SCOPES, Filter, PidRef, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask._plan import Plan
    from endtask.model import Event, Explanation, Looked, Planning, Policy, Report, ScopeKind

    What = str | int | PidRef


def _targets(what: Sequence[What]) -> tuple[str, ...]:
    if not what:  # an empty list of matches must not read like a success
        raise TargetError("nothing was named", hint="give a pid, a name, `:port`, `file:PATH` or `pidfile:PATH`")
    return _words(what)


def _words(what: Sequence[What]) -> tuple[str, ...]:
    return tuple(w if isinstance(w, str) else str(w) for w in what)


def stop(
    *what: What,
    timeout_s: float | None = None,
    plan: str | Plan | None = None,
    force_after_s: float | None = None,
    now: bool = False,
    scope: ScopeKind = "tree",
    keep: Sequence[What] = (),
    watch_s: float | None = None,
    all: bool = False,
    missing_ok: bool = False,
    unattended: bool = False,
    inject: bool = True,
    console_wide: bool = False,
    dependents: bool = False,
    extend_s: float = 0.0,
    reason: str = "",
    filters: Filter | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Ask processes to stop, wait, and prove the end.

    Nothing is forced unless `force_after_s`, `now` or a plan with `kill` says so.

    Args:
        what: Each a pid, a `PidRef`, `pid:token`, a name with wildcards, `:port`, `udp:port`, `file:PATH`, `pidfile:PATH` or, on Windows, `win:TITLE`.
        timeout_s: Seconds for everything; default: what the plan needs, or 10.
        plan: Steps such as `"TERM/10/INT/5"`; default: `ask`, which is TERM, and on Windows whatever each process can hear.
        force_after_s: Seconds after which force is added.
        now: Force at once.
        scope: `tree` (what the process owns), `only`, `group`, `session`, `cgroup`.
        keep: Members of the tree that are left alone.
        watch_s: Seconds to watch for a respawn; default: as the facts call for.
        all: Whether a word may mean several independent programs.
        missing_ok: Whether nothing to stop counts as success in `Report.ok`.
        unattended: Windows: whether nobody sits at the screen, so that an open dialog does not end the asking.
        inject: Windows: whether a thread may be started in another program to ask it.
        console_wide: Windows: whether console events may hit others on the same console.
        dependents: Windows: whether services that depend on a service may be stopped before it.
        extend_s: By so many seconds altogether everything, force included, may be moved when an application asks for more time; 0: the budget is kept.
        reason: Why, told to an application that has a receiver.
        filters: Narrow every word.
        on_event: Told of everything as it happens, in the calling thread.

    Returns:
        The verdict; `report.ok` is true only if everything in scope ended politely and that was shown.

    Raises:
        UsageError: The arguments make no sense, or name what endtask never touches; nothing was sent.
        AmbiguousError: A word means several programs and `all` is false; nothing was sent.
        OsCallError: The system could not be asked, for example without /proc.
    """
    consent = (unattended, inject, console_wide, dependents, extend_s, reason)
    policy = _policy(timeout_s, plan, force_after_s, scope, watch_s, consent, now=now, all=all, missing_ok=missing_ok)
    return _api.stop(_targets(what), filters or Filter(), policy, keep=_words(keep), on_event=on_event)


async def stop_async(
    *what: What,
    timeout_s: float | None = None,
    plan: str | Plan | None = None,
    force_after_s: float | None = None,
    now: bool = False,
    scope: ScopeKind = "tree",
    keep: Sequence[What] = (),
    watch_s: float | None = None,
    all: bool = False,
    missing_ok: bool = False,
    unattended: bool = False,
    inject: bool = True,
    console_wide: bool = False,
    dependents: bool = False,
    extend_s: float = 0.0,
    reason: str = "",
    filters: Filter | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Do what `stop` does without blocking the event loop while it waits; works in asyncio and in trio (and so in anyio), without threads of its own.

    What is read and sent between two waits is not awaited: milliseconds, on Windows longer where a window, a console or a service has to answer.
    Cancelling it stops the asking; what was sent by then stays sent.
    """
    from endtask._async import drive

    consent = (unattended, inject, console_wide, dependents, extend_s, reason)
    policy = _policy(timeout_s, plan, force_after_s, scope, watch_s, consent, now=now, all=all, missing_ok=missing_ok)
    return await drive(_api.Session(_targets(what), filters or Filter(), policy, _words(keep), on_event))


def _scope(kind: ScopeKind) -> Scope:
    if kind not in SCOPES:
        raise TargetError(f"`{kind}` is not a scope", hint=", ".join(SCOPES))
    return Scope(kind)


def _policy(
    timeout_s: float | None,
    plan: str | Plan | None,
    force_after_s: float | None,
    scope: ScopeKind,
    watch_s: float | None,
    consent: tuple[bool, bool, bool, bool, float, str],
    *,
    now: bool,
    all: bool,
    missing_ok: bool,
) -> Policy:
    unattended, inject, console_wide, dependents, extend_s, reason = consent
    return make_policy(
        timeout_s=timeout_s,
        plan=plan,
        force_after_s=force_after_s,
        now=now,
        scope=_scope(scope),
        watch_s=watch_s,
        all=all,
        missing_ok=missing_ok,
        unattended=unattended,
        inject=inject,
        console_wide=console_wide,
        dependents=dependents,
        extend_s=extend_s,
        reason=reason,
    )


def wait(
    *what: What,
    timeout_s: float | None = None,
    scope: ScopeKind = "tree",
    all: bool = False,
    missing_ok: bool = False,
    filters: Filter | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Wait until processes and what they own have ended, and prove it; nothing is sent.

    Arguments, result and errors are those of `stop`.
    """
    policy = make_policy(timeout_s=timeout_s, scope=_scope(scope), all=all, missing_ok=missing_ok)
    return _api.wait(_targets(what), filters or Filter(), policy, on_event=on_event)


async def wait_async(
    *what: What,
    timeout_s: float | None = None,
    scope: ScopeKind = "tree",
    all: bool = False,
    missing_ok: bool = False,
    filters: Filter | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Do what `wait` does without blocking the event loop while it waits."""
    from endtask._async import drive
    from endtask._record import replace

    policy = make_policy(timeout_s=timeout_s, scope=_scope(scope), all=all, missing_ok=missing_ok)
    return await drive(_api.Session(_targets(what), filters or Filter(), replace(policy, steps=()), (), on_event))


def look(*what: What, scope: ScopeKind = "tree", filters: Filter | None = None) -> Looked:
    """Say how processes would answer a request; nothing is sent.

    Raises:
        UsageError: A word makes no sense, or names what endtask never touches.
    """
    return _api.look(_targets(what), filters or Filter(), scope=_scope(scope))


def plan(
    *what: What,
    timeout_s: float | None = None,
    plan: str | Plan | None = None,
    force_after_s: float | None = None,
    now: bool = False,
    scope: ScopeKind = "tree",
    keep: Sequence[What] = (),
    watch_s: float | None = None,
    all: bool = False,
    missing_ok: bool = False,
    unattended: bool = False,
    inject: bool = True,
    console_wide: bool = False,
    dependents: bool = False,
    extend_s: float = 0.0,
    reason: str = "",
    filters: Filter | None = None,
) -> Planning:
    """Say what `stop` with the same arguments would do, to the same processes; nothing is sent."""
    consent = (unattended, inject, console_wide, dependents, extend_s, reason)
    policy = _policy(timeout_s, plan, force_after_s, scope, watch_s, consent, now=now, all=all, missing_ok=missing_ok)
    return _api.plan(_targets(what), filters or Filter(), policy, keep=_words(keep))


def why(*what: What, scope: ScopeKind = "tree", filters: Filter | None = None) -> Explanation:
    """Explain why processes are (still) there; nothing is sent."""
    return _api.why(_targets(what), filters or Filter(), scope=_scope(scope))
