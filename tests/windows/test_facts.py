"""What is known of a process: its kind first, because how it can be asked follows from that."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

import endtask
from endtask._backends.windows import traits
from endtask._backends.windows.backend import WindowsBackend
from endtask.model import Facts, Service, Window, WindowsFacts
from tests.windows.lab import DETACHED, NEW_GROUP, NO_WINDOW, OWN_CONSOLE, SUSPENDED, UNDER_WINE
from tests.windows.lab_processes import LOCK, ONLY_LOOK, Child

if TYPE_CHECKING:
    from endtask.model import Kind
    from tests.windows.lab import Lab
    from tests.windows.lab_services import Services


@pytest.fixture(scope="module")
def backend() -> WindowsBackend:
    """One for all: its own traits are read once."""
    return WindowsBackend()


def look(backend: WindowsBackend, pid: int) -> Facts:
    """Return the facts of a process."""
    with backend.pin(pid) as pin:
        return backend.facts(pin)


def windows(facts: Facts) -> WindowsFacts:
    """Return the part that only Windows has."""
    assert facts.windows is not None
    return facts.windows


def test_facts_of_a_python_child(backend: WindowsBackend) -> None:
    """Everything that can be known of an ordinary program of ours."""
    with Child("", "an argument") as child:
        facts = look(backend, child.pid)
    assert (facts.ref.pid, facts.name.lower(), facts.ppid, facts.exited) == (
        child.pid,
        "python.exe",
        os.getpid(),
        False,
    )
    assert os.path.samefile(facts.exe, sys.executable)
    assert facts.cmdline[-1] == "an argument"
    assert facts.user == backend.user_name(facts.uid) != ""
    assert 0 <= facts.age_s < 300
    assert facts.threads >= 1
    assert facts.parent_name.lower() == "python.exe"
    assert (facts.state, facts.kernel, facts.signals, facts.tty, facts.cgroup) == ("R", False, None, "", "")
    mine = windows(facts)
    assert (mine.kind, mine.subsystem, mine.runtime) == ("console", "console", "cpython")
    assert (mine.same_machine, mine.same_session, mine.same_user, mine.above_us) == (True, True, True, False)
    assert (mine.suspended, mine.receiver, mine.services, mine.windows, mine.hung) == (False, False, (), (), None)
    assert mine.wine is UNDER_WINE
    told = (
        {} if not UNDER_WINE else dict.fromkeys(("windows.critical", "windows.protected"), "this system does not tell")
    )
    assert dict(facts.unknown) == told


@pytest.mark.parametrize(
    ("program", "mode", "kind", "subsystem"),
    [
        ("etwindow", "close", "gui", "gui"),
        ("etwindow", "hidden", "gui", "gui"),
        ("etwindow", "none", "gui-windowless", "gui"),
        ("etwindow", "message-only", "gui-windowless", "gui"),
        ("etwindowc", "close", "gui", "console"),
        ("etwindowc", "hidden", "console", "console"),
        ("etconsole", "none", "console", "console"),
        ("etconsole", "window", "gui", "console"),
    ],
)
def test_kind_of_a_program(
    lab: Lab, backend: WindowsBackend, program: str, mode: str, kind: Kind, subsystem: str
) -> None:
    """By its windows, then by its subsystem."""
    mine = windows(look(backend, lab.start(program, mode, flags=DETACHED).pid))
    assert (mine.kind, mine.subsystem) == (kind, subsystem)


def test_windows_and_dialogs_are_told(lab: Lab, backend: WindowsBackend) -> None:
    """What a person would see."""
    mine = windows(look(backend, lab.start("etwindow", "dialog-open").pid))
    assert {w.role for w in mine.windows} >= {"dialog", "main"}
    assert mine.hung is False


@pytest.mark.parametrize(
    ("flags", "console", "ignores"),
    [(DETACHED, "none", False), (OWN_CONSOLE, "another", False), (NO_WINDOW | NEW_GROUP, "another", True)],
)
def test_console_of_a_program(lab: Lab, backend: WindowsBackend, flags: int, console: str, ignores: bool) -> None:
    """Whether it has one, who else is there, and whether it hears Ctrl+C."""
    target = lab.start("etconsole", "true", flags=flags)
    mine = windows(look(backend, target.pid))
    assert (mine.console, mine.ignores_ctrl_c) == (console, ignores)
    assert mine.console_pids == (() if console == "none" else (target.pid,))


def test_console_that_is_shared_names_everybody_there(lab: Lab, backend: WindowsBackend) -> None:
    """A child is on its parent's console."""
    root = lab.start("ettree", "keep", 2, flags=OWN_CONSOLE)
    children = [lab.child(root, number).pid for number in (1, 2)]
    assert set(windows(look(backend, root.pid)).console_pids) == {root.pid, *children}


