"""The asynchronous driver: the same run, awaited on one descriptor, without threads.

A run waits on one epoll descriptor, and an epoll descriptor is itself readable when something in it is ready (epoll(7)),
so asyncio and trio can wait for it like for a socket.
Decision: no dependency on sniffio or anyio; trio is asked only if it has been imported, because a trio program has imported it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._api import Session
    from endtask.model import Report


async def drive(session: Session) -> Report:
    """Run a session to its end in the running event loop.

    Raises:
        RuntimeError: Neither asyncio nor trio is running here.
    """
    steps = session.steps()
    waiter = session.waiter
    readable = _readable_trio if _in_trio() else _readable_asyncio
    try:
        timeout_s = next(steps)
        while True:
            if waiter.poll_s is not None:
                timeout_s = min(timeout_s, waiter.poll_s)
            await readable(waiter.fileno(), timeout_s)
            timeout_s = steps.send(waiter.wait(0))
    except StopIteration as done:
        report: Report = done.value
        return report
    finally:
        steps.close()


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


async def _readable_asyncio(fd: int, timeout_s: float) -> None:
    """Wait until *fd* is readable or the time is up."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    timer = loop.call_later(timeout_s, wake)
    try:
        await ready
    finally:
        timer.cancel()
        loop.remove_reader(fd)


async def _readable_trio(fd: int, timeout_s: float) -> None:
    """Wait until *fd* is readable or the time is up."""
    import trio

    with trio.move_on_after(timeout_s):
        await trio.lowlevel.wait_readable(fd)
