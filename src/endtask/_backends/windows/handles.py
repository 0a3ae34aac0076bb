"""Pins: a process handle that was compared with the pid it was opened by.

Decision: one handle with SYNCHRONIZE and PROCESS_QUERY_LIMITED_INFORMATION for the whole life of a pin, which even protected processes grant.
While it is open, Windows does not give the pid to anybody else. Every right beyond that is asked for at the moment of use (`open_more`),
so that a process that may be seen and not ended can still be looked at.

The token is the creation time as a FILETIME (100 ns since 1601), the same inside and outside of the process (GetProcessTimes page).

Three things that a pid does not say on Windows:

- OpenProcess rounds down to a multiple of four, so pid+1, +2 and +3 open the same process: GetProcessId tells whom.
- OpenProcess succeeds for a process that has ended while anybody still holds a handle on it: only the wait tells.
- An exit code of 259 (STILL_ACTIVE) can be real: only the wait tells.
"""

from __future__ import annotations

import ctypes
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import DWORD, ULONGLONG, last_error
from endtask.errors import AccessDeniedError, OsCallError
from endtask.model import PidRef, ProcessEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from endtask._backends.base import Pin

_RIGHTS = kernel32.SYNCHRONIZE | kernel32.PROCESS_QUERY_LIMITED_INFORMATION
_LARGEST_PID = 0xFFFFFFFF
_RUNNING = "it still runs"
UNBORN = 0x5555555555555555  # the year 21000: no FILETIME of Windows
BIRTH_S = 0.5
_BIRTH_LOOK_MS = 5


