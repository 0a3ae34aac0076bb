"""Whole stops on a quiet simulated machine: one story each, told event by event, nothing left to chance.

The random lives of `tests/sim` look for what nobody thought of; here stand the stories that somebody did think of, and that once went wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from endtask import _api
from endtask._backends.sim.backend import SimBackend
from endtask._backends.sim.spec import Op, Spec, World
from endtask._backends.sim.system import System
from endtask._plan import make_policy
from endtask.model import Filter, Policy, Report, Scope

if TYPE_CHECKING:
    from endtask._backends.sim.process import Process
    from endtask.model import Event, TargetReport

TERM, KILL = 15, 9
EXIT = (Op("exit"),)
SLOW_EXIT = (Op("wait", 0.5), Op("exit"))
FORK_WATCH = pytest.mark.parametrize("fork_watch", ["", "exact"], ids=["table", "fork-events"])


class Machine:
    """A simulated machine on which nothing happens by chance."""

    def __init__(self, *roots: Spec, ours: tuple[Spec, ...] = (), **world: object) -> None:
        quiet: dict[str, object] = {"race": 0.0, "stall": 0.0, **world}
        self.system = System(World(**quiet), 1)  # type: ignore[arg-type]  # the fields' own types
        for spec in roots:
            self.system.fork(self.system.init, spec)
        for spec in ours:
            self.system.fork(self.system.shell, spec)
        self.system.settle(1.0)
        self.backend = SimBackend(self.system)
        self.backend.spurious = 0.0
        self.backend.call_limit = 20_000
        self.events: list[Event] = []
        self.signals: list[tuple[str, int]] = []
        self.system.on_signal.append(lambda process, number: self.signals.append((process.name, number)))

    def stop(self, *what: str, policy: Policy | None = None, keep: tuple[str, ...] = ()) -> Report:
        """Stop, and look that nothing stays open or held."""
        report = _api.stop(
            what,
            Filter(),
            policy or make_policy(watch_s=0.0),
            keep=keep,
            on_event=self.events.append,
            backend=self.backend,
        )
        assert not self.backend.pins
        assert not self.backend.open_handles
        assert not [p for p in self.system.everyone if p.held_by_us]
        return report

    def one(self, *what: str, policy: Policy | None = None, keep: tuple[str, ...] = ()) -> TargetReport:
        """Stop one target."""
        (target,) = self.stop(*what, policy=policy, keep=keep).targets
        return target

    def process(self, name: str) -> Process:
        """Return the newest process of that name."""
        return next(p for p in reversed(self.system.everyone) if p.name == name)

    def heard(self, name: str) -> list[int]:
        """Return the signals that were sent to processes of that name."""
        return [number for who, number in self.signals if who == name and number > 0]


def polite(name: str, *children: Spec, after: tuple[Op, ...] = EXIT, **more: object) -> Spec:
    """Return a program that exits on TERM."""
    return Spec(name, on=((TERM, after),), children=children, **more)  # type: ignore[arg-type]  # the fields' own types


def deaf(name: str, *children: Spec, **more: object) -> Spec:
    """Return a program that ignores TERM."""
    return Spec(name, ignored=(TERM,), children=children, **more)  # type: ignore[arg-type]  # the fields' own types


def scoped(kind: str) -> Policy:
    """Return a policy for another scope."""
    return make_policy(scope=Scope(kind), timeout_s=3.0, watch_s=0.0)  # type: ignore[arg-type]  # one of the kinds


# --- what may not be held


@FORK_WATCH
def test_child_without_a_handle_is_never_success(fork_watch: str) -> None:
    """A child that the system lets nobody hold, and that lives: the tree has not stopped, whatever the rest did."""
    machine = Machine(polite("app", deaf("stuck", flags=("no-pin",)), flags=("session",)), fork_watch=fork_watch)
    report = machine.stop("app", policy=make_policy(timeout_s=2.0, watch_s=0.0))
    assert not machine.process("stuck").exited
    assert report.targets[0].outcome in ("not-permitted", "unproven", "running")
    assert not report.ok
    assert any("stuck" in r.text or str(machine.process("stuck").pid) in r.text for r in report.targets[0].reasons)


@FORK_WATCH
def test_child_without_a_handle_that_ends_with_its_parent_is_no_failure(fork_watch: str) -> None:
    """It was told by its parent and is gone at the end."""
    tell = (Op("tell", n=TERM, who="helper"), Op("wait", 0.1), Op("exit"))
    machine = Machine(
        polite("app", polite("helper", flags=("no-pin",)), after=tell, flags=("session",)), fork_watch=fork_watch
    )
    target = machine.one("app")
    if machine.process("helper").exited:
        assert target.outcome == "stopped"


# --- keep


@FORK_WATCH
def test_child_of_a_kept_member_born_meanwhile_is_kept(fork_watch: str) -> None:
    """`--keep` covers what the kept process starts while we stop (demand 3.30)."""
    keeper = deaf("keeper", main=(Op("wait", 1.2), Op("fork", child=Spec("precious"))))
    machine = Machine(polite("app", keeper, after=SLOW_EXIT, flags=("session",)), fork_watch=fork_watch)
    target = machine.one("app", keep=("keeper",))
    assert (machine.heard("keeper"), machine.heard("precious")) == ([], [])
    assert not machine.process("precious").exited
    assert target.outcome == "stopped"


@FORK_WATCH
def test_child_of_a_kept_member_born_meanwhile_is_not_forced(fork_watch: str) -> None:
    """Nor is it forced with the rest."""
    keeper = deaf("keeper", main=(Op("wait", 1.2), Op("fork", child=Spec("precious"))))
    machine = Machine(deaf("app", keeper, flags=("session",)), fork_watch=fork_watch)
    target = machine.one("app", keep=("keeper",), policy=make_policy(plan="TERM/0.5/KILL/2", watch_s=0.0))
    assert (machine.heard("keeper"), machine.heard("precious")) == ([], [])
    assert target.outcome == "forced"


# --- scopes that others can enter


@FORK_WATCH
def test_cgroup_entered_by_a_stranger_meanwhile_is_not_called_empty(fork_watch: str) -> None:
    """`--cgroup` means what is in it in the end, also what no member has forked (as `docker exec` does)."""
    helper = deaf("helper", cgroup="/a.service", flags=("session",))
    machine = Machine(
        polite("app", after=SLOW_EXIT, cgroup="/a.service"),
        Spec("other", cgroup="/b.service", main=(Op("wait", 1.2), Op("fork", child=helper))),
        fork_watch=fork_watch,
    )
    target = machine.one("app", policy=scoped("cgroup"))
    assert not machine.process("helper").exited
    assert target.outcome in ("running", "unproven")


@pytest.mark.parametrize("kind", ["group", "session"])
@FORK_WATCH
def test_survivor_in_the_group_or_session_of_a_dead_target_is_found(kind: str, fork_watch: str) -> None:
    """The target is gone and reaped; its number still names the group and the session."""
    late = deaf("late")
    machine = Machine(
        polite(
            "app",
            Spec("mother", ignored=(TERM,), main=(Op("wait", 1.2), Op("fork", child=late), Op("exit"))),
            after=SLOW_EXIT,
            flags=("session",),
        ),
        fork_watch=fork_watch,
    )
    target = machine.one("app", policy=scoped(kind))
    assert not machine.process("late").exited
    assert target.outcome == "running"
    assert "late" in [m.name for m in target.survivors]


# --- ports


def test_two_programs_on_one_port_stop_both() -> None:
    """Each is a target; the one that ends first is not blamed for the other (SO_REUSEPORT, two addresses)."""
    machine = Machine(polite("one", ports=(80,)), polite("two", after=SLOW_EXIT, ports=(80,)), fork_watch="exact")
    report = machine.stop(":80", policy=make_policy(all=True, watch_s=0.0))
    assert ["stopped", "stopped"] == [t.outcome for t in report.targets]
    assert report.ok


def test_two_programs_on_the_second_port_of_one_stop_both() -> None:
    """Whichever of its words a target shares with another."""
    machine = Machine(polite("one", ports=(80, 443)), polite("two", after=SLOW_EXIT, ports=(443,)), fork_watch="exact")
    report = machine.stop(":80", ":443", policy=make_policy(all=True, watch_s=0.0))
    assert ["stopped", "stopped"] == [t.outcome for t in report.targets]
    assert report.ok


def test_port_of_a_kept_member_is_told_as_kept() -> None:
    """The port stays held because the user wanted so; nothing false is said about its holder."""
    machine = Machine(polite("app", Spec("child"), ports=(80,), flags=("session",)))
    target = machine.one(":80", keep=("child",))
    assert target.outcome == "stopped"
    assert not any("started after" in r.text for r in target.reasons)


def test_port_taken_by_a_stranger_is_not_our_failure() -> None:
    """A new foreign listener on the port (demand 3.11)."""
    newcomer = Spec("newcomer", main=(Op("wait", 1.55), Op("listen", n=80)))
    machine = Machine(polite("app", after=SLOW_EXIT, ports=(80,)), newcomer)
    assert machine.one(":80").outcome in ("stopped", "unproven")


# --- the polite order, whole


def test_children_are_left_to_a_target_that_catches() -> None:
    """The target ends its child itself: nobody else is asked."""
    tell = (Op("tell", n=TERM, who="worker"), Op("join"), Op("exit"))
    machine = Machine(polite("app", polite("worker"), after=tell, flags=("session",)))
    target = machine.one("app")
    assert target.outcome == "stopped"
    assert machine.heard("app") == [TERM]
    assert [[], []] == [list(m.receipts) for m in target.members if m.name == "worker"] + [[]] * (
        2 - len([m for m in target.members if m.name == "worker"])
    )


def test_wrapper_without_handler_is_asked_with_its_child() -> None:
    """`sh -c app`: both at once, so that the app is not orphaned unasked."""
    machine = Machine(Spec("sh", children=(polite("app"),), flags=("session",)))
    assert machine.one("sh").outcome == "stopped"
    assert (machine.heard("sh"), machine.heard("app")) == ([TERM], [TERM])


def test_stopped_process_is_continued_after_the_request() -> None:
    """TERM, then CONT (demand 3.22)."""
    machine = Machine(polite("app", flags=("stopped",)))
    assert machine.one("app").outcome == "stopped"
    assert machine.heard("app") == [TERM, 18]


def test_nothing_is_forced_that_was_not_planned() -> None:
    """A deaf process is running in the end, and heard only TERM (demand 3.1, 3.26)."""
    machine = Machine(deaf("app"))
    report = machine.stop("app", policy=make_policy(timeout_s=1.0))
    assert ("running", 124) == (report.targets[0].outcome, report.exit_code)
    assert machine.heard("app") == [TERM]
    assert ["ignored"] == [r.code for r in report.targets[0].reasons]


@FORK_WATCH
@pytest.mark.parametrize("sweep", ["cgroup.kill", "cgroup-freeze", "sigstop"])
def test_fork_storm_is_ended_by_force(fork_watch: str, sweep: str) -> None:
    """A tree that forks while it dies: nobody survives (demand 3.6)."""
    bomb = deaf("bomb", main=(Op("forks", 0.002, 300, child=deaf("shard")),))
    machine = Machine(bomb, fork_watch=fork_watch, sweep=sweep)
    target = machine.one("bomb", policy=make_policy(plan="TERM/0.1/KILL/5", watch_s=0.0))
    assert target.outcome == "forced"
    assert [p for p in machine.system.everyone if p.name in ("bomb", "shard") and not p.exited] == []


def test_zombie_is_exited_and_its_parent_named() -> None:
    """No timeout is spent on it, and who has not reaped it is said (demand 3.7)."""
    machine = Machine(Spec("lazy", reap_s=-1.0, children=(polite("app"),)))
    target = machine.one("app")
    assert target.outcome == "stopped"
    end = target.members[0].end
    assert end is not None
    assert end.unreaped_name == "lazy"
    assert target.elapsed_s < 1.0


def test_supervised_program_is_respawned() -> None:
    """Who started it again, and how to stop it for good (demand 3.25)."""
    machine = Machine(Spec("supervisord", restart_s=0.5, restarts=3, children=(polite("app"),)))
    report = machine.stop("app", policy=make_policy())
    assert ("respawned", 11) == (report.targets[0].outcome, report.exit_code)
    assert "supervisor" in report.targets[0].next


def test_process_of_another_user_is_not_permitted_and_not_gone() -> None:
    """EPERM (demand 3.10)."""
    machine = Machine(deaf("app", uid=1001), uid=1000)
    report = machine.stop("app")
    assert ("not-permitted", 77) == (report.targets[0].outcome, report.exit_code)


def test_target_owned_by_another_target_is_asked_once() -> None:
    """Two words for one tree: one request each (demand 3.18)."""
    machine = Machine(polite("app", polite("helper"), flags=("session",)))
    report = machine.stop("app", "helper", policy=make_policy(watch_s=0.0))
    assert ["stopped", "stopped"] == [t.outcome for t in report.targets]
    assert machine.heard("helper") == [TERM]


def test_every_port_that_named_a_target_is_looked_at() -> None:
    """Two ports of one server, and its name: the report says of both that they are free."""
    machine = Machine(polite("server", flags=("session",), ports=(3000, 3001)))
    report = machine.stop(":3000", ":3001", "server", policy=make_policy(watch_s=0.0))
    assert [t.outcome for t in report.targets] == ["stopped"]
    assert [(p.port, p.free) for p in report.targets[0].ports] == [(":3000", True), (":3001", True)]


def test_survivor_has_the_name_that_it_has_by_now() -> None:
    """A shell is found between its fork and its execve; the report and its reasons call it the same."""
    machine = Machine(Spec("sh", on=((TERM, (Op("exec", who="sleep"),)),), flags=("session",)))
    (target,) = machine.stop("sh", policy=make_policy(timeout_s=1.0, watch_s=0.0)).targets
    assert ["sleep"] == [m.name for m in target.survivors]
    assert all("sleep" in r.text for r in target.reasons), target.reasons


# --- refusals that two targets share


def test_refusal_is_told_to_every_target_that_owns_the_process() -> None:
    """Asked once as a child and refused: as a target of its own it is not permitted, not merely running."""
    machine = Machine(Spec("app", uid=1000, children=(deaf("child", uid=1001),), flags=("session",)), uid=1000)
    report = machine.stop("app", "child", policy=make_policy(timeout_s=2.0, watch_s=0.0))
    assert ["not-permitted", "not-permitted"] == [t.outcome for t in report.targets]
    assert not any(r.code == "not-asked" for t in report.targets for r in t.reasons)


CROWD = tuple(Spec(f"filler{n}") for n in range(80))


@FORK_WATCH
def test_newborn_without_a_handle_is_never_success(fork_watch: str) -> None:
    """Born while we stop, on a machine with many processes, and nobody may hold it: it is not forgotten."""
    late = deaf("late", flags=("no-pin",))
    app = polite("app", after=(Op("fork", child=late), Op("wait", 0.2), Op("exit")), flags=("session",))
    machine = Machine(app, *CROWD, fork_watch=fork_watch)
    report = machine.stop("app", policy=make_policy(timeout_s=2.0, watch_s=0.0))
    assert not machine.process("late").exited
    assert report.targets[0].outcome in ("not-permitted", "unproven", "running")
    assert not report.ok


# --- other requests


def test_line_on_standard_input_stops_and_is_told() -> None:
    """`stdin:q` reaches the main process; its name stands on the receipt."""
    app = Spec("app", on=((65, EXIT),), ignored=(TERM,), flags=("stdin",))
    target = Machine(app).one("app", policy=make_policy(plan="stdin:q/2/TERM/1", watch_s=0.0))
    assert target.outcome == "stopped"
    assert ["stdin:q"] == [r.request for r in target.members[0].receipts]


def test_process_without_the_asked_way_is_unreachable() -> None:
    """Its standard input is no pipe: said at once, and no signal is sent instead."""
    machine = Machine(polite("app"))
    report = machine.stop("app", policy=make_policy(plan="stdin:q/5", watch_s=0.0))
    assert ("unreachable", 77) == (report.targets[0].outcome, report.exit_code)
    assert machine.signals == []
    assert report.elapsed_s < 1.0


@pytest.mark.parametrize("child_lists", [True, False])
def test_child_that_was_born_late_is_forced_with_its_parent(child_lists: bool) -> None:
    """Nobody reports births; where the system lists no children either, it is not taken to have none."""
    child = deaf("late")
    app = deaf("app", main=(Op("wait", 1.3), Op("fork", child=child), Op("wait", 100.0)))
    machine = Machine(Spec("shell", children=(app,)), fork_watch="", child_lists=child_lists)
    report = machine.stop("app", policy=make_policy(force_after_s=1.0, watch_s=0.0))
    assert machine.process("late").exited
    assert ("forced", 10) == (report.targets[0].outcome, report.exit_code)


def test_many_that_are_forced_at_the_same_time_share_the_looks_at_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where orphans keep their parent's pid (Windows) there is no list of children: a table for each of two hundred targets makes the last one seconds late."""
    monkeypatch.setattr(SimBackend, "reparents", property(lambda _self: False))
    looks: list[str] = []
    table, children = SimBackend.table, SimBackend.children

    def one_table(self: SimBackend) -> object:
        looks.append("table")
        return table(self)

    def one_list(self: SimBackend, pid: int) -> object:
        looks.append("children")
        return children(self, pid)

    monkeypatch.setattr(SimBackend, "table", one_table)
    monkeypatch.setattr(SimBackend, "children", one_list)
    late = (Op("wait", 1.3), Op("fork", child=deaf("late")), Op("wait", 100.0))
    machine = Machine(Spec("shell", children=tuple(deaf("app", main=late) for _ in range(20))), fork_watch="")
    report = machine.stop("app", policy=make_policy(force_after_s=1.0, all=True, watch_s=0.0))
    assert ["forced"] * 20 == [t.outcome for t in report.targets]
    assert all(p.exited for p in machine.system.everyone if p.name == "late")
    assert len(looks) < 20


