"""The one table of verbs and options, and what a command line is made of.

The same table feeds the parser, `--help`, the reference in the documentation, shell completion and the hints of errors, so that they cannot disagree.
Decision: plain records instead of `argparse`, whose import costs 8 ms of a command that should take 20 (measured, CPython 3.11).
"""

from __future__ import annotations

from endtask._record import Record

FILTERS = "filters: narrow every WHAT"
PLAN = "how to ask"
SCOPE = "which processes belong to it"
ANSWER = "what counts as success, and questions"
OUTPUT = "output"
GROUPS = (FILTERS, PLAN, SCOPE, ANSWER, OUTPUT)

_FINDING = ("stop", "look", "plan", "wait", "why", "find")
_ACTING = ("stop", "plan", "wait")
_ASKING = ("stop", "plan", "run")
_SCOPED = ("stop", "look", "plan", "wait", "why")


class Option(Record):
    """One option.

    Attributes:
        flags: How it is written; the last one is the long form.
        text: What it does, for the help.
        group: Heading in the help.
        verbs: Which verbs have it.
        value: Name of its value in the help; empty for a switch.
        kind: What the value is: `text`, `duration`, `number`, `file`, `directory`, `user`.
        many: Whether it may be given several times and all of them count; otherwise the last one does.
        excludes: Options of the same such word cannot be given together.
    """

    flags: tuple[str, ...]
    text: str
    group: str
    verbs: tuple[str, ...]
    value: str = ""
    kind: str = "text"
    many: bool = False
    excludes: str = ""

    @property
    def name(self) -> str:
        """The long form without its dashes: the name under which `Parsed` keeps it."""
        return self.flags[-1][2:]


class Verb(Record):
    """One verb.

    Attributes:
        name: As it is typed.
        words: What it takes besides options: `what`, `command`, `name` (one word out of `choices`), `slashes` (options as Windows writes them, read by the verb itself), or empty for nothing.
        summary: One line for the list of verbs.
        about: More, for its own help.
        choices: For `name`.
        examples: Command lines for its own help.
        windows_examples: The same for Windows, where those would not work or mean little there.
        syntax: The rest of the usage line, where it is not that of the options and `words`.
    """

    name: str
    words: str
    summary: str
    about: str = ""
    choices: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    windows_examples: tuple[str, ...] = ()
    syntax: str = ""

    @property
    def usage(self) -> str:
        """The usage line."""
        if self.syntax:
            return f"endtask {self.name} {self.syntax}"
        words = {"what": "WHAT...", "command": "-- COMMAND [ARGUMENT...]", "name": "NAME"}.get(self.words, "")
        options = "[options]" if any(self.name in o.verbs for o in OPTIONS) else ""
        return " ".join(w for w in ("endtask", self.name, options, words) if w)


