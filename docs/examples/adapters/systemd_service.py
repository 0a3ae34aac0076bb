"""A service of systemd: says when it is ready, that it still gets on, how far its stop is, and that it needs more time.

Run it as `ExecStart=python systemd_service.py` in a unit with `Type=notify`; it runs outside of one, too.
"""

from __future__ import annotations

from endtask_receiver import listen
from endtask_receiver.adapters.systemd import Notifier


def work(job: int) -> None:
    """Do one job."""


if __name__ == "__main__":
    with listen(grace_s=10, name="systemd service") as stop, Notifier(stop) as unit:
        unit.ready("working")
        waiting = [*range(10)]
        while not stop:
            unit.alive()  # if WatchdogSec= is set
            work(waiting[0])
            stop.nap(unit.watchdog_s or 1)
        stop.need(15, "writing the index")  # EXTEND_TIMEOUT_USEC: more than systemd would wait
        for turn, job in enumerate(waiting):
            stop.tell("draining", turn, len(waiting))  # STATUS, in `systemctl status`
            work(job)
        stop.finish()
