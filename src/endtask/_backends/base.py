"""What the stages may ask of an operating system: the protocols that every backend fulfils.

Decision: the stages see processes only through these methods, so that the same engine runs on Linux, on Windows and on the simulated system of `sim.py`.
Nothing here is imported at run time; the protocols exist for the type checker and for the reader.

Rules for every backend:

- A method that takes a `Pin` acts on exactly that process or raises `GoneError`; it never falls back to the bare pid without saying so in `Pin.exact`.
- A method that takes a bare pid only *reads*, and its answer is a hint until a pin confirms it.
- "No such process" is `GoneError` or `None` as documented; "may not" is `AccessDeniedError`; they are never mixed up.
- No method sleeps; only `Waiter.wait` and `Conversation.wait` block, for at most the time given.

Size: one list of questions; whoever writes a backend reads it from top to bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    from endtask.model import Facts, Listener, PidRef, ProcessEnd, Receipt, Request, Row, SignalSets

# Of the facts: everything that can be shown, what decides how a process is asked, or what it is doing instead of ending.
Part = Literal["all", "ladder", "state"]


class Pin(Protocol):
    """A live handle on one process: while it is open, it can mean no other process.

    Attributes:
        ref: The identity as a value.
        exact: Whether signals through it can never reach another process.
            False only where the kernel has no pidfd: then the start time is compared first, and a small window remains.
        mechanism: `pidfd`, `procfd` or `sim`; goes into the evidence.
    """

    @property
    def ref(self) -> PidRef: ...
    @property
    def exact(self) -> bool: ...
    @property
    def mechanism(self) -> str: ...

    def close(self) -> None:
        """Release the handle; closing twice is allowed."""


class Waiter(Protocol):
    """Waits for the exit of any number of pinned processes at once."""

    @property
    def poll_s(self) -> float | None:
        """Seconds after which `wait(0)` must be called again although nothing is readable.

        None where every pin and the fork watch wake the waiter by themselves.
        """

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when `wait(0)` has something to say (for event loops); None where `on_news` serves them (Windows)."""

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """Call *wake* from any thread whenever `wait(0)` has something to say; None ends that. Only where `fileno` gives None."""

    def add(self, pin: Pin, key: int) -> None:
        """Watch *pin*; its exit is reported once, as *key*. A process that has exited already is reported at once."""

    def drop(self, pin: Pin) -> None:
        """Forget *pin*; call before closing it. Unknown pins are ignored."""

    def wait(self, timeout_s: float | None) -> list[int]:
        """Block until something exits, or for *timeout_s* seconds (None: for ever, 0: only look).

        Returns:
            The keys of the processes that have exited since the last call; may be empty
            (time is up, or the fork watch has news).
        """

    def close(self) -> None: ...


class ForkWatch(Protocol):
    """Reports every fork on the machine, so that nothing can be born unseen.

    Attributes:
        lost: Whether events were dropped; from then on it proves nothing.
    """

    @property
    def lost(self) -> bool: ...

    def drain(self) -> list[tuple[int, int]]:
        """Return pairs (parent pid, child pid) of all forks since the last call, oldest first. Never blocks."""

    def close(self) -> None: ...


class Conversation(Protocol):
    """A connection to the receiver in one process: bytes both ways.

    No method but `wait` waits for the other side, and none raises because of what it does.
    News (bytes that have come, or the end of the other side) wake the waiter that it was opened with, until it is closed.
    It must be closed before that waiter is.
    """

    @property
    def open(self) -> bool:
        """Whether there may be more to read. False once the other side has closed and all of it was drained, when it does not read what we say, or after `close`."""

    def say(self, data: bytes) -> bool:
        """Send *data*; return whether the system took it, which does not mean that it is read.

        To a side that does not read (more than some KiB wait already) the conversation is closed.
        """

    def drain(self) -> bytes:
        """Return what has come since the last call, at most 64 KiB (the rest wakes the waiter again); empty when there is nothing."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to drain, at most *timeout_s* seconds; return whether there is. The news still wakes the waiter."""

    def close(self) -> None:
        """End it; closing twice is allowed."""


class Sweep(Protocol):
    """A forced end that nothing escapes by forking: hold them all still, then end them all.

    If our own process dies in between, a guardian (or the kernel) lets everything that is held run on.

    Attributes:
        mechanism: `cgroup.kill`, `cgroup-freeze`, `sigstop` or `sim`; goes into the evidence.
    """

    @property
    def mechanism(self) -> str: ...

    def hold(self, pin: Pin) -> Receipt | None:
        """Hold one process still so that it cannot fork; None when it is held, a receipt (`gone`, `denied`) when not."""

    def settle(self) -> bool:
        """Wait, for a moment at most, until everything that was to be held is; return whether it is.

        Only then the process table shows every child: a fork that has begun is not broken off by being held (Linux 4.19 and later).
        """

    def kill(self, pins: Sequence[Pin], at_s: float) -> list[Receipt]:
        """End everything that is held and let go; one receipt for each of *pins*, in order."""

    def close(self) -> None:
        """Let go of whatever is still held; the guardian ends."""