VERBS: tuple[Verb, ...] = (
    Verb(
        "stop",
        "what",
        "ask, wait, prove",
        "Asks every process in scope by the plan (TERM, unless told otherwise; on Windows whatever each process can hear, the politest first), waits until the kernel says that it has exited, and shows that nothing is left.\n"
        "Nothing is forced unless `--now`, `--force-after` or a plan with KILL says so.",
        examples=("endtask stop :3000", "endtask stop nginx -t 30s", "endtask stop 4711 --force-after 5s"),
        windows_examples=("endtask stop :3000", "endtask stop notepad -t 30s", "endtask stop 4711 --force-after 5s"),
    ),
    Verb(
        "look",
        "what",
        "how would it answer? No request is sent",
        "Reads signal masks, state, tree and managers, and says what TERM, INT, HUP, QUIT and KILL would do; on Windows windows, console, services and rights, and what it can hear. `-q` prints `pid:token name` lines only.",
        examples=("endtask look :3000", 'endtask look "py*" --user ana'),
    ),
    Verb(
        "plan",
        "what",
        "what a stop with the same options would do (stop --dry-run)",
        "Finds the same processes as `stop` with the same options, and sends nothing.",
        examples=("endtask plan nginx --plan TERM/10/INT/5", "endtask plan :3000 --json"),
        windows_examples=("endtask plan notepad --plan wm-close/10/ctrl-c/5", "endtask plan :3000 --json"),
    ),
    Verb(
        "wait",
        "what",
        "only wait and prove",
        "Sends nothing; waits until everything in scope has exited or the budget is spent.",
        examples=("endtask wait 4711 -t 1m",),
    ),
    Verb(
        "why",
        "what",
        "why is it (still) there?",
        "Says what keeps a process: an ignored or blocked request, a stop, a tracer, a frozen cgroup, a kernel call, a parent that does not reap, a manager that restarts it;"
        " on Windows a dialog, a window that does not answer, suspended threads, a service, a border of rights.",
        examples=("endtask why 4711",),
    ),
    Verb(
        "find",
        "what",
        "print `pid:token name` of what matches, nothing else",
        "One line for each process. The pid with its token can be given to every verb, and is refused when the pid belongs to another process by then.",
        examples=('endtask find "py*" --older 1h | endtask stop -',),
    ),
    Verb(
        "run",
        "command",
        "own the tree of a command, stop it by a plan",
        "Starts COMMAND and waits for it. When it ends, or when endtask itself is asked to stop (INT, TERM, HUP; on Windows by its console or its stop event),"
        " everything that it started is asked (by TERM; on Windows as `stop` asks),"
        " and forced afterwards if `--force-after`, `--now` or the plan says so. All times count from then on: nothing bounds the command itself."
        " What endtask has to say goes to standard error.\n"
        "The exit code is that of a stop that failed, else the command's own (128 and the signal's number if one ended it, 127 if there is no such command), else 10 if force was needed.",
        examples=(
            "endtask run --force-after 10s -- make test",
            "endtask run --report shutdown.xml -- pytest tests/e2e",
        ),
        windows_examples=(
            "endtask run --force-after 10s -- python -m pytest",
            "endtask run --report shutdown.xml -- cmd /c build.cmd",
        ),
    ),
    Verb(
        "taskkill",
        "slashes",
        "the old Windows flags, true answers",
        "Asks processes to stop, waits, and says SUCCESS only of what the system says has exited. Everything that matches is meant.\n"
        "Without /F nothing is forced. endtask itself, its ancestors and what the system cannot live without are never selected.",
        examples=(
            "endtask taskkill /IM notepad.exe",
            "endtask taskkill /PID 4711 /T /W 30",
            'endtask taskkill /F /FI "IMAGENAME eq worker*" /FI "CPUTIME gt 01:00:00"',
        ),
        syntax="[/FI FILTER]... {/PID PID... | /IM NAME...} [/T] [/F] [/W TIME]",
    ),
    Verb(
        "tasklist",
        "slashes",
        "the list of processes in the forms of Windows",
        "N/A stands for what is not there or may not be read.",
        examples=(
            "endtask tasklist /V /FO CSV",
            'endtask tasklist /SVC /FI "USERNAME eq root"',
            "endtask tasklist /M libssl*",
        ),
        syntax="[/M [MODULE] | /SVC | /V] [/APPS] [/FI FILTER]... [/FO TABLE|LIST|CSV] [/NH]",
    ),
    Verb(
        "demo",
        "",
        "start sample programs, stop and explain them live",
        "Uses only programs that it starts itself, and ends them all, with proof. Takes about half a minute.",
    ),
    Verb(
        "schema",
        "name",
        "print the JSON Schema of a document",
        choices=("report", "look", "plan", "why", "event"),
        examples=("endtask schema report",),
    ),
    Verb(
        "completion",
        "name",
        "print the completion script for a shell",
        choices=("bash", "zsh", "fish"),
        examples=(
            'eval "$(endtask completion bash)"',
            "endtask completion fish > ~/.config/fish/completions/endtask.fish",
        ),
    ),
    Verb("version", "", "print the version"),
)

