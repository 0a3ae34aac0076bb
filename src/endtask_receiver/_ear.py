"""What the core asks of an ear. Only type checkers read this file: `typing` is not imported when a program runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from endtask_receiver._stop import Stop


class Ear(Protocol):
    """Hears requests on one or more channels, and hands them to `Stop._heard`."""

    def start(self, stop: Stop) -> None:
        """Begin to listen. What cannot be heard here is said by `describe`; it is not an error."""

    def close(self) -> None:
        """Stop listening, and restore what was there before. Called once, from any thread."""

    def describe(self) -> tuple[str, ...]:
        """Return what is heard and what is not, one line each, in words."""
