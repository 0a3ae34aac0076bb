"""The public names: each exported once, loaded when used, light to import, alike in their blocking and asynchronous forms."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from importlib import import_module

import pytest

import endtask
from endtask import _api, _public
from endtask._plan import make_policy
from endtask.model import Filter, PidRef, Policy, Report, Scope

SOURCE = os.path.dirname(os.path.dirname(endtask.__file__))
NAMES = [name for name in endtask.__all__ if name != "__version__"]
FUNCTIONS = ["stop", "stop_async", "wait", "wait_async", "look", "plan", "why"]
# What costs more than it may at the start of a 20 ms command (facts B7).
HEAVY = {
    "argparse",
    "asyncio",
    "collections",
    "contextlib",
    "ctypes",
    "dataclasses",
    "enum",
    "functools",
    "json",
    "logging",
    "pathlib",
    "re",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "typing",
}


def typed_names() -> list[str]:
    """Return the names that type checkers see exported, read from the source."""
    with open(endtask.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    return [a.asname or a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names]


def test_every_public_name_is_exported_exactly_once() -> None:
    """`__all__`, the lazy table and what type checkers see are the same names, each once."""
    lazy = [name for names in endtask._HOME.values() for name in names]
    assert sorted(lazy) == sorted(set(lazy)) == sorted(typed_names()) == sorted(NAMES)
    assert "__version__" in endtask.__all__


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_the_one_of_its_home(name: str) -> None:
    """A name loads, is documented, and stays the same object."""
    home = next(module for module, names in endtask._HOME.items() if name in names)
    value = getattr(endtask, name)
    assert getattr(import_module(f"endtask.{home}"), name) is value
    assert getattr(endtask, name) is value
    assert inspect.getdoc(value)


def test_unknown_name_is_an_attribute_error() -> None:
    """As of every module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        endtask.no_such_name  # noqa: B018  # on purpose


def test_dir_lists_the_public_names() -> None:
    """Completion shows what is public before anything was loaded."""
    assert sorted(endtask.__all__) == dir(endtask)


def test_star_import_gives_every_public_name() -> None:
    """`from endtask import *` works in spite of the lazy names."""
    space: dict[str, object] = {}
    exec("from endtask import *", space)
    assert set(endtask.__all__) <= set(space)


def imported(statement: str) -> set[str]:
    """Return the modules that *statement* adds to a fresh interpreter."""
    program = f"import sys; sys.path.insert(0, {SOURCE!r}); before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(shown.stdout.split())


def test_import_of_the_package_loads_nothing_else() -> None:
    """`import endtask` costs one small module beside itself; the version is loaded by whoever asks for it."""
    assert imported("import endtask") == {"__future__", "endtask"}
    assert imported("import endtask; assert endtask.__version__") == {"__future__", "endtask", "endtask._version"}


@pytest.mark.parametrize("module", ["endtask", "endtask._api", "endtask.cli.main"])
def test_fast_path_loads_nothing_heavy(module: str) -> None:
    """Nothing that a plain stop needs imports what Python takes long to import."""
    assert imported(f"import {module}") & HEAVY == set()


def test_backend_loads_nothing_heavy() -> None:
    """The Linux backend is ready without threads, sockets, signals' enums or ctypes."""
    if sys.platform != "linux":
        pytest.skip("no other backend yet")
    assert imported("from endtask._backends import default_backend; default_backend()") & HEAVY == set()


# --- the functions


@pytest.mark.parametrize("name", ["stop", "wait"])
def test_asynchronous_twin_takes_the_same_arguments(name: str) -> None:
    """What can be asked blocking can be asked in an event loop."""
    blocking, twin = getattr(endtask, name), getattr(endtask, f"{name}_async")
    assert inspect.signature(blocking) == inspect.signature(twin)
    assert inspect.iscoroutinefunction(twin)


def test_plan_takes_what_stop_takes() -> None:
    """The dry run is asked with the same words (demand 3.20); only the listener has nothing to hear."""
    of_stop = inspect.signature(endtask.stop).parameters
    of_plan = inspect.signature(endtask.plan).parameters
    assert set(of_stop) - {"on_event"} == set(of_plan)
    assert all(of_stop[n].default == of_plan[n].default for n in of_plan)


def test_force_is_never_a_default() -> None:
    """No function forces unless it is told to."""
    parameters = inspect.signature(endtask.stop).parameters
    assert (None, None, False) == tuple(parameters[n].default for n in ("plan", "force_after_s", "now"))


def test_public_functions_hand_over_what_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of every kind become text, options the policy of the command."""
    taken: list[tuple[object, ...]] = []

    def record(*given: object, **named: object) -> Report:
        taken.append((*given, named))
        return Report(())

    monkeypatch.setattr(_api, "stop", record)
    monkeypatch.setattr(_api, "wait", record)
    only = Filter(user="ana")
    endtask.stop("nginx", 12, PidRef(13, "5"), plan="TERM/3/KILL/2", scope="group", keep=(7,), all=True, filters=only)
    endtask.wait(":80", timeout_s=3.0, missing_ok=True)
    stopped = make_policy(plan="TERM/3/KILL/2", scope=Scope("group"), all=True)
    waited = make_policy(timeout_s=3.0, missing_ok=True)
    assert taken == [
        (("nginx", "12", "13:5"), only, stopped, {"keep": ("7",), "on_event": None}),
        ((":80",), Filter(), waited, {"on_event": None}),
    ]


def test_look_and_why_hand_over_their_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same resolver serves every verb."""
    taken: list[tuple[object, ...]] = []

    def record(*given: object, **named: object) -> None:
        taken.append((*given, named))

    monkeypatch.setattr(_api, "look", record)
    monkeypatch.setattr(_api, "why", record)
    monkeypatch.setattr(_api, "plan", record)
    endtask.look(12)
    endtask.why("x", scope="session")
    endtask.plan("x", keep=("y",))
    assert [("12",), ("x",), ("x",)] == [t[0] for t in taken]
    assert {"scope": Scope("tree")} == taken[0][2]
    assert {"scope": Scope("session")} == taken[1][2]
    assert isinstance(taken[2][2], Policy)
    assert {"keep": ("y",)} == taken[2][3]


def test_contradiction_is_refused_before_anything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PlanError comes before the system is asked."""
    monkeypatch.setattr(_api, "_backend", lambda _given: pytest.fail("the system was asked"))
    with pytest.raises(endtask.PlanError):
        endtask.stop("x", now=True, plan="TERM/5")


def test_functions_are_those_of_the_module_of_verbs() -> None:
    """No second definition anywhere."""
    for name in FUNCTIONS:
        assert getattr(endtask, name).__module__ == _public.__name__


def test_nothing_named_is_an_error_and_no_success() -> None:
    """An empty list of matches must not read like a success."""
    with pytest.raises(endtask.TargetError):
        endtask.stop()


def test_unknown_scope_is_an_error() -> None:
    """A word that is no scope must not silently mean less than the tree."""
    with pytest.raises(endtask.TargetError):
        endtask.stop(4711, scope="tre")  # type: ignore[arg-type]  # what an untyped caller may write
