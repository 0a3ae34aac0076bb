"""Stage 1: WHAT and filters -> pinned processes.

Select-then-act protocol, the same for every form of WHAT: open the handle first, read through /proc what the selection rests on, then see that the handle's process still runs.
What was read in between belongs to that process and to no other, so a reused pid can never be selected by its predecessor's name.

Decision: several independent programs for one word are refused, because a name is a guess about what the user means.
A program's own children do not count as independent.

Size: every form of WHAT in one place, because they share the select-then-act protocol and a reader looks for the next form here.
"""

from __future__ import annotations

from endtask._filters import compile_filter, matches
from endtask.errors import (
    AccessDeniedError,
    AmbiguousError,
    GoneError,
    NothingMatchedError,
    OsCallError,
    RefusedError,
    TargetError,
)
from endtask.model import Filter, Missing, PidRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from endtask._backends.base import Backend, Pin
    from endtask.model import Row

_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT, proc_sys_kernel(5)
_PID_LIMIT_WINDOWS = 0xFFFFFFFF  # a DWORD
_PID_FILE_SLACK_S = 0.1  # start times come in ticks of 10 ms, file times in ticks of the kernel's timer
_SHORT = 15  # bytes of a name that the kernel keeps
_LINE = 120  # characters of a command line that are shown in a list of matches
_LATER = {"unit": "systemd units", "ctr": "containers"}


class Target:
    """A selected process.

    Attributes:
        what: The WHAT that selected it.
        ref: Identity.
        name: Full name.
        pin: Open handle, None when it was closed again to spare descriptors (then `ref` has an exact token).
        ports: Protocol and port of each word that named it, or something below it, by a port.
        sockets: Inode numbers of the sockets that listened there.
    """

    __slots__ = ("name", "pin", "ports", "ref", "sockets", "what")

    def __init__(self, what: str, ref: PidRef, name: str, pin: Pin | None) -> None:
        self.what = what
        self.ref = ref
        self.name = name
        self.pin = pin
        self.ports: tuple[tuple[str, int], ...] = ()
        self.sockets: frozenset[int] = frozenset()

    def close(self) -> None:
        """Release the handle, if it is still open and still ours."""
        if self.pin is not None:
            self.pin.close()
            self.pin = None


class Found:
    """What a selection found: targets and the WHATs that matched nothing."""

    __slots__ = ("missing", "targets")

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.missing: list[Missing] = []

    def close(self) -> None:
        """Release every handle."""
        for target in self.targets:
            target.close()


