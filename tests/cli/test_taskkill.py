"""`endtask taskkill`: the words, streams and exit codes of Windows where they are true, and others where they would not be.

The lines are those of recorded sessions; on the simulated machine each of them can be had, on the real one the truth is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask._backends.sim.spec import Op, Spec, World
from endtask.cli import taskkill_words as words
from endtask.cli.slash_options import SlashError
from endtask.cli.taskkill_arguments import OPTIONS, Wanted, parse
from endtask.errors import EndtaskError
from endtask.model import MemberReport, Missing, PidRef, Reason, Receipt, Respawn, TargetReport
from tests.cli.slash import OBEYS, TERM, Machine, said
from tests.core.fake import FakeBackend, Process, says_why
from tests.targets.lab import endtask, unique

if TYPE_CHECKING:
    from tests.targets.lab import Scene

USAGE = 'Type "TASKKILL /?" for usage.'
FORCE_ONLY = "Reason: This process can only be terminated forcefully (with /F option)."
CRITICAL = "Reason: This is critical system process. Taskkill cannot end this process."
DEFAULT = Spec("app")
POLITE = Spec("polite", on=OBEYS)
DEAF = Spec("deaf", ignored=(TERM,))

# --- the syntax


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["/PID", "12"], Wanted(pids=("12",))),
        (["-pid", "12", "-Pid", "13"], Wanted(pids=("12", "13"))),
        (["/im", "a.exe", "/IM", "b*"], Wanted(images=("a.exe", "b*"))),
        (["/im:a.exe"], Wanted(images=("a.exe",))),
        (["/f", "/T", "/im", "x"], Wanted(images=("x",), tree=True, force=True)),
        (["-F", "-t", "-IM", "x", "-f"], Wanted(images=("x",), tree=True, force=True)),
        (["/fi", "PID gt 1", "/FI", "PID lt 9"], Wanted(filters=("PID gt 1", "PID lt 9"))),
        (["/im", "*", "/fi", "PID gt 1"], Wanted(images=("*",), filters=("PID gt 1",))),
        (["/im", "x", "/W", "30"], Wanted(images=("x",), wait_s=30.0)),
        (["/w:500ms", "/im", "x"], Wanted(images=("x",), wait_s=0.5)),
        (["/w", "0", "/im", "x"], Wanted(images=("x",), wait_s=0.0)),
        (["/im", "-bash"], Wanted(images=("-bash",))),
        (["/im", "/usr/bin/x"], Wanted(images=("/usr/bin/x",))),
    ],
)
def test_command_line_of_windows_is_understood(argv: list[str], wanted: Wanted) -> None:
    """Slash or dash, any case, values apart or after a colon; a word that is no option is a value where one is expected."""
    assert parse(argv) == wanted


@pytest.mark.parametrize("argv", [["/?"], ["-?"], ["/im", "x", "/?"], ["--help"], ["-h"], ["/pid", "/?"]])
def test_help_is_asked_for_anywhere(argv: list[str]) -> None:
    """`/?` wins over everything else, so that nobody ends a process who wanted to read."""
    assert parse(argv) is None


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        ([], ["ERROR: Invalid syntax. Neither /FI nor /PID nor /IM were specified.", USAGE]),
        (["/F", "/T"], ["ERROR: Invalid syntax. Neither /FI nor /PID nor /IM were specified.", USAGE]),
        (["/x"], ["ERROR: Invalid argument/option - '/x'.", USAGE]),
        (["notepad.exe"], ["ERROR: Invalid argument/option - 'notepad.exe'.", USAGE]),
        (["/fo=list", "/im", "x"], ["ERROR: Invalid argument/option - '/fo=list'.", USAGE]),
        (["/f:x", "/im", "x"], ["ERROR: Invalid argument/option - '/f:x'.", USAGE]),
        (["/im"], ["ERROR: Invalid syntax. Value expected for '/im'.", USAGE]),
        (["/im", "/f"], ["ERROR: Invalid syntax. Value expected for '/im'.", USAGE]),
        (["/im", ""], ["ERROR: Invalid syntax. Value expected for '/im'.", USAGE]),
        (["/PID:"], ["ERROR: Invalid syntax. Value expected for '/PID'.", USAGE]),
        (
            ["/im", "x", "/w", "1", "/w", "2"],
            ["ERROR: Invalid syntax. '/w' option is not allowed more than '1' time(s).", USAGE],
        ),
        (
            ["/im", "x", "/pid", "3"],
            ["ERROR: Invalid syntax. /PID and /IM cannot be used at the same time.", USAGE],
        ),
    ],
)
def test_command_line_that_makes_no_sense_is_told_as_on_windows(argv: list[str], lines: list[str]) -> None:
    """On standard error, exit code 1, nothing done."""
    done = said("taskkill", argv)
    assert (done.code, done.out, done.err.splitlines()) == (1, "", lines)


@pytest.mark.parametrize("name", ["*", "**"])
def test_every_name_needs_a_filter(name: str) -> None:
    """`/IM *` alone is never taken for everything."""
    assert "needs a filter" in said("taskkill", ["/im", name]).err


@pytest.mark.parametrize("text", ["x", "-1", "1x", "99d"])
def test_wait_that_is_no_time_is_refused(text: str) -> None:
    """A time of our own option is read as everywhere in endtask."""
    assert f"'{text}' value is not allowed for '/W' option" in said("taskkill", ["/im", "x", "/w", text]).err


@pytest.mark.parametrize(
    "argv",
    [
        ["/s", "srv", "/im", "x"],
        ["/S", "srv", "/U", "corp\\ana", "/P", "pw", "/im", "x"],
        ["/u", "ana", "/im", "x"],
        ["/p", "/im", "x"],
    ],
)
def test_other_machine_is_answered_in_one_sentence(argv: list[str]) -> None:
    """Nothing is done here for a command line that means somewhere else; the password is not repeated."""
    machine = Machine(Spec("x"))
    done = machine.taskkill(*argv)
    assert done.code == 1
    assert "this machine only" in done.err
    assert "pw" not in done.err
    assert machine.running() == ["x"]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=6), st.sampled_from([f"/{o.name}" for o in OPTIONS] + ["-?", "-im", "/im:x"])),
        max_size=6,
    )
)
def test_any_arguments_are_understood_or_refused(argv: list[str]) -> None:
    """No arguments lead to anything but a `Wanted`, the help, or a sentence."""
    try:
        wanted = parse(argv)
    except EndtaskError as error:
        says_why(error)
    else:
        assert wanted is None or wanted.pids or wanted.images or wanted.filters


# --- what is said, on a machine on which everything can be had


@pytest.mark.parametrize(
    ("argv", "lines", "code", "left"),
    [
        (
            ["/PID", "{app}"],
            ["SUCCESS: Sent termination signal to the process with PID {app}."],
            0,
            ["deaf", "polite"],
        ),
        (
            ["/im", "polite"],
            ['SUCCESS: Sent termination signal to the process "polite" with PID {polite}.'],
            0,
            ["app", "deaf"],
        ),
        (
            ["/fi", "imagename eq pol*"],
            ['SUCCESS: Sent termination signal to the process "polite" with PID {polite}.'],
            0,
            ["app", "deaf"],
        ),
        (
            ["/f", "/pid", "{deaf}"],
            ["SUCCESS: The process with PID {deaf} has been terminated."],
            0,
            ["app", "polite"],
        ),
        (
            ["/f", "/im", "d*"],
            ['SUCCESS: The process "deaf" with PID {deaf} has been terminated.'],
            0,
            ["app", "polite"],
        ),
        (
            ["/pid", "{deaf}"],
            [
                "ERROR: The process with PID {deaf} was asked (TERM) and is still running.",
                f"Reason: It ignores TERM. {FORCE_ONLY[8:]}",
            ],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/im", "deaf"],
            [
                'ERROR: The process "deaf" with PID {deaf} was asked (TERM) and is still running.',
                f"Reason: It ignores TERM. {FORCE_ONLY[8:]}",
            ],
            1,
            ["app", "deaf", "polite"],
        ),
        (["/pid", "3999"], ['ERROR: The process "3999" not found.'], 128, ["app", "deaf", "polite"]),
        (
            ["/pid", "99999999999999"],
            ['ERROR: The process "99999999999999" not found.'],
            128,
            ["app", "deaf", "polite"],
        ),
        (["/pid", "0"], ['ERROR: The process "0" not found.'], 128, ["app", "deaf", "polite"]),
        (["/pid", "abc"], ['ERROR: The process "abc" not found.'], 128, ["app", "deaf", "polite"]),
        (["/im", "nobody.exe"], ['ERROR: The process "nobody.exe" not found.'], 128, ["app", "deaf", "polite"]),
        (["/im", "APP"], ['ERROR: The process "APP" not found.'], 128, ["app", "deaf", "polite"]),
        (
            ["/im", "nobody.exe", "/fi", "PID gt 0"],
            ["INFO: No tasks running with the specified criteria."],
            0,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "3999", "/fi", "PID gt 0"],
            ["INFO: No tasks running with the specified criteria."],
            0,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "{app}", "/fi", "IMAGENAME eq polite"],
            ["INFO: No tasks running with the specified criteria."],
            0,
            ["app", "deaf", "polite"],
        ),
        (
            ["/fi", "IMAGENAME eq x", "/fi", "IMAGENAME eq app"],
            ["INFO: No tasks running with the specified criteria."],
            0,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "1"],
            ["ERROR: The process with PID 1 could not be terminated.", CRITICAL],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/f", "/im", "kthreadd"],
            ['ERROR: The process "kthreadd" with PID 2 could not be terminated.', CRITICAL],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/f", "/fi", "PID eq 1"],
            ['ERROR: The process "init" with PID 1 could not be terminated.', CRITICAL],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "{bash}"],
            [
                "ERROR: The process with PID {bash} could not be terminated.",
                "Reason: It is an ancestor of endtask, which endtask never stops.",
            ],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "{endtask}"],
            ["ERROR: The process with PID {endtask} could not be terminated.", "Reason: It is endtask itself."],
            1,
            ["app", "deaf", "polite"],
        ),
        (["/im", "endtask"], ['ERROR: The process "endtask" not found.'], 128, ["app", "deaf", "polite"]),
        (
            ["/pid", "{app}", "/pid", "3999"],
            [
                "SUCCESS: Sent termination signal to the process with PID {app}.",
                'ERROR: The process "3999" not found.',
            ],
            128,
            ["deaf", "polite"],
        ),
        (
            ["/pid", "{deaf}", "/pid", "3999"],
            [
                'ERROR: The process "3999" not found.',
                "ERROR: The process with PID {deaf} was asked (TERM) and is still running.",
                f"Reason: It ignores TERM. {FORCE_ONLY[8:]}",
            ],
            1,
            ["app", "deaf", "polite"],
        ),
        (
            ["/pid", "{app}", "/pid", "{app}", "/pid", "0{app}"],
            ["SUCCESS: Sent termination signal to the process with PID {app}."],
            0,
            ["deaf", "polite"],
        ),
    ],
)
def test_line_is_that_of_windows_where_it_is_true(
    argv: list[str], lines: list[str], code: int, left: list[str]
) -> None:
    """Recorded texts and codes; ERROR goes to standard error, everything else to standard output."""
    machine = Machine(DEFAULT, POLITE, DEAF)
    done = machine.taskkill(*argv)
    expected = machine.expected(*lines)
    assert (done.lines, done.code) == (expected, code)
    assert done.out.splitlines() == [line for line in expected if line.startswith(("SUCCESS", "INFO"))]
    assert machine.running() == left


@pytest.mark.parametrize(
    "text", ["IMAGENAME like x", "COLOUR eq red", "x", "PID eq x", "WINDOWTITLE eq x", "STATUS eq NOT RESPONDING"]
)
def test_filter_that_makes_no_sense_is_refused_before_anything_is_done(text: str) -> None:
    """The sentence of Windows, and ours that says what is wrong with it."""
    machine = Machine(DEFAULT)
    done = machine.taskkill("/f", "/im", "app", "/fi", text)
    assert done.code == 1
    assert done.err.startswith("ERROR: The search filter cannot be recognized.\nReason: ")
    assert machine.running() == ["app"]


def test_all_processes_of_a_name_are_meant() -> None:
    """Three programs of one name: nobody asks which, as on Windows; a fourth one that is deaf is an error of its own."""
    machine = Machine(POLITE, POLITE, POLITE, Spec("polite", ignored=(TERM,)))
    done = machine.taskkill("/im", "polite")
    assert done.out.count("SUCCESS: Sent termination signal") == 3
    assert done.err.count("ERROR:") == 1
    assert (done.code, machine.running()) == (1, ["polite"])


def test_without_t_children_are_left_alone() -> None:
    """The scope is the process alone."""
    machine = Machine(Spec("parent", children=(Spec("child"),)))
    done = machine.taskkill("/pid", "{parent}")
    assert (done.lines, done.code) == (
        machine.expected("SUCCESS: Sent termination signal to the process with PID {parent}."),
        0,
    )
    assert machine.running() == ["child"]


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (
            ["/t", "/pid", "{parent}"],
            [
                "SUCCESS: Sent termination signal to process with PID {child}, child of PID {parent}.",
                "SUCCESS: Sent termination signal to process with PID {parent}, child of PID 1.",
            ],
        ),
        (
            ["/t", "/f", "/im", "parent"],
            [
                "SUCCESS: The process with PID {child} (child process of PID {parent}) has been terminated.",
                "SUCCESS: The process with PID {parent} (child process of PID 1) has been terminated.",
            ],
        ),
    ],
)
def test_with_t_the_tree_ends_and_children_are_told_first(argv: list[str], lines: list[str]) -> None:
    """One line for each process, with its parent, in the order of Windows."""
    machine = Machine(Spec("parent", children=(Spec("child"),)))
    done = machine.taskkill(*argv)
    assert (done.lines, done.code) == (machine.expected(*lines), 0)
    assert machine.running() == []


def test_with_t_a_child_that_stays_is_an_error_of_its_own() -> None:
    """The parent that has ended is told as ended, the child as running; the whole is no success."""
    machine = Machine(Spec("parent", children=(DEAF,)))
    done = machine.taskkill("/t", "/im", "parent", "/w", "2")
    assert done.lines == machine.expected(
        "SUCCESS: Sent termination signal to process with PID {parent}, child of PID 1.",
        "ERROR: The process with PID {deaf} (child process of PID {parent}) was asked (TERM) and is still running.",
        f"Reason: It ignores TERM. {FORCE_ONLY[8:]}",
    )
    assert (done.code, machine.running()) == (1, ["deaf"])


def test_with_t_a_match_below_another_one_is_told_once() -> None:
    """A program that starts itself again: one tree, one line for each process."""
    machine = Machine(Spec("app", children=(Spec("app", children=(Spec("other"),)),)))
    done = machine.taskkill("/t", "/im", "app")
    assert len(done.lines) == 3
    assert all(line.startswith("SUCCESS: Sent termination signal to process with PID") for line in done.lines)
    assert (done.code, machine.running()) == (0, [])


def test_with_t_workers_that_were_not_asked_are_not_called_asked() -> None:
    """A server that ends its own workers: they ended without a request of ours, and the line says so."""
    worker = Spec("server", ignored=(TERM,))
    machine = Machine(
        Spec("server", on=((TERM, (Op("tell", n=9, who="children"), Op("wait", 0.1), Op("exit"))),), children=(worker,))
    )
    parent, child = (p.pid for p in machine.system.everyone if p.name == "server")
    done = machine.taskkill("/t", "/pid", str(parent))
    assert done.lines == [
        f"SUCCESS: The process with PID {child} (child process of PID {parent}) has ended by itself.",
        f"SUCCESS: Sent termination signal to process with PID {parent}, child of PID 1.",
    ]
    assert machine.running() == []


def test_process_that_ended_before_it_was_asked_is_no_success() -> None:
    """A zombie: nothing was sent, and Windows's words for a task that has gone."""
    machine = Machine(Spec("parent", reap_s=-1, children=(Spec("dead", (Op("exit"),)),)))
    done = machine.taskkill("/pid", "{dead}")
    assert done.lines == machine.expected(
        "ERROR: The process with PID {dead} could not be terminated.",
        "Reason: There is no running instance of the task.",
    )
    assert done.code == 1
    assert machine.taskkill("/im", "dead").code == 128, "what has exited is not running under any name"


