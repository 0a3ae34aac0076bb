"""Commands whose process tree we own: started here, and gone with proof when the block ends.

Who holds the tree together is the platform's affair:

- POSIX: a keeper process (`_kept.py`), which adopts whatever escapes, and stops the tree by itself when we die.
- Windows: a job object (`_held.py`), which nothing that starts in it can leave, and which the kernel ends when we die.

Both answer with the same report.
"""

from __future__ import annotations

import os
from contextlib import suppress

from endtask._backends import start_tree
from endtask._backends.launching import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO, Protocol

    from endtask.model import PidRef, Policy, ProcessEnd, Report

    class Holder(Protocol):
        """Who holds a tree together, and stops it.

        Attributes:
            ref: Identity of the command.
            stdin, stdout, stderr: Pipes, where they were asked for.
            lost: Whether the tree is not held any more, although nobody has stopped it.
            report: The verdict, None until `stop` has got to one.
        """

        ref: PidRef
        stdin: IO[bytes] | None
        stdout: IO[bytes] | None
        stderr: IO[bytes] | None
        lost: bool
        report: Report | None

        def fileno(self) -> int: ...
        def poll(self) -> ProcessEnd | None: ...
        def wait(self, timeout_s: float | None = None) -> ProcessEnd | None: ...
        def stop(self, *, told: bool = False, limit_s: float | None = None, hurried: bool = False) -> Report: ...


class Owned:
    """A running command and everything that it starts; made by `owned`.

    Leaving the block stops it: the command is asked first, after its grace what is left, and at the end it is forced unless `force` is false.

    Attributes:
        ref: Identity of the command.
        pid: Its pid.
        stdin, stdout, stderr: Pipes, as in `subprocess.Popen`, where they were asked for.
        report: The verdict, None until `stop` has run.
        lost: POSIX: whether the keeper is gone before its work was done, for example because it was killed. Windows: never.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        grace_s: float,
        force: bool,
        policy: Policy | None = None,
        extend_s: float = 0.0,
        reason: str = "",
    ) -> None:
        self._holder = _hold(launch, grace_s, policy, (extend_s, reason), force=force)
        self.ref = self._holder.ref
        self.stdin = self._holder.stdin
        self.stdout = self._holder.stdout
        self.stderr = self._holder.stderr

    @property
    def pid(self) -> int:
        return self.ref.pid

    @property
    def lost(self) -> bool:
        return self._holder.lost

    @property
    def report(self) -> Report | None:
        return self._holder.report

    def fileno(self) -> int:
        """Return a descriptor that is readable when `poll` has something new to learn, -1 after `stop`. Windows: always -1."""
        return self._holder.fileno()

    def poll(self) -> ProcessEnd | None:
        """Return how the command ended, None while it runs. What it started may run on."""
        return self._holder.poll()

    def wait(self, timeout_s: float | None = None) -> ProcessEnd | None:
        """Wait for the end of the command itself.

        Args:
            timeout_s: Seconds, None for as long as it takes.

        Returns:
            How it ended, None when the time is up.
        """
        return self._holder.wait(timeout_s)

    def stop(self) -> Report:
        """Stop the command and its whole tree, by the plan it was started with; a second call returns the first one's report.

        Returns:
            The verdict: `stopped` or `forced` with proof, `running` when force was not allowed and something is left.
        """
        return self.stop_told()

    def stop_told(self, *, told: bool = False, limit_s: float | None = None, hurried: bool = False) -> Report:
        """Stop, knowing more than `stop` does; for `endtask run`.

        Args:
            told: Whether the console may have told the command already what it told us (Windows): then it has time before it is asked again.
            limit_s: At most that many seconds for everything, however long the plan is; None for no limit.
            hurried: Whether to ask nobody any more: what may be forced is forced at once (Windows).
        """
        if self.report is not None:
            return self.report
        return self._holder.stop(told=told, limit_s=limit_s, hurried=hurried)

    def __enter__(self) -> Owned:  # noqa: PYI034  # `Self` needs Python 3.11, and nobody derives from it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_told(told=kind is not None and issubclass(kind, KeyboardInterrupt))
        finally:
            for pipe in (self.stdin, self.stdout, self.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # ignored: unwritten input of a command that has ended
                        pipe.close()


def _hold(launch: Launch, grace_s: float, policy: Policy | None, more: tuple[float, str], *, force: bool) -> Holder:
    """Start a command in the hands of whoever can hold its tree on this system.

    Args:
        launch: The command.
        grace_s: Seconds that the tree has before force.
        policy: The plan, None for that of `owned`.
        more: By how many seconds the grace may grow, and the reason that applications are told; only without *policy*.
        force: Whether it may be forced.
    """
    extend_s, reason = more
    if extend_s or reason:
        from endtask._plan import make_policy

        make_policy(extend_s=extend_s, reason=reason)  # what cannot be meant is refused before anything is started
    inject = policy is None or policy.inject
    tree = start_tree(launch, ends_with_us=force, inject=inject)
    if tree is None:
        from endtask._kept import Kept

        return Kept(launch, grace_s, force=force, extend_s=extend_s, reason=reason)
    from endtask._held import Held, policy_of

    policy = policy or policy_of(grace_s, force=force, extend_s=extend_s, reason=reason)
    return Held(tree, policy, stdin_eof=launch.stdin_eof)


def owned(
    command: Sequence[str] | str,
    *,
    grace_s: float = 5.0,
    force: bool = True,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    stdin_eof: bool = False,
    extend_s: float = 0.0,
    reason: str = "",
) -> Owned:
    """Start a command and own its process tree; use it in a `with` block.

    When the block ends, for whatever reason, the whole tree is stopped: the command is asked, then what is left, and after *grace_s* it is forced.
    POSIX asks by TERM and forces by KILL; Windows asks each process in the way that it can hear, and ends the job object.
    When our own process dies in the middle, the tree does not stay: POSIX stops it in the same way, Windows ends it at once (and leaves it without *force*).
    Unlike `stop`, force is the default here, because the tree is ours and the block promises that it is gone.

    Args:
        command: Program and arguments. A string is split like a shell would, without running one; on Windows it is the command line as it is.
        grace_s: Seconds that the tree has before force, >= 0.
        force: False: never force; the report then says what is left.
        cwd: Its working directory, None for ours.
        env: Its environment, None for ours.
        stdin: As in `subprocess.Popen`.
        stdout: As in `subprocess.Popen`.
        stderr: As in `subprocess.Popen`.
        stdin_eof: Whether the end of its standard input is the first thing that the command is asked with; needs `stdin=subprocess.PIPE`.
        extend_s: By so many seconds altogether the grace may grow if an application asks for more time.
        reason: Why it is stopped, told to an application that has a receiver.

    Returns:
        The running command.

    Raises:
        OSError: It could not be started.
        OsCallError: What holds its tree could not be made.
    """
    words = command if isinstance(command, str) else [os.fspath(w) for w in command]
    if not words or (isinstance(words, str) and not words.strip()):
        raise ValueError("the command is empty")
    if stdin_eof and stdin != _PIPE:
        raise ValueError("`stdin_eof` closes a pipe to the command, so it needs `stdin=subprocess.PIPE`")
    launch = Launch(words, cwd, env, stdin, stdout, stderr, stdin_eof)
    return Owned(launch, grace_s=grace_s, force=force, extend_s=extend_s, reason=reason)


_PIPE = -1  # subprocess.PIPE, whose module costs 10 ms
