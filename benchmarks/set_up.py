"""Installs what the benchmarks measure, each part in a folder of its own: `python set_up.py --home DIR`.

endtask is built as a wheel and installed into a fresh environment, compiled, as users have it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOME = ROOT / "build" / "benchmarks"
PROGRAMS = ("nursery", "stopper", "selector", "mortal", "noticer", "bomb")
DEBIAN = {"pgrep": "procps", "pkill": "procps", "pidwait": "procps", "ps": "procps", "killall": "psmisc", "cc": "gcc"}
PSUTIL = "psutil"
NODE_PACKAGES = ("fkill-cli", "tree-kill", "ps-list")


def run(*words: str | Path) -> None:
    """Run a command that must succeed; what it says goes to standard error."""
    subprocess.run([str(w) for w in words], check=True, stdout=sys.stderr)


def debian_packages() -> None:
    """Install the peers that Debian packages, if any is missing."""
    missing = sorted({package for command, package in DEBIAN.items() if shutil.which(command) is None})
    if not missing:
        return
    if os.geteuid() or shutil.which("apt-get") is None:
        sys.exit(f"missing: {' '.join(missing)}; install them and run this again")
    run("apt-get", "install", "--yes", "--no-install-recommends", *missing)


def floor(home: Path) -> None:
    """Compile the C programs."""
    (home / "floor").mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        run("cc", "-O2", "-Wall", "-Wextra", "-o", home / "floor" / name, HERE / "floor" / f"{name}.c")


def environment(folder: Path) -> Path:
    """Make a virtual environment anew; return its Python."""
    venv.create(folder, clear=True, with_pip=True)
    return folder / "bin" / "python"


def endtask(home: Path) -> None:
    """Build the wheel and install it into an environment with nothing else in it."""
    wheels = home / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    python = environment(home / "venv")
    run(python, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
    run(python, "-m", "pip", "--quiet", "install", "--no-index", "--no-deps", *wheels.glob("endtask-*.whl"))
    run(home / "venv" / "bin" / "endtask", "version")


def psutil(home: Path) -> None:
    """Install psutil."""
    run(environment(home / "peers"), "-m", "pip", "--quiet", "install", PSUTIL)


def node(home: Path) -> None:
    """Install the peers from npm; without npm their figures are left out."""
    if shutil.which("npm") is None:
        print("no npm: fkill and tree-kill are left out", file=sys.stderr)
        return
    run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", home / "node", *NODE_PACKAGES)


def main() -> None:
    """Install what is asked for, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=HOME, help="where to install it all (default: %(default)s)")
    parser.add_argument("--only", choices=("floor", "endtask", "psutil", "node"), help="install this part anew")
    given = parser.parse_args()
    debian_packages()
    for name, part in (("floor", floor), ("endtask", endtask), ("psutil", psutil), ("node", node)):
        if given.only in (None, name):
            part(given.home)


if __name__ == "__main__":
    main()
