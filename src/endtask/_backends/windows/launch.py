"""Starts a command as the head of a tree that is ours: inside a job object before its first instruction.

Decision: the job is given with the creation itself (PROC_THREAD_ATTRIBUTE_JOB_LIST, Windows 10), so there is no moment at which the command exists
and is not in it; if we are killed in the middle, there is either no command or one that ends with the job.
Where that attribute is missing (Windows 8.1), it is created suspended, put into the job, and resumed; only there a kill of ours right between leaves a process
that has not run yet.

Decision: no process group of its own, as a rule. CREATE_NEW_PROCESS_GROUP makes the command deaf to Ctrl+C ("Process Creation Flags"),
which is the one event after which most programs clean up (CPython, Node, Java); Ctrl+Break ends the first at once and only makes the last print its threads.
So it gets a group only where no thread of ours can bring it Ctrl+C: if it runs as another machine than we, or threads were ruled out.
Then Ctrl+Break to that group is what reaches it and nobody else.
It follows that Ctrl+C at the keyboard of a shared console reaches the command as well as us, as with any program that is started there.

Rejected: a process group of its own whose deafness is taken back by writing into the suspended process: that is how malware looks to a virus scanner.
Rejected: a hidden console of its own: what the command prints would not be seen.
"""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

from endtask._backends.windows import console, errors, images
from endtask._backends.windows.command_lines import command_line
from endtask._backends.windows.handles import WindowsPin, birth
from endtask._backends.windows.job_tree import JobTree, make_job
from endtask._backends.windows.streams import Streams
from endtask._backends.windows.winapi import jobapi, kernel32
from endtask._backends.windows.winapi._bind import HANDLE, SIZE_T, last_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from endtask._backends.launching import Launch
    from endtask._backends.windows.command_lines import CommandLine

_NOT_SUPPORTED = (errors.INVALID_PARAMETER, 50)  # what an attribute gives that this Windows does not know
_TEXTS = {
    193: "it is no program for this Windows",
    206: "its command line is too long (32,766 characters are possible)",
    216: "it is a program for another kind of processor",
    267: "the working directory is not a folder",
    740: "it asks for elevated rights: start it from an elevated prompt",
}


def start(launch: Launch, *, ends_with_us: bool, inject: bool = True) -> JobTree:
    """Start a command inside a new job object.

    Args:
        launch: How to start it.
        ends_with_us: Whether the system is to end everything in the job when our process ends, however that happens.
        inject: Whether a thread of ours may be started in it to ask it.

    Raises:
        OSError: It could not be started; nothing of it runs.
        OsCallError: The job or a pipe could not be made.
        UsageError: A batch file cannot be given one of the arguments.
    """
    line = command_line(launch.command)
    environment = environment_block(launch.env)
    streams = Streams(launch)
    try:
        job = make_job(ends_with_us=ends_with_us)
        try:
            group = needs_group(line.program, inject=inject)
            pin = _create(line, environment, launch.cwd, streams, job, group=group)
            tree = JobTree(job, pin, line.words, streams.ours, leads_group=group)
        except BaseException:
            kernel32.TerminateJobObject(job, 1)  # whatever got that far
            kernel32.CloseHandle(job)
            raise
    except BaseException:
        streams.close()
        raise
    streams.close_theirs()
    return tree


def needs_group(program: str | None, *, inject: bool) -> bool:
    """Return whether a program can only be asked as a process group of its own: on our console, and not by a thread of ours."""
    image = images.image_of_file(program) if program else None
    if image is None or image.subsystem != "console" or not console.own_members():
        return False
    ours = images.machine_of(kernel32.GetCurrentProcess())
    return not inject or bool(ours and image.machine and image.machine != ours)


def environment_block(env: Mapping[str, str] | None) -> ctypes.Array[ctypes.c_wchar] | None:
    r"""Return an environment as `A=1\0B=2\0\0`, sorted without regard to case ("Changing Environment Variables"); None for our own.

    Raises:
        ValueError: A name has an equals sign (but for the first character), or there is a NUL in it.
    """
    if env is None:
        return None
    for name, value in env.items():
        if not name or "=" in name[1:] or "\0" in name or "\0" in value:
            raise ValueError(f"illegal environment variable `{name}`")
    entries = sorted(((name, value) for name, value in env.items()), key=lambda entry: entry[0].upper())
    text = "".join(f"{name}={value}\0" for name, value in entries) or "\0"
    return ctypes.create_unicode_buffer(text)  # which adds the last NUL


