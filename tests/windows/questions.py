"""Open questions about real Windows, as measurements: what no document says and Wine cannot show.

`tools/windows_report.py` asks them on a real Windows and prints the answers.
Under Wine they only prove that they can be asked.
Everything is done to processes that the question itself has started.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import itertools
import json
import subprocess
import time
from ctypes import wintypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, OWN_CONSOLE, Lab, Target, open_handle
from tests.windows.lab_consoles import PseudoConsole, borrow_console
from tests.windows.lab_tokens import deny_termination, run_at_low_integrity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 3.0  # for what may never come
CLOSE_LIMIT_S = 8.0  # the system gives 5 s after CTRL_CLOSE (HandlerRoutine, Microsoft Learn)
EVENTS = {0: "CTRL_C", 1: "CTRL_BREAK", 2: "CTRL_CLOSE", 6: "CTRL_SHUTDOWN"}
ROUNDS = 20


@dataclass(frozen=True)
class Measurement:
    """One row of the report."""

    case: str
    result: str


_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
_get_proc_address = _kernel32.GetProcAddress
_get_proc_address.restype = ctypes.c_void_p
_get_proc_address.argtypes = (wintypes.HMODULE, ctypes.c_char_p)
_get_module = _kernel32.GetModuleHandleW
_get_module.restype = wintypes.HMODULE
_get_module.argtypes = (wintypes.LPCWSTR,)
_create_remote_thread = _kernel32.CreateRemoteThread
_create_remote_thread.restype = wintypes.HANDLE
_create_remote_thread.argtypes = (
    wintypes.HANDLE,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.c_void_p,
)
_get_exit_code_thread = _kernel32.GetExitCodeThread
_get_exit_code_thread.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
_query_process = _ntdll.NtQueryInformationProcess
_query_process.restype = ctypes.c_ulong
_query_process.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.ULONG, ctypes.c_void_p)
_image_name = _kernel32.QueryFullProcessImageNameW
_image_name.argtypes = (wintypes.HANDLE, wintypes.DWORD, wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD))


# --------------------------------------------------------------------------- what several questions do


def fate(target: Target, asked_at: float, patience_s: float | None = None) -> str:
    """Return in words what became of a target since a request: its end or not, and what it has heard."""
    patience_s = PATIENCE_S if patience_s is None else patience_s
    _winapi.WaitForSingleObject(target.handle, int(patience_s * 1000))
    code = target.exit_code
    elapsed_ms = (time.perf_counter() - asked_at) * 1000
    state = f"runs after {patience_s:g} s" if code is None else f"exited with {code:#x} within {elapsed_ms:.0f} ms"
    said = [text for text in target.texts if not text.startswith("ready")]
    return f"{state}; it said: {', '.join(said) or 'nothing'}"


def taskkill(*words: str) -> str:
    """Run taskkill and return its exit code and its words."""
    done = subprocess.run(
        ["taskkill", *words],
        creationflags=subprocess.CREATE_NO_WINDOW,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="oem",
        errors="replace",
        check=False,
    )
    said = " / ".join(f"{name}: {text.strip()}" for name, text in (("out", done.stdout), ("err", done.stderr)) if text)
    return f"taskkill {done.returncode}, {said}"


def inject(target: Target, event: int) -> str:
    """Start a thread at CtrlRoutine in a target, and return in words what became of the thread."""
    address = None
    for module in ("kernel32", "kernelbase"):
        address = address or _get_proc_address(_get_module(module), b"CtrlRoutine")
    if not address:
        return "CtrlRoutine is not exported"
    process = open_handle(target.pid, 0x43A)  # CREATE_THREAD, VM_OPERATION, VM_READ, VM_WRITE, QUERY_INFORMATION
    try:
        thread = _create_remote_thread(process, None, 0, address, event, 0, None)
        if not thread:
            return f"CreateRemoteThread failed with {ctypes.get_last_error()}"
        ended = _winapi.WaitForSingleObject(thread, int(PATIENCE_S * 1000)) == _winapi.WAIT_OBJECT_0
        code = wintypes.DWORD()
        _get_exit_code_thread(thread, ctypes.byref(code))
        _winapi.CloseHandle(thread)
        return f"thread exit code {code.value:#x}" if ended else "the thread has not ended"
    finally:
        _winapi.CloseHandle(process)


# --------------------------------------------------------------------------- the questions


def taskkill_on_consoles(lab: Lab) -> Iterator[Measurement]:
    """Without /F: what does taskkill say to a program on a pseudo console, and what happens to it?"""
    for mode in ("none", "graceful"):
        with PseudoConsole(lab) as terminal:
            target = terminal.start("etconsole", mode)
            begin = time.perf_counter()
            said = taskkill("/pid", str(target.pid))
            yield Measurement(f"{mode}, pseudo console", f"{said}; {fate(target, begin, CLOSE_LIMIT_S)}")
        for name, flags in (("console of its own", OWN_CONSOLE), ("CREATE_NO_WINDOW", NO_WINDOW)):
            target = lab.start("etconsole", mode, flags=flags)
            begin = time.perf_counter()
            said = taskkill("/pid", str(target.pid))
            yield Measurement(f"{mode}, {name}", f"{said}; {fate(target, begin, CLOSE_LIMIT_S)}")


def injected_events_without_a_console(lab: Lab) -> Iterator[Measurement]:
    """Does a thread at CtrlRoutine work in programs of the Windows subsystem and in detached ones?"""
    targets = (
        ("etwindow", "close"),
        ("etwindow", "none"),
        ("etconsole", "graceful"),
        ("etconsole", "none"),
        ("python", "plain"),
        ("pythonw", "plain"),
    )
    for (program, mode), (event, name) in itertools.product(targets, EVENTS.items()):
        target = lab.start(program, mode)
        begin = time.perf_counter()
        said = inject(target, event)
        yield Measurement(f"{program} {mode}, detached, {name}", f"{said}; {fate(target, begin)}")


def injected_events_on_a_console(lab: Lab) -> Iterator[Measurement]:
    """What is the exit code after an injected event, with and without a handler that says TRUE or FALSE?"""
    modes = ("none", "true", "false", "graceful", "ignore", "ignore-handler")
    for mode, flags in [
        *((m, OWN_CONSOLE) for m in modes),
        ("true", NO_WINDOW | NEW_GROUP),
        ("none", NO_WINDOW | NEW_GROUP),
    ]:
        for event, name in EVENTS.items():
            target = lab.start("etconsole", mode, flags=flags)
            where = "new group" if flags & NEW_GROUP else "own console"
            begin = time.perf_counter()
            said = inject(target, event)
            yield Measurement(f"{mode}, {where}, {name}", f"{said}; {fate(target, begin)}")


def taskkill_exit_codes(lab: Lab) -> Iterator[Measurement]:
    """What are taskkill's texts and exit codes when some are asked and some are not, and when access is denied?"""
    window, hidden = lab.start("etwindow", "close"), lab.start("etconsole", "none", flags=NO_WINDOW)
    yield Measurement("one with a window, one without", taskkill("/pid", str(window.pid), "/pid", str(hidden.pid)))
    window = lab.start("etwindow", "swallow")
    yield Measurement("one with a window, one that does not exist", taskkill("/pid", str(window.pid), "/pid", "999996"))
    root = lab.start("ettree", "keep", 1, flags=OWN_CONSOLE)
    yield Measurement("/T, a console program with a child", taskkill("/t", "/pid", str(root.pid)))
    ended = lab.start("etconsole", "code", 0, ready=False)
    ended.wait_exit()  # its handle is still open
    yield Measurement("an ended process whose handle is open", taskkill("/pid", str(ended.pid)))
    refusing = lab.start("etconsole", "none", flags=NO_WINDOW)
    deny_termination(refusing.pid)
    yield Measurement("/F, access denied", taskkill("/f", "/pid", str(refusing.pid)))
    root = lab.start("ettree", "keep", 2, flags=NO_WINDOW)
    child = lab.child(root, 1)
    deny_termination(child.pid)
    said = taskkill("/f", "/t", "/pid", str(root.pid))
    alive = f"root runs: {root.running}, denied child runs: {child.running}, other runs: {lab.child(root, 2).running}"
    yield Measurement("/F /T, access to one child denied", f"{said}; {alive}")


