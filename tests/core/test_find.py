"""WHAT and filters -> pinned processes: every form, every refusal, and the races between list and handle."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from endtask._find import Finder, find
from endtask.errors import (
    AccessDeniedError,
    AmbiguousError,
    NothingMatchedError,
    OsCallError,
    RefusedError,
    TargetError,
    UsageError,
)
from endtask.model import Filter, Listener, Missing
from tests.core.fake import FakeBackend, Process, says_why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from endtask._find import Found

PID_LIMIT = 1 << 22
ANYTHING = Filter()


def select(
    backend: FakeBackend, *words: str, wanted: Filter = ANYTHING, several: bool = False, table: bool = False
) -> Found:
    """Resolve words."""
    return Finder(backend, wanted, several=several, table=backend.table() if table else None).run(words)


def pids(found: Found) -> list[int]:
    """Return the selected pids; each target must hold exactly one open handle on its process."""
    for target in found.targets:
        assert target.pin is not None
        assert target.pin.ref == target.ref
    return [t.ref.pid for t in found.targets]


def codes(found: Found) -> list[str]:
    """Return why words matched nothing."""
    return [m.code for m in found.missing]


@pytest.fixture
def machine() -> Iterator[FakeBackend]:
    """A machine with a few programs; in the end no handle may be open that no target holds."""
    backend = FakeBackend(
        Process(100, "nginx", uid=0),
        Process(101, "nginx", ppid=100),
        Process(110, "redis", cmdline=("redis", "--port", "6379")),
        Process(120, "worker-with-a-very-long-name"),
        Process(130, "web", uid=1000),
        Process(131, "web", uid=0),
        Process(140, "kworker/0:1", ppid=2, kernel=True),
        Process(150, "defunct", exited=True),
    )
    yield backend
    assert not backend.pins, "a handle was left open"


# --- by pid


@pytest.mark.parametrize("table", [False, True])
def test_pid_selects_that_process(machine: FakeBackend, table: bool) -> None:
    """A number is a pid, and the target carries its full identity and name."""
    found = select(machine, "110", table=table)
    assert pids(found) == [110]
    assert ("redis", machine.processes[110].token) == (found.targets[0].name, found.targets[0].ref.token)
    found.close()


def test_pid_with_its_token_selects_it(machine: FakeBackend) -> None:
    """`pid:token` as `look` prints it."""
    found = select(machine, f"110:{machine.processes[110].token}")
    assert pids(found) == [110]
    found.close()


def test_pid_with_another_token_is_gone(machine: FakeBackend) -> None:
    """Another process has that pid by now: nothing is selected (demand 3.8)."""
    found = select(machine, "110:999999")
    assert codes(found) == ["gone"]
    assert "another process" in found.missing[0].text


def test_pid_that_nobody_has_matches_nothing(machine: FakeBackend) -> None:
    """A free pid is no match."""
    assert [Missing("4242", "no process has the pid 4242")] == select(machine, "4242").missing


def test_denied_handle_is_not_permitted_and_never_gone(machine: FakeBackend) -> None:
    """It exists, and we may not (demand 3.9)."""
    machine.processes[110].denied = True
    assert codes(select(machine, "110")) == ["not-permitted"]


def test_zombie_by_pid_is_selected(machine: FakeBackend) -> None:
    """The user named it, so the report says that it has exited."""
    found = select(machine, "150")
    assert pids(found) == [150]
    found.close()


@pytest.mark.parametrize(
    "word",
    [
        "0",
        "00",
        str(PID_LIMIT + 1),
        "2147483648",
        "4294967297",
        "9" * 400,
        "9" * 5000,
        "-1",
        "-110",
        "+110",
        "110:",
        "110:x",
        "110:t",
        "110:-1",
        "110:" + "9" * 30,
        "0:5",
    ],
)
def test_word_that_can_be_no_pid_is_refused(machine: FakeBackend, word: str) -> None:
    """Zero, negatives, numbers beyond every pid and broken tokens reach no system call (facts B5)."""
    with pytest.raises(TargetError) as caught:
        select(machine, word)
    assert caught.value.exit_code == 2
    assert caught.value.hint


@pytest.mark.parametrize("word", ["12abc", "1 2", "0x10", "1_0", " 110", "110 ", "١١٠", "１１０", "1.5", "²"])
def test_word_that_only_resembles_a_number_is_a_name(machine: FakeBackend, word: str) -> None:
    """ASCII digits only: what int() would take beyond them is no pid."""
    assert codes(select(machine, word)) == ["no-match"]


# --- never


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("900", "endtask itself"),
        ("800", "ancestor"),
        ("1", "pid 1|ancestor"),
        ("140", "kernel thread"),
        ("900:3", "endtask itself"),
        ("0900", "endtask itself"),
    ],
)
def test_naming_what_is_never_touched_is_refused_clearly(machine: FakeBackend, word: str, says: str) -> None:
    """Ourselves, our ancestors, pid 1 and kernel threads (demand 3.21)."""
    with pytest.raises(RefusedError, match=says):
        select(machine, word)


@pytest.mark.parametrize("word", ["endtask", "bash", "init", "*task"])
def test_name_that_means_only_us_is_refused(machine: FakeBackend, word: str) -> None:
    """A name that matches only ourselves or our ancestors is told from one that matches nobody."""
    with pytest.raises(RefusedError, match="never selected"):
        select(machine, word)


def test_name_of_kernel_threads_is_refused(machine: FakeBackend) -> None:
    """Nothing can stop them."""
    with pytest.raises(RefusedError, match="kernel thread"):
        select(machine, "kworker*")


@pytest.mark.parametrize("table", [False, True])
def test_wildcard_for_everything_leaves_out_what_is_never_touched(machine: FakeBackend, table: bool) -> None:
    """`*` with --all selects programs only, roots only, and no zombies."""
    found = select(machine, "*", several=True, table=table)
    assert sorted(pids(found)) == [100, 110, 120, 130, 131]
    found.close()


# --- by name


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("redis", [110]),
        ("red*", [110]),
        ("*s", [110]),
        ("r?dis", [110]),
        ("worker-with-a-very-long-name", [120]),
        ("worker-with-*-name", [120]),
        ("nginx", [100]),  # its child is no independent program
        ("edis", []),
        ("Redis", []),
        ("worker-with-a-v", []),  # the kernel's cut name is not its name
    ],
)
def test_name_is_the_whole_name(machine: FakeBackend, word: str, expected: list[int], table: bool) -> None:
    """Whole names, not cut at 15 bytes, case as the platform has it."""
    found = select(machine, word, table=table)
    assert expected == pids(found)
    assert (codes(found) == ["no-match"]) is (not expected)
    found.close()


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "x) (y",
        "(z)",
        "new\nline",
        "tab\t",
        "caf\udce9",
        "日本語のプログラム",
        "a:b",
        "-",
        "--",
        "[x]",
        "a.b",
        "$(x)",
    ],
)
@pytest.mark.parametrize("table", [False, True])
def test_name_of_any_bytes_is_found(name: str, table: bool) -> None:
    """Blanks, newlines, parentheses, bytes that are no UTF-8: a name is a name (facts, traps for text)."""
    backend = FakeBackend(Process(110, name), Process(111, "other"))
    found = select(backend, name, table=table)
    assert pids(found) == [110]
    found.close()


def test_name_folds_case_where_the_platform_does(machine: FakeBackend) -> None:
    """As on Windows."""
    machine.folds_case = True
    found = select(machine, "REDIS")
    assert pids(found) == [110]
    found.close()


def test_several_programs_for_one_word_are_refused(machine: FakeBackend) -> None:
    """A name is a guess; the error lists what it could mean, and nothing stays open."""
    with pytest.raises(AmbiguousError, match="2 independent programs") as caught:
        select(machine, "web")
    assert len(caught.value.matches) == 2
    assert caught.value.matches[0].startswith(f"130:{machine.processes[130].token} web  user ana")
    assert "--all" in caught.value.hint


def test_several_programs_are_selected_with_all(machine: FakeBackend) -> None:
    """`--all` means it."""
    found = select(machine, "web", several=True)
    assert pids(found) == [130, 131]
    found.close()


def test_descendants_of_a_match_are_not_independent() -> None:
    """Also through a generation with another name, and through a loop in the table."""
    backend = FakeBackend(
        Process(10, "app"),
        Process(11, "shell", ppid=10),
        Process(12, "app", ppid=11),
        Process(20, "loop", ppid=21),
        Process(21, "loop", ppid=20),
    )
    found = select(backend, "app")
    assert pids(found) == [10]
    found.close()
    looped = select(backend, "loop", several=True)
    assert len(pids(looped)) <= 2
    looped.close()


def test_zombie_is_passed_over_when_something_lives() -> None:
    """A dead namesake is not a second program."""
    backend = FakeBackend(Process(10, "app", exited=True), Process(11, "app"))
    found = select(backend, "app")
    assert pids(found) == [11]
    found.close()
    assert not backend.pins


def test_zombie_is_selected_when_it_is_all_there_is(machine: FakeBackend) -> None:
    """Then the report says already-gone and names the guilty parent."""
    found = select(machine, "defunct")
    assert pids(found) == [150]
    found.close()


def test_word_given_twice_is_one_target(machine: FakeBackend) -> None:
    """Two words for one process, one target, one handle, and neither word is missing."""
    found = select(machine, "redis", "110", "redis")
    assert (pids(found), found.missing) == ([110], [])
    found.close()


@pytest.mark.parametrize("words", [("100", "nginx"), (":3000", "nginx"), ("nginx", ":3000"), ("nginx", "nginx")])
@pytest.mark.parametrize("table", [False, True])
def test_words_that_mean_one_program_select_it_once(machine: FakeBackend, words: tuple[str, str], table: bool) -> None:
    """A later word that matches a selected program again adds nothing: what is below that is no other program, and nothing is missing."""
    listen(machine, 100, 101)
    found = select(machine, *words, table=table)
    assert pids(found) == [100]
    assert found.missing == []
    found.close()


def test_name_of_what_is_below_a_selected_program_is_a_target_too(machine: FakeBackend) -> None:
    """A word of its own has an answer of its own in the report."""
    found = select(machine, "100", "101")
    assert pids(found) == [100, 101]
    found.close()


def test_slash_in_a_name_gets_a_hint(machine: FakeBackend) -> None:
    """People give paths."""
    assert "file:/usr/bin/x" in select(machine, "/usr/bin/x").missing[0].text


def test_cut_name_gets_a_hint(machine: FakeBackend) -> None:
    """`ps` and `top` show 15 characters of `worker-with-a-very-long-name`, and a person copies them."""
    assert "`worker-with-a-v*`" in select(machine, "worker-with-a-v").missing[0].text
    assert "*" not in select(machine, "worker-with-a-w").missing[0].text


@pytest.mark.parametrize("word", ["localhost:3000", "http://localhost:3000/", "[::1]:3000", "tcp6:3000"])
def test_address_gets_a_hint(machine: FakeBackend, word: str) -> None:
    """What a person copies out of a log or a browser."""
    assert "who listens on the port: `:3000`" in select(machine, word).missing[0].text


def test_every_word_is_resolved_and_each_missing_one_is_told(machine: FakeBackend) -> None:
    """One word without a match does not hide the others."""
    found = select(machine, "nobody", "redis", "4242")
    assert pids(found) == [110]
    assert ["nobody", "4242"] == [m.what for m in found.missing]
    found.close()


def test_error_in_a_later_word_releases_the_earlier_ones(machine: FakeBackend) -> None:
    """Nothing was done, nothing stays open; the fixture looks."""
    with pytest.raises(RefusedError):
        select(machine, "redis", "900")


def test_denied_match_is_told_beside_one_that_was_selected(machine: FakeBackend) -> None:
    """Success for the one must not hide the other."""
    machine.processes[131].denied = True
    found = select(machine, "web", several=True)
    assert pids(found) == [130]
    assert codes(found) == ["not-permitted"]
    found.close()


def test_only_denied_matches_are_not_permitted(machine: FakeBackend) -> None:
    """77, not 1."""
    machine.processes[110].denied = True
    assert codes(select(machine, "redis")) == ["not-permitted"]


def test_handles_beyond_the_room_are_closed_and_found_again_by_token(machine: FakeBackend) -> None:
    """With few descriptors a target keeps its exact identity instead of a handle."""
    machine.room = 0
    machine.add(*(Process(1000 + n, "many") for n in range(30)))
    found = select(machine, "many", several=True)
    assert len(found.targets) == 30
    assert 0 < len(machine.pins) <= 8
    assert all(t.ref.token for t in found.targets)
    found.close()


@pytest.mark.parametrize("call", ["pin", "short_name", "row"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 8, 12])
def test_failure_at_any_call_leaves_no_handle_open(machine: FakeBackend, call: str, nth: int) -> None:
    """Descriptors run out in the middle, a read fails, the user interrupts: what was opened is released (the fixture looks)."""

    def fail() -> None:
        raise OsCallError("pidfd_open", 24, text="too many open files")

    machine.before(call, fail, nth=nth)
    try:
        select(machine, "web", "redis", "nginx", several=True).close()
    except OsCallError as error:
        says_why(error)


# --- by port


def listen(machine: FakeBackend, *holders: int, proto: str = "tcp", port: int = 3000, uid: int = 1000) -> None:
    """Let processes share a listening socket."""
    machine.ports.setdefault((proto, port), []).append(Listener(proto, "*", port, 7, holders, uid))


@pytest.mark.parametrize(("word", "proto"), [(":3000", "tcp"), ("tcp:3000", "tcp"), ("udp:3000", "udp")])
def test_port_selects_who_listens(machine: FakeBackend, word: str, proto: str) -> None:
    """And the target knows its port, so that the stop can look whether it is free."""
    listen(machine, 110, proto=proto)
    found = select(machine, word)
    assert pids(found) == [110]
    assert found.targets[0].ports == ((proto, 3000),)
    found.close()


def test_port_shared_with_children_is_one_program(machine: FakeBackend) -> None:
    """A server and its workers hold one socket."""
    listen(machine, 100, 101)
    found = select(machine, ":3000")
    assert pids(found) == [100]
    found.close()


@pytest.mark.parametrize("words", [("nginx", ":3000"), (":3000", "nginx")])
def test_port_of_a_program_that_is_selected_already_belongs_to_it(machine: FakeBackend, words: tuple[str, str]) -> None:
    """Whoever names the port wants it to be free, in whatever order the words come."""
    listen(machine, 100, 101)
    found = select(machine, *words)
    assert [(t.ref.pid, t.ports) for t in found.targets] == [(100, (("tcp", 3000),))]
    assert found.targets[0].sockets == frozenset((7,))
    found.close()


def test_two_ports_of_one_program_are_both_looked_at(machine: FakeBackend) -> None:
    """The second word finds the program selected, and adds its port."""
    listen(machine, 110)
    listen(machine, 110, port=3001)
    found = select(machine, ":3000", ":3001")
    assert [(t.ref.pid, t.ports) for t in found.targets] == [(110, (("tcp", 3000), ("tcp", 3001)))]
    found.close()


def test_port_of_nobody_matches_nothing(machine: FakeBackend) -> None:
    """The sentence names protocol and port."""
    assert "nobody listens on udp port 53" in select(machine, "udp:53").missing[0].text


def test_port_whose_holder_is_hidden_is_not_permitted(machine: FakeBackend) -> None:
    """Somebody listens and we may not see who: never "nobody"."""
    listen(machine, uid=0)
    found = select(machine, ":3000")
    assert codes(found) == ["not-permitted"]
    assert "root" in found.missing[0].text


def test_port_whose_holder_nobody_tells_is_not_permitted(machine: FakeBackend) -> None:
    """Windows names no user when it names no process; nor do we."""
    listen(machine, uid=-1)
    found = select(machine, ":3000")
    assert codes(found) == ["not-permitted"]
    assert found.missing[0].text == "somebody listens on :3000, and we may not see which process"


def test_port_held_by_us_is_refused(machine: FakeBackend) -> None:
    """Our own ancestors are never selected, by no form."""
    listen(machine, 1, 800)
    with pytest.raises(RefusedError, match="800 bash"):
        select(machine, ":3000")


@pytest.mark.parametrize(
    "word", [":", ":0", ":65536", ":x", "tcp:", "udp:-1", ":3000x", ":٣٠٠٠", ":" + "9" * 5000, ": 80", "tcp:80:90"]
)
def test_word_that_can_be_no_port_is_refused(machine: FakeBackend, word: str) -> None:
    """Ports go from 1 to 65535 in ASCII digits."""
    with pytest.raises(TargetError, match="not a port"):
        select(machine, word)


def test_port_given_to_a_newcomer_between_list_and_handle(machine: FakeBackend) -> None:
    """The holder is replaced after the list: the newcomer, which does not listen, is let go."""
    listen(machine, 110)

    def replace() -> None:
        machine.remove(110)
        machine.add(Process(110, "innocent"))
        machine.ports.clear()

    machine.before("pin", replace)
    assert codes(select(machine, ":3000")) == ["no-match"]


class _Served(FakeBackend):
    """A machine on which pid 110 holds things for others."""

    def untouchable(self, pid: int, short: str | None = None) -> str:
        return "it is the server of others" if pid == 110 else ""


def test_who_holds_a_port_for_others_is_not_selected(machine: FakeBackend) -> None:
    """Wine's server keeps the sockets of all its programs: the program that also holds it is meant, and without one nobody is."""
    served = _Served(Process(100, "nginx"), Process(110, "wineserver"))
    listen(served, 110, 100)
    found = select(served, ":3000")
    assert pids(found) == [100]
    found.close()
    listen(served, 110, port=3001)
    with pytest.raises(RefusedError, match=r"110 wineserver.*never selects: it is the server of others"):
        select(served, ":3001")


