"""Services: which live in a process, and asking them to stop as services."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask._backends.windows import handles, service_list
from endtask._backends.windows import services as services_module
from endtask._backends.windows.winapi import services as api
from endtask.errors import AccessDeniedError
from endtask.model import Request, Service
from tests.windows.lab import PATIENCE_S, UNDER_WINE
from tests.windows.lab_services import RUNNING, STOP_PENDING, STOPPED

if TYPE_CHECKING:
    from endtask.model import Receipt
    from tests.windows.lab import Lab
    from tests.windows.lab_services import Service as Made
    from tests.windows.lab_services import Services

SERVICE_STOP = Request("SERVICE_STOP", "service", 1)
WITH_DEPENDENTS = Request("SERVICE_STOP", "service", 1, "dependents")


def send(pid: int, request: Request = SERVICE_STOP) -> Receipt:
    """Send one request through a pin of its own."""
    with handles.open_pin(pid) as pin:
        return services_module.send_stop(pin, request, 4.0)


def wait_stopped(service: Made) -> None:
    """Wait for the end of its process; the service manager says `stopped` before or right after."""
    service.process.wait_exit()
    deadline = time.monotonic() + PATIENCE_S
    while service.state != STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)  # its state has no handle
    assert service.state == STOPPED


# --------------------------------------------------------------------------- what is known of them


def test_a_process_knows_its_service(services: Services) -> None:
    """Name, state, whether it takes a stop; recovery where the system keeps it."""
    made = services.start("stop")
    (seen,) = service_list.hosted(made.process.pid)
    assert (seen.name, seen.display, seen.state, seen.accepts_stop) == (made.name, made.name, "running", True)
    assert seen.dependents == ()
    assert seen.restarts is (None if UNDER_WINE else False)
    assert service_list.by_pid()[made.process.pid] == (made.name,)


def test_a_service_that_refuses_says_so_before(services: Services) -> None:
    """SERVICE_ACCEPT_STOP is missing."""
    made = services.start("refuse")
    assert [s.accepts_stop for s in service_list.hosted(made.process.pid)] == [False]


def test_a_process_without_services_has_none(lab: Lab) -> None:
    """Most processes."""
    target = lab.start("etconsole", "none")
    assert service_list.hosted(target.pid) == ()
    receipt = send(target.pid)
    assert (receipt.status, receipt.detail) == ("impossible", "it hosts no service")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], ""),
        ([(0, 0)], ""),
        ([(1, 60_000)], "starts it again after 60 s"),
        ([(1, 0), (1, 0), (1, 0)], "starts it again"),
        (
            [(1, 500), (1, 30_000), (0, 0)],
            "starts it again after 0.5 s, the second time starts it again after 30 s, the third time does nothing",
        ),
        ([(0, 0), (2, 0)], "does nothing, the second time restarts the computer"),
        (
            [(3, 1000), (0, 0), (0, 0), (1, 0)],
            "runs a command after 1 s, the second time does nothing, failure 4 starts it again",
        ),
    ],
)
def test_recovery_in_words(steps: list[tuple[int, int]], words: str) -> None:
    """What the service manager does when a service dies."""
    assert service_list.recovery_in_words(steps) == words


@pytest.mark.needs_windows("Wine's service manager keeps no recovery actions")
def test_recovery_is_read(services: Services) -> None:
    """`sc failure` sets what is read here."""
    import subprocess

    made = services.start("stop")
    subprocess.run(["sc", "failure", made.name, "reset=", "60", "actions=", "restart/5000"], check=True)
    (seen,) = service_list.hosted(made.process.pid)
    assert (seen.recovery, seen.restarts) == ("starts it again after 5 s", True)


# --------------------------------------------------------------------------- asking


def test_a_service_stops_through_the_service_manager(services: Services) -> None:
    """Asked as a service, ended by its own decision; nothing is left in a wrong state."""
    made = services.start("stop")
    receipt = send(made.process.pid)
    assert (receipt.request, receipt.status, receipt.at_s) == ("SERVICE_STOP", "delivered", 4.0)
    assert receipt.detail == f"to service {made.name} through the service manager"
    wait_stopped(made)
    assert made.process.heard("control 1") == 1


def test_a_slow_service_is_not_waited_for_and_shows_its_progress(services: Services) -> None:
    """Checkpoints go up while it stops."""
    made = services.start("slow", 1000)
    assert send(made.process.pid).status == "delivered"
    assert made.process.heard("stopped") == 0
    seen = []
    while made.process.running:
        progress = service_list.progress(made.name)
        assert progress is not None
        if progress[0] == "stop-pending" and progress not in seen:
            seen.append(progress)
        time.sleep(0.02)
    assert [checkpoint for _state, checkpoint, _hint in seen] == sorted(c for _s, c, _h in seen)
    assert len(seen) >= 3
    assert {hint for _state, _checkpoint, hint in seen} == {2.0}
    assert made.process.exit_code == 0


def test_a_second_request_to_a_stopping_service_says_that_it_stops_already(services: Services) -> None:
    """Asked once; nothing is sent again."""
    made = services.start("stuck")
    assert send(made.process.pid).status == "delivered"
    assert made.state == STOP_PENDING
    receipt = send(made.process.pid)
    assert (receipt.status, "it was stopping already" in receipt.detail) == ("delivered", True)
    assert made.process.heard("control 1") == 1
    assert service_list.progress(made.name) == ("stop-pending", 1, 1.0)


def test_a_service_that_does_not_accept_a_stop_is_refused_in_words(services: Services) -> None:
    """And goes on as before."""
    made = services.start("refuse")
    receipt = send(made.process.pid)
    assert receipt.status == "impossible"
    assert receipt.detail == f"service {made.name}: it does not accept being stopped"
    assert made.state == RUNNING
    assert made.process.heard("control") == 0


def test_a_service_that_has_ended_is_gone(services: Services) -> None:
    """Its pin outlives it."""
    made = services.start("stop")
    with handles.open_pin(made.process.pid) as pin:
        assert services_module.send_stop(pin, SERVICE_STOP, 0.0).status == "delivered"
        made.process.wait_exit()
        assert services_module.send_stop(pin, SERVICE_STOP, 0.0).status == "gone"


def test_progress_of_a_service_that_does_not_exist_is_unknown() -> None:
    """None, not `stopped`."""
    assert service_list.progress("endtask-no-such-service") is None


# --------------------------------------------------------------------------- the system's own


def test_services_of_the_system_are_refused() -> None:
    """RpcSs runs everywhere, and everything runs on it."""
    (pid,) = [p for p, names in service_list.by_pid().items() if "RpcSs" in names]
    receipt = send(pid, WITH_DEPENDENTS)
    assert receipt.status == "impossible"
    why = "it is a part of Wine itself" if UNDER_WINE else "Windows does not run without it"
    assert why in receipt.detail
    assert "RpcSs" in service_list.by_pid()[pid]


def test_a_process_of_the_system_itself_is_refused(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager marks those that must always run."""
    made = services.start("stop")
    active = service_list.active

    def marked(manager: service_list.Scm) -> list[service_list.Found]:
        found = active(manager)
        for service in found:
            service.flags |= 1
        return found

    monkeypatch.setattr(services_module, "active", marked)
    receipt = send(made.process.pid)
    assert receipt.status == "impossible"
    assert "must always run" in receipt.detail
    assert made.state == RUNNING


