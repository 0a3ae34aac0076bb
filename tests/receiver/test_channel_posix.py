"""Real programs that are talked to: by good requesters, bad ones, and strangers; and files that somebody has planted."""

from __future__ import annotations

import glob
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

from endtask_receiver import listen
from endtask_receiver._channel import PEERS_MAX
from endtask_receiver._channel_posix import ChannelEar
from endtask_receiver._watcher import Watcher

from .lab import LIMIT_S, MINORS, Program, folder_of_the_receiver, interpreter
from .talk import Requester, folder, path_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

WAITS = """
    from endtask_receiver import listen
    from endtask_receiver import Policy
    with listen(name="ingest", policy=Policy(window_s=0.0)) as stop:  # so that tests need not wait between requests
        print("ready")
        stop.wait()
        print(repr(stop.request.name), stop.request.channel, stop.request.reason, stop.hurry)
        {}
"""

PROGRESS = """
    import sys
    from endtask_receiver import listen
    with listen() as stop:
        print("ready")
        for line in sys.stdin:
            exec(line)
        print(stop.asked, stop.hurry, stop.faults)
"""


def waiting(then: str = "") -> Program:
    """Return a program that waits to be asked."""
    return Program(WAITS.format(then))


def working() -> Program:
    """Return a program that does what it reads, line by line."""
    return Program(PROGRESS, stdin=subprocess.PIPE)


def do(program: Program, line: str) -> None:
    """Have it do something."""
    assert program.process.stdin is not None
    program.process.stdin.write(line.encode() + b"\n")
    program.process.stdin.flush()


def over(program: Program) -> None:
    """Have it end."""
    assert program.process.stdin is not None
    program.process.stdin.close()
    program.process.stdin = None


# ---------------------------------------------------------------- a conversation


def test_a_whole_conversation() -> None:
    """Hello, notice, signal, heard, progress, more time, and the end."""
    with (
        Program(
            """
            from endtask_receiver import listen
            with listen(name="ingest") as stop:
                print("ready")
                stop.wait()
                print(stop.request, round(stop.left(), -3))
                stop.tell("draining", 3, 15)
                stop.need(20, "flushing")
                moved = __import__("threading").Event()
                stop.add_waker(lambda: stop.left() > 15_000 and moved.set())
                moved.wait()
                print(round(stop.left(), -3))
                stop.cleanup(int, name="close db")
            """
        ) as program,
    ):
        program.expect("ready")
        with Requester(program.pid) as requester:
            hello = requester.hear()
            assert hello is not None
            assert hello["endtask"] == 1
            assert hello["hello"]["pid"] == program.pid
            assert hello["hello"]["name"] == "ingest"
            requester.notice(9000.0)  # so long that a busy machine makes no difference
            program.send()
            heard = requester.until("heard")["heard"]
            assert (heard["name"], heard["channel"]) == ("SIGTERM", "signal")
            assert 8900 < heard["left_s"] <= 9000
            program.expect(f"SIGTERM from {os.getpid()}: deploy 12 9000.0")
            assert requester.until("tell")["tell"] == {"text": "draining", "done": 3, "total": 15}
            assert requester.until("need")["need"] == {"seconds": 20.0, "text": "flushing"}
            requester.say(granted={"left_s": 20_000.0})
            program.expect("20000.0")
            (last,) = requester.rest()
            assert last["cleanup"]["text"].startswith("close db: done")
        program.ends(0)


@pytest.mark.parametrize("how", ["stop.wait()", "while not stop: pass", "asyncio.run(aio.wait(stop))"])
def test_a_request_that_overtakes_its_notice_is_known_with_it(how: str) -> None:
    """The signal is sent right after the notice, and is faster; who looks at it sees what belongs to it all the same."""
    code = f"""
        import asyncio
        from endtask_receiver import listen, aio, Policy, _channel
        _channel.SETTLE_S = {LIMIT_S}  # a busy machine needs longer than it waits
        with listen(policy=Policy(steps=["ask"], window_s=0.0)) as stop:
            for turn in range(10):
                print("ready")
                {how}
                print(stop.request.reason, 800 < stop.left() <= 900)
                stop.veto("once more")
    """
    with Program(code) as program:
        for turn in range(10):
            program.expect("ready")
            with Requester(program.pid) as requester:
                requester.until("hello")
                requester.say(notice={"left_s": 900, "request": "TERM", "reason": f"deploy {turn}", "by": "a test"})
                program.send()
                program.expect(f"deploy {turn} True")
                requester.until("veto")
        program.ends(0)


def test_a_request_by_the_channel_ends_a_program() -> None:
    """No signal is needed. Its status is 0: no signal has ended it."""
    with waiting("stop.finish()") as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask()
            assert requester.until("heard")["heard"]["channel"] == "channel"
            program.ends(0, "'CHANNEL' channel deploy 12 False")
        assert not os.path.exists(f"{folder()}/{program.pid}")