def test_who_holds_a_file_for_others_is_not_selected() -> None:
    """The same for files."""
    served = _Served(Process(100, "nginx"), Process(110, "wineserver"))
    served.open_files["/var/db"] = ([100, 110], 0)
    found = select(served, "file:/var/db")
    assert pids(found) == [100]
    found.close()
    served.open_files["/var/db"] = ([110], 0)
    with pytest.raises(RefusedError, match="it is the server of others"):
        select(served, "file:/var/db")


@pytest.mark.parametrize("word", ["110", "wineserver"])
def test_what_serves_others_is_never_selected_by_itself(word: str) -> None:
    """Neither by pid nor by name, and the sentence says why."""
    with pytest.raises(RefusedError, match="is never selected: it is the server of others"):
        select(_Served(Process(110, "wineserver")), word)


# --- by file and pid file


def test_file_selects_who_holds_it(machine: FakeBackend) -> None:
    """Open, mapped, executed or stood in."""
    machine.open_files["/var/db"] = ([110], 0)
    found = select(machine, "file:/var/db")
    assert pids(found) == [110]
    found.close()


def test_file_held_by_nobody_matches_nothing(machine: FakeBackend) -> None:
    """And says when some processes could not be looked into: then it is no proof."""
    machine.open_files["/a"] = ([], 0)
    machine.open_files["/b"] = ([], 3)
    assert codes(select(machine, "file:/a")) == ["no-match"]
    found = select(machine, "file:/b")
    assert codes(found) == ["not-permitted"]
    assert "3 processes could not be looked into" in found.missing[0].text


