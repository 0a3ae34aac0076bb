"""What is done at the end: last come, first served, each step with its own time.

Decision: as in Erlang's supervisors, a step has a budget, and what does not keep it is left behind and reported; the next step gets its turn.
A step that may be left behind must run in a thread of its own, so only steps with a budget do.
The others run where the cleanup runs, usually the main thread: many things may only be closed by the thread that opened them (sqlite, windows).
All steps run, whatever the others do; what went wrong is raised at the end, in one error.
"""

from __future__ import annotations

import threading
import time

from endtask_receiver._request import News, _set, _Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask_receiver._stop import Stop

_LEAST_S = 0.1  # what a step gets even if the deadline is over: most steps need less


class CleanupStep(_Value):
    """What became of one step.

    Attributes:
        budget_s: What it was given, None if it could take as long as it liked.
        error: What it raised, None if nothing.
        name: What it was.
        outcome: `done`, `failed` (it raised), or `abandoned` (it did not keep its budget, and may still run).
        took_s: So long we waited for it.
    """

    __slots__ = ("budget_s", "error", "name", "outcome", "took_s")

    budget_s: float | None
    error: BaseException | None
    name: str
    outcome: str
    took_s: float

    def __init__(
        self,
        budget_s: float | None,
        error: BaseException | None,
        name: str,
        outcome: str,
        took_s: float,
    ) -> None:
        _set(self, "budget_s", budget_s)
        _set(self, "error", error)
        _set(self, "name", name)
        _set(self, "outcome", outcome)
        _set(self, "took_s", took_s)

    def __str__(self) -> str:
        tail = f" ({type(self.error).__name__}: {self.error})" if self.error is not None else ""
        return f"{self.name}: {self.outcome} after {self.took_s:.2f} s{tail}"


class CleanupError(RuntimeError):
    """At least one step has failed; all others have run.

    Attributes:
        steps: All steps, in the order in which they ran.
    """

    def __init__(self, steps: Sequence[CleanupStep]) -> None:
        self.steps = tuple(steps)
        super().__init__("; ".join(str(step) for step in steps if step.outcome == "failed"))


class _Step:
    def __init__(
        self, function: Callable[..., object], args: tuple[object, ...], budget_s: float | None, name: str
    ) -> None:
        self._function = function
        self._args = args
        self.budget_s = budget_s
        self.name = name or getattr(function, "__qualname__", None) or repr(function)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._function(*self._args)
        except BaseException as error:  # noqa: BLE001  # the other steps must have their turn; it is raised at the end
            self.error = error


class Stack:
    """The steps of one `Stop`."""

    def __init__(self, stop: Stop) -> None:
        self.report: list[CleanupStep] = []
        self._stop = stop
        self._steps: list[_Step] = []

    def push(
        self, function: Callable[..., object], args: tuple[object, ...], budget_s: float | None, name: str
    ) -> None:
        """Have a step done before those that are there already."""
        self._steps.append(_Step(function, args, budget_s, name))

    def run(self) -> None:
        """Do all steps, the last one first; a step may add others.

        Raises:
            CleanupError: Steps have failed.
            BaseException: What a step raised that is no Exception, such as SystemExit.
        """
        first = len(self.report)
        while self._steps:
            step = self._steps.pop()
            done = self._do(step)
            self.report.append(done)
            self._stop._say(News(self._stop._clock(), None, "cleanup", done.took_s, str(done)))
        errors = [step.error for step in self.report[first:] if step.error is not None]
        for error in errors:
            if not isinstance(error, Exception):
                raise error
        if errors:
            raise CleanupError(self.report[first:]) from errors[0]

    def _do(self, step: _Step) -> CleanupStep:
        begin = time.monotonic()
        budget_s, kept = self._budget(step), True
        if budget_s is None:
            step.run()
        else:
            thread = threading.Thread(target=step.run, name=f"cleanup: {step.name}", daemon=True)
            thread.start()
            thread.join(budget_s)
            kept = not thread.is_alive()
        error = step.error if kept else None
        outcome = "abandoned" if not kept else "failed" if error is not None else "done"
        return CleanupStep(budget_s, error, step.name, outcome, time.monotonic() - begin)

    def _budget(self, step: _Step) -> float | None:
        """Return what the step may take: its budget, but no more than what is left to the deadline."""
        if step.budget_s is None or not self._stop.asked:
            return step.budget_s
        return min(step.budget_s, max(self._stop.left(), _LEAST_S))
