"""Reads the arguments by the table of `options`: grammar only, no meaning.

The rules are few: `--opt value`, `--opt=value`, `-t5s`, `-t 5s`, switches may be put together (`-qy`), `--` ends the options, options may stand before and after the words.
No abbreviations: `--time` today would become another option when one with that beginning is added.
No empty values: `--user "$NAME"` with an unset variable must not mean "everybody".
"""

from __future__ import annotations

from endtask.cli.options import HELP_FLAGS, OPTIONS, VERBS, VERSION_FLAGS, Parsed, example, verb_named
from endtask.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from endtask.cli.options import Option, Verb

# What people bring along from other tools: a clear sentence instead of "unknown option". Pairs of message and hint.
_FORCE_HINT = "`--force-after 5s` forces what is left after 5 s, `--now` forces at once"
_REFUSED: dict[str, tuple[str, str]] = {
    "-f": (
        '`-f` is not taken, because people read it as both "force" and "full"',
        f"{_FORCE_HINT}; `--cmdline REGEX` searches the full command line",
    ),
    "--force": ("`--force` is not taken, because it does not say when", _FORCE_HINT),
    "--full": ("`--full` is not an option of endtask", "`--cmdline REGEX` searches the full command line"),
    "--kill": ("`--kill` is not an option of endtask", _FORCE_HINT),
    "-k": ("`-k` is not an option of endtask", _FORCE_HINT),
    "-s": ("`-s` is not an option of endtask", "`--plan TERM/10` names the request and how long to wait for it"),
    "--signal": (
        "`--signal` is not an option of endtask",
        "`--plan TERM/10` names the request and how long to wait for it",
    ),
    "-u": ("`-u` is not an option of endtask", "`--user USER`"),
    "-n": ("`-n` is not an option of endtask", "`--dry-run` says what would be done"),
}

# The verbs of other tools, and of those who have not read the help yet.
_OTHER_WORDS = {
    **dict.fromkeys(("kill", "pkill", "killall", "end", "quit", "close", "terminate", "exit"), "stop"),
    **dict.fromkeys(("ps", "pgrep", "list", "show", "pidof"), "find"),
    **dict.fromkeys(("status", "info", "inspect"), "look"),
}


def parse(argv: Sequence[str]) -> Parsed:
    """Parse the arguments after the program's name.

    Raises:
        UsageError: They make no sense; message and hint say why.
    """
    if not argv:
        names = ", ".join(v.name for v in VERBS[:5])
        raise UsageError(
            f"endtask needs to be told what to do: {names}, ...",
            hint="`endtask --help` lists it all, `endtask demo` shows it",
        )
    first = argv[0]
    if first in HELP_FLAGS or first == "help":
        return Parsed("help", _help_topic(argv[1:]))
    if first in VERSION_FLAGS:
        return Parsed("version")
    verb = verb_named(first)
    if verb is None:
        _refuse_verb(first)
    if verb.words == "slashes":
        return Parsed(verb.name, tuple(argv[1:]))
    return _Parser(verb, argv[1:]).parse()


