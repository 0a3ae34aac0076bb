"""The laboratory of the end-to-end tests: starts targets, runs the command, and looks with its own eyes at what is left.

Nothing here asks endtask for the truth.
What runs is read from /proc and from handles that the laboratory has opened itself; how a process ended is what its parent, the keeper, got from wait(2).
Every process is a descendant of a `keeper`, which ends them all when its scene closes.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

HERE = Path(__file__).resolve().parent


def _bare_python() -> str:
    """Return a Python that every user may run, if there is one: some targets belong to other users."""
    ours = Path(os.path.realpath(sys.executable))
    with contextlib.suppress(PermissionError):  # a folder that even we may not enter
        if all(folder.stat().st_mode & 0o001 for folder in ours.parents):
            return str(ours)
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else str(ours)


BARE = (_bare_python(), "-I", "-S")
ROOT = os.geteuid() == 0
PATIENCE_S = 60.0  # after this a command has hung
S = TypeVar("S")
T = TypeVar("T")
_number = itertools.count(1)


# --------------------------------------------------------------------------- what the laboratory sees by itself


@dataclass(frozen=True)
class Seen:
    """One process as /proc shows it.

    Attributes:
        outer: Pid in the namespace of the tests.
        pid: Pid in its own, innermost namespace: what endtask calls it when it runs there.
        ppid: Parent's pid, outer.
        state: Letter of proc_pid_stat(5).
        comm: Short name.
    """

    outer: int
    pid: int
    ppid: int
    state: str
    comm: str

    @property
    def runs(self) -> bool:
        """Whether it is neither a zombie nor dead."""
        return self.state not in "ZX"


def process_table() -> dict[int, Seen]:
    """Return every process of the machine by outer pid."""
    table = {}
    for word in os.listdir("/proc"):
        if word.isdigit() and (seen := look_at(int(word))) is not None:
            table[seen.outer] = seen
    return table


def look_at(outer: int) -> Seen | None:
    """Read one process, None if it has gone."""
    try:
        stat = Path(f"/proc/{outer}/stat").read_bytes()
        status = Path(f"/proc/{outer}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = stat.rpartition(b")")
    state, ppid = tail.split()[:2]
    namespaced = [line for line in status.splitlines() if line.startswith(b"NSpid:")]
    pid = int(namespaced[0].split()[-1]) if namespaced else outer
    return Seen(outer, pid, int(ppid), state.decode(), os.fsdecode(head.partition(b"(")[2]))


def below(outer: int) -> list[Seen]:
    """Return every descendant that runs; read twice, because a process that changes its parent in the middle can hide from one reading."""
    found: dict[int, Seen] = {}
    for _ in range(2):
        children: dict[int, list[Seen]] = {}
        for seen in process_table().values():
            children.setdefault(seen.ppid, []).append(seen)
        queue = [outer]
        while queue:
            for seen in children.get(queue.pop(), []):
                found[seen.outer] = seen
                queue.append(seen.outer)
    again = (look_at(outer) for outer in found)
    return [seen for seen in again if seen is not None and seen.runs]


def port_open(port: int) -> bool:
    """Return whether somebody listens on a TCP port of the loopback address (state 0A of /proc/net/tcp, proc_pid_net(5))."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if words[1].endswith(wanted) and words[3] == "0A":
            return True
    return False


_ports = itertools.count(20000 + os.getpid() % 50 * 200)


def free_port() -> int:
    """Return a port that nobody listens on and that no other call of this process gets.

    Below the range from which the kernel picks by itself (32768 and up, ip(7)), so that no stranger takes it in between.
    Looked up and not tried out: a process that another thread forks meanwhile would have the port until it is another program.
    """
    used = "".join(path.read_text(encoding="ascii") for path in Path("/proc/net").glob("[tu][cd]p*"))
    while True:
        port = 20000 + next(_ports) % 12000
        if f":{port:04X} " not in used:
            return port


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Return the first true value of *condition*; look every few milliseconds, because what is waited for has no handle.

    Raises:
        TimeoutError: It did not become true.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {timeout_s} s: {condition}")
        select.select([], [], [], 0.005)


