"""`endtask tasklist`: the list of processes in the three forms of Windows, on every platform.

The columns are those of Windows, and so is `N/A` for what is not there or may not be read.
On Linux the session name is the terminal, the session number the session id (setsid(2)), a service is the systemd unit, and modules are the mapped files.

Decision: rows are read and written in turn, so that the first lines of ten thousand are seen at once.
Who ends while the list is written keeps the values that were read before, or is left out.
"""

from __future__ import annotations

from endtask._filters import compile_filter, matches, module_name, session_number
from endtask._record import Record
from endtask.cli.console import shown
from endtask.cli.slash_options import Slash, SlashError, read
from endtask.cli.taskkill import fault_lines, filter_lines, this_machine
from endtask.cli.taskkill_arguments import FILTER, REMOTE, refuse_remote
from endtask.errors import AccessDeniedError, EndtaskError, GoneError, TargetError
from endtask.model import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from endtask._backends.base import Backend
    from endtask._filters import Check
    from endtask.cli.console import Console
    from endtask.cli.slash_options import Given
    from endtask.model import Row

    Value = str | tuple[str, ...]
    Reader = Callable[["Process"], Value]

OPTIONS: tuple[Slash, ...] = (
    *REMOTE,
    Slash("M", "optional", False, "the modules (mapped files) of each process, or who has that one", "[MODULE]"),
    Slash("SVC", "", False, "the services in each process"),
    Slash("V", "", False, "with status, user, processor time and window title"),
    Slash("APPS", "", False, "only packaged apps, with their packages (Windows)"),
    FILTER,
    Slash("FO", "required", False, "`TABLE` (if not given), `LIST` or `CSV`", "FORM"),
    Slash("NH", "", False, "without the header; for TABLE and CSV"),
)
NONE_MATCH = "INFO: No tasks are running which match the specified criteria."
NO_APPS = "INFO: This system has no packaged apps."
UNKNOWN = "N/A"
_FORMS = ("TABLE", "LIST", "CSV")
_AT_ONCE = 64  # rows for one write
_LABEL = 14  # width of the labels of a LIST, blanks included
_STATUSES = {"running": "Running", "not-responding": "Not Responding", "suspended": "Suspended"}


class Column(Record):
    """One column.

    Attributes:
        title: Its heading.
        width: In a TABLE.
        right: Whether it is set flush right.
        wraps: Whether it goes on in the next line; otherwise it is cut.
    """

    title: str
    width: int
    right: bool = False
    wraps: bool = False


IMAGE = Column("Image Name", 25)
PID = Column("PID", 8, right=True)
MEMORY = Column("Mem Usage", 12, right=True)
BASIC = (IMAGE, PID, Column("Session Name", 16), Column("Session#", 11, right=True), MEMORY)
VERBOSE = (
    Column("Status", 15),
    Column("User Name", 50),
    Column("CPU Time", 12, right=True),
    Column("Window Title", 72),
)
SERVICES = (IMAGE, PID, Column("Services", 44, wraps=True))
MODULES = (IMAGE, PID, Column("Modules", 44, wraps=True))
APPS = (Column("Image Name", 50), PID, MEMORY, Column("Package Name", 64))


def tasklist(argv: Sequence[str], console: Console, backend: Backend | None = None) -> int:
    """Run `endtask tasklist`.

    Args:
        argv: The arguments after the verb.
        console: Where to write.
        backend: The system; None for this machine.

    Returns:
        The exit code: 0, also for an empty list, or 1.
    """
    try:
        given = read(argv, OPTIONS)
        if given.help:
            from endtask.cli.help import help_text

            console.out.raw(help_text("tasklist"))
            return 0
        form = _check(given)
        _write(given, form, console, backend or this_machine())
    except SlashError as error:
        console.err.lines([f"ERROR: {error.message}", 'Type "TASKLIST /?" for usage.'])
        return 1
    except TargetError as error:
        console.err.lines(filter_lines(error))
        return 1
    except EndtaskError as error:
        console.err.lines(fault_lines(error))
        return 1
    return 0


