"""Programs for the tests of processes as such: Python children that are ended by their standard input, and events that stand in for processes."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import os
import subprocess
from typing import TYPE_CHECKING

from endtask._backends.windows.handles import WindowsPin
from endtask._backends.windows.winapi import kernel32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

REST = "print('ready', flush=True); sys.stdin.read()"

# Sets the access list of the process itself: who may do what with it ("Security Descriptor String Format").
LOCK = """
import ctypes, sys
advapi32, kernel32 = (ctypes.WinDLL(name, use_last_error=True) for name in ("advapi32", "kernel32"))
kernel32.GetCurrentProcess.restype = ctypes.c_void_p
convert = advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW
convert.argtypes = (ctypes.c_wchar_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)
set_security = advapi32.SetKernelObjectSecurity
set_security.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p)
descriptor = ctypes.c_void_p()
assert convert(sys.argv[1], 1, ctypes.byref(descriptor), None)
assert set_security(kernel32.GetCurrentProcess(), 4, descriptor)
"""
NOBODY = "D:"  # an empty list: nobody may anything
ONLY_LOOK = "D:(A;;0x101000;;;WD)"  # everybody: SYNCHRONIZE, PROCESS_QUERY_LIMITED_INFORMATION


class Child:
    """A Python program that says "ready" and ends at the end of its standard input."""

    def __init__(
        self, code: str = "", *arguments: str, cwd: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-I", "-S", "-c", f"import sys\n{code}\n{REST}", *arguments]
        both = {**os.environ, **(environment or {})}
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, env=both)
        assert self.popen.stdout is not None
        self.said: list[str] = []
        for line in self.popen.stdout:
            self.said.append(line.decode().rstrip())
            if self.said[-1] == "ready":
                return
        raise AssertionError(f"the child said {self.said} and ended with {self.popen.wait()}")

    @property
    def pid(self) -> int:
        """Its pid; nobody else can have it while we hold its handle."""
        return self.popen.pid

    @property
    def handle(self) -> int:
        """Our own handle on it."""
        return int(self.popen._handle)  # type: ignore[attr-defined]  # it has no public name

    def let_go(self) -> int:
        """End its standard input, and so itself; return its exit code."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        return self.popen.wait()

    def close(self) -> None:
        """End it, whatever it does."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def event_pins(count: int) -> Iterator[WindowsPin]:
    """Yield pins whose handle is an event: signalled by SetEvent as a process is by its end, and a thousand times cheaper."""
    for number in range(count):
        handle = kernel32.CreateEventW(None, True, False, None)
        assert handle, ctypes.get_last_error()
        yield WindowsPin(handle, 4 * (number + 1), number + 1)
