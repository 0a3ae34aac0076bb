"""Stage 2 for Windows programs under Wine on Linux, pure: what a signal means to them, and how to ask them properly.

Decision: a signal is what reaches the Linux process; what the Windows program in it is told is Wine's doing, and it is told of one signal only.
Measured on Wine 8.0 with programs of both subsystems: TERM and HUP have no handler, so the kernel ends the process, and no window and no
console handler is asked; INT becomes CTRL_C_EVENT where the program has a console, and is dropped where it has none or ignores Ctrl+C;
QUIT ends the thread that takes it. (Wine: dlls/ntdll/unix/signal_x86_64.c, int_handler and quit_handler; dlls/kernelbase/console.c, CtrlRoutine.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import Answer, Facts, Manager, WineFacts

_INT, _QUIT = 2, 3
_LAUNCHER = "start.exe"  # what `wine NAME` becomes if NAME is no path; it waits for the program (programs/start)
_WAIT_S = 10  # in a plan: about as long as a person needs to answer "Save changes?"
_LOST = "unsaved work is lost"
_DEFAULT = f"the program's own console handler; without one Windows ends it, and {_LOST}"


def translate(facts: Facts, number: int, found: tuple[Answer, bool, str]) -> tuple[Answer, bool, str]:
    """Return what a signal does to a Windows program, given what the signal masks say of Wine's process."""
    word, certain, _because = found
    wine = facts.wine
    assert wine is not None, "only Windows programs are translated"
    if word in ("ends", "ends-core"):
        return (
            word,
            certain,
            f"default action: Wine tells the program nothing, no window and no handler is asked, {_LOST}",
        )
    if word == "handler" and number == _INT:
        return _ctrl_c(wine)
    if word == "handler" and number == _QUIT:
        if facts.threads == 1:
            return "ends", True, f"Wine's handler ends its only thread, and the program is told nothing: {_LOST}"
        return "unknown", False, "Wine's handler ends the thread that takes it, and the others run on without that"
    return found


def _ctrl_c(wine: WineFacts) -> tuple[Answer, bool, str]:
    if wine.console is None:
        because = (
            "Wine makes it Ctrl+C for a program with a console and drops it for others; which it is could not be read"
        )
        return "handler", False, because
    if not wine.console:
        return "ignored", True, "Wine makes INT Ctrl+C for programs with a console, and this one has none"
    if wine.ignores_ctrl_c:
        return "ignored", True, "Wine makes INT Ctrl+C (CTRL_C_EVENT), which this program ignores"
    return "asks", True, f"Wine makes INT Ctrl+C (CTRL_C_EVENT): {_DEFAULT}"


def notes(wine: WineFacts) -> list[str]:
    """Return what should be known of any program under Wine."""
    which = f" {wine.image}" if wine.image else ""
    number = f", there with the pid {wine.pid}" if wine.pid else ""
    return [f"it is the Windows program{which} under Wine{number}; what it has started is not seen as its child"]


def ask_properly(facts: Facts) -> list[str]:
    """Return how to ask a Windows program so that it can save and refuse, in sentences."""
    wine = facts.wine
    if wine is None or facts.exited:
        return []
    lost = f"TERM, the default, ends it without asking: {_LOST}"
    ctrl_c = f"`endtask stop {facts.ref} --plan INT/{_WAIT_S}`"
    windows = _by_windows(facts)
    if wine.subsystem == "console":
        if wine.ignores_ctrl_c:
            return [f"{lost}; it ignores Ctrl+C, so stop it by its own means"]
        return [f"{lost}; ask it with Ctrl+C: {ctrl_c}"]
    if not windows:
        return [f"{lost}; ask its windows from within its prefix: `wine taskkill /im {facts.name}`"]
    found = [f"{lost}; ask its windows: {windows}"]
    if not wine.pid:
        found.append(f"that asks every {facts.name} of the prefix, because the Windows pid of this one is unknown")
    if not wine.subsystem:
        found.append(f"if it is a console program, which has no windows: {ctrl_c}")
    return found


def _by_windows(facts: Facts) -> str:
    """Return the command line that asks its windows and waits for the end, empty where Wine's command is not known."""
    manager = _manager(facts)
    if manager is None or not manager.stop:
        return ""
    # The plan takes its command in one kind of quotes, the shell takes the plan in the other.
    inner, outer = ("'", '"') if "'" not in manager.stop else ('"', "'")
    plan = f"cmd:{inner}{manager.stop}{inner}/{_WAIT_S}"
    if inner == '"':
        return "" if '"' in manager.stop else f"`endtask stop {facts.ref} --plan {_shell_quoted(plan)}`"
    if any(c in manager.stop for c in '$`"\\!'):
        return f"`endtask stop {facts.ref} --plan {_shell_quoted(plan)}`"
    return f"`endtask stop {facts.ref} --plan {outer}{plan}{outer}`"


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _manager(facts: Facts) -> Manager | None:
    return next((m for m in facts.managers if m.kind == "wine"), None)


def loss(facts: Facts, request: str, answer: str) -> str:
    """Return what should be known before *request* is sent: that it ends a Windows program unasked; empty for all others."""
    if answer not in ("ends", "ends-core") or request == "KILL" or facts.name == _LAUNCHER:
        return ""  # who asks for KILL has been told, and a launcher has nothing to lose
    who = f"{facts.ref.pid} {facts.name}"
    return f"{request} ends {who} without asking it: {_LOST}; `endtask look {facts.ref.pid}` says how to ask"
