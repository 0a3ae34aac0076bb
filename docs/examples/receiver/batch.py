"""A long computation that goes on where it was: asked to stop, it saves at the next checkpoint and says "run me again" (status 75).

Run it as `python batch.py STATE TOTAL`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from endtask_receiver import listen

AGAIN = 75  # EX_TEMPFAIL of sysexits.h: try again later


class Sum:
    """The sum of the squares so far."""

    def __init__(self, path: Path) -> None:
        """Go on from what was saved, or begin."""
        self.path = path
        saved = json.loads(path.read_text()) if path.exists() else {"next": 0, "sum": 0}
        self.next, self.sum = saved["next"], saved["sum"]

    def step(self) -> None:
        """Add one number."""
        time.sleep(0.002)  # the work
        self.sum += self.next**2
        self.next += 1

    def save(self) -> None:
        """Write all or nothing: the old state stays until the new one is complete."""
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"next": self.next, "sum": self.sum}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def main() -> None:
    """Compute the sum of the squares below TOTAL."""
    total = Sum(Path(sys.argv[1]))
    end = int(sys.argv[2])
    with listen(grace_s=20, name="batch") as stop:
        print("ready at", total.next, flush=True)
        while total.next < end:
            total.step()
            stop.tell("computing", done=total.next, total=end)
            stop.checkpoint(total.save)  # only here the block can be left, and here the state is whole
        total.save()
        print("the sum is", total.sum, flush=True)
        return
    sys.exit(AGAIN)  # a checkpoint has left the block


if __name__ == "__main__":
    main()