OPTIONS: tuple[Option, ...] = (
    Option(("--user",), "owned by that user (name or number)", FILTERS, _FINDING, "USER", "user"),
    Option(("--cmdline",), "regular expression found in the command line", FILTERS, _FINDING, "REGEX"),
    Option(("--cwd",), "in that working directory", FILTERS, _FINDING, "DIR", "directory"),
    Option(("--older",), "started at least that long ago", FILTERS, _FINDING, "TIME", "duration"),
    Option(("--newer",), "started at most that long ago", FILTERS, _FINDING, "TIME", "duration"),
    Option(("--session",), "in that session; on Windows the session of a log-on", FILTERS, _FINDING, "ID", "number"),
    Option(("--parent",), "direct children of that pid", FILTERS, _FINDING, "PID", "number"),
    Option(
        ("--fi",),
        "a filter of taskkill, such as `IMAGENAME eq nginx*`; may be repeated",
        FILTERS,
        _FINDING,
        "FILTER",
        many=True,
    ),
    Option(
        ("-t", "--timeout"),
        "whole budget: 500ms, 10s, 2m, 1h; a plain number is seconds; default 10s, or what the plan needs",
        PLAN,
        (*_ACTING, "run"),
        "TIME",
        "duration",
    ),
    Option(
        ("--plan",),
        "requests and the seconds to wait for each, such as `TERM/10/INT/5` or, on Windows, `wm-close/10/ctrl-c/5`; also `ask`, `channel`, `stdin:q` and `cmd:...`",
        PLAN,
        _ASKING,
        "STEPS",
    ),
    Option(("--force-after",), "force what is left after that time", PLAN, _ASKING, "TIME", "duration"),
    Option(("--now",), "force at once", PLAN, _ASKING),
    Option(
        ("--extend",),
        "add at most that much altogether when an application asks for more time; default 0: the budget is kept",
        PLAN,
        _ASKING,
        "TIME",
        "duration",
    ),
    Option(("--reason",), "why, told to an application that has a receiver", PLAN, _ASKING, "TEXT"),
    Option(
        ("--unattended",),
        "Windows: nobody sits at the screen, so an open dialog does not end the asking",
        PLAN,
        _ASKING,
    ),
    Option(("--no-inject",), "Windows: start no thread in another program to ask it", PLAN, _ASKING),
    Option(("--console-wide",), "Windows: console events may hit others on the same console", PLAN, _ASKING),
    Option(("--dependents",), "Windows: stop the services that depend on a service before it", PLAN, _ASKING),
    Option(("-T", "--tree"), "with everything it owns (default)", SCOPE, _SCOPED, excludes="scope"),
    Option(("--only",), "only that process", SCOPE, _SCOPED, excludes="scope"),
    Option(("--group",), "its process group; not on Windows", SCOPE, _SCOPED, excludes="scope"),
    Option(("--session-of",), "its session; not on Windows", SCOPE, _SCOPED, excludes="scope"),
    Option(("--cgroup",), "its cgroup and all below; not on Windows", SCOPE, _SCOPED, excludes="scope"),
    Option(("--keep",), "leave these members of the scope alone; may be repeated", SCOPE, _ACTING, "WHAT", many=True),
    Option(
        ("--watch",),
        "after the end, watch that long for a respawn; default: as the facts call for",
        ANSWER,
        _ACTING,
        "TIME",
        "duration",
    ),
    Option(("--missing-ok",), "nothing to stop is success", ANSWER, _ACTING),
    Option(("--force-ok",), "a forced end is success", ANSWER, (*_ACTING, "run")),
    Option(("--all",), "one word may mean several independent programs", ANSWER, _ACTING),
    Option(("-y", "--yes"), "ask no questions", ANSWER, _ACTING),
    Option(("--dry-run",), "say what would be done: the same as `plan`", ANSWER, ("stop",)),
    Option(("--json",), "one JSON document", OUTPUT, _SCOPED, excludes="format"),
    Option(
        ("--jsonl",),
        "one JSON event a line as it happens, the report last",
        OUTPUT,
        ("stop", "wait"),
        excludes="format",
    ),
    Option(("-q", "--quiet"), "nothing but errors", OUTPUT, (*_SCOPED, "run")),
    Option(("-v", "--verbose"), "with mechanisms, evidence and every process", OUTPUT, (*_SCOPED, "run")),
    Option(
        ("--report",),
        "write the report there too: .xml JUnit, .md Markdown, .json JSON; may be repeated",
        OUTPUT,
        ("stop", "wait", "run"),
        "FILE",
        "file",
        many=True,
    ),
)
HELP_FLAGS = ("-h", "--help")
VERSION_FLAGS = ("-V", "--version")