# --- escapees


BORN = pytest.mark.parametrize("daemon", [False, True], ids=["child-of-a-shell", "daemon"])


@BORN
@FORK_WATCH
def test_escapee_from_before_is_a_suspect_and_no_success(fork_watch: str, daemon: bool) -> None:
    """Double fork, own session, before we looked: no tie is left but what it inherited; it is named and not signalled."""
    escapee = deaf("escapee", flags=("session",))
    middle = Spec("middle", main=(Op("fork", child=escapee), Op("exit")), flags=("session",))
    app = polite("app", middle, environ="unique to app", flags=("session",))
    machine = Machine(*([app] if daemon else []), ours=() if daemon else (app,), fork_watch=fork_watch)
    report = machine.stop("app")
    assert ("unproven", 3) == (report.targets[0].outcome, report.exit_code)
    assert ["escapee"] == [s.name for s in report.targets[0].suspects]
    assert machine.heard("escapee") == []


@pytest.mark.parametrize(("thing", "said"), [("pipe:[7]", "pipe:[7]"), ("deleted:64:7", "a deleted file")])
def test_suspect_that_shares_an_open_object_is_told_so(thing: str, said: str) -> None:
    """In words: the device and inode of a file without a name mean nothing to anybody."""
    escapee = deaf("escapee", flags=("session",))
    middle = Spec("middle", main=(Op("fork", child=escapee), Op("exit")), flags=("session",))
    machine = Machine(polite("app", middle, objects=(thing,), flags=("session",)))
    (suspect,) = machine.stop("app").targets[0].suspects
    assert f"has {said} open, as " in suspect.because


