"""The words: golden transcripts from constructed values, and names that try to break the terminal."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask._inspect import forecast
from endtask._why import explain
from endtask.cli import describe, render, report_files
from endtask.cli.console import Stream, shown
from endtask.errors import UsageError
from endtask.model import (
    Event,
    Evidence,
    Explained,
    Explanation,
    Facts,
    Forecast,
    Listener,
    Looked,
    Manager,
    Member,
    MemberReport,
    Missing,
    PidRef,
    Planned,
    Planning,
    PortState,
    Prediction,
    ProcessEnd,
    Reason,
    Receipt,
    Report,
    Respawn,
    Seen,
    SignalSets,
    Suspect,
    TargetPlan,
    TargetReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from endtask.cli.console import Line
    from endtask.model import Outcome

EVIL = "\x1b]0;owned\x07\x1b[2J na\nme\r\t\x9b31m \u202egnp.exe \udcff\udc1b"
PROOF = (Evidence("pidfd", "proved", "every handle has ended", 0.35),)
DELIVERED = (Receipt("TERM", "delivered", 0.0, "pidfd_send_signal"),)


def text(lines: Iterable[Line]) -> str:
    """Return lines as they are written without colour."""
    return "\n".join(shown(line if isinstance(line, str) else "".join(t for _, t in line)) for line in lines)


def gone(pid: int, name: str = "node", *, forced: bool = False) -> MemberReport:
    """Return a process that has exited."""
    end = ProcessEnd(status=None, signal=9, source="pidfd") if forced else ProcessEnd(status=0, source="pidfd")
    return MemberReport(
        PidRef(pid, "77"), name, "target", exited=True, exited_at_s=0.3, end=end, forced=forced, receipts=DELIVERED
    )


def alive(pid: int, name: str = "node", receipts: tuple[Receipt, ...] = DELIVERED) -> MemberReport:
    """Return a process that still runs."""
    return MemberReport(PidRef(pid, "77"), name, "target", exited=False, receipts=receipts)


def target(outcome: Outcome, *members: MemberReport, **more: object) -> TargetReport:
    """Return a verdict on `:3000`."""
    first = members[0] if members else gone(4711)
    return TargetReport(":3000", first.ref, first.name, outcome, 0.36, members, more.pop("evidence", PROOF), **more)  # type: ignore[arg-type]  # fields of the record


def report(*targets: TargetReport, **more: object) -> Report:
    """Return a report of these verdicts."""
    return Report(targets, elapsed_s=0.36, **more)  # type: ignore[arg-type]  # fields of the record


# --- transcripts of the command line reference


def test_stop_transcript() -> None:
    """`endtask stop :3000` as the reference shows it."""
    events = [
        Event("selected", 0.0, ":3000", PidRef(48112), "node", "48112 node and 2 more"),
        Event("request", 0.0, ":3000", PidRef(48112), "node", "TERM -> 48112 node"),
        Event("exited", 0.31, ":3000", PidRef(48112), "node", "48112 node exited, status 143"),
        Event("exited", 0.33, ":3000", PidRef(48140), "esbuild", "48140 esbuild exited, status 0"),
        Event("port", 0.36, ":3000", None, "", "port 3000 free"),
        Event("settled", 0.36, ":3000", PidRef(48112), "node", "48112 node: stopped", "stopped"),
    ]
    lines = [line for line in map(render.event_line, events) if line is not None]
    done = report(target("stopped", gone(48112), gone(48140), gone(48150)))
    assert text([*lines, *render.report_lines(done)]) == (
        "  0.00 s  TERM -> 48112 node\n"
        "  0.31 s  48112 node exited, status 143\n"
        "  0.33 s  48140 esbuild exited, status 0\n"
        "  0.36 s  port 3000 free\n"
        "stopped 3 of 3 in 0.36 s, none forced"
    )


def test_look_transcript() -> None:
    """`endtask look :3000` as the reference shows it."""
    facts = Facts(PidRef(48112, "9"), "node", cmdline=("node", "vite"), user="ana", age_s=7300.0, ppid=48090)
    forecast = Forecast(
        (Prediction("TERM", "handler"), Prediction("INT", "handler"), Prediction("HUP", "ends")),
        advice=("ask 48112 itself",),
        passes_on=None,
    )
    tree = (Member(PidRef(48112, "9"), "node", "target"), Member(PidRef(48140), "esbuild", "child of 48112", 1))
    looked = Looked((Seen(":3000", facts, forecast, tree, ((48090, "npm"), (3311, "zsh"))),))
    assert text(describe.look_lines(looked)) == (
        ':3000  node 48112 "vite"  user ana, up 2 h   started by npm 48090 <- zsh 3311\n'
        "  hears    TERM: own handler    INT: own handler    HUP: default action, ends it\n"
        "  tree     48112 node  48140 esbuild\n"
        "  advice   ask 48112 itself"
    )


def test_what_is_true_of_many_is_said_once() -> None:
    """Six workers that nobody asked are one sentence and five pids; `-v` says everything of everybody."""
    whys = tuple(Reason("not-asked", f"{n} node was not asked: it waits", pid=n) for n in range(20, 34))
    other = Reason("ignored", "40 node ignores TERM", pid=40)
    survivors = report(target("running", *(alive(n) for n in range(20, 34)), reasons=(*whys, other), evidence=()))
    assert text(render.report_lines(survivors)).endswith(
        "  why   20 node was not asked: it waits\n"
        "        the same of 21, 22, 23, 24, 25, 26, 27, 28, 29, 30 and 3 more\n"
        "  why   40 node ignores TERM"
    )
    assert text(render.report_lines(survivors, verbose=True)).count("was not asked: it waits") == 14


def test_still_running_transcript() -> None:
    """A process that stays: what was sent, why, and what next."""
    member = alive(7076, "report-writer.exe", (Receipt("WM_CLOSE", "delivered"),))
    why = Reason(
        "modal-dialog",
        'dialog "Save changes to Q3?" waits for a person',
        next="answer it, or  endtask stop 7076 --force-after 5s  (unsaved work is lost)",
    )
    assert text(render.report_lines(report(target("running", member, reasons=(why,), evidence=())))) == (
        "still running: 7076 report-writer.exe   asked by WM_CLOSE, delivered\n"
        '  why   dialog "Save changes to Q3?" waits for a person\n'
        "  next  answer it, or  endtask stop 7076 --force-after 5s  (unsaved work is lost)"
    )


# --- every outcome has its own words


def test_forced_is_told_apart() -> None:
    """Force is named in a line of its own and in the sum."""
    assert (
        text(render.report_lines(report(target("forced", gone(1, forced=True), gone(2)))))
        == "forced: 1 node\nstopped 2 of 2 in 0.36 s, 1 forced"
    )


def test_observed_is_not_called_proved() -> None:
    """A weaker proof shows in the sum."""
    weak = (Evidence("process-table", "observed", "two looks found nobody", 0.4),)
    assert text(render.report_lines(report(target("stopped", gone(1), evidence=weak)))).endswith(
        "none forced (observed)"
    )


@pytest.mark.parametrize(
    ("outcome", "start"),
    [
        ("vetoed", "said no: 4711 node"),
        ("already-gone", "already gone: 4711 node"),
        ("not-permitted", "not permitted: 4711 node"),
        ("unreachable", "no way to ask: 4711 node"),
        ("unproven", "unproven: 4711 node   nothing that we know of still runs"),
        ("running", "still running: 4711 node"),
    ],
)
def test_outcome_has_its_words(outcome: Outcome, start: str) -> None:
    """No outcome but `stopped` and `forced` says stopped."""
    words = text(render.report_lines(report(target(outcome, gone(4711)))))
    assert words.startswith(start)
    assert "stopped" not in words


def test_respawn_names_the_new_process_and_the_way_out() -> None:
    """Who came back, who started it, how to stop it for good."""
    respawn = Respawn(PidRef(4790, "8"), "node", "supervisord 12", "`supervisorctl stop web`", 0.9)
    assert text(render.report_lines(report(target("respawned", gone(4711), respawn=respawn)))) == (
        "came back: 4711 node as 4790 node   started by supervisord 12\n  next  `supervisorctl stop web`"
    )


def test_many_survivors_are_counted() -> None:
    """Ten are shown, the rest is counted, `-v` shows all."""
    many = report(target("running", *(alive(n) for n in range(100, 130)), evidence=()))
    assert text(render.report_lines(many)).count("still running:") == 10
    assert "and 20 more" in text(render.report_lines(many))
    assert text(render.report_lines(many, verbose=True)).count("still running:") == 30


def test_several_targets_are_summed() -> None:
    """A mixed run counts targets; a good one counts processes."""
    good, bad = target("stopped", gone(1)), target("running", alive(2), evidence=())
    assert text(render.report_lines(report(good, bad))).endswith("stopped 1 of 2 targets in 0.36 s, none forced")
    assert text(render.report_lines(report(good, good))) == "stopped 2 of 2 in 0.36 s, none forced"


def test_kept_processes_are_counted_apart() -> None:
    """What was left alone is no survivor, and is not counted as gone."""
    kept = MemberReport(PidRef(9), "db", "child of 1", exited=False, kept=True)
    assert (
        text(render.report_lines(report(target("stopped", gone(1), kept))))
        == "stopped 1 of 1 in 0.36 s, none forced, 1 left alone"
    )


def test_wait_says_ended() -> None:
    """`wait` has stopped nothing."""
    assert text(render.report_lines(report(target("stopped", gone(1))), verb="wait")) == "ended 1 of 1 in 0.36 s"


def test_cancelled_says_what_still_runs() -> None:
    """Ctrl+C: nothing more is asked, and who still runs."""
    words = text(render.report_lines(report(target("running", alive(1), evidence=()), cancelled=True)))
    assert words.startswith("cancelled after 0.36 s: nothing more is asked\nstill running: 1 node")


def test_ports_and_suspects_are_told() -> None:
    """A port that is not free and a process that may belong to it are named."""
    port = PortState(":3000", free=False, holder="99 nginx", holder_pid=99, ours=False)
    suspect = Suspect(PidRef(98, "7"), "helper", "same environment", (":3001",))
    words = text(render.report_lines(report(target("unproven", gone(1), ports=(port,), suspects=(suspect,)))))
    assert "port  :3000 is now held by another process: 99 nginx" in words
    assert "suspect  98 helper, listens on :3001: same environment" in words


def test_receipts_in_words() -> None:
    """What was sent, what was refused, each once."""
    receipts = (
        Receipt("TERM", "delivered", 0.0),
        Receipt("TERM", "delivered", 0.0),
        Receipt("INT", "delivered", 5.0),
        Receipt("KILL", "denied", 9.0, "pidfd_send_signal: not permitted"),
    )
    words = text(render.report_lines(report(target("running", alive(1, receipts=receipts), evidence=()))))
    assert "asked by TERM and INT, delivered; KILL: denied (pidfd_send_signal: not permitted)" in words


def test_verbose_shows_mechanisms() -> None:
    """`-v`: the proof, every process, every receipt, where the status was read."""
    words = text(render.report_lines(report(target("stopped", gone(1))), verbose=True))
    assert "proof  proved by pidfd at 0.35 s: every handle has ended" in words
    assert "1:77 node (target): exited at 0.30 s, status 0 (by pidfd)" in words
    assert "0.00 s  TERM delivered: pidfd_send_signal" in words


def test_missing_in_words() -> None:
    """What matched nothing is named as it was typed."""
    assert render.missing_lines([Missing("nginx", "no process is named `nginx`")]) == [
        "`nginx`: no process is named `nginx`"
    ]


# --- look, plan, why


def test_look_shows_guesses_with_their_facts() -> None:
    """An uncertain prediction says so, and what it rests on."""
    forecast = Forecast(
        (Prediction("TERM", "unknown", certain=False, because="its masks could not be read"),), passes_on=None
    )
    words = text(describe.look_lines(Looked((Seen("1", Facts(PidRef(1), "x"), forecast),))))
    assert "TERM: unknown (a guess)" in words
    assert "because  TERM: its masks could not be read" in words


def test_look_shows_everything_that_was_found() -> None:
    """Managers, ports, notes, unread fields, suspects; `-v` adds the plain facts."""
    facts = Facts(
        PidRef(5, "6"),
        "web",
        ppid=1,
        parent_name="init",
        reaper=True,
        managers=(
            Manager("systemd", "web.service", "systemctl stop web", "yes", "its cgroup"),
            Manager("loop", "sh", restarts="unknown", certain=False, because="a shell loop"),
        ),
        ports=(Listener("tcp", "*", 3000, 1), Listener("tcp", "*", 3000, 2)),
        signals=SignalSets(caught=0x4000),
        unknown=(("exe", "not permitted"),),
        exe="/usr/bin/web",
    )
    forecast = Forecast((Prediction("TERM", "handler", because="own handler"),), ("it is stopped",), passes_on=False)
    tree = (Member(PidRef(5, "6"), "web", "target"), Member(PidRef(7), "child", "session 5", 1))
    seen = Seen(":3000", facts, forecast, tree, (), (Suspect(PidRef(8), "maybe", "same pipes"),))
    words = text(describe.look_lines(Looked((seen,)), verbose=True))
    for part in (
        "orphan, its parent init 1 only reaps it",
        "systemd web.service, starts it again; its own stop: systemctl stop web",
        "loop sh, may start it again (a guess: a shell loop)",
        "ports    :3000 tcp on *\n",
        "state    it is stopped",
        "5 web (does not pass TERM on)",
        "7 child (session 5)",
        "unknown  exe: not permitted",
        "suspect  8 maybe: same pipes",
        "ref      5:6",
        "exe      /usr/bin/web",
        "caught 4000",
    ):
        assert part in words


def test_plan_words() -> None:
    """Steps with their times, every member with its turn, what is watched for, what should be known."""
    members = (
        Planned(PidRef(5), "web", "target", "first", ("TERM",), ("handler",)),
        Planned(PidRef(61), "worker", "child of 5", "after 5 s", ("TERM",), ("ends",)),
        Planned(PidRef(62), "db", "child of 5", "left alone"),
    )
    plan = TargetPlan(
        ":3000",
        PidRef(5),
        "web",
        members,
        (("TERM", 0.0), ("KILL", 5.0)),
        10.0,
        3.0,
        "systemd restarts it",
        (),
        ("a warning",),
    )
    assert text(describe.plan_lines(Planning((plan,)))) == (
        ":3000  web 5, 3 in scope   budget 10 s\n"
        "  steps    0.00 s  TERM    5.00 s  KILL\n"
        "  ask      5 web      first       TERM: own handler\n"
        "  ask      61 worker  after 5 s   (child of 5)  TERM: default action, ends it\n"
        "           62 db      left alone  (child of 5)\n"
        "  then     watch 3 s for a respawn: systemd restarts it\n"
        "  warning  a warning"
    )


def test_why_words() -> None:
    """Reasons, what was asked before, and what to do, each once."""
    seen = Seen("5", Facts(PidRef(5), "web"), Forecast((Prediction("TERM", "ignored"),), advice=("force it",)))
    explained = Explained(
        seen,
        (Reason("ignored", "5 web ignores TERM", next="force it"), Reason("slow", "busy", certain=False)),
        ("2 min ago TERM",),
    )
    assert text(describe.why_lines(Explanation((explained,)))) == (
        "web 5\n  why      5 web ignores TERM\n  why      busy (a guess)\n  before   2 min ago TERM\n  next     force it"
    )


@pytest.mark.parametrize(
    "facts",
    [
        Facts(PidRef(5, "1"), "true", ppid=4, parent_name="lazy", state="Z", exited=True),
        Facts(PidRef(5, "1"), "web", frozen="v2", signals=SignalSets()),
        Facts(
            PidRef(5, "1"),
            "web",
            signals=SignalSets(),
            managers=(Manager("systemd", "web", "systemctl stop web", "yes"),),
        ),
    ],
    ids=["zombie", "frozen", "managed"],
)
def test_why_does_not_say_what_to_do_twice(facts: Facts) -> None:
    """A zombie, a frozen cgroup, a manager: the reason and the forecast know the same remedy, and it is said once."""
    seen = Seen("5", facts, forecast(facts, ()))
    words = text(describe.why_lines(Explanation((Explained(seen, explain(seen, (), asked_before=False)),))))
    assert sum(line.startswith("  next") for line in words.splitlines()) == 1, words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_durations_for_people(seconds: float, words: str) -> None:
    """Ages are told in one unit."""
    assert describe.duration(seconds) == words


# --- weird names


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text())
def test_shown_is_printable_one_line_and_stable(name: str) -> None:
    """Whatever a name holds, what is shown is one printable line, and showing it twice changes nothing."""
    safe = shown(name)
    assert safe.isprintable()
    assert shown(safe) == safe
    safe.encode()


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary(max_size=40))
def test_shown_takes_any_bytes(name: bytes) -> None:
    """Names that are not UTF-8 are shown as well."""
    assert shown(os.fsdecode(name)).isprintable()


def test_shown_spells_what_cannot_be_printed() -> None:
    """Escape, new line, a bad byte, a direction mark."""
    assert shown("a\x1b\n\udcff\u202e") == "a\\x1b\\n\\xff\\u202e"


def evil_report() -> Report:
    """Return a report whose every text tries to break the terminal."""
    suspect = Suspect(PidRef(8), EVIL, EVIL)
    member = MemberReport(PidRef(7), EVIL, EVIL, exited=False, receipts=(Receipt("TERM", "failed", 0.0, EVIL),))
    bad = TargetReport(
        EVIL,
        PidRef(7),
        EVIL,
        "running",
        1.0,
        (member,),
        (),
        (Reason("x", EVIL, next=EVIL),),
        (PortState(":1", False, EVIL),),
        None,
        (suspect,),
        EVIL,
    )
    return Report((bad,), (Missing(EVIL, EVIL),), 1.0)


def test_no_line_carries_a_control_character(capfd: pytest.CaptureFixture[str]) -> None:
    """Names reach the terminal escaped, colours on or off."""
    facts = Facts(PidRef(7), EVIL, cmdline=(EVIL, EVIL), user=EVIL, exe=EVIL, unknown=((EVIL, EVIL),))
    seen = Seen(EVIL, facts, Forecast((), (EVIL,), (EVIL,)), chain=((1, EVIL),))
    lines: list[Line] = [
        *render.report_lines(evil_report(), verbose=True),
        *render.missing_lines(evil_report().missing),
        *describe.look_lines(Looked((seen,)), verbose=True),
        *describe.why_lines(Explanation((Explained(seen, (Reason("x", EVIL),), (EVIL,)),)), verbose=True),
    ]
    for color in (False, True):
        stream = Stream(1, color=color)
        stream.lines(lines)
        stream.finish()
        written = capfd.readouterr().out
        for role in ("0", "1", "2", "31", "32", "33"):
            written = written.replace(f"\x1b[{role}m", "")
        assert written.replace("\n", "").isprintable()
        assert written.count("\n") == len(lines)


# --- report files


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text(max_size=30), st.sampled_from(["stop", "wait"]))
def test_junit_is_well_formed_for_every_name(name: str, verb: str) -> None:
    """Whatever a process is called, the XML can be read, and its counts are right."""
    member = MemberReport(PidRef(7), name, name, exited=True, exited_at_s=0.1)
    targets = (
        TargetReport(name, PidRef(7), name, "stopped", 0.1, (member,), PROOF),
        TargetReport(name, PidRef(7), name, "running", 0.1, (member,), (), (Reason("x", name),)),
        TargetReport(name, PidRef(7), name, "unproven", 0.1, (member,)),
        TargetReport(name, PidRef(7), name, "forced", 0.1, (member,), PROOF),
    )
    xml = report_files.junit(Report(targets, (Missing(name, name),), 1.0), verb)
    suite = ET.fromstring(xml.encode())  # our own text
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == ["5", "3", "1", "0"]


def test_junit_follows_the_options_for_success() -> None:
    """`--force-ok` and `--missing-ok` make their cases pass."""
    done = Report((target("forced", gone(1, forced=True)),), (Missing("x", "nobody"),), missing_ok=True, force_ok=True)
    suite = ET.fromstring(report_files.junit(done, "stop").encode())
    assert [suite.get(k) for k in ("failures", "errors", "skipped")] == ["0", "0", "1"]


def test_markdown_escapes_names() -> None:
    """A name cannot break out of its cell."""
    lines = report_files.markdown(evil_report(), "stop").splitlines()
    assert all(line.isprintable() for line in lines)
    table = report_files.markdown(report(TargetReport("a|b", PidRef(1), "<b>*x*", "stopped", 0.1, (), PROOF)), "stop")
    assert "a\\|b" in table
    assert "\\<b\\>\\*x\\*" in table


@pytest.mark.parametrize("suffix", [".xml", ".md", ".json"])
def test_report_file_appears_whole_and_alone(suffix: str, tmp_path: Path) -> None:
    """Nothing stands there before the end, and no temporary file after it."""
    path = tmp_path / f"report{suffix}"
    file = report_files.ReportFile(str(path))
    assert not path.exists()
    file.write(report(target("stopped", gone(1))), "stop")
    file.close()
    assert path.read_text()
    assert os.listdir(tmp_path) == [path.name]


def test_report_file_of_a_run_that_failed_leaves_nothing(tmp_path: Path) -> None:
    """An error before the end removes the temporary file and keeps an older report."""
    path = tmp_path / "report.md"
    path.write_text("old")
    report_files.ReportFile(str(path)).close()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.md"]


@pytest.mark.parametrize("name", ["report.txt", "report", "missing-folder/report.xml", "."])
def test_report_file_that_cannot_be_is_refused_at_once(name: str, tmp_path: Path) -> None:
    """A wrong path is a usage error before anything is sent."""
    with pytest.raises(UsageError) as caught:
        report_files.ReportFile(str(tmp_path / name))
    assert caught.value.hint
