"""A tree that forks at full rate and can never run away: `python bomb.py ALIVE SECONDS MARK`.

Every process holds one token out of a pipe that had ALIVE of them, so there are never more processes than that.
Nothing lives longer than SECONDS. MARK is only there to be seen in the command line of all of them.
Says `full` once when the last token was taken for the first time.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time


def main() -> None:
    """Fork until the time is over."""
    alive, seconds = int(sys.argv[1]), float(sys.argv[2])
    deadline = time.monotonic() + seconds
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: no zombies
    tokens, give = os.pipe()
    os.write(give, b"t" * (alive - 1))
    first, put = os.pipe()
    os.write(put, b"f")
    os.set_blocking(tokens, False)
    os.set_blocking(first, False)
    poller = select.poll()
    poller.register(tokens, select.POLLIN)
    while time.monotonic() < deadline:
        try:
            os.read(tokens, 1)
        except BlockingIOError:
            try:
                os.read(first, 1)
                os.write(1, b"full\n")
            except BlockingIOError:
                pass
            if random.random() < 0.05:
                break  # makes room for another one's child: births never end
            poller.poll(10)
            continue
        if os.fork() == 0:
            random.seed()
        elif random.random() < 0.3:
            break  # leaves an orphan
    os.write(give, b"t")
    os._exit(0)


main()
