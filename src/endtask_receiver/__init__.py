"""endtask_receiver: hear a request to stop, and act on it at a time you choose.

    from endtask_receiver import listen

    with listen(grace_s=10) as stop:
        while not stop:
            work()
            stop.nap(0.5)

Standard library only, and nothing of `endtask`: copy it, vendor it, depend on it alone.
It runs on Python 3.9 and later. The distribution has one floor for both packages, that of endtask, 3.10: on 3.9 it has to be copied.
Importing it does nothing; `listen` does.
"""

from __future__ import annotations

import sys

from endtask_receiver._request import News as News
from endtask_receiver._request import Policy as Policy
from endtask_receiver._request import StopRequest as StopRequest
from endtask_receiver._stop import Stop as Stop
from endtask_receiver._stop import StopRequested as StopRequested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask_receiver._cleanup import CleanupError as CleanupError
    from endtask_receiver._cleanup import CleanupStep as CleanupStep
    from endtask_receiver.testing import fake as fake

__all__ = ["CleanupError", "CleanupStep", "News", "Policy", "Stop", "StopRequest", "StopRequested", "fake", "listen"]


def listen(
    grace_s: float = 10.0,
    signals: Iterable[str | int] = ("TERM", "INT", "HUP"),
    *,
    stdin: bool = False,
    parent: bool = False,
    watch: bool = True,
    policy: Policy | None = None,
    name: str = "",
    fork: str = "inert",
    window: bool = True,
    everywhere: bool = False,
    channel: bool = True,
) -> Stop:
    """Begin to listen, and return what hears. Use it as a context manager: at its end everything is as it was before.

    What cannot be heard is no error; `Stop.ears` says in words what is heard and what is not.
    Handlers of signals need the main thread of the main interpreter.

    Args:
        grace_s: So long we take to stop, if the requester names no deadline.
        signals: Which signals ask, by name without `SIG` or by number. One that is ignored stays ignored.
            On Windows: INT is Ctrl+C, BREAK Ctrl+Break, HUP the closing of the console, TERM everything else that asks.
        stdin: Whether the end of standard input asks. Nothing is read from it.
        parent: Whether the end of the parent process asks.
        watch: POSIX: whether a thread watches for signals that the main thread cannot see while it is in a long call.
            Say False in a trio program: trio wants to be the only one who does that. Then such a signal may be noticed a second late.
        policy: What repeated requests mean; None for: ask, hurry, exit at once.
        name: Of the application, where a requester can see it.
        fork: What a forked child hears: `inert`, nothing, and signals do what they did before; `forward`, what its parent hears.
        window: Windows: whether a hidden window hears WM_CLOSE (`taskkill`) and the end of the session. It needs user32.
        everywhere: Windows: whether other sessions can ask by the stop event too.
        channel: Whether endtask can talk to us: it names its deadline and its reason, and sees what we `tell`, `need` and `veto`.
            The same user and root can. It takes a socket in a folder of the user's own, on Windows a named pipe.
    """
    from endtask_receiver import _finish

    if sys.platform == "win32":
        from endtask_receiver import _windows

        ears = _windows.ears(
            signals, stdin=stdin, parent=parent, fork=fork, window=window, everywhere=everywhere, channel=channel
        )
    else:
        from endtask_receiver import _posix

        ears = _posix.ears(signals, stdin=stdin, parent=parent, watch=watch, fork=fork, channel=channel)
    stop = Stop(grace_s, policy, name, end=_finish.exit_now)
    try:
        for ear in ears:
            stop._attach(ear)
    except BaseException:  # no descriptor is free, or a Ctrl+C came before we could hear it
        stop.close()
        raise
    return stop


def __getattr__(name: str) -> object:
    if name == "fake":
        from endtask_receiver.testing import fake

        return fake
    if name in {"CleanupError", "CleanupStep"}:
        from endtask_receiver import _cleanup

        return getattr(_cleanup, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
