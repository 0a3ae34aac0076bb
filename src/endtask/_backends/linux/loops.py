"""Guess whether a parent starts the process again (pure: from command lines and script text).

Nothing in /proc says that a parent will restart its child, so every answer here is a guess that names its facts:
the text of a shell script that has a loop in it, or only that the parent is a program that stays and could do it.
Programs that end together with what they started (sudo, timeout, npm) and scripts without a loop are looked through.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux.surroundings import base_name
from endtask.model import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.linux.surroundings import Ancestor

SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "ksh93", "mksh", "ash", "yash", "fish", "rbash"))
_KEYWORDS = frozenset(("while", "until", "for", "foreach"))
_BEFORE_A_COMMAND = frozenset(("do", "then", "else", "{", "!", "time", "eval", "exec"))
_INTERPRETERS = ("python", "node", "perl", "ruby", "php", "bun", "deno")
# They end when their command ends.
_ONCE_WORDS = """
sudo su doas runuser setpriv pkexec gosu su-exec env nice ionice chrt taskset numactl prlimit nohup timeout time
stdbuf unbuffer setsid strace ltrace perf gdb unshare nsenter chroot bwrap firejail script xvfb-run dbus-run-session
systemd-run cgexec flock direnv tini dumb-init catatonit docker-init npm npx pnpm yarn uv uvx poetry pipenv conda
make gmake ninja git ssh-agent faketime fakeroot
"""
_ONCE = frozenset(_ONCE_WORDS.split())
# A person is at work there, or it only looks after what has no parent.
_NEVER_WORDS = """
login agetty getty sshd sshd-session screen SCREEN xterm konsole alacritty kitty foot urxvt rxvt st code emacs vim
nvim nano mc ranger systemd init (sd-pam) openrc-init busybox launchd runit runsvdir s6-svscan svscan
containerd-shim conmon cron crond atd CRON dbus-daemon gnome-shell plasmashell
"""
_NEVER = frozenset(_NEVER_WORDS.split())


def shell_arguments(cmdline: Sequence[str]) -> tuple[str, str]:
    """Return what a shell was started to run.

    Returns:
        (`-c`, the text), (`script`, its path), or two empty strings: not a shell, or one that reads commands from somebody.
    """
    words = list(cmdline)
    if words and base_name(words[0]) == "busybox":
        del words[0]
    if not words or base_name(words[0]).lstrip("-") not in SHELLS:
        return "", ""
    text_follows = False
    index = 1
    while index < len(words):
        word = words[index]
        index += 1
        if word in ("-", "--"):
            break
        if word.startswith("--"):
            index += word in ("--rcfile", "--init-file")
        elif word[:1] in ("-", "+") and len(word) > 1:
            text_follows = text_follows or "c" in word
            if "s" in word and not text_follows:
                return "", ""
            index += word[-1] in "oO"  # `-o pipefail`, bash's `-O extglob`
        else:
            index -= 1
            break
    if index >= len(words):
        return "", ""
    return ("-c" if text_follows else "script"), words[index]


def loop_word(script: str) -> str:
    """Return the first keyword in *script* that begins a loop, an empty string if there is none."""
    for line in script.split("\n"):
        code = line.lstrip()
        if code.startswith("#"):
            continue
        code = code.partition(" #")[0]
        for separator in ";&|()`":
            code = code.replace(separator, "\n")
        for part in code.split("\n"):
            words = part.split()
            while words and words[0] in _BEFORE_A_COMMAND:
                del words[0]
            if words and words[0] in _KEYWORDS:
                return words[0]
    return ""


def find_loop(ancestors: Sequence[Ancestor], known: frozenset[int] = frozenset()) -> tuple[int, Manager] | None:
    """Return the distance and the ancestor that may start the process again, None if there is no sign of one.

    Args:
        ancestors: Parent, grandparent and so on.
        known: Pids of managers that have been recognised: nothing is looked for above them.
    """
    for distance, ancestor in enumerate(ancestors):
        names = _names(ancestor)
        if (
            ancestor.pid in known
            or names & _NEVER
            or ancestor.name.startswith(("tmux", "PM2 v"))
            or "term" in ancestor.name
        ):
            return None
        kind, text = shell_arguments(ancestor.cmdline)
        if kind:
            top = _not_a_subshell(ancestors, distance)
            manager = _script_loop(ancestors[top], kind, text)
            if manager is not None:
                return top, manager
        elif names & SHELLS:
            return None  # interactive: a person starts things there
        elif not names & _ONCE:
            return None  # any program could start it again, and nothing says that this one does
    return None


def _not_a_subshell(ancestors: Sequence[Ancestor], distance: int) -> int:
    """Return the distance of the shell that a subshell is a fork of: a part of the same script that ends with what it runs."""
    while distance + 1 < len(ancestors) and ancestors[distance + 1].cmdline == ancestors[distance].cmdline:
        distance += 1
    return distance


def _script_loop(ancestor: Ancestor, kind: str, text: str) -> Manager | None:
    script = text if kind == "-c" else ancestor.script
    shown = f"{base_name(ancestor.cmdline[0])} {'-c' if kind == '-c' else base_name(text)}"
    what = f"`{shown}` ({ancestor.pid})"
    stop = f"endtask stop {ancestor.pid}"
    word = loop_word(script) if script is not None else ""
    if not word:
        return None
    because = f"{what} above it runs a script with a `{word}` loop"
    return Manager("loop", shown, stop, "unknown", because, certain=False, pid=ancestor.pid)


def _names(ancestor: Ancestor) -> set[str]:
    """Return the names that a program goes by: its own, that of its file, and the script that an interpreter runs."""
    names = {ancestor.name, ancestor.name.partition(" ")[0]}
    if ancestor.cmdline:
        first = base_name(ancestor.cmdline[0])
        names.add(first.lstrip("-"))
        if first.startswith(_INTERPRETERS):
            script = next((a for a in ancestor.cmdline[1:] if not a.startswith("-")), "")
            names.add(base_name(script).removesuffix(".js").removesuffix("-cli"))
    return names
