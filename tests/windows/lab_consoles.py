"""Pseudo consoles and borrowed consoles for the tests."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import os
import subprocess
import threading
from ctypes import wintypes
from typing import TYPE_CHECKING

from tests.windows.lab import PATIENCE_S, Lab, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
PSEUDO_CONSOLE = 0x20016  # PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE
EXTENDED_STARTUP = 0x80000  # EXTENDED_STARTUPINFO_PRESENT
USE_STD_HANDLES = 0x100  # STARTF_USESTDHANDLES


class StartupInfo(ctypes.Structure):
    """STARTUPINFOEXW."""

    _fields_ = (
        ("size", wintypes.DWORD),
        ("reserved", wintypes.LPWSTR),
        ("desktop", wintypes.LPWSTR),
        ("title", wintypes.LPWSTR),
        *((name, wintypes.DWORD) for name in ("x", "y", "width", "height", "columns", "rows", "fill", "flags")),
        ("show", wintypes.WORD),
        ("reserved_size", wintypes.WORD),
        ("reserved_bytes", ctypes.c_void_p),
        ("stdin", wintypes.HANDLE),
        ("stdout", wintypes.HANDLE),
        ("stderr", wintypes.HANDLE),
        ("attributes", ctypes.c_void_p),
    )


class ProcessInformation(ctypes.Structure):
    """PROCESS_INFORMATION."""

    _fields_ = (
        ("process", wintypes.HANDLE),
        ("thread", wintypes.HANDLE),
        ("pid", wintypes.DWORD),
        ("tid", wintypes.DWORD),
    )


_create_process = _kernel32.CreateProcessW
_create_process.argtypes = (
    wintypes.LPCWSTR,
    wintypes.LPWSTR,
    ctypes.c_void_p,
    ctypes.c_void_p,
    wintypes.BOOL,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.LPCWSTR,
    ctypes.POINTER(StartupInfo),
    ctypes.POINTER(ProcessInformation),
)
_initialize_attributes = _kernel32.InitializeProcThreadAttributeList
_initialize_attributes.argtypes = (
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(ctypes.c_size_t),
)
_update_attribute = _kernel32.UpdateProcThreadAttribute
_update_attribute.argtypes = (
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.c_size_t,
    wintypes.HANDLE,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_create_pseudo_console = _kernel32.CreatePseudoConsole
_create_pseudo_console.restype = ctypes.HRESULT
_create_pseudo_console.argtypes = (
    wintypes._COORD,
    wintypes.HANDLE,
    wintypes.HANDLE,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.HANDLE),
)
_close_pseudo_console = _kernel32.ClosePseudoConsole
_close_pseudo_console.restype = None
_close_pseudo_console.argtypes = (wintypes.HANDLE,)


def create_process(
    words: Sequence[str], startup: StartupInfo, create: Callable[[object, object, object], int]
) -> tuple[int, int]:
    """Create a process with one of the calls that do that, which gets its line, *startup* and where to put the handles; return its pid and its handle."""
    made = ProcessInformation()
    line = ctypes.create_unicode_buffer(subprocess.list2cmdline(words))
    if not create(line, ctypes.byref(startup), ctypes.byref(made)):
        raise ctypes.WinError(ctypes.get_last_error())
    _winapi.CloseHandle(made.thread)
    return made.pid, made.process


class PseudoConsole:
    """A pseudo console that we own, as a terminal does; closing it is what closing a terminal's window is."""

    def __init__(self, lab: Lab) -> None:
        """Make one of 80 columns.

        Args:
            lab: The laboratory that ends what is started in it.
        """
        self.lab = lab
        self.handle = wintypes.HANDLE()
        theirs_in, self.input = _winapi.CreatePipe(None, 0)
        self._output, theirs_out = _winapi.CreatePipe(None, 0)
        _create_pseudo_console(wintypes._COORD(80, 25), theirs_in, theirs_out, 0, ctypes.byref(self.handle))
        _winapi.CloseHandle(theirs_in)  # it has its own now
        _winapi.CloseHandle(theirs_out)
        self.screen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
        self._reader.join(PATIENCE_S)
        _winapi.CloseHandle(self.input)
        _winapi.CloseHandle(self._output)

    def close(self) -> None:
        """Close it: every program in it gets CTRL_CLOSE_EVENT (Microsoft Learn, ClosePseudoConsole)."""
        if self.handle:
            _close_pseudo_console(self.handle)
            self.handle = wintypes.HANDLE()

    def type(self, keys: bytes) -> None:
        """Type on its keyboard: 3 is Ctrl+C for everybody in it."""
        _winapi.WriteFile(self.input, keys)

    def start(self, program: str, mode: str, number: int = 0, text: str = "") -> Target:
        """Start a target in it and wait until it is ready; see `Lab.start`."""
        words, event = self.lab.words(program, mode, number, text)
        pid, handle = self._create(words)
        target = Target(pid, handle, self.lab.log_of(words), event, owned=[event, handle])
        self.lab.started.append(target)
        target.wait_for("ready")
        return target

    def _create(self, words: Sequence[str]) -> tuple[int, int]:
        """Create a process with this console; return its pid and its handle."""
        size = ctypes.c_size_t()
        _initialize_attributes(None, 1, 0, ctypes.byref(size))  # fails, and says how much it needs
        attributes = ctypes.create_string_buffer(size.value)
        done = _initialize_attributes(attributes, 1, 0, ctypes.byref(size)) and _update_attribute(
            attributes, 0, PSEUDO_CONSOLE, self.handle, ctypes.sizeof(wintypes.HANDLE), None, None
        )
        if not done:
            raise ctypes.WinError(ctypes.get_last_error())
        # Without the flag it would get our own standard handles, if they are no console's.
        startup = StartupInfo(size=ctypes.sizeof(StartupInfo), flags=USE_STD_HANDLES)
        startup.attributes = ctypes.addressof(attributes)

        def create(line: object, startup: object, made: object) -> int:
            return int(_create_process(None, line, None, None, False, EXTENDED_STARTUP, None, None, startup, made))

        return create_process(words, startup, create)

    def _read(self) -> None:
        """Take what is drawn, so that nobody waits for us."""
        while True:
            try:
                data, _ = _winapi.ReadFile(self._output, 4096)
            except OSError:  # ERROR_BROKEN_PIPE: it is closed
                return
            self.screen += data


def borrow_console(pid: int, code: str, *arguments: int) -> str:
    """Run Python code in a process that is attached to another process's console, and return what it printed.

    Args:
        pid: A process on that console.
        code: What to do there; `kernel32` is bound, and `arguments` are integers.
        arguments: For the code.

    Raises:
        AssertionError: It could not be attached, or the code failed.
    """
    begin = (
        "import ctypes, sys\n"
        "kernel32 = ctypes.WinDLL('kernel32', use_last_error=True)\n"
        "pid, *arguments = map(int, sys.argv[1:])\n"
        "attached = kernel32.AttachConsole(pid)\n"
        "assert attached, ctypes.get_last_error()\n"
        "kernel32.SetConsoleCtrlHandler(None, True)\n"  # Ctrl+C is for the others
        "handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(lambda event: 1)\n"
        "kernel32.SetConsoleCtrlHandler(handler, True)\n"  # and so is Ctrl+Break
    )
    words = [sys.executable, "-I", "-S", "-c", begin + code, str(pid), *map(str, arguments)]
    done = subprocess.run(
        words, creationflags=subprocess.DETACHED_PROCESS, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, os.fsdecode(done.stderr)
    return os.fsdecode(done.stdout)
