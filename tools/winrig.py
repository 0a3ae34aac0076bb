#!/usr/bin/env python3
"""Run Windows tests without Windows: a real CPython for Windows on Wine, built from a fresh clone.

Usage::

    tools/winrig.py build                       # everything, into build/winrig; a second call does nothing
    tools/winrig.py run -- python -c CODE       # a Windows program; its output and its exit code come through
    tools/winrig.py test [--optional] [--wheel FILE] [PYTEST-ARGUMENT...]
                                                # tests/windows, in a prefix of its own
    tools/winrig.py env                         # start a session that stays, print exports: eval "$(tools/winrig.py env)"
    tools/winrig.py end                         # end that session

`run` and `env` use the prefix that WINEPREFIX names, and make it if need be.
Without one, `run` takes a new prefix and removes it afterwards, and `env` takes build/winrig/session.
`test --optional` succeeds with one sentence where nobody expects the rig: neither as root nor with Wine installed, or not on Linux.

Decision: CPython for Windows comes from a wheel of the Python package index, because pip is a client that every contributor has.
The wheel of panda3d carries CPython 3.11 for Windows with all extension modules (`deploy_libs/`); the pure half of the standard library is that of any CPython 3.11 at hand.
Rejected: the installer from python.org, which needs another client to fetch it and runs for minutes under Wine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

import winrig_parts as parts
import winrig_wine as wine
from winrig_wine import NOTHING, PYTHON, RIG, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SESSION = "winrig.json"  # in a prefix: the display that `env` started for it
EXPORTED = ("WINEPREFIX", "WINEARCH", "WINEDEBUG", "WINEDLLOVERRIDES", "WINEPATH", "DISPLAY", "ENDTASK_TARGETS")
LEFT_BEHIND_S = 5.0
# A test that hangs shows where, and ends the run: no signal of ours would reach a Windows program as one.
NO_HANGING = ("-o", "faulthandler_timeout=300", "-o", "faulthandler_exit_on_timeout=true")


def session_of(prefix: Path) -> tuple[int, int] | None:
    """Return the pid and the display of the X server that `env` started for *prefix*, if it still runs."""
    try:
        noted = json.loads((prefix / SESSION).read_text())
        command = Path(f"/proc/{noted['pid']}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return (noted["pid"], noted["display"]) if command.startswith(b"Xvfb\0-displayfd") else None


@contextlib.contextmanager
def in_wine(library: Path = ROOT / "src") -> Iterator[dict[str, str]]:
    """Give the environment of a prefix with a display: the session of WINEPREFIX if there is one, or one for this block."""
    given = os.environ.get("WINEPREFIX")
    with contextlib.ExitStack() as stack:
        prefix = Path(given or stack.enter_context(tempfile.TemporaryDirectory(prefix="winrig-"))).absolute()
        if not wine.exists(prefix):
            wine.fill(prefix)
        session = session_of(prefix)
        if session is not None:
            yield wine.environment_of(prefix, session[1], library)
            return
        environment = wine.environment_of(prefix, stack.enter_context(wine.display()), library)
        stack.callback(wine.end, environment)
        wine.hold_desktop(environment)
        yield environment


def copy_output(source: IO[bytes], sink: IO[bytes]) -> None:
    """Copy as it comes, until the end of *source*."""
    while chunk := os.read(source.fileno(), 65536):
        sink.write(chunk)
        sink.flush()


def run_program(environment: dict[str, str], words: Sequence[str]) -> int:
    """Run a Windows program.

    Its output goes through pipes: with a file there, Python for Windows does not start under Wine.

    Returns:
        The low 8 bits of its exit code; more does not fit into that of a Unix process.
    """
    program = str(PYTHON / f"{words[0]}.exe") if words[0] in {"python", "pythonw"} else words[0]
    process = subprocess.Popen(
        [str(wine.wine_program("wine")), program, *words[1:]],
        env=environment,
        stdin=None if stat.S_ISFIFO(os.fstat(0).st_mode) else NOTHING,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    pairs = ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer))
    copiers = [threading.Thread(target=copy_output, args=pair, daemon=True) for pair in pairs]
    for copier in copiers:
        copier.start()
    code = process.wait()
    for copier in copiers:
        copier.join(LEFT_BEHIND_S)  # a child that was left behind may hold the pipe for ever
    return code


def run(words: Sequence[str]) -> int:
    """Run one program."""
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        wine.fail("run what? For example: tools/winrig.py run -- python --version")
    parts.build()
    with in_wine() as environment:
        return run_program(environment, words)


def test(words: Sequence[str]) -> int:
    """Run tests/windows with the Windows Python."""
    words = list(words)
    wheel = None
    while words[:1] in (["--optional"], ["--wheel"]):
        option = words.pop(0)
        if option == "--wheel":
            wheel = Path(words.pop(0)).absolute()
        elif reason := parts.not_expected():
            print(f"the Windows tests did not run: {reason}")
            return 0
    parts.build()
    os.environ.pop("WINEPREFIX", None)  # a prefix of our own
    os.chdir(ROOT)  # pytest's configuration lies there
    if not any(Path(word.partition("::")[0]).exists() for word in words):  # options alone
        words.append("tests/windows")
    with tempfile.TemporaryDirectory(prefix="winrig-library-") as folder:
        if wheel:
            install = ("-m", "pip", "--quiet", "install", "--no-index", "--no-deps", "--no-compile", "--target", folder)
            parts.run(sys.executable, *install, wheel)
        with in_wine(Path(folder) if wheel else ROOT / "src") as environment:
            return run_program(environment, ["python", "-m", "pytest", *NO_HANGING, *words])


def start_session() -> int:
    """Start a display and Wine's services for a prefix, and print what a shell needs to use them."""
    parts.build()
    prefix = Path(os.environ.get("WINEPREFIX") or RIG / "session").absolute()
    if not wine.exists(prefix):
        wine.fill(prefix)
    session = session_of(prefix)
    if session is None:
        server, number = wine.start_display(outlives_us=True)
        session = server.pid, number
        (prefix / SESSION).write_text(json.dumps({"pid": server.pid, "display": number}))
        environment = wine.environment_of(prefix, number)
        wine.hold_desktop(environment)
    settings = wine.environment_of(prefix, session[1])
    for name in EXPORTED:
        print(f"export {name}={shlex.quote(settings[name])}")
    return 0


def end_session() -> int:
    """End what `start_session` started, and nothing else."""
    prefix = Path(os.environ.get("WINEPREFIX") or RIG / "session").absolute()
    session = session_of(prefix)
    if session is not None:
        wine.end(wine.environment_of(prefix, session[1]))
        os.kill(session[0], signal.SIGTERM)
        (prefix / SESSION).unlink()
    return 0


def main() -> int:
    """Do what the first word says."""
    command, *words = sys.argv[1:] or [""]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))  # so that everything that was started is ended
    if command == "run":
        return run(words)
    if command == "test":
        return test(words)
    if command == "env":
        return start_session()
    if command == "end":
        return end_session()
    if command == "build":
        parts.build()
        return 0
    print(__doc__)
    return 0 if command in {"-h", "--help"} else 2


if __name__ == "__main__":
    sys.exit(main())
