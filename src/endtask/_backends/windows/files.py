"""Who holds a file, and what a pid file says.

Decision: the Restart Manager for files. It is what installers ask, knows open files, mapped files and programs, and needs no right on any process.
It knows no folders: for these the file system is asked who uses them, and every process which folder it is in.

Wine's Restart Manager says that all went well and knows nobody: there the table of all handles answers, and what is loaded in each process.
Of a foreign handle only the kind and, if it is a file on a disk, the identity is asked, which waits for nobody in Wine.
Rejected for Windows, where every question about a foreign pipe waits for whoever reads from it (NtQueryObject, GetFileType on a synchronous handle).
"""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

from endtask._backends import pid_files
from endtask._backends.windows import errors, handles, images, memory, table
from endtask._backends.windows.handles import Handle
from endtask._backends.windows.winapi import kernel32, ntdll, rstrtmgr
from endtask._backends.windows.winapi._bind import DWORD, HANDLE, UINT, last_error
from endtask.errors import AccessDeniedError, GoneError, OsCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Identity = tuple[int, int, int]

_ROUNDS = 8  # of asking again because the list has grown
_FIRST_BYTES = 1 << 20


def file_holders(path: str) -> tuple[list[int], int]:
    """Return the pids that hold *path* open, mapped, as program or (folders) as current directory, and how many processes could not be looked into.

    Raises:
        OsCallError: The file does not exist or cannot be looked at.
        AccessDeniedError: It may not be looked at.
    """
    full = os.path.abspath(path)
    with open_file(full) as file:  # says whether it is there, in the words of the system
        wanted = identity(file)
        if ntdll.wine_get_version is not None:
            return _by_handles(file, wanted)
        if os.path.isdir(full):
            return _of_folder(file, wanted)
        return sorted(_restart_manager(full)), 0


def open_file(path: str) -> Handle:
    """Open a file or folder for its identity only, which hinders nobody.

    Raises:
        OsCallError: It does not exist, or its name is none.
        AccessDeniedError: It may not be looked at.
    """
    if "\0" in path:
        raise OsCallError("CreateFileW", 0, text=f"{path!a} is no file name")
    handle = kernel32.CreateFileW(
        path,
        kernel32.FILE_READ_ATTRIBUTES,
        kernel32.FILE_SHARE_ALL,
        None,
        kernel32.OPEN_EXISTING,
        kernel32.FILE_FLAG_BACKUP_SEMANTICS,
        None,
    )
    if not handle or handle == kernel32.INVALID_HANDLE_VALUE:
        raise errors.failed("CreateFileW", last_error(), about=path)
    return Handle(handle)


def identity(file: int) -> Identity:
    """Return volume and number of an open file, the same for every name of it.

    Raises:
        OsCallError: It has none.
    """
    found = kernel32.FileInformation()
    if not kernel32.GetFileInformationByHandle(file, ctypes.byref(found)):
        raise errors.failed("GetFileInformationByHandle", last_error())
    return found.volume, found.index_high, found.index_low


# --------------------------------------------------------------------------- the Restart Manager


def _restart_manager(path: str) -> set[int]:
    """Return who uses a file, as the Restart Manager knows it.

    Raises:
        OsCallError: It does not answer.
    """
    session, key = DWORD(), ctypes.create_unicode_buffer(rstrtmgr.SESSION_KEY_LENGTH + 1)
    code = rstrtmgr.RmStartSession(ctypes.byref(session), 0, key)
    if code:
        raise errors.failed("RmStartSession", code, about=path)
    try:
        names = (ctypes.c_wchar_p * 1)(path)
        code = rstrtmgr.RmRegisterResources(session.value, 1, names, 0, None, 0, None)
        if code:
            raise errors.failed("RmRegisterResources", code, about=path)
        return _list(session.value, path)
    finally:
        rstrtmgr.RmEndSession(session.value)


def _list(session: int, path: str) -> set[int]:
    room = 16
    for _ in range(_ROUNDS):
        found = (rstrtmgr.RmProcessInfo * room)()
        needed, count, reasons = UINT(), UINT(room), DWORD()
        code = rstrtmgr.RmGetList(session, ctypes.byref(needed), ctypes.byref(count), found, ctypes.byref(reasons))
        if code != errors.MORE_DATA:
            break
        room = needed.value + 16
    if code:
        raise errors.failed("RmGetList", code, about=path)
    return {found[n].pid for n in range(count.value)}


# --------------------------------------------------------------------------- folders


def _of_folder(file: int, wanted: Identity) -> tuple[list[int], int]:
    """Return who has a folder open or is in it, and of how many processes that could not be seen.

    Raises:
        OsCallError: The process table cannot be read.
    """
    holders, closed = users_of(file), 0
    snapshot = table.take()
    for pid, row in snapshot.rows().items():
        if pid in holders or row.kernel:
            continue
        try:
            if _is_in(pid, wanted):
                holders.add(pid)
        except GoneError:
            pass  # ignored: it holds nothing any more
        except OsCallError:
            closed += 1
    return sorted(holders), closed


def users_of(file: int) -> set[int]:
    """Return which processes use an open file or folder, as its file system knows them; ourselves left out, who have just opened it.

    Empty where the file system does not tell (FILE_PROCESS_IDS_USING_FILE_INFORMATION, ntifs.h; network folders, Wine).
    """
    size, status_block = 1 << 12, (ctypes.c_size_t * 2)()
    for _ in range(_ROUNDS):
        buffer = ctypes.create_string_buffer(size)
        what = ntdll.FILE_PROCESS_IDS_USING_FILE_INFORMATION
        status = ntdll.NtQueryInformationFile(file, status_block, buffer, size, what)
        if status != ntdll.STATUS_INFO_LENGTH_MISMATCH:
            break
        size *= 4
    if status:
        return set()
    count, each = ctypes.c_ulong.from_buffer(buffer).value, ctypes.sizeof(ctypes.c_size_t)
    pids = {ctypes.c_size_t.from_buffer(buffer, each * (1 + n)).value for n in range(count)}
    return pids - {os.getpid()}


