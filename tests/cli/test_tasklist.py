"""`endtask tasklist`: the columns, forms and exit codes of Windows, over values that are known."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask.cli.tasklist import OPTIONS
from endtask.model import Facts, Row, WindowsFacts
from tests.cli.slash import said
from tests.core.fake import FakeBackend, Process
from tests.targets.lab import endtask, unique

if TYPE_CHECKING:
    from endtask._backends.base import Part, Pin
    from tests.targets.lab import Scene

USAGE = 'Type "TASKLIST /?" for usage.'
NONE_MATCH = "INFO: No tasks are running which match the specified criteria.\n"


class Listed(FakeBackend):
    """A machine whose processes have everything that a list shows, as on Windows."""

    def __init__(self, *processes: Process) -> None:
        super().__init__(*processes)
        self.folds_case = True
        self.window_titles: dict[int, tuple[str, ...]] = {}
        self.hosted: dict[int, tuple[str, ...]] = {}
        self.states: dict[int, str] = {}
        self.packages: dict[int, str] = {}
        self.memory: dict[int, float] = {}

    def table(self) -> dict[int, Row]:
        return {pid: row for pid in self.processes if (row := self.row(pid)) is not None}

    def row(self, pid: int) -> Row | None:
        row = super().row(pid)
        if row is None:
            return None
        return Row(
            row.pid, row.ppid, 0, 0, row.start, row.state, row.comm, row.kernel, 0, 0 if self.hosted.get(pid) else 1
        )

    def session_name(self, row: Row) -> str:
        return "Services" if row.desktop_session == 0 else "Console"

    def titles(self, pid: int) -> tuple[str, ...]:
        return self.window_titles.get(pid, ())

    def title_owners(self, pattern: str) -> list[int]:
        return [pid for pid, titles in self.window_titles.items() if pattern in titles]

    def services(self, pid: int) -> tuple[str, ...]:
        return self.hosted.get(pid, ())

    def status(self, pid: int) -> str:
        return self.states.get(pid, "running")

    def usage(self, pid: int) -> tuple[float, float] | None:
        return (3725.9, self.memory[pid]) if pid in self.memory else None

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        return Facts(pin.ref, "", windows=WindowsFacts(package=self.packages.get(pin.ref.pid, "")))


@pytest.fixture
def machine() -> Listed:
    """Four processes besides the three that every fake machine has."""
    fake = Listed(
        Process(4000, "svchost.exe", uid=0),
        Process(4010, "notepad.exe"),
        Process(4020, "a-name-longer-than-25-characters.exe"[:15]),
        Process(4030, 'odd "name".exe'),
        Process(4040, "gone.exe", exited=True),
    )
    fake.hosted[4000] = ("BrokerInfrastructure", "DcomLaunch", "PlugPlay", "Power", "SystemEventsBroker")
    fake.window_titles[4010] = ("Untitled - Notepad", "Find")
    fake.states.update({4010: "not-responding", 4020: "suspended", 4030: "unknown"})
    fake.memory.update({4000: 14108.9, 4010: 1234567.0, 4020: 36.0})
    fake.packages[4010] = "Microsoft.WindowsNotepad_11.2_x64__8wekyb3d8bbwe"
    return fake


def rows(machine: Listed, *argv: str) -> list[list[str]]:
    """Return the list as CSV gives it, without the processes that every fake machine has."""
    done = said("tasklist", [*argv, "/fo", "csv", "/nh", "/fi", "pid ge 4000"], machine)
    assert (done.code, done.err) == (0, "")
    return list(csv.reader(io.StringIO(done.out)))


# --- the three forms

TABLE = """\

