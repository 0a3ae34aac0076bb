"""Stage 1b: filters, which narrow every WHAT; taskkill's `/FI` language included.

Decision: the cheapest question is asked first and the next one only of those that passed, because most processes fail the first.
"""

from __future__ import annotations

from endtask.errors import TargetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.base import Backend
    from endtask.model import Filter

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
        cwd = wanted.cwd.rstrip("/") or "/"
        checks.append(lambda pid: backend.working_directory(pid) == cwd)
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
        return parent_fits and (wanted.session is None or row.sid == wanted.session)

    return check


def _by_age(backend: Backend, wanted: Filter) -> Check:
    def check(pid: int) -> bool:
        row = backend.row(pid)
        if row is None:
            return False
        age = backend.age_s(row)
        old_enough = wanted.older_s is None or age >= wanted.older_s
        return old_enough and (wanted.newer_s is None or age <= wanted.newer_s)

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
_FI_HINT = "taskkill's form is NAME OPERATOR VALUE, for example `IMAGENAME eq nginx*` or `MEMUSAGE gt 100000`"
_FI_NAMES = "IMAGENAME, PID, SESSION, USERNAME, CPUTIME, MEMUSAGE, MODULES, SERVICES, STATUS, WINDOWTITLE"


def _compile_fi(backend: Backend, text: str) -> Check:
    parts = text.split(None, 2)
    if len(parts) != 3:
        raise TargetError(f"`{text}` is not a filter", hint=_FI_HINT)
    name, operator, value = parts[0].upper(), parts[1].lower(), parts[2]
    if operator not in _OPERATORS:
        raise TargetError(f"`{parts[1]}` in the filter `{text}` is not an operator", hint="eq, ne, gt, lt, ge, le")
    if name in ("PID", "SESSION", "CPUTIME", "MEMUSAGE"):
        return _fi_number(backend, name, operator, value, text)
    if name in ("IMAGENAME", "USERNAME", "MODULES", "SERVICES"):
        if operator not in ("eq", "ne"):
            raise TargetError(f"the filter `{text}` compares a name: use `eq` or `ne`", hint=_FI_HINT)
        return _fi_name(backend, name, value, wanted=operator == "eq")
    if name == "STATUS":
        return _fi_status(backend, operator, value, text)
    if name == "WINDOWTITLE":
        raise TargetError(
            f"the filter `{text}` asks for window titles, which {backend.name} processes do not have",
            hint="use `--cmdline`",
        )
    raise TargetError(f"`{parts[0]}` in the filter `{text}` is not known", hint=f"known are {_FI_NAMES}")


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
            return row is not None and compare(row.sid, limit)
        usage = backend.usage(pid)
        return usage is not None and compare(usage[0 if name == "CPUTIME" else 1], limit)

    return check


def _fi_name(backend: Backend, name: str, pattern: str, *, wanted: bool) -> Check:
    def values(pid: int) -> list[str]:
        if name == "IMAGENAME":
            short = backend.short_name(pid)
            return [] if short is None else [backend.full_name(pid, short)]
        if name == "MODULES":
            return [m.rsplit("/", 1)[-1] for m in backend.modules(pid)]
        if name == "SERVICES":
            return [backend.cgroup(pid).rsplit("/", 1)[-1]]
        owner = backend.owner(pid)
        return [] if owner is None else [backend.user_name(owner), str(owner)]

    def check(pid: int) -> bool:
        return any(matches(pattern, v, folds_case=backend.folds_case) for v in values(pid)) is wanted

    return check


def _fi_status(backend: Backend, operator: str, value: str, text: str) -> Check:
    if value.upper() != "RUNNING" or operator not in ("eq", "ne"):
        raise TargetError(
            f"the filter `{text}` asks whether a program responds, which nobody can tell here",
            hint="`STATUS eq RUNNING` is true for every process that has not exited",
        )
    wanted = operator == "eq"

    def check(pid: int) -> bool:
        row = backend.row(pid)
        return (row is not None and row.state not in ("Z", "X")) is wanted

    return check


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
