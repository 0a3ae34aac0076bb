"""The laboratory of the Windows tests: starts targets, waits for what they say, looks with its own eyes, ends them all.

Nothing here asks endtask for the truth: the prototypes are our own, and a process is known by the handle that its creation gave us.

Decision: a target logs to a file and sets an event after each line, so that a test waits for a line without looking twice a second.
Rejected: a pipe from each target, because a service and a grandchild have none, and a suspended reader would hold the target.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from ctypes import wintypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = HERE / "targets"
PATIENCE_S = 30.0  # a busy machine; after this something hangs

SHARED_CONSOLE = 0
OWN_CONSOLE = subprocess.CREATE_NEW_CONSOLE
NO_WINDOW = subprocess.CREATE_NO_WINDOW
DETACHED = subprocess.DETACHED_PROCESS
NEW_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP
SUSPENDED = 0x4  # CREATE_SUSPENDED

STOPPED_BY_ITSELF = 7  # targets/target.h
NOBODY_ENDED_IT = 99

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
_user32 = ctypes.WinDLL("user32", use_last_error=True)
_numbers = itertools.count(1)

UNDER_WINE = hasattr(_ntdll, "wine_get_version")  # the test that Wine's own FAQ names

_create_event = _kernel32.CreateEventW
_create_event.restype = wintypes.HANDLE
_create_event.argtypes = (ctypes.c_void_p, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)
_set_event = _kernel32.SetEvent
_set_event.argtypes = (wintypes.HANDLE,)
_open_process = _kernel32.OpenProcess
_open_process.restype = wintypes.HANDLE
_open_process.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
_get_process_times = _kernel32.GetProcessTimes
_get_process_times.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
_nt_suspend_process = _ntdll.NtSuspendProcess
_nt_suspend_process.argtypes = (wintypes.HANDLE,)
_nt_resume_process = _ntdll.NtResumeProcess
_nt_resume_process.argtypes = (wintypes.HANDLE,)
_wait_for_input_idle = _user32.WaitForInputIdle
_wait_for_input_idle.argtypes = (wintypes.HANDLE, wintypes.DWORD)
_enum_callback = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
_enum_windows = _user32.EnumWindows
_enum_windows.argtypes = (_enum_callback, wintypes.LPARAM)
_window_pid = _user32.GetWindowThreadProcessId
_window_pid.argtypes = (wintypes.HWND, ctypes.POINTER(wintypes.DWORD))
_window_text = _user32.GetWindowTextW
_window_text.argtypes = (wintypes.HWND, wintypes.LPWSTR, ctypes.c_int)
_class_name = _user32.GetClassNameW
_class_name.argtypes = (wintypes.HWND, wintypes.LPWSTR, ctypes.c_int)
_is_visible = _user32.IsWindowVisible
_is_visible.argtypes = (wintypes.HWND,)
_is_enabled = _user32.IsWindowEnabled
_is_enabled.argtypes = (wintypes.HWND,)
_get_window = _user32.GetWindow
_get_window.restype = wintypes.HWND
_get_window.argtypes = (wintypes.HWND, wintypes.UINT)


# --------------------------------------------------------------------------- what Wine fails to do now and then

_BORN_DEAD = 1359  # ERROR_INTERNAL_ERROR
_Created = tuple[int, int, int, int]


def patient(create: Callable[..., _Created]) -> Callable[..., _Created]:
    """Return a CreateProcess that tries again where Wine 8 has lost the new process before it began, which a busy machine makes more frequent."""

    def create_again(*words: object) -> _Created:
        for _ in range(4):
            try:
                return create(*words)
            except OSError as error:
                if error.winerror != _BORN_DEAD:
                    raise
        return create(*words)

    return create_again


if UNDER_WINE:
    _winapi.CreateProcess = patient(_winapi.CreateProcess)  # where `subprocess` looks for it


# --------------------------------------------------------------------------- what the laboratory sees by itself


@dataclass(frozen=True)
class Line:
    """One line of a target's log."""

    time: int
    """FILETIME: units of 100 ns since 1601."""
    thread: int
    text: str


