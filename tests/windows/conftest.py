"""What the Windows tests share. They run on Windows, or with the rig (tools/winrig.py) under Wine; elsewhere nothing is collected."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if sys.platform != "win32":
    collect_ignore_glob = ["*"]
else:
    import faulthandler

    from _pytest.faulthandler import fault_handler_stderr_fd_key  # it has no public name

    from tests.windows.lab import UNDER_WINE, Lab, build_targets
    from tests.windows.lab_services import Services

    if TYPE_CHECKING:
        from collections.abc import Callable, Iterator
        from pathlib import Path

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Skip under Wine what only a real Windows can show."""
        for item in items:
            marker = item.get_closest_marker("needs_windows")
            if marker is not None and UNDER_WINE:
                item.add_marker(pytest.mark.skip(reason=f"needs a real Windows: {marker.args[0]}"))

    @pytest.fixture(scope="session")
    def targets() -> Path:
        """Return the folder of the compiled targets."""
        return build_targets()

    @pytest.fixture(scope="session")
    def goes_on(pytestconfig: pytest.Config) -> Callable[[], None]:
        """Return what a test with much to do calls after each part: the limit for one that hangs (`faulthandler_timeout`) begins anew."""
        limit_s = float(pytestconfig.getini("faulthandler_timeout") or 0)
        leaves = bool(pytestconfig.getini("faulthandler_exit_on_timeout"))

        def again() -> None:
            if limit_s:
                stderr = pytestconfig.stash[fault_handler_stderr_fd_key]
                faulthandler.dump_traceback_later(limit_s, exit=leaves, file=stderr)

        return again

    @pytest.fixture
    def lab(targets: Path) -> Iterator[Lab]:
        """Start targets, which end with the test."""
        with Lab(targets) as laboratory:
            yield laboratory

    @pytest.fixture
    def services(lab: Lab) -> Iterator[Services]:
        """Start services, which end with the test."""
        with Services(lab) as made:
            yield made
