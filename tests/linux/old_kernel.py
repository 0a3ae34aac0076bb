"""Helpers for tests that need a process of their own: an old kernel, few descriptors, another user, another namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import endtask
from tests.linux.children import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = os.path.dirname(os.path.abspath(__file__))
NO_PIDFD = os.path.join(_HERE, "nopidfd.py")
SOURCES = os.path.dirname(os.path.dirname(os.path.abspath(endtask.__file__)))

_PRELUDE = """
import os, sys
sys.path.insert(0, {sources!r})
from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.waiter import LinuxWaiter
from endtask._backends.linux.ends import EndReader
from endtask.errors import *
pins = Pins()

def become_nobody():
    '''Lose all rights, in this process for good; everything that is needed must have been imported.'''
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

def child(code=0):
    '''A child that ends with that code when its standard input does.'''
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(code)
    os.close(reading)
    return pid, writing
"""


def script(code: str) -> list[str]:
    """Return the command line of a fresh Python that runs *code* with `pins` and `child()` at hand."""
    body = _PRELUDE.format(sources=SOURCES) + textwrap.dedent(code)
    return [sys.executable, "-I", "-c", body]


def without_pidfds(command: Sequence[str], *, error: str = "ENOSYS", calls: str = "both") -> list[str]:
    """Return the command line that runs *command* on a kernel without pidfds."""
    return [sys.executable, "-I", NO_PIDFD, error, calls, *command]


def output(command: Sequence[str]) -> list[str]:
    """Run a command, which must succeed, and return its lines."""
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()
