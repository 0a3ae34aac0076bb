"""`--report FILE`: the report as JUnit XML, Markdown or JSON, by the file's suffix.

Decision: the file is opened under a temporary name before anything is sent, so that a wrong path is a usage error and not a surprise after the stop,
and is put in its place in one step at the end, so that nobody reads half of it.
"""

from __future__ import annotations

import os

from endtask._words import called
from endtask.cli.console import shown
from endtask.cli.render import report_lines
from endtask.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.cli.console import Line
    from endtask.model import Missing, Report, TargetReport

SUFFIXES = (".xml", ".md", ".json")


class ReportFile:
    """A report file to be: opened at once, filled at the end.

    Raises:
        UsageError: The suffix is none of ours, or the file cannot be created.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.suffix = os.path.splitext(path)[1].lower()
        if self.suffix not in SUFFIXES:
            raise UsageError(
                f"`{path}` does not say which kind of report",
                hint="end it in `.xml` (JUnit), `.md` (Markdown) or `.json`",
            )
        if os.path.isdir(path):
            raise UsageError(f"`{path}` is a directory", hint="name a file in it")
        self._temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
        try:
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise UsageError(
                f"the report `{path}` cannot be written: {error.strerror}",
                hint="nothing was sent; name a file in a directory that you may write to",
            ) from error

    def write(self, report: Report, verb: str) -> None:
        """Fill the file and put it in its place.

        Raises:
            OSError: It could not be written; a file that stood there before is untouched.
        """
        with open(self._fd, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            self._fd = -1  # the file object closes it
            file.write(formatted(report, verb, self.suffix))
        os.replace(self._temporary, self.path)
        self._temporary = ""

    def close(self) -> None:
        """Remove what is left of a report that was not written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary:
            if os.path.exists(self._temporary):
                os.unlink(self._temporary)
            self._temporary = ""


class ReportFiles:
    """All report files of a run, which is told about all of them or about none.

    Raises:
        UsageError: One of them cannot be; none is left then.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._files: list[ReportFile] = []
        try:
            for path in {os.path.abspath(p): p for p in paths}.values():
                self._files.append(ReportFile(path))
        except UsageError:
            self.close()
            raise

    def write(self, report: Report, verb: str) -> list[str]:
        """Write them, and return a sentence for each that could not be written."""
        faults = []
        for file in self._files:
            try:
                file.write(report, verb)
            except OSError as error:
                faults.append(f"the report `{file.path}` could not be written: {error.strerror}")
        return faults

    def close(self) -> None:
        """Remove what is left of reports that were not written."""
        for file in self._files:
            file.close()


def formatted(report: Report, verb: str, suffix: str) -> str:
    """Return the text of a report file."""
    if suffix == ".json":
        import json

        return json.dumps(report.to_json(), indent=2) + "\n"
    return junit(report, verb) if suffix == ".xml" else markdown(report, verb)


# --------------------------------------------------------------------------- JUnit


def junit(report: Report, verb: str) -> str:
    """Return JUnit XML: one test case for each target and each WHAT that matched nothing.

    Not stopped is a failure; what could not be tried or proved is an error; nothing to stop with `--missing-ok` is skipped.
    """
    cases = [_case(t, report, verb) for t in report.targets] + [_missing_case(m, report, verb) for m in report.missing]
    failures = sum("<failure" in c for c in cases)
    errors = sum("<error" in c for c in cases)
    skipped = sum("<skipped" in c for c in cases)
    head = f'<testsuite name="endtask {verb}" tests="{len(cases)}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="{report.elapsed_s:.3f}">'
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>", ""])


def _case(target: TargetReport, report: Report, verb: str) -> str:
    head = f'  <testcase classname="endtask.{verb}" name={_attribute(f"{target.what}: {called(target.ref.pid, target.name)}")} time="{target.elapsed_s:.3f}"'
    good = ("stopped", "already-gone", "forced") if report.force_ok else ("stopped", "already-gone")
    text = _block(target, report, verb)
    if target.outcome in good:
        return f"{head}><system-out>{_text(text)}</system-out></testcase>"
    kind = "error" if target.outcome in ("unproven", "not-permitted", "unreachable") else "failure"
    return f'{head}><{kind} type="{target.outcome}" message={_attribute(text.splitlines()[0])}>{_text(text)}</{kind}></testcase>'


def _missing_case(missing: Missing, report: Report, verb: str) -> str:
    head = f'  <testcase classname="endtask.{verb}" name={_attribute(missing.what)} time="0.000"'
    if missing.code == "not-permitted":
        return f'{head}><error type="not-permitted" message={_attribute(missing.text)}/></testcase>'
    kind = "skipped" if report.missing_ok else "failure"
    return f"{head}><{kind} message={_attribute(missing.text)}{'' if report.missing_ok else f' type={_attribute(missing.code)}'}/></testcase>"


def _block(target: TargetReport, report: Report, verb: str) -> str:
    """Return the words of one target, with mechanisms."""
    alone = type(report)((target,), (), target.elapsed_s, report.cancelled, report.missing_ok, report.force_ok)
    return "\n".join(_plain(line) for line in report_lines(alone, verbose=True, verb=verb)) or target.outcome


def _plain(line: Line) -> str:
    return shown(line if isinstance(line, str) else "".join(text for _, text in line))


def _text(text: str) -> str:
    # `shown` has made everything printable that XML 1.0 does not allow; only surrogates and control characters are forbidden there.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _attribute(text: str) -> str:
    return '"' + _text(shown(text)).replace('"', "&quot;") + '"'


# --------------------------------------------------------------------------- Markdown


def markdown(report: Report, verb: str) -> str:
    """Return Markdown: a table of targets, and a block for each that did not simply stop."""
    lines = [f"# endtask {verb}", "", f"Exit code {report.exit_code}, {report.elapsed_s:.2f} s.", ""]
    if report.targets:
        lines += ["| what | process | outcome | time | processes | evidence |", "|---|---|---|---|---|---|"]
    for t in report.targets:
        gone = sum(m.exited for m in t.members)
        evidence = ", ".join(dict.fromkeys(f"{e.mechanism} ({e.strength})" for e in t.evidence)) or "none"
        cells = (
            t.what,
            called(t.ref.pid, t.name),
            t.outcome,
            f"{t.elapsed_s:.2f} s",
            f"{gone} of {len(t.members)} gone",
            evidence,
        )
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    for m in report.missing:
        lines += ["", f"- {_cell(m.what)}: {_cell(m.text)}"]
    for t in report.targets:
        if t.outcome not in ("stopped", "already-gone"):
            # An indented block: nothing in it is read as Markdown, whatever a process is called.
            lines += [
                "",
                f"## {_cell(t.name)} {t.ref.pid}",
                "",
                *(f"    {line}" for line in _block(t, report, verb).splitlines()),
            ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    special = "\\`*_[]<>|#&"
    return "".join(f"\\{c}" if c in special else c for c in shown(text))
