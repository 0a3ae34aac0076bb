"""Which windows a process has, which of them is a dialog that waits for a person, and whether they still answer.

Decision: nothing here sends a message, except the question whether a window answers, and that one gives up by itself.
GetWindowText would send WM_GETTEXT to a window of our own process and block in a debugger; InternalGetWindowText reads what the window manager keeps.

A window is a *dialog* when its program cannot be used before it has been answered:

- its owner is disabled, which is how a modal dialog is made ("Dialog Boxes", Modal Dialog Boxes), whatever its class;
- or it is the only enabled one among the visible windows of its thread (MB_TASKMODAL, WPF: no owner, and all others are disabled);
- or it looks like a message box without an owner, and the program has another window.

Rejected: every owned popup. Tool palettes and "Find" boxes are owned, too, and hinder nobody. (Qt disables no owner: its modal dialogs are `owned`.)
Rejected: IsHungAppWindow alone. It says no for five seconds (its page), and people look at a dead window for less.
"""

from __future__ import annotations

import ctypes
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.winapi import user32
from endtask._backends.windows.winapi._bind import DWORD, last_error
from endtask.model import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INVALID_WINDOW = 1400  # ERROR_INVALID_WINDOW_HANDLE
TIMED_OUT = 1460  # ERROR_TIMEOUT
CONSOLE = "ConsoleWindowClass"
DIALOG = "#32770"  # "About Window Classes", System Classes
# What a person sees of a packaged app is a frame that ApplicationFrameHost.exe owns; the app has a window inside.
_FRAME, _APP = "ApplicationFrameWindow", "Windows.UI.Core.CoreWindow"

# Made by Windows in the process, not by the program. WM_CLOSE destroys such a window and tells the program nothing:
# input methods, the text services, GDI+, the broadcast window of .NET, the lists, hints, menus and shadows of controls. The window of a pseudo console belongs, by the books,
# to the first program on it (microsoft/terminal, InteractivityFactory.cpp), and what WM_CLOSE does to it stops nobody.
_HELPERS = frozenset(
    (
        "IME",
        "MSCTFIME UI",
        "MSCTFIME Composition",
        "CicLoaderWndClass",
        "CicMarshalWndClass",
        "CiceroUIWndFrame",
        "GDI+ Hook Window Class",
        "ComboLBox",
        "tooltips_class32",
        "SysShadow",
        "#32768",
        "PseudoConsoleWindow",
    )
)
_HELPER_BEGINNINGS = (".NET-BroadcastEventWindow.",)

_TEXT = 1024  # characters; longer titles are cut
_CLASS = 257  # WNDCLASS, lpszClassName: at most 256
_GO_ON = 1  # for the callback to return: with the next window
_ROUNDS = 3
_PROBE_MS = 350
_LONGEST_S = 0.1  # that a picture may be used
_AGAIN_MS = 20  # for a thread that did not answer before
_PROBES_S = 0.9  # for all threads of a process together
_BUTTON_KIND = 0x0F  # BS_TYPEMASK
_PUSH_BUTTONS = frozenset(
    (0x0, 0x1, 0x8, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF)
)  # those that are pressed; the others are boxes and frames
_BOX_BUTTONS = range(1, 12)  # IDOK to IDCONTINUE, "MessageBox function"
_BOX_STATICS = 2  # an icon and the text


# --------------------------------------------------------------------------- all windows


def top_level() -> list[int]:
    """Return the handles of all top-level windows of our desktop, front to back.

    Raises:
        OsCallError: We have no desktop whose windows we may list (a service, a session without one).
    """
    return _collect("EnumWindows", lambda each: user32.EnumWindows(each, _GO_ON))


def message_only() -> list[int]:
    """Return the handles of all message-only windows, which EnumWindows leaves out ("Window Features", Message-Only Windows)."""
    found: list[int] = []
    for _round in range(_ROUNDS):
        found = []
        ctypes.set_last_error(0)
        while window := user32.FindWindowExW(user32.HWND_MESSAGE, found[-1] if found else None, None, None):
            found.append(window)
        if last_error() != INVALID_WINDOW:
            break  # the end of the list; else the window where we stood has just been destroyed: begin again
    return found


def owner_pid(window: int) -> int:
    """Return the process that a window belongs to, 0 if the window is gone."""
    pid = DWORD()
    user32.GetWindowThreadProcessId(window, ctypes.byref(pid))
    return pid.value


def belongs_to(window: int, pid: int) -> bool:
    """Return whether a window is one of a process: its own, or the frame around a packaged app that runs in it."""
    return owner_pid(window) == pid or (class_of(window) == _FRAME and app_pid(window) == pid)


def app_pid(frame: int) -> int:
    """Return the process of the app inside a frame, 0 if there is none (it was suspended, and its window taken out)."""
    app = user32.FindWindowExW(frame, None, _APP, None)
    return owner_pid(app) if app else 0


