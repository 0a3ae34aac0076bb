"""What lies in the memory of a process: by layout, and of real programs."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.windows import handles, images, memory
from endtask._backends.windows.winapi import kernel32
from endtask.errors import OsCallError
from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, OWN_CONSOLE
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from endtask._backends.windows.memory import Layout, Read
    from tests.windows.lab import Lab

PEB, BLOCK, TEXTS = 0x7000, 0x10000, 0x20000


class Memory:
    """Memory that is not there, with what it takes to find the parameters in it."""

    def __init__(self, layout: Layout, environment: bytes, size: int, line: str = "a.exe b") -> None:
        self.bytes: dict[int, bytes] = {}
        self.pointer = layout.pointer
        self.put(PEB + layout.parameters, BLOCK, layout.pointer)
        self.put(BLOCK + layout.console_handle, 0x30, layout.pointer)
        self.put(BLOCK + layout.console_flags, 1, 4)
        self.text(BLOCK + layout.command_line, TEXTS, line)
        self.text(BLOCK + layout.directory, TEXTS + 0x1000, "C:\\x\\")
        self.put(BLOCK + layout.environment, TEXTS + 0x2000, layout.pointer)
        self.put(BLOCK + layout.environment_size, size, layout.pointer)
        self.bytes[TEXTS + 0x2000] = environment
        block = bytearray(layout.environment_size + layout.pointer)  # it lies in one piece
        for at in [a for a in self.bytes if BLOCK <= a < TEXTS]:
            raw = self.bytes.pop(at)
            block[at - BLOCK : at - BLOCK + len(raw)] = raw
        self.bytes[BLOCK] = bytes(block)

    def put(self, at: int, number: int, size: int) -> None:
        """Write a number."""
        self.bytes[at] = number.to_bytes(size, "little")

    def text(self, at: int, where: int, text: str) -> None:
        """Write a UNICODE_STRING and its text."""
        raw = text.encode("utf-16-le")
        self.put(at, len(raw), 2)
        self.put(at + self.pointer, where, self.pointer)
        self.bytes[where] = raw

    def read(self, at: int, size: int) -> bytes:
        """Read as ReadProcessMemory does: all or nothing."""
        for start, raw in self.bytes.items():
            if start <= at and at + size <= start + len(raw):
                return raw[at - start : at - start + size]
        raise OsCallError("ReadProcessMemory", 299)


@pytest.mark.parametrize("layout", [memory.LAYOUT_64, memory.LAYOUT_32])
def test_parameters_are_found_by_the_layout(layout: Layout) -> None:
    """For either size of pointer."""
    environment = "A=1\0B=2\0\0".encode("utf-16-le")
    found = memory.parse(Memory(layout, environment, len(environment)).read, PEB, layout)
    assert found == memory.Parameters("a.exe b", "C:\\x\\", ("A=1", "B=2"), 0x30, 1)


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_environment_without_a_size_is_read_to_its_end(size: int) -> None:
    """Page by page, and what lies behind its end is no part of it."""
    text = "A=" + "x" * 5000 + "\0B=2\0\0rubbish"
    raw = text.encode("utf-16-le") + bytes(16384)
    found = memory.parse(Memory(memory.LAYOUT_64, raw, size).read, PEB, memory.LAYOUT_64)
    assert found.environment == ("A=" + "x" * 5000, "B=2")


def test_environment_that_ends_with_readable_memory_is_taken_as_far_as_it_goes() -> None:
    """No end was found: what could be read counts."""
    raw = ("A=" + "x" * 2046).encode("utf-16-le")  # exactly one page
    found = memory.parse(Memory(memory.LAYOUT_64, raw, 0).read, PEB, memory.LAYOUT_64)
    assert found.environment == ("A=" + "x" * 2046,)


def test_environment_that_cannot_be_read_at_all_is_an_error() -> None:
    """Not an empty one."""
    with pytest.raises(OsCallError):
        memory.parse(Memory(memory.LAYOUT_64, b"", 0).read, PEB, memory.LAYOUT_64)


def test_process_without_parameters_has_not_been_started_up() -> None:
    """Its creator has not written them yet."""
    read: Read = lambda _at, size: bytes(size)  # noqa: E731
    with pytest.raises(OsCallError, match="started up"):
        memory.parse(read, PEB, memory.LAYOUT_64)


@pytest.mark.parametrize("raw", ["", "\0", "\0\0"])
def test_empty_environment_has_no_entries(raw: str) -> None:
    """And not one empty entry."""
    assert memory.split_environment(raw) == ()


@pytest.mark.parametrize("program", ["etconsole", "python"])
def test_the_little_that_a_stop_needs_is_true(lab: Lab, program: str) -> None:
    """The console's fields, and the modules that tell the runtime, in a few readings."""
    target = lab.start(program, "true" if program == "etconsole" else "plain", flags=NO_WINDOW)
    with handles.open_pin(target.pid) as pin, handles.open_more(pin, memory.RIGHTS) as handle:
        whole, little = memory.read_parameters(handle), memory.read_little(handle, images.NAME_LENGTHS)
        paths = images.module_paths(handle)
        assert memory.read_little(handle, frozenset()).names == ()
    fields = (whole.console_handle, whole.console_flags)
    assert (little.parameters.console_handle, little.parameters.console_flags) == fields
    names = [path.replace("/", "\\").rpartition("\\")[2].lower() for path in paths]
    assert set(little.names) <= set(names)
    assert set(little.names) == {name for name in names if len(name) in images.NAME_LENGTHS}
    runtime = images.runtime_of("x.exe", little.names)
    assert runtime == images.runtime_of("x.exe", paths) == ("" if program == "etconsole" else "cpython")