def test_a_veto_is_told() -> None:
    """And the program goes on."""
    with Program(
        """
        from endtask_receiver import listen, Policy
        with listen(policy=Policy(window_s=0.0)) as stop:
            print("ready")
            stop.wait()
            stop.veto("recording")
            stop.wait()
            print(stop.request.reason)
        """
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask(reason="a")
            assert requester.until("veto")["veto"] == {"text": "recording"}
            with Requester(program.pid) as another:
                hello = another.hear()
                assert hello is not None
                assert hello["hello"]["state"] == "running"
                another.ask(reason="b")
                program.ends(0, "b")


def test_who_asks_and_goes_away_at_once_has_asked() -> None:
    """It does not even wait for our hello."""
    for _ in range(20):
        with waiting() as program:
            program.expect("ready")
            with Requester(program.pid) as requester:
                requester.ask()
            program.ends(0, "'CHANNEL' channel deploy 12 False")


def test_channel_and_signals_count_together() -> None:
    """A second distinct request hurries, a third one ends the process; its file is gone all the same."""
    with waiting("stop.nap(1000); [None for _ in iter(int, 1)]") as program:
        program.expect("ready")
        path = path_of(program.pid)
        with Requester(program.pid) as requester:
            requester.ask()
            program.line()
            requester.until("heard")
            program.send()
            assert requester.until("heard")["heard"]["name"] == "SIGTERM"
            requester.ask()
            assert requester.rest() == []
        assert program.end()[0] == 128 + signal.SIGTERM
        assert not os.path.exists(path)


# ---------------------------------------------------------------- where it listens

LISTENS = """
    import os, sys
    from endtask_receiver import listen, _channel_place
    if len(sys.argv) > 1:
        _channel_place._folders = lambda: iter(sys.argv[1:])
    with listen() as stop:
        for line in stop.ears:
            if line.startswith("channel"):
                print(line)
        print("ready")
        stop.wait()
"""


def ears_of(program: Program) -> list[str]:
    """Return what it says about the channel."""
    return list(iter(program.line, "ready"))


@pytest.mark.parametrize("mask", [0, 0o177, 0o777])
def test_the_socket_is_ours_alone_and_gone_at_the_end(mask: int, tmp_path: Path) -> None:
    """Folder and file, with any mask."""
    code = f"import os; os.umask({mask})\nfrom endtask_receiver import listen\nwith listen() as stop: print('ready'); stop.wait()"
    with Program(code, env={"XDG_RUNTIME_DIR": str(tmp_path)}) as program:
        program.expect("ready")
        path = path_of(program.pid, f"{tmp_path}/endtask")
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(f"/proc/{program.pid}/stat") as file:
            assert path.endswith(f"/{program.pid}." + file.read().rpartition(")")[2].split()[19])
        program.send()
        program.ends(0)
        assert os.listdir(tmp_path / "endtask") == []


def plant_link(path: str) -> str:
    """A link to a folder of ours."""
    os.mkdir(path + "-elsewhere", 0o700)
    os.symlink(path + "-elsewhere", path)
    return "; it must be a folder, and no link to one"


def plant_file(path: str) -> str:
    """A file."""
    with open(path, "w") as file:
        file.write("precious")
    return "; it must be a folder, and no link to one"


def plant_open_folder(path: str) -> str:
    """A folder that others may enter."""
    os.mkdir(path)
    os.chmod(path, 0o770)
    return ": others may enter it (mode 0770)"


def plant_foreign_folder(path: str) -> str:
    """A folder of somebody else."""
    os.mkdir(path, 0o700)
    os.chown(path, NOBODY, NOBODY)
    return f": it belongs to user {NOBODY}"


def plant_nothing_above(path: str) -> str:
    """A link to nothing."""
    os.mkdir(path + "-elsewhere", 0o700)
    os.symlink(path + "-nowhere", path)
    return "; it must be a folder, and no link to one"


PLANTS = [plant_link, plant_file, plant_open_folder, pytest.param(plant_foreign_folder, marks=needs_root), plant_nothing_above]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_folder_is_not_used(plant: object, tmp_path: Path) -> None:
    """The next one is, and it says why. Nothing is made or changed in what was planted."""
    assert callable(plant)
    planted, good = f"{tmp_path}/endtask", f"{tmp_path}/good"
    why = plant(planted)
    with Program(LISTENS, planted, good) as program:
        first, second = ears_of(program)
        assert first.startswith(f"channel: not used: {planted}")
        assert first.endswith(why)
        assert second == f"channel: {path_of(program.pid, good)}"
        with Requester(program.pid, path_of(program.pid, good)) as requester:
            requester.ask()
        program.ends(0)
    for each in (planted, planted + "-elsewhere"):
        if os.path.isdir(each):
            assert os.listdir(each) == []
    if os.path.isfile(planted):
        with open(planted) as file:
            assert file.read() == "precious"


def test_without_any_place_it_works_and_says_so(tmp_path: Path) -> None:
    """Signals are heard all the same."""
    plant_file(f"{tmp_path}/endtask")
    with Program(LISTENS, f"{tmp_path}/endtask") as program:
        assert ears_of(program)[-1] == "channel: not heard, there is no place for its socket"
        program.send()
        program.ends(0)


NAMED = """
    import os, sys
    from endtask_receiver import listen, _channel_place
    bad, good = sys.argv[1:]
    os.mkdir(bad, 0o700)
    name = bad + "/" + str(os.getpid()) + "." + _channel_place.start("self")
    exec(sys.stdin.readline())
    before = os.lstat(name)
    _channel_place._folders = lambda: iter([bad, good])
    with listen() as stop:
        print(*[line for line in stop.ears if line.startswith("channel")], sep="\\n")
        print(os.lstat(name) == before)
"""


@pytest.mark.parametrize(
    "plant",
    [
        "os.symlink('/etc/passwd', name)",
        "os.symlink(bad + '/nothing', name)",
        "open(name, 'w').close()",
        "os.mkdir(name)",
        "os.mkfifo(name)",
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen()",
        pytest.param(
            "import socket; s = socket.socket(socket.AF_UNIX); s.bind(name); s.close(); os.chown(name, 65534, 65534)",
            marks=needs_root,
        ),
    ],
)
def test_a_planted_name_is_neither_followed_nor_removed(plant: str, tmp_path: Path) -> None:
    """A link, a file, a folder, a pipe, a socket that somebody listens to, one of another user."""
    with Program(NAMED, f"{tmp_path}/bad", f"{tmp_path}/good", stdin=subprocess.PIPE) as program:
        do(program, plant)
        status, lines = program.end()
        assert status == 0, program.errors()
        first, second, same = lines
        assert first.startswith(f"channel: not used: {tmp_path}/bad/{program.pid}.")
        assert second.startswith(f"channel: {tmp_path}/good/{program.pid}.")
        assert same == "True"


def test_a_folder_that_is_exchanged_meanwhile_changes_nothing(tmp_path: Path) -> None:
    """Everything is done through the descriptor of what was looked at."""
    first, second = tmp_path / "first", tmp_path / "second"
    with Program(LISTENS, str(first)) as program:
        (said,) = ears_of(program)
        name = os.path.basename(said)
        os.rename(first, second)
        first.mkdir(0o700)
        (first / name).write_text("precious")
        program.send()
        program.ends(0)
        assert (first / name).read_text() == "precious"
        assert os.listdir(second) == []


def test_the_session_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """Root with the environment of a user, as sudo may leave it."""
    code = LISTENS.replace("import os, sys", "import os, sys; os.stat_before = os.stat")
    with Program(code, env={"XDG_RUNTIME_DIR": "relative"}) as program:
        (said,) = ears_of(program)
        assert "relative" not in said
        program.send()
        program.ends(0)
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)
        with Program(code, env={"XDG_RUNTIME_DIR": str(tmp_path)}) as program:
            (said,) = ears_of(program)
            assert str(tmp_path) not in said
            program.send()
            program.ends(0)
        assert os.listdir(tmp_path) == []