@dataclass(frozen=True)
class SeenWindow:
    """One top-level window."""

    handle: int
    title: str
    class_name: str
    visible: bool
    enabled: bool
    owner: int | None


def windows_of(pid: int) -> list[SeenWindow]:
    """Return the top-level windows of a process, the topmost first."""
    found: list[SeenWindow] = []

    def see(window: int, _: int) -> bool:
        owner_pid = wintypes.DWORD()
        _window_pid(window, ctypes.byref(owner_pid))
        if owner_pid.value == pid:
            title, class_name = ctypes.create_unicode_buffer(256), ctypes.create_unicode_buffer(256)
            _window_text(window, title, 256)
            _class_name(window, class_name, 256)
            state = bool(_is_visible(window)), bool(_is_enabled(window)), _get_window(window, 4)  # GW_OWNER
            found.append(SeenWindow(window, title.value, class_name.value, *state))
        return True

    _enum_windows(_enum_callback(see), 0)
    return found


def open_handle(pid: int, access: int = 0x101000) -> int:
    """Open a process (default: SYNCHRONIZE and PROCESS_QUERY_LIMITED_INFORMATION); the caller closes the handle."""
    handle = _open_process(access, False, pid)
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    return int(handle)


def creation_time(handle: int) -> int:
    """Return when a process was created, as a FILETIME."""
    times = [wintypes.FILETIME() for _ in range(4)]
    if not _get_process_times(handle, *map(ctypes.byref, times)):
        raise ctypes.WinError(ctypes.get_last_error())
    return (times[0].dwHighDateTime << 32) | times[0].dwLowDateTime


def has_ended(handle: int) -> bool:
    """Return whether the process behind *handle* has exited."""
    return _winapi.WaitForSingleObject(handle, 0) == _winapi.WAIT_OBJECT_0


def build_targets() -> Path:
    """Return the folder of the compiled targets: the one that ENDTASK_TARGETS names, else compile them now."""
    if given := os.environ.get("ENDTASK_TARGETS"):
        return Path(given)
    folder = ROOT / "build" / "windows-targets"
    subprocess.run([sys.executable, SOURCES / "build.py", folder], check=True)
    return folder


# --------------------------------------------------------------------------- targets

# A service has neither our folder nor our environment.
_RUN_RECEIVER = (
    "import runpy, sys; sys.path[:0] = [{0!r}, {1!r}];"
    "runpy.run_module('tests.windows.targets.pyreceiver', run_name='__main__')"
)


def receiver_path() -> tuple[str, str]:
    """Return where the tests are, and where they find endtask_receiver."""
    found = importlib.util.find_spec("endtask_receiver")
    assert found is not None
    assert found.origin is not None
    return str(ROOT), str(Path(found.origin).parent.parent)