def test_foreign_process_is_denied() -> None:
    """Somebody else's process, without rights: Windows's words."""
    machine = Machine(Spec("theirs", uid=1001), world=World(race=0.0, call_s=0.0, uid=1000))
    done = machine.taskkill("/im", "theirs")
    assert done.lines == machine.expected(
        'ERROR: The process "theirs" with PID {theirs} could not be terminated.', "Reason: Access is denied."
    )
    assert (done.code, machine.running()) == (1, ["theirs"])


def test_process_that_cannot_be_opened_is_denied() -> None:
    """No handle, no request."""
    machine = Machine(Spec("closed", flags=("no-pin",)))
    for argv in (["/im", "closed"], ["/pid", "{closed}"]):
        done = machine.taskkill(*argv)
        assert "Reason: Access is denied." in done.err
        assert done.code == 1
    assert "The process with PID" in done.err


def test_without_wait_nothing_is_called_done() -> None:
    """`/W 0` asks and leaves: what has not ended by then is not called ended."""
    machine = Machine(POLITE)
    done = machine.taskkill("/im", "polite", "/w", "0")
    assert "was asked (TERM) and is still running" in done.err
    assert done.code == 1
    machine.system.settle(1.0)
    assert machine.running() == [], "it was asked all the same"


def test_interrupt_says_what_was_sent() -> None:
    """Ctrl+C while it waits: what was asked and still runs is told, exit 130."""
    machine = Machine(DEAF)
    backend = machine.backend
    machine.system.on_signal.append(lambda *_: setattr(backend, "cancelled_at", backend.calls))
    done = machine.taskkill("/im", "deaf")
    assert done.code == 130
    assert "is still running" in done.err


