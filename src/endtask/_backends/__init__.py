"""The operating systems: the only place that knows which one we are on."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend


def default_backend() -> Backend:
    """Return the backend of this machine.

    Raises:
        UnsupportedPlatformError: There is none.
    """
    if sys.platform == "linux":
        from endtask._backends.linux.backend import LinuxBackend

        return LinuxBackend()
    if sys.platform == "win32":
        from endtask._backends.windows.backend import WindowsBackend

        return WindowsBackend()
    from endtask.errors import UnsupportedPlatformError

    raise UnsupportedPlatformError(
        f"endtask has no backend for `{sys.platform}` yet",
        hint="this version works on Linux and Windows",
    )
