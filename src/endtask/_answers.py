"""Stage 2 for Windows, pure: facts -> what a request would do to this process, and what should be known before asking.

Decision: whether a program has a console handler of its own cannot be seen from outside, so a console event is `asks`, never "ends it".
Sources: Microsoft "HandlerRoutine callback function" (events, time limits), "SetConsoleCtrlHandler" (inherited ignore of Ctrl+C), "Service control requests".
"""

from __future__ import annotations

from endtask._ladder import console_strangers, deaf_to, ladder, no_inject
from endtask.model import Forecast, Prediction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.model import Facts, Policy, Request, Service, WindowsFacts

_DEFAULT = "its own handler if it has one; without one the system's handler ends it by ExitProcess, so that no code of its own runs"
_EVENTS = {
    ("cpython", 0): "CPython raises KeyboardInterrupt in the main thread, so that `finally` and `atexit` run",
    ("cpython", 1): "CPython without a SIGBREAK handler dies at once: nothing of its own runs",
    ("cpython", 2): "CPython without a handler of its own dies at once",
    ("cpython", 6): "CPython without a handler of its own dies at once",
    ("java", 0): "a Java program runs its shutdown hooks",
    ("java", 1): "a Java program prints a thread dump and runs on",
    ("dotnet", 6): ".NET takes it for SIGTERM",
    ("dotnet", 0): ".NET takes it for SIGINT",
    ("node", 0): "Node takes it for SIGINT",
    ("node", 2): "Node takes it for SIGHUP",
    ("go", 0): "Go takes it for os.Interrupt",
    ("go", 6): "Go takes it for SIGTERM",
    ("cmd", 0): 'a batch file asks "Terminate batch job (Y/N)?"',
    ("cmd", 2): "cmd.exe leaves; what it runs is not told",
}


def predict_windows(facts: Facts, request: Request) -> Prediction:
    """Return what *request* would do to the Windows process of *facts*."""
    windows = facts.windows
    assert windows is not None, "only Windows has these requests"
    name, kind = request.name, request.kind
    if facts.exited:
        return Prediction(name, "no-effect", because="it has exited")
    if windows.critical and request.forced:
        return Prediction(name, "refused-here", because="Windows stops when this process ends")
    if kind == "terminate":
        return _terminate(windows, name)
    if kind == "event":
        return _event(windows, name)
    if kind == "window":
        return _window(windows, request)
    if kind == "service":
        return _service(windows, name)
    if kind == "inject":
        because = no_inject(windows, _ALLOWED, forced=request.forced)
        return Prediction(name, "refused-here", because=because) if because else _console_event(facts, windows, request)
    if kind == "console":
        return _console_wide(facts, windows, request)
    return Prediction(name, "unknown", certain=False, because="what that does to it cannot be seen from outside")


def _policy() -> Policy:
    from endtask.model import Policy as _Policy
    from endtask.model import Scope

    return _Policy((), 0.0, Scope())


_ALLOWED = _policy()


def _terminate(windows: WindowsFacts, name: str) -> Prediction:
    if windows.protected:
        return Prediction(name, "denied", because="it is a protected process")
    if windows.same_user is False:
        return Prediction(name, "ends", certain=False, because="it runs as another user: that needs the right to debug")
    return Prediction(name, "ends", because="TerminateProcess cannot be caught: nothing of its own runs")


def _event(windows: WindowsFacts, name: str) -> Prediction:
    if windows.receiver:
        return Prediction(name, "asks", because="it listens to endtask's stop event")
    if windows.receiver is None:
        return Prediction(name, "unknown", certain=False, because="whether it listens could not be asked")
    return Prediction(name, "no-listener", because="it has no stop event")


def _window(windows: WindowsFacts, request: Request) -> Prediction:
    name = request.name
    targets = [w for w in windows.windows if w.role in ("main", "hidden", "owned", "tool", "dialog")]
    if not targets:
        return Prediction(name, "no-listener", because="it has no windows")
    if windows.above_us:
        return Prediction(name, "denied", because="messages do not go up to a higher integrity")
    if not windows.same_session:
        return Prediction(name, "no-listener", because=f"its windows are in session {windows.session}, ours are not")
    boxes = [w for w in targets if w.role == "dialog"]
    if boxes:
        if name == "WM_QUIT":
            return Prediction(name, "refused-here", because="a dialog is open, and WM_QUIT would answer it")
        faces = [w for w in targets if w.role == "main"]
        if name == "WM_CLOSE" and not request.text and faces and not any(w.enabled for w in faces):
            because = f'the dialog "{boxes[0].title}" waits for a person, and WM_CLOSE would answer it'
            return Prediction(name, "refused-here", because=because)
        return Prediction(name, "asks", certain=False, because="a dialog is open, which may keep it from closing")
    if windows.suspended:
        return Prediction(name, "after-continue", because="all of its threads are suspended")
    if windows.hung:
        return Prediction(name, "asks", certain=False, because="its window does not answer at the moment")
    mains = sum(w.role == "main" for w in targets)
    count = f"{mains} visible" if mains else f"{len(targets)} hidden"
    return Prediction(
        name, "asks", because=f"by {count} window{'' if max(mains, 1) == 1 else 's'}; it may close, refuse or ask"
    )