def events_close_together(lab: Lab) -> Iterator[Measurement]:
    """Are two console events lost when they come close together?"""
    code = (
        "import time\n"
        "gap_ms, rounds = arguments\n"
        "failed = 0\n"
        "for _ in range(rounds):\n"
        "    failed += not kernel32.GenerateConsoleCtrlEvent(0, 0)\n"
        "    time.sleep(gap_ms / 1000)\n"
        "    failed += not kernel32.GenerateConsoleCtrlEvent(1, 0)\n"
        "    time.sleep(0.3)\n"
        "print(failed)\n"
    )
    for gap_ms in (0, 1, 10, 100):
        target = lab.start("etconsole", "true", flags=OWN_CONSOLE)
        failed = int(borrow_console(target.pid, code, gap_ms, ROUNDS))
        heard = f"CTRL_C heard {target.heard('control 0')}, CTRL_BREAK heard {target.heard('control 1')}"
        yield Measurement(f"{ROUNDS} pairs, {gap_ms} ms apart", f"{heard} times; {failed} calls failed")


def console_host(lab: Lab) -> Iterator[Measurement]:
    """Does NtQueryInformationProcess(ProcessConsoleHostProcess) name the console's host?"""
    for name, flags in (("own console", OWN_CONSOLE), ("CREATE_NO_WINDOW", NO_WINDOW), ("detached", DETACHED)):
        yield Measurement(name, _host_of(lab.start("etconsole", "none", flags=flags)))
    with PseudoConsole(lab) as terminal:
        yield Measurement("pseudo console", _host_of(terminal.start("etconsole", "none")))
    yield Measurement("Windows subsystem", _host_of(lab.start("etwindow", "close")))


