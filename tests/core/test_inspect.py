"""Predictions for every state and disposition (facts A3), wrappers, notes and advice."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from endtask._inspect import catches, forecast, passes_on, predict
from endtask._record import replace
from endtask._requests import parse_request
from endtask._words import is_shell, runs_script
from endtask.model import Facts, Manager, PidRef, Prediction, Request, SignalSets

HUP, INT, QUIT, KILL, TERM, CHLD, CONT, USR1 = 1, 2, 3, 9, 15, 17, 18, 10


def bits(*numbers: int) -> int:
    """Return the mask with the bits of these signals."""
    return sum(1 << (n - 1) for n in numbers)


def facts(name: str = "app", /, **more: object) -> Facts:
    """Return a sleeping process with default dispositions."""
    values: dict[str, object] = {"state": "S", "signals": SignalSets(), "ppid": 5, "parent_name": "sh", **more}
    return Facts(PidRef(12, "34"), name, **values)  # type: ignore[arg-type]  # the fields' own types


def says(known: Facts, request: str = "TERM") -> tuple[str, bool]:
    """Return the word and whether it is certain."""
    prediction = predict(known, parse_request(request))
    assert request == prediction.request
    assert prediction.because, "a prediction names the facts that it rests on"
    return prediction.answer, prediction.certain


# --- dispositions of a process that runs


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        (SignalSets(), "ends"),
        (SignalSets(caught=bits(TERM)), "handler"),
        (SignalSets(ignored=bits(TERM)), "ignored"),
        (SignalSets(blocked=bits(TERM)), "blocked"),
        (SignalSets(waited=bits(TERM)), "waits-for-it"),
        (SignalSets(blocked=bits(TERM), waited=bits(TERM)), "waits-for-it"),
        (SignalSets(blocked=bits(TERM), ignored=bits(TERM)), "blocked"),  # blocked wins: the kernel keeps it
        (SignalSets(blocked=bits(TERM, INT), ignored=bits(INT)), "blocked"),
        (SignalSets(caught=bits(INT), ignored=bits(HUP), blocked=bits(QUIT)), "ends"),  # others' bits do not matter
    ],
)
def test_disposition_decides_in_the_kernels_order(signals: SignalSets, expected: str) -> None:
    """Waited for, blocked, ignored, caught, default: the first that applies."""
    assert (expected, True) == says(facts(signals=signals))


def test_blocked_with_a_handler_is_uncertain() -> None:
    """A program that blocks a signal and opens it only while it waits (ppoll(2), pselect(2)) shows this most of the time."""
    assert ("blocked", False) == says(facts(signals=SignalSets(blocked=bits(TERM), caught=bits(TERM))))


@pytest.mark.parametrize(
    ("request_name", "expected"),
    [
        ("TERM", "ends"),
        ("INT", "ends"),
        ("HUP", "ends"),
        ("QUIT", "ends-core"),
        ("ABRT", "ends-core"),
        ("USR1", "ends"),
        ("RTMIN+3", "ends"),
        ("CHLD", "nothing"),
        ("WINCH", "nothing"),
        ("CONT", "continues"),
        ("KILL", "ends"),
    ],
)
def test_default_action_follows_signal_7(request_name: str, expected: str) -> None:
    """Each request's default action is that of signal(7)."""
    assert (expected, True) == says(facts(), request_name)


@pytest.mark.parametrize("number", [19, 20, 21, 22])
def test_signals_that_suspend_are_predicted_to_suspend(number: int) -> None:
    """No plan has them, and `predict` knows them all the same."""
    assert predict(facts(), Request("X", "signal", number)).answer == "stops"


def test_nohup_ignores_only_hup() -> None:
    """`nohup` changes HUP and nothing else."""
    known = facts(signals=SignalSets(ignored=bits(HUP)))
    assert [says(known, n)[0] for n in ("HUP", "TERM", "INT")] == ["ignored", "ends", "ends"]


def test_background_job_of_a_script_ignores_int_and_quit() -> None:
    """A shell without job control gives its background children INT and QUIT ignored."""
    known = facts(signals=SignalSets(ignored=bits(INT, QUIT)))
    assert [says(known, n)[0] for n in ("INT", "QUIT", "TERM")] == ["ignored", "ignored", "ends"]


@pytest.mark.parametrize("request_name", ["stdin:q", "cmd:'app stop'"])
def test_answer_to_other_requests_is_unknown(request_name: str) -> None:
    """What a program makes of a line or of a command cannot be read from masks."""
    assert ("unknown", False) == says(facts(), request_name)


