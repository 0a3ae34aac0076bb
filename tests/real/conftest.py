"""The lab, and a folder for what is made once for all tests because it takes long: a database cluster, a compiled class."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from .lab import open_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lab import Lab


@pytest.fixture(scope="session", autouse=True)
def no_core_files() -> Iterator[None]:
    """QUIT makes many programs dump core; the prediction is about the end, nobody wants the file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _open_folder() -> str:
    """Return a new folder that also an unprivileged server may enter: the folders of pytest are closed to other users."""
    folder = tempfile.mkdtemp(prefix="endtask-real-")
    os.chmod(folder, 0o755)
    return folder


@pytest.fixture(scope="session")
def shared() -> Iterator[str]:
    """A folder for what is made once."""
    folder = _open_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def lab(shared: str) -> Iterator[Lab]:
    """A lab in a folder of its own."""
    home = _open_folder()
    try:
        with open_lab(home, shared) as opened:
            yield opened
    finally:
        shutil.rmtree(home)
