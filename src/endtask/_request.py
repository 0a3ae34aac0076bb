"""Stage 4: one step for one process -> receipts.

Decision: a stopped process gets CONT right after the request, because TERM to it only waits (signal(7)); the order TERM, CONT is the one that lets it run straight into its handler.
The state is read after the request was delivered, so that a process that was stopped in between is seen too.
"""

from __future__ import annotations

from endtask.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from endtask._backends.base import Backend, Pin
    from endtask.model import Receipt

CONT = Request("CONT", "signal", 18)


def waits_for_cont(request: Request) -> bool:
    """Return whether a process that is stopped acts on a request only when it is continued."""
    return request.kind == "signal" and not request.forced and request.number != CONT.number


def deliver(backend: Backend, pin: Pin, request: Request, at_s: float) -> Iterator[Receipt]:
    """Send *request*, and CONT after it if the process is stopped.

    Yields:
        One receipt for each thing that was sent, right after it was sent; a receipt says what the system answered and proves no end.

    Raises:
        UnsupportedRequestError: The system has no such request; nothing was sent.
    """
    receipt = backend.send(pin, request, at_s)
    yield receipt
    if waits_for_cont(request) and receipt.status == "delivered" and backend.stopped(pin):
        yield backend.send(pin, CONT, at_s)
