"""How each program is started, how one knows that it is ready, and what shows that it still works.

All servers listen on loopback.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.targets.lab import free_port

from .observer import Client, listens, name_of, need, until

if TYPE_CHECKING:
    from .lab import Lab
    from .observer import Gate, Handle, Program


class Server:
    """A program that answers on a port.

    Attributes:
        program: Our handle on its main process.
        port: Where it listens.
        gate: Where its slow request waits, None if it has none.
    """

    def __init__(self, program: Program, port: int, gate: Gate | None = None) -> None:
        self.program = program
        self.port = port
        self._gate = gate

    @property
    def pid(self) -> int:
        """The main process."""
        return self.program.pid

    @property
    def gate(self) -> Gate:
        """Where the slow request waits."""
        assert self._gate is not None
        return self._gate

    def slow_request(self) -> Client:
        """Begin a request that is not answered before the gate opens; it is in flight when this returns."""
        client = Client.get(self.port, "/slow")
        self.gate.arrived()
        return client

    def works(self) -> None:
        """Assert that it answers."""
        answer = Client.get(self.port, "/").answer()
        assert b"200" in answer.splitlines()[0], answer


# --------------------------------------------------------------------------- nginx

_NGINX = """
daemon off;
worker_processes 2;
pid {home}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "here\\n"; }}
        location /slow {{ proxy_pass http://127.0.0.1:{gate}; }}
    }}
}}
"""


def start_nginx(lab: Lab) -> Server:
    """An nginx with a master and two workers; `/slow` waits at the gate."""
    nginx = need("nginx")
    gate, port = lab.gate(), free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # else the workers are www-data, which may not enter our folder
    config = lab.write("nginx.conf", _NGINX.format(home=lab.home, port=port, gate=gate.port, user=user))
    program = lab.start(nginx, "-e", "stderr", "-p", lab.home, "-c", config)
    for _ in range(2):
        program.expect(b"start worker process ")
    return Server(program, port, gate)


def pass_nginx(server: Server) -> None:
    """Let the slow request of nginx be answered."""
    server.gate.open(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\ncomplete\n")


# --------------------------------------------------------------------------- uvicorn

_UVICORN = """
import asyncio
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("shutdown event", flush=True)
                return
    body = b"here"
    if scope["path"] == "/slow":
        reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["GATE"]))
        writer.write(b"here\\n")
        body = await reader.read()
        writer.close()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


def start_uvicorn(lab: Lab, *options: str) -> Server:
    """An application under uvicorn; `/slow` waits at the gate."""
    if subprocess.run([sys.executable, "-c", "import uvicorn"], check=False, capture_output=True).returncode:
        pytest.skip("needs `uvicorn`: not installed for this Python")
    gate, port = lab.gate(), free_port()
    lab.write("app.py", _UVICORN)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), *options]
    program = lab.start(*command, env={"GATE": str(gate.port), "PYTHONWARNINGS": "ignore"})
    program.expect(b"Application startup complete")
    if "--workers" in options:
        program.expect(b"Application startup complete")  # the second of two
        until(lambda: listens(port))  # the workers listen after that line and print none about it
    else:
        program.expect(b"Uvicorn running on")
    return Server(program, port, gate)


# --------------------------------------------------------------------------- node

_NODE = """
const http = require('http'), net = require('net');
const server = http.createServer((request, response) => {
  if (request.url !== '/slow') return response.end('here\\n');
  const gate = net.connect(Number(process.env.GATE), '127.0.0.1', () => gate.write('here\\n'));
  gate.on('data', (data) => response.end(data));
  gate.on('error', () => response.destroy());
});
if (process.argv[2] === 'handler') {
  process.on('SIGTERM', () => {
    console.log('closing');
    server.close(() => { console.log('closed'); process.exit(0); });
  });
}
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
"""


def start_node(lab: Lab, *, handler: bool) -> Server:
    """A node server, with a handler for TERM that finishes what is in flight, or without any."""
    node = need("node")
    gate, port = lab.gate(), free_port()
    script = lab.write("server.js", _NODE)
    program = lab.start(
        node, script, "handler" if handler else "plain", env={"GATE": str(gate.port), "PORT": str(port)}
    )
    program.expect(b"ready")
    return Server(program, port, gate)


# --------------------------------------------------------------------------- a JVM

_JAVA = """
import java.nio.file.*;

public class Main {
    public static void main(String[] arguments) throws Exception {
        Path data = Paths.get(arguments[0]);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                Files.writeString(data, "flushed\\n");
            } catch (java.io.IOException problem) {
                problem.printStackTrace();
            }
        }));
        System.out.println("ready");
        Thread.sleep(Long.MAX_VALUE);
    }
}
"""


def start_jvm(lab: Lab) -> Program:
    """A Java program whose shutdown hook writes `data`."""
    java = need("java")
    classes = os.path.join(lab.shared, "java")
    if not os.path.exists(classes):
        _compile(lab, java, classes)
    # The small, serial virtual machine of containers: the test machine has better things to do than to start compiler threads.
    program = lab.start(java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classes, "Main", lab.path("data"))
    program.expect(b"ready")
    return program


def _compile(lab: Lab, java: str, classes: str) -> None:
    """Compile the program; Debian's runtime package carries the compiler, without its command: no development kit is needed."""
    compiler = "jdk.compiler/com.sun.tools.javac.Main"
    source = lab.write("Main.java", _JAVA)
    done = subprocess.run([java, "-m", compiler, "-d", classes, source], check=False, capture_output=True, timeout=60)
    if b"jdk.compiler not found" in done.stdout + done.stderr:
        pytest.skip("needs the module `jdk.compiler`: not in this Java runtime")
    assert done.returncode == 0, done


