"""What `taskkill` and `tasklist` add to the help, the reference and the completion: the tables that their parsers read, their filters and exit codes."""

from __future__ import annotations

from endtask.cli import taskkill_arguments, tasklist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask.cli.slash_options import Slash

    Rows = list[tuple[str, str]]

FILTERS: tuple[tuple[str, str], ...] = (
    ("IMAGENAME", "eq ne: image name"),
    ("PID", "eq ne gt lt ge le: pid"),
    ("STATUS", "eq ne: RUNNING, SUSPENDED; on Windows also NOT RESPONDING, UNKNOWN"),
    ("USERNAME", "eq ne: owner; on Windows with or without the domain"),
    ("SESSION", "eq ne gt lt ge le: logon session on Windows, session id elsewhere"),
    ("SESSIONNAME", "eq ne: `Console`, `Services` and the like on Windows, the terminal elsewhere"),
    ("CPUTIME", "eq ne gt lt ge le: processor time, hh:mm:ss"),
    ("MEMUSAGE", "eq ne gt lt ge le: resident memory, KB"),
    ("SERVICES", "eq ne: service; the systemd unit on Linux"),
    ("MODULES", "eq ne: file name of a mapped file"),
    ("WINDOWTITLE", "eq ne: title of a window (Windows)"),
)
_CODES: dict[str, Rows] = {
    "taskkill": [
        ("0", "every process that was found has ended, or none passes the filters"),
        ("1", "one still runs or may not be asked, or the command line makes no sense"),
        ("128", "nothing has that pid or name"),
        ("130", "interrupted by Ctrl+C"),
    ],
    "tasklist": [
        ("0", "the list, also an empty one"),
        ("1", "the command line makes no sense, or nothing could be read"),
    ],
}


def options(verb: str) -> tuple[Slash, ...]:
    """Return the options of `taskkill` or `tasklist`."""
    return taskkill_arguments.OPTIONS if verb == "taskkill" else tasklist.OPTIONS


def sections(verb: str) -> list[tuple[str, Rows]]:
    """Return headings and rows for the help of `taskkill` or `tasklist`."""
    return [
        ("options, in upper or lower case, with `/` or `-`", [(o.spelled, o.text) for o in options(verb)]),
        ("filters, `NAME OPERATOR VALUE`; names may have `*` and `?`", list(FILTERS)),
        ("exit codes", _CODES[verb]),
    ]
