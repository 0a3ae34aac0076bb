"""The arguments of `endtask taskkill` -> what is wanted, or the sentence that says why not.

The syntax is that of Windows (Microsoft, Windows Commands, "taskkill"), with one option of our own: `/W`, how long to wait for the end before it is called a failure.
"""

from __future__ import annotations

from endtask._record import Record
from endtask.cli.slash_options import Slash, SlashError, read
from endtask.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.cli.slash_options import Given

REMOTE: tuple[Slash, ...] = (
    Slash(
        "S", "required", False, "another machine: understood, and answered that endtask asks only this one", "SYSTEM"
    ),
    Slash("U", "required", False, "user on that machine", r"[DOMAIN\]USER"),
    Slash("P", "optional", False, "password of that user", "[PASSWORD]"),
)
FILTER = Slash(
    "FI", "required", True, "only processes that pass; may be repeated, and then all filters must hold", "FILTER"
)
OPTIONS: tuple[Slash, ...] = (
    *REMOTE,
    FILTER,
    Slash("PID", "required", True, "the process with that pid; may be repeated", "PID"),
    Slash(
        "IM",
        "required",
        True,
        "every process of that name, `*` and `?` are wild; may be repeated; `*` alone only with a filter",
        "NAME",
    ),
    Slash("T", "", False, "with everything that it has started"),
    Slash("F", "", False, "force at once, without asking first"),
    Slash(
        "W",
        "required",
        False,
        "how long to wait for the end, 10 s if not given: `30`, `500ms`, `2m`; `0` asks and does not wait",
        "TIME",
    ),
)
_OVER_THERE = "run endtask over there, for example through ssh"


class Wanted(Record):
    """What is to be ended, and how.

    Attributes:
        pids: Words that should be pids.
        images: Names, wildcards allowed.
        filters: In taskkill's language; all must hold.
        tree: Whether what each process has started is meant too.
        force: Whether to force at once.
        wait_s: Seconds to wait for the end, None for the default.
    """

    pids: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    tree: bool = False
    force: bool = False
    wait_s: float | None = None


def parse(argv: Sequence[str]) -> Wanted | None:
    """Return what is wanted, None if it is the help.

    Raises:
        SlashError: The command line makes no sense.
        UsageError: It names another machine.
    """
    given = read(argv, OPTIONS)
    if given.help:
        return None
    refuse_remote(given)
    pids, images, filters = given.texts("PID"), given.texts("IM"), given.texts("FI")
    if not (pids or images or filters):
        raise SlashError("Invalid syntax. Neither /FI nor /PID nor /IM were specified.")
    if pids and images:
        raise SlashError("Invalid syntax. /PID and /IM cannot be used at the same time.")
    if not filters and any(not name.strip("*") for name in images):
        raise SlashError("Invalid syntax. The name '*' means every process: it needs a filter (/FI).")
    return Wanted(pids, images, filters, given.has("T"), given.has("F"), _seconds(given))


def refuse_remote(given: Given) -> None:
    """Refuse to act here for a command line that means another machine.

    Raises:
        UsageError: It names one, or a user there.
    """
    if given.has("S"):
        raise UsageError(
            f"the system `{given.text('S')}` was not asked: endtask acts on this machine only", hint=_OVER_THERE
        )
    if given.has("U") or given.has("P"):
        raise UsageError("/U and /P belong to /S, and endtask acts on this machine only, as you", hint=_OVER_THERE)


def _seconds(given: Given) -> float | None:
    text = given.text("W")
    if not text:
        return None
    from endtask._plan import parse_duration
    from endtask.errors import PlanError

    try:
        return parse_duration(text)
    except PlanError as error:
        raise SlashError(f"Invalid syntax. '{text}' value is not allowed for '/W' option: {error.hint}.") from error
