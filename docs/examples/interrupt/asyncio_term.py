"""A `finally` that does not run: nothing in `asyncio.run` hears TERM."""

from __future__ import annotations

import asyncio
import os
import signal


async def main() -> None:
    """Wait for work, and tidy up at the end."""
    try:
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.sleep(1000)
    finally:
        print("tidied up")


asyncio.run(main())