def _is_in(pid: int, wanted: Identity) -> bool:
    """Return whether the current directory of a process is the folder.

    Raises:
        GoneError: Nobody has that pid.
        OsCallError: It cannot be seen.
    """
    with Handle(handles.open_process(pid, memory.RIGHTS)) as process:
        folder = memory.read_parameters(process, environment=False).directory
    try:
        with open_file(folder) as file:
            return identity(file) == wanted
    except OsCallError:
        return False  # ignored: it has no folder, or one that is not there any more


# --------------------------------------------------------------------------- the handle table


def _by_handles(file: int, wanted: Identity) -> tuple[list[int], int]:
    """Return who has a handle on the file or has loaded it, and how many processes could not be looked into.

    Raises:
        OsCallError: The tables cannot be read.
    """
    own = kernel32.GetCurrentProcess()
    me = os.getpid()
    by_pid, kind = _file_handles(me, file)
    holders, closed, everybody = [], 0, table.take().pids()
    for pid in everybody:
        foreign = [h for h in by_pid.get(pid, ()) if pid != me or h != file]
        try:
            if _has_handle(pid, foreign, own, wanted) or _has_loaded(pid, wanted):
                holders.append(pid)
        except AccessDeniedError:
            closed += 1
        except OsCallError:
            pass  # ignored: it has gone, or is a part of the kernel, which runs no program
    return holders, closed if kind else len(everybody)  # a sandbox may hide the table: then nobody's handles were seen


def _file_handles(me: int, file: int) -> tuple[dict[int, list[int]], int]:
    """Return the numbers of all handles on files by pid; the kind of a handle on a file is that of *file*, which is ours."""
    entries = list(_all_handles())
    kind = next((e.type for e in entries if e.pid == me and e.handle == file), 0)
    by_pid: dict[int, list[int]] = {}
    for entry in entries:
        if entry.type == kind:
            by_pid.setdefault(entry.pid, []).append(entry.handle)
    return by_pid, kind


def _all_handles() -> Iterator[ntdll.SystemHandle]:
    buffer = table.query_system(ntdll.SYSTEM_EXTENDED_HANDLE_INFORMATION, _FIRST_BYTES)
    count = ctypes.c_size_t.from_buffer(buffer).value
    first, size = 2 * ctypes.sizeof(ctypes.c_size_t), ctypes.sizeof(ntdll.SystemHandle)
    return (ntdll.SystemHandle.from_buffer(buffer, first + n * size) for n in range(count))


def _has_handle(pid: int, numbers: Iterable[int], own: int, wanted: Identity) -> bool:
    """Return whether one of the handles *numbers* of a process is on the file.

    Raises:
        AccessDeniedError: It may not be looked into.
        OsCallError: It has gone.
    """
    with Handle(handles.open_process(pid, kernel32.PROCESS_DUP_HANDLE)) as process:
        for number in numbers:
            copy = HANDLE()
            # Without any access: enough to ask what it is, and nothing can be done to the file through it.
            if not kernel32.DuplicateHandle(process, number, own, ctypes.byref(copy), 0, False, 0):
                continue  # closed meanwhile, or another number by now
            with Handle(copy.value or 0) as handle:
                if kernel32.GetFileType(handle) == kernel32.FILE_TYPE_DISK and _is(handle, wanted):
                    return True
    return False


def _is(handle: int, wanted: Identity) -> bool:
    try:
        return identity(handle) == wanted
    except OsCallError:
        return False  # ignored: a volume, or a file system without numbers


def _has_loaded(pid: int, wanted: Identity) -> bool:
    """Return whether the file is the program of a process or a DLL in it.

    Raises:
        OsCallError: It has gone, or has no program.
    """
    with Handle(handles.open_process(pid, kernel32.PROCESS_QUERY_LIMITED_INFORMATION)) as process:
        paths = [images.path_of(process)]
    paths += images.modules_of(pid)
    for path in dict.fromkeys(paths):
        try:
            with open_file(path) as file:
                if identity(file) == wanted:
                    return True
        except OsCallError:
            pass  # ignored: deleted or moved away since it was loaded
    return False


# --------------------------------------------------------------------------- pid files


def pid_file(path: str) -> tuple[bytes, float]:
    """Return the first 4,096 bytes of a file and its age in seconds since the last write (0 if that lies in the future).

    Raises:
        OsCallError: It cannot be read, or is no regular file.
        AccessDeniedError: It may not be read.
    """
    # Opened like anybody else would: shared, so that its owner can still write and delete it.
    try:
        return pid_files.read(path, os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT, path)
    except PermissionError as exc:
        if os.path.isdir(path):  # EACCES as well: the C library opens no folder
            raise OsCallError("open", 0, text=f"`{path}`: it is no regular file") from exc
        raise AccessDeniedError("open", exc.errno or 0, text=f"`{path}`: {exc.strerror}") from exc
    except ValueError as exc:  # a NUL in the name
        raise OsCallError("open", 0, text=f"{path!a} is no file name") from exc
    except OSError as exc:
        raise OsCallError("open", exc.errno or 0, text=f"`{path}`: {exc.strerror}") from exc
