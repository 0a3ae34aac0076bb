"""multiprocessing.Pool: a pool that finishes what it has taken on by the deadline, and leaves no process behind.

    with listen(grace_s=20) as stop, Pool(stop, 4) as pool:
        for result in pool.imap_unordered(work, stop.iterate(jobs)):
            keep(result)

It is the standard pool, with a `stop` as its first argument. When somebody asks:

- nothing new is taken on: the result of a later call is an error;
- what was taken on goes on (`pending="finish"`), or only what runs already does (`pending="cancel"`);
- shortly before the deadline, or at a second request, the workers are ended, and killed at the deadline;
- whoever waits for a result that will not come gets `PoolEndedError`. The standard pool lets him wait for ever.

Leaving the block waits for what was taken on; the standard pool ends its workers there, and ours does if the block is left by an error.
Workers end with their parent, whatever ends it, and leave Ctrl+C to it.

Decision: a subclass that hands out results of its own, because nobody tells those of the standard pool that it has ended.
What waits is refused by the workers, which look at one byte that they share with their parent before each job: the queues between them cannot be emptied safely.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import threading
from typing import Any

from endtask_receiver.adapters._pace import RESERVE_S, Pace
from endtask_receiver.adapters._processes import begin_worker
from endtask_receiver.adapters.executors import PENDING
from endtask_receiver.workers import starting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from endtask_receiver._stop import Stop

_TURN_S = 0.2  # the iterators of the standard pool tell nobody when something comes
_flag: list[Any] = []  # in a worker: the byte that says that nothing more is begun; a worker belongs to one pool


class PoolEndedError(RuntimeError):
    """The job was not begun, or not finished: the pool was asked to stop."""

    def __init__(self, text: str = "the pool was asked to stop, and this was not done") -> None:
        super().__init__(text)


class Result(multiprocessing.pool.AsyncResult[Any]):
    """What a job came to; as `AsyncResult`, but it hears when the pool ends."""

    def __init__(self, pool: Pool, callback: Callable[[Any], object] | None, failed: Callable[[Any], object] | None):
        self._of = pool
        self._over = False
        self._callback = callback
        self._failed = failed
        self._inner: multiprocessing.pool.AsyncResult[Any] | None = None

    def begin(self, begin: Callable[..., multiprocessing.pool.AsyncResult[Any]]) -> Result:
        """Hand the job out, unless it is too late."""
        if not self._of.refuses:
            self._of._note(self, 1)
            self._inner = begin(callback=self._good, error_callback=self._bad)
        return self

    def _good(self, value: Any) -> None:
        if self._callback is not None:
            self._callback(value)
        self._of._note(self, -1)

    def _bad(self, error: BaseException) -> None:
        if self._failed is not None:
            self._failed(error)
        self._of._note(self, -1)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the job is done, or will not be."""
        with self._of._changed:
            self._of._changed.wait_for(lambda: self._over or self._lost(), timeout)

    def _lost(self) -> bool:
        return not self._over and (self._inner is None or self._of._ended)

    def ready(self) -> bool:
        """Return whether the job is done, or will not be."""
        return self._over or self._lost()

    def successful(self) -> bool:
        """Return whether the job is done, and did not raise."""
        if not self.ready():
            raise ValueError("it is not ready")
        return not self._lost() and self._inner is not None and self._inner.successful()

    def get(self, timeout: float | None = None) -> Any:
        """Return what the job returned.

        Raises:
            PoolEndedError: It was not done.
            TimeoutError: That of `multiprocessing`: it is not done yet.
        """
        self.wait(timeout)
        if self._over and self._inner is not None:
            return self._inner.get()
        if self._lost():
            raise PoolEndedError
        raise multiprocessing.TimeoutError


