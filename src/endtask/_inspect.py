"""Stage 2, pure: facts -> forecast, what would this process do if it were asked.

The rules follow the kernel's own order of decision (signal(7), pid_namespaces(7), cgroups(7)); on random dispositions they were right in 600 of 600 cases
as long as the threads that wait for a signal could be looked into.
Decision: a fact that could not be read gives `unknown` or an uncertain answer, never the likely one.
"""

from __future__ import annotations

from endtask._words import called, is_shell, runs_script
from endtask.model import Facts, Forecast, Prediction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.model import Answer, Request, SignalSets

_CORE = frozenset((3, 4, 5, 6, 7, 8, 11, 24, 25, 31))  # default action: core, signal(7)
_NOTHING = frozenset((17, 23, 28))  # CHLD, URG, WINCH
_SUSPEND = frozenset((20, 21, 22))  # TSTP, TTIN, TTOU
_CONT, _KILL, _STOP, _TERM = 18, 9, 19, 15
_OTHERS = ((2, "INT"),)  # HUP means reload to many programs, QUIT a dump
THAW = "thaw its cgroup first"


def catches(signals: SignalSets | None, number: int) -> bool:
    """Return whether the program itself takes the signal; unreadable counts as yes, because that is the gentler guess."""
    if signals is None:
        return True
    bit = 1 << (number - 1)
    return bool((signals.caught | signals.waited) & bit)


def predict(facts: Facts, request: Request) -> Prediction:
    """Return what *request* would do to the process of *facts*."""
    name = request.name
    if request.kind == "channel":
        return _predict_channel(facts, name)
    if facts.windows is not None:
        from endtask._answers import predict_windows  # another system's rules, of no use to most runs

        return predict_windows(facts, request)
    if facts.exited or facts.kernel:
        return Prediction(name, "no-effect", because="it has exited" if facts.exited else "it is a kernel thread")
    if request.kind == "stdin":
        return Prediction(
            name, "unknown", certain=False, because="what it makes of its standard input is its own affair"
        )
    if request.kind == "command":
        return Prediction(name, "unknown", certain=False, because="a command asks it")
    number = request.number
    if number == _KILL:
        return _predict_kill(facts, name)
    if number == _CONT:
        return Prediction(name, "continues", because="CONT takes effect whatever the dispositions are")
    word, certain, because = disposition(facts, number)
    if facts.receiver is not None and word in ("handler", "waits-for-it"):
        because += ", and it has a receiver that says what becomes of it"
    if facts.core_dumping:
        return Prediction(name, "no-effect", because="it is writing a core dump, and ends when that is done")
    held = _held(facts)
    if held is None or word in ("ignored", "immune"):
        return Prediction(name, word, certain, because)
    holds, why, fatal_goes_through = held
    if fatal_goes_through and word == "ends":
        return Prediction(name, word, certain, because)  # version 2 freezer: a fatal default signal becomes a kill
    if holds == "after-kernel" and word == "ends":
        certain = False  # a killable wait (vfork(2), network file systems) lets a fatal default signal through at once
    return Prediction(name, holds, certain, f"{why}; then: {because}")


def _predict_channel(facts: Facts, name: str) -> Prediction:
    receiver = facts.receiver
    if facts.exited:
        return Prediction(name, "no-effect", because="it has exited")
    if receiver is None:
        return Prediction(name, "no-listener", because="it has no receiver")
    if receiver.state in ("refused", "unusable"):
        because = f"its receiver cannot be used: {receiver.detail}"
        return Prediction(name, "denied" if receiver.state == "refused" else "no-listener", because=because)
    return Prediction(name, "asks", because="its receiver hears it")


def _predict_kill(facts: Facts, name: str) -> Prediction:
    if facts.frozen == "v1":
        return Prediction(
            name, "after-thaw", because="its version 1 freezer cgroup is frozen, which holds back even KILL"
        )
    if facts.state == "D":
        where = f" in {facts.wait_channel}" if facts.wait_channel else ""
        return Prediction(
            name,
            "after-kernel",
            False,
            f"uninterruptible{where}: KILL works when the kernel call returns, unless it is a killable one",
        )
    return Prediction(name, "ends", because="KILL cannot be caught")


