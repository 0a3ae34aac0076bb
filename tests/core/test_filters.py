"""Filters: name patterns, the options' filters, taskkill's language."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from endtask._filters import compile_filter, matches
from endtask._record import replace
from endtask.errors import OsCallError, TargetError
from endtask.model import Filter, Row
from tests.core.fake import FakeBackend, Process, says_why

# --- patterns


def oracle(pattern: str, name: str) -> bool:
    """Return the same by a regular expression."""
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(c, re.escape(c)) for c in pattern), name, re.DOTALL) is not None


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(st.text("ab*?\n", max_size=8), st.text("ab\n*", max_size=8))
@example("a*b*a", "abababa")
@example("*", "")
@example("", "")
@example("?", "*")
def test_pattern_means_what_the_regular_expression_means(pattern: str, name: str) -> None:
    """`*` is any text, `?` one character, everything else itself, over the whole name."""
    assert oracle(pattern, name) is matches(pattern, name)


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(max_size=10), st.text(max_size=10))
def test_text_without_wildcards_matches_only_itself(pattern: str, name: str) -> None:
    """Brackets, dots and blanks mean nothing special."""
    plain = pattern.replace("*", "").replace("?", "")
    assert matches(plain, plain)
    assert (plain == name) is matches(plain, name)


def test_case_is_folded_only_where_the_platform_does() -> None:
    """Linux names differ by case, those of Windows do not."""
    assert not matches("Nginx", "nginx")
    assert matches("NGI*", "nginx", folds_case=True)


def test_pattern_that_kills_a_backtracking_matcher_is_answered() -> None:
    """Many stars against a long name take no exponential time."""
    assert not matches("*a" * 30 + "b", "a" * 2000)


# --- the options

OLD = Process(10, "old", start=1, uid=0, cmdline=("old", "--port", "80"), cwd="/srv", ppid=5, sid=5)
NEW = Process(20, "new", start=99_990, uid=1000, cmdline=("new", "-v"), cwd="/home/ana", ppid=6, sid=6)
PLACELESS = Process(30, "hidden", start=50_000, cmdline=(), cwd=None, ppid=5, sid=7)


def passing(wanted: Filter) -> list[int]:
    """Return which of the three pass all checks."""
    backend = FakeBackend(OLD, NEW, PLACELESS)
    checks = compile_filter(backend, wanted)
    return [p.pid for p in (OLD, NEW, PLACELESS) if all(check(p.pid) for check in checks)]


@pytest.mark.parametrize(
    ("wanted", "pids"),
    [
        (Filter(), [10, 20, 30]),
        (Filter(user="root"), [10]),
        (Filter(user="ana"), [20, 30]),
        (Filter(cmdline="port 80$"), [10]),
        (Filter(cmdline="^new"), [20]),
        (Filter(cwd="/srv/"), [10]),
        (Filter(cwd="/"), []),
        (Filter(older_s=60), [10, 30]),
        (Filter(newer_s=60), [20]),
        (Filter(older_s=10, newer_s=10), [20]),
        (Filter(session=5), [10]),
        (Filter(parent=5), [10, 30]),
        (Filter(parent=5, session=7), [30]),
        (Filter(user="ana", older_s=60), [30]),
        (Filter(fi=("IMAGENAME eq *e*",)), [20, 30]),
        (Filter(fi=("IMAGENAME eq *e*", "PID gt 20")), [30]),
    ],
)
def test_every_part_of_a_filter_must_hold(wanted: Filter, pids: list[int]) -> None:
    """Each part narrows; parts are joined by and."""
    assert pids == passing(wanted)


@pytest.mark.parametrize("path", ["C:\\Users\\Ana", "c:/users/ana", "C:\\USERS\\ANA\\"])
def test_folder_is_compared_as_the_system_does(path: str) -> None:
    """Windows takes both kinds of slash and every case."""
    backend = FakeBackend(Process(10, "new.exe", cwd="C:\\Users\\ana"), PLACELESS)
    backend.folds_case = True
    (check,) = compile_filter(backend, Filter(cwd=path))
    assert (True, False) == (check(10), check(30))


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(user="root"),
        Filter(cmdline="."),
        Filter(cwd="/"),
        Filter(older_s=0),
        Filter(session=5),
        Filter(parent=0),
        Filter(fi=("SESSION ge 0",)),
        Filter(fi=("MEMUSAGE ge 0",)),
        Filter(fi=("IMAGENAME eq *",)),
        Filter(fi=("USERNAME eq *",)),
    ],
)
def test_process_that_has_gone_passes_no_positive_filter(wanted: Filter) -> None:
    """What cannot be read any more does not match."""
    assert not all(check(4242) for check in compile_filter(FakeBackend(), wanted))


@pytest.mark.parametrize("pattern", ["(", "*", "a{4294967296}", "(" * 5000, "[", "\\", "(?P<a>"])
def test_bad_regular_expression_is_a_sentence(pattern: str) -> None:
    """Whatever the regular expression compiler raises becomes a TargetError."""
    with pytest.raises(TargetError, match="regular expression"):
        compile_filter(FakeBackend(), Filter(cmdline=pattern))


def test_unknown_user_is_refused() -> None:
    """A user that does not exist is a mistake, not an empty match."""
    with pytest.raises(TargetError, match="no user"):
        compile_filter(FakeBackend(), Filter(user="nobody-here"))


# --- taskkill's language


@pytest.mark.parametrize(
    ("text", "pids"),
    [
        ("IMAGENAME eq new", [20]),
        ("imagename EQ n*", [20]),
        ("IMAGENAME ne new", [10, 30]),
        ("PID eq 10", [10]),
        ("PID ne 10", [20, 30]),
        ("PID gt 10", [20, 30]),
        ("PID ge 20", [20, 30]),
        ("PID lt 20", [10]),
        ("PID le 20", [10, 20]),
        ("SESSION eq 6", [20]),
        ("USERNAME eq root", [10]),
        ("USERNAME eq 0", [10]),
        ("USERNAME ne root", [20, 30]),
        ("USERNAME ne 0", [20, 30]),
        ("CPUTIME gt 01:02:04", [10, 20, 30]),
        ("CPUTIME gt 01:02:05", []),
        ("CPUTIME ge 1:2:5", [10, 20, 30]),
        ("MEMUSAGE le 2048", [10, 20, 30]),
        ("MEMUSAGE lt 2048", []),
        ("MODULES eq old.so", [10]),
        ("MODULES ne old.so", [20, 30]),
        ("SERVICES eq web*", [10, 20, 30]),
        ("SERVICES ne web*", []),
        ("SERVICES eq N/A", []),
        ("STATUS eq RUNNING", [10, 20, 30]),
        ("STATUS ne running", []),
        ("STATUS eq SUSPENDED", []),
        ("STATUS ne suspended", [10, 20, 30]),
        ("SESSIONNAME eq N/A", [10, 20, 30]),
        ("SESSIONNAME ne N/A", []),
        ("SESSIONNAME eq pts/1", []),
        ("  IMAGENAME   eq   new", [20]),
    ],
)
def test_taskkill_filters_select_as_taskkill_does(text: str, pids: list[int]) -> None:
    """Each name with its operators."""
    assert pids == passing(Filter(fi=(text,)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "IMAGENAME",
        "IMAGENAME eq",
        "IMAGENAME like x",
        "IMAGENAME gt x",
        "USERNAME lt x",
        "MODULES ge x",
        "PID eq x",
        "PID eq -1",
        "PID eq 1.5",
        "PID eq ²",
        "PID eq ٣",
        "SESSION eq console",
        "CPUTIME gt 90",
        "CPUTIME gt 1:2",
        "CPUTIME gt 1:2:3:4",
        "CPUTIME gt a:b:c",
        "MEMUSAGE gt lots",
        "STATUS eq NOT RESPONDING",
        "STATUS eq UNKNOWN",
        "STATUS gt RUNNING",
        "STATUS eq ASLEEP",
        "SESSIONNAME gt x",
        "WINDOWTITLE gt x",
        "WINDOWTITLE eq x",
        "COLOUR eq red",
    ],
)
def test_malformed_taskkill_filter_is_refused_with_a_hint(text: str) -> None:
    """A filter that cannot be understood is never taken as one that matches nothing, or everything."""
    with pytest.raises(TargetError) as caught:
        passing(Filter(fi=(text,)))
    assert caught.value.hint


class Windowed(FakeBackend):
    """A system with windows, logon sessions and programs that may hang; its lists of windows may be closed to us."""

    closed = False

    def title_owners(self, pattern: str) -> list[int]:
        if self.closed:
            raise OsCallError("OpenInputDesktop", 5, text="access is denied")
        return []

    def titles(self, pid: int) -> tuple[str, ...]:
        return ("Untitled - Notepad",) if pid == 10 else ()

    def status(self, pid: int) -> str:
        return {10: "running", 20: "not-responding", 30: "suspended"}.get(pid, "")

    def row(self, pid: int) -> Row | None:
        row = super().row(pid)
        return None if row is None else replace(row, sid=0, desktop_session=0 if pid == 10 else 3)

    def session_name(self, row: Row) -> str:
        return "Console" if row.desktop_session else "Services"

    def user_name(self, uid: int) -> str:
        return f"CORP\\{super().user_name(uid)}"

    def modules(self, pid: int) -> tuple[str, ...]:
        return ("C:\\Windows\\System32\\ntdll.dll",)


@pytest.mark.parametrize(
    ("wanted", "pids"),
    [
        (Filter(fi=("STATUS eq RUNNING",)), [10]),
        (Filter(fi=("STATUS eq NOT RESPONDING",)), [20]),
        (Filter(fi=("STATUS ne Not Responding",)), [10, 30]),
        (Filter(fi=("STATUS eq UNKNOWN",)), []),
        (Filter(fi=("WINDOWTITLE eq UNTITLED*",)), [10]),
        (Filter(fi=("WINDOWTITLE eq N/A",)), [20, 30]),
        (Filter(fi=("SESSION eq 3",)), [20, 30]),
        (Filter(fi=("SESSIONNAME eq Console",)), [20, 30]),
        (Filter(session=0), [10]),
        (Filter(fi=("USERNAME eq CORP\\ana",)), [20, 30]),
        (Filter(fi=("USERNAME eq ana",)), [20, 30]),
        (Filter(fi=("USERNAME ne ana",)), [10]),
        (Filter(fi=("USERNAME ne CORP\\*",)), []),
        (Filter(fi=("MODULES eq ntdll.dll",)), [10, 20, 30]),
    ],
)
def test_filters_where_there_are_windows_and_logon_sessions(wanted: Filter, pids: list[int]) -> None:
    """Status as the system tells it, titles without regard to case, the logon session instead of the session id."""
    checks = compile_filter(Windowed(OLD, NEW, PLACELESS), wanted)
    assert pids == [p.pid for p in (OLD, NEW, PLACELESS) if all(check(p.pid) for check in checks)]


def test_windows_that_may_not_be_listed_are_an_error_for_titles_only() -> None:
    """A filter by title cannot be answered then; whether a program runs still can."""
    backend = Windowed(OLD, NEW, PLACELESS)
    backend.closed = True
    with pytest.raises(OsCallError):
        compile_filter(backend, Filter(fi=("WINDOWTITLE eq x",)))
    with pytest.raises(TargetError, match="nobody can tell here"):
        compile_filter(backend, Filter(fi=("STATUS eq NOT RESPONDING",)))
    (check,) = compile_filter(backend, Filter(fi=("STATUS eq RUNNING",)))
    assert [check(10), check(30), check(4242)] == [True, True, False]


def test_stopped_process_is_running_and_suspended_here() -> None:
    """Without windows RUNNING is whatever has not exited; a stopped process is suspended as well."""
    backend = FakeBackend(Stopped(10, "stopped"))
    running, suspended = (compile_filter(backend, Filter(fi=(f"STATUS eq {s}",)))[0] for s in ("RUNNING", "SUSPENDED"))
    assert (running(10), suspended(10)) == (True, True)
    assert (running(800), suspended(800)) == (True, False)


class Stopped(Process):
    """A process in state T."""

    def row(self) -> Row:
        return replace(super().row(), state="T")


FI = st.tuples(
    st.sampled_from(
        [
            "IMAGENAME",
            "PID",
            "SESSION",
            "USERNAME",
            "CPUTIME",
            "MEMUSAGE",
            "MODULES",
            "SERVICES",
            "STATUS",
            "WINDOWTITLE",
            "SESSIONNAME",
            "x",
        ]
    ),
    st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "EQ", "=="]),
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(["1", "RUNNING", "0:0:0", "9" * 400, "9" * 5000, ":".join(["9" * 400] * 3), "*"]),
    ),
).map(" ".join)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=20), FI))
def test_any_text_is_a_filter_or_a_clear_error(text: str) -> None:
    """No filter text leads to another exception than TargetError."""
    try:
        pids = passing(Filter(fi=(text,)))
    except TargetError as error:
        says_why(error)
    else:
        assert set(pids) <= {10, 20, 30}
