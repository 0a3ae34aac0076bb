"""Stage 1b: filters, which narrow every WHAT; taskkill's `/FI` language included.

Decision: the cheapest question is asked first and the next one only of those that passed, because most processes fail the first.
"""

from __future__ import annotations

from endtask.errors import OsCallError, TargetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Backend
    from endtask.model import Filter, Row

    Check = Callable[[int], bool]


def compile_filter(backend: Backend, wanted: Filter) -> list[Check]:
    """Return the checks that a pid must pass, the cheapest first.

    Raises:
        TargetError: A part of the filter makes no sense here.
    """
    checks: list[Check] = []
    if wanted.user:
        uid = backend.user_id(wanted.user)
        checks.append(lambda pid: backend.owner(pid) == uid)
    if wanted.parent is not None or wanted.session is not None:
        checks.append(_by_row(backend, wanted))
    if wanted.older_s is not None or wanted.newer_s is not None:
        checks.append(_by_age(backend, wanted))
    if wanted.cwd:
        checks.append(_by_folder(backend, wanted.cwd))
    if wanted.cmdline:
        checks.append(_by_cmdline(backend, wanted.cmdline))
    checks.extend(_compile_fi(backend, text) for text in wanted.fi)
    return checks


def _by_row(backend: Backend, wanted: Filter) -> Check:
    def check(pid: int) -> bool:
        row = backend.row(pid)
        if row is None:
            return False
        parent_fits = wanted.parent is None or row.ppid == wanted.parent
        return parent_fits and (wanted.session is None or session_number(row) == wanted.session)

    return check


def session_number(row: Row) -> int:
    """Return the number of the session that people mean: the logon session on Windows, the session id (setsid(2)) elsewhere."""
    return row.desktop_session if row.desktop_session >= 0 else row.sid


def _by_age(backend: Backend, wanted: Filter) -> Check:
    def check(pid: int) -> bool:
        row = backend.row(pid)
        if row is None:
            return False
        age = backend.age_s(row)
        old_enough = wanted.older_s is None or age >= wanted.older_s
        return old_enough and (wanted.newer_s is None or age <= wanted.newer_s)

    return check


def _by_folder(backend: Backend, path: str) -> Check:
    """Compare as the system does: Windows takes both kinds of slash, and every case."""

    def folder(path: str) -> str:
        return path.replace("/", "\\").rstrip("\\").lower() if backend.folds_case else path.rstrip("/") or "/"

    wanted = folder(path)

    def check(pid: int) -> bool:
        found = backend.working_directory(pid)
        return found is not None and folder(found) == wanted

    return check


def _by_cmdline(backend: Backend, pattern: str) -> Check:
    import re

    try:
        search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as exc:
        raise TargetError(
            f"`{pattern}` is not a regular expression: {exc}",
            hint="a plain word is one; escape `(`, `[`, `*` with a backslash",
        ) from exc

    def check(pid: int) -> bool:
        arguments = backend.command_line(pid)
        return arguments is not None and search(" ".join(arguments)) is not None

    return check


# --------------------------------------------------------------------------- taskkill's filters

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "le": lambda a, b: a <= b,
}
_DIGITS = 15  # more than any pid, session or amount of memory has
_UNKNOWN = "N/A"  # what tasklist shows where there is nothing to show; a filter may ask for it
_FI_HINT = "taskkill's form is NAME OPERATOR VALUE, for example `IMAGENAME eq nginx*` or `MEMUSAGE gt 100000`"
_NUMBERS = ("PID", "SESSION", "CPUTIME", "MEMUSAGE")
_NAMES = ("IMAGENAME", "USERNAME", "SESSIONNAME", "MODULES", "SERVICES", "WINDOWTITLE")
_FI_NAMES = ", ".join((*_NAMES[:1], *_NUMBERS, *_NAMES[1:], "STATUS"))
# What may be asked for, and what `Backend.status` calls it.
_STATUSES = {
    "RUNNING": "running",
    "NOT RESPONDING": "not-responding",
    "SUSPENDED": "suspended",
    "UNKNOWN": "unknown",
}


def _compile_fi(backend: Backend, text: str) -> Check:
    parts = text.split(None, 2)
    if len(parts) != 3:
        raise TargetError(f"`{text}` is not a filter", hint=_FI_HINT)
    name, operator, value = parts[0].upper(), parts[1].lower(), parts[2].rstrip()
    if operator not in _OPERATORS:
        raise TargetError(f"`{parts[1]}` in the filter `{text}` is not an operator", hint="eq, ne, gt, lt, ge, le")
    if name in _NUMBERS:
        return _fi_number(backend, name, operator, value, text)
    if name not in _NAMES and name != "STATUS":
        raise TargetError(f"`{parts[0]}` in the filter `{text}` is not known", hint=f"known are {_FI_NAMES}")
    if operator not in ("eq", "ne"):
        raise TargetError(f"the filter `{text}` compares a name: use `eq` or `ne`", hint=_FI_HINT)
    if name == "STATUS":
        return _fi_status(backend, value, text, wanted=operator == "eq")
    if name == "WINDOWTITLE":
        _require_titles(backend, value, text)
    return _fi_name(backend, name, value, wanted=operator == "eq")


