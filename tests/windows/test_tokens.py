"""Users: what a process runs as, and the numbers and names that stand for it."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.windows import tokens
from endtask._backends.windows.winapi import kernel32
from endtask.errors import TargetError
from tests.windows.lab import UNDER_WINE
from tests.windows.lab_processes import LOCK, NOBODY, Child

SYSTEM = bytes((1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0))


def test_sid_is_written_as_windows_writes_it() -> None:
    """Revision, authority, parts."""
    assert tokens.sid_text(SYSTEM) == "S-1-5-18"
    assert tokens.sid_from_text("s-1-5-18") == SYSTEM


@given(st.integers(0, (1 << 48) - 1), st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=15))
def test_sid_survives_its_text(authority: int, parts: list[int]) -> None:
    """There and back."""
    sid = bytes((1, len(parts))) + authority.to_bytes(6, "big") + b"".join(p.to_bytes(4, "little") for p in parts)
    assert tokens.sid_from_text(tokens.sid_text(sid)) == sid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S",
        "S-1",
        "S-1-5",
        "S-1-5-x",
        "T-1-5-18",
        "S-1-5--18",
        "S-256-5-18",
        f"S-1-5-{1 << 32}",
        "S-1-5" + "-1" * 16,
    ],
)
def test_text_that_is_no_sid_is_none(text: str) -> None:
    """A user may be called like that."""
    assert tokens.sid_from_text(text) is None


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (0, "untrusted"),
        (0x1000, "low"),
        (0x2000, "medium"),
        (0x2100, "medium"),
        (0x3000, "high"),
        (0x4000, "system"),
        (0x5000, "protected"),
    ],
)
def test_integrity_level_has_a_word(level: int, name: str) -> None:
    """What lies between two levels belongs to the lower one."""
    assert tokens.level_name(level) == name


def test_numbers_are_the_same_in_every_run_and_never_shared() -> None:
    """Two SIDs with one checksum get two numbers."""
    first, second = tokens.Users(), tokens.Users()
    number = first.number(SYSTEM)
    assert number == second.number(SYSTEM)
    second._sids[second.number(SYSTEM) + 1] = b"x"
    other = bytes(68)
    second._numbers.clear()
    second._sids = {tokens.Users().number(other): b"somebody"}
    assert second.number(other) == tokens.Users().number(other) + 1
    assert second.number(other) == second.number(other)


def test_owner_of_a_child_is_who_we_are() -> None:
    """By number, by name, by SID."""
    users = tokens.Users()
    with Child() as child:
        number = users.owner(child.pid)
    assert number is not None
    assert number == users.owner(os.getpid())
    name = users.name(number)
    domain, backslash, user = name.partition("\\")
    assert (bool(domain), backslash) == (True, "\\")
    as_well = () if UNDER_WINE else (name.upper(),)  # Wine compares users by case
    for text in (name, user, *as_well, f".\\{user}", str(number), tokens.sid_text(users._sids[number])):
        assert users.find(text) == number


def test_owner_of_nobody_of_the_ended_and_of_the_forbidden_is_unknown() -> None:
    """None is not a user."""
    users = tokens.Users()
    assert users.owner(0x7FFFFFF0) is None
    assert users.owner(os.getpid() + 1) is None
    with Child(LOCK, NOBODY) as child:
        assert users.owner(child.pid) is None


@pytest.mark.parametrize("name", ["no such user", "", "Administrators", "12", "S-1", "\u0661\u0662"])
def test_what_is_no_user_is_a_mistake(name: str) -> None:
    """A group runs nothing."""
    with pytest.raises(TargetError, match="there is no user"):
        tokens.Users().find(name)


def test_system_is_a_user_although_windows_calls_it_a_group() -> None:
    """LocalSystem runs services."""
    users = tokens.Users()
    number = users.find("SYSTEM")
    assert users._sids[number] == SYSTEM
    assert users.name(number).upper().endswith("SYSTEM")


def test_user_without_a_name_is_shown_by_sid() -> None:
    """A deleted account; a number that stands for nobody is itself."""
    users = tokens.Users()
    gone = tokens.sid_from_text("S-1-5-21-1-2-3-4711")
    assert gone is not None
    assert users.name(users.number(gone)) == "S-1-5-21-1-2-3-4711"
    assert users.name(12) == "12"


def test_our_own_token_tells_user_and_integrity() -> None:
    """It is ours to read."""
    with tokens.open_token(kernel32.GetCurrentProcess()) as token:
        assert tokens.sid_text(tokens.user_of(token)).startswith("S-1-5-")
        assert tokens.integrity_of(token) >= 0x1000
        assert not tokens.is_app_container(token)
