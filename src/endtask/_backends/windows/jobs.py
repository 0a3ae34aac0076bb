"""The forced end of a tree: what is held is put into a job object, so that whatever it starts from then on is inside too, and the job is ended at once.

Decision: a fresh job without a name or limits. A process in a job cannot start anything outside of it ("Job Objects": only a limit would allow that, and we set none),
so nothing has to be held still, nothing is left frozen if we die, and TerminateJobObject leaves no gap.
A process that may not be put into one (another user's, or in a job that allows none inside, before Windows 8) is ended by its own handle.

Rejected: NtSuspendProcess, which freezes it and leaves it so if we are killed; JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, which would end it
although nobody has decided so yet.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.handles import has_exited, open_more, own, refusal
from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import last_error
from endtask.errors import AccessDeniedError, GoneError, OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.base import Pin
    from endtask._backends.windows.handles import WindowsPin
    from endtask.model import ReceiptStatus

TERMINATE = "TERMINATE"
EXIT_CODE = 1  # what taskkill /F and Popen.terminate give, so that nobody has to learn another
_HOLD = kernel32.PROCESS_SET_QUOTA | kernel32.PROCESS_TERMINATE  # "AssignProcessToJobObject function"
_ENDED = "it had exited already"


def terminate(pin: WindowsPin, at_s: float) -> Receipt:
    """End one process with TerminateProcess and exit code 1; the handle for it is opened, and compared, now.

    A process that has ended meanwhile is refused as if it were forbidden (TerminateProcess page): the pin tells which it was.
    """
    try:
        if has_exited(pin):
            return Receipt(TERMINATE, "gone", at_s, _ENDED)
        with open_more(pin, kernel32.PROCESS_TERMINATE) as handle:
            if kernel32.TerminateProcess(handle, EXIT_CODE):
                return Receipt(TERMINATE, "delivered", at_s)
            error = errors.failed("TerminateProcess", last_error(), pin.ref.pid)
        return _not_done(pin, error, at_s)
    except GoneError:
        return Receipt(TERMINATE, "gone", at_s, _ENDED)
    except OsCallError as exc:
        return _not_done(pin, exc, at_s)


def _not_done(pin: WindowsPin, error: OsCallError, at_s: float) -> Receipt:
    if _ended(pin):
        return Receipt(TERMINATE, "gone", at_s, _ENDED)
    denied = isinstance(error, AccessDeniedError)
    text = f"{refusal(error)}; {errors.HINT}" if denied else refusal(error)
    return Receipt(TERMINATE, "denied" if denied else "failed", at_s, text)


def _ended(pin: WindowsPin) -> bool:
    try:
        return has_exited(pin)
    except OsCallError:
        return False  # ignored: not known to have ended


class JobSweep:
    """Puts process after process into a job, then ends the job.

    A process that is in somebody else's job can only be put into a job inside of that one ("Nested Jobs"). So there may be several of ours,
    one for each job that the processes come from.
    """

    __slots__ = ("_inside", "_jobs", "_outside")

    def __init__(self) -> None:
        self._jobs: list[int] = []
        self._inside: dict[str, int] = {}  # job by process
        self._outside = False
        self._new_job()

    def _new_job(self) -> int:
        job = kernel32.CreateJobObjectW(None, None)
        if not job:
            raise errors.failed("CreateJobObjectW", last_error())
        self._jobs.append(job)
        return job

    @property
    def mechanism(self) -> str:
        """`job`, or `handle` where at least one could not be put into one."""
        return "handle" if self._outside else "job"

    def hold(self, pin: Pin) -> Receipt | None:
        """Put one process into a job, so that its children to come are inside; None when it can be ended, a receipt when not."""
        mine = own(pin)
        try:
            if has_exited(mine):
                return Receipt(TERMINATE, "gone", detail=_ENDED)
            with open_more(mine, _HOLD) as handle:
                job = self._put(handle)
            if job:
                self._inside[str(mine.ref)] = job
                return None
            # It is in a job that takes no other one inside (before Windows 8), or has just ended.
            if _ended(mine):
                return Receipt(TERMINATE, "gone", detail=_ENDED)
        except GoneError:
            return Receipt(TERMINATE, "gone", detail=_ENDED)
        except AccessDeniedError:
            return self._by_handle(mine)
        except OsCallError as exc:
            return Receipt(TERMINATE, "failed", detail=refusal(exc))
        self._outside = True
        return None

    def _put(self, handle: int) -> int:
        """Put an opened process into one of our jobs; return which, 0 if none takes it."""
        found = ctypes.c_long()
        for job in self._jobs:
            # Born to one that is inside, it is inside already, and could not be put there twice before Windows 8.
            if kernel32.IsProcessInJob(handle, job, ctypes.byref(found)) and found.value:
                return job
        for job in self._jobs:
            if kernel32.AssignProcessToJobObject(job, handle):
                return job
        fresh = self._new_job()
        if kernel32.AssignProcessToJobObject(fresh, handle):
            return fresh
        kernel32.CloseHandle(self._jobs.pop())
        return 0

    def _by_handle(self, pin: WindowsPin) -> Receipt | None:
        """It may not be put into a job; None if it may be ended all the same."""
        try:
            with open_more(pin, kernel32.PROCESS_TERMINATE):
                self._outside = True
                return None
        except GoneError:
            return Receipt(TERMINATE, "gone", detail=_ENDED)
        except OsCallError as exc:
            status: ReceiptStatus = "denied" if isinstance(exc, AccessDeniedError) else "failed"
            return Receipt(TERMINATE, status, detail=f"{refusal(exc)}; {errors.HINT}")

    def settle(self) -> bool:
        """Return True: a child that is born to a held process is inside before it runs, so nothing has to come to rest."""
        return True

    def kill(self, pins: Sequence[Pin], at_s: float) -> list[Receipt]:
        """End the jobs, and each of *pins* that is in none by its own handle."""
        alive = [not _ended(own(pin)) for pin in pins]
        used = set(self._inside.values())
        done = {job for job in used if kernel32.TerminateJobObject(job, EXIT_CODE)}
        receipts = []
        for pin, lives in zip(pins, alive, strict=True):
            if not lives:
                receipts.append(Receipt(TERMINATE, "gone", at_s, _ENDED))
            elif self._inside.get(str(pin.ref)) in done:
                receipts.append(Receipt(TERMINATE, "delivered", at_s, "with its job object"))
            else:
                receipts.append(terminate(own(pin), at_s))
        return receipts

    def active(self) -> int | None:
        """Return how many processes in the jobs have not ended; None if that cannot be read. 0 proves that everything in them is gone."""
        total = 0
        for job in self._jobs:
            found = kernel32.JobAccounting()
            size = ctypes.sizeof(found)
            what = kernel32.JOB_OBJECT_BASIC_ACCOUNTING
            if not kernel32.QueryInformationJobObject(job, what, ctypes.byref(found), size, None):
                return None
            total += found.active
        return total

    def close(self) -> None:
        """Give up the jobs: who is still in one runs on. Closing twice is allowed."""
        while self._jobs:
            kernel32.CloseHandle(self._jobs.pop())

    def __del__(self) -> None:
        self.close()


def active_in(job: int) -> int | None:
    """Return how many processes in a job have not ended, None if that cannot be read."""
    found = kernel32.JobAccounting()
    what, size = kernel32.JOB_OBJECT_BASIC_ACCOUNTING, ctypes.sizeof(found)
    if not kernel32.QueryInformationJobObject(job, what, ctypes.byref(found), size, None):
        return None
    return found.active


def is_in_job(handle: int) -> bool | None:
    """Return whether an opened process is in any job object, None if that cannot be told."""
    found = ctypes.c_long()
    if not kernel32.IsProcessInJob(handle, None, ctypes.byref(found)):
        return None
    return bool(found.value)
