"""What a Windows program does instead of ending, told apart by its windows alone."""

from __future__ import annotations

import pytest

from endtask._answers import forecast_windows, predict_windows
from endtask._diagnosis import BLOCKING, diagnose, explain_windows
from endtask._inspect import forecast
from endtask._plan import make_policy, respawn_watch
from endtask._record import replace
from endtask._requests import parse_request, with_consent
from endtask._why import explain
from endtask.model import Facts, Forecast, PidRef, Receipt, Receiver, Seen, Service, Window, WindowsFacts

CLOSED = (Receipt("WM_CLOSE", "delivered"),)
MAIN = Window(1, "main", "App", visible=True)
DIALOG = Window(
    2, "Save", "#32770", visible=True, owner=1, role="dialog", texts=("Save changes?",), buttons=("&Yes", "&No")
)


def facts(*windows: Window, **more: object) -> Facts:
    """Return the facts of process 12 with these windows."""
    return Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("gui", windows=windows, **more))  # type: ignore[arg-type]  # by name


def codes(now: Facts, receipts: tuple[Receipt, ...] = CLOSED, before: Facts | None = None) -> list[str]:
    """Return the codes of the reasons."""
    earlier = facts(MAIN) if before is None else before
    return [r.code for r in diagnose(now, earlier.windows, receipts)]


def test_dialog_is_told_with_its_text_and_buttons() -> None:
    """A person can answer only what is named."""
    (reason,) = diagnose(facts(MAIN, DIALOG), facts(MAIN).windows, CLOSED)
    assert reason.code == "dialog"
    assert "Save changes?" in reason.text
    assert "[Yes] [No]" in reason.text


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (facts(MAIN), "swallowed"),
        (facts(Window(1, "main", "App", visible=False, role="hidden")), "hidden"),
        (facts(), "windowless"),
        (facts(Window(1, "main", "App", visible=True, enabled=False)), "disabled"),
        (facts(MAIN, hung=True), "hung"),
        (facts(MAIN, suspended=True), "suspended"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_state_has_its_own_word(now: Facts, code: str) -> None:
    """One signature each."""
    assert codes(now) == [code]


def test_windowless_program_with_hidden_windows_is_not_called_without_any() -> None:
    """The hidden owner of its windows is still there."""
    (reason,) = diagnose(facts(Window(9, "owner", "App", role="hidden")), facts(MAIN).windows, CLOSED)
    assert reason.code == "windowless"
    assert "hidden ones only" in reason.text


def test_window_that_was_opened_since_may_be_a_question() -> None:
    """Toolkits that draw for themselves disable no window: only that it is new can be seen, so it is a guess, and nothing more is sent."""
    for role in ("owned", "main"):
        asks = Window(5, "Save?", "QtWindow", visible=True, owner=1, role=role)
        (reason,) = diagnose(facts(MAIN, asks), facts(MAIN).windows, CLOSED)
        assert (reason.code, reason.certain) == ("question", False)
        assert '"Save?"' in reason.text
        assert reason.code in BLOCKING
        assert codes(facts(MAIN, asks), before=facts(MAIN, asks)) == ["swallowed"]
    assert codes(facts(Window(5, "Sending mail", "App", visible=True))) == ["question"]


def console(**more: object) -> Facts:
    """Return the facts of a console program."""
    return Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("console", **more))  # type: ignore[arg-type]  # by name


def test_console_program_that_runs_on_has_heard_the_event() -> None:
    """Without a handler of its own it would be gone; what the handler does cannot be seen."""
    receipts = (Receipt("STOP_EVENT", "delivered"), Receipt("CTRL_C", "delivered"), Receipt("CTRL_BREAK", "impossible"))
    (reason,) = diagnose(console(), console().windows, receipts)
    assert (reason.code, reason.certain) == ("handler", False)
    assert "heard CTRL_C" in reason.text
    assert diagnose(console(), console().windows, receipts[:1]) == []


def test_who_says_that_it_has_heard_is_ending() -> None:
    """It said so itself, so it is no guess."""
    receipts = (Receipt("STOP_EVENT", "delivered"),)
    (reason,) = diagnose(console(), console().windows, receipts, heard=True)
    assert (reason.code, reason.certain) == ("heard", True)


