"""tkinter and Qt: have something called in the thread of the GUI when somebody asks.

A GUI's main loop is one long C call: Python's signal handlers wait for its end, so that without help a program with a window hears nothing (measured).
Decision: the loop itself waits on our descriptor, so the call comes from the loop, in its own thread, and may touch windows.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tkinter  # noqa: ICN001  # `tk` is our own function
    from collections.abc import Callable
    from typing import Any

    from endtask_receiver._stop import Stop

_QT = ("PySide6", "PyQt6", "PyQt5", "PySide2")


def tk(stop: Stop, root: tkinter.Misc, callback: Callable[[], object], *, poll_s: float = 0.1) -> Callable[[], None]:
    """Have *callback* called once, in tkinter's thread, when somebody asks; `root.destroy`, for example.

    Args:
        stop: What hears.
        root: Any widget.
        callback: What to do.
        poll_s: Where tkinter cannot wait on descriptors (Windows), it looks this often.

    Returns:
        A function that takes the request back.
    """
    if hasattr(root.tk, "createfilehandler"):
        return _tk_descriptor(stop, root, callback)
    return _tk_timer(stop, root, callback, int(poll_s * 1000))


def _tk_descriptor(stop: Stop, root: tkinter.Misc, callback: Callable[[], object]) -> Callable[[], None]:
    import tkinter  # noqa: ICN001  # likewise

    fd = stop.fileno()
    interpreter: Any = root.tk  # what follows is only there where `tk` has looked for it

    def forget() -> None:
        interpreter.deletefilehandler(fd)

    def fire(_fd: object, _events: object) -> None:
        forget()  # once; the descriptor stays readable
        callback()

    interpreter.createfilehandler(fd, tkinter.READABLE, fire)
    return forget


def _tk_timer(stop: Stop, root: tkinter.Misc, callback: Callable[[], object], poll_ms: int) -> Callable[[], None]:
    timer = ""

    def look() -> None:
        nonlocal timer
        if stop.asked:
            callback()
        else:
            timer = root.after(poll_ms, look)

    timer = root.after(poll_ms, look)
    return lambda: root.after_cancel(timer)


def qt(stop: Stop, callback: Callable[[], object], *, core: Any = None) -> Callable[[], None]:
    """Have *callback* called once, in Qt's main thread, when somebody asks; `app.quit`, for example.

    Args:
        stop: What hears.
        callback: What to do.
        core: The QtCore module; None for that of the binding that the program has imported.

    Returns:
        A function that takes the request back.

    Raises:
        RuntimeError: The program has imported no binding of Qt.
    """
    core = core or next((sys.modules[f"{b}.QtCore"] for b in _QT if f"{b}.QtCore" in sys.modules), None)
    if core is None:
        raise RuntimeError(f"none of {', '.join(_QT)} has been imported")
    notifier = core.QSocketNotifier(stop.fileno(), core.QSocketNotifier.Type.Read)

    def fire(*_args: object) -> None:
        notifier.setEnabled(False)  # once; the descriptor stays readable
        callback()

    notifier.activated.connect(fire)
    return lambda: notifier.setEnabled(False)