def _frames() -> list[int]:
    """Return the frames around packaged apps; found by their class, because to ask every window for its class costs more than all the rest."""
    found: list[int] = []
    while window := user32.FindWindowExW(None, found[-1] if found else None, _FRAME, None):
        found.append(window)
    return found


def _collect(call: str, enumerate_with: Callable[[object], bool]) -> list[int]:
    found: dict[int, int] = {}
    # No function of Python's: a Ctrl+C that came while one runs would be raised inside it, and ctypes prints and forgets what a callback raises.
    # `setdefault` of a window and the number that we pass keeps the one and returns the other. It has a name of its own: it must live as long as the call.
    callback = user32.WINDOW_CALLBACK(found.setdefault)
    ctypes.set_last_error(0)
    if not enumerate_with(callback) and last_error():
        raise errors.failed(call, last_error())
    return list(found)


# --------------------------------------------------------------------------- the windows of one process


class Picture:
    """All windows of our desktop by their process, made in one pass: with many windows that costs more than all that is read of a few of them.

    Attributes:
        good_until: By `time.perf_counter`: it may be used for twice as long as it took to make, so it is hardly older than a look of its own would be.

    Raises:
        OsCallError: We have no desktop whose windows we may list.
    """

    __slots__ = ("_message_only", "_top", "good_until")

    def __init__(self) -> None:
        began = time.perf_counter()
        self._top: dict[int, list[int]] = {}
        self._message_only: dict[int, list[int]] = {}
        inside = {frame: app_pid(frame) for frame in _frames()}
        for handle in top_level():
            for pid in {owner_pid(handle), inside.get(handle, 0)}:
                self._top.setdefault(pid, []).append(handle)
        for handle in message_only():
            self._message_only.setdefault(owner_pid(handle), []).append(handle)
        ended = time.perf_counter()
        self.good_until = ended + min(2 * (ended - began), _LONGEST_S)

    def of(self, pid: int) -> tuple[Window, ...]:
        """Return the windows of a process, front to back, with their roles; what shows of them is read now."""
        seen = [_read(h, message_only=False) for h in self._top.get(pid, ()) if belongs_to(h, pid)]
        seen += [_read(h, message_only=True) for h in self._message_only.get(pid, ()) if owner_pid(h) == pid]
        return tuple(_with_role(w, seen) for w in seen)


def windows(pid: int) -> tuple[Window, ...]:
    """Return every top-level and message-only window of a process, front to back, with their roles.

    Raises:
        OsCallError: We have no desktop whose windows we may list; nothing is known about the windows of anybody then.
    """
    return Picture().of(pid)


def _read(handle: int, *, message_only: bool) -> Window:
    """Return what one window shows; its role is a first guess without a look at the others."""
    style = user32.GetWindowLongW(handle, user32.GWL_STYLE)
    class_name = class_of(handle)
    visible = bool(style & user32.WS_VISIBLE)
    owner = 0 if message_only else user32.GetWindow(handle, user32.GW_OWNER) or 0
    return Window(
        handle,
        text_of(handle),
        class_name,
        visible,
        not style & user32.WS_DISABLED,
        owner,
        user32.GetWindowThreadProcessId(handle, None),
        _first_role(class_name, owner, handle, visible=visible, message_only=message_only),
    )


def is_helper(class_name: str) -> bool:
    """Return whether windows of that class are made by the system for a program, and mean nothing to it (pure)."""
    return class_name in _HELPERS or class_name.startswith(_HELPER_BEGINNINGS)


def _first_role(class_name: str, owner: int, handle: int, *, visible: bool, message_only: bool) -> str:
    if is_helper(class_name):
        return "helper"
    if message_only:
        return "message-only"
    if class_name == CONSOLE:
        return "console"
    if not visible:
        return "hidden"
    if owner:
        return "owned"
    return "tool" if user32.GetWindowLongW(handle, user32.GWL_EXSTYLE) & user32.WS_EX_TOOLWINDOW else "main"


def _with_role(window: Window, family: list[Window]) -> Window:
    """Return *window* as a dialog with its texts and buttons, or as it is."""
    if window.role not in ("main", "owned") or not window.enabled or not _is_dialog(window, family):
        return window
    texts, buttons = _content(window.handle)
    return Window(
        window.handle,
        window.title,
        window.class_name,
        window.visible,
        window.enabled,
        window.owner,
        window.thread,
        "dialog",
        texts,
        buttons,
    )


