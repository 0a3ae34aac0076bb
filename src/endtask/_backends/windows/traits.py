"""What only Windows knows of a process, and of which kind it is: how it can be asked follows from that.

Decision: every question stands alone. One that is refused, or that this system does not know, leaves its own field unknown with the reason, and no other.

The kind is judged last, from what was found (`kind_of`, pure). A package alone does not make a program a packaged one: Python from the Store is a console program
with a package. What is suspended and closed as an app runs in an app container.
"""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

from endtask._backends.windows import images, jobs, memory, sessions, tokens
from endtask._backends.windows.handles import open_more
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import DWORD
from endtask._record import Record, replace
from endtask.errors import OsCallError
from endtask.model import WindowsFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from endtask._backends.windows.handles import WindowsPin
    from endtask._backends.windows.images import Image
    from endtask._backends.windows.memory import Parameters
    from endtask._backends.windows.table import Snapshot
    from endtask.model import Kind, Row, Service, Window

    T = TypeVar("T")

WHOLE = kernel32.PROCESS_QUERY_INFORMATION | kernel32.PROCESS_VM_READ
_LONGEST_PACKAGE = 256
SYSTEMS_OWN = ("helper", "console", "message-only")
_UNTOLD = "this system does not tell"


class Ourselves(Record):
    """What a process is compared with.

    Attributes:
        sid: SID of our user, empty if unknown.
        integrity: Our integrity level, -1 if unknown.
        session: Our session, -1 if unknown.
        machine: Our machine, empty if unknown.
        wine: Whether this is Wine.
    """

    sid: bytes
    integrity: int
    session: int
    machine: str
    wine: bool


def ourselves() -> Ourselves:
    """Read what we are."""
    own = kernel32.GetCurrentProcess()
    sid, integrity = b"", -1
    try:
        with tokens.open_token(own) as token:
            sid, integrity = tokens.user_of(token), tokens.integrity_of(token)
    except OsCallError:
        pass  # ignored: a sandbox that hides its own token; all comparisons are unknown then
    session = DWORD()
    known = kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session))
    wine = ntdll.wine_get_version is not None
    return Ourselves(sid, integrity, session.value if known else -1, images.machine_of(own), wine)


