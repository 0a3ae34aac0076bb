"""From a settled job to its part of the report, and the words for what happens on the way."""

from __future__ import annotations

from endtask import _outcome
from endtask._record import Record
from endtask._words import called
from endtask.model import Evidence, MemberReport, Reason, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Pin
    from endtask._discover import Entry
    from endtask._find import Target
    from endtask._job import Job, JobMember
    from endtask.model import Facts, Outcome, ProcessEnd, Receipt

_EXPLAINED = 20  # survivors that are looked into: a verdict must not take longer than the stop
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM"}
_ALIASES = frozenset(("CLD", "IOT", "POLL", "UNUSED"))  # second names of CHLD, ABRT, IO and SYS, signal(7)


def verdict(backend: Backend, entry: Entry, *, started_at: float) -> TargetReport:
    """Return the report of a settled job; the handles must still be open."""
    job, target = entry.job, entry.ready.target
    word = _outcome.outcome(job)
    reasons, advice = _reasons(backend, entry, word)
    return TargetReport(
        target.what,
        target.ref,
        target.name,
        word,
        backend.now() - started_at,
        tuple(_member(backend, entry, m, started_at) for m in job.members),
        job.evidence if word not in ("running", "not-permitted", "unreachable") else (),
        tuple(reasons),
        job.ports,
        job.respawn,
        job.suspects,
        advice,
        job.extended_s,
    )


def _member(backend: Backend, entry: Entry, member: JobMember, started_at: float) -> MemberReport:
    end = member.end
    pin = entry.ready.pins.get(member.ref.pid)
    if end is not None and (not end.known or end.unreaped_by) and pin is not None and pin.ref == member.ref:
        end = backend.end(pin)  # by now it may have been reaped, and only then the kernel tells
    return MemberReport(
        member.ref,
        member.name if member.exited_at is not None else _name_now(backend, member, pin),
        member.tie,
        member.exited_at is not None,
        None if member.exited_at is None else max(0.0, member.exited_at - started_at),
        end,
        member.forced,
        tuple(member.receipts),
        member.kept,
        tuple(member.said),
    )


def _name_now(backend: Backend, member: JobMember, pin: Pin | None) -> str:
    """Return the name of a survivor, which may have become another program since it was found, by fork and execve for one."""
    if pin is None or pin.ref != member.ref:
        return member.name  # without its handle the pid may be somebody else's
    short = backend.short_name(member.ref.pid)
    return member.name if short is None or backend.exited(pin) else backend.full_name(member.ref.pid, short)


def _reasons(backend: Backend, entry: Entry, word: Outcome) -> tuple[list[Reason], str]:
    """Return why not, or what should be known all the same, and what the user can do."""
    job = entry.job
    found: list[Reason] = []
    if word == "forced":
        found += _wanted_more(job)
    if word in ("stopped", "forced", "already-gone") and all(p.free for p in job.ports):
        return found, ""  # the usual end: nothing is left to explain
    from endtask import _why

    if job.cancelled:
        found.append(Reason("cancelled", "endtask was interrupted"))
    alive = [m for m in job.members if m.concerns_us]
    for member in alive[:_EXPLAINED]:
        facts = observe(backend, entry, member).facts
        stuck = _why.forced_without_effect(member, facts)
        if stuck is not None:
            found.append(stuck)
        found += _why.member_reasons(job, member, facts)
    if len(alive) > _EXPLAINED:
        found.append(Reason("more", f"{len(alive) - _EXPLAINED} more processes of it still run"))
    found += _why.scope_reasons(job)
    return found, _why.advice(word, entry.ready.target.ref.pid, found, job)


def _wanted_more(job: Job) -> list[Reason]:
    """Return who was forced and had asked for more time."""
    found: list[Reason] = []
    for member in job.members:
        if member.said and member.forced:
            from endtask._said import extension, needs_time

            extend_s, what = extension(member.said, job.extended_s)
            if extend_s:
                found.append(needs_time(extend_s, what, f"{member.ref.pid} {member.name}".rstrip(), member.ref.pid))
    return found


class Observed(Record):
    """One look at a member.

    Attributes:
        facts: What was read.
        blocked: Whether it waits for a person, so that a second request would answer for that person.
    """

    facts: Facts
    blocked: bool = False


