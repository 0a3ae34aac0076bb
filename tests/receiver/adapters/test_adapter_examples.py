"""The examples of the page on adapters, each as a real process that is asked while it works."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.receiver.lab import LIMIT_S, Program
from tests.targets.lab import free_port

from .lab import Client, begun, ends_whole

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = DOCS / "examples" / "adapters"
PATH = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
GUNICORN = "from gunicorn.app.wsgiapp import run; run()"


@pytest.fixture
def port() -> int:
    """A port of TCP that is free."""
    return free_port()


def told(program: Program, word: str) -> None:
    """Wait until it says something that begins so."""
    while not program.line().startswith(word):
        pass


def test_the_uvicorn_service_answers_what_is_in_flight(port: int) -> None:
    """By TCP."""
    with Program(EXAMPLES / "uvicorn_service.py", str(port)) as program:
        with request(port) as client:
            told(program, "asked /")
            program.send()
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        ends_whole(program, -signal.SIGTERM)


def request(port: int) -> socket.socket:
    """Ask a server that is about to listen."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.01)  # nobody tells when a socket begins to listen
        else:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client


def test_the_hypercorn_service_answers_what_is_in_flight(tmp_path: Path) -> None:
    """Asked by Ctrl+C here."""
    where = str(tmp_path / "socket")
    with Program(EXAMPLES / "hypercorn_service.py", "unix:" + where) as program:
        with Client(where) as client:
            told(program, "asked /")
            program.send(signal.SIGINT)
            assert client.answer() == (200, "done")
        ends_whole(program, -signal.SIGINT)


def test_the_gunicorn_service_answers_what_is_in_flight(tmp_path: Path) -> None:
    """Four requests for two workers."""
    where = str(tmp_path / "socket")
    words = ["-c", str(EXAMPLES / "gunicorn_service.py"), "-b", "unix:" + where, "--no-control-socket"]
    with Program(GUNICORN, *words, "gunicorn_service:app", env={"PYTHONPATH": PATH}) as program:
        clients = [Client(where) for _ in range(4)]
        told(program, "asked /")
        program.send()
        assert [client.answer() for client in clients] == [(200, "done")] * 4
        for client in clients:
            client.__exit__()
        ends_whole(program, -signal.SIGTERM)


def test_the_celery_service_finishes_its_tasks(tmp_path: Path) -> None:
    """Those that it has begun, at least."""
    env = {"PYTHONPATH": PATH, "QUEUE": str(tmp_path / "queue")}
    code = "import celery_service\nfor n in range(3): celery_service.work.delay(n)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, check=True, timeout=LIMIT_S)
    words = ["-q", "-A", "celery_service", "worker", "-c", "2", "-l", "INFO"]
    code = f"import sys; sys.argv[1:] = {words!r}\nfrom celery.__main__ import main; main()"
    with Program(code, env=env) as program:
        begun(program, lambda: until(lambda: "began" in program.errors() and "ready" in program.errors()))
        program.send()
        ends_whole(program, -signal.SIGTERM)
        text = program.errors()  # celery writes what a task prints to its log
        assert re.findall(r"began (\d)", text)
        assert sorted(re.findall(r"began (\d)", text)) == sorted(re.findall(r"did (\d)", text))


def until(true: Callable[[], bool]) -> None:
    """Look until something is true."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)  # a log tells nobody


@pytest.mark.parametrize("name", ["executor_batch.py", "pool_batch.py"])
def test_the_batches_count_right(name: str) -> None:
    """Each job is done or left."""
    with Program(EXAMPLES / name) as program:
        told(program, "did")
        program.send()
        lines = ends_whole(program, -signal.SIGTERM)
        assert program.errors() == ""
    _done, done, _left, left = lines[-1].split()
    assert int(done) + int(left) == 1000
    assert int(done) == len(lines)  # one was read before, and the last line is no job
    assert int(left) > 0


def test_the_systemd_service_says_all(tmp_path: Path) -> None:
    """To the socket that its manager would have."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        with Program(EXAMPLES / "systemd_service.py", env=env) as program:
            assert manager.recv(4096) == b"READY=1\nSTATUS=working"
            assert manager.recv(4096) == b"WATCHDOG=1"
            program.send()
            heard: list[bytes] = []
            while b"STATUS=draining, 9 of 10" not in heard:
                heard.append(manager.recv(4096))
            assert b"STOPPING=1\nSTATUS=stopping: SIGTERM" in heard
            assert b"EXTEND_TIMEOUT_USEC=15000000\nSTATUS=writing the index" in heard
            program.ends(-signal.SIGTERM)


# ---------------------------------------------------------------- a container: a pid namespace of its own

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
HELD = ("env", "--block-signal=TERM")


def pid_1(program: Program) -> int:
    """Return the process that is number 1 in there, as soon as there is one."""
    found: list[str] = []

    def look() -> bool:
        assert program.process.poll() is None, program.errors()
        found[:] = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        return bool(found)

    until(look)
    return int(found[0])


@pytest.fixture
def container() -> None:
    """Skip where no namespace can be made, or `env` cannot block."""
    for command in ([*CONTAINER, "true"], [*HELD, "true"]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"`{' '.join(command)}` is not possible here")


def test_a_container_that_is_asked_while_it_starts_stops(container: None, port: int) -> None:
    """At any moment from its first one: the kernel keeps what is blocked, and throws the rest away for process 1."""
    for turn in range(6):
        with Program(EXAMPLES / "kubernetes_service.py", str(port), prefix=[*CONTAINER, *HELD]) as program:
            one = pid_1(program)
            until(lambda one=one: Path(f"/proc/{one}/comm").read_text().startswith("python"))  # type: ignore[misc]
            time.sleep(turn * 0.05)  # any moment
            os.kill(one, signal.SIGTERM)
            ends_whole(program, 143)


def test_a_container_answers_what_is_in_flight(container: None, port: int) -> None:
    """And its status is what a shell would show: process 1 cannot die by a signal."""
    with Program(EXAMPLES / "kubernetes_service.py", str(port), prefix=[*CONTAINER, *HELD]) as program:
        with request(port) as client:
            told(program, "asked /")
            os.kill(pid_1(program), signal.SIGTERM)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        ends_whole(program, 143)


def test_without_it_an_early_request_is_lost(container: None, port: int) -> None:
    """What the page says of the kernel: the service starts as if nobody had asked."""
    late = ("sh", "-c", 'read -r _; exec "$@"', "sh")  # so that the first one comes before Python hears anything
    service = EXAMPLES / "kubernetes_service.py"
    with Program(service, str(port), prefix=[*CONTAINER, *late], stdin=subprocess.PIPE) as program:
        one = pid_1(program)
        os.kill(one, signal.SIGTERM)
        assert program.process.stdin is not None
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()
        with request(port):
            told(program, "asked /")
            os.kill(one, signal.SIGTERM)
        ends_whole(program, 143)


def test_every_example_is_shown() -> None:
    """The page includes the very files that run here, and its other Python compiles."""
    text = "".join((DOCS / "howto" / page).read_text() for page in ("receiver-adapters.md", "kubernetes.md"))
    shown = set(re.findall(r"\{literalinclude\} \.\./examples/adapters/(\S+)", text))
    assert shown == {path.name for path in EXAMPLES.glob("*.py")}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "page", "exec")
