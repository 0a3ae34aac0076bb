"""From settled jobs to words, from facts to reasons."""

from __future__ import annotations

import pytest

from endtask._job import Job, JobMember
from endtask._outcome import outcome
from endtask._plan import make_policy
from endtask._requests import parse_request
from endtask._why import advice, explain, forced_without_effect, member_reasons, reasons, scope_reasons
from endtask.model import (
    Evidence,
    Facts,
    Forecast,
    Listener,
    Manager,
    PidRef,
    Policy,
    PortState,
    ProcessEnd,
    Reason,
    Receipt,
    Respawn,
    Scope,
    Seen,
    SignalSets,
    Suspect,
    WindowsFacts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.model import ReceiptStatus, Strength

TERM, HUP, INT = 15, 1, 2
PROVED = Evidence("pidfd", "proved", "all exited")


def bits(*numbers: int) -> int:
    """Return the mask with the bits of these signals."""
    return sum(1 << (n - 1) for n in numbers)


def settled(
    *,
    exited: bool = True,
    sent: ReceiptStatus | None = "delivered",
    forced: bool = False,
    evidence: tuple[Evidence, ...] = (PROVED,),
    suspects: tuple[Suspect, ...] = (),
    ports: tuple[PortState, ...] = (),
    respawn: Respawn | None = None,
    refused: str = "",
    policy: Policy | None = None,
) -> Job:
    """Return a settled job with one member."""
    member = JobMember(PidRef(12, "34"), "app", "target")
    job = Job(policy or make_policy(), [member])
    if sent is not None:
        member.receipts.append(Receipt("TERM", sent, 0.0, "detail"))
    if exited:
        member.exited_at, member.end = 1.0, ProcessEnd(0, source="pidfd")
    member.forced = forced
    member.denied = sent == "denied"
    job.state, job.refused, job.evidence, job.suspects, job.ports, job.respawn = (
        "settled",
        refused,
        evidence,
        suspects,
        ports,
        respawn,
    )
    return job


OURS = PortState(":3000", free=False, holder="13 app", holder_pid=13, ours=True)
FOREIGN = PortState(":3000", free=False, holder="99 other", holder_pid=99)
FREE = PortState(":3000", free=True)
SUSPECT = Suspect(PidRef(77, "1"), "escapee", "an orphan with the same environment", (":3000",))
RESPAWN = Respawn(PidRef(99, "1"), "app", "systemd app.service", "`systemctl stop app.service`")


@pytest.mark.parametrize(
    ("job", "word"),
    [
        (settled(), "stopped"),
        (settled(forced=True), "forced"),
        (settled(exited=False), "running"),
        (settled(exited=False, forced=True), "running"),
        (settled(exited=False, sent="denied", refused="not-permitted"), "not-permitted"),
        (settled(exited=False, sent="denied"), "not-permitted"),
        (settled(exited=False, sent="impossible", refused="unreachable"), "unreachable"),
        (settled(respawn=RESPAWN), "respawned"),
        (settled(respawn=RESPAWN, forced=True), "respawned"),
        (settled(sent=None), "already-gone"),
        (settled(sent="gone"), "already-gone"),
        (settled(sent=None, policy=Policy((), 1.0, Scope())), "stopped"),  # a wait: nothing was to be sent
        (settled(evidence=()), "unproven"),
        (settled(evidence=(), sent=None), "unproven"),
        (settled(evidence=(PROVED, Evidence("process-table", "observed", "read again"))), "stopped"),
        (settled(evidence=(PROVED, Evidence("x", "unproven", "could not be read"))), "unproven"),
        (settled(suspects=(SUSPECT,)), "unproven"),
        (settled(suspects=(SUSPECT,), respawn=RESPAWN), "unproven"),
        (settled(ports=(FREE,)), "stopped"),
        (settled(ports=(FOREIGN,)), "stopped"),  # a new foreign listener is not our failure (demand 3.11)
        (settled(ports=(OURS,)), "unproven"),
        (settled(exited=False, evidence=(PROVED,), suspects=(SUSPECT,)), "running"),
    ],
)
def test_outcome_is_the_worst_that_is_true(job: Job, word: str) -> None:
    """Every combination has one word; success needs evidence and nothing against it."""
    assert word == outcome(job)


def test_kept_survivor_is_no_failure() -> None:
    """What was to be left alone may run."""
    job = settled()
    job.members.append(JobMember(PidRef(13), "kept", "child of 12", kept=True))
    assert outcome(job) == "stopped"


def test_running_child_makes_the_target_running() -> None:
    """The leader exits, a member stays (demand 3.4)."""
    job = settled()
    job.members.append(JobMember(PidRef(13), "child", "child of 12"))
    assert outcome(job) == "running"


STRENGTHS: tuple[Strength, ...] = ("proved", "observed", "unproven")


@pytest.mark.parametrize("weakest", STRENGTHS)
def test_success_is_only_as_strong_as_its_weakest_evidence(weakest: Strength) -> None:
    """Anything unproven among the evidence is unproven."""
    job = settled(evidence=(PROVED, Evidence("x", weakest, "x")))
    assert ("unproven" if weakest == "unproven" else "stopped") == outcome(job)


# --- reasons


def facts(**more: object) -> Facts:
    """Return a sleeping process with default dispositions."""
    values: dict[str, object] = {"state": "S", "signals": SignalSets(), "ppid": 5, "parent_name": "sh", **more}
    return Facts(PidRef(12, "34"), "app", **values)  # type: ignore[arg-type]  # the fields' own types


ASKED = [parse_request("TERM")]
IGNORES = SignalSets(ignored=bits(TERM))
CATCHES = SignalSets(caught=bits(TERM))


@pytest.mark.parametrize(
    ("known", "code", "certain"),
    [
        (facts(signals=IGNORES), "ignored", True),
        (facts(signals=SignalSets(blocked=bits(TERM))), "blocked", True),
        (facts(signals=SignalSets(blocked=bits(TERM), waited_known=False)), "blocked", False),
        (facts(signals=CATCHES), "handler", False),
        (facts(signals=SignalSets(waited=bits(TERM))), "handler", False),
        (facts(signals=SignalSets(caught=bits(TERM), pending=bits(TERM))), "not-taken", False),
        (facts(signals=None), "unknown", False),
        (facts(), "slow", False),
        (facts(namespace_init=True), "namespace-init", True),
        (facts(namespace_init=True, signals=SignalSets(waited_known=False)), "namespace-init", False),
        (facts(state="T"), "stopped", True),
        (facts(state="t", tracer=9), "traced", True),
        (facts(state="S", tracer=9), "traced", False),  # strace hands signals on; only a stop holds them back
        (facts(frozen="v1"), "frozen", True),
        (facts(frozen="v2"), "frozen", True),
        (facts(state="D", wait_channel="rpc_wait"), "uninterruptible", True),
        (facts(state="Z", threads=3), "threads", True),
        (facts(core_dumping=True), "core-dump", True),
        (facts(exited=True, state="Z"), "zombie", True),
    ],
)
def test_each_state_has_its_reason(known: Facts, code: str, certain: bool) -> None:
    """The first reason names what keeps it, and says whether that is a guess."""
    found = reasons(known, ASKED)
    assert (code, certain) == (found[0].code, found[0].certain)
    assert found[0].pid == 12
    assert found[0].text


def test_hold_comes_before_the_disposition() -> None:
    """A stopped process that ignores TERM: both are said, the hold first."""
    assert ["stopped", "ignored"] == [r.code for r in reasons(facts(state="T", signals=IGNORES), ASKED)]


def test_reason_for_a_shell_with_a_trap_names_the_running_command() -> None:
    """The trap runs after the command (facts)."""
    shell = Facts(PidRef(12), "bash", state="S", cmdline=("bash", "run.sh"), signals=CATCHES)
    found = reasons(shell, ASKED)
    assert found[0].code == "shell-trap"
    assert "running command" in found[0].next


def test_uninterruptible_reason_names_the_kernel_function() -> None:
    """The evidence is in the sentence."""
    assert "rpc_wait" in reasons(facts(state="D", wait_channel="rpc_wait"), ASKED)[0].text


def test_zombie_reason_names_the_parent() -> None:
    """Who has not reaped it (demand 3.7)."""
    assert "5 sh" in reasons(facts(exited=True, state="Z"), ASKED)[0].text


def test_exited_and_reaped_needs_no_reason() -> None:
    """Nothing is there."""
    assert reasons(facts(exited=True, state="X"), ASKED) == []


def test_nothing_special_without_a_request_is_said_as_such() -> None:
    """`why` on a healthy process invents no cause."""
    found = reasons(facts(), ASKED, asked=False)
    assert [("nothing", False, "ask it: `endtask stop 12`")] == [(r.code, r.certain, r.next) for r in found]


def test_handler_is_no_reason_before_it_was_asked() -> None:
    """A handler keeps nothing until it has been run."""
    assert "handler" not in {r.code for r in reasons(facts(signals=CATCHES), ASKED, asked=False)}


def test_stop_of_a_loop_is_no_other_way_to_ask() -> None:
    """It keeps the loop from starting it again; what ignores a request ignores it also as part of the loop's tree."""
    loop = Manager("loop", "bash a.sh", "endtask stop 9", "unknown", certain=False, pid=9)
    assert "--force-after" in reasons(facts(signals=IGNORES, managers=(loop,)), ASKED)[0].next


def test_what_only_surrounds_it_is_no_way_to_stop_it() -> None:
    """Who ignores TERM in a pane of tmux is no reason to close the pane, in which somebody works; unless it is all that the pane has."""
    pane = Manager("tmux", "pane %0", "tmux kill-pane -t %0", "no", pid=50)
    inside = reasons(facts(signals=IGNORES, managers=(pane,), ppid=60), ASKED)[0].next
    assert "kill-pane" not in inside
    assert "--force-after" in inside
    assert reasons(facts(signals=IGNORES, managers=(pane,), ppid=50), ASKED)[0].next == "`tmux kill-pane -t %0`"


def test_port_of_two_families_is_told_once() -> None:
    """One socket for IPv4 and one for IPv6 are one port to everybody."""
    both = (Listener("tcp", "*", 80, 1), Listener("tcp", "*", 80, 2), Listener("udp", "*", 80, 3))
    assert [r.text for r in reasons(facts(ports=both), (), asked=False) if r.code == "holds-port"] == [
        "12 app listens on :80, udp:80"
    ]


def test_restarting_manager_and_port_are_told() -> None:
    """Who brings it back, and what it holds."""
    manager = Manager("systemd", "a.service", "systemctl stop a.service", "yes")
    found = reasons(facts(managers=(manager,), ports=(Listener("tcp", "*", 80, 1),)), ASKED)
    by_code = {r.code: r for r in found}
    assert "systemctl stop a.service" in by_code["restarted"].next
    assert ":80" in by_code["holds-port"].text


def test_next_for_an_ignored_request_is_the_gentlest_left() -> None:
    """A manager's command, then a request with a handler, then force; each is said as a command."""
    manager = Manager("systemd", "a.service", "systemctl stop a.service", "unknown")
    handles_int = SignalSets(ignored=bits(TERM), caught=bits(INT))
    assert "systemctl stop" in reasons(facts(signals=handles_int, managers=(manager,)), ASKED)[0].next
    assert "INT" in reasons(facts(signals=handles_int), ASKED)[0].next
    assert "--force-after" in reasons(facts(signals=IGNORES), ASKED)[0].next


@pytest.mark.parametrize("number", [1, 3])
def test_next_never_proposes_a_request_that_usually_means_something_else(number: int) -> None:
    """A caught HUP mostly reloads, a caught QUIT dumps the threads of a JVM (facts): neither is a way to stop."""
    found = reasons(facts(signals=SignalSets(ignored=bits(TERM), caught=bits(number))), ASKED)
    assert "--force-after" in found[0].next


def test_handler_that_is_blocked_at_the_moment_is_given_time() -> None:
    """It opens the signal when it waits again (ppoll(2))."""
    found = reasons(facts(signals=SignalSets(blocked=bits(TERM), caught=bits(TERM))), ASKED)
    assert [("blocked", False)] == [(r.code, r.certain) for r in found]
    assert "--timeout" in found[0].next


# --- members of a settled job


def asked(*receipts: Receipt, plan: str = "TERM/5") -> tuple[Job, JobMember]:
    """Return a settled job whose member has these receipts."""
    member = JobMember(PidRef(12, "34"), "app", "target")
    member.receipts.extend(receipts)
    job = Job(make_policy(plan=plan), [member])
    job.state = "settled"
    return job, member


def test_member_that_was_asked_in_vain_has_the_reason_of_its_facts() -> None:
    """Delivered and ignored: ignored."""
    job, member = asked(Receipt("TERM", "delivered"))
    assert ["ignored"] == [r.code for r in member_reasons(job, member, facts(signals=IGNORES))]


def test_member_that_may_not_be_asked_says_so_with_the_call() -> None:
    """EPERM with its call, never "gone"."""
    job, member = asked(Receipt("TERM", "denied", 0.0, "pidfd_send_signal: operation not permitted"))
    found = member_reasons(job, member, facts(signals=None))
    assert ["not-permitted"] == [r.code for r in found]
    assert "pidfd_send_signal" in found[0].text


def test_member_that_was_never_asked_says_so() -> None:
    """The time was over before its turn."""
    job, member = asked()
    assert ["not-asked"] == [r.code for r in member_reasons(job, member, facts())]


def test_worker_that_is_left_to_its_target_says_so() -> None:
    """It would never be asked while the target lives, so more time is no advice."""
    job, _member = asked(Receipt("TERM", "delivered"))
    worker = JobMember(PidRef(13, "1"), "app", "child of 12")
    worker.managed = True
    job.members.append(worker)
    (reason,) = member_reasons(job, worker, facts())
    assert "the same program as 12 app" in reason.text
    assert reason.next == ""


def on_windows(job: Job, member: JobMember, **more: object) -> Reason:
    """Return the only reason why a console program still runs."""
    known: dict[str, object] = {"same_machine": True, "same_user": True, "console": "none", **more}
    program = facts(windows=WindowsFacts("console", **known))  # type: ignore[arg-type]  # by name
    (reason,) = member_reasons(job, member, program)
    return reason


def test_program_of_windows_that_was_not_asked_says_why() -> None:
    """It cannot be asked, its turn never came, or it is its parent's affair: three different things."""
    job, member = asked(plan="kill")
    assert on_windows(job, member, ignores_ctrl_c=True, wine=True).text.startswith("12 app was not asked: it ignores")
    assert on_windows(job, member).text == "12 app was not asked before the time was over"
    worker = JobMember(PidRef(13, "1"), "app", "child of 12")
    worker.managed = True
    job.members.append(worker)
    assert "the same program as 12 app" in on_windows(job, worker).text


def test_plain_wait_on_windows_speaks_of_no_request() -> None:
    """Nothing was to be sent."""
    member = JobMember(PidRef(12), "app", "target")
    reason = on_windows(Job(Policy((), 1.0, Scope()), [member]), member)
    assert (reason.code, reason.certain) == ("nothing", False)


def test_member_reasons_rest_only_on_what_was_sent() -> None:
    """INT was planned and never sent, so ignoring INT is no reason."""
    job, member = asked(Receipt("TERM", "delivered"), plan="TERM/5/INT/5")
    both = SignalSets(ignored=bits(INT), caught=bits(TERM))
    assert ["handler"] == [r.code for r in member_reasons(job, member, facts(signals=both))]


def test_plain_wait_has_reasons_without_requests() -> None:
    """Nothing was sent, so nothing is said about answers."""
    member = JobMember(PidRef(12), "app", "target")
    job = Job(Policy((), 1.0, Scope()), [member])
    assert ["nothing"] == [r.code for r in member_reasons(job, member, facts())]


def test_pending_kill_is_told_as_pending() -> None:
    """Never "refused to die": KILL waits in the kernel (facts A3)."""
    _job, member = asked(Receipt("KILL", "delivered"))
    member.forced = True
    found = forced_without_effect(member, facts(state="D", signals=SignalSets(pending=bits(9))))
    assert found is not None
    assert found.code == "kill-pending"


def test_pending_kill_is_not_invented() -> None:
    """No reason without KILL sent, after the exit, or without the bit."""
    _job, member = asked()
    pending = SignalSets(pending=bits(9))
    assert forced_without_effect(member, facts(signals=pending)) is None
    member.forced = True
    assert forced_without_effect(member, facts(signals=pending, exited=True)) is None
    assert forced_without_effect(member, facts(signals=SignalSets())) is None
    assert forced_without_effect(member, facts(signals=None)) is None


# --- the scope as a whole


def test_suspect_is_named_with_its_ports_and_the_next_command() -> None:
    """An escapee without a tie is named, never silently left (issue 2, judged)."""
    found = scope_reasons(settled(suspects=(SUSPECT,)))
    assert [("suspect", False, 77)] == [(r.code, r.certain, r.pid) for r in found]
    assert ":3000" in found[0].text
    assert "endtask stop 77:1" in found[0].next


def test_port_is_told_with_its_holder() -> None:
    """Ours is a failure, a stranger's is only news."""
    assert ["port-held"] == [r.code for r in scope_reasons(settled(ports=(OURS,)))]
    assert ["port-taken"] == [r.code for r in scope_reasons(settled(ports=(FOREIGN,)))]
    assert scope_reasons(settled(ports=(FREE,))) == []


def test_shell_that_waits_for_an_asked_child_is_not_to_be_asked_elsewhere() -> None:
    """The child ignores TERM and says so itself; "ask the running command itself" would send the user in a circle."""
    shell = Facts(PidRef(12, "34"), "sh", cmdline=("sh", "run.sh"), signals=SignalSets(caught=bits(TERM)))
    job = settled(exited=False)
    alone = member_reasons(job, job.members[0], shell)
    assert [("shell-trap", "ask the running command itself")] == [(r.code, r.next) for r in alone]
    child = JobMember(PidRef(13, "35"), "sleep", "child of 12")
    child.receipts.append(Receipt("TERM", "delivered"))
    job.members.append(child)
    assert [("shell-trap", "")] == [(r.code, r.next) for r in member_reasons(job, job.members[0], shell)]
    deaf = Facts(PidRef(13, "35"), "sleep", signals=SignalSets(ignored=bits(TERM)))
    found = explain(Seen("12", shell, Forecast(())), [deaf], asked_before=True)
    assert ["shell-trap", "child"] == [r.code for r in found]
    assert not any("itself" in r.next for r in found)


def test_shell_whose_command_has_ended_has_had_its_turn() -> None:
    """`trap : TERM` in a loop: the trap has run, so to wait for the running command, or to ask that once more, helps nobody."""
    shell = Facts(PidRef(12, "34"), "sh", cmdline=("sh", "run.sh"), signals=SignalSets(caught=bits(TERM)))
    job = settled(exited=False)
    for number in (13, 14):
        child = JobMember(PidRef(number, "35"), "sleep", "child of 12")
        child.receipts.append(Receipt("TERM", "delivered"))
        job.members.append(child)
    job.members[1].exited_at = 1.0
    (reason,) = member_reasons(job, job.members[0], shell)
    assert (reason.code, reason.certain) == ("handler", False)
    assert "--force-after" in reason.next


def test_respawn_is_told_with_who_and_how_to_stop_it_for_good() -> None:
    """Who started it again and that manager's own command."""
    found = scope_reasons(settled(respawn=RESPAWN))
    assert [("respawned", "`systemctl stop app.service`")] == [(r.code, r.next) for r in found]
    assert "systemd app.service" in found[0].text


def test_advice_is_the_first_thing_that_can_be_done() -> None:
    """The first reason with a next step; nothing after a success."""
    found = [Reason("a", "x"), Reason("b", "y", next="do this"), Reason("c", "z", next="do that")]
    assert advice("running", 12, found, settled(exited=False)) == "do this"
    assert advice("stopped", 12, found, settled()) == ""
    assert advice("already-gone", 12, found, settled()) == ""


def test_advice_without_reasons_names_force_only_where_it_was_not_used() -> None:
    """Force is offered with its price, and not again to who used it."""
    assert "--force-after" in advice("running", 12, [], settled(exited=False))
    assert "unsaved work" in advice("running", 12, [], settled(exited=False))
    assert advice("running", 12, [], settled(exited=False, forced=True)) == ""
    assert "root" in advice("not-permitted", 12, [], settled(exited=False))


# --- why


def seen(known: Facts, suspects: tuple[Suspect, ...] = ()) -> Seen:
    """Return a look at one process."""
    return Seen("app", known, Forecast(()), suspects=suspects)


def codes(*found: Reason) -> list[str]:
    """Return the codes."""
    return [r.code for r in found]


def test_explain_says_that_a_request_is_pending() -> None:
    """It was asked, whoever did it."""
    known = facts(state="T", signals=SignalSets(pending=bits(TERM)))
    assert codes(*explain(seen(known), (), asked_before=False))[:2] == ["asked", "stopped"]


def test_explain_names_the_child_that_keeps_the_tree() -> None:
    """A child that ignores TERM keeps the tree; one that would end does not."""
    stuck = Facts(PidRef(13), "worker", state="S", signals=IGNORES)
    fine = Facts(PidRef(14), "helper", state="S", signals=SignalSets())
    gone = Facts(PidRef(15), "old", state="Z", exited=True)
    found = explain(seen(facts()), (stuck, fine, gone), asked_before=False)
    assert [13] == [r.pid for r in found if r.code == "child"]


def test_explain_does_not_advise_to_ask_a_worker_past_its_parent() -> None:
    """A server's worker that ignores TERM may take INT for something else than the end."""
    worker = Facts(PidRef(13), "app", state="S", signals=SignalSets(ignored=bits(TERM), caught=bits(INT)))
    found = explain(seen(facts(signals=CATCHES)), (worker,), asked_before=False)
    assert [""] == [r.next for r in found if r.code == "child"]


def test_explain_names_ports_of_children_and_suspects() -> None:
    """Who holds the port and who may belong to it."""
    child = Facts(PidRef(13), "worker", state="S", signals=SignalSets(), ports=(Listener("udp", "*", 53, 1),))
    found = explain(seen(facts(), (SUSPECT,)), (child,), asked_before=False)
    assert {("holds-port", 13), ("suspect", 77)} <= {(r.code, r.pid) for r in found}


def test_explain_takes_an_earlier_stop_into_account() -> None:
    """Asked before and still there: its handler is the reason now."""
    assert codes(*explain(seen(facts(signals=CATCHES)), (), asked_before=True)) == ["handler"]
