"""Reading a file that names a process, in the same way on every system."""

from __future__ import annotations

import os
import time

from endtask.errors import OsCallError

_BYTES = 4096  # the number stands in the first line
_S_IFMT, _S_IFREG = 0xF000, 0x8000  # `stat` costs 1 ms at start-up


def read(name: bytes | str, flags: int, path: str) -> tuple[bytes, float]:
    """Return the first 4,096 bytes of a file and its age in seconds since the last write (0 if that lies in the future).

    Args:
        name: As the system takes it.
        flags: How it is opened, so that nobody else is in the way of it, nor it in ours.
        path: As the user wrote it.

    Raises:
        OSError, ValueError: It cannot be read.
        OsCallError: It is no regular file (a pipe, a terminal, a folder).
    """
    fd = os.open(name, flags)
    try:
        seen = os.fstat(fd)
        if seen.st_mode & _S_IFMT != _S_IFREG:
            raise OsCallError("open", 0, text=f"`{path}`: it is no regular file")
        raw = os.read(fd, _BYTES)
    finally:
        os.close(fd)
    return raw, max(0.0, time.time() - seen.st_mtime)
