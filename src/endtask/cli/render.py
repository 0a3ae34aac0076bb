"""Words for a run and its report, as in the transcripts of the command line reference.

Decision: every function is pure and gives lines, so that a transcript can be tested without a process; colours and escaping are the console's affair.
Imports nothing but words: this module is on the way of `endtask stop PID`, which should cost little more than starting Python.
"""

from __future__ import annotations

from endtask._words import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from endtask.cli.console import Line
    from endtask.model import Event, MemberReport, Missing, PidRef, Reason, Report, Suspect, TargetReport

MANY = 10  # of a long list that many are shown, the rest is counted; `-v` shows all
LINES = 100  # of the usual events, of what applications say, and of what is born meanwhile
SAID_S = 1.0  # between two lines of one process that tell progress
_NTSTATUS = 0x10000  # exit statuses from here on are written in hexadecimal, as Windows does
# Told only with -v: the first two are what the user typed, the last one is the report itself.
_QUIET_EVENTS = frozenset(("selected", "waiting", "settled"))
# Events that are counted together, and what is said of the rest of them.
_USUAL, _WORDS, _BORN = "the rest is counted below", "applications say more", "more are found"
_COUNTED = dict.fromkeys(("request", "exited"), _USUAL)
_COUNTED |= {**dict.fromkeys(("heard", "said", "needs", "refuses"), _WORDS), "joined": _BORN}
_HEADS = {
    "vetoed": "said no:",
    "already-gone": "already gone:",
    "not-permitted": "not permitted:",
    "unreachable": "no way to ask:",
    "unproven": "unproven:",
}


def event_line(event: Event, *, verbose: bool = False) -> Line | None:
    """Return the line for an event, None if it is not told."""
    if event.kind in _QUIET_EVENTS and not verbose:
        return None
    text = event.text or " ".join(w for w in (event.kind, str(event.ref or ""), event.name, event.outcome) if w)
    role = {"respawn": "warn", "suspect": "warn", "joined": "warn", "refuses": "warn"}.get(event.kind, "")
    return (("dim", f"  {event.at_s:.2f} s  "), (role, text))