def test_what_killed_programs_have_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Only sockets of ours that nobody listens to, and that are not just being made."""
    where = str(tmp_path / "endtask")
    with Program(LISTENS, where) as killed, Program(LISTENS, where) as fresh, Program(LISTENS, where) as alive:
        for each in (killed, fresh, alive):
            ears_of(each)
        left, young, live = (path_of(each.pid, where) for each in (killed, fresh, alive))
        for each in (killed, fresh):
            each.process.kill()
            each.process.wait()
        old = time.time() - 100
        for path in (left, live):
            os.utime(path, (old, old))
        os.utime(young, (old + 1000, old + 1000))  # it stays so, however long the next one takes to start
        others = [f"{where}/{name}" for name in ("note", "4000001.5", "4000002.5", "4000003.5")]
        for path in others[:2]:
            open(path, "w").close()
        os.symlink(left, others[2])
        os.mkdir(others[3])
        for path in others:
            os.utime(path, (old, old), follow_symlinks=False)
        wrong = f"{where}/{alive.pid}.1"  # the number is in use again: who has made this is gone
        made = socket.socket(socket.AF_UNIX)
        made.bind(wrong)
        made.close()
        os.utime(wrong, (old, old))
        with Program(LISTENS, where) as program:
            ears_of(program)
            assert not os.path.lexists(left)
            assert not os.path.lexists(wrong)
            assert all(os.path.lexists(each) for each in [young, live, *others])
            with Requester(alive.pid, live) as requester:
                requester.ask()
            alive.ends(0)


# ---------------------------------------------------------------- strangers


@needs_root
def test_another_user_cannot_ask(tmp_path: Path) -> None:
    """The folder keeps it out; and if that were open, the kernel tells who it is."""
    stranger = """
        import os, socket, sys
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(sys.argv[1])
        except OSError as error:
            print(type(error).__name__)
        else:
            s.settimeout(60)
            try:
                s.sendall(b'{"endtask":1,"request":{"left_s":9}}\\n')
            except OSError:
                pass  # the door is closed already
            print(s.recv(4096).decode().strip())
            try:
                print(s.recv(4096))
            except OSError:
                print(b"")  # what we have sent was not even read
    """
    os.chmod(tmp_path, 0o755)
    where = str(tmp_path / "endtask")
    with Program(LISTENS, where) as program:
        ears_of(program)
        path = path_of(program.pid, where)
        with Program(stranger, path) as other:
            other.ends(0, "PermissionError")
        for each in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
            os.chmod(each, 0o755)
        os.chmod(where, 0o711)
        os.chmod(path, 0o666)
        with Program(stranger, path) as other:
            other.ends(0, '{"endtask":1,"refused":{"text":"only the same user and root may ask"}}', "b''")
        with Requester(program.pid, path) as requester:
            hello = requester.hear()
            assert hello is not None
            assert hello["hello"]["state"] == "running", "nobody has asked"
            requester.ask()
        program.ends(0)


@needs_root
def test_in_a_pid_namespace_its_name_is_that_which_others_see(tmp_path: Path) -> None:
    """Those who look into the same /proc; who has one of its own is process 1 there."""
    where = str(tmp_path / "endtask")
    with Program(LISTENS, where, prefix=["unshare", "-pf", "--kill-child"]) as program:
        (said,) = ears_of(program)
        with open(f"/proc/{program.pid}/task/{program.pid}/children") as file:
            child = int(file.read())
        assert said == f"channel: {path_of(child, where)}"
        with Requester(child, path_of(child, where)) as requester:
            requester.ask()
        program.ends(0)


@needs_root
def test_a_user_is_asked_by_itself_and_by_root(tmp_path: Path) -> None:
    """By nobody else; it finds a place of its own."""
    os.chmod(tmp_path, 0o777)  # as /tmp
    for each in (tmp_path.parent.parent, tmp_path.parent):
        os.chmod(each, 0o755)
    # All modules first: the files of Python may be readable for root only.
    first = "import json, os, endtask_receiver\nendtask_receiver.listen().close()\n"
    code = first + "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" + textwrap.dedent(LISTENS)
    where = str(tmp_path / "endtask")
    with Program(code, where) as program:
        ears_of(program)
        path = path_of(program.pid, where)
        assert os.stat(path).st_uid == NOBODY
        with Requester(program.pid, path) as requester:
            requester.ask()
            assert requester.until("heard")
        program.ends(0)


# ---------------------------------------------------------------- bad requesters


def test_a_megabyte_of_garbage_changes_nothing() -> None:
    """With and without newlines; the next requester is heard."""
    with waiting() as program:
        program.expect("ready")
        for garbage in (os.urandom(1 << 20), b"x" * (1 << 20), b"\n" * (1 << 20), b"{}\n" * (1 << 18), b'{"endtask":1}\n' * 10_000):  # fmt: skip
            with Requester(program.pid) as requester:
                requester.send(garbage)
                requester.socket.shutdown(socket.SHUT_WR)
                requester.rest()
        with Requester(program.pid) as requester:
            requester.ask()
        program.ends(0, "'CHANNEL' channel deploy 12 False")


def test_a_flood_of_connections_keeps_nobody_from_being_heard() -> None:
    """Hundreds at a time, some that stay and some that go; then a signal, then the channel."""
    with working() as program:
        program.expect("ready")
        path = path_of(program.pid)
        done = threading.Event()

        def flood() -> None:
            while not done.is_set():
                crowd = []
                for _ in range(50):
                    knock = socket.socket(socket.AF_UNIX)
                    knock.setblocking(False)
                    try:
                        knock.connect(path)
                    except OSError:
                        pass  # the queue is full, which is one of the things that must not matter
                    crowd.append(knock)
                for knock in crowd:
                    knock.close()

        threads = [threading.Thread(target=flood) for _ in range(2)]
        for thread in threads:
            thread.start()
        do(program, "stop.wait(); print(stop.request.name)")
        program.send()
        program.expect("SIGTERM")
        done.set()
        for thread in threads:
            thread.join()
        let_in, end = 0, time.monotonic() + LIMIT_S
        while let_in < 8 and time.monotonic() < end:  # that those are gone is noticed one by one
            crowd = []
            for _ in range(12):
                try:
                    crowd.append(Requester(program.pid, path))
                except BlockingIOError:
                    pass  # the queue is full
            let_in = len([each for each in crowd if each.hear() is not None])
            for each in crowd:
                each.socket.close()
        assert let_in == 8, "the ninth is not let in"
        over(program)
        program.ends(0, "True False 0")


def test_who_is_gone_takes_nobodys_place() -> None:
    """Also if the thread has not been told so yet: on a busy machine many come and go while it lets in the next one."""
    with listen(signals=["USR1"], watch=False) as stop:
        (ear,) = (each for each in stop._ears if isinstance(each, ChannelEar))
        ear._host.pause()
        for _ in range(PEERS_MAX):
            with Requester(os.getpid()):
                ear._on_door(select.POLLIN)
        with Requester(os.getpid()) as requester:
            ear._on_door(select.POLLIN)
            requester.until("hello")
        ear._host.resume()


def test_so_many_are_let_in_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next ones wait before the door, and it is opened again."""
    with listen(signals=["USR1"], watch=False) as stop:
        (ear,) = (each for each in stop._ears if isinstance(each, ChannelEar))
        ear._host.pause()
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
        for turn in range(64):
            with Requester(os.getpid()) as requester:
                assert ear._on_door(select.POLLIN) == (turn < 63)
                requester.until("hello")
        with Requester(os.getpid()) as requester:
            door = ear._place.socket.fileno()
            ear._host.remove(door)
            assert ear._turn() == 1.0
            assert door not in ear._host._others
            monkeypatch.setattr(time, "monotonic", lambda: 1001.0)
            ear._turn()
            assert door in ear._host._others
            assert ear._on_door(select.POLLIN)
            requester.until("hello")
        monkeypatch.undo()
        ear._host.resume()


