"""Makes a failing life smaller while it goes on failing, and writes it down as a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask._backends.sim.spec import Life, Op, Spec, World
from endtask._record import Record, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fails = Callable[[Life], bool]

TRIES = 4000
_CALM: dict[str, object] = {
    "race": 0.0,
    "stall": 0.0,
    "fork_watch": "",
    "pid_max": 400,
    "call_s": 0.0001,
    "capacity": 1000,
    "uid": 0,
}


def shrink(life: Life, fails: Fails, tries: int = TRIES) -> Life:
    """Return the smallest life that was found and still fails.

    Args:
        life: A life that fails.
        fails: Whether a life breaks the same promise.
        tries: How many lives may be tried.
    """
    again = True
    while again and tries > 0:
        again = False
        for smaller in _smaller_lives(life):
            tries -= 1
            if tries <= 0:
                break
            found = next((s for s in _with_seeds(smaller) if fails(s)), None)
            if found is not None:
                life = found
                again = True
                break
    return life


def _with_seeds(life: Life) -> Iterator[Life]:
    """The same life with other luck: what was taken away has moved all later draws."""
    yield life
    for seed in (1, 2):
        if life.seed != seed:
            yield replace(life, seed=seed)


def _smaller_lives(life: Life) -> Iterator[Life]:
    for name in ("roots", "ours"):
        specs: tuple[Spec, ...] = getattr(life, name)
        for smaller in _smaller_specs(specs):
            yield replace(life, **{name: smaller})
    for name in ("killed_at", "cancelled_at", "keep"):
        if getattr(life, name):
            yield replace(life, **{name: () if name == "keep" else 0})
    if life.before_s:
        yield replace(life, before_s=0.0)
    for index in range(len(life.what)):
        if len(life.what) > 1:
            yield replace(life, what=(*life.what[:index], *life.what[index + 1 :]))
    for index in range(len(life.options)):
        yield replace(life, options=(*life.options[:index], *life.options[index + 1 :]))
    for name, value in _CALM.items():
        if getattr(life.world, name) != value:
            yield replace(life, world=replace(life.world, **{name: value}))


def _smaller_specs(specs: tuple[Spec, ...]) -> Iterator[tuple[Spec, ...]]:
    for index, spec in enumerate(specs):
        before, after = specs[:index], specs[index + 1 :]
        yield (*before, *after)
        if spec.children:
            yield (*before, *spec.children, *after)
        for smaller in _smaller_programs(spec):
            yield (*before, smaller, *after)


def _smaller_programs(spec: Spec) -> Iterator[Spec]:
    for children in _smaller_specs(spec.children):
        yield replace(spec, children=children)
    for main in _smaller_ops(spec.main):
        yield replace(spec, main=main)
    for index, (number, ops) in enumerate(spec.on):
        yield replace(spec, on=(*spec.on[:index], *spec.on[index + 1 :]))
        for smaller in _smaller_ops(ops):
            yield replace(spec, on=(*spec.on[:index], (number, smaller), *spec.on[index + 1 :]))
    for flag in spec.flags:
        yield replace(spec, flags=tuple(f for f in spec.flags if f != flag))
    for name, default in Spec._defaults.items():
        if name not in ("children", "main", "on", "flags") and getattr(spec, name) != default:
            yield replace(spec, **{name: default})


def _smaller_ops(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    for index, op in enumerate(ops):
        before, after = ops[:index], ops[index + 1 :]
        yield (*before, *after)
        if op.n > 1 and op.do in ("forks", "hop"):
            yield (*before, replace(op, n=op.n // 2), *after)
        if op.child is not None:
            for child in _smaller_programs(op.child):
                yield (*before, replace(op, child=child), *after)


# ---------------------------------------------------------------------- as text


def written(value: object, indent: int = 4) -> str:
    """Return Python source for a life, fields with their default left out."""
    if isinstance(value, Record):
        fields = type(value)._fields
        defaults = type(value)._defaults
        parts = [
            f"{n}={written(getattr(value, n), indent + 4)}"
            for n in fields
            if n not in defaults or getattr(value, n) != defaults[n]
        ]
        name = type(value).__name__
        short = f"{name}({', '.join(parts)})"
        if len(short) + indent < 100 and "\n" not in short:
            return short
        pad = " " * (indent + 4)
        return f"{name}(\n" + "".join(f"{pad}{p},\n" for p in parts) + " " * indent + ")"
    if isinstance(value, tuple):
        parts = [written(v, indent + 4) for v in value]
        short = "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
        if len(short) + indent < 100 and "\n" not in short:
            return short
        pad = " " * (indent + 4)
        return "(\n" + "".join(f"{pad}{p},\n" for p in parts) + " " * indent + ")"
    return repr(value)


def as_test(life: Life, seed: int, rule: str, text: str) -> str:
    """Return the text of a test file that lives *life*."""
    title = text.replace("\\", "/").replace('"""', "'''").splitlines()[0]
    return f'''"""Seed {seed} broke the promise `{rule}`.

{title}
"""

from __future__ import annotations

from endtask._backends.sim.spec import Life, Op, Spec, World

from .drive import live

LIFE = {written(life, 0)}


def test_seed_{seed}_keeps_the_promise_{rule.replace("-", "_").replace(" ", "_")}() -> None:
    """The life that once broke it."""
    live(LIFE)
'''


__all__ = ["Life", "Op", "Spec", "World", "as_test", "shrink", "written"]
