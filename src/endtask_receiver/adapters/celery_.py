"""celery: a worker that finishes its tasks by the deadline, and is gone then.

In the module of the application, which the worker loads:

    app = Celery("tasks")
    celery_.follow(grace_s=25)

What it changes, beside the deadline:

- Ctrl+C asks like TERM, with celery's warm shutdown, and the worker dies by the signal instead of with status 1.
- A second request, whatever it is, is celery's cold shutdown (SIGQUIT): tasks that run are cancelled, and those with `acks_late` come again.
  The same happens by itself shortly before the deadline; celery alone waits for its tasks for ever.
- At the deadline the worker ends, whatever still runs. Threads, and what the solo pool does, end only so: nobody can cancel them.

Decision: celery's own handlers do the work, because they know its pools; we decide when they are called.
Pool processes are left alone: they ignore Ctrl+C, and on Linux die with the worker, by celery's own doing.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import atexit
import os
import signal
import threading

from endtask_receiver import _finish, listen
from endtask_receiver.adapters._pace import RESERVE_S, Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from endtask_receiver._request import Policy
    from endtask_receiver._stop import Stop


def follow(
    grace_s: float = 25.0,
    *,
    policy: Policy | None = None,
    name: str = "",
    die: bool = True,
    reserve_s: float = RESERVE_S,
    on_stop: Callable[[Stop], object] | None = None,
) -> None:
    """Have the worker of this process listen, when it is ready; nothing happens in a program that is no worker.

    Args:
        grace_s: So long all of it takes, if the requester names no deadline.
        policy: What repeated requests mean.
        name: Of the application, where a requester can see it.
        die: Whether the worker dies by the signal that asked; else it ends with celery's own status.
        reserve_s: So much of the time is kept for celery's cold shutdown; at most a fifth of it.
        on_stop: Called in the worker with its `Stop` when it begins to listen, for instance to add a cleanup.
    """
    from celery.signals import worker_ready

    worker = _Worker(grace_s, policy, name, reserve_s, on_stop, die=die)
    worker_ready.connect(worker.ready, weak=False)


class _Worker:
    """One worker, in its main process."""

    def __init__(
        self,
        grace_s: float,
        policy: Policy | None,
        name: str,
        reserve_s: float,
        on_stop: Callable[[Stop], object] | None,
        *,
        die: bool,
    ) -> None:
        self._grace_s = grace_s
        self._policy = policy
        self._name = name
        self._die = die
        self._reserve_s = reserve_s
        self._on_stop = on_stop
        self._stop: Stop | None = None
        self._controller: Any = None
        self._process = 0
        self._total = self._left = 0
        self._ended = False  # the worker is done, and the interpreter ends

    def ready(self, sender: Any, **_more: object) -> None:
        """Begin to listen: celery has installed its handlers. Sent again whenever it connects anew."""
        if self._stop is not None:
            return
        self._controller = sender.controller
        self._process = os.getpid()
        warm = signal.getsignal(signal.SIGTERM)
        if callable(warm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, warm)  # its own would take the signal away from us after the first one
        self._stop = stop = listen(self._grace_s, ("TERM", "INT"), policy=self._policy, name=self._name)
        self._keep_handlers()
        stop.add_waker(self._warm)
        stop._dying.append(self._kill)
        Pace(stop, asked=self._asked, cut=self._cold, over=self._over, turn=self._look, reserve_s=self._reserve_s)
        atexit.register(self._at_exit)
        if self._on_stop is not None:
            self._on_stop(stop)

    def _keep_handlers(self) -> None:
        """Have our handlers stay: celery's cold shutdown puts others in their place before it waits (5.5), and a third request would be lost to them."""
        ours = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        wait = getattr(self._controller, "wait_for_soft_shutdown", None)
        if wait is None:
            return

        def wait_with_ours() -> None:
            for number, handler in ours.items():
                signal.signal(number, handler)  # a handler of celery's calls us, so this is the main thread
            wait()

        self._controller.wait_for_soft_shutdown = wait_with_ours

    def _warm(self) -> None:
        """Have the main loop stop: what celery's handler does too, if it was a signal."""
        from celery.worker import state

        if state.should_stop is None:
            state.should_stop = 0  # a store: this may be a handler

    # ------------------------------------------------------------------ the moments of the stop, in a thread

    def _asked(self) -> None:
        from celery.signals import worker_shutting_down

        stop = self._stop
        assert stop is not None
        request = stop.request
        if request is not None and request.channel != "signal":  # else its handler has told
            worker_shutting_down.send(sender=self._controller.hostname, sig=request.name, how="Warm", exitcode=0)
        self._total = self._left = self._count()
        stop.tell("tasks done", 0, self._total)

    def _count(self) -> int:
        from celery.worker import state

        return len(state.reserved_requests)  # with those that run

    def _look(self) -> None:
        left = self._count()
        if left != self._left and self._stop is not None:
            self._total, self._left = max(self._total, left), left
            self._stop.tell("tasks done", self._total - left, self._total)

    def _cold(self) -> None:
        from celery.concurrency.base import BasePool

        end_job = getattr(self._controller.pool, "terminate_job", None)
        if self._ended or end_job is None or getattr(end_job, "__func__", None) is BasePool.terminate_job:
            return  # threads and the solo pool: nothing can be cancelled, and celery's handler raises (5.7)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGQUIT)  # celery does all of it in its handler

    def _over(self) -> None:
        """End the worker: what still runs will not end by itself."""
        stop = self._stop
        assert stop is not None
        request = stop.request
        if request is not None:
            stop.ending = True
            stop._exit(request)

    def _kill(self) -> None:
        """End the pool's processes; only Linux does that by itself."""
        from billiard.process import active_children

        for process in active_children():
            os.kill(process.pid, signal.SIGKILL)

    # ------------------------------------------------------------------ the end

    def _at_exit(self) -> None:
        """Clean up, and see to it that the exit status tells the truth."""
        stop = self._stop
        if stop is None or self._process != os.getpid():
            return
        self._ended = True
        stop._unwind()
        number = _finish.status_of(stop, None)[1]
        if number and self._die:
            _finish.die_at_end(number)