def test_file_that_is_not_there_matches_nothing(machine: FakeBackend) -> None:
    """A mistyped path is no fault of ours, and does not stop the other words."""
    found = select(machine, "file:/no/such", "redis")
    assert (pids(found), codes(found)) == ([110], ["no-match"])
    found.close()


def test_file_that_may_not_be_looked_at_is_not_permitted(machine: FakeBackend) -> None:
    """EACCES is not ENOENT."""
    machine.open_files["/secret"] = AccessDeniedError("stat", 13, text="permission denied")
    assert codes(select(machine, "file:/secret")) == ["not-permitted"]


def test_file_held_by_us_is_refused(machine: FakeBackend) -> None:
    """The shell stands in its directory."""
    machine.open_files["/home"] = ([800, 900], 0)
    with pytest.raises(RefusedError, match="only by endtask itself"):
        select(machine, "file:/home")


@pytest.mark.parametrize("word", ["file:", "pidfile:"])
def test_empty_path_is_refused(machine: FakeBackend, word: str) -> None:
    """A colon with nothing after it."""
    with pytest.raises(TargetError, match="names no file"):
        select(machine, word)


@pytest.mark.parametrize("content", [b"110", b"110\n", b" 110 \n", b"110\n/data\n5432\n", b"110\r\n"])
def test_pid_file_selects_the_process_it_names(machine: FakeBackend, content: bytes) -> None:
    """The first line is the pid; postmaster.pid has more lines after it."""
    machine.pid_files["/run/x.pid"] = (content, 5.0)
    found = select(machine, "pidfile:/run/x.pid")
    assert pids(found) == [110]
    found.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"  \n",
        b"x",
        b"110x",
        b"-110",
        b"+110",
        b"0",
        b"0x6e",
        b"110 111",
        b"\x00\xff\xfe",
        b"9" * 4096,
        b"\n110",
        "١١٠".encode(),
        b"99999999",
        b"1_1",
    ],
)
def test_pid_file_without_a_pid_is_refused(machine: FakeBackend, content: bytes) -> None:
    """Empty, binary, huge, out of range: a sentence, no signal (issue 2, bad input)."""
    machine.pid_files["/run/x.pid"] = (content, 5.0)
    with pytest.raises(TargetError) as caught:
        select(machine, "pidfile:/run/x.pid")
    assert caught.value.message


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"1", "pid 1|ancestor"), (b"900", "endtask itself"), (b"800", "ancestor"), (b"140", "kernel")],
)
def test_pid_file_that_names_what_is_never_touched_is_refused(machine: FakeBackend, content: bytes, says: str) -> None:
    """The same rules as for a pid."""
    machine.pid_files["/run/x.pid"] = (content, 5.0)
    with pytest.raises(RefusedError, match=says):
        select(machine, "pidfile:/run/x.pid")


