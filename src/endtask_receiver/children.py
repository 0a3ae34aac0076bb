"""Subprocess children: asked in turn when we end, each with its slice of the time.

Decision: a child is a step of the cleanup, so the one that was started last is asked first.
It gets an equal share of what is left, the share of those that ended early goes to the others.
It is asked, and nothing else, unless the caller has said that it may be killed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from endtask_receiver._stop import Stop


class ChildLeftError(RuntimeError):
    """A child was asked, and still runs.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, name: str, pid: int, seconds: float) -> None:
        self.pid = pid
        super().__init__(f"{name} ({pid}) was asked and still runs after {seconds:.1f} s")


class Children:
    """The children of one program; each is added when it was started: `children.add(subprocess.Popen(["server"]))`."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.waiting = 0  # children that have not been asked yet

    def add(
        self,
        child: subprocess.Popen[Any],
        *,
        ask: Callable[[], object] | None = None,
        budget_s: float | None = None,
        kill: bool = False,
        name: str = "",
    ) -> subprocess.Popen[Any]:
        """Have a child asked at the end, and waited for.

        Args:
            child: What was started.
            ask: How; None for TERM. On Windows `terminate` is no question: say how it is asked there.
            budget_s: So long it has; None for its share of what is left.
            kill: Whether it may be killed then; also if we are ended at once.
            name: In the report; None for the name of its program.

        Returns:
            The child.

        Raises:
            ValueError: This system has no way to ask a child, and none was given.
        """
        if ask is None and not _CAN_ASK:
            raise ValueError("there is no general way to ask a child here: give one as `ask`")
        self.waiting += 1
        one = _Child(self, child, ask or child.terminate, budget_s, kill=kill, name=name or _name(child))
        self.stop.cleanup(one.end, name=one.name)
        return child


class _Child:
    def __init__(
        self,
        family: Children,
        process: subprocess.Popen[Any],
        ask: Callable[[], object],
        budget_s: float | None,
        *,
        kill: bool,
        name: str,
    ) -> None:
        self.name = name
        self._family = family
        self._process = process
        self._ask = ask
        self._budget_s = budget_s
        self._kill = kill
        if kill:
            family.stop._dying.append(self._end_now)

    def _end_now(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Ask, and wait.

        Raises:
            ChildLeftError: It still runs, and may not be killed.
        """
        family, process = self._family, self._process
        left_s = family.stop.left()
        seconds = left_s / family.waiting if self._budget_s is None else min(self._budget_s, left_s)
        family.waiting -= 1
        try:
            if process.poll() is None:
                self._ask()
                process.wait(seconds)
        except subprocess.TimeoutExpired:
            if not self._kill:
                raise ChildLeftError(self.name, process.pid, seconds) from None
            family.stop.tell(f"{self.name} ({process.pid}) was asked, still runs after {seconds:.1f} s, and is killed")
            process.kill()
            process.wait()
        finally:
            if self._kill:
                family.stop._dying.remove(self._end_now)


def _name(child: subprocess.Popen[Any]) -> str:
    words = child.args
    if isinstance(words, Sequence) and not isinstance(words, (str, bytes)):
        words = words[0]
    return f"child {os.fsdecode(words)}"


_CAN_ASK = not hasattr(subprocess, "STARTUPINFO")  # there `terminate` is TerminateProcess