def _held(facts: Facts) -> tuple[Answer, str, bool] | None:
    """Return what holds a signal back before the process can act on it: the word, why, and whether a fatal one goes through."""
    if facts.state == "T":
        return "after-continue", "it is stopped (state T)", False
    if facts.state == "t":
        return "after-trace", f"its tracer {facts.tracer} holds it", False
    if facts.frozen == "v1":
        return "after-thaw", "its version 1 freezer cgroup is frozen", False
    if facts.frozen == "v2":
        return "after-thaw", "its cgroup is frozen", True
    if facts.state == "D":
        where = f" in {facts.wait_channel}" if facts.wait_channel else ""
        return "after-kernel", f"it is in an uninterruptible kernel call{where}", False
    return None


def disposition(facts: Facts, number: int) -> tuple[Answer, bool, str]:
    """Return what the signal masks alone say: the word, whether it is certain, and why."""
    found = _by_masks(facts, number)
    if facts.wine is not None:
        from endtask._wine import translate  # a program's handlers are Wine's, of no use to most runs

        return translate(facts, number, found)
    return found


def _by_masks(facts: Facts, number: int) -> tuple[Answer, bool, str]:
    signals = facts.signals
    if signals is None:
        return "unknown", False, "its signal masks could not be read"
    bit = 1 << (number - 1)
    if signals.waited & bit:
        return "waits-for-it", True, "a thread or a signalfd waits for it"
    if signals.blocked & signals.caught & bit:
        return "blocked", False, "it has a handler and blocks the signal at the moment, perhaps until it waits again"
    if signals.blocked & bit:
        if not signals.waited_known:
            return "blocked", False, "blocked in every thread; whether one waits for it could not be read"
        return "blocked", True, "blocked in every thread"
    known = (
        signals.waited_known
    )  # a signal that is ignored, default or dropped is still taken by a thread that waits for it
    if signals.ignored & bit:
        return "ignored", known, "ignored"
    if signals.caught & bit:
        return "handler", True, "own handler"
    if facts.namespace_init:
        return (
            "immune",
            known,
            "first process of its pid namespace and no handler: the kernel throws it away; only KILL from outside works",
        )
    if number in _NOTHING:
        return "nothing", known, "default action: nothing"
    if number in _SUSPEND or number == _STOP:
        return "stops", known, "default action: suspend"
    if number in _CORE:
        return "ends-core", known, "default action: ends it with a core dump"
    if not known:
        return "ends", False, "default action, unless a thread waits for it, which could not be read"
    return "ends", True, "default action: ends it"


# Launchers: whether they pass TERM on to what they started. From their manuals and sources; None: depends.
_WRAPPERS: dict[str, tuple[bool | None, str]] = {
    "npm": (
        None,
        "npm runs a shell that runs the program; newer versions hand the signal to that shell, which may not pass it on",
    ),
    "npx": (None, "npx runs a shell that runs the program"),
    "yarn": (None, "yarn runs a shell that runs the program"),
    "pnpm": (None, "pnpm runs a shell that runs the program"),
    "sudo": (True, "sudo passes TERM on, unless it comes from the command's own process group"),
    "su": (True, "su passes TERM on to its shell only"),
    "runuser": (True, "runuser passes TERM on to its shell only"),
    "timeout": (True, "timeout passes TERM on to its command"),
    "tini": (True, "tini passes TERM on to its child"),
    "dumb-init": (True, "dumb-init passes TERM on to its child's session"),
    "xvfb-run": (False, "xvfb-run is a shell script that waits"),
    "make": (None, "make passes TERM on to its running jobs"),
    "strace": (None, "strace detaches, and what it traced runs on"),
    "script": (None, "script ends its shell with it"),
    "watch": (False, "watch only repeats a command"),
    "unshare": (None, "unshare --fork does not pass TERM on, unless it was told --kill-child"),
    "docker": (True, "the docker client hands TERM to the container by default (--sig-proxy)"),
    "uv": (True, "uv run hands TERM to the program"),
    "poetry": (None, "poetry run replaces itself on Unix"),
    "conda": (False, "conda run waits for a script that runs the program"),
    "start.exe": (False, "Wine's start.exe only waits for the program"),
}


