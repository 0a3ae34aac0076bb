"""Asking by the window: WM_CLOSE, the end of the session, WM_QUIT; and who owns which title.

Decision: each request goes once to the windows that a person would close, and to no other.

- WM_CLOSE goes to the visible windows without an owner, or whose owner is hidden (the frameworks that do so mean them as main windows);
  only if there is none, to hidden top-level windows. Never to a dialog: it would answer the program's own question as Cancel.
  Never to a window that a dialog has disabled, unless nobody sits at the screen: no person could close that.
- WM_QUERYENDSESSION goes to every top-level window, as when Windows ends a session, and WM_ENDSESSION only after all have said yes.
- WM_QUIT leaves the message loop without any of the program's own closing, and it would answer an open dialog in a way that no button does:
  then it is refused.

Whom a window belongs to is looked up by pid. That is safe because the pin is held: Windows gives the pid to nobody else meanwhile.
Window handles are given away anew, so each is looked up again right before something is sent to it; what is left is the time between two calls.

Rejected: EndTask (deprecated, and missing in Wine), Restart Manager's RmShutdown (coarse and blocking), SC_CLOSE (DefWindowProc makes it a WM_CLOSE).
"""

from __future__ import annotations

import ctypes
import re
import sys
import time

assert sys.platform == "win32"

from endtask._backends.windows import errors, handles, table, window_list
from endtask._backends.windows.handles import Handle
from endtask._backends.windows.winapi import kernel32, user32
from endtask._backends.windows.winapi._bind import DWORD, last_error
from endtask._backends.windows.window_list import hung, windows
from endtask.errors import OsCallError, TargetError
from endtask.model import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.windows.handles import WindowsPin
    from endtask.model import ReceiptStatus, Request, Window

    Answer = tuple[ReceiptStatus, str]

__all__ = ["hung", "send_window", "title_owners", "titles", "windows"]

UNATTENDED = "unattended"  # text of a WM_CLOSE that may go to windows which a dialog has disabled

_SYSTEM_MADE = ("helper", "console", "message-only")
_ENDED = "it had exited already"
_UIPI = "its windows belong to a program of higher integrity, and Windows lets no message through (User Interface Privilege Isolation)"
_QUOTA = 1816  # ERROR_NOT_ENOUGH_QUOTA: 10,000 messages wait in the queue, PostMessage page
_NO_QUEUE = 1444  # ERROR_INVALID_THREAD_ID: gone, or a thread without a message queue
_ONE_ANSWER_MS = 1000
_ALL_ANSWERS_S = 2.0
_ENDS_MS = 50
_REASON = 256  # characters: MAX_STR_BLOCKREASON
_NAMED = 3  # windows whose titles are named


# --------------------------------------------------------------------------- titles


def titles(pid: int) -> tuple[str, ...]:
    """Return the titles of the visible top-level windows of a process; empty where we may see none."""
    try:
        seen = windows(pid)
    except OsCallError:
        return ()  # ignored: we have no desktop, and a title is no fact that anything rests on
    return tuple(w.title for w in seen if w.visible and w.title and w.role not in ("helper", "message-only"))


def title_owners(pattern: str) -> list[int]:
    """Return the pids that own a visible top-level window whose title fits *pattern* (`*` and `?` wild, case ignored), ascending.

    Raises:
        TargetError: We have no desktop whose windows we may list.
    """
    wild = {"*": ".*", "?": "."}
    fits = re.compile("".join(wild.get(c) or re.escape(c) for c in pattern), re.IGNORECASE | re.DOTALL).fullmatch
    try:
        handles_there = window_list.top_level()
    except OsCallError as exc:
        hint = "windows are seen by programs on the same desktop: run endtask in the session of the user"
        raise TargetError(f"no window titles can be read here: {handles.refusal(exc)}", hint=hint) from exc
    found = set()
    for handle in handles_there:
        if not user32.GetWindowLongW(handle, user32.GWL_STYLE) & user32.WS_VISIBLE:
            continue
        title = window_list.text_of(handle)
        if title and fits(title) and not window_list.is_helper(window_list.class_of(handle)):
            found.add(window_list.app_pid(handle) or window_list.owner_pid(handle))
    return sorted(found - {0})


# --------------------------------------------------------------------------- sending


def send_window(pin: WindowsPin, request: Request, at_s: float) -> Receipt:
    """Send WM_CLOSE, WM_ENDSESSION or WM_QUIT to the windows (or threads) of a process; once, to the right ones.

    The text `unattended` of a WM_CLOSE says that nobody sits at the screen: then it goes to windows that a dialog has disabled as well.
    """
    ways = {"WM_CLOSE": _close, "WM_ENDSESSION": _end_session, "WM_QUIT": _quit}
    try:
        if handles.has_exited(pin):
            return Receipt(request.name, "gone", at_s, _ENDED)
        seen = windows(pin.ref.pid)
        status, detail = ways[request.name](pin, seen, request.text)
    except OsCallError as exc:
        status, detail = ("denied" if exc.code == errors.ACCESS_DENIED else "failed"), handles.refusal(exc)
    return Receipt(request.name, status, at_s, detail)


