"""Which processes `endtask taskkill` means: pids, image names and filters -> identities.

Decision: everything that matches is meant, as taskkill has it, while the other verbs refuse several programs for one word.
What is never selected is decided where it is for every verb, in `Finder`; here it only gets taskkill's words.

Select-then-act: a process that matches is pinned, looked at again and written down by its identity.
The handles are closed then; the identity is what is stopped, or nobody.
"""

from __future__ import annotations

from endtask._filters import matches
from endtask._find import Finder, Target
from endtask._record import Record
from endtask.cli import taskkill_words as words
from endtask.errors import RefusedError, TargetError
from endtask.model import Filter, Missing, PidRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend
    from endtask.cli.taskkill_arguments import Wanted
    from endtask.cli.taskkill_words import How, Told
    from endtask.model import Row

_MOST_DIGITS = 11  # more than any pid has


class Chosen(Record):
    """A process that is to be ended.

    Attributes:
        ref: Identity.
        name: Image name.
    """

    ref: PidRef
    name: str


class Choice:
    """Finds what a command line means.

    Attributes:
        told: What is to be said of what does not exist, or cannot be asked.

    Args:
        wanted: The command line.
        backend: The system.
        table: Its process table.
        how: For the words.

    Raises:
        TargetError: A filter makes no sense.
    """

    def __init__(self, wanted: Wanted, backend: Backend, table: dict[int, Row], how: How) -> None:
        self.wanted = wanted
        self.backend = backend
        self.table = table
        self.how = how
        self.told: list[Told] = []
        self._finder = Finder(backend, Filter(fi=wanted.filters), several=True, below_too=True, table=table)
        self._chosen: dict[int, Chosen] = {}

    def choose(self) -> list[Chosen]:
        """Return what is to be ended, each process once."""
        try:
            for word in dict.fromkeys(self.wanted.pids):
                self._by_pid(word)
            for pattern in dict.fromkeys(self.wanted.images or (() if self.wanted.pids else ("*",))):
                self._by_name(pattern)
        finally:
            self._finder.found.close()
        return list(self._chosen.values())

    # ------------------------------------------------------------------ by pid

    def _by_pid(self, word: str) -> None:
        if not (word.isascii() and word.isdigit()) or len(word) > _MOST_DIGITS:
            self._nobody(word)
            return
        pid = int(word)
        if pid in self._chosen:  # `007` after `7`
            return
        found = self._look_up(pid)
        if isinstance(found, Target):
            self._chosen[pid] = Chosen(found.ref, found.name)
        elif isinstance(found, RefusedError):
            if self._passes(pid):
                self.told.append(words.failed(pid, self._name(pid), self._why_never(pid, found), self.how))
            else:
                self._nobody(word)
        elif found.code == "not-permitted":
            self.told.append(words.missing(pid, self._name(pid), found, self.how))
        else:
            self._nobody(word)

    def _nobody(self, word: str) -> None:
        """Nothing is there. With a filter that is the same as nothing that passes, and one line says it for all."""
        if not self.wanted.filters:
            self.told.append(words.not_found(word))

    # ------------------------------------------------------------------ by name

    def _by_name(self, pattern: str) -> None:
        chosen = False
        never: list[tuple[int, RefusedError | None]] = []
        for row in self.table.values():
            pid = row.pid
            if pid == self._finder.own_line[0] or row.state in ("Z", "X") or not self._fits(row, pattern):
                continue
            if pid in self._chosen:
                chosen = True
            elif self._is_never(row):
                never.append((pid, None))
            else:
                chosen = self._candidate(pid, pattern, never) or chosen
        if chosen:
            above = [pid for pid, _ in never if pid > 1 and pid in self._finder.own_line]
            self.told += [words.spared(pid, self._name(pid)) for pid in above]
        elif never:
            self.told += [words.failed(p, self._name(p), self._why_never(p, e), self.how) for p, e in never]
        else:
            self._nobody(pattern)

    def _candidate(self, pid: int, pattern: str, never: list[tuple[int, RefusedError | None]]) -> bool:
        """Select a process that fits at a first look; return whether that is so at a second one, or it may not be asked."""
        found = self._look_up(pid)
        if isinstance(found, RefusedError):
            never.append((pid, found))
        elif isinstance(found, Target):
            if not self._matches(found.name, pattern) or (found.pin is not None and self.backend.exited(found.pin)):
                return False
            self._chosen[pid] = Chosen(found.ref, found.name)
            return True
        elif found.code == "not-permitted":
            self.told.append(words.missing(pid, self._name(pid), found, self.how))
            return True
        return False

    def _fits(self, row: Row, pattern: str) -> bool:
        named = pattern == "*" or self._matches(self.backend.full_name(row.pid, row.comm), pattern)
        return named and self._passes(row.pid)

    def _matches(self, name: str, pattern: str) -> bool:
        return matches(pattern, name, folds_case=self.backend.folds_case)

    # ------------------------------------------------------------------ both

    def _passes(self, pid: int) -> bool:
        return all(check(pid) for check in self._finder.checks)

    def _look_up(self, pid: int) -> Target | Missing | RefusedError:
        """Pin a process that has not been selected yet, and look at the filters again."""
        found = self._finder.found
        before = len(found.missing)
        try:
            self._finder.run([str(pid)])
        except RefusedError as error:
            return error
        except TargetError as error:  # a number that no process can have
            return Missing(str(pid), error.message)
        return found.missing[-1] if len(found.missing) > before else found.targets[-1]

    def _name(self, pid: int) -> str:
        row = self.table.get(pid)
        return self.backend.full_name(pid, row.comm) if row is not None else "N/A"

    def _is_never(self, row: Row) -> bool:
        return row.pid <= 1 or row.kernel or row.pid in self._finder.own_line

    def _why_never(self, pid: int, error: RefusedError | None) -> str:
        row = self.table.get(pid)
        if pid <= 1 or (row is not None and row.kernel):
            return words.CRITICAL
        if pid == self._finder.own_line[0]:
            return "It is endtask itself."
        if pid in self._finder.own_line:
            return "It is an ancestor of endtask, which endtask never stops."
        why = self.backend.untouchable(pid)
        if not why or "critical" in why:
            return words.CRITICAL if error is None or why else f"{error.message}."
        return f"{why[0].upper()}{why[1:]}."
