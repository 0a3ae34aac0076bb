"""What earlier stops asked in vain, so that `why` can say it: a small file of the user's own.

Only a stop that did not end well writes, so the common case costs nothing.
A line is appended with one write(2) to a file opened with O_APPEND, so several endtasks never mix their lines; a file that has grown too large is begun anew.
The journal is a memory aid: if it cannot be written or read, nothing fails.
"""

from __future__ import annotations

import os
import time

from endtask._record import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.model import PidRef, Receipt, Report

_LIMIT = 256 * 1024


def _path() -> str:
    return os.path.join(_state_folder(), "endtask", "asked")


def _state_folder() -> str:
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # a relative one is to be ignored (XDG base directory specification)
        return base
    if os.sep == "\\":  # "Known folders", FOLDERID_LocalAppData: of this user, on this machine
        return os.environ.get("LOCALAPPDATA") or os.path.join(os.path.expanduser("~"), "AppData", "Local")
    return os.path.join(os.path.expanduser("~"), ".local", "state")


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""  # ignored: then lines of an earlier boot cannot be told apart, and the token still can


def remember(report: Report) -> None:
    """Append a line for each process that was asked and did not end well."""
    lines = []
    boot = _boot()
    now = int(time.time())
    for target in report.targets:
        for member in target.members:
            sent = [name for r in member.receipts if (name := _name(r))]
            if sent and not member.exited:
                lines.append(
                    f"{now}\t{boot}\t{member.ref}\t{_word(','.join(sent))}\t{target.outcome}\t{_word(member.name)}\n"
                )
    if not lines:
        return
    path = _path()
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):  # the last one keeps line ends as they are, on Windows
            flags |= getattr(os, name, 0)
        fd = os.open(path, flags, 0o600)
        try:
            if os.fstat(fd).st_size > _LIMIT:
                os.ftruncate(fd, 0)
            os.write(fd, "".join(lines).encode("utf-8", "backslashreplace"))
        finally:
            os.close(fd)
    except OSError:
        return  # ignored: a full or read-only home directory must not fail a stop


def _name(receipt: Receipt) -> str:
    """Return what was sent, empty if nothing was: for a WM_ENDSESSION that was answered with no, the question that comes before it."""
    if receipt.status == "vetoed":
        return "WM_QUERYENDSESSION"
    # A comma within a name (`cmd:...`) is written like everything else that would break a field.
    return receipt.request.replace(",", "\\x2c") if receipt.status == "delivered" else ""


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _word(text: str) -> str:
    """Return *text* so that it breaks no line and no field."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain(text))


def _sent(field: str) -> str:
    """Return `TERM was sent`, `WM_CLOSE and CTRL_C were sent`."""
    names = list(dict.fromkeys(field.split(",")))
    if len(names) == 1:
        return f"{names[0]} was sent"
    return f"{', '.join(names[:-1])} and {names[-1]} were sent"


def _ago(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def recall(ref: PidRef) -> tuple[str, ...]:
    """Return in words what earlier stops of this user sent to exactly this process, oldest first."""
    try:
        with open(_path(), encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return ()  # ignored: no journal, nothing is known
    boot = _boot()
    found = []
    for line in lines:
        fields = line.rstrip("\n").split("\t")
        if len(fields) != 6 or fields[2] != str(ref) or (boot and fields[1] != boot) or not _is_time(fields[0]):
            continue
        ago = max(0, int(time.time()) - int(fields[0]))
        found.append(f"{_sent(fields[3])} {_ago(ago)} ago, delivered; outcome then: {fields[4]}")
    return tuple(found)


def said_no(asked: Sequence[str]) -> bool:
    """Return whether what was recalled ends with a refusal."""
    return bool(asked) and asked[-1].endswith("; outcome then: vetoed")