# ------------------------------------------------------------------ WM_CLOSE


def _close(pin: WindowsPin, seen: Sequence[Window], text: str) -> Answer:
    targets, why = close_targets(seen, unattended=text == UNATTENDED)
    if not targets:
        return "impossible", why
    asked = []
    for window in targets:
        if not window_list.belongs_to(window.handle, pin.ref.pid):
            continue  # gone since, and perhaps somebody else's by now
        if user32.PostMessageW(window.handle, user32.WM_CLOSE, 0, 0):
            asked.append(window)
        elif last_error() != window_list.INVALID_WINDOW:
            return _refused(asked, last_error())
    if asked:
        return "delivered", f"to {in_words(asked)}"
    if handles.has_exited(pin):
        return "gone", _ENDED
    return "impossible", "its windows have just been closed"


def close_targets(seen: Sequence[Window], *, unattended: bool = False) -> tuple[list[Window], str]:
    """Return the windows that WM_CLOSE is for, or none and the reason (pure).

    Args:
        seen: The windows of one process.
        unattended: Whether a window may be asked that a dialog has disabled.
    """
    own = [w for w in seen if w.role not in _SYSTEM_MADE]
    hidden = {w.handle for w in own if not w.visible}
    faces = [w for w in own if w.visible and w.role != "dialog" and (not w.owner or w.owner in hidden)]
    dialogs = [w for w in own if w.role == "dialog"]
    threads = {w.thread for w in dialogs}
    # A modal dialog disables the windows of its own thread; a window that is disabled otherwise is so for the program's own reasons.
    free = faces if unattended else [w for w in faces if w.enabled or w.thread not in threads]
    if free:
        return free, ""
    if dialogs:
        return [], f"{dialog_in_words(dialogs[0])} waits for a person; no request gets past it"
    if any(w.visible for w in own):
        # Owned by a window of another process, or of one that is gone: still what a person sees.
        return [w for w in own if w.visible], ""
    unowned = [w for w in own if not w.owner]
    return (unowned, "") if unowned else ([], _no_window(seen))


def _no_window(seen: Sequence[Window]) -> str:
    others = [f"{n} message-only" for n in [sum(w.role == "message-only" for w in seen)] if n]
    if any(w.role == "console" for w in seen):
        others.append("that of its console")
    rest = f" (it has {' and '.join(others)}, which WM_CLOSE is not for)" if others else ""
    return f"it has no window that could be asked{rest}"


def _refused(asked: Sequence[Window], error: int) -> Answer:
    """Return the answer for a window that could not be asked, after *asked* were."""
    before = f"; before that, to {in_words(asked)}" if asked else ""
    if error == errors.ACCESS_DENIED:
        return "denied", _UIPI + before
    if error == _QUOTA:
        return "failed", f"PostMessage: its message queue is full, it does not look at it{before}"
    return "failed", f"PostMessage: {errors.text_of(error)}{before}"


def in_words(asked: Sequence[Window]) -> str:
    """Return windows as text: `1 window "main"`, `2 hidden windows "a", "b"` (pure)."""
    hidden = "hidden " if not any(w.visible for w in asked) else ""
    named = ", ".join(f'"{w.title}"' for w in asked[:_NAMED] if w.title)
    more = ", ..." if named and len(asked) > _NAMED else ""
    return f"{len(asked)} {hidden}window{'s' if len(asked) > 1 else ''}{' ' if named else ''}{named}{more}"


def dialog_in_words(dialog: Window) -> str:
    """Return a dialog as text: its title, what it says, its buttons (pure)."""
    title = f'a dialog "{dialog.title}"' if dialog.title else "a dialog"
    says = f' ("{" ".join(dialog.texts)}")' if dialog.texts else ""
    buttons = f" with {', '.join(f'[{b}]' for b in dialog.buttons)}" if dialog.buttons else ""
    return title + says + buttons


# ------------------------------------------------------------------ WM_QUERYENDSESSION, WM_ENDSESSION


def _end_session(pin: WindowsPin, seen: Sequence[Window], _text: str) -> Answer:
    """Ask every top-level window whether the session may end, and if all agree, end it."""
    targets = [w for w in seen if w.role not in _SYSTEM_MADE]
    if not targets:
        return "impossible", _no_window(seen)
    asked: list[Window] = []
    deadline = time.monotonic() + _ALL_ANSWERS_S
    for window in targets:
        if not window_list.belongs_to(window.handle, pin.ref.pid):
            continue
        left_ms = max(1, min(_ONE_ANSWER_MS, int((deadline - time.monotonic()) * 1000)))
        asked.append(window)
        query, flag = user32.WM_QUERYENDSESSION, user32.ENDSESSION_CLOSEAPP
        answer, error = window_list.ask(window.handle, query, 0, flag, left_ms)
        if error and _has_gone(pin, window, error):
            asked.pop()
        elif not answer:
            # "The system sends WM_ENDSESSION with the results of WM_QUERYENDSESSION" (WM_QUERYENDSESSION page): to those who had said yes, too.
            _tell(pin, asked, ending=False)
            opened = _dialogs_since(pin.ref.pid, seen) if error == window_list.TIMED_OUT else []
            return _not_agreed(window, answer, error, left_ms, opened)
    if not asked:
        return ("gone", _ENDED) if handles.has_exited(pin) else ("impossible", "its windows have just been closed")
    _tell(pin, asked, ending=True)
    return "delivered", f"to {in_words(asked)}; {'it' if len(asked) == 1 else 'all'} agreed to WM_QUERYENDSESSION"


