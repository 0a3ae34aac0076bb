"""The asynchronous driver: the same run, awaited without threads of its own.

Two ways to be woken, by what the waiter has to offer:

- A descriptor (Linux). A run waits on one epoll descriptor, and an epoll descriptor is itself readable when something in it is ready (epoll(7)),
  so asyncio and trio can wait for it like for a socket.
- News (Windows). The system calls from a thread of its own when a handle is signalled, and that call is handed over to the event loop.
  So it works in every loop, also in asyncio's Selector loop, which waits for sockets only; rejected: `IocpProactor.wait_for_handle`, which is private.

Decision: no dependency on sniffio or anyio; trio is asked only if it has been imported, because a trio program has imported it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._api import Session
    from endtask._backends.base import Waiter
    from endtask.model import Report


async def drive(session: Session) -> Report:
    """Run a session to its end in the running event loop.

    Raises:
        RuntimeError: Neither asyncio nor trio is running here.
    """
    steps = session.steps()
    waiter = session.waiter
    turn = _turn_trio if _in_trio() else _turn_asyncio
    try:
        timeout_s = next(steps)
        while True:
            if waiter.poll_s is not None:
                timeout_s = min(timeout_s, waiter.poll_s)
            await turn(waiter, timeout_s)
            timeout_s = steps.send(waiter.wait(0))
    except StopIteration as done:
        report: Report = done.value
        return report
    finally:
        steps.close()


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


async def _turn_asyncio(waiter: Waiter, timeout_s: float) -> None:
    """Wait until the waiter has something to say or the time is up."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            pass  # ignored: the loop has been closed, and nobody waits any more

    fd = waiter.fileno()
    timer = loop.call_later(timeout_s, wake)
    try:
        if fd is None:
            waiter.on_news(tell)
        else:
            loop.add_reader(fd, wake)
        await ready
    finally:
        timer.cancel()
        if fd is None:
            waiter.on_news(None)
        else:
            loop.remove_reader(fd)


async def _turn_trio(waiter: Waiter, timeout_s: float) -> None:
    """Wait until the waiter has something to say or the time is up."""
    import trio

    fd = waiter.fileno()
    if fd is not None:
        with trio.move_on_after(timeout_s):
            await trio.lowlevel.wait_readable(fd)
        return
    token = trio.lowlevel.current_trio_token()
    ready = trio.Event()

    def tell() -> None:
        try:
            token.run_sync_soon(ready.set)
        except trio.RunFinishedError:
            pass  # ignored: nobody waits any more

    waiter.on_news(tell)
    try:
        with trio.move_on_after(timeout_s):
            await ready.wait()
    finally:
        waiter.on_news(None)
