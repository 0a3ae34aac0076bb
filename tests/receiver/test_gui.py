"""Main loops of tkinter and Qt, in which Python's handlers wait for the end: a request ends them."""

from __future__ import annotations

import importlib.util
import signal
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import gui
from endtask_receiver.testing import fake

from .lab import Program

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.real, pytest.mark.slow]


TK = """
    import tkinter, threading
    from endtask_receiver import gui, listen
    root = tkinter.Tk()
    def close():
        print("asked", threading.current_thread() is threading.main_thread())
        root.destroy()
    with listen() as stop:
        if {timer}:
            gui._tk_timer(stop, root, close, 10)
        else:
            gui.tk(stop, root, close)
        root.after(1, print, "ready")
        root.mainloop()
        print(stop.request)
        stop.finish()
"""


@pytest.mark.parametrize("timer", [False, True], ids=["descriptor", "timer"])
def test_tkinters_loop_ends_at_a_request(display: str, timer: bool) -> None:
    """In its own thread; the timer is what Windows has."""
    with Program(TK.format(timer=timer), env={"DISPLAY": display}) as program:
        program.expect("ready")
        program.settle()
        program.send()
        program.ends(-signal.SIGTERM, "asked True", "SIGTERM")


@pytest.mark.parametrize("timer", [False, True], ids=["descriptor", "timer"])
def test_what_was_taken_back_is_not_called(display: str, timer: bool) -> None:
    """The window lives on."""
    with Program(
        f"""
        import tkinter
        from endtask_receiver import gui, listen
        root = tkinter.Tk()
        with listen() as stop:
            back = gui._tk_timer(stop, root, print, 1) if {timer} else gui.tk(stop, root, print)
            back()
            stop.ask()
            root.after(50, root.destroy)
            root.mainloop()
            print("end")
        """,
        env={"DISPLAY": display},
    ) as program:
        program.ends(0, "end")


@pytest.mark.parametrize("timer", [False, True], ids=["descriptor", "timer"])
def test_who_refuses_there_can_be_asked_again(display: str, timer: bool) -> None:
    """If it says so; and to take the request back when the window is gone is no error."""
    with Program(
        f"""
        import tkinter
        from endtask_receiver import Policy, gui, listen
        root = tkinter.Tk()
        answers = iter([False, True])
        def watch():
            return gui._tk_timer(stop, root, leave, 1) if {timer} else gui.tk(stop, root, leave)
        def leave():
            if next(answers):
                print("leaves")
                root.destroy()
            else:
                print("refused", stop.veto("unsaved"))
                backs.append(watch())
                root.after(1, stop.ask)
        with listen(policy=Policy(window_s=0, steps=("ask", "ask"))) as stop:
            backs = [watch()]
            stop.ask()
            root.mainloop()
            for back in backs:
                back()
            print("end")
        """,
        env={"DISPLAY": display},
    ) as program:
        program.ends(0, "refused True", "leaves", "end")


BINDINGS = [name for name in ("PySide6", "PyQt6", "PyQt5", "PySide2") if importlib.util.find_spec(name)]


@pytest.mark.skipif(not BINDINGS, reason="there is no binding of Qt")
@pytest.mark.parametrize("binding", BINDINGS)
def test_qts_loop_ends_at_a_request(binding: str) -> None:
    """The binding is the one that the program has imported."""
    with Program(
        f"""
        from {binding} import QtCore
        from endtask_receiver import gui, listen
        app = QtCore.QCoreApplication([])
        with listen() as stop:
            back = gui.qt(stop, lambda: print("never"))
            back()
            gui.qt(stop, app.quit)
            QtCore.QTimer.singleShot(0, lambda: print("ready"))
            app.exec()
            print(stop.request)
        """
    ) as program:
        program.expect("ready")
        program.settle()
        program.send()
        program.ends(0, "SIGTERM")


class _Signal:
    def __init__(self) -> None:
        self.function: Callable[[], object] = lambda: None

    def connect(self, function: Callable[[], object]) -> None:
        self.function = function


class _Core:
    """As much of QtCore as is used."""

    class QSocketNotifier:
        class Type:
            Read = 0

        def __init__(self, fd: int, kind: int) -> None:
            self.activated = _Signal()
            self.enabled = True
            _Core.made.append(self)

        def setEnabled(self, enabled: bool) -> None:  # noqa: N802
            self.enabled = enabled

    made: list[_Core.QSocketNotifier]


def test_qt_is_told_once() -> None:
    """The descriptor stays readable; without a second look at it the loop would run hot."""
    _Core.made = []
    calls: list[int] = []
    with fake() as stop:
        gui.qt(stop, lambda: calls.append(1), core=_Core)
        (notifier,) = _Core.made
        assert notifier.enabled
        notifier.activated.function()
    assert calls == [1]
    assert not notifier.enabled


def test_without_qt_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported for it."""
    monkeypatch.setattr(gui, "_QT", ("NoSuchQt",))
    with fake() as stop, pytest.raises(RuntimeError, match="none of NoSuchQt has been imported"):
        gui.qt(stop, print)
