"""What may stand in a line of the channel: texts and numbers, checked on their way in and bounded on their way out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from endtask_receiver._request import News, StopRequest
    from endtask_receiver._stop import Stop

TEXT_MAX = 500  # characters
SECONDS_MAX = 1e7
COUNT_MAX = 10**15


def clean(text: object) -> str:
    """Return a text that can be shown anywhere: of bounded length, and without what controls a terminal or the direction of writing."""
    if not isinstance(text, str):
        return ""
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:TEXT_MAX])


def left_of(said: object) -> float | None:
    """Return the seconds that are left, None if that is not said as it should be."""
    left_s = said.get("left_s") if isinstance(said, dict) else None
    if isinstance(left_s, bool) or not isinstance(left_s, (int, float)):
        return None
    return float(left_s) if 0 <= left_s <= SECONDS_MAX else None  # also false for what is no number


def seconds(value: object) -> float | None:
    """Return the seconds that the application has said, None if they are none."""
    found = _number(value, "__float__")
    if found is None or found != found:  # noqa: PLR0124  # NaN
        return None
    return round(float(min(max(found, 0.0), SECONDS_MAX)), 6)


def count(value: object) -> int | None:
    """Return what the application has counted, None if it is no number."""
    found = _number(value, "__index__")
    return None if found is None else int(min(max(found, -COUNT_MAX), COUNT_MAX))


def _number(value: object, method: str) -> float | None:
    """Return a number of any kind, those of numpy too, None if it is none."""
    if isinstance(value, bool) or not hasattr(value, method):
        return None
    try:
        found = getattr(value, method)()
    except Exception:  # noqa: BLE001  # somebody else's code, in our thread: what it cannot tell is not told
        return None
    return found if isinstance(found, (int, float)) else None


def line_of(news: News, ago_s: float | None = None) -> dict[str, object]:
    """Return news as a message; *ago_s* is their age, where that is to be said."""
    text = clean(news.text)
    if news.kind == "tell":
        return {"tell": {"text": text, "done": count(news.done), "total": count(news.total)}}
    if news.kind == "veto":
        return {"veto": {"text": text} if ago_s is None else {"text": text, "ago_s": seconds(ago_s)}}
    return {news.kind: {"seconds": seconds(news.seconds) or 0.0, "text": text}}


def hello_of(stop: Stop, pid: int) -> dict[str, object]:
    """Return what the process *pid* says of itself, by one of its stops."""
    state = "ending" if stop.ending else "hurry" if stop.hurry else "asked" if stop.asked else "running"
    grace_s = seconds(stop.grace_s)
    return {"pid": pid, "name": clean(stop.name), "grace_s": grace_s, "state": state, "left_s": _left_s(stop)}


def distinct(first: StopRequest | None, counted: Sequence[StopRequest]) -> list[StopRequest]:
    """Return the requests that everybody is to hear of.

    Args:
        first: The first one, None if nobody has asked. One that was refused at once is none any more, and counted all the same;
            one that two of our ears report crosswise is counted as the other one has reported it.
        counted: Those that were counted.
    """
    if first is None or any(each.at == first.at for each in counted):
        return list(counted)
    same = next((each for each in counted if each.name == first.name), None)
    return [first, *(each for each in counted if each is not same)]


def heard_of(stop: Stop, request: StopRequest) -> dict[str, object]:
    """Return what is said of a request that came."""
    return {
        "name": clean(request.name),
        "channel": clean(request.channel),
        "ago_s": seconds(stop._clock() - request.at),
        "left_s": _left_s(stop),
    }


def _left_s(stop: Stop) -> float | None:
    ends_at = stop._ends_at()
    return None if ends_at is None else seconds(ends_at - stop._clock())


def encode(message: Mapping[str, object]) -> bytes:
    """Return a message as a line.

    Written out, because on a busy machine `json` takes longer to load than somebody who only looks waits for us to say who we are.
    """
    return (_encode(message) + "\n").encode()


def _encode(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_encode(key)}:{_encode(value[key])}" for key in value) + "}"
    if isinstance(value, str):  # a word of ours, or `clean`: nothing else in it needs an escape
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "null" if value is None else repr(value)  # a finite number
