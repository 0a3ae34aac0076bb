"""Asking one console program, and nobody else: a thread of ours, at the place where Windows starts a console event itself.

When Windows delivers Ctrl+C it makes a thread in the process that begins at `CtrlRoutine` of kernelbase.dll, with the number of the event.
A thread that we make there does the same thing: it runs the handlers of the program, the last one first, and where none takes the event, the default one, ExitProcess.
That reaches exactly one process, whatever console it is on, and also one without any (measured under Wine; msys2-runtime and Git for Windows ask so on Windows).

Decision: it is a request of its own kind (`inject`) that the user can switch off, because it is the only one that needs a thread in a foreign process.
It is refused, with the reason, where it could do anything else than that:

- the process runs as another machine (its `CtrlRoutine` is another one, elsewhere);
- the DLL does not lie where it lies in our process, or is another version: its header is compared. It lies there in every process of a boot, which is what this way rests on;
- the process ignores the event (ConsoleFlags): a thread for nothing;
- it has windows: the default handler would end it without a question, whatever is unsaved in them. ExitProcess, which nobody takes for a question, may go there.

CLOSE and SHUTDOWN delivered in this way are gentler than those of the system: nobody ends the process five seconds later (HandlerRoutine page: the system does that, not `CtrlRoutine`).

Rejected: to learn the address by generating an event in a private console and reading the stack, as msys2 does for old Windows: both DLLs export it today.
Rejected: GenerateConsoleCtrlEvent with the pid as group: for a pid that leads no group it hits the whole console (microsoft/terminal#335).
"""

from __future__ import annotations

import ctypes
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles, images, memory, remote_thread
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import DWORD, last_error
from endtask.errors import AccessDeniedError, GoneError, OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.windows.handles import Handle, WindowsPin
    from endtask.model import ReceiptStatus, Request

    Answer = tuple[ReceiptStatus, str]

EXIT_PROCESS = -1  # the request's number; others are those of console events
EXIT_CODE = 1  # what an exit-process leaves behind, as TerminateProcess by taskkill does

# CreateRemoteThread page
_RIGHTS = (
    kernel32.PROCESS_CREATE_THREAD
    | kernel32.PROCESS_QUERY_INFORMATION
    | kernel32.PROCESS_VM_OPERATION
    | kernel32.PROCESS_VM_WRITE
    | kernel32.PROCESS_VM_READ
)
_EVENTS = {
    kernel32.CTRL_C_EVENT: "Ctrl+C",
    kernel32.CTRL_BREAK_EVENT: "Ctrl+Break",
    kernel32.CTRL_CLOSE_EVENT: "the closing of its console",
    kernel32.CTRL_LOGOFF_EVENT: "a log-off",
    kernel32.CTRL_SHUTDOWN_EVENT: "a shutdown",
}
_MODULES = ("kernel32", "kernelbase")
_HEADER = 1024  # bytes of a DLL's header that are compared; it holds the time stamp, the size, and the address after relocation
_COMES_BACK_MS = 50
_OTHER_SESSION = 8  # ERROR_NOT_ENOUGH_MEMORY; CreateRemoteThread page: it fails for a process of another session


def send_inject(pin: WindowsPin, request: Request, at_s: float, patience: Patience | None = None) -> Receipt:
    """Make a thread in the process at `CtrlRoutine` (with the event that is the request's number) or at `ExitProcess` (-1).

    Args:
        pin: The process.
        request: What to ask it with.
        at_s: The time for the receipt.
        patience: How long the answers of all such threads may be waited for; None: of this one alone.
    """
    try:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        status, detail = _inject(pin, handles.open_more(pin, _RIGHTS), request.number, patience or Patience())
    except GoneError:
        status, detail = "gone", "it had exited already"
    except AccessDeniedError as exc:
        status, detail = "denied", f"{exc.call}, with the right to make a thread in it: {errors.text_of(exc.code)}"
    except OsCallError as exc:
        status, detail = "failed", handles.refusal(exc)
    return Receipt(request.name, status, at_s, detail)


