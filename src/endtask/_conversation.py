"""What an application with a receiver (`endtask_receiver`) says, and what is said to it: lines <-> messages (pure).

One JSON object a line, UTF-8, at most 4,096 bytes with the newline; the first line of each side names the version.
What is said here comes from the process that is being stopped, so it is believed as far as a handler would be: it may be late, wrong or malicious.
So every bound is here: of a line, of their number in a second, of texts and numbers. Characters that steer a terminal are replaced before anybody sees them.
What is known not to be meant for us ends the conversation; an unknown word is ignored, so that later versions can say more.

Decision: 1,024 lines a second, where the receiver allows its requesters 64: programs tell their progress in loops, and a line costs five microseconds.
"""

from __future__ import annotations

from endtask._record import Record
from endtask._version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL = 1
MOST_LINE = 4096  # bytes, the newline included
MOST_LINES = 1024  # in a second
MOST_TEXT = 500  # characters
MOST_SECONDS = 1e7
MOST_COUNT = 10**15
_STATES = ("running", "asked", "hurry", "ending")
_KINDS = ("hello", "noted", "heard", "tell", "need", "veto", "shield", "cleanup", "refused")


class Message(Record):
    """One word of an application.

    Attributes:
        kind: `hello`, `noted` (it has got our notice), `heard`, `tell`, `need`, `veto`, `shield`, `cleanup` or `refused`.
        text: What it says; for `hello` its name, for `heard` the request as its system spells it.
        seconds: For `need`, `shield` and `cleanup` their seconds, for `heard` how long ago, for `veto` too if it was said before we were let in, for `hello` its grace.
        done: Of a `tell`, None if it does not count.
        total: Of a `tell`, None if it does not count.
        state: Of a `hello`.
        left_s: To its deadline, None if it does not say.
    """

    kind: str
    text: str = ""
    seconds: float | None = None
    done: int | None = None
    total: int | None = None
    state: str = ""
    left_s: float | None = None


class Reader:
    """The words in what has come, in order.

    Attributes:
        broken: Why nothing more is listened to, in words; empty as long as all is well.
    """

    def __init__(self) -> None:
        self.broken = ""
        self._rest = b""
        self._greeted = False
        self._second = 0.0
        self._lines = 0

    def feed(self, data: bytes, now: float) -> list[Message]:
        """Return what *data* says, up to what cannot be understood.

        Args:
            data: What has come since the last call, cut anywhere.
            now: Monotonic clock, seconds.
        """
        found: list[Message] = []
        if self.broken or not data:
            return found
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines += 1
            if self._lines > MOST_LINES:
                self._break(f"it said more than {MOST_LINES} lines in a second")
            elif len(line) >= MOST_LINE or not self._take(line, found):
                self._break("it said something that is no message")
            if self.broken:
                return found
        if len(self._rest) >= MOST_LINE:
            self._break(f"it said more than {MOST_LINE} bytes without the end of a line")
        return found

    def _break(self, why: str) -> None:
        self.broken, self._rest = why, b""

    def _take(self, line: bytes, found: list[Message]) -> bool:
        """Add what a line says; return whether it is one."""
        import json  # only who meets a receiver needs it

        try:
            said = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return False
        if not isinstance(said, dict):
            return False
        if not self._greeted:
            version = said.get("endtask")
            if isinstance(version, bool) or not isinstance(version, int) or version < PROTOCOL:
                return False
            self._greeted = True
        for kind in _KINDS:
            if kind in said:
                message = _message(kind, said[kind])
                if message is None:
                    return False
                found.append(message)
        return True


def _message(kind: str, said: object) -> Message | None:
    """Return one word of a line, None if it is not made as it should be."""
    if not isinstance(said, dict):
        return None
    text = said.get("name" if kind in ("hello", "heard") else "text", "")
    seconds, sound = _number(said, {"hello": "grace_s", "heard": "ago_s", "veto": "ago_s"}.get(kind, "seconds"))
    left_s, also = _number(said, "left_s")
    state = said.get("state", "running")
    if not (isinstance(text, str) and sound and also and (kind != "hello" or state in _STATES)):
        return None
    if kind == "need" and seconds is None:
        return None
    done, total = _count(said.get("done")), _count(said.get("total"))
    return Message(kind, clean(text), seconds, done, total, state if kind == "hello" else "", left_s)


def _number(said: Mapping[str, object], key: str) -> tuple[float | None, bool]:
    """Return a number of seconds, None where there is none, and whether it is one that can be meant."""
    value = said.get(key)
    if value is None:
        return None, True
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_SECONDS:
        return None, False  # also for NaN, which no comparison holds for
    return float(value), True


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return min(max(value, -MOST_COUNT), MOST_COUNT)


def clean(text: str) -> str:
    """Return *text* so that it can be shown anywhere: at most 500 characters, without what steers a terminal or turns the line."""
    text = text[:MOST_TEXT]
    return (
        text if text.isprintable() else "".join([c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text])
    )


# --------------------------------------------------------------------------- what we say


def notice(request: str, left_s: float, reason: str) -> bytes:
    """Return the line that belongs to a request on another way: its deadline and its reason."""
    return _line(
        {"notice": {"request": request[:_NAME], "left_s": _left(left_s), "reason": reason[:MOST_TEXT], "by": _BY}}
    )


def request(left_s: float, reason: str) -> bytes:
    """Return the line that asks."""
    return _line({"request": {"left_s": _left(left_s), "reason": reason[:MOST_TEXT], "by": _BY}})


def granted(left_s: float) -> bytes:
    """Return the line that grants more time: so much is left from now on."""
    return _line({"granted": {"left_s": _left(left_s)}})


def not_granted(left_s: float) -> bytes:
    """Return the line that says that it stays as it is."""
    return _line({"not_granted": {"left_s": _left(left_s)}})


_NAME = 64  # characters of a request: a command of a plan may be long
_BY = f"endtask {VERSION}"


def _left(left_s: float) -> float:
    return round(min(max(left_s, 0.0), MOST_SECONDS), 6)


def _line(message: dict[str, object]) -> bytes:
    import json

    # A character of a text takes six bytes at most, so a line is always short enough.
    line = json.dumps({"endtask": PROTOCOL, **message}, ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "replace") + b"\n"
