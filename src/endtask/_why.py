"""Stage 6: facts, receipts and ends -> the reasons why something is still there, or was not proved (pure).

The outcome itself is in `_outcome`: most runs end well and need no reason.
Decision: a reason that follows from facts is certain; anything else says that it is a guess.
"""

from __future__ import annotations

from endtask._inspect import THAW, another_way, by_force, catches, disposition, not_ours, reap_advice, unhearing
from endtask._record import replace
from endtask._words import called, each_once, runs_script
from endtask.model import Reason, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._job import Job, JobMember
    from endtask.model import Facts, Outcome, Seen

_TERM_NUMBER = 15
_PERMISSION = "run endtask as the owner of the process or as root"


def reasons(facts: Facts, requests: Sequence[Request], *, asked: bool = True) -> list[Reason]:
    """Return why a process is still there after (or would be after) *requests*, the strongest reason first.

    Args:
        facts: Of the process, read after the requests.
        requests: What was or would be sent.
        asked: Whether they were sent.
    """
    pid = facts.ref.pid
    who = called(pid, facts.name)
    found: list[Reason] = []
    if facts.exited:
        if facts.state == "Z":
            found.append(
                Reason(
                    "zombie",
                    f"{who} has exited; its parent {called(facts.ppid, facts.parent_name)} has not reaped it",
                    next=reap_advice(facts),
                    pid=pid,
                )
            )
        return found
    found += _held_back(facts, who)
    for request in requests:
        if request.kind == "signal" and not request.forced:
            found += _by_disposition(facts, request, who, asked=asked)
    found += _by_state(facts, who)
    if facts.wine is not None and asked and any(r.kind == "command" for r in requests):
        text = f"{who} runs on: a window of it may wait for an answer, or the command found no window to ask"
        found.append(Reason("slow", text, False, "look at its windows, or give it more time with `--timeout`", pid))
    if not found:
        sleeping = f", sleeps in {facts.wait_channel}" if facts.wait_channel else ""
        text = f"{who} has not acted on it yet (state {facts.state}{sleeping})"
        found.append(Reason("slow", text, certain=False, pid=pid) if asked else _nothing(who, pid))
    return found


def _nothing(who: str, pid: int) -> Reason:
    text = f"nothing that can be seen keeps {who} from ending"
    return Reason("nothing", text, certain=False, next=f"ask it: `endtask stop {pid}`", pid=pid)


def _held_back(facts: Facts, who: str) -> list[Reason]:  # size: a table of reasons
    """What holds back every signal, KILL included or not."""
    pid = facts.ref.pid
    found = []
    if facts.state == "T" and not facts.tracer:
        found.append(
            Reason(
                "stopped", f"{who} is stopped: requests wait until it is continued", next=f"`kill -CONT {pid}`", pid=pid
            )
        )
    if facts.state == "t" or facts.tracer:
        held = facts.state == "t"  # a tracer hands signals on unless it holds the process still
        text = f"{who} is traced by {facts.tracer}, which {'holds' if held else 'may hold'} signals back"
        found.append(Reason("traced", text, held, f"end the tracer {facts.tracer}", pid))
    if facts.frozen:
        less = ", which holds back even KILL" if facts.frozen == "v1" else ""
        found.append(
            Reason(
                "frozen",
                f"{who} is in a frozen cgroup (version {facts.frozen[1:]} freezer){less}",
                next=THAW,
                pid=pid,
            )
        )
    if facts.state == "D" and not facts.frozen:
        where = f" ({facts.wait_channel})" if facts.wait_channel else ""
        found.append(
            Reason(
                "uninterruptible",
                f"{who} is in an uninterruptible kernel call{where}: no signal reaches it before that returns",
                next="mend what the call waits for (disk, network file system, driver)",
                pid=pid,
            )
        )
    if facts.state == "Z":
        found.append(
            Reason(
                "threads",
                f"the main thread of {who} has ended, {facts.threads - 1} other threads run on",
                pid=pid,
                next="only KILL is sure to end them",
            )
        )
    if facts.core_dumping:
        found.append(
            Reason("core-dump", f"{who} is writing a core dump", next="wait, or KILL to cut it short", pid=pid)
        )
    return found


