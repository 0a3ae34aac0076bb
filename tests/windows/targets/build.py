"""Compile the programs that the Windows tests stop: `build.py FOLDER`.

The compiler is mingw-w64's gcc (a cross compiler on Linux, the native one on Windows), or what ENDTASK_CC names.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = (
    "-O1",
    "-s",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-municode",
    "-DUNICODE",
    "-D_WIN32_WINNT=0x0601",
    "-D__USE_MINGW_ANSI_STDIO=1",
)
COMPILERS = ("x86_64-w64-mingw32-gcc", "gcc")
PROGRAMS = {
    "etwindow.exe": ("window.c", ("-mwindows",)),
    "etwindowc.exe": ("window.c", ("-mconsole",)),
    "etconsole.exe": ("console.c", ("-mconsole",)),
    "etservice.exe": ("service.c", ("-mconsole",)),
    "ettree.exe": ("tree.c", ("-mconsole",)),
}


def compiler() -> list[str]:
    """Return the words that start the compiler.

    Raises:
        FileNotFoundError: There is none.
    """
    if chosen := os.environ.get("ENDTASK_CC"):
        return shlex.split(chosen, posix=os.sep == "/")
    for name in COMPILERS:
        if path := shutil.which(name):
            return [path]
    raise FileNotFoundError(f"no C compiler: {', '.join(COMPILERS)}, or another one in ENDTASK_CC")


def build(folder: Path) -> None:
    """Compile everything into *folder*, which may not exist yet.

    Raises:
        FileNotFoundError: There is no compiler.
        subprocess.CalledProcessError: A compilation failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gcc = [*compiler(), *FLAGS]
    shared = folder / "ettarget.dll"
    subprocess.run([*gcc, "-shared", "-o", shared, HERE / "target.c"], check=True)
    for name, (source, flags) in PROGRAMS.items():
        subprocess.run([*gcc, *flags, "-o", folder / name, HERE / source, shared, "-luser32", "-ladvapi32"], check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
