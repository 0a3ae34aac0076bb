"""What both ways of starting a command of our own are told: through a keeper (POSIX) and into a job object (Windows)."""

from __future__ import annotations

from endtask._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

    Stream = int | IO[bytes] | None


class Launch(Record):
    """How a command is to be started.

    Attributes:
        command: Program and arguments; or one text, which the platform splits in its own way.
        cwd: Working directory, None for ours.
        env: Environment, None for ours.
        stdin: As in `subprocess.Popen`.
        stdout: As in `subprocess.Popen`.
        stderr: As in `subprocess.Popen`.
        stdin_eof: Whether the end of its standard input is the first thing that it is asked with; that needs a pipe to it.
    """

    command: str | Sequence[str]
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None
    stdin_eof: bool = False