def test_pid_file_that_cannot_be_read_matches_nothing(machine: FakeBackend) -> None:
    """A file that is not there is no process; one that may not be read is not permitted."""
    assert codes(select(machine, "pidfile:/run/no.pid")) == ["no-match"]
    machine.pid_files["/run/x.pid"] = AccessDeniedError("open", 13, text="permission denied")
    assert codes(select(machine, "pidfile:/run/x.pid")) == ["not-permitted"]


def test_pid_file_of_a_dead_process_is_stale(machine: FakeBackend) -> None:
    """Nobody has that pid."""
    machine.pid_files["/run/x.pid"] = (b"4242", 5.0)
    assert codes(select(machine, "pidfile:/run/x.pid")) == ["stale"]


def test_pid_file_whose_process_ends_while_it_is_judged_is_stale(machine: FakeBackend) -> None:
    """It was there, and was reaped before its age was read: gone, not hidden."""
    machine.pid_files["/run/x.pid"] = (b"110", 5.0)
    machine.before("row", lambda: machine.remove(110), nth=2)
    found = select(machine, "pidfile:/run/x.pid")
    assert set(codes(found)) <= {"stale", "gone"}
    found.close()


def test_pid_file_of_a_hidden_process_is_not_trusted(machine: FakeBackend) -> None:
    """Without its age nobody knows whether the file is stale: no identity check is left out silently."""
    machine.pid_files["/run/x.pid"] = (b"110", 5.0)
    machine.hidden.add(110)
    assert codes(select(machine, "pidfile:/run/x.pid")) == ["not-permitted"]