def test_ancestor_that_matches_is_left_alone_and_named() -> None:
    """`/IM bash` from a bash: the other one ends, ours stays, and a line on standard error says so."""
    machine = Machine(Spec("bash"))
    ours = machine.system.shell
    done = machine.taskkill("/im", "bash")
    other = next(p for p in machine.system.everyone if p.name == "bash" and p is not ours)
    assert done.out == f'SUCCESS: Sent termination signal to the process "bash" with PID {other.pid}.\n'
    assert done.err == f'INFO: The process "bash" with PID {ours.pid} was left alone: it is an ancestor of endtask.\n'
    assert (done.code, ours.exited, other.exited) == (0, False, True)


def test_pid_that_changes_hands_is_nobodys_business() -> None:
    """A process that takes the pid between the list and the handle has another name, and is not selected."""
    fake = FakeBackend(Process(5000, "old"))
    fake.before("pin", lambda: fake.add(Process(5000, "new")))
    done = said("taskkill", ["/im", "old"], fake)
    assert (done.code, done.err) == (128, 'ERROR: The process "old" not found.\n')


def test_names_fold_case_where_the_platform_does() -> None:
    """`/IM NOTEPAD.EXE` finds `notepad.exe` there; not without its ending, as on Windows."""
    fake = FakeBackend(Process(5000, "notepad.exe", denied=True))
    fake.folds_case = True
    assert "Access is denied." in said("taskkill", ["/im", "NOTEPAD.EXE"], fake).err
    assert said("taskkill", ["/im", "notepad"], fake).code == 128


