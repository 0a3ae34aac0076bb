"""Lives many lives: `python -m tests.sim.run --lives 1000000 --seed 1`.

Every life is a function of its seed.
A seed that breaks a promise is printed, its life is made smaller, and the text of a test that contains it is written.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import endtask
from endtask._backends.sim.lives import life
from endtask._record import Record

from .drive import live, same_choice
from .shrink import as_test, shrink
from .witness import ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from endtask._backends.sim.spec import Life

LONGEST_S = 30.0  # of processor time for one life: a busy machine takes longer
CHUNK = 250  # lives that one worker gets at a time
_SCHEMA_EVERY = 40  # validation takes longer than the life
_CHOICE_EVERY = 10


class Broken(Record):
    """A life that broke a promise.

    Attributes:
        seed: Its seed.
        rule: The promise.
        text: What happened.
    """

    seed: int
    rule: str
    text: str


class Batch(Record):
    """What came of some lives.

    Attributes:
        lives: How many.
        outcomes: Pairs of outcome and how often.
        broken: Those that broke a promise.
    """

    lives: int
    outcomes: tuple[tuple[str, int], ...]
    broken: tuple[Broken, ...]


def judge(
    one: Life, *, validate: Callable[[dict[str, object]], None] | None = None, choice: bool = False
) -> tuple[str, ...] | Broken:
    """Live one life; any error that is not documented counts as a broken promise too."""
    before = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        lived = live(one, validate)
        if choice and one.verb == "stop":
            same_choice(one)
    except ViolationError as broken:
        return Broken(one.seed, broken.rule, str(broken))
    except Exception as error:  # noqa: BLE001  # the judge of undocumented errors has to see them all
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Broken(one.seed, "exception", f"[exception] {type(error).__name__} at {where}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return lived.outcomes


def _too_long(_number: int, _frame: object) -> None:
    raise ViolationError("hang", f"went round in circles for {LONGEST_S:g} s without a call to the system")


def validator() -> Callable[[dict[str, object]], None] | None:
    """Return what checks a document against the shipped schemas, None where there are none or nothing to check with."""
    folder = Path(endtask.__file__).parent / "schemas"
    schemas = {p.name.split(".")[0]: json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("*.json"))}
    if not schemas:
        return None
    try:
        import jsonschema
    except ImportError:
        return None
    judges = {n: jsonschema.Draft202012Validator(s) for n, s in schemas.items()}

    def check(document: dict[str, object]) -> None:
        kind = str(document["schema"]).removeprefix("endtask.").split("/")[0]
        text = json.loads(json.dumps(document))
        errors = [f"{e.json_path}: {e.message}" for e in judges[kind].iter_errors(text)]
        if errors:
            raise ViolationError("schema", "; ".join(errors[:3]))

    return check


def batch(seeds: range) -> Batch:
    """Live the lives of *seeds*."""
    outcomes: Counter[str] = Counter()
    broken = []
    validate = validator()
    for seed in seeds:
        found = judge(
            life(seed), validate=validate if seed % _SCHEMA_EVERY == 0 else None, choice=seed % _CHOICE_EVERY == 0
        )
        if isinstance(found, Broken):
            broken.append(found)
        else:
            outcomes.update(found)
    return Batch(len(seeds), tuple(outcomes.items()), tuple(broken))


def many(first: int, lives: int, jobs: int, *, progress: Callable[[int, int], None] | None = None) -> Batch:
    """Live *lives* lives from seed *first* on, in *jobs* processes."""
    chunks = [range(s, min(s + CHUNK, first + lives)) for s in range(first, first + lives, CHUNK)]
    outcomes: Counter[str] = Counter()
    broken: list[Broken] = []
    done = 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for part in pool.imap_unordered(batch, chunks):
            done += part.lives
            outcomes.update(dict(part.outcomes))
            broken += part.broken
            if progress is not None:
                progress(done, len(broken))
    return Batch(done, tuple(sorted(outcomes.items())), tuple(sorted(broken, key=lambda b: b.seed)))


def smaller(seed: int, rule: str) -> tuple[Life, str]:
    """Return the life of *seed* made smaller, and what it now says."""

    def fails(one: Life) -> bool:
        found = judge(one, choice=rule == "plan", validate=validator() if rule == "schema" else None)
        return isinstance(found, Broken) and found.rule == rule

    small = shrink(life(seed), fails)
    found = judge(small, choice=rule == "plan", validate=validator() if rule == "schema" else None)
    return small, found.text if isinstance(found, Broken) else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit code says whether all promises were kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.run", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--lives", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--show", type=int, default=10, help="how many broken seeds are printed for each promise")
    parser.add_argument("--shrink", type=int, default=1, help="how many broken seeds are made smaller")
    parser.add_argument("--write", type=Path, help="folder for the tests of the broken seeds; default: standard output")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    talk = sys.stderr.isatty()

    def progress(done: int, broken: int) -> None:
        if talk:
            rate = done / (time.monotonic() - began)
            sys.stderr.write(f"\r{done} lives, {rate:.0f}/s, {broken} broken ")
            sys.stderr.flush()

    total = many(options.seed, options.lives, options.jobs, progress=progress)
    took = time.monotonic() - began
    rate = f"{total.lives} lives in {took:.1f} s, {total.lives / took:.0f}/s"
    outcomes = ", ".join(f"{n} {c}" for n, c in sorted(total.outcomes, key=lambda x: -x[1]))
    sys.stderr.write(f"\n{rate}, {len(total.broken)} broke a promise\n  {outcomes}\n")
    _tell(total, options.show, options.shrink, options.write)
    return 1 if total.broken else 0


def _tell(total: Batch, show: int, shrinks: int, write: Path | None) -> None:
    rules = Counter(b.rule for b in total.broken)
    for rule, count in rules.most_common():
        sys.stdout.write(f"{rule}: {count}\n")
        for broken in [b for b in total.broken if b.rule == rule][:show]:
            sys.stdout.write(f"  seed {broken.seed}: {broken.text[:300]}\n")
    for rule in list(rules)[:shrinks]:
        broken = next(b for b in total.broken if b.rule == rule)
        small, text = smaller(broken.seed, rule)
        test = as_test(small, broken.seed, rule, text)
        if write is None:
            sys.stdout.write(f"{test}\n")
        else:
            path = write / f"test_seed_{broken.seed}.py"
            path.write_text(test, "utf-8")
            sys.stdout.write(f"written: {path}\n")


if __name__ == "__main__":
    sys.exit(main())
