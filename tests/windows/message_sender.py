"""Send one message to a window and print what the call returned, as JSON: `message_sender.py MESSAGE WINDOW`."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
import json
from ctypes import wintypes

SENT = {"null": (0x0, 0, 0), "queryendsession": (0x11, 0, 1), "endsession": (0x16, 1, 1)}
SMTO_ABORTIFHUNG = 2

user32 = ctypes.WinDLL("user32", use_last_error=True)
user32.PostMessageW.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
user32.PostThreadMessageW.argtypes = (wintypes.DWORD, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
user32.GetWindowThreadProcessId.argtypes = (wintypes.HWND, ctypes.c_void_p)
user32.SendMessageTimeoutW.restype = ctypes.c_ssize_t
user32.SendMessageTimeoutW.argtypes = (
    *user32.PostMessageW.argtypes,
    wintypes.UINT,
    wintypes.UINT,
    ctypes.POINTER(ctypes.c_size_t),
)

name, window = sys.argv[1], int(sys.argv[2])
reply = ctypes.c_size_t()
ctypes.set_last_error(0)
if name == "close":
    returned = user32.PostMessageW(window, 0x10, 0, 0)
elif name == "quit":
    returned = user32.PostThreadMessageW(user32.GetWindowThreadProcessId(window, None), 0x12, 0, 0)
else:
    returned = user32.SendMessageTimeoutW(window, *SENT[name], SMTO_ABORTIFHUNG, 1000, ctypes.byref(reply))
print(json.dumps({"returned": returned, "error": ctypes.get_last_error(), "reply": reply.value}))
