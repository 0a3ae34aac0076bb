"""Parsed arguments -> what the library is asked for: WHAT, `Filter`, `Scope`, `Policy`.

Decision: apart from the parser, which knows only grammar, and from `main`, which only carries out; so each of the three can be read and tested alone.
"""

from __future__ import annotations

from endtask.errors import UsageError
from endtask.model import Filter, Policy, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask.cli.options import Parsed
    from endtask.model import ScopeKind

_LONGEST_INPUT = (
    1 << 20
)  # bytes of targets on standard input; 64,000 refs fit, and a stray binary does not fill the memory
_SCOPES: tuple[tuple[str, ScopeKind], ...] = (
    ("only", "only"),
    ("group", "group"),
    ("session-of", "session"),
    ("cgroup", "cgroup"),
)


def wanted(parsed: Parsed, read_stdin: Callable[[], bytes]) -> tuple[str, ...]:
    """Return every WHAT, with `-` replaced by the lines of standard input.

    Args:
        parsed: The command line.
        read_stdin: Reads standard input to its end; called at most once.
    """
    if "-" not in parsed.words:
        return parsed.words
    what: list[str] = []
    done = False
    for word in parsed.words:
        if word != "-":
            what.append(word)
        elif not done:
            done = True
            what += lines_of(read_stdin())
    return tuple(what)


def lines_of(data: bytes) -> list[str]:
    """Return the targets in *data*, one a line; of a line of `endtask find` (`pid:token name`) the ref only.

    Raises:
        UsageError: It is no list of targets.
    """
    import os

    if len(data) > _LONGEST_INPUT or b"\0" in data:
        raise UsageError("standard input is not a list of targets", hint="one target a line, at most 1 MiB of them")
    what = []
    for line in data.splitlines():
        text = os.fsdecode(line.strip())
        first, _, _name = text.partition(" ")
        pid, colon, token = first.partition(":")
        is_ref = colon and pid.isdigit() and token.isalnum()
        if text:
            what.append(first if is_ref else text)
    return what


def read_standard_input() -> bytes:
    """Return standard input, one byte more than allowed at most."""
    import os

    data = bytearray()
    while len(data) <= _LONGEST_INPUT:
        piece = os.read(0, 65536)
        if not piece:
            break
        data += piece
    return bytes(data)


def filters(parsed: Parsed) -> Filter:
    """Return the filters.

    Raises:
        PlanError: An age cannot be read.
    """
    if not parsed.given:
        return Filter()
    session, parent = parsed.text("session"), parsed.text("parent")
    return Filter(
        user=parsed.text("user") or "",
        cmdline=parsed.text("cmdline") or "",
        cwd=parsed.text("cwd") or "",
        older_s=_seconds(parsed, "older"),
        newer_s=_seconds(parsed, "newer"),
        session=int(session) if session else None,
        parent=int(parent) if parent else None,
        fi=parsed.texts("fi"),
    )


def scope(parsed: Parsed) -> Scope:
    """Return the scope; `keep` is resolved by the library."""
    for name, kind in _SCOPES:
        if parsed.has(name):
            return Scope(kind)
    return Scope()


def policy(parsed: Parsed) -> Policy:
    """Return how a stop is to be carried out; without steps for `wait`.

    Raises:
        PlanError: The options contradict each other, or a text cannot be read.
    """
    from endtask._plan import DEFAULT_BUDGET_S, make_policy

    if parsed.verb == "wait":
        timeout_s = _seconds(parsed, "timeout")
        return Policy(
            steps=(),
            budget_s=DEFAULT_BUDGET_S if timeout_s is None else timeout_s,
            scope=scope(parsed),
            watch_s=_seconds(parsed, "watch"),
            all=parsed.has("all"),
            missing_ok=parsed.has("missing-ok"),
            force_ok=parsed.has("force-ok"),
        )
    return make_policy(
        timeout_s=_seconds(parsed, "timeout"),
        plan=parsed.text("plan"),
        force_after_s=_seconds(parsed, "force-after"),
        now=parsed.has("now"),
        scope=scope(parsed),
        watch_s=_seconds(parsed, "watch"),
        all=parsed.has("all"),
        missing_ok=parsed.has("missing-ok"),
        force_ok=parsed.has("force-ok"),
        unattended=parsed.has("unattended"),
        inject=not parsed.has("no-inject"),
        console_wide=parsed.has("console-wide"),
        dependents=parsed.has("dependents"),
        extend_s=_seconds(parsed, "extend") or 0.0,
        reason=parsed.text("reason") or "",
    )


def _seconds(parsed: Parsed, name: str) -> float | None:
    text = parsed.text(name)
    if text is None:
        return None
    from endtask._plan import parse_duration

    return parse_duration(text)
