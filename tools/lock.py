"""Write the pinned requirement files: names, versions and hashes, no index address.

Usage: `python tools/lock.py python3.10 python3.11 python3.12 python3.13`, the oldest supported Python first.

Decision: one version of every package for all Pythons, resolved on the oldest, so that everybody checks with the same tools.
A package that only some Pythons need gets a marker.
The hashes are those of the wheels that pip would take on Linux (x86-64 and arm64, glibc) for each Python version; files are installed with `--require-hashes --no-deps`, so pip resolves nothing.
Rejected: a lock file of a single tool, because it would write index addresses into the repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = tuple(
    f"manylinux{tag}_{machine}" for machine in ("x86_64", "aarch64") for tag in ("_2_28", "_2_17", "2014", "_2_5", "1")
)
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


def hashes(python: str, pins: dict[str, Pins]) -> dict[str, set[str]]:
    """Return the hashes of the wheels for every supported Python and platform."""
    result: dict[str, set[str]] = {}
    for version, packages in pins.items():
        for machine in ("x86_64", "aarch64"):
            options = ["--no-deps", "--python-version", version, "--implementation", "cp"]
            options += [f"--platform={p}" for p in PLATFORMS if p.endswith(machine)]
            found = pip_report(python, *options, *(f"{n}=={v}" for n, v in packages.items()))
            for name, (_, digest) in found.items():
                result.setdefault(name, set()).add(digest)
    return result


def marker(versions: list[str], name: str, pins: dict[str, Pins]) -> str:
    """Return the environment marker for a package that only some Pythons need, or an empty string."""
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


def main() -> None:
    """Lock both sets: what `./check` needs and what `./demo` needs."""
    pythons = sys.argv[1:] or [sys.executable]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    known: Pins = {}
    check = resolve(pythons, extras["dev"], known)
    digests = hashes(pythons[-1], check)
    write("constraints.txt", check, digests)
    # What the demo needs is a part of the above, in the same versions.
    demo = resolve(pythons, [*project["build-system"]["requires"], *extras["live"]], known)
    write("constraints-demo.txt", demo, digests)


if __name__ == "__main__":
    main()