class _Attributes:
    """A PROC_THREAD_ATTRIBUTE_LIST; a context manager."""

    __slots__ = ("_kept", "buffer")

    def __init__(self, count: int) -> None:
        self._kept: list[object] = []
        size = SIZE_T()
        jobapi.InitializeProcThreadAttributeList(None, count, 0, ctypes.byref(size))  # says how much room it needs
        self.buffer = ctypes.create_string_buffer(size.value)
        if not jobapi.InitializeProcThreadAttributeList(self.buffer, count, 0, ctypes.byref(size)):
            raise errors.failed("InitializeProcThreadAttributeList", last_error())

    def add(self, attribute: int, handles: list[int]) -> bool:
        """Add a list of handles; False where the system does not know the attribute."""
        values = (HANDLE * len(handles))(*handles)
        self._kept.append(values)  # the list only points to it
        size = ctypes.sizeof(values)
        if jobapi.UpdateProcThreadAttribute(self.buffer, 0, attribute, values, size, None, None):
            return True
        if last_error() in _NOT_SUPPORTED:
            return False
        raise errors.failed("UpdateProcThreadAttribute", last_error())

    def __enter__(self) -> _Attributes:  # noqa: PYI034  # `Self` needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        jobapi.DeleteProcThreadAttributeList(self.buffer)


def _create(
    line: CommandLine,
    environment: ctypes.Array[ctypes.c_wchar] | None,
    cwd: str | None,
    streams: Streams,
    job: int,
    *,
    group: bool,
) -> WindowsPin:
    """Create the process in the job, running.

    Raises:
        OSError: It could not be started; nothing of it runs.
    """
    info = jobapi.StartupInfoEx(ctypes.sizeof(jobapi.StartupInfoEx), flags=jobapi.STARTF_USESTDHANDLES)
    info.streams[:] = streams.theirs
    inherited = sorted(set(streams.theirs) - {0})
    flags = jobapi.EXTENDED_STARTUPINFO_PRESENT | jobapi.CREATE_UNICODE_ENVIRONMENT
    flags |= jobapi.CREATE_NEW_PROCESS_GROUP if group else 0
    text = ctypes.create_unicode_buffer(line.text)  # CreateProcessW writes into it
    made = jobapi.ProcessInformation()
    refs = ctypes.byref(info), ctypes.byref(made)
    with _Attributes(2) as attributes:
        born_inside = attributes.add(jobapi.PROC_THREAD_ATTRIBUTE_JOB_LIST, [job])
        if inherited:
            attributes.add(jobapi.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, inherited)
        info.attributes = ctypes.addressof(attributes.buffer)
        flags |= 0 if born_inside else jobapi.CREATE_SUSPENDED
        if not jobapi.CreateProcessW(line.program, text, None, None, bool(inherited), flags, environment, cwd, *refs):
            raise _os_error(last_error(), line.words[0], cwd)
    if not born_inside:
        _put_in(made, job)
    kernel32.CloseHandle(made.thread or 0)
    return WindowsPin(made.process or 0, made.pid, birth(made.process or 0, made.pid))


def _put_in(made: jobapi.ProcessInformation, job: int) -> None:
    """Put a suspended process into the job and let it run; it is ended if that is not possible.

    COMPAT: until Windows 10 is the floor.
    """
    process, thread = made.process or 0, made.thread or 0
    call = "AssignProcessToJobObject"
    done = kernel32.AssignProcessToJobObject(job, process)
    if done:
        call = "ResumeThread"
        done = jobapi.ResumeThread(thread) == 1  # the suspend count before: ours alone
    if not done:
        code = last_error()
        kernel32.TerminateProcess(process, 1)
        kernel32.CloseHandle(thread)
        kernel32.CloseHandle(process)
        raise errors.failed(call, code, made.pid)


def _os_error(code: int, word: str, cwd: str | None) -> OSError:
    """Return what `subprocess` would raise, with our own sentence."""
    text = _TEXTS.get(code) or errors.text_of(code)
    about = cwd if code == 267 and cwd else word  # ERROR_DIRECTORY
    return OSError(0, text, os.fspath(about), code)