_TELLS_ONE = frozenset(("npm", "npx", "yarn", "pnpm", "sudo", "su", "runuser", "tini", "uv"))  # only what they started


def passes_on(facts: Facts, number: int = 15) -> tuple[bool | None, str]:
    """Return whether a request to this process would reach its children, and why; None: nobody can tell from outside."""
    signals = facts.signals
    caught = signals is None or catches(signals, number)
    if is_shell(facts.name, facts.cmdline):
        if runs_script(facts.name, facts.cmdline):
            if signals is not None and caught:
                return False, "a shell runs its trap only after the running command has ended, and passes nothing on"
            return False, f"{facts.name} does not pass a signal on to what it runs"
        return None, "an interactive shell"
    known = _wrapper(facts)
    if known:
        return _WRAPPERS[known]
    if not caught:
        return False, "it has no handler, so it ends (or ignores) without telling its children"
    return None, "it has a handler; what that tells its children cannot be seen from outside"


def _wrapper(facts: Facts) -> str:
    """Return which known wrapper it is, empty if it is none."""
    if facts.name in _WRAPPERS or not facts.cmdline:
        return facts.name if facts.name in _WRAPPERS else ""
    words = [a.rsplit("/", 1)[-1].removesuffix(".js").removesuffix("-cli") for a in facts.cmdline[:2]]
    if facts.name.startswith(("npm ", "npm-")):
        words.append("npm")  # it writes its own title
    return next((w for w in words if w in _WRAPPERS), "")


def forecast(facts: Facts, requests: Sequence[Request], children: Sequence[Facts] = ()) -> Forecast:
    """Return how the process of *facts* would answer each of *requests*.

    Args:
        facts: The process.
        requests: What might be sent.
        children: Facts of what it owns, the direct children first.
    """
    predictions = tuple(predict(facts, r) for r in requests)
    passing, because = passes_on(facts) if children else (None, "")
    ask = 0
    advice: list[str] = []
    real = _behind(children) if children and passing is False and _is_launcher(facts) else None
    if real is not None:
        deaf = unhearing(real, _TERM)
        if is_shell(facts.name, facts.cmdline) and facts.signals is not None and catches(facts.signals, 15):
            both = "" if deaf else f": `endtask stop {facts.ref.pid}` asks that one too"
            advice.append(f"its trap may run only when the running command {real.ref.pid} {real.name} has ended{both}")
        elif not deaf:
            ask = real.ref.pid
            advice.append(f"ask {ask} {real.name} itself: {because}")
        if deaf:
            advice.append(f"{real.ref.pid} {real.name} {deaf} TERM: {another_way(real)}")
    lost = _behind_a_shell(facts, children) if passing is not False else None
    if lost is not None:
        shell, program = lost
        ask = program.ref.pid
        reaches = (
            f"what {_wrapper(facts)} hands on reaches {shell.ref.pid} {shell.name} at most, which does not pass it on"
        )
        advice.append(f"ask {ask} {program.name} itself: {reaches}")
    advice += _state_advice(facts)
    if facts.wine is not None and real is None:
        from endtask._wine import ask_properly

        advice += ask_properly(facts)
    for manager in facts.managers:
        if manager.stop and manager.restarts != "no":
            again = "starts it again" if manager.restarts == "yes" else "may start it again"
            advice.append(f"{manager.kind} {manager.name} {again}: stop it for good with `{manager.stop}`")
    return Forecast(predictions, _notes(facts), tuple(advice), passing if children else None, ask)


def unhearing(facts: Facts, number: int) -> str:
    """Return `ignores` or `blocks` for a process to which a signal certainly says nothing, else an empty string."""
    if facts.exited or facts.windows is not None or facts.wine is not None:
        return ""  # these have other ways to hear
    word, certain, _because = disposition(facts, number)
    return {"ignored": "ignores", "blocked": "blocks", "immune": "never gets"}.get(word, "") if certain else ""


