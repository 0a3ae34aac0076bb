"""The adapters are tested on POSIX: their servers listen on sockets in the file system."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .lab import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

collect_ignore_glob = ["*"] if sys.platform == "win32" else []


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """What a server waits on until the test opens it."""
    made = Gate(tmp_path)
    yield made
    made.close()
