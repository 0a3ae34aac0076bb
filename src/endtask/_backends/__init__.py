"""The operating systems: the only place that knows which one we are on."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Backend, Tree
    from endtask._backends.launching import Launch


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


def start_tree(launch: Launch, *, ends_with_us: bool, inject: bool = True) -> Tree | None:
    """Start a command in a container of the system that nothing leaves (Windows: a job object).

    Args:
        launch: How to start it.
        ends_with_us: Whether the system is to end everything in there when our process ends, however that happens.
        inject: Whether a thread of ours may be started in the command to ask it.

    Returns:
        The running tree; None where the system has no such container and a keeper process holds the tree (POSIX).

    Raises:
        OSError: The command could not be started; nothing of it runs.
        OsCallError: The container could not be made.
    """
    if sys.platform == "win32":
        from endtask._backends.windows.launch import start

        return start(launch, ends_with_us=ends_with_us, inject=inject)
    return None


def understands_escapes(fd: int) -> bool:
    """Return whether the terminal on *fd* understands escape sequences (colours): by TERM, on Windows by the console itself."""
    kind = os.environ.get("TERM", "")
    if sys.platform == "win32" and kind != "dumb":
        from endtask._backends.windows.terminal import understands_escapes as understands

        return understands(fd)
    return kind not in ("", "dumb")
