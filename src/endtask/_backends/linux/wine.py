"""Windows programs under Wine: which processes they are, whose prefix they live in, and what asks them properly.

Decision: the executable decides. Every Windows program runs in Wine's loader, whose path /proc/PID/exe shows; the name and the arguments, which Wine
rewrites (dlls/ntdll/unix/loader.c, set_process_name), only say which program it is. Where the executable may not be read, arguments that begin with a
Windows path make a guess. The environment proves nothing here: whatever a Windows program starts on the Linux side has it too.

What Wine has started for itself stands for parts of Windows and is shared by all programs of a prefix, so it is never a target (measured on Wine 8.0):
TERM to the server leaves its programs running without one, out of reach of everybody, and it holds the files and sockets of them all.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from endtask._backends.linux import procfs
from endtask._backends.linux.surroundings import base_name, command
from endtask.model import Manager, WineFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LOADERS = frozenset(("wine", "wine64", "wine-preloader", "wine64-preloader"))  # loader/Makefile.in
_SERVER = "wineserver"  # Debian calls it wineserver64
# Programs that stand for parts of Windows, or serve several programs (Wine: programs/). All stop with the last program of the prefix.
_OWN = frozenset(
    (
        "services.exe",
        "winedevice.exe",
        "plugplay.exe",
        "svchost.exe",
        "rpcss.exe",
        "wineboot.exe",
        "winemenubuilder.exe",
        "conhost.exe",
        "explorer.exe",
    )
)
_OWN_CUT = frozenset(name[:15] for name in _OWN)  # as `comm` has them
_DESKTOP = "/desktop"  # the explorer.exe that is everybody's desktop; without it, it is a file manager
_SYSTEM = "\\windows\\system32\\"
_MEMORY = "not permitted: its memory may be read with the rights to trace it (ptrace) only"


def is_loader(exe: str) -> bool:
    """Return whether an executable is Wine's loader, in which Windows programs run."""
    return base_name(exe.removesuffix(" (deleted)")) in _LOADERS


def is_windows_path(text: str) -> bool:
    """Return whether a text begins with a drive letter, a colon and a backslash."""
    return text[1:3] == ":\\" and text[:1].isascii() and text[:1].isalpha()


# --------------------------------------------------------------------------- Wine's own


def own_part(pid: int, short: str) -> str:
    """Return what a process does for all programs of a Wine prefix, empty if it is an ordinary one.

    Args:
        pid: The process.
        short: `comm`; decides for nearly every process of a machine without another read.
    """
    if short.startswith(_SERVER):
        return _server(pid)
    if short not in _OWN_CUT:
        return ""
    exe = procfs.link(b"/proc/%d/exe" % pid)
    arguments = procfs.command_line(pid) or ("",)
    path = arguments[0].lower()
    if (exe is not None and not is_loader(procfs.decode(exe))) or not is_windows_path(path):
        return ""
    if path[2:].rpartition("\\")[0] + "\\" != _SYSTEM or (
        short == "explorer.exe" and not any(a.lower().startswith(_DESKTOP) for a in arguments[1:])
    ):
        return ""
    if short == "conhost.exe":
        return "it is the console of other Windows programs, and ends with the last of them"
    return f"it stands for a part of Windows in Wine, and ends with the last program of {_where(pid)}"


def _server(pid: int) -> str:
    exe = procfs.link(b"/proc/%d/exe" % pid)
    arguments = procfs.command_line(pid) or ("",)
    if not base_name(procfs.decode(exe) if exe is not None else arguments[0]).startswith(_SERVER):
        return ""
    prefix = prefix_of(_environ(pid))
    by_hand = (
        f"; `{command('env', f'WINEPREFIX={prefix}', 'wineserver', '-k')}` ends it with all of them" if prefix else ""
    )
    return (
        f"it is the server of {_where(pid)}, which keeps the files and sockets of all Windows programs there{by_hand}"
    )


def _where(pid: int) -> str:
    prefix = prefix_of(_environ(pid))
    return f"the Wine prefix {prefix}" if prefix else "its Wine prefix"


