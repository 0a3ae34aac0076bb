"""The ears of Windows: console events, a named event, a pipe, a hidden window, the end of standard input and of the parent.

Windows has no signals, but each of them has its like, so that one call of `listen` means the same everywhere:

| signal | what asks |
|---|---|
| INT | CTRL_C_EVENT |
| BREAK | CTRL_BREAK_EVENT |
| HUP | CTRL_CLOSE_EVENT: the console is closed |
| TERM | the stop event, WM_CLOSE (`taskkill`), the end of the session, CTRL_SHUTDOWN_EVENT, CTRL_LOGOFF_EVENT, and CTRL_BREAK_EVENT |

.NET and libuv make the same of CLOSE and SHUTDOWN.
BREAK counts as TERM too, because that is what a parent can send to a child in a new process group (`Popen.send_signal`), which hears no Ctrl+C.

Handlers that the program has set by `signal.signal` for SIGINT and SIGBREAK are left where they are, and called when we have heard.
"""

from __future__ import annotations

import signal
import sys

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver._win_console import ConsoleEar
from endtask_receiver._win_watch import WatchEar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask_receiver._ear import Ear
    from endtask_receiver._stop import Stop

_NUMBERS = {1: "HUP", 2: "INT", 15: "TERM", int(signal.SIGBREAK): "BREAK"}
_CODES = {
    "INT": (calls.CTRL_C_EVENT,),
    "BREAK": (calls.CTRL_BREAK_EVENT,),
    "HUP": (calls.CTRL_CLOSE_EVENT,),
    "TERM": (calls.CTRL_BREAK_EVENT, calls.CTRL_LOGOFF_EVENT, calls.CTRL_SHUTDOWN_EVENT),
}
_FORKS = ("inert", "forward")


def ears(
    signals: Iterable[str | int],
    *,
    stdin: bool,
    parent: bool,
    fork: str,
    window: bool,
    everywhere: bool,
    channel: bool,
) -> list[Ear]:
    """Return the ears for what `listen` was asked for.

    Raises:
        ValueError: One of the signals can be heard by nobody; or *fork* is no known word.
    """
    if fork not in _FORKS:
        raise ValueError(f"fork is `inert` or `forward`; got {fork!r}")
    words = [_word(s) for s in signals]
    found: list[Ear] = []
    codes = sorted({code for word in words for code in _CODES.get(word, ())})
    if codes:
        found.append(ConsoleEar(codes))
    asked = "TERM" in words
    found.append(WatchEar(asked=asked, everywhere=everywhere, window=window and asked, parent=parent, channel=channel))
    if stdin:
        from endtask_receiver._win_ends import StdinEar

        found.append(StdinEar())
    unknown = [word for word in words if word not in _CODES]
    if unknown:
        found.append(_Deaf(unknown))
    return found


def _word(given: str | int) -> str:
    """Return the name of a signal, without SIG.

    Raises:
        ValueError: It is KILL.
    """
    word = given.upper() if isinstance(given, str) else _NUMBERS.get(given, f"number {int(given)}")
    word = word.removeprefix("SIG")
    if word in {"KILL", "number 9"}:
        raise ValueError("nobody can hear SIGKILL")
    return word


class _Deaf:
    """Says what Windows has nothing like; it is no error, so that programs for several systems need no exception."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def start(self, stop: Stop) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def describe(self) -> tuple[str, ...]:
        """Return what is not heard."""
        return tuple(f"signal {word}: not heard, Windows has nothing like it" for word in self._words)
