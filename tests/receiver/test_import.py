"""The package by itself: small, inert, typed, and nobody's dependent."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .lab import MINORS, Program, folder_of_the_receiver, interpreter

PACKAGE = Path(folder_of_the_receiver()) / "endtask_receiver"
OWN = {"endtask_receiver", "endtask_receiver._core", "endtask_receiver._request", "endtask_receiver._stop"}
LOOPS = {
    "trio_.py": {"trio"},
    "anyio_.py": {"anyio", "trio"},
}  # named after what they need, and loaded only by who has it


def loaded(python: str, code: str) -> set[str]:
    """Return the modules that some code loads beyond what the interpreter has."""
    text = f"import sys; sys.path.append({str(PACKAGE.parent)!r}); before = set(sys.modules); {code}; print(*set(sys.modules) - before)"
    return set(subprocess.run([python, "-I", "-c", text], capture_output=True, check=True, text=True).stdout.split())


@pytest.mark.parametrize("minor", MINORS)
def test_its_import_loads_four_modules_of_its_own_and_none_of_others(minor: int) -> None:
    """That is its time: modules are counted, because a clock on a busy machine tells nothing."""
    new = loaded(interpreter(minor), "import endtask_receiver")
    assert new - {"__future__"} == OWN


@pytest.mark.skipif(sys.platform == "win32", reason="another list there")
def test_listening_loads_what_signals_need() -> None:
    """Most of it is there in any program that has `subprocess` or `asyncio`."""
    code = (
        "import signal, enum; before |= set(sys.modules); import endtask_receiver; endtask_receiver.listen({}).close()"
    )
    without = ("_finish", "_fork", "_posix", "_watcher")
    channel = ("_channel", "_channel_lines", "_channel_talk", "_channel_place", "_channel_posix")
    for word, wanted, others in (
        ("channel=False", without, {"select", "fcntl", "__future__"}),
        ("", without + channel, {"select", "fcntl", "__future__", "_socket", "atexit"}),
    ):
        new = loaded(sys.executable, code.format(word))
        ours = {name for name in new if name.startswith("endtask_receiver")}
        assert ours - OWN == {f"endtask_receiver.{name}" for name in wanted}
        assert new - ours <= others


def test_its_import_does_nothing() -> None:
    """No handler, no thread, no descriptor, no hook."""
    with Program(
        """
        import os, signal, sys, threading
        def state():
            handlers = [signal.getsignal(n) for n in sorted(signal.valid_signals())]
            return handlers, signal.set_wakeup_fd(-1), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), sys.excepthook
        before = state()
        import endtask_receiver
        import endtask_receiver.testing, endtask_receiver.aio, endtask_receiver.workers, endtask_receiver.children, endtask_receiver.gui
        print(before[0] == state()[0], before[1] == state()[1], before[3] == state()[3])
        """
    ) as program:
        program.ends(0, "True True True")


def test_it_needs_the_standard_library_only() -> None:
    """And nothing of the other package. Read from the source, so that what is loaded late is seen too."""
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 15
    for file in files:
        wanted = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name}: a relative import"
                wanted.add((node.module or "").partition(".")[0])
        strange = wanted - set(sys.stdlib_module_names) - {"endtask_receiver"} - LOOPS.get(file.name, set())
        if file.parent == PACKAGE:
            assert not strange, f"{file.name} imports {strange}"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("minor", MINORS)
def test_it_works_in_an_empty_environment_without_the_other_package(minor: int, tmp_path: Path) -> None:
    """Copied alone, as a vendor would; every module that needs nothing is imported, and one request is made."""
    python = interpreter(minor)
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python3.*/site-packages")
    shutil.copytree(PACKAGE, site / "endtask_receiver", ignore=shutil.ignore_patterns("__pycache__"))
    code = """if True:
        import importlib.util, pkgutil, signal
        assert importlib.util.find_spec("endtask") is None
        import endtask_receiver
        for name in ("aio", "children", "gui", "testing", "workers"):
            importlib.import_module(f"endtask_receiver.{name}")
        for name in endtask_receiver.__all__:
            getattr(endtask_receiver, name)
        with endtask_receiver.listen() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.wait(30)
            print(stop.request)
    """
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-I", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGTERM\n", "")


def test_it_is_typed() -> None:
    """Type checkers read the annotations only where this file is."""
    assert (PACKAGE / "py.typed").is_file()


def test_a_public_name_that_is_not_there_is_an_error() -> None:
    """And those that are there can be had."""
    import endtask_receiver

    for name in endtask_receiver.__all__:
        assert getattr(endtask_receiver, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        endtask_receiver.nothing  # noqa: B018
    assert os.path.basename(endtask_receiver.__file__) == "__init__.py"