def test_exit_that_comes_to_no_end_is_told() -> None:
    """Nothing can ignore ExitProcess, but a DLL can wait in the middle of it; TerminateProcess is left."""
    receipts = (Receipt("CTRL_C", "delivered"), Receipt("EXIT_PROCESS", "delivered"))
    (reason,) = diagnose(console(), console().windows, receipts)
    assert (reason.code, reason.certain, reason.next) == ("exit-hangs", False, "`endtask stop 12 --now`")


def test_program_that_was_suspended_when_it_was_asked_is_called_so() -> None:
    """The thread that asks runs, so not all of its threads are suspended any more."""
    receipts = (Receipt("CTRL_C", "delivered"),)
    (reason,) = diagnose(console(suspended=False), console(suspended=True).windows, receipts)
    assert (reason.code, reason.certain) == ("suspended", False)
    (reason,) = diagnose(console(suspended=True), console(suspended=True).windows, receipts)
    assert (reason.code, reason.certain) == ("suspended", True)


def test_question_that_is_asked_twice_is_told_once() -> None:
    """Notepad opens one more for each request; the same sentence twice says no more."""
    again = replace(DIALOG, handle=3)
    assert codes(facts(MAIN, DIALOG, again)) == ["dialog"]
    notes = forecast_windows(facts(MAIN, DIALOG, again), [], make_policy(signals=False), ()).notes
    assert len(notes) == 1


def test_veto_is_told_by_its_receipt() -> None:
    """The only request with a readable no."""
    assert codes(facts(MAIN), (Receipt("WM_ENDSESSION", "vetoed", 0.0, "saving"),)) == ["vetoed"]


def test_batch_file_asks_after_ctrl_c() -> None:
    """It cannot be seen whether it really asks, so it is a guess."""
    now = Facts(PidRef(12, "1"), "cmd.exe", windows=WindowsFacts("console", runtime="cmd"))
    (reason,) = diagnose(now, None, (Receipt("CTRL_C", "delivered"),))
    assert reason.code == "batch-question"
    assert not reason.certain


def test_service_that_is_stopping_says_so() -> None:
    """The service manager tells, so it is no guess; before it was asked it is no news of ours."""
    now = facts(services=(Service("spool", state="stop-pending"),))
    (reason,) = diagnose(now, None, (Receipt("SERVICE_STOP", "delivered"),))
    assert (reason.code, reason.certain) == ("service-stopping", True)
    assert diagnose(now, None, ()) == []


def test_nothing_is_said_of_what_was_not_asked() -> None:
    """A window that is simply there is no reason."""
    assert codes(facts(MAIN), ()) == []


def test_process_that_has_exited_has_no_reasons() -> None:
    """Its windows of before are nobody's any more."""
    gone = Facts(PidRef(12, "1"), "app.exe", exited=True, windows=WindowsFacts("gui", windows=(DIALOG,)))
    assert diagnose(gone, None, CLOSED) == []


def test_why_says_of_a_program_that_was_asked_in_vain_that_it_handled_the_request() -> None:
    """That nothing keeps it from ending would be said of one that nobody has asked."""
    told = {b: explain_windows(Seen("app", facts(MAIN), Forecast(())), [], asked_before=b) for b in (False, True)}
    assert {b: [r.code for r in found] for b, found in told.items()} == {False: ["nothing"], True: ["slow"]}
    assert "--force-after" in told[True][0].next


def test_process_that_somebody_only_holds_is_said_to_have_exited() -> None:
    """Its pid can be opened as long as anybody has a handle on it."""
    gone = Facts(PidRef(12, "1"), "app.exe", state="X", exited=True)
    seen = Seen("12", gone, forecast(gone, [parse_request("wm-close", signals=False)], []))
    assert any("has exited" in note for note in seen.forecast.notes)
    (reason,) = explain(seen, [], asked_before=False)
    assert (reason.code, reason.certain) == ("exited", True)


