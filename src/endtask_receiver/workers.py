"""Worker processes: of `multiprocessing`, `concurrent.futures`, of any start method and system.

Three ways, by what a worker should do when its parent is asked to stop:

- nothing: the default. A forked child hears nothing and signals do what they did before `listen`; so does a spawned one.
- be told: make a `Link` in the parent, give it to the workers, and `listen(link)` there.
  `listen(fork="forward")` does it for children that are forked, by whatever means.
- just end with its parent: `initialize`, as the `initializer` of a pool.

Decision: the link is a semaphore of `multiprocessing`.
Its release is one system call that neither waits nor takes a lock of Python's, so that it may happen in a signal handler
(`multiprocessing.Event.set` deadlocks there, python/cpython#126434), and whoever gets it passes it on, so that it reaches all.
Who ends just then (killed, or its interpreter is about to end) has it and passes nothing on: so there are many more than one.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from _thread import start_new_thread

from endtask_receiver import Policy, StopRequest
from endtask_receiver import listen as _listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from endtask_receiver import Stop


_SPARE = 64  # so many workers may end at that very moment, and the others hear all the same


class Link:
    """Passes on the first request to the parent. Give it to workers as an argument when they start; it cannot be sent later."""

    def __init__(self, stop: Stop, context: BaseContext | None = None) -> None:
        """Make a link.

        Args:
            stop: Of the parent.
            context: Of the workers, if they do not start in the usual way: `multiprocessing.get_context("spawn")`.
        """
        context = context or multiprocessing.get_context()
        self._asked = context.Semaphore(0)
        self._deadline = context.Value(
            "d", 0.0, lock=False
        )  # the monotonic clock is the same for all processes of a system
        self._stop: Stop | None = stop
        self._told = False
        stop.add_waker(self._tell)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_stop": None}  # the parent's business

    def _tell(self) -> None:
        if self._stop is not None and not self._told:
            self._told = True
            self._deadline.value = self._stop.deadline or 0.0
            for _ in range(_SPARE):
                self._asked.release()

    def wait(self) -> float | None:
        """Wait until the parent is asked, without a limit; return its deadline, None if that is not known."""
        self._asked.acquire()
        self._asked.release()  # for the next one
        return self._deadline.value or None


class _LinkEar:
    """Hears through a link, in a worker."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._closed = False

    def start(self, stop: Stop) -> None:
        start_new_thread(self._wait, (stop,))

    def _wait(self, stop: Stop) -> None:
        deadline = self._link.wait()
        if not self._closed:
            stop._heard(StopRequest(stop._clock(), "parent", deadline, reason="the parent was asked"))

    def close(self) -> None:
        self._closed = True  # the thread waits on, for nothing, until the process ends

    def describe(self) -> tuple[str, ...]:
        return ("parent: what it is asked is a request",)


class starting:  # noqa: N801  # used like a function
    """Start workers in the block `with starting():`, and none of them hears a Ctrl+C before it leaves it to its parent.

    It is held back in this thread, and in the processes that it starts until they call `listen` or `initialize` of this module.
    On Windows nothing can be held back: a worker that starts just then ends with a traceback there.
    """

    def __enter__(self) -> None:
        if sys.platform != "win32":
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *_error: object) -> None:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def listen(link: Link | None = None, grace_s: float = 10.0, *, parent: bool = True) -> Stop:
    """Listen in a worker: to its parent and to TERM. Ctrl+C is left to the parent: a terminal sends it to everybody.

    Args:
        link: What the parent has made, None if there is none.
        grace_s: So long the worker takes, if the parent has no deadline.
        parent: Whether the end of the parent is a request.
    """
    _ignore_interrupts()
    stop = _listen(grace_s, ("TERM",), parent=parent)
    if link is not None:
        stop._attach(_LinkEar(link))
    return stop


def initialize() -> None:
    """Make a pool's worker end with its parent, and leave Ctrl+C to the parent. To be the `initializer` of a pool.

    TERM keeps its meaning: pools end their workers by it.
    """
    _ignore_interrupts()
    _listen(signals=(), parent=True, watch=False, policy=Policy(steps=("exit",)), channel=False)


def _ignore_interrupts() -> None:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        pass  # ignored: not the main thread, so somebody else decides about signals here
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `starting`
