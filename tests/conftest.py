"""What all tests need: a machine that is busy is no failure."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ModuleNotFoundError):  # the Windows tests do without it
    from hypothesis import HealthCheck, settings

    # Both measure the machine: the time that one example takes, and that of making the first ones up.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")
