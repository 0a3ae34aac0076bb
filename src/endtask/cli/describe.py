"""Words for `look`, `plan` and `why`: what is known of a process, what it would do, what would be done.

Decision: one block for each process, its labels in one column, the facts behind a guess in the line below it; nothing is left out silently, long lists say how much more there is.
"""

from __future__ import annotations

from endtask._words import called, each_once
from endtask.cli.render import suspect_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.cli.console import Line
    from endtask.model import Explanation, Facts, Looked, Manager, PidRef, Planned, Planning, Receiver, Seen, TargetPlan

_MANY = 12
_COMMAND_LENGTH = 60
_CHAIN = 3
_PER_LINE = 3  # predictions in a line
_ANSWERS = {
    "handler": "own handler",
    "waits-for-it": "taken by sigwait or a signalfd",
    "ends": "default action, ends it",
    "ends-core": "default action, ends it with a core dump",
    "ignored": "ignored",
    "blocked": "blocked, stays pending",
    "immune": "thrown away by the kernel (first process of its namespace, no handler)",
    "after-continue": "waits until it is continued",
    "after-thaw": "waits until its cgroup is thawed",
    "after-trace": "waits until its tracer lets it go on",
    "after-kernel": "waits until the kernel call returns",
    "no-effect": "no effect",
    "continues": "continues it",
    "nothing": "default action, ignored",
    "stops": "suspends it",
    "asks": "asks it",
    "no-listener": "nothing hears it",
    "refused-here": "not sent",
    "denied": "not permitted",
    "unknown": "unknown",
}


def answer_text(request: str, answer: str) -> str:
    """Return the words for what a request would do."""
    if request in ("KILL", "TERMINATE") and answer == "ends":
        return "cannot be caught, ends it"
    return _ANSWERS.get(answer, answer)