def _by_disposition(  # size: a table of reasons
    facts: Facts, request: Request, who: str, *, asked: bool
) -> list[Reason]:
    pid = facts.ref.pid
    word, certain, _because = disposition(facts, request.number)
    name = request.name
    if word == "ignored":
        return [Reason("ignored", f"{who} ignores {name}", certain, another_way(facts), pid)]
    if word == "immune":
        text = (
            f"{who} is the first process of its pid namespace and has no handler for {name}: the kernel throws it away"
        )
        return [Reason("namespace-init", text, certain, "only KILL from outside works: `--force-after 5s`", pid)]
    if word == "blocked" and not certain and facts.signals is not None and catches(facts.signals, request.number):
        text = f"{who} has a handler for {name} and blocks it at the moment"
        return [Reason("blocked", text, certain=False, next="give it more time with `--timeout`", pid=pid)]
    if word == "blocked":
        text = f"{who} blocks {name} in every thread: it stays pending"
        return [Reason("blocked", text, certain, another_way(facts), pid)]
    if word in ("handler", "waits-for-it", "asks") and asked:
        pending = facts.signals is not None and facts.signals.pending & (1 << (request.number - 1))
        if pending:
            busy = f"{who} has a handler for {name} but has not taken it yet: its main thread is busy"
            return [Reason("not-taken", busy, certain=False, pid=pid)]
        if runs_script(facts.name, facts.cmdline):
            text = f"{who} is a shell with a trap for {name}: it may run the trap only after the command that it waits for has ended"
            return [Reason("shell-trap", text, certain=False, next="ask the running command itself", pid=pid)]
        text = f"{who} took {name} with its own handler and is still running: it is cleaning up, waiting for something, or has decided to stay"
        return [Reason("handler", text, certain=False, next="give it more time with `--timeout`", pid=pid)]
    if word == "unknown":
        return [
            Reason(
                "unknown",
                f"how {who} answers {name} could not be read",
                certain=False,
                next=_PERMISSION,
                pid=pid,
            )
        ]
    return []


def _by_state(facts: Facts, who: str) -> list[Reason]:
    pid = facts.ref.pid
    found = []
    for manager in facts.managers:
        if manager.restarts == "yes":
            text = f"{manager.kind} {manager.name} starts {who} again whenever it ends"
            found.append(Reason("restarted", text, manager.certain, f"`{manager.stop}`" if manager.stop else "", pid))
    if facts.ports:
        ports = ", ".join(each_once(facts.ports))
        found.append(Reason("holds-port", f"{who} listens on {ports}", pid=pid))
    return found


def member_reasons(job: Job, member: JobMember, facts: Facts) -> list[Reason]:
    """Return why one member of a settled job still runs."""
    sent = {r.request for r in member.receipts if r.status == "delivered"}
    if member.said:
        from endtask._said import said_reasons  # only who has met a receiver needs it

        said = said_reasons(member.said, f"{member.ref.pid} {member.name}".rstrip(), member.ref.pid, job.extended_s)
        if said:
            return [*said, *_held_back(facts, f"{facts.ref.pid} {facts.name}".rstrip()), *_by_state(facts, facts.name)]
    found = [*member.state]  # what the last look at its windows showed; read again for the verdict where there are any
    for receipt in member.receipts:
        if receipt.status in ("denied", "impossible", "failed"):
            code = "not-permitted" if receipt.status == "denied" else receipt.status
            found.append(
                Reason(
                    code,
                    f"{called(member.ref.pid, member.name)} could not be asked with {receipt.request}: {receipt.detail}",
                    pid=member.ref.pid,
                )
            )
    requests = [s.request for s in job.policy.steps if s.request.name in sent]
    if facts.windows is not None:
        return found or [_waits(job, member, facts, asked=bool(sent))]
    if found and not requests:
        return found
    if job.policy.steps and not sent and not facts.exited:
        if member.managed and job.target.concerns_us:
            return [*found, _left_to_target(job, called(member.ref.pid, member.name), member.ref.pid)]
        text = f"{called(member.ref.pid, member.name)} was not asked before the time was over"
        return [*found, Reason("not-asked", text, pid=member.ref.pid, next="give it more time with `--timeout`")]
    more = reasons(facts, requests, asked=bool(job.policy.steps))
    others = any(m.receipts and m.exited_at is None for m in job.members if m is not member)
    return [*found, *(_of_a_shell(r, job, member, alone=not others) if r.code == "shell-trap" else r for r in more)]