def _service(windows: WindowsFacts, name: str) -> Prediction:
    if not windows.services:
        return Prediction(name, "no-listener", because="it is no service")
    dependents = [d for s in windows.services for d in s.dependents]
    if dependents:
        return Prediction(name, "refused-here", because=f"services depend on it: {', '.join(dependents)}")
    deaf = [s.name for s in windows.services if not s.accepts_stop]
    if deaf:
        return Prediction(name, "ignored", because=f"{', '.join(deaf)} accepts no stop now")
    return Prediction(
        name, "asks", because=f"the service control handler of {', '.join(s.name for s in windows.services)}"
    )


def _console_event(facts: Facts, windows: WindowsFacts, request: Request) -> Prediction:
    because = deaf_to(windows, request)
    if because:
        return Prediction(request.name, "ignored", because=because)
    if windows.suspended and any(field == "windows.runtime" for field, _why in facts.unknown):
        because = (
            "all of its threads are suspended, and its modules cannot be read: it may not have been started up yet"
        )
        return Prediction(request.name, "unknown", certain=False, because=because)
    if request.forced:
        return Prediction(
            request.name, "ends", because="ExitProcess runs in it: detach routines of its DLLs run, nothing else"
        )
    if facts.receiver is not None and facts.receiver.state != "unusable":
        # Which of them it was told to leave alone (`listen(signals=...)`), it does not say.
        return Prediction(
            request.name, "asks", certain=False, because="its receiver hears it, unless it was told not to"
        )
    known = _EVENTS.get((windows.runtime, request.number))
    if windows.receiver and known is not None and "without" in known:
        known = f"it listens to endtask's stop event, so it may have a handler for this too; {known}"
    certain = known is not None and "without" not in known  # whether it has such a handler cannot be seen
    return Prediction(request.name, "asks", certain, known or _DEFAULT)


def _console_wide(facts: Facts, windows: WindowsFacts, request: Request) -> Prediction:
    if windows.console == "none":
        return Prediction(request.name, "no-listener", because="it has no console")
    if windows.console == "this":
        return Prediction(request.name, "refused-here", because="it is on our own console: the event would hit us too")
    others = console_strangers(windows, (facts.ref.pid,))
    if others:
        who = ", ".join(map(str, others))
        return Prediction(request.name, "asks", False, f"everybody on its console hears it, also {who}")
    return _console_event(facts, windows, request)


# --------------------------------------------------------------------------- the forecast as a whole


def forecast_windows(facts: Facts, requests: Sequence[Request], policy: Policy, members: Sequence[int]) -> Forecast:
    """Return how a Windows process would answer, with what `ask` means for it."""
    windows = facts.windows
    assert windows is not None, "only Windows processes have such facts"
    predictions = [predict_windows(facts, r) for r in requests]
    # A program with windows is asked by them: that no thread is started in it is a rule of ours and no news of it.
    hidden = ("no-listener", "refused-here") if windows.kind in ("gui", "packaged", "service") else ("no-listener",)
    relevant = tuple(p for p in predictions if p.answer not in hidden)
    steps = ladder(facts, policy, members)
    advice = list(_advice(facts, windows, steps.why_none))
    for manager in facts.managers:
        if manager.stop and manager.restarts != "no" and windows.kind != "service":  # a service is stopped by just that
            advice.append(f"{manager.kind} {manager.name} may start it again: stop it for good with `{manager.stop}`")
    return Forecast(relevant, tuple(_notes(windows)), tuple(advice), None, 0)


def _notes(windows: WindowsFacts) -> list[str]:
    notes = []
    for window in windows.windows:
        if window.role == "dialog":
            said = " ".join((window.title, *window.texts)).strip()
            notes.append(f'it shows the dialog "{said}", which waits for a person')
    if windows.hung:
        notes.append("its main window does not answer")
    if windows.suspended:
        notes.append("all of its threads are suspended")
    if windows.critical:
        notes.append("Windows stops when it ends (critical process)")
    if windows.protected:
        notes.append("it is a protected process")
    if windows.above_us:
        notes.append(f"its integrity is higher than ours ({windows.integrity})")
    if not windows.same_session:
        notes.append(f"it is in another session ({windows.session})")
    notes += [_recovery(s) for s in windows.services if s.recovery]
    return list(dict.fromkeys(notes))


def _recovery(service: Service) -> str:
    return f"if service {service.name} dies without a stop: {service.recovery}"


def _advice(facts: Facts, windows: WindowsFacts, why_none: str) -> list[str]:
    advice = []
    if why_none and not facts.exited:
        by_force = f"`endtask stop {facts.ref.pid} --now` ends it (unsaved work is lost)"
        advice.append(f"it is not asked: {why_none}; {by_force}")
    for service in windows.services:
        if service.dependents:
            advice.append(
                f"{', '.join(service.dependents)} depend on service {service.name}: `--dependents` stops them first"
            )
    if windows.runtime == "cmd":
        advice.append("cmd.exe does not hand a request on: ask the program that it runs")
    return advice
