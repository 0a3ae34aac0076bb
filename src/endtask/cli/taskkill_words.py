"""Verdicts -> the lines of `endtask taskkill` (pure).

The lines are those of Windows wherever they are true, so that what reads them goes on working.
Decision: SUCCESS is said of a process only when its exit was seen on its handle; Windows says it when the request has been queued.
What Windows has no line for, because it does not wait, has one of ours: `was asked (TERM) and is still running`.

One line for each process.
With `/T` the children come before their parents, as Windows lists them; in which order they were asked is the engine's affair.
"""

from __future__ import annotations

from endtask._record import Record
from endtask._words import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from endtask.model import MemberReport, Missing, Reason, TargetReport

NONE_MATCH = "INFO: No tasks running with the specified criteria."
FORCE_ONLY = "This process can only be terminated forcefully (with /F option)."
DENIED = "Access is denied."
CRITICAL = "This is critical system process. Taskkill cannot end this process."
GONE = "There is no running instance of the task."
# Reasons of `why` that no patience helps against.
_DEAF = frozenset(("ignored", "blocked", "namespace-init", "no-listener"))
FAILED = 1
NOT_FOUND = 128


class Told(Record):
    """One answer.

    Attributes:
        lines: What is written, `Reason:` on a line of its own.
        code: Its part of the exit code; 0 goes to standard output, everything else to standard error.
        aside: Whether it goes to standard error although nothing failed.
    """

    lines: tuple[str, ...]
    code: int = 0
    aside: bool = False


class How(Record):
    """What the words depend on besides the verdict.

    Attributes:
        parents: Pid of the parent by pid, as far as known.
        by_name: Whether the processes were named by their image, not by pid.
        tree: Whether `/T` was given.
        force: Whether `/F` was given.
        wait_s: Seconds that were waited at most.
    """

    parents: Mapping[int, int]
    by_name: bool = False
    tree: bool = False
    force: bool = False
    wait_s: float = 10.0


def exit_code(told: list[Told]) -> int:
    """Return the exit code: 1 if something could not be ended, else 128 if something does not exist, else 0."""
    codes = {t.code for t in told}
    return FAILED if FAILED in codes else max(codes, default=0)


def not_found(word: str) -> Told:
    """Nothing has that pid or name."""
    return Told((f'ERROR: The process "{word}" not found.',), NOT_FOUND)


def failed(pid: int, name: str, reason: str, how: How) -> Told:
    """A process could not be asked at all."""
    return Told((f"ERROR: {_who(pid, name, how)} could not be terminated.", f"Reason: {reason}"), FAILED)


def spared(pid: int, name: str) -> Told:
    """A process that matches was left alone although others were asked."""
    return Told(
        (f'INFO: The process "{name}" with PID {pid} was left alone: it is an ancestor of endtask.',), aside=True
    )


def missing(pid: int, name: str, entry: Missing, how: How) -> Told:
    """A process that was selected could not be found again, or not be reached."""
    return failed(pid, name, DENIED if entry.code == "not-permitted" else GONE, how)


def verdict(target: TargetReport, how: How) -> list[Told]:
    """Return the answers for one target: one for each process, and what is doubtful about the whole."""
    if not target.members:  # it had gone before its turn came
        return [failed(target.ref.pid, target.name, _first(target.reasons) or GONE, how)]
    told = [_member(target, member, how) for member in reversed(target.members)]
    if target.outcome == "unproven":
        root = _who(target.ref.pid, target.name, how)
        reason = _first(target.reasons) or "This system does not tell what it has started."
        told.append(
            Told((f"ERROR: It could not be shown that nothing of {_lower(root)} is left.", f"Reason: {reason}"), FAILED)
        )
    if target.respawn is not None:
        new = target.respawn
        text = f'INFO: It was started again as "{new.name}" with PID {new.ref.pid} by {new.by}.'
        told.append(Told((text,), aside=True))
    return told


def _member(target: TargetReport, member: MemberReport, how: How) -> Told:
    pid, name = member.ref.pid, member.name
    who = _who(pid, name, how, member.tie)
    delivered = _delivered(member)
    if not member.exited:
        return _alive(target, member, how, who)
    if member.forced or (how.force and delivered):
        return Told((f"SUCCESS: {who} has been terminated.",))
    if delivered:
        if how.tree:
            parent = _parent(pid, how, member.tie)
            below = f", child of PID {parent}" if parent else ""
            return Told((f"SUCCESS: Sent termination signal to process with PID {pid}{below}.",))
        return Told((f"SUCCESS: Sent termination signal to {_lower(who)}.",))
    if member.ref == target.ref and target.outcome == "already-gone":
        return failed(pid, name, GONE, how)
    return Told((f"SUCCESS: {who} has ended by itself.",))


def _alive(target: TargetReport, member: MemberReport, how: How, who: str) -> Told:
    statuses = {r.status for r in member.receipts}
    delivered = _delivered(member)
    reason = _reason(target, member, how)
    if delivered:
        verb = "forced" if how.force else "asked"
        head = f"ERROR: {who} was {verb} ({', '.join(delivered)}) and is still running."
    elif "vetoed" in statuses:
        head = f"ERROR: {who} was asked and said no."
    elif statuses:
        head = f"ERROR: {who} could not be terminated."
        reason = DENIED if "denied" in statuses else reason or FORCE_ONLY
    elif target.outcome == "unreachable":
        head = f"ERROR: {who} could not be terminated."
        reason = FORCE_ONLY
    else:
        head = f"ERROR: {who} was not asked and is still running."
    return Told((head, f"Reason: {reason or _slow(how)}"), FAILED)


def _reason(target: TargetReport, member: MemberReport, how: How) -> str:
    """Return why a process is still there, in a sentence or two; empty if nothing is known."""
    mine = [r for r in target.reasons if r.pid == member.ref.pid]
    if not mine:
        return _first(target.reasons) if member.ref == target.ref else ""
    text = _sentence(mine[0], called(member.ref.pid, member.name))
    return f"{text} {FORCE_ONLY}" if mine[0].code in _DEAF and mine[0].certain and not how.force else text


def _first(reasons: tuple[Reason, ...]) -> str:
    return _sentence(reasons[0]) if reasons else ""


def _sentence(reason: Reason, who: str = "") -> str:
    """Return a reason as a sentence; *who* is the process that the line before has named already."""
    text = reason.text if reason.certain else f"{reason.text} (a guess)"
    if who and text.startswith(f"{who} "):
        text = f"it{text[len(who) :]}"
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _slow(how: How) -> str:
    return f"It has not ended within {how.wait_s:g} s."


def _delivered(member: MemberReport) -> list[str]:
    """Return the names of the requests that were delivered; CONT only lets a stopped process act on them."""
    return list(dict.fromkeys(r.request for r in member.receipts if r.status == "delivered" and r.request != "CONT"))


def _who(pid: int, name: str, how: How, tie: str = "") -> str:
    if how.tree:
        parent = _parent(pid, how, tie)
        below = f" (child process of PID {parent})" if parent else ""
        return f"The process with PID {pid}{below}"
    return f'The process "{name}" with PID {pid}' if how.by_name else f"The process with PID {pid}"


def _parent(pid: int, how: How, tie: str) -> int:
    """Return the parent, 0 if unknown: from the table, or for a child that was born later from its tie."""
    known = how.parents.get(pid, 0)
    word = tie.removeprefix("child of ")
    return known or (int(word) if word != tie and word.isdigit() else 0)


def _lower(who: str) -> str:
    return f"t{who[1:]}"
