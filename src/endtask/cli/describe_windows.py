"""Words for what only Windows knows of a process: what kind it is, its windows, its console, its services, its rights."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import Facts, Service, Window, WindowsFacts

_MANY = 6
_KINDS = {
    "gui": "program with windows",
    "gui-windowless": "Windows program without windows",
    "console": "console program",
    "service": "service",
    "packaged": "packaged app",
    "system": "part of Windows",
    "unknown": "kind unknown",
}
_CONSOLES = {
    "this": "on our console",
    "another": "on a console that is not ours",
    "none": "no console",
    "unknown": "console unknown",
}
_RUNTIMES = {
    "cpython": "CPython",
    "dotnet": ".NET",
    "java": "Java",
    "node": "Node",
    "go": "Go",
    "cmd": "cmd.exe",
    "powershell": "PowerShell",
    "msys": "MSYS or Cygwin",
}


def windows_lines(facts: Facts, *, verbose: bool = False) -> list[tuple[str, str]]:
    """Return pairs of label and text; of Windows processes only."""
    windows = facts.windows
    assert windows is not None, "a Windows process"
    lines = [("kind", _kind(facts.ref.pid, windows)), *_windows(windows, verbose=verbose)]
    lines += [("service", _service(s)) for s in windows.services]
    rights = _rights(windows)
    if rights:
        lines.append(("rights", rights))
    if facts.receiver is not None:
        from endtask._said import receiver_in_words

        lines.append(("receiver", receiver_in_words(facts.receiver)))
    elif windows.receiver:
        lines.append(("receiver", "yes: it listens to endtask's stop event"))
    return lines


def _kind(pid: int, windows: WindowsFacts) -> str:
    parts = [_KINDS[windows.kind]]
    if windows.runtime:
        parts.append(_RUNTIMES.get(windows.runtime, windows.runtime))
    if windows.machine and windows.same_machine is False:
        parts.append(f"{windows.machine}, not our architecture")
    parts.append(_console(pid, windows))
    if windows.ignores_ctrl_c:
        parts.append("ignores Ctrl+C")
    if windows.in_job:
        parts.append("in a job")
    return ", ".join(parts)


def _console(pid: int, windows: WindowsFacts) -> str:
    text = _CONSOLES.get(windows.console, windows.console)
    others = [str(other) for other in windows.console_pids if other != pid]
    return f"{text} with {', '.join(others)}" if others else text


def _windows(windows: WindowsFacts, *, verbose: bool) -> list[tuple[str, str]]:
    shown = [w for w in windows.windows if verbose or w.role not in ("helper", "message-only")]
    cut = shown if verbose else shown[:_MANY]
    lines = [("window", _window(w)) for w in cut]
    if len(shown) > len(cut):
        lines.append(("", f"and {len(shown) - len(cut)} more windows (-v shows them)"))
    return lines


def _window(window: Window) -> str:
    text = f'{window.role} "{window.title}"'
    states = [s for s, on in (("hidden", not window.visible), ("disabled", not window.enabled)) if on]
    if states and window.role not in ("hidden", "message-only", "helper"):
        text += f", {', '.join(states)}"
    if window.texts:
        text += ": " + " ".join(window.texts)
    if window.buttons:
        text += " " + " ".join(f"[{b.replace('&', '')}]" for b in window.buttons)
    return f"{text} ({window.class_name})"


def _service(service: Service) -> str:
    text = f"{service.name}, {service.state}"
    text += ", accepts stop" if service.accepts_stop else ", accepts no stop now"
    if service.dependents:
        text += f"; {', '.join(service.dependents)} depend on it"
    if service.recovery:
        text += f"; if it dies: {service.recovery}"
    return text


def _rights(windows: WindowsFacts) -> str:
    parts = []
    if windows.same_user is False:
        parts.append("another user")
    if not windows.same_session:
        parts.append(f"session {windows.session}")
    if windows.above_us:
        parts.append(f"higher integrity ({windows.integrity})")
    if windows.protected:
        parts.append("protected")
    if windows.critical:
        parts.append("critical: Windows stops with it")
    return ", ".join(parts)
