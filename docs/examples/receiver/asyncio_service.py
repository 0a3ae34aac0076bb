"""A server on asyncio: asked to stop, it refuses new connections, answers what it has been asked, and closes what is idle.

Run it as `python asyncio_service.py`.
"""

from __future__ import annotations

import asyncio

from endtask_receiver import Stop, listen
from endtask_receiver.aio import cancel_on_stop


async def answer(line: bytes) -> bytes:
    """Make the answer to one question."""
    await asyncio.sleep(0.5)  # the work
    return line.upper()


class Service:
    """Answers lines, any number on each connection."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.connections: set[asyncio.Task[object]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            while not self.stop:
                async with cancel_on_stop(self.stop):  # cut while it waits for a question, never within an answer
                    line = b""
                    line = await reader.readline()
                if not line:
                    break
                print("asked", line.decode().strip(), flush=True)
                writer.write(await answer(line))
                await writer.drain()
        except asyncio.CancelledError:
            pass  # the draining was cut short; before Python 3.12 asyncio complains of a connection that ends by this
        finally:
            writer.close()
            self.connections.discard(task)


async def main(stop: Stop) -> None:
    """Serve until somebody asks, then drain."""
    service = Service(stop)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    print("ready on", server.sockets[0].getsockname()[1], flush=True)
    request = await stop
    server.close()
    print("stopped by", request, flush=True)
    async with cancel_on_stop(stop, "hurry"):  # a second request, or the deadline, cuts the draining short
        await asyncio.gather(*service.connections, return_exceptions=True)


if __name__ == "__main__":
    with listen(grace_s=10, name="asyncio service") as stop:
        asyncio.run(main(stop))
        stop.finish()