# --------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("", ()),
        ("a.exe", ("a.exe",)),
        ("a.exe  ", ("a.exe",)),
        (r'"C:\Program Files\a.exe" b', ("C:\\Program Files\\a.exe", "b")),
        (r"C:\a\b.exe c\d", ("C:\\a\\b.exe", "c\\d")),
        (r'a "b c" d', ("a", "b c", "d")),
        (r'a "a b c" d e', ("a", "a b c", "d", "e")),
        # The examples of "Parsing C command-line arguments"
        (r'a "ab\"c" "\\" d', ("a", 'ab"c', "\\", "d")),
        (r'a a\\\b d"e f"g h', ("a", r"a\\\b", "de fg", "h")),
        (r"a a\\\"b c d", ("a", r"a\"b", "c", "d")),
        (r'a a\\\\"b c" d e', ("a", r"a\\b c", "d", "e")),
        (r'a a"b"" c d', ("a", 'ab" c d')),
        ('a ""', ("a", "")),
        ('a "', ("a", "")),
        ("a\tb", ("a", "b")),
    ],
)
def test_arguments_are_split_as_the_c_runtime_splits_them(line: str, arguments: tuple[str, ...]) -> None:
    """The rules that Microsoft writes down."""
    assert memory.split_arguments(line) == arguments


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12), max_size=6))
def test_arguments_survive_the_way_that_python_joins_them(arguments: list[str]) -> None:
    """What was passed to CreateProcess by `subprocess` is what `look` shows."""
    line = subprocess.list2cmdline(["program", *arguments])
    assert memory.split_arguments(line) == ("program", *arguments)


@given(st.text(st.sampled_from('a \t"\\')))
def test_any_line_can_be_split(line: str) -> None:
    """Whatever somebody wrote there, and never more of it than there was."""
    assert sum(map(len, memory.split_arguments(line))) <= len(line)


@pytest.mark.parametrize(
    ("path", "plain"), [("C:\\x\\", "C:\\x"), ("C:\\", "C:\\"), ("\\\\a\\b\\", "\\\\a\\b"), ("", "")]
)
def test_directory_without_the_backslash_at_its_end(path: str, plain: str) -> None:
    """A drive keeps it: `C:` alone means something else."""
    assert memory.plain_directory(path) == plain


@pytest.mark.parametrize(
    ("handle", "has"), [(0, False), (0x30, True), (1, True), (-1, False), (-2, False), (-4, False), (-100, True)]
)
def test_wish_for_a_console_is_no_console(handle: int, has: bool) -> None:
    """Small negative numbers are what the parent wanted."""
    assert memory.has_console(handle & (1 << 8 * memory.LAYOUT.pointer) - 1) is has


