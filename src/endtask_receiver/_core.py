"""The core: one object that hears every request and acts on none of them.  It knows no operating system.

Decision: a request is a plain attribute that becomes true (`asked`) and a lock that opens (`wait`); what happens then is the application's choice, at a time of its choice.
Ears (`_ear.Ear`) call `_heard` from wherever they hear: a Python signal handler between any two bytecodes of the main thread,
a watching thread, a callback of the operating system.
So nothing on that path may wait for anything that the interrupted code might hold:

- `asked` is a store, and comes first; it never goes back, but by `veto`.
- The latch is a lock that is held until somebody asks; opening it twice is an error that we ignore, so everybody who learns of a request opens it.
- Requests are counted by whoever gets the counting lock *without waiting*.
  Who does not get it has left its request in the list, and the holder looks there again before it is done:
  the holder is another thread, or it is the very frame that the handler interrupted, which goes on when the handler returns.

Rejected: `threading.Event` and `queue.Queue` (their locks deadlock in a handler, 2-4 of 20,000 measured), raising from the handler
(5.4 % of 20,000 left a lock held), and a callback per request (it runs at the worst moment by definition).

Size: one object, whose parts are right together or not at all: the order of its stores is what keeps a request from being lost.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock

from endtask_receiver._request import Policy, StopRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from endtask_receiver._stop import Shield

_LOG_MAX = 64  # requests that are kept; a flood must not cost memory
_LATE_S = 0.3  # so late a notice may come after the request that it belongs to: it takes another way


class Core:
    """What is known about the requests so far, and the two ways to notice one: a flag and a latch.

    Attributes:
        asked: Whether anybody has asked. A plain attribute: the cheapest look there is.
        hurry: Whether a second, distinct request came, or the deadline has passed: cut the work short.
        ending: Whether the process ends at once, without the application (a third request).
        grace_s: So long we take if the requester names no deadline.
        policy: What repeated requests mean.
        repeats: Requests that counted as the same as the one before.
        faults: Exceptions of wakers and of handlers that were installed before us; they are counted and go no further.
    """

    __slots__ = (
        "__weakref__",
        "_claims",
        "_clock",
        "_counted",
        "_counting",
        "_dying",
        "_end",
        "_extra_s",
        "_first",
        "_held",
        "_inbox",
        "_last_s",
        "_latch",
        "_log",
        "_notices",
        "_overdue",
        "_refused",
        "_settle",
        "_shields",
        "_told",
        "_turn_s",
        "_vetoed",
        "_wakers",
        "asked",
        "ending",
        "faults",
        "grace_s",
        "hurry",
        "policy",
        "repeats",
    )

    def __init__(
        self,
        grace_s: float,
        policy: Policy | None,
        clock: Callable[[], float],
        end: Callable[[StopRequest], None] | None,
    ) -> None:
        self.grace_s = grace_s
        self.policy = policy or Policy()
        self.faults = 0
        self._clock, self._end = clock, end
        self._wakers: list[Callable[[], object]] = []
        self._dying: list[Callable[[], object]] = []  # done before the process ends at once; they do not wait
        # Waits a moment for what belongs to the request and takes another way.
        self._settle: Callable[[], object] | None = None
        self._turn_s = 0.0  # so often a wait lets handlers run that have come just before it; 0 where a thread hears what they would
        self._forget()

    def _forget(self) -> None:
        """Begin anew: nothing was asked. Also in a forked child, where another thread may have held any of the locks."""
        self.asked = self.hurry = self.ending = False
        self.repeats = 0
        self._first: list[StopRequest] = []
        self._log: list[StopRequest] = []
        self._counted: list[StopRequest] = []
        self._inbox: list[Callable[[], object]] = []
        self._held: list[StopRequest] = []
        self._refused: StopRequest | None = None  # the last one; perhaps it has not been counted yet
        self._shields: list[Shield] = []
        self._last_s: float | None = None
        self._claims: dict[int | None, float] = {}  # by pid of who says so: until when it waits
        self._told: float | None = None  # the earliest of them
        self._notices: list[StopRequest] = []  # of requests that have not come yet; never changed in place
        self._extra_s = 0.0
        self._overdue = self._vetoed = False
        self._counting, self._latch = allocate_lock(), _closed_latch()

    # ------------------------------------------------------------------ hearing: any thread, any moment, never raises

    def _heard(self, request: StopRequest, echo: Callable[[], bool] | None = None) -> None:
        """Take a request; this is what ears call.

        Args:
            request: What was heard.
            echo: Asked once, while requests are counted one after another: is this the same request, heard by another ear of ours?
        """
        request = self._explained(request)
        if echo is None or not self._vetoed:  # else it may be what was refused: nobody is woken until that is clear
            if not self._first:
                self._first.append(request)
            new = not self.asked
            self.asked = True
            _open(self._latch)
            if new:
                self._wake()
        self._in_turn(lambda: self._take(request, echo))

    def _tick(self) -> None:
        """Look at the clock: is the deadline over, or the shield that held a request back? Ears with a thread call it when `_due_s` is up."""
        self._in_turn(self._review)

    def _due_s(self) -> float | None:
        """Return the seconds until `_tick` has something to do, None if that depends on others."""
        now, moments = self._clock(), []
        deadline = self._ends_at()
        if deadline is not None and not self._overdue:
            moments.append(deadline)
        if self._held:
            moments.append(max([now, *(s.until for s in tuple(self._shields))]))
        return max(0.0, min(moments) - now) if moments else None

    def _in_turn(self, do: Callable[[], object]) -> None:
        """Do something that must not meet a count; later, if somebody is counting (see the module's docstring)."""
        inbox = self._inbox
        inbox.append(do)
        while inbox and self._counting.acquire(False):
            try:
                while inbox:
                    inbox.pop(0)()
            finally:
                self._counting.release()

    def _take(self, request: StopRequest, echo: Callable[[], bool] | None) -> None:
        """Count one request (only in turn)."""
        if echo is not None and echo():
            self._last_s = request.at  # what comes with it in one burst is no second request
            if self._vetoed and self._first:
                self._refuse()  # an echo of what was refused meanwhile
            return
        request = self._explain(request)
        if not self._first and request is not self._refused:  # after a veto of an earlier one
            self._first.append(request)
            self.asked = True
            _open(self._latch)
            self._wake()
        if len(self._log) < _LOG_MAX:
            self._log.append(request)
        if request is self._refused:  # whoever was woken by it has refused it before it was counted
            self._counted.append(request)
            self._last_s = request.at
            return
        if request.deadline is not None:
            self._claim(request.pid, request.deadline)
        before = self._last_s
        self._last_s = request.at if before is None else max(before, request.at)
        # The echo of one before it may have been faster: then that is later than the request itself.
        if before is not None and abs(request.at - before) <= self.policy.window_s:
            self.repeats += 1
            return
        if self._vetoed and before is not None and request.at - before > self.grace_s:
            self._counted.clear()  # the veto was long ago: this is a new beginning
        self._vetoed = False
        if self._shielded(request.at) and self._word(1) != "ask":
            self._held.append(request)
        else:
            self._step(request)
        self._review()

    def _word(self, more: int) -> str:
        """Return what the request means that comes *more* after those that were counted and held back."""
        return self.policy.word(len(self._counted) + len(self._held) + more)

    def _review(self) -> None:
        """Do what is due by the clock (only in turn)."""
        now = self._clock()
        if self._held and not self._shielded(now):
            held, self._held = self._held, []
            for request in held:
                self._step(request)
        deadline = self._ends_at()
        if deadline is not None and now >= deadline and not self._overdue:
            self._overdue = True
            self._act(self.policy.overdue, self._first[0])  # only a veto empties it, in its turn

    def _step(self, request: StopRequest) -> None:
        if len(self._counted) < _LOG_MAX:
            self._counted.append(request)
        self._act(self.policy.word(len(self._counted)), request)

    def _act(self, word: str, request: StopRequest) -> None:
        if word in {"hurry", "exit"}:
            self.hurry = True
        if self.hurry or len(self._counted) > 1:  # of the first one everybody knows already
            self._wake()
        if word == "exit":
            self.ending = True
            self._exit(request)

    def _exit(self, request: StopRequest) -> None:
        """End the process at once."""
        for last in tuple(self._dying):
            try:
                last()
            except BaseException:  # noqa: BLE001  # nothing may keep the process from ending
                self.faults += 1
        if self._end is not None:
            self._end(request)

    def _may_refuse(self) -> bool:
        """Say whether what was asked may be refused, also if it has woken somebody and is not counted yet (only in turn)."""
        request, before = self.request, self._last_s
        if request is None or before is None or not self.policy.window_s < request.at - before <= self.grace_s:
            return not self.hurry  # the first one, one that is counted already, a repetition, or a new beginning
        return self._word(1) == "ask"

    def _refuse(self) -> None:
        """Go back to the beginning, but for the count (only in turn)."""
        self._vetoed = True
        self._refused = self._first[0] if self._first else None
        self._first.clear()
        self._claims.clear()
        self._told, self._extra_s, self._overdue = None, 0.0, False
        self._latch, self.asked = _closed_latch(), False

    # ------------------------------------------------------------------ what a requester says besides: any thread, never raises

    def _noticed(self, notice: StopRequest) -> None:
        """Take what belongs to a request that comes, or has just come, by another way."""
        self._in_turn(lambda: self._file(notice))

    def _unnoticed(self, notice: StopRequest) -> None:
        """Forget a notice, if its request has not come."""

        def forget() -> None:
            self._notices = [each for each in self._notices if each is not notice]

        self._in_turn(forget)

    def _granted(self, deadline: float, who: int | None) -> None:
        """Set a new deadline: the requester has agreed."""

        def agree() -> None:
            if self._first:  # else it was refused meanwhile
                self._claims.pop(who, None)
                self._claim(who, deadline)
                self._wake()

        self._in_turn(agree)

    def _file(self, notice: StopRequest) -> None:
        """Find the request that a notice belongs to (only in turn)."""
        self._notices = [*self._notices, notice]
        if not self._first:
            return
        counted = [*self._counted, *self._held]
        if any(each is self._first[0] for each in counted) and notice.at - counted[-1].at <= _LATE_S:
            self._explain(counted[-1])
        if notice.deadline is not None:
            self._claim(notice.pid, notice.deadline)
            self._wake()

    def _explain(self, request: StopRequest) -> StopRequest:
        """Put what was noticed into a request that is known, and use up the notice (only in turn)."""
        better = self._explained(request)
        if better is not request:
            for known in (self._first, self._log, self._counted, self._held):
                known[:] = [better if each is request else each for each in known]
            self._refused = better if self._refused is request else self._refused
        if better.channel != "channel":  # what comes by the channel brings its own
            self._notices = [n for n in self._notices if (n.pid, n.reason) != (better.pid, better.reason)]
        return better

    def _explained(self, request: StopRequest) -> StopRequest:
        """Return the request with what was noticed of it; itself if it tells its own story, or nobody knows it."""
        notices = self._notices
        if not notices or request.pid is not None or request.reason:
            return request
        same = [notice for notice in notices if request.name.endswith(notice.name)]
        notice = (same or notices)[-1]
        deadline = notice.deadline if request.deadline is None else request.deadline
        return StopRequest(request.at, request.channel, deadline, request.name, notice.pid, notice.reason, notice.uid)

    def _claim(self, who: int | None, deadline: float) -> None:
        """Note until when somebody waits, by its pid; the earliest counts. What it says replaces what it said before; if nobody knows who, it only gets earlier (only in turn)."""
        claims = self._claims
        if who is None or (who not in claims and len(claims) >= _LOG_MAX):
            who, deadline = None, min(deadline, claims.get(None, deadline))
        claims[who] = deadline
        self._told = min(claims.values())
        if self._told > self._clock():
            self._overdue = False

    def _shielded(self, now: float) -> bool:
        return any(s.until > now for s in tuple(self._shields))

    def _wake(self) -> None:
        for waker in tuple(self._wakers):
            try:
                waker()
            except BaseException:  # noqa: BLE001  # a handler never raises; whoever gave us this waker finds the count in `faults`
                self.faults += 1

    # ------------------------------------------------------------------ noticing

    @property
    def request(self) -> StopRequest | None:
        """The first request, None as long as nobody has asked."""
        if self._settle is not None:
            self._settle()
        first = self._first
        return first[0] if first else None

    @property
    def requests(self) -> tuple[StopRequest, ...]:
        """All requests in the order in which they were counted, at most the first 64."""
        return tuple(self._log)

    @property
    def deadline(self) -> float | None:
        """When we should be gone, on the monotonic clock; None as long as nobody has asked."""
        if self._settle is not None:
            self._settle()
        return self._ends_at()

    def _ends_at(self) -> float | None:
        """Return the deadline as it is known now."""
        first = self._first[:1]  # a veto may come in between
        if not first:
            return None
        # Whoever is woken by the request may be here before it is counted.
        told = first[0].deadline if self._told is None else self._told
        return first[0].at + self.grace_s + self._extra_s if told is None else told

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody asks. For any number of threads.

        Args:
            timeout_s: At most so long; None for as long as it takes.

        Returns:
            Whether somebody has asked.
        """
        if self.asked:
            return True
        latch, got = self._latch, False
        try:
            got = self._opens(latch, -1 if timeout_s is None else min(max(timeout_s, 0.0), TIMEOUT_MAX))
        finally:  # also if somebody else's handler raises here: the other waiters must get through
            if got or self.asked:
                _open(latch)
        return self.asked

    def _opens(self, latch: LockType, left_s: float) -> bool:
        """Wait for the latch so long, a negative time for ever; return whether it has opened."""
        turn_s = self._turn_s
        while turn_s and not 0 <= left_s <= turn_s:
            if latch.acquire(True, turn_s) or self.asked:
                return True
            left_s -= turn_s if left_s > 0 else 0
        return latch.acquire(True, left_s)

    def add_waker(self, waker: Callable[[], object]) -> None:
        """Have something called when somebody asks, when it becomes urgent, and when the deadline moves; at once if somebody has asked already.

        Args:
            waker: Called from wherever the request was heard, also from a signal handler: it must neither wait nor raise.
        """
        self._wakers.append(waker)
        if self.asked:
            self._wake()

    def remove_waker(self, waker: Callable[[], object]) -> None:
        """Undo `add_waker`; nothing happens if it is not there."""
        if waker in self._wakers:
            self._wakers.remove(waker)


def _closed_latch() -> LockType:
    latch = allocate_lock()
    latch.acquire()
    return latch


def _open(latch: LockType) -> None:
    try:
        latch.release()
    except RuntimeError:
        pass  # ignored: it is open, or a waiter has it for the moment and opens it again
