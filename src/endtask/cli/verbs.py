"""The verbs that concern foreign processes: arguments -> library -> words or JSON -> exit code.

Each is a thin line from the parsed command to one function of the library; what is said lies in `render` and `describe`.
"""

from __future__ import annotations

import os

from endtask.cli import arguments
from endtask.errors import AmbiguousError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from endtask.cli.console import Console, Line
    from endtask.cli.options import Parsed
    from endtask.model import Event, Explanation, Filter, Looked, Missing, Planning, Policy, Report

    Listener = Callable[[Event], None]
    Result = TypeVar("Result")

FAULT = 3


# --------------------------------------------------------------------------- stop and wait


def stop(parsed: Parsed, console: Console) -> int:
    """`endtask stop` and `endtask wait`: the report's exit code."""
    policy = arguments.policy(parsed)
    filters = arguments.filters(parsed)
    words = arguments.wanted(parsed, arguments.read_standard_input)
    paths = parsed.texts("report")
    if not paths:
        return tell_report(parsed, _run(parsed, console, words, filters, policy), console)
    from endtask.cli.report_files import ReportFiles

    files = ReportFiles(paths)
    try:
        report = _run(parsed, console, words, filters, policy)
        code = tell_report(parsed, report, console)
        faults = files.write(report, parsed.verb)
    finally:
        files.close()
    for fault in faults:
        console.complain(fault)
    return FAULT if faults else code


def _run(parsed: Parsed, console: Console, words: tuple[str, ...], filters: Filter, policy: Policy) -> Report:
    if not words:
        from endtask.model import Report

        return Report((), (_nothing_given(),), missing_ok=policy.missing_ok, force_ok=policy.force_ok)
    from endtask import _api

    act = _api.wait if parsed.verb == "wait" else _api.stop
    listener, close = _listener(parsed, console, policy)

    def once(words: tuple[str, ...], policy: Policy) -> Report:
        return act(words, filters, policy, keep=parsed.texts("keep"), on_event=listener)

    try:
        return _confirmed(parsed, console, words, policy, once)
    finally:
        close()


def _nothing_given() -> Missing:
    from endtask.model import Missing

    return Missing("-", "standard input names no target")


def _confirmed(
    parsed: Parsed,
    console: Console,
    words: tuple[str, ...],
    policy: Policy,
    act: Callable[[tuple[str, ...], Policy], Result],
) -> Result:
    """Do it; where a word means several programs, ask the person at the terminal.

    What is done after a yes concerns exactly the processes that were shown: the word is replaced by their identities.

    Raises:
        AmbiguousError: There is nobody to ask.
        RefusedError: The answer was no.
    """
    while True:
        try:
            return act(words, policy)
        except AmbiguousError as error:
            console.err.lines([f"  {line}" for line in error.matches])
            if parsed.has("yes") or not console.may_ask:
                raise
            if not _agrees(parsed.verb, len(error.matches), console):
                raise RefusedError("nothing was done: the answer was no", hint=error.hint) from error
            exact = _exactly(words, error)
            if exact == words:
                from endtask._record import replace

                policy = replace(policy, all=True)
            words = exact


def _exactly(words: tuple[str, ...], error: AmbiguousError) -> tuple[str, ...]:
    """Return the words with the ambiguous one replaced by the identities that were shown; unchanged for a port, whose end is to be proved too."""
    refs = [line.split(" ", 1)[0] for line in error.matches]
    for index, word in enumerate(words):
        if error.message.startswith(f"`{word}` ") and ":" not in word and all(":" in r for r in refs):
            return (*words[:index], *refs, *words[index + 1 :])
    return words


def _agrees(verb: str, count: int, console: Console) -> bool:
    question = {"plan": "plan for", "wait": "wait for"}.get(verb, "stop")
    console.err.raw(f"{question} all {count}? [y/N] ")
    console.err.finish()
    try:
        answer = os.read(0, 1024)  # a terminal gives a line at a time (termios(3), canonical mode)
    except KeyboardInterrupt:
        console.err.raw("\n")
        raise
    if not answer:
        console.err.raw("\n")
    return answer.strip().lower() in (b"y", b"yes")


def _listener(parsed: Parsed, console: Console, policy: Policy) -> tuple[Listener | None, Callable[[], None]]:
    """Return who is told of events, and what to call when the run is over."""
    data = parsed.has("json") or parsed.has("jsonl")
    if parsed.has("jsonl"):
        return _json_lines(console), _nothing
    if parsed.has("quiet"):
        return None, _nothing
    on_terminal = console.err.tty if data else console.out.tty or console.err.tty
    if on_terminal and not (data and console.out.tty):
        from endtask.cli.live import LiveView

        view = LiveView(console, policy.budget_s, lines=not data, verbose=parsed.has("verbose"))
        return view, view.close
    return (None if data else _plain_lines(parsed, console)), _nothing


def _nothing() -> None:
    """There is nothing to close."""


