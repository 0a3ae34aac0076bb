"""Which processes a target owns, on families built by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask._scope import Family, group_strangers, is_orphan, own_cgroup, owned, suspects, whole
from endtask.model import Row


def row(
    pid: int, ppid: int, *, sid: int = 0, pgid: int = 0, start: int = 0, comm: str = "x", kernel: bool = False
) -> Row:
    """Return a line; by default a process leads its own session and group and started in order of its pid."""
    sid = sid or pid
    return Row(pid, ppid, pgid or sid, sid, start or pid, "S", comm, kernel)


def nobody(_row: Row) -> bool:
    """Know nobody of the run."""
    return False


def family(*rows: Row) -> Family:
    """Return a family with an init above everything."""
    return Family({r.pid: r for r in (row(1, 0, comm="systemd"), *rows)})


def ties(fam: Family, target: int, **more: object) -> dict[int, str]:
    """Return pid -> tie in words."""
    found = owned(fam, target, **more)  # type: ignore[arg-type]  # only passed through
    return {pid: tie for pid, (tie, _depth) in found.items()}


# --- descendants


def test_target_alone_owns_itself() -> None:
    """A process without children is its own scope."""
    assert ties(family(row(10, 1), row(11, 1)), 10) == {10: "target"}


def test_descendants_are_owned_with_parent_and_depth() -> None:
    """Children of children belong to it, however deep, and say whose child they are."""
    fam = family(row(10, 1), row(11, 10, sid=10), row(12, 11, sid=10), row(13, 12, sid=10), row(20, 1))
    expected = {10: ("target", 0), 11: ("child of 10", 1), 12: ("child of 11", 2), 13: ("child of 12", 3)}
    assert expected == owned(fam, 10)


def test_child_in_a_session_of_its_own_is_owned_while_its_parent_lives() -> None:
    """Setsid alone cuts no parentage."""
    assert set(ties(family(row(10, 1), row(11, 10)), 10)) == {10, 11}


def test_ancestors_and_siblings_are_not_owned() -> None:
    """Only what is below belongs to a target."""
    fam = family(row(5, 1), row(10, 5, sid=5), row(11, 5, sid=5), row(12, 10, sid=5))
    assert set(ties(fam, 10)) == {10, 12}


def test_child_older_than_its_parent_is_a_reused_pid() -> None:
    """A parent pid that was reused has children that are older than its new owner: they are not its own."""
    fam = family(
        row(10, 1, start=500),
        row(11, 10, sid=3, start=20),
        row(12, 10, sid=10, start=501),
        row(13, 11, sid=3, start=600),
    )
    assert set(ties(fam, 10)) == {10, 12}


def test_child_of_the_same_tick_is_a_child() -> None:
    """Start times have ticks of 10 ms, so equal is not older."""
    assert set(ties(family(row(10, 1, start=7), row(11, 10, sid=10, start=7)), 10)) == {10, 11}


def test_loop_in_the_table_ends() -> None:
    """A table read in pieces may show a circle; the walk ends all the same."""
    fam = family(row(10, 12, sid=5, start=1), row(11, 10, sid=5, start=1), row(12, 11, sid=5, start=1))
    assert set(ties(fam, 10)) == {10, 11, 12}
    assert fam.ancestors(10) == [12, 11]


def test_ancestors_are_listed_from_the_parent_upwards() -> None:
    """The chain ends at init or at what is hidden."""
    fam = family(row(5, 1), row(10, 5), row(12, 10), row(30, 29))
    assert fam.ancestors(12) == [10, 5, 1]
    assert fam.ancestors(30) == [29]
    assert fam.ancestors(99) == []


# --- orphans that still carry a tie


def test_orphan_in_the_targets_session_is_owned() -> None:
    """A child whose parent died is adopted by init and keeps the session (demand 3.5)."""
    fam = family(row(10, 1), row(12, 1, sid=10, pgid=12), row(13, 12, sid=10, pgid=12))
    assert ties(fam, 10) == {10: "target", 12: "session 10", 13: "child of 12"}


def test_orphan_in_the_targets_group_is_owned() -> None:
    """A job started by an interactive shell leads a group inside the shell's session; its orphans carry the group."""
    fam = family(row(5, 1), row(10, 5, sid=5, pgid=10), row(12, 1, sid=5, pgid=10))
    assert ties(fam, 10) == {10: "target", 12: "group 10"}


def test_orphan_adopted_by_a_subreaper_outside_its_session_is_owned() -> None:
    """A user's systemd or a terminal multiplexer adopts instead of init."""
    fam = family(row(4, 1, comm="systemd"), row(10, 4), row(12, 4, sid=10, pgid=12))
    assert set(ties(fam, 10)) == {10, 12}


def test_orphan_of_a_members_session_is_owned() -> None:
    """Ties are followed from every member, not only from the target."""
    fam = family(row(10, 1), row(11, 10), row(12, 1, sid=11, pgid=11), row(13, 12), row(14, 1, sid=13, pgid=13))
    assert set(ties(fam, 10)) == {10, 11, 12, 13, 14}


def test_target_that_has_gone_owns_nothing_by_this_table() -> None:
    """Its number may name others by now; what it left is found through the rows that were known before."""
    fam = family(row(12, 1, sid=10, pgid=10), row(13, 12, sid=10, pgid=10), row(20, 1))
    assert ties(fam, 10) == {10: "target"}


def test_group_of_a_member_that_has_gone_is_owned_through_the_session() -> None:
    """A member that left only its group behind leaves it in the target's session."""
    fam = family(row(10, 1), row(14, 1, sid=10, pgid=11))
    assert set(ties(fam, 10)) == {10, 14}


def test_orphan_older_than_the_target_is_not_owned() -> None:
    """What was there before the target cannot have come from it."""
    fam = family(row(10, 1, start=100), row(12, 1, sid=10, pgid=10, start=50))
    assert set(ties(fam, 10)) == {10}


def test_members_of_its_own_cgroup_are_owned_if_they_are_orphans() -> None:
    """A daemon that left session and group is still in the unit's cgroup."""
    fam = family(row(10, 1), row(12, 1), row(13, 12), row(14, 1))
    expected = {10: "target", 12: "cgroup /a.service", 13: "child of 12"}
    assert expected == ties(fam, 10, cgroup_pids=(10, 12), cgroup="/a.service")


def test_cgroup_pid_that_is_not_in_the_table_is_left_to_the_next_scan() -> None:
    """The list of a cgroup and the table are read one after the other."""
    assert ties(family(row(10, 1)), 10, cgroup_pids=(10, 77), cgroup="/a") == {10: "target"}


def test_kernel_thread_is_never_owned_as_an_orphan() -> None:
    """Kernel threads have session and group 0 and no parent that matters."""
    fam = family(row(10, 1), Row(12, 2, 10, 10, 50, "S", "kworker", True))
    assert set(ties(fam, 10, cgroup_pids=(12,), cgroup="/a")) == {10}


# --- what merely shares something


def test_pipeline_siblings_are_not_owned() -> None:
    """`a | b | c` shares a group that carries a's pid, and each has the living shell as its parent."""
    shell = row(5, 1)
    fam = family(shell, row(10, 5, sid=5, pgid=10), row(11, 5, sid=5, pgid=10), row(12, 5, sid=5, pgid=10))
    for pid in (10, 11, 12):
        assert {pid} == set(ties(fam, pid))


def test_other_jobs_of_the_same_shell_are_not_owned() -> None:
    """Sharing a session with a living parent there is no tie."""
    fam = family(row(5, 1), row(10, 5, sid=5, pgid=10), row(20, 5, sid=5, pgid=20))
    assert set(ties(fam, 10)) == {10}


def test_shell_owns_its_jobs() -> None:
    """Stopping the session's leader means all that it started."""
    fam = family(row(5, 1), row(10, 5, sid=5, pgid=10), row(20, 5, sid=5, pgid=20))
    assert set(ties(fam, 5)) == {5, 10, 20}


def test_child_that_called_setsid_is_no_orphan_of_another_session() -> None:
    """It leads its session, and its living parent outside of it forked it."""
    fam = family(row(5, 1), row(10, 5))
    assert not is_orphan(fam, fam.table[10])


@pytest.mark.parametrize(
    ("member", "orphan"),
    [
        (row(10, 1, sid=7), True),
        (row(10, 0, sid=7), True),
        (row(10, 99, sid=7), True),  # the parent is hidden
        (row(10, 5, sid=5), False),
        (row(10, 5, sid=7), True),  # outside the parent's session without leading one
        (row(10, 5), False),
    ],
)
def test_orphan_is_told_by_its_parent_and_session(member: Row, orphan: bool) -> None:
    """The kernel does not say who is adopted; session and parent do."""
    fam = family(row(5, 1), member)
    assert orphan is is_orphan(fam, member)


# --- other scopes


CROWD = (row(5, 1), row(10, 5, sid=5, pgid=10), row(11, 5, sid=5, pgid=10), row(12, 5, sid=5, pgid=12), row(13, 1))


@pytest.mark.parametrize(
    ("kind", "pids"), [("only", {10}), ("group", {10, 11}), ("session", {5, 10, 11, 12}), ("cgroup", {10, 13})]
)
def test_whole_scope_is_taken_as_it_is(kind: str, pids: set[int]) -> None:
    """Group, session and cgroup are exactly what the kernel calls so."""
    fam = family(*CROWD)
    assert pids == set(whole(fam, fam.table[10], kind, (10, 13), "/a"))


@pytest.mark.parametrize(
    ("kind", "pids"), [("only", {10}), ("group", {10, 11}), ("session", {5, 10, 11, 12}), ("cgroup", {10, 13})]
)
def test_whole_scope_of_a_target_that_has_gone_is_still_told(kind: str, pids: set[int]) -> None:
    """Its group, session and cgroup are known from before; what is in them now is the scope."""
    gone = CROWD[1]
    fam = family(*(r for r in CROWD if r is not gone))
    assert pids == set(whole(fam, gone, kind, (10, 13), "/a"))


def test_kernel_threads_are_in_no_scope() -> None:
    """Whatever a table says."""
    fam = family(row(10, 1), Row(12, 2, 10, 10, 50, "S", "kworker", True))
    assert set(whole(fam, fam.table[10], "group")) == {10}


# --- suspects


def test_young_orphans_are_suspects_and_old_ones_are_not() -> None:
    """A double fork into its own session leaves no tie; it is younger than the target and adopted."""
    fam = family(row(10, 5, sid=5, start=100), row(5, 1, start=1), row(60, 1, start=150), row(61, 1, start=50))
    assert [60] == [r.pid for r in suspects(fam, fam.table[10], (5, 1), nobody) if r.pid != 10]


def test_targets_of_one_run_are_sieved_once() -> None:
    """Two thousand orphans that are all to be stopped are no suspects of one another, and nobody asks that of each pair."""
    orphans = [row(pid, 1, sid=9, pgid=9) for pid in range(100, 2100)]
    fam = family(*orphans, row(60, 1, sid=9, pgid=9, start=10**6))
    asked = []

    def known(of: Row) -> bool:
        asked.append(of.pid)
        return of.pid >= 100

    for orphan in orphans:
        assert [r.pid for r in suspects(fam, orphan, (1,), known)] == [60]
    assert len(asked) <= 2 * len(orphans)


def test_ancestors_and_kernel_threads_are_no_suspects() -> None:
    """Who is above the target, or the kernel, is not suspected; known members are left out by the caller."""
    fam = family(
        row(10, 5, start=100), row(5, 1, start=100), row(60, 1, start=150), Row(61, 1, 0, 0, 150, "S", "k", True)
    )
    assert [60] == [r.pid for r in suspects(fam, fam.table[10], (5, 1), nobody) if r.pid != 10]


def test_orphan_with_the_pid_of_an_ancestor_that_has_ended_is_a_suspect() -> None:
    """Pid 5 was the parent of the target; it has ended, and whoever began later with its pid may be the target's child."""
    fam = family(row(10, 1, start=100), row(5, 1, start=150))
    assert [5] == [r.pid for r in suspects(fam, fam.table[10], (5, 1), nobody) if r.pid != 10]


def test_orphan_below_a_reaper_among_the_ancestors_is_a_suspect() -> None:
    """A subreaper that adopts an escaped child is an ancestor of the target (prctl(2))."""
    fam = family(row(4, 1, comm="systemd"), row(10, 4, start=100), row(60, 4, start=150))
    assert [60] == [r.pid for r in suspects(fam, fam.table[10], (4, 1), nobody) if r.pid != 10]


def test_child_of_a_living_ancestor_in_a_whole_session_is_no_suspect() -> None:
    """The shell's next job was forked by the shell, not adopted."""
    fam = family(row(5, 1, comm="bash"), row(10, 5, sid=5, pgid=10), row(60, 5, sid=5, pgid=60, start=150))
    assert suspects(fam, fam.table[10], (5, 1), nobody) == []


def test_child_of_an_ancestor_with_a_dead_session_leader_is_a_suspect() -> None:
    """A double fork leaves a session whose leader has died."""
    fam = family(row(5, 1, comm="agent"), row(10, 5, sid=5), row(60, 5, sid=59, pgid=59, start=150))
    assert [60] == [r.pid for r in suspects(fam, fam.table[10], (5, 1), nobody) if r.pid != 10]


# --- the group of a target


def test_group_member_with_a_shell_as_parent_is_innocent() -> None:
    """The other half of a pipeline."""
    fam = family(row(5, 1, comm="bash"), row(10, 5, sid=5, pgid=10), row(11, 5, sid=5, pgid=10))
    assert [r.pid for r in group_strangers(fam, fam.table[10]) if r.pid != 10] == []


def test_group_member_with_another_parent_is_a_stranger() -> None:
    """Its parent may have started it or adopted it (a subreaper in the same session); nobody can tell which."""
    fam = family(
        row(5, 1, comm="agent"), row(10, 5, sid=5, pgid=10), row(11, 5, sid=5, pgid=10), row(12, 5, sid=5, pgid=12)
    )
    assert [11] == [r.pid for r in group_strangers(fam, fam.table[10]) if r.pid != 10]


def test_group_that_the_target_does_not_lead_says_nothing() -> None:
    """Then the group is somebody else's."""
    fam = family(row(5, 1, comm="agent"), row(10, 5, sid=5, pgid=5), row(11, 5, sid=5, pgid=5))
    assert [r.pid for r in group_strangers(fam, fam.table[10]) if r.pid != 10] == []


# --- cgroup names


@pytest.mark.parametrize(
    ("cgroup", "own"),
    [
        ("/system.slice/nginx.service", True),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service", True),
        (f"/docker/{'0123abcd' * 8}", True),
        (f"/system.slice/docker-{'0123abcd' * 8}.scope", True),
        (f"/machine.slice/libpod-{'0123abcd' * 8}.scope", True),
        ("/docker/short", False),
        ("", False),
        ("/", False),
        ("/system.slice", False),
        ("/init.scope", False),
        ("/system.slice/cron.service", False),
        ("/system.slice/ssh.service", False),
        ("/user.slice/user-1000.slice/session-3.scope", False),
        ("/user.slice/user-1000.slice/user@1000.service", False),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope", False),
    ],
)
def test_cgroups_that_can_be_one_programs_own(cgroup: str, own: bool) -> None:
    """The root, slices and login sessions hold more than one program."""
    assert own is own_cgroup(cgroup)


# --- properties


@st.composite
def families(draw: st.DrawFn) -> Family:
    """Any table, consistent or not: parents, sessions and groups point anywhere."""
    pids = draw(st.lists(st.integers(2, 30), unique=True, min_size=1, max_size=15))
    anyone = st.sampled_from([0, 1, 77, *pids])
    rows = [
        Row(
            pid,
            draw(anyone),
            draw(anyone),
            draw(anyone),
            draw(st.integers(0, 20)),
            "S",
            draw(st.sampled_from(["x", "init"])),
            draw(st.booleans()),
        )
        for pid in pids
    ]
    return Family({r.pid: r for r in rows})


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(families(), st.data())
def test_everything_owned_is_connected_and_not_older(fam: Family, data: st.DataObject) -> None:
    """On any table: each member is a child of a member or an orphan with a member's id, and none is older than what it hangs on."""
    target = data.draw(st.sampled_from(sorted(fam.table)))
    top = fam.table[target]
    found = owned(fam, target)
    assert found[target] == ("target", 0)
    for pid, (tie, depth) in found.items():
        member = fam.table[pid]
        if pid == target:
            continue
        assert depth >= 1
        word, _, number = tie.rpartition(" ")
        assert int(number) in found
        if word == "child of":
            assert member.ppid == int(number)
            assert member.start >= fam.table[int(number)].start
        else:
            assert is_orphan(fam, member)
            assert int(number) == (member.sid if word == "session" else member.pgid)
            assert not member.kernel
            assert member.start >= top.start


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(families(), st.data())
def test_suspects_are_never_ancestors_and_never_older(fam: Family, data: st.DataObject) -> None:
    """Whoever is suspected could have come from the target."""
    top = fam.table[data.draw(st.sampled_from(sorted(fam.table)))]
    above = fam.ancestors(top.pid)
    for suspect in (*suspects(fam, top, above, nobody), *group_strangers(fam, top)):
        assert suspect.start >= top.start
    for suspect in suspects(fam, top, above, nobody):
        assert suspect.pid not in above
        assert not suspect.kernel


# --- Windows programs under Wine, which forks twice for all that it starts


def _launched(pid: int, *, pgid: int, sid: int = 5, comm: str = "b.exe") -> Row:
    return row(pid, 1, sid=sid, pgid=pgid, comm=comm)


@pytest.mark.parametrize("init", ["systemd", "sh"])
def test_program_of_the_same_launch_is_suspected(init: str) -> None:
    """An orphan in the group of the target, or with a session of its own: the target may have started it."""
    rows = [row(5, 1), row(9, 5, sid=5, comm="start.exe"), _launched(10, pgid=9, comm="cmd.exe")]
    rows += [_launched(11, pgid=9), _launched(12, pgid=12, sid=12)]
    fam = Family({r.pid: r for r in (row(1, 0, comm=init), *rows)})
    assert {10, 11, 12} == {r.pid for r in suspects(fam, fam.table[10], [1], nobody)}  # known members among them


@pytest.mark.parametrize("init", ["systemd", "sh"])
def test_program_of_another_launch_is_not_suspected(init: str) -> None:
    """The launcher that leads its group still waits for it: it is another command of the same shell."""
    rows = [row(5, 1), row(9, 5, sid=5, comm="start.exe"), _launched(10, pgid=9, comm="a.exe")]
    rows += [row(11, 5, sid=5, pgid=11, comm="start.exe"), _launched(12, pgid=11)]
    fam = Family({r.pid: r for r in (row(1, 0, comm=init), *rows)})
    assert [] == [r.pid for r in suspects(fam, fam.table[10], [1], nobody) if r.pid == 12]
