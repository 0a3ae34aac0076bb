"""What a console of Windows understands."""

from __future__ import annotations

import ctypes
import msvcrt
import sys

assert sys.platform == "win32"

from endtask._backends.windows.winapi import kernel32
from endtask._backends.windows.winapi._bind import DWORD


def understands_escapes(fd: int) -> bool:
    """Return whether escape sequences colour the text on a console; they are switched on where they are not (Windows 10 1511 and later).

    The mode belongs to the screen and stays; nothing that is written without escape sequences looks any different for it ("Console Virtual Terminal Sequences").
    """
    try:
        handle = msvcrt.get_osfhandle(fd)
    except OSError:
        return False
    mode = DWORD()
    if not kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
        return False  # not a console: `isatty` says yes to every character device, `NUL` among them
    wanted = mode.value | kernel32.ENABLE_VIRTUAL_TERMINAL_PROCESSING
    return wanted == mode.value or bool(kernel32.SetConsoleMode(handle, wanted))
