"""The words of the receiver: what was asked (`StopRequest`), what the application answers (`News`), what a repeated request means (`Policy`).

Decision: small classes with slots, written out.
`dataclasses`, `enum` and `typing` would each cost more time than the whole import may take.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class _Value:
    """An immutable value: compared, hashed and shown by its fields."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._fields() == self._fields()

    def __hash__(self) -> int:
        return hash((type(self), *self._fields()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._fields()


_set = object.__setattr__


class StopRequest(_Value):
    """Somebody asked this process to stop.

    Attributes:
        channel: How it came: `signal`, `console`, `window`, `session-end`, `event`, `service`, `stdin`, `parent`, `channel` (endtask's), `program`.
        name: The mechanism as the operating system spells it: `SIGTERM`, `CTRL_CLOSE_EVENT`, `WM_CLOSE`; else a word.
        at: When it was heard, on the monotonic clock, in seconds.
        deadline: When the requester wants us gone, on the same clock; None if it did not say.
        reason: What the requester says, or an empty text.
        pid: Process id of the requester, None if the channel does not tell.
        uid: User id of the requester (on Windows None), None if the channel does not tell.
    """

    __slots__ = ("at", "channel", "deadline", "name", "pid", "reason", "uid")

    at: float
    channel: str
    deadline: float | None
    name: str
    pid: int | None
    reason: str
    uid: int | None

    def __init__(
        self,
        at: float,
        channel: str,
        deadline: float | None = None,
        name: str = "",
        pid: int | None = None,
        reason: str = "",
        uid: int | None = None,
    ) -> None:
        _set(self, "at", at)
        _set(self, "channel", channel)
        _set(self, "deadline", deadline)
        _set(self, "name", name or channel)
        _set(self, "pid", pid)
        _set(self, "reason", reason)
        _set(self, "uid", uid)

    def __str__(self) -> str:
        sender = f" from {self.pid}" if self.pid is not None else ""
        return f"{self.name}{sender}" + (f": {self.reason}" if self.reason else "")


class News(_Value):
    """What the application says about its stop, for whoever asked.

    Attributes:
        at: When, on the monotonic clock, in seconds.
        kind: `tell` (progress), `need` (more time wanted), `veto`, `shield` (not now), `cleanup` (a step of it is done).
        text: In words.
        done: So many are done, None if not counted.
        total: Of so many, None if not counted.
        seconds: For `need`: so many more; for `shield`: at most so long; for `cleanup`: it took so long.
    """

    __slots__ = ("at", "done", "kind", "seconds", "text", "total")

    at: float
    done: int | None
    kind: str
    seconds: float | None
    text: str
    total: int | None

    def __init__(
        self,
        at: float,
        done: int | None = None,
        kind: str = "tell",
        seconds: float | None = None,
        text: str = "",
        total: int | None = None,
    ) -> None:
        _set(self, "at", at)
        _set(self, "done", done)
        _set(self, "kind", kind)
        _set(self, "seconds", seconds)
        _set(self, "text", text)
        _set(self, "total", total)


WORDS = ("ask", "hurry", "exit")


class Policy(_Value):
    """What the first, the second, the third request mean.

    Attributes:
        steps: One word per distinct request, the last one for all further ones.
            `ask` sets the flag, `hurry` says that the application should cut its work short, `exit` ends the process at once.
        window_s: A request that comes no later than this after the one heard before it is the same request:
            a bouncing key, a Ctrl+C that a launcher passes on as well, a storm.
        overdue: What happens by itself when the deadline has passed: `nothing`, `hurry`, or `exit`.
        extend_max_s: By so many seconds altogether `Stop.need` may move a deadline that nobody but us has set.
    """

    __slots__ = ("extend_max_s", "overdue", "steps", "window_s")

    extend_max_s: float
    overdue: str
    steps: tuple[str, ...]
    window_s: float

    def __init__(
        self,
        extend_max_s: float = 60.0,
        overdue: str = "hurry",
        steps: Iterable[str] = WORDS,
        window_s: float = 0.3,
    ) -> None:
        steps = tuple(steps)
        if not steps or not set(steps) <= set(WORDS):
            raise ValueError(f"steps are words out of {', '.join(WORDS)}; got {steps!r}")
        if overdue not in {"nothing", "hurry", "exit"}:
            raise ValueError(f"overdue is `nothing`, `hurry` or `exit`; got {overdue!r}")
        _set(self, "extend_max_s", extend_max_s)
        _set(self, "overdue", overdue)
        _set(self, "steps", steps)
        _set(self, "window_s", window_s)

    def word(self, count: int) -> str:
        """Return what the *count*-th distinct request means; the first has count 1."""
        return self.steps[min(count, len(self.steps)) - 1]
