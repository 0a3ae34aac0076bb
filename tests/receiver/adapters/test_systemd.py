"""What the service manager is told, read from the socket that it would have."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import News, Policy, Stop
from endtask_receiver.adapters.systemd import Notifier
from tests.receiver.lab import LIMIT_S, Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manager:
    """The end of the protocol that systemd has."""

    def __init__(self, address: str) -> None:
        self.variable = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.settimeout(LIMIT_S)

    def hear(self) -> dict[str, str]:
        """Return the assignments of the next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(65536).decode().split("\n"))

    def silent(self) -> bool:
        """Return whether there is no message."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(65536)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(LIMIT_S)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager that waits for what is said."""
    found = Manager(str(tmp_path / "notify") if request.param == "path" else f"@endtask-test/{os.getpid()}")
    monkeypatch.setenv("NOTIFY_SOCKET", found.variable)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    yield found
    found.close()


def test_the_manager_hears_the_whole_life(manager: Manager) -> None:
    """Ready, stopping, how far, so much longer, and what every step of the cleanup came to."""
    stop = Stop()
    with Notifier(stop) as unit:
        assert unit.connected
        assert unit.ready("serving")
        assert manager.hear() == {"READY": "1", "STATUS": "serving"}
        stop.ask("deploy 12")
        assert manager.hear() == {"STOPPING": "1", "STATUS": "stopping: program: deploy 12"}
        stop.tell("draining", 3, 15)
        assert manager.hear() == {"STATUS": "draining, 3 of 15"}
        stop.tell("draining", 3)
        assert manager.hear() == {"STATUS": "draining, 3"}
        stop.cleanup(lambda: None, name="close")
        stop._unwind()
        assert manager.hear()["STATUS"].startswith("close: done after")
        assert unit.failures == 0
    stop.tell("nobody hears this")
    assert manager.silent()
    assert stop._wakers == []


def test_time_that_the_application_needs_is_asked_of_the_manager(manager: Manager) -> None:
    """In microseconds."""
    stop = Stop(1)
    with Notifier(stop):
        stop.ask()
        assert manager.hear()["STOPPING"] == "1"
        stop.need(8.5, "flushing")
        assert manager.hear() == {"EXTEND_TIMEOUT_USEC": "8500000", "STATUS": "flushing"}
        stop.need(9)
        assert manager.hear() == {"EXTEND_TIMEOUT_USEC": "9000000"}


@pytest.mark.parametrize(("seconds", "said"), [(float("inf"), 10**15), (1e300, 10**15), (-1.0, 0), (float("nan"), 0)])
def test_a_time_without_an_end_is_a_number_too(manager: Manager, seconds: float, said: int) -> None:
    """The manager takes nothing else, and whoever needs the time gets no error for it."""
    with Notifier(Stop()) as unit:
        unit._on_news(News(0.0, None, "need", seconds, ""))
        assert manager.hear() == {"EXTEND_TIMEOUT_USEC": str(said)}


def test_what_is_no_text_is_told_too(manager: Manager) -> None:
    """The name of a file may be any bytes, and so may the reason of who asks; neither is an error of whoever tells it."""
    stop = Stop()
    with Notifier(stop) as unit:
        stop.ask("update of \udcff")
        assert manager.hear() == {"STOPPING": "1", "STATUS": "stopping: program: update of \\udcff"}
        stop.tell("writing " + os.fsdecode(b"report-\xff"))
        assert manager.hear() == {"STATUS": "writing report-\\udcff"}
        assert (unit.failures, stop.faults) == (0, 0)


def test_a_refusal_is_told_too(manager: Manager) -> None:
    """It is a status: nothing in the protocol takes STOPPING back."""
    stop = Stop()
    with Notifier(stop):
        stop.ask()
        manager.hear()
        stop.veto("recording")
        assert manager.hear() == {"STATUS": "goes on: recording"}


def test_a_text_cannot_become_an_assignment(manager: Manager) -> None:
    """Whoever has a reason to send a line break gets a space."""
    stop = Stop()
    with Notifier(stop) as unit:
        unit.ready("a\nMAINPID=1")
        assert manager.hear() == {"READY": "1", "STATUS": "a MAINPID=1"}
        stop.tell("x" * 10_000)
        assert len(manager.hear()["STATUS"]) == 500


def test_the_watchdog_hears_what_the_application_says_of_itself(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if the manager watches, and watches this process."""
    with Notifier(Stop()) as unit:
        assert unit.watchdog_s is None
        assert not unit.alive()
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    with Notifier(Stop()) as unit:
        assert unit.watchdog_s == 1.5
        assert unit.alive()
        assert manager.hear() == {"WATCHDOG": "1"}
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    with Notifier(Stop()) as unit:
        assert unit.watchdog_s is None


def test_children_do_not_speak_for_us(manager: Manager) -> None:
    """If it is said so, the variables are gone after we have read them."""
    with Notifier(Stop(), forget=True) as unit:
        assert "NOTIFY_SOCKET" not in os.environ
        assert unit.ready()
        assert manager.hear() == {"READY": "1"}


def test_a_manager_that_is_gone_harms_nobody(manager: Manager) -> None:
    """Failures are counted."""
    stop = Stop()
    with Notifier(stop) as unit:
        manager.close()
        stop.ask()
        stop.tell("draining")
        assert not unit.ready()
        assert unit.failures >= 3
        assert stop.faults == 0


def test_a_full_queue_holds_back_for_a_moment_only(manager: Manager) -> None:
    """What a handler sends does not wait, and is sent again with the next message."""
    stop = Stop()
    with Notifier(stop) as unit:
        sent = 0
        while unit._post(("X=1",), socket.MSG_DONTWAIT):
            sent += 1
        stop.ask()  # at once
        assert unit.failures == 2
        threading.Timer(0.1, manager.hear).start()
        assert unit.send("Y=1")  # waited
        for _ in range(sent):
            manager.hear()
        stop.tell("draining")
        assert [manager.hear(), manager.hear()] == [
            {"STOPPING": "1", "STATUS": "stopping: program"},
            {"STATUS": "draining"},
        ]


def test_without_a_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same program runs outside of a unit."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    stop = Stop(policy=Policy(window_s=0))
    with Notifier(stop) as unit:
        assert not unit.connected
        assert not unit.ready()
        stop.ask()
        stop.tell("draining")
        assert (unit.failures, stop.faults) == (0, 0)


def test_another_kind_of_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vsock is none of ours; silence would look as if the unit did not start."""
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    with pytest.raises(ValueError, match="neither a path nor an abstract name"):
        Notifier(Stop())


@pytest.mark.real
@pytest.mark.slow
def test_a_service_says_that_it_stops_before_its_loop_has_noticed(manager: Manager) -> None:
    """A real process, asked as systemd asks: the message goes out from where the signal is heard."""
    code = """
        from endtask_receiver import listen
        from endtask_receiver.adapters.systemd import Notifier
        with listen() as stop, Notifier(stop) as unit:
            unit.ready()
            input()                             # busy: it has not looked yet
            stop.tell("draining", 1, 2)
            stop.finish()
    """
    with Program(code, stdin=-1) as program:
        assert manager.hear() == {"READY": "1"}
        program.send(signal.SIGTERM)
        assert manager.hear() == {"STOPPING": "1", "STATUS": "stopping: SIGTERM"}
        assert program.process.stdin is not None
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()
        assert manager.hear() == {"STATUS": "draining, 1 of 2"}
        program.ends(-signal.SIGTERM)
