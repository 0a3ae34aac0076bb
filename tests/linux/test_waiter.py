"""The waiter: every exit once, at once, for any number of pins, on every kernel."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.waiter import LinuxWaiter
from tests.linux.children import PATIENCE_S, python, refusal
from tests.linux.old_kernel import output, script, without_pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

_NO_FILTER = refusal(without_pidfds(["true"]))
_FAMILY = """
count = int(sys.argv[1])
pids = []
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    pids.append(pid)
ready("ready " + " ".join(map(str, pids)))
signal.pause()
"""


@pytest.fixture
def pins() -> Pins:
    """Return a fresh opener."""
    return Pins()


@pytest.fixture
def waiter(pins: Pins) -> Iterator[LinuxWaiter]:
    """Yield an empty waiter."""
    made = LinuxWaiter(pins)
    yield made
    made.close()


def _is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def test_wait_reports_an_exit_once(pins: Pins, waiter: LinuxWaiter) -> None:
    """The key comes once, and the descriptor is readable exactly until it was told."""
    with python("ready(); signal.pause()") as child, pins.open(child.pid) as pin:
        waiter.add(pin, 7)
        assert waiter.wait(0) == []
        pins.signal(pin, signal.SIGKILL)
        assert waiter.wait(PATIENCE_S) == [7]
        assert not _is_readable(waiter.fileno())
        assert waiter.wait(0) == []
        waiter.drop(pin)


def test_wait_reports_what_had_exited_before(pins: Pins, waiter: LinuxWaiter) -> None:
    """Zombie or reaped: a process that had ended when it was added is reported at once."""
    process = subprocess.Popen(["true"])
    with pins.open(process.pid) as pin:
        process.wait()
        waiter.add(pin, 1)
        assert _is_readable(waiter.fileno())
        assert waiter.wait(None) == [1]


def test_wait_after_drop_says_nothing(pins: Pins, waiter: LinuxWaiter) -> None:
    """A dropped pin is forgotten, dropping again or dropping a stranger is harmless."""
    process = subprocess.Popen(["true"])
    with pins.open(process.pid) as pin, pins.open(os.getpid()) as other:
        waiter.add(pin, 1)
        waiter.drop(pin)
        waiter.drop(pin)
        waiter.drop(other)
        process.wait()
        assert waiter.wait(0) == []


def test_wait_descriptor_used_again_is_a_new_pin(pins: Pins, waiter: LinuxWaiter) -> None:
    """A pin that was reported and closed leaves nothing behind for the next one with the same descriptor number."""
    number = -1
    for key in (1, 2, 3):
        process = subprocess.Popen(["true"])
        pin = pins.open(process.pid)
        assert number in {-1, pin.fd}
        number = pin.fd
        waiter.add(pin, key)
        assert waiter.wait(PATIENCE_S) == [key]
        waiter.drop(pin)
        pin.close()
        process.wait()


def test_wait_many_reports_each_key_once(pins: Pins, waiter: LinuxWaiter) -> None:
    """More exits than one call of the kernel gives are all reported, each once."""
    with python(_FAMILY, "300") as parent:
        held = [pins.open(int(pid)) for pid in parent.said.split()[1:]]
        for key, pin in enumerate(held):
            waiter.add(pin, key)
        for pin in held:
            pins.signal(pin, signal.SIGKILL)
        seen: list[int] = []
        while len(seen) < len(held):
            got = waiter.wait(PATIENCE_S)
            assert got
            seen += got
        assert sorted(seen) == list(range(300))
        assert waiter.poll_s is None
        for pin in held:
            pin.close()


def test_wait_timeout_is_kept_through_signals(waiter: LinuxWaiter) -> None:
    """Signals that arrive meanwhile neither end the wait nor make it longer than asked (PEP 475)."""
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        began = time.monotonic()
        assert waiter.wait(0.1) == []
        assert time.monotonic() - began >= 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(heard) > 1


def test_wait_wakes_for_a_source_without_a_key(waiter: LinuxWaiter) -> None:
    """News of a source end the wait with nothing, again and again until they are read."""
    reading, writing = os.pipe()
    waiter.add_source(reading)
    os.write(writing, b"x")
    assert waiter.wait(None) == []
    assert waiter.wait(None) == []
    os.read(reading, 1)
    waiter.drop_source(reading)
    os.write(writing, b"x")
    assert waiter.wait(0) == []
    os.close(reading)
    os.close(writing)


def test_close_is_final_and_may_come_before_the_source(waiter: LinuxWaiter) -> None:
    """The order in which a run tidies up does not matter."""
    reading, writing = os.pipe()
    waiter.add_source(reading)
    waiter.close()
    waiter.close()
    waiter.drop_source(reading)
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(bool(_NO_FILTER), reason=f"no seccomp filter can be set here: {_NO_FILTER}")
def test_wait_without_pidfds_polls_and_says_so() -> None:
    """The folder of /proc wakes nobody: the waiter looks itself, ever more rarely, and `poll_s` tells how often."""
    code = """
    import time
    waiter = LinuxWaiter(pins)
    print(waiter.poll_s)
    pid, pipe = child(3)
    with pins.open(pid) as pin:
        waiter.add(pin, 5)
        print(waiter.poll_s == 0.001, waiter.wait(0), waiter.poll_s == 0.002)
        began = time.monotonic()
        print(waiter.wait(0.2), 0.2 <= time.monotonic() - began < 20, waiter.poll_s == 0.05)
        os.close(pipe)
        print(waiter.wait(10), waiter.wait(0), waiter.poll_s)
        waiter.add(pin, 6)
        waiter.drop(pin)
        print(waiter.wait(0), waiter.poll_s)
        print(EndReader().read(pin))
        os.waitpid(pid, 0)
        print(EndReader().read(pin))
    """
    lines = output(without_pidfds(script(code)))
    assert lines[:5] == ["None", "True [] True", "[] True True", "[5] [] None", "[] None"]
    zombie, reaped = lines[5:]
    assert "status=3" in zombie
    assert "unreaped_by=0" not in zombie
    assert "status=3" in reaped, "what was seen of the zombie is kept"
    assert "unreaped_by=0" in reaped
