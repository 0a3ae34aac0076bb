"""Windows programs under Wine, recognised without Wine: on recorded lines of /proc, and on processes that look like Wine's."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask import _keeper
from endtask._backends.linux import names, wine, wine_memory
from endtask._backends.linux.backend import LinuxBackend
from endtask.model import WineFacts
from tests.linux.children import Child, python, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from endtask.model import Facts

_SHELL = os.path.realpath(shutil.which("sh") or "/bin/sh")
_SYSTEM = "C:\\windows\\system32\\"


# --------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("exe", "expected"),
    [
        ("/usr/lib/wine/wine64", True),
        ("/opt/wine-stable/bin/wine64-preloader", True),
        ("/opt/wine/bin/wine-preloader (deleted)", True),
        ("/usr/bin/wineserver", False),
        ("/usr/bin/winetricks", False),
        ("", False),
    ],
)
def test_the_loader_is_known_by_its_file(exe: str, expected: bool) -> None:
    """Debian runs the loader itself, others a preloader that makes room for it."""
    assert wine.is_loader(exe) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WINEPREFIX": "/home/ana/games/", "HOME": "/home/ana"}, "/home/ana/games"),
        ({"HOME": "/home/ana"}, "/home/ana/.wine"),
        ({"WINEPREFIX": "", "HOME": "/"}, "/.wine"),
        ({}, ""),
    ],
)
def test_prefix_is_the_one_that_wine_would_take(environ: dict[str, str], expected: str) -> None:
    """wine(1): WINEPREFIX, or .wine in the home folder."""
    assert wine.prefix_of(environ) == expected


def test_name_behind_a_windows_path_is_not_cut() -> None:
    """The kernel keeps 15 bytes, the arguments have the rest behind a backslash."""
    found = names.longer("VeryLongProgram", "/usr/lib/wine/wine64", ("C:\\Program Files\\VeryLongProgramName.exe",))
    assert found == "VeryLongProgramName.exe"


@pytest.mark.parametrize(
    ("facts", "user", "expected"),
    [
        (WineFacts("/p", 260, "", "gui"), "", ("env", "WINEPREFIX=/p", "/w", "taskkill", "/pid", "260")),
        (WineFacts("/p", 0, "", ""), "", ("env", "WINEPREFIX=/p", "/w", "taskkill", "/im", "a.exe")),
        (
            WineFacts("/p", 8, "", "gui"),
            "ana",
            ("runuser", "-u", "ana", "--", "env", "WINEPREFIX=/p", "/w", "taskkill", "/pid", "8"),
        ),
        (WineFacts("/p", 260, "", "console"), "", ()),
        (WineFacts("", 260, "", "gui"), "", ()),
    ],
)
def test_wine_asks_windows_by_its_own_command(facts: WineFacts, user: str, expected: tuple[str, ...]) -> None:
    """By the Windows pid where it is known; a console program has no windows, so Wine has no command for it."""
    assert wine.stop_words(facts, "a.exe", "/w", user) == expected


# What `wine notepad` showed on Wine 8.0, shortened.
_MAPS = b"""\
00010000-00012000 r--s 00000000 fe:00 1515599                            /usr/share/wine/nls/l_intl.nls
00340000-00390000 rw-p 00000000 00:00 0
67e00000-67fe0000 ---p 00000000 00:00 0
67fe0000-68000000 rw-p 00000000 00:00 0
7ffe0000-7ffe1000 r--s 00000000 fe:00 2146652                            /tmp/.wine-0/server-1-2/tmpmap (deleted)
7ffe1000-7ffe2000 rw-p 00000000 00:00 0
140007000-140008000 rw-p 00007000 fe:00 5595891                          /usr/lib/wine/x86_64-windows/notepad.exe
7ffc37387000-7ffc373a8000 rw-p 00000000 00:00 0                          [stack]
"""


def test_blocks_are_looked_for_from_the_top_of_two_gigabytes() -> None:
    """Private memory without a name, at multiples of 64 KiB."""
    found = wine_memory.candidates(_MAPS)
    assert found[:3] == [0x67FF0000, 0x67FE0000, 0x00380000]
    assert all(address % 0x10000 == 0 for address in found)


def test_search_for_blocks_is_bounded() -> None:
    """A program with all of its memory down there costs no more than a few thousand looks."""
    assert len(wine_memory.candidates(b"00010000-70000000 rw-p 00000000 00:00 0\n")) == 4096


# --------------------------------------------------------------------------- memory

# A program with the blocks that Wine makes for a Windows program, at an address that is free in every Python.
_BLOCKS = """
    import ctypes, struct
    teb, peb, more = 0x67FE0000, 0x67FF0000, 0x67FF2000
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    assert libc.mmap(teb, 0x20000, 3, 0x22 | 0x100000, -1, 0) == teb
    def put(address, form, *values):
        raw = struct.pack("<" + form, *values)
        ctypes.memmove(address, raw, len(raw))
    put(teb + 0x30, "Q", teb)
    put(teb + 0x40, "QQQQ", PID, 264, 0, 0)
    put(teb + 0x60, "Q", peb)
    put(peb + 0x20, "Q", more)
    put(peb + 0x128, "I", SUBSYSTEM)
    put(more + 0x10, "QI", CONSOLE, FLAGS)
    path = "C:\\\\games\\\\a.exe".encode("utf-16-le")
    put(more + 0x60, "HHIQ", len(path), len(path) + 2, 0, more + 0x200)
    ctypes.memmove(more + 0x200, path, len(path))
    ready()
    sys.stdin.read()
