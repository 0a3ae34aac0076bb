"""Writes to a descriptor from a thread of its own, where the system cannot say beforehand whether a write would block (Windows).

A console whose text somebody is marking, or a pipe that nobody reads, holds every write; a stop that is under way must not wait for it.

Decision: a thread, which starts with the first text. Rejected: the free room of the pipe (`FilePipeLocalInformation`),
which reads as none while a reader waits with a buffer of the pipe's size, so that nothing would ever be written to a patient reader.
"""

from __future__ import annotations

import errno
import os
import threading

_LOOK_S = 0.1  # Ctrl+C does not end a wait for a lock on Windows, so the main thread waits in pieces


class Pump:
    """A queue of bytes and the thread that writes them.

    Attributes:
        error: Number of the error that ended it, 0 while it works.
    """

    def __init__(self, fd: int) -> None:
        self.error = 0
        self._fd = fd
        self._news = threading.Condition()
        self._waiting = bytearray()
        self._writing = False
        self._thread: threading.Thread | None = None

    def put(self, data: bytes) -> None:
        """Take bytes to be written; never blocks."""
        with self._news:
            self._waiting += data
            if self._thread is None:
                # A daemon: who never reads must not keep the process from leaving.
                self._thread = threading.Thread(target=self._run, name="endtask-output", daemon=True)
                self._thread.start()
            self._news.notify_all()

    def finish(self) -> None:
        """Wait until everything is written, as long as the reader wants, or until it fails."""
        with self._news:
            while (self._waiting or self._writing) and not self.error:
                self._news.wait(_LOOK_S)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._waiting:
                    self._news.wait()
                data = bytes(self._waiting)
                self._waiting.clear()
                self._writing = True
            code = self._write(data)
            with self._news:
                self._writing = False
                self.error = code
                self._news.notify_all()
            if code:
                return

    def _write(self, data: bytes) -> int:
        """Write all of *data*; the number of the error, or 0."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as error:
                # Windows says EINVAL for a pipe whose reader has gone (write of the C runtime, python/cpython#79935).
                return errno.EPIPE if error.errno == errno.EINVAL else error.errno or errno.EIO
        return 0
