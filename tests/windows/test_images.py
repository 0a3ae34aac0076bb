"""Which program a process runs: header, machine, runtime."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.windows import handles, images
from endtask._backends.windows.winapi import kernel32
from endtask.errors import OsCallError
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from tests.windows.lab import Lab


def program(
    subsystem: int = 3, machine: int = 0x8664, data: bytes = b"", *, characteristics: int = 0xC0000040
) -> bytes:
    """Return a file with a PE header, and one section with *data* ("PE Format")."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 68, subsystem)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, 1, 0, 0, 0, len(optional), 0)
    section = bytearray(40)
    struct.pack_into("<III", section, 12, 0x4000, len(data), 512)
    struct.pack_into("<I", section, 36, characteristics)
    head = bytearray(128)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 60, 128)
    return (bytes(head) + coff + bytes(optional) + bytes(section)).ljust(512, b"\0") + data


def parse(raw: bytes, *, loaded: bool = False) -> images.Image | None:
    """Parse a file that lies in memory."""
    return images.parse_image(lambda at, size: raw[at : at + size], loaded=loaded)


@pytest.mark.parametrize(("number", "name"), [(1, "native"), (2, "gui"), (3, "console"), (7, "")])
def test_subsystem_is_what_the_header_says(number: int, name: str) -> None:
    """Others exist (POSIX, EFI) and are none of ours."""
    assert parse(program(number)) == images.Image(name, "x64")


@pytest.mark.parametrize(("number", "name"), [(0x14C, "x86"), (0x8664, "x64"), (0xAA64, "arm64"), (0x5032, "0x5032")])
def test_machine_is_named_or_given_as_a_number(number: int, name: str) -> None:
    """RISC-V is not named here, and not lost."""
    found = parse(program(machine=number))
    assert found is not None
    assert found.machine == name


def test_go_program_is_known_by_its_build_information() -> None:
    """At the begin of its data, in the file and in memory, and only there."""
    mark = b"\xff Go buildinf:\x08\x02"
    assert parse(program(data=mark)) == images.Image("console", "x64", is_go=True)
    assert parse(program(data=b"\0" * 64 + mark)) == images.Image("console", "x64", is_go=True)
    assert parse(program(data=mark, characteristics=0x60000020)) == images.Image("console", "x64")
    loaded = program(data=mark)
    in_memory = loaded[:512].ljust(0x4000, b"\0") + mark
    assert parse(in_memory, loaded=True) == images.Image("console", "x64", is_go=True)


@pytest.mark.parametrize(
    "raw", [b"", b"MZ", b"#!python", program()[:200], b"MZ" + b"\0" * 200, program()[:10] + b"x" * 500]
)
def test_what_is_no_program_has_no_image(raw: bytes) -> None:
    """Cut, a script, or nothing."""
    assert parse(raw) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_read_without_an_error(raw: bytes) -> None:
    """Files and memory belong to others."""
    parse(b"MZ" + raw)
    head = bytearray(program())
    head[128 : 128 + len(raw)] = raw[:300]
    parse(bytes(head))


def test_file_that_cannot_be_read_has_no_image(tmp_path: Path) -> None:
    """Not there, or a folder."""
    assert images.image_of_file(str(tmp_path / "missing.exe")) is None
    assert images.image_of_file(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("name", "modules", "is_go", "runtime"),
    [
        ("python.exe", ["C:\\x\\python.exe", "C:\\x\\python311.dll"], False, "cpython"),
        ("PYTHONW.EXE", [], False, "cpython"),
        ("myapp.exe", ["C:\\x\\myapp.exe", "c:/x/PYTHON312.DLL"], False, "cpython"),
        ("myapp.exe", ["C:\\x\\coreclr.dll"], False, "dotnet"),
        ("myapp.exe", ["C:\\Windows\\Microsoft.NET\\Framework64\\v4.0.30319\\clr.dll"], False, "dotnet"),
        ("java.exe", ["C:\\jre\\bin\\server\\jvm.dll"], False, "java"),
        ("idea64.exe", ["C:\\jre\\bin\\server\\jvm.dll"], False, "java"),
        ("node.exe", [], False, "node"),
        ("app.exe", ["C:\\x\\node.dll"], False, "node"),
        ("cmd.exe", ["C:\\windows\\system32\\cmd.exe"], False, "cmd"),
        ("powershell.exe", ["C:\\x\\clr.dll"], False, "powershell"),
        ("pwsh.exe", ["C:\\x\\coreclr.dll"], False, "powershell"),
        ("bash.exe", ["C:\\msys64\\usr\\bin\\msys-2.0.dll"], False, "msys"),
        ("server.exe", ["C:\\x\\server.exe"], True, "go"),
        ("server.exe", ["C:\\x\\python3.exe", "C:\\x\\jvm.dll.mui"], False, ""),
        ("notepad.exe", ["C:\\windows\\system32\\ntdll.dll"], False, ""),
    ],
)
def test_runtime_is_known_by_its_library_or_by_its_own_name(
    name: str, modules: list[str], is_go: bool, runtime: str
) -> None:
    """A program's own name decides only where the program is the runtime."""
    assert images.runtime_of(name, modules, is_go=is_go) == runtime


# --------------------------------------------------------------------------- real programs


def test_file_and_memory_of_a_program_say_the_same(lab: Lab) -> None:
    """For both subsystems."""
    for target, subsystem in ((lab.start("etconsole", "none"), "console"), (lab.start("etwindow", "none"), "gui")):
        access = kernel32.PROCESS_QUERY_INFORMATION | kernel32.PROCESS_VM_READ
        with handles.open_pin(target.pid) as pin, handles.open_more(pin, access) as handle:
            path = images.path_of(pin.handle)
            assert os.path.samefile(path, lab.targets / os.path.basename(path))
            assert images.image_of_file(path) == images.image_in_memory(handle) == images.Image(subsystem, "x64")
            assert images.machine_of(pin.handle) == images.machine_of(kernel32.GetCurrentProcess())


def test_modules_of_a_program_begin_with_itself() -> None:
    """Each path once; none of what may not be read."""
    with Child() as child:
        paths = images.modules_of(child.pid)
        assert os.path.samefile(paths[0], sys.executable)
        assert len(set(paths)) == len(paths) > 3
        assert any(Path(p).name.lower() == f"python{sys.version_info[0]}{sys.version_info[1]}.dll" for p in paths)
    assert images.modules_of(0x7FFFFFF0) == ()
    with Child(LOCK, ONLY_LOOK) as child:
        assert images.modules_of(child.pid) == ()


def test_path_of_nothing_is_an_error() -> None:
    """Not an empty path."""
    with pytest.raises(OsCallError):
        images.path_of(0)
