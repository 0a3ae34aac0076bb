"""The standard streams of a command that we start: what of ours it gets, and our ends of its pipes.

Decision: each stream is given by a handle of its own that may be inherited, and by a list of just those (PROC_THREAD_ATTRIBUTE_HANDLE_LIST),
so that a program which somebody starts at the same moment, or the command itself, gets nothing else of ours.
"""

from __future__ import annotations

import ctypes
import os
import sys

assert sys.platform == "win32"

import msvcrt

from endtask._backends.windows import errors
from endtask._backends.windows.winapi import jobapi, kernel32
from endtask._backends.windows.winapi._bind import last_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from endtask._backends.launching import Launch, Stream

PIPE, STDOUT, DEVNULL = -1, -2, -3  # the numbers of `subprocess`, whose import costs 10 ms
_NOTHING = (0, kernel32.INVALID_HANDLE_VALUE)


class Streams:
    """The ends of three streams.

    Attributes:
        ours: Files on our ends of pipes, None where there is no pipe.
        theirs: Handles that the command is to inherit, 0 where it gets none.
    """

    __slots__ = ("_open", "ours", "theirs")

    def __init__(self, launch: Launch) -> None:
        self.ours: list[IO[bytes] | None] = []
        self.theirs: list[int] = []
        self._open: set[int] = set()
        try:
            for number, stream in enumerate((launch.stdin, launch.stdout, launch.stderr)):
                self._add(number, stream)
        except BaseException:
            self.close()
            raise

    def _add(self, number: int, stream: Stream) -> None:
        ours: IO[bytes] | None = None
        if stream is None:
            handle = jobapi.GetStdHandle(jobapi.STD_HANDLES[number]) or 0
            theirs = 0 if handle in _NOTHING else self._inheritable(handle)
        elif stream == PIPE:
            theirs, ours = self._pipe(number)
        elif stream == STDOUT:
            if number < 2:
                raise ValueError("STDOUT can only be given for standard error")
            theirs = self.theirs[1]
        elif stream == DEVNULL:
            file = os.open(os.devnull, os.O_RDWR)
            try:
                theirs = self._inheritable(msvcrt.get_osfhandle(file))
            finally:
                os.close(file)
        else:
            theirs = self._inheritable(msvcrt.get_osfhandle(stream if isinstance(stream, int) else stream.fileno()))
        self.theirs.append(theirs)
        self.ours.append(ours)

    def _pipe(self, number: int) -> tuple[int, IO[bytes]]:
        ends = (ctypes.c_void_p(), ctypes.c_void_p())
        if not jobapi.CreatePipe(ctypes.byref(ends[0]), ctypes.byref(ends[1]), None, 0):
            raise errors.failed("CreatePipe", last_error())
        reading, writing = (end.value or 0 for end in ends)
        self._open |= {reading, writing}
        mine, other = (writing, reading) if number == 0 else (reading, writing)
        theirs = self._inheritable(other)
        self._close(other)
        self._open.discard(mine)  # from here on it belongs to the file
        file = msvcrt.open_osfhandle(mine, 0 if number == 0 else os.O_RDONLY)
        return theirs, open(file, "wb" if number == 0 else "rb")  # the caller of the command closes it

    def _inheritable(self, handle: int) -> int:
        """Return a copy of a handle that a process may inherit; ours to close."""
        copy = ctypes.c_void_p()
        own = kernel32.GetCurrentProcess()
        same = kernel32.DUPLICATE_SAME_ACCESS
        if not kernel32.DuplicateHandle(own, handle, own, ctypes.byref(copy), 0, True, same):
            raise errors.failed("DuplicateHandle", last_error())
        found = copy.value or 0
        self._open.add(found)
        return found

    def _close(self, handle: int) -> None:
        self._open.discard(handle)
        kernel32.CloseHandle(handle)

    def close_theirs(self) -> None:
        """Close what the command has inherited: a pipe must end when it ends."""
        for handle in tuple(self._open):
            self._close(handle)

    def close(self) -> None:
        """Close everything, for a command that did not start."""
        self.close_theirs()
        for file in self.ours:
            if file is not None:
                file.close()