def _of_a_shell(reason: Reason, job: Job, shell: JobMember, *, alone: bool) -> Reason:
    """Return the reason of a shell with a trap as the run has shown it.

    Where what it runs was asked too and has a reason of its own, there is no advice to ask that; where that has ended, the trap has had its turn.
    """
    pid = shell.ref.pid
    if any(m.tie == f"child of {pid}" and m.receipts and m.exited_at is not None for m in job.members):
        text = f"{called(pid, shell.name)} is a shell with a trap, which does not end it: what it ran was asked and has ended"
        return Reason("handler", text, certain=False, next=by_force(pid), pid=pid)
    return _told_alone(reason, alone=alone)


def _told_alone(reason: Reason, *, alone: bool) -> Reason:
    """Return the reason of a shell without the advice to ask what it runs, where that was asked too and has a reason of its own."""
    return reason if alone or reason.code != "shell-trap" else replace(reason, next="")


def _waits(job: Job, member: JobMember, facts: Facts, *, asked: bool) -> Reason:
    """Return the reason for a Windows process of which nothing special can be seen."""
    who = called(facts.ref.pid, facts.name)
    pid = facts.ref.pid
    if not job.policy.steps:  # a plain wait
        return _nothing(who, pid)
    if not asked and member.managed and job.target.concerns_us:
        return _left_to_target(job, who, pid, by_force(job.target.ref.pid))
    if not asked:
        from endtask._ladder import ladder  # only Windows has such steps

        because = ladder(facts, job.policy, [m.ref.pid for m in job.members]).why_none
        if because:
            return Reason("not-asked", f"{who} was not asked: {because}", next=by_force(pid), pid=pid)
        text = f"{who} was not asked before the time was over"
        return Reason("not-asked", text, next="give it more time with `--timeout`", pid=pid)
    text = f"{who} has not acted on it: it is cleaning up, handled the request without ending, or ignored it"
    return Reason("slow", text, certain=False, next="give it more time with `--timeout`", pid=pid)


def _left_to_target(job: Job, who: str, pid: int, another_way: str = "") -> Reason:
    """Return the reason for a worker, which is not asked as long as the target lives."""
    target = job.target.ref.pid
    text = f"{who} was not asked: it runs the same program as {target} {job.target.name}, which is to end it and still runs"
    return Reason("not-asked", text, next=another_way, pid=pid)


def forced_without_effect(member: JobMember, facts: Facts) -> Reason | None:
    """Return the reason for a process that outlives KILL, None if it was not sent."""
    if not member.forced or facts.exited:
        return None
    if facts.signals is not None and facts.signals.pending & (1 << 8):
        return Reason(
            "kill-pending",
            f"KILL is pending at {called(member.ref.pid, member.name)}: the kernel cannot deliver it now",
            pid=member.ref.pid,
        )
    return None


def scope_reasons(job: Job) -> list[Reason]:
    """Return why the scope as a whole is not proved empty."""
    found = []
    for suspect in job.suspects:
        ports = f", listens on {', '.join(suspect.ports)}" if suspect.ports else ""
        found.append(
            Reason(
                "suspect",
                f"{called(suspect.ref.pid, suspect.name)} may have come from it: {suspect.because}{ports}",
                certain=False,
                next=f"`endtask stop {suspect.ref}`",
                pid=suspect.ref.pid,
            )
        )
    kept = {m.ref.pid for m in job.members if m.kept}
    for port in job.ports:
        if port.free:
            continue
        text = f"port {port.port} is held by {port.holder}"
        code = "port-held"
        if not port.ours:
            is_kept = port.holder_pid in kept
            code = "port-kept" if is_kept else "port-taken"
            text += ", which was to be left alone" if is_kept else ", which is not part of the target"
        found.append(
            Reason(code, text, pid=port.holder_pid, next="" if code == "port-kept" else f"`endtask look {port.port}`")
        )
    if job.respawn is not None:
        text = f"{job.respawn.by} started it again as {called(job.respawn.ref.pid, job.respawn.name)}"
        text += f", {job.respawn.because}" if job.respawn.because else ""
        found.append(Reason("respawned", text, next=job.respawn.next, pid=job.respawn.ref.pid))
    return found


