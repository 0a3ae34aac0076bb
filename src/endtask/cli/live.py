"""What a terminal shows while a run is under way: a line for each process that still runs, updated in place.

Decision: `rich` draws it where it is installed, and it is imported only when a run lasts long enough to be watched: most stops are over before.
The clock in the lines is driven by SIGALRM and not by a thread, because the library may fork a guardian in the middle of a run, and a fork of a process with threads is undefined ground (fork(2), POSIX.1).
A tick draws only: it never touches the run, and it skips its turn when it has interrupted a write or an import.
"""

from __future__ import annotations

import os
import signal
import sys

assert sys.platform != "win32"  # SIGALRM and signal masks: POSIX

from endtask.cli.console import shown  # noqa: E402
from endtask.cli.render import EventLines  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from rich.live import Live
    from rich.text import Text

    from endtask.cli.console import Console, Line, Stream
    from endtask.model import Event

FIRST_TICK_S = 0.3
TICK_S = 0.2
_ROWS = 10


class LiveView:
    """A listener for events: lines that stay, and below them the processes that still run.

    Args:
        console: Where to write.
        budget_s: The run's budget, shown beside the clock.
        now: Monotonic clock.
        lines: Whether the events are written as lines to standard output (not when that carries JSON).
        verbose: Whether every event is told.
    """

    def __init__(self, console: Console, budget_s: float, *, lines: bool = True, verbose: bool = False) -> None:
        import time

        self._now = time.monotonic
        self._started = self._now()
        self._console = console
        self._budget_s = budget_s
        self._lines = lines
        self._chosen = EventLines(verbose=verbose)
        self._stream = console.out if console.out.tty and lines else console.err
        self._rows: dict[int, tuple[str, str, float]] = {}
        self._live: Live | None = None
        self._drawing = False
        self._failed = False
        self._before = signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, FIRST_TICK_S, TICK_S)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._note(event)
        line = self._chosen.line(event) if self._lines else None
        if line is not None:
            self._say(line)

    def close(self) -> None:
        """Take the live part away; the lines stay."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        if self._live is not None:
            live, self._live = self._live, None
            with _Undisturbed(self):
                live.stop()

    # ------------------------------------------------------------------ state

    def _note(self, event: Event) -> None:
        if event.ref is None:
            return
        pid = event.ref.pid
        if event.kind in ("exited", "settled"):
            self._rows.pop(pid, None)
        elif event.kind in ("selected", "joined"):
            self._rows[pid] = (event.name, "", 0.0)
        elif event.kind == "request":
            self._rows[pid] = (event.name, event.text.partition(" -> ")[0], event.at_s)

    def rows(self) -> list[str]:
        """Return the live part: the clock, then a line for each process."""
        elapsed = self._now() - self._started
        lines = [f"  {elapsed:.1f} s of {self._budget_s:g} s  waiting for {len(self._rows)}"]
        for pid, (name, request, at_s) in list(self._rows.items())[:_ROWS]:
            asked = f"asked by {request} {max(0.0, elapsed - at_s):.1f} s ago" if request else "not asked yet"
            lines.append(shown(f"    {pid} {name}  {asked}"))
        if len(self._rows) > _ROWS:
            lines.append(f"    and {len(self._rows) - _ROWS} more")
        return lines

    # ------------------------------------------------------------------ drawing

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        """SIGALRM: draw, unless the interrupted code is one that drawing depends on."""
        if self._drawing or self._failed or self._console.out.busy or self._console.err.busy or _importing(frame):
            return
        if self._live is None and not self._rows:
            return
        self._draw()

    def _draw(self) -> None:
        with _Undisturbed(self):
            if self._live is None:
                self._live = _start_live(self._stream)
                if self._live is None:
                    self._failed = True
                    signal.setitimer(signal.ITIMER_REAL, 0)  # no clock to draw: no waking up for it
            if self._live is not None:
                self._live.update(_renderable(self.rows(), "dim" if self._stream.color else ""), refresh=True)

    def _say(self, line: Line) -> None:
        """Write a line that stays, above the live part if they share the terminal."""
        live, out = self._live, self._console.out
        if live is None or self._stream is not out:
            out.line(line)
            return
        from rich.text import Text

        with _Undisturbed(self):
            live.console.print(Text.from_ansi(out.painted(line)), soft_wrap=True)


class _Undisturbed:
    """While we draw: no tick on top, and Ctrl+C comes afterwards, or the lines on the screen would no longer be those that are taken away."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def __enter__(self) -> None:
        self._view._drawing = True  # noqa: SLF001  # the two are one
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))

    def __exit__(self, *_: object) -> None:
        self._view._drawing = False  # noqa: SLF001
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class _Writer:
    """The file that `rich` writes to: our stream, which never blocks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        self._stream.raw(text)
        return len(text)

    def flush(self) -> None:
        """Nothing to do: the stream writes at once."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fd


def _start_live(stream: Stream) -> Live | None:
    """Return a started live display, None if `rich` is not installed or the terminal cannot do it."""
    if os.environ.get("TERM", "") in ("", "dumb"):
        return None
    try:
        from rich.console import Console as RichConsole
        from rich.live import Live
    except ImportError:
        return None  # ignored: the extra is not installed, plain lines do
    console = RichConsole(file=_Writer(stream), force_terminal=True, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]  # rich asks for a whole IO[str] and uses these four
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def _renderable(rows: list[str], style: str) -> Text:
    from rich.text import Text

    return Text("\n".join(rows), no_wrap=True, overflow="ellipsis", style=style)


def _importing(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is in the middle of an import: another one on top could see half a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
