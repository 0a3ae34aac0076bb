"""A request that is printed and forgotten: KeyboardInterrupt came in a destructor, where Python can do nothing else with it."""

from __future__ import annotations

import signal


class Connection:
    """Something that has to be tidied up."""

    def __del__(self) -> None:
        """Tidy up."""
        sum(number for number in range(1000))


signal.signal(signal.SIGALRM, signal.default_int_handler)  # a timer in place of the user's Ctrl+C
requests = 0
lost = False
while not lost:
    requests += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while signal.getitimer(signal.ITIMER_REAL)[0]:  # until it has fired
            Connection()
        lost = True
    except KeyboardInterrupt:
        pass
print(f"request {requests}: the program goes on as if nobody had asked")
