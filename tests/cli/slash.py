"""What the tests of `taskkill` and `tasklist` share: a console whose text can be read, and a simulated machine to run them on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from endtask._backends.sim.backend import SimBackend
from endtask._backends.sim.spec import Op, Spec, World
from endtask._backends.sim.system import System
from endtask.cli.console import Console, Stream
from endtask.cli.taskkill import taskkill
from endtask.cli.tasklist import tasklist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.base import Backend

TERM = 15
CALM = World(race=0.0, call_s=0.0)
OBEYS = ((TERM, (Op("wait", 0.2), Op("exit"))),)


class Said:
    """What a command line wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        """Both streams, standard output first."""
        return [*self.out.splitlines(), *self.err.splitlines()]


def said(verb: str, argv: Sequence[str], backend: Backend | None = None) -> Said:
    """Run `taskkill` or `tasklist` on *backend*."""
    with open(os.memfd_create("out"), "w+b") as out, open(os.memfd_create("err"), "w+b") as err:
        console = Console(Stream(out.fileno()), Stream(err.fileno()))
        code = (taskkill if verb == "taskkill" else tasklist)(argv, console, backend)
        console.finish()
        out.seek(0)
        err.seek(0)
        return Said(code, out.read().decode(), err.read().decode())


class Machine:
    """A simulated machine with programs on it.

    Args:
        specs: Started by init, in order.
        world: What the machine can do.
    """

    def __init__(self, *specs: Spec, world: World = CALM) -> None:
        self.system = System(world, 1)
        self._first = len(self.system.everyone)
        for spec in specs:
            assert self.system.fork(self.system.init, spec) is not None
        self.system.settle(0.01)
        self.backend = SimBackend(self.system)

    def running(self) -> list[str]:
        """Return the names of what was started here and still runs."""
        return sorted(p.name for p in self.system.everyone[self._first :] if not p.exited)

    def taskkill(self, *argv: str) -> Said:
        """Run `taskkill`; `{name}` stands for the pid of that process."""
        return said("taskkill", self._filled(argv), self.backend)

    def _filled(self, argv: Sequence[str]) -> list[str]:
        pids = {p.name: p.pid for p in reversed(self.system.everyone)}
        return [word.format_map(pids) if "{" in word else word for word in argv]

    def expected(self, *lines: str) -> list[str]:
        """Return *lines* with pids filled in."""
        return self._filled(lines)
