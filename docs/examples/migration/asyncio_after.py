"""The same with the receiver."""

from __future__ import annotations

import asyncio

from endtask_receiver import Stop, listen


async def main(stop: Stop) -> None:
    print("ready", flush=True)
    await stop
    print("saved")


with listen() as stop:
    asyncio.run(main(stop))