def _has_gone(pin: WindowsPin, window: Window, error: int) -> bool:
    """Return whether a window gave no answer because it was destroyed meanwhile.

    Wine calls that "access is denied" (server/queue.c, where a message goes with its window or its thread); taken for that, it would be a lie.
    """
    if error == window_list.INVALID_WINDOW or not window_list.belongs_to(window.handle, pin.ref.pid):
        return True
    if error != errors.ACCESS_DENIED:
        return False
    return kernel32.WaitForSingleObject(pin.handle, _ENDS_MS) == kernel32.WAIT_OBJECT_0  # its threads go one by one


def _tell(pin: WindowsPin, asked: Sequence[Window], *, ending: bool) -> None:
    """Send WM_ENDSESSION without waiting: saving may take its time, and the answer means nothing (WM_ENDSESSION page)."""
    for window in asked:
        if window_list.belongs_to(window.handle, pin.ref.pid):
            user32.SendNotifyMessageW(window.handle, user32.WM_ENDSESSION, int(ending), user32.ENDSESSION_CLOSEAPP)


def _dialogs_since(pid: int, before: Sequence[Window]) -> list[Window]:
    """Return the dialogs that a process did not show before: some programs ask the user while they are asked."""
    known = {w.handle for w in before}
    return [w for w in windows(pid) if w.role == "dialog" and w.handle not in known]


def _not_agreed(window: Window, answer: int | None, error: int, waited_ms: int, opened: Sequence[Window]) -> Answer:
    name = f'window "{window.title}"' if window.title else f"a window of class {window.class_name}"
    if answer is not None:
        reason = _block_reason(window.handle)
        return "vetoed", f"{name} answered no to WM_QUERYENDSESSION" + (f': "{reason}"' if reason else "")
    if error == errors.ACCESS_DENIED:
        return "denied", _UIPI
    if opened:
        return "failed", f"{name} did not answer WM_QUERYENDSESSION but opened {dialog_in_words(opened[0])}"
    if error == window_list.TIMED_OUT:
        return (
            "failed",
            f"{name} did not answer WM_QUERYENDSESSION within {waited_ms / 1000:g} s: it hangs, or it is busy",
        )
    return "failed", f"{name}, WM_QUERYENDSESSION: {errors.text_of(error)}"


def _block_reason(window: int) -> str:
    """Return the text that a program gave for not ending (ShutdownBlockReasonCreate), empty if none."""
    if user32.ShutdownBlockReasonQuery is None:
        return ""
    buffer, size = ctypes.create_unicode_buffer(_REASON), DWORD(_REASON)
    return buffer.value if user32.ShutdownBlockReasonQuery(window, buffer, ctypes.byref(size)) else ""


# ------------------------------------------------------------------ WM_QUIT


def _quit(pin: WindowsPin, seen: Sequence[Window], _text: str) -> Answer:
    boxes = [w for w in seen if w.role == "dialog" or (w.visible and w.class_name == window_list.DIALOG)]
    if boxes:
        return (
            "impossible",
            f"{dialog_in_words(boxes[0])} is open, and WM_QUIT would answer it in a way that no button does",
        )
    posted = sum(_post_quit(pin.ref.pid, thread) for thread in table.take().thread_ids(pin.ref.pid))
    if posted:
        return "delivered", f"to {posted} thread{'s' if posted > 1 else ''} with a message queue"
    if handles.has_exited(pin):
        return "gone", _ENDED
    return "impossible", "none of its threads has a message queue"


def _post_quit(pid: int, thread: int) -> bool:
    """Post WM_QUIT to one thread; return whether it has a queue that took it.

    Raises:
        OsCallError: Windows refuses for another reason.
    """
    opened = kernel32.OpenThread(kernel32.THREAD_QUERY_LIMITED_INFORMATION, False, thread)
    if not opened:
        return False  # ended since, or not ours to look at: then nothing is sent to whoever has the number now
    with Handle(opened) as handle:  # held, so that the number cannot be given away between the look and the post
        if kernel32.GetProcessIdOfThread(handle) != pid:
            return False
        if user32.PostThreadMessageW(thread, user32.WM_QUIT, 0, 0):
            return True
        if last_error() == _NO_QUEUE:
            return False
        raise errors.failed("PostThreadMessage", last_error(), pid)