@BORN
@FORK_WATCH
@pytest.mark.parametrize("hop_s", [0.03, 0.2])
def test_suspect_that_goes_on_in_a_child_has_not_ended(fork_watch: str, daemon: bool, hop_s: float) -> None:
    """A program that forks, lets its parent exit, and so on for ever has another pid at each look; its end would be a lie."""
    hop = deaf("hop")
    for _ in range(round(3 / hop_s)):
        hop = Spec("hop", main=(Op("wait", hop_s), Op("fork", child=hop), Op("exit")))
    escapee = Spec("hop", main=(Op("fork", child=hop), Op("exit")), flags=("session",))
    middle = Spec("middle", main=(Op("fork", child=escapee), Op("exit")), flags=("session",))
    app = polite("app", middle, environ="unique to app", flags=("session",))
    machine = Machine(*([app] if daemon else []), ours=() if daemon else (app,), fork_watch=fork_watch)
    report = machine.stop("app")
    assert ("unproven", 3) == (report.targets[0].outcome, report.exit_code)
    assert ["hop"] == [s.name for s in report.targets[0].suspects]


@BORN
@FORK_WATCH
def test_escapee_that_flees_while_we_stop_is_found(fork_watch: str, daemon: bool) -> None:
    """A TERM handler that forks a successor into a session of its own: stopped too, or named, never success in silence."""
    flees = (Op("fork", child=polite("fled", flags=("session",))), Op("exit"))
    app = polite("app", after=flees, flags=("session",), environ="unique to app")
    machine = Machine(*([app] if daemon else []), ours=() if daemon else (app,), fork_watch=fork_watch)
    target = machine.one("app")
    gone = machine.process("fled").exited
    assert (target.outcome == "stopped") is gone
    assert gone or not fork_watch


