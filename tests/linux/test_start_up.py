"""Work that is counted, not timed: modules loaded, files opened for each process, system calls, wake-ups while waiting.

Times depend on the machine and are measured by `benchmarks/`; counts do not, and a change that adds to them is seen here.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from endtask import _api
from endtask._backends.linux.backend import LinuxBackend
from endtask._plan import make_policy
from endtask.model import Filter, Scope
from tests.linux.children import PATIENCE_S, python, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from endtask._backends.base import Pin, Waiter

pytestmark = pytest.mark.real

_MANY = 40
_NAME = f"counted-{os.getpid()}"  # two runs on one machine are not to count each other
# One parent and its children, all with one name that nobody else has; they end with it, because the pipe ends.
_HERD = """
name, count = sys.argv[1], int(sys.argv[2])
r, w = os.pipe()
heard, said = os.pipe()
pids = []
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        os.close(w)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
        os.write(said, b".")
        os.read(r, 1)
        os._exit(0)
    pids.append(pid)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(count):
    os.read(heard, 1)
ready("ready " + " ".join(map(str, pids)))
signal.pause()
"""
_COMMAND = f"import sys; sys.path[:0] = {sys.path!r}\nsys.argv[0] = 'endtask'\n"
# What the command opens is told by Python's own audit events: no tracer is needed, and nobody else's files are counted.
_AUDITED = (
    _COMMAND
    + """
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
from endtask.cli import console, main
talk = console.standard_console()
code = main.main(sys.argv[1:], talk)
talk.finish()
print("\\n" + repr((code, [p for p in opened if isinstance(p, bytes)])))
"""
)
_TRACED = _COMMAND + "from endtask.cli.main import run\nrun()\n"
_NO_STRACE = refusal(["strace", "-qq", "-o", "/dev/null", "true"])


@pytest.fixture
def herd() -> Iterator[list[int]]:
    """Start sleepers and yield their pids."""
    with python(_HERD, _NAME, str(_MANY)) as parent:
        yield [int(word) for word in parent.said.split()[1:]]


def _run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.stdout, done.stderr
    return done.stdout


def _opened(*arguments: str) -> tuple[int, dict[int, Counter[str]]]:
    """Run a command line; return its exit code and, for each pid, how often which of its files was opened."""
    code, paths = ast.literal_eval(_run(_AUDITED, *arguments).splitlines()[-1])
    files: dict[int, Counter[str]] = {}
    for path in paths:
        match = re.fullmatch(rb"/proc/(\d+)/(.+)", path)
        if match:
            files.setdefault(int(match[1]), Counter())[match[2].decode()] += 1
    return code, files


# --- modules


def test_stop_of_a_pid_loads_few_modules() -> None:
    """What `endtask stop PID` loads is a list that grows only on purpose."""
    code = _COMMAND + (
        "import os; before = set(sys.modules)\n"
        "from endtask.cli import console, main\n"
        "code = main.main(sys.argv[1:], console.standard_console())\n"
        "loaded = set(sys.modules) - before\n"
        "print('\\n' + repr((code, sorted(m for m in loaded if m.split('.')[0] != 'endtask'), len(loaded))))"
    )
    with python("import signal; ready(); signal.pause()") as child:
        code_, others, count = ast.literal_eval(_run(code, "stop", str(child.pid)).splitlines()[-1])
    assert code_ == 0
    # All of these are C modules, or a few lines (`select`, `errno` and the like cost nothing to load).
    allowed = {
        *("__future__", "_signal", "_socket", "_struct", "errno", "fcntl", "gc", "select", "struct", "time"),
        *("_heapq", "heapq"),  # when it takes its time to end: then there is a second timer
    }
    assert set(others) <= allowed, sorted(set(others) - allowed)
    assert count <= 60, count


@pytest.mark.parametrize(
    "stops",
    [
        "from endtask.cli import console, main\nmain.main(['stop', '-q', sys.argv[1]], console.standard_console())",
        "import endtask\nendtask.owned(['sleep', '1000']).stop()",
    ],
    ids=["named", "owned"],
)
def test_stop_without_a_receiver_loads_no_conversation(stops: str) -> None:
    """Who has nothing to say costs nothing: what talks is loaded with the first receiver that is met."""
    loaded = "print('\\n' + repr(sorted(m for m in sys.modules if m.startswith('endtask.'))))"
    with python("import signal; ready(); signal.pause()") as child:
        names = ast.literal_eval(_run(f"{_COMMAND}{stops}\n{loaded}", str(child.pid)).splitlines()[-1])
    assert "endtask._receivers" in names
    assert {"endtask._talks", "endtask._conversation", "endtask._said"} & set(names) == set()


# --- files and calls for each process


def test_find_by_name_opens_one_file_of_each_process_that_is_not_meant(herd: list[int]) -> None:
    """The cheapest file decides; nothing more is read of whoever fails there."""
    code, files = _opened("find", "no-such-name")
    assert code == 1
    assert {pid: files.get(pid, Counter()) for pid in herd} == {pid: Counter(comm=1) for pid in herd}


def test_find_by_name_opens_few_files_of_each_match(herd: list[int]) -> None:
    """Name, confirmation after the handle is open, and one line of the table."""
    code, files = _opened("find", _NAME)
    assert code == 0
    assert max(sum(files[pid].values()) for pid in herd) <= 5, files[herd[0]]


def test_find_by_user_opens_no_file_of_another_user_s_process(herd: list[int]) -> None:
    """The owner of the folder decides; no name is read where every name is meant."""
    code, files = _opened("find", "*", "--user", str(os.geteuid() + 4711))
    assert code == 1
    assert {pid: files.get(pid, Counter()) for pid in herd} == {pid: Counter() for pid in herd}


def test_stop_of_many_opens_few_files_of_each(herd: list[int]) -> None:
    """The confirmation of the name, what the children inherit, whether it was stopped; and the table, as often as it is read: that depends on how long they take."""
    code, files = _opened("stop", "--all", "-q", _NAME, "--watch", "0")
    assert code == 0
    assert max(sum(files[pid].values()) - files[pid]["stat"] for pid in herd) <= 5, files[herd[0]]
    assert max(files[pid]["stat"] for pid in herd) <= files[1]["stat"] + 2, files[herd[0]]


@pytest.mark.skipif(bool(_NO_STRACE), reason=f"needs strace: {_NO_STRACE}")
def test_stop_of_many_makes_few_calls_for_each(herd: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every call that names a target or a handle on it, from the table to the verdict."""
    log = tmp_path_factory.mktemp("strace") / "log"
    words = [sys.executable, "-I", "-S", "-c", _TRACED, "stop", "--all", "-q", _NAME, "--watch", "0"]
    subprocess.run(["strace", "-qq", "-o", str(log), *words], check=True, timeout=PATIENCE_S * 3)
    text = log.read_text(errors="replace")
    assert len(re.findall(r"^pidfd_send_signal\(\d+, SIGTERM", text, re.MULTILINE)) == len(herd)
    for pid in herd:
        assert len(re.findall(rf"^pidfd_open\({pid},", text, re.MULTILINE)) == 1
    calls = sum(_calls_for(text, pid) for pid in herd)
    assert calls / len(herd) <= 100, calls / len(herd)


