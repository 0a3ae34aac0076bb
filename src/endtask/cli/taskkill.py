"""`endtask taskkill`: the command line of Windows, answered truthfully, on every platform.

How a process is asked, waited for and proved gone is the engine's affair, the same as for `endtask stop`:

- Without `/T` the scope is that one process. With `/T` it is all that it owns, and the process itself is asked first, because most programs stop their children better than anybody else.
  (Windows asks the children first, and does not ask the process at all when one of them could not be.)
- Without `/F` nothing is forced; with it nothing is asked.
- Nobody is watched for after the end: the lines are about this process, not about a successor.
"""

from __future__ import annotations

from endtask._plan import make_policy
from endtask.cli import taskkill_words as words
from endtask.cli.slash_options import SlashError
from endtask.cli.taskkill_arguments import parse
from endtask.cli.taskkill_choice import Choice
from endtask.errors import EndtaskError, TargetError
from endtask.model import Filter, Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from endtask._backends.base import Backend
    from endtask.cli.console import Console
    from endtask.cli.taskkill_arguments import Wanted
    from endtask.cli.taskkill_choice import Chosen
    from endtask.cli.taskkill_words import Told
    from endtask.model import Policy, Report, Row

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def taskkill(argv: Sequence[str], console: Console, backend: Backend | None = None) -> int:
    """Run `endtask taskkill`.

    Args:
        argv: The arguments after the verb.
        console: Where to write.
        backend: The system; None for this machine.

    Returns:
        The exit code: 0, 1, 128, or 130 after Ctrl+C.
    """
    try:
        wanted = parse(argv)
        if wanted is None:
            from endtask.cli.help import help_text

            console.out.raw(help_text("taskkill"))
            return 0
        return _Run(wanted, console, backend or this_machine()).run()
    except SlashError as error:
        console.err.lines([f"ERROR: {error.message}", 'Type "TASKKILL /?" for usage.'])
    except EndtaskError as error:
        console.err.lines(fault_lines(error))
    return words.FAILED


def this_machine() -> Backend:
    """Return the backend of this machine.

    Raises:
        UnsupportedPlatformError: There is none.
    """
    from endtask._backends import default_backend

    return default_backend()


def fault_lines(error: EndtaskError) -> list[str]:
    """Return what is said of an error that has no words in taskkill."""
    return [
        f"ERROR: {error.message[:1].upper()}{error.message[1:]}.",
        *([f"Hint: {error.hint}."] if error.hint else []),
    ]


def filter_lines(error: TargetError) -> list[str]:
    """Return what is said of a filter that makes no sense."""
    return ["ERROR: The search filter cannot be recognized.", f"Reason: {error.message}."]


class _Run:
    """One command line."""

    def __init__(self, wanted: Wanted, console: Console, backend: Backend) -> None:
        self.wanted = wanted
        self.console = console
        self.backend = backend
        self.table = backend.table()
        self.told: list[Told] = []
        self.policy: Policy = make_policy(
            timeout_s=wanted.wait_s,
            now=wanted.force,
            scope=Scope("tree" if wanted.tree else "only"),
            watch_s=0.0,
            all=True,
        )
        parents = {row.pid: row.ppid for row in self.table.values()}
        self.how = words.How(parents, not wanted.pids, wanted.tree, wanted.force, self.policy.budget_s)

    def run(self) -> int:
        try:
            choice = Choice(self.wanted, self.backend, self.table, self.how)
        except TargetError as error:
            self.console.err.lines(filter_lines(error))
            return words.FAILED
        chosen = choice.choose()
        self._tell(choice.told)
        if self.wanted.filters and not chosen and not choice.told:
            self.console.out.line(words.NONE_MATCH)
        return INTERRUPTED if self._stop(chosen) else words.exit_code(self.told)

    def _stop(self, chosen: Sequence[Chosen]) -> bool:
        """End what was chosen; return whether the user interrupted us."""
        from endtask import _api

        while chosen:
            tops = self._independent(chosen) if self.wanted.tree else chosen
            by_word = {str(c.ref): c for c in tops}
            report = _api.stop(tuple(by_word), Filter(), self.policy, backend=self.backend)
            self._tell(self._answers(report, by_word))
            if report.cancelled:
                return True
            # What turned out to be in no tree has a turn of its own: nothing that matched is left out in silence.
            covered = {m.ref for t in report.targets for m in t.members} | {c.ref for c in tops}
            chosen = [c for c in chosen if c.ref not in covered]
        return False

    def _answers(self, report: Report, chosen: Mapping[str, Chosen]) -> list[Told]:
        told = []
        for entry in report.missing:
            gone = chosen[entry.what]
            told.append(words.missing(gone.ref.pid, gone.name, entry, self.how))
        for target in report.targets:
            told += words.verdict(target, self.how)
        return told

    def _independent(self, chosen: Sequence[Chosen]) -> list[Chosen]:
        """Leave out what is below another one: it belongs to that one's tree."""
        pids = {c.ref.pid for c in chosen}
        return [c for c in chosen if pids.isdisjoint(_ancestors(c.ref.pid, self.table))]

    def _tell(self, told: Iterable[Told]) -> None:
        for answer in told:
            self.told.append(answer)
            stream = self.console.err if answer.code or answer.aside else self.console.out
            stream.lines(answer.lines)


def _ancestors(pid: int, table: Mapping[int, Row]) -> list[int]:
    """Return the pids above *pid*, the parent first.

    A parent that is younger than its child is another process with the parent's old pid (Windows keeps the number).
    """
    found: list[int] = []
    row = table.get(pid)
    while row is not None:
        above = table.get(row.ppid)
        if above is None or above.pid == pid or above.pid in found or above.start > row.start:
            break
        found.append(above.pid)
        row = above
    return found
