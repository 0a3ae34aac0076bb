"""Requests at any moment, and more of them than anybody needs: none lost, none acted on outside a safe point, no deadlock.

`ENDTASK_STORM=100000` makes it as long as it should be once before a release.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from .lab import LIMIT_S, Program

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROUNDS = int(os.environ.get("ENDTASK_STORM", "2000"))
HERE = os.path.dirname(__file__)


def test_every_request_of_a_storm_is_noticed_and_acts_at_a_safe_point_only() -> None:
    """One request a round, within 200 microseconds of ten kinds of activity."""
    seed = random.randrange(2**32)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", f"{HERE}/storm.py", str(ROUNDS), str(seed)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S + ROUNDS * 0.05,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROUNDS} rounds\n", ""), f"seed {seed}"


FLOOD = """
    import os, sys, threading
    from endtask_receiver import Policy, listen
    with listen(policy=Policy(window_s=1000.0)) as stop:  # a busy machine makes pauses in the middle of it
        asked = threading.Thread(target=lambda: [stop.ask("from a thread") for _ in range(1000)])
        print("ready")
        asked.start()
        line = ""
        turns = 0
        while line != "done\\n":
            if line == "":
                line = sys.stdin.readline()
            turns += 1
        asked.join()
        print(stop.asked, len(stop.requests), stop.faults, stop.hurry)
        stop.tell("draining")
        stop.finish(0)
"""


def test_a_flood_is_one_request_and_costs_nothing() -> None:
    """As fast as two processes and a thread can send: nothing grows, nothing hurries, nobody hangs."""
    sender = "import os, sys\nfor _ in range(int(sys.argv[2])): os.kill(int(sys.argv[1]), 15)"
    with Program(FLOOD, stdin=subprocess.PIPE) as program:
        program.expect("ready")
        crowd = [
            subprocess.Popen([sys.executable, "-c", sender, str(program.pid), str(max(ROUNDS, 10_000) // 2)])
            for _ in range(2)
        ]
        assert [each.wait(LIMIT_S + ROUNDS * 0.01) for each in crowd] == [0, 0]
        assert program.process.stdin is not None
        program.process.stdin.write(b"done\n")
        program.process.stdin.flush()
        program.ends(0, "True 64 0 False")


def test_the_watching_thread_may_be_late_by_any_amount() -> None:
    """The pipe is full and bytes are lost: handlers have heard it all the same, and the next requests are heard too."""
    with Program(
        """
        import fcntl, os, signal
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(steps=["ask", "hurry"], window_s=0.0)) as stop:
            watcher = stop._ears[0].watcher
            try:
                while True:
                    os.write(watcher.write_fd, b"\\0" * 4096)
            except BlockingIOError:
                pass
            signal.raise_signal(signal.SIGTERM)
            print(stop.wait(30))
            print("ready")
            while not stop.hurry:
                pass
            print(stop.hurry)
        """
    ) as program:
        program.expect("True", "ready")
        program.send(signal.SIGTERM)
        program.ends(0, "True")
