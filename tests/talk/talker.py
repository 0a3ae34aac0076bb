"""An application with a receiver, as far as a requester can see it: a program of a few lines that says whatever a test wants.

It knows the protocol from its description only, so a test that passes with it and fails with `endtask_receiver` shows that one of the two has misread it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from tests.linux.children import _PRELUDE, Child, python

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

# What every such program begins with. `say` speaks to the one who has connected; `signals` is a pipe with a byte for each signal that came.
PRELUDE = """
import json, select, socket, time
if os.environ.get("TALK_UID"):  # only now: another user may not be allowed to read the interpreter
    os.setgroups([])
    os.setresuid(*[int(os.environ["TALK_UID"])] * 3)
signals, _noted = os.pipe()
os.set_blocking(_noted, False)
signal.set_wakeup_fd(_noted)  # which is not late, as a handler is for a signal that comes just before a call
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda n, f: None)
with open("/proc/self/stat", "rb") as stat:
    start = stat.read().rpartition(b")")[2].split()[19].decode()
folder = os.environ.get("TALK_FOLDER") or os.environ["XDG_RUNTIME_DIR"] + "/endtask"
os.makedirs(folder, 0o700, exist_ok=True)
os.chmod(folder, 0o700)
os.chdir(folder)  # the path of a socket may have 107 bytes
door = socket.socket(socket.AF_UNIX)
door.bind(f"{os.getpid()}.{start}")
door.listen(8)
talk = None
buffer = b""
heard = []
def say(**words):
    raw(json.dumps(words).encode() + b"\\n")
def raw(data):
    try:
        talk.sendall(data)
    except OSError:
        pass
def hello(name="ingest", grace_s=10.0, state="running", left_s=None, **more):
    global talk
    talk, _ = door.accept()
    say(endtask=1, hello={"pid": os.getpid(), "name": name, "grace_s": grace_s, "state": state, "left_s": left_s}, **more)
def line():
    global buffer
    while b"\\n" not in buffer:
        data = talk.recv(4096)
        if not data:
            return {}
        buffer += data
    first, _, buffer = buffer.partition(b"\\n")
    message = json.loads(first)
    os.write(1, b"got " + first + b"\\n")
    return message
def wait_signal():
    return os.read(signals, 1)[0]
def heard_it(name="SIGTERM", ago_s=0.0002, left_s=9.9):
    say(heard={"name": name, "channel": "signal", "ago_s": ago_s, "left_s": left_s})
ready()
"""


def command(script: str) -> list[str]:
    """Return the command line of such a program, for those who start it themselves; it writes `ready` first."""
    return [sys.executable, "-I", "-S", "-c", _PRELUDE + PRELUDE + script]


@contextlib.contextmanager
def talker(script: str, runtime: pathlib.Path, *, uid: int | None = None, folder: str = "") -> Iterator[Child]:
    """Start a program that talks, and end it with the block.

    Args:
        script: What it does once it is ready.
        runtime: Its XDG_RUNTIME_DIR.
        uid: Its user, ours if not given.
        folder: Where its socket is, if not in *runtime*.
    """
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "TALK_FOLDER": folder}
    if uid is not None:
        env["TALK_UID"] = str(uid)
    with python(PRELUDE + script, env=env) as child:
        yield child
