"""How long the system waits for a process that it has asked to end.

Source: "HandlerRoutine callback function" (table of time-outs), "Application Shutdown Changes in Windows Vista", "Service Control Handler Function" (Microsoft Learn).
They are settings of the user and of the machine; the registry is read because SystemParametersInfo would load user32 (see `_win_window`).
"""

from __future__ import annotations

import sys
import winreg

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls

MARGIN_S = 0.25  # we are to be gone before the system does it
_DESKTOP = r"Control Panel\Desktop"
_CONTROL = r"SYSTEM\CurrentControlSet\Control"
_USUAL_MS = 5000


def close_s() -> float:
    """Return the seconds after a console was closed, or after a window was asked whether the session may end."""
    return calls.setting_ms(winreg.HKEY_CURRENT_USER, _DESKTOP, "HungAppTimeout", _USUAL_MS) / 1000


def shutdown_s() -> float:
    """Return the seconds that a console program has at logoff and shutdown."""
    return calls.setting_ms(winreg.HKEY_CURRENT_USER, _DESKTOP, "WaitToKillAppTimeout", _USUAL_MS) / 1000


def service_shutdown_s() -> float:
    """Return the seconds that services have at shutdown."""
    return calls.setting_ms(winreg.HKEY_LOCAL_MACHINE, _CONTROL, "WaitToKillServiceTimeout", _USUAL_MS) / 1000


def within(limit_s: float) -> float:
    """Return what we may use of a limit."""
    return max(limit_s - MARGIN_S, limit_s / 2)
