"""What a terminal shows while a run is under way: a line for each process that still runs, updated in place.

Decision: `rich` draws it where it is installed, and it is imported only when a run lasts long enough to be watched: most stops are over before.
The clock in the lines ticks by itself (`live_clock.py`). A tick draws only: it never touches the run.
"""

from __future__ import annotations

from itertools import islice

from endtask._backends import understands_escapes
from endtask._words import called
from endtask.cli.console import shown
from endtask.cli.live_clock import start_clock
from endtask.cli.render import EventLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from endtask.cli.console import Console, Line, Stream
    from endtask.model import Event

_ROWS = 10


class LiveView:
    """A listener for events: lines that stay, and below them the processes that still run.

    Args:
        console: Where to write.
        budget_s: The run's budget, shown beside the clock with what was granted since.
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
        self._extended_s = 0.0
        self._watches = False
        self._lines = lines
        self._chosen = EventLines(verbose=verbose)
        self._stream = console.out if console.out.tty and lines else console.err
        self._rows: dict[int, tuple[str, str, float]] = {}
        self._said: dict[int, str] = {}
        self._live: Live | None = None
        self._clock = start_clock(self._tick, self._is_writing)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._note(event)
        line = self._chosen.line(event) if self._lines else None
        if line is not None:
            self._say(line)

    def close(self) -> None:
        """Take the live part away; the lines stay."""
        self._clock.stop()
        if self._live is not None:
            live, self._live = self._live, None
            with self._clock:
                live.stop()

    # ------------------------------------------------------------------ state

    def _note(self, event: Event) -> None:
        self._watches = self._watches or event.kind == "watching"
        if event.ref is None:
            return
        pid = event.ref.pid
        if event.kind in ("exited", "settled"):
            self._rows.pop(pid, None)
            self._said.pop(pid, None)
        elif event.kind in ("heard", "said", "needs", "refuses"):
            self._said[pid] = event.text.removeprefix(f"{pid} {event.name} ")
            self._extended_s = max(self._extended_s, event.extended_s)
        elif event.kind in ("selected", "joined"):
            self._rows[pid] = (event.name, "", 0.0)
        elif event.kind == "request":
            self._rows[pid] = (event.name, event.text.partition(" -> ")[0], event.at_s)

    def rows(self) -> list[str]:
        """Return the live part: the clock, then a line for each process."""
        elapsed = self._now() - self._started
        if not self._rows:  # that may last longer than the budget
            doing = "watching for a respawn" if self._watches else "looking for what is left"
            return [f"  {elapsed:.1f} s  {doing}"]
        budget_s = round(self._budget_s + self._extended_s, 1) if self._extended_s else self._budget_s
        lines = [f"  {elapsed:.1f} s of {budget_s:g} s  waiting for {len(self._rows)}"]
        for pid, (name, request, at_s) in islice(self._rows.items(), _ROWS):
            asked = f"asked by {request} {max(0.0, elapsed - at_s):.1f} s ago" if request else "not asked yet"
            says = f"  {self._said[pid]}" if pid in self._said else ""
            lines.append(shown(f"    {called(pid, name)}  {asked}{says}"))
        if len(self._rows) > _ROWS:
            lines.append(f"    and {len(self._rows) - _ROWS} more")
        return lines

    # ------------------------------------------------------------------ drawing

    def _is_writing(self) -> bool:
        return self._console.out.busy or self._console.err.busy

    def _tick(self) -> bool:
        """Draw; return whether another tick makes sense."""
        if self._live is None and not self._rows:
            return True
        with self._clock:
            if self._live is None:
                self._live = _start_live(self._stream)
            if self._live is not None:
                self._update(self._live)
        return self._live is not None

    def _update(self, live: Live) -> None:
        live.update(_renderable(self.rows(), "dim" if self._stream.color else ""), refresh=True)

    def _say(self, line: Line) -> None:
        """Write a line that stays, above the live part if they share the terminal."""
        with self._clock:
            live, out = self._live, self._console.out
            if live is None or self._stream is not out:
                out.line(line)
                return
            from rich.text import Text

            self._update(live)  # who has ended by now shall not stand below the line that says so
            live.console.print(Text.from_ansi(out.painted(line)), soft_wrap=True)


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
    if not understands_escapes(stream.fd):
        return None
    try:
        from rich.console import Console as RichConsole
        from rich.live import Live
    except ImportError:
        return None  # ignored: the extra is not installed, plain lines do
    console = RichConsole(
        file=_Writer(stream),  # type: ignore[arg-type]  # rich asks for a whole IO[str] and uses these four
        force_terminal=True,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,  # it would draw with calls of its own, on a console that understands escape sequences
    )
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def _renderable(rows: list[str], style: str) -> Text:
    from rich.text import Text

    return Text("\n".join(rows), no_wrap=True, overflow="ellipsis", style=style)
