"""What the application and a requester say to each other; how their bytes travel is the business of a transport.

One JSON object per line, UTF-8, at most 4,096 bytes with the newline; the first line of each side has `"endtask": 1`.
What is not known is ignored, so that each side may learn new words alone.

| the application says | when |
|---|---|
| `hello` | at once: who it is, whether it was asked already, how much time it takes |
| `noted` | at once, when a notice has come: now its request may come too |
| `heard` | it was asked, by this channel or any other |
| `tell`, `need`, `veto`, `shield`, `cleanup` | the news of the application (`_request.News`) |
| `tell`, `need`, `veto` | at once, as far as they still hold: what came while the door was not open yet; a `veto` with its age, `ago_s` |
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
Rejected: to rely on a requester that waits for `noted`. endtask does so, 20 ms at most; to wait for every program that hangs is nobody's duty.

`wake` is called from any thread, also from a signal handler; it must neither wait nor raise.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident

from endtask_receiver._channel_lines import clean, distinct, heard_of, hello_of, line_of, seconds
from endtask_receiver._channel_talk import LAST_MAX, OUT_MAX, PATIENCE_S, VERSION, Conversation
from endtask_receiver._request import News

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from endtask_receiver._request import StopRequest
    from endtask_receiver._stop import Stop

PEERS_MAX = 8
NEWS_MAX = 256  # that wait for the thread that sends them
PACE_S = 0.02  # between two of those of which only the latest counts: programs tell their progress in loops
SETTLE_S = 0.05
LATE_S = 1.0  # so long it may take until our thread lets in who connected before it asked

_LATEST = ("tell", "shield", "need")
NOT_ALLOWED = "only the same user and root may ask"


class Channel:
    """All conversations of one process: those of the `Stop` that says who we are, and of others that have joined.

    Attributes:
        conversations: With whom we talk.
        stops: Who is asked, the first one being who we are.
    """

    def __init__(self, stop: Stop, wake: Callable[[], object]) -> None:
        """Begin to follow the news.

        Args:
            stop: Who is asked.
            wake: Tells the transport that there is something to send, see the module's docstring.
        """
        self.conversations: tuple[Conversation, ...] = ()
        self.stops: tuple[Stop, ...] = (stop,)
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

    def join(self, stop: Stop) -> None:
        """Have another one hear and say the same: a `listen` within the first one, which has no channel of its own."""
        stop._listeners.append(self._on_news)
        stop._settle = self.settle
        self.stops = (*self.stops, stop)

    def leave(self, stop: Stop) -> None:
        """Undo `join`; nothing happens if it has not joined."""
        self.stops = tuple(each for each in self.stops if each is not stop)
        self._forsake(stop)

    def _forsake(self, stop: Stop) -> None:
        if self._on_news in stop._listeners:
            stop._listeners.remove(self._on_news)
            stop._settle = None

    # ------------------------------------------------------------------ from any thread, or a handler

    def _ring(self) -> None:
        if self.conversations and not self._woken:
            self._woken = True  # before the transport looks, see `pump`
            self._wake()

    def _on_news(self, news: News) -> None:
        kind = news.kind
        self._latest[kind] = news  # first: whoever takes the word away looks here afterwards, see `pump`
        if kind in _LATEST:
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
        new._say({"endtask": VERSION, "hello": hello_of(self._stop, self._pid)})
        request = self._first()
        if request is not None and request.at in self._announced:  # else it came just now, and everybody hears of it
            new._say({"heard": heard_of(self._stop, request)})
        if "tell" in self._latest:
            new._say(line_of(self._latest["tell"]))
        self._catch_up(new, request)
        return new

    def _catch_up(self, new: Conversation, request: StopRequest | None) -> None:
        """Tell somebody what may be the answer to its own request: it connected before it asked, but a signal is faster than the thread that lets it in."""
        now = self._stop._clock()
        refusal, need = self._latest.get("veto"), self._latest.get("need")
        if request is None:
            if refusal is not None and now - refusal.at <= LATE_S:
                new._say(line_of(refusal, now - refusal.at))
        elif need is not None and need.at >= request.at and "need" not in self._news:
            needed_s = need.at + (seconds(need.seconds) or 0.0) - now
            told = self._stop._told
            if needed_s > 0 and (told is None or now + needed_s > told):
                new._say(line_of(News(now, None, "need", needed_s, need.text)))

    def pump(self, *, last: bool = False) -> None:
        """Say to everybody what is new since the last time.

        Args:
            last: Whether this is the last time: nothing is put off.
        """
        self._woken = False  # first: what comes from now on wakes us again
        self._server = get_ident()
        for request in distinct(self._first(), tuple(self._stop._counted)):
            if request.at not in self._announced:
                self._announced.append(request.at)
                del self._announced[:-128]  # more than the core keeps; after a veto they begin anew
                self._say({"heard": heard_of(self._stop, request)})
        now = self._stop._clock()
        later: list[News | str] = []
        while self._news and (last or self._room(now)):
            entry = self._news.pop(0)
            if not isinstance(entry, str):
                self._say(line_of(entry), last=last)
            elif now < self._next.get(entry, now) and not last:
                later += [entry] if entry not in later else []
            elif self._latest[entry] is not self._sent.get(entry):  # else it has gone already, with an earlier word
                self._sent[entry] = self._latest[entry]
                self._next[entry] = now + PACE_S
                self._say(line_of(self._sent[entry]), last=last)
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

    def _room(self, now: float) -> bool:
        """Say whether everybody can be told one more: a burst is sent piece by piece. Who has kept the others waiting for too long is left alone."""
        return all([each._look(now) for each in self.conversations])  # noqa: C419  # the patience with each begins now

    def due_s(self) -> float | None:
        """Return in how many seconds there is something to say that was put off, None if nothing was."""
        now = self._stop._clock()
        moments = [self._next.get(entry, now) if isinstance(entry, str) else now for entry in tuple(self._news)]
        if not moments:
            return None
        # Whoever has read since gives room: that is an event for the transport.
        full = [
            each._full_since + PATIENCE_S for each in self.conversations if each._full_since is not None and each._full
        ]
        return max(0.0, min(moments) - now, min(full, default=now) - now)

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
        for stop in self.stops:
            self._forsake(stop)
        for each in (*self._rounds[0], *self._rounds[1]):
            each.release()
        self._rounds = ([], [])

    def _say(self, message: dict[str, object], *, last: bool = False) -> None:
        for conversation in self.conversations:
            conversation._say(message, LAST_MAX if last else OUT_MAX)
