"""gunicorn: the master hears, its workers finish what they have, and all are gone by the deadline.

In `gunicorn.conf.py`:

    from endtask_receiver.adapters import gunicorn_

    globals().update(gunicorn_.hooks(grace_s=25))

What it changes, beside the deadline:

- Ctrl+C asks like TERM. gunicorn cuts every request at it, and its workers hear it from the terminal before the master does.
- A second request cuts, whatever it is; gunicorn knows only INT and QUIT for that. HUP, QUIT and the others keep their meaning.
- A sync worker answers the connections that wait in the queue of its socket before it leaves; else they are reset, 4 of 6 in a small test.
- The master dies by the signal that asked (`status=0` for those who want gunicorn's 0).

Decision: gunicorn's own stop runs, in the main thread of the master, and asks and reaps its workers as ever;
we look at the clock in its turns (every 0.1 s), because its own limit is fixed when it begins and our deadline may move.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import math
import os
import signal
import time

from endtask_receiver import listen
from endtask_receiver.adapters._pace import left_to_drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from endtask_receiver._request import Policy, StopRequest
    from endtask_receiver._stop import Stop

_MASTER = "_endtask_receiver"  # where the server keeps who listens
RESERVE_S = 2.5  # a worker that is cut gets two seconds to leave, as in gunicorn
_QUICK_S = 2.0
_LAST_S = 0.3  # before the deadline: for the system to end those who did not
_FOREVER_S = 1_000_000


def hooks(
    grace_s: float = 25.0,
    *,
    policy: Policy | None = None,
    name: str = "",
    status: int | str | None = None,
    reserve_s: float = RESERVE_S,
    on_stop: Callable[[Stop], object] | None = None,
    **others: Callable[..., object],
) -> dict[str, object]:
    """Return settings for `gunicorn.conf.py`.

    Args:
        grace_s: So long all of it takes, if the requester names no deadline.
        policy: What repeated requests mean.
        name: Of the application, where a requester can see it.
        status: How the master ends, see `Stop.finish`.
        reserve_s: So much of the time is kept for those who must be cut; at most a fifth of it.
        on_stop: Called in the master with its `Stop` when it begins to listen, for instance to add a cleanup.
        others: Hooks of your own by their names (`when_ready`, `on_exit`, `post_worker_init`, `worker_int`, `worker_exit`); they are called too.
    """
    master = _Master(grace_s, policy, name, status, reserve_s, on_stop)
    worker = _Worker()
    ours: dict[str, Callable[..., object]] = {
        "when_ready": master.when_ready,
        "on_exit": master.on_exit,
        "post_worker_init": worker.post_worker_init,
        "worker_int": worker.worker_int,
        "worker_exit": worker.worker_exit,
    }
    found: dict[str, object] = {
        "when_ready": _both_1(others.get("when_ready"), ours["when_ready"]),
        "on_exit": _both_1(others.get("on_exit"), ours["on_exit"]),
        "post_worker_init": _both_1(others.get("post_worker_init"), ours["post_worker_init"]),
        "worker_int": _both_1(others.get("worker_int"), ours["worker_int"]),
        "worker_exit": _both_2(ours["worker_exit"], others.get("worker_exit")),
    }
    strange = set(others) - set(found)
    if strange:
        raise ValueError(f"not a hook that is used here, so set it as ever: {', '.join(sorted(strange))}")
    return {**found, "graceful_timeout": math.ceil(grace_s)}  # of threaded workers, which look at it themselves


def _both_1(first: Callable[[Any], object] | None, then: Callable[[Any], object]) -> Callable[[Any], None]:
    # gunicorn counts the parameters of a hook
    def hook(server_or_worker: Any) -> None:
        if first is not None:
            first(server_or_worker)
        then(server_or_worker)

    return hook


def _both_2(
    first: Callable[[Any, Any], object], then: Callable[[Any, Any], object] | None
) -> Callable[[Any, Any], None]:
    def hook(server: Any, worker: Any) -> None:
        first(server, worker)
        if then is not None:
            then(server, worker)

    return hook


class _Master:
    """The hooks of the process that listens and has the workers."""

    def __init__(
        self,
        grace_s: float,
        policy: Policy | None,
        name: str,
        status: int | str | None,
        reserve_s: float,
        on_stop: Callable[[Stop], object] | None,
    ) -> None:
        self._grace_s = grace_s
        self._policy = policy
        self._name = name
        self._status = status
        self._reserve_s = reserve_s
        self._on_stop = on_stop
        self._stop: Stop | None = None
        self._server: Any = None
        self._told: StopRequest | None = None

    def when_ready(self, server: Any) -> None:
        """Begin to listen: the sockets are open, and no worker has been started yet."""
        self._server = server
        setattr(server, _MASTER, self)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)  # else gunicorn's handlers would be called after ours, and cut at INT
        self._stop = listen(self._grace_s, ("TERM", "INT"), policy=self._policy, name=self._name)
        self._stop.add_waker(self._wake)
        self._stop._dying.append(self._kill)
        self._stop_workers, server.stop = server.stop, self._drain
        if self._on_stop is not None:
            self._on_stop(self._stop)

    def _wake(self) -> None:
        """Have gunicorn's main loop stop. Its queue takes signals from handlers, so it may be told in one."""
        stop = self._stop
        if stop is not None and stop.request is not self._told:
            self._told = stop.request
            self._server.SIG_QUEUE.put_nowait(signal.SIGTERM)

    def _drain(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  # the method that it stands for
        """Do what `Arbiter.stop` does, by our clock."""
        stop, server = self._stop, self._server
        if stop is None or not stop.asked or not graceful:
            self._stop_workers(graceful)
            return
        turn = _Turn(stop, server, self._reserve_s)
        server.cfg.set("graceful_timeout", _FOREVER_S)
        server.reap_workers = turn
        try:
            self._stop_workers(True)
        finally:
            del server.reap_workers  # the class has its own
        turn.tell()

    def _kill(self) -> None:
        self._server.kill_workers(signal.SIGKILL)

    def on_exit(self, server: Any) -> None:
        """End, so that the exit status tells the truth; gunicorn's own status stays if nobody has asked.

        Raises:
            SystemExit: Somebody has asked.
        """
        # After a HUP the configuration is a new one, and so are we: the one who has listened since the start is another.
        stop = getattr(server, _MASTER, self)._stop
        if stop is not None and stop.asked:
            stop.finish(self._status)
        if stop is not None:
            stop.close()


class _Turn:
    """Called again and again while the workers leave: reaps them, and cuts them when it is time."""

    def __init__(self, stop: Stop, server: Any, reserve_s: float) -> None:
        self._stop = stop
        self._server = server
        self._reap = server.reap_workers
        self._reserve_s = reserve_s
        self._total = self._left = len(server.WORKERS)
        self._cut_at: float | None = None
        stop.tell("workers stopped", 0, self._total)

    def __call__(self) -> None:
        self._reap()
        self.tell()
        now = time.monotonic()
        if self._cut_at is None:
            if left_to_drain(self._stop, self._reserve_s) <= 0:
                self._cut_at = now
                self._server.kill_workers(signal.SIGQUIT)  # gunicorn's own word for "at once"
        elif now - self._cut_at > _QUICK_S or self._stop.left() < _LAST_S:
            self._server.kill_workers(signal.SIGKILL)

    def tell(self) -> None:
        """Tell how many workers are left, if that has changed."""
        left = len(self._server.WORKERS)
        if left != self._left:
            self._left = left
            self._stop.tell("workers stopped", self._total - left, self._total)


class _Worker:
    """The hooks of a process that answers."""

    def __init__(self) -> None:
        self._cut = False

    def post_worker_init(self, _worker: Any) -> None:
        """Leave Ctrl+C to the master: a terminal sends it to everybody."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def worker_int(self, _worker: Any) -> None:
        """Note that there is no time any more."""
        self._cut = True

    def worker_exit(self, _server: Any, worker: Any) -> None:
        """Answer who waits in the queue of the socket, in a sync worker that was asked to leave."""
        from gunicorn.workers.sync import SyncWorker

        if not isinstance(worker, SyncWorker) or worker.pid != os.getpid():
            return  # the others take connections as they come; and the master calls this too, for a worker that is gone
        if not worker.booted or worker.aborted or worker.nr >= worker.max_requests:
            return
        for listener in worker.sockets:
            waiting = listener.get_backlog()  # -1: it does not know
            while waiting and not self._cut:
                waiting -= 1
                try:
                    worker.accept(listener)
                except OSError:
                    break  # nobody waits any more
