"""The end of standard input, and the end of the parent process, as requests.

Decision: the parent is a handle to wait on. It is opened by number, and then its creation time is compared: a parent is older than its child.

Decision: a pipe is looked at four times a second, in a thread of its own (PeekNamedPipe), because Windows has nothing to wait on for its end.
A read of no bytes would wait, but it keeps the pipe locked meanwhile: a child that inherits it hangs in its start, in GetFileType.
If the application itself waits in a read, the look waits behind it; then the application sees the end before we do.
"""

from __future__ import annotations

import os
import sys
from _thread import start_new_thread

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver._request import StopRequest
from endtask_receiver._win_calls import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._stop import Stop

_LOOK_MS = 250


class StdinEar:
    """Hears the end of standard input, if that is a pipe. Nothing is read."""

    def __init__(self) -> None:
        self._said = ""
        self._closing = calls.open_event(manual=True)
        self._stop: Stop

    def start(self, stop: Stop) -> None:
        """Begin to look, if there is something to look at."""
        self._stop = stop
        handle = calls.GetStdHandle(calls.STD_INPUT_HANDLE)
        kind = calls.GetFileType(handle) if handle else 0
        if kind != calls.FILE_TYPE_PIPE:
            what = "a console" if kind == calls.FILE_TYPE_CHAR else "no pipe"
            self._said = f"standard input: {what}, so its end cannot be seen without reading"
            return
        self._said = "standard input: its end is a request, when all that was written has been read"
        start_new_thread(self._look, (handle,))

    def _look(self, handle: int) -> None:
        while calls.WaitForSingleObject(self._closing.value, _LOOK_MS) == calls.WAIT_TIMEOUT:
            if not calls.PeekNamedPipe(handle, None, 0, None, None, None):
                if (
                    calls.last_error() == calls.BROKEN_PIPE
                ):  # any other error: the application has closed it, which is no request
                    now = self._stop._clock()
                    self._stop._heard(StopRequest(now, "stdin", reason="standard input has ended"))
                return

    def close(self) -> None:
        """Have the thread end. It is not waited for: it may be behind a read of the application's."""
        calls.SetEvent(self._closing.value)  # the thread has the handle open, too: it holds us

    def describe(self) -> tuple[str, ...]:
        """Return whether it is heard."""
        return (self._said,)


def open_parent() -> tuple[Handle | None, str]:
    """Return a handle on the parent, None if it has ended or cannot be opened; and in words what is heard."""
    pid, sentinel = _parent()
    opened = calls.OpenProcess(calls.SYNCHRONIZE | calls.QUERY_LIMITED, False, pid)
    if not opened:
        if calls.last_error() == calls.ACCESS_DENIED:
            return None, f"parent: process {pid} may not be waited for"
        return None, ENDED
    parent = Handle(opened)
    # A worker of `multiprocessing` knows its parent by a handle. Anybody else: a process that is younger than we are only has the same number.
    own = calls.creation_time(calls.GetCurrentProcess())
    ended = calls.WaitForSingleObject(opened if sentinel is None else sentinel, 0) != calls.WAIT_TIMEOUT
    if ended or (sentinel is None and calls.creation_time(opened) > own):
        parent.close()
        return None, ENDED
    return parent, f"parent: the end of process {pid} is a request"


ENDED = "parent: it had ended before we began to listen"


def _parent() -> tuple[int, int | None]:
    """Return the pid of the parent, and the handle that `multiprocessing` has on it, if it has started us."""
    process = sys.modules.get("multiprocessing.process")
    wanted = process.parent_process() if process is not None else None
    return (os.getppid(), None) if wanted is None else (wanted.pid, wanted.sentinel)
