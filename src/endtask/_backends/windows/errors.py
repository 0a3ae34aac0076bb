"""Error numbers of Windows as errors of endtask.

Decision: our own sentences for the few numbers that occur. FormatMessage answers in the language of the user, with a line break, and sometimes with the name of a file.

"Access is denied" says as much as "it exists": it must never be taken for an end. The other way round Windows denies some requests to a process
*because* it has ended (TerminateProcess page), so whoever gets it asks the handle once more before it says so.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask.errors import AccessDeniedError, GoneError, OsCallError

# "System Error Codes"
ACCESS_DENIED = 5
INVALID_HANDLE = 6
INVALID_PARAMETER = 87
INSUFFICIENT_BUFFER = 122
PIPE_BUSY = 231
MORE_DATA = 234
PARTIAL_COPY = 299
IO_INCOMPLETE = 996
NOT_FOUND = 1168

HINT = "ask as the same user, or from an elevated prompt"

_TEXTS = {
    2: "there is no such file",
    3: "there is no such folder",
    ACCESS_DENIED: "access is denied",
    INVALID_HANDLE: "the handle is invalid",
    8: "there is not enough memory",
    32: "somebody else has it open for himself alone",
    50: "this system cannot do that",
    INVALID_PARAMETER: "the parameter is wrong",
    120: "this system has no such call",
    123: "the name is no file name",
    PARTIAL_COPY: "only a part of the memory could be read",
    998: "there is no memory at that address",
    1314: "a required privilege is not held",
    1450: "there are not enough system resources",
    1455: "the paging file is too small",
    1460: "the time was up",
}


def text_of(code: int) -> str:
    """Return an error number in words: `access is denied (error 5)`."""
    known = _TEXTS.get(code)
    return f"{known} (error {code})" if known else f"error {code}"


def failed(call: str, code: int, pid: int = 0, *, about: str = "") -> OsCallError:
    """Return the error of a call that failed; AccessDeniedError where Windows denied it.

    Args:
        call: Name of the function as Microsoft spells it.
        code: GetLastError.
        pid: Whom it was about, or 0.
        about: What it was about, for the text: a path.
    """
    text = f"`{about}`: {text_of(code)}" if about else text_of(code)
    if code == ACCESS_DENIED:
        return AccessDeniedError(call, code, pid, text=text, hint=HINT)
    return OsCallError(call, code, pid, text=text)


def gone(call: str, pid: int, text: str = "") -> GoneError:
    """Return the error for a process that is not there (any more)."""
    return GoneError(call, INVALID_PARAMETER, pid, text=text)