def _check(given: Given) -> str:
    """Return the form of the output.

    Raises:
        SlashError: The options contradict each other.
    """
    refuse_remote(given)
    form = given.text("FO").upper() or "TABLE"
    if form not in _FORMS:
        raise SlashError(f"Invalid syntax. '{given.text('FO')}' value is not allowed for '/fo' option.")
    if sum(given.has(mode) for mode in ("V", "M", "SVC")) > 1:
        raise SlashError("Invalid syntax. /V, /M and /SVC options cannot be used together.")
    if given.has("APPS") and (given.has("M") or given.has("SVC")):
        raise SlashError("Invalid syntax. /APPS, /M and /SVC options cannot be used together.")
    if given.has("NH") and form == "LIST":
        raise SlashError("Invalid syntax. /NH option is allowed only for TABLE and CSV formats.")
    return form


def _write(given: Given, form: str, console: Console, backend: Backend) -> None:
    columns, readers = _columns(given)
    layout = _Layout(columns, form, header=not given.has("NH"))
    processes: Iterable[Process] = _processes(backend, compile_filter(backend, Filter(fi=given.texts("FI"))))
    if given.has("APPS"):
        apps = _only_apps(processes)
        if apps is None:
            console.out.line(NO_APPS)
            return
        processes = apps
    if given.text("M"):
        processes = _who_has(processes, given.text("M"))
    lines: list[str] = []
    count = 0
    for process in processes:
        lines += layout.row([reader(process) for reader in readers], first=not count)
        count += 1
        if count % _AT_ONCE == 0:
            console.out.lines(lines)
            lines.clear()
    console.out.lines(lines if count else [NONE_MATCH])


# --------------------------------------------------------------------------- what is shown


class Process:
    """One process of the list; what costs a read is read when a column wants it.

    Attributes:
        backend: The system.
        row: Its line of the process table.
        package: Full name of its package (Windows).
        modules: Names of its modules, read for `/M`.
    """

    __slots__ = ("_usage", "backend", "modules", "package", "row")

    def __init__(self, backend: Backend, row: Row) -> None:
        self.backend = backend
        self.row = row
        self.package = ""
        self.modules: tuple[str, ...] | None = None
        self._usage: tuple[float, float] | tuple[()] | None = None

    @property
    def usage(self) -> tuple[float, float] | tuple[()]:
        """Processor seconds and KiB, empty if they cannot be read."""
        if self._usage is None:
            self._usage = self.backend.usage(self.row.pid) or ()
        return self._usage


def _image(process: Process) -> str:
    return process.backend.full_name(process.row.pid, process.row.comm)


def _pid(process: Process) -> str:
    return str(process.row.pid)


def _session_name(process: Process) -> str:
    return process.backend.session_name(process.row) or UNKNOWN


def _session(process: Process) -> str:
    return str(session_number(process.row))


def _memory(process: Process) -> str:
    usage = process.usage
    return f"{int(usage[1]):,} K" if usage else UNKNOWN


def _status(process: Process) -> str:
    return _STATUSES.get(process.backend.status(process.row.pid), "Unknown")


def _user(process: Process) -> str:
    owner = process.backend.owner(process.row.pid)
    return process.backend.user_name(owner) if owner is not None else UNKNOWN