class Tree(Protocol):
    """A command and everything that it starts, in a container of the system that nothing leaves unseen (Windows: a job object).

    Attributes:
        pin: Handle on the command itself; closed with the tree.
        command: Its words.
        stdin, stdout, stderr: Pipes, where they were asked for; closed by whoever has them.
        evidence: Mechanism and words of the proof that `active` being 0 is.
        leads_group: Whether the command leads a process group of its own on our console, which `ask_group` reaches.
    """

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    @property
    def pin(self) -> Pin: ...
    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def evidence(self) -> tuple[str, str]: ...
    @property
    def leads_group(self) -> bool: ...

    def pids(self) -> list[int]:
        """Return the pids of everything in it that runs; hints, as all pids without a handle.

        Raises:
            OsCallError: They cannot be read.
        """

    def active(self) -> int | None:
        """Return how many processes in it have not ended, None if that cannot be read. 0 is the proof that nothing is left."""

    def hears_console(self) -> bool:
        """Return whether anything in it is on our own console and takes Ctrl+C: then what the console tells us it tells that as well."""

    def ask_group(self, at_s: float) -> Receipt:
        """Send Ctrl+Break to the process group that the command leads."""

    def end(self) -> None:
        """End everything in it at once.

        Raises:
            OsCallError: It could not be ended.
        """

    def close(self) -> None:
        """Let go of it. What still runs is ended, if it was started so, else it runs on. Closing twice is allowed."""


