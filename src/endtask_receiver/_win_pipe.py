r"""The pipe by which whoever asks and this process talk to each other: the transport of `_channel` on Windows.

The name is `\\.\pipe\endtask.stop.PID.CREATED`, as that of the stop event (`_win_event`).
SYSTEM and Administrators may do everything with it, the owner may talk, nobody else anything, and nobody over the network.
A name that somebody else has taken already is not used.

Decision: all instances are made at once, as many as there may ever be. So nobody can add one of his own under our name,
and there is no moment between two callers at which the door is shut. Who finds all of them taken gets ERROR_PIPE_BUSY.

Decision: everything is overlapped, and done by the watching thread, which waits for this beside all the rest. The application never waits for a caller.
What a caller does not take stays in the queue of its conversation, and a full queue ends that.

Decision: reading and writing are CPython's own (`_winapi`), because there a buffer cannot be freed while the system writes into it.

Names of pipes are the same in all sessions: the same user and administrators can talk from another one, whatever was said about the stop event.

The pid of a caller is what the system noted when the pipe was opened. Whoever tries can have another one noted: it is for the eye.
Who may ask is decided by the access control list alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import wintypes

assert sys.platform == "win32"

import _winapi

from endtask_receiver import _win_calls as calls
from endtask_receiver._channel import PEERS_MAX, Channel
from endtask_receiver._channel_talk import OUT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._channel_talk import Conversation
    from endtask_receiver._stop import Stop

_BYTES = 4096  # that are read or written at once
_CALLERS_MAX = 64  # that are let in in a second: who comes again and again must not keep the application from its work
# SDDL: protected; SYSTEM, Administrators: all; OWNER RIGHTS (whoever owns it, and no more than this): FILE_GENERIC_READ, FILE_GENERIC_WRITE
_SECURITY = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;0x0012019f;;;OW)"
_PIPE_REJECT_REMOTE_CLIENTS = 0x00000008


class Pipe:
    """All instances of the pipe of this process.

    Attributes:
        name: Its full name.
        channel: What is said by it.
    """

    def __init__(self, stop: Stop, wake: Callable[[], object]) -> None:
        """Make the instances, if the name is free; `describe` tells. From now on callers can connect; they are served by `turn`.

        Args:
            stop: Who is asked.
            wake: Has the watching thread call `turn`; called from anywhere.
        """
        created = calls.creation_time(calls.GetCurrentProcess())
        self.name = rf"\\.\pipe\endtask.stop.{os.getpid()}.{created:016x}"
        self._clock = stop._clock
        self.channel = Channel(stop, wake)
        self._instances: list[_Instance] = []
        self._second = 0.0  # when the callers began that are counted
        self._callers = 0
        self._fault = self._open()

    def _open(self) -> str:
        """Make the instances; return in words why there are none."""
        descriptor = calls.HANDLE()
        if not calls.ToSecurityDescriptor(_SECURITY, calls.SDDL_REVISION_1, ctypes.byref(descriptor), None):
            return f"cannot be created (error {calls.last_error()})"
        attributes = calls.SecurityAttributes(ctypes.sizeof(calls.SecurityAttributes), descriptor, False)
        try:
            for number in range(PEERS_MAX):
                handle = _create(self.name, ctypes.addressof(attributes), first=not number)
                self._instances.append(_Instance(handle, self.channel))
        except OSError as error:
            self.close()  # also if it is not the first one: who has got in between could be taken for us
            return f"is not used: somebody else has that name (error {error.winerror})"
        finally:
            calls.LocalFree(descriptor)
        return ""

    def handles(self) -> list[int]:
        """Return what to wait for: when one of them is set, it is time for `turn`."""
        return [event for each in self._instances for event in each.events()]

    def turn(self) -> None:
        """Take what has come, and begin to send what is to be sent. Waits for nobody."""
        for each in self._instances:
            each.take()
        self.channel.pump()
        for each in self._instances:
            each.give()
        for each in [each for each in self._instances if each.idle]:
            if self._may_listen() and not each.listen():
                self._instances.remove(each)

    def _may_listen(self) -> bool:
        """Return whether one more caller may come in this second."""
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._callers = now, 0
        self._callers += 1
        return self._callers <= _CALLERS_MAX

    def due_s(self) -> float | None:
        """Return in how many seconds it is time for `turn` anyway, None if that depends on others."""
        due_s = self.channel.due_s()
        if any(each.idle for each in self._instances):
            left_s = max(0.0, self._second + 1.0 - self._clock())
            return left_s if due_s is None else min(left_s, due_s)
        return due_s

    def close(self) -> None:
        """End all conversations, and give up the name. More than once is allowed."""
        self.channel.close()
        instances, self._instances = self._instances, []
        for each in instances:
            each.close()

    def describe(self) -> str:
        """Return in words whether there is one."""
        return f"channel: {self.name} {self._fault}".rstrip()


class _Instance:
    """One instance: it waits for a caller, then for what that one says, and begins anew when it has gone."""

    __slots__ = ("_channel", "_conversation", "_handle", "_incoming", "_outgoing")

    def __init__(self, handle: int, channel: Channel) -> None:
        self._handle = handle
        self._channel = channel
        self._conversation: Conversation | None = None
        self._incoming: _winapi.Overlapped | None = None  # a caller, or what it says
        self._outgoing: _winapi.Overlapped | None = None

    def events(self) -> list[int]:
        """Return what is set when there is something to do."""
        return [each.event for each in (self._incoming, self._outgoing) if each is not None]

    def take(self) -> None:
        """Take what has come: one piece, so that who talks without end holds up nobody."""
        incoming = self._incoming
        try:
            if incoming is not None and _length(incoming) is not None:
                self._incoming = None
                self._came(incoming)
        except OSError:  # it has gone, which is its right
            self._incoming = None
            if self._conversation is not None:
                self._conversation.lost()

    def _came(self, incoming: _winapi.Overlapped) -> None:
        if self._conversation is None:
            self._conversation = self._channel.open(_caller(self._handle), None)
        else:
            self._conversation.feed(bytes(incoming.getbuffer() or b""))
        if self._conversation is not None and not self._conversation.over:
            self._incoming = _winapi.ReadFile(self._handle, _BYTES, overlapped=True)[0]

    @property
    def idle(self) -> bool:
        """Whether nobody talks here, and nobody can come."""
        return self._conversation is None and self._incoming is None

    def give(self) -> None:
        """Send what the system takes now, and end the conversation if it is over."""
        if self._conversation is not None:
            self._send(self._conversation)
            if self._conversation.over:
                self._leave()
                calls.DisconnectNamedPipe(self._handle)

    def _send(self, conversation: Conversation) -> None:
        try:
            while True:
                outgoing, self._outgoing = self._outgoing, None
                if outgoing is not None:
                    length = _length(outgoing)
                    if length is None:
                        self._outgoing = outgoing
                        return  # it does not read
                    conversation.sent(length)
                if not conversation.out:
                    return
                piece = bytes(
                    conversation.out[:_BYTES]
                )  # what there is room for in the pipe is there also after our end
                self._outgoing = _winapi.WriteFile(self._handle, piece, overlapped=True)[0]
        except OSError:  # it has gone
            conversation.lost()

    def listen(self) -> bool:
        """Wait for a caller; return whether that is possible."""
        for _ in range(2):
            try:
                self._incoming = _winapi.ConnectNamedPipe(self._handle, overlapped=True)
            except OSError:
                calls.DisconnectNamedPipe(self._handle)  # somebody has come and gone already
            else:
                return True
        self.close()
        return False

    def _leave(self) -> None:
        """End the conversation."""
        for each in (self._incoming, self._outgoing):
            if each is not None:
                _cancel(each)
        conversation, self._incoming = self._conversation, None
        self._conversation = self._outgoing = None
        if conversation is not None:
            conversation.lost()

    def close(self) -> None:
        """Give it up. What the system has taken can still be read."""
        if self._conversation is not None:
            self._send(self._conversation)
        self._leave()
        handle, self._handle = self._handle, 0
        if handle:
            calls.CloseHandle(handle)


def _create(name: str, attributes: int, *, first: bool) -> int:
    """Return a new instance.

    Raises:
        OSError: The name is somebody else's, or there is no room.
    """
    mode = _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED
    if first:
        mode |= _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE
    kind = _PIPE_REJECT_REMOTE_CLIENTS  # and bytes, not messages
    return _winapi.CreateNamedPipe(name, mode, kind, PEERS_MAX, OUT_MAX, OUT_MAX, 0, attributes)


def _length(operation: _winapi.Overlapped) -> int | None:
    """Return how many bytes went through, None as long as nothing did.

    Raises:
        OSError: The other side has gone.
    """
    # The event tells, not the status in the structure: that stays at "pending" where a caller had come before we waited for one (ERROR_PIPE_CONNECTED).
    if calls.WaitForSingleObject(operation.event, 0) == calls.WAIT_TIMEOUT:
        return None
    length, error = operation.GetOverlappedResult(True)
    if error:
        raise ctypes.WinError(error)
    return length


def _cancel(operation: _winapi.Overlapped) -> None:
    """Have the system let go of a buffer. On a pipe of this machine it does that at once."""
    try:
        operation.cancel()
        operation.GetOverlappedResult(True)
    except OSError:
        pass  # ignored: it had failed already


def _caller(handle: int) -> int | None:
    """Return the pid of who has connected, None if the system does not tell."""
    pid = wintypes.DWORD()
    return int(pid.value) if calls.GetNamedPipeClientProcessId(handle, ctypes.byref(pid)) else None
