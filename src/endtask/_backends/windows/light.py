"""The facts that a stop needs of many processes: how one can be asked, and what it is doing instead of ending.

`look` may take a tenth of a second for a process, a stop of two hundred programs may not. So what is shown and decides nothing is not asked here
(ports, who looks after it, arguments, the job, who else is on its console), and what is asked is asked in the way that costs least:

- The pictures of all processes and of all windows, the list of services and the header of a program's file may be a moment old.
  A process that is younger than that is asked about anew.
- Nobody is waited for before the first request: whether a window answers says nothing about how its program is asked.
- The runtime is read where console events are chosen by it, from the process's own list of what it has loaded.

A test counts the calls.
"""

from __future__ import annotations

import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import facts, handles, images, memory
from endtask._backends.windows.handles import open_more
from endtask._backends.windows.traits import WHOLE, Look, reason_of
from endtask.errors import OsCallError
from endtask.model import Facts, WindowsFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.images import Image
    from endtask._backends.windows.reader import TableReader
    from endtask._backends.windows.table import Snapshot
    from endtask.model import Row, Service, Window

_TABLE_S = {"ladder": 1.0, "state": 0.25}  # how old a picture of all processes may be
_HEADER_S = 10.0  # how long the header of a program's file is remembered
_SERVICE_S = 0.1  # the service manager notes the pid of a process right after it has made it
_EVENTS_CHOSEN_BY_RUNTIME = ("console", "gui-windowless")


def collect(reader: TableReader, pin: WindowsPin, part: str, *, company: bool) -> Facts:
    """Read what a part of the facts needs; what ends meanwhile is said in the fields, never raised.

    Args:
        reader: Whose tables are used.
        pin: The process.
        part: `ladder` or `state`.
        company: Whether to tell who else is on its console, too.
    """
    try:
        if handles.has_exited(pin):
            return facts.ended(pin)
        snapshot = reader.processes.showing(pin, _TABLE_S[part])
    except OsCallError as exc:
        return Facts(pin.ref, f"pid {pin.ref.pid}", unknown=(("everything", exc.message),))
    row = snapshot.row(pin.ref.pid)
    if row is None or row.start != pin.created:
        return facts.not_shown(pin)
    look = _Look(reader, pin, row, snapshot)
    known = look.to_ask(company=company) if part == "ladder" else look.state()
    if facts.exited(pin):
        return facts.ended(pin)
    state = "T" if known.suspended else "R"
    unknown = tuple(look.unknown.items())
    return Facts(pin.ref, row.comm, row.ppid, state=state, kernel=row.kernel, windows=known, unknown=unknown)


class Headers:
    """What the headers of program files say, remembered for some seconds: two hundred processes run a few programs."""

    __slots__ = ("_known", "_since")

    def __init__(self) -> None:
        self._known: dict[str, Image | None] = {}
        self._since = 0.0

    def of(self, path: str) -> Image | None:
        """Return what the header of a file says, None if there is none to read."""
        if time.monotonic() - self._since > _HEADER_S:
            self._known.clear()
            self._since = time.monotonic()
        if path not in self._known:
            self._known[path] = images.image_of_file(path)
        return self._known[path]


class _Look(Look):
    """One look with these questions only."""

    def __init__(self, reader: TableReader, pin: WindowsPin, row: Row, snapshot: Snapshot) -> None:
        super().__init__(pin, row, snapshot)
        self.reader = reader

    def state(self) -> WindowsFacts:
        """Return what the process is doing."""
        us = self.reader.ourselves()
        windows = self._windows(us)
        return WindowsFacts(
            runtime=images.runtime_of(self.row.comm, ()),  # whether it is cmd.exe, which its name tells
            windows=windows,
            hung=self._hung(windows, self.reader.hung),
            session=self.row.desktop_session,
            same_session=self.row.desktop_session == us.session,
            services=self._services(),
            suspended=self.snapshot.suspended(self.pin.ref.pid),
            wine=us.wine,
        )

    def to_ask(self, *, company: bool) -> WindowsFacts:
        """Return what decides how the process is asked."""
        self._read_program()
        return self._to_ask(self.reader.ourselves(), self._read_memory_for, company=company)

    def _read_program(self) -> None:
        if self.row.kernel:
            return
        self.exe = self.ask("exe", lambda: images.path_of(self.pin.handle), "")
        self.ask("user", self._read_token, None)
        self._image = self.reader.headers.of(self.exe) if self.exe else None

    def _read_memory_for(self, kind: str) -> str:
        """Read what the process says of its console, and return its runtime where that matters for a process of that kind."""
        if self.row.kernel:
            return ""
        matters = kind in _EVENTS_CHOSEN_BY_RUNTIME
        try:
            with open_more(self.pin, WHOLE) as handle:
                modules = self._modules(handle, needed=matters)
        except OsCallError as exc:
            for field in ("windows.ignores_ctrl_c", "windows.console", "windows.runtime"):
                self.unknown[field] = reason_of(exc)
            modules = ()
        is_go = self._image is not None and self._image.is_go
        return images.runtime_of(self.row.comm, modules, is_go=is_go) if matters else ""

    def _modules(self, handle: int, *, needed: bool) -> tuple[str, ...]:
        try:
            little = memory.read_little(handle, images.NAME_LENGTHS if needed else frozenset())
        except OsCallError as exc:
            for field in ("windows.ignores_ctrl_c", "windows.console"):
                self.unknown[field] = reason_of(exc)
            # Of another pointer size, for instance; Windows itself can list them all the same.
            return self.ask("windows.runtime", lambda: images.module_paths(handle), ()) if needed else ()
        self.parameters = little.parameters
        return little.names

    def _all_windows(self) -> tuple[Window, ...]:
        return self.reader.windows_now().of(self.pin.ref.pid)

    def _services(self) -> tuple[Service, ...]:
        """Return its services; the list of all of them does for many, but not for who is younger than it."""
        young_s = self.reader.age_s(self.row) - _SERVICE_S
        return super()._services() if self.reader.services(self.pin.ref.pid, younger_than_s=young_s) else ()
