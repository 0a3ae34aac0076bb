"""Where the contract is tried: a stage starts programs, on the simulated machine or on this one."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from endtask._backends.sim.backend import SimBackend
from endtask._backends.sim.spec import Op, Spec, World
from endtask._backends.sim.system import System
from tests.linux.children import REST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from endtask._backends.base import Backend
    from endtask._backends.sim.process import Process

    Pids: TypeAlias = "Mapping[str, int]"

PATIENCE_S = 60.0  # a passing test never spends it
KINDS = ("sleeper", "deaf", "polite", "stubborn", "parent", "bomb", "listener", "leaver")


class Stage(ABC):
    """A place with programs and a backend.

    Attributes:
        backend: What is tried.
        simulated: Whether the machine is simulated.
    """

    backend: Backend
    simulated: bool

    @abstractmethod
    def start(self, kind: str, *, mark: str = "") -> int:
        """Start a program of one of the `KINDS` and return its pid once it is ready."""

    @abstractmethod
    def child_of(self, pid: int) -> int:
        """Return the first child of a `parent`."""

    @abstractmethod
    def signal(self, pid: int, number: int) -> None:
        """Send a signal as somebody else would, and see that it has taken effect if it is STOP."""

    @abstractmethod
    def reap(self, pid: int) -> None:
        """Let the parent of an exited program collect it; nobody does it before."""

    @abstractmethod
    def parent_of(self, kind: str) -> int:
        """Return who starts the programs."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port of a `listener`."""


# ---------------------------------------------------------------------- simulated


def _spec(kind: str, port: int, mark: str) -> Spec:
    child = Spec("child", on=((15, ()),)) if kind == "parent" else None
    spawn = Op("forks", 0.001, 1000, child=Spec("spawned"))
    return Spec(
        "program-with-a-long-name" if kind == "sleeper" else kind,
        main={"bomb": (spawn,), "leaver": (Op("exit", n=7),)}.get(kind, ()),
        on={
            "polite": ((15, (Op("exit", n=3),)),),
            "stubborn": ((15, ()),),
            "talker": ((15, (Op("say", who="heard"), Op("exit"))),),
        }.get(kind, ()),
        ignored=(15,) if kind == "deaf" else (),
        ports=(port,) if kind == "listener" else (),
        environ=f"mark {mark}" if mark else "",
        marks=(mark,) if mark else (),
        flags=("session", "receiver") if kind == "talker" else ("session",),
        children=(child,) if child is not None else (),
    )


class SimStage(Stage):
    """The simulated machine; a keeper that never reaps by itself starts everything."""

    simulated = True

    def __init__(self) -> None:
        self.system = System(World(fork_watch="exact", forks=5000), 1)
        self.backend = SimBackend(self.system)
        keeper = self.system.fork(self.system.shell, Spec("keeper", environ="keeper", reap_s=-1.0))
        assert keeper is not None
        self.keeper = keeper

    @property
    def port(self) -> int:
        return 3000

    def start(self, kind: str, *, mark: str = "") -> int:
        process = self.system.fork(self.keeper, _spec(kind, self.port, mark))
        assert process is not None
        self.system.settle(0.01)
        return process.pid

    def child_of(self, pid: int) -> int:
        return self.system.table[pid].children[0].pid

    def signal(self, pid: int, number: int) -> None:
        self.system.post(self.system.table[pid], number)
        self.system.settle(0.01)

    def reap(self, pid: int) -> None:
        process = self.system.table[pid]
        while not process.exited:
            self.system.settle(0.01)
        self.system.reap(process, 0)

    def parent_of(self, kind: str) -> int:
        return self.keeper.pid

    def process(self, pid: int) -> Process:
        """Return what the simulator knows."""
        return self.system.table[pid]


# ---------------------------------------------------------------------- real

_PROGRAMS = {
    "sleeper": "",
    "deaf": "signal.signal(15, signal.SIG_IGN)",
    "polite": "signal.signal(15, lambda *_: os._exit(3))",
    "stubborn": "signal.signal(15, lambda *_: None)",
    "parent": """
signal.signal(15, lambda *_: None)
child = os.fork()
if child == 0:
    rest()
os.write(1, b'%d\\n' % child)
""",
    "bomb": """
os.write(1, b'ready\\n')
for _ in range(60):
    if os.fork() == 0: break
rest()
""",
    "listener": "import socket; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen()",
    "talker": """
import socket
signal.signal(15, lambda *_: (talk.sendall(b'{"heard":{"name":"SIGTERM","ago_s":0}}\\n'), os._exit(0)))
folder = os.environ["XDG_RUNTIME_DIR"] + "/endtask"
os.mkdir(folder, 0o700)
with open("/proc/self/stat", "rb") as stat:
    start = stat.read().rpartition(b")")[2].split()[19].decode()
door = socket.socket(socket.AF_UNIX)
door.bind(f"{folder}/{os.getpid()}.{start}")
door.listen()
os.write(1, b'ready\\n')
talk, _ = door.accept()
talk.sendall(b'{"endtask":1,"hello":{"state":"running","grace_s":1}}\\n')
rest()
""",
    "leaver": "os.write(1, b'ready\\n'); os._exit(7)",
}
_REST = """
os.write(1, b'ready\\n')
rest()
"""


class RealStage(Stage):
    """This machine; the test itself is the parent, and reaps only when it is told to."""

    simulated = False

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._children: dict[int, int] = {}
        self._runtime = ""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    @property
    def port(self) -> int:
        return self._port

    def start(self, kind: str, *, mark: str = "") -> int:
        text = f"import os, signal, sys\n{REST}{_PROGRAMS[kind]}{_REST}"
        environ = {"PATH": os.environ["PATH"], "KEEPER": "contract", **({"ENDTASK_MARK": mark} if mark else {})}
        if kind == "talker":
            self._runtime = self._runtime or tempfile.mkdtemp()
            environ["XDG_RUNTIME_DIR"] = self._runtime
        command = [sys.executable, "-I", "-S", "-c", text, str(self._port)]
        # A session of its own: a test that fails must be able to end what the program has started.
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, start_new_session=True)
        self._running[popen.pid] = popen
        word = _line(popen)
        if kind == "parent":
            self._children[popen.pid] = int(word)
            word = _line(popen)
        assert word == "ready"
        return popen.pid

    def child_of(self, pid: int) -> int:
        return self._children[pid]

    def signal(self, pid: int, number: int) -> None:
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

    def reap(self, pid: int) -> None:
        self._running[pid].wait(PATIENCE_S)

    def parent_of(self, kind: str) -> int:
        return os.getpid()

    def close(self) -> None:
        """End everything that was started, its children with it."""
        for pid, popen in self._running.items():
            if popen.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # the group of our own child, which we have not reaped
                popen.wait(PATIENCE_S)
            if popen.stdout is not None:
                popen.stdout.close()
        if self._runtime:
            shutil.rmtree(self._runtime)


def _line(popen: subprocess.Popen[bytes]) -> str:
    assert popen.stdout is not None
    fd = popen.stdout.fileno()
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([fd], [], [], PATIENCE_S)
        assert readable, f"the program said only {line!r} in {PATIENCE_S} s"
        piece = os.read(fd, 1)
        assert piece, f"the program ended after {line!r}, status {popen.wait()}"
        line += piece
    return line.decode().strip()


@contextlib.contextmanager
def real_stage() -> Iterator[RealStage]:
    """Open this machine."""
    from endtask._backends.linux.backend import LinuxBackend

    stage = RealStage(LinuxBackend())
    try:
        yield stage
    finally:
        stage.close()
