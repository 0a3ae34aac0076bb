"""A command in a job object of ours: who is in there, is it empty, end it.

Decision: one job for the command, without BREAKAWAY_OK. Whatever a process in it starts is inside, also when the parent has gone,
as after the fork of MSYS; nobody can leave ("Job Objects": only a limit would allow that). A job inside of a job is allowed since Windows 8.
JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE makes the kernel end everything in it when the last handle on the job closes. We hold the only one, and nobody inherits it,
so that happens also when we are killed. It is force, so a job whose tree must not be forced goes without it.

What the job cannot hold: processes that a service starts for the command (WMI, the Task Scheduler, an elevated start, a COM server): those are the service's children.
"""

from __future__ import annotations

import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import console, errors, jobs, memory
from endtask._backends.windows.handles import has_exited
from endtask._backends.windows.winapi import jobapi, kernel32
from endtask._backends.windows.winapi._bind import DWORD, SIZE_T, last_error
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from endtask._backends.base import Tree
    from endtask._backends.windows.handles import WindowsPin

_FIRST = 64  # pids; more are asked for when there are more
GROUP_BREAK = "GROUP_CTRL_BREAK"  # name of the request


def make_job(*, ends_with_us: bool) -> int:
    """Return a new job object, whose handle nobody inherits.

    Args:
        ends_with_us: Whether what is in it ends when the handle closes.

    Raises:
        OsCallError: None can be made.
    """
    job = kernel32.CreateJobObjectW(None, None)
    if not job:
        raise errors.failed("CreateJobObjectW", last_error())
    if ends_with_us:
        limits = jobapi.ExtendedLimits()
        limits.flags = jobapi.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        what = jobapi.JOB_OBJECT_EXTENDED_LIMIT_INFORMATION
        if not kernel32.SetInformationJobObject(job, what, ctypes.byref(limits), ctypes.sizeof(limits)):
            code = last_error()
            kernel32.CloseHandle(job)
            raise errors.failed("SetInformationJobObject", code)
    return job


class JobTree:
    """The processes of one job.

    Attributes:
        pin: Handle on the command itself; closed with the tree.
        command: Its words.
        stdin, stdout, stderr: Pipes, where they were asked for.
        leads_group: Whether the command leads a process group of its own on our console.
        evidence: Mechanism and words of the proof that `active` being 0 is.
    """

    __slots__ = ("_job", "command", "leads_group", "pin", "stderr", "stdin", "stdout")

    evidence = (
        "job-empty",
        "Windows counts no process in the job object that holds the command and all that it starts",
    )

    def __init__(
        self,
        job: int,
        pin: WindowsPin,
        command: tuple[str, ...],
        streams: list[IO[bytes] | None],
        *,
        leads_group: bool,
    ) -> None:
        self._job = job
        self.pin = pin
        self.command = command
        self.leads_group = leads_group
        self.stdin, self.stdout, self.stderr = streams

    def pids(self) -> list[int]:
        """Return the pids of everything in the job that runs.

        Raises:
            OsCallError: They cannot be read.
        """
        room = _FIRST
        while True:
            # JOBOBJECT_BASIC_PROCESS_ID_LIST: how many there are, how many are told, the pids as integers of a pointer's size
            answer = (SIZE_T * (room + 1))() if ctypes.sizeof(SIZE_T) == 8 else (SIZE_T * (room + 2))()
            what, size = kernel32.JOB_OBJECT_BASIC_PROCESS_ID_LIST, ctypes.sizeof(answer)
            if kernel32.QueryInformationJobObject(self._job, what, answer, size, None):
                told = (DWORD * 2).from_buffer(answer)[1]
                return list((SIZE_T * told).from_buffer(answer, 8))
            if last_error() != errors.MORE_DATA:
                raise errors.failed("QueryInformationJobObject", last_error())
            room = max(2 * room, (DWORD * 2).from_buffer(answer)[0] + _FIRST)

    def active(self) -> int | None:
        """Return how many processes in the job have not ended, None if that cannot be read."""
        return jobs.active_in(self._job)

    def hears_console(self) -> bool:
        """Return whether anything in the job is on our own console and takes Ctrl+C."""
        here = set(console.own_members())
        for pid in self.pids() if here else ():
            if pid in here:
                parameters = memory.parameters_of(pid, environment=False)
                if parameters is None or not parameters.console_flags & memory.IGNORES_CTRL_C:
                    return True
        return False

    def ask_group(self, at_s: float) -> Receipt:
        """Send Ctrl+Break to the process group that the command leads."""
        if has_exited(self.pin):
            return Receipt(GROUP_BREAK, "gone", at_s, "it had exited already")
        status, detail = console.send_group(self.pin.ref.pid, kernel32.CTRL_BREAK_EVENT)
        return Receipt(GROUP_BREAK, status, at_s, detail)

    def end(self) -> None:
        """End everything in the job at once.

        Raises:
            OsCallError: It could not be ended.
        """
        if not kernel32.TerminateJobObject(self._job, jobs.EXIT_CODE):
            raise errors.failed("TerminateJobObject", last_error())

    def close(self) -> None:
        """Let go of the job and of the command; closing twice is allowed."""
        job, self._job = self._job, 0
        if job:
            kernel32.CloseHandle(job)
        self.pin.close()

    def __del__(self) -> None:
        self.close()


if TYPE_CHECKING:

    def _fulfils(tree: JobTree) -> Tree:
        return tree