def test_other_daemon_of_the_same_script_is_at_most_named() -> None:
    """Two daemons that one script started look alike: the younger may be named as a guess, the older cannot have come from the target, and neither is touched."""
    twins = (polite("app", flags=("session",)), Spec("twin", flags=("session",)))
    starts = (Op("wait", 0.3), *(Op("fork", child=twin) for twin in twins), Op("exit"))
    elder = Spec("elder", environ="of the script", flags=("session",))
    machine = Machine(elder, Spec("script", environ="of the script", main=starts))
    target = machine.one("app")
    assert target.outcome in ("stopped", "unproven")
    assert {s.name for s in target.suspects} <= {"twin"}
    assert not any(r.certain for r in target.reasons if r.code == "suspect")
    assert (machine.heard("twin"), machine.heard("elder")) == ([], [])


def test_another_daemon_of_the_same_script_is_no_suspect_of_a_polite_end() -> None:
    """What was there before the target has nothing to do with it."""
    older = Spec("older", flags=("session",))
    machine = Machine(older, polite("app", environ="unique to app", flags=("session",)))
    assert machine.one("app").outcome == "stopped"


# --- descriptors and old kernels


def test_more_targets_than_descriptors_are_stopped_in_turns() -> None:
    """RLIMIT_NOFILE is no excuse."""
    machine = Machine(*(polite("many") for _ in range(60)), capacity=20, processes=200, fork_watch="")
    report = machine.stop("many", policy=make_policy(all=True, watch_s=0.0))
    assert 60 == len(report.targets)
    assert {"stopped"} == {t.outcome for t in report.targets}


