"""The words of endtask: read this file first.

Every value that crosses from one stage to another is defined here, immutable, without any knowledge of an operating system's calls.
The order is that of the flow: a process and its identity, what is known of it, what it would do, what is asked of it, what came of it, the report.

Seconds are floats named `_s`; a time named `at_s` counts from the start of the run.
Words that the report uses are plain strings with a closed set of values, so that they read the same in Python, in JSON and on the terminal.

Size: the glossary; its value is that it is one file.
"""

from __future__ import annotations

from endtask._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Outcome = Literal[
        "stopped",  # every process in scope has exited, asked politely, and the scope was found empty
        "forced",  # the same, and at least one process needed force
        "running",  # the budget is spent, something in scope still runs
        "vetoed",  # the application said no
        "respawned",  # it stopped, and somebody started it again
        "already-gone",  # it had exited before anything was sent
        "not-permitted",  # it exists, we may not ask it
        "unreachable",  # no request of the plan exists for it
        "unproven",  # nothing known still runs, but emptiness could not be shown
    ]
    Answer = Literal[
        "handler",  # the program has its own handler: what it does is its own affair
        "waits-for-it",  # read by sigwait, sigtimedwait or signalfd: as good as a handler
        "ends",  # default action: the kernel ends it
        "ends-core",  # default action: the kernel ends it with a core dump
        "ignored",  # thrown away
        "blocked",  # stays pending
        "immune",  # first process of its namespace without a handler: thrown away
        "after-continue",  # stopped: stays pending until it is continued
        "after-thaw",  # its cgroup is frozen: stays pending until it is thawed
        "after-trace",  # held by a tracer: stays pending until the tracer lets it go on
        "after-kernel",  # in an uninterruptible kernel call: stays pending until that returns
        "no-effect",  # it has exited, or it is a kernel thread
        "continues",  # default action of CONT
        "asks",  # the program is asked by its own window, event or service control: what it does is its own affair
        "no-listener",  # nothing in the process can hear it
        "refused-here",  # it could be sent, and endtask will not: who else would be hit, or what would be lost, is in `because`
        "denied",  # the system does not let us send it
        "nothing",  # default action: ignore (CHLD, URG, WINCH)
        "stops",  # default action: suspends it
        "unknown",  # could not be read
    ]
    Strength = Literal["proved", "observed", "unproven"]
    ScopeKind = Literal["tree", "only", "group", "session", "cgroup"]
    ReceiptStatus = Literal["delivered", "gone", "denied", "impossible", "failed", "vetoed"]
    ReceiverState = Literal[
        "running",  # nobody has asked it
        "asked",  # it has heard a request and is ending
        "hurry",  # it was asked again, or its time is over: it cuts its work short
        "ending",  # it ends at once
        "silent",  # it did not answer in time
        "refused",  # it does not speak with us
        "unusable",  # what is there is not the receiver of this process, or speaks another language
    ]
    SaidKind = Literal["heard", "tell", "need", "veto", "shield", "cleanup", "refused", "closed"]
    Kind = Literal["gui", "gui-windowless", "console", "service", "packaged", "system", "unknown"]

OUTCOMES: tuple[Outcome, ...] = (
    "stopped",
    "forced",
    "running",
    "vetoed",
    "respawned",
    "already-gone",
    "not-permitted",
    "unreachable",
    "unproven",
)
SCOPES: tuple[ScopeKind, ...] = ("tree", "only", "group", "session", "cgroup")
REPORT_SCHEMA = "endtask.report/1"
LOOK_SCHEMA = "endtask.look/1"
PLAN_SCHEMA = "endtask.plan/1"
WHY_SCHEMA = "endtask.why/1"
EVENT_SCHEMA = "endtask.event/1"


# --------------------------------------------------------------------------- identity


class PidRef(Record):
    """Which process: a value that can be written down, sent and compared.

    Attributes:
        pid: The process id in our own pid namespace.
        token: What tells this process from a later one with the same pid.
            Linux 6.9 and later: the inode number of its pidfd, unique for the boot (digits).
            Older Linux: `t` and the start time in clock ticks, which two processes can share.
            Windows: the creation time, a FILETIME (digits).
            Empty: unknown.
    """

    pid: int
    token: str = ""

    def __str__(self) -> str:
        return f"{self.pid}:{self.token}" if self.token else str(self.pid)