def test_runtime_is_told_for_cmd(lab: Lab, backend: WindowsBackend) -> None:
    """It leaves by rules of its own."""
    target = lab.run(["cmd", "/k"], flags=OWN_CONSOLE | SUSPENDED)  # its input has ended, so it would leave at once
    assert windows(look(backend, target.pid)).runtime == "cmd"


def test_listener_is_told_with_its_port(backend: WindowsBackend) -> None:
    """As far as the tables know the process."""
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.setblocking(False)\n"
    code += "try: s.recv(1)\nexcept OSError: pass\nprint(s.getsockname()[1])"
    with Child(code) as child:
        ports = look(backend, child.pid).ports
        assert [p.port for p in ports] == [int(child.said[0])] or (UNDER_WINE and not ports)


def test_service_is_told_with_its_manager(services: Services, backend: WindowsBackend) -> None:
    """Whoever ends it as a process hears from its manager."""
    service = services.start("stop", 100)
    facts = look(backend, service.pid)
    mine = windows(facts)
    assert mine.kind == "service"
    assert [(s.name, s.state, s.accepts_stop) for s in mine.services] == [(service.name, "running", True)]
    (manager,) = facts.managers
    assert (manager.kind, manager.name, manager.certain) == ("service", service.name, True)
    assert service.name in manager.stop
    assert backend.services(service.pid) == (service.name,)


def test_suspended_program_is_told(lab: Lab, backend: WindowsBackend) -> None:
    """What it was asked waits until it runs again."""
    target = lab.start("etconsole", "none")
    with backend.pin(target.pid) as pin:
        assert not backend.stopped(pin)
        target.suspend()
        assert backend.stopped(pin)
        facts = backend.facts(pin)
        assert (facts.state, windows(facts).suspended) == ("T", True)
        backend.processes.fresh()
        assert backend.status(target.pid) == "suspended"
        target.resume()
        assert not backend.stopped(pin)


@pytest.mark.skipif(not UNDER_WINE, reason="Windows may have mapped its modules before its first thread runs")
def test_console_event_for_what_was_never_started_up_is_no_promise(lab: Lab) -> None:
    """`stop` says "impossible" of it, so `look` does not say that it is asked."""
    target = lab.start("etconsole", "graceful", flags=OWN_CONSOLE | SUSPENDED)
    (seen,) = endtask.look(str(target.pid)).seen
    answers = {p.request: p.answer for p in seen.forecast.predictions}
    assert (answers["CTRL_C"], answers["TERMINATE"]) == ("unknown", "ends")


def test_stop_event_is_told(lab: Lab, backend: WindowsBackend) -> None:
    """The best request that there is."""
    assert windows(look(backend, lab.start("etconsole", "event").pid)).receiver is True


def test_what_may_not_be_read_is_unknown_with_the_reason(backend: WindowsBackend) -> None:
    """And everything else is told all the same."""
    with Child(LOCK, ONLY_LOOK) as child:
        facts = look(backend, child.pid)
    unknown = dict(facts.unknown)
    for field in ("windows.ignores_ctrl_c", "windows.console", "windows.runtime"):
        assert unknown[field] == "access is denied (error 5)"
    mine = windows(facts)
    assert (mine.ignores_ctrl_c, mine.console, mine.kind, mine.subsystem) == (None, "unknown", "console", "console")
    assert mine.runtime == "cpython"  # by its name
    assert facts.user
    assert os.path.samefile(facts.exe, sys.executable)


def test_orphan_has_no_parent_name_and_says_why(lab: Lab, backend: WindowsBackend) -> None:
    """Its parent's number is kept, and may be somebody else's."""
    root = lab.start("ettree", "orphans", 1, ready=False)
    child = lab.child(root, 1)
    root.wait_exit()
    facts = look(backend, child.pid)
    assert (facts.ppid, facts.parent_name) == (root.pid, "")
    assert dict(facts.unknown)["parent_name"] == "its parent has ended"


