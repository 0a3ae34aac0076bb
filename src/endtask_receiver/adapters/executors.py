"""concurrent.futures: executors that finish what they have taken on by the deadline, and leave no process behind.

    with listen(grace_s=20) as stop, Processes(stop, 4) as pool:
        futures = [pool.submit(work, job) for job in stop.iterate(jobs)]

`Threads` and `Processes` are the standard ones, with a `stop` as their first argument. When somebody asks:

- nothing new is begun: `submit` returns a future that is cancelled. It does not raise, because a request comes at any moment;
- what was submitted goes on (`pending="finish"`), or is cancelled unless it runs already (`pending="cancel"`);
- shortly before the deadline, or at a second request, what waits is cancelled and processes that run are ended (their futures raise
  `BrokenProcessPool`); whoever waits for a future hears it at once;
- at the deadline a process that did not end is killed. A thread cannot be: leaving the block raises `WorkLeftError`, whoever waits for
  its future waits on, and so does the interpreter at its end. `listen(policy=Policy(overdue="exit"))` ends the program at its deadline all the same.

Workers of `Processes` end with their parent, whatever ends it, and leave Ctrl+C to it.

Decision: subclasses that add to `submit` and to the end of the block. Jobs are cancelled by `shutdown`, under the executor's own lock;
of its private parts only the table of its processes is read (COMPAT: until Python 3.14 is the floor, which has `kill_workers`).
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

from endtask_receiver.adapters._pace import RESERVE_S, Pace
from endtask_receiver.adapters._processes import begin_worker
from endtask_receiver.workers import starting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from types import TracebackType
    from typing import Any, TypeVar

    from endtask_receiver._stop import Stop

    T = TypeVar("T")

PENDING = ("finish", "cancel")
_SOON_S = 0.2  # a bound: it takes microseconds, but for a job that begins just then


class WorkLeftError(RuntimeError):
    """Threads still run at the deadline, and nobody can end a thread.

    Attributes:
        count: So many jobs.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} job{'s' if count != 1 else ''} still running at the deadline, in threads")