def advice(word: Outcome, pid: int, found: Sequence[Reason], job: Job) -> str:
    """Return one sentence on what the user can do, empty when nothing is left to do."""
    if word in ("stopped", "forced", "already-gone"):
        return ""
    for reason in found if job.policy.steps else ():
        if reason.next:
            return reason.next
    if word == "not-permitted":
        return _PERMISSION
    if word == "unreachable":
        return f"`endtask look {pid}` says what it can hear"
    if word == "running" and job.policy.steps:
        forced = any(m.forced for m in job.members)
        return "" if forced else by_force(pid)
    return ""


_GUESSES = frozenset(("handler", "slow", "nothing", "not-taken", "shell-trap"))  # about what a process tells itself


def _not_permitted(facts: Facts) -> list[Reason]:
    """Return the reason for a process that we may not ask, whatever it would do."""
    if facts.may_signal is not False:
        return []
    pid = facts.ref.pid
    text = f"{called(pid, facts.name)}: {not_ours(facts)}"
    return [Reason("not-permitted", text, next=_PERMISSION, pid=pid)]


def explain(  # size: a table of reasons
    seen: Seen, below: Sequence[Facts], *, asked_before: bool, said_no: bool = False
) -> tuple[Reason, ...]:
    """Return why a process is (still) there: what would keep it from ending, what keeps its tree, who brings it back.

    Args:
        seen: The process.
        below: Facts of what it owns.
        asked_before: Whether an earlier stop asked it in vain.
        said_no: Whether it refused then. A receiver says so itself; of a Windows program only the journal knows it.
    """
    facts = seen.facts
    ending: list[Reason] = []
    if facts.receiver is not None:
        from endtask._said import ending_reasons

        ending = ending_reasons(facts)
    if facts.windows is not None:
        from endtask._diagnosis import explain_windows

        return (*ending, *explain_windows(seen, below, asked_before=asked_before, said_no=said_no))
    term = Request("TERM", "signal", _TERM_NUMBER)
    pending = facts.signals is not None and bool(facts.signals.pending & (1 << (_TERM_NUMBER - 1)))
    found = [*_not_permitted(facts), *reasons(facts, [term], asked=asked_before or pending)]
    if ending:
        found = [*ending, *(r for r in found if r.certain or r.code not in _GUESSES)]
    if facts.exited and not found:
        text = f"{called(facts.ref.pid, facts.name)} has exited: nothing of it runs any more"
        found.append(Reason("exited", text, pid=facts.ref.pid))
    if len(found) > 1:
        found = [r for r in found if r.code != "nothing"]
    found = [_told_alone(r, alone=not any(unhearing(c, _TERM_NUMBER) for c in below)) for r in found]
    if pending:
        found.insert(
            0,
            Reason(
                "asked",
                f"TERM is pending at {called(facts.ref.pid, facts.name)}: it was asked and has not acted on it",
                pid=facts.ref.pid,
            ),
        )
    managed = not facts.exited and catches(facts.signals, _TERM_NUMBER)
    keeps = " and ends only when its parent tells it" if managed else ", which keeps the tree"
    for child in below:
        if child.exited:
            continue
        held = [*_not_permitted(child), *reasons(child, [term], asked=False)]
        stuck = [r for r in held if r.code not in ("nothing", "holds-port")]
        if stuck:
            # A worker asked past its parent does something else than to end (a database's INT: break off the query).
            another_way = "" if managed and child.name == facts.name else stuck[0].next
            text = f"child {stuck[0].text}{keeps}"
            found.append(Reason("child", text, stuck[0].certain and not managed, another_way, child.ref.pid))
        if child.ports:
            ports = ", ".join(each_once(child.ports))
            found.append(
                Reason("holds-port", f"{called(child.ref.pid, child.name)} listens on {ports}", pid=child.ref.pid)
            )
    for suspect in seen.suspects:
        text = f"{called(suspect.ref.pid, suspect.name)} may belong to it: {suspect.because}"
        found.append(Reason("suspect", text, certain=False, next=f"`endtask look {suspect.ref}`", pid=suspect.ref.pid))
    return tuple(found)
