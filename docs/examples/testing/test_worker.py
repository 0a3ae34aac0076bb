"""A worker and its test: asked at every place where it looks, it loses no job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endtask_receiver.testing import fake

if TYPE_CHECKING:
    from endtask_receiver import Stop


def work(stop: Stop, jobs: list[str], done: list[str]) -> None:
    """Do the jobs one after the other, until there are no more or somebody asks."""
    while jobs and not stop:
        done.append(jobs.pop(0).upper())
        stop.nap(0.5)


def test_no_job_is_lost_wherever_it_is_asked() -> None:
    """At its first look, at its second, and so on."""
    for look in range(1, 10):
        jobs, done = ["a", "b", "c"], list[str]()
        with fake(at_look=look) as stop:
            work(stop, jobs, done)
        assert [*done, *(job.upper() for job in jobs)] == ["A", "B", "C"]


def test_a_nap_ends_when_somebody_asks() -> None:
    """Time stands still in a test, until the program waits: then it jumps."""
    done: list[str] = []
    with fake() as stop:
        stop.ask_in(0.7)
        work(stop, ["a", "b", "c"], done)
        assert (done, stop.now) == (["A", "B"], 0.7)
