"""What an application holds: the core, in the shapes that programs have.

`Stop` is the core (`_core.Core`) with loops, waits, shields and checkpoints; what few programs need is loaded when it is used.
"""

from __future__ import annotations

import time
from _thread import allocate_lock, get_ident

from endtask_receiver._core import Core
from endtask_receiver._request import News, StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Any, NoReturn, TypeVar

    from endtask_receiver._cleanup import CleanupStep, Stack
    from endtask_receiver._ear import Ear
    from endtask_receiver._request import Policy
    from endtask_receiver._wake import WakeFd

    S = TypeVar("S", bound="Stop")
    T = TypeVar("T")


_TURN_S = 1.0  # a bound, should the one who counts be the caller's own frame: a waker that refuses


class StopRequested(BaseException):
    """Raised by `Stop.checkpoint`, and nowhere else: the application said that this is a good place to stop.

    A BaseException, so that a general `except Exception` does not swallow it. Leaving `with listen()` by it is a normal end.

    Attributes:
        stop: The object that raised it.
        request: What was asked.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.request = stop.request
        super().__init__(str(self.request))


class Stop(Core):
    """Falsy until somebody asks this process to stop.

    Attributes:
        name: Of the application, where a requester can see it.
    """

    __slots__ = ("_closed", "_ears", "_listeners", "_stack", "_staying", "_unwinding", "_wake_fd", "name")

    def __init__(
        self,
        grace_s: float = 10.0,
        policy: Policy | None = None,
        name: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[StopRequest], None] | None = None,
    ) -> None:
        """Make a stop that hears nothing by itself; `listen` gives it ears.

        Args:
            grace_s: So long we take if the requester names no deadline.
            policy: What repeated requests mean; None for the usual: ask, hurry, exit.
            name: Of the application, where a requester can see it.
            clock: Seconds, monotonic.
            end: Ends the process at once; called with the request that demands it.
        """
        super().__init__(grace_s, policy, clock, end)
        self.name = name
        self._ears: list[Ear] = []
        self._listeners: list[Callable[[News], object]] = []
        self._stack: Stack | None = None
        self._wake_fd: WakeFd | None = None
        self._closed = False
        self._unwinding = False
        self._staying = False

    # ------------------------------------------------------------------ looking

    def __bool__(self) -> bool:
        return self.asked

    def __repr__(self) -> str:
        state = "ending" if self.ending else "hurry" if self.hurry else "asked" if self.asked else "not asked"
        return f"<Stop {self.name or 'of this process'}: {state}>"

    @property
    def ears(self) -> tuple[str, ...]:
        """What is heard and what is not, one line each, in words."""
        return tuple(line for ear in tuple(self._ears) for line in ear.describe())

    def left(self) -> float:
        """Return the seconds to the deadline, 0 if it is over; all the grace as long as nobody has asked."""
        deadline = self.deadline
        return self.grace_s if deadline is None else max(0.0, deadline - self._clock())

    # ------------------------------------------------------------------ waiting and looping

    def nap(self, seconds: float) -> bool:
        """Sleep, but no longer than until somebody asks; return whether somebody has."""
        return self.wait(seconds)

    def iterate(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items until somebody asks. What was taken from *items* is always yielded: no job is dropped."""
        if self.asked:
            return
        for item in items:
            yield item
            if self.asked:
                return

    def every(self, period_s: float) -> Iterator[int]:
        """Yield 0, 1, 2, ... every so many seconds until somebody asks. A turn that is missed is left out, not caught up with."""
        due, turn = self._clock(), 0
        while not self.asked:
            yield turn
            now = self._clock()
            missed = max(0, int((now - due) // period_s))
            turn, due = turn + 1 + missed, due + period_s * (1 + missed)
            self.wait(due - now)

    def checkpoint(self, save: Callable[[], object] | None = None) -> None:
        """Say that this is a good place to stop.

        Args:
            save: Called first if we stop here.

        Raises:
            StopRequested: Somebody has asked, and neither a shield of this thread nor the cleanup is open.
        """
        if not self.asked or self._unwinding:
            return
        now, me = self._clock(), get_ident()
        if any(s.thread == me and s.until > now for s in tuple(self._shields)):
            return
        if save is not None:
            save()
        raise StopRequested(self)

    def shield(self, limit_s: float, why: str = "") -> Shield:
        """Return a context manager that says "not now": no checkpoint of this thread raises, and no further request hurries or ends us.

        Args:
            limit_s: At most so long; after that it protects no more.
            why: What must not be cut, told to whoever asks.
        """
        return Shield(self, limit_s, why)

    # ------------------------------------------------------------------ answering

    def ask(self, reason: str = "", deadline_s: float | None = None, *, channel: str = "program") -> None:
        """Ask from inside the program. From any thread, handler or callback.

        Args:
            reason: Why.
            deadline_s: So many seconds from now; None for our own grace.
            channel: How the request came, for those who look at it.
        """
        now = self._clock()
        self._heard(StopRequest(now, channel, None if deadline_s is None else now + deadline_s, reason=reason))

    def tell(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Tell whoever asked how far we are."""
        self._say(News(self._clock(), done, "tell", None, text, total))

    def need(self, seconds: float, why: str = "") -> float:
        """Say that the deadline is too near.

        A deadline of our own moves, within `Policy.extend_max_s`; one that the requester has set moves when the requester agrees.

        Returns:
            The seconds that are left now.
        """
        deadline = self.deadline
        if deadline is not None and self._told is None:
            wanted = self._extra_s + self._clock() + seconds - deadline
            self._extra_s = max(self._extra_s, min(wanted, self.policy.extend_max_s))
            self._wake()
        self._say(News(self._clock(), None, "need", seconds, why))
        return self.left()

    def veto(self, reason: str) -> bool:
        """Refuse: go on as if nobody had asked.

        Returns:
            Whether that was possible: nobody can refuse a second request, or one that is overdue.
        """
        if self.hurry or not self.asked:
            return False
        done = allocate_lock()
        done.acquire()
        refused: list[bool] = []

        def refuse() -> None:
            refused.append(self._may_refuse())
            if refused[0]:
                self._refuse()
            done.release()

        self._in_turn(refuse)
        done.acquire(True, _TURN_S)  # if another thread is just counting, it does this, too: in microseconds
        if refused == [False]:
            return False
        if self._wake_fd is not None:
            self._wake_fd.reset()
        self._say(News(self._clock(), None, "veto", None, reason))
        return True

    def _say(self, news: News) -> None:
        for listener in tuple(self._listeners):
            listener(news)

    # ------------------------------------------------------------------ other loops

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when somebody asks, and stays so. For `select` and the loops of GUIs; never read from it."""
        if self._wake_fd is None:
            from endtask_receiver._wake import WakeFd

            self._wake_fd = WakeFd(self)
        return self._wake_fd.fileno()

    def __await__(self) -> Generator[Any, Any, StopRequest]:
        from endtask_receiver import _loops

        return _loops.asked(self).__await__()

    def __aiter__(self) -> AsyncIterator[StopRequest]:
        from endtask_receiver import _loops

        return _loops.requests(self)

    # ------------------------------------------------------------------ ending

    def cleanup(
        self, function: Callable[..., object], *args: object, budget_s: float | None = None, name: str = ""
    ) -> None:
        """Have something done at the end of the block, or in `finish`; what came last is done first, and all of it, whatever the others raise.

        A step with a budget runs in a thread of its own; if it takes longer, it is left behind and the next one has its turn.

        Args:
            function: What to call.
            args: With these.
            budget_s: So many seconds at most, and no more than are left to the deadline, but 0.1 in any case;
                None for as long as it takes, in the thread in which the block ends.
            name: In `cleaned`, and for whoever asked; by default that of the function.
        """
        if self._stack is None:
            from endtask_receiver._cleanup import Stack

            self._stack = Stack(self)
        self._stack.push(function, args, budget_s, name)

    @property
    def cleaned(self) -> tuple[CleanupStep, ...]:
        """What the cleanup has done so far, step by step."""
        return () if self._stack is None else tuple(self._stack.report)

    def _unwind(self) -> None:
        self._unwinding = True  # for good: what runs now must not be cut by its own checkpoints
        if self._stack is not None:
            self._stack.run()

    def finish(self, how: int | str | None = None) -> NoReturn:
        """Clean up and end the process so that its exit status tells the truth.

        `finally` blocks, threads, `atexit` functions and the flushing of files have their turn first.
        Requests are heard until the interpreter is gone: a second one changes nothing, a third one ends the process at once.

        Args:
            how: None or `"signal"` for the truth: death by the signal that asked, or on Windows STATUS_CONTROL_C_EXIT after a console event; otherwise 0.
                `"status"` for 128 + the number of the signal, on Windows that of its like; a number for that exit status.

        Raises:
            SystemExit: Always.
            ValueError: *how* is none of these.
        """
        from endtask_receiver._finish import finish

        finish(self, how)

    def _stay(self) -> None:
        """Listen until the end of the process: it is near."""
        self._staying = True

    def _attach(self, ear: Ear) -> None:
        self._ears.append(ear)
        ear.start(self)

    def _in_child(self) -> None:
        """Begin anew in a forked child: what was asked, what waits and what must be cleaned up is its parent's."""
        self._forget()
        self._ears.clear()
        self._wakers.clear()
        self._dying.clear()
        self._listeners.clear()
        self._stack = None
        if self._wake_fd is not None:
            self._wake_fd.close()
            self._wake_fd = None

    def close(self) -> None:
        """Hear no more, and restore what was there before. More than once is allowed."""
        if self._closed:
            return
        self._closed = True
        self._staying = False
        ears = self._ears[::-1]
        ears.sort(key=_served)  # the last first, but whoever is served after who serves
        for ear in ears:
            ear.close()
        if self._wake_fd is not None:
            self._wake_fd.close()

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            self._unwind()
        finally:
            if not self._staying:
                self.close()
        return isinstance(error, StopRequested) and error.stop is self


def _served(ear: Ear) -> bool:
    return bool(getattr(ear, "served", False))


class Shield:
    """See `Stop.shield`."""

    __slots__ = ("_limit_s", "_stop", "_why", "thread", "until")

    def __init__(self, stop: Stop, limit_s: float, why: str) -> None:
        self._stop = stop
        self._limit_s = limit_s
        self._why = why
        self.thread = get_ident()
        self.until = 0.0

    def __enter__(self) -> None:
        stop = self._stop
        now = stop._clock()  # a part of Stop
        self.until = now + self._limit_s
        stop._shields.append(self)
        if stop.asked:
            stop._say(News(now, None, "shield", self._limit_s, self._why))

    def __exit__(self, *_error: object) -> None:
        self._stop._shields.remove(self)
        if self._stop._held:
            self._stop._tick()
