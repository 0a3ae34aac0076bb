#!/usr/bin/env python3
r"""Run on a real Windows what Wine cannot show, and print a report to paste into an issue.

Usage, in a clone, with any Python >= 3.10 for Windows::

    py -m venv .venv-check
    .venv-check\Scripts\python -m pip install --require-hashes --no-deps -r tools/constraints.txt
    .venv-check\Scripts\python tools/windows_report.py > report.md

It needs a C compiler for the programs that it stops: gcc of mingw-w64, or without an installation
`.venv-check\Scripts\python -m pip install ziglang` and `set ENDTASK_CC=.venv-check\Scripts\python -m ziglang cc`.
`--tests` runs the tests alone, `--questions` the questions alone.

Two parts: the tests that carry the mark `needs_windows`, and the questions of tests/windows/questions.py, to which no document has the answer.
Nothing is done to a process that was not started here.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32", "this report is about Windows"

import contextlib
import ctypes
import os
import platform
import time
import winreg
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
VERSION_KEY = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
VERSION_VALUES = ("ProductName", "EditionID", "DisplayVersion", "CurrentBuild", "UBR")


# --------------------------------------------------------------------------- the system


def system() -> Iterator[tuple[str, str]]:
    """Say on what the report was made."""
    from tests.windows.lab import UNDER_WINE

    if UNDER_WINE:
        yield "Wine", "**this is not Windows: the report proves only that it can be made**"
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, VERSION_KEY) as key:
        for name in VERSION_VALUES:
            with contextlib.suppress(FileNotFoundError):  # UBR and DisplayVersion are younger than others
                yield name, str(winreg.QueryValueEx(key, name)[0])
    yield "machine", platform.machine()
    yield "Python", f"{sys.version} in {'a virtual environment' if sys.prefix != sys.base_prefix else 'its own folder'}"
    yield "elevated", "yes" if ctypes.windll.shell32.IsUserAnAdmin() else "no"
    session = ctypes.c_ulong()
    ctypes.windll.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session))
    yield "session", str(session.value)
    yield "terminal", "Windows Terminal" if "WT_SESSION" in os.environ else os.environ.get("TERM_PROGRAM", "unknown")
    yield "code pages", f"ANSI {ctypes.windll.kernel32.GetACP()}, OEM {ctypes.windll.kernel32.GetOEMCP()}"
    yield "continuous integration", os.environ.get("GITHUB_WORKFLOW", "no")


# --------------------------------------------------------------------------- the tests


class Collector:
    """A pytest plugin that keeps how each test ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.results: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of a test's three phases."""
        known = self.results.get(report.nodeid)
        if known is None or report.outcome == "failed" or (report.outcome == "skipped" and known[0] == "passed"):
            self.results[report.nodeid] = (report.outcome, self._reason(report))

    @staticmethod
    def _reason(report: pytest.TestReport) -> str:
        """Return why it did not pass."""
        if report.outcome == "passed":
            return ""
        if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
            return report.longrepr[2].removeprefix("Skipped: ")
        return report.longreprtext


def run_tests() -> dict[str, tuple[str, str]]:
    """Run what needs a real Windows; pytest's own words go to the standard error."""
    collector = Collector()
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main(["-m", "needs_windows", "-q", str(ROOT / "tests" / "windows")], plugins=[collector])
    return collector.results


# --------------------------------------------------------------------------- the report


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\r", "").replace("\n", " / ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def print_tests() -> None:
    """Print the first part."""
    results = run_tests()
    short = [(name, outcome, why.strip().splitlines()[-1] if why else "") for name, (outcome, why) in results.items()]
    print("## Tests that need a real Windows\n")
    print(table(("test", "result", "why"), short) if short else "None was found.\n")
    for name, (outcome, why) in results.items():
        if outcome == "failed":
            print(f"<details><summary>{name}</summary>\n\n```\n{why}\n```\n</details>\n")


def print_questions() -> None:
    """Print the second part; a question that cannot be asked is an answer, too."""
    from tests.windows.lab import Lab, build_targets
    from tests.windows.questions import QUESTIONS

    print("## Questions\n")
    targets = build_targets()
    for number, question in enumerate(QUESTIONS, 1):
        print(f"{number}. {question.__name__}", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        rows: list[tuple[str, str]] = []
        with Lab(targets) as lab:
            try:
                rows.extend((row.case, row.result) for row in question(lab))
            except (OSError, AssertionError, ValueError) as error:
                rows.append(("it could not be asked to its end", f"{type(error).__name__}: {error}"))
        doc = (question.__doc__ or "").strip().splitlines()[0]
        print(f"### {number}. {doc}\n\n{table(('case', 'result'), rows)}")
        print(f"_{time.perf_counter() - begin:.0f} s_\n", flush=True)


def main() -> int:
    """Print the report."""
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    os.environ["PYTHONPATH"] = str(ROOT / "src")  # for the commands that the tests start
    os.chdir(ROOT)
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # it is a text stream here
    chosen = [word for word in sys.argv[1:] if word in {"--tests", "--questions"}]
    if sys.argv[1:] != chosen:
        print(__doc__, file=sys.stderr)
        return 2
    print("# endtask on a real Windows\n")
    print(table(("system", ""), system()), flush=True)
    if not chosen or "--tests" in chosen:
        print_tests()
    if not chosen or "--questions" in chosen:
        print_questions()
    return 0


if __name__ == "__main__":
    sys.exit(main())
