"""The requests by name: what a plan may say, on a system of signals and on Windows (pure).

Decision: one word means the same everywhere or does not exist. `ask` is the politest way that the process can hear and `kill` is force, on every platform;
`TERM` is refused on Windows and `wm-close` on Linux, because neither has anything that comes close.
"""

from __future__ import annotations

from endtask._record import replace
from endtask.errors import PlanError, UnsupportedRequestError
from endtask.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` costs 2.4 ms at start-up, its C module nothing

HAS_SIGNALS = hasattr(_signal, "SIGKILL")  # the feature, not the name of the system

TERM = Request("TERM", "signal", 15)
KILL = Request("KILL", "signal", 9, "", True)
ASK = Request("ask", "ask", -1)
CHANNEL = Request("CHANNEL", "channel", -1)  # a program with endtask's receiver, on every system

STOP_EVENT = Request("STOP_EVENT", "event", -1)
WM_CLOSE = Request("WM_CLOSE", "window", 0x10)  # numbers: winuser.h
WM_ENDSESSION = Request("WM_ENDSESSION", "window", 0x16)
WM_QUIT = Request("WM_QUIT", "window", 0x12)
CTRL_C = Request("CTRL_C", "inject", 0)  # numbers: HandlerRoutine, Microsoft console documentation
CTRL_BREAK = Request("CTRL_BREAK", "inject", 1)
CTRL_CLOSE = Request("CTRL_CLOSE", "inject", 2)
CTRL_SHUTDOWN = Request("CTRL_SHUTDOWN", "inject", 6)
CONSOLE_CTRL_C = Request("CONSOLE_CTRL_C", "console", 0)
CONSOLE_CTRL_BREAK = Request("CONSOLE_CTRL_BREAK", "console", 1)
SERVICE_STOP = Request("SERVICE_STOP", "service", 1)
EXIT_PROCESS = Request("EXIT_PROCESS", "inject", -1, "", True)
TERMINATE = Request("TERMINATE", "terminate", -1, "", True)

_WINDOWS = {
    r.name.lower().replace("_", "-"): r
    for r in (
        STOP_EVENT,
        WM_CLOSE,
        WM_ENDSESSION,
        WM_QUIT,
        CTRL_C,
        CTRL_BREAK,
        CTRL_CLOSE,
        CTRL_SHUTDOWN,
        CONSOLE_CTRL_C,
        CONSOLE_CTRL_BREAK,
        SERVICE_STOP,
        EXIT_PROCESS,
        TERMINATE,
    )
}
WINDOWS_WORDS = tuple(_WINDOWS)

# What ends a process whether it wants or not; a process that ends after one of these was forced.
FORCED = frozenset((KILL.name, TERMINATE.name, EXIT_PROCESS.name))
FORCE_STATUS = 1  # exit status of a process that we end on Windows, the same as taskkill /F gives
_SUSPENDING = frozenset(("STOP", "TSTP", "TTIN", "TTOU"))


def polite_word(*, signals: bool = HAS_SIGNALS) -> str:
    """Return the word for a polite request in an example: `TERM`, which everybody knows, or where there are no signals `ask`."""
    return TERM.name if signals else ASK.name


def example_plan(*, signals: bool = HAS_SIGNALS) -> str:
    """Return a plan that works on this system, for hints."""
    return f"{polite_word(signals=signals)}/10/{'KILL' if signals else 'kill'}/5"


def parse_request(text: str, *, signals: bool = HAS_SIGNALS) -> Request:
    """Return the request that *text* names: `ask`, `channel`, a signal (`TERM`, `SIGTERM`, `RTMIN+3`) or a mechanism of Windows (`wm-close`), `stdin:TEXT`, `cmd:COMMAND`, `kill`.

    Args:
        text: The word of a plan.
        signals: Whether the system has signals; else it is Windows.

    Raises:
        PlanError: There is no such request.
        UnsupportedRequestError: It exists on another platform only.
    """
    kind, colon, value = text.partition(":")
    if colon and kind in ("stdin", "cmd"):
        return _with_value(text, kind, value)
    word = text.lower().replace("_", "-")
    word = word.removesuffix("-event") if word.startswith("ctrl-") else word  # CTRL_C_EVENT is its name in the headers
    if word == "ask":
        return TERM if signals else ASK
    if word == "channel":
        return CHANNEL
    return _signal_request(text, word) if signals else _windows_request(text, word)


def with_consent(request: Request, *, unattended: bool, dependents: bool) -> Request:
    """Return a request with what the user agreed to, for whoever sends it: WM_CLOSE past a dialog, a service with those that depend on it."""
    if unattended and request == WM_CLOSE:
        return replace(request, text="unattended")
    return replace(request, text="dependents") if dependents and request == SERVICE_STOP else request


def _with_value(text: str, kind: str, value: str) -> Request:
    value = _unquote(value)
    if not value:
        raise PlanError(f"`{text}` says nothing after the colon", hint="for example `stdin:q` or `cmd:'nginx -s quit'`")
    if kind == "stdin":
        return Request(text, "stdin", 0, value.replace("\\n", "\n"))
    return Request(text, "command", 0, value)


def _signal_request(text: str, word: str) -> Request:
    if word in _WINDOWS:
        raise UnsupportedRequestError(
            f"`{text}` is a request of Windows, this system does not have it", hint="use a signal such as `TERM`"
        )
    name = text.upper().removeprefix("-").removeprefix("SIG")
    if name in _SUSPENDING:
        raise PlanError(f"`{text}` would leave the process suspended, which is not a stop", hint="use `TERM`")
    number = _signal_number(name)
    if not number:
        hint = "use names such as `TERM`, `INT`, `KILL`; numbers are read as seconds"
        raise PlanError(f"`{text}` is not a request that endtask knows", hint=hint)
    return Request(name, "signal", number, "", number == KILL.number)


def _windows_request(text: str, word: str) -> Request:
    name = text.upper().removeprefix("-").removeprefix("SIG")
    if word in _WINDOWS:
        return _WINDOWS[word]
    if name == "KILL":
        return TERMINATE
    if name in _SIGNAL_NAMES or name.startswith(("RTMIN", "RTMAX")):
        raise UnsupportedRequestError(
            f"`{text}` is a signal, and Windows has no signals between processes",
            hint="use `ask`, or a mechanism such as `wm-close` or `ctrl-c`",
        )
    raise PlanError(
        f"`{text}` is not a request that endtask knows",
        hint=f"known are {', '.join(f'`{w}`' for w in ('ask', 'channel', 'kill', *WINDOWS_WORDS))}",
    )


_SIGNAL_NAMES = frozenset(
    ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE", "CONT", "ABRT", "WINCH", "CHLD", "URG", *_SUSPENDING)
)


def _signal_number(name: str) -> int:
    if name.startswith(("RTMIN+", "RTMAX-")) and name[6:].isascii() and name[6:].isdigit() and len(name) < 9:
        offset = int(name[6:])
        base = getattr(_signal, "SIG" + name[:5], 0)
        number = base + offset if name[5] == "+" else base - offset
        inside = getattr(_signal, "SIGRTMIN", 1) <= number <= getattr(_signal, "SIGRTMAX", 0)
        return number if base and inside else 0
    if not name.isalnum():
        return 0
    value = getattr(_signal, "SIG" + name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] in "'\"" and value[-1] == value[0]:
        return value[1:-1]
    return value
