"""`--help`, and the command line reference of the documentation: both from the table of options.

The tables of WHAT and of the exit codes stand here, because nothing but the help needs them.
"""

from __future__ import annotations

from endtask.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.cli.options import Option, Verb

_WIDTH = 100

WHAT: tuple[tuple[str, str], ...] = (
    ("1234", "pid"),
    (
        "1234:5678",
        "pid and identity token, as `find` and `--json` print it; refused if the pid belongs to another process by now",
    ),
    ('nginx, "py*"', "process name: the whole name, `*` and `?` are wild"),
    (":3000, udp:53", "who listens on that port"),
    ("file:PATH", "who holds the file open"),
    ("pidfile:PATH", "the pid in the file, refused if that process started after the file was written"),
    ("win:TITLE", "who has a visible window with that title, `*` and `?` are wild (Windows)"),
    ("-", "targets on standard input, one a line"),
)
EXIT_CODES: tuple[tuple[int, str], ...] = (
    (3, "internal fault, or it cannot be proved either way"),
    (2, "usage"),
    (77, "not permitted, or no way to ask"),
    (124, "the budget is spent and something still runs"),
    (130, "interrupted: Ctrl+C, or TERM or HUP to endtask itself"),
    (11, "stopped, but it came back"),
    (10, "stopped, force was needed (`--force-ok` makes it 0)"),
    (1, "nothing matched (`--missing-ok` makes it 0)"),
    (0, "all gone, asked politely, shown"),
)
ENVIRONMENT: tuple[tuple[str, str], ...] = (
    ("NO_COLOR", "no colour, if it is not empty"),
    ("ENDTASK_DEBUG", "a fault of endtask itself shows its traceback"),
)


def help_text(verb: str = "") -> str:
    """Return the help of a verb, or of the whole command for an empty name."""
    found = options.verb_named(verb)
    return _overview() if found is None else _verb_help(found)


def _overview() -> str:
    lines = [
        "endtask: ask any process to stop, and know that it did",
        "",
        "usage: endtask VERB [options] WHAT...",
        "",
        "verbs",
    ]
    lines += _columns([(v.name, v.summary) for v in options.VERBS])
    lines += ["", "WHAT", *_columns(list(WHAT))]
    lines += ["", "exit codes, the highest in this order wins", *_columns([(str(c), t) for c, t in EXIT_CODES])]
    lines += ["", "environment", *_columns(list(ENVIRONMENT))]
    lines += ["", "`endtask VERB --help` lists the options of a verb"]
    return "\n".join(lines) + "\n"


def _verb_help(verb: Verb) -> str:
    lines = [f"endtask {verb.name}: {verb.summary}", "", f"usage: {verb.usage}"]
    for paragraph in verb.about.split("\n") if verb.about else ():
        lines += ["", *_wrapped(paragraph, "")]
    if verb.words == "what":
        lines += ["", "WHAT", *_columns(list(WHAT))]
    if verb.words == "slashes":
        from endtask.cli.slash_help import sections

        for heading, rows in sections(verb.name):
            lines += ["", heading, *_columns(rows)]
    if verb.choices:
        lines += ["", f"NAME: {', '.join(verb.choices)}"]
    mine = options.options_of(verb.name)
    for group in options.GROUPS:
        rows = [(spelled(o), o.text) for o in mine if o.group == group]
        if rows:
            lines += ["", group, *_columns(rows)]
    if verb.examples:
        lines += ["", "examples", *(f"  {e}" for e in options.examples_of(verb))]
    return "\n".join(lines) + "\n"


def spelled(option: Option) -> str:
    """Return `-t, --timeout TIME`."""
    flags = ", ".join(option.flags)
    return f"{flags} {option.value}" if option.value else flags


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = min(max(len(left) for left, _ in rows), 24)
    lines = []
    for left, right in rows:
        wrapped = _wrapped(right, " " * (width + 4))
        lines.append(f"  {left:<{width}}  {wrapped[0].lstrip()}")
        lines += wrapped[1:]
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [indent]


# --------------------------------------------------------------------------- the documentation


def reference() -> str:
    """Return the command line reference as Markdown, for the documentation."""
    lines = ["## WHAT", "", "| form | meaning |", "|---|---|"]
    lines += [f"| {_code_list(form)} | {_cell(text)} |" for form, text in WHAT]
    lines += ["", "## Verbs"]
    for verb in options.VERBS:
        lines += _verb_reference(verb)
    lines += ["", "## Exit codes", "", "The highest in this order wins.", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {_cell(text)} |" for code, text in EXIT_CODES]
    lines += ["", "## Environment", "", "| variable | effect |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in ENVIRONMENT]
    return "\n".join(lines) + "\n"


def _verb_reference(verb: Verb) -> list[str]:
    lines = [
        "",
        f"### endtask {verb.name}",
        "",
        f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        "",
        "```text",
        verb.usage,
        "```",
    ]
    for paragraph in verb.about.split("\n") if verb.about else ():
        lines += ["", paragraph]
    if verb.words == "slashes":
        from endtask.cli.slash_help import sections

        for heading, rows in sections(verb.name):
            lines += ["", f"| {heading} | |", "|---|---|", *(f"| `{left}` | {_cell(text)} |" for left, text in rows)]
    if verb.choices:
        lines += ["", "NAME is one of " + ", ".join(f"`{c}`" for c in verb.choices) + "."]
    mine = options.options_of(verb.name)
    if mine:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{spelled(o)}` | {_cell(o.text)} |" for group in options.GROUPS for o in mine if o.group == group]
    if verb.examples:
        lines += ["", "```shell", *verb.examples, "```"]
    if verb.windows_examples:
        lines += ["", "On Windows:", "", "```bat", *verb.windows_examples, "```"]
    return lines


def _code_list(form: str) -> str:
    return ", ".join(f"`{part}`" for part in form.split(", "))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