def observe(backend: Backend, entry: Entry, member: JobMember) -> Observed:
    """Look at what a member is doing instead of ending, and note it there; the one way to look for the run, the tree and the verdict.

    First the facts and then whether it has said that it heard: the other way round an answer in between would look like a program that does nothing.
    """
    pin = entry.ready.pins[member.ref.pid]
    # Of who was asked, or is left to the target, only the state counts; of others also why they were not asked.
    judged = not member.receipts and not (member.managed and entry.job.target.concerns_us)
    facts = backend.facts(pin, company=False, part="ladder" if judged else "state")
    if facts.windows is None:
        return Observed(facts)
    from endtask._diagnosis import BLOCKING, diagnose  # only Windows has windows to look at
    from endtask._ladder import needs_company

    if judged and needs_company(facts, entry.job.policy):
        facts = backend.facts(pin, part="ladder")
    before = entry.ready.seen.get(member.ref.pid)
    member.heard = backend.heard(pin, member.receipts)
    earlier = before.windows if before is not None else None
    member.state = tuple(diagnose(facts, earlier, member.receipts, heard=member.heard))
    return Observed(facts, any(r.code in BLOCKING for r in member.state))


def gone(target: Target, at_s: float) -> TargetReport:
    """Return the report of a target that had gone before its turn came."""
    shown = Evidence("token", "proved", f"no process has the identity {target.ref} any more", at_s)
    return TargetReport(target.what, target.ref, target.name, "already-gone", at_s, evidence=(shown,))


def not_begun(target: Target) -> TargetReport:
    """Return the report of a target whose turn never came because the user interrupted us."""
    reason = Reason("cancelled", "nothing was sent: endtask was interrupted before its turn")
    return TargetReport(target.what, target.ref, target.name, "running", reasons=(reason,))


def signal_name(number: int) -> str:
    """Return `TERM` for 15, `RTMIN+3` for a real-time signal; `signal 99` for a number that this system has no name for."""
    known = _SIGNALS.get(number)  # the same everywhere, and nearly all that ends anything
    return known if known is not None else _seldom(number)


def _seldom(number: int) -> str:
    import signal

    for name, value in vars(signal).items():
        if value == number and name[:3] == "SIG" and name[3] != "_" and name[3:] not in _ALIASES:
            return name[3:]
    first, last = getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", -1)
    return f"RTMIN+{number - first}" if first < number < last else f"signal {number}"


def end_in_words(end: ProcessEnd, *, reaping: bool = True) -> str:
    """Return `exited, status 0`, `ended by TERM`, `exited, status unknown (...)`.

    Args:
        end: How a process ended.
        reaping: Whether to say who has not reaped it.
    """
    core = ", core dumped" if end.core else ""
    if end.signal:
        text = f"ended by {signal_name(end.signal)}{core}"
    elif end.status is not None:
        text = f"exited, status {status_in_words(end.status)}"
    else:
        text = f"exited, status unknown ({end.why_unknown})" if end.why_unknown else "exited, status unknown"
    if reaping and end.unreaped_by:
        text += f", not reaped by {end.unreaped_by} {end.unreaped_name}".rstrip()
    return text


# Microsoft "NTSTATUS values"; what each means for a stop was read from the console and session-end documentation.
_STATUSES = {
    0xC000013A: "ended by a console event",  # by the system's handler, or by CPython itself after KeyboardInterrupt
    0x40010004: "ended by the session's end or a debugger",
    0xC0000005: "access violation",
    0xC0000409: "aborted itself",
    0xC0000142: "could not start in a closing console",
}


def status_in_words(status: int) -> str:
    """Return an exit status as its system writes it: small numbers in decimal, NTSTATUS values in hexadecimal with their meaning."""
    if status < 0x10000:
        return str(status)
    known = _STATUSES.get(status)
    return f"0x{status:08X}" + (f" ({known})" if known else "")


def receipt_in_words(receipt: Receipt, member: JobMember) -> str:
    """Return `TERM -> 12 nginx`, with what went wrong."""
    text = f"{receipt.request} -> {called(member.ref.pid, member.name)}"
    if receipt.status != "delivered":
        text += f": {receipt.status}, {receipt.detail}" if receipt.detail else f": {receipt.status}"
    elif receipt.detail:
        text += f" ({receipt.detail})"
    return text