# --- the states of A3

CAUGHT = SignalSets(caught=bits(TERM, QUIT))
A3 = [
    # state                                               TERM default     TERM handler     KILL
    ({}, ("ends", True), ("handler", True), ("ends", True)),
    ({"state": "R"}, ("ends", True), ("handler", True), ("ends", True)),
    ({"state": "T"}, ("after-continue", True), ("after-continue", True), ("ends", True)),
    ({"state": "t", "tracer": 9}, ("after-trace", True), ("after-trace", True), ("ends", True)),
    ({"frozen": "v2"}, ("ends", True), ("after-thaw", True), ("ends", True)),
    ({"frozen": "v1", "state": "D"}, ("after-thaw", True), ("after-thaw", True), ("after-thaw", True)),
    # a vfork parent shows D and dies at once, a hung disk shows D and does not: certain is only that a handler has to wait
    ({"state": "D"}, ("after-kernel", False), ("after-kernel", True), ("after-kernel", False)),
    ({"namespace_init": True}, ("immune", True), ("handler", True), ("ends", True)),
    ({"core_dumping": True, "state": "R"}, ("no-effect", True), ("no-effect", True), ("ends", True)),
    ({"exited": True, "state": "Z"}, ("no-effect", True), ("no-effect", True), ("no-effect", True)),
    ({"kernel": True}, ("no-effect", True), ("no-effect", True), ("no-effect", True)),
]
A3_NAMES = [
    "sleeps",
    "runs",
    "stopped",
    "traced",
    "frozen-v2",
    "frozen-v1",
    "uninterruptible",
    "namespace-init",
    "core-dump",
    "zombie",
    "kernel",
]


@pytest.mark.parametrize(("state", "default", "handler", "kill"), A3, ids=A3_NAMES)
def test_every_state_answers_as_measured(
    state: dict[str, object], default: tuple[str, bool], handler: tuple[str, bool], kill: tuple[str, bool]
) -> None:
    """The table of facts A3, row by row: TERM with the default action, TERM with a handler, KILL."""
    assert default == says(facts(**state))
    assert handler == says(facts(signals=CAUGHT, **state))
    assert kill == says(facts(**state), "KILL")
    assert kill == says(facts(signals=CAUGHT, **state), "KILL")


def test_core_signals_stay_pending_in_a_frozen_v2_cgroup() -> None:
    """Only fatal signals without a dump become a kill there (facts A3)."""
    assert ("after-thaw", True) == says(facts(frozen="v2"), "QUIT")


@pytest.mark.parametrize("state", [{"state": "T"}, {"state": "t", "tracer": 9}, {"frozen": "v2"}, {"frozen": "v1"}])
def test_ignored_stays_ignored_however_it_is_held(state: dict[str, object]) -> None:
    """A signal that is ignored is thrown away when it is sent, so no CONT or thaw brings it."""
    assert says(facts(signals=SignalSets(ignored=bits(TERM)), **state))[0] == "ignored"


def test_continue_works_on_a_stopped_process_whatever_it_does_with_it() -> None:
    """CONT takes effect even when it is blocked or ignored (signal(7))."""
    assert says(facts(state="T", signals=SignalSets(blocked=bits(CONT))), "CONT")[0] == "continues"


def test_first_of_a_namespace_hears_what_it_has_a_handler_for() -> None:
    """Immune are only default actions; INT has no handler here (demand 3.23)."""
    known = facts(namespace_init=True, signals=SignalSets(caught=bits(TERM)))
    assert [says(known, n)[0] for n in ("TERM", "INT", "QUIT", "KILL")] == ["handler", "immune", "immune", "ends"]


def test_held_prediction_says_what_follows() -> None:
    """The words name the hold and the disposition behind it."""
    prediction = predict(facts(state="T", signals=CAUGHT), parse_request("TERM"))
    assert "stopped" in prediction.because
    assert "own handler" in prediction.because


def test_uninterruptible_prediction_names_the_kernel_function() -> None:
    """The wait channel is the fact it rests on."""
    prediction = predict(facts(state="D", wait_channel="nfs_wait"), parse_request("KILL"))
    assert "nfs_wait" in prediction.because


def test_leader_that_ended_while_threads_run_is_not_gone() -> None:
    """State Z with living threads still answers (facts A1)."""
    assert ("ends", True) == says(facts(state="Z", threads=3))