def test_kernel_without_pidfds_is_said_in_the_evidence() -> None:
    """The end is observed, not proved, and the sentence says why."""
    target = Machine(polite("app"), pidfd=False).one("app")
    assert target.outcome == "stopped"
    assert target.evidence[0].strength == "observed"
    assert "no pidfds" in target.evidence[0].text


# --- many targets

SLOW_CALLS: dict[str, Any] = {
    "call_s": 0.01,
    "processes": 200,
    "fork_watch": "",
}  # to prepare forty targets takes seconds


def test_exits_are_noticed_while_others_are_begun_with() -> None:
    """Each is timed when it happens, not when the last target has been asked."""
    machine = Machine(*(polite("many") for _ in range(40)), **SLOW_CALLS)
    report = machine.stop("many", policy=make_policy(all=True, watch_s=0.0))
    assert {"stopped"} == {t.outcome for t in report.targets}
    members = [t.members[0] for t in report.targets]
    asked = [m.receipts[0].at_s for m in members]
    assert max(asked) - min(asked) > 2.0
    assert max((m.exited_at_s or 99.0) - at_s for m, at_s in zip(members, asked, strict=True)) < 1.0


def test_force_is_neither_late_nor_early_while_others_are_begun_with() -> None:
    """Each target's time runs from its own request."""
    machine = Machine(*(deaf("many") for _ in range(40)), **SLOW_CALLS)
    policy = make_policy(plan="TERM/0.5/KILL/5", all=True, watch_s=0.0)
    report = machine.stop("many", policy=policy)
    assert {"forced"} == {t.outcome for t in report.targets}
    receipts = [t.members[0].receipts for t in report.targets]
    assert receipts[-1][0].at_s - receipts[0][0].at_s > 2.0
    assert all(0.5 <= killed.at_s - asked.at_s < 1.2 for asked, killed in receipts)


