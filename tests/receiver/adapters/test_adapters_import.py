"""The adapters by themselves: importable everywhere, and without the libraries that they adapt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from endtask_receiver import adapters
from tests.receiver.lab import MINORS, folder_of_the_receiver, interpreter

NAMES = sorted(path.stem for path in Path(adapters.__file__).parent.glob("*.py") if path.stem != "__init__")


def loaded(python: str, name: str) -> set[str]:
    """Return the modules that there are after the import of an adapter, in an interpreter without any other package."""
    code = f"import sys; sys.path.append({folder_of_the_receiver()!r}); import endtask_receiver.adapters.{name}; print(*sys.modules)"
    done = subprocess.run([python, "-I", "-S", "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_is_imported_without_its_library(name: str, minor: int) -> None:
    """On every Python that the receiver has."""
    assert not {"uvicorn", "hypercorn", "gunicorn", "celery"} & loaded(interpreter(minor), name)


def test_the_receiver_loads_no_adapter() -> None:
    """Not even the package of them."""
    code = f"import sys; sys.path.append({folder_of_the_receiver()!r}); import endtask_receiver; endtask_receiver.listen().close(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if "adapters" in name]
