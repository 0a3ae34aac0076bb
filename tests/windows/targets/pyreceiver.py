"""A program that listens with endtask_receiver: `pyreceiver LOG EVENT MODE [NUMBER [TEXT]]`, as the other targets (target.h).

What `listen` is told stands in TEXT, as the keyword arguments of Python. When it is asked it says `asked CHANNEL NAME SECONDS-LEFT`,
then it cleans up for NUMBER ms, says `cleaned up`, and ends with 7 (STOPPED_BY_ITSELF).

Modes:
    loop       `while not stop: stop.nap(...)`
    zero       the same, and ends with 0, as most programs do
    asyncio    `await stop` in the usual loop
    cancel     a task in `cancel_on_stop`
    finish     `stop.finish()`
    status     `stop.finish("status")`
    ears       says what is heard, `ear ...`, line by line; then as `loop`
    veto       refuses the first request, then as `loop`
    chained    a handler for SIGINT is there before `listen`; after `close` it ends the program
    nested     a `listen` within another one; both say what they heard
    again      installs the handlers anew
    stubborn   never ends by itself; says `hurry` when it is to
    tells      says who has asked and why, and tells a requester how far it is
    aiotells   the same, in a coroutine
    needs      asks for NUMBER ms, says `left` when it has got them or its time is over, and ends
    floods     tells more than anybody keeps for a caller that does not read, NUMBER times, and looks at the time that this takes
    twice      listens, closes, and listens again, then as `loop`
    orphan     starts a child in mode `loop` that listens to the end of its parent, and ends at its own request
    service    a service, TEXT being its name
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
import atexit
import os
import signal
import subprocess
import threading
import time

from endtask_receiver import Stop, listen
from tests.windows.targets.pytarget import EVENT, LOG, MODE, NUMBER, STOPPED_BY_ITSELF, guard, ready, say

MODULE = "tests.windows.targets.pyreceiver"
TEXT = sys.argv[5] if len(sys.argv) > 5 else ""


def listening(**more: object) -> Stop:
    """Listen as TEXT says."""
    told: dict[str, object] = {} if MODE == "service" else eval(f"dict({TEXT})")
    return listen(**{"name": "receiver target", **told, **more})  # type: ignore[arg-type]  # what the test says


def asked(stop: Stop) -> None:
    """Say what was heard, and clean up."""
    request = stop.request
    assert request is not None
    say(f"asked {request.channel} {request.name} {stop.left():.2f}")
    time.sleep(NUMBER / 1000)  # what a real program would save now
    say("cleaned up")


def loop(code: int = STOPPED_BY_ITSELF) -> None:
    """Stop at a time of our own choice."""
    with listening() as stop:
        ready()
        while not stop:
            stop.nap(60)
        asked(stop)
    sys.exit(code)


def zero() -> None:
    """End as most programs do."""
    loop(0)


def aio() -> None:
    """Await it."""

    async def work() -> None:
        ready(f" loop={type(asyncio.get_running_loop()).__name__}")
        await stop
        asked(stop)

    with listening() as stop:
        asyncio.run(work())
    sys.exit(STOPPED_BY_ITSELF)


def cancel() -> None:
    """Be cancelled by it."""
    from endtask_receiver.aio import cancel_on_stop

    async def work() -> None:
        ready()
        async with cancel_on_stop(stop) as scope:
            await asyncio.sleep(120)
        say(f"cancelled {scope.cancelled}")
        asked(stop)

    with listening() as stop:
        asyncio.run(work())
    sys.exit(STOPPED_BY_ITSELF)


def finish() -> None:
    """End with the truth."""
    with listening() as stop:
        ready()
        stop.wait()
        asked(stop)
        stop.finish("status" if MODE == "status" else None)


def ears() -> None:
    """Say what is heard."""
    with listening() as stop:
        for line in stop.ears:
            say(f"ear {line}")
        ready()
        stop.wait()
        asked(stop)
    sys.exit(STOPPED_BY_ITSELF)


def veto() -> None:
    """Refuse once."""
    with listening() as stop:
        ready()
        stop.wait()
        say(f"vetoed {stop.veto('not yet')}")
        stop.wait()
        asked(stop)
    sys.exit(STOPPED_BY_ITSELF)


def chained() -> None:
    """Be there before `listen`, with it, and after it."""
    heard: list[int] = []  # an Event would deadlock now and then: its lock is taken in the handler

    def on_signal(number: int, _: object) -> None:
        say(f"signal {signal.Signals(number).name}")
        heard.append(number)

    signal.signal(signal.SIGINT, on_signal)
    with listening() as stop:
        ready()
        stop.wait()
        say("asked")
        while not heard:
            time.sleep(0.05)  # Python calls its handlers in between
    heard.clear()
    say("closed")
    while not heard:
        time.sleep(0.05)
    sys.exit(STOPPED_BY_ITSELF)


def nested() -> None:
    """Listen twice."""
    with listening() as outer, listening() as inner:
        ready()
        inner.wait()
        say(f"inner {inner.request}")
        inner.tell("inner", 1, 2)
        outer.wait()
        say(f"outer {outer.request}")
    sys.exit(STOPPED_BY_ITSELF)


def again() -> None:
    """Do what a program does that changes its console."""
    from endtask_receiver.console import console_changed

    with listening() as stop:
        console_changed()
        console_changed()
        ready()
        stop.wait()
        asked(stop)
    sys.exit(STOPPED_BY_ITSELF)


def stubborn() -> None:
    """Hear, and go on."""
    news = threading.Semaphore(0)
    with listening() as stop:
        stop.add_waker(news.release)
        ready()
        stop.wait()
        asked(stop)
        while not stop.hurry:
            news.acquire()
        say(f"hurry {len(stop.requests)}")
        threading.Event().wait()


def tell_all(stop: Stop) -> None:
    """Tell how far we are."""
    request = stop.request
    assert request is not None
    say(f"asked {request.channel} {request.name} {stop.left():.2f}")
    say(f"because {request.pid} {request.reason}")
    for done in range(1, 4):
        stop.tell("draining", done, 3)


def tells() -> None:
    """Tell how far we are, then clean up."""
    with listening() as stop:
        ready()
        stop.wait()
        tell_all(stop)
        stop.cleanup(say, "cleaned up", name="the log")
    sys.exit(STOPPED_BY_ITSELF)


def aiotells() -> None:
    """Do so in a coroutine."""

    async def work() -> None:
        ready()
        await stop
        tell_all(stop)
        await asyncio.sleep(NUMBER / 1000)

    with listening() as stop:
        asyncio.run(work())
    sys.exit(STOPPED_BY_ITSELF)


def needs() -> None:
    """Ask for more time."""
    news = threading.Semaphore(0)
    with listening() as stop:
        stop.add_waker(news.release)
        ready()
        stop.wait()
        before_s = stop.left()
        stop.need(NUMBER / 1000, "flushing")
        while stop.left() <= before_s and not stop.hurry:
            news.acquire()
        say(f"left {stop.left():.1f}")
    sys.exit(STOPPED_BY_ITSELF)


def floods() -> None:
    """Tell a lot."""
    with listening() as stop:
        ready()
        stop.wait()
        longest_s = 0.0
        for number in range(NUMBER):
            begin = time.perf_counter()
            stop.tell(f"{number} {'x' * 450}")
            longest_s = max(longest_s, time.perf_counter() - begin)
            time.sleep(0.025)  # more in a moment would be one message
        say("never waited" if longest_s < 2 else f"waited {longest_s:.1f}")
        stop.cleanup(int, name="last")
    sys.exit(STOPPED_BY_ITSELF)


def twice() -> None:
    """Listen again."""
    listening(name="first").close()
    loop()


def orphan() -> None:
    """Be a parent that ends."""
    run = f"import runpy, sys; sys.path[:0] = {sys.path[:2]}; runpy.run_module({MODULE!r}, run_name='__main__')"
    words = [sys.executable, "-I", "-S", "-c", run, LOG, EVENT, "loop", str(NUMBER), "parent=True"]
    with listening(parent=False) as stop:
        child = subprocess.Popen(words, creationflags=subprocess.CREATE_NO_WINDOW)
        say(f"child {child.pid} of {os.getpid()}")
        stop.wait()
        say("parent ends")
    os._exit(STOPPED_BY_ITSELF)


def service() -> None:
    """Be a service."""
    from tests.windows.targets import pyservice

    pyservice.run(TEXT, asked)


if __name__ == "__main__":
    threading.Thread(target=guard, daemon=True).start()
    atexit.register(say, "atexit")
    modes = {f.__name__: f for f in (loop, zero, cancel, finish, ears, veto, chained, nested, again, stubborn)}
    modes |= {f.__name__: f for f in (tells, aiotells, needs, floods, twice)}
    modes |= {"asyncio": aio, "status": finish, "orphan": orphan, "service": service}
    modes[MODE]()