@dataclass
class Target:
    """A process that the laboratory started, or, for a service, that the service manager started."""

    pid: int
    handle: int
    log: Path
    event: int
    popen: subprocess.Popen[bytes] | None = None
    owned: list[int] = field(default_factory=list)
    """Handles that are closed with it."""

    @property
    def running(self) -> bool:
        """Whether it has not exited yet."""
        return not has_ended(self.handle)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs. Asked by the handle, because 259 may be a real exit code."""
        return None if self.running else _winapi.GetExitCodeProcess(self.handle)

    @property
    def created(self) -> int:
        """When it was created, as a FILETIME."""
        return creation_time(self.handle)

    @property
    def windows(self) -> list[SeenWindow]:
        """Its top-level windows."""
        return windows_of(self.pid)

    @property
    def lines(self) -> list[Line]:
        """What it has logged by now; it may still be writing the last line, which does not count then."""
        found = []
        if self.log.exists():
            for text in self.log.read_text(encoding="utf-8").splitlines(keepends=True):
                if text.endswith("\n"):
                    when, thread, said = text.rstrip("\n").split(" ", 2)
                    found.append(Line(int(when), int(thread), said))
        return found

    @property
    def texts(self) -> list[str]:
        """The texts of `lines`."""
        return [line.text for line in self.lines]

    def heard(self, start: str) -> int:
        """Return how many lines of the log begin with *start*."""
        return sum(text.startswith(start) for text in self.texts)

    def wait_for(self, start: str, times: int = 1, timeout_s: float = PATIENCE_S) -> Line:
        """Wait until the log has so many lines that begin with *start*.

        Returns:
            The last of them.

        Raises:
            AssertionError: The time is over, or the process exited without them.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            ended = not self.running  # before the look: what it wrote last must not be missed
            found = [line for line in self.lines if line.text.startswith(start)]
            if len(found) >= times:
                return found[times - 1]
            left_s = deadline - time.monotonic()
            if ended or left_s <= 0:
                what = f"ended with {self.exit_code:#x}" if ended else "still runs"
                raise AssertionError(f"no line {start!r}; pid {self.pid} {what}; it said {self.texts}")
            _winapi.WaitForMultipleObjects([self.event, self.handle], False, int(left_s * 1000) + 1)

    def wait_exit(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it has exited, and return its exit code.

        Raises:
            AssertionError: It still runs.
        """
        _winapi.WaitForSingleObject(self.handle, int(timeout_s * 1000))
        code = self.exit_code
        assert code is not None, f"pid {self.pid} still runs; it said {self.texts}"
        return code

    def wait_idle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a program with windows has shown them and waits for input (WaitForInputIdle)."""
        assert _wait_for_input_idle(self.handle, int(timeout_s * 1000)) == 0, f"pid {self.pid} is not idle"

    def suspend(self) -> None:
        """Stop all its threads."""
        _nt_suspend_process(self.handle)

    def resume(self) -> None:
        """Let them go on."""
        _nt_resume_process(self.handle)


class Lab:
    """Starts targets; at the end of the block they are all ended, by handle, and so is every child that they started."""

    def __init__(self, targets: Path) -> None:
        """Make a folder for the logs and the events that targets share.

        Args:
            targets: The folder of the compiled targets.
        """
        self.targets = targets
        self.folder = Path(tempfile.mkdtemp(prefix="endtask-lab-"))
        self.started: list[Target] = []
        self._ends: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started here."""
        for end in self._ends:
            _set_event(end)  # this reaches the grandchildren, too
        for target in self.started:
            if target.running:
                _terminate(target)
            assert _winapi.WaitForSingleObject(target.handle, int(PATIENCE_S * 1000)) == _winapi.WAIT_OBJECT_0
            for owned in target.owned:
                _winapi.CloseHandle(owned)
            if target.popen is not None:
                target.popen.wait()
                for pipe in (target.popen.stdin, target.popen.stdout, target.popen.stderr):
                    if pipe is not None:
                        pipe.close()
        for end in self._ends:
            _winapi.CloseHandle(end)
        self.started.clear()  # it may be closed twice
        self._ends.clear()
        shutil.rmtree(self.folder, ignore_errors=True)  # ignored: a grandchild that is just ending may hold its log

    def words(
        self, program: str, mode: str, number: int = 0, text: str = "", space: str = "Local"
    ) -> tuple[list[str], int]:
        """Return a target's command line and the event that tells of its lines.

        Args:
            program: Its name in the folder of targets, without `.exe`, or the name of a Python target.
            mode: See the target's source.
            number: See there.
            text: See there.
            space: `Local` for our session, `Global` for a service.
        """
        number_here = next(_numbers)
        event_name = f"{space}\\endtask.lab.{os.getpid()}.{number_here}"
        event = _create_event(None, False, False, event_name)
        end = _create_event(None, True, False, f"{event_name}.end")
        if not event or not end:
            raise ctypes.WinError(ctypes.get_last_error())
        self._ends.append(int(end))
        log = self.folder / f"{number_here}-{mode}.log"
        if program in {"python", "pythonw"}:
            executable = Path(sys.executable).with_name(f"{program}.exe")
            first = [str(executable), "-I", "-S", str(SOURCES / "pytarget.py")]
        elif program in {"receiver", "receiverw"}:
            executable = Path(sys.executable).with_name("python.exe" if program == "receiver" else "pythonw.exe")
            first = [str(executable), "-I", "-S", "-c", _RUN_RECEIVER.format(*receiver_path())]
        else:
            first = [str(self.targets / f"{program}.exe")]
        return [*first, str(log), event_name, mode, str(number), text], int(event)

    def start(
        self,
        program: str,
        mode: str,
        number: int = 0,
        text: str = "",
        *,
        flags: int = DETACHED,
        stdin: int | None = None,
        ready: bool = True,
    ) -> Target:
        """Start a target and wait until it has said that it is ready.

        Args:
            program: `etwindow`, `etwindowc`, `etconsole`, `ettree`, `python` or `pythonw` (pytarget.py), `receiver` or `receiverw` (pyreceiver.py).
            mode: See the target's source.
            number: See there.
            text: See there.
            flags: Creation flags: OWN_CONSOLE, NO_WINDOW, DETACHED, SHARED_CONSOLE, each with NEW_GROUP or SUSPENDED.
            stdin: As for Popen.
            ready: Whether to wait; never for one that starts suspended.
        """
        words, event = self.words(program, mode, number, text)
        target = self.adopt(subprocess.Popen(words, creationflags=flags, stdin=stdin), event, words)
        if ready and not flags & SUSPENDED:
            target.wait_for("ready")
        return target

    def run(
        self, words: Sequence[str], *, flags: int = DETACHED, environment: Mapping[str, str] | None = None
    ) -> Target:
        """Start any other program; it has no log, so `wait_idle` or its end are what can be waited for."""
        popen = subprocess.Popen(words, creationflags=flags, env=environment, stdin=subprocess.DEVNULL)
        return self.adopt(popen, int(_create_event(None, False, False, None)), None)

    @staticmethod
    def log_of(words: Sequence[str]) -> Path:
        """Return the log that a target's command line names."""
        return Path(words[-5])

    def adopt(self, popen: subprocess.Popen[bytes], event: int, words: Sequence[str] | None) -> Target:
        """Take the responsibility for a process."""
        log = self.log_of(words) if words else self.folder / "none"
        handle = int(popen._handle)  # type: ignore[attr-defined]  # it has no public name
        target = Target(popen.pid, handle, log, event, popen, owned=[event])
        self.started.append(target)
        return target

    def child(self, parent: Target, number: int = 1) -> Target:
        """Return the child that an `ettree` started as its *number*-th, under a handle of our own.

        Its handle is opened while the parent, which holds one too, is known to run, or else its creation time is compared: a pid alone may be a stranger's.
        """
        line = parent.wait_for("child ", number)
        pid = int(line.text.split()[1])
        handle = open_handle(pid, 0x101001)  # and PROCESS_TERMINATE
        assert creation_time(handle) <= line.time, "the child has ended and its pid is used again"
        child = Target(pid, handle, parent.log, parent.event, owned=[handle])
        self.started.append(child)
        return child


def _terminate(target: Target) -> None:
    """End a target that the end event did not reach: a suspended one, one whose threads were cut."""
    try:
        _winapi.TerminateProcess(target.handle, NOBODY_ENDED_IT)
    except OSError:  # ERROR_ACCESS_DENIED: it has just exited (TerminateProcess, Microsoft Learn)
        assert _winapi.WaitForSingleObject(target.handle, int(PATIENCE_S * 1000)) == _winapi.WAIT_OBJECT_0