def test_why_names_a_program_that_ignores_ctrl_c() -> None:
    """On Wine that withholds every other event as well."""
    given = [console(ignores_ctrl_c=True), console(ignores_ctrl_c=True, wine=True), facts(MAIN, ignores_ctrl_c=True)]
    found = [explain_windows(Seen("app", one, Forecast(())), [], asked_before=False)[0] for one in given]
    assert ["ignored", "ignored", "nothing"] == [r.code for r in found]
    assert [False, True] == ["Wine" in r.text for r in found[:2]]


# --------------------------------------------------------------------------- forecasts


def answer(given: Facts, word: str) -> str:
    """Return the word for one request."""
    return predict_windows(given, parse_request(word, signals=False)).answer


def test_window_messages_need_windows() -> None:
    """And do not go up to a higher integrity."""
    assert answer(facts(MAIN), "wm-close") == "asks"
    assert answer(facts(), "wm-close") == "no-listener"
    assert answer(facts(MAIN, above_us=True), "wm-close") == "denied"
    assert answer(facts(MAIN, same_session=False, session=2), "wm-close") == "no-listener"


def test_window_that_does_not_answer_is_asked_all_the_same() -> None:
    """It may come back; one whose threads are suspended will not by itself."""
    hung = predict_windows(facts(MAIN, hung=True), parse_request("wm-close", signals=False))
    assert (hung.answer, hung.certain) == ("asks", False)
    assert answer(facts(MAIN, hung=True, suspended=True), "wm-close") == "after-continue"


def test_program_with_windows_gets_no_event_but_may_be_forced() -> None:
    """The default handler of an event would end it without a question; who names ExitProcess wants just that."""
    assert answer(facts(MAIN), "ctrl-c") == "refused-here"
    assert answer(facts(MAIN), "exit-process") == "ends"


def test_wm_quit_is_refused_while_a_dialog_is_open() -> None:
    """It would answer the dialog."""
    assert answer(facts(MAIN, DIALOG), "wm-quit") == "refused-here"


def test_wm_close_is_not_sent_past_a_dialog() -> None:
    """It would answer the dialog; where nobody sits at the screen it is sent all the same."""
    waiting = facts(Window(1, "main", "App", visible=True, enabled=False), DIALOG)
    assert answer(waiting, "wm-close") == "refused-here"
    unattended = with_consent(parse_request("wm-close", signals=False), unattended=True, dependents=False)
    assert predict_windows(waiting, unattended).answer == "asks"


def test_service_that_is_asked_to_stop_is_not_watched() -> None:
    """Its manager starts again only what dies without being asked."""
    hosts = WindowsFacts("service", services=(Service("spool", restarts=True),))
    given = Facts(PidRef(12, "1"), "svc.exe", ppid=4, parent_name="services.exe", windows=hosts)
    for force, watched in ((None, False), (5.0, True)):
        watch_s, _why = respawn_watch(
            given, make_policy(signals=False, force_after_s=force), launcher=False, shell=False
        )
        assert bool(watch_s) is watched


def test_console_event_for_everybody_is_refused_on_our_own_console() -> None:
    """It would hit us and whoever called us."""
    ours = Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("console", console="this", console_pids=(12, 5)))
    assert answer(ours, "console-ctrl-c") == "refused-here"


@pytest.mark.parametrize("word", ["ctrl-c", "exit-process"])
def test_thread_in_what_was_never_started_up_is_no_promise(word: str) -> None:
    """Where the modules of a suspended process cannot be read, they may not be there yet, and no thread can be started at them."""
    found = WindowsFacts("console", console="none", suspended=True)
    assert answer(Facts(PidRef(12, "1"), "app.exe", windows=found), word) in ("asks", "ends")
    unborn = Facts(PidRef(12, "1"), "app.exe", windows=found, unknown=(("windows.runtime", "error 998"),))
    prediction = predict_windows(unborn, parse_request(word, signals=False))
    assert (prediction.answer, prediction.certain) == ("unknown", False)
    assert "may not have been started up" in prediction.because