def _fi_number(backend: Backend, name: str, operator: str, value: str, text: str) -> Check:
    compare = _OPERATORS[operator]
    pieces = value.split(":") if name == "CPUTIME" else [value]
    if not all(p.isascii() and p.isdigit() and len(p) <= _DIGITS for p in pieces) or (
        name == "CPUTIME" and len(pieces) != 3
    ):
        form = "hh:mm:ss" if name == "CPUTIME" else "a number"
        raise TargetError(f"`{value}` in the filter `{text}` should be {form}", hint=_FI_HINT)
    limit = 0.0
    for piece in pieces:
        limit = limit * 60 + int(piece)
    if name == "PID":
        return lambda pid: compare(pid, limit)

    def check(pid: int) -> bool:
        if name == "SESSION":
            row = backend.row(pid)
            return row is not None and compare(session_number(row), limit)
        usage = backend.usage(pid)
        return usage is not None and compare(usage[0 if name == "CPUTIME" else 1], limit)

    return check


def _fi_name(backend: Backend, name: str, pattern: str, *, wanted: bool) -> Check:
    folds = backend.folds_case or name == "WINDOWTITLE"
    values = _values(backend, name)
    asks_for_nothing = pattern.upper() == _UNKNOWN

    def check(pid: int) -> bool:
        found = values(pid)
        if not found and asks_for_nothing:
            return (backend.row(pid) is not None) is wanted
        return any(matches(pattern, v, folds_case=folds) for v in found) is wanted

    return check


def _values(backend: Backend, name: str) -> Callable[[int], list[str]]:
    """Return what reads the names of a process that a filter compares; none where it has none, or where they cannot be read."""

    def image(pid: int) -> list[str]:
        short = backend.short_name(pid)
        return [] if short is None else [backend.full_name(pid, short)]

    def user(pid: int) -> list[str]:
        owner = backend.owner(pid)
        if owner is None:
            return []
        full = backend.user_name(owner)
        return [
            full,
            full.rpartition("\\")[2],
            str(owner),
        ]  # `DOMAIN\user` on Windows, where the domain may be left out

    def session(pid: int) -> list[str]:
        row = backend.row(pid)
        session_name = backend.session_name(row) if row is not None else ""
        return [session_name] if session_name else []

    readers: dict[str, Callable[[int], list[str]]] = {
        "IMAGENAME": image,
        "USERNAME": user,
        "SESSIONNAME": session,
        "MODULES": lambda pid: [module_name(m) for m in backend.modules(pid)],
        "SERVICES": lambda pid: list(backend.services(pid)),
        "WINDOWTITLE": lambda pid: list(backend.titles(pid)),
    }
    return readers[name]


def module_name(path: str) -> str:
    """Return the file name of a mapped file."""
    return path.rpartition("\\")[2] if ":\\" in path else path.rpartition("/")[2]


def _require_titles(backend: Backend, pattern: str, text: str) -> None:
    """Refuse a filter by titles where there are none.

    Raises:
        TargetError: The system has none that we can read.
        OsCallError: It has, and we may not list them.
    """
    try:
        backend.title_owners(pattern)
    except TargetError as exc:
        raise TargetError(
            f"the filter `{text}` asks for window titles, which {backend.name} processes do not have",
            hint="use `--cmdline`",
        ) from exc


def _knows_responding(backend: Backend) -> bool:
    """Return whether the system can tell whether a program responds: it can where we can list its windows."""
    try:
        backend.title_owners("")
    except (TargetError, OsCallError):
        return False
    return True


def _fi_status(backend: Backend, value: str, text: str, *, wanted: bool) -> Check:
    status = _STATUSES.get(" ".join(value.upper().split()))
    if status is None:
        raise TargetError(f"`{value}` in the filter `{text}` is not a status", hint=f"known are {', '.join(_STATUSES)}")
    accepted = {status}
    if not _knows_responding(backend):
        if status in ("not-responding", "unknown"):
            raise TargetError(
                f"the filter `{text}` asks whether a program responds, which nobody can tell here",
                hint="`STATUS eq RUNNING` is true for every process that has not exited, `SUSPENDED` for a stopped one",
            )
        if status == "running":
            accepted.add("suspended")  # it has not exited, which is all that can be asked here
    return lambda pid: (backend.status(pid) in accepted) is wanted


def matches(pattern: str, name: str, *, folds_case: bool = False) -> bool:
    """Return whether *name* fits *pattern*, in which `*` stands for any text and `?` for one character."""
    if folds_case:
        pattern, name = pattern.lower(), name.lower()
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    # Greedy matching with one point to go back to: linear for every pattern, unlike a regular expression.
    p = n = 0
    star = -1
    mark = 0
    while n < len(name):
        if p < len(pattern) and (pattern[p] == "?" or (pattern[p] == name[n] and pattern[p] != "*")):
            p += 1
            n += 1
        elif p < len(pattern) and pattern[p] == "*":
            star, mark = p, n
            p += 1
        elif star >= 0:
            mark += 1
            p, n = star + 1, mark
        else:
            return False
    return not pattern[p:].strip("*")