def _environ(pid: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in procfs.environ(pid) or ():
        name, _, value = entry.partition(b"=")
        found.setdefault(procfs.decode(name), procfs.decode(value))
    return found


def prefix_of(environ: Mapping[str, str]) -> str:
    """Return the folder that Wine works in for a process with this environment, empty if it cannot be told; wine(1), WINEPREFIX."""
    given = environ.get("WINEPREFIX", "")
    if given:
        return given.rstrip("/") or "/"
    home = environ.get("HOME", "")
    return f"{home.rstrip('/')}/.wine" if home else ""


# --------------------------------------------------------------------------- programs


class Program:
    """A Windows program under Wine while it is being looked at.

    Attributes:
        facts: For `Facts.wine`.
        manager: For `Facts.managers`.
        cmdline: Its arguments, without the zeros with which Wine fills what it has moved.
        unknown: Names of fields and why they could not be read.
    """

    __slots__ = ("cmdline", "facts", "manager", "unknown")

    def __init__(self, facts: WineFacts, manager: Manager, cmdline: tuple[str, ...], unknown: dict[str, str]) -> None:
        self.facts = facts
        self.manager = manager
        self.cmdline = cmdline
        self.unknown = unknown


def look_at(
    pid: int,
    name: str,
    exe: str,
    cmdline: tuple[str, ...],
    environ: Mapping[str, str] | None,
    owner: tuple[int, str],
) -> Program | None:
    """Return what Wine's side of a process looks like, None if it is no Windows program.

    Args:
        pid: The process.
        name: Its name.
        exe: Its executable, empty if that may not be read.
        cmdline: Its arguments.
        environ: The environment that it was started with, None if that may not be read.
        owner: Its user id and login name.
    """
    if exe:
        if not is_loader(exe):
            return None
    elif not (cmdline and is_windows_path(cmdline[0])):
        return None
    unknown: dict[str, str] = {}
    facts = _facts(pid, prefix_of(environ or {}), unknown)
    if not facts.prefix:
        unknown["wine.prefix"] = "its environment could not be read"
    because = f"its executable is Wine's loader {exe}" if exe else f"its arguments begin with {cmdline[0]}"
    here = bool(facts.prefix) and _same(f"/proc/{pid}/root{facts.prefix}", facts.prefix)
    if facts.prefix:
        because += ", WINEPREFIX" if environ and environ.get("WINEPREFIX") else ", and no WINEPREFIX names another"
        because += "" if here else "; the prefix is not visible from here, so what asks it must be run where it is"
    loader = _loader(pid, exe) if here else ""
    if here and not loader:
        because += "; neither its loader nor a `wine` on PATH can be run from here"
    # Only root can act for another user, and has to become that user: Wine serves nobody else.
    user = owner[1] if os.geteuid() == 0 and owner[0] > 0 else ""
    stop = command(*stop_words(facts, name, loader, user)) if loader else ""
    while len(cmdline) > 1 and not cmdline[-1]:
        cmdline = cmdline[:-1]
    return Program(facts, Manager("wine", facts.prefix, stop, "no", because, certain=bool(exe)), cmdline, unknown)


def _facts(pid: int, prefix: str, unknown: dict[str, str]) -> WineFacts:
    from endtask._backends.linux import wine_memory

    names = ("pid", "subsystem", "console", "ignores_ctrl_c")
    try:
        blocks = wine_memory.read(pid)
    except PermissionError:
        unknown.update((f"wine.{name}", _MEMORY) for name in names)
        return WineFacts(prefix)
    if blocks is None:
        reason = "its memory has no 64-bit environment block where Wine 8.0 puts it"
        unknown.update((f"wine.{name}", reason) for name in names)
        return WineFacts(prefix)
    return WineFacts(prefix, blocks.pid, blocks.image, blocks.subsystem, blocks.console, blocks.ignores_ctrl_c)


def stop_words(facts: WineFacts, name: str, loader: str, user: str = "") -> tuple[str, ...]:
    """Return Wine's own command that asks the windows of a program, empty for a console program, which has none (pure).

    `taskkill` without `/f` posts WM_CLOSE to the top-level windows of the process (programs/taskkill); it needs no display of its own.
    Where the Windows pid is unknown, the name asks every program of that name in the prefix.
    """
    if facts.subsystem == "console" or not facts.prefix:
        return ()
    whom = ("/pid", str(facts.pid)) if facts.pid else ("/im", name)
    # Wine refuses a prefix that belongs to somebody else (dlls/ntdll/unix/server.c, "is not owned by you").
    who = ("runuser", "-u", user, "--") if user else ()
    return (*who, "env", f"WINEPREFIX={facts.prefix}", loader, "taskkill", *whom)


def _loader(pid: int, exe: str) -> str:
    """Return how to run a command of the same Wine: its loader by its path, since `wine` may be another version; empty if neither is here.

    The preloader is no command: it only prepares the memory for the loader beside it (loader/preloader.c).
    """
    if _same(f"/proc/{pid}/exe", exe):
        beside = exe.removesuffix("-preloader")
        if os.access(beside, os.X_OK):
            return beside
    return "wine" if any(os.access(os.path.join(folder, "wine"), os.X_OK) for folder in os.get_exec_path()) else ""


def _same(one: str, other: str) -> bool:
    """Return whether two paths lead to the same file; a path that a process sees may be another one for us, or none."""
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except (OSError, ValueError):
        return False
