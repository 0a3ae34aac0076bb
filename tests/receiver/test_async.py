"""asyncio, trio and anyio: awaited, iterated, cancelled; by real signals too."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import anyio
import pytest
import trio

from endtask_receiver import Policy, Stop, StopRequest, _loops, aio, anyio_, listen, trio_
from endtask_receiver.testing import fake

from .lab import LIMIT_S, MINORS, Program, folder_of_the_receiver, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeAlias

    Runner: TypeAlias = tuple[Callable[[Coroutine[Any, Any, object]], object], Any]

pytestmark = [pytest.mark.real]

# Each: how to run a coroutine, and the module for its loop.
LOOPS: dict[str, Runner] = {
    "asyncio": (asyncio.run, aio),
    "trio": (lambda main: trio.run(lambda: main), trio_),
    "anyio on asyncio": (lambda main: anyio.run(lambda: main, backend="asyncio"), anyio_),
    "anyio on trio": (lambda main: anyio.run(lambda: main, backend="trio"), anyio_),
}


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> Runner:
    """How to run a coroutine, and the module for its loop."""
    return LOOPS[request.param]


async def soon(function: Callable[[], object]) -> None:
    """Call something from another thread, while the loop waits."""
    import threading

    threading.Timer(0.01, function).start()


class Scope:
    """`cancel_on_stop`, which is `async with` in asyncio and `with` elsewhere."""

    def __init__(self, module: Any, *args: object) -> None:
        self.inner = module.cancel_on_stop(*args)

    async def __aenter__(self) -> Any:
        if hasattr(self.inner, "__aenter__"):
            return await self.inner.__aenter__()
        return self.inner.__enter__()

    async def __aexit__(self, *error: object) -> Any:
        if hasattr(self.inner, "__aexit__"):
            return await self.inner.__aexit__(*error)
        return self.inner.__exit__(*error)


def cancelled(scope: Any) -> bool:
    """Return whether a scope has swallowed the cancellation; the four say it in three ways."""
    return bool(getattr(scope, "cancelled", None) or getattr(scope, "cancelled_caught", None))


# ---------------------------------------------------------------- awaiting


def test_it_is_awaited_until_somebody_asks(loop: Runner) -> None:
    """From another thread, as an ear does."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        await soon(lambda: stop.ask("enough"))
        assert (await stop).reason == "enough"
        assert (await module.asked(stop)).reason == "enough"
        assert stop._wakers == []

    run(main())


def test_waiting_has_a_limit(loop: Runner) -> None:
    """And says whether somebody has asked."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        assert await module.wait(stop, 0.01) is False
        await soon(stop.ask)
        assert await module.wait(stop, LIMIT_S) is True
        assert await module.wait(stop) is True
        assert stop._wakers == []

    run(main())


def test_every_distinct_request_is_iterated(loop: Runner) -> None:
    """Those that were before, and those that come."""
    run, _module = loop

    async def main() -> list[str]:
        stop = Stop(policy=Policy(window_s=0.0))
        seen: list[str] = []
        stop._heard(StopRequest(1.0, "signal", name="SIGTERM"))
        stop._heard(StopRequest(2.0, "signal", name="SIGHUP"))
        requests = stop.__aiter__()
        async for request in requests:
            seen.append(request.name)
            if request.name == "SIGHUP":
                await soon(lambda: stop._heard(StopRequest(3.0, "signal", name="SIGINT")))
            if request.name == "SIGINT":
                break
        await requests.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert stop._wakers == []
        return seen

    seen: list[object] = []

    async def keep() -> None:
        seen.extend(await main())

    run(keep())
    assert seen == ["SIGTERM", "SIGHUP", "SIGINT"]


def test_a_request_after_the_end_of_the_loop_harms_nobody(loop: Runner) -> None:
    """A waker may be left over in a handler that runs late."""
    run, module = loop
    stop = Stop()
    wakers: list[Callable[[], object]] = []

    async def main() -> None:
        async with Scope(module, stop):
            wakers.extend(stop._wakers)
        with _loops.Bell(stop):
            wakers.extend(stop._wakers)

    run(main())
    assert wakers
    for waker in wakers:
        waker()


# ---------------------------------------------------------------- cancelling


def test_a_block_is_cancelled_by_a_request_and_ends_without_an_error(loop: Runner) -> None:
    """What waits in it is cut short."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        await soon(stop.ask)
        async with Scope(module, stop) as scope:
            await (asyncio.sleep if run is asyncio.run else anyio.sleep)(1000)
            raise AssertionError
        assert cancelled(scope)
        assert stop._wakers == []

    run(main())


def test_a_block_that_ends_before_is_left_alone(loop: Runner) -> None:
    """And so is what comes after it."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        async with Scope(module, stop) as scope:
            pass
        stop.ask()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()  # whatever had been asked of the loop would be done by now
        assert not cancelled(scope)

    run(main())


def test_a_block_begun_after_the_request_is_cancelled_at_its_first_wait(loop: Runner) -> None:
    """Nothing is lost in between."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        stop.ask()
        async with Scope(module, stop) as scope:
            await anyio.sleep(1000)
        assert cancelled(scope)

    run(main())


