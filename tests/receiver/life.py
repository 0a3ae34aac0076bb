"""A short life with everything in it, for test_moments.py: imports, start-up, work, shields, threads, children, cleanup, the end of the interpreter.

It says `listening` when it listens, `cleaned` when its cleanup is done.  Whoever reads the first must read the second, unless it was ended at once.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading

from endtask_receiver import Stop, StopRequested, listen


def say(word: str) -> None:
    """Write a line with one system call."""
    os.write(1, word.encode() + b"\n")


class Late:
    """Has something to do when the modules are emptied."""

    def __del__(self) -> None:
        sum(range(20_000))


def work(stop: Stop) -> None:
    """Do a little of everything, for some tens of milliseconds."""
    data = sqlite3.connect(":memory:")
    data.execute("create table t (i)")
    for turn in stop.iterate(range(3)):
        with stop.shield(5, "writing"):
            data.execute("insert into t values (?)", (turn,))
            data.commit()
        stop.nap(0.003)
        logging.getLogger().debug(json.dumps({"turn": turn}))
    stop.checkpoint()
    subprocess.run(["true"], check=True)
    stop.checkpoint()
    asyncio.run(loop(stop))


async def loop(stop: Stop) -> None:
    """Wait a moment in a loop."""
    from endtask_receiver import aio

    await aio.wait(stop, 0.003)


def main() -> None:
    """Live."""
    how = sys.argv[1]
    with listen(grace_s=5) as stop:
        say("listening")
        atexit.register(sum, range(20_000))
        stop.cleanup(say, "cleaned")
        stop.cleanup(sum, range(20_000), budget_s=5)
        thread = threading.Thread(target=stop.wait, args=(0.01,))
        thread.start()
        stop.cleanup(thread.join)
        if how == "finish":
            try:
                work(stop)
            except StopRequested:
                pass
            stop.finish()  # within the block: so it hears until the interpreter is gone
        work(stop)


late = Late()
if __name__ == "__main__":
    main()