class Backend(Protocol):
    """An operating system as the stages see it."""

    @property
    def name(self) -> str:
        """`linux`, `windows`, `sim`."""

    @property
    def folds_case(self) -> bool:
        """Whether process names compare without regard to case."""

    @property
    def has_ladders(self) -> bool:
        """Whether the politest way to ask depends on the kind of the process (Windows); False where a signal is generic."""

    @property
    def reparents(self) -> bool:
        """Whether an orphan gets a new parent (POSIX); False where it keeps the pid of the dead one (Windows)."""

    def now(self) -> float:
        """Monotonic clock, seconds."""

    def host(self) -> dict[str, str]:
        """Return what makes refs of this machine unique: host name, boot id, pid namespace, kernel."""

    # -- who is there (reading by pid: hints until pinned)

    def own_line(self) -> tuple[int, ...]:
        """Return our own pid and those of our ancestors, nearest first, as far as we can see."""

    def list_pids(self) -> list[int]:
        """Return every pid that we can see, ascending.

        Raises:
            OsCallError: The process table cannot be read (no /proc).
        """

    def short_name(self, pid: int) -> str | None:
        """Return the kernel's short name (Linux: `comm`), None if gone or hidden. The cheapest question there is."""

    def full_name(self, pid: int, short: str) -> str:
        """Return the whole name of a process whose short name may be cut; *short* itself where nothing longer is known."""

    def row(self, pid: int) -> Row | None:
        """Return one line of the process table, None if gone or hidden."""

    def table(self) -> dict[int, Row]:
        """Return the whole process table; processes that vanish while it is read are left out."""

    def children(self, pid: int) -> list[int] | None:
        """Return the direct children, None where the system cannot tell without the whole table."""

    def owner(self, pid: int) -> int | None:
        """Return the effective user id, None if gone or unknown."""

    def user_id(self, name: str) -> int:
        """Return the user id of *name* (a number as text is allowed).

        Raises:
            TargetError: There is no such user.
        """

    def command_line(self, pid: int) -> tuple[str, ...] | None:
        """Return the arguments, None if gone or unreadable."""

    def working_directory(self, pid: int) -> str | None:
        """Return the current directory, None if gone or unreadable."""

    def user_name(self, uid: int) -> str:
        """Return the name of a user, the number as text where there is none."""

    def usage(self, pid: int) -> tuple[float, float] | None:
        """Return processor seconds used and resident memory in KiB, None if gone or unreadable."""

    def modules(self, pid: int) -> tuple[str, ...]:
        """Return the paths of the files mapped into a process, empty if unreadable."""

    def age_s(self, row: Row) -> float:
        """Return for how many seconds the process of *row* has existed."""

    def title_owners(self, pattern: str) -> list[int]:
        """Return the pids that own a visible top-level window whose title fits *pattern* (`*` and `?` wild, case ignored).

        Raises:
            TargetError: The system has no window titles that we can read.
        """

    def status(self, pid: int) -> str:
        """Return `running`, `not-responding`, `suspended` or `unknown`: what taskkill's STATUS filter asks about; empty if gone."""

    def titles(self, pid: int) -> tuple[str, ...]:
        """Return the titles of the process's visible top-level windows; empty where the system has none that we can read."""

    def session_name(self, row: Row) -> str:
        """Return the name of the session of a process, as `tasklist` shows it: `Services`, `Console`, `RDP-Tcp#0` on Windows, the terminal elsewhere (`pts/3`); empty for none or unknown."""

    def services(self, pid: int) -> tuple[str, ...]:
        """Return the names of the services (Linux: the systemd unit) that the process belongs to."""

    def untouchable(self, pid: int, short: str | None = None) -> str:
        """Return why a process must never be stopped (Windows: the system stops with it), empty for all others."""

    def listeners(self, proto: str, port: int) -> list[Listener]:
        """Return who listens on a port (`tcp` or `udp`, IPv4 and IPv6, our network namespace).

        A listener whose holder we may not see has no pids.
        """

    def file_holders(self, path: str) -> tuple[list[int], int]:
        """Return the pids that hold *path* open, mapped, as executable or as working directory, and how many processes could not be looked into.

        Raises:
            OsCallError: The file does not exist or cannot be looked at.
        """

    def pid_file(self, path: str) -> tuple[bytes, float]:
        """Return the first 4,096 bytes of *path* and its age in seconds since the last write.

        Raises:
            OsCallError: It cannot be read.
            AccessDeniedError: It may not be read.
        """

    def cgroup(self, pid: int) -> str:
        """Return the cgroup of a process, empty if unknown or not supported."""

    def cgroup_pids(self, cgroup: str) -> list[int] | None:
        """Return every pid in *cgroup* and below it, None if that cannot be read."""

    def marks(self, pid: int) -> tuple[str, ...]:
        """Return the values of `ENDTASK_MARK` in the environment the process started with, empty if none or unreadable."""

    def kinship(self, pid: int) -> frozenset[bytes]:
        """Return what a child inherits unless it changes it, piece by piece (Linux: the entries of the initial environment), empty if unreadable."""

    def shared_objects(self, pid: int) -> frozenset[str]:
        """Return the private objects that a process holds open and that only inheritance can share: pipes, sockets, deleted files, as text."""

    # -- pinned

    def capacity(self) -> int:
        """Return how many more pins may be open at the same time."""

    def pin(self, pid: int, token: str = "") -> Pin:
        """Open a handle on *pid*.

        Args:
            pid: Process id, > 0.
            token: If given, the process must be this one.

        Raises:
            GoneError: Nobody has that pid, or it is another process than *token* says.
            AccessDeniedError: The system refuses a handle.
        """

    def ended_ago_s(self, pin: Pin) -> float | None:
        """Return for how many seconds the process has been ended, None while it runs or where the system does not keep that (POSIX)."""

    def exited(self, pin: Pin) -> bool:
        """Return whether every thread of the process has exited (a zombie counts as exited)."""

    def facts(
        self, pin: Pin, table: dict[int, Row] | None = None, *, company: bool = True, part: Part = "all"
    ) -> Facts:
        """Read everything that `look` needs; never raises for a process that ends meanwhile: the fields say so.

        Args:
            pin: The process.
            table: The process table, if it is at hand.
            company: Whether to tell who else is on its console as well, which costs a tenth of a second where that is not ours (Windows).
            part: What the facts are for. Windows answers each question by itself, and two hundred targets are not asked what nobody needs;
                what was not asked is left as it is where nothing is known.
        """

    def heard(self, pin: Pin, receipts: Sequence[Receipt]) -> bool:
        """Return whether a process has said by now that it heard one of the requests that were sent to it; False where it cannot, or has not."""

    def signals(self, pid: int) -> SignalSets | None:
        """Read the signal dispositions only, None if gone or unreadable."""

    def stopped(self, pin: Pin) -> bool:
        """Return whether the process is suspended by job control (state T)."""

    def send(self, pin: Pin, request: Request, at_s: float) -> Receipt:
        """Deliver one request; what the system answers is in the receipt.

        Raises:
            UnsupportedRequestError: This system has no such request; nothing was sent, and nothing stronger.
        """

    def end(self, pin: Pin) -> ProcessEnd:
        """Return how an exited process ended; what the system does not tell is said in `why_unknown`."""

    def waiter(self) -> Waiter: ...

    def fork_watch(self, waiter: Waiter) -> ForkWatch | None:
        """Start to watch forks, None where the system or our rights do not allow it. News wake *waiter*."""

    def converse(self, pin: Pin, waiter: Waiter, row: Row | None = None) -> Conversation | str:
        """Connect to the receiver (`endtask_receiver`) in a process, without waiting for it.

        Costs a few file status calls where there is none, and loads nothing then.

        Args:
            pin: The process.
            waiter: Woken by news.
            row: Its line of the process table, if it is at hand.

        Returns:
            The conversation, with a receiver of exactly this process.
            Or why there is none: empty where the process has no receiver, else the reason why what is there is not used (it is another's, it does not answer).
        """

    def open_sweep(self, cgroup: str = "") -> Sweep:
        """Open the strongest forced end at hand.

        Args:
            cgroup: A cgroup that is exactly the scope, or empty.
        """

    def cgroup_empty(self, cgroup: str) -> bool | None:
        """Return whether the kernel says that *cgroup* and all below it hold no live process; None if it cannot tell."""