# --------------------------------------------------------------------------- the command


@dataclass
class Answer:
    """What one run of the command said, and what was left at the moment it returned.

    Attributes:
        argv: The arguments after `endtask`.
        code: Exit code.
        out: Standard output.
        err: Standard error.
        took_s: Seconds from start to end.
        left: Every process of the scene that ran when the command returned.
    """

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    took_s: float
    left: list[Seen] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Everything that was written."""
        return self.out + self.err

    @property
    def document(self) -> dict[str, object]:
        """The JSON document on standard output."""
        return cast("dict[str, object]", json.loads(self.out))

    @property
    def targets(self) -> list[dict[str, object]]:
        """The targets of the document."""
        return cast("list[dict[str, object]]", self.document["targets"])

    @property
    def target(self) -> dict[str, object]:
        """The only target of the document."""
        (target,) = self.targets
        return target

    def left_pids(self) -> set[int]:
        """Pids (of their own namespace) of what was left."""
        return {seen.pid for seen in self.left}

    def __str__(self) -> str:
        left = ", ".join(f"{s.pid} {s.comm} ({s.state})" for s in self.left) or "nothing"
        return f"endtask {' '.join(self.argv)}\n  code {self.code} after {self.took_s:.2f} s; left: {left}\n--- stdout\n{self.out}--- stderr\n{self.err}"


def command(*argv: object) -> list[str]:
    """Return the command line of endtask with these arguments."""
    return [sys.executable, "-m", "endtask", *(str(a) for a in argv)]


def environment(**more: str) -> dict[str, str]:
    """Return the environment for the command: ours, without what changes its output, with a journal of its own."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("ENDTASK_", "PYTEST_")) and k not in ("NO_COLOR", "PYTHONIOENCODING")
    }
    if "PYTHONPATH" in kept:  # the command may run in another folder
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in kept["PYTHONPATH"].split(os.pathsep))
    return {**kept, "XDG_STATE_HOME": _state_folder(), **more}


_state: list[str] = []


def _state_folder() -> str:
    if not _state:
        _state.append(tempfile.mkdtemp(prefix="endtask-state-"))
    return _state[0]


def forget() -> None:
    """Remove the journal of the commands that this process ran."""
    while _state:
        shutil.rmtree(_state.pop(), ignore_errors=True)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_s: float = PATIENCE_S,
    pass_fds: Sequence[int] = (),
    observe: Callable[[], list[Seen]] | None = None,
    shown: Sequence[object] | None = None,
    cwd: str | None = None,
) -> Answer:
    """Run a command line to its end, look at once at what is left.

    Raises:
        subprocess.TimeoutExpired: It hung, or somebody holds its output open.
    """
    began = time.monotonic()
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env) if env is not None else environment(),
        pass_fds=tuple(pass_fds),
        cwd=cwd,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        took_s = time.monotonic() - began
        left = observe() if observe is not None else []
    return Answer(
        tuple(str(a) for a in (shown if shown is not None else argv)),
        process.returncode,
        out.decode("utf-8", "surrogateescape"),
        err.decode("utf-8", "surrogateescape"),
        took_s,
        left,
    )


def endtask(*argv: object, **how: object) -> Answer:
    """Run `endtask` with these arguments; *how* as for `run`."""
    return run(command(*argv), shown=argv, **how)  # type: ignore[arg-type]  # passed through as they are


