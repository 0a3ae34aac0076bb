"""What the targets of the end-to-end tests do; each function is one small program.

A program runs as `python -I -S stub PROGRAM [key=value...]`, sets itself up, writes one JSON line to descriptor 3 (`ready`), and closes it.
The line holds the pids of its parts, the port that it listens on, and whatever a test needs.
Whatever happens, every part ends by itself after `LIFE_S` seconds by alarm(2), and a stopped one with its keeper.

Imports only what a bare interpreter has at hand, so that a target is ready in about 10 ms.
"""

from __future__ import annotations

import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

LIFE_S = 120
READY_FD = 3
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


# --------------------------------------------------------------------------- parts


def bound_life() -> None:
    """End this process after `LIFE_S` seconds; an alarm is not inherited by fork(2), so every part calls this."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFE_S)


def prctl(option: int, value: int | bytes) -> None:
    """Set an attribute of this process."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def rename(name: str) -> None:
    """Give this process another short name (PR_SET_NAME of prctl(2))."""
    prctl(_PR_SET_NAME, os.fsencode(name))


def ready(**facts: object) -> None:
    """Say that the program is set up, and let go of the pipe."""
    import json

    try:
        os.write(READY_FD, json.dumps(facts).encode() + b"\n")
    except BrokenPipeError:
        pass  # ignored: started again by a loop, when nobody waits for it any more
    except OSError:
        return  # ignored: a wrapper has closed the pipe
    os.close(READY_FD)


def listen(options: dict[str, str]) -> tuple[socket.socket | None, int]:
    """Listen on the port that the options ask for; without one do nothing."""
    if "port" not in options:
        return None, 0
    import socket

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if "plain" not in options:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(options["port"])))
    listener.listen(8)
    return listener, int(listener.getsockname()[1])


def rest() -> Callable[[], None]:
    """Return what waits for the next signal.

    Not pause(2): a signal that comes just before it is noted by Python's own handler, and the function that it stands for would wait for the next one.
    """
    source, sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)

    def wait() -> None:
        select.select([source], [], [])
        os.read(source, 4096)

    return wait


def sleep_on() -> NoReturn:
    """Do nothing until a signal ends it."""
    wait = rest()
    while True:
        wait()


def on_term(act: Callable[[], None]) -> None:
    """Call *act* in the handler of TERM."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, handler)


def after(delay_s: float, status: int = 0) -> None:
    """Work on for *delay_s* seconds, then exit."""
    select.select([], [], [], delay_s)
    os._exit(status)


def fork_part() -> int:
    """Fork; the child has its own alarm. Returns 0 in the child."""
    pid = os.fork()
    if pid == 0:
        bound_life()
    return pid


def tell(pipe: int, number: int) -> None:
    """Hand a number to another part of the program."""
    os.write(pipe, f"{number:<15}\n".encode())


def told(pipe: int) -> int:
    """Wait for a number of another part."""
    return int(os.read(pipe, 16))


# --------------------------------------------------------------------------- the nine of the matrix


def polite(options: dict[str, str]) -> None:
    """Catches TERM and exits `delay` seconds later with status `status`; the quick one (0.1 s) and the slow one (3 s)."""
    delay_s = float(options.get("delay", "0.1"))
    on_term(lambda: after(delay_s, int(options.get("status", "0"))))
    _listener, port = listen(options)
    ready(pids={"main": os.getpid()}, port=port)
    sleep_on()


def default(options: dict[str, str]) -> None:
    """Leaves every signal at its default action."""
    _listener, port = listen(options)
    ready(pids={"main": os.getpid()}, port=port)
    sleep_on()


def ignores(options: dict[str, str]) -> None:
    """Ignores TERM (and with `all` INT, HUP and QUIT too)."""
    for number in (
        (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT) if "all" in options else (signal.SIGTERM,)
    ):
        signal.signal(number, signal.SIG_IGN)
    _listener, port = listen(options)
    ready(pids={"main": os.getpid()}, port=port)
    sleep_on()


def stopped(options: dict[str, str]) -> None:
    """Stops itself as job control would; dies with its keeper, because an alarm does not reach a stopped process."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _listener, port = listen(options)
    ready(pids={"main": os.getpid()}, port=port)
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep_on()


def child_ignores(options: dict[str, str]) -> None:
    """Dies of TERM and leaves a child that ignores it."""
    _listener, port = listen(options)
    source, sink = os.pipe()
    child = fork_part()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(READY_FD)
        tell(sink, os.getpid())
        sleep_on()
    told(source)
    ready(pids={"main": os.getpid(), "child": child}, port=port)
    sleep_on()