def _host_of(target: Target) -> str:
    """Return what information class 49 says of a target."""
    value = ctypes.c_size_t()
    process = open_handle(target.pid, 0x400)  # PROCESS_QUERY_INFORMATION
    status = _query_process(process, 49, ctypes.byref(value), ctypes.sizeof(value), None)
    _winapi.CloseHandle(process)
    if status:
        return f"NTSTATUS {status:#x}"
    pid = value.value & ~3  # the low bits are flags
    if not pid:
        return f"value {value.value:#x}: none"
    try:
        host = open_handle(pid, 0x1000)  # PROCESS_QUERY_LIMITED_INFORMATION
    except OSError as error:
        return f"value {value.value:#x}: pid {pid}, which cannot be opened: {error}"
    name, size = ctypes.create_unicode_buffer(1024), wintypes.DWORD(1024)
    _image_name(host, 0, name, ctypes.byref(size))
    _winapi.CloseHandle(host)
    return f"value {value.value:#x}: pid {pid}, {Path(name.value).name}"


def messages_from_low_integrity(lab: Lab) -> Iterator[Measurement]:
    """Which messages does a window refuse from a sender of lower integrity?"""
    code = Path(__file__).with_name("message_sender.py")
    python = getattr(
        sys, "_base_executable", sys.executable
    )  # the launcher of a virtual environment would start another one
    for sender in ("same integrity", "low integrity"):
        for message in ("null", "queryendsession", "endsession", "close", "quit"):
            target = lab.start("etwindow", "close")
            (window,) = [w.handle for w in target.windows if w.class_name == "endtask target"]
            words = [python, "-I", "-S", "-B", str(code), message, str(window)]
            begin = time.perf_counter()
            if sender == "low integrity":
                answer = run_at_low_integrity(words)
            else:
                answer = subprocess.run(words, capture_output=True, text=True, check=False).stdout
            told = json.loads(answer) if answer.strip() else "the sender said nothing"
            yield Measurement(f"{sender}, {message}", f"{told}; {fate(target, begin)}")


QUESTIONS: tuple[Callable[[Lab], Iterator[Measurement]], ...] = (
    taskkill_on_consoles,
    injected_events_without_a_console,
    injected_events_on_a_console,
    taskkill_exit_codes,
    events_close_together,
    console_host,
    messages_from_low_integrity,
)