def test_interrupt_is_heard_before_the_last_target_has_been_begun_with() -> None:
    """Who has not been asked by then never is, and the report says so."""
    machine = Machine(*(deaf("many") for _ in range(40)), **SLOW_CALLS)
    policy = make_policy(all=True, watch_s=0.0)
    session = _api.Session(["many"], Filter(), policy, backend=machine.backend)
    steps = session.steps()
    timeout_s = next(steps)
    for _turn in range(5):
        timeout_s = steps.send(session.waiter.wait(timeout_s))
    with pytest.raises(StopIteration) as done:
        steps.throw(KeyboardInterrupt())
    report = done.value.value
    assert report.cancelled
    assert 0 < len(machine.heard("many")) < 40
    assert 40 == len(report.targets)


def test_child_that_a_deaf_target_has_meanwhile_is_named() -> None:
    """Nothing exits and nobody is forced, so without a fork watch only a look at the end finds it."""
    app = deaf("app", main=(Op("wait", 1.3), Op("fork", child=deaf("late"))), flags=("session",))
    target = Machine(app, fork_watch="").one("app", policy=make_policy(timeout_s=2.0, watch_s=0.0))
    assert ("running", ["app", "late"]) == (target.outcome, [m.name for m in target.survivors])
    assert ["not-asked"] == [r.code for r in target.reasons if "late" in r.text]


