"""Random lives from seeds: machines, programs and questions, chosen so that trouble is common.

Decision: behaviours are drawn from a list of named kinds rather than operation by operation, because programs that do random things do mostly nothing of interest.
The kinds are those of the facts collected about Linux: what real programs do when they are asked, and how trees lose their members.
"""

from __future__ import annotations

from random import Random

from endtask._backends.sim.process import CONT, HUP, INT, QUIT, TERM
from endtask._backends.sim.spec import Life, Op, Spec, World
from endtask._backends.sim.talkers import with_talkers
from endtask._record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Kind = Callable[["_Maker", Spec, float], Spec]

_NAMES = ("web", "worker", "db", "app", "a-name-longer-than-fifteen", "job", "name with space")
_PORTS = (3000, 3001, 8080)


def life(seed: int) -> Life:
    """Return the life of *seed*."""
    return with_talkers(_Maker(seed).life())


def wait(s: float) -> Op:
    """Return the operation that waits."""
    return Op("wait", s)


def leave(status: int = 0) -> Op:
    """Return the operation that exits."""
    return Op("exit", n=status)


class _Maker:
    """Draws one life."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.left = 14  # programs that may still be added, so that a life stays small
        self.environs = 0

    # ------------------------------------------------------------------ the whole

    def life(self) -> Life:  # size: one story
        rng = self.rng
        world = self.world()
        storm = rng.random() < 0.08
        if storm:
            self.left = 4
        target = self.program("target", 0)
        if rng.random() < 0.3:
            target = self.supervised(target)
        roots = [target] if rng.random() < 0.6 else []
        ours = [] if roots else [target]
        for _ in range(rng.choice((0, 1, 1, 2))):
            (roots if rng.random() < 0.6 else ours).append(self.program(rng.choice((*_NAMES, "target")), 1))
        if rng.random() < 0.4:
            roots.append(self.churner())
        if rng.random() < 0.1:
            roots[:] = [
                Spec("systemd", reap_s=0.0, environ="user", flags=("subreaper", "session"), children=tuple(roots))
            ]
        if storm:
            world = self.storm(world, roots)
        options = self.options()
        verb = rng.choices(("stop", "wait", "plan", "look", "why"), (88, 5, 3, 2, 2))[0]
        killed = rng.randrange(1, 160) if verb == "stop" and rng.random() < 0.12 else 0
        cancelled = rng.randrange(1, 120) if verb in ("stop", "wait") and not killed and rng.random() < 0.06 else 0
        return Life(
            self.seed,
            world,
            tuple(roots),
            tuple(ours),
            0.0 if storm else rng.choice((0.0, 0.0005, 0.3, 2.0)),
            verb,
            self.what(),
            self.keep(),
            options,
            killed,
            cancelled,
        )

    def world(self) -> World:
        rng = self.rng
        pid_max = rng.choice((26, 48, 80, 400))
        return World(
            pid_max=pid_max,
            call_s=rng.choice((0.00002, 0.0002, 0.003)),
            race=rng.choice((0.0, 0.05, 0.4)),
            stall=rng.choice((0.0, 0.0, 0.002)),
            processes=min(36, pid_max - 8),
            forks=rng.choice((150, 400)),
            fork_watch=rng.choice(("", "", "exact", "lossy")),
            statuses=rng.random() < 0.8,
            child_lists=rng.random() < 0.8,
            cgroups=rng.random() < 0.8,
            sweep=rng.choice(("cgroup.kill", "cgroup-freeze", "sigstop")),
            pidfd=rng.random() < 0.92,
            uid=0 if rng.random() < 0.7 else 1000,
            capacity=1000 if rng.random() < 0.95 else rng.choice((4, 12)),
        )

    def storm(self, world: World, roots: list[Spec]) -> World:
        """Pids come back within a few calls: programs that end at any moment, a tiny pid space, and a bystander that forks at full rate."""
        rng = self.rng
        mortal = tuple(
            Spec(rng.choice(_NAMES), (wait(rng.choice((0.02, 0.04, 0.06, 0.08, 0.1))), leave())) for _ in range(5)
        )
        roots[:] = [replace(r, children=(*r.children, *mortal)) if r.name == "target" else r for r in roots]
        roots.append(
            Spec("churner", (Op("forks", 0.0005, 300, child=Spec("short", (wait(0.002), leave()))),), environ="churn")
        )
        return replace(world, pid_max=26, processes=24, forks=400, call_s=rng.choice((0.001, 0.003)), race=0.05)

    def what(self) -> tuple[str, ...]:
        rng = self.rng
        forms = ("pid=target", "ref=target", "target", f":{rng.choice(_PORTS)}", "ta*", f"pid={rng.choice(_NAMES)}")
        words = [rng.choices(forms, (4, 3, 4, 1, 1, 2))[0]]
        if rng.random() < 0.15:
            words.append(rng.choice(("pid=worker", "web", ":3000", "job", "pid=target", "target", "db", "app")))
        return tuple(words)

    def keep(self) -> tuple[str, ...]:
        if self.rng.random() < 0.12:
            return (self.rng.choice(("pid=worker", "ref=web", "db", "job", "app", "pid=target")),)
        return ()

    def options(self) -> tuple[tuple[str, float | str | bool], ...]:
        rng = self.rng
        options: dict[str, float | str | bool] = {}
        form = rng.randrange(7)
        if form == 0:
            options["timeout_s"] = rng.choice((0.2, 1.0, 4.0))
        elif form == 1:
            options["plan"] = rng.choice(
                ("TERM/1/INT/1", "TERM/2/KILL/1", "INT/0.5/TERM/0.5/KILL/1", "HUP/1", "TERM/1/TERM/1/KILL/1")
            )
        elif form in (2, 3):
            options["force_after_s"] = rng.choice((0.1, 0.5, 2.0))
        elif form == 4:
            options["now"] = True
        elif form == 5:
            options["plan"] = rng.choice(
                ("stdin:q/1/TERM/1", "cmd:'stop it'/1/TERM/1/KILL/2", "QUIT/1/KILL/1", "RTMIN+3/1/TERM/1")
            )
        if rng.random() < 0.15:
            options["scope"] = rng.choice(("only", "group", "session", "cgroup"))
        if rng.random() < 0.3:
            options["watch_s"] = rng.choice((0.0, 0.5, 3.0))
        if rng.random() < 0.6:
            options["all"] = True
        if rng.random() < 0.2:
            options["missing_ok"] = True
        if rng.random() < 0.1:
            options["force_ok"] = True
        return tuple(options.items())

    # ------------------------------------------------------------------ programs

    def program(self, name: str, depth: int) -> Spec:
        rng = self.rng
        self.left -= 1
        spec = Spec(name, uid=-1)
        if depth == 0 or rng.random() < 0.15:
            self.environs += 1
            spec = replace(spec, environ=f"env{self.environs if rng.random() < 0.7 else 0}")
        some = rng.random
        if depth <= 1 and some() < 0.5:
            spec = replace(spec, flags=("session",) if some() < 0.5 else ("group",))
        if depth <= 1 and some() < 0.2:
            # Each program has a service of its own; a scope may be shared by what one shell left behind.
            cgroup = rng.choice(
                (f"/system.slice/s{self.left}.service", f"/system.slice/s{self.left}.service", "/user.slice/x.scope")
            )
            spec = replace(spec, cgroup=cgroup)
        if some() < 0.15:
            spec = replace(spec, objects=(f"pipe:{rng.randrange(3)}",))
        if some() < (0.4 if depth == 0 else 0.1):
            spec = replace(spec, ports=(rng.choice(_PORTS),))
        spec = _KINDS[rng.choices(_KIND_NAMES, _KIND_WEIGHTS)[0]](self, spec, self.span())
        if some() < 0.3:
            spec = _STATES[rng.choice(_STATE_NAMES)](self, spec, self.span())
        if some() < 0.12:
            spec = replace(spec, exit_s=self.span())
        if some() < 0.12:
            spec = replace(spec, reap_s=rng.choice((-1.0, 0.3, 5.0)))
        if depth < 3 and self.left > 0:
            count = rng.choice((0, 1, 1, 2, 3)) if depth == 0 else rng.choice((0, 0, 0, 1, 2))
            names = (*_NAMES, name)
            more = tuple(self.program(rng.choice(names), depth + 1) for _ in range(min(count, self.left)))
            spec = replace(spec, children=(*spec.children, *more))
        return spec

    def span(self) -> float:
        """Return a time in which something may happen while a stop goes on."""
        return self.rng.choice((0.0, 0.0001, 0.001, 0.02, 0.3, 1.5, 4.0))

    def supervised(self, spec: Spec) -> Spec:
        rng = self.rng
        name = rng.choice(("supervisord", "loop", "sh", "supervisor"))
        on = ((TERM, (Op("tell", n=TERM, who="children"), Op("join"), leave())),) if rng.random() < 0.5 else ()
        flags = ("subreaper",) if rng.random() < 0.2 else ()
        return Spec(
            name,
            on=on,
            restart_s=self.span(),
            restarts=rng.choice((1, 3)),
            environ="sup",
            flags=flags,
            children=(spec,),
        )

    def churner(self) -> Spec:
        """A bystander that uses up pids, so that they come back soon."""
        rng = self.rng
        short = Spec(rng.choice(("short", "target", "web")), (wait(rng.choice((0.0, 0.001))), leave()))
        return Spec("churner", (Op("forks", rng.choice((0.001, 0.01, 0.1)), 100, child=short),), environ="churn")

    def daemon(self, spec: Spec, delay: float) -> Spec:
        """A double fork: the middle process exits, the last one has lost its parent."""
        rng = self.rng
        flags = rng.choice((("session",), ("session",), ("group",), ()))
        environ = (Op("environ", who="clean"),) if rng.random() < 0.25 else ()
        last = Spec(rng.choice((*_NAMES, spec.name)), environ, self.answers(), flags=rng.choice(((), (), ("session",))))
        middle = Spec(spec.name, (Op("fork", child=last), leave()), flags=flags)
        return replace(spec, main=(*spec.main, wait(delay), Op("fork", child=middle)))

    def answers(self) -> tuple[tuple[int, tuple[Op, ...]], ...]:
        return self.rng.choice(((), (), ((TERM, (wait(0.2), leave())),), ((TERM, ()),)))


# ---------------------------------------------------------------------- kinds: how a program answers


def _plain(maker: _Maker, spec: Spec, s: float) -> Spec:
    return spec


def _cleans_up(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, on=((TERM, (wait(s), leave())), (INT, (leave(130),))))


def _deaf(maker: _Maker, spec: Spec, s: float) -> Spec:
    numbers = maker.rng.choice(((TERM,), (TERM, INT), (TERM, INT, HUP, QUIT)))
    if maker.rng.random() < 0.5:
        return replace(spec, ignored=numbers)
    return replace(spec, on=tuple((n, ()) for n in numbers))


def _blocks(maker: _Maker, spec: Spec, s: float) -> Spec:
    main = (wait(s), Op("unblock", n=TERM)) if maker.rng.random() < 0.5 else ()
    return replace(spec, blocked=(TERM,), main=main)


def _sigwait(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, waited=(TERM, INT), on=((TERM, (wait(s), leave())), (INT, (leave(),))))


def _leaves_successor(maker: _Maker, spec: Spec, s: float) -> Spec:
    """Forks when it is asked, and exits: the child goes on."""
    flags = maker.rng.choice(((), ("session",)))
    child = Spec(maker.rng.choice((spec.name, "web")), (), maker.answers(), flags=flags)
    return replace(spec, on=((TERM, (Op("fork", child=child), wait(s), leave())),))


def _escapes_when_asked(maker: _Maker, spec: Spec, s: float) -> Spec:
    last = Spec(maker.rng.choice((spec.name, "app")), (), maker.answers())
    middle = Spec(spec.name, (Op("fork", child=last), leave()), flags=("session",))
    return replace(spec, on=((TERM, (wait(s), Op("fork", child=middle), leave())),))


def _passes_on(maker: _Maker, spec: Spec, s: float) -> Spec:
    who = maker.rng.choice(("children", "children", "group"))
    return replace(spec, on=((TERM, (Op("tell", n=TERM, who=who), Op("join"), wait(s), leave())),))


def _asks_twice(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, on=((TERM, ()), (TERM, (wait(s), leave()))))


def _ends_by_itself(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, main=(wait(s), leave(maker.rng.choice((0, 1, 42)))))


def _bomb(maker: _Maker, spec: Spec, s: float) -> Spec:
    child = Spec(spec.name, (), maker.answers(), flags=maker.rng.choice(((), (), ("session",))))
    many = Op("forks", maker.rng.choice((0.0002, 0.01, 0.2)), 60, child=child)
    if maker.rng.random() < 0.5:
        return replace(spec, main=(wait(s), many))
    return replace(spec, on=((TERM, (many, wait(s), leave())),))


def _potato(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, main=(wait(s), Op("hop", maker.rng.choice((0.0003, 0.005, 0.05)), maker.rng.choice((3, 40)))))


def _daemonizes(maker: _Maker, spec: Spec, s: float) -> Spec:
    return maker.daemon(spec, s)


def _listens_to_stdin(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, on=((65, (wait(s), leave())), (66, (leave(),)), (TERM, ())), flags=(*spec.flags, "stdin"))


def _dumps(maker: _Maker, spec: Spec, s: float) -> Spec:
    return replace(spec, on=((TERM, (wait(s), Op("raise", n=QUIT))),))


_KINDS: dict[str, Kind] = {
    "plain": _plain,
    "cleans up": _cleans_up,
    "deaf": _deaf,
    "blocks": _blocks,
    "sigwait": _sigwait,
    "leaves successor": _leaves_successor,
    "escapes when asked": _escapes_when_asked,
    "passes on": _passes_on,
    "asks twice": _asks_twice,
    "ends by itself": _ends_by_itself,
    "bomb": _bomb,
    "potato": _potato,
    "daemonizes": _daemonizes,
    "stdin": _listens_to_stdin,
    "dumps": _dumps,
}
_KIND_NAMES = tuple(_KINDS)
_KIND_WEIGHTS = (14, 14, 6, 3, 3, 5, 6, 7, 3, 6, 3, 3, 6, 2, 2)


# ---------------------------------------------------------------------- kinds: what state it is in


def _flag(word: str) -> Kind:
    def kind(maker: _Maker, spec: Spec, s: float) -> Spec:
        return replace(spec, flags=(*spec.flags, word))

    return kind


def _then(do: str, *, who: str = "", n: int = 0) -> Kind:
    """What happens to it at some time, and is over some time later."""

    def kind(maker: _Maker, spec: Spec, s: float) -> Spec:
        lasts = maker.rng.choice((0.0, 0.1, 2.0)) if do != "freeze" else maker.rng.choice((0.1, 3.0, 60.0))
        return replace(spec, main=(wait(s), Op(do, lasts, n, who), *spec.main))

    return kind


def _user(maker: _Maker, spec: Spec, s: float) -> Spec:
    uid = maker.rng.choice((0, 1000, 1001))
    if maker.rng.random() < 0.3:
        return replace(spec, main=(wait(s), Op("setuid", n=uid), *spec.main))
    return replace(spec, uid=uid)


def _stopped(maker: _Maker, spec: Spec, s: float) -> Spec:
    on = ((CONT, ()), *spec.on) if maker.rng.random() < 0.2 else spec.on
    return replace(spec, on=on, flags=(*spec.flags, "stopped"))


_STATES: dict[str, Kind] = {
    "stopped": _stopped,
    "stops later": _then("stop"),
    "uninterruptible": _flag("uninterruptible"),
    "uninterruptible later": _then("uninterruptible"),
    "traced": _flag("traced"),
    "traced later": _then("trace"),
    "frozen v2": _then("freeze", who="v2"),
    "frozen v1": _then("freeze", who="v1"),
    "hidden": _flag("hidden"),
    "unreadable": _flag("unreadable"),
    "no pin": _flag("no-pin"),
    "namespace": _flag("namespace"),
    "subreaper": _flag("subreaper"),
    "leader gone": _then("leader-exit"),
    "other name": _then("exec", who="other"),
    "own session later": _then("setsid"),
    "own group later": _then("setpgid"),
    "moves": _then("move", who="/system.slice/elsewhere.service"),
    "closes port": _then("unlisten"),
    "opens port": _then("listen", n=3000),
    "clean environment": _then("environ", who="clean"),
    "user": _user,
    "autoreap": _then("autoreap"),
}
_STATE_NAMES = tuple(_STATES)
