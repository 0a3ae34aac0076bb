"""Filters: name patterns, the options' filters, taskkill's language."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from endtask._filters import compile_filter, matches
from endtask.errors import TargetError
from endtask.model import Filter
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
        ("STATUS eq RUNNING", [10, 20, 30]),
        ("STATUS ne running", []),
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
        "WINDOWTITLE eq x",
        "COLOUR eq red",
    ],
)
def test_malformed_taskkill_filter_is_refused_with_a_hint(text: str) -> None:
    """A filter that cannot be understood is never taken as one that matches nothing, or everything."""
    with pytest.raises(TargetError) as caught:
        passing(Filter(fi=(text,)))
    assert caught.value.hint


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
