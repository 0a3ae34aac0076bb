"""The conversations of one run with the receivers of the processes that it stops.

A conversation is opened right before the first polite request to a process, because only then there is something to say:
a *notice* that belongs to the request (deadline and reason), or the request itself (CHANNEL).
What comes back goes to the state machine, which decides, to whoever follows the run, and into the report.

A signal overtakes a notice that was sent before it: the kernel delivers the one at once, the other is read by a thread.
Half of all programs heard a request without its deadline (measured), and laid out their end for ten seconds that they did not have.
So the answer to a notice is waited for, a moment at most; nothing else here waits.
A process without a receiver never leads here: `_receivers` loads this module with the first one.
"""

from __future__ import annotations

from endtask import _conversation, _said
from endtask._record import replace
from endtask.model import Receipt, Said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from endtask._backends.base import Backend, Conversation
    from endtask._conversation import Message
    from endtask._discover import Entry
    from endtask._job import Action, JobMember
    from endtask.model import PidRef, Request

    Perform = Callable[[Entry, list[Action]], None]
    Tell = Callable[[str, Entry, PidRef | None, str, str], None]
    Owners = Callable[[PidRef], Iterable[tuple[Entry, JobMember]]]

_NOTED_S = 0.02  # for one process
_PATIENCE_S = 0.1  # for all of a run: hundreds that are stopped must not hold up the others
_CLOCKS_S = 0.001  # what it says of its time may be that far from ours
_KINDS = {"heard": "heard", "need": "needs", "veto": "refuses"}  # of events; all else is `said`


class _Talk:
    """With one process."""

    __slots__ = ("asked_at", "conversation", "early", "first_at", "reader", "ref")

    def __init__(self, ref: PidRef, conversation: Conversation) -> None:
        self.ref = ref
        self.conversation = conversation
        self.reader = _conversation.Reader()
        self.early: list[tuple[float, Message]] = []  # and when; came while we waited for the answer to a notice
        self.asked_at: float | None = None  # when our last request was sent
        self.first_at: float | None = None  # and the first

    def asks(self, now: float) -> None:
        """Note that a request is sent now."""
        self.asked_at = now
        self.first_at = now if self.first_at is None else self.first_at


