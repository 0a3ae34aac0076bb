"""Run the transcripts of the documentation again and write what really came out.

Usage: `python tools/transcripts.py [--check] FILE...` with `endtask` on PATH; run by hand after a change of the output.
With `--check` nothing is written, and the exit status is 1 if what came out differs in more than numbers, names of users and ancestors.

A transcript is a console block after a comment that holds its commands::

    <!-- transcript
    python3 -m http.server 3000 &
    until ss -ltn | grep -q :3000
    endtask stop :3000
    -->

Every line is typed into one interactive bash on a terminal of its own and is shown with what it printed.
A line that begins with `until` waits for that condition, one that begins with `@` is typed too; both stay hidden.
`$DOCS` is the folder of the documentation.

Decision: only pages whose programs everybody has are checked by a test; what the words mean is tested elsewhere.
"""

from __future__ import annotations

import difflib
import itertools
import os
import pty
import re
import select
import sys
import time
from pathlib import Path

BLOCK = re.compile(r"(<!-- transcript\n(.*?)-->\n+)```console\n.*?```", re.DOTALL)
JOB_NEWS = re.compile(r"^\[\d+\][+-]?\s+(Done|Exit|Terminated|Killed|Stopped).*\n", re.MULTILINE)
VARIES = [
    (re.compile(pattern), word)
    for pattern, word in (
        (r"   started by .*", ""),
        (r"\buser \w+", "user USER"),
        (r'"Running","\w+"', '"Running","USER"'),
        (r".* by (fork-events|process-table) .*\n", ""),  # what the system tells whom
        (r" \(observed\)", ""),
        (r"[\d,]*\d(\.\d+)?( ms\b)?", "N"),
        (r" +(?=N\b)", " "),  # columns
    )
]
TOLD = re.compile(r" [A-Z]+ -> | ended by ")
PROMPT = "<<endtask-transcript>>"
DEADLINE_S = 60.0
DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = "100"


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self) -> None:
        pid, self.fd = pty.fork()
        if pid == 0:
            environment = {
                **os.environ,
                "DOCS": str(DOCS),
                "PS1": PROMPT,
                "NO_COLOR": "1",
                "COLUMNS": COLUMNS,
                "TERM": "dumb",
                "HISTFILE": "",
            }
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.pid = pid
        self.read()
        self.type(f"stty -echo cols {COLUMNS}; bind 'set enable-bracketed-paste off' 2>/dev/null")
        # A pipe that never says anything is what `until` waits on between two looks; bash has no other wait without a child, which would change `$!`.
        self.type("mkfifo tick && exec 9<>tick && rm tick")

    def read(self) -> str:
        """Return what is printed until the next prompt.

        Raises:
            TimeoutError: There was none in time.
        """
        seen = b""
        until = time.monotonic() + DEADLINE_S
        while not seen.endswith(PROMPT.encode()):
            if not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(seen.decode(errors="replace"))
            seen += os.read(self.fd, 65536)
        return seen.decode(errors="replace").removesuffix(PROMPT).replace("\r\n", "\n")

    def type(self, line: str) -> str:
        """Type a line and return what it printed."""
        os.write(self.fd, line.encode() + b"\n")
        return self.read()

    def close(self) -> None:
        """Leave, and end what still runs in the background: the next transcript must not see it."""
        self.type("kill -9 $(jobs -p) 2>/dev/null; wait")
        os.write(self.fd, b"exit\n")
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def play(commands: str) -> str:
    """Return the transcript of *commands*.

    Raises:
        RuntimeError: endtask reported a fault of its own; nothing is written then.
    """
    shell = Shell()
    shown = []
    for line in commands.splitlines():
        if line.startswith("until "):
            shell.type(f"{line}; do read -t 0.05 -u 9; done")
        elif line.startswith("@"):
            shell.type(line[1:])
        else:
            output = JOB_NEWS.sub("", shell.type(line))
            shown.append(f"$ {line}\n{output}")
    shell.close()
    text = "".join(shown)
    if "internal fault" in text:
        raise RuntimeError(text)
    return text


def shape(text: str) -> list[str]:
    """Return what is the same in every run, line by line; of lines that differ in nothing else, one."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    lines: list[str] = []
    for told, group in itertools.groupby(text.splitlines(), lambda line: bool(TOLD.search(line))):
        together = list(group)
        # Two processes end in any order, and one may have ended before the next is asked.
        lines += sorted(together, key=lambda line: (" ended by " in line, line)) if told else together
    return [line for line, _same in itertools.groupby(lines)]


def main() -> int:
    """Rewrite the transcripts of the files that are named, or compare them."""
    names, status = sys.argv[1:], 0
    check = "--check" in names
    for name in names[check:]:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda m: f"{m[1]}```console\n{play(m[2])}```", text)
        if check:
            differences = list(difflib.unified_diff(shape(text), shape(new), name, "what came out", lineterm=""))
            status |= bool(differences)
            print(*differences, sep="\n")
        elif new != text:
            path.write_text(new, encoding="utf-8")
        print(f"{name}: {len(BLOCK.findall(text))} transcripts")
    return status


if __name__ == "__main__":
    sys.exit(main())
