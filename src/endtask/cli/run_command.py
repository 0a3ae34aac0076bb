"""`endtask run -- COMMAND`: thin over `endtask.owned`.

Standard input and output belong to the command, so what endtask has to say goes to standard error, and only when there is something to say.
What asks endtask itself to stop (signals; control events on Windows) stops the tree by the plan.
What differs between the systems lies in `run_posix.py` and `run_windows.py`.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    from endtask.cli import run_windows as system
else:
    from endtask.cli import run_posix as system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._owned import Owned
    from endtask.cli.console import Console
    from endtask.cli.options import Parsed
    from endtask.cli.report_files import ReportFiles
    from endtask.model import Policy, ProcessEnd, Report

NOT_FOUND, NOT_STARTED = 127, 126  # as the shell has them (POSIX, sh: exit status for commands)
NOT_WRITTEN = 3  # a report that was asked for and is missing ranks above every other code


def run_command(parsed: Parsed, console: Console) -> int:
    """Run a command, stop what it leaves, and return the command's status, or what went wrong with the stop.

    Raises:
        PlanError: POSIX: the options ask for more than TERM and force.
        UsageError: The report file cannot be written.
    """
    from endtask.cli import arguments

    policy = arguments.policy(parsed)
    system.check(policy)  # before the report file is made
    paths = parsed.texts("report")
    if not paths:
        return _run(parsed, policy, console, None)
    from endtask.cli.report_files import ReportFiles

    files = ReportFiles(paths)
    try:
        return _run(parsed, policy, console, files)
    finally:
        files.close()


def _run(parsed: Parsed, policy: Policy, console: Console, files: ReportFiles | None) -> int:
    with system.Ears() as ears:
        try:
            command = system.start(parsed.words, policy)
        except FileNotFoundError:
            text = f"`{parsed.words[0]}`: there is no such command"
            console.complain(text, f"it is looked for in PATH; {system.SHELL}")
            return NOT_FOUND
        except OSError as error:
            why = "it is a directory" if os.path.isdir(parsed.words[0]) else error.strerror
            console.complain(f"`{parsed.words[0]}` cannot be started: {why}")
            return NOT_STARTED
        report = _stop(command, ears, console)
        asked, end = ears.asked, command.poll()
        if parsed.has("force-ok"):
            from endtask._record import replace

            report = replace(report, force_ok=True)
        _tell(parsed, report, console, asked=bool(asked))
        faults = files.write(report, "run") if files is not None else []
        for fault in faults:
            console.complain(fault)
        return NOT_WRITTEN if faults else _code(report, end, asked)


def _stop(command: Owned, ears: system.Ears, console: Console) -> Report:
    """Wait until the command has ended or somebody asks us to stop, and stop everything.

    Raises:
        KeyboardInterrupt: POSIX: Ctrl+C once too often. The keeper of the tree goes on.
    """
    try:
        with command:
            try:
                ears.wait_for(command)
                report = command.stop_told(told=ears.told, limit_s=ears.limit_s)
            except KeyboardInterrupt:
                report = system.hurry(command)
            ears.done()
    except KeyboardInterrupt:
        if command.report is None:
            console.complain(system.LEFT)
            raise
        ears.done()
        return command.report
    return report


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
