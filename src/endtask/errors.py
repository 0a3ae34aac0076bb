"""The exceptions of endtask.

A process that does not stop is an *outcome*, never an exception: an exception means that we could not try or could not know.

::

    EndtaskError
     +-- UsageError                   what was asked for makes no sense            exit 2
     |    +-- PlanError               a plan that cannot be parsed
     |    +-- TargetError             a WHAT or a filter that cannot be parsed
     |    +-- RefusedError            understood, and not done: ourselves, pid 1 ...
     |    |    +-- AmbiguousError     several independent programs match one word
     |    +-- UnsupportedRequestError this platform has no such request           exit 77
     +-- NothingMatchedError          no process answers to that WHAT              exit 1
     +-- OsCallError                  a call to the operating system failed        exit 3
     |    +-- AccessDeniedError       it exists, we may not                        exit 77
     |    +-- GoneError               the process has gone                         (handled inside)
     +-- UnsupportedPlatformError     no backend for this system                   exit 3
"""

from __future__ import annotations


class EndtaskError(Exception):
    """Base of all errors of endtask.

    Attributes:
        message: One sentence: what, which process, why.
        hint: What the user can do, or an empty string.
        exit_code: The exit code of the command when this error ends it.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:  # arguments that are keywords only do not survive the default way
        return (_rebuild, (type(self), self.args, self.__dict__))


class UsageError(EndtaskError):
    """What was asked for makes no sense; nothing was done."""

    exit_code = 2


class PlanError(UsageError):
    """The text of a plan or a duration cannot be parsed; nothing was done."""


class TargetError(UsageError):
    """A WHAT or a filter cannot be parsed; nothing was done."""


class RefusedError(UsageError):
    """The target was understood, and endtask will not touch it: itself, its ancestors, pid 1, a kernel thread."""


class AmbiguousError(RefusedError):
    """Several independent programs match one word, and `all` was not given; nothing was done.

    Attributes:
        matches: One line of text for each program.
    """

    def __init__(self, message: str, *, hint: str = "", matches: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.matches = matches


class UnsupportedRequestError(UsageError):
    """The request does not exist on this platform or for this process; nothing was sent."""

    exit_code = 77


class NothingMatchedError(EndtaskError):
    """No running process answers to the WHAT."""

    exit_code = 1


class UnsupportedPlatformError(EndtaskError):
    """There is no backend for this operating system."""


class OsCallError(EndtaskError):
    """A call to the operating system failed.

    Attributes:
        call: The name of the call as the manual spells it.
        code: The error number (errno, or GetLastError on Windows).
        pid: The process it was about, or 0.
        text: What was wrong, without the call.
    """

    def __init__(self, call: str, code: int, pid: int = 0, *, text: str = "", hint: str = "") -> None:
        about = f" for pid {pid}" if pid else ""
        super().__init__(f"`{call}`{about} failed: {text or f'error {code}'}", hint=hint)
        self.call = call
        self.code = code
        self.pid = pid
        self.text = text or f"error {code}"


class AccessDeniedError(OsCallError):
    """The process exists and we may not do this to it; it is never reported as gone."""

    exit_code = 77


class GoneError(OsCallError):
    """The process has gone (ESRCH): it was reaped before we could act on it.

    No call is at fault here, so its sentence names none.
    """

    exit_code = 1

    def __init__(self, call: str, code: int, pid: int = 0, *, text: str = "", hint: str = "") -> None:
        super().__init__(call, code, pid, text=text, hint=hint)
        self.text = text or f"no process has the pid {pid}"
        self.message = f"process {pid}: {text}" if text else self.text
        self.args = (self.message,)


def _rebuild(kind: type[EndtaskError], args: tuple[object, ...], fields: dict[str, object]) -> EndtaskError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error