class _Jobs:
    """What an executor has taken on and has not done yet, and what a stop means to it.

    Attributes:
        canceller: The thread that cancels jobs for us.
        over: Whether the deadline is over.
    """

    def __init__(
        self,
        stop: Stop,
        pending: str,
        reserve_s: float,
        give_up: Callable[[], object],
        end: Callable[[bool], object],
    ) -> None:
        if pending not in PENDING:
            raise ValueError(f"pending is {' or '.join(PENDING)}; got {pending!r}")
        self.stop = stop
        self.over = False
        self._cancel = pending == "cancel"
        self._give_up = give_up
        self._end = end
        self.canceller = 0
        self._open: set[Future[Any]] = set()
        self._fresh: set[Future[Any]] = set()  # nobody else can have cancelled them yet
        self._waiting: set[Future[Any]] = set()
        self._total = 0
        self._refusing = False
        self._changed = threading.Condition()
        self._pace = Pace(stop, asked=self._asked, cut=self._cut, over=self._come_over, reserve_s=reserve_s)

    def submit(self, submit: Callable[[], Future[T]]) -> Future[T]:
        """Take a job on, or refuse it."""
        if not self.stop.asked:
            try:
                future = submit()
            except RuntimeError:
                if not self._refusing:
                    raise
            else:
                self._fresh.add(future)
                self._open.add(future)
                future.add_done_callback(self._done)
                self._fresh.discard(future)
                return future
        refused: Future[T] = Future()
        refused.cancel()
        refused.set_running_or_notify_cancel()
        return refused

    def _done(self, future: Future[Any]) -> None:
        cancelled = future.cancelled()
        if cancelled and (threading.get_ident() == self.canceller or future in self._fresh):
            # The executor has forgotten it already, and would tell nobody: `wait` and `as_completed` hear no `cancel` alone.
            future.set_running_or_notify_cancel()
        with self._changed:
            self._open.discard(future)
            self._waiting.discard(future)
            self._changed.notify_all()
        if self._total and not cancelled:  # those may be many, and are told at once
            self._tell()

    def _tell(self) -> None:
        self.stop.tell("jobs done", self._total - len(self._open), self._total)

    # ------------------------------------------------------------------ the moments of the stop, in a thread

    def _asked(self) -> None:
        self._total = len(self._open)
        if self._total:
            self._tell()
        if self._cancel:
            self._refuse()

    def _cut(self) -> None:
        self._refuse()
        self._end(False)

    def _come_over(self) -> None:
        self._end(True)
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def _refuse(self) -> None:
        """Cancel what waits."""
        if self._refusing:
            return
        self._refusing = True
        with self._changed:
            self._waiting = {future for future in self._open if not future.running()}
        self._give_up()
        with self._changed:  # the thread of a process executor does it
            self._changed.wait_for(lambda: not self._waiting, _SOON_S)
        if self._total:
            self._tell()

    # ------------------------------------------------------------------ the end

    def drain(self) -> int:
        """Wait until nothing is left, or the deadline is over; return how many are left."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or not self._open)
        return len(self._open)

    def close(self) -> None:
        """Follow the stop no more."""
        self._pace.close()


class Threads(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that follows a stop; see the module."""

    def __init__(
        self,
        stop: Stop,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        pending: str = "finish",
        reserve_s: float = RESERVE_S,
    ) -> None:
        """Make one.

        Args:
            stop: What hears.
            max_workers: As for `ThreadPoolExecutor`, like the next three.
            thread_name_prefix: See there.
            initializer: See there.
            initargs: See there.
            pending: What becomes of jobs that wait when somebody asks: `finish` or `cancel`.
            reserve_s: So much of the time is kept for what comes after the jobs; at most a fifth of it.

        Raises:
            ValueError: *pending* is none of the two.
        """
        super().__init__(max_workers, thread_name_prefix, initializer, initargs)
        self._jobs = _Jobs(stop, pending, reserve_s, self._give_up, lambda _kill: None)

    def _give_up(self) -> None:
        self._jobs.canceller = threading.get_ident()
        super().shutdown(wait=False, cancel_futures=True)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do what the standard one does; after a request, return a cancelled future."""
        begin = super().submit
        return self._jobs.submit(lambda: begin(fn, *args, **kwargs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        left = self._jobs.drain()
        self._jobs.close()
        self.shutdown(wait=not left, cancel_futures=bool(left))
        if left:
            raise WorkLeftError(left)
        return None


class Processes(ProcessPoolExecutor):
    """A `ProcessPoolExecutor` that follows a stop; see the module."""

    def __init__(
        self,
        stop: Stop,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        pending: str = "finish",
        reserve_s: float = RESERVE_S,
        **options: Any,
    ) -> None:
        """Make one.

        Args:
            stop: What hears.
            max_workers: As for `ProcessPoolExecutor`, like the next three.
            mp_context: See there.
            initializer: See there.
            initargs: See there.
            pending: What becomes of jobs that wait when somebody asks: `finish` or `cancel`.
            reserve_s: So much of the time is kept for what comes after the jobs; at most a fifth of it.
            options: Others of `ProcessPoolExecutor`, such as `max_tasks_per_child`.

        Raises:
            ValueError: *pending* is none of the two.
        """
        super().__init__(max_workers, mp_context, begin_worker, (initializer, tuple(initargs)), **options)
        self._mine: list[BaseProcess] = []
        self._manager: threading.Thread | None = None
        self._jobs = _Jobs(stop, pending, reserve_s, self._give_up, self._end)
        stop._dying.append(self._kill_now)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do what the standard one does; after a request, return a cancelled future."""
        begin = super().submit
        with starting():
            return self._jobs.submit(lambda: begin(fn, *args, **kwargs))

    def _known(self) -> list[BaseProcess]:
        table = getattr(self, "_processes", None)
        if table:  # emptied by `shutdown`, and so is the next one
            self._mine = list(table.values())
        self._manager = getattr(self, "_executor_manager_thread", None) or self._manager
        return self._mine

    def _give_up(self) -> None:
        self._known()
        if self._manager is not None:
            self._jobs.canceller = self._manager.ident or 0
        super().shutdown(wait=False, cancel_futures=True)

    def _end(self, kill: bool) -> None:  # noqa: FBT001  # of a callback
        for process in self._known():
            try:
                (process.kill if kill else process.terminate)()
            except ValueError:
                pass  # ignored: closed by the executor, so it has ended

    def _kill_now(self) -> None:
        self._end(True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._jobs.drain()
        self._known()
        self.shutdown(wait=True)
        if self._manager is not None:
            # If `shutdown` was called before, it waits for nothing: then the interpreter's end would meet this thread at its own (Python 3.11).
            self._manager.join()
        self._jobs.close()
        self._jobs.stop._dying.remove(self._kill_now)
        return None