class Row(Record):
    """One line of the process table, cheap enough to read for every process of the machine.

    Attributes:
        pid: Process id.
        ppid: Parent's pid; 0 when it has none that we can see.
        pgid: Process group id.
        sid: Session id.
        start: Start time in the platform's own ticks; only for ordering and comparing.
        state: One letter as in proc_pid_stat(5).
        comm: Short name as the kernel keeps it (Linux: at most 15 bytes).
        kernel: Whether it is a kernel thread.
        tty: Controlling terminal's device number, 0 for none.
        desktop_session: Windows: number of the logon session (Remote Desktop Services); -1 elsewhere.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    start: int
    state: str
    comm: str
    kernel: bool = False
    tty: int = 0
    desktop_session: int = -1


# --------------------------------------------------------------------------- facts


class SignalSets(Record):
    """What a process does with signals: bit N-1 of each mask stands for signal N (proc_pid_status(5)).

    Attributes:
        ignored: SigIgn.
        caught: SigCgt.
        blocked: Blocked in every thread (the intersection of SigBlk over the threads).
        pending: Sent and not yet acted on (SigPnd of the main thread, and ShdPnd).
        waited: Taken by sigwait or sigtimedwait in some thread, or by a signalfd that the process holds.
        waited_known: Whether `waited` could be read completely; it needs the rights of ptrace(2).
    """

    ignored: int = 0
    caught: int = 0
    blocked: int = 0
    pending: int = 0
    waited: int = 0
    waited_known: bool = True


class Listener(Record):
    """A port on which somebody listens.

    Attributes:
        proto: `tcp` or `udp`.
        address: The local address as text, `*` for any.
        port: Port number.
        inode: The socket's inode number.
        pids: Who holds the socket, as far as we may see.
        uid: Owner of the socket, -1 if unknown.
    """

    proto: str
    address: str
    port: int
    inode: int
    pids: tuple[int, ...] = ()
    uid: int = -1

    def __str__(self) -> str:
        return f"{'udp' if self.proto == 'udp' else ''}:{self.port}"


class Manager(Record):
    """Who looks after a process and may start it again.

    Attributes:
        kind: `systemd`, `docker`, `podman`, `kubernetes`, `containerd`, `supervisord`, `runit`, `s6`, `daemontools`, `pm2`, `cron`, `tmux`, `screen`, `loop`, `wine`, ...
        name: Its own name for the process: the unit, the container id, the program.
        stop: The manager's own stop command, empty if it has none.
        restarts: `yes`, `no` or `unknown`: whether it starts the process again after a stop.
        because: The facts that this rests on.
        certain: False for a guess.
        pid: The managing process where it is visible, else 0.
    """

    kind: str
    name: str
    stop: str = ""
    restarts: str = "unknown"
    because: str = ""
    certain: bool = True
    pid: int = 0


class Window(Record):
    """A top-level or message-only window of a process (Windows).

    Attributes:
        handle: HWND.
        title: Its text, as GetWindowText gives it.
        class_name: Name of its window class.
        visible: Whether it has WS_VISIBLE.
        enabled: Whether it takes input; a window that a dialog has disabled does not.
        owner: HWND of the window that owns it, 0 for none.
        thread: Id of the thread that made it.
        role: `main` (visible, enabled or not, without an owner), `owned`, `dialog`, `hidden`, `tool`, `message-only`, `console`, or `helper` (made by the system for the process: never a target of a request).
        texts: For a dialog: its static texts, top to bottom.
        buttons: For a dialog: the texts of its buttons.
    """

    handle: int
    title: str = ""
    class_name: str = ""
    visible: bool = False
    enabled: bool = True
    owner: int = 0
    thread: int = 0
    role: str = "main"
    texts: tuple[str, ...] = ()
    buttons: tuple[str, ...] = ()


class Service(Record):
    """A service of the Windows service manager that a process hosts.

    Attributes:
        name: Service name, as `sc query` takes it.
        display: Its display name.
        state: `running`, `stopped`, `stop-pending`, `start-pending`, `paused`, ... or `unknown`.
        accepts_stop: Whether it takes SERVICE_CONTROL_STOP now.
        dependents: Names of running services that depend on it.
        recovery: What the service manager does when it dies, in words; empty when nothing or unknown.
        restarts: Whether a recovery action starts it again; None when that could not be read.
    """

    name: str
    display: str = ""
    state: str = "unknown"
    accepts_stop: bool = False
    dependents: tuple[str, ...] = ()
    recovery: str = ""
    restarts: bool | None = None


class WindowsFacts(Record):
    """What only Windows knows of a process; a field that could not be read is None, empty or `unknown`, and `Facts.unknown` says why.

    Attributes:
        kind: `service`, `packaged`, `gui` (has windows of its own), `gui-windowless` (Windows subsystem, none), `console`, `system`, `unknown`.
        subsystem: `gui`, `console`, `native` or empty, from the PE header.
        machine: `x64`, `x86`, `arm64`, ... or empty.
        same_machine: Whether a thread of ours can run code there (same architecture); None if unknown.
        runtime: `cpython`, `dotnet`, `java`, `node`, `go`, `cmd`, `powershell`, `msys`, or empty.
        console: `this` (the one we are on), `another`, `none`, `unknown`.
        console_pids: Everybody on its console, itself included: whom a console-wide event hits. Empty when unknown or none.
        ignores_ctrl_c: Whether the process ignores Ctrl+C (ConsoleFlags bit 0, inherited); None if unknown.
        windows: Its windows, front to back.
        hung: Whether its main window does not answer; None when it has no window or was not asked.
        session: Number of its logon session, -1 if unknown.
        same_session: Whether that is ours.
        same_user: Whether it runs as our user; None if unknown.
        integrity: `untrusted`, `low`, `medium`, `high`, `system`, `protected` or empty.
        above_us: Whether its integrity is higher than ours, so that messages and threads are refused; None if unknown.
        critical: Whether Windows stops when it ends (ProcessBreakOnTermination); None if unknown.
        protected: Whether it is a protected process; None if unknown.
        services: Services that it hosts.
        package: Full name of its package, empty for an ordinary program.
        in_job: Whether it is in a job object; None if unknown.
        receiver: Whether it listens to endtask's stop event; None if that could not be asked.
        acknowledges: Whether such a listener can say that it has heard; None where it does not listen, or that could not be asked.
        suspended: Whether all of its threads are suspended; None if unknown.
        wine: Whether this is Wine, which answers some questions in its own way.
    """

    kind: Kind = "unknown"
    subsystem: str = ""
    machine: str = ""
    same_machine: bool | None = None
    runtime: str = ""
    console: str = "unknown"
    console_pids: tuple[int, ...] = ()
    ignores_ctrl_c: bool | None = None
    windows: tuple[Window, ...] = ()
    hung: bool | None = None
    session: int = -1
    same_session: bool = True
    same_user: bool | None = None
    integrity: str = ""
    above_us: bool | None = None
    critical: bool | None = None
    protected: bool | None = None
    services: tuple[Service, ...] = ()
    package: str = ""
    in_job: bool | None = None
    receiver: bool | None = None
    acknowledges: bool | None = None
    suspended: bool | None = None
    wine: bool = False


class WineFacts(Record):
    """What Wine knows of a Windows program that runs under it (Linux); `Facts.unknown` says why a field could not be read.

    Attributes:
        prefix: The folder that its Wine works in (WINEPREFIX), empty if unknown.
        pid: Its process id as Windows programs of that prefix see it, 0 if unknown.
        image: Windows path of the program, empty if unknown.
        subsystem: `gui` or `console`, empty if unknown.
        console: Whether it has a console, so that INT reaches it as Ctrl+C; None if unknown.
        ignores_ctrl_c: Whether it ignores Ctrl+C; None if unknown.
    """

    prefix: str = ""
    pid: int = 0
    image: str = ""
    subsystem: str = ""
    console: bool | None = None
    ignores_ctrl_c: bool | None = None


class Receiver(Record):
    """What the receiver in a process (`endtask_receiver`) says of it.

    Attributes:
        state: `running` (nobody has asked it), `asked`, `hurry`, `ending`; `silent`, `refused` or `unusable`: then nothing else is known.
        name: What the application calls itself, may be empty.
        grace_s: Seconds that it takes where nobody names a deadline.
        left_s: Seconds to its deadline, None as long as nobody has asked.
        heard: The request that it heard, as its system spells it, empty for none.
        ago_s: For how many seconds that is past.
        says: What it told last, in words.
        detail: Why it is `refused` or `unusable`.
    """

    state: ReceiverState
    name: str = ""
    grace_s: float = 0.0
    left_s: float | None = None
    heard: str = ""
    ago_s: float = 0.0
    says: str = ""
    detail: str = ""


class Facts(Record):
    """What could be read about one process; nothing in it is a conclusion.

    A field that could not be read keeps its default, and its name stands in `unknown` with the reason.

    Attributes:
        ref: Identity.
        name: Full name: not cut at 15 bytes where the command line shows the rest.
        ppid: Parent's pid.
        pgid: Process group.
        sid: Session.
        state: Letter of proc_pid_stat(5).
        exited: Whether every thread has exited (a zombie, or gone).
        exe: Path of the executable, empty if unknown.
        cmdline: Arguments.
        uid: Effective user id, -1 if unknown.
        user: User name, or the uid as text.
        age_s: Seconds since it started, -1 if unknown.
        threads: Number of threads.
        tty: Name of the controlling terminal, empty for none.
        kernel: Whether it is a kernel thread.
        signals: Signal dispositions, None if they could not be read.
        namespace_init: Whether it is the first process of a pid namespace below ours.
        other_namespace: Whether it lives in a pid namespace below ours.
        tracer: Pid of its tracer, 0 for none.
        frozen: `v2`, `v1` or empty: its cgroup is frozen by that version's freezer.
        wait_channel: The kernel function that it sleeps in, empty if unknown or none.
        core_dumping: Whether it is writing a core dump.
        cgroup: Its cgroup (v2 path; the systemd v1 path on hybrid systems).
        parent_name: Name of the parent.
        managers: Who looks after it, the nearest first.
        ports: Ports that it listens on.
        reaper: Whether the parent is only the reaper of orphans (init or a subreaper that did not start it).
        unknown: Pairs of field name and reason.
        windows: What only Windows knows, None elsewhere.
        wine: What Wine knows of a Windows program on Linux, None for all others.
        may_signal: Whether the system lets us send it a signal; None if that is unknown, or the system has none (Windows).
        receiver: What its receiver says, None if it has none or nobody asked for it.
    """

    ref: PidRef
    name: str
    ppid: int = 0
    pgid: int = 0
    sid: int = 0
    state: str = "?"
    exited: bool = False
    exe: str = ""
    cmdline: tuple[str, ...] = ()
    uid: int = -1
    user: str = ""
    age_s: float = -1.0
    threads: int = 1
    tty: str = ""
    kernel: bool = False
    signals: SignalSets | None = None
    namespace_init: bool = False
    other_namespace: bool = False
    tracer: int = 0
    frozen: str = ""
    wait_channel: str = ""
    core_dumping: bool = False
    cgroup: str = ""
    parent_name: str = ""
    managers: tuple[Manager, ...] = ()
    ports: tuple[Listener, ...] = ()
    reaper: bool = False
    unknown: tuple[tuple[str, str], ...] = ()
    windows: WindowsFacts | None = None
    wine: WineFacts | None = None
    may_signal: bool | None = None
    receiver: Receiver | None = None


class Prediction(Record):
    """What one request would do to one process.

    Attributes:
        request: Name of the request, as in a plan.
        answer: The word for what happens.
        certain: Whether it follows from facts alone; False for a guess or an unreadable fact.
        because: The facts that it rests on, in words.
    """

    request: str
    answer: Answer
    certain: bool = True
    because: str = ""


class Forecast(Record):
    """How a process would answer, derived from its facts.

    Attributes:
        predictions: One for each request that was asked about.
        notes: Sentences about its state: zombie and its parent, stopped, traced, frozen.
        advice: What to do, in sentences; empty when asking it directly is right.
        passes_on: Whether it passes a request on to its children; None if unknown or no children.
        ask_instead: Pid of the process to ask, 0 for itself.
    """

    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    passes_on: bool | None = None
    ask_instead: int = 0

    def answer(self, request: str) -> Answer:
        """Return the word for *request*, `unknown` if it was not asked about."""
        for prediction in self.predictions:
            if prediction.request == request:
                return prediction.answer
        return "unknown"


# --------------------------------------------------------------------------- what to do


class Request(Record):
    """One way of asking or forcing, named as the operating system names it.

    Attributes:
        name: As the operating system spells it: `TERM`, `KILL`, `WM_CLOSE`, `CTRL_BREAK`, `SERVICE_STOP`; `stdin:q`, `cmd:...`; `CHANNEL` for the receiver in the process; `ask` for whatever is the politest way that the process can hear.
        kind: `signal`, `stdin`, `command`, `channel` or `ask`; on Windows `event`, `window`, `inject`, `console`, `service`, `terminate` as well.
        number: Of the signal, the window message or the console event; -1 for none; of the rung for kind `ask`.
        text: What is written to standard input, the command line, or a detail of the request (`dependents` for SERVICE_STOP).
        forced: Whether the process cannot refuse it.
    """

    name: str
    kind: str = "signal"
    number: int = 0
    text: str = ""
    forced: bool = False

    def __str__(self) -> str:
        return self.name


class Step(Record):
    """One request and how long to wait for its effect.

    Attributes:
        request: What to send.
        wait_s: Seconds until the next step; None means all that is left of the budget.
    """

    request: Request
    wait_s: float | None = None


class Scope(Record):
    """Which processes belong to a target.

    Attributes:
        kind: `tree` (what it owns), `only`, `group`, `session`, `cgroup`.
        keep: Members that are left alone.
    """

    kind: ScopeKind = "tree"
    keep: tuple[PidRef, ...] = ()


class Planned(Record):
    """One member of a target and what the plan would do to it.

    Attributes:
        ref: Identity.
        name: Process name.
        tie: Why it belongs to the target: `target`, `child of 12`, `session 12`, `group 12`, `cgroup /x`, `mark`, `started while stopping`.
        when: In words: `first`, `with it`, `after 5 s`, `left alone`.
        asked: Names of the requests, in order.
        answers: What each would do, same order.
        receiver: What its receiver says, None if it has none.
    """

    ref: PidRef
    name: str
    tie: str
    when: str
    asked: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    receiver: Receiver | None = None


class TargetPlan(Record):
    """What a stop would do for one target: the same processes, in the same order, as the stop itself.

    Attributes:
        what: The WHAT that selected it.
        ref: The target.
        name: Its name.
        members: Everything in scope, the target first.
        steps: Pairs of request name and second at which it would be sent.
        budget_s: Seconds for everything.
        watch_s: Seconds for which a respawn is watched for afterwards.
        watch_because: Why that long.
        suspects: Orphans that may have come from this target and that no tie proves.
        warnings: What should be known before.
        extend_s: By so many seconds at most everything is moved if an application asks for more time.
    """

    what: str
    ref: PidRef
    name: str
    members: tuple[Planned, ...]
    steps: tuple[tuple[str, float], ...]
    budget_s: float
    watch_s: float = 0.0
    watch_because: str = ""
    suspects: tuple[Suspect, ...] = ()
    warnings: tuple[str, ...] = ()
    extend_s: float = 0.0


# --------------------------------------------------------------------------- what came of it


class Receipt(Record):
    """What the operating system said to a request; never a proof of an end.

    Attributes:
        request: Name of the request.
        status: `delivered` (the system took it), `gone` (there was nobody), `denied`, `impossible`, `failed`, `vetoed` (the program itself answered no).
        at_s: Seconds since the start of the run.
        detail: The call and its error, or what was done.
    """

    request: str
    status: ReceiptStatus
    at_s: float = 0.0
    detail: str = ""


class Said(Record):
    """Something that an application said while it was being stopped: its own words, not a proof of anything.

    Attributes:
        kind: `heard` (the request has arrived), `tell` (progress), `need` (more time wanted), `veto` (it refuses), `shield` (not now), `cleanup` (a step of it is done),
            `refused` (it does not speak with us), `closed` (we do not listen any more: it said too much, or nothing that can be understood).
        at_s: Seconds since the start of the run.
        text: In its words, printable and at most 500 characters; for `heard` the request as its system spells it.
        done: So many are done, None if it does not count.
        total: Of so many, None if it does not count.
        seconds: For `heard`: so long after it was sent, None if that was not by us; for `need`: so many more from then on; for `shield`: at most so long; for `cleanup`: it took so long.
        granted_s: For `need`: by so many seconds everything was moved.
        missing_s: For `need`: so many seconds it wants that it did not get.
        until_s: For `need`: when its time is over, in seconds since the start of the run.
    """

    kind: SaidKind
    at_s: float
    text: str = ""
    done: int | None = None
    total: int | None = None
    seconds: float | None = None
    granted_s: float = 0.0
    missing_s: float = 0.0
    until_s: float | None = None


class ProcessEnd(Record):
    """How a process ended, as far as the kernel tells.

    Attributes:
        status: Exit status, 0..255 (Windows: 0..0xFFFFFFFF), None if a signal ended it or it is unknown.
        signal: Number of the signal that ended it, 0 for none.
        core: Whether a core dump was written.
        source: Where it was read: `pidfd`, `stat`, `wait`, `handle` (Windows), or empty when unknown.
        why_unknown: The reason when neither status nor signal is known.
        unreaped_by: Pid of the parent that has not reaped it, 0 when it was reaped or nobody knows.
        unreaped_name: Name of that parent.
    """

    status: int | None = None
    signal: int = 0
    core: bool = False
    source: str = ""
    why_unknown: str = ""
    unreaped_by: int = 0
    unreaped_name: str = ""

    @property
    def known(self) -> bool:
        """Whether the kernel told how it ended."""
        return bool(self.source)


class Evidence(Record):
    """One thing that shows the end.

    Attributes:
        mechanism: `pidfd`, `procfd`, `handle` (Windows), `process-table`, `fork-events`, `cgroup-empty`, `job-empty` (Windows), `subreaper`, `port-free`, ...
        strength: `proved`, `observed` or `unproven`.
        text: In words.
        at_s: When it was seen.
    """

    mechanism: str
    strength: Strength
    text: str
    at_s: float = 0.0


class Reason(Record):
    """Why a process is still there, or why nothing was proved.

    Attributes:
        code: Short and stable, for programs: `ignored`, `blocked`, `stopped`, `traced`, `frozen`, `uninterruptible`, `namespace-init`, `handler`, `zombie`, `not-permitted`, `port-held`, `heard`, `needs-time`, `vetoed`, ...;
            on Windows also `dialog`, `question`, `hung`, `swallowed`, `hidden`, `windowless`, `disabled`, `suspended`, `batch-question`, `service`, `service-stopping`, `critical`, `protected`, `integrity`, `session`.
        text: For people.
        certain: False for a guess.
        next: What could be done, or empty.
        pid: Whom it is about, 0 for the target as a whole.
    """

    code: str
    text: str
    certain: bool = True
    next: str = ""
    pid: int = 0


class Suspect(Record):
    """A process that may belong to the target without a tie that proves it: named, never signalled.

    Attributes:
        ref: Identity.
        name: Process name.
        because: The facts that raise the suspicion.
        ports: Ports that it listens on.
    """

    ref: PidRef
    name: str
    because: str
    ports: tuple[str, ...] = ()


class PortState(Record):
    """A port that the target was named by, after the stop.

    Attributes:
        port: As in the WHAT: `:3000`, `udp:53`.
        free: Whether nobody listens on it any more.
        holder: Who does, in words, empty when free.
        holder_pid: Its pid, 0 when free or unknown.
        ours: Whether the holder belongs to the target (then the stop has failed).
        at_s: When it was looked at.
    """

    port: str
    free: bool
    holder: str = ""
    holder_pid: int = 0
    ours: bool = False
    at_s: float = 0.0


class Respawn(Record):
    """A process that took the place of one that had stopped.

    Attributes:
        ref: The new process.
        name: Its name.
        by: Who started it, in words.
        next: How to stop it for good.
        at_s: When it was seen.
        because: What shows that it is the same program, in words.
    """

    ref: PidRef
    name: str
    by: str
    next: str = ""
    at_s: float = 0.0
    because: str = ""


class MemberReport(Record):
    """What became of one process in scope.

    Attributes:
        ref: Identity.
        name: Process name.
        tie: Why it is in scope.
        exited: Whether its exit was seen on the handle.
        exited_at_s: When, None if it has not.
        end: How it ended, None while it runs.
        forced: Whether a forced request was delivered to it before it ended.
        receipts: Everything that was sent, in order.
        kept: Whether it was left alone by `keep`.
        said: What its receiver said, in order; of more than 64 words the oldest `tell` are left out.
    """

    ref: PidRef
    name: str
    tie: str
    exited: bool
    exited_at_s: float | None = None
    end: ProcessEnd | None = None
    forced: bool = False
    receipts: tuple[Receipt, ...] = ()
    kept: bool = False
    said: tuple[Said, ...] = ()


class TargetReport(Record):
    """The verdict on one target.

    Attributes:
        what: The WHAT that selected it.
        ref: The target.
        name: Its name.
        outcome: The word.
        elapsed_s: Seconds from the start until the verdict.
        members: Every process in scope, the target first.
        evidence: What shows it; `stopped` and `forced` never come without.
        reasons: Why not, when the outcome is another one.
        ports: Ports that it was named by.
        respawn: Who took its place.
        suspects: Processes that may belong to it.
        next: What the user can do.
        granted_s: By so many seconds everything was moved because an application asked for more time.
    """

    what: str
    ref: PidRef
    name: str
    outcome: Outcome
    elapsed_s: float = 0.0
    members: tuple[MemberReport, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    reasons: tuple[Reason, ...] = ()
    ports: tuple[PortState, ...] = ()
    respawn: Respawn | None = None
    suspects: tuple[Suspect, ...] = ()
    next: str = ""
    granted_s: float = 0.0

    @property
    def survivors(self) -> tuple[MemberReport, ...]:
        """Members whose exit was not seen and that were not kept on purpose."""
        return tuple(m for m in self.members if not m.exited and not m.kept)


class Missing(Record):
    """A WHAT to which nothing answered.

    Attributes:
        what: The WHAT.
        text: Why, in words.
        code: `no-match`, `gone`, `stale`, `not-permitted`.
    """

    what: str
    text: str
    code: str = "no-match"


# Rank of the exit codes: the first one that applies wins (command line reference).
_RANK = (3, 2, 77, 124, 130, 11, 10, 1, 0)
_OUTCOME_CODE: dict[str, int] = {
    "stopped": 0,
    "already-gone": 0,
    "forced": 10,
    "respawned": 11,
    "running": 124,
    "vetoed": 124,
    "not-permitted": 77,
    "unreachable": 77,
    "unproven": 3,
}


def worst_code(codes: tuple[int, ...]) -> int:
    """Return the exit code of highest rank, 0 for none."""
    return min(codes, key=_RANK.index, default=0)


class Report(Record):
    """The answer to one run.

    Attributes:
        targets: One verdict for each target.
        missing: Each WHAT that matched nothing.
        elapsed_s: Seconds of the whole run.
        cancelled: Whether the user stopped us in the middle.
        missing_ok: Whether nothing to stop counts as success.
        force_ok: Whether a forced end counts as success.
        schema: Name and version of the JSON form.
    """

    targets: tuple[TargetReport, ...]
    missing: tuple[Missing, ...] = ()
    elapsed_s: float = 0.0
    cancelled: bool = False
    missing_ok: bool = False
    force_ok: bool = False
    schema: str = REPORT_SCHEMA

    @property
    def exit_code(self) -> int:
        """The exit code of the command for this report."""
        codes = [_OUTCOME_CODE[t.outcome] for t in self.targets]
        if self.force_ok:
            codes = [0 if c == 10 else c for c in codes]
        for m in self.missing:
            codes.append(77 if m.code == "not-permitted" else 0 if self.missing_ok else 1)
        if self.cancelled:
            return 130
        return worst_code(tuple(codes))

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0: all gone, asked politely, shown."""
        return self.exit_code == 0

    @property
    def forced(self) -> bool:
        """Whether any process had to be forced."""
        return any(m.forced for t in self.targets for m in t.members)

    @property
    def survivors(self) -> tuple[MemberReport, ...]:
        """Every process in scope that still runs."""
        return tuple(m for t in self.targets for m in t.survivors)

    def to_json(self) -> dict[str, object]:
        """Return the report as plain data that follows the shipped JSON Schema."""
        return {**document(self), "exit_code": self.exit_code}


