"""The fixtures of the end-to-end tests; each folder's conftest takes them from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.targets.lab import Lab, can_unshare, open_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.targets.lab import Scene


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A laboratory; everything that it starts is gone when the test is over."""
    yield from open_lab()


@pytest.fixture
def scene(lab: Lab) -> Scene:
    """One scene in the machine's own pid namespace."""
    return lab.scene()


@pytest.fixture(scope="session")
def own_namespace() -> None:
    """Skip where no pid namespace can be made."""
    if not can_unshare():
        pytest.skip("needs root, unshare and nsenter for a pid namespace of its own")