# --- words that this machine has no occasion for

REF = PidRef(7076, "1")
HOW = words.How({7076: 700}, by_name=True, wait_s=5.0)
TREE = words.How({7076: 700}, by_name=True, tree=True, wait_s=5.0)


def report(outcome: str, *members: MemberReport, **more: object) -> TargetReport:
    """Return a verdict on `app.exe`."""
    return TargetReport("x", REF, "app.exe", outcome, members=members, **more)  # type: ignore[arg-type]  # closed sets of words


def member(*receipts: Receipt, exited: bool = False, forced: bool = False) -> MemberReport:
    """Return the target's own line of a report."""
    return MemberReport(REF, "app.exe", "target", exited, receipts=receipts, forced=forced)


DELIVERED = Receipt("WM_CLOSE", "delivered", 0.0, "to 1 window")


@pytest.mark.parametrize(
    ("target", "how", "lines"),
    [
        (
            report("unreachable", member(Receipt("ask", "impossible"))),
            HOW,
            ['ERROR: The process "app.exe" with PID 7076 could not be terminated.', FORCE_ONLY],
        ),
        (
            report("unreachable", member()),
            TREE,
            ["ERROR: The process with PID 7076 (child process of PID 700) could not be terminated.", FORCE_ONLY],
        ),
        (
            report(
                "vetoed",
                member(Receipt("WM_ENDSESSION", "vetoed")),
                reasons=(Reason("vetoed", "7076 app.exe answered no", pid=7076),),
            ),
            HOW,
            ['ERROR: The process "app.exe" with PID 7076 was asked and said no.', "Reason: It answered no."],
        ),
        (
            report(
                "running", member(DELIVERED), reasons=(Reason("dialog", 'dialog "Save?" waits for a person', pid=7076),)
            ),
            HOW,
            [
                'ERROR: The process "app.exe" with PID 7076 was asked (WM_CLOSE) and is still running.',
                'Reason: Dialog "Save?" waits for a person.',
            ],
        ),
        (
            report(
                "running",
                member(DELIVERED),
                reasons=(Reason("hung", "7076 app.exe does not answer", certain=False, pid=7076),),
            ),
            HOW,
            [
                'ERROR: The process "app.exe" with PID 7076 was asked (WM_CLOSE) and is still running.',
                "Reason: It does not answer (a guess).",
            ],
        ),
        (
            report("running", member(DELIVERED)),
            HOW,
            [
                'ERROR: The process "app.exe" with PID 7076 was asked (WM_CLOSE) and is still running.',
                "Reason: It has not ended within 5 s.",
            ],
        ),
        (
            report("running", member(), reasons=(Reason("cancelled", "endtask was interrupted"),)),
            HOW,
            [
                'ERROR: The process "app.exe" with PID 7076 was not asked and is still running.',
                "Reason: Endtask was interrupted.",
            ],
        ),
        (
            report(
                "running",
                member(Receipt("TERMINATE", "delivered"), forced=True),
                reasons=(Reason("slow", "it waits for a driver", pid=7076),),
            ),
            words.How({}, force=True),
            [
                "ERROR: The process with PID 7076 was forced (TERMINATE) and is still running.",
                "Reason: It waits for a driver.",
            ],
        ),
        (
            report(
                "unproven",
                member(DELIVERED, exited=True),
                reasons=(Reason("suspect", "9 x may have come from it", certain=False),),
            ),
            TREE,
            [
                "SUCCESS: Sent termination signal to process with PID 7076, child of PID 700.",
                "ERROR: It could not be shown that nothing of the process with PID 7076 (child process of PID 700) is left.",
                "Reason: 9 x may have come from it (a guess).",
            ],
        ),
        (
            report("respawned", member(DELIVERED, exited=True), respawn=Respawn(PidRef(8), "app.exe", "a loop")),
            HOW,
            [
                'SUCCESS: Sent termination signal to the process "app.exe" with PID 7076.',
                'INFO: It was started again as "app.exe" with PID 8 by a loop.',
            ],
        ),
        (
            report("already-gone"),
            HOW,
            [
                'ERROR: The process "app.exe" with PID 7076 could not be terminated.',
                "Reason: There is no running instance of the task.",
            ],
        ),
        (
            report("stopped", member(exited=True)),
            TREE,
            ["SUCCESS: The process with PID 7076 (child process of PID 700) has ended by itself."],
        ),
    ],
)
def test_verdict_in_the_words_of_taskkill(target: TargetReport, how: words.How, lines: list[str]) -> None:
    """Every outcome has its words; SUCCESS only for what has exited."""
    told = words.verdict(target, how)
    assert [line for t in told for line in t.lines] == lines
    for answer in told:
        assert answer.lines[0].startswith("ERROR") is bool(answer.code)


