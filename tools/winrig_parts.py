"""The parts of the rig and how each is made (see winrig.py): Python, its packages, a Wine prefix, the targets.

A part is made anew when one of its inputs changed, and only then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import winrig_wine as wine
from winrig_wine import NOTHING, PYTHON, RIG, ROOT, TARGETS, TEMPLATE, fail, say

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = PYTHON / "Lib" / "site-packages"
TARGET_SOURCES = ROOT / "tests" / "windows" / "targets"
GCC = "x86_64-w64-mingw32-gcc"
MINGW = "gcc-mingw-w64-x86-64-win32 binutils-mingw-w64-x86-64"
FOR_WINDOWS = ("--only-binary=:all:", "--platform=win_amd64", "--python-version=3.11", "--implementation=cp")
NOT_COPIED = ("site-packages", "dist-packages", "test", "tests", "lib-dynload", "config-*", "idlelib", "ensurepip")
BESIDE_THE_PROGRAM = ("python311.dll", "vcruntime140.dll")
HEADER = "#include <windows.h>\nint Py_Main(int, wchar_t **);\n"
MAINS = {  # all that python.exe and pythonw.exe are: Programs/python.c and PC/WinMain.c of CPython
    "python": HEADER + "int wmain(int argc, wchar_t **argv) { return Py_Main(argc, argv); }\n",
    "pythonw": HEADER + "int WINAPI wWinMain(HINSTANCE instance, HINSTANCE before, wchar_t *line, int show)\n"
    "{ return Py_Main(__argc, __wargv); }\n",
}
REGISTRY = (
    # No window manager runs there, and a window that waits for one takes seconds to be destroyed.
    (r"HKCU\Software\Wine\X11 Driver", "Managed", "N"),
    # A program that crashes shall die, not ask whether somebody wants to debug it.
    (r"HKCU\Software\Wine\WineDbg", "ShowCrashDialog", "0"),
)


# ---------------------------------------------------------------- what the machine must have


def stdlib_311() -> Path | None:
    """Return the standard library's folder of a CPython 3.11, or None."""
    ask = "import sys, sysconfig, asyncio; assert sys.version_info[:2] == (3, 11); print(sysconfig.get_path('stdlib'))"
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin"]
    for program in [sys.executable, *(f"{folder}/python3.11" for folder in folders)]:
        if os.access(program, os.X_OK):
            done = subprocess.run([program, "-I", "-c", ask], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return Path(done.stdout.strip())
    return None


def debian_packages(lacking: dict[str, str]) -> list[str]:
    """Return the Debian packages that have it, each once."""
    return list(dict.fromkeys(" ".join(lacking.values()).split()))


def missing() -> dict[str, str]:
    """Return what the machine lacks, and the Debian packages that have it."""
    wanted = (
        ("Wine", "wine wine64", wine.wine_program("wine")),
        ("wineserver", "wine wine64", wine.wine_program("wineserver")),
        ("Xvfb", "xvfb", shutil.which("Xvfb")),
        ("mingw-w64's gcc", MINGW, shutil.which(GCC)),
        ("CPython 3.11", "python3.11 libpython3.11-stdlib", stdlib_311()),
    )
    return {name: packages for name, packages, found in wanted if not found}


def not_expected() -> str:
    """Return why nobody expects the rig to work on this machine, or an empty string.

    Empty does not mean that it works: as root, or where Wine is installed, whatever is missing is an error.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the rig needs Linux on x86-64"
    if os.geteuid() != 0 and wine.wine_program("wine") is None:
        packages = " ".join(debian_packages(missing()))
        return f"Wine is not installed; on Debian 12, as root: apt-get install --no-install-recommends {packages}"
    return ""


def install_packages() -> None:
    """Install what is missing, where that can be done: on Debian and its kin, as root."""
    lacking = missing()
    if not lacking:
        return
    packages = debian_packages(lacking)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        hint = f"apt-get install --no-install-recommends {' '.join(packages)}"
        fail(f"missing: {', '.join(lacking)}\n\nhint: on Debian 12, as root: {hint}")
    say(f"installing {' '.join(packages)}")
    # A package that installs a server starts it; this policy says no to that (invoke-rc.d(8)). It goes away with us.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages)
    finally:
        if ours:
            policy.unlink()
    if lacking := missing():
        fail(f"still missing after apt-get: {', '.join(lacking)}")


def run(*command: str | Path) -> None:
    """Run a command of the build; its output is shown only if it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdin=NOTHING, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        fail(f"`{' '.join(map(str, command))}` ended with {done.returncode}\n{output}")


def pip(command: str, *arguments: str | Path) -> None:
    """Run pip for the Windows Python, from pinned files only."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", *FOR_WINDOWS)
    run(sys.executable, "-m", "pip", command, *options, *arguments)


# ---------------------------------------------------------------- the parts


def part(folder: Path, inputs: object, make: Callable[[Path], None]) -> None:
    """Make a part anew if its inputs changed: beside its place first, then moved there, so that it is never half there."""
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    stamp = folder / ".winrig"
    if stamp.exists() and stamp.read_text() == digest:
        return
    say(f"making {folder.relative_to(ROOT)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new = Path(temporary) / "new"
        make(new)
        (new / ".winrig").write_text(digest)
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        new.rename(folder)


def make_python(new: Path) -> None:
    """Put together the programs, the DLLs and the standard library."""
    stdlib = stdlib_311()
    assert stdlib is not None, "missing() has looked"
    shutil.copytree(stdlib, new / "Lib", ignore=shutil.ignore_patterns(*NOT_COPIED, "*.opt-[12].pyc"))
    (new / "DLLs").mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        pip("download", "--dest", temporary, "-r", ROOT / "tools" / "constraints-winrig.txt")
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpack(archive, new)
        compile_python(new, Path(temporary))


def unpack(archive: zipfile.ZipFile, new: Path) -> None:
    """Take CPython out of the wheel; its `api-ms-win-*.dll` stay there, because Wine has its own."""
    for member in archive.namelist():
        folder, _, name = member.rpartition("/")
        if folder == "deploy_libs" and not name.lower().startswith("api-ms-win-"):
            beside = name.lower() in BESIDE_THE_PROGRAM
            place = new / name.lower() if beside else new / "DLLs" / name
            place.write_bytes(archive.read(member))


def compile_python(new: Path, work: Path) -> None:
    """Compile the two programs, and python3.dll, which extensions of the stable ABI ask for."""
    dll = new / "python311.dll"
    for name, source in MAINS.items():
        (work / f"{name}.c").write_text(source)
        subsystem = "-mwindows" if name == "pythonw" else "-mconsole"
        run(GCC, "-O1", "-s", "-municode", subsystem, "-o", new / f"{name}.exe", work / f"{name}.c", dll)
    objdump = GCC.replace("gcc", "objdump")
    listing = subprocess.run([objdump, "-p", dll], stdout=subprocess.PIPE, check=True, text=True).stdout
    table = listing.partition("[Ordinal/Name Pointer] Table")[2]
    names = [words[-1] for line in table.splitlines() if (words := line.split()) and words[0].startswith("[")]
    forwards = work / "python3.def"
    forwards.write_text("LIBRARY python3.dll\nEXPORTS\n" + "".join(f"{n}=python311.{n}\n" for n in names))
    run(GCC, "-shared", "-nostdlib", "-s", "-o", new / "python3.dll", forwards)


def make_packages(new: Path) -> None:
    """Install what the tests import."""
    pip("install", "--no-compile", "--target", new, "-r", ROOT / "tools" / "constraints-windows.txt")


def make_targets(new: Path) -> None:
    """Compile the programs that the tests stop."""
    run(sys.executable, TARGET_SOURCES / "build.py", new)


def make_prefix(new: Path) -> None:
    """Make the prefix that every test run gets a copy of."""
    new.mkdir()
    with wine.display() as number:
        environment = wine.environment_of(new, number)
        try:
            wine.wine(environment, "wineboot", "-i")
            for key, name, value in REGISTRY:
                wine.wine(environment, "reg", "add", key, "/v", name, "/d", value, "/f")
            wine.wine(environment, "wineboot", "-e")  # ends its programs in order
            wine.wait_end(environment)
        finally:
            wine.end(environment)


def build() -> None:
    """Bring every part up to date."""
    if reason := not_expected():
        fail(reason)
    install_packages()
    RIG.mkdir(parents=True, exist_ok=True)
    pins = {name: (ROOT / "tools" / f"constraints-{name}.txt").read_text() for name in ("winrig", "windows")}
    asked = subprocess.run([str(wine.wine_program("wine")), "--version"], stdout=subprocess.PIPE, check=True, text=True)
    sources = [(s.name, s.read_text()) for s in sorted(TARGET_SOURCES.glob("*")) if s.suffix in {".c", ".h"}]
    builder = (TARGET_SOURCES / "build.py").read_text()
    with (RIG / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once would throw each other's parts away
        part(PYTHON, [pins["winrig"], MAINS, NOT_COPIED, str(stdlib_311())], make_python)
        part(PACKAGES, pins["windows"], make_packages)
        part(TEMPLATE, [asked.stdout, REGISTRY], make_prefix)
        part(TARGETS, [sources, builder], make_targets)