def _cpu_time(process: Process) -> str:
    usage = process.usage
    if not usage:
        return UNKNOWN
    minutes, seconds = divmod(int(usage[0]), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _title(process: Process) -> str:
    return next(iter(process.backend.titles(process.row.pid)), UNKNOWN)


def _services(process: Process) -> tuple[str, ...]:
    return process.backend.services(process.row.pid) or (UNKNOWN,)


def _modules(process: Process) -> tuple[str, ...]:
    found = process.modules if process.modules is not None else _module_names(process)
    return found or (UNKNOWN,)


def _module_names(process: Process) -> tuple[str, ...]:
    return tuple(module_name(path) for path in process.backend.modules(process.row.pid))


def _package(process: Process) -> str:
    return process.package


def _columns(given: Given) -> tuple[tuple[Column, ...], tuple[Reader, ...]]:
    """Return the columns of a list, and what reads each."""
    if given.has("SVC"):
        return SERVICES, (_image, _pid, _services)
    if given.has("M"):
        return MODULES, (_image, _pid, _modules)
    columns: tuple[Column, ...] = BASIC
    readers: tuple[Reader, ...] = (_image, _pid, _session_name, _session, _memory)
    if given.has("APPS"):
        columns, readers = APPS, (_image, _pid, _memory, _package)
    if given.has("V"):
        return (*columns, *VERBOSE), (*readers, _status, _user, _cpu_time, _title)
    return columns, readers


# --------------------------------------------------------------------------- which processes


def _processes(backend: Backend, checks: Sequence[Check]) -> Iterator[Process]:
    for pid, row in sorted(backend.table().items()):
        if _runs(backend, row) and all(check(pid) for check in checks):
            yield Process(backend, row)


def _runs(backend: Backend, row: Row) -> bool:
    """Return whether a process has not exited; a main thread that has (state Z) may have left others running."""
    if row.state not in ("Z", "X"):
        return True
    try:
        pin = backend.pin(row.pid)
    except (GoneError, AccessDeniedError):
        return False
    try:
        return not backend.exited(pin)
    finally:
        pin.close()


def _who_has(processes: Iterable[Process], pattern: str) -> Iterator[Process]:
    """Return the processes that have a module of that name, with those modules only."""
    for process in processes:
        folds = process.backend.folds_case
        process.modules = tuple(m for m in _module_names(process) if matches(pattern, m, folds_case=folds))
        if process.modules:
            yield process


def _only_apps(processes: Iterable[Process]) -> list[Process] | None:
    """Return the packaged apps, None where the system has none.

    A list, because whether it has is only seen on the way.
    """
    apps = []
    for process in processes:
        try:
            pin = process.backend.pin(process.row.pid)
        except (GoneError, AccessDeniedError):
            continue
        try:
            windows = process.backend.facts(pin, company=False).windows
        finally:
            pin.close()
        if windows is None:
            return None
        process.package = windows.package
        if process.package:
            apps.append(process)
    return apps


# --------------------------------------------------------------------------- the three forms


class _Layout:
    """Makes the lines of one form."""

    def __init__(self, columns: Sequence[Column], form: str, *, header: bool) -> None:
        self.columns = columns
        self.header = header
        self.row_lines = {"TABLE": self._table, "LIST": self._list, "CSV": self._csv}[form]
        self.form = form

    def row(self, values: Sequence[Value], *, first: bool) -> list[str]:
        """Return the lines of one process, with the header before the *first*."""
        lines = self.row_lines(values)
        return [*self._head(), *lines] if first else lines

    def _head(self) -> list[str]:
        titles = [c.title for c in self.columns]
        if self.form == "CSV":
            return self._csv(titles) if self.header else []
        if self.form == "LIST" or not self.header:
            return [""] if self.form == "TABLE" else []
        return ["", *self._table(titles), " ".join("=" * c.width for c in self.columns)]

    def _table(self, values: Sequence[Value]) -> list[str]:
        cells = []
        more: list[str] = []
        for column, value in zip(self.columns, values, strict=True):
            if column.wraps and not isinstance(value, str):
                text, *more = _wrapped(value, column.width)
            else:
                text = shown(_joined(value, ", "))[: column.width]
            cells.append(text.rjust(column.width) if column.right else text.ljust(column.width))
        indent = " " * (sum(c.width + 1 for c in self.columns[:-1]))
        return [" ".join(cells), *(indent + line.ljust(self.columns[-1].width) for line in more)]

    def _list(self, values: Sequence[Value]) -> list[str]:
        lines = [""]
        for column, value in zip(self.columns, values, strict=True):
            first, *rest = (value,) if isinstance(value, str) else value
            lines.append(f"{column.title + ':':<{_LABEL}}{first}")
            lines += [" " * _LABEL + more for more in rest]
        return lines

    def _csv(self, values: Sequence[Value]) -> list[str]:
        quoted = (shown(_joined(value, ",")).replace('"', '""') for value in values)
        return [",".join(f'"{text}"' for text in quoted)]


def _joined(value: Value, separator: str) -> str:
    return value if isinstance(value, str) else separator.join(value)


def _wrapped(values: Sequence[str], width: int) -> list[str]:
    """Return names with commas between them in lines of at most *width*; a longer name is cut."""
    lines: list[str] = []
    for number, value in enumerate(values):
        comma = "," if number < len(values) - 1 else ""
        text = shown(value)[: width - len(comma)] + comma
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines
