"""Forks as the kernel reports them: whose child is it, and does the handle hold it? Every order of events that can happen."""

from __future__ import annotations

import pytest

from endtask._watch import Births
from tests.core.fake import FakeBackend, FakePin, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Forks = list[tuple[int, int]]


class Reports:
    """A fork watch whose reports the test writes: one list for each time that it is asked."""

    def __init__(self, *reports: Forks) -> None:
        self.reports = list(reports)
        self.lost = False
        self.then: Callable[[], Forks] | None = None

    def drain(self) -> Forks:
        """Return the next list, or what `then` makes up."""
        if self.reports:
            return self.reports.pop(0)
        return self.then() if self.then is not None else []

    def close(self) -> None:
        """Nothing to release."""


class Story:
    """A machine with the member 10 of owner 0, and what is reported later."""

    def __init__(self, *pids: int, before: Forks = (), later: tuple[Forks, ...] = ()) -> None:  # type: ignore[assignment]  # an empty report
        self.machine = FakeBackend(*(Process(pid, f"p{pid}") for pid in (10, *pids)))
        self.reports = Reports(list(before), *later)
        self.births = Births(self.machine, self.reports)
        self.births.own([self.machine.pin(10)], 0)

    def collect(self) -> list[tuple[int, int, bool]]:
        """Return (parent, child, whether it is held) of everything that belongs to owner 0."""
        found = []
        for owners, pin, child, parent in self.births.collect():
            assert owners == (0,)
            assert pin is None or pin.ref.pid == child
            found.append((parent, child, pin is not None))
        return found


def test_fork_of_a_member_is_told_with_its_handle() -> None:
    """The plain case."""
    assert Story(11, later=([(10, 11)],)).collect() == [(10, 11, True)]


def test_fork_of_a_stranger_is_not_told() -> None:
    """Most forks of a machine are nobody's business."""
    story = Story(20, 21, later=([(20, 21), (1, 20)],))
    assert story.collect() == []
    assert story.births.complete


def test_grandchild_is_told_even_if_its_parent_is_gone() -> None:
    """A double fork: the one in the middle has exited before we looked (demand 3.5)."""
    assert Story(12, later=([(10, 11), (11, 12)],)).collect() == [(10, 11, False), (11, 12, True)]


def test_grandchild_that_is_reported_later_is_told() -> None:
    """What was taken in by its report alone is followed as well."""
    story = Story(12, later=([(10, 11)], [], [(11, 12)]))
    assert story.collect() == [(10, 11, False)]
    assert story.collect() == [(11, 12, True)]


def test_grandchild_born_while_its_parent_was_looked_at_is_told_at_once() -> None:
    """One call takes in what has been reported meanwhile."""
    story = Story(11, 12, later=([(10, 11)], [(11, 12)]))
    assert story.collect() == [(10, 11, True), (11, 12, True)]


def test_fork_before_the_member_was_taken_in_is_told() -> None:
    """It was queued between the opening of the watch and the selection."""
    assert Story(11, before=[(10, 11)]).collect() == [(10, 11, True)]


def test_fork_of_an_earlier_owner_of_the_pid_is_not_told() -> None:
    """The member was born after that fork: another process had its pid then (demand 3.8)."""
    assert Story(9, 11, before=[(10, 9), (1, 10), (10, 11)]).collect() == [(10, 11, True)]


def test_forks_of_a_later_owner_of_the_pid_are_not_told() -> None:
    """The member's pid is born again: from there on it is a stranger."""
    story = Story(11, 12, later=([(10, 11), (1, 10), (10, 12)],))
    assert story.collect() == [(10, 11, True)]


def test_pid_of_a_member_that_a_member_inherits_stays_ours() -> None:
    """The new owner of the pid is a member's child: it and its children are ours."""
    story = Story(11, 12, later=([(10, 11)], [], [(11, 10), (10, 12)]))
    assert story.collect() == [(10, 11, True)]
    assert story.collect() == [(11, 10, True), (10, 12, True)]


def test_child_whose_pid_was_born_again_in_the_same_report_is_held_once() -> None:
    """Two forks with one child pid: only the later one can be who has it now."""
    story = Story(11, later=([(10, 11), (10, 11)],))
    assert story.collect() == [(10, 11, False), (10, 11, True)]


def test_child_whose_pid_was_given_to_a_stranger_is_not_held() -> None:
    """A handle opened by pid holds a stranger if a newer fork of that pid is reported right after; it is let go."""
    story = Story(11, later=([(10, 11)], [(1, 11)]))
    assert story.collect() == [(10, 11, False)]
    assert [10] == [p.ref.pid for p in story.machine.pins]


def test_forks_of_the_stranger_who_got_a_childs_pid_are_not_told() -> None:
    """From the newer fork on, that pid is nobody of ours."""
    story = Story(11, 12, later=([(10, 11)], [(1, 11)], [(11, 12)]))
    assert story.collect() == [(10, 11, False)]
    assert story.collect() == []


def test_child_that_may_not_be_held_is_told_without_a_handle() -> None:
    """It is there, and its own forks are followed."""
    story = Story(11, 12, later=([(10, 11), (11, 12)],))
    story.machine.processes[11].denied = True
    assert story.collect() == [(10, 11, False), (11, 12, True)]


def test_member_of_two_owners_is_told_to_both() -> None:
    """Two targets of one run may share a process."""
    machine = FakeBackend(Process(10, "p"), Process(11, "c"))
    births = Births(machine, Reports([], [], [(10, 11)]))
    pin = machine.pin(10)
    births.own([pin], 0)
    births.own([pin], 1)
    assert [(0, 1)] == [owners for owners, _pin, _child, _parent in births.collect()]


def test_member_that_had_exited_leaves_a_doubt() -> None:
    """Whose the queued forks of its pid are cannot be told: nothing is proved by the reports from then on."""
    machine = FakeBackend(Process(10, "p", exited=True))
    births = Births(machine, Reports([(10, 11)]))
    births.own([machine.pin(10)], 0)
    assert births.collect() == []
    assert not births.complete


def test_lost_report_leaves_a_doubt() -> None:
    """An overflow of the socket is no proof."""
    story = Story()
    assert story.births.complete
    story.reports.lost = True
    assert not story.births.complete


def test_member_that_forks_at_full_rate_does_not_hold_us() -> None:
    """Each look finds one more: the call ends all the same, and says that there is more."""
    story = Story()
    pids = iter(range(100, 10_000))

    def another() -> Forks:
        pid = next(pids)
        story.machine.add(Process(pid, "shard"))
        return [(10, pid)]

    story.reports.then = another
    assert 0 < len(story.collect()) < 100
    assert story.births.pending


def test_strangers_who_fork_at_full_rate_do_not_hold_us() -> None:
    """Their reports are no reason for another round."""
    story = Story()
    pids = iter(range(100, 10_000))
    story.reports.then = lambda: [(1, next(pids))]
    assert story.collect() == []
    assert not story.births.pending


@pytest.mark.parametrize("order", [[(10, 11), (11, 12), (12, 13)], [(10, 11), (10, 12), (12, 13)]])
def test_everything_below_is_told_in_the_order_of_birth(order: Forks) -> None:
    """Parents come before their children."""
    story = Story(11, 12, 13, later=(order,))
    assert [c for _p, c in order] == [child for _parent, child, _held in story.collect()]
    assert all(isinstance(p, FakePin) for p in story.machine.pins)
