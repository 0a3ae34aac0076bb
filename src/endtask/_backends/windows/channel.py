r"""The pipe to the receiver in a process (`endtask_receiver`), on the side of the one who asks.

Its name is `\\.\pipe\endtask.stop.PID.CREATED`, as that of the stop event (see `stop_event.py`).

Decision: whose pipe it is says the system (GetNamedPipeServerProcessId), and what another process has made is not used.
While the pin is open its pid can mean no other process. The pipe is opened so that whoever made it learns who we are, and can do nothing in our name
(SECURITY_IDENTIFICATION; "Impersonation Levels").

Decision: reading and writing are CPython's own overlapped ones (`_winapi`), because there a buffer cannot be freed while the system writes into it.
One read is always under way, and its event wakes the waiter. What we say is written at once; the system keeps what the process does not read yet.

Rejected: WaitNamedPipe, where all instances are taken: it would wait for strangers.
"""

from __future__ import annotations

import ctypes
import math
import sys

assert sys.platform == "win32"

import _winapi

from endtask._backends.windows import errors, stop_event
from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import DWORD, last_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Conversation
    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.waiter import WindowsWaiter
    from endtask.model import PidRef

_NONE = 2  # ERROR_FILE_NOT_FOUND
_FLAGS = _winapi.FILE_FLAG_OVERLAPPED | kernel32.SECURITY_SQOS_PRESENT | kernel32.SECURITY_IDENTIFICATION
_PIECE = 16384  # bytes that are read at once
_MOST = 65536  # bytes that are drained at once
_UNREAD = 16384  # bytes that the process may leave unread
_REASONS = {
    errors.ACCESS_DENIED: "it does not talk to us: access is denied (error 5)",
    errors.PIPE_BUSY: "it talks to as many as it can already (error 231)",
}


def name(ref: PidRef) -> str:
    """Return the name of the pipe of a process (pure)."""
    return rf"\\.\pipe\{stop_event.name(ref)}"


def connect(pin: WindowsPin, waiter: WindowsWaiter) -> PipeConversation | str:
    """Open the pipe of a process; return why not, empty if it has none."""
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    try:
        handle = _winapi.CreateFile(name(pin.ref), access, 0, 0, _winapi.OPEN_EXISTING, _FLAGS, 0)
    except OSError as exc:
        code = exc.winerror or 0
        return "" if code == _NONE else _REASONS.get(code, f"CreateFile: {errors.text_of(code)}")
    maker = DWORD()
    if not kernel32.GetNamedPipeServerProcessId(handle, ctypes.byref(maker)):
        reason = f"GetNamedPipeServerProcessId: {errors.text_of(last_error())}"
    elif maker.value != pin.ref.pid:
        reason = f"the pipe of its name is not its own: process {maker.value} has made it"
    else:
        return PipeConversation(handle, waiter)
    _winapi.CloseHandle(handle)
    return reason


class PipeConversation:
    """A connection to one receiver.

    Attributes:
        open: Whether there may be more to read.
    """

    __slots__ = ("_handle", "_incoming", "_outgoing", "_waiter", "_watched", "open")

    def __init__(self, handle: int, waiter: WindowsWaiter) -> None:
        self._handle = handle
        self._waiter = waiter
        self._incoming: _winapi.Overlapped | None = None
        self._outgoing: list[tuple[_winapi.Overlapped, int]] = []  # the system takes them in this order
        self._watched = 0  # the event that the waiter waits for
        self.open = True
        self._begin()
        self._watch()

    def say(self, data: bytes) -> bool:
        """Send *data*; return whether the system took it. To a process that does not read, the conversation is closed."""
        if not self.open:
            return False
        self._outgoing = [each for each in self._outgoing if _length(each[0]) is None]
        if sum(length for _, length in self._outgoing) + len(data) > _UNREAD:
            self.close()
            return False
        try:
            self._outgoing.append((_winapi.WriteFile(self._handle, data, overlapped=True)[0], len(data)))
        except OSError:
            return False  # ignored: it has gone, and what it said last is still to be drained
        return True

    def drain(self) -> bytes:
        """Return what has come since the last call, at most 64 KiB."""
        data = bytearray()
        while self._incoming is not None and len(data) <= _MOST - _PIECE:
            length = _length(self._incoming)
            if length is None:
                break
            self._unwatch()
            if length >= 0:
                data += self._incoming.getbuffer() or b""
            self._begin()
        self._watch()
        return bytes(data)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to drain, at most *timeout_s* seconds; return whether there is."""
        if self._incoming is None:
            return False
        got = _winapi.WaitForSingleObject(self._incoming.event, math.ceil(max(0.0, timeout_s) * 1000))
        return got == _winapi.WAIT_OBJECT_0

    def _begin(self) -> None:
        """Begin to read."""
        self._incoming = None
        try:
            self._incoming = _winapi.ReadFile(self._handle, _PIECE, overlapped=True)[0]
        except OSError:
            self.open = False  # the other side has closed, and all that it said is read

    def _watch(self) -> None:
        """Have the waiter wait for what is under way."""
        if self._incoming is not None and not self._watched:
            self._waiter.add_source(self._incoming.event)
            self._watched = self._incoming.event

    def _unwatch(self) -> None:
        event, self._watched = self._watched, 0
        if event:
            self._waiter.drop_source(event)

    def close(self) -> None:
        """End it; closing twice is allowed. What the system has taken can still be read."""
        self.open = False
        self._unwatch()
        under_way = [each for each, _ in self._outgoing]
        if self._incoming is not None:
            under_way.append(self._incoming)
        for each in under_way:
            _cancel(each)
        self._incoming, self._outgoing = None, []
        handle, self._handle = self._handle, 0
        if handle:
            _winapi.CloseHandle(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", 0):
            self.close()


def _length(operation: _winapi.Overlapped) -> int | None:
    """Return how many bytes went through, None as long as nothing did, -1 if nothing will: the other side has gone, or the thread that began it."""
    try:
        length, error = operation.GetOverlappedResult(False)
    except OSError:
        return -1
    return None if error == errors.IO_INCOMPLETE else -1 if error else length


def _cancel(operation: _winapi.Overlapped) -> None:
    """Have the system let go of a buffer. On a pipe of this machine it does that at once."""
    try:
        operation.cancel()
        operation.GetOverlappedResult(True)
    except OSError:
        pass  # ignored: it had failed already


if TYPE_CHECKING:

    def _fulfils(conversation: PipeConversation) -> Conversation:
        return conversation
