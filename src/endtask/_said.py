"""What applications say of their own end, as entries of the report, as words, and as reasons (pure).

Decision: what a process says of itself is told as its words. It is the better explanation of why it still runs than a guess from its signal masks, and it is no proof of anything.
"""

from __future__ import annotations

from endtask.model import Reason, Receiver, Said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._conversation import Message
    from endtask.model import Facts, ReceiverState

LONGEST_S = 7 * 24 * 3600.0  # that a plan may ask for, see `_plan`
MOST_SAID = 64  # entries of the report for one process
_FORCE = "`endtask stop {pid} --force-after 5s` (unsaved work is lost)"


def entry(message: Message, at_s: float, seconds: float | None = None) -> Said:
    """Return a message as an entry of the report.

    Args:
        message: Anything but `hello`.
        at_s: When it came, in seconds since the start of the run.
        seconds: For `heard`: how long after our request that was.
    """
    if message.kind == "heard":
        return Said("heard", at_s, message.text, seconds=seconds)
    if message.kind == "veto":
        return Said("veto", at_s, message.text)
    assert message.kind in ("tell", "need", "shield", "cleanup", "refused"), "said by the receiver itself"
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


def in_words(entry: Said, before_s: float = 0.0) -> str:
    """Return what was said: `heard SIGTERM after 0.2 ms`, `says: draining, 3 of 15`, `needs 8 s more: flushing (granted: until 18 s)`, `refuses: recording`.

    Args:
        entry: What was said.
        before_s: So many seconds had been granted before.
    """
    seconds = entry.seconds or 0.0
    text = f": {entry.text}" if entry.text else ""
    if entry.kind == "heard":
        after = "" if entry.seconds is None else f" after {_short(entry.seconds)}"
        return f"heard {entry.text or 'the request'}{after}"
    if entry.kind == "tell":
        return f"says: {progress(entry.text, entry.done, entry.total)}"
    if entry.kind == "need":
        return f"needs {_round(seconds)} s more{text} ({_grant(entry, before_s)})"
    if entry.kind == "veto":
        return f"refuses{text}"
    if entry.kind == "shield":
        return f"cannot be cut short for at most {_round(seconds)} s{text}"
    if entry.kind == "cleanup":
        return f"has cleaned up{text} ({_short(seconds)})"
    if entry.kind == "refused":
        return f"does not speak with us{text}"
    return f"is not listened to any more{text}"


def _grant(entry: Said, before_s: float) -> str:
    until = "" if entry.until_s is None else f" until {_round(entry.until_s)} s"
    if entry.missing_s <= 0:
        return f"granted:{until}" if entry.granted_s > 0 else f"it has that:{until}"
    option = extend_option(before_s + entry.granted_s + entry.missing_s)
    hint = f"{option} would" if option else "nobody waits so long"
    return f"granted:{until}, no more: {hint}" if entry.granted_s > 0 else f"not granted: {hint}"


def extend_option(seconds: float) -> str:
    """Return the option that would have granted so many seconds, empty if none can."""
    return f"--extend {_round(seconds, up=True)}s" if seconds <= LONGEST_S else ""


def progress(text: str, done: int | None, total: int | None) -> str:
    """Return `draining, 3 of 15`."""
    count = "" if done is None else f"{done}" if total is None else f"{done} of {total}"
    return ", ".join(p for p in (text, count) if p) or "nothing in words"


def extension(entries: Sequence[Said], granted_s: float) -> tuple[float, str]:
    """Return for which `--extend` all that was asked for would have been granted, and for what; 0 if nothing is missing.

    Args:
        entries: What one process said.
        granted_s: What was granted altogether, others of the same job included.
    """
    missing = [e for e in entries if e.kind == "need" and e.missing_s > 0]
    if not missing:
        return 0.0, ""
    most = max(missing, key=lambda e: e.missing_s)
    return granted_s + most.missing_s, most.text


def _round(seconds: float, *, up: bool = False) -> str:
    """Return seconds as a person says them: at most two digits after the point."""
    if seconds >= 1:
        return f"{seconds + (0.0499 if up else 0.0):.1f}".removesuffix(".0")
    return f"{seconds + 0.00499:.2f}" if up else f"{seconds:.2g}"


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
    """Return `yes, deadline known: "ingest", takes up to 10 s`, and what it is doing where it was asked."""
    if receiver.state == "silent":
        return "yes, but it does not answer"
    if receiver.state in ("refused", "unusable"):
        what = "yes, but it does not speak with us" if receiver.state == "refused" else "not usable"
        return f"{what}: {receiver.detail}" if receiver.detail else what
    name = f'"{receiver.name}", ' if receiver.name else ""
    text = f"yes, deadline known: {name}takes up to {_round(receiver.grace_s)} s"
    if receiver.state == "running":
        return text
    return f"{text}; {asked_in_words(receiver)}"


def asked_in_words(receiver: Receiver) -> str:
    """Return `heard SIGTERM 8 s ago, has 2 s left, and says: draining, 3 of 15`, of one that was asked."""
    parts = [f"heard {receiver.heard} {_round(receiver.ago_s)} s ago" if receiver.heard else "was asked"]
    if receiver.state != "asked":
        parts.append("is in a hurry" if receiver.state == "hurry" else "ends at once")
    if receiver.left_s is not None:
        parts.append(f"has {_round(receiver.left_s)} s left")
    text = ", ".join(parts)
    return f"{text}, and says: {receiver.says}" if receiver.says else text


# --------------------------------------------------------------------------- as reasons


def said_reasons(said: Sequence[Said], who: str, pid: int, granted_s: float) -> list[Reason]:
    """Return why a process still runs by its own words; empty where it has not even heard the request. *granted_s* as in `extension`."""
    last: dict[str, Said] = {entry.kind: entry for entry in said}
    found = []
    if "veto" in last:
        text = f"{who} {in_words(last['veto'])}"
        return [Reason("vetoed", text, next=_FORCE.format(pid=pid), pid=pid)]
    if "heard" not in last and "tell" not in last and "need" not in last:
        return []
    extend_s, what = extension(said, granted_s)
    if extend_s:
        found.append(needs_time(extend_s, what, who, pid))
    text = f"{who} {in_words(last['heard'])}" if "heard" in last else f"{who} is ending"
    says = last.get("tell")
    if says is not None:
        text += f", and {in_words(says)}"
    return [*found, Reason("heard", text, next="give it more time with `--timeout`", pid=pid)]


def needs_time(extend_s: float, what: str, who: str, pid: int) -> Reason:
    """Return the reason of a process that asked for more time than it was given."""
    why = f": {what}" if what else ""
    text = f"{who} asked for more time than it was given{why}"
    option = extend_option(extend_s)
    return Reason("needs-time", text, next=f"`{option}` would have granted it" if option else "", pid=pid)


def ending_reasons(facts: Facts) -> list[Reason]:
    """Return what a process says of itself that was asked already."""
    receiver = facts.receiver
    if receiver is None or receiver.state not in ("asked", "hurry", "ending"):
        return []
    text = f"{facts.ref.pid} {facts.name}".rstrip() + f" {asked_in_words(receiver)}"
    return [Reason("heard", text, next=f"wait for it: `endtask wait {facts.ref.pid}`", pid=facts.ref.pid)]
