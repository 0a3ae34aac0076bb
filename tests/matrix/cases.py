"""The cells of the matrix: nine targets (some in several forms), each by pid, by name and by port where it applies, in words and as JSON.

A cell is one scene with one target and one run of `endtask stop`.
What it must answer stands beside the target; that the answer is true is judged by `tests.targets.truth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.targets.lab import eventually, free_port, port_open, unique
from tests.targets.truth import lies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.targets.lab import Answer, Lab, Scene, Target

RESPAWN_WITHIN_S = 3.0


@dataclass(frozen=True)
class Kind:
    """One kind of target.

    Attributes:
        start: Starts it; gets the scene and a port that is free.
        codes: Exit codes that are right, by selector; "" stands for all others.
        timeout: The budget given to endtask; where it is not to be spent, more than a busy machine needs.
        by_port: Whether it can be named by port.
        options: More options.
    """

    start: Callable[[Scene, int], Target]
    codes: dict[str, tuple[int, ...]]
    timeout: str = "40s"
    by_port: bool = True
    options: tuple[str, ...] = ()


def _zombie(scene: Scene, **options: object) -> Target:
    name = unique("zombie")
    target = scene.target("zombie", child=name, **options)
    target.name = name
    return target


_LONG = ("--watch", "30s")  # the usual two seconds are short where the machine is busy; who comes back ends it sooner
KINDS = {
    "quick": Kind(lambda s, p: s.target("polite", delay=0.1, port=p, status=7), {"": (0,)}),
    "default": Kind(lambda s, p: s.target("default", port=p), {"": (0,)}),
    "ignores": Kind(lambda s, p: s.target("ignores", port=p), {"": (124,)}, "700ms"),
    "slow": Kind(lambda s, p: s.target("polite", delay=3, port=p), {"": (0,)}),
    "stopped": Kind(lambda s, p: s.target("stopped", port=p), {"": (0,)}),
    "child-ignores": Kind(lambda s, p: s.target("child_ignores", port=p), {"": (124,)}, "1200ms"),
    # The escapee is found by a tie and stopped too, or it is named as a suspect.
    # By port it is the target itself. By name there are two programs of that name: refused, nothing sent; with --all both end.
    "escapee": Kind(lambda s, p: s.target("escapee", port=p), {"": (0, 3), "port": (0,), "name": (2,), "all": (0,)}),
    "respawned-at-once": Kind(lambda s, p: s.supervised(0, port=p), {"": (11,)}),
    "respawned-0.2s": Kind(lambda s, p: s.supervised(0.2, port=p), {"": (11,)}, options=_LONG),
    "respawned-1s": Kind(lambda s, p: s.supervised(1, port=p), {"": (11,)}, options=_LONG),
    "respawned-sh-at-once": Kind(lambda s, p: s.supervised(0, shell=True, port=p), {"": (11,)}),
    "respawned-sh-0.2s": Kind(lambda s, p: s.supervised(0.2, shell=True, port=p), {"": (11,)}, options=_LONG),
    "respawned-sh-1s": Kind(lambda s, p: s.supervised(1, shell=True, port=p), {"": (11,)}, options=_LONG),
    "zombie": Kind(lambda s, p: _zombie(s, dead=3, port=p), {"": (0,)}, by_port=False),
    "becomes-zombie": Kind(lambda s, p: _zombie(s, port=p), {"": (0,)}),
}


@dataclass(frozen=True)
class Cell:
    """One place of the matrix."""

    kind: str
    selector: str
    form: str
    namespace: bool

    def __str__(self) -> str:
        return f"{self.kind}-by-{self.selector}-{self.form}{'-below-pid-1' if self.namespace else ''}"

    @property
    def codes(self) -> tuple[int, ...]:
        """The exit codes that are right."""
        codes = KINDS[self.kind].codes
        return codes.get(self.selector, codes[""])


def cells(*, namespace: bool, forms: Sequence[str] = ("text", "json")) -> list[Cell]:
    """Return every cell of one way of adopting orphans: by a subreaper, or by pid 1 of a namespace."""
    found = []
    for name, kind in KINDS.items():
        selectors = ["pid", "name", *(["port"] if kind.by_port else []), *(["all"] if "all" in kind.codes else [])]
        found += [Cell(name, selector, form, namespace) for selector in selectors for form in forms]
    return found


@dataclass
class Judged:
    """What came of one cell: the answer, and every lie in it."""

    cell: Cell
    answer: Answer
    lies: list[str]

    def __str__(self) -> str:
        return f"{self.cell}\n{self.answer}" + "".join(f"LIE: {lie}\n" for lie in self.lies)


def judge(lab: Lab, cell: Cell, prefix: Sequence[str] = ()) -> Judged:
    """Play one cell and compare; *prefix* are words before the command line of endtask."""
    kind = KINDS[cell.kind]
    with lab.scene(namespace=cell.namespace) as scene:
        target = kind.start(scene, free_port())
        if cell.kind == "stopped":
            eventually(lambda: any(s.state == "T" for s in scene.running()))
        word = {"pid": str(target.pid), "name": target.name, "port": f":{target.port}", "all": target.name}[
            cell.selector
        ]
        argv = ["stop", word, "--timeout", kind.timeout, *kind.options]
        argv += ["--json"] if cell.form == "json" else []
        argv += ["--all"] if cell.selector == "all" else []
        answer = scene.endtask(*argv, prefix=prefix)
        free = not port_open(target.port) if target.port else None
        found = lies(
            answer,
            scene,
            outside=_outside(cell, target),
            port=target.port if cell.selector == "port" else None,
            port_free=free,
        )
        found += _more(cell, scene, target, answer)
    return Judged(cell, answer, found)


def _outside(cell: Cell, target: Target) -> set[int]:
    """Return who may live whatever the answer says."""
    outside = {target.pids[role] for role in ("supervisor", "parent") if role in target.pids}
    if cell.kind == "escapee" and cell.selector == "port":
        outside.add(target.pid)  # the escapee alone was named; its old main process is none of its own
    return outside


def _more(cell: Cell, scene: Scene, target: Target, answer: Answer) -> list[str]:
    """Return the lies that only this kind of target can show."""
    found = []
    if answer.code not in cell.codes:
        found.append(f"exit code {answer.code} instead of {cell.codes}")
    if cell.kind == "slow" and answer.took_s < 3.0:
        found.append(f"it takes 3 s to end, and the answer came after {answer.took_s:.2f} s")
    if answer.code == 2 and scene.exited(target.pid):
        found.append("refused, and the target has ended")
    if cell.kind.startswith("respawned") and answer.code == 0:
        supervisor = target.pids["supervisor"]
        back = eventually(lambda: [s for s in scene.running() if s.pid != supervisor], RESPAWN_WITHIN_S)
        found.append(f"success, and {back[0].pid} came back")
    if cell.kind.startswith("respawned") and answer.code == 11 and str(target.pids["supervisor"]) not in answer.text:
        found.append(f"it does not say that {target.pids['supervisor']} started it again")
    if cell.kind == "becomes-zombie" and cell.form == "json" and answer.code == 0:
        parent = target.pids["parent"]
        members = answer.target["members"]
        assert isinstance(members, list)
        if members[0]["end"]["unreaped_by"] != parent:
            found.append(f"it does not say that {parent} has not reaped it")
    return found
