"""One conversation of the channel: its lines in both directions, and every bound; see `_channel`."""

from __future__ import annotations

from endtask_receiver._channel_lines import clean, encode, left_of
from endtask_receiver._request import StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from endtask_receiver._channel import Channel

LINE_MAX = 4096  # bytes, with the newline
LINES_MAX = 64  # that are looked at in a second
OUT_MAX = 16384  # bytes that wait for a requester that does not read
LAST_MAX = 262144  # the same for the last words, after which there is no next time
PATIENCE_S = 1.0  # so long the news wait for a requester whose bytes are that many; then it does not read
VERSION = 1


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
        if not self._greeted:
            _load()  # meanwhile: it reads who we are, and what it says next belongs to a request that is faster

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

    def _say(self, message: Mapping[str, object], most: int = OUT_MAX) -> None:
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
        loads = _load()
        if loads is None:
            return False
        try:
            message = loads(line.decode("utf-8"))
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


def _load() -> Callable[[str], object] | None:
    """Return `json.loads`, which only who is spoken to needs; None if the files of Python are out of reach: chroot(2), another user now, or no descriptor is free."""
    try:
        import json
    except (ImportError, OSError):
        return None
    return json.loads


_WORDS: dict[str, Callable[[Conversation, object], bool]] = {
    "notice": Conversation._on_notice,
    "request": Conversation._on_request,
    "granted": Conversation._on_granted,
    "not_granted": Conversation._on_not_granted,
}