def escapee(options: dict[str, str]) -> None:
    """Leaves a child that has called setsid(2) and lost its parent; the child holds the port.

    Options: `exec` the child goes on as another program; `vars` it changes SHLVL, PWD, OLDPWD and _ as shells do;
    `clean` it has no environment at all; `closed` it has closed every descriptor; `away` it has gone to that directory; `gone` the main process ends by itself at once.
    """
    source, sink = os.pipe()
    middle = fork_part()
    if middle == 0:
        os.setsid()
        os.close(READY_FD)
        if fork_part() == 0:
            _escaped(options, sink)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(sink)  # so that its end is seen if it cannot have the port
    pid = told(source)
    port = told(source)
    os.close(source)
    ready(pids={"main": os.getpid(), "escapee": pid}, port=port)
    if "gone" in options:
        os._exit(0)
    sleep_on()


def _escaped(options: dict[str, str], sink: int) -> NoReturn:
    """Go on as the double-forked half of `escapee`."""
    listener, port = (None, 0) if "closed" in options else listen({"port": options.get("port", "0")})
    environment = dict(os.environ)
    if "vars" in options:
        environment.update(SHLVL="3", PWD="/", OLDPWD="/tmp", _="/usr/bin/env")
    if "clean" in options:
        environment = {}
    if "away" in options:
        os.chdir(options["away"])
    tell(sink, os.getpid())
    tell(sink, port)
    os.close(sink)
    if "closed" in options:
        os.closerange(0, 256)
    if "exec" in options or "vars" in options or "clean" in options:
        if listener is not None:
            listener.set_inheritable(True)
        os.execve("/bin/sleep", [options.get("as", "sleep"), str(LIFE_S)], environment)
    sleep_on()


def supervisor(options: dict[str, str]) -> None:
    """Starts `command` (words separated by blanks) again `delay` seconds after it has ended."""
    delay_s = float(options["delay"])
    command = options["command"].split(" ")
    import json

    first = True
    pipe = os.dup(READY_FD)
    os.close(READY_FD)
    while True:
        source, sink = os.pipe()
        child = fork_part()
        if child == 0:
            os.close(source)
            os.dup2(sink, READY_FD)
            os.execv(command[0], command)
        os.close(sink)
        facts = json.loads(os.read(source, 65536) or b"{}")
        os.close(source)
        if first:
            os.write(pipe, json.dumps({**facts, "pids": {"main": child, "supervisor": os.getpid()}}).encode() + b"\n")
            os.close(pipe)
            first = False
        os.waitpid(child, 0)
        select.select([], [], [], delay_s)


def zombie(options: dict[str, str]) -> None:
    """Never reaps its child: the target is the child, which is dead from the beginning with `dead`, and else ends by TERM."""
    source, sink = os.pipe()
    child = fork_part()
    if child == 0:
        rename(options["child"])
        os.close(READY_FD)
        _listener, port = listen(options)
        tell(sink, port)
        os.close(sink)
        if "dead" in options:
            os._exit(int(options["dead"]))
        sleep_on()
    os.close(sink)  # so that its end is seen if it cannot have the port
    port = told(source)
    if "dead" in options:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    os.close(source)
    ready(pids={"main": child, "parent": os.getpid()}, port=port)
    sleep_on()


# --------------------------------------------------------------------------- the traps


def many(options: dict[str, str]) -> None:
    """Forks `count` children named `child`; all ignore TERM (or with `mild` none does)."""
    count = int(options["count"])
    source, sink = os.pipe()
    parent_mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for _ in range(count):
        if fork_part() == 0:
            if "mild" not in options:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            rename(options["child"])
            os.close(READY_FD)
            os.write(sink, b".")
            sleep_on()
    got = 0
    while got < count:
        got += len(os.read(source, 4096))
    signal.pthread_sigmask(signal.SIG_SETMASK, parent_mask)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them: sigaction(2)
    if "mild" not in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready(pids={"main": os.getpid()})
    sleep_on()


def counter(options: dict[str, str]) -> None:
    """Counts every request by its name for `delay` seconds after the first, writes the counts to `file`, exits."""
    counts: dict[str, int] = {}
    done = [0.0]

    def handler(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        counts[name] = counts.get(name, 0) + 1
        if not done[0]:
            done[0] = 1.0
            signal.setitimer(signal.ITIMER_REAL, float(options.get("delay", "0.3")))

    def end(_number: int, _frame: FrameType | None) -> None:
        import json

        with open(options["file"], "a", encoding="ascii") as out:
            out.write(json.dumps(counts) + "\n")
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, handler)
    signal.signal(signal.SIGALRM, end)
    child = 0
    if "child" in options:
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(LIFE_S)
            os.write(sink, b".")
            os.close(READY_FD)
            sleep_on()
        os.read(source, 1)
    _listener, port = listen(options)
    ready(pids={"main": os.getpid(), **({"child": child} if child else {})}, port=port)
    sleep_on()


def closes_port(options: dict[str, str]) -> None:
    """Closes its port on TERM and runs on."""
    listener, port = listen({"port": options.get("port", "0")})
    assert listener is not None
    on_term(listener.close)
    ready(pids={"main": os.getpid()}, port=port)
    sleep_on()


def storm(options: dict[str, str]) -> None:
    """Forks on when asked to stop: each part that gets TERM starts a successor in a session of its own, at most `limit` in all.

    With `wild` each part also forks without being asked, every few milliseconds, as long as fewer than `limit` were born.
    """
    limit = int(options.get("limit", "200"))
    import mmap

    born = mmap.mmap(-1, 8)

    def count() -> int:
        number = int.from_bytes(born[:8], "little") + 1
        born[:8] = number.to_bytes(8, "little")
        return number

    wait = [rest()]

    def successor() -> None:
        if count() > limit:
            if "wild" not in options:
                os._exit(0)
            return
        # Blocked over the fork: Python forgets in the child what came before it was ready for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        if fork_part() == 0:
            os.setsid()
            wait[0] = rest()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if "wild" not in options:
            os._exit(0)

    on_term(successor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ready(pids={"main": os.getpid()})
    while True:
        if "wild" in options:
            select.select([], [], [], 0.002)
            if count() <= limit:
                fork_part()
        else:
            wait[0]()


def waits_for_port(options: dict[str, str]) -> None:
    """Takes the port `take` as soon as it is free: an innocent newcomer."""
    import socket

    ready(pids={"main": os.getpid()})
    while True:
        newcomer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            newcomer.bind(("127.0.0.1", int(options["take"])))
            newcomer.listen(8)
        except OSError:
            newcomer.close()
            select.select([], [], [], 0.001)
        else:
            break
    sleep_on()


def deaf_thread(options: dict[str, str]) -> None:
    """Has a second thread, whose id is told."""
    import threading

    told_id: list[int] = []
    up = threading.Event()

    def rest() -> None:
        told_id.append(threading.get_native_id())
        up.set()
        threading.Event().wait()

    threading.Thread(target=rest, daemon=True).start()
    up.wait()
    ready(pids={"main": os.getpid()}, thread=told_id[0])
    sleep_on()


def dead_leader(options: dict[str, str]) -> None:
    """Ends its main thread; another one runs on, so /proc shows a zombie that is none. With `deaf` TERM is ignored."""
    import ctypes
    import threading

    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=lambda: threading.Event().wait()).start()
    ready(pids={"main": os.getpid()})
    ctypes.CDLL(None).syscall(93 if os.uname().machine == "aarch64" else 60, 0)  # exit(2) of this thread alone


def stops_itself(options: dict[str, str]) -> None:
    """Answers TERM by suspending itself."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    on_term(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    ready(pids={"main": os.getpid()})
    sleep_on()


def becomes(options: dict[str, str]) -> None:
    """Answers TERM by becoming another program (execve), which ignores TERM with `deaf`."""
    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # one process for all its life: a loop of short ones would have others by the time that the laboratory looks
    program = f"trap '' TERM; exec sleep {LIFE_S}" if "deaf" in options else "exec sleep 0.2"
    on_term(lambda: os.execv("/bin/sh", ["sh", "-c", program]))
    ready(pids={"main": os.getpid()})
    sleep_on()


def shares_port(options: dict[str, str]) -> None:
    """Listens with SO_REUSEPORT, so that independent processes share a port; `family=6` by IPv6, `udp` by UDP."""
    import socket

    family = socket.AF_INET6 if options.get("family") == "6" else socket.AF_INET
    kind = socket.SOCK_DGRAM if "udp" in options else socket.SOCK_STREAM
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", int(options["port"])))
    if "udp" not in options:
        listener.listen(8)
    ready(pids={"main": os.getpid()}, port=int(options["port"]))
    sleep_on()


def group(options: dict[str, str]) -> None:
    """Is the leader of its group and dies of TERM; a member of the group ignores TERM and is an orphan of an ended middle process."""
    source, sink = os.pipe()
    middle = fork_part()
    if middle == 0:
        os.close(READY_FD)
        if fork_part() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tell(sink, os.getpid())
            sleep_on()
        os._exit(0)
    os.waitpid(middle, 0)
    ready(pids={"main": os.getpid(), "member": told(source)})
    sleep_on()


def run(arguments: list[str]) -> None:
    """Run the program that the arguments name: `PROGRAM key=value ...`."""
    bound_life()
    options = dict(pair.partition("=")[::2] for pair in arguments[1:])
    globals()[arguments[0]](options)


if __name__ == "__main__":
    run(sys.argv[1:])