class Filter(Record):
    """What narrows every WHAT; every part that is given must hold.

    Attributes:
        user: User name or number of the owner.
        cmdline: Regular expression searched in the arguments joined by blanks.
        cwd: Current directory, exactly.
        older_s: At least that old.
        newer_s: At most that old.
        session: Session id.
        parent: Pid of the parent.
        fi: Filters in the language of taskkill, for example `IMAGENAME eq nginx*`.
    """

    user: str = ""
    cmdline: str = ""
    cwd: str = ""
    older_s: float | None = None
    newer_s: float | None = None
    session: int | None = None
    parent: int | None = None
    fi: tuple[str, ...] = ()


class Policy(Record):
    """How a stop is to be carried out.

    Attributes:
        steps: The requests in order; empty means: only wait.
        budget_s: Seconds for everything, the proof and the respawn watch excepted.
        scope: Which processes belong to a target.
        watch_s: Seconds to watch for a respawn; None: as long as the facts call for.
        all: Whether one word may mean several independent programs.
        missing_ok: Whether nothing to stop counts as success.
        force_ok: Whether a forced end counts as success.
        unattended: Whether nobody sits at the screen: a dialog does not stop the plan (Windows).
        inject: Whether a thread may be started in the process to ask it (Windows).
        console_wide: Whether console events may hit others on the same console (Windows).
        dependents: Whether services that depend on a service may be stopped before it (Windows).
        extend_s: By so many seconds altogether everything may be moved when an application asks for more time; 0: the budget is kept, whatever it asks.
        reason: Why it is stopped, told to an application that has a receiver.
    """

    steps: tuple[Step, ...]
    budget_s: float
    scope: Scope
    watch_s: float | None = None
    all: bool = False
    missing_ok: bool = False
    force_ok: bool = False
    unattended: bool = False
    inject: bool = True
    console_wide: bool = False
    dependents: bool = False
    extend_s: float = 0.0
    reason: str = ""

    def schedule(self) -> tuple[tuple[Request, float, float], ...]:
        """Return each request with the second at which it is sent and the second at which its wait ends."""
        result = []
        at = 0.0
        for index, step in enumerate(self.steps):
            last = index == len(self.steps) - 1
            until = self.budget_s if last or step.wait_s is None else min(at + step.wait_s, self.budget_s)
            result.append((step.request, at, until))
            at = until
        return tuple(result)