class Look:
    """One look at one process: what was read so far, and what could not be.

    Attributes:
        pin: The process.
        row: Its line in the table.
        snapshot: The picture that the line is from.
        unknown: Names of fields and why they are unknown.
        exe: Path of its program, empty if unknown.
        parameters: What it says of itself, None if unreadable.
        modules: Paths of what it has loaded, empty if unreadable.
        sid: SID of its user, empty if unknown.
    """

    def __init__(self, pin: WindowsPin, row: Row, snapshot: Snapshot) -> None:
        self.pin = pin
        self.row = row
        self.snapshot = snapshot
        self.unknown: dict[str, str] = {}
        self.exe = ""
        self.parameters: Parameters | None = None
        self.modules: tuple[str, ...] = ()
        self.sid = b""
        self._integrity = -1
        self._container: bool | None = None
        self._image: Image | None = None
        self._in_job: bool | None = None

    def ask(self, field: str, read: Callable[[], T], default: T) -> T:
        """Return what *read* tells; where it cannot, *default*, and the reason is noted."""
        try:
            return read()
        except OsCallError as exc:
            self.unknown[field] = reason_of(exc)
            return default

    # ----------------------------------------------------------------- the process's own

    def read_itself(self) -> None:
        """Read program, user, and what lies in its memory."""
        if self.row.kernel:
            return
        self._in_job = jobs.is_in_job(self.pin.handle)
        self.exe = self.ask("exe", lambda: images.path_of(self.pin.handle), "")
        self.ask("user", self._read_token, None)
        self._image = images.image_of_file(self.exe) if self.exe else None
        try:
            whole = open_more(self.pin, WHOLE)
        except OsCallError as exc:
            for field in ("cmdline", "windows.ignores_ctrl_c", "windows.console", "windows.runtime"):
                self.unknown[field] = reason_of(exc)
            return
        with whole as handle:
            self._read_memory(handle)

    def _read_token(self) -> None:
        with tokens.open_token(self.pin.handle) as token:
            self.sid = tokens.user_of(token)
            self._integrity = tokens.integrity_of(token)
            self._container = tokens.is_app_container(token)

    def _read_memory(self, handle: int) -> None:
        try:
            self.parameters = memory.read_parameters(handle)
        except OsCallError as exc:
            for field in ("cmdline", "windows.ignores_ctrl_c", "windows.console"):
                self.unknown[field] = reason_of(exc)
        if self._in_job is None:
            self._in_job = jobs.is_in_job(handle)  # Wine wants more rights for it than Windows
        self.modules = self.ask("windows.runtime", lambda: images.module_paths(handle), ())
        if self._image is None:
            self._image = images.image_in_memory(handle)
        if self._image is None:
            self.unknown["windows.subsystem"] = "neither its file nor its memory could be read"

    def command_line(self) -> tuple[str, ...]:
        """Return the arguments, from the kernel where it tells them."""
        told = memory.kernel_command_line(self.pin.handle)
        if told is None and self.parameters is not None:
            told = self.parameters.command_line
        if told is None:
            return ()
        self.unknown.pop("cmdline", None)
        return memory.split_arguments(told)

    # ----------------------------------------------------------------- compared and asked

    def facts(self, us: Ourselves, *, company: bool = True) -> WindowsFacts:
        """Return everything that only Windows knows, compared with what we are; *company*: also who else is on its console."""
        if self._in_job is None and not self.row.kernel:
            self.unknown["windows.in_job"] = "it may not be asked whether it is in a job object"
        is_go = self._image is not None and self._image.is_go
        runtime = images.runtime_of(self.row.comm, self.modules, is_go=is_go)
        found = self._to_ask(us, lambda _kind: runtime, company=company)
        return replace(found, hung=self._hung(found.windows), in_job=self._in_job)

    def _to_ask(  # size: one line for each field
        self, us: Ourselves, runtime_of: Callable[[str], str], *, company: bool
    ) -> WindowsFacts:
        """Return what decides how the process is asked; *runtime_of* is called when its kind is known."""
        pid, handle, row = self.pin.ref.pid, self.pin.handle, self.row
        services, windows = self._services(), self._windows(us)
        subsystem = self._image.subsystem if self._image is not None else ""
        kind = kind_of(
            kernel=row.kernel,
            critical=bool(critical := self._critical()),
            services=services,
            container=self._container,
            packaged=bool(package := package_of(handle)),
            windows=windows,
            subsystem=subsystem,
        )
        runtime = runtime_of(kind)
        console, console_pids = self._console(us, subsystem, company=company)
        machine = "" if row.kernel else images.machine_of(handle)
        receiver, acknowledges = self._receiver()
        return WindowsFacts(
            kind=kind,
            subsystem=subsystem,
            machine=machine,
            same_machine=machine == us.machine if machine and us.machine else None,
            runtime=runtime,
            console=console,
            console_pids=console_pids,
            ignores_ctrl_c=self._ignores_ctrl_c(),
            windows=windows,
            session=row.desktop_session,
            same_session=row.desktop_session == us.session,
            same_user=self.sid == us.sid if self.sid and us.sid else None,
            integrity=tokens.level_name(self._integrity) if self._integrity >= 0 else "",
            above_us=self._integrity > us.integrity if self._integrity >= 0 and us.integrity >= 0 else None,
            critical=critical,
            protected=self._protected(),
            services=services,
            package=package,
            receiver=receiver,
            acknowledges=acknowledges,
            suspended=self.snapshot.suspended(pid),
            wine=us.wine,
        )

    def _hung(self, windows: Sequence[Window], known: set[int] | None = None) -> bool | None:
        if not any(w.role not in SYSTEMS_OWN for w in windows):
            return None
        from endtask._backends.windows import desktop

        return self.ask("windows.hung", lambda: desktop.hung(windows, known), None)

    def _receiver(self) -> tuple[bool | None, bool | None]:
        """Return whether it listens to its stop event, and whether it can say that it has heard."""
        from endtask._backends.windows import stop_event

        found = stop_event.present(self.pin.ref)
        if found is None:
            self.unknown["windows.receiver"] = "it has a stop event, which is not for us to open"
        return found, stop_event.can_acknowledge(self.pin.ref) if found else None

    def _services(self) -> tuple[Service, ...]:
        from endtask._backends.windows import services

        return self.ask("windows.services", lambda: services.hosted(self.pin.ref.pid), ())

    def _windows(self, us: Ourselves) -> tuple[Window, ...]:
        if self.row.kernel:
            return ()
        if self.row.desktop_session != us.session:
            self.unknown["windows.windows"] = "its windows are in another session, where we cannot see them"
            return ()
        return self.ask("windows.windows", self._all_windows, ())

    def _all_windows(self) -> tuple[Window, ...]:
        from endtask._backends.windows import desktop

        return desktop.windows(self.pin.ref.pid)

    def _ignores_ctrl_c(self) -> bool | None:
        return None if self.parameters is None else bool(self.parameters.console_flags & memory.IGNORES_CTRL_C)

    def _console(self, us: Ourselves, subsystem: str, *, company: bool) -> tuple[str, tuple[int, ...]]:
        """Return on which console it is (`this`, `another`, `none`, `unknown`) and who is there."""
        from endtask._backends.windows import console

        pid = self.pin.ref.pid
        here = console.own_members()
        if pid in here:
            self.unknown.pop("windows.console", None)
            return "this", here
        if self.parameters is None:
            return "unknown", ()
        if not memory.has_console(self.parameters.console_handle):
            return "none", ()
        if not company:
            self.unknown["windows.console_pids"] = "it was not asked who else is on its console"
            return "another", ()
        there, why = console.members(pid)
        if there:
            return "another", there
        if subsystem == "gui" and not us.wine:
            return "none", ()  # the field is what its parent had; nobody could join a console of it
        self.unknown["windows.console_pids"] = why
        return "another", ()

    def _critical(self) -> bool | None:
        """Return whether Windows stops when it ends."""
        critical = sessions.is_critical(self.pin.handle)
        if critical is None:
            self.unknown["windows.critical"] = _UNTOLD
        return critical

    def _protected(self) -> bool | None:
        """Return whether it is a protected process, by the low three bits of PS_PROTECTION (NtQueryInformationProcess page)."""
        level = ctypes.c_ubyte()
        what = ntdll.PROCESS_PROTECTION_INFORMATION
        if ntdll.NtQueryInformationProcess(self.pin.handle, what, ctypes.byref(level), 1, None):
            self.unknown["windows.protected"] = _UNTOLD
            return None
        return bool(level.value & 7)