@pytest.mark.skipif(not UNDER_WINE, reason="it is about Wine's own services")
def test_every_service_of_wine_is_refused() -> None:
    """Each of them, whatever it is called."""
    own = {p: n for p, n in service_list.by_pid().items() if not n[0].startswith("endtask-test-")}
    assert len(own) >= 3
    for pid in own:
        assert "it is a part of Wine itself" in send(pid).detail
    assert own.keys() <= service_list.by_pid().keys()


# --------------------------------------------------------------------------- dependents


def test_dependents_are_named_and_need_consent(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked without."""
    made, other = services.start("stop"), services.start("stop")
    depends(monkeypatch, {made.name: (other.name,)})
    receipt = send(made.process.pid)
    assert receipt.status == "impossible"
    assert receipt.detail == f"service {made.name}: {other.name} depends on it and would have to be stopped before"
    assert (made.state, other.state) == (RUNNING, RUNNING)


def test_dependents_stop_first_with_consent(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which the service manager names them, each until it has stopped."""
    made, slow, quick = services.start("stop"), services.start("slow", 50), services.start("stop")
    depends(monkeypatch, {made.name: (slow.name, quick.name)})
    receipt = send(made.process.pid, WITH_DEPENDENTS)
    assert receipt.status == "delivered"
    assert (
        receipt.detail
        == f"to service {made.name} through the service manager, after {slow.name}, {quick.name} had stopped"
    )
    for service in (made, slow, quick):
        wait_stopped(service)
    order = [s.process.wait_for("control 1").time for s in (slow, quick, made)]
    assert order == sorted(order)
    assert slow.process.wait_for("stopped").time <= order[1]


def test_a_dependent_that_does_not_stop_keeps_the_service_from_being_asked(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for without end, and the receipt says how far it came."""
    made, stuck = services.start("stop"), services.start("stuck")
    depends(monkeypatch, {made.name: (stuck.name,)})
    monkeypatch.setattr(services_module, "_DEPENDENTS_S", 0.3)
    receipt = send(made.process.pid, WITH_DEPENDENTS)
    assert receipt.status == "failed"
    expected = f"dependent service {stuck.name} has not stopped within 0.3 s (checkpoint 1, wait hint 1 s)"
    assert receipt.detail == expected
    assert made.state == RUNNING


def test_a_dependent_that_refuses_keeps_the_service_from_being_asked(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are those of the service manager."""
    made, refusing = services.start("stop"), services.start("refuse")
    depends(monkeypatch, {made.name: (refusing.name,)})
    receipt = send(made.process.pid, WITH_DEPENDENTS)
    assert receipt.status == "failed"
    assert receipt.detail == f"dependent service {refusing.name}: it does not accept being stopped (error 1052)"
    assert made.state == RUNNING


def test_a_dependent_that_windows_needs_is_never_stopped(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with consent either."""
    made = services.start("stop")
    depends(monkeypatch, {made.name: ("RpcSs",)})
    receipt = send(made.process.pid, WITH_DEPENDENTS)
    assert receipt.status == "impossible"
    assert receipt.detail.endswith("RpcSs depends on it, and Windows does not run without that")


@pytest.mark.needs_windows("Wine's service manager keeps no list of dependents")
def test_dependents_are_known(services: Services) -> None:
    """EnumDependentServices."""
    made = services.start("stop")
    other = services.start("stop", depends_on=made)
    (seen,) = service_list.hosted(made.process.pid)
    assert seen.dependents == (other.name,)
    assert send(made.process.pid).status == "impossible"
    assert send(made.process.pid, WITH_DEPENDENTS).status == "delivered"
    wait_stopped(made)
    wait_stopped(other)


def depends(monkeypatch: pytest.MonkeyPatch, dependents: dict[str, tuple[str, ...]]) -> None:
    """Let services depend on each other: Wine does not keep that."""
    describe = service_list.describe

    def with_dependents(manager: service_list.Scm, found: service_list.Found) -> Service:
        seen = describe(manager, found)
        return Service(
            seen.name,
            seen.display,
            seen.state,
            seen.accepts_stop,
            dependents.get(seen.name, ()),
            seen.recovery,
            seen.restarts,
        )

    monkeypatch.setattr(services_module, "describe", with_dependents)


# --------------------------------------------------------------------------- a service manager that says no


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (5, "denied", "ControlService: access is denied (error 5); services are stopped by administrators"),
        (1051, "impossible", "ControlService: other running services depend on it (error 1051)"),
        (1053, "failed", "ControlService: it did not answer the service manager in time (error 1053)"),
        (
            1061,
            "failed",
            "ControlService: it cannot take a request at this moment: it is starting or stopping (error 1061)",
        ),
        (1062, "impossible", "ControlService: it is not running (error 1062)"),
        (None, "delivered", "its handler has not returned within 3 s"),
    ],
)
def test_errors_of_the_service_manager_in_words(
    services: Services, monkeypatch: pytest.MonkeyPatch, code: int | None, status: str, words: str
) -> None:
    """Each number has its sentence."""
    made = services.start("stop")
    monkeypatch.setattr(services_module, "_control_stop", lambda _name: code)
    receipt = send(made.process.pid)
    assert receipt.status == status
    assert words in receipt.detail


def test_a_service_manager_that_lets_nobody_in_is_denied(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Error 5: it is not ours to stop; never "no services"."""
    target = lab.start("etconsole", "none")

    def refuse(*_arguments: object) -> None:
        ctypes.set_last_error(5)

    monkeypatch.setattr(api, "OpenSCManagerW", refuse)
    receipt = send(target.pid)
    assert receipt.status == "denied"
    expected = "OpenSCManager: access is denied (error 5); services are stopped by administrators"
    assert receipt.detail == expected
    with pytest.raises(AccessDeniedError):
        service_list.hosted(target.pid)
    assert service_list.progress("anything") is None


def test_a_list_that_cannot_be_made_is_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty list."""
    target = lab.start("etconsole", "none")

    def refuse(*_arguments: object) -> bool:
        ctypes.set_last_error(1115)
        return False

    monkeypatch.setattr(api, "EnumServicesStatusExW", refuse)
    receipt = send(target.pid)
    assert receipt.status == "failed"
    assert receipt.detail == "EnumServicesStatusEx: the system is shutting down (error 1115)"


def test_a_control_handler_that_does_not_return_does_not_hold_us(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager waits for it for thirty seconds; we do not."""
    made = services.start("stop")
    release, returned = threading.Event(), threading.Event()

    def stuck(*_arguments: object) -> bool:
        release.wait(PATIENCE_S)
        returned.set()
        return True

    monkeypatch.setattr(api, "ControlService", stuck)
    monkeypatch.setattr(services_module, "_ANSWER_S", 0.2)
    receipt = send(made.process.pid)
    assert not returned.is_set()
    release.set()
    assert receipt.status == "delivered"
    assert "its handler has not returned within 0.2 s" in receipt.detail


def test_a_service_that_begins_to_stop_meanwhile_was_stopping_already(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Error 1061 has two meanings; its state tells which."""
    made = services.start("stuck")
    control = services_module._control_stop

    def late(name: str) -> int | None:
        assert control(name) == 0
        return 1061

    monkeypatch.setattr(services_module, "_control_stop", late)
    receipt = send(made.process.pid)
    assert receipt.status == "delivered"
    assert "it was stopping already" in receipt.detail


# --------------------------------------------------------------------------- what Wine does not keep, as Windows answers it


def test_dependents_are_read_from_the_answer_of_the_service_manager(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First it says how much room it needs, then it fills that."""
    made = services.start("stop")
    names = ("second", "first")
    kept: list[object] = []
    size = 2 * ctypes.sizeof(api.DependentService)

    def answer(_service: int, state: int, buffer: object, room: int, needed: object, count: object) -> bool:
        assert state == 1  # SERVICE_ACTIVE
        pointed(needed).value = size
        if room < size:
            ctypes.set_last_error(234)
            return False
        pointed(count).value = 2
        assert isinstance(buffer, ctypes.Array)
        entries = (api.DependentService * 2).from_buffer(buffer)
        kept.append(entries)  # it owns the strings that it points to
        for entry, name in zip(entries, names, strict=True):
            entry.name = name
        return True

    monkeypatch.setattr(api, "EnumDependentServicesW", answer)
    assert [s.dependents for s in service_list.hosted(made.process.pid)] == [names]


def test_recovery_is_read_from_the_answer_of_the_service_manager(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of actions behind a pointer."""
    made = services.start("stop")
    actions = (api.Action * 2)(api.Action(1, 5000), api.Action(0, 0))

    def answer(_service: int, level: int, buffer: object, _room: int, _needed: object) -> bool:
        assert level == 2  # SERVICE_CONFIG_FAILURE_ACTIONS
        assert isinstance(buffer, ctypes.Array)
        found = api.FailureActions.from_buffer(buffer)
        found.count, found.actions = 2, ctypes.cast(actions, ctypes.POINTER(api.Action))
        return True

    monkeypatch.setattr(api, "QueryServiceConfig2W", answer)
    (seen,) = service_list.hosted(made.process.pid)
    assert (seen.recovery, seen.restarts) == ("starts it again after 5 s, the second time does nothing", True)


def pointed(reference: object) -> ctypes.c_ulong:
    """Return what `byref` was taken of."""
    found = reference._obj  # type: ignore[attr-defined]  # the attribute that ctypes documents
    assert isinstance(found, ctypes.c_ulong)
    return found
