"""What all tests need: neither a busy machine, nor being process 1, nor what a shell makes its background jobs ignore is a failure."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

with contextlib.suppress(ModuleNotFoundError):  # the Windows tests do without it
    from hypothesis import HealthCheck, settings

    # Both measure the machine: the time that one example takes, and that of making the first ones up.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

if sys.platform != "win32":

    def pytest_cmdline_main() -> None:
        """Run the tests one below process 1, and with the usual dispositions.

        Process 1 adopts every orphan, and whoever is its child may be one: much of what is seen of a process looks otherwise there.
        Shells have background jobs ignore INT and QUIT, nohup does so with HUP, and every program that a test starts would inherit that.
        """
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if os.getpid() == 1 and (tests := os.fork()):
            while True:
                pid, status = os.wait()
                if pid == tests:
                    os._exit(os.waitstatus_to_exitcode(status) & 255)
