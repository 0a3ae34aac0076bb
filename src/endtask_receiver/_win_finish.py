"""The exit status that tells the truth on Windows.

Who was ended by Ctrl+C, or by another event of the console, ends with STATUS_CONTROL_C_EXIT, as if nobody had handled it:
`cmd.exe` asks then whether to terminate the batch job, and Python's own `KeyboardInterrupt` ends a program in this way too.
WM_CLOSE, the end of the session, the stop event and a service control are requests to decide by oneself: the status is 0.
For shells that came from Unix, `status` gives what they expect: 128 + the number of the signal that is most like the event.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask_receiver._finish import FORCED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask_receiver._request import StopRequest

_HUP, _INT, _TERM, _BREAK = 1, 2, 15, 21
_NUMBERS = {"CTRL_C_EVENT": _INT, "CTRL_BREAK_EVENT": _BREAK, "CTRL_CLOSE_EVENT": _HUP}


def status_of(request: StopRequest | None, how: str | None) -> int:
    """Return the exit status.

    Args:
        request: The first one.
        how: `status`, or else the truth.
    """
    if request is None or request.channel != "console":
        return 0
    return 128 + _NUMBERS.get(request.name, _TERM) if how == "status" else FORCED
