"""Compile the programs that the Windows tests stop: `build.py FOLDER`.

The compiler is mingw-w64's gcc (a cross compiler on Linux, the native one on Windows), or what ENDTASK_CC names, such as `py -m ziglang cc`.
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
    "-municode",
    "-DUNICODE",
    "-D__USE_MINGW_ANSI_STDIO=1",
)
COMPILERS = ("x86_64-w64-mingw32-gcc", "gcc")
PROGRAMS = {
    "etwindow.exe": ("window.c", "windows"),
    "etwindowc.exe": ("window.c", "console"),
    "etconsole.exe": ("console.c", "console"),
    "etservice.exe": ("service.c", "console"),
    "ettree.exe": ("tree.c", "console"),
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
            return [path, "-Werror"] if name == COMPILERS[0] else [path]  # another compiler warns of other things
    raise FileNotFoundError(f"no C compiler: {', '.join(COMPILERS)}, or another one in ENDTASK_CC")


def build(folder: Path) -> None:
    """Compile everything into *folder*, which may not exist yet.

    Raises:
        FileNotFoundError: There is no compiler.
        subprocess.CalledProcessError: A compilation failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gcc = [*compiler(), *FLAGS]
    library = folder / "libettarget.a"  # an import library, because not every linker takes the DLL itself
    shared = ("-shared", f"-Wl,--out-implib,{library}", "-o", folder / "ettarget.dll")
    subprocess.run([*gcc, *shared, HERE / "target.c", "-luser32"], check=True)
    for name, (source, subsystem) in PROGRAMS.items():
        needed = ("-o", folder / name, HERE / source, library, "-luser32", "-ladvapi32")
        subprocess.run([*gcc, f"-Wl,--subsystem,{subsystem}", *needed], check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