class EventLines:
    """Chooses what is told of a run: everything with *verbose*, otherwise the unusual and the first hundred of the usual.

    A stop of ten thousand processes is not read line by line, and writing it all would take as long as the stop.
    What applications say and start is counted apart: however much that is, it hides no request and no end.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._left = dict.fromkeys((_USUAL, _WORDS, _BORN), LINES)
        self._said: dict[PidRef | None, tuple[float, str]] = {}  # who said what last, and when that was shown

    def line(self, event: Event) -> Line | None:
        """Return the line for the next event, None if it is not told."""
        if not self._verbose and event.kind == "said" and self._is_progress(event):
            return None
        rest = _COUNTED.get(event.kind)
        if rest is not None and not self._verbose:
            self._left[rest] -= 1
            if self._left[rest] == -1:
                return f"  {event.at_s:.2f} s  and so on: {rest} (-v shows every line)"
            if self._left[rest] < 0:
                return None
        return event_line(event, verbose=self._verbose)

    def _is_progress(self, event: Event) -> bool:
        """Return whether it says the same as a moment ago, but for the numbers."""
        at_s, words = self._said.get(event.ref, (-SAID_S, ""))
        now = "".join([c for c in event.text if not c.isdigit()])
        if now == words and event.at_s - at_s < SAID_S:
            return True
        self._said[event.ref] = (event.at_s, now)
        return False


def report_lines(report: Report, *, verbose: bool = False, verb: str = "stop") -> list[Line]:
    """Return what is said of a report after the events: a block for each target that needs one, and the sum."""
    lines: list[Line] = []
    if report.cancelled:
        lines.append((("warn", "cancelled"), ("", f" after {report.elapsed_s:.2f} s: nothing more is asked")))
    for target in report.targets:
        lines += _target_lines(target, verbose=verbose)
    lines += _sum(report, verb)
    return lines


def missing_lines(missing: Iterable[Missing]) -> list[str]:
    """Return a sentence for each WHAT that matched nothing."""
    return [f"`{m.what}`: {m.text}" for m in missing]


def _target_lines(target: TargetReport, *, verbose: bool) -> list[Line]:
    """Return the block of one target; empty where the sum says it all."""
    lines = _heads(target, verbose=verbose)
    told = bool(lines)
    for port in target.ports:
        if not port.free:
            whose = "still held by" if port.ours else "now held by another process:"
            lines.append(_labelled("port", f"{port.port} is {whose} {port.holder or 'nobody that we may see'}", "warn"))
    lines += _whys(target.reasons, verbose=verbose)
    lines += suspect_lines(target.suspects)
    lines += [_labelled("next", text) for text in _next(target)]
    if verbose:
        if not told:
            lines.insert(0, f"{called(target.ref.pid, target.name)}: {target.outcome}")
        lines += [
            _labelled(
                "proof" if e.strength != "unproven" else "doubt",
                f"{e.strength} by {e.mechanism} at {e.at_s:.2f} s: {e.text}",
            )
            for e in target.evidence
        ]
        for member in target.members:
            lines += _member_lines(member)
    return lines


def _whys(reasons: Sequence[Reason], *, verbose: bool) -> list[Line]:
    """Return why it is so; what is true of many processes alike is said of the first, and the others are named."""
    alike: dict[tuple[str, ...], list[Reason]] = {}
    for number, reason in enumerate(reasons):
        what = reason.text.removeprefix(f"{reason.pid} ")
        alone = (str(number),) if verbose or what == reason.text else ()
        alike.setdefault((reason.code, what, *alone), []).append(reason)
    lines: list[Line] = []
    for first, *others in alike.values():
        lines.append(_labelled("why", first.text + ("" if first.certain else " (a guess)")))
        if others:
            more = f" and {len(others) - MANY} more" if len(others) > MANY else ""
            lines.append(_labelled("", f"the same of {', '.join(str(r.pid) for r in others[:MANY])}{more}"))
    return lines


def _heads(target: TargetReport, *, verbose: bool) -> list[Line]:
    """Return the lines that name what is wrong with a target."""
    who = called(target.ref.pid, target.name)
    lines: list[Line] = []
    if target.outcome == "forced":
        lines += _some(
            [(("warn", "forced:"), ("", f" {called(m.ref.pid, m.name)}")) for m in target.members if m.forced],
            verbose=verbose,
        )
    elif target.outcome == "respawned" and target.respawn is not None:
        new = target.respawn
        lines.append((("bad", "came back:"), ("", f" {who} as {called(new.ref.pid, new.name)}   started by {new.by}")))
    elif target.outcome == "running":
        lines += _survivors(target.survivors, verbose=verbose) or [(("bad", "still running:"), ("", f" {who}"))]
    elif target.outcome != "stopped":
        head = _HEADS.get(target.outcome, f"{target.outcome}:")
        lines.append(
            (("bad" if target.outcome != "already-gone" else "good", head), ("", f" {who}{_unproven(target)}"))
        )
        lines += _survivors([m for m in target.survivors if m.ref != target.ref], verbose=verbose)
    return lines


def _unproven(target: TargetReport) -> str:
    if target.outcome != "unproven":
        return ""
    return "   nothing that we know of still runs, but it could not be shown that nothing is left"


def _survivors(members: Sequence[MemberReport], *, verbose: bool) -> list[Line]:
    return _some(
        [(("bad", "still running:"), ("", f" {called(m.ref.pid, m.name)}   {_asked(m)}")) for m in members],
        verbose=verbose,
    )


def _some(lines: list[Line], *, verbose: bool) -> list[Line]:
    if verbose or len(lines) <= MANY:
        return lines
    return [*lines[:MANY], f"  and {len(lines) - MANY} more (-v shows them)"]


def _asked(member: MemberReport) -> str:
    """Return in words what was sent: `asked by TERM and INT, delivered`."""
    if not member.receipts:
        return "not asked"
    parts: list[str] = []
    delivered = list(dict.fromkeys(r.request for r in member.receipts if r.status == "delivered"))
    if delivered:
        parts.append(f"asked by {' and '.join(delivered)}, delivered")
    for receipt in member.receipts:
        if receipt.status != "delivered":
            detail = f" ({receipt.detail})" if receipt.detail else ""
            parts.append(f"{receipt.request}: {receipt.status}{detail}")
    return "; ".join(dict.fromkeys(parts))


def _next(target: TargetReport) -> list[str]:
    hints = [target.next, *(r.next for r in target.reasons)]
    if target.respawn is not None:
        hints.insert(0, target.respawn.next)
    return list(dict.fromkeys(h for h in hints if h))[:3]


def suspect_lines(suspects: Iterable[Suspect]) -> list[Line]:
    """Return a line for each process that may belong to a target."""
    lines: list[Line] = []
    for suspect in suspects:
        ports = f", listens on {', '.join(suspect.ports)}" if suspect.ports else ""
        lines.append(_labelled("suspect", f"{called(suspect.ref.pid, suspect.name)}{ports}: {suspect.because}", "warn"))
    return lines


def _member_lines(member: MemberReport) -> list[Line]:
    """Return what `-v` says of one process."""
    if member.kept:
        fate = "left alone"
    elif member.exited_at_s is None:
        fate = "exited before it was asked" if member.exited else "still runs"
    else:
        fate = f"exited at {member.exited_at_s:.2f} s, {_end(member)}"
    lines: list[Line] = [f"  {member.ref} {member.name or '(name hidden)'} ({member.tie}): {fate}"]
    told = []
    for receipt in member.receipts:
        detail = f": {receipt.detail}" if receipt.detail else ""
        told.append((receipt.at_s, f"    {receipt.at_s:.2f} s  {receipt.request} {receipt.status}{detail}"))
    if member.said:
        from endtask._said import in_words

        before_s = 0.0
        for entry in member.said:
            told.append((entry.at_s, f"    {entry.at_s:.2f} s  {in_words(entry, before_s)}"))
            before_s += entry.granted_s
    return [*lines, *(text for _at_s, text in sorted(told, key=lambda line: line[0]))]


def _end(member: MemberReport) -> str:
    end = member.end
    if end is None:
        return "status unknown"
    unreaped = f", not reaped by {end.unreaped_by} {end.unreaped_name}".rstrip() if end.unreaped_by else ""
    if not end.known:
        return f"status unknown ({end.why_unknown or 'the kernel does not tell'}){unreaped}"
    if end.signal:
        from endtask._verdict import signal_name

        return (
            f"ended by {signal_name(end.signal)}{' with a core dump' if end.core else ''} (by {end.source}){unreaped}"
        )
    status = str(end.status)
    if end.status is not None and end.status >= _NTSTATUS:
        from endtask._verdict import status_in_words  # only Windows has such numbers

        status = status_in_words(end.status)
    return f"status {status} (by {end.source}){unreaped}"


def _sum(report: Report, verb: str) -> list[Line]:
    """Return the last line: `stopped 3 of 3 in 0.36 s, none forced`."""
    word = "ended" if verb == "wait" else "stopped"
    targets = [t for t in report.targets if t.outcome != "already-gone"]
    good = [t for t in targets if t.outcome in ("stopped", "forced")]
    members = [m for t in targets for m in t.members]
    tail = _tail(members, report, verb)
    if good and len(good) == len(targets):
        total = [m for m in members if not m.kept]
        gone = sum(m.exited for m in total)
        observed = " (observed)" if any(e.strength == "observed" for t in good for e in t.evidence) else ""
        return [(("good", f"{word} {gone} of {len(total)}"), ("", f" in {report.elapsed_s:.2f} s{tail}{observed}"))]
    if len(targets) > 1:
        return [(("bad", f"{word} {len(good)} of {len(targets)} targets"), ("", f" in {report.elapsed_s:.2f} s{tail}"))]
    return []


def _tail(members: list[MemberReport], report: Report, verb: str) -> str:
    forced = sum(m.forced for m in members)
    kept = sum(m.kept for m in members)
    parts = [] if verb == "wait" and not report.forced else [f"{forced or 'none'} forced"]
    if kept:
        parts.append(f"{kept} left alone")
    return "".join(f", {p}" for p in parts)


def _labelled(label: str, text: str, role: str = "dim") -> Line:
    return ((role, f"  {label:<4}  "), ("", text))