class Event(Record):
    """Something that happened during a run, told as it happens.

    Attributes:
        kind: `selected`, `request`, `exited`, `joined` (a new member was found), `heard`, `said`, `needs`, `refuses` (what an application says), `step`, `waiting`, `port`, `watching`, `respawn`, `suspect`, `settled`.
        at_s: Seconds since the start of the run.
        what: The WHAT of the target.
        ref: The process it is about, None for the target as a whole.
        name: Its name.
        text: One line for people, without the time.
        outcome: For `settled`: the word, else empty.
        extended_s: For `needs`: by how many seconds the end of the target's time has been moved so far, within `--extend`; else 0.
    """

    kind: str
    at_s: float
    what: str
    ref: PidRef | None = None
    name: str = ""
    text: str = ""
    outcome: str = ""
    extended_s: float = 0.0


class Member(Record):
    """A process in scope, before anything is sent.

    Attributes:
        ref: Identity.
        name: Process name.
        tie: Why it belongs to the target.
        depth: Distance from the target in the tree, 0 for the target.
        kept: Whether `keep` names it.
    """

    ref: PidRef
    name: str
    tie: str
    depth: int = 0
    kept: bool = False


class Seen(Record):
    """How one process looks: the answer of `look`.

    Attributes:
        what: The WHAT that selected it.
        facts: What could be read.
        forecast: What it would do.
        tree: What it owns, itself first, with their own facts and forecasts left out.
        chain: Names and pids of the ancestors, the parent first.
        suspects: Orphans that may have come from it.
    """

    what: str
    facts: Facts
    forecast: Forecast
    tree: tuple[Member, ...] = ()
    chain: tuple[tuple[int, str], ...] = ()
    suspects: tuple[Suspect, ...] = ()


