"""A pipeline on anyio, over asyncio or trio: asked to stop, it takes nothing new and does what it has taken. What is cut short is written down.

Run it as `python anyio_service.py FOLDER asyncio|trio`.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from endtask_receiver import Stop, listen
from endtask_receiver.anyio_ import cancel_on_stop, wait

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

WORKERS = 4


class Pipeline:
    """Takes jobs and does them."""

    def __init__(self, folder: Path) -> None:
        self.done = (folder / "done").open("a")
        self.open: set[int] = set()  # taken, and not done yet

    async def work(self, jobs: MemoryObjectReceiveStream[int]) -> None:
        """Be one of the workers, until the stream has ended and is empty."""
        async for job in jobs:
            await anyio.sleep(0.05)  # the work; the only place where it can be cut
            self.done.write(f"{job}\n")
            self.done.flush()
            self.open.remove(job)

    async def run(self, stop: Stop) -> None:
        """Take jobs until somebody asks; then wait for what was taken."""
        send, receive = anyio.create_memory_object_stream[int](100)
        with cancel_on_stop(stop, "hurry"):  # a second request, or the deadline
            async with anyio.create_task_group() as group, send:
                for _ in range(WORKERS):
                    group.start_soon(self.work, receive)
                for job in itertools.count():
                    self.open.add(job)
                    await send.send(job)
                    print("taken", job, flush=True)
                    if await wait(stop, 0.005):  # the time between two jobs; ends at once when somebody asks
                        break
        receive.close()


def main() -> None:
    """Work, and write down what was left."""
    folder, loop = Path(sys.argv[1]), sys.argv[2]
    pipeline = Pipeline(folder)
    # trio wants to be the only one who watches the wake-up descriptor, and it wakes for signals by itself.
    with listen(grace_s=10, name="anyio service", watch=loop != "trio") as stop:
        print("ready", flush=True)
        anyio.run(pipeline.run, stop, backend=loop)
        (folder / "left").write_text("".join(f"{job}\n" for job in sorted(pipeline.open)))
        stop.finish()


if __name__ == "__main__":
    main()
