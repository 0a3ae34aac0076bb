"""Who has a receiver, and what it says of itself: for those who only look. Nothing is asked.

All processes together get a tenth of a second to answer; whoever does not, because it is stopped or busy in one long call, is called silent.
"""

from __future__ import annotations

from endtask._conversation import Reader
from endtask._record import replace
from endtask._said import Acquaintance
from endtask.model import Receiver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from endtask._backends.base import Backend, Conversation, Pin
    from endtask.model import Facts

_HELLO_S = 0.1
_MOMENT_S = 1e-4


class _Caller:
    """One conversation, until the other side has said who it is."""

    __slots__ = ("conversation", "known", "reader")

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.reader = Reader()
        self.known = Acquaintance()

    def listen(self, now: float) -> bool:
        """Take in what has come; return whether more is to be expected. If not it is closed: its news would wake us for nothing."""
        for message in self.reader.feed(self.conversation.drain(), now):
            self.known.take(message)
        if not self.known.complete and not self.reader.broken and self.conversation.open:
            return True
        self.conversation.close()
        return False


def acquaint(backend: Backend, pins: Iterable[Pin]) -> dict[int, Receiver]:
    """Return what the receivers of processes say of them, by pid; who has none is not in it."""
    found: dict[int, Receiver] = {}
    callers: dict[int, _Caller] = {}
    waiter = backend.waiter()
    try:
        for pin in pins:
            conversation = backend.converse(pin, waiter)
            if not isinstance(conversation, str):
                callers[pin.ref.pid] = _Caller(conversation)
            elif conversation:
                found[pin.ref.pid] = Receiver("unusable", detail=conversation)
        until = backend.now() + _HELLO_S
        silent = list(callers.values())
        while silent := [caller for caller in silent if caller.listen(backend.now())]:
            left_s = until - backend.now()
            if left_s < _MOMENT_S:
                break
            waiter.wait(left_s)
        for pid, caller in callers.items():
            found[pid] = caller.known.receiver(caller.reader.broken)
    finally:
        for caller in callers.values():
            caller.conversation.close()
        waiter.close()
    return found


def knowing(facts: Facts, receivers: Mapping[int, Receiver]) -> Facts:
    """Return *facts* with what the receiver of that process says."""
    receiver = receivers.get(facts.ref.pid)
    return facts if receiver is None or facts.exited else replace(facts, receiver=receiver)