def test_event_that_ends_cpython_at_once_is_explained() -> None:
    """Ctrl+C is mapped by CPython itself; of the others it can only be said what happens without a handler, which nobody sees."""
    python = Facts(PidRef(12, "1"), "python.exe", windows=WindowsFacts("console", runtime="cpython", console="none"))
    found = [predict_windows(python, parse_request(w, signals=False)) for w in ("ctrl-c", "ctrl-break", "ctrl-close")]
    assert [p.certain for p in found] == [True, False, False]
    assert all("dies at once" in p.because for p in found[1:])


def test_console_event_is_heard_by_a_receiver() -> None:
    """It has a handler for all of them, unless it was told otherwise; a stop event alone only makes one likely."""
    windows = WindowsFacts("console", runtime="cpython", console="none", receiver=True)
    python = Facts(PidRef(12, "1"), "python.exe", windows=windows)
    for state in ("running", "silent", "refused", "unusable"):
        talks = replace(python, receiver=Receiver(state))
        found = [
            predict_windows(talks, parse_request(w, signals=False)) for w in ("ctrl-c", "ctrl-break", "ctrl-close")
        ]
        assert {p.answer for p in found} == {"asks"}
        if state != "unusable":
            assert {p.because for p in found} == {"its receiver hears it, unless it was told not to"}
            assert not any(p.certain for p in found)
    (listens,) = [predict_windows(python, parse_request("ctrl-break", signals=False))]
    assert listens.because.startswith(
        "it listens to endtask's stop event, so it may have a handler for this too; CPython"
    )


def test_service_with_dependents_is_refused() -> None:
    """They are named."""
    given = Facts(
        PidRef(12, "1"),
        "svc.exe",
        windows=WindowsFacts("service", services=(Service("a", accepts_stop=True, dependents=("b",)),)),
    )
    prediction = predict_windows(given, parse_request("service-stop", signals=False))
    assert prediction.answer == "refused-here"
    assert "b" in prediction.because


def test_critical_process_is_never_forced() -> None:
    """Windows stops with it."""
    assert answer(facts(MAIN, critical=True), "terminate") == "refused-here"


def test_forecast_leaves_out_what_nothing_hears() -> None:
    """And says what is left when nothing does."""
    deaf = Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("gui-windowless", same_user=False, receiver=False))
    requests = [parse_request(w, signals=False) for w in ("wm-close", "stop-event", "terminate")]
    forecast = forecast_windows(deaf, requests, make_policy(signals=False), ())
    assert [p.request for p in forecast.predictions] == ["TERMINATE"]
    assert any("it runs as another user" in a and "--now" in a for a in forecast.advice)


def test_why_tells_a_program_that_went_into_the_tray() -> None:
    """Nobody has seen it hide, but it was asked, and what is left cannot be seen. The window of a receiver never could."""
    tray = Window(1, "App", role="hidden")

    def said(given: Facts, *, asked_before: bool = True) -> str:
        (reason,) = explain_windows(Seen("app", given, Forecast(())), [], asked_before=asked_before)
        return reason.code

    assert said(facts(tray)) == "hidden"
    assert said(facts(tray), asked_before=False) == "nothing"
    assert said(facts(tray, MAIN)) == said(facts()) == said(facts(tray, receiver=True)) == "slow"


def test_why_tells_that_it_said_no() -> None:
    """Nothing of that can be seen; who was asked before remembers it."""
    found = explain(Seen("app", facts(MAIN), Forecast(())), [], asked_before=True, said_no=True)
    assert [(r.code, r.certain) for r in found] == [("vetoed", True)]


def test_why_names_children_suspects_and_services() -> None:
    """Whatever keeps the target or its tree."""
    given = facts(MAIN, DIALOG, services=(Service("spool", state="running", accepts_stop=True, restarts=True),))
    found = explain_windows(Seen("app", given, Forecast(())), [facts(MAIN, hung=True)], asked_before=False)
    assert [r.code for r in found] == ["dialog", "service", "restarted", "hung"]
    assert explain_windows(Seen("app", facts(MAIN), Forecast(())), [], asked_before=False)[0].code == "nothing"
