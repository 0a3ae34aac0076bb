"""`endtask.cmd`, with which the command starts on Windows: it finds its Python, and hands arguments and exit code through."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.windows.lab import ROOT

PYTHON = Path(
    getattr(sys, "_base_executable", sys.executable)
)  # not the one of a virtual environment, which only starts it


def install(folder: Path, layout: str) -> Path:
    """Lay the command out as installers do, and return its launcher."""
    scripts = folder / "py thon" / "Scripts"
    scripts.mkdir(parents=True)
    for name in ("endtask", "endtask.cmd"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    if layout == "beside":
        shutil.copy(PYTHON, scripts / "python.exe")
    elif layout == "above":
        shutil.copy(PYTHON, scripts.parent / "python.exe")
    else:
        body = (ROOT / "scripts" / "endtask").read_text("utf-8").partition("\n")[2]
        (scripts / "endtask").write_text(f"#!{PYTHON}\n{body}", "utf-8")
    return scripts / "endtask.cmd"


def run(*words: str | Path) -> tuple[int, str]:
    """Run a command line and return its exit code and what it printed."""
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"  # a copied python.exe finds its DLL there
    environment = {**os.environ, "PATH": path, "PYTHONHOME": sys.base_prefix}
    process = subprocess.run(
        words,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    return process.returncode, process.stdout.decode()


@pytest.mark.parametrize("layout", ["beside", "above", "elsewhere"])
def test_launcher_finds_its_python(tmp_path: Path, layout: str) -> None:
    """A virtual environment, Python itself, and a user's own scripts."""
    launcher = install(tmp_path, layout)
    code, text = run(launcher, "version")
    assert (0, "endtask ") == (code, text[:8])


def test_arguments_and_exit_code_come_through(tmp_path: Path) -> None:
    """Blanks and wildcards as well; 1 is what a name gives that nobody has."""
    code, text = run(install(tmp_path, "beside"), "find", "no body*")
    assert (1, "endtask: no process is named `no body*`") == (code, text.rstrip())


def test_batch_file_that_calls_it_goes_on_with_its_exit_code(tmp_path: Path) -> None:
    """Nothing of the launcher is left in its environment."""
    launcher = install(tmp_path, "elsewhere")
    batch = tmp_path / "batch.cmd"
    batch.write_text(f'@call "{launcher}" stop nobody-here\n@echo %errorlevel% [%ENDTASK_PYTHON%]\n', "utf-8")
    _code, text = run(os.environ["COMSPEC"], "/d", "/c", batch)
    assert "1 []" == text.splitlines()[-1]