def together(act: Callable[[S], T], items: Iterable[S], workers: int = 12) -> list[T]:
    """Call *act* for all items at the same time and return the results in order."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(act, items))


# --------------------------------------------------------------------------- scenes


@dataclass
class Target:
    """A program of a scene that said `ready`.

    Attributes:
        pid: Pid of the main part (in the scene's namespace).
        name: Its short name.
        pids: Pids of all parts, by role.
        port: The port that it listens on, 0 for none.
        facts: Everything that it said.
    """

    pid: int
    name: str
    pids: dict[str, int]
    port: int
    facts: dict[str, object]


class Scene:
    """One keeper and what it has started.

    Args:
        namespace: Whether everything lives in a pid namespace whose first process is the keeper (needs root).
        folder: Where stubs and files go.
    """

    def __init__(self, folder: Path, *, namespace: bool = False) -> None:
        self.folder = folder
        self.namespace = namespace
        self._handles: dict[int, int] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        isolate = ISOLATED if namespace else ()
        with theirs:
            self._process = subprocess.Popen(
                [*isolate, *BARE, str(HERE / "keeper.py")],
                stdin=theirs.fileno(),
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        self._control = ours
        self._control.settimeout(PATIENCE_S)
        self.keeper = self._hear()["pid"]
        self.outer = self._process.pid
        if namespace:
            self.outer = eventually(
                lambda: next((s.outer for s in process_table().values() if s.ppid == self._process.pid), 0)
            )

    def _hear(self) -> dict[str, int]:
        data = self._control.recv(1 << 20)
        if not data:
            raise RuntimeError("the keeper has ended")
        return cast("dict[str, int]", json.loads(data))

    def _ask(self, question: dict[str, object], fds: Sequence[int] = ()) -> dict[str, int]:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._control.sendmsg([json.dumps(question).encode()], rights)
        return self._hear()

    # ------------------------------------------------------------------ starting

    def stub(self, name: str) -> str:
        """Write an executable file whose process has *name* as its name, and return its path."""
        path = self.folder / f"{next(_number)}" / name
        path.parent.mkdir(mode=0o755)
        text = f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport programs\nprograms.run(sys.argv[1:])\n"
        path.write_text(f"#!{' '.join(BARE[:1])} -IS\n{text}", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def start(
        self,
        argv: Sequence[str],
        *,
        ready: bool = True,
        env: Mapping[str, str] | None = None,
        daemon: bool = False,
        session: bool = False,
        uid: int | None = None,
        stdin: int | None = None,
        cwd: str = "/",
    ) -> dict[str, object]:
        """Start a command line below the keeper and wait until it says that it is ready; returns what it said."""
        source, sink = os.pipe()
        given = dict(env) if env is not None else {"PATH": os.environ.get("PATH", os.defpath), "LAB": str(self.folder)}
        order: dict[str, object] = {
            "do": "spawn",
            "argv": list(argv),
            "env": given,
            "daemon": daemon,
            "session": session,
            "uid": uid,
            "cwd": cwd,
        }
        try:
            pid = self._ask(order, [sink, *([stdin] if stdin is not None else [])])["pid"]
        finally:
            os.close(sink)
        with os.fdopen(source, "rb") as pipe:
            if not ready:
                return {"pids": {"main": pid}, "port": 0}
            if not select.select([pipe], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"{argv} did not get ready")
            line = pipe.readline()
        if not line:
            raise RuntimeError(f"{argv} ended before it was ready")
        return cast("dict[str, object]", json.loads(line))

    def target(self, program: str, **options: object) -> Target:
        """Start a program of `programs.py`.

        Args:
            program: Its name.
            options: `name` its process name (a unique one by default), `words` before it on the command line (for example `timeout 60`);
                for `start` those that it knows, all others for the program.
        """
        name = str(options.pop("name", "") or unique(program))
        words = cast("Sequence[str]", options.pop("words", ()))
        known = {k: options.pop(k) for k in ("env", "daemon", "session", "uid", "stdin", "cwd") if k in options}
        argv = [*words, self.stub(name), program, *(f"{k}={v}" for k, v in options.items())]
        if argv[0] and "/" not in argv[0]:
            argv[0] = shutil.which(argv[0]) or argv[0]
        return self._told(name, self.start(argv, **known))  # type: ignore[arg-type]  # passed through

    def supervised(self, delay_s: float, *, shell: bool = False, **options: object) -> Target:
        """Start a polite program under a loop that starts it again *delay_s* seconds after its end."""
        name = unique("work")
        command = [self.stub(name), "polite", *(f"{k}={v}" for k, v in options.items())]
        if not shell:
            argv = [self.stub(unique("sv")), "supervisor", f"delay={delay_s}", f"command={' '.join(command)}"]
        else:
            argv = ["/bin/sh", "-c", f'while :; do "$@"; sleep {delay_s:g}; done', "loop", *command]
        target = self._told(name, self.start(argv))
        if shell:
            target.pids["supervisor"] = self.inner(next(s.ppid for s in self.running() if s.pid == target.pid))
        return target

    def _told(self, name: str, facts: dict[str, object]) -> Target:
        pids = cast("dict[str, int]", facts.get("pids", {}))
        for pid in pids.values():
            self.hold(pid)
        return Target(pids["main"], name[:15], pids, cast("int", facts.get("port", 0)), facts)

    # ------------------------------------------------------------------ looking

    def running(self) -> list[Seen]:
        """Return everything of this scene that runs, the keeper left out."""
        return below(self.outer)

    def inner(self, outer: int) -> int:
        """Return the pid that an outer pid has in the scene."""
        seen = look_at(outer)
        return seen.pid if seen is not None else 0

    def hold(self, pid: int) -> None:
        """Open our own handle on a process of the scene, so that its exit can be seen whatever becomes of the pid."""
        outer = (
            next((s.outer for s in process_table().values() if s.pid == pid and self._ours(s)), 0)
            if self.namespace
            else pid
        )
        if outer and pid not in self._handles:
            with contextlib.suppress(ProcessLookupError):  # it has gone already: `exited` says so
                self._handles[pid] = os.pidfd_open(outer)

    def _ours(self, seen: Seen) -> bool:
        while seen.outer != self.outer:
            parent = look_at(seen.ppid)
            if parent is None or seen.ppid == 1:
                return False
            seen = parent
        return True

    def exited(self, pid: int) -> bool:
        """Return whether a held process has exited, by the kernel's word (pidfd_open(2))."""
        handle = self._handles.get(pid)
        if handle is None:
            return True
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(0))

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a held process, through our handle."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handles[pid], number)

    def reaped(self) -> dict[int, int]:
        """Return how the keeper's children ended: wait status by pid."""
        answer = cast("dict[str, dict[str, int]]", self._ask({"do": "reaped"}))
        return {int(pid): status for pid, status in answer["reaped"].items()}

    def endtask(self, *argv: object, prefix: Sequence[str] = (), **how: object) -> Answer:
        """Run endtask where the scene is, and look at the scene the moment it returns.

        Args:
            argv: Its arguments.
            prefix: Words before the command line of endtask, for example `setpriv ...`.
            how: As for `run`.
        """
        enter = ["nsenter", "--target", str(self.outer), "--pid", "--mount", "--"] if self.namespace else []
        return run([*enter, *prefix, *command(*argv)], shown=[*prefix, *argv], observe=self.running, **how)  # type: ignore[arg-type]  # passed through

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End everything of the scene; nothing is left behind when this returns."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        self._control.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def unique(stem: str) -> str:
    """Return a process name of at most 15 bytes that nothing else on the machine has."""
    return f"{stem[:5]}{_short(os.getpid())}x{_short(next(_number))}"


def _short(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwyz"  # no x, which stands between two numbers
    text = ""
    while number:
        number, digit = divmod(number, len(digits))
        text = digits[digit] + text
    return text


class Lab:
    """Opens scenes and closes them all."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="endtask-lab-", ignore_cleanup_errors=True))
        )
        self.folder.chmod(0o755)

    def scene(self, *, namespace: bool = False) -> Scene:
        """Open a scene."""
        return self._stack.enter_context(Scene(self.folder, namespace=namespace))

    def close(self) -> None:
        """Close every scene."""
        self._stack.close()


def open_lab() -> Iterator[Lab]:
    """Open a laboratory for a fixture, and close it whatever happens."""
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()
        forget()


ISOLATED = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@cache
def sees_forks() -> bool:
    """Return whether endtask is told of every fork here: as root, and not in a pid namespace (a container)."""
    return ROOT and os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


@cache
def can_unshare() -> bool:
    """Return whether a pid namespace of our own can be made (root, and not forbidden)."""
    if not ROOT or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    done = subprocess.run([*ISOLATED, "true"], capture_output=True, check=False)
    return done.returncode == 0
