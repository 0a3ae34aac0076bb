"""Small facts about names that several stages share (pure)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHELLS = frozenset(
    (
        "sh",
        "bash",
        "dash",
        "zsh",
        "ksh",
        "mksh",
        "ash",
        "busybox",
        "fish",
        "cmd.exe",
        "powershell.exe",
        "pwsh.exe",
        "bash.exe",
    )
)
_SHELL_VALUES = frozenset(("--rcfile", "--init-file", "-o", "+o", "-O", "+O"))  # bash(1): options that take a value


def is_shell(name: str, cmdline: Sequence[str] = ()) -> bool:
    """Return whether it is a command shell.

    A login shell may carry a leading dash, and a script that was started by its `#!` line has its own name and the shell in its arguments.
    """
    return (
        name.lstrip("-") in _SHELLS
        or name.lower() in _SHELLS
        or (bool(cmdline) and cmdline[0].rsplit("/", 1)[-1].lstrip("-") in _SHELLS)
    )


def called(pid: int, name: str) -> str:
    """Return `12 nginx`; where the name cannot be read, which on Linux means `/proc` mounted with hidepid, it says so."""
    return f"{pid} {name or '(name hidden)'}"


def each_once(words: Iterable[object]) -> list[str]:
    """Return them as texts without repetition: who listens on one port for IPv4 and for IPv6 has two sockets, and one port."""
    return list(dict.fromkeys(str(w) for w in words))


def runs_script(name: str, cmdline: Sequence[str]) -> bool:
    """Return whether it is a shell that runs a script or `-c` text and not a person's commands."""
    if not is_shell(name, cmdline):
        return False
    if name.lower().endswith(".exe"):  # cmd /c, /k: one command; powershell -Command, -File: a script
        return any(w.lower() in ("/c", "/k", "-command", "-c", "-file", "-f") for w in cmdline[1:])
    words = iter(cmdline[1:])
    for word in words:
        if word in _SHELL_VALUES:
            next(words, None)
        elif not word or word.startswith(("--", "+")):
            continue
        elif word.startswith("-"):
            if "c" in word:
                return True
        else:
            return True
    return False
