"""Requests that are no mechanism of Windows: a command of the user, and text for the standard input.

Decision: the command line goes to Windows as it is, without a shell, so that nothing in a process's name can become a command; only `{pid}` in it is replaced.
It runs on a console of its own that nobody sees, so that neither its output nor our Ctrl+C crosses over.

Text for the standard input is impossible here: the writing end of the pipe is in the process that made it, and Windows opens no pipe by the process that reads it.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "win32"

import _winapi

from endtask._backends.windows.handles import has_exited
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.windows.handles import WindowsPin
    from endtask.model import Request

_CREATE_NO_WINDOW = 0x08000000


class _StartupInfo:
    """STARTUPINFO with nothing in it, as `_winapi` reads it; the class of `subprocess` costs 10 ms."""

    dwFlags = 0  # noqa: N815 - as Windows calls them
    wShowWindow = 0  # noqa: N815
    hStdInput = None  # noqa: N815
    hStdOutput = None  # noqa: N815
    hStdError = None  # noqa: N815
    lpAttributeList: dict[str, list[int]] = {}  # noqa: N815, RUF012


def no_stdin(request: Request, at_s: float) -> Receipt:
    """Say that the standard input of a process that we did not start cannot be written to."""
    text = "Windows lets nobody but the process that made it write to the standard input of another one"
    return Receipt(request.name, "impossible", at_s, text)


def start(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Start the command in the text of *request*; `{pid}` in it stands for the process."""
    line = request.text.replace("{pid}", str(pin.ref.pid)).strip()
    if not line:
        return Receipt(request.name, "failed", at_s, "the command is empty")
    if has_exited(pin):
        return Receipt(request.name, "gone", at_s, "it had exited already")
    try:
        # No handle of ours is inherited, and nothing has to be collected: Windows has no zombies, only handles.
        process, thread, _pid, _thread_id = _winapi.CreateProcess(
            None, line, None, None, False, _CREATE_NO_WINDOW, dict(os.environ), None, _StartupInfo()
        )
    except OSError as exc:
        return Receipt(request.name, "failed", at_s, f"`{line}` could not be started: {exc.strerror}")
    except ValueError as exc:  # a NUL in it
        return Receipt(request.name, "failed", at_s, f"`{line!a}` could not be started: {exc}")
    _winapi.CloseHandle(process)
    _winapi.CloseHandle(thread)
    return Receipt(request.name, "delivered", at_s, f"started `{line}`")