def test_pid_file_whose_process_may_not_be_held_is_not_permitted(machine: FakeBackend) -> None:
    """It exists (demand 3.9)."""
    machine.processes[110].denied = True
    machine.pid_files["/run/x.pid"] = (b"110", 5.0)
    assert codes(select(machine, "pidfile:/run/x.pid")) == ["not-permitted"]


def test_pid_file_older_than_its_process_is_stale(machine: FakeBackend) -> None:
    """A process that started after the file was written did not write it (demand 3.29)."""
    machine.add(Process(4242, "innocent", start=int(machine.clock) - 10))
    machine.pid_files["/run/x.pid"] = (b"4242", 60.0)
    found = select(machine, "pidfile:/run/x.pid")
    assert codes(found) == ["stale"]
    assert "innocent" in found.missing[0].text


def test_pid_file_written_at_the_start_is_good(machine: FakeBackend) -> None:
    """Clocks have ticks: the same moment is not older."""
    machine.add(Process(4242, "app", start=int(machine.clock) - 60))
    machine.pid_files["/run/x.pid"] = (b"4242", 60.0)
    found = select(machine, "pidfile:/run/x.pid")
    assert pids(found) == [4242]
    found.close()


@pytest.mark.parametrize("call", ["row", "pin"])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("there_before", [True, False])
def test_newcomer_under_the_pid_of_a_pid_file_is_never_selected(
    machine: FakeBackend, call: str, nth: int, there_before: bool
) -> None:
    """Whenever the pid changes hands while the file is judged, the newcomer is not the target (demand 3.8, 3.29)."""
    if there_before:
        machine.add(Process(4242, "app", start=10))
    machine.pid_files["/run/x.pid"] = (b"4242", 60.0)
    newcomer = Process(4242, "innocent", start=int(machine.clock))

    def replace() -> None:
        if 4242 in machine.processes:
            machine.remove(4242)
        machine.add(newcomer)

    machine.before(call, replace, nth=nth)
    found = select(machine, "pidfile:/run/x.pid")
    assert newcomer.token not in [t.ref.token for t in found.targets if newcomer.token]
    found.close()


