"""The ears of POSIX systems: signals, the end of standard input, the end of the parent.

Decision: signals are heard twice, by a handler and by a thread that reads the wake-up descriptor, because neither is enough (CPython 3.9-3.13, measured):

- A handler runs between two bytecodes of the main thread.
  A signal that lands after the last look and before a blocking call is heard when that call ends (13 of 200,000 waits for a lock),
  and a call that releases the GIL without looking (sqlite, zlib, `os.system`, the main loop of Tk or Qt) hears it when it is done.
- The thread hears at once what the handler cannot, and nothing while a C call holds the GIL (regular expressions, big integers), where the handler is called.

Both tell the same core; `_Line` sees to it that one signal counts once.
Where no thread reads the descriptor, because the program wants it for itself, our own waits let the handler run once in a second.

Rejected: blocking the signals and `sigwait` in a thread (every child inherits the mask and becomes deaf to `terminate()`),
and `PR_SET_PDEATHSIG` (it follows the *thread* that started us).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import signal

from endtask_receiver import _finish, _fork
from endtask_receiver._request import StopRequest
from endtask_receiver._watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Union

    from endtask_receiver._ear import Ear
    from endtask_receiver._stop import Stop

    Handler = Union[Callable[[int, "FrameType | None"], object], int, signal.Handlers, None]


_TURN_S = 1.0


def ears(
    signals: Iterable[str | int], *, stdin: bool, parent: bool, watch: bool, fork: str, channel: bool
) -> list[Ear]:
    """Return the ears for what `listen` was asked for.

    Raises:
        ValueError: There is no such signal, or one that nobody can hear; or *fork* is no known word.
    """
    numbers = tuple(_number(s) for s in signals)
    found: list[Ear] = [SignalEar(numbers, watch=watch)]
    if stdin or parent:
        from endtask_receiver._ends import EndEar

        found.append(EndEar(stdin=stdin, parent=parent))
    if _fork.checked(fork) == "forward":
        from endtask_receiver._forward import Forwarder

        found.append(Forwarder(numbers))
    if channel:
        from endtask_receiver._channel_posix import ChannelEar

        found.append(ChannelEar())
    return found


def _number(word: str | int) -> int:
    """Return the number of a signal that is given as `TERM`, `SIGTERM` or 15."""
    if isinstance(word, str):
        name = word.upper()
        number = getattr(signal, name if name.startswith("SIG") else "SIG" + name, None)
        if not isinstance(number, signal.Signals):
            raise ValueError(f"there is no signal {word!r} here")  # noqa: TRY004  # a wrong word, not a wrong type
        word = number
    if word in {signal.SIGKILL, signal.SIGSTOP}:
        raise ValueError(f"nobody can hear {_name(word)}")
    return int(word)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal has no name of its own


class _Line:
    """One signal on its way to us twice: says of each report whether it is the echo of the other one (only in turn, see `_core`).

    A handler's call stands for all deliveries before it; a byte of the wake-up descriptor for one. So:

    - a call that was interrupted by a later one, and reports after it, is its echo;
    - a call that began before the thread had its latest byte stands for an earlier one, and perhaps not for that.
      If it did, the next call is taken for an echo too: then the thread counts, which reads a byte for every delivery.
    """

    __slots__ = ("_ahead", "_called_at", "_read_at", "name")

    def __init__(self, number: int) -> None:
        self.name = _name(number)
        self._ahead = 0  # calls whose byte has not come yet; below 0: bytes without a call
        self._called_at = self._read_at = 0.0  # the latest of each

    def by_handler(self, at: float) -> bool:
        if at < self._called_at:
            return True
        self._called_at = at
        if self._ahead < 0:
            self._ahead = 0 if at >= self._read_at else self._ahead + 1
            return True
        self._ahead += 1
        return False

    def by_thread(self, at: float) -> bool:
        self._read_at = at
        self._ahead -= 1
        return self._ahead >= 0


class SignalEar:
    """Hears signals, and restores at its end what it found."""

    def __init__(self, numbers: tuple[int, ...], *, watch: bool) -> None:
        self.numbers = numbers
        self.previous: dict[int, Handler] = {}  # of the signals that we hear
        self.stop: Stop  # from `start` on
        self.watcher: Watcher | None = None
        self._watch = watch
        self._handler = self.on_signal  # one object, so that it can be recognised
        self._lines = {n: _Line(n) for n in numbers}
        self._followers: list[SignalEar] = []  # ears of a `listen` within ours, for which the descriptor is not free
        self._leader: SignalEar | None = None
        self._watched = False  # a thread, ours or that of a `listen` around this one, reads the descriptor
        self._unblocked: set[int] = set()
        self._said: list[str] = []
        self._deaf = False  # closed, or in a forked child

    # ------------------------------------------------------------------ begin and end

    def start(self, stop: Stop) -> None:
        """Install the handlers, then the watching thread, then let in what was held back until now."""
        self.stop = stop
        _fork.enter(self)
        if not _may_handle():
            self._said.append("signals: not heard, this is not the main thread of the main interpreter")
            return
        if self._watch:
            self._take_descriptor()
        for number in self.numbers:
            self._install(number)
        if self.watcher is not None:
            self.watcher.start(stop, blocked=self.numbers)
        elif self.previous and not self._watched:
            stop._turn_s = _TURN_S
        held = signal.pthread_sigmask(signal.SIG_UNBLOCK, self.previous)
        self._unblocked = {n for n in held if n in self.previous}
        self._said += [f"{_name(n)}: it was blocked, and is not any more" for n in sorted(self._unblocked)]

    def _install(self, number: int) -> None:
        name = _name(number)
        before = signal.getsignal(number)
        if before is signal.SIG_IGN:
            # Whoever started us wants it so: nohup, or a shell that runs us in the background.
            self._said.append(f"{name}: ignored since before us, left alone")
        elif before is None:
            self._said.append(f"{name}: handled by something that is not Python, left alone")
        else:
            self.previous[number] = before
            signal.signal(number, self._handler)
            chained = ", and so does what was installed before" if self._chained(before) is not None else ""
            self._said.append(f"{name}: a handler hears it{chained}")
            if self._leader is None and isinstance(getattr(before, "__self__", None), SignalEar):
                self._follow(before.__self__)  # type: ignore[union-attr]  # just looked at

    def _take_descriptor(self) -> None:
        """Start to watch, if nobody else does: there is one wake-up descriptor in a process."""
        watcher = Watcher()
        before = signal.set_wakeup_fd(watcher.write_fd, warn_on_full_buffer=False)
        if before == -1:
            watcher.on_byte = self._on_byte
            self.watcher = watcher
            self._watched = True
            self._said.append("wake-up descriptor: a thread watches it")
        else:
            signal.set_wakeup_fd(before)
            watcher.close()
            self._said.append("wake-up descriptor: somebody else has it, so signals wait for the main thread")

    def _follow(self, leader: SignalEar) -> None:
        """Hear also what the thread of an outer `listen` hears."""
        self._leader = leader
        leader._followers.append(self)
        if leader._watched:
            self._watched = True
            self._said.append("wake-up descriptor: the thread of the `listen` around this one watches it")

    def close(self) -> None:
        """Restore handlers, descriptor and mask, each only where ours is still in place."""
        _fork.leave(self)
        if self._leader is not None:
            self._leader._followers.remove(self)
        restored = _may_handle()
        if restored:
            self.restore()
            if self._unblocked:
                signal.pthread_sigmask(signal.SIG_BLOCK, self._unblocked)
        self._deaf = True  # a handler that could not be removed passes on from now
        if self.watcher is not None:
            # Python still writes into a pipe that could not be removed; its number must not become another file's.
            self.watcher.close(keep_pipe=not restored)

    def restore(self) -> None:
        """Restore dispositions and descriptor (in the main thread, also of a forked child)."""
        for number, before in self.previous.items():
            if signal.getsignal(number) is self._handler:
                signal.signal(number, before)
        if self.watcher is not None:
            now = signal.set_wakeup_fd(-1)
            if now not in {self.watcher.write_fd, -1}:
                signal.set_wakeup_fd(now)  # somebody has taken it from us: it is theirs

    def in_child(self) -> None:
        """Hear nothing, in a forked child: its thread is gone, and what was asked was asked of its parent."""
        self.restore()
        self._deaf = True
        self._unblocked.clear()  # a child that cannot be asked is what they were unblocked against
        if self.watcher is not None:
            self.watcher.forget()
            self.watcher = None
        self._said = ["signals: not heard, this is a forked child"]

    def describe(self) -> tuple[str, ...]:
        """Return what is heard, signal by signal."""
        return tuple(self._said)

    # ------------------------------------------------------------------ hearing

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Be the handler: between two bytecodes of the main thread, whatever it is doing."""
        stop, line = self.stop, self._lines[number]
        if self._deaf:
            if not (self._watched and line.by_handler(stop._clock())):  # else the thread had heard it before our end
                self._pass_on(number, frame)
            return
        try:
            request = StopRequest(stop._clock(), "signal", name=line.name)
            stop._heard(request, (lambda: line.by_handler(request.at)) if self._watched else None)
        except (RecursionError, MemoryError):
            stop.asked = True  # the deepest point of a recursion: the flag is all that the handler can do; the thread does the rest
            return
        if stop.ending:
            stop._exit(request)  # the thread has decided, and waits for us to do it: only the main thread can
        chained = self._chained(self.previous[number])
        if chained is not None:
            self._call(chained, number, frame)

    def _on_byte(self, number: int) -> None:
        """Take a byte of the wake-up descriptor, in the watching thread."""
        line = self._lines.get(number)
        if line is not None and number in self.previous and not self._deaf:
            request = StopRequest(self.stop._clock(), "signal", name=line.name)
            self.stop._heard(request, lambda: line.by_thread(request.at))
        for ear in tuple(self._followers):
            ear._on_byte(number)

    def _chained(self, before: Handler) -> Callable[[int, FrameType | None], object] | None:
        """Return what was installed before, if it is something to call. Python's own handler raises KeyboardInterrupt: that is what we are for."""
        if callable(before) and before is not signal.default_int_handler:
            return before
        return None

    def _call(self, chained: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
        try:
            chained(number, frame)
        except BaseException:  # noqa: BLE001  # a handler never raises: the request is heard, and the application acts on it at its time
            self.stop.faults += 1

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Do what the process would do without us: somebody has kept our handler and called or installed it after our end."""
        before = self.previous[number]
        if callable(before):
            before(number, frame)
        else:
            _finish.die_by(number)


def _may_handle() -> bool:
    """Return whether handlers can be set here: in the main thread of the main interpreter only."""
    try:
        signal.signal(signal.SIGKILL, signal.SIG_DFL)
    except ValueError:
        return False
    except OSError:
        pass  # ignored: nobody can change what KILL does, and the main thread is told so by the system
    return True
