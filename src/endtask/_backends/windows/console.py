"""Asking by the console: who is on it, and control events for everybody there.

Windows lets only members of a console generate events for it, and then hits every member ("Console Process Groups" page).
So it is done by a program that lives for a tenth of a second (`console_helper.py`): it joins the console, counts who is there, generates the event, and ends.

Decision: a console on which we, our parent or another ancestor of ours is, is never hit, whoever asks. The helper decides that itself, after it has joined:
no list that was made before can be as true. Whoever else is there needs the consent of the user, which is asked for before; the request can carry it as a list.

Rejected: to join with our own process. It loses our console, and our control handlers with it (AttachConsole page).
Rejected: os.kill and Popen.send_signal: where GenerateConsoleCtrlEvent fails, they terminate the process instead (python/cpython#58689, #87128).
Rejected: a console that is remembered by its window (GetConsoleWindow): a console without a window has none.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles, inject, memory, table
from endtask._backends.windows.winapi import kernel32, ntdll
from endtask._backends.windows.winapi._bind import DWORD, last_error
from endtask._record import Record
from endtask.errors import OsCallError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from endtask._backends.windows.handles import WindowsPin
    from endtask.model import ReceiptStatus, Request

    Answer = tuple[ReceiptStatus, str]

_FIRST = 64
_HELPER_S = 10.0  # it takes 0.1 s; a machine that pages may take longer
_ANSWER_BYTES = 1 << 17  # the pids of ten thousand processes
_DETACHED_PROCESS = 0x00000008  # "Process Creation Flags"
_CREATE_NEW_PROCESS_GROUP = 0x00000200
_STATUS_CONTROL_C_EXIT = 0xC000013A
_ON_NO_CONSOLE = "it is on no console"
_CUT_OFF = -2  # `Visit.generated`: it ended between two lines
_NAMED = 6  # members of a console that are named

# AttachConsole page; 31 where the process is just ending (nssm, console.cpp)
_ATTACH = {
    errors.ACCESS_DENIED: "it is on a console that we may not join",
    errors.INVALID_HANDLE: _ON_NO_CONSOLE,
    31: "it is just ending",
    errors.INVALID_PARAMETER: "there is no such process",
}


class Visit(Record):
    """What the helper said.

    Attributes:
        attach: Error of AttachConsole, 0 if it worked, -1 if it did not get so far.
        there: Who is on the console, newest first.
        refused: Who must not be hit; then nothing was generated.
        generated: Error of GenerateConsoleCtrlEvent, 0 if it worked, -1 if it was not called, -2 if the helper ended meanwhile.
        heard: Whether the event came round.
        exit_code: Of the helper, None if it had to be ended.
        failed: Why there was no helper; empty if there was one.
    """

    attach: int = -1
    there: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    generated: int = -1
    heard: bool = False
    exit_code: int | None = 0
    failed: str = ""


# --------------------------------------------------------------------------- who is there


def own_members() -> tuple[int, ...]:
    """Return who is on our own console, newest first and ourselves included; empty if we have none."""
    room = _FIRST
    while True:
        found = (DWORD * room)()
        count = kernel32.GetConsoleProcessList(found, room)
        if count <= room:  # else it says how many there are and fills nothing
            return tuple(found[:count])
        room = count + _FIRST


def members(pid: int) -> tuple[tuple[int, ...], str]:
    """Return everybody on the console of a process, itself included, newest first.

    Costs a tenth of a second where it is not our own console.

    Returns:
        The pids, and why there are none.
    """
    here = own_members()
    if pid in here:
        return here, ""
    parameters = memory.parameters_of(pid, environment=False)
    if parameters is not None and not memory.has_console(parameters.console_handle):
        return (), _ON_NO_CONSOLE
    visit = _visit(pid, "-")
    if visit.there:
        return visit.there, ""
    return (), visit.failed or _attach_in_words(visit.attach)


def _attach_in_words(error: int) -> str:
    if error < 0:
        return "the helper that joins consoles did not answer"
    return _ATTACH.get(error, f"AttachConsole: {errors.text_of(error)}")


# --------------------------------------------------------------------------- asking everybody there


def send_console(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Generate Ctrl+C or Ctrl+Break (the request's number) for everybody on the console of a process.

    The text of the request may list, joined by commas, whom it may hit; if anybody else is there, nothing is sent. Without a text it may hit everybody
    but ourselves and our ancestors.
    """
    try:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, "it had exited already")
        why_not = _deaf(pin.ref.pid, request.number)
        if why_not:  # then the event would hit everybody but the one that it is for
            return Receipt(request.name, "impossible", at_s, why_not)
        snapshot = table.take()
        line = (os.getpid(), *snapshot.ancestors(os.getpid()))
        here = own_members()
        if pin.ref.pid in here:
            visit = Visit(0, here, tuple(p for p in line if p in here))
        else:
            allowed = f"{request.text},{pin.ref.pid}" if request.text else ""
            visit = _visit(pin.ref.pid, str(request.number), line, allowed, _leaders(pin.ref.pid, snapshot))
        status, detail = _answer(
            pin, visit, line, (snapshot, table.take())
        )  # who was hit may have gone, who joined is new
    except OsCallError as exc:
        status, detail = "failed", handles.refusal(exc)
    return Receipt(request.name, status, at_s, detail)