Image Name                     PID Session Name        Session#    Mem Usage
========================= ======== ================ =========== ============
svchost.exe                   4000 Services                   0     14,108 K
notepad.exe                   4010 Console                    1  1,234,567 K
a-name-longer-t               4020 Console                    1         36 K
odd "name".exe                4030 Console                    1          N/A
"""


def test_table_has_the_columns_of_windows(machine: Listed) -> None:
    """An empty line, headings underlined with `=`, text to the left, numbers to the right."""
    assert said("tasklist", ["/fi", "pid ge 4000"], machine).out == TABLE


def test_table_without_header(machine: Listed) -> None:
    """`/NH`: the empty line and the rows."""
    assert said("tasklist", ["/nh", "/fi", "pid ge 4000"], machine).out == "\n" + "\n".join(TABLE.split("\n")[3:])


def test_verbose_table(machine: Listed) -> None:
    """`/V` adds four columns, as wide as on Windows."""
    lines = said("tasklist", ["/v", "/fi", "pid eq 4010"], machine).out.splitlines()
    assert lines[2] == " ".join("=" * width for width in (25, 8, 16, 11, 12, 15, 50, 12, 72))
    assert lines[1].split("  ")[0] == "Image Name"
    assert lines[3] == (
        "notepad.exe                   4010 Console                    1  1,234,567 K Not Responding  "
        + "ana".ljust(50)
        + "      1:02:05 "
        + "Untitled - Notepad".ljust(72)
    )


def test_services_go_on_in_the_next_line(machine: Listed) -> None:
    """`/SVC`: names with commas, wrapped at 44 characters."""
    assert [
        line.rstrip() for line in said("tasklist", ["/svc", "/fi", "pid le 4010"], machine).out.splitlines()[-3:]
    ] == [
        "svchost.exe                   4000 BrokerInfrastructure, DcomLaunch, PlugPlay,",
        "                                   Power, SystemEventsBroker",
        "notepad.exe                   4010 N/A",
    ]


def test_list_has_a_line_for_each_value(machine: Listed) -> None:
    """`/FO LIST`: an empty line before each process."""
    assert said("tasklist", ["/fo", "list", "/fi", "imagename eq notepad.exe"], machine).out == (
        "\nImage Name:   notepad.exe\nPID:          4010\nSession Name: Console\nSession#:     1\nMem Usage:    1,234,567 K\n"
    )


def test_list_of_services_has_a_line_for_each(machine: Listed) -> None:
    """Several values stand below each other."""
    lines = said("tasklist", ["/fo:LIST", "-svc", "/fi", "pid eq 4000"], machine).out.splitlines()
    assert lines[3:5] == ["Services:     BrokerInfrastructure", "              DcomLaunch"]


def test_csv_quotes_every_value(machine: Listed) -> None:
    """`/FO CSV`: header, then rows; a quote in a name is doubled."""
    out = said("tasklist", ["/fo", "csv", "/fi", "pid ge 4030"], machine).out
    assert out == (
        '"Image Name","PID","Session Name","Session#","Mem Usage"\n"odd ""name"".exe","4030","Console","1","N/A"\n'
    )
    assert rows(machine, "/svc")[0] == [
        "svchost.exe",
        "4000",
        "BrokerInfrastructure,DcomLaunch,PlugPlay,Power,SystemEventsBroker",
    ]


@pytest.mark.parametrize(
    ("pid", "status"), [(4000, "Running"), (4010, "Not Responding"), (4020, "Suspended"), (4030, "Unknown")]
)
def test_status_has_the_words_of_windows(machine: Listed, pid: int, status: str) -> None:
    """Four of them."""
    assert rows(machine, "/v", "/fi", f"pid eq {pid}")[0][5] == status


def test_unknown_is_na(machine: Listed) -> None:
    """Usage, owner and title that cannot be had."""
    (row,) = rows(machine, "/v", "/fi", "pid eq 4030")
    assert (row[4], row[7], row[8]) == ("N/A", "N/A", "N/A")


def test_name_cannot_break_the_table(machine: Listed) -> None:
    """Control characters of a name are shown, not written; the row stays one line."""
    machine.add(Process(5000, "a\x1b[2J\nb\r"))
    lines = said("tasklist", ["/nh", "/fi", "pid eq 5000"], machine).out.splitlines()
    assert lines[1].startswith("a\\x1b[2J\\nb\\r")
    assert len(lines) == 2


# --- which processes


@pytest.mark.parametrize(
    ("fi", "pids"),
    [
        ("IMAGENAME eq NOTEPAD.EXE", [4010]),
        ("IMAGENAME eq note*", [4010]),
        ("PID gt 4010", [4020, 4030]),
        ("STATUS eq RUNNING", [4000]),
        ("status ne running", [4010, 4020, 4030]),
        ("STATUS eq NOT  RESPONDING", [4010]),
        ("STATUS eq suspended", [4020]),
        ("STATUS eq UNKNOWN", [4030]),
        ("SESSION eq 0", [4000]),
        ("SESSION gt 0", [4010, 4020, 4030]),
        ("SESSIONNAME eq services", [4000]),
        ("SESSIONNAME ne Services", [4010, 4020, 4030]),
        ("SERVICES eq dcomlaunch", [4000]),
        ("SERVICES eq N/A", [4010, 4020, 4030]),
        ("SERVICES ne n/a", [4000]),
        ("WINDOWTITLE eq untitle*", [4010]),
        ("WINDOWTITLE eq find", [4010]),
        ("WINDOWTITLE ne N/A", [4010]),
        ("USERNAME eq root", [4000]),
        ("MEMUSAGE gt 14108", [4000, 4010]),
        ("MEMUSAGE lt 14108", [4020]),
        ("CPUTIME ge 01:02:05", [4000, 4010, 4020]),
        ("MODULES eq notepad.exe.so", [4010]),
    ],
)
def test_filters_of_windows(machine: Listed, fi: str, pids: list[int]) -> None:
    """Each with its operators; what is not known passes no comparison."""
    assert [int(row[1]) for row in rows(machine, "/fi", fi)] == pids


def test_all_filters_must_hold(machine: Listed) -> None:
    """Several `/FI` are joined by and."""
    assert [row[0] for row in rows(machine, "/fi", "session eq 1", "/fi", "memusage lt 100")] == ["a-name-longer-t"]


def test_modules_of_each_process(machine: Listed) -> None:
    """`/M` alone lists all."""
    assert rows(machine, "/m", "/fi", "pid eq 4010") == [["notepad.exe", "4010", "notepad.exe.so"]]


def test_who_has_a_module(machine: Listed) -> None:
    """`/M NAME`: only processes that have it, wildcards allowed."""
    assert [row[0] for row in rows(machine, "/m", "NOTE*")] == ["notepad.exe"]
    assert said("tasklist", ["/m", "nothing.dll"], machine).out == NONE_MATCH


def test_apps_with_their_packages(machine: Listed) -> None:
    """`/APPS`: only what has a package, which is a column."""
    assert rows(machine, "/apps") == [["notepad.exe", "4010", "1,234,567 K", machine.packages[4010]]]
    assert "Package Name" in said("tasklist", ["/apps"], machine).out
    assert rows(machine, "/apps", "/v")[0][-1] == "Untitled - Notepad"


def test_apps_where_there_are_none(machine: Listed) -> None:
    """A system without packages says so in words."""
    done = said("tasklist", ["/apps"], FakeBackend(Process(4000, "x")))
    assert (done.code, done.out, done.err) == (0, "INFO: This system has no packaged apps.\n", "")
    machine.packages.clear()
    assert said("tasklist", ["/apps"], machine).out == NONE_MATCH


def test_nothing_that_matches_is_told_and_no_error(machine: Listed) -> None:
    """On standard output, exit code 0."""
    done = said("tasklist", ["/fi", "imagename eq nothing"], machine)
    assert (done.code, done.out, done.err) == (0, NONE_MATCH, "")


def test_what_has_exited_is_not_in_the_list(machine: Listed) -> None:
    """A zombie is not running."""
    assert "gone.exe" not in said("tasklist", [], machine).out


def test_what_may_not_be_opened_is_in_the_list(machine: Listed) -> None:
    """A list needs no handle, except for what might have exited."""
    machine.add(Process(6000, "closed.exe", denied=True), Process(6001, "unsure.exe", denied=True, exited=True))
    names = [row[0] for row in rows(machine)]
    assert ("closed.exe" in names, "unsure.exe" in names) == (True, False)
    assert "closed.exe" not in said("tasklist", ["/apps"], machine).out


# --- command lines that make no sense


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["/x"], ["ERROR: Invalid argument/option - '/x'.", USAGE]),
        (["x"], ["ERROR: Invalid argument/option - 'x'.", USAGE]),
        (["/fo", "xml"], ["ERROR: Invalid syntax. 'xml' value is not allowed for '/fo' option.", USAGE]),
        (["/fo"], ["ERROR: Invalid syntax. Value expected for '/fo'.", USAGE]),
        (["/fi"], ["ERROR: Invalid syntax. Value expected for '/fi'.", USAGE]),
        (
            ["/fo", "list", "/nh"],
            ["ERROR: Invalid syntax. /NH option is allowed only for TABLE and CSV formats.", USAGE],
        ),
        (
            ["/v", "/svc"],
            ["ERROR: Invalid syntax. /V, /M and /SVC options cannot be used together.", USAGE],
        ),
        (
            ["/m", "/v"],
            ["ERROR: Invalid syntax. /V, /M and /SVC options cannot be used together.", USAGE],
        ),
        (
            ["/apps", "/svc"],
            ["ERROR: Invalid syntax. /APPS, /M and /SVC options cannot be used together.", USAGE],
        ),
        (
            ["/fo", "csv", "/fo", "csv"],
            ["ERROR: Invalid syntax. '/fo' option is not allowed more than '1' time(s).", USAGE],
        ),
    ],
)
def test_command_line_that_makes_no_sense_is_told_as_on_windows(argv: list[str], lines: list[str]) -> None:
    """On standard error, exit code 1."""
    done = said("tasklist", argv, FakeBackend())
    assert (done.code, done.out, done.err.splitlines()) == (1, "", lines)


def test_filter_that_makes_no_sense_is_refused() -> None:
    """The sentence of Windows, and ours behind it."""
    done = said("tasklist", ["/fi", "PID like 3"], FakeBackend())
    assert (
        done.err
        == "ERROR: The search filter cannot be recognized.\nReason: `like` in the filter `PID like 3` is not an operator.\n"
    )
    assert done.code == 1


def test_other_machine_is_answered_in_one_sentence() -> None:
    """No list of this machine for a question about another one."""
    done = said("tasklist", ["/s", "srv", "/u", "ana", "/p"], FakeBackend())
    assert (done.code, done.out) == (1, "")
    assert "this machine only" in done.err


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=6), st.sampled_from([f"/{o.name}" for o in OPTIONS] + ["csv", "LIST"])), max_size=6
    )
)
def test_any_arguments_give_a_list_or_a_sentence(argv: list[str]) -> None:
    """Never an exception, and never silence."""
    done = said("tasklist", argv, Listed(Process(4000, "x")))
    assert done.code in (0, 1)
    assert done.out or done.err


# --- the real machine


@pytest.mark.real
def test_real_processes_are_listed_as_proc_shows_them(scene: Scene) -> None:
    """Name, session id, memory, modules of a process that the laboratory has started."""
    target = scene.target("default", name=f"{unique('tl')}-longer-than-fifteen")
    (row,) = csv.reader(io.StringIO(endtask("tasklist", "/fo", "csv", "/nh", "/v", "/fi", f"PID eq {target.pid}").out))
    assert row[1] == str(target.pid)
    assert row[0].endswith("-longer-than-fifteen"), "the whole name, which the kernel has cut"
    assert re.fullmatch(r"[\d,]+ K", row[4])
    assert row[5] == "Running"
    assert re.fullmatch(r"\d+:\d\d:\d\d", row[7])
    modules = endtask("tasklist", "/m", "libc*", "/fi", f"PID eq {target.pid}").out
    assert "libc" in modules, modules


@pytest.mark.real
def test_stopped_process_is_suspended(scene: Scene) -> None:
    """State T is what Linux has for it."""
    target = scene.target("stopped")
    out = endtask(
        "tasklist", "/v", "/fo", "csv", "/nh", "/fi", f"PID eq {target.pid}", "/fi", "STATUS eq SUSPENDED"
    ).out
    assert '"Suspended"' in out


@pytest.mark.real
def test_list_of_everything_has_everybody(scene: Scene) -> None:
    """Without a filter: everything that runs, endtask itself included."""
    target = scene.target("default")
    listed = {row[1] for row in csv.reader(io.StringIO(endtask("tasklist", "/nh", "/fo", "csv").out))}
    assert {"1", str(scene.keeper), str(target.pid)} <= listed


@pytest.mark.real
@pytest.mark.parametrize("argv", [["tasklist", "/?"], ["help", "tasklist"]])
def test_help_in_our_own_words(argv: list[str]) -> None:
    """With every option and filter."""
    done = endtask(*argv)
    assert done.code == 0
    assert all(f"/{o.name}" in done.out for o in OPTIONS)
    assert max(len(line) for line in done.out.splitlines()) <= 100
