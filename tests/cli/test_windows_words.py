"""What only Windows knows of a process, as `look` says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from endtask._answers import forecast_windows
from endtask._api import _ancestors
from endtask._plan import make_policy
from endtask.cli.describe_windows import windows_lines
from endtask.model import Facts, PidRef, Window, WindowsFacts

if TYPE_CHECKING:
    from endtask._backends.base import Backend


def kind(**found: object) -> str:
    """Return what is said of the kind of a process with the pid 12."""
    facts = Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("console", **found))  # type: ignore[arg-type]  # as given
    return dict(windows_lines(facts))["kind"]


@pytest.mark.parametrize(
    ("pids", "words"),
    [
        ((), "on a console that is not ours"),
        ((12,), "on a console that is not ours"),
        ((12, 16, 20), "on a console that is not ours with 16, 20"),
    ],
)
def test_who_else_is_on_its_console_is_somebody_else(pids: tuple[int, ...], words: str) -> None:
    """A process is not on a console with itself."""
    assert kind(console="another", console_pids=pids) == f"console program, {words}"


def test_windows_are_named_with_what_keeps_a_person_from_closing_them() -> None:
    """Role, title, state, text, buttons, class; those that the system makes only with -v."""
    main = Window(1, "Pad", visible=True, enabled=False, class_name="Pad")
    box = Window(2, "Pad", role="dialog", visible=True, class_name="#32770", texts=("Save?",), buttons=("&Yes", "No"))
    helper = Window(3, "Default IME", role="helper", class_name="IME")
    facts = Facts(PidRef(12, "1"), "app.exe", windows=WindowsFacts("gui", windows=(main, box, helper)))
    said = [text for label, text in windows_lines(facts) if label == "window"]
    assert said == ['main "Pad", disabled (Pad)', 'dialog "Pad": Save? [Yes] [No] (#32770)']
    assert len([label for label, _ in windows_lines(facts, verbose=True) if label == "window"]) == 3


def test_who_asks_a_batch_file_is_told_to_ask_what_it_runs() -> None:
    """The shell leaves without a word to its child."""
    facts = Facts(PidRef(12, "1"), "cmd.exe", windows=WindowsFacts("console", runtime="cmd", console="none"))
    (advice,) = forecast_windows(facts, [], make_policy(signals=False), ()).advice
    assert advice == "cmd.exe does not hand a request on: ask the program that it runs"


class Names:
    """Knows one process by its name."""

    def short_name(self, pid: int) -> str | None:
        """Return its name, None of everybody else."""
        return "shell.exe" if pid == 8 else None

    def full_name(self, pid: int, short: str) -> str:
        """Return the same."""
        assert (pid, short) == (8, "shell.exe")
        return short


def test_line_of_ancestors_ends_where_nobody_has_the_number() -> None:
    """Windows keeps the pid of a parent that has ended. Elsewhere the parent is there, and may not be read."""
    backend = cast("Backend", Names())
    assert list(_ancestors(backend, [8, 40, 44], keeps_the_dead=True)) == [(8, "shell.exe")]
    assert list(_ancestors(backend, [8, 40], keeps_the_dead=False)) == [(8, "shell.exe"), (40, "?")]