def test_who_closes_it_while_it_looks_who_is_gone_finds_it_closed() -> None:
    """The ninth comes, one of the eight has asked before it went, and whoever that wakes closes all."""
    stop = listen(signals=["USR1"], watch=False)
    (ear,) = (each for each in stop._ears if isinstance(each, ChannelEar))
    before = len(os.listdir("/proc/self/fd"))
    stop.add_waker(stop.close)
    ear._host.pause()
    crowd = [Requester(os.getpid()) for _ in range(PEERS_MAX + 1)]
    crowd[0].ask()
    ear._on_door(select.POLLIN)
    assert (stop.asked, ear._channel, ear._peers) == (True, None, {})
    assert crowd[-1].rest() == []
    for each in crowd:
        each.socket.close()
    ear._host.resume()
    assert len(os.listdir("/proc/self/fd")) < before


def test_who_never_reads_is_not_waited_for() -> None:
    """A hundred thousand times the application tells something; another requester hears the last of it."""
    with working() as program:
        program.expect("ready")
        with Requester(program.pid), Requester(program.pid) as good:
            good.until("hello")
            do(program, "for i in range(100_000): stop.tell('x' * 500, i)")
            do(program, "print('told')")
            program.expect("told")
            while good.until("tell")["tell"]["done"] != 99_999:
                pass
        # What is not paced fills the connection, and it is closed; the application has not noticed.
        do(program, "while stop._ears[-1]._peers: stop.nap(1e-4)")
        do(program, "from endtask_receiver import News; print('alone')")
        program.expect("alone")
        with Requester(program.pid) as deaf:
            deaf.until("hello")
            do(
                program,
                "while stop._ears[-1]._peers: stop._say(News(1.0, kind='cleanup', text='x' * 500)); stop.nap(1e-4)",
            )
            do(program, "print('told')")
            program.expect("told")
            assert len(deaf.rest()) > 100
        over(program)
        program.ends(0, "False False 0")


