"""Stage 3b, pure: facts of a Windows process -> the requests that it can hear, from the most to the least polite (its ladder).

A signal is generic, a Windows program is not: one hears WM_CLOSE, another a console event, a third its service control.
So the step `ask` of a plan becomes as many steps as the ladder has rungs, and each process in scope is asked by its own.

Rules, each with its reason:

- A rung is sent once. A second WM_CLOSE answers the program's own "Save changes?" as Cancel.
- Of the console events one is sent, the gentlest that the process can hear. Whoever runs on after it has taken it by a handler of its own and may be cleaning up;
  the next event would find no handler there and end it by ExitProcess in the middle of that: force under a polite name.
- A program that listens to the stop event and has no event by which it says that it has heard may be cleaning up after that for as long as it takes,
  and nobody can tell it from a deaf one: no console event follows, for the same reason. One that has `.ack` and has not set it has not heard, and is asked further.
  WM_CLOSE and a service's stop may follow in both cases: their default is the program's own code, that of a console event is ExitProcess.
- While a dialog waits for a person, the end of the session is not announced: programs take it for the leave to drop what the dialog asks about.
- A rung that could hit somebody else (a console-wide event, a service's dependents) is there only with consent.
- A thread is started in another program only for the same user, session, integrity and architecture, never where it has windows, and not with `inject` off.
- WM_QUIT and ExitProcess are on no ladder: the first skips the program's own closing, the second all of it. A plan may name them.

Sources: Microsoft "HandlerRoutine callback function", "Terminating a process", "Guidelines for applications" (Restart Manager), "ControlService";
the order was measured on Wine with programs of every kind (docs: theory of operation).
"""

from __future__ import annotations

from endtask._record import Record, replace
from endtask._requests import (
    ASK,
    CONSOLE_CTRL_BREAK,
    CONSOLE_CTRL_C,
    CTRL_BREAK,
    CTRL_C,
    CTRL_CLOSE,
    CTRL_SHUTDOWN,
    SERVICE_STOP,
    STOP_EVENT,
    WM_CLOSE,
    WM_ENDSESSION,
    with_consent,
)
from endtask.model import Request, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask.model import Facts, Policy, WindowsFacts

_SILENT = "it listens to the stop event and cannot say that it has heard: a console event could end it in the middle of its clean-up"
NOTHING = "it hears nothing that could be sent"
_FIRST_SHARE = 0.5  # of the time of `ask` for its first rung; the others share the rest

# The console events for each runtime, the gentlest first, by what its documentation and source map the event to; the first that is heard is sent.
# CPython raises KeyboardInterrupt on Ctrl+C and dies at once of every other; .NET maps SHUTDOWN to SIGTERM, Go CLOSE and SHUTDOWN;
# Node maps Ctrl+Break to SIGBREAK; Java runs its shutdown hooks on Ctrl+C, and prints a thread dump on Ctrl+Break;
# cmd.exe asks "Terminate batch job (Y/N)?" on Ctrl+C and Ctrl+Break, and leaves on CLOSE.
_EVENTS: dict[str, tuple[Request, ...]] = {
    "cpython": (CTRL_C, CTRL_BREAK),
    "dotnet": (CTRL_SHUTDOWN, CTRL_C),
    "java": (CTRL_C, CTRL_SHUTDOWN),
    "node": (CTRL_C, CTRL_BREAK),
    "go": (CTRL_C, CTRL_SHUTDOWN),
    "cmd": (CTRL_CLOSE,),
    "powershell": (CTRL_CLOSE,),
    "msys": (CTRL_C, CTRL_CLOSE),
}
# Whoever asks one of these ends every program on that console: at once under Wine, where its window belongs to it, after their handlers on Windows.
_CONSOLE_HOSTS = frozenset(("conhost.exe", "openconsole.exe"))
_ANY = (CTRL_C, CTRL_BREAK)