def _is_dialog(window: Window, family: list[Window]) -> bool:
    if window.owner:
        return bool(user32.GetWindowLongW(window.owner, user32.GWL_STYLE) & user32.WS_DISABLED)
    others = [w for w in family if w.handle != window.handle and w.role not in ("helper", "console", "message-only")]
    same_thread = [w for w in others if w.visible and w.thread == window.thread]
    if same_thread and not any(w.enabled for w in same_thread):
        return True
    # A program that is nothing but a message box has that as its main window.
    return bool(others) and window.class_name == DIALOG and _looks_like_message_box(window.handle)


# --------------------------------------------------------------------------- what they show


def text_of(window: int) -> str:
    """Return the text of a window as the window manager keeps it; asks nobody, so that nobody can keep us waiting."""
    buffer = ctypes.create_unicode_buffer(_TEXT)
    user32.InternalGetWindowText(window, buffer, _TEXT)
    return buffer.value


def class_of(window: int) -> str:
    """Return the name of a window's class, empty if it is gone."""
    buffer = ctypes.create_unicode_buffer(_CLASS)
    user32.GetClassNameW(window, buffer, _CLASS)
    return buffer.value


def _visible_children(window: int) -> list[int]:
    found = _collect("EnumChildWindows", lambda each: user32.EnumChildWindows(window, each, _GO_ON))
    return [h for h in found if user32.GetWindowLongW(h, user32.GWL_STYLE) & user32.WS_VISIBLE]


def _content(window: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the texts and the buttons of a dialog, each on one line.

    Toolkits name their classes after those of Windows (`WindowsForms10.BUTTON.app.0...`, `TButton`); those that draw for themselves show nothing here.
    """
    texts, buttons = [], []
    for child in _visible_children(window):
        name, text = class_of(child).lower(), " ".join(text_of(child).split())  # on one line
        if not text:
            continue
        if "static" in name:
            texts.append(text)
        elif "button" in name and user32.GetWindowLongW(child, user32.GWL_STYLE) & _BUTTON_KIND in _PUSH_BUTTONS:
            buttons.append(text.replace("&&", "\0").replace("&", "").replace("\0", "&"))  # & underlines the next letter
    return tuple(texts), tuple(buttons)


def _looks_like_message_box(window: int) -> bool:
    """Return whether a window has what MessageBox makes, and nothing else: an icon, a text, and buttons with its numbers."""
    statics = buttons = 0
    for child in _visible_children(window):
        name = class_of(child)
        if name == "Static":
            statics += 1
        elif name == "Button" and user32.GetDlgCtrlID(child) in _BOX_BUTTONS:
            buttons += 1
        else:
            return False
    return buttons > 0 and 0 < statics <= _BOX_STATICS


# --------------------------------------------------------------------------- do they answer


def ask(window: int, message: int, w: int, l: int, timeout_ms: int) -> tuple[int | None, int]:  # noqa: E741 - as Microsoft names them
    """Send a message and wait for its answer, for *timeout_ms* at the most; less if the window is known to hang.

    Returns:
        The answer and 0, or None and GetLastError: ERROR_TIMEOUT (1460), 1400 when the window is gone, 5 when we may not.
    """
    answer = ctypes.c_size_t()
    flags = user32.SMTO_ABORTIFHUNG | user32.SMTO_ERRORONEXIT
    ctypes.set_last_error(0)
    if user32.SendMessageTimeoutW(window, message, w, l, flags, timeout_ms, ctypes.byref(answer)):
        return answer.value, 0
    # The page of SendMessageTimeout: a failure without an error number is a time-out, too.
    return None, last_error() or TIMED_OUT


def hung(seen: Iterable[Window], known: set[int] | None = None) -> bool | None:
    """Return whether the windows that a person sees do not answer; None when there is no window, or nobody may ask.

    One question to each thread, less than a second for all of them: a window that is only busy for that long counts as hung as well.

    Args:
        seen: The windows of a process.
        known: Threads that did not answer when they were last asked, kept up to date here: they get a short time to show that they answer again.
    """
    known = set() if known is None else known
    own = [w for w in seen if w.role in ("main", "owned", "tool", "dialog", "hidden")]
    deadline = time.monotonic() + _PROBES_S
    answered: set[int] = set()
    for window in [w for w in own if w.visible] or own:
        if window.thread in answered:
            continue
        if user32.IsHungAppWindow(window.handle):
            return True
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            break
        answer = _answers(window.handle, min(_AGAIN_MS if window.thread in known else _PROBE_MS, left_ms))
        if answer is False:
            known.add(window.thread)
            return True
        known.discard(window.thread)
        if answer:
            answered.add(window.thread)  # else it is gone since it was listed, and the next one of its thread is asked
    return False if answered else None


def _answers(window: int, timeout_ms: int) -> bool | None:
    """Return whether a window answers WM_NULL, None if it is gone or we may not ask it."""
    answer, error = ask(window, user32.WM_NULL, 0, 0, timeout_ms)
    if answer is not None:
        return True
    return False if error == TIMED_OUT else None
