"""What the application and a requester say to each other; how their bytes travel is the business of a transport.

One JSON object per line, UTF-8, at most 4,096 bytes with the newline; the first line of each side has `"endtask": 1`.
What is not known is ignored, so that each side may learn new words alone.

| the application says | when |
|---|---|
| `hello` | at once: who it is, whether it was asked already, how much time it takes |
| `noted` | at once, when a notice has come: now its request may come too |
| `heard` | it was asked, by this channel or any other |
| `tell`, `need`, `veto`, `shield`, `cleanup` | the news of the application (`_request.News`) |
| `refused` | to whom it does not listen; then the door is closed |

| the requester says | which means |
|---|---|
| `notice` | a request comes, or has just come, by another way: this is its deadline and reason. It asks for nothing itself |
| `request` | this asks |
| `granted` | the answer to `need`: the new deadline |
| `not_granted` | the answer to `need`: it stays as it is |

Decision: the application never waits for a requester, and nothing that a requester sends can raise here: who sends what is no line of ours,
sends too much, or does not read what it is told, is left alone, and what it asked before stays asked.

A transport (`_channel_posix`, the pipe of Windows) makes one `Channel`, and does this in one thread at a time:

- somebody connects: `conversation = channel.open(pid, uid)`; None: close the connection at once.
  Who may not ask: `channel.open(pid, uid, refuse="why")`.
- bytes come: `conversation.feed(data)`, at most some thousand at a time.
- after each of these, and whenever `wake` was called: `channel.pump()`.
  Then, for each of `channel.conversations`: send what is in `conversation.out`, without waiting, and call `conversation.sent(count)` for what is gone.
- `conversation.over`: after one attempt to send what is in `out`, close the connection and call `conversation.lost()`.
- the other side has closed, or an error: `conversation.lost()`, and close the connection.
- `channel.due_s()` says in how many seconds to `pump` again, if nothing comes before; None: not at all.
- at the end: `channel.close()`, one more attempt to send to everybody, then close all.
  In a forked child: `channel.forget()`.

Decision: a notice takes another way than its request, and the request is faster: the handler of a signal runs before our thread has read a line (10 of 12, measured).
So who looks at a request for the first time waits until the thread has been round once: 0.1 ms, `SETTLE_S` at most, and only while somebody talks to us.
Rejected: that the requester waits for `noted`; it would wait for every program that hangs.

`wake` is called from any thread, also from a signal handler; it must neither wait nor raise.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident

from endtask_receiver._channel_lines import clean, line_of, seconds
from endtask_receiver._channel_talk import OUT_MAX, VERSION, Conversation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from endtask_receiver._request import News, StopRequest
    from endtask_receiver._stop import Stop

PEERS_MAX = 8
NEWS_MAX = 256  # that wait for the thread that sends them
PACE_S = 0.02  # between two of those of which only the latest counts: programs tell their progress in loops
SETTLE_S = 0.05

_LATEST = ("tell", "shield", "need")
NOT_ALLOWED = "only the same user and root may ask"


class Channel:
    """All conversations of one `Stop`."""

    def __init__(self, stop: Stop, wake: Callable[[], object]) -> None:
        """Begin to follow the news.

        Args:
            stop: Who is asked.
            wake: Tells the transport that there is something to send, see the module's docstring.
        """
        self.conversations: tuple[Conversation, ...] = ()
        self._stop = stop
        self._wake = wake
        self._pid = os.getpid()
        self._woken = False
        self._server = 0  # the thread that does all this
        self._settled: float | None = None  # the request whose notice was waited for, by its time
        self._rounds: tuple[list[LockType], list[LockType]] = (
            [],
            [],
        )  # who waits for the end of the next round, and of this one
        self._announced: list[float] = []  # when the requests were heard that everybody knows of
        self._news: list[News | str] = []  # that nobody was told; a word stands for the latest of its kind
        self._latest: dict[str, News] = {}
        self._sent: dict[str, News] = {}
        self._next: dict[str, float] = {}  # when the next one of a kind may be told
        stop.add_waker(self._ring)
        stop._listeners.append(self._on_news)
        stop._settle = self.settle

    # ------------------------------------------------------------------ from any thread, or a handler

    def _ring(self) -> None:
        if self.conversations and not self._woken:
            self._woken = True  # before the transport looks, see `pump`
            self._wake()

    def _on_news(self, news: News) -> None:
        kind = news.kind
        if kind in _LATEST:
            self._latest[kind] = news  # first: whoever takes the word away looks here afterwards, see `pump`
            if self.conversations and kind not in self._news:
                self._news.append(kind)
                self._ring()
        elif self.conversations and (len(self._news) < NEWS_MAX or kind == "veto"):
            self._news.append(news)
            self._ring()

    def settle(self) -> None:
        """Wait until what was said before the latest request has been read; once for each, a moment at most."""
        stop = self._stop
        requests = [*stop._first[:1], *stop._counted[-1:]]
        if not requests or not self.conversations or get_ident() == self._server:
            return
        request = max(requests, key=lambda each: each.at)
        if request.at == self._settled or request.pid is not None or request.reason:
            return
        self._settled = request.at
        if stop._clock() - request.at < SETTLE_S:
            mine = allocate_lock()
            mine.acquire()
            self._rounds[0].append(mine)
            self._wake()
            mine.acquire(timeout=SETTLE_S)

    # ------------------------------------------------------------------ from the transport, one thread at a time

    def open(self, pid: int | None, uid: int | None, refuse: str = "") -> Conversation | None:
        """Begin a conversation with somebody who has connected.

        Args:
            pid: Of the requester, None if the system does not tell.
            uid: Of the requester, None if the system does not tell.
            refuse: Why it may not ask; it is told so, and no more.

        Returns:
            The conversation; None if there are too many.
        """
        self._server = get_ident()
        new = Conversation(self, pid, uid)
        if refuse:
            new._say({"endtask": VERSION, "refused": {"text": clean(refuse)}})
            new.over = True
            return new
        if len(self.conversations) >= PEERS_MAX:
            return None
        self.pump()  # what is known now is not new for it
        self.conversations = (*self.conversations, new)
        new._say({"endtask": VERSION, "hello": self._hello()})
        request = self._first()
        if request is not None and request.at in self._announced:  # else it came just now, and everybody hears of it
            new._say({"heard": self._heard(request)})
        if "tell" in self._latest:
            new._say(line_of(self._latest["tell"]))
        return new

    def pump(self, *, last: bool = False) -> None:
        """Say to everybody what is new since the last time.

        Args:
            last: Whether this is the last time: nothing is put off.
        """
        self._woken = False  # first: what comes from now on wakes us again
        self._server = get_ident()
        first = self._first()
        for request in (first, *tuple(self._stop._counted)):  # one that was refused at once is no first one any more
            if request is not None and request.at not in self._announced:
                self._know(request)
                self._say({"heard": self._heard(request)})
        now = self._stop._clock()
        later: list[News | str] = []
        room = OUT_MAX // 2  # more is said when this is sent, so that only who does not read is left behind
        while self._news and (room > 0 or last):
            entry = self._news.pop(0)
            if not isinstance(entry, str):
                room -= self._say(line_of(entry), last=last)
            elif now < self._next.get(entry, now) and not last:
                later += [entry] if entry not in later else []
            elif self._latest[entry] is not self._sent.get(entry):  # else it has gone already, with an earlier word
                self._sent[entry] = self._latest[entry]
                self._next[entry] = now + PACE_S
                room -= self._say(line_of(self._sent[entry]), last=last)
        if self._news:
            self._ring()
        self._news[:0] = later
        self._end_round()

    def _end_round(self) -> None:
        """Let go on who has waited for a whole round: what was there when it came has been read before this `pump`."""
        coming, here = self._rounds
        while here:
            here.pop().release()
        while coming:
            here.append(coming.pop())
        if here:
            self._wake()

    def _first(self) -> StopRequest | None:
        return next(iter(self._stop._first[:1]), None)

    def due_s(self) -> float | None:
        """Return in how many seconds there is something to say that was put off, None if nothing was."""
        moments = [self._next[entry] for entry in tuple(self._news) if isinstance(entry, str) and entry in self._next]
        return max(0.0, min(moments) - self._stop._clock()) if moments else None

    def close(self) -> None:
        """Say what is left to be said, and hear no more."""
        self.pump(last=True)
        self._unhook()
        for conversation in self.conversations:
            conversation.over = True

    def forget(self) -> None:
        """Drop everything, in a forked child: the conversations are its parent's."""
        self._unhook()
        self.conversations = ()

    def _unhook(self) -> None:
        self._stop.remove_waker(self._ring)
        if self._on_news in self._stop._listeners:
            self._stop._listeners.remove(self._on_news)
        self._stop._settle = None
        for each in (*self._rounds[0], *self._rounds[1]):
            each.release()
        self._rounds = ([], [])

    def _know(self, request: StopRequest) -> None:
        self._announced.append(request.at)
        del self._announced[:-128]  # more than the core keeps; after a veto they begin anew

    def _say(self, message: dict[str, object], *, last: bool = False) -> int:
        """Say something to everybody; return how long it is."""
        return max((each._say(message, last=last) for each in self.conversations), default=0)

    def _hello(self) -> dict[str, object]:
        stop = self._stop
        state = "ending" if stop.ending else "hurry" if stop.hurry else "asked" if stop.asked else "running"
        return {
            "pid": self._pid,
            "name": clean(stop.name),
            "grace_s": seconds(stop.grace_s),
            "state": state,
            "left_s": self._left_s(),
        }

    def _heard(self, request: StopRequest) -> dict[str, object]:
        stop = self._stop
        return {
            "name": clean(request.name),
            "channel": clean(request.channel),
            "ago_s": seconds(stop._clock() - request.at),
            "left_s": self._left_s(),
        }

    def _left_s(self) -> float | None:
        ends_at = self._stop._ends_at()
        return None if ends_at is None else seconds(ends_at - self._stop._clock())
