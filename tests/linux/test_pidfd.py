"""Pins: identity, the errors, and the ways that are left on old kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux.pidfd import Pins
from endtask.errors import GoneError
from tests.linux.children import python, refusal
from tests.linux.old_kernel import output, script, without_pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.linux.children import Child

pytestmark = pytest.mark.real

_NO_FILTER = refusal(without_pidfds(["true"]))
needs_filter = pytest.mark.skipif(bool(_NO_FILTER), reason=f"no seccomp filter can be set here: {_NO_FILTER}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def pins() -> Pins:
    """Return a fresh opener, which probes the kernel again."""
    return Pins()


@pytest.fixture
def child() -> Iterator[Child]:
    """Yield a child that waits for a signal."""
    with python("ready(); signal.pause()") as running:
        yield running


def _start_token(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return "t" + file.read().rpartition(b")")[2].split()[19].decode()


def _two_tokens(pins: Pins, first: int, second: int) -> tuple[str, str]:
    with pins.open(first) as one, pins.open(second) as other:
        return one.ref.token, other.ref.token


# --------------------------------------------------------------------------- identity


def test_token_same_process_is_equal_and_another_is_not(pins: Pins, child: Child) -> None:
    """Two pins of one process carry one token, pins of two processes carry two."""
    first, again = _two_tokens(pins, child.pid, child.pid)
    assert first == again
    with python("ready(); signal.pause()") as other:
        assert len(set(_two_tokens(pins, child.pid, other.pid))) == 2


def test_pin_with_the_token_it_was_given_opens_it_again(pins: Pins, child: Child) -> None:
    """A token that was written down finds its process later."""
    with pins.open(child.pid) as first, pins.open(child.pid, first.ref.token) as again:
        assert again.ref == first.ref


def test_pin_with_the_start_time_as_token_gives_the_best_token(pins: Pins, child: Child) -> None:
    """The weak form is accepted too, and the pin then carries the strong one."""
    with pins.open(child.pid, _start_token(child.pid)) as pin, pins.open(child.pid) as same:
        assert pin.ref == same.ref


@pytest.mark.parametrize("token", ["1", "t1", "99999999999999999999", "-1"])
def test_pin_with_another_token_is_gone(pins: Pins, child: Child, token: str) -> None:
    """A pid that belongs to another process than the token says is refused, and the text says what it found."""
    with pytest.raises(GoneError, match="another process by now"):
        pins.open(child.pid, token)


def test_pin_of_a_reaped_process_is_gone(pins: Pins) -> None:
    """Nobody has the pid."""
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(GoneError, match=f"no process has the pid {process.pid}"):
        pins.open(process.pid)


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 70])
def test_pin_of_an_impossible_number_is_gone(pins: Pins, pid: int) -> None:
    """Numbers that mean a group or that no pid can have never reach the kernel."""
    with pytest.raises(GoneError, match="no process can have that number"):
        pins.open(pid)


THREADED = """
import threading
stop = threading.Event()
thread = threading.Thread(target=stop.wait, daemon=True)
thread.start()
ready(f"ready {thread.native_id}")
signal.pause()
"""


def test_pin_of_a_thread_names_its_process(pins: Pins) -> None:
    """A thread id is refused; the sentence says which process to name instead."""
    with python(THREADED) as child:
        thread = int(child.said.split()[1])
        with pytest.raises(GoneError, match=f"thread of process {child.pid}; name that one"):
            pins.open(thread)


def test_pin_of_a_zombie_opens_and_has_exited(pins: Pins) -> None:
    """A zombie can be pinned as long as it was not reaped, and counts as exited."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pins.open(process.pid) as pin:
        assert pins.exited(pin)
        process.wait()
        assert pins.exited(pin)


def test_exited_with_a_dead_main_thread_is_false(pins: Pins) -> None:
    """A main thread that has exited before the others looks like a zombie, and the process still runs."""
    code = """
import ctypes, threading
def later():
    while open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    ready()
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=later).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with python(code) as child, pins.open(child.pid) as pin:
        assert not pins.exited(pin)


def test_close_twice_is_allowed(pins: Pins, child: Child) -> None:
    """The second close does not hit a descriptor that was given to somebody else meanwhile."""
    pin = pins.open(child.pid)
    pin.close()
    with open("/dev/null", "rb") as other:
        pin.close()
        assert os.fstat(other.fileno())


# --------------------------------------------------------------------------- signals


def test_signal_to_a_reaped_process_is_a_lookup_error(pins: Pins) -> None:
    """The pin still means the old process after its pid is free."""
    process = subprocess.Popen(["true"])
    with pins.open(process.pid) as pin:
        process.wait()
        with pytest.raises(ProcessLookupError):
            pins.signal(pin, 0)


@needs_root
@pytest.mark.needs_root
def test_signal_to_another_users_process_is_denied_not_gone(child: Child) -> None:
    """EPERM stays EPERM."""
    code = f"""
    become_nobody()
    pin = pins.open({child.pid})
    try:
        pins.signal(pin, 15)
    except PermissionError:
        print("denied", pins.exited(pin))
    """
    assert output(script(code)) == ["denied False"]


# --------------------------------------------------------------------------- descriptors


def test_room_counts_what_is_open(pins: Pins, child: Child) -> None:
    """Every pin takes one from the room that is left."""
    before = pins.limits.room()
    with pins.open(child.pid), pins.open(child.pid):
        assert pins.limits.room() == before - 2


def test_open_near_the_soft_limit_raises_it_to_the_hard_one() -> None:
    """The soft limit is raised when it is needed, not before, because children inherit it."""
    code = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
    first = pins.open(os.getpid())
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], pins.limits.room() > 150)
    many = [pins.open(os.getpid()) for _ in range(150)]
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    """
    assert output(script(code)) == ["64 True", "300"]


