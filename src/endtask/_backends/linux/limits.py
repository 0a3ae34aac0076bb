"""How many descriptors we may have, RLIMIT_NOFILE of getrlimit(2).

Decision: the soft limit is raised to the hard one when descriptors come near it, not before.
Programs that we or our caller start inherit it, and those that use select(2) break above 1,023.
"""

from __future__ import annotations

import errno
import os
import sys

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Opener = Callable[[int], int]

_NEVER = 1 << 30


class DescriptorLimit:
    """The limit of this process: tells the room that is left, and makes more where the system allows it."""

    __slots__ = ("_raise_at",)

    def __init__(self) -> None:
        self._raise_at = 0

    def opened(self, opener: _Opener, pid: int) -> int:
        """Return what *opener* returns for *pid*, with the limit raised if it must be.

        Raises:
            OSError: As the call says.
        """
        try:
            fd = opener(pid)
        except OSError as exc:
            if exc.errno != errno.EMFILE or not self._raise():
                raise
            fd = opener(pid)
        # The kernel gives the lowest free number, so a high one means that the table is nearly full.
        if fd >= self._raise_at:
            self._near(fd)
        return fd

    def _near(self, fd: int) -> None:
        if not self._raise_at:
            soft = os.sysconf("SC_OPEN_MAX")
            self._raise_at = soft - _margin(soft) if soft > 0 else _NEVER
        if fd >= self._raise_at:
            self._raise()

    def _raise(self) -> bool:
        """Raise the soft limit to the hard one; False if it was there already or may not be changed."""
        import resource

        self._raise_at = _NEVER
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == hard:
            return False
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return False  # ignored: a filter forbids it; EMFILE will say so where it matters
        return True

    def room(self) -> int:
        """Return how many more descriptors can be opened, with some left for reading /proc."""
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard == resource.RLIM_INFINITY:
            hard = 1 << 20  # the default of fs.nr_open, which bounds it (proc_sys_fs(5))
        try:
            # The size of this folder is the number of descriptors since kernel 6.2, and 0 before.
            used = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
        except OSError:
            used = os.dup(2)  # no /proc: the lowest free number is the best hint there is
            os.close(used)
        return max(0, hard - used - _margin(hard))


def _margin(limit: int) -> int:
    return 64 if limit >= 512 else max(8, limit // 4)