# --- unreadable facts never give a certain answer


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"state": "T"},
        {"state": "t", "tracer": 9},
        {"frozen": "v1"},
        {"frozen": "v2"},
        {"state": "D"},
        {"namespace_init": True},
    ],
)
@pytest.mark.parametrize("request_name", ["TERM", "INT", "HUP", "QUIT"])
def test_unreadable_masks_give_no_certain_answer(state: dict[str, object], request_name: str) -> None:
    """Without the masks nobody knows whether it would be ignored, so nothing about an ordinary signal is certain."""
    assert not says(facts(signals=None, **state), request_name)[1]


def test_unreadable_masks_leave_kill_certain() -> None:
    """KILL asks no mask."""
    assert ("ends", True) == says(facts(signals=None), "KILL")


MASKS = st.integers(0, 31).map(lambda n: bits(*(s for i, s in enumerate((TERM, INT, QUIT, CHLD, USR1)) if n >> i & 1)))
STATES = st.sampled_from([state for state, *_ in A3])
REQUESTS = st.sampled_from([parse_request(n) for n in ("TERM", "INT", "QUIT", "CHLD", "USR1", "KILL", "CONT")])
ALIKE = {"waits-for-it": "handler"}  # either way the program takes it


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(STATES, MASKS, MASKS, MASKS, MASKS, REQUESTS)
def test_certain_answer_holds_for_everything_that_could_not_be_read(
    state: dict[str, object], ignored: int, caught: int, blocked: int, waited: int, request: Request
) -> None:
    """An answer that is called certain without the waits being readable is the same whatever they are.

    A thread in sigwait takes its set out of SigBlk, so unread waits can hide behind every mask (facts A3, step 2).
    """
    assume(not ignored & caught)
    seen = SignalSets(ignored, caught, blocked & ~waited, waited_known=False)
    prediction = predict(facts(signals=seen, **state), request)
    if prediction.certain:
        truth = predict(facts(signals=replace(seen, waited=waited, waited_known=True), **state), request)
        assert ALIKE.get(truth.answer, truth.answer) == ALIKE.get(prediction.answer, prediction.answer)


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(STATES, MASKS, MASKS, MASKS, MASKS, st.booleans(), REQUESTS)
def test_prediction_never_says_ends_of_what_stays(
    state: dict[str, object], ignored: int, caught: int, blocked: int, waited: int, known: bool, request: Request
) -> None:
    """No wrong "dies" (facts, goals): `ends` for an asked signal needs that it is neither ignored, caught, blocked nor waited for."""
    signals = SignalSets(ignored, caught, blocked, waited=waited if known else 0, waited_known=known)
    prediction = predict(facts(signals=signals, **state), request)
    if prediction.answer in ("ends", "ends-core") and request.number != KILL:
        mine = 1 << (request.number - 1)
        assert not mine & (ignored | caught | blocked)
        assert not (known and mine & waited)
        assert "namespace_init" not in state


def test_catches_counts_handlers_and_waits_and_what_is_unreadable() -> None:
    """Unreadable counts as caught: the gentler guess leaves the children to the target."""
    assert catches(SignalSets(caught=bits(TERM)), TERM)
    assert catches(SignalSets(waited=bits(TERM)), TERM)
    assert not catches(SignalSets(ignored=bits(TERM)), TERM)
    assert catches(None, TERM)


# --- wrappers


@pytest.mark.parametrize(
    ("name", "cmdline", "script"),
    [
        ("sh", ("sh", "-c", "app"), True),
        ("bash", ("bash", "-lc", "app"), True),
        ("bash", ("/bin/bash", "run.sh"), True),
        ("dash", ("sh", "-ec", "app"), True),
        ("bash", ("bash",), False),
        ("bash", ("-bash",), False),
        ("bash", ("bash", "-i"), False),
        ("bash", ("bash", "--norc"), False),
        ("bash", ("bash", "--rcfile", "/x/shell-integration.sh", "-i"), False),
        ("zsh", ("-zsh", ""), False),
        ("python", ("python", "-c", "x"), False),
        ("sh", (), False),
    ],
)
def test_script_is_told_from_a_persons_shell(name: str, cmdline: tuple[str, ...], script: bool) -> None:
    """`-c` or a file makes a script, options alone a person's shell."""
    assert script is runs_script(name, cmdline)


