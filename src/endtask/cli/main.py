"""Runs a verb: parse -> call the library -> render -> exit code.

Decision: the process leaves through `os._exit` after writing out, because the interpreter's orderly end costs 2 to 4 ms and there is nothing left to tidy: every handle is the kernel's to close.
The only broad `except` of the package stands in `main`: a fault of our own is exit code 3 with one sentence, never a traceback on somebody's terminal.
"""

from __future__ import annotations

import gc
import os
import sys

from endtask.cli.console import standard_console
from endtask.cli.parser import parse
from endtask.errors import EndtaskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import NoReturn

    from endtask.cli.console import Console
    from endtask.cli.options import Parsed
else:
    import _signal  # `signal` costs 2.4 ms at start-up, its C module nothing

INTERNAL_FAULT = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells count
_SIGN = 1 << 31
_SELDOM = (100_000, 50, 50)  # still often enough for a wait of days
_DEEDS = (["stop"], ["wait"], ["run"], ["taskkill"])  # their exit code is the report's, whatever becomes of the words
_REPORTED = (["stop"], ["wait"])
_ASKED_BY = ("SIGTERM", "SIGHUP")  # whoever cancels a job, and a terminal that goes away
_OWN_AFFAIRS = frozenset(("run", "demo", "version", "schema", "completion", "help"))


def run() -> NoReturn:
    """The command `endtask`: run the arguments of this process and leave."""
    code = INTERRUPTED
    # A run makes thousands of values that live until its report and hardly a cycle; looking through them all again and again is a sixth of its time.
    gc.set_threshold(*_SELDOM)
    try:
        if sys.argv[1:2] in _REPORTED:
            _hear()
        console = standard_console()
        code = main(sys.argv[1:], console)
        lost = console.finish()
        if lost and not code and (sys.argv[1:2] not in _DEEDS or "--dry-run" in sys.argv):
            code = INTERNAL_FAULT  # the output was all that was asked for
    except KeyboardInterrupt:
        pass  # a second Ctrl+C ends at once: the library has let go of everything that it held
    if code >= _SIGN:
        code -= 2 * _SIGN  # a status of Windows has 32 bits, and the call takes a signed number
    os._exit(code)


def _hear() -> None:
    """Let TERM and HUP to endtask itself do what Ctrl+C does: what was sent and what still runs is told. What is ignored (nohup) stays so."""
    for name in _ASKED_BY:
        number = getattr(_signal, name, 0)
        if number and _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _as_ctrl_c)


def _as_ctrl_c(_number: int, _frame: object) -> None:
    mask = getattr(_signal, "pthread_sigmask", None)  # Windows has none
    if mask is not None and _signal.SIGINT in mask(getattr(_signal, "SIG_BLOCK", 0), ()):
        # In the middle of a step, which holds INT back: it comes when the step is done.
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)  # a shell's background job is started deaf to it
        _signal.raise_signal(_signal.SIGINT)
        return
    raise KeyboardInterrupt


def main(argv: Sequence[str], console: Console) -> int:
    """Run one command line.

    Args:
        argv: The arguments after the program's name.
        console: Where to write.

    Returns:
        The exit code.
    """
    try:
        return dispatch(parse(argv), console)
    except EndtaskError as error:
        console.complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the one place for faults of our own
        return _fault(error, console)


def _fault(error: Exception, console: Console) -> int:
    if os.environ.get("ENDTASK_DEBUG"):
        import traceback

        for line in traceback.format_exception(type(error), error, error.__traceback__):
            console.err.lines(line.rstrip("\n").split("\n"))
    text = str(error)
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    console.complain(
        f"internal fault, {what}",
        "what was sent before stays sent; `ENDTASK_DEBUG=1` in the environment shows where it happened, please report that",
    )
    return INTERNAL_FAULT


def dispatch(parsed: Parsed, console: Console) -> int:
    """Carry out a parsed command line.

    Raises:
        EndtaskError: It could not be done; nothing more will be.
    """
    if parsed.verb in _OWN_AFFAIRS:
        return _other(parsed, console)
    if parsed.verb == "taskkill":
        from endtask.cli.taskkill import taskkill

        return taskkill(parsed.words, console)
    if parsed.verb == "tasklist":
        from endtask.cli.tasklist import tasklist

        return tasklist(parsed.words, console)
    from endtask.cli import verbs

    if parsed.has("dry-run"):
        return verbs.plan(parsed, console)
    acting = {
        "stop": verbs.stop,
        "wait": verbs.stop,
        "plan": verbs.plan,
        "look": verbs.look,
        "why": verbs.why,
        "find": verbs.find,
    }
    return acting[parsed.verb](parsed, console)


def _other(parsed: Parsed, console: Console) -> int:
    """The verbs that concern no foreign process."""
    verb = parsed.verb
    if verb == "run":
        from endtask.cli.run_command import run_command

        return run_command(parsed, console)
    if verb == "demo":
        from endtask.cli.demo import demo

        return demo(console)
    if verb == "version":
        from endtask._version import VERSION

        console.out.line(f"endtask {VERSION}")
    elif verb == "schema":
        from endtask.cli.options import schema_name
        from endtask.cli.schema import schema_text

        console.out.raw(schema_text(schema_name(parsed.words[0])))
    elif verb == "completion":
        from endtask.cli.completion import script

        console.out.raw(script(parsed.words[0]))
    else:
        from endtask.cli.help import help_text

        console.out.raw(help_text(parsed.words[0] if parsed.words else ""))
    return 0