def test_all_of_a_long_cleanup_is_heard() -> None:
    """Two hundred steps in one moment are more than may wait for one who does not read, and this one reads."""
    with waiting("for n in range(200): stop.cleanup(int, name=f'step {n} ' + 'x' * 200)") as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.until("hello")
            program.send()
            requester.until("heard")
            steps = [message["cleanup"]["text"].split()[1] for message in requester.rest() if "cleanup" in message]
        assert steps == [str(n) for n in range(199, -1, -1)]
        program.expect("'SIGTERM' signal  False")
        program.ends(0)


def test_a_requester_may_be_killed_in_the_middle_of_anything() -> None:
    """Of a line, of a request, of reading: what was asked stays, the rest is nothing."""
    requester = """
        import os, signal, socket, sys
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
        s.sendall(eval(sys.argv[2]))
        print("said")
        signal.pause()
    """
    with working() as program:
        program.expect("ready")
        for data in (b'{"endtask":1,"requ', b"", b'{"endtask":1,"notice":{"left_s":1,"reason":"dead"}}\n'):
            with Program(requester, path_of(program.pid), repr(data)) as other:
                other.expect("said")
        with Requester(program.pid) as good:
            good.until("hello")
            do(program, "while stop._notices: stop.nap(0.001)")
            do(program, "print(stop.asked)")
            program.expect("False")
            with Program(requester, path_of(program.pid), repr(b'{"endtask":1,"request":{"left_s":1000}}\n')) as other:
                assert 900 < good.until("heard")["heard"]["left_s"] < 1000
            do(program, "stop.tell('x')")
            good.until("tell")
        over(program)
        program.ends(0, "True False 0")