def another_way(facts: Facts) -> str:
    """Return the gentlest thing left to try for a process that does not act on a request: its manager's command, another request, force."""
    for manager in facts.managers:
        # To stop a loop is to ask its tree by the same request once more. What only surrounds it, such as the pane or
        # the session that somebody works in, may hold much else.
        surrounds = manager.restarts == "no" and facts.ppid != manager.pid
        if manager.stop and manager.kind != "loop" and not surrounds:
            return f"`{manager.stop}`"
    pid = facts.ref.pid
    for number, name in _OTHERS:
        word, certain, _because = disposition(facts, number)
        if certain and word in ("handler", "waits-for-it", "asks"):
            return f"it has a handler for {name}: `endtask stop {pid} --plan {name}/10`"
    return by_force(pid)


def by_force(pid: int) -> str:
    """Return the command that forces what does not end."""
    return f"`endtask stop {pid} --force-after 5s` (unsaved work is lost)"


def _is_launcher(facts: Facts) -> bool:
    if runs_script(facts.name, facts.cmdline) or facts.name in _WRAPPERS:
        return True
    return bool(facts.cmdline) and facts.cmdline[0].rsplit("/", 1)[-1] in _WRAPPERS


def _behind(children: Sequence[Facts]) -> Facts | None:
    """Return the first process below a launcher that is not itself a launcher."""
    for child in children:
        if not child.exited and not _is_launcher(child):
            return child
    return None


def _behind_a_shell(facts: Facts, children: Sequence[Facts]) -> tuple[Facts, Facts] | None:
    """Return the shell that a wrapper runs and the program that this runs, if what the wrapper hands on ends there."""
    if facts.windows is not None or _wrapper(facts) not in _TELLS_ONE:
        return None
    alive = [c for c in children if not c.exited]
    for shell in alive:
        if shell.ppid != facts.ref.pid or not runs_script(shell.name, shell.cmdline):
            continue
        for program in alive:
            if program.ppid == shell.ref.pid and not _is_launcher(program) and not unhearing(program, _TERM):
                return shell, program
    return None


def not_ours(facts: Facts) -> str:
    """Return in words that we may not ask the process."""
    owner = f"it belongs to user {facts.user}" if facts.user else "it belongs to another user"
    return f"we may not send it a signal: {owner}"


def _notes(facts: Facts) -> tuple[str, ...]:
    notes = []
    if facts.exited and facts.state == "Z":
        guilty = f"its parent {called(facts.ppid, facts.parent_name)}"
        notes.append(f"it has exited and is a zombie: {guilty} has not reaped it")
    elif facts.exited:
        notes.append("it has exited: nothing of it runs any more")
    elif facts.state == "Z":
        notes.append(f"its main thread has ended, {facts.threads - 1} other threads run on")
    if facts.state == "T":
        notes.append("it is stopped: a request waits until CONT, which `endtask stop` sends after it")
    if facts.tracer:
        notes.append(f"it is traced by {facts.tracer}")
    if facts.frozen:
        notes.append(f"its cgroup is frozen ({facts.frozen})")
    if facts.state == "D":
        where = f" in {facts.wait_channel}" if facts.wait_channel else ""
        notes.append(f"it is in an uninterruptible kernel call{where}")
    if facts.core_dumping:
        notes.append("it is writing a core dump")
    if facts.namespace_init:
        notes.append("it is the first process of its pid namespace: when it ends, everything in there is killed")
    elif facts.other_namespace:
        notes.append("it lives in a pid namespace of its own (a container or sandbox)")
    if facts.may_signal is False:
        notes.append(not_ours(facts))
    if facts.wine is not None:
        from endtask._wine import notes as wine_notes

        notes += wine_notes(facts.wine)
    return tuple(notes)


def reap_advice(facts: Facts) -> str:
    """Return what can be done about a zombie."""
    return f"nothing runs any more; end or fix its parent {called(facts.ppid, facts.parent_name)} to remove the entry"


def _state_advice(facts: Facts) -> list[str]:
    advice = []
    if facts.exited and facts.state == "Z":
        advice.append(reap_advice(facts))
    if facts.frozen:
        advice.append(THAW)
    if facts.namespace_init and facts.signals is not None and not facts.signals.caught & (1 << 14):
        advice.append(
            "run the program below an init that passes signals on (`docker run --init`), or give it a TERM handler; from outside only KILL works now"
        )
    return advice
