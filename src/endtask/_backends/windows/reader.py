"""All reading methods of the backend: what the tables and the processes themselves tell by pid.

Decision: by pid means a hint. Whatever an answer is used for, a pin confirms it.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import handles, memory
from endtask._backends.windows.table import ProcessTable, ended_row
from endtask._backends.windows.tokens import Users
from endtask.errors import OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Part, Pin
    from endtask._backends.windows.light import Headers
    from endtask._backends.windows.memory import Parameters
    from endtask._backends.windows.traits import Ourselves
    from endtask._backends.windows.window_list import Picture
    from endtask.model import Facts, Listener, Row, SignalSets

_MARK = "ENDTASK_MARK="
# What changes from process to process: the folders of the drives (`=C:=C:\x`), the prompt, what shells count.
_VOLATILE = ("=", "PROMPT=", "_=", "SHLVL=", "PWD=", "OLDPWD=")
_SERVICES_FRESH_S = 1.0
_SAID_FRESH_S = 0.05
_MOST_KEPT = 256  # environments; some KiB each


class TableReader:
    """What can be read; `WindowsBackend` adds what is done through pins.

    Attributes:
        processes: The process table.
        users: Numbers for users.
        hung: Threads whose windows did not answer when they were last asked; they are not waited for again.
    """

    def __init__(self) -> None:
        self.processes = ProcessTable()
        self.users = Users()
        self.hung: set[int] = set()
        self._headers: Headers | None = None
        self._picture: Picture | None = None
        self._ourselves: Ourselves | None = None
        self._services: tuple[float, dict[int, tuple[str, ...]]] = (-_SERVICES_FRESH_S, {})
        self._sessions: dict[int, str] = {}
        self._last_said: tuple[int, float, Parameters | None] | None = None
        self._kinships: dict[tuple[str, ...], frozenset[bytes]] = {}

    @property
    def name(self) -> str:
        """`windows`."""
        return "windows"

    @property
    def folds_case(self) -> bool:
        """True: file names, and so the names of programs, compare without regard to case."""
        return True

    @property
    def has_ladders(self) -> bool:
        """True: no request is heard by every kind of program."""
        return True

    @property
    def reparents(self) -> bool:
        """False: an orphan keeps the pid of its dead parent."""
        return False

    def now(self) -> float:
        """Monotonic clock, seconds; the performance counter, because `time.monotonic` moves in steps of 16 ms on Windows before Python 3.13."""
        return time.perf_counter()

    def ourselves(self) -> Ourselves:
        """Return our own user, session, integrity and machine; read once."""
        if self._ourselves is None:
            from endtask._backends.windows.traits import ourselves

            self._ourselves = ourselves()
        return self._ourselves

    @property
    def headers(self) -> Headers:
        """What the headers of program files say."""
        if self._headers is None:
            from endtask._backends.windows.light import Headers

            self._headers = Headers()
        return self._headers

    def windows_now(self) -> Picture:
        """Return the windows of our desktop: as they are, or, where there are many, as they were a moment ago.

        Raises:
            OsCallError: We have no desktop whose windows we may list.
        """
        last = self._picture
        if last is None or time.perf_counter() >= last.good_until:
            from endtask._backends.windows.window_list import Picture

            last = self._picture = Picture()
        return last

    def host(self) -> dict[str, str]:
        """Return host name, version of Windows, and our session."""
        version = sys.getwindowsversion()
        us = self.ourselves()
        return {
            "name": os.environ.get("COMPUTERNAME", ""),
            "kernel": f"Windows {version.major}.{version.minor}.{version.build}" + (" (Wine)" if us.wine else ""),
            "session": str(us.session),
        }

    def own_line(self) -> tuple[int, ...]:
        """Return our own pid and those of our ancestors, nearest first, each older than its child.

        Raises:
            OsCallError: The process table cannot be read.
        """
        return (os.getpid(), *self.processes.fresh().ancestors(os.getpid()))

    # ------------------------------------------------------------------ who is there

    def list_pids(self) -> list[int]:
        """Return every pid, ascending; without the idle process, which is none.

        Raises:
            OsCallError: The process table cannot be read.
        """
        return self.processes.fresh().pids()

    def short_name(self, pid: int) -> str | None:
        """Return the file name of the program, None if gone."""
        known = self.processes.holding(pid)
        if known is not None:
            return known.name(pid)
        ended = ended_row(pid)
        return None if ended is None else ended.comm

    def full_name(self, pid: int, short: str) -> str:
        """Return *short*: Windows cuts no names."""
        return short

    def row(self, pid: int) -> Row | None:
        """Return one line of the process table, None if gone; one that has ended and is still held by somebody has the state `Z`.

        Whether it is suspended is as old as the last picture of the table; `stopped` reads it anew.
        """
        known = self.processes.holding(pid)
        return ended_row(pid) if known is None else known.row(pid)

    def table(self) -> dict[int, Row]:
        """Return the whole process table.

        Raises:
            OsCallError: It cannot be read.
        """
        return self.processes.fresh().rows()

    def children(self, pid: int) -> list[int] | None:
        """Return the direct children that are younger than their parent, None if the table cannot be read."""
        try:
            return self.processes.fresh().children(pid)
        except OsCallError:
            return None

    def age_s(self, row: Row) -> float:
        """Return for how many seconds the process of *row* has existed, by the time of day."""
        return max(0.0, (handles.now_filetime() - row.start) / 1e7)

    # ------------------------------------------------------------------ users

    def owner(self, pid: int) -> int | None:
        """Return the number of the user that a process runs as, None if gone or not for us to see."""
        return self.users.owner(pid)

    def user_id(self, name: str) -> int:
        r"""Return the number of the user `name`, `DOMAIN\name` or `S-1-5-...`.

        Raises:
            TargetError: There is no such user.
        """
        return self.users.find(name)

    def user_name(self, uid: int) -> str:
        r"""Return `DOMAIN\user`, the number as text if it stands for nobody."""
        return self.users.name(uid)

    # ------------------------------------------------------------------ what it says of itself

    def command_line(self, pid: int) -> tuple[str, ...] | None:
        """Return the arguments, None if gone or unreadable."""
        line = memory.command_line_of(pid)
        return None if line is None else memory.split_arguments(line)

    def working_directory(self, pid: int) -> str | None:
        """Return the current directory, None if gone or unreadable."""
        found = self._said(pid, environment=False)
        return None if found is None else memory.plain_directory(found.directory)

    def _said(self, pid: int, *, environment: bool = True) -> Parameters | None:
        """Return what a process says of itself, which is asked for several things in a row; what was read of it a moment ago will do."""
        last, now = self._last_said, time.monotonic()
        if last is None or last[0] != pid or now - last[1] > _SAID_FRESH_S:
            found = memory.parameters_of(pid, environment=environment)
            if not environment:
                return found
            last = self._last_said = (pid, now, found)
        return last[2]

    def marks(self, pid: int) -> tuple[str, ...]:
        """Return the values of `ENDTASK_MARK` in the environment, which is the one the process has now; empty if none or unreadable."""
        found = memory.parameters_of(pid)
        entries = () if found is None else found.environment
        return tuple(e[len(_MARK) :] for e in entries if e.upper().startswith(_MARK))

    def kinship(self, pid: int) -> frozenset[bytes]:
        """Return the entries of the environment that programs rarely change, empty if unreadable."""
        found = self._said(pid)
        if found is None or not found.environment:
            return frozenset()
        known = self._kinships.get(found.environment)
        if known is None:
            if len(self._kinships) >= _MOST_KEPT:
                self._kinships.clear()
            kept = (e for e in found.environment if not e.upper().startswith(_VOLATILE))
            known = frozenset(e.encode("utf-16-le", "surrogatepass") for e in kept)
            self._kinships[found.environment] = known
        return known

    def shared_objects(self, pid: int) -> frozenset[str]:
        """Return nothing: which kernel objects two processes share is told to nobody without rights on the whole system."""
        return frozenset()

    def usage(self, pid: int) -> tuple[float, float] | None:
        """Return processor seconds used and working set in KiB, at most a second old; None if gone."""
        known = self.processes.recent(pid)
        return None if known is None else known.usage(pid)

    def modules(self, pid: int) -> tuple[str, ...]:
        """Return the paths of the program and its DLLs, empty if unreadable."""
        from endtask._backends.windows import images

        return images.modules_of(pid)

    # ------------------------------------------------------------------ windows and services

    def title_owners(self, pattern: str) -> list[int]:
        """Return the pids that own a visible top-level window whose title fits *pattern*.

        Raises:
            TargetError: We have no desktop.
        """
        from endtask._backends.windows import desktop

        return desktop.title_owners(pattern)

    def titles(self, pid: int) -> tuple[str, ...]:
        """Return the titles of the visible top-level windows of a process; empty where we may see none."""
        from endtask._backends.windows import desktop

        return desktop.titles(pid)

    def status(self, pid: int) -> str:
        """Return `running`, `not-responding`, `suspended` or `unknown` (no window of it can be asked, as taskkill says too); empty if gone."""
        known = self.processes.recent(pid)
        if known is None:
            return ""
        if known.suspended(pid):
            return "suspended"
        from endtask._backends.windows import desktop

        try:
            hung = desktop.hung(desktop.windows(pid))
        except OsCallError:
            return "unknown"
        return "unknown" if hung is None else "not-responding" if hung else "running"

    def session_name(self, row: Row) -> str:
        """Return the name of the session of a process: `Services`, `Console`, `RDP-Tcp#0`; empty for none or unknown."""
        known = self._sessions.get(row.desktop_session)
        if known is None:
            from endtask._backends.windows import sessions

            known = self._sessions[row.desktop_session] = sessions.session_name(row.desktop_session)
        return known

    def untouchable(self, pid: int, short: str | None = None) -> str:
        """Return why a process must never be stopped: Windows stops with it. Empty for all others."""
        from endtask._backends.windows import sessions

        return sessions.untouchable(pid)

    def services(self, pid: int, younger_than_s: float = _SERVICES_FRESH_S) -> tuple[str, ...]:
        """Return the names of the services in a process; at most a second old, or less where that is asked for."""
        at_s, known = self._services
        if time.monotonic() - at_s >= min(_SERVICES_FRESH_S, younger_than_s):
            from endtask._backends.windows import services

            try:
                known = services.by_pid()
            except OsCallError:
                known = {}  # ignored: the service manager does not talk to us
            self._services = (time.monotonic(), known)
        return known.get(pid, ())

    # ------------------------------------------------------------------ who holds what

    def listeners(self, proto: str, port: int) -> list[Listener]:
        """Return who listens on a port (`tcp` or `udp`, IPv4 and IPv6); one whose maker has ended has no pids.

        Raises:
            OsCallError: The tables cannot be read.
        """
        from endtask._backends.windows import ports

        return ports.listeners(proto, port, self.processes.fresh().pids())

    def file_holders(self, path: str) -> tuple[list[int], int]:
        """Return the pids that hold *path*, and how many processes could not be looked into.

        Raises:
            OsCallError: The file does not exist or cannot be looked at.
            AccessDeniedError: It may not be looked at.
        """
        from endtask._backends.windows import files

        return files.file_holders(path)

    def pid_file(self, path: str) -> tuple[bytes, float]:
        """Return the first 4,096 bytes of *path* and its age in seconds since the last write.

        Raises:
            OsCallError: It cannot be read.
            AccessDeniedError: It may not be read.
        """
        from endtask._backends.windows import files

        return files.pid_file(path)

    # ------------------------------------------------------------------ what Windows has not got

    def cgroup(self, pid: int) -> str:
        """Return nothing: there are no control groups."""
        return ""

    def cgroup_pids(self, cgroup: str) -> list[int] | None:
        """Return None: there are no control groups."""
        return None

    def cgroup_empty(self, cgroup: str) -> bool | None:
        """Return None: there are no control groups."""
        return None

    def signals(self, pid: int) -> SignalSets | None:
        """Return None: there are no signals between processes."""
        return None

    # ------------------------------------------------------------------ pinned

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        """Read everything that `look` needs; a process that ends meanwhile is said in the fields, never raised."""
        mine = handles.own(pin)
        if part != "all":
            from endtask._backends.windows import light

            return light.collect(self, mine, part, company=company)
        from endtask._backends.windows import facts

        return facts.collect(self, mine, company=company)

    def stopped(self, pin: Pin) -> bool:
        """Return whether all threads of the process are suspended."""
        mine = handles.own(pin)
        try:
            return not handles.has_exited(mine) and bool(self.processes.fresh().suspended(mine.ref.pid))
        except OsCallError:
            return False