def test_facts_of_what_has_ended_say_so(backend: WindowsBackend) -> None:
    """Nothing is raised."""
    with Child() as child, backend.pin(child.pid) as pin:
        child.let_go()
        facts = backend.facts(pin)
        assert (facts.exited, facts.state, facts.windows) == (True, "X", None)
        assert not backend.stopped(pin)
        assert backend.status(child.pid) == ""


def test_facts_of_what_ends_while_it_is_read_say_so(backend: WindowsBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last question is to the handle."""
    with Child() as child, backend.pin(child.pid) as pin:
        read = traits.Look.read_itself

        def end_then_read(look: traits.Look) -> None:
            child.let_go()
            read(look)

        monkeypatch.setattr(traits.Look, "read_itself", end_then_read)
        facts = backend.facts(pin)
        assert facts.exited
        assert dict(facts.unknown) == {"everything": "it ended while it was read"}


def test_status_is_what_taskkill_asks(lab: Lab, backend: WindowsBackend) -> None:
    """Without windows nobody can be asked whether he answers."""
    assert backend.status(lab.start("etwindow", "close").pid) == "running"
    assert backend.status(lab.start("etconsole", "none").pid) == "unknown"
    assert backend.status(0x7FFFFFF0) == ""


def test_titles_are_those_of_visible_windows(lab: Lab, backend: WindowsBackend) -> None:
    """And who owns one can be found by it."""
    target = lab.start("etwindow", "two")
    assert set(backend.titles(target.pid)) == {"first", "second"}
    assert target.pid in backend.title_owners("FIR*")


def test_session_has_a_name(backend: WindowsBackend) -> None:
    """The one at the screen, unless somebody has come from far away."""
    row = backend.row(os.getpid())
    assert row is not None
    assert backend.session_name(row)
    if UNDER_WINE:
        assert backend.session_name(row) == "Console"


@pytest.mark.needs_windows("Wine has no parts of the kernel among its processes")
def test_part_of_the_kernel_is_of_the_kind_system(backend: WindowsBackend) -> None:
    """It can be looked at by administrators, and stopped by nobody."""
    row = backend.row(4)
    assert row is not None
    assert row.kernel
    if ctypes.WinDLL("shell32").IsUserAnAdmin():
        assert windows(look(backend, 4)).kind == "system"


# --------------------------------------------------------------------------- the kind (pure)

MAIN, HIDDEN = Window(1, "x", visible=True), Window(2, role="hidden")
HELPER, MESSAGES = Window(3, role="helper"), Window(4, role="message-only")
SERVICE = Service("x")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"kernel": True}, "system"),
        ({"subsystem": "native"}, "system"),
        ({"critical": True}, "system"),
        ({"critical": True, "services": [SERVICE]}, "service"),
        ({"services": [SERVICE], "windows": [MAIN]}, "service"),
        ({"packaged": True, "container": True, "windows": [MAIN]}, "packaged"),
        ({"packaged": True, "container": False, "subsystem": "console"}, "console"),
        ({"packaged": True, "container": None, "windows": [MAIN]}, "gui"),
        ({"windows": [MAIN], "subsystem": "console"}, "gui"),
        ({"windows": [HIDDEN], "subsystem": "console"}, "console"),
        ({"windows": [HIDDEN], "subsystem": "gui"}, "gui"),
        ({"windows": [HIDDEN]}, "gui"),
        ({"windows": [HELPER, MESSAGES], "subsystem": "gui"}, "gui-windowless"),
        ({"subsystem": "gui"}, "gui-windowless"),
        ({"subsystem": "console"}, "console"),
        ({}, "unknown"),
    ],
)
def test_kind_follows_from_what_was_found(changes: dict[str, object], kind: Kind) -> None:
    """The strongest fact decides."""
    found: dict[str, object] = {
        "kernel": False,
        "critical": False,
        "services": [],
        "container": None,
        "packaged": False,
        "windows": [],
        "subsystem": "",
    }
    assert traits.kind_of(**{**found, **changes}) == kind  # type: ignore[arg-type]  # the table mixes their types