def _deaf(pid: int, number: int) -> str:
    """Return why the process would not hear the event, empty if it may; its pin is held."""
    parameters = memory.parameters_of(pid, environment=False)
    if parameters is None:
        return ""  # ignored: then it is sent, and what comes of it is seen
    return inject.deaf(parameters.console_flags, number, wine=ntdll.wine_get_version is not None)


def _answer(pin: WindowsPin, visit: Visit, line: Sequence[int], seen: Sequence[table.Snapshot]) -> Answer:
    """Return what a visit means for the receipt."""
    if visit.failed:
        return "impossible", visit.failed
    if visit.refused:
        ours = [p for p in visit.refused if p in line]
        if ours:
            who = (
                "endtask itself" if ours[0] == line[0] else f"{in_words(ours, *seen)}, from which endtask was started,"
            )
            return "impossible", f"{who} is on the same console and would be hit"
        return "impossible", f"{in_words(visit.refused, *seen)} would be hit as well, and that was not agreed to"
    if visit.attach:
        if handles.has_exited(pin):
            return "gone", "it had exited already"
        return ("denied" if visit.attach == errors.ACCESS_DENIED else "impossible"), _attach_in_words(visit.attach)
    hit = f"to everybody on its console: {in_words(visit.there, *seen)}"
    if visit.generated == 0:
        return "delivered", hit
    if visit.generated > 0:
        return "failed", f"GenerateConsoleCtrlEvent: {errors.text_of(visit.generated)}"
    # It has a handler, and Windows has been seen to hit the sender before that counts (winsw, ProcessExtensions.cs).
    if visit.exit_code == _STATUS_CONTROL_C_EXIT and visit.generated == _CUT_OFF:
        return "delivered", f"{hit} (and to the helper, which it ended)"
    return "failed", f"the helper ended with code {visit.exit_code}; whether the event was sent is not known"


def in_words(pids: Iterable[int], *snapshots: table.Snapshot) -> str:
    """Return processes as text: `cmd.exe 12, python.exe 16`; the names from the first picture that has them."""
    all_pids = list(pids)
    named = []
    for pid in all_pids[:_NAMED]:
        names = [s.name(pid) for s in snapshots if s.created(pid) >= 0]
        named.append(f"{names[0]} {pid}" if names else f"pid {pid}")
    return ", ".join(named) + (f" and {len(all_pids) - _NAMED} more" if len(all_pids) > _NAMED else "")


def send_group(group_pid: int, event: int) -> Answer:
    """Generate Ctrl+Break for a process group of our own: children that were started with CREATE_NEW_PROCESS_GROUP on our console.

    Args:
        group_pid: Pid of the process that the group began with. It must be pinned, so that the pid is still its own.
        event: CTRL_BREAK_EVENT. Ctrl+C cannot be sent to a group.

    Returns:
        Status and detail for a receipt.
    """
    if event != kernel32.CTRL_BREAK_EVENT:
        # "The CTRL+C signal will not be received by processes within the specified process group", GenerateConsoleCtrlEvent page.
        return "impossible", "a process group of its own cannot be sent Ctrl+C, only Ctrl+Break"
    here = own_members()
    if not here:
        return "impossible", "we are on no console ourselves, so no event can be sent from here"
    if group_pid not in here:
        # For a pid that leads no group of our console Windows takes the whole console instead (microsoft/terminal#335).
        return "impossible", "it is not on our console, so its group cannot be reached from here"
    if kernel32.GenerateConsoleCtrlEvent(event, group_pid):
        return "delivered", f"to the process group {group_pid} on our console"
    return "failed", f"GenerateConsoleCtrlEvent: {errors.text_of(last_error())}"


