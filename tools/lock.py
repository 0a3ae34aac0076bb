"""Write the pinned requirement files: names, versions and hashes, no index address.

Usage: `python tools/lock.py [--keep] python3.10 python3.11 python3.12 python3.13`, the oldest supported Python first.
With `--keep` every package stays in the version that it has.

Decision: one version of every package for all Pythons, resolved on the oldest, so that everybody checks with the same tools.
A package that only some Pythons need gets a marker.
The hashes are those of the wheels that pip would take on Linux (x86-64 and arm64, glibc), macOS (arm64) and Windows (x86-64) for each Python version; files are installed with `--require-hashes --no-deps`, so pip resolves nothing.
Pip resolves for the system that it runs on, so what only Windows needs is named here (`WINDOWS_ONLY`).
Rejected: a lock file of a single tool, because it would write index addresses into the repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
LINUX = ("_2_28", "_2_17", "2014", "_2_5", "1")
MACHINES = {
    "Linux, x86-64": tuple(f"manylinux{tag}_x86_64" for tag in LINUX),
    "Linux, arm64": tuple(f"manylinux{tag}_aarch64" for tag in LINUX),
    "macOS, arm64": tuple(
        f"macosx_{major}_0_{kind}" for major in range(14, 10, -1) for kind in ("arm64", "universal2")
    ),
    "Windows, x86-64": ("win_amd64",),
}
WINDOWS_ONLY = ("cffi", "colorama", "pycparser", "tzdata")  # of trio; of click, pytest and sphinx; of cffi; of celery
WINDOWS_TESTS = ("colorama", "hypothesis", "jsonschema", "pytest", "rich")  # what tests/windows imports
RIG = "panda3d"  # see tools/winrig.py
HEAD = "# Made by tools/lock.py; do not edit. Install with: pip install --require-hashes --no-deps -r {name}\n"

Pins = dict[str, str]


def pip_report(python: str, *arguments: str) -> dict[str, tuple[str, str]]:
    """Ask pip what it would install, from the default index only.

    Args:
        python: The interpreter whose pip is asked.
        arguments: Options and requirements.

    Returns:
        Normalised name -> (version, sha256 of the wheel).
    """
    environment = {k: v for k, v in os.environ.items() if k not in {"PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"}}
    environment["PIP_CONFIG_FILE"] = os.devnull  # a mirror of this machine must not decide what others install
    command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--report", "-", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    result = {}
    for item in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        result[name] = (item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"])
    return result


def version_of(python: str) -> str:
    """Return the interpreter's version as `3.10`."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def resolve(pythons: list[str], wanted: list[str], known: Pins) -> dict[str, Pins]:
    """Resolve *wanted* on every Python, the later ones bound to the versions of the earlier ones.

    Args:
        pythons: Interpreters, the oldest first.
        wanted: Requirements.
        known: Versions that are decided already; those that are found here are added.

    Returns:
        Python version -> (name -> version).
    """
    result: dict[str, Pins] = {}
    for python in pythons:
        bounds = ROOT / "tools" / ".bounds.txt"
        bounds.write_text("".join(f"{n}=={v}\n" for n, v in known.items()))
        try:
            found = pip_report(python, "-c", str(bounds), *wanted)
        finally:
            bounds.unlink()
        result[version_of(python)] = {n: v for n, (v, _) in found.items()}
        known.update(result[version_of(python)])
    return result


def hashes(python: str, pins: dict[str, Pins], machines: Iterable[str] = MACHINES) -> dict[str, set[str]]:
    """Return the hashes of the wheels for every Python and machine."""
    result: dict[str, set[str]] = {}
    for version, packages in pins.items():
        for machine in machines:
            options = ["--no-deps", "--python-version", version, "--implementation", "cp"]
            options += [f"--platform={p}" for p in MACHINES[machine]]
            wanted = [
                f"{n}=={v}" for n, v in packages.items() if n not in WINDOWS_ONLY or machine.startswith("Windows")
            ]
            found = pip_report(python, *options, *wanted)
            for name, (_, digest) in found.items():
                result.setdefault(name, set()).add(digest)
    return result


def marker(versions: list[str], name: str, pins: dict[str, Pins]) -> str:
    """Return the environment marker for a package that only some Pythons need, or an empty string."""
    if name in WINDOWS_ONLY and len(versions) > 1:
        return ' ; sys_platform == "win32"'
    having = [v for v in versions if name in pins[v]]
    if having == versions:
        return ""
    if having == versions[: len(having)]:
        return f' ; python_version < "{versions[len(having)]}"'
    return f' ; python_version >= "{having[0]}"'


def write(name: str, pins: dict[str, Pins], digests: dict[str, set[str]]) -> None:
    """Write one requirement file, sorted, one hash per line."""
    versions = list(pins)
    merged: Pins = {}
    for version in reversed(versions):
        merged.update(pins[version])
    lines = [HEAD.format(name=f"tools/{name}")]
    for package in sorted(merged):
        text = f"{package}=={merged[package]}{marker(versions, package, pins)}"
        parts = [text, *(f"    --hash=sha256:{d}" for d in sorted(digests[package]))]
        lines.append(" \\\n".join(parts) + "\n")
    (ROOT / "tools" / name).write_text("".join(lines))
    print(f"{name}: {len(merged)} packages")


def pinned() -> Pins:
    """Return the versions that are pinned now."""
    names = ("constraints.txt", "constraints-winrig.txt")
    text = "".join((ROOT / "tools" / name).read_text() for name in names)
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, re.MULTILINE))


def lock_windows(pythons: list[str], check: Pins, known: Pins) -> None:
    """Lock what the rig installs: the packages of tests/windows, and the one that carries Python. It is a Python 3.11."""
    python = next(p for p in pythons if version_of(p) == "3.11")
    pins = resolve([python], [f"{name}=={check[name]}" for name in WINDOWS_TESTS], dict(known))
    write("constraints-windows.txt", pins, hashes(pythons[-1], pins, ["Windows, x86-64"]))
    bound = f"{RIG}=={known[RIG]}" if RIG in known else RIG
    found = pip_report(pythons[-1], "--no-deps", "--python-version=3.11", "--platform=win_amd64", bound)
    version, digest = found[RIG]
    write("constraints-winrig.txt", {"3.11": {RIG: version}}, {RIG: {digest}})


def main() -> None:
    """Lock what `./check`, `./demo` and the Windows rig need."""
    pythons = [word for word in sys.argv[1:] if word != "--keep"] or [sys.executable]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    known: Pins = pinned() if "--keep" in sys.argv[1:] else {}
    check = resolve(pythons, [*extras["dev"], *WINDOWS_ONLY], known)
    digests = hashes(pythons[-1], check)
    write("constraints.txt", check, digests)
    # What the demo needs is a part of the above, in the same versions.
    demo = resolve(pythons, [*project["build-system"]["requires"], *extras["live"]], known)
    write("constraints-demo.txt", demo, digests)
    lock_windows(pythons, check["3.11"], known)


if __name__ == "__main__":
    main()
