"""The keeper's half of `owned`: a command whose tree is held by a keeper process (POSIX).

A small keeper process (`_keeper.py`) stands between us and the command.
It is the subreaper of the command's tree (prctl(2), PR_SET_CHILD_SUBREAPER), so whatever escapes by a double fork becomes the keeper's child,
and when the kernel tells it that it has no child left (ECHILD), the tree is empty: that is the proof.
It reads a socket whose other end only we hold, so it also acts when we are killed in the middle, even by SIGKILL.

Rejected: PR_SET_PDEATHSIG, which reaches the direct child only and fires when the *thread* that forked ends; process groups, which setsid(2) leaves.

Size: the keeper's words, and the report that is made of them.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from endtask.errors import OsCallError
from endtask.model import Evidence, MemberReport, PidRef, ProcessEnd, Reason, Receipt, Report, TargetReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import subprocess

    from endtask._backends.launching import Launch
    from endtask._kept_talks import KeptTalks
    from endtask.model import Outcome

_LAST_STREAM = 2  # standard error
STDIN_EOF = "STDIN_EOF"  # name of the request that is the end of standard input
_ALONE = 0.5  # part of the grace in which the end of its input is all that a command has got
_KEEPER_S = 5.0  # how long the keeper has to end when its work is done


class _Member:
    """What the keeper told about one process."""

    __slots__ = ("end", "exited_at_s", "forced", "name", "pid", "receipts")

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.receipts: list[Receipt] = []
        self.forced = False
        self.exited_at_s: float | None = None
        self.end: ProcessEnd | None = None


class Kept:
    """A command and everything that it starts, held by its keeper.

    Attributes:
        ref: Identity of the command.
        stdin, stdout, stderr: Pipes, where they were asked for.
        lost: Whether the keeper is gone before its work was done, for example because it was killed.
        keeper: The keeper's process.
        report: The verdict, None until `stop` has run.
    """

    def __init__(self, launch: Launch, grace_s: float, *, force: bool, extend_s: float = 0.0, reason: str = "") -> None:
        import shlex

        words = launch.command
        self._command = tuple(shlex.split(words) if isinstance(words, str) else words)
        self._grace_s = grace_s
        self._force = force
        self._stdin_eof = launch.stdin_eof
        self._started = time.monotonic()
        self._mark = f"{os.getpid()}.{os.urandom(8).hex()}"
        self._members: dict[int, _Member] = {}
        self._end: ProcessEnd | None = None
        self._empty = False
        self._left: list[tuple[int, str]] = []
        self._buffer = b""
        self._more = (extend_s, reason)
        self._talks: KeptTalks | None = None
        self._give_up_at = 0.0  # 0 until the keeper was told to stop the tree
        self.lost = False
        self._control, self.keeper = self._start(launch)
        self.stdin = self.keeper.stdin
        self.stdout = self.keeper.stdout
        self.stderr = self.keeper.stderr
        self.report: Report | None = None
        self.ref = PidRef(0)
        try:
            self._read_start()
        except BaseException:
            self._abandon()
            raise

    # ------------------------------------------------------------------ starting

    def _start(self, launch: Launch) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        import socket
        import subprocess

        ours, theirs = (_above_streams(end) for end in socket.socketpair())
        keeper = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_keeper.py")
        arguments = [str(theirs.fileno()), f"{self._grace_s:g}", "1" if self._force else "0", self._mark]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper, *arguments, "--", *self._command],
                stdin=launch.stdin,
                stdout=launch.stdout,
                stderr=launch.stderr,
                cwd=launch.cwd,
                env=launch.env,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl+C at our terminal must not reach the keeper
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, process

    def _read_start(self) -> None:
        deadline = time.monotonic() + 30.0
        while not self.ref.pid:
            if not self._pump(deadline - time.monotonic()) or self.lost:
                raise OsCallError("spawn", 0, text=f"the keeper of `{self._command[0]}` did not start")

    def _abandon(self) -> None:
        """Give up a start that failed: the keeper sees the end of the socket and tidies up by itself."""
        self._control.close()
        self.keeper.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    # ------------------------------------------------------------------ the keeper's words

    def fileno(self) -> int:
        """Return a descriptor that is readable when `poll` has something new to learn, -1 after `stop`."""
        return self._control.fileno()

    def _pump(self, timeout_s: float | None) -> bool:
        """Read what the keeper says for at most *timeout_s*; return whether anything came."""
        if self.lost:
            return False
        if self._talks is not None:
            more_s, spoke = self._talks.wait(self._control.fileno(), timeout_s)
            self._give_up_at += more_s
            if not spoke:
                return more_s > 0  # the time is up, unless it has grown meanwhile
            timeout_s = 0
        self._control.settimeout(None if timeout_s is None else max(0.0, timeout_s))
        try:
            data = self._control.recv(65536)
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionResetError:
            data = b""  # the keeper was killed with unread words of ours
        if not data:
            self.lost = True
            return True
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._hear(line.decode("utf-8", "surrogateescape"))
        return True

    def _hear(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        at_s = time.monotonic() - self._started
        if word == "started":
            pid, _, token = rest.partition(" ")
            self.ref = PidRef(int(pid), token)
            self._member(int(pid), self._command[0].rsplit("/", 1)[-1])
        elif word == "failed":
            number, _, text = rest.partition(" ")
            raise (
                FileNotFoundError(int(number), text, self._command[0])
                if number == "2"
                else OSError(int(number), text, self._command[0])
            )
        elif word == "exited":
            self._end = _end(rest)
        elif word in ("asked", "forced"):
            pid, _, name = rest.partition(" ")
            member = self._member(int(pid), name)
            member.receipts.append(Receipt("TERM" if word == "asked" else "KILL", "delivered", at_s))
            member.forced = member.forced or word == "forced"
            if self._talks is not None and word == "asked":
                self._talks.meet(int(pid), name)
        elif word == "reaped":
            pid, _, rest = rest.partition(" ")
            name, _, status = _split_status(rest)
            member = self._member(int(pid), name)
            member.exited_at_s = at_s
            member.end = _end(status)
        elif word == "left":
            pid, _, name = rest.partition(" ")
            self._left.append((int(pid), name))
            self._member(int(pid), name)
        elif word == "empty":
            self._empty = True

    def _member(self, pid: int, name: str) -> _Member:
        member = self._members.get(pid)
        if member is None or member.end is not None:
            member = self._members[pid] = _Member(pid, name)
        elif name:
            member.name = name
        return member

    # ------------------------------------------------------------------ for the caller

    def poll(self) -> ProcessEnd | None:
        """Return how the command ended, None while it runs. What it started may run on."""
        while self.report is None and not self.lost and self._pump(0):
            pass
        return self._end

    def wait(self, timeout_s: float | None = None) -> ProcessEnd | None:
        """Wait for the end of the command itself.

        Args:
            timeout_s: Seconds, None for as long as it takes.

        Returns:
            How it ended, None when the time is up.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._end is None and self.report is None and not self.lost:
            if not self._pump(None if deadline is None else deadline - time.monotonic()):
                return None
        return self._end

    def stop(self, *, told: bool = False, limit_s: float | None = None, hurried: bool = False) -> Report:
        """Have the keeper stop the tree by the plan it was started with; after a Ctrl+C in the middle, wait on.

        Args:
            told: Of no use here: the command has a session of its own, so what a terminal sends to us does not reach it.
            limit_s: At most that many seconds of grace, None for all of it.
            hurried: Whether the grace is over before it begins.
        """
        import subprocess

        if hurried or not self._give_up_at:  # a Ctrl+C may have broken off the first wait: nobody is asked twice
            self._say_stop(limit_s, hurried=hurried)
        while not self._empty and not self._left and not self.lost and time.monotonic() < self._give_up_at:
            self._pump(self._give_up_at - time.monotonic())
        if self._empty or self._left:
            self.report = self._verdict()
        else:
            self.report = self._take_over()
            self.keeper.kill()  # it is gone already, or it hangs and would outlive us
        if self._talks is not None:
            self._talks.close()
        self._control.close()
        with suppress(subprocess.TimeoutExpired):  # ignored: it tidies up by itself, and has nothing left to tell
            self.keeper.wait(_KEEPER_S)
        return self.report

    def _say_stop(self, limit_s: float | None, *, hurried: bool) -> None:
        """Tell the keeper to stop the tree."""
        grace_s = min(self._grace_s, self._grace_s if limit_s is None else limit_s, 0.0 if hurried else self._grace_s)
        if self._stdin_eof and not hurried:
            grace_s = self._end_input(grace_s)
        # The keeper answers by itself; the bound is for a keeper that was stopped or killed.
        # Set before the word is sent: a Ctrl+C right after it must not have it sent again.
        self._give_up_at = time.monotonic() + grace_s + 30.0
        if grace_s > 0 and not hurried and self.poll() is None and not self.lost:
            self._introduce(grace_s)
        if not self.lost:
            self._tell_keeper(f"stop {grace_s:g} {int(self._force)}")

    def _introduce(self, grace_s: float) -> None:
        """Get ready to talk, and tell the command what belongs to the request that it gets next."""
        from endtask._kept_talks import begin

        command = (self.ref, self._members[self.ref.pid].name)
        self._talks = begin(command, self.keeper.pid, (grace_s, *self._more), self._started, self._tell_keeper)

    def _tell_keeper(self, line: str) -> None:
        try:
            self._control.sendall(f"{line}\n".encode())
        except (BrokenPipeError, ConnectionResetError):
            self.lost = True

    def _end_input(self, grace_s: float) -> float:
        """Close the command's standard input and give it a part of the grace to end; return what is left of that."""
        if self.stdin is None or self.stdin.closed or self.poll() is not None:
            return grace_s
        began = time.monotonic()
        with suppress(BrokenPipeError):  # ignored: it has closed its end itself
            self.stdin.close()
        member = self._member(self.ref.pid, "")
        member.receipts.append(Receipt(STDIN_EOF, "delivered", began - self._started))
        self.wait(grace_s * _ALONE)
        return max(0.0, grace_s - (time.monotonic() - began))

    def _verdict(self) -> Report:
        elapsed = time.monotonic() - self._started
        members = self._member_reports(elapsed)
        evidence: tuple[Evidence, ...] = ()
        reasons: tuple[Reason, ...] = ()
        if self._empty:
            word: Outcome = "forced" if any(m.forced for m in members) else "stopped"
            text = "the kernel told the keeper, who adopts every orphan of the tree, that it has no child left"
            evidence = (Evidence("subreaper", "proved", text, elapsed),)
        else:
            word = "vetoed" if self._talks is not None and self._talks.vetoed else "running"
            reasons = tuple(reason for pid, name in self._left for reason in self._why_left(pid, name))
        what, name = " ".join(self._command), self._command[0].rsplit("/", 1)[-1]
        granted_s = self._talks.granted_s if self._talks is not None else 0.0
        target = TargetReport(
            what, self.ref, name, word, elapsed, tuple(members), evidence, reasons, granted_s=granted_s
        )
        return Report((target,), elapsed_s=elapsed)

    def _why_left(self, pid: int, name: str) -> list[Reason]:
        """Return why a process still runs: its own words first."""
        found: list[Reason] = []
        if self._talks is not None:
            from endtask._said import said_reasons

            found = said_reasons(self._talks.said(pid), f"{pid} {name}", pid, self._talks.granted_s)
        return [*found, Reason("running", f"{pid} {name} still runs, and force was not allowed", pid=pid)]

    def _member_reports(self, elapsed: float) -> list[MemberReport]:
        members = []
        for member in sorted(self._members.values(), key=lambda m: m.pid != self.ref.pid):
            ref = self.ref if member.pid == self.ref.pid else PidRef(member.pid)
            tie = "target" if member.pid == self.ref.pid else "owned"
            end, at_s = member.end, member.exited_at_s
            if end is None and self._empty:  # its own parent reaped it: the keeper only knows that nothing is left
                end, at_s = ProcessEnd(why_unknown="its own parent reaped it"), elapsed
            forced, receipts = member.forced, tuple(member.receipts)
            said = self._talks.said(member.pid) if self._talks is not None else ()
            members.append(MemberReport(ref, member.name, tie, end is not None, at_s, end, forced, receipts, said=said))
        return members

    def _take_over(self) -> Report:  # size: one story, told once
        """The keeper was killed: find its tree by the mark that everything in it inherited, and stop that."""
        from endtask import _api
        from endtask._backends import default_backend
        from endtask._discover import open_pin
        from endtask._plan import make_policy
        from endtask.model import Filter

        backend = default_backend()
        marked = [pid for pid in backend.list_pids() if self._mark in backend.marks(pid)]
        words = []
        for pid in marked:
            pin = open_pin(backend, pid)
            if isinstance(pin, str):
                words += [str(pid)] if pin else []  # it has gone, or it is reported as what we may not stop
                continue
            if self._mark in backend.marks(pid):
                words.append(str(pin.ref))
            pin.close()
        policy = make_policy(
            extend_s=self._more[0],
            reason=self._more[1],
            timeout_s=self._grace_s + 5.0,
            force_after_s=self._grace_s if self._force else None,
            all=True,
            missing_ok=True,
            watch_s=0.0,
        )
        report = _api.stop(words, Filter(), policy, backend=backend)
        reason = Reason(
            "keeper-killed",
            "the keeper was killed, so what had left the tree and changed its environment may be missing here",
            certain=False,
        )
        targets = tuple(_with_reason(t, reason) for t in report.targets)
        if not targets:
            shown = Evidence("mark", "observed", "no process carries the mark of this command")
            name = self._command[0].rsplit("/", 1)[-1]
            targets = (
                TargetReport(" ".join(self._command), self.ref, name, "unproven", evidence=(shown,), reasons=(reason,)),
            )
        return Report(targets, report.missing, report.elapsed_s, report.cancelled, missing_ok=True)


def _above_streams(end: socket.socket) -> socket.socket:
    """Return the socket under a number above those of the standard streams, which may be free in a process that has closed them."""
    low = [end]
    while low[-1].fileno() <= _LAST_STREAM:
        low.append(low[-1].dup())
    for other in low[:-1]:
        other.close()
    return low[-1]


def _with_reason(target: TargetReport, reason: Reason) -> TargetReport:
    from endtask._record import replace

    outcome = "unproven" if target.outcome in ("stopped", "forced", "already-gone") else target.outcome
    return replace(target, outcome=outcome, reasons=(*target.reasons, reason))


def _split_status(text: str) -> tuple[str, str, str]:
    """Split `NAME code 0` or `NAME signal 15` at the status; a name may hold blanks."""
    for word in (" code ", " signal "):
        name, found, number = text.rpartition(word)
        if found and number.isdigit():
            return name, word, f"{word.strip()} {number}"
    return text, "", ""


def _end(text: str) -> ProcessEnd | None:
    word, _, number = text.partition(" ")
    if word == "code":
        return ProcessEnd(int(number), source="wait")
    if word == "signal":
        return ProcessEnd(None, int(number), source="wait")
    return ProcessEnd(why_unknown="the keeper did not say")