class Handle:
    """A handle that is closed at the end of a `with` block; the block gets its number."""

    __slots__ = ("_handle",)

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @property
    def number(self) -> int:
        """Its number; 0 once it is closed."""
        return self._handle

    def __enter__(self) -> int:
        return self._handle

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle; closing twice is allowed."""
        handle, self._handle = self._handle, 0
        if handle:
            kernel32.CloseHandle(handle)


class WindowsPin:
    """A live handle on one process; a context manager.

    Attributes:
        ref: The identity as a value.
        handle: The process handle, 0 once closed.
        created: When it was created, as a FILETIME.
        exact: True: a handle can mean no other process.
        mechanism: `handle`.
    """

    __slots__ = ("created", "exact", "handle", "mechanism", "ref")

    def __init__(self, handle: int, pid: int, created: int) -> None:
        self.handle = handle
        self.ref = PidRef(pid, str(created))
        self.created = created
        self.exact = True
        self.mechanism = "handle"

    def close(self) -> None:
        """Release the handle; closing twice is allowed."""
        handle, self.handle = self.handle, 0
        if handle:
            kernel32.CloseHandle(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def own(pin: Pin) -> WindowsPin:
    """Return *pin* as one of ours: pins of another backend are a mistake of the caller."""
    assert isinstance(pin, WindowsPin), f"{pin!r} was not opened by the Windows backend"
    return pin


# --------------------------------------------------------------------------- opening


def open_pin(pid: int, token: str = "") -> WindowsPin:
    """Open a pin on *pid*, which must be the process of *token* if one is given.

    Raises:
        GoneError: Nobody has that pid, or it is another process than *token* says.
        AccessDeniedError: Windows refuses a handle.
        OsCallError: Anything else.
    """
    if not 0 < pid <= _LARGEST_PID:
        raise errors.gone("OpenProcess", pid, "no process can have that number")
    handle = open_process(pid, _RIGHTS)
    try:
        return WindowsPin(handle, pid, _identify(handle, pid, token))
    except BaseException:
        kernel32.CloseHandle(handle)
        raise


def open_process(pid: int, access: int) -> int:
    """Return a new handle on whatever *pid* opens; the caller closes it and checks whom it means.

    Raises:
        GoneError: Nobody has that pid.
        AccessDeniedError: Windows refuses.
        OsCallError: Anything else.
    """
    handle = kernel32.OpenProcess(access, False, pid)
    if handle:
        return handle
    code = last_error()
    if code == errors.INVALID_PARAMETER:  # OpenProcess page: also for the idle process, pid 0
        raise errors.gone("OpenProcess", pid)
    raise errors.failed("OpenProcess", code, pid)


def _identify(handle: int, pid: int, token: str) -> int:
    """Return the creation time of the opened process, after a comparison with *pid* and *token*."""
    real = kernel32.GetProcessId(handle)
    if not real:
        raise errors.failed("GetProcessId", last_error(), pid)
    if real != pid:
        raise errors.gone("OpenProcess", pid, f"no process has that number (Windows opens its neighbour {real} for it)")
    created = birth(handle, pid)
    if token and token != str(created):
        text = f"the pid belongs to another process by now ({pid}:{created}, not :{token})"
        raise errors.gone("OpenProcess", pid, text)
    return created


def open_more(pin: WindowsPin, access: int) -> Handle:
    """Return another handle on the pinned process, with the rights *access* (those of the pin are added).

    Use it in a `with` block. Whom it means is checked again, although the pid cannot be given away while the pin is open.

    Raises:
        GoneError: The process has ended and cannot be opened any more, or the pid means another one.
        AccessDeniedError: Windows refuses these rights.
        OsCallError: Anything else.
    """
    pid = pin.ref.pid
    try:
        handle = open_process(pid, access | _RIGHTS)
    except AccessDeniedError as exc:
        # A process that has ended is refused like one that is forbidden: the handle that we have tells them apart.
        if has_exited(pin):
            raise errors.gone("OpenProcess", pid, "it has just ended") from exc
        raise
    more = Handle(handle)
    try:
        _identify(handle, pid, pin.ref.token)
    except BaseException:
        more.close()
        raise
    return more


# --------------------------------------------------------------------------- using


def times(handle: int, pid: int = 0) -> tuple[int, int, int, int]:
    """Return creation, exit, kernel and user time of a process in units of 100 ns (the first two since 1601).

    The exit time means nothing while the process runs (GetProcessTimes page).

    Raises:
        OsCallError: They cannot be read.
    """
    found = [ULONGLONG() for _ in range(4)]
    if not kernel32.GetProcessTimes(handle, *map(ctypes.byref, found)):
        raise errors.failed("GetProcessTimes", last_error(), pid)
    created, ended, kernel, user = (t.value for t in found)
    return created, ended, kernel, user


def birth(handle: int, pid: int = 0) -> int:
    """Return when an opened process was created, as a FILETIME.

    Wine has a process before it has begun: until its first thread runs, its creation time is what the server's memory was filled with
    (server/object.c, mem_alloc; server/process.c). Taken for a time, that would be an identity which nobody has a moment later; so it is waited for, for a moment.

    Args:
        handle: With SYNCHRONIZE and PROCESS_QUERY_LIMITED_INFORMATION.
        pid: For the words of an error.

    Raises:
        GoneError: It ended before it had begun.
        OsCallError: It has not begun yet, or its times cannot be read.
    """
    until = time.perf_counter() + BIRTH_S
    while (created := times(handle, pid)[0]) == UNBORN:
        if kernel32.WaitForSingleObject(handle, _BIRTH_LOOK_MS) == kernel32.WAIT_OBJECT_0:
            raise errors.gone("OpenProcess", pid, "it ended before it had begun")
        if time.perf_counter() >= until:
            raise OsCallError("GetProcessTimes", 0, pid, text="Wine has not begun it yet, so it has no creation time")
    return created


def open_count() -> int:
    """Return how many handles our own process has open, 0 if that cannot be told."""
    count = DWORD()
    known = kernel32.GetProcessHandleCount(kernel32.GetCurrentProcess(), ctypes.byref(count))
    return count.value if known else 0


def now_filetime() -> int:
    """Return the time of day as a FILETIME."""
    now = ULONGLONG()
    kernel32.GetSystemTimeAsFileTime(ctypes.byref(now))
    return now.value


def has_exited(pin: WindowsPin) -> bool:
    """Return whether the process has ended: its handle is signalled, whatever its exit code.

    Raises:
        OsCallError: The handle cannot be waited for; it is then not known to have ended.
    """
    return signalled(pin.handle, pin.ref.pid)


def signalled(handle: int, pid: int = 0) -> bool:
    """Return whether an object is signalled now.

    Raises:
        OsCallError: It cannot be waited for.
    """
    answer = kernel32.WaitForSingleObject(handle, 0)
    if answer == kernel32.WAIT_OBJECT_0:
        return True
    if answer == kernel32.WAIT_TIMEOUT:
        return False
    raise errors.failed("WaitForSingleObject", last_error(), pid)


def ended_ago_s(pin: WindowsPin) -> float | None:
    """Return for how many seconds the process has been ended, by the exit time that Windows keeps; None while it runs."""
    if not has_exited(pin):
        return None
    ended = times(pin.handle, pin.ref.pid)[1]
    return max(0.0, (now_filetime() - ended) / 1e7)


def end_of(pin: WindowsPin) -> ProcessEnd:
    """Return how the process ended: its exit code, as the handle tells it to everybody who holds one."""
    if not has_exited(pin):
        return ProcessEnd(why_unknown=_RUNNING)
    code = DWORD()
    if not kernel32.GetExitCodeProcess(pin.handle, ctypes.byref(code)):
        return ProcessEnd(why_unknown=f"GetExitCodeProcess: {errors.text_of(last_error())}")
    return ProcessEnd(code.value, source="handle")


def refusal(exc: OsCallError) -> str:
    """Return an error of a call in few words, for a receipt."""
    return f"{exc.call}: {errors.text_of(exc.code)}"
