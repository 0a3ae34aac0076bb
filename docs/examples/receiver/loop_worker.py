"""A worker: makes a result of every file in a folder. Asked to stop, it finishes the file that it has begun.

Run it as `python loop_worker.py INBOX OUTBOX`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from endtask_receiver import Stop, listen


def handle(stop: Stop, source: Path, outbox: Path) -> None:
    """Make one result; the two steps at the end belong together."""
    time.sleep(0.02)  # the work
    result = source.read_text().upper()
    with stop.shield(5, f"writing {source.name}"):  # not even a third request ends the process in here
        (outbox / source.name).write_text(result)
        source.unlink()
    print("done", source.name, flush=True)


def main() -> None:
    """Work until somebody asks."""
    inbox, outbox = Path(sys.argv[1]), Path(sys.argv[2])
    with listen(grace_s=10, name="loop worker") as stop:
        print("ready", flush=True)
        while not stop:
            for source in stop.iterate(sorted(inbox.iterdir())):
                handle(stop, source, outbox)
            stop.nap(0.5)  # until it looks again; a request ends the nap at once
        print("stopped by", stop.request, flush=True)
        stop.finish()


if __name__ == "__main__":
    main()