def duration(seconds: float) -> str:
    """Return an age for people: `2 h`, `35 s`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


# --------------------------------------------------------------------------- look


def look_lines(looked: Looked, *, verbose: bool = False) -> list[Line]:
    """Return the answer of `look`."""
    lines: list[Line] = []
    for seen in looked.seen:
        if lines:
            lines.append("")
        lines += seen_lines(seen, verbose=verbose)
    return lines


def seen_lines(seen: Seen, *, verbose: bool = False) -> list[Line]:
    """Return the block for one process."""
    lines = [_head(seen), *_hears(seen, verbose=verbose), *_state(seen), *_tree(seen, verbose=verbose)]
    if seen.facts.windows is not None:
        from endtask.cli.describe_windows import windows_lines

        lines += [_label(label, text) for label, text in windows_lines(seen.facts, verbose=verbose)]
    elif seen.facts.receiver is not None:
        lines.append(_receiver(seen.facts.receiver))
    lines += [
        _label("manager", _manager_text(m), "warn" if m.restarts == "yes" else "dim") for m in seen.facts.managers
    ]
    if seen.facts.ports:
        ports = each_once(f"{p} {p.proto} on {p.address or '*'}" for p in seen.facts.ports)
        lines.append(_label("ports", "  ".join(ports)))
    lines += suspect_lines(seen.suspects)
    if verbose:
        lines += _details(seen.facts)
    unread: dict[str, list[str]] = {}
    for name, reason in seen.facts.unknown:
        unread.setdefault(reason, []).append(name.removeprefix("windows."))
    lines += [_label("unknown", f"{', '.join(names)}: {reason}") for reason, names in unread.items()]
    lines += [_label("advice", text, "head") for text in seen.forecast.advice]
    return lines


def _receiver(receiver: Receiver) -> Line:
    from endtask._said import receiver_in_words

    return _label("receiver", receiver_in_words(receiver), "warn" if receiver.state == "unusable" else "dim")


def _head(seen: Seen) -> Line:
    """Return `:3000  node 48112 "vite"  user ana, up 2 h   started by npm 48090 <- zsh 3311`."""
    facts = seen.facts
    name = f"{facts.name} {facts.ref.pid}" if facts.name else called(facts.ref.pid, "")
    rest = " ".join(facts.cmdline[1:])
    if rest:
        rest = rest if len(rest) <= _COMMAND_LENGTH else rest[: _COMMAND_LENGTH - 3] + "..."
        name += f' "{rest}"'
    about = []
    if facts.user:
        about.append(f"user {facts.user}")
    if facts.age_s >= 0:
        about.append(f"up {duration(facts.age_s)}")
    parts = [*_word(seen.what, facts.ref), ("head", name)]
    if about:
        parts.append(("", "  " + ", ".join(about)))
    if facts.reaper:
        parts.append(("", f"   orphan, its parent {f'{facts.parent_name} {facts.ppid}'.lstrip()} only reaps it"))
    elif seen.chain:
        shown = [f"{n} {p}" for p, n in seen.chain[:_CHAIN]] + (["..."] if len(seen.chain) > _CHAIN else [])
        parts.append(("", "   started by " + " <- ".join(shown)))
    return tuple(parts)


def _word(what: str, ref: PidRef) -> tuple[tuple[str, str], ...]:
    """Return the WHAT, unless it only repeats the process."""
    return () if what in (str(ref.pid), str(ref)) else (("", f"{what}  "),)


def _hears(seen: Seen, *, verbose: bool) -> list[Line]:
    """Return what each request would do, and the facts behind every guess."""
    predictions = seen.forecast.predictions
    # Of a Windows program every event that it may have a handler for is a guess; `because` says so once.
    cells = [
        f"{p.request}: {answer_text(p.request, p.answer)}{'' if p.certain or p.answer == 'asks' else ' (a guess)'}"
        for p in predictions
    ]
    lines: list[Line] = []
    for at in range(0, len(cells), _PER_LINE):
        lines.append(_label("hears" if at == 0 else "", "    ".join(cells[at : at + _PER_LINE])))
    because: dict[str, list[str]] = {}
    for p in predictions:
        if p.because and (verbose or not p.certain):
            because.setdefault(p.because, []).append(p.request)
    return lines + [_label("because", f"{', '.join(requests)}: {text}") for text, requests in because.items()]


def _state(seen: Seen) -> list[Line]:
    return [_label("state", note, "warn") for note in seen.forecast.notes]


def _tree(seen: Seen, *, verbose: bool) -> list[Line]:
    """Return what it owns; nothing if that is only itself."""
    members = seen.tree
    if len(members) < 2:
        return []
    cells = []
    for member in members if verbose else members[:_MANY]:
        cell = called(member.ref.pid, member.name)
        if member.ref == seen.facts.ref and seen.forecast.passes_on is not None:
            cell += " (passes TERM on)" if seen.forecast.passes_on else " (does not pass TERM on)"
        elif member.depth > 0 and (verbose or not member.tie.startswith("child of")):
            cell += f" ({member.tie})"
        cells.append(cell)
    if len(members) > len(cells):
        cells.append(f"and {len(members) - len(cells)} more")
    return [_label("tree", "  ".join(cells))]


def _manager_text(manager: Manager) -> str:
    again = {"yes": "starts it again", "no": "does not start it again"}.get(manager.restarts, "may start it again")
    text = f"{manager.kind} {manager.name}".rstrip() + f", {again}"
    if manager.stop:
        text += f"; its own stop: {manager.stop}"
    if not manager.certain:
        text += f" (a guess: {manager.because})" if manager.because else " (a guess)"
    return text


def _details(facts: Facts) -> list[Line]:
    """Return the plain facts that `-v` adds."""
    lines = [
        _label("ref", str(facts.ref)),
        _label(
            "ids",
            f"state {facts.state}, parent {facts.ppid}, group {facts.pgid}, session {facts.sid}, threads {facts.threads}",
        ),
    ]
    for label, text in (
        ("exe", facts.exe),
        ("tty", facts.tty),
        ("cgroup", facts.cgroup),
        ("sleeps", facts.wait_channel),
    ):
        if text:
            lines.append(_label(label, text))
    if facts.signals is not None:
        s = facts.signals
        lines.append(
            _label(
                "signals",
                f"caught {s.caught:x}, ignored {s.ignored:x}, blocked {s.blocked:x}, pending {s.pending:x}, waited for {s.waited:x}",
            )
        )
    lines += [_label("because", f"{m.kind} {m.name}: {m.because}") for m in facts.managers if m.because and m.certain]
    return lines


# --------------------------------------------------------------------------- plan


def plan_lines(planning: Planning, *, verbose: bool = False) -> list[Line]:
    """Return the answer of `plan`."""
    lines: list[Line] = []
    for target in planning.targets:
        if lines:
            lines.append("")
        lines += _target_plan(target, verbose=verbose)
    return lines


def _target_plan(target: TargetPlan, *, verbose: bool) -> list[Line]:
    count = len(target.members)
    scope = f", {count} in scope" if count > 1 else ""
    more = f", at most {target.extend_s:g} s more if an application asks for it" if target.extend_s else ""
    about = f"{scope}   budget {target.budget_s:g} s{more}"
    name = f"{target.name} {target.ref.pid}" if target.name else called(target.ref.pid, "")
    lines: list[Line] = [(*_word(target.what, target.ref), ("head", name), ("", about))]
    steps = "    ".join(f"{at_s:.2f} s  {name}" for name, at_s in target.steps)
    lines.append(_label("steps", steps or "none: only wait"))
    members = target.members if verbose else target.members[:_MANY]
    pid_width = max((len(called(m.ref.pid, m.name)) for m in members), default=0)
    when_width = max((len(m.when) for m in members), default=0)
    for m in members:
        lines.append(_planned(m, min(pid_width, 40), when_width))
        if m.receiver is not None:
            lines.append(_receiver(m.receiver))
    if count > len(members):
        lines.append(_label("", f"and {count - len(members)} more (-v shows them)"))
    if target.watch_s:
        because = f": {target.watch_because}" if target.watch_because else ""
        lines.append(_label("then", f"watch {target.watch_s:g} s for a respawn{because}"))
    lines += suspect_lines(target.suspects)
    lines += [_label("warning", text, "warn") for text in target.warnings]
    return lines


def _planned(member: Planned, name_width: int, when_width: int) -> Line:
    answers = "  ".join(
        f"{request}: {answer_text(request, answer)}"
        for request, answer in zip(member.asked, member.answers, strict=False)
    )
    who = called(member.ref.pid, member.name)
    tie = "" if member.tie == "target" else f"({member.tie})  "
    return _label(
        "ask" if member.asked else "", f"{who:<{name_width}}  {member.when:<{when_width}}  {tie}{answers}".rstrip()
    )


# --------------------------------------------------------------------------- why


def why_lines(explanation: Explanation, *, verbose: bool = False) -> list[Line]:
    """Return the answer of `why`."""
    lines: list[Line] = []
    for explained in explanation.targets:
        if lines:
            lines.append("")
        lines.append(_head(explained.seen))
        for reason in explained.reasons:
            lines.append(_label("why", reason.text + ("" if reason.certain else " (a guess)"), "warn"))
        lines += [_label("before", text) for text in explained.asked_before]
        lines += suspect_lines(explained.seen.suspects)
        hints = each_once([r.next for r in explained.reasons if r.next])
        # The advice of `look` is left out where a reason has said the same, or has named its command.
        hints += [a for a in each_once(explained.seen.forecast.advice) if not any(h in a for h in hints)]
        lines += [_label("next", text, "head") for text in hints]
        if verbose:
            lines += [
                *_hears(explained.seen, verbose=True),
                *_tree(explained.seen, verbose=True),
                *_details(explained.seen.facts),
            ]
    return lines


def _label(label: str, text: str, role: str = "dim") -> Line:
    return ((role, f"  {label:<7}  "), ("", text))