def test_gone_between_selection_and_request_has_no_running_instance() -> None:
    """What the engine could not find again."""
    assert (
        words.missing(7, "x", Missing("7:1", "gone", "gone"), HOW).lines[1]
        == "Reason: There is no running instance of the task."
    )


def test_child_that_was_born_later_names_its_parent() -> None:
    """The tie says whose child it is where the table does not."""
    child = MemberReport(PidRef(9), "late", "child of 7076", exited=True, receipts=(DELIVERED,))
    (first, *_rest) = words.verdict(report("stopped", member(DELIVERED, exited=True), child), TREE)
    assert first.lines == ("SUCCESS: Sent termination signal to process with PID 9, child of PID 7076.",)


# --- real processes: the truth is looked at, not asked for


@pytest.mark.real
@pytest.mark.slow
def test_target_that_ignores_the_request_is_never_a_success(scene: Scene) -> None:
    """It is asked, it stays, and neither word nor code says otherwise; by force it ends."""
    target = scene.target("ignores")
    asked = scene.endtask("taskkill", "/pid", target.pid, "/w", "1")
    assert asked.code == 1, asked
    assert "SUCCESS" not in asked.text
    assert f"PID {target.pid} was asked (TERM) and is still running." in asked.err
    assert not scene.exited(target.pid)
    forced = scene.endtask("taskkill", "/f", "/pid", target.pid)
    assert forced.out == f"SUCCESS: The process with PID {target.pid} has been terminated.\n", forced
    assert (forced.code, scene.exited(target.pid)) == (0, True)