def _calls_for(text: str, pid: int) -> int:
    """Return how many calls name the pid, or a descriptor while it belongs to that process."""
    found = 0
    mine: set[str] = set()
    for line in text.splitlines():
        call, _, rest = line.partition("(")
        first = re.match(r"\d+", rest)
        opened = re.search(r"= (\d+)$", line)
        if f"/proc/{pid}/" in rest or (call == "pidfd_open" and rest.startswith(f"{pid},")):
            found += 1
            if opened:
                mine.add(opened[1])
        elif call == "poll" and re.match(r"\[\{fd=(\d+)", rest):
            found += re.match(r"\[\{fd=(\d+)", rest)[1] in mine  # type: ignore[index]  # matched one line above
        elif call == "epoll_ctl":
            found += rest.split(", ")[2] in mine
        elif first and first[0] in mine:
            found += 1
            if call == "close":
                mine.discard(first[0])
    return found


# --- waiting


class _Counting(LinuxBackend):
    """A backend that counts how often it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def waiter(self) -> Waiter:
        """Return a waiter that counts."""
        inner = super().waiter()
        outer = self

        class Counted:
            """Forwards everything."""

            poll_s = inner.poll_s

            def fileno(self) -> int | None:
                return inner.fileno()

            def on_news(self, wake: Callable[[], None] | None) -> None:
                inner.on_news(wake)

            def add(self, pin: Pin, key: int) -> None:
                inner.add(pin, key)

            def drop(self, pin: Pin) -> None:
                inner.drop(pin)

            def wait(self, timeout_s: float | None) -> list[int]:
                outer.turns += 1
                return inner.wait(timeout_s)

            def close(self) -> None:
                inner.close()

        return Counted()


def test_waiting_is_not_polling(herd: list[int]) -> None:
    """Whoever waits for processes that do not end wakes up once: when the time is over."""
    backend = _Counting()
    policy = make_policy(timeout_s=0.15, scope=Scope("only"), all=True)
    report = _api.wait([_NAME], Filter(), policy, backend=backend)
    assert {t.outcome for t in report.targets} == {"running"}
    assert len(report.targets) == len(herd)
    # Each target has its own deadline, as late as it was begun; a poll every few milliseconds would be far more.
    assert backend.turns <= 1 + len(herd)
