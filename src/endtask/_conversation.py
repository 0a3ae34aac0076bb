"""What an application with a receiver (`endtask_receiver`) says, and what is said to it: lines <-> messages, and their words (pure).

One JSON object a line, UTF-8, at most 4,096 bytes with the newline; the first line of each side names the version.
What is said here comes from the process that is being stopped, so it is believed as far as a handler would be: it may be late, wrong or malicious.
So every bound is here: of a line, of their number in a second, of texts and numbers. Characters that steer a terminal are replaced before anybody sees them.
What is known not to be meant for us ends the conversation; an unknown word is ignored, so that later versions can say more.

Decision: 1,024 lines a second, where the receiver allows its requesters 64: programs tell their progress in loops, and a line costs five microseconds.
"""

from __future__ import annotations

from endtask._record import Record
from endtask._version import VERSION
from endtask.model import Receiver, Said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from endtask.model import ReceiverState

PROTOCOL = 1
MOST_LINE = 4096  # bytes, the newline included
MOST_LINES = 1024  # in a second
MOST_TEXT = 500  # characters
MOST_SECONDS = 1e7
MOST_COUNT = 10**15
MOST_SAID = 64  # entries of the report for one process
_STATES = ("running", "asked", "hurry", "ending")
_KINDS = ("hello", "heard", "tell", "need", "veto", "shield", "cleanup", "refused")