class Pool(multiprocessing.pool.Pool):
    """A `multiprocessing.Pool` that follows a stop; see the module."""

    _state = ""  # until it is made: a pool that could not be made is asked for it too

    def __init__(
        self,
        stop: Stop,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        pending: str = "finish",
        reserve_s: float = RESERVE_S,
    ) -> None:
        """Make one.

        Args:
            stop: What hears.
            processes: As for `multiprocessing.Pool`, like the next four.
            initializer: See there.
            initargs: See there.
            maxtasksperchild: See there.
            context: See there.
            pending: What becomes of jobs that wait when somebody asks: `finish` or `cancel`.
            reserve_s: So much of the time is kept for what comes after the jobs; at most a fifth of it.

        Raises:
            ValueError: *pending* is none of the two.
        """
        if pending not in PENDING:
            raise ValueError(f"pending is {' or '.join(PENDING)}; got {pending!r}")
        context = context or multiprocessing.get_context()
        self._stopping = stop
        self._cancel = pending == "cancel"
        self._flag = context.Value("b", 0, lock=False)
        self._changed = threading.Condition()
        self._ended = False
        self._open: set[Result] = set()
        self._total = 0
        with starting():  # its thread inherits the mask too, and so do the workers that it starts later
            super().__init__(processes, _begin, (self._flag, initializer, tuple(initargs)), maxtasksperchild, context)
        self._pace = Pace(stop, asked=self._asked, cut=self._cut, over=self._kill, reserve_s=reserve_s)
        stop._dying.append(self._kill)

    @property
    def refuses(self) -> bool:
        """Whether nothing new is taken on."""
        return self._stopping.asked or self._ended

    # ------------------------------------------------------------------ the moments of the stop, in a thread

    def _asked(self) -> None:
        if self._cancel:
            self._flag.value = 1
        self._total = len(self._open)
        if self._total:
            self._stopping.tell("results", 0, self._total)

    def _cut(self) -> None:
        self._flag.value = 1
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        # It joins threads and workers, and may hang with one that does not end: the deadline must come all the same.
        threading.Thread(target=self.terminate, name="pool: terminate", daemon=True).start()

    def _kill(self) -> None:
        for process in tuple(self._pool):  # type: ignore[attr-defined]  # what `multiprocessing` has no name for
            process.kill()

    def _note(self, result: Result, change: int) -> None:
        with self._changed:
            if change > 0:
                self._open.add(result)
            else:
                result._over = True
                self._open.discard(result)
            self._changed.notify_all()
        if self._total and change < 0:
            self._stopping.tell("results", self._total - len(self._open), self._total)

    # ------------------------------------------------------------------ the calls of the standard pool

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Do what the standard one does."""
        begin = super().apply_async
        result = Result(self, callback, error_callback)
        return result.begin(lambda **told: begin(_Job(func), args, kwds or {}, **told))

    def map_async(  # type: ignore[override]  # a MapResult has nothing more, in public
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Do what the standard one does."""
        begin = super().map_async
        result = Result(self, callback, error_callback)
        return result.begin(lambda **told: begin(_Job(func), iterable, chunksize, **told))

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Do what the standard one does."""
        begin = super().starmap_async
        result = Result(self, callback, error_callback)
        return result.begin(lambda **told: begin(_Job(func), iterable, chunksize, **told))

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> Any:
        """Do what the standard one does."""
        return self.apply_async(func, args, kwds).get()

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> Any:
        """Do what the standard one does."""
        return self.map_async(func, iterable, chunksize).get()

    def starmap(self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None) -> Any:
        """Do what the standard one does."""
        return self.starmap_async(func, iterable, chunksize).get()

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1) -> Any:
        """Do what the standard one does."""
        return self._each(super().imap, func, iterable, chunksize)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1) -> Any:
        """Do what the standard one does."""
        return self._each(super().imap_unordered, func, iterable, chunksize)

    def _each(
        self, begin: Callable[..., Any], func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None
    ) -> Iterator[Any]:
        if self.refuses:
            raise PoolEndedError
        # Chunks are made here, because the standard pool's iterator over them cannot be waited for with a limit.
        return self._items(begin(_Chunk(func), _chunks(iterable, max(chunksize or 1, 1))))

    def _items(self, chunks: Any) -> Iterator[Any]:
        while True:
            try:
                chunk = chunks.next(_TURN_S)
            except StopIteration:
                return
            except multiprocessing.TimeoutError:
                if self._ended:
                    raise PoolEndedError from None
            else:
                yield from chunk

    # ------------------------------------------------------------------ the end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self._stopping.asked:
            self.close()
            self.join()
        else:
            self.terminate()
            self.join()
        self._pace.close()
        self._stopping._dying.remove(self._kill)


class _Job:
    """A function that is not called any more when the pool ends. In a worker."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _flag and _flag[0].value:
            raise PoolEndedError
        return self._function(*args, **kwargs)


class _Chunk(_Job):
    """The same, for each of several items."""

    def __call__(self, items: list[Any]) -> Any:
        one = super().__call__
        return [one(item) for item in items]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _begin(flag: Any, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    _flag[:] = [flag]
    begin_worker(initializer, initargs)
