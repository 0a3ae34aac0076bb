"""The fork watch: nothing is born unseen, and where that cannot be promised there is no watch."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask._backends.linux import netlink
from endtask._backends.linux.pidfd import Pins
from endtask._backends.linux.waiter import LinuxWaiter
from tests.linux.children import PATIENCE_S, refusal
from tests.linux.old_kernel import output, script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real


@pytest.fixture
def waiter() -> Iterator[LinuxWaiter]:
    """Yield an empty waiter."""
    made = LinuxWaiter(Pins())
    yield made
    made.close()


@pytest.fixture
def watch(waiter: LinuxWaiter) -> Iterator[netlink.ProcConnector]:
    """Yield a running watch."""
    made = netlink.open_watch(waiter)
    if made is None:
        pytest.skip("the proc connector is not to be had here (namespaces, rights or CONFIG_PROC_EVENTS)")
    yield made
    made.close()


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_fork_right_after_opening_is_seen(watch: netlink.ProcConnector, waiter: LinuxWaiter) -> None:
    """Once `open_watch` has returned no fork is missed, however soon it comes; and it wakes the waiter."""
    pid = _fork()
    assert waiter.wait(PATIENCE_S) == []
    assert (os.getpid(), pid) in watch.drain()
    assert not watch.lost


def test_fork_right_after_opening_is_seen_a_hundred_times() -> None:
    """The same, over and over, because a race shows only sometimes."""
    for _ in range(100):
        waiter = LinuxWaiter(Pins())
        watch = netlink.open_watch(waiter)
        if watch is None:
            pytest.skip("the proc connector is not to be had here")
        pid = _fork()
        assert (os.getpid(), pid) in watch.drain()
        watch.close()
        waiter.close()


def test_drain_order_is_that_of_the_forks_and_each_comes_once(watch: netlink.ProcConnector) -> None:
    """The oldest comes first."""
    pids = [_fork() for _ in range(5)]
    assert [child for parent, child in watch.drain() if parent == os.getpid()] == pids
    assert [child for parent, child in watch.drain() if parent == os.getpid()] == []


def test_drain_leaves_out_new_threads(watch: netlink.ProcConnector) -> None:
    """A thread is no birth."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert [pair for pair in watch.drain() if os.getpid() in pair] == []


def test_drain_too_late_has_lost_events(waiter: LinuxWaiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that did not fit into the buffer are not passed over in silence."""
    monkeypatch.setattr(netlink, "_BUFFER", 1)  # the kernel makes the smallest that it has of it
    watch = netlink.open_watch(waiter)
    if watch is None:
        pytest.skip("the proc connector is not to be had here")
    for _ in range(40):
        _fork()
    watch.drain()
    assert watch.lost
    watch.close()


def test_close_twice_and_after_the_waiter_is_allowed(waiter: LinuxWaiter) -> None:
    """The order in which a run tidies up does not matter."""
    watch = netlink.open_watch(waiter)
    if watch is None:
        pytest.skip("the proc connector is not to be had here")
    waiter.close()
    watch.close()
    watch.close()


@pytest.mark.parametrize("namespace", ["--pid", "--net"])
def test_watch_in_another_namespace_is_none(namespace: str) -> None:
    """Pids there are other numbers, and events do not arrive there: then there is no watch rather than a deaf one."""
    inside = ["unshare", "--map-root-user", namespace, "--fork"]
    if why := refusal([*inside, "true"]):
        pytest.skip(f"no such namespace can be made here: {why}")
    code = """
    from endtask._backends.linux import netlink
    print(netlink.open_watch(LinuxWaiter(pins)))
    """
    assert output([*inside, *script(code)]) == ["None"]
