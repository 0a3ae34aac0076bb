"""`endtask run` on POSIX: TERM and force, which the keeper of the tree knows; signals as the way to ask endtask itself."""

from __future__ import annotations

import os
import select
import signal
import sys

assert sys.platform != "win32"

from endtask._owned import owned  # noqa: E402  # after the assertion
from endtask.errors import PlanError  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from endtask._owned import Owned
    from endtask.model import Policy, Report

SHELL = "a shell's own commands need `sh -c '...'`"
LEFT = "interrupted: what still runs of the command is left to its keeper, which goes on by the plan"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def grace_and_force(policy: Policy) -> tuple[float, bool]:
    """Return the seconds that the tree has after TERM, and whether it is forced then.

    Raises:
        PlanError: The plan has other steps: the keeper of the tree knows only these two.
    """
    names = [s.request.name for s in policy.steps]
    if names == ["KILL"]:
        return 0.0, True
    if names == ["TERM"]:
        return policy.budget_s, False
    if names == ["TERM", "KILL"]:
        return policy.steps[0].wait_s or 0.0, True
    raise PlanError(
        "`endtask run` asks by TERM, and forces afterwards if it is told to; it has no other steps",
        hint="for example `--plan TERM/10/KILL` or `--force-after 10s`",
    )


def check(policy: Policy) -> None:
    """Refuse a plan that cannot be carried out.

    Raises:
        PlanError: It asks for more than TERM and force.
    """
    grace_and_force(policy)


def start(words: Sequence[str], policy: Policy) -> Owned:
    """Start a command by *policy*.

    Raises:
        OSError: It could not be started.
        PlanError: The plan asks for more than TERM and force.
    """
    grace_s, force = grace_and_force(policy)
    return owned(words, grace_s=grace_s, force=force, extend_s=policy.extend_s, reason=policy.reason)


class Ears:
    """Hears the signals that ask endtask itself to stop; a context manager, open before the command is started.

    They come through a pipe, because an exception out of a handler could tear a line of the keeper in two.

    Attributes:
        asked: The signal that asked us, 0 for none.
        told: False: the command has a session of its own, and has heard nothing of it.
        limit_s: None: nobody ends us for being slow.
    """

    told = False
    limit_s: float | None = None

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # set_wakeup_fd asks for it
        self._before = {number: signal.signal(number, _noted) for number in _SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def wait_for(self, command: Owned) -> None:
        """Wait until the command has ended, or a signal asks us to stop. From then on another Ctrl+C raises KeyboardInterrupt."""
        keeper = command.fileno()  # wakes up when the keeper speaks
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        poller.register(keeper, select.POLLIN)
        while not self.asked and command.poll() is None and not command.lost:
            if any(fd == self._reader for fd, _ in poller.poll()):
                self.asked = next((n for n in os.read(self._reader, 64) if n in _SIGNALS), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def done(self) -> None:
        """From now on no Ctrl+C interrupts: the tree has been stopped, and what is left is to tell it."""
        signal.signal(signal.SIGINT, _noted)


def hurry(_command: Owned) -> Report:
    """Do not shorten the plan: a second Ctrl+C waits on for its end, and a third one leaves the rest to the keeper.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the number comes through the pipe."""