class Ladder(Record):
    """What one process can be asked with.

    Attributes:
        rungs: The requests, most polite first.
        left_out: Pairs of a request's name and why it is not on the ladder, for the words of `look` and `why`.
    """

    rungs: tuple[Request, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def why_none(self) -> str:
        """Why the process cannot be asked at all, in words; empty if it can."""
        if self.rungs:
            return ""
        reasons = dict.fromkeys(because for _name, because in self.left_out)
        return "; ".join(r for r in reasons if not any(o != r and o.startswith(r) for o in reasons)) or NOTHING


def ladder(facts: Facts, policy: Policy, members: Iterable[int] = ()) -> Ladder:
    """Return the ladder of a Windows process.

    Args:
        facts: The process.
        policy: What may be done.
        members: Pids of the tree that it belongs to: whom a console-wide event may hit without consent.
    """
    windows = facts.windows
    if windows is None:
        return Ladder(())
    if facts.name.lower() in _CONSOLE_HOSTS:
        return Ladder((), ((ASK.name, "it is the console of other programs, and ends with them"),))
    rungs: list[Request] = [STOP_EVENT] if windows.receiver else []
    left_out: list[tuple[str, str]] = []
    if windows.kind == "service":
        rungs.append(SERVICE_STOP)  # and nothing else: its manager takes any other end for a crash
    elif windows.kind in ("gui", "packaged"):
        _window_rungs(windows, policy, rungs, left_out)
    elif windows.kind in ("console", "gui-windowless") and listens_silently(windows):
        left_out += [(event.name, _SILENT) for event in _EVENTS.get(windows.runtime, _ANY)]
    elif windows.kind in ("console", "gui-windowless"):
        _console_rungs(windows, policy, (facts.ref.pid, *members), rungs, left_out)
    agreed = (with_consent(r, unattended=policy.unattended, dependents=policy.dependents) for r in rungs)
    return Ladder(tuple(agreed), tuple(left_out))


def _window_rungs(windows: WindowsFacts, policy: Policy, rungs: list[Request], left_out: list[tuple[str, str]]) -> None:
    if policy.unattended:
        rungs += (WM_ENDSESSION, WM_CLOSE)
        return
    rungs.append(WM_CLOSE)
    if any(w.role == "dialog" for w in windows.windows):
        left_out.append((WM_ENDSESSION.name, "a dialog waits for a person; `--unattended` says that there is none"))
    else:
        rungs.append(WM_ENDSESSION)


def _console_rungs(
    windows: WindowsFacts,
    policy: Policy,
    members: Iterable[int],
    rungs: list[Request],
    left_out: list[tuple[str, str]],
) -> None:
    """Find the one console event for a process: by a thread in it, or where that is not possible for everybody on its console."""
    why_not = no_inject(windows, policy)
    events = _EVENTS.get(windows.runtime, _ANY)
    chosen = ""
    for event in events:
        because = why_not or deaf_to(windows, event) or _after(chosen)
        if because:
            left_out.append((event.name, because))
        else:
            rungs.append(event)
            chosen = event.name
    if chosen or windows.console == "none" or not why_not:
        return
    others = console_strangers(windows, members)
    for event in (CONSOLE_CTRL_C, CONSOLE_CTRL_BREAK):
        because = deaf_to(windows, event)
        if not because and windows.console == "this":
            because = "it is on our own console: the event would hit endtask too"
        if not because and not windows.console_pids:
            because = "who else is on its console could not be seen"
        if not because and others and not policy.console_wide:
            who = ", ".join(map(str, others[:4])) + (" and more" if len(others) > 4 else "")
            because = f"it would hit {who} on the same console too; `--console-wide` allows that"
        because = because or _after(chosen)
        if because:
            left_out.append((event.name, because))
        else:
            rungs.append(event)
            chosen = event.name


def listens_silently(windows: WindowsFacts) -> bool:
    """Return whether a process listens to the stop event and cannot say that it has heard it."""
    return bool(windows.receiver and not windows.acknowledges)


def needs_company(facts: Facts, policy: Policy) -> bool:
    """Return whether it matters for the ladder of a process who else is on its console: only where no thread may be started in it."""
    windows = facts.windows
    if windows is None or windows.console != "another" or windows.kind not in ("console", "gui-windowless"):
        return False
    if listens_silently(windows):
        return False
    return bool(no_inject(windows, policy))


def _after(chosen: str) -> str:
    """Return why no console event follows the *chosen* one, empty if there is none yet."""
    return f"it hears {chosen}, and a second event could end it in the middle of its clean-up" if chosen else ""


def deaf_to(windows: WindowsFacts, event: Request) -> str:
    """Return why a process does not hear a console event, empty if it may hear it."""
    if not windows.ignores_ctrl_c:
        return ""
    if event.number == 0:
        return "it ignores Ctrl+C"
    # Wine looks at that flag before every event, Windows only before Ctrl+C (Wine: dlls/kernelbase/console.c).
    return "it ignores Ctrl+C, and Wine takes that for every console event" if windows.wine else ""


def console_strangers(windows: WindowsFacts, members: Iterable[int]) -> tuple[int, ...]:
    """Return who is on the console of a process beside *members*."""
    own = set(members)
    return tuple(p for p in windows.console_pids if p not in own)


def no_inject(windows: WindowsFacts, policy: Policy, *, forced: bool = False) -> str:
    """Return why no thread of ours may be started in the process, empty if one may; one that forces it may be started where it has windows, too."""
    if not policy.inject:
        return "`--no-inject` rules out threads in other programs"
    if windows.same_machine is False:
        return f"it is a {windows.machine or 'foreign'} program, and a thread of ours could not run in it"
    if windows.same_user is False:
        return "it runs as another user"
    if not windows.same_session:
        return f"it is in another session ({windows.session})"
    if windows.above_us:
        return f"its integrity is higher than ours ({windows.integrity})"
    if windows.protected:
        return "it is a protected process"
    if windows.kind == "gui" and not forced:
        return "it has windows: it is asked by them"
    return ""


def expand(policy: Policy, rungs: int) -> Policy:
    """Return *policy* with each step `ask` turned into one step for each rung of the longest ladder in scope.

    The first rung gets half of the time, because it is the one that the program was made for; the others share the rest.
    """
    if not any(s.request.kind == "ask" for s in policy.steps):
        return policy
    fixed = sum(s.wait_s or 0.0 for s in policy.steps)
    steps: list[Step] = []
    for step in policy.steps:
        if step.request.kind != "ask":
            steps.append(step)
            continue
        last = step.wait_s is None
        time_s = max(0.0, policy.budget_s - fixed) if step.wait_s is None else step.wait_s
        shares = _shares(max(1, rungs))
        for number, share in enumerate(shares):
            ends = last and number == len(shares) - 1
            steps.append(Step(replace(step.request, number=number), None if ends else time_s * share))
    return replace(policy, steps=tuple(steps))


def _shares(count: int) -> list[float]:
    if count == 1:
        return [1.0]
    return [_FIRST_SHARE] + [(1 - _FIRST_SHARE) / (count - 1)] * (count - 1)
