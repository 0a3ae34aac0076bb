"""Keeps what one scene starts: parent, adoptive parent and, in the end, the one who ends it all.

Runs as `python -I -S keeper.py` with a socket as standard input, on which it gets one JSON line for each command.
It is a child subreaper (PR_SET_CHILD_SUBREAPER of prctl(2)), or the first process of a pid namespace: whatever a scene starts stays below it,
double forks and sessions of their own included.
So when the socket closes, because the test is over or has been killed itself, the keeper can end exactly its own descendants and nothing else.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import time

_PR_SET_CHILD_SUBREAPER = 36
_LIFE_S = 150.0


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Keeper:
    """The keeper's state: its socket and how its children ended."""

    def __init__(self) -> None:
        self.control = socket.socket(fileno=os.dup(0))
        # The targets get /dev/null instead: the socket is nobody else's affair.
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        self.reaped: dict[int, int] = {}
        self.deadline = time.monotonic() + _LIFE_S

    def serve(self) -> None:
        """Answer commands and reap until the other end closes or the time is over."""
        source, sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(sink)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        poller = select.poll()
        poller.register(self.control.fileno(), select.POLLIN)
        poller.register(source, select.POLLIN)
        while time.monotonic() < self.deadline:
            for fd, _event in poller.poll(1000):
                if fd == source:
                    os.read(source, 4096)
                elif not self.answer():
                    return
            self.reap()

    def reap(self) -> None:
        """Reap whatever has ended, and remember how."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.reaped[pid] = status

    def answer(self) -> bool:
        """Carry out one command; False when the other end has closed."""
        data, ancillary, _flags, _address = self.control.recvmsg(1 << 20, socket.CMSG_LEN(64))
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not data:
            return False
        command = json.loads(data)
        if command["do"] == "spawn":
            result: dict[str, object] = {"pid": self.spawn(command, list(fds))}
        else:
            self.reap()
            result = {"reaped": {str(p): s for p, s in self.reaped.items()}, "pid": os.getpid()}
        for fd in fds:
            os.close(fd)
        self.control.sendall(json.dumps(result).encode())
        return True

    def spawn(self, command: dict[str, object], fds: list[int]) -> int:
        """Start a program as a shell would: own process group, our session; `daemon` starts it as an orphan of an ended session, `session` as the leader of its own."""
        pid = os.fork()
        if pid == 0:
            try:
                self.become(command, fds)
            finally:
                os._exit(127)
        return pid

    def become(self, command: dict[str, object], fds: list[int]) -> None:
        """Turn into the program; runs in the child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if command.get("session"):
            os.setsid()
        elif command.get("daemon"):
            os.setsid()
            if os.fork():
                os._exit(0)
        else:
            os.setpgid(0, 0)
        signal.alarm(120)  # survives execve(2): even a shell ends by itself
        os.dup2(fds[0], 3)
        if len(fds) > 1:
            os.dup2(fds[1], 0)
        os.closerange(4, 256)
        uid = command.get("uid")
        if isinstance(uid, int):
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        argv = command["argv"]
        environment = command["env"]
        assert isinstance(argv, list)
        assert isinstance(environment, dict)
        os.chdir(str(command["cwd"]))
        os.execve(argv[0], argv, environment)


def descendants() -> list[int]:
    """Return every process below this one, from one reading of the process table."""
    children: dict[int, list[int]] = {}
    for word in os.listdir("/proc"):
        if word.isdigit():
            try:
                with open(f"/proc/{word}/stat", "rb") as file:
                    ppid = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # ignored: it has gone
            children.setdefault(ppid, []).append(int(word))
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_all() -> None:
    """End every descendant: kill all that can be seen, reap, and look again until there is nobody left (ECHILD)."""
    limit = time.monotonic() + 10.0
    while time.monotonic() < limit:
        for start in range(0, len(seen := descendants()), 200):
            _kill(seen[start : start + 200])
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([], [], [], 0.002)


def _kill(pids: list[int]) -> None:
    """Kill processes that are below us before and after a handle on them was opened, so that a reused pid is never hit."""
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                handles[pid] = os.pidfd_open(pid)
            except OSError:
                continue  # ignored: it has gone
        for pid in set(descendants()).intersection(handles):
            try:
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
            except ProcessLookupError:
                continue  # ignored: it has gone
    finally:
        for handle in handles.values():
            os.close(handle)


def main() -> None:
    """Serve, then end all."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getsid(0) != os.getpid():
        os.setsid()  # as the first process of a container
    keeper = Keeper()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(
            number, lambda _number, _frame: None
        )  # not SIG_IGN, which the targets would inherit over execve(2)
    keeper.control.sendall(json.dumps({"pid": os.getpid()}).encode())
    try:
        keeper.serve()
    finally:
        end_all()


if __name__ == "__main__":
    main()