def test_login_shell_is_a_shell() -> None:
    """A leading dash marks a login shell."""
    assert is_shell("-zsh")
    assert not is_shell("sshd")


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        (facts("sh", cmdline=("sh", "-c", "app; true")), False),
        (facts("bash", cmdline=("bash", "run.sh"), signals=SignalSets(caught=bits(TERM))), False),
        (facts("bash", cmdline=("bash", "run.sh"), signals=None), False),
        (facts("bash", cmdline=("-bash",)), None),
        (facts("sudo", cmdline=("sudo", "app"), signals=CAUGHT), True),
        (facts("timeout", cmdline=("timeout", "5", "app"), signals=CAUGHT), True),
        (facts("tini", cmdline=("tini", "--", "app")), True),
        (facts("npm run dev", cmdline=("npm run dev",), signals=CAUGHT), None),
        (facts("node", cmdline=("node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "start"), signals=CAUGHT), None),
        (facts("xvfb-run", cmdline=("/bin/sh", "/usr/bin/xvfb-run", "app")), False),
        (facts("app", cmdline=("app",)), False),
        (facts("app", cmdline=("app",), signals=CAUGHT), None),
        (facts("app", cmdline=("app",), signals=None), None),
    ],
)
def test_wrappers_are_known_for_what_they_pass_on(wrapper: Facts, expected: bool | None) -> None:
    """True, False, or None where nobody can tell from outside; always with the reason."""
    passing, because = passes_on(wrapper)
    assert expected is passing
    assert because


def test_behind_a_shell_the_real_program_is_named() -> None:
    """`sh -c app`: look names whom to ask (demand 3.24)."""
    child = replace(facts("app"), ref=PidRef(13, "35"))
    seen = forecast(facts("sh", cmdline=("sh", "-c", "app; true")), [parse_request("TERM")], [child])
    assert seen.ask_instead == 13
    assert seen.passes_on is False
    assert any("13 app" in line for line in seen.advice)


def test_behind_two_wrappers_the_first_real_program_is_named() -> None:
    """`xvfb-run sh -c app`: launchers in between and what has exited are passed over."""
    zombie = replace(facts("old", exited=True, state="Z"), ref=PidRef(20))
    shell = replace(facts("sh", cmdline=("sh", "-c", "app")), ref=PidRef(21))
    app = replace(facts("app"), ref=PidRef(22))
    seen = forecast(
        facts("xvfb-run", cmdline=("/bin/sh", "/usr/bin/xvfb-run", "app")),
        [parse_request("TERM")],
        [zombie, shell, app],
    )
    assert seen.ask_instead == 22


def test_deaf_program_behind_a_shell_is_not_to_be_asked_by_term() -> None:
    """`sh -c app` where app ignores TERM: to ask it itself is no advice; INT is, where it hears that, else force."""
    shell = facts("sh", cmdline=("sh", "-c", "app; true"))
    for int_caught, way in ((0, "--force-after 5s"), (1 << 1, "--plan INT/10")):
        deaf = replace(facts("app", signals=SignalSets(ignored=1 << 14, caught=int_caught)), ref=PidRef(13, "35"))
        seen = forecast(shell, [parse_request("TERM")], [deaf])
        assert seen.ask_instead == 0
        assert not any("itself" in line for line in seen.advice)
        assert any("13 app ignores TERM" in line and way in line for line in seen.advice), seen.advice
    trapping = facts("bash", cmdline=("bash", "run.sh"), signals=CAUGHT)
    assert not any("asks that one too" in line for line in forecast(trapping, (), [deaf]).advice)


def test_shell_with_a_trap_is_asked_with_its_running_command() -> None:
    """Its trap runs when the running command has ended, and a stop asks that one too: there is no need to ask another."""
    child = replace(facts("app"), ref=PidRef(13))
    shell = facts("bash", cmdline=("bash", "run.sh"), signals=CAUGHT)
    seen = forecast(shell, [parse_request("TERM")], [child])
    assert seen.ask_instead == 0
    assert any("trap" in line and "13 app" in line for line in seen.advice)


@pytest.mark.parametrize(
    ("name", "cmdline"),
    [
        ("npm run dev", ("npm run dev",)),
        ("node", ("node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "start")),
        ("sudo", ("sudo", "sh", "-c", "app; true")),
    ],
)
def test_shell_between_a_wrapper_and_the_program_ends_the_chain(name: str, cmdline: tuple[str, ...]) -> None:
    """`npm start`: whatever npm hands on, its shell keeps it; so the program itself is named, unless that does not hear TERM."""
    shell = replace(facts("sh", cmdline=("sh", "-c", "app; true"), ppid=12), ref=PidRef(21))
    app = replace(facts("app", ppid=21), ref=PidRef(22))
    wrapper = facts(name, cmdline=cmdline, signals=CAUGHT)
    seen = forecast(wrapper, [parse_request("TERM")], [shell, app])
    assert seen.ask_instead == 22
    assert any("ask 22 app itself" in line and "21 sh" in line for line in seen.advice), seen.advice
    deaf = replace(app, signals=SignalSets(ignored=bits(TERM)))
    for below in (
        [replace(shell, name="app", cmdline=("app",)), app],
        [shell, deaf],
        [shell],
        [replace(shell, exited=True), app],
    ):
        assert forecast(wrapper, [parse_request("TERM")], below).ask_instead == 0
    assert forecast(facts("timeout", signals=CAUGHT), (), [shell, app]).ask_instead == 0, "it tells its whole group"


def test_wrapper_of_wrappers_only_names_nobody() -> None:
    """While the real program has not begun there is nobody else to ask."""
    shell = replace(facts("sh", cmdline=("sh", "-c", "app")), ref=PidRef(21))
    seen = forecast(
        facts("xvfb-run", cmdline=("/bin/sh", "/usr/bin/xvfb-run", "app")), [parse_request("TERM")], [shell]
    )
    assert seen.ask_instead == 0


def test_program_with_children_is_asked_itself() -> None:
    """A server with workers is no launcher, even without a handler."""
    assert forecast(facts("server"), [parse_request("TERM")], [facts("worker")]).ask_instead == 0


def test_process_without_children_passes_nothing() -> None:
    """Without children there is nothing to say about passing on."""
    seen = forecast(facts("sh", cmdline=("sh", "-c", "app")), [parse_request("TERM")])
    assert (None, 0, ()) == (seen.passes_on, seen.ask_instead, seen.advice)


# --- notes and advice


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (facts(exited=True, state="Z"), ("zombie", "5 sh")),
        (facts(state="Z", threads=4), ("main thread has ended", "3 other threads")),
        (facts(state="T"), ("stopped", "CONT")),
        (facts(state="t", tracer=77), ("traced", "77")),
        (facts(frozen="v1"), ("frozen", "v1")),
        (facts(state="D", wait_channel="rpc_wait"), ("uninterruptible", "rpc_wait")),
        (facts(core_dumping=True), ("core dump",)),
        (facts(namespace_init=True), ("first process", "namespace")),
        (facts(other_namespace=True), ("namespace of its own",)),
    ],
)
def test_note_names_the_state_and_who_is_to_blame(known: Facts, words: tuple[str, ...]) -> None:
    """Each state of A3 has a sentence with its evidence."""
    text = " ".join(forecast(known, ()).notes)
    for word in words:
        assert word in text


def test_ordinary_process_needs_no_note() -> None:
    """Nothing special, nothing said."""
    seen = forecast(facts(), [parse_request("TERM")])
    assert ((), ()) == (seen.notes, seen.advice)


def test_advice_for_pid_1_of_a_container_names_the_init() -> None:
    """Advice is given only while there is no TERM handler (demand 3.23)."""
    assert any("--init" in a for a in forecast(facts(namespace_init=True), ()).advice)
    assert not any("--init" in a for a in forecast(facts(namespace_init=True, signals=CAUGHT), ()).advice)


def test_advice_names_the_managers_own_stop() -> None:
    """A supervised target is stopped for good by its manager (demand 3.25)."""
    restarter = Manager("systemd", "web.service", "systemctl stop web.service", "yes")
    plain = Manager("tmux", "%1", "tmux kill-pane -t %1", "no")
    advice = forecast(facts(managers=(plain, restarter)), ()).advice
    assert any("systemctl stop web.service" in a and "starts it again" in a for a in advice)
    assert not any("kill-pane" in a for a in advice)


def test_forecast_has_one_prediction_for_each_request_in_order() -> None:
    """What is asked about is answered, in order."""
    names = ["TERM", "INT", "HUP", "QUIT", "KILL"]
    seen = forecast(facts(), [parse_request(n) for n in names])
    assert names == [p.request for p in seen.predictions]
    assert seen.predictions[0] == Prediction("TERM", "ends", True, seen.predictions[0].because)
