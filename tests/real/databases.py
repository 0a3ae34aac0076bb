"""How the databases are started: Redis and PostgreSQL. PostgreSQL refuses to run as root, so there it runs as `nobody`."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.targets.lab import free_port

from .observer import PATIENCE_S, need
from .programs import Server

if TYPE_CHECKING:
    from .lab import Lab
    from .observer import Program


# --------------------------------------------------------------------------- redis


class Redis(Server):
    """A redis server."""

    def ask(self, *words: str) -> bytes:
        """Run one command."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            connection.sendall(request.encode())
            return connection.recv(1 << 16)

    def works(self) -> None:
        """Assert that it answers."""
        assert self.ask("PING") == b"+PONG\r\n"


def start_redis(lab: Lab, *options: str) -> Redis:
    """Redis that keeps its data in the lab's folder; by default it saves when it is asked to stop."""
    redis = need("redis-server")
    port = free_port()
    folder = lab.path("redis")
    os.makedirs(folder, exist_ok=True)
    program = lab.start(
        redis,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
        "--save",
        "3600 1",
        "--daemonize",
        "no",
        *options,
    )
    program.expect(b"Ready to accept connections")
    return Redis(program, port)


# --------------------------------------------------------------------------- postgresql


class Cluster:
    """A PostgreSQL cluster in the lab's folder.

    Attributes:
        data: Its data folder.
        user: The user that it runs as, None for our own.
    """

    def __init__(self, lab: Lab) -> None:
        folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
        self._lab = lab
        self._postgres = need("postgres", folders)
        binaries = os.path.dirname(os.path.realpath(self._postgres))
        self._psql = need("psql", (binaries,))
        self._initdb = need("initdb", (binaries,))
        self._controldata = need("pg_controldata", (binaries,))
        self.user = "nobody" if os.geteuid() == 0 else None
        self.data = lab.path("cluster")
        self._port = free_port()

    def make(self) -> None:
        """Make the cluster: a copy of one that is made once."""
        if self.user is not None:
            shutil.chown(self._lab.home, self.user)
        template = os.path.join(self._lab.shared, "postgres", "cluster")
        if not os.path.exists(template):
            self._make_template(template)
        self._run("cp", "-R", "-p", template, self.data)

    def _make_template(self, template: str) -> None:
        os.mkdir(os.path.dirname(template))
        if self.user is not None:
            shutil.chown(os.path.dirname(template), self.user)
        options = ["--no-sync", "--auth", "trust", "--username", "tester", "--no-locale", "--encoding", "UTF8"]
        self._run(self._initdb, "--pgdata", template, *options)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self._lab.home, user=self.user, timeout=60)

    def start(self) -> Program:
        """Start the server; its output tells what it found at start."""
        program = self._lab.start(
            self._postgres,
            "-D",
            self.data,
            "-h",
            "",
            "-k",
            self._lab.home,
            "-p",
            str(self._port),
            "-c",
            "fsync=off",
            user=self.user,
        )
        program.expect(b"database system is ready to accept connections")
        return program

    def _client(self) -> list[str]:
        return [
            self._psql,
            "-X",
            "-q",
            "-A",
            "-t",
            "-h",
            self._lab.home,
            "-p",
            str(self._port),
            "-U",
            "tester",
            "postgres",
        ]

    def sql(self, text: str) -> str:
        """Run a statement and return its rows."""
        done = subprocess.run([*self._client(), "-c", text], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def session(self) -> subprocess.Popen[bytes]:
        """Return a client that is connected and idle until its input is closed."""
        popen = subprocess.Popen(
            [*self._client(), "-v", "ON_ERROR_STOP=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert popen.stdin is not None
        assert popen.stdout is not None
        popen.stdin.write(b"select 'connected';\n")
        popen.stdin.flush()
        assert popen.stdout.readline() == b"connected\n"
        return popen

    def state(self) -> str:
        """Return the state of the cluster as it stands on the disk."""
        done = subprocess.run([self._controldata, self.data], check=True, capture_output=True, text=True, timeout=60)
        return next(
            line.partition(":")[2].strip()
            for line in done.stdout.splitlines()
            if line.startswith("Database cluster state")
        )


def start_postgres(lab: Lab) -> tuple[Cluster, Program]:
    """A new cluster and its server."""
    cluster = Cluster(lab)
    cluster.make()
    return cluster, cluster.start()
