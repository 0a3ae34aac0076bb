"""`endtask run -- COMMAND`: thin over `endtask.owned`.

Standard input and output belong to the command, so what endtask has to say goes to standard error, and only when there is something to say.
A signal that asks endtask itself to stop (INT, TERM, HUP) stops the tree by the plan.
"""

from __future__ import annotations

import os
import select
import signal
import sys

assert sys.platform != "win32"  # signals and pipes that can be waited for together: POSIX

from endtask.errors import PlanError  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from endtask._owned import Owned
    from endtask.cli.console import Console
    from endtask.cli.options import Parsed
    from endtask.model import Policy, ProcessEnd, Report

    Writer = Callable[[Report, str], None]

NOT_FOUND, NOT_STARTED = 127, 126  # as the shell has them (POSIX, sh: exit status for commands)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_command(parsed: Parsed, console: Console) -> int:
    """Run a command, stop what it leaves, and return the command's status, or what went wrong with the stop.

    Raises:
        PlanError: The options ask for more than TERM and force.
        UsageError: The report file cannot be written.
    """
    from endtask.cli import arguments

    grace_s, force = grace_and_force(arguments.policy(parsed))
    path = parsed.text("report")
    if path is None:
        return _run(parsed, grace_s, console, None, force=force)
    from endtask.cli.report_files import ReportFile

    file = ReportFile(path)
    try:
        return _run(parsed, grace_s, console, file.write, force=force)
    finally:
        file.close()


def grace_and_force(policy: Policy) -> tuple[float, bool]:
    """Return the seconds that the tree has after TERM, and whether it is forced then.

    Raises:
        PlanError: The plan has other steps: the keeper of the tree knows only these two.
    """
    names = [s.request.name for s in policy.steps]
    if names == ["KILL"]:
        return 0.0, True
    if names == ["TERM"]:
        return policy.budget_s, False
    if names == ["TERM", "KILL"]:
        return policy.steps[0].wait_s or 0.0, True
    raise PlanError(
        "`endtask run` asks by TERM, and forces afterwards if it is told to; it has no other steps",
        hint="for example `--plan TERM/10/KILL` or `--force-after 10s`",
    )


def _run(parsed: Parsed, grace_s: float, console: Console, write: Writer | None, *, force: bool) -> int:
    from endtask._owned import owned

    with _Asked() as ears:
        try:
            command = owned(parsed.words, grace_s=grace_s, force=force)
        except FileNotFoundError:
            console.complain(
                f"`{parsed.words[0]}`: there is no such command",
                "it is looked for in PATH; a shell's own commands need `sh -c '...'`",
            )
            return NOT_FOUND
        except OSError as error:
            console.complain(f"`{parsed.words[0]}` cannot be started: {error.strerror}")
            return NOT_STARTED
        with command:
            asked = ears.wait(command)
            end = command.poll()
            signal.signal(
                signal.SIGINT, signal.default_int_handler
            )  # a second Ctrl+C ends at once; the keeper tidies up by itself
            report = command.stop()
    if parsed.has("force-ok"):
        from endtask._record import replace

        report = replace(report, force_ok=True)
    _tell(parsed, report, console, asked=bool(asked))
    if write is not None:
        write(report, "run")
    return _code(report, end, asked)


class _Asked:
    """Hears the signals that ask endtask itself to stop; a context manager, open before the command is started.

    They come through a pipe, because an exception out of a handler could tear a line of the keeper in two.
    """

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # set_wakeup_fd asks for it
        self._before = {number: signal.signal(number, _noted) for number in _SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, command: Owned) -> int:
        """Wait until the command has ended, or a signal asks us to stop; return that signal, 0 for none."""
        keeper = command.fileno()  # wakes up when the keeper speaks
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        poller.register(keeper, select.POLLIN)
        while command.poll() is None and not command.lost:
            if any(fd == self._reader for fd, _ in poller.poll()):
                for number in os.read(self._reader, 64):
                    if number in _SIGNALS:
                        return number
        return 0


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the number comes through the pipe."""


def _tell(parsed: Parsed, report: Report, console: Console, *, asked: bool) -> None:
    """Say how the stop went, if more than the command itself was stopped, or if somebody asked for it."""
    something = asked or report.exit_code != 0 or any(m.receipts for t in report.targets for m in t.members)
    if parsed.has("quiet") or not (something or parsed.has("verbose")):
        return
    from endtask.cli.render import report_lines

    console.err.lines(report_lines(report, verbose=parsed.has("verbose")))


def _code(report: Report, end: ProcessEnd | None, asked: int) -> int:
    """Return the exit code: a stop that failed, then the signal that ended us, then the command's own status, then a stop that needed force."""
    code = report.exit_code
    if code not in (0, 10):
        return code
    if asked:
        return 128 + asked
    if end is not None and end.signal:
        return 128 + end.signal
    if end is not None and end.status:
        return end.status
    return code
