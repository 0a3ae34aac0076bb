"""One request for one process: what is sent, and CONT after it where it would only wait."""

from __future__ import annotations

import pytest

from endtask._request import deliver
from endtask._requests import parse_request
from endtask.errors import UnsupportedRequestError
from endtask.model import Receipt, Request
from tests.core.fake import FakeBackend, FakePin, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._backends.base import Pin
    from endtask.model import ReceiptStatus


class Target(FakeBackend):
    """A machine that notes what is sent to its one process."""

    def __init__(self, *, stopped: bool = False, answer: ReceiptStatus = "delivered") -> None:
        super().__init__(Process(10, "app"))
        self.is_stopped = stopped
        self.answer: ReceiptStatus = answer
        self.sent: list[str] = []

    def stopped(self, pin: Pin) -> bool:
        return self.is_stopped

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        assert isinstance(pin, FakePin)
        if request.name == "USR2":
            raise UnsupportedRequestError("no such request")
        if request.name == "STOPS":
            self.is_stopped = True
        self.sent.append(request.name)
        return Receipt(request.name, self.answer, at_s, "fake")

    def deliver(self, name: str) -> list[str]:
        """Deliver, and return the names on the receipts."""
        pin = self.pin(10)
        receipts = list(deliver(self, pin, parse_request(name), 1.5))
        assert all(r.at_s == 1.5 for r in receipts)
        return [r.request for r in receipts]


def test_running_process_gets_the_request_alone() -> None:
    """Nothing is added where nothing is needed."""
    target = Target()
    assert target.deliver("TERM") == ["TERM"] == target.sent


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "RTMIN+1"])
def test_stopped_process_is_continued_after_the_request(name: str) -> None:
    """A signal to a stopped process waits for CONT (facts A3); the order lets it run straight into its handler."""
    target = Target(stopped=True)
    assert target.deliver(name) == [name, "CONT"] == target.sent


@pytest.mark.parametrize("name", ["KILL", "CONT", "stdin:q", "cmd:x"])
def test_request_that_needs_no_continue_gets_none(name: str) -> None:
    """KILL reaches a stopped process, CONT is CONT, and the other ways are not signals."""
    assert Target(stopped=True).deliver(name) == [name]


@pytest.mark.parametrize("answer", ["gone", "denied", "impossible", "failed"])
def test_refused_request_is_not_followed_by_continue(answer: ReceiptStatus) -> None:
    """Who was not asked is not woken."""
    assert Target(stopped=True, answer=answer).deliver("TERM") == ["TERM"]


def test_unsupported_request_is_an_error_and_nothing_stronger() -> None:
    """No request is silently replaced."""
    target = Target(stopped=True)
    with pytest.raises(UnsupportedRequestError):
        target.deliver("USR2")
    assert target.sent == []
