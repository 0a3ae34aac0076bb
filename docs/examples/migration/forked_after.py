"""The same with the receiver."""

from __future__ import annotations

import asyncio
import multiprocessing
import time

from endtask_receiver import Stop, listen


async def main(stop: Stop) -> None:
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    worker.start()
    worker.terminate()
    worker.join(20)  # it is a matter of milliseconds, where the machine is not busy
    print("the worker runs on" if worker.is_alive() else "the worker has ended")
    print("the parent was asked" if stop else "the parent was not asked")
    worker.kill()


with listen() as stop:
    asyncio.run(main(stop))
