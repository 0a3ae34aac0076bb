"""Real processes for the tests of the Linux backend: started here, ready when they say so, ended here."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PATIENCE_S = 60.0
"""The longest that a test waits for what must happen; a passing test never spends it."""

REST = """
def rest(until=-1):
    import os, select, signal
    source, sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    while until not in select.select([source, *([until] if until >= 0 else [])], [], [])[0]:
        os.read(source, 4096)
"""
"""What a program with handlers of its own waits with, instead of `signal.pause()`, until a descriptor is readable.

A signal that comes just before that call is noted by Python's handler, and the function that it stands for would wait for the next one.
"""

_PRELUDE = f"""
import os, signal, sys
{REST}
def ready(word="ready"):
    os.write(1, word.encode() + b"\\n")
"""


class Child:
    """A child of the test.

    Attributes:
        pid: Its process id.
        said: The first line that it wrote.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.said = b""

    def read_line(self) -> bytes:
        """Return the next line that it writes, waiting for it."""
        assert self.popen.stdout is not None
        fd = self.popen.stdout.fileno()
        deadline = time.monotonic() + PATIENCE_S
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"the child said only {line!r} in {PATIENCE_S} s"
            byte = os.read(fd, 1)
            assert byte, f"the child ended after {line!r}, status {self.popen.wait()}"
            line += byte
        return line

    def end(self) -> None:
        """End and reap it."""
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def running(
    arguments: Sequence[str | bytes],
    *,
    says: bytes = b"",
    executable: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    uid: int | None = None,
    inherit: Sequence[int] = (),
    new_session: bool = False,
) -> Iterator[Child]:
    """Start a program and end it with the block.

    Args:
        arguments: Its arguments.
        says: What its first line begins with; empty for a program that only sleeps.
        executable: The file, if that is not the first argument.
        env: Its environment, ours if None.
        cwd: Its working directory.
        uid: The user that it runs as.
        inherit: Descriptors that it gets.
        new_session: Whether it leads a session of its own.
    """
    popen = subprocess.Popen(
        arguments,
        executable=executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        cwd=cwd,
        user=uid,
        group=uid,
        extra_groups=() if uid is not None else None,
        pass_fds=tuple(inherit),
        start_new_session=new_session,
    )
    child = Child(popen)
    try:
        if says:
            child.said = child.read_line()
            assert child.said.startswith(says), child.said
        else:
            # Popen returns when exec(2) closes its pipe, which the kernel does before it sets the new name.
            eventually(lambda: sleeps(child.pid), f"{child.pid} is executed and sleeps")
        yield child
    finally:
        child.end()


@contextlib.contextmanager
def python(code: str, *arguments: str, **how: object) -> Iterator[Child]:
    """Run *code* in a Python without site-packages; it calls `ready()` when the test may go on."""
    command = [sys.executable, "-I", "-S", "-c", _PRELUDE + code, *arguments]
    with running(command, says=b"ready", **how) as child:  # type: ignore[arg-type]  # handed through
        yield child


def sleeps(pid: int) -> bool:
    """Return whether a program has been executed that is not ours, and has gone to sleep."""
    with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/self/comm", "rb") as comm:
        name, _, rest = stat.read().partition(b"(")[2].rpartition(b") ")
        return rest.startswith(b"S") and name != comm.read()[:-1]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds, for a change that the kernel announces nowhere (a child that has gone to sleep)."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        os.sched_yield()


def refusal(arguments: Sequence[str]) -> str:
    """Run a harmless command and return why it does not work here, an empty string if it does."""
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=PATIENCE_S, check=False)
    except OSError as exc:
        return f"{arguments[0]}: {exc.strerror}"
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
