"""`endtask run` on Windows: any plan, because the tree is stopped by the same machine as with `stop`; control events instead of signals."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask._backends.launching import Launch  # noqa: E402  # after the assertion
from endtask._backends.windows.hearing import Ears as _Ears  # noqa: E402
from endtask._held import forces  # noqa: E402
from endtask._owned import Owned  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.model import Policy, Report

SHELL = "a shell's own commands need `cmd /c ...`"
LEFT = "interrupted: what was left of the command was not waited for"


def check(policy: Policy) -> None:
    """Every plan can be carried out."""


def start(words: Sequence[str], policy: Policy) -> Owned:
    """Start a command by *policy*.

    Raises:
        OSError: It could not be started.
    """
    return Owned(Launch(tuple(words)), grace_s=policy.budget_s, force=forces(policy), policy=policy)


class Ears(_Ears):
    """Hears the events that ask endtask itself to stop."""

    def wait_for(self, command: Owned) -> None:
        """Wait until the command has ended, or an event asks us to stop. Another one raises KeyboardInterrupt."""
        self.wait(command.ref)


def hurry(command: Owned) -> Report:
    """Force at once what may be forced, because of a second event, and return what there is to report."""
    try:
        return command.stop_told(hurried=True)
    except KeyboardInterrupt:
        # Two events right after each other may interrupt us twice; force takes no time, and without it nobody would be told what was left.
        return command.stop_told(hurried=True)