# --------------------------------------------------------------------------- ffmpeg


def start_ffmpeg(lab: Lab, *, stdin: int = subprocess.DEVNULL) -> Program:
    """An ffmpeg, recording in real time into `film.mp4`; at least 10 pictures are in it when this returns."""
    ffmpeg = need("ffmpeg")
    program = lab.start(
        ffmpeg, "-hide_banner", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1",
        "-re", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-codec:v", "mpeg4", "-threads", "1", lab.path("film.mp4"),
        stdin=stdin,
    )  # fmt: skip
    while int(program.expect(b"frame=").rpartition(b"=")[2]) < 10:
        pass
    return program


def film_seconds(lab: Lab) -> float | None:
    """Return the length of the recording, None if it cannot be read: a recording that was cut has no index (`moov`)."""
    ffprobe = need("ffprobe")
    command = [ffprobe, "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", lab.path("film.mp4")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return float(done.stdout) if done.returncode == 0 else None


# --------------------------------------------------------------------------- tmux


class Tmux:
    """A tmux server of its own with one window in it.

    Attributes:
        server: Our handle on the server.
        shell: Our handle on the shell in the window.
    """

    def __init__(self, lab: Lab) -> None:
        self._tmux = need("tmux")
        self._socket = lab.path("tmux.sock")
        shell = need("bash")
        with contextlib.suppress(KeyError):
            del os.environ["TMUX"]  # a developer may run the tests inside his own tmux
        starter = lab.start(
            self._tmux,
            "-S",
            self._socket,
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "test",
            f"{shell} --norc --noprofile -i",
            env={"TERM": "xterm"},
        )
        assert starter.returncode() == 0, starter.output.rest()
        pids = self.run("display-message", "-p", "-t", "test", "#{pid} #{pane_pid}").split()
        self.server: Handle = lab.adopt(int(pids[0]))
        self.shell: Handle = lab.adopt(int(pids[1]))

    def run(self, *words: str) -> str:
        """Run a tmux command against this server."""
        done = subprocess.run(
            [self._tmux, "-S", self._socket, *words], check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def type(self, line: str, appears: str) -> None:
        """Type a line into the window and wait until *appears* stands at the beginning of a line there."""
        self.run("send-keys", "-t", "test", line, "Enter")
        until(lambda: f"\n{appears}" in self.run("capture-pane", "-p", "-t", "test"))

    def works(self) -> None:
        """Assert that the server answers."""
        assert self.run("list-sessions").startswith("test:")


# --------------------------------------------------------------------------- a bash loop with a trap

_LOOP = """
trap 'echo cleaning; echo clean >"$1"; exit 3' TERM
trap 'echo heard' HUP
echo ready
while :; do sleep 600; done
"""


def start_bash_loop(lab: Lab) -> Program:
    """A loop in bash that cleans up on TERM, as deployment scripts have it; it is inside its `sleep` when this returns."""
    bash = need("bash")
    script = lab.write("loop.sh", _LOOP)
    program = lab.start(bash, script, lab.path("data"))
    program.expect(b"ready")
    wait_for_child(lab, program.pid, "sleep")
    return program


def wait_for_child(lab: Lab, pid: int, name: str) -> int:
    """Return the pid of a child that runs *name*; a shell tells nobody when it has started one."""
    return until(lambda: [p for p in lab.children(pid) if name_of(p) == name])[0]


# --------------------------------------------------------------------------- supervisors


class Supervised:
    """A program that a supervisor starts again whenever it ends.

    Attributes:
        supervisor: Our handle on the supervisor.
        starts: The pids of the program, as it told them itself.
    """

    def __init__(self, lab: Lab, supervisor: Program) -> None:
        self._lab = lab
        self.supervisor = supervisor
        self.starts: list[int] = []
        self.next_start()

    def next_start(self) -> int:
        """Wait until the program has been started (again) and return its pid."""
        path = self._lab.path("starts")
        until(lambda: len(self._lab.read("starts").splitlines()) > len(self.starts))
        self.starts = [int(line) for line in self._lab.read(os.path.basename(path)).splitlines()]
        return self.starts[-1]


def _worker(lab: Lab) -> str:
    """A script that notes its pid and works until it is asked by TERM; its `sleep` is not the shell's child but the shell itself."""
    return lab.write("worker.sh", f"#!/bin/sh\necho $$ >>{lab.path('starts')}\nexec sleep 600\n", 0o755)


def start_runit(lab: Lab) -> Supervised:
    """A service below runit's `runsv`."""
    runsv = need("runsv")
    worker = _worker(lab)
    lab.write("service/run", f"#!/bin/sh\nexec {worker}\n", 0o755)
    return Supervised(lab, lab.start(runsv, lab.path("service")))


_SUPERVISORD = """
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={home}/supervisord.pid
{user}
[unix_http_server]
file={home}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{home}/supervisor.sock
[program:worker]
command={worker}
startsecs=0
autorestart={restart}
"""


def start_supervisord(lab: Lab, *, worker: str = "", restart: str = "true") -> Supervised:
    """A program below supervisord."""
    supervisord = need("supervisord")
    user = "user=root" if os.geteuid() == 0 else ""
    config = lab.write(
        "supervisord.conf",
        _SUPERVISORD.format(home=lab.home, worker=worker or _worker(lab), user=user, restart=restart),
    )
    return Supervised(lab, lab.start(supervisord, "-c", config, env={"PYTHONWARNINGS": "ignore"}))