"""


@contextlib.contextmanager
def _with_blocks(pid: int = 260, subsystem: int = 2, console: int = 0, flags: int = 0) -> Iterator[Child]:
    head = f"PID, SUBSYSTEM, CONSOLE, FLAGS = {pid}, {subsystem}, {console}, {flags}\n"
    with python(head + textwrap.dedent(_BLOCKS)) as child:
        yield child


@pytest.mark.real
@pytest.mark.parametrize(
    ("subsystem", "console", "flags", "expected"),
    [
        (2, 0, 0, ("gui", False, False)),
        (3, 0xFFFFFFFFFFFFFFFC, 0, ("console", True, False)),
        (3, 8, 1, ("console", True, True)),
        (1, 0, 0, ("", False, False)),
    ],
)
def test_blocks_tell_the_windows_pid_and_the_kind(
    subsystem: int, console: int, flags: int, expected: tuple[str, bool, bool]
) -> None:
    """The thread's block is known by its own address in it."""
    with _with_blocks(260, subsystem, console, flags) as child:
        found = wine_memory.read(child.pid)
    assert found is not None
    assert (found.pid, found.image) == (260, "C:\\games\\a.exe")
    assert (found.subsystem, found.console, found.ignores_ctrl_c) == expected


@pytest.mark.real
def test_memory_that_is_no_block_tells_nothing() -> None:
    """A Windows pid is a multiple of four; and a program without any block is nobody's guess."""
    with _with_blocks(261) as child:
        assert wine_memory.read(child.pid) is None
    with python("ready(); sys.stdin.read()") as child:
        assert wine_memory.read(child.pid) is None


def test_memory_that_may_not_be_read_leaves_the_pid_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read it needs the rights to trace, which many systems give for children only (Yama)."""

    def refuse(pid: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(wine_memory, "read", refuse)
    monkeypatch.setattr(wine, "_loader", lambda *_: "wine")
    found = wine.look_at(os.getpid(), "a.exe", "/x/wine64", ("C:\\a.exe",), {"WINEPREFIX": "/"}, (0, "root"))
    assert found is not None
    assert found.facts == WineFacts("/")
    assert "rights to trace" in found.unknown["wine.pid"]
    assert found.manager.stop == "env WINEPREFIX=/ wine taskkill /im a.exe"


# --------------------------------------------------------------------------- processes that look like Wine's


@contextlib.contextmanager
def _like_wine(folder: Path, comm: str, *arguments: str, loader: str = "wine64", prefix: str = "") -> Iterator[Child]:
    """Run a shell that waits, below the name *comm* and in an executable called *loader*, as Wine's processes look."""
    copy = folder / loader
    if not copy.exists():
        shutil.copy(_SHELL, copy)
    link = folder / comm
    if link != copy:
        link.symlink_to(copy)
    environ = {"HOME": str(folder), **({"WINEPREFIX": prefix} if prefix else {})}
    with running([arguments[0], "-s", "--", *arguments[1:]], executable=str(link), env=environ) as child:
        yield child


def _facts(pid: int) -> Facts:
    backend = LinuxBackend()
    with backend.pin(pid) as pin:
        return backend.facts(pin)


@pytest.mark.real
@pytest.mark.parametrize(
    ("comm", "arguments", "says"),
    [
        ("services.exe", (_SYSTEM + "services.exe",), "a part of Windows"),
        ("winedevice.exe", ("c:\\Windows\\System32\\winedevice.exe",), "a part of Windows"),
        ("winemenubuilder", (_SYSTEM + "winemenubuilder.exe", "-a"), "a part of Windows"),
        ("explorer.exe", (_SYSTEM + "explorer.exe", "/desktop"), "a part of Windows"),
        ("conhost.exe", (_SYSTEM + "conhost.exe", "--unix"), "the console of other"),
    ],
)
def test_what_wine_has_started_for_itself_is_untouchable(
    tmp_path: Path, comm: str, arguments: tuple[str, ...], says: str
) -> None:
    """It serves all programs of the prefix, and the sentence names that."""
    with _like_wine(tmp_path, comm, *arguments, prefix="/p") as child:
        assert says in LinuxBackend().untouchable(child.pid)
        assert _keeper.ends_by_itself(child.pid, comm.encode())


