"""Why a worker does not end: `terminate` sends TERM, and the worker has the handler of its parent's event loop, which does not run there."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import time


async def main() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print, "the parent was asked")
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    worker.start()
    worker.terminate()
    worker.join(2)
    print("the worker runs on" if worker.is_alive() else "the worker has ended")
    worker.kill()


asyncio.run(main())