def _inject(pin: WindowsPin, opened: Handle, number: int, patience: Patience) -> Answer:
    function = "ExitProcess" if number == EXIT_PROCESS else "CtrlRoutine"
    start, process = address_of(function), opened.number
    why_not = _other_machine(process)
    if not why_not and not start:
        why_not = f"neither kernel32 nor kernelbase of this Windows exports {function}"
    why_not = why_not or _elsewhere(process, start) or _deaf(process, number) or _by_its_windows(pin, number)
    if why_not:
        return ("gone", "it had exited already") if handles.has_exited(pin) else ("impossible", why_not)
    made = remote_thread.make(pin.handle, opened, start, EXIT_CODE if number == EXIT_PROCESS else number)
    if made is None:
        return _not_back(pin)
    if made.thread is None:
        return _no_thread(pin, made.error, made.status)
    with made.thread as thread:
        return "delivered", f"by a thread at {function}{_hint(pin, thread, number, patience)}"


class Patience:
    """How long threads that were made are waited for to say what came of it: that is a hint, so two hundred targets must not wait for it."""

    __slots__ = ("_again_at",)

    def __init__(self) -> None:
        self._again_at = 0.0

    def is_back(self, thread: int) -> bool:
        """Return whether a thread has ended: waited for until then, for a moment, and for a fifth of the time at most; else only looked at."""
        began = time.perf_counter()
        limit_ms = _COMES_BACK_MS if began >= self._again_at else 0
        back = kernel32.WaitForSingleObject(thread, limit_ms) == kernel32.WAIT_OBJECT_0
        if limit_ms:
            ended = time.perf_counter()
            self._again_at = ended + 4 * (ended - began)
        return bool(back)


# --------------------------------------------------------------------------- whether it can be done


def address_of(function: str) -> int:
    """Return the address of a function that every process of our machine has at the same place, 0 if it is not exported."""
    for name in _MODULES:
        module = kernel32.GetModuleHandleW(name)
        address = kernel32.GetProcAddress(module, function.encode()) if module else None
        if address:
            return address
    return 0


def _other_machine(process: int) -> str:
    """Return why our code cannot run in a process, empty if it can."""
    ours, theirs = images.machine_of(kernel32.GetCurrentProcess()), images.machine_of(process)
    if ours and theirs:
        return (
            ""
            if ours == theirs
            else f"it is a {theirs} process, and endtask here runs as {ours}: a thread cannot cross"
        )
    # COMPAT: until Windows 10 1709 is the floor: it has only two machines, and one of them is WOW64.
    flags = [ctypes.c_long(), ctypes.c_long()]
    for asked, flag in zip((kernel32.GetCurrentProcess(), process), flags, strict=True):
        if not kernel32.IsWow64Process(asked, ctypes.byref(flag)):
            return f"whether it is a 32-bit process cannot be told: IsWow64Process: {errors.text_of(last_error())}"
    if flags[0].value == flags[1].value:
        return ""
    size = "32-bit" if flags[1].value else "64-bit"
    return f"it is a {size} process, and endtask here is not: a thread cannot cross"


def _elsewhere(process: int, start: int) -> str:
    """Return why *start* is not the same function over there, empty if it is."""
    module = ctypes.c_void_p()
    flags = kernel32.GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | kernel32.GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT
    if not kernel32.GetModuleHandleExW(flags, start, ctypes.byref(module)) or not module.value:
        return f"GetModuleHandleEx: {errors.text_of(last_error())}"
    try:
        theirs = memory.read(process, module.value, _HEADER)
    except OsCallError:
        theirs = b""
    if theirs == ctypes.string_at(module.value, _HEADER):
        return ""
    return "the DLL with that function does not lie in it where it lies here: it is starting up, or no ordinary Windows program"