def test_a_block_may_wait_for_the_second_request(loop: Runner) -> None:
    """The first one begins the draining, the second cuts it."""
    run, module = loop

    async def main() -> None:
        stop = Stop(1000, Policy(window_s=0.0))
        stop.ask()
        await soon(stop.ask)
        async with Scope(module, stop, "hurry") as scope:
            await anyio.sleep(1000)
        assert cancelled(scope)

    run(main())


def test_a_block_may_wait_for_the_deadline_and_the_deadline_may_move(loop: Runner) -> None:
    """Draining takes what is left, and no more."""
    run, module = loop

    async def main() -> None:
        stop = Stop(0.05)
        begin = time.monotonic()
        async with Scope(module, stop, "deadline") as scope:
            stop.ask()
            stop.need(0.2)
            await anyio.sleep(1000)
        assert cancelled(scope)
        assert time.monotonic() - begin >= 0.2

    run(main())


def test_a_block_that_waits_for_the_deadline_hears_a_request_from_another_thread(loop: Runner) -> None:
    """Where anyio does not know by itself in which loop it is."""
    run, module = loop

    async def main() -> None:
        stop = Stop(0.05)
        async with Scope(module, stop, "hurry") as scope:
            await soon(stop.ask)
            with anyio.fail_after(LIMIT_S):
                await anyio.sleep(1000)
        assert cancelled(scope)

    run(main())


def test_a_wrong_word_is_an_error(loop: Runner) -> None:
    """At once."""
    run, module = loop

    async def main() -> None:
        with pytest.raises(ValueError, match="when is one of asked, hurry, deadline"):
            module.cancel_on_stop(Stop(), "later")

    run(main())


def test_an_error_within_the_block_is_no_cancellation(loop: Runner) -> None:
    """Nothing is swallowed."""
    run, module = loop

    async def main() -> None:
        stop = Stop()
        with pytest.raises(KeyError):
            async with Scope(module, stop):
                raise KeyError
        with pytest.raises(KeyError):
            async with Scope(module, stop):
                try:
                    stop.ask()
                    await anyio.sleep(1000)
                finally:
                    raise KeyError

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before Python 3.11 nobody can tell who has cancelled")
def test_a_cancellation_by_somebody_else_goes_through() -> None:
    """Asyncio counts who cancels."""

    async def block(stop: Stop, entered: asyncio.Event) -> None:
        async with aio.cancel_on_stop(stop):
            entered.set()
            await asyncio.sleep(1000)

    async def main() -> None:
        stop, entered = Stop(), asyncio.Event()
        task = asyncio.create_task(block(stop, entered))
        await entered.wait()
        stop.ask()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())


def test_a_fake_is_awaited_as_well() -> None:
    """Programs with loops can be tested without signals."""

    async def main() -> str:
        with fake() as stop:
            asyncio.get_running_loop().call_soon(stop.ask, "test")
            return (await stop).reason
        raise AssertionError

    assert asyncio.run(main()) == "test"


# ---------------------------------------------------------------- signals

ASYNCIO = """
import asyncio
from endtask_receiver import listen

async def handle(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()

async def main(stop):
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print("ready", flush=True)
    request = await stop
    server.close()
    print(request, flush=True)

with listen() as stop:
    asyncio.run(main(stop))
"""


@pytest.mark.slow
@pytest.mark.parametrize("minor", MINORS)
def test_a_server_of_asyncio_stops_at_a_signal(minor: int) -> None:
    """With an idle loop: nothing but the signal wakes it."""
    with Program(
        f"import sys; sys.path.append({folder_of_the_receiver()!r})\n" + ASYNCIO, python=interpreter(minor)
    ) as program:
        program.expect("ready")
        program.send()
        program.ends(0, "SIGTERM")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_trio_stops_at_a_signal_without_a_warning(number: signal.Signals) -> None:
    """It keeps its wake-up descriptor, and Ctrl+C is a request like the others."""
    with Program(
        """
        import trio, warnings
        warnings.simplefilter("error")
        from endtask_receiver import listen
        async def main(stop):
            print("ready")
            print(await stop)
        with listen(watch=False) as stop:
            trio.run(main, stop)
        """
    ) as program:
        program.expect("ready")
        program.send(number)
        program.ends(0, number.name)


@pytest.mark.slow
def test_a_hundred_signals_to_an_idle_loop_are_all_noticed() -> None:
    """Each loop waits anew, and the signal lands in any place of its way there."""

    async def main(stop: Stop) -> None:
        import os

        await soon(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert (await asyncio.wait_for(aio.asked(stop), LIMIT_S)).name == "SIGHUP"

    for _ in range(100):
        with listen(signals=["HUP"]) as stop:
            asyncio.run(main(stop))
