"""Making a thread in another process without ever being kept waiting by that process.

CreateRemoteThread is a call to the kernel on Windows. In Wine the other process has to make the thread itself, and the caller waits for it without a limit
(dlls/ntdll/unix/thread.c, NtCreateThreadEx; server/thread.c, queue_apc): where that process is in the middle of its end, nobody may ever answer.

Decision: the call is made by a thread that lives for it alone, everywhere, so that what is tested on Wine is what runs on Windows.
It is given up when the process has ended or the limit is over. The thread that waits in the call then keeps what it uses and closes it if it ever comes back,
so that no handle is closed under it; it does not keep our own process from ending.

Rejected: a look before the call, because the end can begin between the two; a helper process, which costs a tenth of a second for each request.
"""

from __future__ import annotations

import _thread
import sys
import time

assert sys.platform == "win32"

import _winapi

from endtask._backends.windows import errors
from endtask._backends.windows.handles import Handle
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import last_error

LIMIT_MS = 2000  # the call takes less than a millisecond; a busy machine may take longer
_LAST_MS = 50  # for an answer that is on its way when the process ends


class Made:
    """One call, and what came of it; what it holds is closed when neither side needs it any more.

    Attributes:
        thread: The thread, None if there is none.
        error: GetLastError, 0 if it was made.
        status: The status behind that.
        finished: An event that is set when the call has come back.
    """

    __slots__ = ("_argument", "_process", "_start", "error", "finished", "status", "thread")

    def __init__(self, process: Handle, start: int, argument: int) -> None:
        event = kernel32.CreateEventW(None, True, False, None)
        if not event:
            raise errors.failed("CreateEventW", last_error())
        self.finished = Handle(event)
        self.thread: Handle | None = None
        self.error = self.status = 0
        self._process = process
        self._start = start
        self._argument = argument

    def run(self) -> None:
        """Make the call; in the thread that lives for it."""
        made = kernel32.CreateRemoteThread(self._process.number, None, 0, self._start, self._argument, 0, None)
        if made:
            self.thread = Handle(made)
        else:
            self.error, self.status = last_error(), ntdll.RtlGetLastNtStatus()  # both are this thread's own
        kernel32.SetEvent(self.finished.number)


def make(target: int, process: Handle, start: int, argument: int) -> Made | None:
    """Make a thread at *start* in an opened process.

    Args:
        target: Handle whose signal says that the process has ended.
        process: With the rights for a thread; it belongs to the call from here on.
        start: Address in the process.
        argument: Of the thread.

    Returns:
        What came of it, None if the call has not come back: the process has ended, or the limit is over.
    """
    made = Made(process, start, argument)
    _thread.start_new_thread(made.run, ())
    if _wait([made.finished.number, target], LIMIT_MS) == 1 and _wait([made.finished.number], _LAST_MS) is None:
        return None
    return made if _wait([made.finished.number], 0) == 0 else None


def _wait(handles: list[int], limit_ms: int) -> int | None:
    """Return which of *handles* was signalled first, None if none was in time."""
    until = time.perf_counter() + limit_ms / 1000
    while True:
        left_ms = max(0, round((until - time.perf_counter()) * 1000))
        try:
            answer = _winapi.WaitForMultipleObjects(handles, False, left_ms)
        except InterruptedError:
            continue  # Ctrl+C, and the program's own handler did not raise
        return None if answer == _winapi.WAIT_TIMEOUT else int(answer - _winapi.WAIT_OBJECT_0)
