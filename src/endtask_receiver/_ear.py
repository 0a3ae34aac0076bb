"""What the core asks of an ear. Only type checkers read this file: `typing` is not imported when a program runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from endtask_receiver._stop import Stop


class Ear(Protocol):
    """Hears requests on one or more channels, and hands them to `Stop._heard`."""

    def start(self, stop: Stop) -> None:
        """Begin to listen. What cannot be heard here is said by `describe`; it is not an error."""

    def close(self) -> None:
        """Stop listening, and restore what was there before. Called once, from any thread."""

    def describe(self) -> tuple[str, ...]:
        """Return what is heard and what is not, one line each, in words."""


class ForkedEar(Protocol):
    """An ear that must be looked after when the process forks."""

    @property
    def stop(self) -> Stop:
        """Whom it tells."""

    @property
    def previous(self) -> Mapping[int, object]:
        """By number, the signals that it has taken over."""

    def in_child(self) -> Callable[[], object] | None:
        """Give everything back, in a forked child. Returns what is to be called when all have done so."""
