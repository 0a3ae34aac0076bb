"""For the programs of the tests: every request counts as one of its own, and is said."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from endtask_receiver import Policy

if TYPE_CHECKING:
    from endtask_receiver import Stop

EACH = Policy(window_s=0)


def say_requests(stop: Stop) -> None:
    """Write a line for each request, from wherever it is heard."""
    said = 0

    def waker() -> None:
        nonlocal said
        heard = max(len(stop._counted), int(stop.asked))  # wakers hear of the first one before it is counted
        if said < heard < 3:  # the third one ends the process
            said = heard
            os.write(1, b"heard %d\n" % heard)

    stop.add_waker(waker)
