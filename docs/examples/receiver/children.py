"""Programs that we have started: asked one after another when we are asked, the last one first, each with its share of the time.

Run it as `python children.py COMMAND...`.
"""

from __future__ import annotations

import subprocess
import sys

from endtask_receiver import listen
from endtask_receiver.children import Children


def main() -> None:
    """Start the command twice."""
    with listen(grace_s=10, name="children") as stop:
        children = Children(stop)
        for name in ("first", "second"):
            children.add(subprocess.Popen(sys.argv[1:]), name=name, kill=True)
        print("ready", flush=True)
        stop.wait()
        stop.finish()


if __name__ == "__main__":
    main()
