"""What a process keeps about itself in its own memory (the PEB): arguments, current directory, environment, console.

Decision: read once with one handle, by the layout of our own pointer size. Nobody else can be asked for the current directory, for the environment,
or for whether a process ignores Ctrl+C; the arguments come from the kernel where it tells them (Windows 8.1), because that needs fewer rights.

A process of another pointer size (WOW64) keeps a second block in another layout, whose first is a copy that grows old: it is `unknown` here, with the reason.

The layout is that of RTL_USER_PROCESS_PARAMETERS, of which Microsoft documents two members (winternl.h); debuggers print the rest (`dt nt!_RTL_USER_PROCESS_PARAMETERS`).
It has not moved since Windows Vista, and programs rely on it. The process can write there what it likes: it is what it says of itself.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.handles import Handle, open_process
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import last_error
from endtask._record import Record
from endtask.errors import OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

IGNORES_CTRL_C = (
    1  # bit 0 of ConsoleFlags: set by CREATE_NEW_PROCESS_GROUP and SetConsoleCtrlHandler(NULL, TRUE), inherited
)
RIGHTS = kernel32.PROCESS_QUERY_INFORMATION | kernel32.PROCESS_VM_READ  # of the handle that `read_parameters` takes
_PAGE = 4096
_MOST_MODULES = 4096
_WISHES = 16
_MOST_ENVIRONMENT = (
    1 << 20
)  # bytes; "the maximum size of a user-defined environment variable is 32,767 characters", and there are several
_WOW64 = "it is a 32-bit process under 64-bit Windows (WOW64)"


class Layout(Record):
    """Where things lie, in bytes.

    Attributes:
        pointer: Size of a pointer.
        parameters: Of the pointer to the parameters, in the PEB.
        console_handle: Of ConsoleHandle, in the parameters, as all that follow.
        console_flags: Of ConsoleFlags.
        directory: Of CurrentDirectory.DosPath.
        command_line: Of CommandLine.
        environment: Of the pointer to the environment.
        environment_size: Of EnvironmentSize.
        loader: Of the pointer to what the loader keeps, in the PEB; the parameters follow it.
        module_list: Of the first entry of the list of modules, in that.
        module_name: Of the name of a module, in its entry.
    """

    pointer: int
    parameters: int
    console_handle: int
    console_flags: int
    directory: int
    command_line: int
    environment: int
    environment_size: int
    loader: int
    module_list: int
    module_name: int


LAYOUT_64 = Layout(8, 0x20, 0x10, 0x18, 0x38, 0x70, 0x80, 0x3F0, 0x18, 0x10, 0x58)
LAYOUT_32 = Layout(4, 0x10, 0x10, 0x14, 0x24, 0x40, 0x48, 0x290, 0x0C, 0x0C, 0x2C)
LAYOUT = LAYOUT_64 if ctypes.sizeof(ctypes.c_void_p) == 8 else LAYOUT_32


class Parameters(Record):
    """What was read.

    Attributes:
        command_line: As it was given, not split.
        directory: Current directory, as the process last set it.
        environment: The entries `NAME=value`.
        console_handle: Reference to the console, 0 for none.
        console_flags: Bit 0: Ctrl+C is ignored.
    """

    command_line: str
    directory: str
    environment: tuple[str, ...]
    console_handle: int
    console_flags: int


def read_parameters(handle: int, *, environment: bool = True) -> Parameters:
    """Return what an opened process says of itself.

    Args:
        handle: With PROCESS_QUERY_INFORMATION and PROCESS_VM_READ.
        environment: Whether to read the environment too, which is the largest part.

    Raises:
        OsCallError: It cannot be read; the text says why.
    """
    return parse(lambda at, size: read(handle, at, size), _peb(handle), LAYOUT, environment=environment)


def _peb(handle: int) -> int:
    """Return where the PEB of an opened process lies.

    Raises:
        OsCallError: It has none, or one in another layout.
    """
    _require_same_size(handle)
    basic = ntdll.ProcessBasic()
    status = ntdll.NtQueryInformationProcess(
        handle, ntdll.PROCESS_BASIC_INFORMATION, ctypes.byref(basic), ctypes.sizeof(basic), None
    )
    if status:
        raise errors.failed("NtQueryInformationProcess", ntdll.RtlNtStatusToDosError(status))
    if not basic.peb:  # a process of the kernel has none, one that ends has none any more
        raise OsCallError("NtQueryInformationProcess", 0, text="the process has no memory of its own")
    return int(basic.peb)


class Little(Record):
    """What a stop needs of all that.

    Attributes:
        parameters: With the console's two fields only.
        names: Lower-case file names of modules, those of a length that was asked for.
    """

    parameters: Parameters
    names: tuple[str, ...]


def read_little(handle: int, lengths: frozenset[int]) -> Little:
    """Return the console's fields of an opened process, and the names of those of its modules whose names have one of *lengths* characters.

    Each reading of another process's memory is a call (in Wine it even stops the other process for a moment), so of a module only its entry is read,
    and the text of its name where that can be one that counts.

    Raises:
        OsCallError: It cannot be read; also while it starts up or ends.
    """
    peb, size = _peb(handle), LAYOUT.pointer
    raw = read(handle, peb + LAYOUT.loader, 2 * size)
    loader, block = (int.from_bytes(raw[at : at + size], "little") for at in (0, size))
    if not block or not loader:
        raise OsCallError("ReadProcessMemory", 0, text="it has not been started up yet")
    raw = read(handle, block + LAYOUT.console_handle, 2 * size)
    console_handle, flags = int.from_bytes(raw[:size], "little"), int.from_bytes(raw[size : size + 4], "little")
    head = loader + LAYOUT.module_list
    entry = int.from_bytes(read(handle, head, size), "little") if lengths else 0
    names: list[str] = []
    for _ in range(_MOST_MODULES if lengths else 0):  # the list may change under our hands
        if entry in (0, head):
            break
        raw = read(handle, entry, LAYOUT.module_name + 2 * size)
        entry = int.from_bytes(raw[:size], "little")
        length = int.from_bytes(raw[LAYOUT.module_name : LAYOUT.module_name + 2], "little")
        if length // 2 in lengths:
            names.append(decode(read(handle, int.from_bytes(raw[-size:], "little"), length)).lower())
    return Little(Parameters("", "", (), console_handle, flags), tuple(names))


def has_console(console_handle: int) -> bool:
    """Return whether a ConsoleHandle means a console (pure).

    Small negative numbers say what the parent wanted (DETACHED_PROCESS -1, CREATE_NEW_CONSOLE -2, CREATE_NO_WINDOW -3; Wine: -4 for the terminal of the shell)
    and stay there where the process has joined none.
    """
    largest = (1 << (8 * LAYOUT.pointer)) - 1
    return 0 < console_handle <= largest - _WISHES


def _require_same_size(handle: int) -> None:
    """Refuse a process of another pointer size than ours.

    Raises:
        OsCallError: It is one, or that cannot be told.
    """
    theirs, ours = ctypes.c_long(), ctypes.c_long()
    for process, flag in ((handle, theirs), (kernel32.GetCurrentProcess(), ours)):
        if not kernel32.IsWow64Process(process, ctypes.byref(flag)):
            raise errors.failed("IsWow64Process", last_error())
    if theirs.value and not ours.value:
        raise OsCallError("ReadProcessMemory", 0, text=f"{_WOW64}, and endtask here is not")
    if ours.value and not theirs.value:
        raise OsCallError("ReadProcessMemory", 0, text="it is a 64-bit process, and endtask here is a 32-bit one")


def read(handle: int, at: int, size: int) -> bytes:
    """Return *size* bytes at *at*.

    Raises:
        OsCallError: Not all of them could be read.
    """
    buffer = ctypes.create_string_buffer(size)
    if not kernel32.ReadProcessMemory(handle, at, buffer, size, None):
        raise errors.failed("ReadProcessMemory", last_error())
    return buffer.raw


def parse(read: Read, peb: int, layout: Layout, *, environment: bool = True) -> Parameters:
    """Return what lies behind a PEB (pure but for *read*).

    Raises:
        OsCallError: Something points to memory that cannot be read.
    """
    start = int.from_bytes(read(peb + layout.parameters, layout.pointer), "little")
    if not start:
        raise OsCallError("ReadProcessMemory", 0, text="it has not been started up yet")
    block = read(start, layout.environment + layout.pointer)  # at once: each reading of another process is a call

    def number(at: int, size: int) -> int:
        return int.from_bytes(block[at : at + size], "little")

    def text(at: int) -> str:
        length, where = number(at, 2), number(at + layout.pointer, layout.pointer)
        return decode(read(where, length)) if length and where else ""

    return Parameters(
        text(layout.command_line),
        text(layout.directory),
        _environment(read, start, layout, number(layout.environment, layout.pointer)) if environment else (),
        number(layout.console_handle, layout.pointer),
        number(layout.console_flags, 4),
    )


def _environment(read: Read, block: int, layout: Layout, start: int) -> tuple[str, ...]:
    """Return the entries of an environment; its size stands in the parameters, and is 0 where nobody keeps it (older Wine)."""
    if not start:
        return ()
    size = int.from_bytes(read(block + layout.environment_size, layout.pointer), "little")
    if 0 < size <= _MOST_ENVIRONMENT:
        try:
            return split_environment(decode(read(start, size & ~1)))
        except OsCallError:
            pass  # ignored: the process has made it smaller meanwhile; page by page finds its end
    raw, at = b"", start
    while len(raw) < _MOST_ENVIRONMENT and b"\0\0\0\0" not in raw[-_PAGE - 4 :]:
        step = _PAGE - at % _PAGE  # what lies behind a page may not be there
        try:
            raw += read(at, step)
        except OsCallError:
            if raw:
                break
            raise
        at += step
    return split_environment(decode(raw))


def decode(raw: bytes) -> str:
    """Return UTF-16 text; half of a pair, which Windows allows, is kept as a lone surrogate."""
    return raw[: len(raw) & ~1].decode("utf-16-le", "surrogatepass")


def split_environment(text: str) -> tuple[str, ...]:
    r"""Return the entries of an environment block `A=1\0B=2\0\0`; what follows its end is no part of it (pure)."""
    return tuple(text.partition("\0\0")[0].split("\0")) if text.strip("\0") else ()


# --------------------------------------------------------------------------- by pid


def parameters_of(pid: int, *, environment: bool = True) -> Parameters | None:
    """Return what the process that has *pid* says of itself, None if gone or unreadable."""
    try:
        with Handle(open_process(pid, RIGHTS)) as handle:
            if kernel32.GetProcessId(handle) != pid:
                return None
            return read_parameters(handle, environment=environment)
    except OsCallError:
        return None


def command_line_of(pid: int) -> str | None:
    """Return the command line of the process that has *pid*, None if gone or unreadable."""
    try:
        with Handle(open_process(pid, kernel32.PROCESS_QUERY_LIMITED_INFORMATION)) as handle:
            if kernel32.GetProcessId(handle) != pid:
                return None
            told = kernel_command_line(handle)
    except OsCallError:
        return None
    if told is not None:
        return told
    found = parameters_of(pid, environment=False)
    return None if found is None else found.command_line


def kernel_command_line(handle: int) -> str | None:
    """Return the command line as the kernel reads it for us, None where it does not (before Windows 8.1, Wine)."""
    size = ctypes.c_ulong()
    what = ntdll.PROCESS_COMMAND_LINE_INFORMATION
    ntdll.NtQueryInformationProcess(handle, what, None, 0, ctypes.byref(size))
    if not size.value:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    if ntdll.NtQueryInformationProcess(handle, what, buffer, size.value, None):
        return None
    answer = ntdll.UnicodeString.from_buffer(buffer)
    return decode(ctypes.string_at(answer.at, answer.length)) if answer.at else ""


def plain_directory(path: str) -> str:
    r"""Return a current directory without the backslash that Windows keeps at its end, `C:\` as it is (pure)."""
    return path if path.endswith(":\\") else path.rstrip("\\") or path


def split_arguments(line: str) -> tuple[str, ...]:
    r"""Return the arguments of a command line as the C runtime splits it ("Parsing C command-line arguments") (pure).

    The program's own name ends at the next quote or blank, and backslashes mean nothing in it.
    In the others a quote opens and closes, twice inside means one, and backslashes count only before a quote: two stand for one, an odd one makes the quote plain.
    """
    if not line:
        return ()
    at, quoted = 0, False
    while at < len(line) and (quoted or line[at] not in " \t"):
        quoted ^= line[at] == '"'
        at += 1
    arguments = [line[:at].replace('"', "")]
    while True:
        while at < len(line) and line[at] in " \t":
            at += 1
        if at >= len(line):
            return tuple(arguments)
        argument, at = _argument(line, at)
        arguments.append(argument)


def _argument(line: str, at: int) -> tuple[str, int]:
    """Return the argument that begins at *at*, and where it ends."""
    parts: list[str] = []
    quoted = False
    while at < len(line) and (quoted or line[at] not in " \t"):
        slashes = 0
        while line[at : at + 1] == "\\":
            slashes, at = slashes + 1, at + 1
        if line[at : at + 1] == '"':
            parts.append("\\" * (slashes // 2))
            if slashes % 2:
                parts.append('"')
            elif quoted and line[at + 1 : at + 2] == '"':
                parts.append('"')
                at += 1
            else:
                quoted = not quoted
            at += 1
        elif slashes:
            parts.append("\\" * slashes)
        else:
            parts.append(line[at])
            at += 1
    return "".join(parts), at
