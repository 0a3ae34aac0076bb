"""Writes to standard output and standard error without ever standing in the way of a stop.

Decision: not `print`, because of what the other end may do in the middle of a run.

- It closes (`| head`), or the disk is full: the text is dropped, the stop goes on, the exit code stays true.
- It stops reading (`| less`, Ctrl+S): a blocking write would hold back the next step of the plan, or the thaw of a frozen tree.
  So text is written only as far as the other end takes it at once, and the rest at the end of the run.
  Where the system cannot say how far that is (Windows), a thread writes (`pump.py`).
- It is a terminal: names of processes are other people's text, and must not reach it with control characters (`shown`).
"""

from __future__ import annotations

import errno
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from endtask.cli.pump import Pump

    Line = str | tuple[tuple[str, str], ...]

# poll(2) says "writable" for a pipe when at least one page is free, and pipe(7) lets no write of up to PIPE_BUF (4,096 on Linux) block then.
_CHUNK = 4096
_FILE_TYPE, _REGULAR_FILE = 0o170000, 0o100000  # inode(7); `stat` costs 2 ms
_STYLES = {"good": "32", "warn": "33", "bad": "31", "head": "1", "dim": "2"}


def shown(text: str) -> str:
    r"""Return *text* so that it can be shown anywhere: what is not printable becomes `\xNN`, `\uNNNN` or `\n`.

    Covers control characters, escape sequences, characters that turn the direction of the line, and bytes that were not UTF-8 (kept by Python as lone surrogates).
    Applying it twice changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that was not UTF-8: PEP 383
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Stream:
    """One of the two ways out.

    Attributes:
        fd: The descriptor.
        tty: Whether it is a terminal.
        color: Whether to colour.
        error: Number of the error that ended it, 0 while it works.
        busy: Whether a write is under way; a signal handler must not start another one then.
    """

    def __init__(self, fd: int, encoding: str = "utf-8", *, color: bool | None = None) -> None:
        self.fd = fd
        self.tty = os.isatty(fd)
        self.color = self.tty and _color_wanted(fd) if color is None else color
        self.error = 0
        self._encoding = _console_encoding(fd, encoding) if self.tty else encoding
        self.busy = False
        self._backlog = bytearray()
        self._ready: Callable[[int | None], object] | None = None
        self._pump: Pump | None = None

    def line(self, line: Line) -> None:
        """Write one line, made safe; never blocks."""
        self.raw(self.painted(line) + "\n")

    def lines(self, lines: Iterable[Line]) -> None:
        """Write several lines at once."""
        text = "".join([self.painted(line) + "\n" for line in lines])
        if text:
            self.raw(text)

    def painted(self, line: Line) -> str:
        """Return *line* safe for a terminal, and coloured if this stream is."""
        if isinstance(line, str):
            return shown(line)
        if not self.color:
            return "".join([shown(text) for _, text in line])
        return "".join(
            [f"\x1b[{_STYLES[role]}m{shown(text)}\x1b[0m" if role in _STYLES else shown(text) for role, text in line]
        )

    def raw(self, text: str) -> None:
        """Write text that needs no escaping (JSON, help, what `painted` gave); never blocks."""
        if self.error:
            return
        if os.linesep != "\n":
            text = text.replace("\n", os.linesep)
        try:
            data = text.encode(self._encoding, "backslashreplace")
        except LookupError:
            data = text.encode("ascii", "backslashreplace")  # an unknown PYTHONIOENCODING is no reason to stay silent
        self._backlog += data
        self._push()

    def _push(self) -> None:
        """Write as much of the backlog as the other end takes at once."""
        if self._ready is None and self._pump is None:
            try:
                self._ready = _readiness(self.fd)
            except OSError as error:  # a program without a console may have no standard output at all (pythonw.exe)
                self._failed(error)
                return
            if self._ready is None:
                from endtask.cli.pump import Pump

                self._pump = Pump(self.fd)
        if self._pump is not None or self._ready is None:
            self._hand_over()
            return
        self.busy = True
        try:
            while self._backlog and self._ready(0):
                del self._backlog[: os.write(self.fd, self._backlog[:_CHUNK])]
        except OSError as error:
            self._failed(error)
        finally:
            self.busy = False

    def _hand_over(self) -> None:
        """Give the backlog to the thread that writes."""
        assert self._pump is not None
        self._pump.put(bytes(self._backlog))
        self._backlog.clear()
        self.error = self._pump.error

    def finish(self) -> None:
        """Write what is left, blocking as long as the reader wants: the stop is over."""
        if self._pump is not None:
            self._pump.finish()
            self.error = self._pump.error
            return
        while self._backlog and not self.error:
            try:
                if self._ready is not None:
                    self._ready(None)  # a descriptor in non-blocking mode would answer EAGAIN
                del self._backlog[: os.write(self.fd, self._backlog)]
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.EAGAIN, errno.EINTR):
            return  # ignored: the rest stays in the backlog and is written later
        self.error = error.errno or errno.EIO
        self._backlog.clear()


def _readiness(fd: int) -> Callable[[int | None], object] | None:
    """Return a function that says whether *fd* takes a write, after at most that many milliseconds (None: as long as it takes); None if nothing can."""
    poll = getattr(select, "poll", None)
    if poll is None:
        # A file takes every write at once; a console or a pipe may not, and Windows does not say so.
        return (lambda _timeout_ms: True) if os.fstat(fd).st_mode & _FILE_TYPE == _REGULAR_FILE else None
    poller = poll()
    poller.register(fd, getattr(select, "POLLOUT", 0))
    ready: Callable[[int | None], object] = poller.poll
    return ready


def _color_wanted(fd: int) -> bool:
    """Return what NO_COLOR (no-color.org: present and not empty) and the terminal say."""
    if os.environ.get("NO_COLOR"):
        return False
    from endtask._backends import understands_escapes

    return understands_escapes(fd)


def _console_encoding(fd: int, otherwise: str) -> str:
    """Return the code page of a Windows console; Python's own streams write Unicode there, and bytes are read by the code page."""
    return otherwise if os.linesep == "\n" else os.device_encoding(fd) or otherwise


class Console:
    """Standard output for data, standard error for talk."""

    def __init__(self, out: Stream, err: Stream) -> None:
        self.out = out
        self.err = err

    @property
    def may_ask(self) -> bool:
        """Whether there is a person to ask: standard input and standard error are terminals."""
        return self.err.tty and os.isatty(0)

    def complain(self, message: str, hint: str = "") -> None:
        """Say on standard error what went wrong, and what can be done."""
        self.err.line((("bad", "endtask: "), ("", message)))
        if hint:
            self.err.raw("\n")
            self.err.line((("head", "hint: "), ("", hint)))

    def finish(self) -> int:
        """Write what is left.

        Returns:
            0, or the number of the error that lost standard output. A reader that has gone (EPIPE) is none.
        """
        self.out.finish()
        lost = self.out.error if self.out.error != errno.EPIPE else 0
        if lost:
            self.complain(f"the output could not be written: {os.strerror(lost)}")
        self.err.finish()
        return lost


def standard_console() -> Console:
    """Return the console of this process; closed descriptors 0 to 2 are filled with /dev/null first.

    Otherwise the next handle that is opened, perhaps a socket to the kernel, would become descriptor 1 and be written to.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # EBADF: closed by who started us
            os.open(os.devnull, os.O_RDWR)  # open(2): the lowest free number, which is fd
    encodings = [getattr(s, "encoding", None) or "utf-8" for s in (sys.stdout, sys.stderr)]
    return Console(Stream(1, encodings[0]), Stream(2, encodings[1]))