def _plain_lines(parsed: Parsed, console: Console) -> Listener:
    from endtask.cli.render import EventLines

    chosen = EventLines(verbose=parsed.has("verbose"))

    def tell(event: Event) -> None:
        line = chosen.line(event)
        if line is not None:
            console.out.line(line)

    return tell


def _json_lines(console: Console) -> Listener:
    import json

    from endtask.model import EVENT_SCHEMA, document

    def tell(event: Event) -> None:
        console.out.raw(json.dumps({"schema": EVENT_SCHEMA, **document(event)}) + "\n")

    return tell


def tell_report(parsed: Parsed, report: Report, console: Console) -> int:
    """Write a report the way the options ask for, and return its exit code."""
    if parsed.has("json") or parsed.has("jsonl"):
        _write_json(report.to_json(), console, one_line=parsed.has("jsonl"))
        return report.exit_code
    quiet = parsed.has("quiet")
    if not quiet:
        from endtask.cli.render import report_lines

        console.out.lines(report_lines(report, verbose=parsed.has("verbose"), verb=parsed.verb))
    _tell_missing(report.missing, console, fine=report.missing_ok, quiet=quiet)
    return report.exit_code


def _tell_missing(missing: Sequence[Missing], console: Console, *, fine: bool, quiet: bool) -> None:
    """Say what matched nothing: data where that is fine, an error where it is not."""
    if not missing:
        return
    from endtask.cli.render import missing_lines

    for entry, line in zip(missing, missing_lines(missing), strict=True):
        if not fine or entry.code == "not-permitted":
            console.complain(line)
        elif not quiet:
            console.out.line(f"nothing to stop: {line}")


def _write_json(data: dict[str, object], console: Console, *, one_line: bool = False) -> None:
    import json

    # ASCII only: nothing in a name can reach a terminal as a control character.
    console.out.raw(json.dumps(data, indent=None if one_line else 2) + "\n")


# --------------------------------------------------------------------------- the verbs that only look


def plan(parsed: Parsed, console: Console) -> int:
    """`endtask plan` and `endtask stop --dry-run`."""
    policy = arguments.policy(parsed)
    filters = arguments.filters(parsed)
    words = arguments.wanted(parsed, arguments.read_standard_input)

    def once(words: tuple[str, ...], policy: Policy) -> Planning:
        from endtask import _api

        return _api.plan(words, filters, policy, keep=parsed.texts("keep"))

    if words:
        planning = _confirmed(parsed, console, words, policy, once)
    else:
        from endtask.model import Planning

        planning = Planning((), (_nothing_given(),), policy.missing_ok)

    def lines() -> list[Line]:
        from endtask.cli.describe import plan_lines

        return plan_lines(planning, verbose=parsed.has("verbose"))

    return _answer(parsed, planning, lines, console, fine=policy.missing_ok)


def look(parsed: Parsed, console: Console) -> int:
    """`endtask look`."""
    if parsed.has("quiet"):
        return find(parsed, console)
    words = arguments.wanted(parsed, arguments.read_standard_input)
    if words:
        from endtask import _api

        looked = _api.look(words, arguments.filters(parsed), scope=arguments.scope(parsed))
    else:
        from endtask.model import Looked

        looked = Looked((), (_nothing_given(),))

    def lines() -> list[Line]:
        from endtask.cli.describe import look_lines

        return look_lines(looked, verbose=parsed.has("verbose"))

    return _answer(parsed, looked, lines, console)


def why(parsed: Parsed, console: Console) -> int:
    """`endtask why`."""
    words = arguments.wanted(parsed, arguments.read_standard_input)
    if words:
        from endtask import _api

        explanation = _api.why(words, arguments.filters(parsed), scope=arguments.scope(parsed))
    else:
        from endtask.model import Explanation

        explanation = Explanation((), (_nothing_given(),))

    def lines() -> list[Line]:
        from endtask.cli.describe import why_lines

        return why_lines(explanation, verbose=parsed.has("verbose"))

    return _answer(parsed, explanation, lines, console)


def find(parsed: Parsed, console: Console) -> int:
    """`endtask find` and `endtask look -q`: `pid:token name` lines."""
    from endtask import _find  # and not `_api`, which loads all that a stop needs
    from endtask._backends import default_backend
    from endtask.errors import NothingMatchedError

    words = arguments.wanted(parsed, arguments.read_standard_input)
    if not words:
        raise NothingMatchedError(_nothing_given().text)
    found = _find.find(default_backend(), words, arguments.filters(parsed))
    console.out.lines([f"{ref} {name}".rstrip() for ref, name in found])
    return 0


def _answer(
    parsed: Parsed,
    answer: Looked | Planning | Explanation,
    lines: Callable[[], list[Line]],
    console: Console,
    *,
    fine: bool = False,
) -> int:
    """Write an answer as JSON or in words, and return its exit code."""
    if parsed.has("json"):
        _write_json(answer.to_json(), console)
        return answer.exit_code
    quiet = parsed.has("quiet")
    if not quiet:
        console.out.lines(lines())
    _tell_missing(answer.missing, console, fine=fine, quiet=quiet)
    return answer.exit_code