# An example value for each option, for hints.
EXAMPLES = {
    "user": "ana",
    "cmdline": '"manage.py runserver"',
    "command": "make test",
    "cwd": "/srv/app",
    "older": "10m",
    "newer": "10m",
    "session": "4711",
    "parent": "4711",
    "fi": '"IMAGENAME eq nginx*"',
    "timeout": "10s",
    "plan": "TERM/10/INT/5",
    "force-after": "10s",
    "extend": "30s",
    "reason": "'deploy 12'",
    "keep": "4711",
    "watch": "2s",
    "report": "report.xml",
}
_WINDOWS_EXAMPLES = {"command": "python -m pytest", "cwd": r"C:\srv\app", "plan": "wm-close/10/ctrl-c/5"}


def example(name: str) -> str:
    """Return an example value for an option on this system, empty if there is none."""
    from endtask._requests import HAS_SIGNALS

    return ("" if HAS_SIGNALS else _WINDOWS_EXAMPLES.get(name, "")) or EXAMPLES.get(name, "")


def examples_of(verb: Verb) -> tuple[str, ...]:
    """Return the command lines that show a verb on this system."""
    from endtask._requests import HAS_SIGNALS

    return verb.examples if HAS_SIGNALS else verb.windows_examples or verb.examples


class Parsed(Record):
    """A command line, understood as far as grammar goes.

    Attributes:
        verb: Name of the verb; `help` and `version` for the flags of that name.
        words: What it is to act on.
        given: Pairs of option name and value in the order they were given; a switch has an empty value.
    """

    verb: str
    words: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()

    def has(self, name: str) -> bool:
        """Return whether the option was given."""
        return any(n == name for n, _ in self.given)

    def text(self, name: str) -> str | None:
        """Return the value of an option (the last one counts), None if it was not given."""
        for given, value in reversed(self.given):
            if given == name:
                return value
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all values of an option that may be repeated."""
        return tuple(v for n, v in self.given if n == name)


def verb_named(name: str) -> Verb | None:
    """Return the verb of that name, None if there is none."""
    for verb in VERBS:
        if verb.name == name:
            return verb
    return None


def options_of(verb: str) -> tuple[Option, ...]:
    """Return the options of a verb in the order of the table."""
    return tuple(o for o in OPTIONS if verb in o.verbs)


def to_argv(parsed: Parsed) -> list[str]:
    """Return arguments that parse to *parsed* again."""
    verb = verb_named(parsed.verb)
    if verb is None:
        return ["--help", *parsed.words]
    if verb.words == "slashes":
        return [parsed.verb, *parsed.words]
    argv = [parsed.verb]
    for name, value in parsed.given:
        argv.append(f"--{name}={value}" if value else f"--{name}")
    # `--` only where it is needed: it is also what a reader sees in the demonstration.
    if verb.words == "command" or any(w.startswith("-") and w != "-" for w in parsed.words):
        argv.append("--")
    return [*argv, *parsed.words]


def schema_name(word: str) -> str:
    """Return `report` for `report`, `report/1` and `endtask.report/1`."""
    return word.removeprefix("endtask.").removesuffix("/1")
