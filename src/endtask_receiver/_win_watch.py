"""One thread that waits for everything but the console: stop event, pipe, window messages, the end of the parent; and that looks at the clock.

Decision: a plain thread in MsgWaitForMultipleObjectsEx.
Measured from the event to Python code: 0.1 ms; RegisterWaitForSingleObject took three times, asyncio's own wait ten times as long.
"""

from __future__ import annotations

import atexit
import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread

assert sys.platform == "win32"

from endtask_receiver import _win_calls as calls
from endtask_receiver import _win_event as event
from endtask_receiver._request import StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._channel import Channel
    from endtask_receiver._stop import Stop
    from endtask_receiver._win_calls import Handle
    from endtask_receiver._win_event import StopEvent
    from endtask_receiver._win_pipe import Pipe
    from endtask_receiver._win_window import HiddenWindow

_START_S = 5.0  # the window may have to wait for a desktop that is just being made; without it we hear the rest
_END_S = 1.0  # the thread needs microseconds to end, unless a callback of the application holds it up

# The names of stop events and of the pipe belong to the process: the first ear has them, and the others hear and say the same.
_listening: list[WatchEar] = []
_talking: list[WatchEar] = []


class WatchEar:
    """Hears in a thread of its own."""

    def __init__(self, *, asked: bool, everywhere: bool, window: bool, parent: bool, channel: bool) -> None:
        """Prepare.

        Args:
            asked: Whether the stop event is a request.
            everywhere: Whether it can be set from other sessions.
            window: Whether a hidden window hears.
            parent: Whether the end of the parent is a request.
            channel: Whether requesters can talk to us.
        """
        self.asked = asked
        self._everywhere = everywhere
        self._wants_window = window
        self._wants_parent = parent
        self._wants_channel = channel
        self._events: list[StopEvent] = []
        self._pipe: Pipe | None = None
        self._window: HiddenWindow | None = None
        self._sources: tuple[tuple[Handle, Callable[[], object] | None], ...] = ()
        self._said: list[str] = []
        self._said_of_window: list[str] = []
        self._closed = False
        self._closing = False  # the thread is to end
        self._holding = False
        self._thread = 0
        self._ready, self._ended = allocate_lock(), allocate_lock()
        self._state = allocate_lock()  # for changes of `_sources`
        self._poke: Handle
        self._stop: Stop

    # ------------------------------------------------------------------ begin and end

    def start(self, stop: Stop) -> None:
        """Open what there is to wait for, and have a thread wait."""
        self._stop = stop
        self._poke = calls.open_event(manual=False)
        self._sources = ((self._poke, None),)
        self._open_parent()
        if self.asked:
            self._open_events()
            _listening.append(self)
        if self._wants_channel:
            channel = _shared()
            _talking.append(self)
            if channel is None:
                self.open_pipe()
            else:
                channel.join(stop)
                self._said.append("channel: another `listen` of this process has it, and shares it")
        self._ready.acquire()
        self._ended.acquire()
        stop.add_waker(self.poke)  # a request from inside the program brings a deadline too
        atexit.register(self.close)  # no thread of ours is to meet the end of the interpreter
        start_new_thread(self._run, ())
        self._ready.acquire(True, _START_S)

    def _open_events(self) -> None:
        if any(ear._events for ear in _listening):
            self._said.append("stop event: the one of the `listen` around this one")
            return
        events, faults = event.open_events(everywhere=self._everywhere)
        self._said += [e.describe() for e in events] + faults
        self.adopt(events)

    def adopt(self, events: list[StopEvent]) -> None:
        """Wait for these events from now on."""
        self._events = events
        with self._state:
            self._sources += tuple((e.handle, lambda e=e: _tell_all(e)) for e in events)  # type: ignore[misc]  # the default gives no type
        self.poke()

    def open_pipe(self) -> None:
        """Let requesters talk to us from now on, and to the others that want it."""
        from endtask_receiver._win_pipe import Pipe

        pipe = Pipe(self._stop, self.poke)
        for ear in _talking:
            if ear is not self:
                pipe.channel.join(ear._stop)
        self._said = [line for line in self._said if not line.startswith("channel:")]
        self._said.append(pipe.describe())
        self._pipe = pipe
        self.poke()

    def _open_parent(self) -> None:
        if not self._wants_parent:
            return
        from endtask_receiver import _win_ends

        parent, said = _win_ends.open_parent()
        self._said.append(said)
        if parent is not None:
            self._sources += ((parent, lambda: self._hear("parent", "", None, "the parent has ended")),)
        elif said == _win_ends.ENDED:
            self._hear("parent", "", None, "the parent had ended before we began to listen")

    def poke(self) -> None:
        """Have the thread look around. From anywhere."""
        calls.SetEvent(self._poke.value)

    def close(self) -> None:
        """End the thread, and give up the names."""
        if self._closed:
            return  # by `atexit`
        atexit.unregister(self.close)
        self._closed = self._closing = True
        for those in (_listening, _talking):
            if self in those:
                those.remove(self)
        talks = self._pipe is not None
        channel = _shared()
        if channel is not None:
            channel.leave(self._stop)
        self._stop.remove_waker(self.poke)
        self.poke()
        if self._holding:
            return  # the process ends, and with it the thread, which still waits for all this
        if self._thread != get_ident():
            self._ended.acquire(True, _END_S)
        else:
            self._close_pipe()
        if talks and _talking:
            _talking[-1].open_pipe()
        events, self._events = self._events, []
        if events and _listening:
            _listening[-1].adopt(events)
        else:
            for each in events:
                each.close()

    def describe(self) -> tuple[str, ...]:
        """Return what is heard."""
        return (*self._said, *self._said_of_window)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        self._thread = get_ident()
        self._open_window()
        self._ready.release()
        try:
            while not self._closing:
                self._turn(self._window, None)
        finally:
            self._sources = ()
            if self._window is not None:
                self._window.close()
            self._close_pipe()
            self._ended.release()

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _open_window(self) -> None:
        if not self._wants_window:
            if self.asked:
                self._said_of_window.append(
                    "window: none, so `taskkill` without /f does not reach a program without windows"
                )
            return
        try:
            from endtask_receiver._win_window import HiddenWindow
        except (OSError, AttributeError) as error:
            self._said_of_window.append(f"window: none, this Windows has no user32 ({error})")
            return
        window = HiddenWindow(
            self._stop.name or os.path.basename(sys.argv[0] or sys.executable), self._hear, self._hold
        )
        if window.open():
            self._window = window
            self._said_of_window.append("window: WM_CLOSE and WM_QUIT are requests, and so is the end of the session")
        else:
            window.close()
            self._said_of_window.append("window: none could be made")

    def _turn(self, window: HiddenWindow | None, limit_s: float | None) -> None:
        """Wait once, and do what is to be done."""
        stop, sources, pipe = self._stop, self._sources, self._pipe
        handles = [handle.value for handle, _do in sources]
        if pipe is not None:
            handles += pipe.handles()
        due_s = stop._due_s()
        waits = [s for s in (due_s, limit_s, None if pipe is None else pipe.due_s()) if s is not None]
        timeout_ms = min(int(min(waits) * 1000) + 1, calls.INFINITE - 1) if waits else calls.INFINITE
        index = calls.wait_any(handles, timeout_ms) if window is None else window.wait_any(handles, timeout_ms)
        if pipe is not None:
            pipe.turn()
            pipe.turn()  # who has just connected has spoken: what it said belongs to what it then did, and must be known before
        if index < len(sources):
            self._do(*sources[index])
        elif window is not None and index == len(handles):
            window.pump()
        elif index == calls.WAIT_FAILED:
            # Somebody has closed a handle of ours, by a number that he took for his own. The console is still heard.
            self._said = ["stop event, pipe and parent: not heard any more, a handle was closed"]
            self._sources = sources[:1]
            self._close_pipe()
            self._closing = len(sources) == 1
        if pipe is not None:
            pipe.turn()
        if due_s is not None:
            stop._tick()

    def _do(self, handle: Handle, do: Callable[[], object] | None) -> None:
        if do is not None:
            with self._state:
                self._sources = tuple(s for s in self._sources if s[0] is not handle)  # it stays set
            do()

    def _hold(self, limit_s: float) -> None:
        """Return when the limit is near: the end of the session is on hold so long. Everything else is heard meanwhile."""
        clock = self._stop._clock
        end = clock() + limit_s
        self._holding = True
        while (
            clock() < end
        ):  # also when we are closed: threads are to be joined, `atexit` functions to run; see `_win_console`
            self._turn(None, end - clock())
        self._holding = False

    def _hear(self, channel: str, name: str, limit_s: float | None, reason: str = "") -> None:
        now = self._stop._clock()
        self._stop._heard(StopRequest(now, channel, None if limit_s is None else now + limit_s, name, reason=reason))


def _shared() -> Channel | None:
    """Return the channel that this process has already."""
    pipes = [ear._pipe for ear in tuple(_talking)]
    return next((pipe.channel for pipe in pipes if pipe is not None), None)


def _tell_all(heard: StopEvent) -> None:
    for ear in tuple(_listening):
        ear._hear("event", "STOP_EVENT", None)
    heard.acknowledge()