def test_a_program_with_the_default_for_broken_pipes_lives_on() -> None:
    """Many restore it, and a requester that is gone must not end them."""
    with working() as program:
        program.expect("ready")
        do(program, "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
        for _ in range(10):
            with Requester(program.pid) as requester:
                requester.until("hello")
            do(program, "for i in range(100): stop.need(1)")
            do(program, "print('alive')")
            program.expect("alive")
        over(program)
        program.ends(0, "False False 0")


def test_without_a_free_descriptor_it_waits_for_one() -> None:
    """And does not turn round and round meanwhile; signals are heard."""
    with working() as program:
        program.expect("ready")
        do(program, "import os, resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
        do(program, "many = []")
        do(program, "exec('try:\\n while True: many.append(os.dup(0))\\nexcept OSError: print(1)')")
        program.expect("1")
        with Requester(program.pid) as requester:
            requester.ask()
            do(program, "before = time.process_time(); stop.nap(0.3); print(time.process_time() - before < 0.2)")
            program.expect("True")
            do(program, "print(stop.asked); [os.close(each) for each in many]")
            program.expect("False")
            assert requester.until("heard")["heard"]["channel"] == "channel"
        over(program)
        program.ends(0, "True False 0")


def test_with_one_free_descriptor_a_conversation_ends_and_nothing_else() -> None:
    """It takes the last one, so what is loaded late cannot be."""
    with working() as program:
        program.expect("ready")
        do(program, "import os, resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
        do(program, "many = []")
        do(
            program,
            "exec('try:\\n while True: many.append(os.dup(0))\\nexcept OSError: os.close(many.pop()); print(1)')",
        )
        program.expect("1")
        with Requester(program.pid) as requester:
            assert requester.until("hello")
            requester.ask()
            assert requester.rest() == []
        do(program, "[os.close(each) for each in many]; print(stop.asked)")
        program.expect("False")
        with Requester(program.pid) as requester:
            requester.ask()
            assert requester.until("heard")["heard"]["channel"] == "channel"
        over(program)
        program.ends(0, "True False 0")


@pytest.mark.parametrize("channel", [True, False])
def test_a_program_may_close_all_descriptors_that_it_has(channel: bool) -> None:
    """As daemons do; signals are heard all the same, and the end is as it should be."""
    with Program(
        f"""
        import os, signal
        from endtask_receiver import listen
        with listen(channel={channel}) as stop:
            os.closerange(3, 256)
            print("ready")
            stop.nap(0.05)
            signal.raise_signal(signal.SIGTERM)
            print(stop.wait())
        print("over")
        """
    ) as program:
        program.expect("ready", "True", "over")
        assert program.end() == (0, [])
        assert "in thread" not in program.errors()  # what Python says of its own descriptor is not ours


# ---------------------------------------------------------------- fork, exec, the end


def test_a_child_that_is_forked_in_the_middle_of_a_conversation_hears_and_removes_nothing() -> None:
    """However it ends; and the parent goes on talking."""
    with working() as program:
        program.expect("ready")
        path = path_of(program.pid)
        with Requester(program.pid) as requester:
            requester.until("hello")
            for ending in ("os._exit(0)", "sys.exit(0)", "stop.finish(0)", "stop.close(); os._exit(0)"):
                # One line: the child must not read what is meant for its parent.
                child = f"if not pid: stop.tell('of the child'); {ending}"
                do(program, f"import os, sys; pid = os.fork(); exec({child!r}); print(os.waitpid(pid, 0)[1])")
                program.expect("0")
                do(program, "stop.tell('of the parent')")
                assert requester.until("tell")["tell"]["text"] == "of the parent"
                assert os.path.exists(path)
            requester.ask()
            requester.until("heard")
        over(program)
        program.ends(0, "True False 0")


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="3.13 counts threads after a fork, when ours runs again")
@pytest.mark.parametrize("watch", [True, False])
def test_no_thread_of_ours_runs_beside_a_fork_while_somebody_talks(watch: bool) -> None:
    """A child would inherit what it holds, and Python warn of it. Afterwards the conversation goes on."""
    with Program(
        f"""
        import os, sys, warnings
        warnings.simplefilter("error")
        from endtask_receiver import listen
        def fork():
            pid = os.fork()
            if not pid:
                os._exit(len(os.listdir("/proc/self/task")))
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with listen(watch={watch}) as stop:
            print("ready")
            sys.stdin.readline()
            for turn in range(20):
                stop.tell("forking", turn)
                assert fork() == 1
            print(stop.wait())
        """,
        stdin=subprocess.PIPE,
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.until("hello")
            do(program, "fork")
            while requester.until("tell")["tell"]["done"] != 19:
                pass
            requester.ask()
            requester.until("heard")
        program.ends(0, "True")


def test_a_forked_child_has_none_of_its_descriptors() -> None:
    """Neither the listener nor a connection: who talks to the parent is told of its end, not of its child's."""
    with Program(
        """
        import os, signal, sys
        from endtask_receiver import listen
        before = len(os.listdir("/proc/self/fd"))
        def say(number):
            os.write(1, str(number).encode() + bytes([10]))  # in one piece, beside another process
        with listen() as stop:
            print("ready")
            sys.stdin.readline()
            pid = os.fork()
            if not pid:
                say(len(os.listdir("/proc/self/fd")) - before)
                signal.pause()
            say(pid)
            stop.wait()
        """,
        stdin=subprocess.PIPE,
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.until("hello")
            do(program, "fork")
            said = sorted((program.line(), program.line()), key=len)
            assert said[0] == "0"
            requester.ask()
            assert requester.rest()[-1]["heard"]["channel"] == "channel"
        os.kill(int(said[1]), signal.SIGKILL)
        program.ends(0)


def test_a_forked_child_may_listen_itself() -> None:
    """Under a name of its own."""
    with Program(
        """
        import os
        from endtask_receiver import listen
        with listen() as outer:
            pid = os.fork()
            if not pid:
                with listen() as stop:
                    print(os.getpid())
                    stop.wait()
                    print(stop.request.channel)
                os._exit(0)
            os.waitpid(pid, 0)
            print(outer.asked)
        """
    ) as program:
        child = int(program.line())
        assert path_of(child) != path_of(program.pid)
        with Requester(child) as requester:
            requester.ask()
        program.ends(0, "channel", "False")


def test_a_program_that_becomes_another_one_is_talked_to_again() -> None:
    """The process is the same, so the name is the same: the socket that was left is replaced. Who talked to the old one is told by the end."""
    code = """
        import os, sys
        from endtask_receiver import listen
        with listen(name=sys.argv[1]) as stop:
            print("ready")
            stop.wait()
            if sys.argv[1] == "old":
                sys.stdin.readline()
                os.execv(sys.executable, [sys.executable, "-c", os.environ["CODE"], "new"])
            print(stop.request.reason)
    """
    with Program(code, "old", env={"CODE": textwrap.dedent(code)}, stdin=subprocess.PIPE) as program:
        program.expect("ready")
        path = path_of(program.pid)
        with Requester(program.pid) as requester:
            requester.ask(reason="exec")
            requester.until("heard")
            do(program, "become another")
            assert requester.rest() == []
        program.expect("ready")
        assert path_of(program.pid) == path
        with Requester(program.pid) as requester:
            hello = requester.hear()
            assert hello is not None
            assert hello["hello"]["name"] == "new"
            requester.ask()
        program.ends(0, "deploy 12")
        assert not os.path.exists(path)


ENDINGS = {
    "finish": ("with listen() as stop: print('ready'); stop.wait(); stop.finish()", 0),
    "finish by a signal": ("with listen() as stop: print('ready'); stop.wait(); stop.finish()", -signal.SIGTERM),
    "fall off the end": ("stop = listen(); print('ready'); stop.wait()", 0),
    "sys.exit": ("stop = listen(); print('ready'); stop.wait(); sys.exit(3)", 3),
    "an error": ("with listen() as stop: print('ready'); stop.wait(); raise SystemExit(4)", 4),
    "a thread": (
        "stop = listen(); print('ready'); threading.Thread(target=lambda: [stop.wait(), stop.nap(0.01), stop.tell('x')]).start()",
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("talks", [True, False])
def test_the_end_of_the_interpreter_is_quiet_and_leaves_nothing(ending: str, talks: bool) -> None:
    """Whoever is connected, and whether the block was left or not."""
    code, status = ENDINGS[ending]
    with Program("import sys, threading, warnings\nwarnings.simplefilter('always')\nfrom endtask_receiver import listen\n" + code) as program:  # fmt: skip
        program.expect("ready")
        path = path_of(program.pid)
        requester = Requester(program.pid)
        with requester:
            requester.until("hello")
            if not talks:
                requester.socket.close()
            if status < 0:
                program.send(-status)
            elif talks:
                requester.ask()
            else:
                with Requester(program.pid) as another:
                    another.ask()
            program.ends(status)
        assert not os.path.exists(path)


def test_what_it_opens_is_closed_at_the_end() -> None:
    """Descriptors, threads, hooks."""
    before = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        with listen(signals=["USR1"]) as stop, Requester(os.getpid()) as requester:
            requester.until("hello")
            requester.ask()
            assert stop.wait(LIMIT_S)
    assert (sorted(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert os.path.basename(path_or_none()) == ""


def path_or_none() -> str:
    """Return our own socket, empty if there is none."""
    try:
        return path_of(os.getpid())
    except AssertionError:
        return ""


# ---------------------------------------------------------------- who serves it


def test_the_thread_that_watches_anyway_serves_it() -> None:
    """One thread, with or without the channel; one of its own where nobody watches."""
    for words, threads in (({}, 2), ({"channel": False}, 2), ({"watch": False}, 2), ({"watch": False, "channel": False}, 1)):  # fmt: skip
        code = f"import os\nfrom endtask_receiver import listen\nwith listen(**{words}) as stop: print(len(os.listdir('/proc/self/task')))"
        with Program(code) as program:
            program.ends(0, str(threads))


def test_it_is_talked_to_while_the_main_thread_is_busy_elsewhere() -> None:
    """In a call that looks at nothing."""
    with Program(
        """
        import os
        from endtask_receiver import listen
        with listen(name="busy") as stop:
            print("ready")
            os.system("sleep 1000 & echo $!; wait")
            print(stop.asked)
        """
    ) as program:
        program.expect("ready")
        sleeper = int(program.line())
        with Requester(program.pid) as requester:
            requester.until("hello")
            requester.ask()
            requester.until("heard")
        os.kill(sleeper, signal.SIGKILL)
        program.ends(0, "True")


@pytest.mark.parametrize("watch", [True, False])
def test_in_another_thread_than_the_main_one_it_is_heard(watch: bool) -> None:
    """That needs no signals."""
    heard: list[object] = []

    def other() -> None:
        with listen(watch=watch) as stop, Requester(os.getpid()) as requester:
            requester.ask()
            stop.wait(LIMIT_S)
            heard.append(stop.request)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert getattr(heard[0], "channel", None) == "channel"


def test_of_two_that_listen_the_first_has_the_channel() -> None:
    """One process, one name; the other one says so. When the first is closed, the next one may have it."""
    with listen(signals=["USR1"]) as outer:
        with listen(signals=["USR2"]) as inner:
            assert inner.ears[-1] == "channel: another `listen` of this process has it, and shares it"
        assert outer.ears[-1] == f"channel: {path_of(os.getpid())}"
    with listen(signals=["USR1"]) as stop:
        assert stop.ears[-1] == f"channel: {path_of(os.getpid())}"


def test_one_within_another_is_asked_and_is_heard() -> None:
    """Both hear the request, with its reason; the words of both are told, and the inner one gets the time that it needs."""
    with Program(
        """
        from endtask_receiver import listen
        with listen(name="outer") as outer:
            with listen(name="inner") as inner:
                print("ready")
                inner.wait()
                outer.wait()
                for stop in (inner, outer):
                    print(stop.request, round(stop.left(), -3))
                moved = __import__("threading").Event()
                inner.add_waker(lambda: inner.left() > 15_000 and moved.set())
                inner.tell("draining")
                inner.need(20, "flushing")
                moved.wait()
                print(round(inner.left(), -3), round(outer.left(), -3))
                print(inner.veto("recording"))
            outer.tell("over")
        """
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask(9000.0)
            for _ in range(2):
                program.expect(f"CHANNEL from {os.getpid()}: deploy 12 9000.0")
            assert requester.until("heard")["heard"]["name"] == "CHANNEL"
            assert requester.until("tell")["tell"]["text"] == "draining"
            assert requester.until("need")["need"]["text"] == "flushing"
            requester.say(granted={"left_s": 20_000.0})
            program.expect("20000.0 20000.0")
            assert requester.until("veto")["veto"]["text"] == "recording"
            program.expect("True")
            assert [message["tell"]["text"] for message in requester.rest()] == ["over"]
        program.ends(0)


def test_one_that_stays_has_the_channel_when_the_first_is_closed() -> None:
    """As they need not end in the order in which they began; at the end nothing is left behind."""
    first, second, third = (listen(signals=[f"USR{n}"]) for n in (1, 2, 2))
    first.close()
    assert third.ears[-1] == f"channel: {path_of(os.getpid())}"
    with Requester(os.getpid()) as requester:
        requester.ask()
        assert second.wait(LIMIT_S)
        assert third.wait(LIMIT_S)
    assert not first.asked
    third.close()
    assert second.ears[-1] == f"channel: {path_of(os.getpid())}"
    second.close()
    assert glob.glob(f"{folder()}/{os.getpid()}.*") == []
    assert (first._listeners, second._listeners, third._listeners) == ([], [], [])


def test_a_process_that_ends_at_once_by_an_inner_one_leaves_no_file() -> None:
    """Whichever has heard the third request first."""
    with Program(
        """
        import threading
        from endtask_receiver import Policy, listen
        with listen(signals=["USR1"]), listen(policy=Policy(steps=["exit"])):
            print("ready")
            threading.Event().wait(60)
        """
    ) as program:
        program.expect("ready")
        path = path_of(program.pid)
        program.send()
        program.end()
        assert not os.path.exists(path)


def test_it_may_be_closed_by_what_a_request_wakes() -> None:
    """In the very thread that has read it."""
    with working() as program:
        program.expect("ready")
        do(program, "stop.add_waker(lambda: (stop.close(), print('closed')))")
        with Requester(program.pid) as requester:
            requester.ask()
            requester.rest()
        program.expect("closed")
        over(program)
        program.ends(0, "True False 0")


def test_it_may_be_closed_and_opened_beside_a_storm_of_connections() -> None:
    """Every time the same name: nobody is left behind in it."""
    path = ""
    done = threading.Event()

    def knock() -> None:
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as each:
                try:
                    each.connect(path)
                    each.sendall(b'{"endtask":1}\n')
                except OSError:
                    pass  # it is closed at the moment, or the door is full

    threads = [threading.Thread(target=knock) for _ in range(2)]
    for turn in range(100):
        with listen(signals=["USR1"]) as stop:
            path = path_of(os.getpid())
            if not turn:
                for thread in threads:
                    thread.start()
            stop.tell("x")
            assert not stop.asked
    done.set()
    for thread in threads:
        thread.join()


def test_a_word_after_the_end_is_written_nowhere() -> None:
    """The number of the pipe may be that of another file by then."""
    watcher = Watcher()
    number = watcher.write_fd
    watcher.close()
    pipe = os.pipe()
    assert number in pipe
    watcher.poke()
    os.close(pipe[1])
    assert os.read(pipe[0], 1) == b""
    os.close(pipe[0])


ASYNCIO = """
    import asyncio
    from endtask_receiver import listen
    async def main(stop):
        print("ready")
        request = await stop
        print(request.channel)
    with listen() as stop:
        asyncio.run(main(stop))
"""
TRIO = """
    import trio
    from endtask_receiver import listen
    async def main(stop):
        print("ready")
        request = await stop
        print(request.channel)
    with listen(watch=False) as stop:
        trio.run(main, stop)
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_loop_is_woken_by_it(loop: str) -> None:
    """Which it needs not be: it only has to let our thread run."""
    pytest.importorskip(loop)
    with Program({"asyncio": ASYNCIO, "trio": TRIO}[loop]) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask()
            requester.until("heard")
            program.ends(0, "channel")


def test_a_deadline_that_moves_wakes_who_waits_for_it() -> None:
    """`cancel_on_stop(when="deadline")` is cancelled at the new one."""
    with Program(
        """
        import asyncio, time
        from endtask_receiver import listen
        from endtask_receiver.aio import cancel_on_stop
        async def main(stop):
            print("ready")
            async with cancel_on_stop(stop, "deadline"):
                await asyncio.sleep(1000)
            print("cancelled")
        with listen(grace_s=1000) as stop:
            asyncio.run(main(stop))
        """
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask(left_s=500)
            requester.until("heard")
            requester.notice(left_s=0.05)
            program.ends(0, "cancelled")


def test_a_daemon_without_standard_streams_keeps_them_free() -> None:
    """Neither folder, nor socket, nor a connection has one of these numbers."""
    with Program(
        """
        import os
        pipe = os.dup(1)
        for fd in (0, 1, 2):
            os.close(fd)
        from endtask_receiver import listen
        with listen() as stop:
            os.write(pipe, b"ready\\n")
            stop.wait()
            free = [fd for fd in (0, 1, 2) if not os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(pipe, repr(free).encode() + b"\\n")
        """
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.ask()
            program.ends(0, "[0, 1, 2]")


def test_without_proc_the_path_that_was_looked_at_is_used(tmp_path: Path) -> None:
    """Other systems, and sandboxes; then the name tells when it was made."""
    code = LISTENS.replace(
        "import os, sys",
        "import os, sys, builtins; exists, opened = os.path.exists, builtins.open\n"
        "    os.readlink = lambda path: hidden(path)\n"
        "    def hidden(path): raise OSError if str(path).startswith('/proc') else 0\n"
        "    os.path.exists = lambda path: not str(path).startswith('/proc') and exists(path)\n"
        "    builtins.open = lambda path, *a, **k: hidden(path) if str(path).startswith('/proc') else opened(path, *a, **k)",
    )
    with Program(code, str(tmp_path / "endtask")) as program:
        (said,) = ears_of(program)
        assert said == f"channel: {path_of(program.pid, str(tmp_path / 'endtask'))}"
        assert int(said.rpartition(".")[2]) > 1e18
        with Requester(program.pid, said.partition(": ")[2]) as requester:
            requester.ask()
        program.ends(0)


@pytest.mark.parametrize("minor", MINORS)
def test_it_works_in_every_version_of_python(minor: int) -> None:
    """Without a warning, too."""
    with Program(
        WAITS.format(""), python=interpreter(minor), env={"PYTHONPATH": folder_of_the_receiver(), "PYTHONDEVMODE": "1"}
    ) as program:
        program.expect("ready")
        with Requester(program.pid) as requester:
            requester.notice()
            program.send()
            requester.until("heard")
            program.ends(0, "'SIGTERM' signal deploy 12 False")