class Finder:
    """Resolves words to processes on one backend; every verb uses the same one.

    Args:
        backend: The operating system.
        wanted: Filters.
        several: Whether one word may mean several independent programs.
        below_too: Whether what matches below another match is selected as well.
        table: A process table to take names from; None: ask for names one by one, which is cheaper when nothing else needs the table.
    """

    def __init__(
        self,
        backend: Backend,
        wanted: Filter,
        *,
        several: bool = False,
        below_too: bool = False,
        table: dict[int, Row] | None = None,
    ) -> None:
        self.backend = backend
        self.checks = compile_filter(backend, wanted)
        self.several = several
        self.below_too = below_too
        self.table = table
        self.own_line = backend.own_line()
        self.limit = _PID_LIMIT_WINDOWS if backend.name == "windows" else _PID_LIMIT
        self.found = Found()
        self._seen: set[int] = set()
        self._opened: list[Target] = []  # all handles, for the case that the selection is given up
        self._room = 0  # how many more handles may stay open
        self._measured = False

    def run(self, words: Sequence[str]) -> Found:
        """Resolve all *words*.

        Raises:
            TargetError: A word makes no sense.
            RefusedError: A word names what endtask never touches, or several independent programs.
        """
        try:
            for word in words:
                self._resolve(word)
        except BaseException:
            for target in self._opened:
                target.close()
            raise
        return self.found

    # ------------------------------------------------------------------ forms of WHAT

    def _resolve(self, word: str) -> None:
        kind, colon, rest = word.partition(":")
        if not word:
            raise TargetError(
                "an empty word names no process", hint="give a pid, a name, `:port`, `file:PATH` or `pidfile:PATH`"
            )
        if word.isascii() and word.isdigit():
            self._by_pid(word, _number(word, word, self.limit), "")
        elif colon and kind in ("", "tcp", "udp"):
            self._by_port(word, kind or "tcp", rest)
        elif colon and kind.isascii() and kind.isdigit():
            self._by_pid(word, _number(kind, word, self.limit), _token(rest, word))
        elif colon and kind == "file":
            self._by_file(word, rest)
        elif colon and kind == "pidfile":
            self._by_pid_file(word, rest)
        elif colon and kind == "win":
            self._by_title(word, rest)
        elif colon and kind in _LATER:
            raise TargetError(
                f"`{word}`: {_LATER[kind]} cannot be named yet", hint="use the main process's pid, its name or its port"
            )
        elif word[0] in "-+" and word[1:].isdigit():
            raise TargetError(
                f"`{word}` is not a pid: a negative number would mean a process group",
                hint="use `PID --group`" if self.backend.reparents else "a pid is a positive number",
            )
        else:
            self._by_name(word)

    def _for_example(self, posix: str, windows: str) -> str:
        return f"for example `{posix if self.backend.reparents else windows}`"

    def _by_pid(self, word: str, pid: int, token: str) -> None:
        self._refuse_never(pid, word)
        target = self._pin(word, pid, token)
        if isinstance(target, Missing):
            self.found.missing.append(target)
        else:
            self._add(target)

    def _by_name(self, word: str) -> None:
        backend = self.backend
        kernel = never = 0
        served = ""
        pids = []
        everybody, filtered = self._everybody(word)
        for pid, short in self._names(word, everybody):
            if pid <= 1 or pid in self.own_line:
                never += 1
                continue
            if not self._passes(pid):  # before anything dearer: most processes fail the first check
                filtered += 1
                continue
            row = self.table.get(pid) if self.table is not None else None
            why = backend.untouchable(pid, short)
            if (row.kernel if row is not None else self._is_kernel(pid)) or why:
                kernel += 1
                served = served or why
                continue
            pids.append(pid)

        def still(pid: int) -> bool:
            short = backend.short_name(pid)
            return short is not None and _fits(word, backend.full_name(pid, short), folds_case=backend.folds_case)

        if not pids and not filtered and (kernel or never):
            self._refuse_matches(word, kernel, served)
        nobody = _nobody(word, found=bool(pids), filtered=bool(filtered))
        hides = not pids and self._is_partly_hidden()
        if not pids and not filtered and self._is_cut(word):
            nobody += f" (that is a longer name, cut at 15 characters: `{word}*`)"
        if hides:
            nobody += ", but the processes of other users are hidden from us"
        self._select(word, pids, lambda: still, nobody=nobody, code="not-permitted" if hides else "no-match")

    def _everybody(self, word: str) -> tuple[list[int], int]:
        """Return whose names are to be read (nobody's if the table is at hand), and how many the filters have left out already."""
        if self.table is not None:
            return [], 0
        everybody = self.backend.list_pids()
        if word != "*" or not self.checks:
            return everybody, 0
        passing = [pid for pid in everybody if self._passes(pid)]  # no name decides anything, so the filters come first
        return passing, len(everybody) - len(passing)

    def _is_cut(self, word: str) -> bool:
        """Return whether it is what ps(1) and top(1) show of a longer name (TASK_COMM_LEN, proc_pid_comm(5))."""
        if len(word.encode("utf-8", "replace")) != _SHORT:  # a byte for each that is not UTF-8, as in the name
            return False
        return any(self.backend.short_name(pid) == word for pid in self.backend.list_pids())

    def _is_partly_hidden(self) -> bool:
        """Return whether others may be hidden from us (hidepid, proc(5)): pid 1 is always there, and it cannot be seen."""
        return self.backend.reparents and self.backend.short_name(1) is None

    def _refuse_matches(self, word: str, kernel: int, served: str) -> None:
        if served and self.backend.reparents:  # Windows has too many of its own to say of each what it does
            raise RefusedError(f"`{word}` is never selected: {served}", hint="name a program")
        if kernel:
            what = (
                "what belongs to Windows itself"
                if self.backend.has_ladders
                else "kernel threads, which nothing can stop"
            )
            raise RefusedError(f"`{word}` names {what}", hint="name a program")
        text = f"`{word}` matches only endtask itself, its ancestors or pid 1, which are never selected"
        raise RefusedError(text, hint="name another process")

    def _names(self, word: str, pids: Iterable[int]) -> list[tuple[int, str]]:
        """Return pid and short name of those of *pids* (of the table, if it is at hand) whose name fits; the short name decides first, because it is one small read."""
        backend = self.backend
        folds = backend.folds_case
        head = word.split("*", 1)[0].split("?", 1)[0]
        cut = head[:_SHORT]
        found = []
        if self.table is not None:
            shorts: Iterable[tuple[int, str | None]] = ((r.pid, r.comm) for r in self.table.values())
        else:
            shorts = ((pid, backend.short_name(pid)) for pid in pids)
        for pid, short in shorts:
            if short is None:
                continue
            if not folds and not short.startswith(cut) and len(short.encode("utf-8", "surrogateescape")) < _SHORT:
                continue
            if _fits(word, backend.full_name(pid, short), folds_case=folds):
                found.append((pid, short))
        return found

    def _is_kernel(self, pid: int) -> bool:
        row = self.backend.row(pid)
        return row is not None and row.kernel

    def _by_port(self, word: str, proto: str, text: str) -> None:
        if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 0 < int(text) < 65536:
            raise TargetError(
                f"`{word}` is not a port", hint="for example `:3000` or `udp:53`; ports go from 1 to 65535"
            )
        port = int(text)
        listeners = self.backend.listeners(proto, port)
        pids = sorted({p for listener in listeners for p in listener.pids})
        if listeners and not pids:
            uid = listeners[0].uid  # -1: Windows, which does not tell
            who = f"somebody (user {self.backend.user_name(uid)})" if uid >= 0 else "somebody"
            self.found.missing.append(
                Missing(
                    word,
                    f"{who} listens on {word}, and we may not see which process",
                    "not-permitted",
                )
            )
            return
        usable = self._usable(pids)
        if pids and not usable:
            self._refuse_holders(word, pids)

        def confirm() -> Callable[[int], bool]:
            holders = {p for listener in self.backend.listeners(proto, port) for p in listener.pids}
            return holders.__contains__

        nobody = f"nobody listens on {proto} port {port}" if not usable else f"nobody on {proto} port {port}"
        self._select(word, usable, confirm, nobody=nobody)
        targets = {t.ref.pid: t for t in self.found.targets}
        for pid in {self._at_or_above(p, targets) for p in usable if self._passes(p)} & targets.keys():
            targets[pid].ports += ((proto, port),)
            targets[pid].sockets |= frozenset(listener.inode for listener in listeners)

    def _refuse_holders(self, word: str, pids: Sequence[int]) -> None:
        who = ", ".join(f"{p} {self.backend.short_name(p) or '?'}" for p in pids)
        text = f"{word} is held by {who}, which endtask never selects"
        why = self._served(pids)
        if why and self.backend.reparents:  # Linux, where only Wine's server does that
            hint = "name the program that listens; `endtask look '*.exe'` shows all Windows programs"
            raise RefusedError(f"{text}: {why}", hint=hint)
        raise RefusedError(text + (f": {why}" if why else ""), hint="stop the service that owns the socket")

    def _by_file(self, word: str, path: str) -> None:
        if not path:
            raise TargetError(
                f"`{word}` names no file", hint=self._for_example("file:/var/log/app.log", r"file:C:\logs\app.log")
            )
        try:
            pids, hidden = self.backend.file_holders(path)
        except AccessDeniedError as exc:
            self.found.missing.append(
                Missing(word, f"`{path}` may not be looked at: {_wrong(exc, path)}", "not-permitted")
            )
            return
        except OsCallError as exc:
            self.found.missing.append(Missing(word, f"`{path}` cannot be looked at: {_wrong(exc, path)}"))
            return
        usable = self._usable(pids)
        if pids and not usable:
            text = f"`{path}` is held only by endtask itself, its ancestors or pid 1"
            why = self._served(pids)
            text = f"`{path}` is held by what endtask never selects: {why}" if why else text
            raise RefusedError(text, hint="name another process")

        def confirm() -> Callable[[int], bool]:
            return frozenset(self.backend.file_holders(path)[0]).__contains__

        nobody = f"no process has `{path}` open" if not usable else f"no process that has `{path}` open"
        if hidden:
            nobody += f", but {hidden} process{'' if hidden == 1 else 'es'} could not be looked into"
        self._select(word, usable, confirm, nobody=nobody, code="not-permitted" if hidden else "no-match")

    def _by_title(self, word: str, pattern: str) -> None:
        if not pattern:
            raise TargetError(f"`{word}` names no title", hint='for example `win:"*Notepad"`')
        pids = self.backend.title_owners(pattern)
        usable = [p for p in pids if p > 1 and p not in self.own_line]
        if pids and not usable:
            text = f"only endtask's own window and those of its ancestors have a title like `{pattern}`"
            raise RefusedError(text, hint="name another process")

        def confirm() -> Callable[[int], bool]:
            return frozenset(self.backend.title_owners(pattern)).__contains__

        self._select(word, usable, confirm, nobody=f"no visible window has a title like `{pattern}`")

    def _by_pid_file(  # size: each way in which a pid file can be wrong has its sentence
        self, word: str, path: str
    ) -> None:  # size: each way in which a pid file can be wrong has its sentence
        if not path:
            raise TargetError(
                f"`{word}` names no file",
                hint=self._for_example("pidfile:/run/nginx.pid", r"pidfile:C:\nginx\logs\nginx.pid"),
            )
        try:
            content, age_s = self.backend.pid_file(path)
        except OsCallError as exc:
            code = "not-permitted" if isinstance(exc, AccessDeniedError) else "no-match"
            self.found.missing.append(Missing(word, f"the pid file `{path}` cannot be read: {_wrong(exc, path)}", code))
            return
        first = content.split(b"\n", 1)[0].strip()  # postmaster.pid has more lines after the pid
        if not first.isdigit() or len(first) > 10:
            shown = "is empty" if not content.strip() else "does not begin with a pid"
            raise TargetError(f"the pid file `{path}` {shown}", hint="name the process itself")
        pid = _number(first.decode("ascii"), word, self.limit)
        self._refuse_never(pid, word)
        target = self._pin(word, pid, "")
        if isinstance(target, Missing):
            code = "stale" if target.code == "no-match" and self.backend.row(pid) is None else target.code
            self.found.missing.append(Missing(word, f"the pid file `{path}` names {pid}: {target.text}", code))
            return
        row = self.backend.row(pid)  # read after the handle was opened, so it is the handle's process or nobody
        if row is None and target.pin is not None and self.backend.exited(target.pin):
            target.close()
            self.found.missing.append(
                Missing(word, f"the pid file `{path}` names {pid}, which has just ended", "stale")
            )
            return
        if row is None:
            target.close()
            text = f"process {pid} of the pid file `{path}` is hidden, so whether the file is stale cannot be told"
            self.found.missing.append(Missing(word, text, "not-permitted"))
            return
        # A pid file is written by the process it names, so a process that is younger than the file is another one.
        if self.backend.age_s(row) < age_s - _PID_FILE_SLACK_S:
            target.close()
            text = f"the pid file `{path}` is stale: process {pid} ({row.comm}) started after it was written"
            self.found.missing.append(Missing(word, text, "stale"))
        else:
            self._add(target)

    # ------------------------------------------------------------------ pin and confirm

    def _usable(self, pids: Iterable[int]) -> list[int]:
        """Return those holders that may be selected: not what holds a port or file for another program (Wine's server does)."""
        return [p for p in pids if p > 1 and p not in self.own_line and not self.backend.untouchable(p)]

    def _served(self, pids: Iterable[int]) -> str:
        """Return for whom one of them holds it, empty if they hold it for themselves."""
        return next((why for why in map(self.backend.untouchable, pids) if why), "")

    def _refuse_never(self, pid: int, word: str) -> None:
        if pid == 1 and self.backend.reparents:
            text = f"`{word}` is pid 1, which is never selected"
            raise RefusedError(text, hint="stop the system by `systemctl` or `shutdown`, a container from outside")
        if pid in self.own_line:
            who = "endtask itself" if pid == self.own_line[0] else "an ancestor of endtask"
            raise RefusedError(f"`{word}` is {who}, which is never selected", hint="run endtask from somewhere else")
        why = self.backend.untouchable(pid)
        if why:
            raise RefusedError(f"`{word}` is never selected: {why}", hint="name a program")
        if self._is_kernel(pid):
            what = "part of the Windows kernel" if self.backend.name == "windows" else "a kernel thread"
            raise RefusedError(f"`{word}` is {what}, which nothing can stop", hint="name a program")

    def _select(
        self,
        word: str,
        pids: Sequence[int],
        confirm: Callable[[], Callable[[int], bool]],
        *,
        nobody: str,
        code: str = "no-match",
    ) -> None:
        """Pin what passes the filters, keep the independent ones, and refuse too many.

        Args:
            word: The WHAT.
            pids: What matched at a first look, filters not applied.
            confirm: Called when the handles are open; returns whether a pid still matches.
            nobody: What to say when nothing is left.
            code: The code of that.
        """
        fresh = [p for p in pids if p not in self._seen]
        opened, refused = self._open(word, [p for p in fresh if self._passes(p)])
        matches_still = confirm() if opened else None
        targets = []
        for target in opened:
            pid = target.ref.pid
            if matches_still is not None and matches_still(pid) and self._passes(pid) and self._named(target):
                targets.append(target)
            else:
                target.close()  # it changed while we looked: it has ended, or it is another process by now
        targets = self._without_dead(targets)
        matched = len(targets)
        if not self.below_too:
            targets = self._independent(targets, self._seen.intersection(pids))
        if len(targets) > 1 and not self.several:
            lines = tuple(self._line(t) for t in targets)
            for target in targets:
                target.close()
            text = f"`{word}` matches {len(targets)} independent programs"
            raise AmbiguousError(text, hint="name one by its pid, or use `--all`", matches=lines)
        for target in targets:
            self._add(target)
        self.found.missing += refused
        if not matched and not refused and len(fresh) == len(pids):
            self.found.missing.append(Missing(word, f"{nobody} that passes the filters" if pids else nobody, code))

    def _passes(self, pid: int) -> bool:
        return all(check(pid) for check in self.checks)

    def _open(self, word: str, pids: Sequence[int]) -> tuple[list[Target], list[Missing]]:
        """Open a handle on each pid; what has gone is left out, what may not be opened is told."""
        opened = []
        refused = []
        for pid in pids:
            try:
                pin = self.backend.pin(pid)
            except GoneError:
                continue
            except AccessDeniedError as exc:
                refused.append(Missing(word, exc.message, "not-permitted"))
                continue
            opened.append(self._target(word, pin))
        return opened, refused

    def _named(self, target: Target) -> bool:
        """Fill in the name; False if the process has gone."""
        pid = target.ref.pid
        short = self.backend.short_name(pid)
        if short is None:
            return target.pin is not None and not self.backend.exited(target.pin)
        target.name = self.backend.full_name(pid, short)
        return True

    def _pin(self, word: str, pid: int, token: str) -> Target | Missing:
        """Open a handle on a process that was named by its pid."""
        try:
            pin = self.backend.pin(pid, token)
        except GoneError as exc:
            return Missing(word, exc.text, "gone" if token else "no-match")
        except AccessDeniedError as exc:
            hint = f"; {exc.hint}" if exc.hint else ""
            return Missing(word, f"process {pid} may not be held: {exc.text}{hint}", "not-permitted")
        target = self._target(word, pin)
        if not self._passes(pid):
            target.close()
            return Missing(word, f"process {pid} does not pass the filters")
        self._named(target)
        return target

    def _target(self, word: str, pin: Pin) -> Target:
        target = Target(word, pin.ref, "", pin)
        self._opened.append(target)
        target.pin = self._spare(pin)
        return target

    def _spare(self, pin: Pin) -> Pin | None:
        """Return *pin*, or None after closing it because too many are open: an exact token finds the same process again, or nobody."""
        if len(self._opened) == 1:
            return pin  # one is always possible, and to ask for the limits costs more than to open it
        if not self._measured:
            self._measured = True
            self._room = max(8, self.backend.capacity() // 2) - 1  # for the first one
        self._room -= 1
        if self._room >= 0 or not pin.exact or pin.ref.token.startswith("t"):
            return pin
        pin.close()
        return None

    def _without_dead(self, targets: list[Target]) -> list[Target]:
        """Leave out what has exited already, unless nothing else matched."""
        alive = [t for t in targets if t.pin is None or not self.backend.exited(t.pin)]
        if not alive:
            return targets
        kept = {t.ref for t in alive}
        for target in targets:
            if target.ref not in kept:
                target.close()
        return alive

    def _independent(self, targets: list[Target], selected: set[int]) -> list[Target]:
        """Leave out what is below another one of them, or below a match that an earlier word has selected."""
        pids = selected.union([t.ref.pid for t in targets])
        if len(pids) < 2:
            return targets
        parents: dict[int, int] = {}
        result = []
        for target in targets:
            pid = target.ref.pid
            above = self._at_or_above(self._parent(pid, parents), pids, parents)
            if above in pids and above != pid:
                target.close()
            else:
                result.append(target)
        return result

    def _at_or_above(self, pid: int, pids: Container[int], parents: dict[int, int] | None = None) -> int:
        """Return the nearest of *pids* among a process and its ancestors; 1 or less if there is none."""
        parents = {} if parents is None else parents
        passed = set()
        while pid > 1 and pid not in pids and pid not in passed:
            passed.add(pid)
            pid = self._parent(pid, parents)
        return 0 if pid in passed else pid

    def _parent(self, pid: int, parents: dict[int, int]) -> int:
        if pid not in parents:
            row = self.table.get(pid) if self.table is not None else self.backend.row(pid)
            parents[pid] = row.ppid if row is not None else 0
        return parents[pid]

    def _line(self, target: Target) -> str:
        pid = target.ref.pid
        owner = self.backend.owner(pid)
        arguments = " ".join(self.backend.command_line(pid) or ())
        user = self.backend.user_name(owner) if owner is not None else "?"
        shown = arguments if len(arguments) <= _LINE else arguments[: _LINE - 3] + "..."
        return f"{target.ref} {target.name}  user {user}  {shown}".rstrip()

    def _add(self, target: Target) -> None:
        if target.ref.pid in self._seen:
            target.close()
            return
        self._seen.add(target.ref.pid)
        self.found.targets.append(target)


def _fits(word: str, name: str, *, folds_case: bool) -> bool:
    """Return whether a name is meant by a word; the ending `.exe` may be left out (Windows, and Wine's programs)."""
    if matches(word, name, folds_case=folds_case):
        return True
    return name[-4:].lower() == ".exe" and matches(word, name[:-4], folds_case=folds_case)


_NO_FILE = 2  # ENOENT, and ERROR_FILE_NOT_FOUND


def _wrong(exc: OsCallError, path: str) -> str:
    """Return what is wrong with a file whose name has been said already."""
    text = "there is no such file" if exc.code == _NO_FILE else exc.text.removeprefix(f"`{path}`: ")
    return text[:1].lower() + text[1:]  # strerror(3) begins a sentence


def _number(digits: str, word: str, limit: int) -> int:
    number = int(digits) if len(digits) < 12 else limit + 1
    if number == 0:
        raise TargetError(f"`{word}`: pid 0 is no process", hint="a pid is a number from 2 up")
    if number > limit:
        raise TargetError(f"`{word}` is larger than any pid", hint=f"the largest is {limit}")
    return number


def _token(text: str, word: str) -> str:
    digits = text.removeprefix("t")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise TargetError(
            f"`{word}` has no valid token after the colon", hint="copy `pid:token` as `endtask find` prints it"
        )
    return text


def find(backend: Backend, words: Sequence[str], wanted: Filter) -> list[tuple[PidRef, str]]:
    """Return identity and name of everything that the words mean, children of a match left out.

    Raises:
        NothingMatchedError: A word matched nothing.
    """
    found = Finder(backend, wanted, several=True).run(words)
    try:
        if found.missing:
            raise NothingMatchedError(found.missing[0].text)
        return [(t.ref, t.name) for t in found.targets]
    finally:
        found.close()


def _nobody(word: str, *, found: bool, filtered: bool) -> str:
    """Return the sentence for a name that matches nothing."""
    text = f"no process is named `{word}`" if not found and not filtered else f"no process named `{word}`"
    if filtered and not found:
        text += " passes the filters"
    port = word.rstrip("/").rpartition(":")[2]
    if ":" in word and port.isascii() and port.isdigit():  # `localhost:3000`, an address out of a browser
        text += f" (who listens on the port: `:{port}`)"
    elif "/" in word:
        text += f" (a name has no slash; who has the file open: `file:{word}`)"
    return text