def test_open_without_descriptors_says_so_and_leaks_none() -> None:
    """With 64 descriptors there is room for some, the next one fails with a hint, and after closing there is room again."""
    code = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    room = pins.limits.room()
    held = [pins.open(os.getpid()) for _ in range(room)]
    error = None
    while error is None:
        try:
            held.append(pins.open(os.getpid()))
        except OsCallError as exc:
            error = exc
    print(24 < room < 64, type(error).__name__, error.code, "ulimit" in error.hint, len(held) > room)
    for pin in held:
        pin.close()
    print(pins.limits.room() == room)
    """
    assert output(script(code)) == ["True OsCallError 24 True True", "True"]


# --------------------------------------------------------------------------- old kernels


@needs_filter
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize(
    ("calls", "mechanism", "exact"), [("both", "procfd", False), ("open", "procfd", True), ("send", "pidfd", False)]
)
def test_old_kernel_holds_by_what_is_left(error: str, calls: str, mechanism: str, exact: bool) -> None:
    """Without pidfds the folder of /proc is held; whether signals are exact is said truthfully."""
    code = """
    pid, pipe = child(7)
    with pins.open(pid) as pin:
        print(pin.mechanism, pin.exact, pins.exited(pin))
        pins.signal(pin, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(pins.exited(pin))
        os.waitpid(pid, 0)
        try:
            pins.signal(pin, 0)
        except ProcessLookupError:
            print("gone", pins.exited(pin))
    """
    lines = output(without_pidfds(script(code), error=error, calls=calls))
    assert lines == [f"{mechanism} {exact} False", "True", "gone True"]


@needs_filter
def test_old_kernel_token_is_the_start_time(child: Child) -> None:
    """The token says by its form that it is the weak one; the strong form cannot be compared and is refused."""
    code = f"""
    pin = pins.open({child.pid})
    print(pin.ref.token)
    print(pins.open({child.pid}, pin.ref.token).ref == pin.ref)
    for token in ("t1", "123"):
        try:
            pins.open({child.pid}, token)
        except OsCallError as exc:
            print(type(exc).__name__, exc.message, exc.hint)
    """
    token, same, gone, refused = output(without_pidfds(script(code)))
    assert token == _start_token(child.pid)
    assert same == "True"
    assert gone.startswith("GoneError")
    assert "another process" in gone
    assert refused.startswith("OsCallError")
    assert "cannot be compared" in refused
    assert f"{child.pid}:{token}" in refused


@needs_filter
def test_old_kernel_refuses_threads_and_the_reaped() -> None:
    """The folder of a thread exists in /proc, and is refused all the same."""
    with python(THREADED) as child:
        thread = int(child.said.split()[1])
        code = f"""
        import subprocess
        done = subprocess.Popen(["true"])
        done.wait()
        for pid in ({thread}, done.pid):
            try:
                pins.open(pid)
            except GoneError as exc:
                print(exc.message)
        """
        thread_text, gone_text = output(without_pidfds(script(code)))
    assert f"thread of process {child.pid}" in thread_text
    assert "no process has the pid" in gone_text


_HIDING = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "sh",
    "-c",
    'mount -t proc -o hidepid=2 proc /proc && exec "$@"',
    "sh",
]


@needs_root
@pytest.mark.needs_root
@needs_filter
@pytest.mark.skipif(bool(refusal([*_HIDING, "true"])), reason="no namespaces with a /proc of their own here")
def test_old_kernel_hidden_process_is_denied_not_gone() -> None:
    """With hidepid=2 the folder of another user's process is not there, and it still exists."""
    code = """
    pid, pipe = child()
    become_nobody()
    try:
        pins.open(pid)
    except AccessDeniedError as exc:
        print(exc.message)
    """
    (text,) = output([*_HIDING, *without_pidfds(script(code))])
    assert "hides it" in text
