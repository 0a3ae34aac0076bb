"""What program a process runs: path, PE header (subsystem), machine, runtime.

Decision: the header is read from the file, which needs no right on the process; where the file cannot be opened, from the memory of the process.
The machine is asked of the kernel: a .NET program may say x86 in its header and run as x64.

A runtime is known by its DLL, or by the file name of the program where the program is the runtime (`node.exe`, `cmd.exe`).
A Go program has neither: it carries its build information at the begin of its data section (Go: debug/buildinfo).
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.handles import Handle, open_process
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import DWORD, WORD, last_error
from endtask._record import Record
from endtask.errors import OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Read = Callable[[int, int], bytes]

_LONGEST_PATH = 32768  # "Maximum Path Length Limitation"
_SUBSYSTEMS = {1: "native", 2: "gui", 3: "console"}  # IMAGE_SUBSYSTEM_*
_MACHINES = {0x014C: "x86", 0x8664: "x64", 0xAA64: "arm64", 0x01C4: "arm"}  # IMAGE_FILE_MACHINE_*
_MACHINE_TYPE_INFO = 9  # ProcessMachineTypeInfo
_MOST_SECTIONS = 96  # "PE Format": the loader's own limit
_DATA = 0xC0000040  # IMAGE_SCN_CNT_INITIALIZED_DATA | MEM_READ | MEM_WRITE
_GO_MARK = b"\xff Go buildinf:"
_GO_BYTES = 1 << 16

_BY_MODULE = (
    ("msys-2.0.dll", "msys"),
    ("cygwin1.dll", "msys"),
    ("jvm.dll", "java"),
    ("python3", "cpython"),  # python311.dll and the like
    ("libnode", "node"),
    ("node.dll", "node"),
    ("coreclr.dll", "dotnet"),
    ("clr.dll", "dotnet"),
    ("mscorwks.dll", "dotnet"),
)
# How long their names can be: `python3.dll`, `python312.dll`, `python314t_d.dll`, `libnode.dll`, `libnode127.dll`; `dll` and its dot counted.
NAME_LENGTHS = frozenset(
    (*(len(start) for start, _ in _BY_MODULE if start.endswith(".dll")), *range(len("libnode.dll"), 18))
)
_BY_NAME = {
    "cmd.exe": "cmd",
    "powershell.exe": "powershell",
    "pwsh.exe": "powershell",
    "node.exe": "node",
    "java.exe": "java",
    "javaw.exe": "java",
    "python.exe": "cpython",
    "pythonw.exe": "cpython",
    "dotnet.exe": "dotnet",
}


class Image(Record):
    """What a PE header says.

    Attributes:
        subsystem: `gui`, `console`, `native` or empty.
        machine: `x64`, `x86`, `arm64`, or the number.
        is_go: Whether it was built by Go.
    """

    subsystem: str
    machine: str
    is_go: bool = False


# --------------------------------------------------------------------------- paths and modules


def path_of(handle: int) -> str:
    """Return the path of the program that an opened process runs.

    Raises:
        OsCallError: There is none (a process of the kernel), or it cannot be read.
    """
    buffer = ctypes.create_unicode_buffer(_LONGEST_PATH)
    size = DWORD(_LONGEST_PATH)
    if not kernel32.QueryFullProcessImageNameW(handle, 0, buffer, ctypes.byref(size)):
        raise errors.failed("QueryFullProcessImageNameW", last_error())
    return buffer.value


def name_of(handle: int, pid: int) -> str:
    """Return the file name of the program that an opened process runs, or ran; `pid N` where that is not kept."""
    try:
        return path_of(handle).rpartition("\\")[2]
    except OsCallError:
        return f"pid {pid}"  # ignored: the name may go with the process


def modules_of(pid: int) -> tuple[str, ...]:
    """Return the paths of the program and the DLLs that are loaded in a process, empty if unreadable."""
    try:
        access = kernel32.PROCESS_QUERY_INFORMATION | kernel32.PROCESS_VM_READ
        with Handle(open_process(pid, access)) as handle:
            return module_paths(handle) if kernel32.GetProcessId(handle) == pid else ()
    except OsCallError:
        return ()


def module_paths(handle: int) -> tuple[str, ...]:
    """Return the paths of what is loaded in an opened process (PROCESS_QUERY_INFORMATION, PROCESS_VM_READ).

    Raises:
        OsCallError: They cannot be read; also while the process starts up or ends.
    """
    room = 256
    while True:
        found = (ctypes.c_void_p * room)()
        needed = DWORD()
        size = ctypes.sizeof(found)
        if not kernel32.EnumProcessModulesEx(handle, found, size, ctypes.byref(needed), kernel32.LIST_MODULES_ALL):
            raise errors.failed("EnumProcessModulesEx", last_error())
        if needed.value <= size:
            break
        room = needed.value // ctypes.sizeof(ctypes.c_void_p) + 16  # more may be loaded meanwhile
    buffer = ctypes.create_unicode_buffer(_LONGEST_PATH)
    count = needed.value // ctypes.sizeof(ctypes.c_void_p)
    paths = [
        buffer.value if kernel32.GetModuleFileNameExW(handle, module, buffer, _LONGEST_PATH) else ""
        for module in found[:count]
    ]
    return tuple(dict.fromkeys(p for p in paths if p))  # one may be unloaded while it is asked for


# --------------------------------------------------------------------------- machine


def machine_of(handle: int) -> str:
    """Return the machine that an opened process runs as: `x64`, `x86`, `arm64`, ...; empty if the system does not tell."""
    if kernel32.GetProcessInformation is not None:  # tells x64 on ARM64 too, which the next question hides
        answer = (WORD * 4)()  # PROCESS_MACHINE_INFORMATION: machine, padding, attributes
        if kernel32.GetProcessInformation(handle, _MACHINE_TYPE_INFO, answer, ctypes.sizeof(answer)):
            return _machine(int(answer[0]))
    if kernel32.IsWow64Process2 is None:
        return ""
    process, native = WORD(), WORD()
    if not kernel32.IsWow64Process2(handle, ctypes.byref(process), ctypes.byref(native)):
        return ""
    return _machine(process.value or native.value)


def _machine(number: int) -> str:
    return _MACHINES.get(number, f"0x{number:04x}")


# --------------------------------------------------------------------------- header


def image_of_file(path: str) -> Image | None:
    """Return what the header of a program file says, None if it cannot be opened or is no PE file."""
    try:
        with open(path, "rb") as file:

            def read(at: int, size: int) -> bytes:
                file.seek(at)
                return file.read(size)

            return parse_image(read)
    except (OSError, ValueError):
        return None


def image_in_memory(handle: int) -> Image | None:
    """Return what the header in the memory of an opened process says (PROCESS_QUERY_INFORMATION, PROCESS_VM_READ), None if unreadable."""
    from endtask._backends.windows import memory

    basic = ntdll.ProcessBasic()
    if ntdll.NtQueryInformationProcess(
        handle, ntdll.PROCESS_BASIC_INFORMATION, ctypes.byref(basic), ctypes.sizeof(basic), None
    ):
        return None
    size = ctypes.sizeof(ctypes.c_void_p)
    try:
        base = int.from_bytes(memory.read(handle, basic.peb + 2 * size, size), "little")  # ImageBaseAddress
        return parse_image(lambda at, length: memory.read(handle, base + at, length), loaded=True)
    except OsCallError:
        return None


def parse_image(read: Read, *, loaded: bool = False) -> Image | None:
    """Return what a PE header says ("PE Format"), None if it is none (pure but for *read*).

    Args:
        read: Returns bytes at an offset; may give less than asked for.
        loaded: Whether the offsets are those in memory, where sections lie elsewhere than in the file.
    """
    head = read(0, 64)
    if len(head) < 64 or head[:2] != b"MZ":
        return None
    pe = _number(head, 60, 4)
    header = read(pe, 24 + 72)
    if len(header) < 24 + 72 or header[:4] != b"PE\0\0":
        return None
    sections = read(pe + 24 + _number(header, 20, 2), 40 * min(_number(header, 6, 2), _MOST_SECTIONS))
    subsystem = _SUBSYSTEMS.get(_number(header, 24 + 68, 2), "")
    return Image(subsystem, _machine(_number(header, 4, 2)), _has_go_mark(read, sections, loaded=loaded))


def _has_go_mark(read: Read, sections: bytes, *, loaded: bool) -> bool:
    for at in range(0, len(sections) - 39, 40):
        section = sections[at : at + 40]
        if _number(section, 36, 4) & 0xFFFFFFFF == _DATA and _number(section, 16, 4):
            where, size = _number(section, 12 if loaded else 20, 4), _number(section, 16, 4)
            return _GO_MARK in read(where, min(size, _GO_BYTES))
    return False


def _number(raw: bytes, at: int, size: int) -> int:
    return int.from_bytes(raw[at : at + size], "little")


# --------------------------------------------------------------------------- runtime


def runtime_of(name: str, modules: Iterable[str], *, is_go: bool = False) -> str:
    """Return the runtime of a process: `cpython`, `dotnet`, `java`, `node`, `go`, `cmd`, `powershell`, `msys`, or empty (pure).

    Args:
        name: File name of its program.
        modules: Paths of what it has loaded, empty if unreadable.
        is_go: Whether its program carries Go's build information.
    """
    by_name = _BY_NAME.get(name.lower(), "")
    if by_name in ("cmd", "powershell"):  # PowerShell runs on .NET, and leaves by its own rules
        return by_name
    loaded = [path.replace("/", "\\").rpartition("\\")[2].lower() for path in modules]
    for start, runtime in _BY_MODULE:
        if any(module.startswith(start) and module.endswith(".dll") for module in loaded):
            return runtime
    return "go" if is_go else by_name
