"""Lives that once broke a promise, made small; each is named after what went wrong."""

from __future__ import annotations

import pytest

from endtask._backends.sim.spec import Life, Op, Spec, World

from .drive import live

TARGET_ALONE = ("pid=target",)
EXIT = (Op("exit"),)

LIVES: dict[str, Life] = {
    "the pid of the ended target belongs to a stranger": Life(
        1,
        World(pid_max=48, child_lists=False),
        (
            Spec(
                "sh",
                restart_s=0.0,
                restarts=3,
                children=(
                    Spec(
                        "target",
                        children=(
                            Spec("job"),
                            Spec("app", children=(Spec("worker", (Op("fork", child=Spec("worker")),)),)),
                        ),
                    ),
                ),
            ),
            Spec("churner", (Op("forks", 0.01, 50, child=Spec("short", EXIT)),)),
        ),
        before_s=0.3,
        what=("ta*",),
    ),
    "a member ends in time, but force reaches its zombie": Life(
        12459,
        World(race=0.4, sweep="cgroup-freeze"),
        (Spec("target", on=((15, ()),), flags=("uninterruptible",), children=(Spec("job"),)),),
        before_s=0.0,
        what=TARGET_ALONE,
        options=(("force_after_s", 0.1),),
    ),
    "keep names a member below another process of that name": Life(
        1,
        World(race=0.0),
        ours=(Spec("job", children=(Spec("db", children=(Spec("job"),)),)),),
        before_s=0.0,
        what=("pid=db",),
        keep=("job",),
    ),
    "a kept process loses its parent while handles are opened": Life(
        7009683,
        World(call_s=0.003, race=0.0, processes=36, forks=150, child_lists=False),
        ours=(
            Spec(
                "target",
                flags=("group",),
                children=(
                    Spec(
                        "a-name-longer-than-fifteen",
                        (Op("wait", 0.02), Op("exit", n=42)),
                        children=(Spec("app"),),
                    ),
                ),
            ),
        ),
        before_s=0.0,
        what=TARGET_ALONE,
        keep=("app",),
    ),
    "a child is born while the table for the verdict is read": Life(
        2,
        World(race=0.0, processes=18, forks=400, fork_watch="lossy", sweep="cgroup.kill"),
        ours=(
            Spec(
                "target",
                children=(
                    Spec(
                        "app",
                        on=((15, (Op("wait", 4.0), Op("fork", child=Spec("app")), Op("exit"))),),
                    ),
                ),
            ),
        ),
        before_s=0.0,
        what=("ta*",),
        options=(("timeout_s", 4.0),),
    ),
    "the main process of the unit is hidden": Life(
        9002390,
        World(race=0.0, processes=36, forks=400, child_lists=False),
        ours=(
            Spec(
                "target",
                (
                    Op(
                        "fork",
                        child=Spec(
                            "target",
                            (Op("fork", child=Spec("target", flags=("session",))), Op("exit")),
                        ),
                    ),
                ),
                cgroup="/system.slice/s13.service",
                flags=("hidden",),
                children=(Spec("web"),),
            ),
        ),
        before_s=0.0,
        what=("target",),
    ),
    "keep names an ancestor of the target": Life(
        1,
        World(race=0.0),
        ours=(Spec("target", children=(Spec("app", children=(Spec("app"),)),)),),
        before_s=0.0,
        what=("pid=app",),
        keep=TARGET_ALONE,
    ),
    "keep names the target": Life(1, World(race=0.0), (Spec("db"),), before_s=0.0, what=("db",), keep=("db",)),
    "a hidden target leads the group of its children": Life(
        1,
        World(race=0.0),
        (Spec("target", flags=("group", "hidden"), children=(Spec("app"),)),),
        before_s=0.0,
        what=("ref=target",),
    ),
    "no handle on a member may be opened": Life(
        1,
        World(race=0.0, child_lists=False),
        (Spec("target", flags=("session",), children=(Spec("db", flags=("no-pin",)),)),),
        before_s=0.0,
        what=("target",),
    ),
    "one target is a member of another": Life(
        2, World(race=0.0), (Spec("target", children=(Spec("target"),)),), before_s=0.0, what=("target", "target")
    ),
    "a member of two targets is killed": Life(
        2,
        World(race=0.0),
        (Spec("target", ignored=(15,), children=(Spec("worker", ignored=(15,)),)),),
        before_s=0.0,
        what=("pid=target", "pid=worker"),
        options=(("force_after_s", 0.5),),
    ),
    "the target starts a helper while it cleans up": Life(
        1,
        World(race=0.4, call_s=0.003, fork_watch="exact"),
        ours=(
            Spec(
                "target",
                on=(
                    (
                        15,
                        (
                            Op(
                                "fork", child=Spec("web", on=((15, (Op("wait", 0.2), Op("exit"))),), flags=("session",))
                            ),
                            Op("wait", 0.3),
                            Op("exit"),
                        ),
                    ),
                ),
                flags=("session",),
            ),
        ),
        before_s=2.0,
        what=("target",),
        options=(("force_after_s", 2.0),),
    ),
    "the deadline passes while a tree that forks is held": Life(
        1,
        World(race=0.0, call_s=0.003, fork_watch="exact"),
        (
            Spec(
                "target",
                ignored=(15,),
                children=(Spec("job", (Op("forks", 0.005, 200, child=Spec("job")),), ignored=(15,)),),
            ),
        ),
        before_s=0.1,
        what=TARGET_ALONE,
        options=(("timeout_s", 0.2), ("force_after_s", 0.15)),
    ),
    "a child is born into the group after the target was reaped": Life(
        1,
        World(race=0.0),
        (
            Spec(
                "target",
                flags=("group",),
                children=(Spec("app", on=((15, (Op("wait", 0.1), Op("fork", child=Spec("web")), Op("exit"))),)),),
            ),
        ),
        before_s=0.0,
        what=TARGET_ALONE,
        options=(("scope", "group"),),
    ),
    "fork events are lost, and an escaped child has only the environment": Life(
        3,
        World(race=0.0, fork_watch="lossy"),
        ours=(
            Spec(
                "target",
                on=(
                    (
                        15,
                        (
                            Op(
                                "forks",
                                0.001,
                                12,
                                child=Spec("middle", (Op("fork", child=Spec("last")), Op("exit")), flags=("session",)),
                            ),
                            Op("exit"),
                        ),
                    ),
                ),
                environ="own",
            ),
        ),
        before_s=0.0,
        what=TARGET_ALONE,
    ),
    "an escaped process has the pid of another target": Life(
        1,
        World(pid_max=48, call_s=2e-05, race=0.0),
        (
            Spec(
                "target",
                (Op("forks", 0.0002, 30, child=Spec("target")),),
                objects=("pipe:1",),
                children=(
                    Spec("app", on=((15, (Op("forks", 0.0002, 15, child=Spec("app")), Op("exit"))),)),
                    Spec("web", (Op("fork", child=Spec("web", EXIT)),), reap_s=5.0),
                ),
            ),
        ),
        before_s=2.0,
        what=("ref=target", "web"),
        options=(("watch_s", 3.0),),
    ),
    "two programs share a scope that their dead shell left": Life(
        1,
        World(race=0.0),
        (Spec("other", cgroup="/user.slice/x.scope"),),
        (Spec("supervisor", children=(Spec("target", cgroup="/user.slice/x.scope"),)),),
        before_s=0.0,
        what=TARGET_ALONE,
    ),
    "an orphan of a service is stopped, its main process is not": Life(
        1,
        World(race=0.0, child_lists=False, sweep="cgroup.kill"),
        (Spec("app", cgroup="/system.slice/a.service", children=(Spec("app", EXIT, children=(Spec("db"),)),)),),
        before_s=0.0,
        what=("pid=db",),
    ),
    "two orphans of one service are not each other's": Life(
        1,
        World(race=0.0),
        (Spec("db", EXIT, cgroup="/system.slice/a.service", children=(Spec("web"), Spec("app"))),),
        before_s=0.0,
        what=("pid=web",),
    ),
    "one of two targets is in the root cgroup": Life(
        1,
        World(race=0.0, sweep="cgroup-freeze"),
        (Spec("target", cgroup="/system.slice/a.service"), Spec("target")),
        before_s=0.0,
        what=("target",),
        options=(("scope", "cgroup"), ("all", True)),
    ),
    "a stall during a scan does not put the next one off": Life(
        5,
        World(race=0.0, stall=0.02, call_s=0.0002),
        (
            Spec("target", on=((15, (Op("wait", 0.01), Op("exit"))),)),
            Spec("web", on=((15, (Op("wait", 0.02), Op("exit"))),)),
        ),
        before_s=0.0,
        what=("pid=target", "pid=web"),
        options=(("timeout_s", 0.2), ("watch_s", 0.0)),
    ),
    "fewer handles than members": Life(
        1,
        World(race=0.0, capacity=4),
        (Spec("target", children=tuple(Spec("worker") for _ in range(20))),),
        before_s=0.0,
        what=TARGET_ALONE,
    ),
    "a zombie still leads the session of an escaped child": Life(
        113193,
        World(race=0.0, child_lists=False),
        ours=(
            Spec(
                "keeper",
                reap_s=0.3,
                flags=("subreaper",),
                children=(
                    Spec(
                        "target",
                        on=(
                            (
                                15,
                                (
                                    Op(
                                        "fork",
                                        child=Spec(
                                            "middle", (Op("fork", child=Spec("app")), Op("exit")), flags=("session",)
                                        ),
                                    ),
                                    Op("exit"),
                                ),
                            ),
                        ),
                    ),
                ),
            ),
        ),
        before_s=0.0,
        what=TARGET_ALONE,
    ),
    "a child in the group has the pid of the ended target": Life(
        105546,
        World(pid_max=48, race=0.0, processes=36, statuses=False),
        (Spec("churner"),),
        (Spec("target", children=(Spec("app", on=((15, (Op("forks", 0.0002, 30, child=Spec("app")),)),)),)),),
        before_s=0.0,
        what=("ref=target",),
        options=(("plan", "TERM/1/TERM/1/KILL/1"), ("scope", "group")),
    ),
    "a stranger leads a group with the number of a group that has ended": Life(
        1,
        World(pid_max=26, race=0.0, processes=24, forks=400, child_lists=False),
        (
            *(Spec("job"), Spec("db"), Spec("worker"), Spec("worker"), Spec("worker")),
            Spec("churner", (Op("forks", 0.0005, 150, child=Spec("short", EXIT)),)),
        ),
        (
            Spec(
                "sh",
                restart_s=0.3,
                restarts=1,
                children=(
                    Spec(
                        "target",
                        (Op("wait", 1.5), Op("exit", n=1)),
                        children=(Spec("web", on=((15, ()),), flags=("group",)), Spec("target", flags=("session",))),
                    ),
                ),
            ),
        ),
        before_s=0.0,
        what=("target",),
        options=(("plan", "TERM/2/KILL/1"),),
    ),
    "the table is older than the target that has taken a pid in it": Life(
        1,
        World(pid_max=26, call_s=0.003, race=0.0, processes=24, forks=400, sweep="cgroup.kill"),
        (
            Spec("churner", (Op("forks", 0.001, 25, child=Spec("target")),)),
            Spec("churner", (Op("forks", 0.0005, 37, child=Spec("short", EXIT)),)),
        ),
        (Spec("target", (Op("wait", 0.02), Op("exit", n=42)), children=(Spec("worker"),)),),
        before_s=0.0,
        what=("target",),
        options=(("all", True),),
    ),
    "a child that the target leaves behind is no successor": Life(
        301073,
        World(race=0.0),
        ours=(
            Spec(
                "loop",
                flags=("subreaper",),
                children=(Spec("target", on=((15, (Op("fork", child=Spec("target")), Op("wait", 1.5), Op("exit"))),)),),
            ),
        ),
        before_s=0.0,
        what=("ref=target",),
    ),
    "two members have the same pid, and the exit of the first is not taken yet": Life(
        2,
        World(pid_max=26, call_s=0.003, race=0.0, stall=0.002, processes=18, forks=400, fork_watch="exact"),
        (
            Spec(
                "target",
                ports=(8080,),
                flags=("session",),
                children=(
                    Spec("app", (Op("fork", child=Spec("app", (Op("fork", child=Spec("app")), Op("exit")))),)),
                    Spec("target", on=((15, (Op("forks", 0.01, 7, child=Spec("target")),)),)),
                ),
            ),
            Spec("churner", (Op("forks", 0.1, 12, child=Spec("short", EXIT)),)),
        ),
        before_s=0.0,
        what=(":8080",),
        options=(("all", True),),
    ),
    "a member joins twice in one look": Life(
        200451,
        World(processes=18, forks=150, fork_watch="lossy"),
        (
            Spec(
                "target",
                (Op("fork", child=Spec("target", (Op("fork", child=Spec("web")), Op("exit")))),),
                cgroup="/system.slice/a.service",
                children=(Spec("app", on=((15, (Op("wait", 0.3), Op("fork", child=Spec("app")), Op("exit"))),)),),
            ),
        ),
        before_s=0.0,
        what=("target",),
        options=(("timeout_s", 0.2),),
    ),
    "an escapee has the pid that the target's parent had": Life(
        1,
        World(pid_max=48, call_s=0.003, race=0.0, processes=36, forks=150, sweep="cgroup-freeze"),
        (Spec("churner", (Op("forks", 0.001, 100, child=Spec("short", EXIT)),)),),
        (
            Spec(
                "target",
                on=((15, (Op("forks", 0.0002, 30, child=Spec("target")), Op("exit"))),),
                children=(
                    Spec(
                        "worker",
                        (Op("exit", n=42),),
                        children=(Spec("a-name-longer-than-fifteen"), Spec("worker")),
                    ),
                    Spec(
                        "web",
                        on=(
                            (
                                15,
                                (
                                    Op("fork", child=Spec("web", (Op("fork", child=Spec("app")), Op("exit")))),
                                    Op("exit"),
                                ),
                            ),
                        ),
                        environ="env0",
                    ),
                    Spec(
                        "a-name-longer-than-fifteen",
                        children=(
                            Spec("a-name-longer-than-fifteen", children=(Spec("job"), Spec("app"))),
                            Spec("web", (Op("hop", 0.005, 3),), children=(Spec("app"), Spec("db"))),
                        ),
                    ),
                ),
            ),
            Spec("app"),
        ),
        before_s=0.0,
        what=("ta*", "web"),
        options=(("timeout_s", 0.2), ("all", True)),
    ),
    "an interrupt between two kills of a sweep": Life(
        11052,
        World(race=0.0, cgroups=False, sweep="cgroup.kill"),
        ours=(Spec("target", children=(Spec("job"), Spec("job"), Spec("web"))),),
        before_s=0.0,
        what=TARGET_ALONE,
        options=(("now", True),),
        cancelled_at=53,
    ),
    "born after the witness has looked for what is kept, and before endtask does": Life(
        87530,
        World(race=0.0, processes=18, forks=150, sweep="cgroup-freeze"),
        (
            Spec(
                "target",
                children=(
                    Spec(
                        "db",
                        (
                            Op("wait", 0.0001),
                            Op("wait", 0.3),
                            Op("fork", child=Spec("db", (Op("fork", child=Spec("app")),))),
                        ),
                    ),
                ),
            ),
        ),
        before_s=0.3,
        what=("pid=target",),
        keep=("app",),
    ),
    "a successor that no descriptor is free for": Life(
        111596,
        World(race=0.0, processes=36, forks=150, sweep="cgroup-freeze", capacity=4),
        ours=(
            Spec(
                "supervisord",
                restart_s=0.001,
                restarts=3,
                children=(
                    Spec(
                        "target",
                        children=(
                            Spec("db", children=(Spec("db", children=(Spec("name with space"),)),)),
                            Spec(
                                "db",
                                children=(
                                    Spec("db", children=(Spec("db"), Spec("worker"))),
                                    Spec("job", children=(Spec("web"),)),
                                ),
                            ),
                            Spec("a-name-longer-than-fifteen"),
                        ),
                    ),
                ),
            ),
        ),
        before_s=0.0,
        what=("pid=target",),
        options=(("watch_s", 3.0),),
    ),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_life_keeps_every_promise(name: str) -> None:
    """It did not, once."""
    live(LIVES[name])


def test_plan_refuses_what_stop_refuses() -> None:
    """The root cgroup holds the whole system: neither verb takes it."""
    from .drive import same_choice

    same_choice(Life(1, World(), ours=(Spec("target"),), what=("target",), options=(("scope", "cgroup"),)))
