"""What is known around a process, as plain text, and how to write a command for a shell: the input of `managers.py`."""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


class Ancestor(Record):
    """One of the processes above.

    Attributes:
        pid: Process id.
        name: Its name.
        cmdline: Its arguments, empty if unreadable.
        cwd: Its working directory, where that matters and can be read.
        script: The text of the script that it runs if it is a shell, None if that cannot be read.
    """

    pid: int
    name: str
    cmdline: tuple[str, ...] = ()
    cwd: str = ""
    script: str | None = None


def base_name(path: str) -> str:
    """Return what follows the last slash."""
    return path.rpartition("/")[2]


class Surroundings(Record):
    """All that the judgement rests on.

    Attributes:
        pid: The process.
        cgroup: Its cgroup, as in `Facts.cgroup`.
        environ: The environment it started with; empty if unreadable.
        cwd: Its working directory, empty if unreadable.
        ancestors: Parent, grandparent and so on.
        orphan: Whether the parent only reaps it.
        nodename: The host's name.
    """

    pid: int
    cgroup: str = ""
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed
    cwd: str = ""
    ancestors: tuple[Ancestor, ...] = ()
    orphan: bool = False
    nodename: str = ""


def quote(text: str) -> str:
    """Return *text* as one word of a shell command; not `shlex`, whose import brings `re` (5 ms, measured)."""
    if text and _SAFE.issuperset(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def command(*words: str) -> str:
    """Return a shell command of *words*, each quoted where it must be."""
    return " ".join(quote(word) for word in words)


def option(arguments: Sequence[str], *names: str) -> str:
    """Return the value of the first option of *names*: `-x value`, `--x value` or `--x=value`."""
    for index, argument in enumerate(arguments):
        if argument in names and index + 1 < len(arguments):
            return arguments[index + 1]
        for name in names:
            if name.startswith("--") and argument.startswith(name + "="):
                return argument[len(name) + 1 :]
    return ""
