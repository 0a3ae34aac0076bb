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

`wake` is called from any thread, also from a signal handler; it must neither wait nor raise.
"""

from __future__ import annotations

import os

from endtask_receiver._channel_lines import clean, distinct, encode, heard_of, hello_of, left_of, line_of
from endtask_receiver._request import StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask_receiver._request import News
    from endtask_receiver._stop import Stop

LINE_MAX = 4096  # bytes, with the newline
LINES_MAX = 64  # that are looked at in a second
OUT_MAX = 16384  # bytes that wait for a requester that does not read
LAST_MAX = 262144  # the same for the last words, after which there is no next time
PATIENCE_S = 1.0  # so long the news wait for a requester whose bytes are that many; then it does not read
PEERS_MAX = 8
NEWS_MAX = 256  # that wait for the thread that sends them
PACE_S = 0.02  # between two of those of which only the latest counts: programs tell their progress in loops
VERSION = 1

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
        self._announced: list[float] = []  # when the requests were heard that everybody knows of
        self._news: list[News | str] = []  # that nobody was told; a word stands for the latest of its kind
        self._latest: dict[str, News] = {}
        self._sent: dict[str, News] = {}
        self._next: dict[str, float] = {}  # when the next one of a kind may be told
        stop.add_waker(self._ring)
        stop._listeners.append(self._on_news)

    def join(self, stop: Stop) -> None:
        """Have another one hear and say the same: a `listen` within the first one, which has no channel of its own."""
        stop._listeners.append(self._on_news)
        self.stops = (*self.stops, stop)

    def leave(self, stop: Stop) -> None:
        """Undo `join`; nothing happens if it has not joined."""
        self.stops = tuple(each for each in self.stops if each is not stop)
        self._forsake(stop)

    def _forsake(self, stop: Stop) -> None:
        if self._on_news in stop._listeners:
            stop._listeners.remove(self._on_news)

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
        request = self._stop.request
        if request is not None and request.at in self._announced:  # else it came just now, and everybody hears of it
            new._say({"heard": heard_of(self._stop, request)})
        if "tell" in self._latest:
            new._say(line_of(self._latest["tell"]))
        return new

    def pump(self, *, last: bool = False) -> None:
        """Say to everybody what is new since the last time.

        Args:
            last: Whether this is the last time: nothing is put off.
        """
        self._woken = False  # first: what comes from now on wakes us again
        for request in distinct(self._stop.request, tuple(self._stop._counted)):
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
        self.conversations = ()
        self._unhook()

    def _unhook(self) -> None:
        self._stop.remove_waker(self._ring)
        for stop in self.stops:
            self._forsake(stop)

    def _say(self, message: dict[str, object], *, last: bool = False) -> None:
        for conversation in self.conversations:
            conversation._say(message, LAST_MAX if last else OUT_MAX)


class Conversation:
    """With one requester.

    Attributes:
        out: What waits to be sent.
        over: Whether the connection is to be closed, after one attempt to send what is in `out`.
        pid: Of the requester, None if the system does not tell.
        uid: Of the requester, None if the system does not tell.
        why: Why it is over, in words; empty if it is not, or just ended.
    """

    def __init__(self, channel: Channel, pid: int | None, uid: int | None) -> None:
        self.out = bytearray()
        self.over = False
        self.pid = pid
        self.uid = uid
        self.why = ""
        self._channel = channel
        self._stop = channel._stop
        self._rest = b""
        self._greeted = False
        self._needs = False  # it was told that more time is needed, and has not answered
        self._notice: StopRequest | None = None
        self._second = 0.0  # when the lines began that are counted
        self._lines = 0
        self._full_since: float | None = None  # when there was no room for news

    # ------------------------------------------------------------------ from the transport

    def feed(self, data: bytes) -> None:
        """Take what the requester has sent. It never raises."""
        if self.over:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest
        for line in lines:
            if len(line) >= LINE_MAX or not self._in_time():
                self._shut("it sends too much")
            elif not self._take(line):
                self._shut("it sends what is no line of ours")
            if self.over:
                return
        if len(rest) >= LINE_MAX:
            self._shut("it sends too much")

    def sent(self, count: int) -> None:
        """Forget what is gone."""
        del self.out[:count]

    def lost(self) -> None:
        """End it: the connection is closed. What was asked stays asked. More than once is allowed."""
        self.over = True
        channel = self._channel
        channel.conversations = tuple(each for each in channel.conversations if each is not self)
        self._forget_notice()

    # ------------------------------------------------------------------ what is said

    @property
    def _full(self) -> bool:
        return len(self.out) > OUT_MAX - 2 * LINE_MAX  # one is for the news, the other for answers

    def _look(self, now: float) -> bool:
        """Say whether there is room for news; leave it alone if there was none for too long."""
        if not self._full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= PATIENCE_S:
            self._shut("it does not read")
        return not self._full

    def _say(self, message: dict[str, object], most: int = OUT_MAX) -> None:
        if self.over:
            return
        line = encode(message)
        if len(self.out) + len(line) > most:
            self._shut("it does not read")
            return
        self._needs = self._needs or "need" in message
        self.out += line

    def _shut(self, why: str) -> None:
        self.why, self.over = why, True
        self.out.clear()
        self._full_since = None
        self._rest = b""

    # ------------------------------------------------------------------ what is heard

    def _in_time(self) -> bool:
        """Count a line; say whether it is one too many."""
        now = self._stop._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        self._lines += 1
        return self._lines <= LINES_MAX

    def _take(self, line: bytes) -> bool:
        """Do what a line says; return whether it is one of ours."""
        try:
            import json  # only who is spoken to needs it
        except (ImportError, OSError):
            return False  # the files of Python are out of reach: chroot(2), another user now, or no descriptor is free
        try:
            message = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return False
        if not isinstance(message, dict):
            return False
        if not self._greeted:
            version = message.get("endtask")
            if isinstance(version, bool) or not isinstance(version, int) or version < VERSION:
                return False
            self._greeted = True
        return all(take(self, message[word]) for word, take in _WORDS.items() if word in message)

    def _on_notice(self, said: object) -> bool:
        notice = self._request(said, "notice")
        if notice is None:
            return False
        self._forget_notice()
        self._notice = notice
        for stop in self._channel.stops:
            stop._noticed(notice)
        self._say({"noted": {"request": notice.name}})
        return True

    def _on_request(self, said: object) -> bool:
        request = self._request(said, "channel")
        if request is not None:
            for stop in self._channel.stops[::-1]:  # the innermost first, as with signals
                stop._heard(request)
        return request is not None

    def _on_granted(self, said: object) -> bool:
        left_s = left_of(said)
        if left_s is None:
            return False
        if self._needs:  # nobody is given what was not asked for
            self._needs = False
            deadline = self._stop._clock() + left_s
            for stop in self._channel.stops:
                stop._granted(deadline, self.pid)
        return True

    def _on_not_granted(self, said: object) -> bool:
        self._needs = False
        return left_of(said) is not None

    def _forget_notice(self) -> None:
        notice, self._notice = self._notice, None
        if notice is not None:
            for stop in self._channel.stops:
                stop._unnoticed(notice)

    def _request(self, said: object, channel: str) -> StopRequest | None:
        """Return what a notice or a request says, None if it is none."""
        left_s = left_of(said)
        if not isinstance(said, dict) or (left_s is None and said.get("left_s") is not None):
            return None
        texts = [said.get(key, "") for key in ("reason", "by", "request")]
        reason, _by, word = texts
        if not all(isinstance(text, str) for text in texts):
            return None
        now = self._stop._clock()
        name = "CHANNEL" if channel == "channel" else clean(word)
        deadline = None if left_s is None else now + left_s
        return StopRequest(now, channel, deadline, name, self.pid, clean(reason), self.uid)


_WORDS: dict[str, Callable[[Conversation, object], bool]] = {
    "notice": Conversation._on_notice,
    "request": Conversation._on_request,
    "granted": Conversation._on_granted,
    "not_granted": Conversation._on_not_granted,
}