# --- interrupts


@pytest.mark.parametrize(
    "policy", [make_policy(timeout_s=1.0, watch_s=0.0), make_policy(plan="TERM/0.3/KILL/2")], ids=["ask", "force"]
)
def test_interrupt_at_any_call_leaves_a_report_or_nothing_done(policy: Policy) -> None:
    """Ctrl+C after each call to the system in turn, heard in the next wait: whatever was sent stands in a report, nothing stays held or open (reference: exit 130)."""
    number = 1
    while True:
        machine = Machine(polite("app", deaf("worker"), after=SLOW_EXIT, flags=("session",)))
        machine.backend.cancelled_at = number
        try:
            report = machine.stop("app", policy=policy)
        except KeyboardInterrupt:
            assert machine.signals == [], (
                f"interrupted at call {number} after something was sent, and no report tells of it"
            )
        else:
            if machine.backend.cancelled_at:
                break
            assert (True, 130) == (report.cancelled, report.exit_code), f"interrupted at call {number}"
            told = [r.request for t in report.targets for m in t.members for r in m.receipts]
            sent = [s for s in machine.signals if s[1] > 0]
            assert len(told) == len(sent), f"interrupted at call {number}: sent {sent}, told {told}"
        assert not machine.backend.pins
        assert not [p for p in machine.system.everyone if p.held_by_us]
        number += 1
    assert number > 5
