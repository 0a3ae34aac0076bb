"""Programs with a receiver for random lives: they tell, want more time, refuse, lie, say nonsense, and die in the middle.

Decision: a source of randomness of its own, so that lives without such a program stay what they were.
"""

from __future__ import annotations

from random import Random

from endtask._backends.sim.process import CHANNEL, INT, TERM
from endtask._backends.sim.spec import Life, Op, Spec
from endtask._record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SPANS = (0.0, 0.0001, 0.02, 0.3, 1.5, 4.0)
_WANTS = (0.1, 1.0, 3.0, 20.0)
_PLANS = ("channel/1/TERM/1/KILL/1", "channel/0.5/KILL/1", "channel/2", "TERM/0.5/channel/0.5/KILL/1")


def with_talkers(life: Life) -> Life:
    """Return *life*, in a third of all cases with programs that talk."""
    rng = Random(life.seed * 2 + 1)
    if rng.random() > 0.35:
        return life
    options = dict(life.options)
    if rng.random() < 0.5:
        options["extend_s"] = rng.choice((0.5, 3.0, 30.0))
    if rng.random() < 0.2 and not {"plan", "now", "force_after_s"} & set(options):
        options["plan"] = rng.choice(_PLANS)
        options.pop("timeout_s", None)
    roots = tuple(_talking(rng, spec) for spec in life.roots)
    ours = tuple(_talking(rng, spec) for spec in life.ours)
    return replace(life, roots=roots, ours=ours, options=tuple(options.items()))


def _talking(rng: Random, spec: Spec) -> Spec:
    """Return a program, and what it starts, as one that may talk."""
    children = tuple(_talking(rng, child) for child in spec.children)
    spec = replace(spec, children=children)
    if rng.random() > (0.7 if spec.name == "target" else 0.2):
        return spec
    if rng.random() < 0.05:
        return replace(spec, flags=(*spec.flags, "planted"))
    answer = rng.choice(_ANSWERS)(rng)
    on = dict(spec.on)
    for number in (TERM, INT, CHANNEL):
        if number == CHANNEL or number in on or rng.random() < 0.5:
            on[number] = answer if rng.random() < 0.8 else rng.choice(_ANSWERS)(rng)
    return replace(spec, on=tuple(on.items()), flags=(*spec.flags, "receiver"))


def _say(who: str, s: float = 0.0, n: int = 0) -> Op:
    return Op("say", s, n, who)


def _wait(rng: Random) -> Op:
    return Op("wait", rng.choice(_SPANS))


_LEAVE = Op("exit")


def _obeys(rng: Random) -> tuple[Op, ...]:
    steps = [op for n in range(rng.choice((0, 2, 5))) for op in (_say("tell", n=n), _wait(rng))]
    return (_say("heard"), *steps, _say("cleanup", 0.1), _LEAVE)


def _wants_more(rng: Random) -> tuple[Op, ...]:
    s = rng.choice(_WANTS)
    return (_say("heard"), _wait(rng), _say("need", s), Op("wait", s * rng.choice((0.5, 1.0, 2.0))), _LEAVE)


def _wants_more_and_more(rng: Random) -> tuple[Op, ...]:
    return (_say("heard"), *(op for _ in range(20) for op in (_say("need", rng.choice(_WANTS)), _wait(rng))), _LEAVE)


def _refuses(rng: Random) -> tuple[Op, ...]:
    return (_say("heard"), _wait(rng), _say("veto"))


def _refuses_and_leaves(rng: Random) -> tuple[Op, ...]:
    return (_say("veto"), _wait(rng), _LEAVE)


def _lies(rng: Random) -> tuple[Op, ...]:
    """Says that it is ending, and stays."""
    return (_say("heard"), _wait(rng), _say(rng.choice(("tell", "shield", "need")), 1.0))


def _spoils(rng: Random) -> tuple[Op, ...]:
    return (
        _say("heard"),
        _say(rng.choice(("garbage", "flood", "long", "hang-up"))),
        _say("need", 3.0),
        _wait(rng),
        _LEAVE,
    )


def _says_nothing(rng: Random) -> tuple[Op, ...]:
    return (_wait(rng), _LEAVE)


def _dies(rng: Random) -> tuple[Op, ...]:
    """Ends by a signal in the middle of what it says."""
    return (_say("heard"), _say("need", 3.0), Op("raise", n=9))


_ANSWERS: tuple[Callable[[Random], tuple[Op, ...]], ...] = (
    _obeys,
    _obeys,
    _wants_more,
    _wants_more,
    _wants_more_and_more,
    _refuses,
    _refuses_and_leaves,
    _lies,
    _spoils,
    _says_nothing,
    _dies,
)