@pytest.mark.real
@pytest.mark.slow
def test_success_means_that_it_has_gone(scene: Scene) -> None:
    """A program that takes a while to end: when the line is there, the process is not."""
    name = unique("polite")
    targets = [scene.target("polite", name=name, delay=0.3) for _ in range(3)]
    other = scene.target("polite")
    done = scene.endtask("taskkill", "/im", name)
    assert done.code == 0, done
    assert done.out.splitlines() == [
        f'SUCCESS: Sent termination signal to the process "{name}" with PID {t.pid}.' for t in targets
    ]
    assert all(scene.exited(t.pid) for t in targets)
    assert other.pid in done.left_pids(), "nobody else was asked"


@pytest.mark.real
@pytest.mark.slow
def test_tree_with_a_deaf_child_is_told_as_it_is(scene: Scene) -> None:
    """The parent has ended, the child has not: two lines, exit 1; with /F both end."""
    target = scene.target("child_ignores")
    child = target.pids["child"]
    done = scene.endtask("taskkill", "/t", "/pid", target.pid, "/w", "1")
    assert done.code == 1, done
    assert (
        f"SUCCESS: Sent termination signal to process with PID {target.pid}, child of PID {scene.keeper}." in done.out
    )
    assert (
        f"ERROR: The process with PID {child} (child process of PID {target.pid}) was asked (TERM) and is still running."
        in done.err
    )
    assert (scene.exited(target.pid), scene.exited(child)) == (True, False)
    again = scene.target("child_ignores")
    forced = scene.endtask("taskkill", "/t", "/f", "/pid", again.pid)
    assert forced.code == 0, forced
    assert forced.out.count("has been terminated.") == 2
    assert scene.exited(again.pids["child"])


