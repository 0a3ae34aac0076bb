"""An event, set by a handler of `loop.add_signal_handler`."""

from __future__ import annotations

import asyncio
import signal


async def main() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    print("ready", flush=True)
    await asked.wait()
    print("saved")


asyncio.run(main())