# --- other forms


@pytest.mark.parametrize("word", ["", "win:*x*", "unit:nginx.service", "ctr:web"])
def test_form_that_is_not_there_is_refused_with_another_way(machine: FakeBackend, word: str) -> None:
    """Said clearly, with what to use instead."""
    with pytest.raises(TargetError) as caught:
        select(machine, word)
    assert caught.value.hint


ANY_WORD = st.one_of(
    st.text(max_size=12),
    st.tuples(
        st.sampled_from(["", "tcp:", "udp:", "file:", "pidfile:", "win:", "unit:", "1:", "110:", "-", "+"]),
        st.text("0129tx:*?/ -²", max_size=6),
    ).map("".join),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.lists(ANY_WORD, min_size=1, max_size=3), st.booleans(), st.booleans())
@example(given=["\ud800"], several=False, table=True)
@example(given=["a\x00b"], several=False, table=False)
def test_any_words_select_or_fail_clearly(given: list[str], several: bool, table: bool) -> None:
    """No words lead to another exception than ours, nothing forbidden is selected, and no handle is left open."""
    backend = FakeBackend(
        Process(100, "1"), Process(110, "x"), Process(120, "x", ppid=110), Process(140, "0", kernel=True)
    )
    try:
        found = select(backend, *given, several=several, table=table)
    except (UsageError, OsCallError) as error:
        says_why(error)
    else:
        assert set(pids(found)) <= {100, 110, 120}
        found.close()
    assert not backend.pins