class Looked(Record):
    """The answer of `look`.

    Attributes:
        seen: One entry for each matching process.
        missing: Each WHAT that matched nothing.
        schema: Name and version of the JSON form.
    """

    seen: tuple[Seen, ...]
    missing: tuple[Missing, ...] = ()
    schema: str = LOOK_SCHEMA

    @property
    def exit_code(self) -> int:
        """0 when every WHAT matched, else 1, or 77 when one may not be seen."""
        return worst_code(tuple(77 if m.code == "not-permitted" else 1 for m in self.missing))

    def to_json(self) -> dict[str, object]:
        """Return plain data that follows the shipped JSON Schema."""
        return {**document(self), "exit_code": self.exit_code}


class Planning(Record):
    """The answer of `plan`: what a stop with the same arguments would do.

    Attributes:
        targets: One plan for each target.
        missing: Each WHAT that matched nothing.
        missing_ok: Whether nothing to stop counts as success.
        schema: Name and version of the JSON form.
    """

    targets: tuple[TargetPlan, ...]
    missing: tuple[Missing, ...] = ()
    missing_ok: bool = False
    schema: str = PLAN_SCHEMA

    @property
    def exit_code(self) -> int:
        """0 when every WHAT matched, else 1, or 77 when one may not be seen."""
        return worst_code(tuple(77 if m.code == "not-permitted" else 0 if self.missing_ok else 1 for m in self.missing))

    def to_json(self) -> dict[str, object]:
        """Return plain data that follows the shipped JSON Schema."""
        return {**document(self), "exit_code": self.exit_code}