# --------------------------------------------------------------------------- real programs


def test_arguments_directory_and_environment_of_a_child() -> None:
    """As they were given to it, blanks, quotes and backslashes included."""
    given_words = ("a b", 'say "hi"', "end\\", "", "caf\xe9 \U0001f427")
    folder = os.path.realpath(tempfile.gettempdir())
    with Child("", *given_words, cwd=folder, environment={"ENDTASK_MARK": "m-1"}) as child:
        line = memory.command_line_of(child.pid)
        assert line is not None
        assert memory.split_arguments(line)[-5:] == given_words
        found = memory.parameters_of(child.pid)
        assert found is not None
        assert os.path.samefile(memory.plain_directory(found.directory), folder)
        assert "ENDTASK_MARK=m-1" in found.environment
        assert memory.parameters_of(child.pid, environment=False) == memory.Parameters(
            found.command_line, found.directory, (), found.console_handle, found.console_flags
        )


def test_directory_follows_the_process() -> None:
    """It is the one that the process is in now."""
    with Child("import os; os.chdir('C:\\\\'); print(os.getcwd())") as child:
        found = memory.parameters_of(child.pid)
        assert found is not None
        assert memory.plain_directory(found.directory) == child.said[0] == "C:\\"


@pytest.mark.parametrize(
    ("mode", "flags", "ignores"),
    [
        ("none", NO_WINDOW, False),
        ("none", NO_WINDOW | NEW_GROUP, True),
        ("ignore", NO_WINDOW, True),
        ("enable", NO_WINDOW | NEW_GROUP, False),
    ],
)
def test_whether_ctrl_c_is_ignored_can_be_read(lab: Lab, mode: str, flags: int, ignores: bool) -> None:
    """Inherited with a new process group, set by the program, taken back by the program."""
    target = lab.start("etconsole", mode, flags=flags)
    found = memory.parameters_of(target.pid, environment=False)
    assert found is not None
    assert bool(found.console_flags & memory.IGNORES_CTRL_C) is ignores


@pytest.mark.parametrize(("flags", "has"), [(OWN_CONSOLE, True), (NO_WINDOW, True), (DETACHED, False)])
def test_whether_there_is_a_console_can_be_read(lab: Lab, flags: int, has: bool) -> None:
    """A console without a window is one."""
    found = memory.parameters_of(lab.start("etconsole", "none", flags=flags).pid, environment=False)
    assert found is not None
    assert memory.has_console(found.console_handle) is has


def test_nobody_and_the_ended_say_nothing() -> None:
    """None, not an empty answer."""
    with Child() as child:
        pid = child.pid
        child.let_go()
        assert memory.parameters_of(pid) is None
    assert memory.parameters_of(0x7FFFFFF0) is None
    assert memory.command_line_of(0x7FFFFFF0) is None
    assert memory.command_line_of(os.getpid() + 1) is None


def test_process_that_may_not_be_read_says_nothing() -> None:
    """What it says of itself lies in its memory."""
    with Child(LOCK, ONLY_LOOK) as child:
        assert memory.parameters_of(child.pid) is None


@pytest.mark.parametrize(("ours", "theirs", "why"), [(0, 1, "WOW64"), (1, 0, "64-bit process")])
def test_process_of_another_pointer_size_is_unknown(
    monkeypatch: pytest.MonkeyPatch, ours: int, theirs: int, why: str
) -> None:
    """Its block has another layout, or is a copy that has grown old; nothing is guessed from it."""
    own = kernel32.GetCurrentProcess()

    def is_wow64(handle: int, flag: object) -> bool:
        flag._obj.value = ours if handle == own else theirs  # type: ignore[attr-defined]  # what byref refers to
        return True

    monkeypatch.setattr(kernel32, "IsWow64Process", is_wow64)
    with Child() as child:
        with (
            handles.Handle(handles.open_process(child.pid, memory.RIGHTS)) as handle,
            pytest.raises(OsCallError, match=why),
        ):
            memory.read_parameters(handle)
        assert memory.parameters_of(child.pid) is None