class _Parser:
    """Reads the arguments of one verb."""

    def __init__(self, verb: Verb, argv: Sequence[str]) -> None:
        self.verb = verb
        self.rest = list(argv)
        self.position = 0
        self.words: list[str] = []
        self.given: list[tuple[str, str]] = []
        self.known = {flag: o for o in OPTIONS if verb.name in o.verbs for flag in o.flags}

    def parse(self) -> Parsed:
        while self.position < len(self.rest):
            word = self.rest[self.position]
            self.position += 1
            if word in HELP_FLAGS:
                return Parsed("help", (self.verb.name,))
            if word == "--":
                self._take_rest()
            elif not word.startswith("-") or word == "-":
                self.words.append(word)
                if self.verb.words == "command":
                    self._take_rest()  # the options that follow are the command's own
            elif word.startswith("--"):
                self._long(word)
            else:
                self._short(word)
        self._check()
        return Parsed(self.verb.name, tuple(self.words), tuple(self.given))

    def _take_rest(self) -> None:
        self.words += self.rest[self.position :]
        self.position = len(self.rest)

    def _long(self, word: str) -> None:
        flag, equals, value = word.partition("=")
        option = self.known.get(flag)
        if option is None:
            self._refuse_option(flag)
        if not option.value:
            if equals:
                raise UsageError(f"`{flag}` takes no value", hint=f"write `{flag}` alone")
            self._keep(option, flag, "")
        else:
            self._keep(option, flag, value if equals else self._next_value(option, flag))

    def _short(self, word: str) -> None:
        """Read `-t`, `-t5s`, `-qy` or `-qt5s`."""
        at = 1
        while at < len(word):
            flag = "-" + word[at]
            option = self.known.get(flag)
            if option is None:
                self._refuse_option(word, flag)
            at += 1
            if option.value:
                self._keep(option, flag, word[at:] or self._next_value(option, flag))
                return
            self._keep(option, flag, "")

    def _next_value(self, option: Option, flag: str) -> str:
        if self.position < len(self.rest):
            value = self.rest[self.position]
            # A value that is itself an option is a forgotten value far more often than meant; `--opt=value` says it is meant.
            if value.partition("=")[0] not in self.known and value != "--":
                self.position += 1
                return value
        raise UsageError(
            f"`{flag}` needs a value {option.value}",
            hint=f"for example `{flag} {example(option.name) or option.value}`",
        )

    def _keep(self, option: Option, flag: str, value: str) -> None:
        if option.value and not value:
            raise UsageError(
                f"the value of `{flag}` is empty", hint="leave the option out, or check the variable that it comes from"
            )
        if option.kind == "number" and not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise UsageError(f"`{flag}` needs a number, not `{value}`", hint=f"for example `{flag} 4711`")
        if option.excludes:
            for name, _ in self.given:
                other = self.known[f"--{name}"]
                if other.excludes == option.excludes and other is not option:
                    raise UsageError(f"`--{name}` and `{flag}` exclude each other", hint="leave one of them out")
        self.given.append((option.name, value))

    def _check(self) -> None:
        verb, words = self.verb, self.words
        if verb.words == "what" and not words:
            raise UsageError(
                f"`endtask {verb.name}` needs to know what: a pid, a name, a `:port`",
                hint=f"for example `endtask {verb.name} :3000`",
            )
        if verb.words == "command" and not words:
            raise UsageError(
                f"`endtask {verb.name}` needs a command",
                hint=f"for example `endtask {verb.name} -- {example('command')}`",
            )
        if verb.words == "command" and not words[0]:
            raise UsageError("an empty word is no command", hint="check the variable that it comes from")
        if verb.words == "name" and (len(words) != 1 or words[0] not in _accepted(verb)):
            problem = (
                f"`{words[0]}` is not one of them"
                if len(words) == 1
                else f"{len(words) or 'none'} {'were' if words else 'was'} given"
            )
            raise UsageError(
                f"`endtask {verb.name}` needs one of {', '.join(verb.choices)}; {problem}",
                hint=f"for example `endtask {verb.name} {verb.choices[0]}`",
            )
        if not verb.words and words:
            raise UsageError(
                f"`endtask {verb.name}` takes no words, but `{words[0]}` was given", hint=f"`endtask {verb.name}` alone"
            )

    def _refuse_option(self, word: str, flag: str = "") -> NoReturn:
        flag = flag or word
        if not word.startswith("--") and _is_kill_style(word):
            raise UsageError(
                f"`{word}` is the way of kill(1); endtask names requests in a plan", hint=_kill_style_hint(word)
            )
        if flag in _REFUSED:
            message, hint = _REFUSED[flag]
            raise UsageError(message, hint=hint.replace("TERM", _polite()))
        others = [o for o in OPTIONS if flag in o.flags]
        if others:
            verbs = ", ".join(v for o in others for v in o.verbs)
            raise UsageError(f"`endtask {self.verb.name}` has no option `{flag}`", hint=f"it belongs to {verbs}")
        inside = f" in `{word}`" if flag != word else ""
        near = _nearest(flag, [f for f in self.known if f.startswith("--")])
        hint = (
            f"did you mean `{near}`?"
            if near
            else f"`endtask {self.verb.name} --help` lists the options; after `--` everything is a word"
        )
        raise UsageError(f"`{flag}`{inside} is not an option of `endtask {self.verb.name}`", hint=hint)


def _accepted(verb: Verb) -> tuple[str, ...]:
    if verb.name != "schema":
        return verb.choices
    return tuple(form for c in verb.choices for form in (c, f"{c}/1", f"endtask.{c}/1"))


def _help_topic(words: Sequence[str]) -> tuple[str, ...]:
    topic = [w for w in words if not w.startswith("-")][:1]
    if topic and verb_named(topic[0]) is None:
        _refuse_verb(topic[0])
    return tuple(topic)


def _refuse_verb(word: str) -> NoReturn:
    if word.startswith("-"):
        if _is_kill_style(word):
            hint = f"for example `endtask stop PID`; {_kill_style_hint(word)}"
            raise UsageError(f"`{word}` is the way of kill(1); endtask begins with a verb", hint=hint)
        flag = word.partition("=")[0]
        if any(flag in o.flags for o in OPTIONS):
            raise UsageError(f"`{flag}` stands before the verb", hint=f"for example `endtask stop {flag} ...`")
        raise UsageError(
            f"`{word}` is not an option of endtask", hint="`endtask --help` lists the verbs; options follow the verb"
        )
    near = _OTHER_WORDS.get(word.lower()) or _nearest(word, [v.name for v in VERBS])
    hint = (
        f"did you mean `endtask {near}`?"
        if near
        else f"to stop it: `endtask stop {_quoted(word)}`; to only look: `endtask look {_quoted(word)}`"
    )
    raise UsageError(f"`{word}` is not a verb of endtask", hint=hint)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def _nearest(word: str, candidates: list[str]) -> str:
    """Return what was probably meant, empty if nothing is near."""
    if len(word) > 40:
        return ""  # nobody mistypes that far, and comparing is quadratic
    if len(word) > 3:
        for candidate in candidates:
            if candidate.startswith(word):
                return candidate
    import difflib

    return next(iter(difflib.get_close_matches(word, candidates, 1, 0.7)), "")


def _is_kill_style(word: str) -> bool:
    """Return whether *word* is `-9`, `-KILL` or `-SIGKILL`."""
    import signal

    name = word[1:].removeprefix("SIG")
    return (name.isascii() and name.isdigit()) or f"SIG{name}" in signal.Signals.__members__


def _kill_style_hint(word: str) -> str:
    name = word[1:].removeprefix("SIG")
    if name in ("9", "KILL"):
        return _FORCE_HINT
    if name.isdigit():
        return f"`--plan {_polite()}/10` asks and waits 10 s; a pid is a positive number"
    return f"`--plan {_request_for(name)}/10`"


def _polite() -> str:
    from endtask._requests import polite_word

    return polite_word()


def _request_for(name: str) -> str:
    """Return the word of a plan for the name of a signal; on Windows of what comes nearest to what a C program would get."""
    from endtask._requests import HAS_SIGNALS

    if HAS_SIGNALS:
        return name
    return {"INT": "ctrl-c", "BREAK": "ctrl-break"}.get(name, _polite())
