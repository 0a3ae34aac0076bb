"""Trap 8: a pid that is reused between selecting and asking; the newcomer is never touched.

Everything happens in a pid namespace of its own, where the next pid can be chosen (`ns_last_pid`, proc_sys_kernel(5)).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.targets.lab import ISOLATED, environment, run

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.needs_root]
DRIVER = Path(__file__).with_name("reuse_driver.py")


def drive(scenario: str) -> dict[str, object]:
    """Run a scenario of the driver in a namespace of its own, and return what it says."""
    answer = run([*ISOLATED, sys.executable, str(DRIVER), scenario], env=environment(), timeout_s=60)
    assert answer.code == 0, str(answer)
    result: dict[str, object] = json.loads(answer.out.splitlines()[-1])
    return result


@pytest.mark.parametrize("verb", ["stop", "wait", "look", "why", "plan"])
def test_trap_08_a_written_identity_never_means_the_newcomer(own_namespace: None, verb: str) -> None:
    """`pid:token` of a process that has gone, when another one has its pid: nothing matches, the newcomer is not asked."""
    result = drive(f"written-{verb}")
    assert result["code"] == 1, result
    assert result["asked"] == 0, result
    assert str(result["pid"]) in str(result["text"])


@pytest.mark.parametrize("moment", ["selected", "request"])
def test_trap_08_a_pid_reused_in_the_middle_of_a_stop(own_namespace: None, moment: str) -> None:
    """The target dies and another process gets its pid the moment it was selected (or asked): the newcomer is neither asked nor waited for."""
    result = drive(f"middle-{moment}")
    assert result["asked"] == 0, result
    assert result["outcome"] in ("stopped", "already-gone"), result
    assert result["newcomer_lives"] is True


def test_trap_08_by_name_while_pids_fly(own_namespace: None) -> None:
    """Victims and innocents that live some milliseconds share thirty pids: no innocent is ever asked (pkill hits 10 to 14 of 100)."""
    version = tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdigit())
    if version < (6, 14):
        pytest.skip("needs Linux 6.14: before, kernel.pid_max is not the namespace's own")
    result = drive("churn")
    assert result["hit_innocents"] == 0, result
    assert result["stops"] > 20, result  # type: ignore[operator]  # a number
    assert result["hit_victims"] > 0, result  # type: ignore[operator]  # a number