class Message(Record):
    """One word of an application.

    Attributes:
        kind: `hello`, `heard`, `tell`, `need`, `veto`, `shield`, `cleanup` or `refused`.
        text: What it says; for `hello` its name, for `heard` the request as its system spells it.
        seconds: For `need`, `shield` and `cleanup` their seconds, for `heard` how long ago, for `hello` its grace.
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
    seconds, sound = _number(said, {"hello": "grace_s", "heard": "ago_s"}.get(kind, "seconds"))
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


# --------------------------------------------------------------------------- in words


def said(message: Message, at_s: float, seconds: float | None = None) -> Said:
    """Return a message as an entry of the report.

    Args:
        message: Anything but `hello`.
        at_s: When it came, in seconds since the start of the run.
        seconds: For `heard`: how long after our request that was.
    """
    if message.kind == "heard":
        return Said("heard", at_s, message.text, seconds=seconds)
    assert message.kind in ("tell", "need", "veto", "shield", "cleanup", "refused"), "said by the receiver itself"
    return Said(message.kind, at_s, message.text, message.done, message.total, message.seconds)  # type: ignore[arg-type]  # one of its words, as asserted


def add(entries: list[Said], entry: Said) -> None:
    """Add an entry: progress within the same work takes the place of the one before; of too many, the oldest `tell` goes."""
    last = entries[-1] if entries else None
    if last is not None and entry.kind == last.kind == "tell" and entry.text == last.text:
        entries[-1] = entry
        return
    entries.append(entry)
    if len(entries) > MOST_SAID:
        del entries[next((i for i, e in enumerate(entries) if e.kind == "tell"), 1)]


def in_words(entry: Said) -> str:
    """Return what was said: `heard SIGTERM after 0.2 ms`, `says: draining, 3 of 15`, `needs 8 s more: flushing (granted: until 18 s)`, `refuses: recording`."""
    seconds = entry.seconds or 0.0
    text = f": {entry.text}" if entry.text else ""
    if entry.kind == "heard":
        after = "" if entry.seconds is None else f" after {_short(entry.seconds)}"
        return f"heard {entry.text or 'the request'}{after}"
    if entry.kind == "tell":
        return f"says: {progress(entry.text, entry.done, entry.total)}"
    if entry.kind == "need":
        return f"needs {_round(seconds)} s more{text} ({_grant(entry)})"
    if entry.kind == "veto":
        return f"refuses{text}"
    if entry.kind == "shield":
        return f"cannot be cut short for at most {_round(seconds)} s{text}"
    if entry.kind == "cleanup":
        return f"has cleaned up{text} ({_short(seconds)})"
    if entry.kind == "refused":
        return f"does not speak with us{text}"
    return f"is not listened to any more{text}"


def _grant(entry: Said) -> str:
    until = "" if entry.until_s is None else f" until {_round(entry.until_s)} s"
    if entry.missing_s <= 0:
        return f"granted:{until}" if entry.granted_s > 0 else f"it has that:{until}"
    hint = f"--extend {_round(entry.granted_s + entry.missing_s, up=True)}s would"
    return f"granted:{until}, no more: {hint}" if entry.granted_s > 0 else f"not granted: {hint}"


def progress(text: str, done: int | None, total: int | None) -> str:
    """Return `draining, 3 of 15`."""
    count = "" if done is None else f"{done}" if total is None else f"{done} of {total}"
    return ", ".join(p for p in (text, count) if p) or "nothing in words"


def extension(entries: list[Said] | tuple[Said, ...]) -> tuple[float, str]:
    """Return for which `--extend` all that was asked for would have been granted, and for what; 0 if nothing is missing."""
    missing = [e for e in entries if e.kind == "need" and e.missing_s > 0]
    if not missing:
        return 0.0, ""
    most = max(missing, key=lambda e: e.missing_s)
    return sum(e.granted_s for e in entries) + most.missing_s, most.text


def _round(seconds: float, *, up: bool = False) -> str:
    """Return seconds as a person says them: at most two digits after the point."""
    return f"{seconds + (0.0499 if up else 0.0):.1f}".removesuffix(".0") if seconds >= 1 else f"{seconds:.2g}"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{_round(seconds)} s"


# --------------------------------------------------------------------------- what it is


class Acquaintance:
    """What is known of a receiver from what it has said so far."""

    def __init__(self) -> None:
        self.hello: Message | None = None
        self._heard: Message | None = None
        self._tell = ""
        self._refused: str | None = None

    def take(self, message: Message) -> None:
        """Take in a message."""
        if message.kind == "hello":
            self.hello = message
        elif message.kind == "heard":
            self._heard = self._heard or message  # the first one is what it is ending for
        elif message.kind == "tell":
            self._tell = progress(message.text, message.done, message.total)
        elif message.kind == "refused":
            self._refused = message.text

    @property
    def complete(self) -> bool:
        """Whether all has come that is said at once."""
        hello = self.hello
        return self._refused is not None or (
            hello is not None and (hello.state == "running" or self._heard is not None)
        )

    def receiver(self, broken: str = "") -> Receiver:
        """Return what is known; *broken* is why it is not listened to any more."""
        if self._refused is not None:
            return Receiver("refused", detail=self._refused)
        hello = self.hello
        if hello is None:
            return Receiver("unusable", detail=broken) if broken else Receiver("silent")
        state: ReceiverState = hello.state  # type: ignore[assignment]  # one of `_STATES`, as `_message` has seen
        heard = self._heard
        name, ago_s = ("", 0.0) if heard is None else (heard.text, heard.seconds or 0.0)
        return Receiver(state, hello.text, hello.seconds or 0.0, hello.left_s, name, ago_s, self._tell)


def receiver_in_words(receiver: Receiver) -> str:
    """Return `yes: "ingest", takes up to 10 s`, and what it is doing where it was asked."""
    if receiver.state == "silent":
        return "yes, but it does not answer"
    if receiver.state in ("refused", "unusable"):
        what = "yes, but it does not speak with us" if receiver.state == "refused" else "not usable"
        return f"{what}: {receiver.detail}" if receiver.detail else what
    name = f'"{receiver.name}", ' if receiver.name else ""
    text = f"yes: {name}takes up to {_round(receiver.grace_s)} s"
    if receiver.state == "running":
        return text
    parts = []
    if receiver.heard:
        parts.append(f"asked by {receiver.heard} {_ago(receiver.ago_s)} ago")
    parts.append({"asked": "ending", "hurry": "in a hurry", "ending": "ends at once"}[receiver.state])
    if receiver.left_s is not None:
        parts.append(f"{_round(receiver.left_s)} s left")
    if receiver.says:
        parts.append(f"says: {receiver.says}")
    return f"{text}; {', '.join(parts)}"


def _ago(seconds: float) -> str:
    return f"{_round(seconds)} s"
