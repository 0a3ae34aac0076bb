"""What Wine keeps about a program in the program's own memory: its Windows pid, image, subsystem and console.

Decision: read, never ask. Nothing in /proc shows a Windows pid, and a command of Wine that lists them shows no Unix pid.
The thread environment block does: it holds its own address, by which it is known, and the pid (Wine: include/winternl.h, _TEB, _PEB,
_RTL_USER_PROCESS_PARAMETERS; the layout is that of Windows, which programs rely on). Wine puts the first one at the end of a block right below
the process environment block (dlls/ntdll/unix/virtual.c, virtual_alloc_first_teb); measured on Wine 8.0.

Only programs with a 64-bit block are read: of a 32-bit one in a 32-bit loader nothing is said here.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._record import Record

_STEP = 0x10000  # allocation granularity of Windows: every block begins at a multiple of it
_LIMIT = 1 << 31  # the first block is below 2 GiB
_MOST_LOOKS = 4096  # a program with more memory than that down there is given up
_TEB_SELF, _TEB_PID, _TEB_TID, _TEB_PEB, _TEB_SIZE = 0x30, 0x40, 0x48, 0x60, 0x68
_PEB_PARAMETERS, _PEB_SUBSYSTEM, _PEB_SIZE = 0x20, 0x128, 0x12C
_CONSOLE_HANDLE, _CONSOLE_FLAGS, _IMAGE, _PARAMETERS_SIZE = 0x10, 0x18, 0x60, 0x70
_IGNORES_CTRL_C = 1
_SUBSYSTEMS = {2: "gui", 3: "console"}  # IMAGE_SUBSYSTEM_WINDOWS_GUI, _CUI (Microsoft: PE Format)


class Blocks(Record):
    """What the blocks of a program say.

    Attributes:
        pid: Its Windows pid.
        image: Windows path of its program.
        subsystem: `gui`, `console`, or empty for another one.
        console: Whether it has a console.
        ignores_ctrl_c: Whether it ignores Ctrl+C (SetConsoleCtrlHandler(NULL, TRUE), which children inherit).
    """

    pid: int
    image: str
    subsystem: str
    console: bool
    ignores_ctrl_c: bool


def read(pid: int) -> Blocks | None:
    """Return what the blocks of a program under Wine say, None if there are none of the kind we know, or it has ended.

    Raises:
        PermissionError: Its memory may not be read: that needs the rights to trace it (ptrace(2), PTRACE_MODE_ATTACH).
    """
    maps = procfs.look(b"/proc/%d/maps" % pid) or b""
    try:
        fd = os.open(b"/proc/%d/mem" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return None  # ignored: gone, which the pin tells
    try:
        for address in candidates(maps):
            teb = _at(fd, address, _TEB_SIZE)
            if len(teb) == _TEB_SIZE and _number(teb, _TEB_SELF) == address:
                found = _blocks(fd, teb)
                if found is not None:
                    return found
    finally:
        os.close(fd)
    return None


def candidates(maps: bytes) -> list[int]:
    """Return where the first block may begin: private, nameless, writable memory below 2 GiB, from the top (pure)."""
    found: list[int] = []
    for line in reversed(maps.split(b"\n")):
        fields = line.split(None, 5)
        if len(fields) != 5 or fields[1] != b"rw-p":  # a sixth field is a name
            continue
        low, _, high = fields[0].partition(b"-")
        begin, end = int(low, 16), int(high, 16)
        if end > _LIMIT:
            continue
        found += range((end - 1) & -_STEP, begin - 1, -_STEP)
        if len(found) > _MOST_LOOKS:
            return found[:_MOST_LOOKS]
    return found


def _blocks(fd: int, teb: bytes) -> Blocks | None:
    """Follow the pointers of a thread's block; None where they lead nowhere, so that it was none."""
    pid, thread = _number(teb, _TEB_PID), _number(teb, _TEB_TID)
    if not 0 < pid < 1 << 32 or pid % 4 or not 0 < thread < 1 << 32 or thread % 4:
        return None  # Windows ids are multiples of four, Wine's too (server/process.c, alloc_ptid)
    peb = _at(fd, _number(teb, _TEB_PEB), _PEB_SIZE)
    if len(peb) != _PEB_SIZE:
        return None
    parameters = _at(fd, _number(peb, _PEB_PARAMETERS), _PARAMETERS_SIZE)
    if len(parameters) != _PARAMETERS_SIZE:
        return None
    subsystem = _SUBSYSTEMS.get(int.from_bytes(peb[_PEB_SUBSYSTEM:_PEB_SIZE], "little"), "")
    flags = int.from_bytes(parameters[_CONSOLE_FLAGS : _CONSOLE_FLAGS + 4], "little")
    console = _number(parameters, _CONSOLE_HANDLE) != 0
    return Blocks(pid, _text(fd, parameters), subsystem, console, bool(flags & _IGNORES_CTRL_C))


def _text(fd: int, parameters: bytes) -> str:
    """Return the path of the image: length in bytes, room for it, and the address of its UTF-16 text."""
    length = int.from_bytes(parameters[_IMAGE : _IMAGE + 2], "little")
    return _at(fd, _number(parameters, _IMAGE + 8), length).decode("utf-16-le", "replace")


def _number(block: bytes, offset: int) -> int:
    return int.from_bytes(block[offset : offset + 8], "little")


def _at(fd: int, address: int, size: int) -> bytes:
    """Return the memory at an address, empty where there is none."""
    try:
        return os.pread(fd, size, address) if 0 < address < 1 << 63 else b""
    except OSError:
        return b""  # ignored: nothing is mapped there (EIO), or it has ended