class Talks:
    """All conversations of a run.

    Args:
        backend: The operating system.
        started_at: Backend time at which the run began.
        owners: Returns every job that a process belongs to, with its part there.
        perform: Carries out what a job wants done.
        tell: Tells whoever follows the run, None where nobody does.
    """

    def __init__(
        self, backend: Backend, started_at: float, owners: Owners, perform: Perform, tell: Tell | None = None
    ) -> None:
        self._backend = backend
        self._started_at = started_at
        self._owners = owners
        self._perform = perform
        self._tell = tell
        self._talks: dict[PidRef, _Talk] = {}
        self._patience_s = _PATIENCE_S

    def begin(self, ref: PidRef, conversation: Conversation) -> None:
        """Talk with the process *ref*."""
        self._talks[ref] = _Talk(ref, conversation)

    def knows(self, ref: PidRef) -> bool:
        """Return whether there is a conversation with a process."""
        return ref in self._talks

    def prepare(self, entry: Entry, member: JobMember, request: Request) -> None:
        """Tell a process what belongs to a request that it is about to get on another way."""
        talk = self._talks.get(member.ref)
        if talk is None or request.kind == "channel":
            return
        job = entry.job
        line = _conversation.notice(request.name, job.ends_at - self._backend.now(), job.policy.reason)
        if talk.conversation.say(line):
            self._await_noted(talk)
        talk.asks(self._backend.now())

    def _await_noted(self, talk: _Talk) -> None:
        """Wait until a process has got our notice, as long as we have patience; who is stopped or busy hears the request without it."""
        began = self._backend.now()
        until = began + min(_NOTED_S, self._patience_s)
        while (left_s := until - self._backend.now()) > 0 and talk.conversation.wait(left_s):
            now = self._backend.now()
            messages = talk.reader.feed(talk.conversation.drain(), now)
            talk.early += [(now, message) for message in messages]
            if any(m.kind == "noted" for m in messages) or talk.reader.broken or not talk.conversation.open:
                break
        self._patience_s -= self._backend.now() - began

    def ask(self, entry: Entry, member: JobMember, request: Request, why_not: str) -> Receipt:
        """Ask by the conversation itself (CHANNEL); *why_not* is why there is none, if there is none."""
        job, now = entry.job, self._backend.now()
        at_s = now - self._started_at
        talk = self._talks.get(member.ref)
        if talk is not None and talk.conversation.open:
            line = _conversation.request(job.ends_at - now, job.policy.reason)
            talk.asks(self._backend.now())
            if talk.conversation.say(line):
                return Receipt(request.name, "delivered", at_s)
        if talk is not None:
            why_not = talk.reader.broken or "its receiver has closed the conversation"
        return Receipt(request.name, "impossible", at_s, why_not)

    # ------------------------------------------------------------------ listening

    @property
    def pending(self) -> bool:
        """Whether something came that no news will wake anybody for."""
        return any(t.early or t.reader.broken or not t.conversation.open for t in self._talks.values())

    def hear(self, only: PidRef | None = None) -> None:
        """Take in what has come, of all or of one process, and give it to the jobs."""
        for talk in [t for t in self._talks.values() if only is None or t.ref == only]:
            while talk.ref in self._talks:
                data = talk.conversation.drain()
                now = self._backend.now()
                came, talk.early = [*talk.early, *((now, m) for m in talk.reader.feed(data, now))], []
                for at, message in _without_overtaken(came):
                    self._take(talk, message, at)
                if talk.reader.broken:
                    self._note(talk, Said("closed", now - self._started_at, talk.reader.broken))
                if talk.reader.broken or not talk.conversation.open:
                    self._hang_up(talk)
                if not data:
                    break

    def _hang_up(self, talk: _Talk) -> None:
        self._drop(talk.ref)
        for owner, member in list(self._owners(talk.ref)):
            self._perform(owner, owner.job.hangs_up(member, self._backend.now()))

    def _take(self, talk: _Talk, message: Message, at: float) -> None:
        if message.kind in ("hello", "noted"):
            return
        after_s = None
        # What was heard, or refused, before we asked was somebody else's request.
        if message.kind == "heard":
            after_s = _after(talk.asked_at, message, at)
        elif message.kind == "veto" and _after(talk.first_at, message, at) is None:
            return
        entry = _said.entry(message, max(0.0, at - self._started_at), after_s)
        if message.kind == "need":
            self._need(talk, entry, at)
        else:
            self._note(talk, entry)

    def _note(self, talk: _Talk, entry: Said) -> None:
        """Write it down in every job that the process belongs to."""
        for owner, member in list(self._owners(talk.ref)):
            self._put(owner, member, entry)

    def _put(self, owner: Entry, member: JobMember, entry: Said) -> None:
        job, now = owner.job, self._backend.now()
        _said.add(member.said, entry)
        actions: list[Action] = []
        if entry.kind == "heard":
            job.listens(member)
        elif entry.kind == "veto":
            actions = job.vetoes(member, now)
        if self._tell is not None:
            text = f"{member.ref.pid} {member.name} {_said.in_words(entry, job.extended_s - entry.granted_s)}"
            self._tell(_KINDS.get(entry.kind, "said"), owner, member.ref, member.name, text)
        self._perform(owner, actions)

    def _need(self, talk: _Talk, entry: Said, now: float) -> None:
        """Answer a wish for more time: what the least generous of its jobs says."""
        ends: list[tuple[float, bool]] = []
        seconds = entry.seconds or 0.0
        for owner, member in list(self._owners(talk.ref)):
            job = owner.job
            granted_s = job.needs(member, seconds, now)
            missing_s = max(0.0, now + seconds - job.ends_at)
            missing_s = missing_s if missing_s > _NOTHING_S else 0.0
            until_s = max(0.0, job.ends_at - self._started_at)
            self._put(owner, member, replace(entry, granted_s=granted_s, missing_s=missing_s, until_s=until_s))
            ends.append((job.ends_at, granted_s > 0 or not missing_s))
        if ends:
            left_s = min(at for at, _good in ends) - self._backend.now()  # what happened meanwhile took time
            answer = _conversation.granted if all(good for _at, good in ends) else _conversation.not_granted
            talk.conversation.say(answer(left_s))

    # ------------------------------------------------------------------ ending

    def _drop(self, ref: PidRef) -> None:
        talk = self._talks.pop(ref, None)
        if talk is not None:  # a job that was settled by what it said may have done so already
            talk.conversation.close()

    def end(self, entry: Entry) -> None:
        """Forget the processes of a job that is settled, as far as no other job has them."""
        for member in entry.job.members:
            if member.ref in self._talks and all(owner is entry for owner, _m in self._owners(member.ref)):
                self._drop(member.ref)

    def close(self) -> None:
        """End every conversation."""
        for ref in list(self._talks):
            self._drop(ref)


_NOTHING_S = 0.001  # what a plan misses by less than that is not missing


def _after(asked_at: float | None, message: Message, at: float) -> float | None:
    """Return how many seconds after a request that happened which a message tells, None if it was before."""
    after_s = -1.0 if asked_at is None else at - (message.seconds or 0.0) - asked_at
    return max(0.0, after_s) if after_s > -_CLOCKS_S else None


def _without_overtaken(came: list[tuple[float, Message]]) -> list[tuple[float, Message]]:
    """Return messages, each with its time, without progress that newer progress of the same work has overtaken before we looked."""
    kept: list[tuple[float, Message]] = []
    for at, message in came:
        before = kept[-1][1] if kept else None
        if before is not None and message.kind == before.kind == "tell" and message.text == before.text:
            kept[-1] = (at, message)
        else:
            kept.append((at, message))
    return kept
