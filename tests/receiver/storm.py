"""A program that is asked again and again at random moments of everything that programs do; run by test_storm.py.

Words: how many rounds, and a seed.  One round: begin to listen, be asked by another process, by a signal or by the channel, within 200 microseconds, do something, notice.
What must not happen: a round that does not notice, or a request that acts on the program where the program has not said that it may.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import signal
import socket
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING

from endtask_receiver import Stop, StopRequested, listen

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 60.0
DATA = os.urandom(20_000)


class Sender:
    """Another process, which asks us a moment after it was told so."""

    def __init__(self, seed: int) -> None:
        self._reader, self._writer = os.pipe()
        target = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._writer)
            chance = random.Random(seed)
            for line in open(self._reader):  # noqa: SIM115  # until we end
                end = time.perf_counter() + chance.random() * 200e-6
                while time.perf_counter() < end:
                    pass
                way = chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, None))
                if way is None:
                    talk(line.strip(), leave=chance.random() < 0.5)
                else:
                    os.kill(target, way)
            os._exit(0)

    def arm(self, path: str) -> None:
        """Have us asked; *path* is that of our socket."""
        os.write(self._writer, path.encode() + b"\n")

    def close(self) -> None:
        os.close(self._writer)
        os.waitpid(self.pid, 0)


def talk(path: str, *, leave: bool) -> None:
    """Ask by the channel; wait for the end, or go away at once."""
    with socket.socket(socket.AF_UNIX) as requester:
        requester.connect(path)
        requester.sendall(b'{"endtask":1,"request":{"left_s":10,"reason":"storm","by":"a test"}}\n')
        while not leave and requester.recv(4096):
            pass


class Things:
    """What programs do, with something that breaks if a request acts in the middle."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.left = self.right = 0
        self.there: queue.Queue[int] = queue.Queue()
        self.back: queue.Queue[int] = queue.Queue()
        threading.Thread(target=self._echo, daemon=True).start()
        self.log = logging.getLogger("storm")
        self.log.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: SIM115  # as long as the program
        self.kinds: list[Callable[[Stop], None]] = [
            self.wait,
            self.spin,
            self.critical,
            self.queues,
            self.naps,
            self.compress,
            self.logging,
            self.checkpoints,
            self.threads,
            self.turns,
        ]

    def _echo(self) -> None:
        while True:
            self.back.put(self.there.get())

    def wait(self, stop: Stop) -> None:
        stop.wait(LIMIT_S)

    def spin(self, stop: Stop) -> None:
        while not stop.asked:
            pass

    def critical(self, stop: Stop) -> None:
        while not stop:
            with self.lock:
                self.left += 1
                self.right += 1

    def queues(self, stop: Stop) -> None:
        number = 0
        while not stop:
            self.there.put(number)
            assert self.back.get(timeout=LIMIT_S) == number
            number += 1

    def naps(self, stop: Stop) -> None:
        while not stop.nap(0.0001):
            pass

    def compress(self, stop: Stop) -> None:
        for _ in stop.iterate(iter(int, 1)):
            zlib.compress(DATA)

    def logging(self, stop: Stop) -> None:
        while not stop:
            self.log.error("a line")

    def checkpoints(self, stop: Stop) -> None:
        try:
            while True:
                with stop.shield(LIMIT_S):
                    self.left += 1
                    stop.checkpoint()
                    self.right += 1
                stop.checkpoint()
        except StopRequested:
            pass

    def threads(self, stop: Stop) -> None:
        waiters = [threading.Thread(target=stop.wait, args=(LIMIT_S,)) for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join()

    def turns(self, stop: Stop) -> None:
        for _ in stop.every(0.0001):
            pass


def main() -> None:
    """Do the rounds and print what was wrong; nothing is good."""
    rounds, seed = int(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(seed)
    sender = Sender(seed)
    things = Things()
    for turn in range(rounds):
        kind = chance.choice(things.kinds)
        with listen() as stop:
            sender.arm(stop.ears[-1].partition(": ")[2])
            kind(stop)
            noticed = stop.wait(LIMIT_S)
        # Both ears have said what they heard: they are closed.
        if not noticed or len(stop.requests) != 1 or stop.hurry or stop.faults:
            print(f"round {turn}, {kind.__name__}: {stop!r} {stop.requests} {stop.faults}")
        if things.left != things.right or things.lock.locked():
            print(f"round {turn}, {kind.__name__}: {things.left} {things.right} {things.lock}")
    sender.close()
    print(f"{rounds} rounds")


if __name__ == "__main__":
    main()