# --- filters


@pytest.mark.parametrize("table", [False, True])
def test_filter_narrows_a_name(machine: FakeBackend, table: bool) -> None:
    """Two programs of one name, one user."""
    found = select(machine, "web", wanted=Filter(user="root"), table=table)
    assert pids(found) == [131]
    found.close()


def test_filter_narrows_a_pid(machine: FakeBackend) -> None:
    """A pid that does not pass is told so."""
    found = select(machine, "110", wanted=Filter(user="root"))
    assert codes(found) == ["no-match"]
    assert "does not pass the filters" in found.missing[0].text


def test_filter_narrows_a_port(machine: FakeBackend) -> None:
    """The sentence says that the filters were the reason."""
    listen(machine, 110)
    assert "passes the filters" in select(machine, ":3000", wanted=Filter(user="root")).missing[0].text


def test_filter_keeps_a_child_that_passes_when_its_parent_does_not(machine: FakeBackend) -> None:
    """Independence is judged among what passes."""
    found = select(machine, "nginx", wanted=Filter(user="ana"))
    assert pids(found) == [101]
    found.close()


# --- races between the list and the handle


@pytest.mark.parametrize("table", [False, True])
def test_process_replaced_between_list_and_handle_is_let_go(machine: FakeBackend, table: bool) -> None:
    """The pid was reused before the handle was opened: the newcomer has another name (demand 3.8)."""

    def replace() -> None:
        machine.remove(110)
        machine.add(Process(110, "innocent"))

    machine.before("pin", replace)
    assert codes(select(machine, "redis", table=table)) == ["no-match"]


