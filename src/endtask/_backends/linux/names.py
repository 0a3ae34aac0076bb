"""The whole name of a process whose short name the kernel has cut at 15 bytes.

Decision: a longer name is believed only if it begins with what the kernel kept, because arguments and even the link to
the executable can say anything.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CUT = 15  # TASK_COMM_LEN without the zero at its end (include/linux/sched.h)


def full_name(pid: int, short: str) -> str:
    """Return the whole name of a process where the kernel has cut it at 15 bytes, else *short*."""
    if len(procfs.encode(short)) != _CUT:
        return short
    raw = procfs.look(b"/proc/%d/cmdline" % pid) or b""
    exe = procfs.link(b"/proc/%d/exe" % pid) or b""
    return longer(short, procfs.decode(exe), procfs.split_arguments(raw))


def longer(short: str, exe: str, arguments: Sequence[str]) -> str:
    """Return the name that *short* is the beginning of, else *short* (pure).

    The name is that of the file that was executed: it is looked for in the executable, the arguments, and for a script
    in what its interpreter was given (execve(2), "Interpreter scripts").

    Args:
        short: `comm`.
        exe: Where /proc/PID/exe points to, empty if unknown.
        arguments: The command line.
    """
    cut = procfs.encode(short)
    if len(cut) != _CUT:
        return short
    paths = [exe.removesuffix(" (deleted)"), *arguments[:3]]
    if arguments and " " not in arguments[0]:
        # As it was called, which may be a link's name. A title written over the arguments has spaces: then not first.
        paths[:2] = arguments[0], paths[0]
    for path in paths:
        base = procfs.encode(path).rpartition(b"/")[2]
        for name in (base, base.rpartition(b"\\")[2]):  # Wine's programs show the path that Windows has for them
            if name.startswith(cut):
                return procfs.decode(name)
    return short