# --------------------------------------------------------------------------- the helper


def _leaders(pid: int, snapshot: table.Snapshot) -> list[int]:
    """Return who may lead the process group that a process is in: itself and everybody above it, those that have ended included.

    Only Wine asks for it. There a group is named by whom it began with, and an event for it reaches its members on one console only.
    """
    found = [pid]
    while (row := snapshot.row(found[-1])) is not None and row.ppid and row.ppid not in found:
        found.append(row.ppid)
    return found


def _visit(pid: int, event: str, spared: Iterable[int] = (), allowed: str = "", leaders: Iterable[int] = ()) -> Visit:
    """Start the helper for the console of *pid* and return what it said.

    It inherits the pipe for its answers, and no other handle of ours.
    """
    python = interpreter()
    if not python:
        return Visit(failed=f"`{sys.executable}` is no Python that could start the helper which joins consoles")
    lists = [",".join(map(str, pids)) or "-" for pids in (spared, leaders)]
    try:
        text, code = _run([python, "-I", "-S", *program(), str(pid), event, lists[0], allowed or "-", lists[1]])
    except OSError as exc:
        return Visit(failed=f"the helper that joins consoles could not be started: {exc.strerror}")
    return parse(text, code)


def _run(line: list[str]) -> tuple[str, int | None]:
    """Run the helper; return what it wrote, and its exit code, None if it had to be ended.

    Its answer fits into the pipe, so nobody has to read while it runs: no thread is needed for that (as Popen.communicate would have),
    and a thread is nothing that a library should make in a program of somebody else.

    Raises:
        OSError: It could not be started.
    """
    import _winapi
    import msvcrt
    import subprocess  # a command that asks no console should not pay for it

    reader, writer = _winapi.CreatePipe(None, _ANSWER_BYTES)
    answer, output = msvcrt.open_osfhandle(reader, os.O_RDONLY), msvcrt.open_osfhandle(writer, os.O_WRONLY)
    with open(answer, "rb") as pipe:
        try:
            flags = _DETACHED_PROCESS | _CREATE_NEW_PROCESS_GROUP
            nothing = subprocess.DEVNULL
            helper = subprocess.Popen(line, stdin=nothing, stdout=output, stderr=nothing, creationflags=flags)
        finally:
            os.close(output)  # it has one of its own; the pipe ends with that
        with helper:
            code: int | None
            try:
                code = helper.wait(_HELPER_S)
            except subprocess.TimeoutExpired:
                helper.kill()  # ours, by its handle
                code = None
        return pipe.read().decode("ascii", "replace"), code


def parse(text: str, exit_code: int | None) -> Visit:
    """Return the lines of the helper as a `Visit` (pure)."""
    said = {words[0]: words[1:] for words in map(str.split, text.splitlines()) if words}
    attach = int(said["attach"][0]) if "attach" in said else 0 if "list" in said else -1
    generated = int(said["generate"][0]) if "generate" in said else _CUT_OFF if "generating" in said else -1
    there, refused = (tuple(map(int, said.get(word, ()))) for word in ("list", "refused"))
    return Visit(attach, there, refused, generated, "heard" in said, exit_code)


def interpreter() -> str:
    """Return the Python that can run the helper, empty if there is none.

    The one of a virtual environment only starts another one, which would then have a console of its own; so does multiprocessing avoid it (popen_spawn_win32.py).
    Where Python is part of another program, `sys.executable` is that program, and must not be started.
    """
    import re

    candidates = (
        getattr(sys, "_base_executable", ""),
        sys.executable,
        os.path.join(sys.base_exec_prefix, "python.exe"),
    )
    for path in candidates:
        name = os.path.basename(path or "").lower()
        if re.fullmatch(r"(python|pypy)[0-9.]*w?(_d)?\.exe", name) and os.path.isfile(path):
            return str(path)
    return ""


def program() -> list[str]:
    """Return the words that name the helper: its file, or its text where endtask is in an archive."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "console_helper.py")
    if os.path.isfile(path):
        return [path]
    import pkgutil

    source = pkgutil.get_data(__package__ or "", "console_helper.py")
    return ["-c", source.decode()] if source else [path]
