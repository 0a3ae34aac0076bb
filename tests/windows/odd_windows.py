"""Programs whose windows are made in unusual ways: `odd_windows.py MODE [WINDOW]`.

    box         nothing but a message box
    tray-box    a hidden window, and a message box without an owner
    task-modal  a visible window, and a message box without an owner that disables it (MB_TASKMODAL)
    palette     a main window, and a window that it owns and that hinders nobody
    asks        a main window that asks a question when it is asked whether the session may end
    draws       a main window that opens another one when it is asked to close, and disables none, as toolkits do that draw for themselves
    frame       a window of the class of the frames around packaged apps
    app         a window of the class of packaged apps, inside WINDOW

It writes the handle of its first window; closing that, or answering the box, ends it.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
from ctypes import wintypes

MB_YESNOCANCEL, MB_TASKMODAL, IDCANCEL = 0x3, 0x2000, 2
WS_OVERLAPPEDWINDOW, WS_VISIBLE, WS_POPUP, WS_CHILD = 0x00CF0000, 0x10000000, 0x80000000, 0x40000000
WM_DESTROY, WM_CLOSE, WM_QUERYENDSESSION = 0x2, 0x10, 0x11
FRAME, APP = "ApplicationFrameWindow", "Windows.UI.Core.CoreWindow"

user32 = ctypes.WinDLL("user32", use_last_error=True)
procedure_type = ctypes.WINFUNCTYPE(ctypes.c_ssize_t, wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
user32.DefWindowProcW.restype = ctypes.c_ssize_t
user32.DefWindowProcW.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
user32.CreateWindowExW.restype = wintypes.HWND
user32.CreateWindowExW.argtypes = (
    wintypes.DWORD,
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
    wintypes.DWORD,
    *[ctypes.c_int] * 4,
    wintypes.HWND,
    *[ctypes.c_void_p] * 3,
)


def _on_message(window: int, message: int, w: int, l: int) -> int:  # noqa: E741 - as Microsoft names them
    """End with the first window."""
    if message == WM_CLOSE and sys.argv[1] == "draws":
        make("odd", "Save?", WS_POPUP | WS_VISIBLE, window)
        return 0
    if message == WM_DESTROY:
        user32.PostQuitMessage(7)
    if message == WM_QUERYENDSESSION and sys.argv[1] == "asks":
        return int(user32.MessageBoxW(window, "Really & truly?", "A question", MB_YESNOCANCEL) != IDCANCEL)
    return int(user32.DefWindowProcW(window, message, w, l))


on_message = procedure_type(_on_message)  # a name of its own: it must live as long as the program


class WindowClass(ctypes.Structure):
    """WNDCLASSW."""

    _fields_ = (
        ("style", wintypes.UINT),
        ("procedure", procedure_type),
        ("extra", ctypes.c_int * 2),
        ("handles", ctypes.c_void_p * 4),
        ("menu", wintypes.LPCWSTR),
        ("name", wintypes.LPCWSTR),
    )


def make(class_name: str, title: str, style: int, parent: int | None = None) -> int:
    """Make a window of a class of our own."""
    window_class = WindowClass(procedure=on_message, name=class_name)
    user32.RegisterClassW(ctypes.byref(window_class))  # ignored: the second window has the class already
    window = user32.CreateWindowExW(0, class_name, title, style, 20, 20, 200, 100, parent, None, None, None)
    if not window:
        raise ctypes.WinError(ctypes.get_last_error())
    sys.stdout.write(f"{window}\n")
    sys.stdout.flush()
    return int(window)


def loop() -> int:
    """Handle messages until the end."""
    message = wintypes.MSG()
    while user32.GetMessageW(ctypes.byref(message), None, 0, 0) > 0:
        user32.DispatchMessageW(ctypes.byref(message))
    return int(message.wParam)


def main(mode: str, parent: int) -> int:
    """Do what *mode* says; return the exit code."""
    visible = WS_OVERLAPPEDWINDOW | WS_VISIBLE
    if mode == "tray-box":
        make("odd", "in the tray", WS_OVERLAPPEDWINDOW)
    if mode == "task-modal":
        make("odd", "main", visible)
    if mode in {"box", "tray-box", "task-modal"}:
        style = MB_YESNOCANCEL | (MB_TASKMODAL if mode == "task-modal" else 0)
        return int(user32.MessageBoxW(None, "Really & truly?", "A question", style))
    if mode == "palette":
        make("odd", "colours", WS_POPUP | WS_VISIBLE, make("odd", "main", visible))
    elif mode in {"asks", "draws"}:
        make("odd", "main", visible)
    elif mode == "frame":
        make(FRAME, "an app", visible)
    else:
        make(APP, "inside", WS_CHILD | WS_VISIBLE, parent)
    return loop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
