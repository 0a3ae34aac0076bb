"""Wine for the rig: where things lie, the environment of a prefix, its display, its end (see winrig.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
RIG = ROOT / "build" / "winrig"
PYTHON = RIG / "python"
TARGETS = RIG / "targets"
TEMPLATE = RIG / "prefix"
NOTHING = subprocess.DEVNULL
# What Wine writes in place; all the rest of a prefix are its programs, which nobody changes.
PROGRAMS = frozenset(
    [
        ".acm",
        ".ax",
        ".com",
        ".cpl",
        ".dll",
        ".drv",
        ".ds",
        ".exe",
        ".inf",
        ".manifest",
        ".msstyles",
        ".nls",
        ".ocx",
        ".sys",
        ".tlb",
        ".ttf",
    ]
)


def say(text: str) -> None:
    """Tell what takes time; standard output belongs to what was asked for."""
    print(f"winrig: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """Say why it cannot be done, and end."""
    sys.exit(f"winrig: {text}")


def wine_program(name: str) -> str | None:
    """Return the 64-bit Wine program *name* (`wine` or `wineserver`), or None.

    Debian's `wine` is a shell script that complains about a missing 32-bit half, so the programs behind it come first.
    """
    names = {"wine": ("/usr/lib/wine/wine64", "wine64", "wine"), "wineserver": ("/usr/lib/wine/wineserver64", name)}
    return next((found for each in names[name] if (found := shutil.which(each))), None)


def windows_path(path: Path) -> str:
    """Return *path* as Windows programs see it: Wine's drive Z is the root folder."""
    return "Z:" + str(path).replace("/", "\\")


def environment_of(prefix: Path, display_number: int, library: Path = ROOT / "src") -> dict[str, str]:
    """Return the environment for the Windows programs of a prefix.

    Args:
        prefix: The prefix.
        display_number: Its X display; without one Wine makes no windows.
        library: The folder that `import endtask` is taken from.
    """
    settings = {
        "WINEPREFIX": str(prefix),
        "WINEARCH": "win64",
        "WINEDEBUG": os.environ.get("WINEDEBUG", "-all"),
        "WINEDLLOVERRIDES": "mscoree,mshtml=",  # no questions about Mono and Gecko
        "WINEPATH": windows_path(PYTHON),
        "DISPLAY": f":{display_number}",
        "ENDTASK_TARGETS": windows_path(TARGETS),
        "PYTHONPATH": windows_path(library),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "XAUTHORITY"}
    return {**kept, **settings}


def wine(environment: dict[str, str], *command: str) -> None:
    """Run a Wine program of the set-up.

    It starts Wine's services, which would hold for ever whatever pipe it has; so it has none.
    """
    program = [str(wine_program("wine")), *command]
    done = subprocess.run(program, env=environment, stdin=NOTHING, stdout=NOTHING, stderr=NOTHING, check=False)
    if done.returncode:
        fail(f"`{' '.join(command)}` in Wine ended with {done.returncode}")


def hold_desktop(environment: dict[str, str]) -> None:
    """Start Wine's services and its desktop, and keep the desktop.

    Wine starts its desktop below the first program that asks for one, where it would hold that program's pipes.
    It ends when nobody uses it any more; so one program, which waits for ever, uses it until the prefix ends.
    Between `wineboot` and that program there is none, and on a busy machine for so long that Wine would begin to end its services.
    """
    stay(environment)
    wine(environment, "wineboot")
    code = (
        "import ctypes; ctypes.windll.user32.GetDesktopWindow(); print(1, flush=True); ctypes.windll.kernel32.Sleep(-1)"
    )
    command = [str(wine_program("wine")), str(PYTHON / "python.exe"), "-I", "-S", "-c", code]
    holder = subprocess.Popen(
        command, env=environment, stdin=NOTHING, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert holder.stdout
    assert holder.stderr
    if not holder.stdout.readline():
        fail(f"no desktop: Python in Wine ended with {holder.wait()}: {holder.stderr.read().decode(errors='replace')}")


def stay(environment: dict[str, str]) -> None:
    """Let the prefix's wineserver stay when its last program has ended."""
    subprocess.run([str(wine_program("wineserver")), "-p"], env=environment, check=True)


def end(environment: dict[str, str]) -> None:
    """End every process of a prefix, and wait until they are gone. None there is no error."""
    server = str(wine_program("wineserver"))
    subprocess.run([server, "-k"], env=environment, stderr=NOTHING, check=False)
    subprocess.run([server, "-w"], env=environment, check=False)


def wait_end(environment: dict[str, str]) -> None:
    """Wait until a prefix has no process any more and its registry is written."""
    subprocess.run([str(wine_program("wineserver")), "-w"], env=environment, check=True)


def start_display(*, outlives_us: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """Start an X server on a free display.

    Args:
        outlives_us: Whether it may; else the kernel ends it with us (PR_SET_PDEATHSIG(2const)).

    Returns:
        The server and the number of its display.
    """
    reader, writer = os.pipe()
    command = [] if outlives_us else ["setpriv", "--pdeathsig", "TERM"]
    command += ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(
        command, pass_fds=[writer], stdin=NOTHING, stdout=NOTHING, stderr=NOTHING, start_new_session=True
    )
    os.close(writer)
    with os.fdopen(reader) as answer:
        number = answer.readline()  # comes when it accepts clients (Xserver(1), -displayfd)
    if not number:
        fail(f"Xvfb did not start; it ended with {server.wait()}")
    return server, int(number)


@contextlib.contextmanager
def display() -> Iterator[int]:
    """Give the number of an X display that ends with the block."""
    server, number = start_display()
    try:
        yield number
    finally:
        server.terminate()
        server.wait()


def exists(prefix: Path) -> bool:
    """Return whether a prefix is complete."""
    return (prefix / "system.reg").exists()


def _link_or_copy(source: str, target: str) -> None:
    """Link a program, copy everything else.

    The registry files must be copies in any case: Wine writes into one that has more links than one (server/registry.c).
    """
    if os.path.splitext(source)[1].lower() in PROGRAMS:
        try:
            os.link(source, target)
        except OSError:
            pass  # ignored: another file system, or a limit of this one; a copy does as well
        else:
            return
    shutil.copy2(source, target, follow_symlinks=False)


def fill(prefix: Path) -> None:
    """Make *prefix* as the template is: 700 MB, of which nearly all are links."""
    last = TEMPLATE / "system.reg"  # it says that the prefix is complete
    ignored = shutil.ignore_patterns(".winrig", last.name)
    shutil.copytree(TEMPLATE, prefix, symlinks=True, ignore=ignored, copy_function=_link_or_copy, dirs_exist_ok=True)
    shutil.copy2(last, prefix / last.name)