class Explained(Record):
    """Why one target is still there.

    Attributes:
        seen: How it looks.
        reasons: What keeps it there, or would keep it there if asked; the strongest first.
        asked_before: What earlier stops of this user sent to it, and what became of that, in words.
    """

    seen: Seen
    reasons: tuple[Reason, ...]
    asked_before: tuple[str, ...] = ()


class Explanation(Record):
    """The answer of `why`.

    Attributes:
        targets: One explanation for each matching process.
        missing: Each WHAT that matched nothing.
        schema: Name and version of the JSON form.
    """

    targets: tuple[Explained, ...]
    missing: tuple[Missing, ...] = ()
    schema: str = WHY_SCHEMA

    @property
    def exit_code(self) -> int:
        """0 when every WHAT matched, else 1, or 77 when one may not be seen."""
        return worst_code(tuple(77 if m.code == "not-permitted" else 1 for m in self.missing))

    def to_json(self) -> dict[str, object]:
        """Return plain data that follows the shipped JSON Schema."""
        return {**document(self), "exit_code": self.exit_code}


def document(record: Record) -> dict[str, object]:
    """Return *record* as the plain data of its JSON form: every `PidRef` as text `pid:token`."""
    from endtask._record import to_data

    data: dict[str, object] = to_data(record, leaf=_ref_text)
    return data


def _ref_text(value: object) -> str | None:
    return str(value) if type(value) is PidRef else None