@pytest.mark.real
def test_the_server_is_untouchable_and_says_how_to_end_it(tmp_path: Path) -> None:
    """TERM would leave its programs running without a server."""
    with _like_wine(tmp_path, "wineserver64", "/usr/lib/wine/wineserver64", loader="wineserver64", prefix="/p q") as c:
        found = LinuxBackend().untouchable(c.pid)
    assert "server of the Wine prefix /p q" in found
    assert "`env 'WINEPREFIX=/p q' wineserver -k`" in found


@pytest.mark.real
@pytest.mark.parametrize(
    ("comm", "arguments", "loader"),
    [
        ("notepad.exe", (_SYSTEM + "notepad.exe",), "wine64"),
        ("explorer.exe", (_SYSTEM + "explorer.exe", "C:\\games"), "wine64"),  # a file manager
        ("services.exe", ("C:\\games\\services.exe",), "wine64"),  # another program of that name
        ("services.exe", (_SYSTEM + "services.exe",), "mono"),  # no loader of Wine
        ("wineserver-top", ("wineserver-top",), "top"),
        ("wine", ("wine",), "top"),
    ],
)
def test_other_programs_are_ordinary_targets(
    tmp_path: Path, comm: str, arguments: tuple[str, ...], loader: str
) -> None:
    """The name alone decides nothing."""
    with _like_wine(tmp_path, comm, *arguments, loader=loader, prefix="/p") as child:
        assert not LinuxBackend().untouchable(child.pid)
        assert not _keeper.ends_by_itself(child.pid, comm.encode())


@pytest.mark.real
def test_facts_name_prefix_and_wines_own_stop_command(tmp_path: Path) -> None:
    """By the loader that runs it, so that neither the version nor PATH matters; the zeros behind the arguments are none."""
    prefix = tmp_path / "my prefix"
    prefix.mkdir()
    with _like_wine(tmp_path, "notepad.exe", _SYSTEM + "notepad.exe", "", "", prefix=str(prefix)) as child:
        seen = _facts(child.pid)
    assert seen.name == "notepad.exe"
    assert seen.cmdline == (_SYSTEM + "notepad.exe", "-s", "--")
    assert seen.wine == WineFacts(str(prefix))  # a shell has no blocks to read
    assert "wine.pid" in dict(seen.unknown)
    manager = seen.managers[0]
    assert (manager.kind, manager.name, manager.restarts, manager.certain) == ("wine", str(prefix), "no", True)
    assert manager.stop == f"env 'WINEPREFIX={prefix}' {tmp_path}/wine64 taskkill /im notepad.exe"


@pytest.mark.real
def test_loader_behind_a_preloader_is_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preloader is no command of its own; where the loader is not beside it, `wine` of PATH is left, and perhaps nothing."""
    with _like_wine(tmp_path, "a.exe", "C:\\a.exe", loader="wine64-preloader", prefix=str(tmp_path)) as child:
        monkeypatch.setenv("PATH", "/no/such/folder")
        manager = _facts(child.pid).managers[0]
        assert manager.stop == ""
        assert "neither its loader nor a `wine` on PATH" in manager.because
        (tmp_path / "wine").symlink_to(_SHELL)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert " wine taskkill " in _facts(child.pid).managers[0].stop
        shutil.copy(_SHELL, tmp_path / "wine64")
        assert f" {tmp_path}/wine64 taskkill " in _facts(child.pid).managers[0].stop


@pytest.mark.real
def test_prefix_that_is_not_here_gives_no_command(tmp_path: Path) -> None:
    """A sandbox has its prefix somewhere else: a command that names it here would ask nobody, or the wrong ones."""
    with _like_wine(tmp_path, "a.exe", "C:\\a.exe", prefix="/no/such/prefix") as child:
        manager = _facts(child.pid).managers[0]
    assert manager.stop == ""
    assert "not visible from here" in manager.because


def test_program_whose_executable_is_hidden_is_a_guess() -> None:
    """Another user's: the arguments begin with a Windows path, and no more is known."""
    found = wine.look_at(os.getpid(), "a.exe", "", ("C:\\games\\a.exe",), None, (12345, "ana"))
    assert found is not None
    assert not found.manager.certain
    assert found.manager.stop == ""
    assert found.facts.prefix == ""
    assert "wine.prefix" in found.unknown
    assert wine.look_at(os.getpid(), "cat", "", ("/bin/cat",), None, (12345, "ana")) is None
    assert wine.look_at(os.getpid(), "cat", "/bin/cat", ("C:\\x",), {}, (12345, "ana")) is None
