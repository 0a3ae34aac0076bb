"""A service in Python, without pywin32: what its control handler gets goes to endtask_receiver."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
from ctypes import wintypes
from typing import TYPE_CHECKING

from endtask_receiver import listen
from endtask_receiver.service import RUNNING, STOPPED, Control
from tests.windows.targets.pytarget import ready, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver import Stop

_MAIN = ctypes.WINFUNCTYPE(None, wintypes.DWORD, ctypes.c_void_p)
_HANDLER = ctypes.WINFUNCTYPE(wintypes.DWORD, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p, ctypes.c_void_p)


class _Entry(ctypes.Structure):
    """SERVICE_TABLE_ENTRYW."""

    _fields_ = (("name", wintypes.LPCWSTR), ("main", _MAIN))


_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_dispatch = _advapi32.StartServiceCtrlDispatcherW
_dispatch.argtypes = (ctypes.POINTER(_Entry),)
_register = _advapi32.RegisterServiceCtrlHandlerExW
_register.restype = ctypes.c_void_p
_register.argtypes = (wintypes.LPCWSTR, _HANDLER, ctypes.c_void_p)


def run(name: str, asked: Callable[[Stop], None]) -> None:
    """Be the service of that name, until it has been asked to stop and *asked* has done what there is to do."""

    def main(_count: int, _words: int | None) -> None:
        with listen(5.0, name="service target") as stop:
            controls: list[Control] = []

            def on_control(code: int, _type: int, _data: int | None, _context: int | None) -> int:
                say(f"control {code}")
                return controls[0].control(code)

            handler = _HANDLER(on_control)
            handle = _register(name, handler, None)
            assert handle, ctypes.get_last_error()
            controls.append(Control(stop, handle))
            for line in stop.ears:
                say(f"ear {line}")
            controls[0].report(RUNNING)
            ready()
            stop.wait()
            stop.tell("one of two")
            stop.tell("two of two")
            asked(stop)
            controls[0].report(STOPPED)

    entry = _MAIN(main)
    table = (_Entry * 2)(_Entry(name, entry), _Entry(None, _MAIN()))
    assert _dispatch(table), ctypes.get_last_error()
    say("dispatcher returned")