def test_process_replaced_by_a_namesake_is_selected_as_what_it_is(machine: FakeBackend) -> None:
    """The newcomer matches by itself, and the identity is the newcomer's."""

    def replace() -> None:
        machine.remove(110)
        machine.add(Process(110, "redis"))

    machine.before("pin", replace)
    found = select(machine, "redis")
    assert [machine.processes[110].token] == [t.ref.token for t in found.targets]
    found.close()


def test_process_that_vanishes_while_the_list_is_read_matches_nothing(machine: FakeBackend) -> None:
    """The list of pids is older than the names."""
    machine.before("short_name", lambda: machine.remove(110))
    assert codes(select(machine, "redis")) == ["no-match"]


def test_process_that_vanishes_before_the_handle_matches_nothing(machine: FakeBackend) -> None:
    """Gone between list and handle."""
    machine.before("pin", lambda: machine.remove(110))
    assert codes(select(machine, "redis")) == ["no-match"]


def test_process_replaced_after_the_handle_was_opened_never_lends_its_name(machine: FakeBackend) -> None:
    """The handle's process is dead by then, so nothing can be sent to the newcomer; it is not selected as a live match."""

    def replace() -> None:
        machine.remove(110)
        machine.add(Process(110, "redis"))

    calls = len(machine.list_pids())
    machine.before("short_name", replace, nth=calls + 1)  # the first reading after the handle
    found = select(machine, "redis")
    assert machine.processes[110].token not in [t.ref.token for t in found.targets]
    found.close()


def test_process_that_changes_its_name_is_let_go(machine: FakeBackend) -> None:
    """It called exec between list and handle: what it is now does not match."""

    def rename() -> None:
        machine.processes[110].name = "renamed"

    machine.before("pin", rename)
    assert codes(select(machine, "redis")) == ["no-match"]


def test_process_that_changes_its_user_is_let_go(machine: FakeBackend) -> None:
    """Filters are asked again through the handle."""

    def change() -> None:
        machine.processes[110].uid = 0

    machine.before("pin", change)
    assert codes(select(machine, "redis", wanted=Filter(user="ana"))) == ["no-match"]


# --- the function for one question


def test_find_returns_identities_and_names_and_releases_everything(machine: FakeBackend) -> None:
    """The cheapest question: who is it."""
    assert [(str(machine.processes[110].token), "redis")] == [
        (r.token, n) for r, n in find(machine, ["redis"], Filter())
    ]
    assert [130, 131] == [r.pid for r, _name in find(machine, ["web"], Filter())]


def test_find_of_nobody_is_an_error(machine: FakeBackend) -> None:
    """With the sentence of the resolver, and nothing left open."""
    with pytest.raises(NothingMatchedError, match="named `nobody`"):
        find(machine, ["redis", "nobody"], Filter())
