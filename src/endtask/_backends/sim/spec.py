"""What a simulated machine and its programs are made of, as values: they can be printed, compared, shrunk and pasted into a test.

Decision: a program is a list of small operations instead of Python code, so that a failing life can be made smaller by taking operations away.
"""

from __future__ import annotations

from endtask._record import Record


class Op(Record):
    """One operation of a simulated program.

    Attributes:
        do: What: one of the names in `programs.OPERATIONS`.
        s: Seconds, where the operation takes time or repeats.
        n: A number: exit status, signal, port, user, count.
        who: A word: whom to signal, a name, a cgroup.
        child: The program that it starts.
    """

    do: str
    s: float = 0.0
    n: int = 0
    who: str = ""
    child: Spec | None = None


class Spec(Record):
    """A program and the process that runs it.

    Attributes:
        name: Process name; the short name is its first 15 characters.
        main: What it does; afterwards it sleeps for ever.
        on: Pairs of signal number and what the handler does; a second pair for one number serves the second delivery, the last one all later ones.
            Number 65 is a line on standard input, 66 a stop command, 67 a request to its receiver.
        ignored: Signal numbers it ignores.
        blocked: Signal numbers it blocks.
        waited: Signal numbers it blocks and takes with sigwait; their handler is in `on`.
        uid: Its user; -1: that of the parent.
        reap_s: Seconds after which it reaps a child; -1: never.
        restart_s: Seconds after which it starts an ended child of `children` again; -1: never.
        restarts: How often it does so in all.
        exit_s: How long its end takes (a large memory to be freed).
        ports: TCP ports that it listens on; children inherit the sockets.
        cgroup: Its cgroup, empty: that of the parent.
        environ: What its environment says, empty: inherited.
        marks: Values of ENDTASK_MARK in it; inherited with the environment.
        objects: Private objects (pipes) it opens; children inherit them.
        flags: Any of `session` (leads one), `group` (leads one), `subreaper`, `namespace` (first process of a pid namespace),
            `hidden` (no row), `unreadable` (masks, environment and files cannot be read), `no-pin` (the system refuses a handle), `kernel`,
            `stopped`, `traced`, `uninterruptible`, `leader-gone` (the main thread has ended, others run), `stdin` (its standard input is a pipe),
            `receiver` (it can be talked to), `planted` (somebody else's socket has the name of its receiver's).
        children: What it starts at once.
    """

    name: str
    main: tuple[Op, ...] = ()
    on: tuple[tuple[int, tuple[Op, ...]], ...] = ()
    ignored: tuple[int, ...] = ()
    blocked: tuple[int, ...] = ()
    waited: tuple[int, ...] = ()
    uid: int = -1
    reap_s: float = 0.0
    restart_s: float = -1.0
    restarts: int = 0
    exit_s: float = 0.0
    ports: tuple[int, ...] = ()
    cgroup: str = ""
    environ: str = ""
    marks: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    children: tuple[Spec, ...] = ()


class World(Record):
    """The machine and what its system can do.

    Attributes:
        pid_max: Pids are below it, so that they come back soon.
        call_s: What one call to the system takes, on average.
        race: The part of all calls right before which the next thing happens that would have happened later.
        stall: The part of all calls before which we are not scheduled for a while.
        processes: Most processes at a time; beyond it fork fails.
        forks: Most forks in a life, so that it ends.
        fork_watch: `exact`, `lossy` or empty for none.
        statuses: Whether the system tells how others' children ended.
        child_lists: Whether it lists children without the whole table.
        cgroups: Whether cgroups can be read.
        sweep: `cgroup.kill`, `cgroup-freeze` or `sigstop`: the strongest forced end.
        pidfd: Whether handles are exact; if not, tokens are start times and signals go to pids.
        uid: Our user; 0 may do everything.
        capacity: How many handles may be open.
    """

    pid_max: int = 400
    call_s: float = 0.0001
    race: float = 0.05
    stall: float = 0.0
    processes: int = 120
    forks: int = 600
    fork_watch: str = ""
    statuses: bool = True
    child_lists: bool = True
    cgroups: bool = True
    sweep: str = "sigstop"
    pidfd: bool = True
    uid: int = 0
    capacity: int = 1000


class Life(Record):
    """A whole story: a machine, its programs, and what is asked of endtask.

    Attributes:
        seed: Of everything that is random while it runs.
        world: The machine.
        roots: Started by init.
        ours: Started by our own shell.
        before_s: For how long they run before endtask starts.
        verb: `stop`, `wait`, `plan`, `look` or `why`.
        what: The targets: a program's name with one of the prefixes `pid=`, `ref=` (its first process), or a WHAT.
        keep: The same for what is to be left alone.
        options: Pairs of option and value for `make_policy`, `scope` as text.
        killed_at: The call to the system at which endtask is killed, 0 for never; then a second run takes over.
        cancelled_at: The call after which the user interrupts, 0 for never.
    """

    seed: int
    world: World
    roots: tuple[Spec, ...] = ()
    ours: tuple[Spec, ...] = ()
    before_s: float = 1.0
    verb: str = "stop"
    what: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    options: tuple[tuple[str, float | str | bool], ...] = ()
    killed_at: int = 0
    cancelled_at: int = 0
