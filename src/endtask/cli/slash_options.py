"""The old way to write options, `/IM x /F`: one reader for `taskkill` and `tasklist`, grammar only.

What is accepted: `/` or `-` before the name, upper and lower case, `/FO CSV` and `/FO:CSV`.
What is refused has the sentence that Windows has for it, with the option as it was typed.

Decision: beside the parser of the other verbs, not inside, because no rule is the same: options have one dash or a slash and long names, and may be abbreviated nowhere.
A word that begins with `/` or `-` is a value if an option waits for one, unless it is itself an option: a forgotten value is far likelier than a program that is called `/F`.
"""

from __future__ import annotations

from endtask._record import Record
from endtask.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

HELP = ("/?", "-?", "-h", "--help")


class SlashError(UsageError):
    """The command line makes no sense; nothing was done."""

    exit_code = 1


class Slash(Record):
    """One option.

    Attributes:
        name: Upper case, without the slash.
        value: `required`, `optional`, or empty for a switch.
        many: Whether it may be given several times.
        text: What it does, for the help.
        shown: How its value is called in the help.
    """

    name: str
    value: str = ""
    many: bool = False
    text: str = ""
    shown: str = ""

    @property
    def spelled(self) -> str:
        """The option and its value as the help writes them."""
        return f"/{self.name} {self.shown}".rstrip()


class Given(Record):
    """The options of one command line.

    Attributes:
        pairs: Name and value in the order they were given; a switch, and an optional value that is missing, have an empty one.
        help: Whether the help was asked for; the rest was not looked at then.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    help: bool = False

    def has(self, name: str) -> bool:
        """Return whether the option was given."""
        return any(n == name for n, _ in self.pairs)

    def text(self, name: str) -> str:
        """Return the value of an option, empty if it was not given."""
        return next((v for n, v in self.pairs if n == name), "")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all values of an option that may be repeated."""
        return tuple(v for n, v in self.pairs if n == name)


def read(argv: Sequence[str], table: Iterable[Slash]) -> Given:
    """Read a command line.

    Args:
        argv: The arguments after the verb.
        table: The options that there are.

    Raises:
        SlashError: It makes no sense.
    """
    return _Reader(argv, table).read()


class _Reader:
    def __init__(self, argv: Sequence[str], table: Iterable[Slash]) -> None:
        self.rest = list(argv)
        self.known = {option.name: option for option in table}
        self.pairs: list[tuple[str, str]] = []

    def read(self) -> Given:
        if any(word.lower() in HELP for word in self.rest):
            return Given(help=True)
        while self.rest:
            word = self.rest.pop(0)
            option, value = self._option(word)
            if option is None:
                raise SlashError(f"Invalid argument/option - '{word}'.")
            typed = word.partition(":")[0]
            if value is None and option.value and self.rest and self._option(self.rest[0])[0] is None:
                value = self.rest.pop(0)
            self._keep(option, typed, value)
        return Given(tuple(self.pairs))

    def _option(self, word: str) -> tuple[Slash | None, str | None]:
        """Return the option that *word* is, and the value that it brings; None for none."""
        if word[:1] not in ("/", "-"):
            return None, None
        name, colon, value = word[1:].partition(":")
        option = self.known.get(name.upper())
        if option is None or (colon and not option.value):
            return None, None
        return option, value if colon else None

    def _keep(self, option: Slash, typed: str, value: str | None) -> None:
        if option.value == "required" and not value:  # an empty one is an unset variable, which must not mean everybody
            _refuse(f"Value expected for '{typed}'.")
        if option.value and not option.many and any(n == option.name for n, _ in self.pairs):
            _refuse(f"'{typed}' option is not allowed more than '1' time(s).")
        self.pairs.append((option.name, value or ""))


def _refuse(text: str) -> NoReturn:
    raise SlashError(f"Invalid syntax. {text}")