def reason_of(exc: OsCallError) -> str:
    """Return why something could not be read, in words."""
    return exc.message.partition(" failed: ")[2] or exc.message


def package_of(handle: int) -> str:
    """Return the full name of the package of a process, empty for an ordinary program."""
    if kernel32.GetPackageFullName is None:
        return ""
    size = DWORD(_LONGEST_PACKAGE)
    name = ctypes.create_unicode_buffer(_LONGEST_PACKAGE)
    return "" if kernel32.GetPackageFullName(handle, ctypes.byref(size), name) else name.value


def kind_of(
    *,
    kernel: bool,
    critical: bool,
    services: Sequence[Service],
    container: bool | None,
    packaged: bool,
    windows: Sequence[Window],
    subsystem: str,
) -> Kind:
    """Return of which kind a process is (pure).

    Args:
        kernel: Whether it is a part of the kernel.
        critical: Whether Windows stops when it ends.
        services: What it hosts.
        container: Whether it runs in an app container, None if unknown.
        packaged: Whether it has a package.
        windows: Its windows.
        subsystem: `gui`, `console`, `native` or empty.
    """
    if kernel or subsystem == "native":
        return "system"
    if services:
        return "service"
    if critical:
        return "system"
    if packaged and container:
        return "packaged"
    if asked_by_windows(windows, subsystem):
        return "gui"
    if subsystem == "console":
        return "console"
    return "gui-windowless" if subsystem == "gui" else "unknown"


def asked_by_windows(windows: Sequence[Window], subsystem: str) -> bool:
    """Return whether a program is asked by its windows, and so by nothing else (pure).

    A console program with hidden windows only is still asked by its console: such windows listen for the end of the session, or for their own runtime.
    """
    roles = {w.role for w in windows}.difference(SYSTEMS_OWN)
    return bool(roles - {"hidden"}) or (bool(roles) and subsystem != "console")