def _by_its_windows(pin: WindowsPin, number: int) -> str:
    """Return why an event is nothing for a program with windows, empty if it is another kind of program."""
    if number == EXIT_PROCESS:
        return ""
    from endtask._backends.windows import desktop, traits

    try:
        seen = desktop.windows(pin.ref.pid)
    except OsCallError:
        return ""  # ignored: we have no desktop, and then it has no windows on it
    image = images.image_of_file(images.path_of(pin.handle)) if seen else None
    if not traits.asked_by_windows(seen, image.subsystem if image is not None else ""):
        return ""
    return "it has windows and is asked by them: an event could end it without a question"


def _deaf(process: int, number: int) -> str:
    try:
        flags = memory.read_little(process, frozenset()).parameters.console_flags
    except OsCallError:
        return ""  # ignored: then it is sent, and what comes of it is seen
    return deaf(flags, number, wine=ntdll.wine_get_version is not None)


def deaf(console_flags: int, number: int, *, wine: bool) -> str:
    """Return why nothing in a process would hear an event, empty if something may (pure).

    On Windows the flag silences Ctrl+C only (SetConsoleCtrlHandler page), in Wine every event (dlls/kernelbase/console.c).
    """
    if number == EXIT_PROCESS or not console_flags & memory.IGNORES_CTRL_C:
        return ""
    if number == kernel32.CTRL_C_EVENT:
        return "it ignores Ctrl+C (its ConsoleFlags say so)"
    return f"it ignores Ctrl+C, and Wine then withholds {_EVENTS[number]} as well" if wine else ""


# --------------------------------------------------------------------------- what came of it


def _no_thread(pin: WindowsPin, error: int, status: int) -> Answer:
    if handles.has_exited(pin):
        return "gone", "it had exited already"
    if status == ntdll.STATUS_PROCESS_IS_TERMINATING:  # as GetLastError it is ERROR_ACCESS_DENIED, which would be a lie
        return "impossible", "it is in the middle of its end already, and Windows makes no thread in it any more"
    if error == errors.ACCESS_DENIED:
        return "denied", f"CreateRemoteThread: {errors.text_of(error)}"
    if error == _OTHER_SESSION:
        return (
            "impossible",
            f"CreateRemoteThread: Windows makes no thread in a process of another session (error {error})",
        )
    return "failed", f"CreateRemoteThread: {errors.text_of(error)}"


def _not_back(pin: WindowsPin) -> Answer:
    if handles.has_exited(pin):
        return "gone", "it had exited already"
    limit_s = remote_thread.LIMIT_MS / 1000
    return (
        "failed",
        f"CreateRemoteThread has not come back within {limit_s:g} s: it may be ending; whether it hears the event is not known",
    )


def _hint(pin: WindowsPin, thread: int, number: int, patience: Patience) -> str:
    """Return in words what the thread brought back, if it is back at once: a hint, nothing that a verdict rests on."""
    if not patience.is_back(thread):
        return ", which is not back yet"
    code = DWORD()
    if handles.has_exited(pin) or not kernel32.GetExitCodeThread(thread, ctypes.byref(code)):
        return ""
    took = _took(number, code.value, wine=ntdll.wine_get_version is not None)
    # The other way round nothing is sure: the threads of a process that ends have its status, a moment before its handle tells of the end.
    return f" (a handler took it: exit code {code.value})" if took else f" (back with exit code {code.value})"


def _took(number: int, code: int, *, wine: bool) -> bool | None:
    """Return whether a handler of the program took the event, None where the thread's exit code does not tell (pure).

    Wine: 1 or 0 (dlls/kernelbase/console.c). Windows: 0 for Ctrl+C and Ctrl+Break (msys2-runtime), else the number of the event (ReactOS, console.c).
    """
    if number == EXIT_PROCESS:
        return None
    if wine:
        return {0: False, 1: True}.get(code)
    if number in (kernel32.CTRL_C_EVENT, kernel32.CTRL_BREAK_EVENT):
        return True if code == 0 else None
    return True if code == number else None
