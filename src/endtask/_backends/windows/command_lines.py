r"""From words to what CreateProcess takes: a program file and one line of text.

Windows gives a process one text, which it splits itself; most do it as the C runtime does ("Parsing C command-line arguments" page), and so do we.

Decision: the program is looked for by us, in PATH, under the endings that CreateProcess can start. It would itself only add `.exe`,
so `npm`, which is `npm.cmd`, would not be found.

A batch file is started by cmd.exe, openly. cmd.exe reads arguments in its own way, whatever quotes stand around them, so an argument in which
it would see a variable or the end of the quotes is refused: no quoting makes it safe. (CreateProcess starts batch files by itself, without that care: CVE-2024-24576.)
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "win32"

from endtask._backends.windows import memory
from endtask._record import Record
from endtask.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENDINGS = (".com", ".exe", ".bat", ".cmd")
_BATCH = (".bat", ".cmd")
_READ_BY_CMD = frozenset('"%\r\n')  # inside quotes it takes everything else as it is


class CommandLine(Record):
    """What CreateProcess is given.

    Attributes:
        words: Program and arguments, for reports.
        program: Path of the program file, None where only CreateProcess may find it.
        text: The line.
    """

    words: tuple[str, ...]
    program: str | None
    text: str


def command_line(command: str | Sequence[str]) -> CommandLine:
    """Return what starts *command*; a text is a command line already.

    Raises:
        UsageError: A batch file cannot be given one of the arguments.
        ValueError: There is a NUL character in it.
    """
    words = memory.split_arguments(command) if isinstance(command, str) else tuple(command)
    if any("\0" in word for word in words):
        raise ValueError("embedded null character")
    text = command.strip() if isinstance(command, str) else join(words)
    program = find_program(words[0])
    if program is None or not program.lower().endswith(_BATCH):
        return CommandLine(words, program, text)
    if not isinstance(command, str):
        text = " ".join((f'"{program}"', *(_batch_argument(word) for word in words[1:])))
    cmd = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "cmd.exe")
    # /d: no AutoRun; /s: of the outer quotes exactly the first and the last go ("cmd" page)
    return CommandLine(words, cmd, f'"{cmd}" /d /s /c "{text}"')


def find_program(word: str) -> str | None:
    """Return the path of a program file, None if it is not where we look.

    A word with a folder is taken from there, others are looked for in PATH. The current folder is not searched: what lies there
    was perhaps put there by somebody else (NeedCurrentDirectoryForExePath page).
    """
    folders: Iterable[str] = ("",)
    if not any(sign in word for sign in "\\/:"):
        folders = [f.strip('"') for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    has_ending = word.lower().endswith(_ENDINGS)
    names = (word,) if has_ending else (*(word + ending for ending in _ENDINGS), word)
    for folder in folders:
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return os.path.abspath(path)
    return None


def join(words: Iterable[str]) -> str:
    """Return the line that splits into *words* (pure)."""
    return " ".join(quoted(word) for word in words)


def quoted(word: str, *, always: bool = False) -> str:
    """Return one word so that it stays one: backslashes count only before a quote, and there each is doubled (pure)."""
    if word and not always and not any(sign in word for sign in ' \t\n\v"'):
        return word
    result, backslashes = '"', 0
    for sign in word:
        if sign == "\\":
            backslashes += 1
            continue
        result += "\\" * (backslashes * (2 if sign == '"' else 1)) + ('\\"' if sign == '"' else sign)
        backslashes = 0
    return result + "\\" * (backslashes * 2) + '"'


def _batch_argument(word: str) -> str:
    if not _READ_BY_CMD.isdisjoint(word):
        raise UsageError(
            f"the argument `{word}` cannot be given to a batch file: cmd.exe would read a part of it as its own",
            hint="start the program that the batch file starts, or leave out quotes, percent signs and line breaks",
        )
    return quoted(word, always=True)