@pytest.mark.real
@pytest.mark.slow
def test_without_t_the_child_stays(scene: Scene) -> None:
    """Only that process."""
    target = scene.target("child_ignores")
    done = scene.endtask("taskkill", "/f", "/pid", target.pid)
    assert done.code == 0, done
    assert not scene.exited(target.pids["child"])


@pytest.mark.real
def test_filters_select_among_real_processes(scene: Scene) -> None:
    """A filter that nothing passes is no error; one that one of two passes ends that one."""
    name = unique("filter")
    first, second = (scene.target("default", name=name) for _ in range(2))
    nothing = scene.endtask("taskkill", "/im", name, "/fi", "MEMUSAGE gt 999999999")
    assert (nothing.code, nothing.out) == (0, "INFO: No tasks running with the specified criteria.\n"), nothing
    done = scene.endtask("taskkill", "-im", name, "-fi", f"PID ne {second.pid}", "-FI", "STATUS eq running")
    assert done.code == 0, done
    assert (scene.exited(first.pid), scene.exited(second.pid)) == (True, False)


@pytest.mark.real
def test_suspended_process_is_asked_and_let_run(scene: Scene) -> None:
    """`STATUS eq SUSPENDED` finds a stopped one; TERM alone would only wait."""
    target = scene.target("stopped", name=unique("stopped"))
    done = scene.endtask("taskkill", "/fi", "STATUS eq SUSPENDED", "/im", target.name)
    assert done.out == f'SUCCESS: Sent termination signal to the process "{target.name}" with PID {target.pid}.\n', done
    assert scene.exited(target.pid)


@pytest.mark.real
def test_name_that_nobody_has_is_128() -> None:
    """From outside, with the exit code that scripts look at."""
    done = endtask("taskkill", "/im", "no-such-program.exe")
    assert (done.code, done.out, done.err) == (128, "", 'ERROR: The process "no-such-program.exe" not found.\n')


@pytest.mark.real
@pytest.mark.parametrize(
    "argv", [["taskkill", "/?"], ["taskkill", "--help"], ["help", "taskkill"], ["taskkill", "-?", "/x"]]
)
def test_help_in_our_own_words(argv: list[str]) -> None:
    """Every way of asking gives the same text, with every option and filter."""
    done = endtask(*argv)
    assert done.code == 0
    assert all(f"/{o.name}" in done.out for o in OPTIONS)
    assert "WINDOWTITLE" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 100


def test_error_of_the_syntax_is_a_usage_error() -> None:
    """The exception can be told from others by a program, too."""
    with pytest.raises(SlashError) as caught:
        parse(["/x"])
    assert caught.value.exit_code == 1
