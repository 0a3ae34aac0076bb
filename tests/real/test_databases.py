"""PostgreSQL and Redis. The data is what was written before the stop."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.targets.lab import free_port

from . import databases
from .answers import pid_of
from .observer import listens, need, until

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.slow]

_RECOVERY = b"was not properly shut down"


# --------------------------------------------------------------------------- postgresql


def _rows_after_restart(cluster: databases.Cluster) -> tuple[str, bool]:
    """Start the server again; return the rows and whether it had to recover."""
    again = cluster.start()
    rows = cluster.sql("select string_agg(note, ',' order by note) from notes")
    recovered = _RECOVERY in again.output.text
    again.send(signal.SIGINT)
    assert again.returncode() == 0
    return rows, recovered


def test_postgres_is_stopped_clean(lab: Lab) -> None:
    """TERM is its smart end: without clients it is over at once, the cluster is shut down, and nothing has to be recovered."""
    cluster, server = databases.start_postgres(lab)
    cluster.sql("create table notes (note text); insert into notes values ('kept')")

    report = lab.stop(server.pid, "-t", "20s")

    assert report.outcome == "stopped"
    assert len(report.target["members"]) > 1  # its workers; how many depends on what it is doing
    assert {pid: asked for pid, asked in report.asked().items() if asked} == {server.pid: ["TERM"]}
    lab.nothing_left()
    assert cluster.state() == "shut down"
    assert _rows_after_restart(cluster) == ("kept", False)


def test_postgres_with_a_client_waits_for_it_and_the_report_says_running(lab: Lab) -> None:
    """The smart end waits for clients: the client's transaction is not cut, and goes through after the report."""
    cluster, server = databases.start_postgres(lab)
    cluster.sql("create table notes (note text)")
    client = cluster.session()

    report = lab.stop(server.pid, "-t", "2s")

    assert report.outcome == "running"
    assert "handler" in report.codes()
    assert report.asked()[server.pid] == ["TERM"]
    assert not any(asked for pid, asked in report.asked().items() if pid != server.pid), (
        "the server's own workers were asked"
    )
    client.communicate(b"begin; insert into notes values ('late'); commit;\n", timeout=30)
    assert server.returncode() == 0
    assert cluster.state() == "shut down"
    assert _rows_after_restart(cluster) == ("late", False)


def test_postgres_with_a_client_is_ended_by_the_second_step(lab: Lab) -> None:
    """INT is its fast end: clients are disconnected, what was committed is there, what was not is rolled back."""
    cluster, server = databases.start_postgres(lab)
    cluster.sql("create table notes (note text)")
    client = cluster.session()
    assert client.stdin is not None
    client.stdin.write(
        b"insert into notes values ('kept'); begin; insert into notes values ('open'); select 'in it';\n"
    )
    client.stdin.flush()
    assert client.stdout is not None
    assert client.stdout.readline() == b"in it\n"

    report = lab.stop(server.pid, "--plan", "TERM/1/INT/20")

    client.communicate(timeout=30)
    assert report.outcome == "stopped"
    assert report.asked()[server.pid] == ["TERM", "INT"]
    lab.nothing_left()
    assert cluster.state() == "shut down"
    assert _rows_after_restart(cluster) == ("kept", False)


def test_postgres_forced_has_to_recover(lab: Lab) -> None:
    """KILL leaves no process behind, and a cluster that has to be recovered: force is never implied."""
    cluster, server = databases.start_postgres(lab)
    cluster.sql("create table notes (note text); insert into notes values ('kept')")

    report = lab.stop(server.pid, "--now")

    assert report.outcome == "forced"
    lab.nothing_left()
    assert cluster.state() == "in production"
    assert _rows_after_restart(cluster) == ("kept", True)


def test_postgres_by_its_pid_file_is_the_server(lab: Lab) -> None:
    """Only the first line of `postmaster.pid` is the pid."""
    cluster, server = databases.start_postgres(lab)

    report = lab.stop(f"pidfile:{cluster.data}/postmaster.pid", "-t", "20s")

    assert report.outcome == "stopped"
    assert pid_of(report.target["ref"]) == server.pid
    assert cluster.state() == "shut down"


def test_postgres_by_name_and_folder_is_one_program(lab: Lab) -> None:
    """Server and workers have the same name; they are one program and need no `--all`."""
    cluster, server = databases.start_postgres(lab)

    report = lab.stop("postgres", "--cwd", cluster.data, "-t", "20s")

    assert report.outcome == "stopped"
    assert pid_of(report.target["ref"]) == server.pid
    assert cluster.state() == "shut down"
    lab.nothing_left()


# --------------------------------------------------------------------------- redis


def _value_after_restart(lab: Lab, *options: str) -> bytes:
    again = databases.start_redis(lab, *options)
    return again.ask("GET", "note")


@pytest.mark.parametrize("options", [(), ("--appendonly", "yes", "--save", "")], ids=["rdb", "aof"])
def test_redis_keeps_its_keys(lab: Lab, options: tuple[str, ...]) -> None:
    """It saves when it is asked by TERM."""
    redis = databases.start_redis(lab, *options)
    redis.ask("SET", "note", "kept")

    report = lab.stop(f":{redis.port}", "-t", "20s")

    assert report.outcome == "stopped"
    assert report.target["ports"][0]["free"]
    lab.nothing_left()
    assert _value_after_restart(lab, *options) == b"$4\r\nkept\r\n"


def test_redis_by_name_and_folder_is_the_right_one(lab: Lab) -> None:
    """Two servers have the same name; the filter chooses, the other one serves on."""
    one = databases.start_redis(lab)
    os.rename(lab.path("redis"), lab.path("one"))
    two = databases.start_redis(lab)

    report = lab.stop("redis-server", "--cwd", lab.path("redis"), "-t", "20s")

    assert report.outcome == "stopped"
    assert two.program.returncode() == 0
    one.works()


def test_redis_that_cannot_save_refuses_and_the_report_says_running(lab: Lab) -> None:
    """It would lose its keys, so it stays; a stop that lied here would lose somebody's data."""
    redis = databases.start_redis(lab)
    redis.ask("SET", "note", "kept")
    shutil.rmtree(lab.path("redis"))

    report = lab.stop(redis.pid, "-t", "1s")

    assert report.outcome == "running"
    redis.program.expect(b"can't exit")
    assert redis.ask("GET", "note") == b"$4\r\nkept\r\n"


def test_redis_forced_loses_what_it_had_not_saved(lab: Lab) -> None:
    """KILL ends it and its newest keys: force is never implied."""
    redis = databases.start_redis(lab)
    redis.ask("SET", "note", "kept")

    report = lab.stop(redis.pid, "--now")

    assert report.outcome == "forced"
    lab.nothing_left()
    assert _value_after_restart(lab) == b"$-1\r\n"


def test_redis_as_a_daemon_is_found_by_port_and_by_pid_file(lab: Lab) -> None:
    """Two daemons of one script: each is stopped alone, and neither is suspected for the other."""
    redis = need("redis-server")
    ports = free_port(), free_port()
    for port in ports:
        os.mkdir(lab.path(str(port)))
        options = [
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            lab.path(str(port)),
            "--save",
            "",
            "--daemonize",
            "yes",
        ]
        starter = lab.start(redis, *options, "--pidfile", lab.path(f"{port}.pid"))
        assert starter.returncode() == 0
    until(lambda: all(listens(port) and lab.read(f"{port}.pid").endswith("\n") for port in ports))
    one, two = (lab.adopt(int(lab.read(f"{port}.pid"))) for port in ports)

    assert lab.stop(f"pidfile:{lab.path(f'{ports[0]}.pid')}").outcome == "stopped"
    assert one.ended
    assert not two.ended
    assert lab.stop(f":{ports[1]}").outcome == "stopped"
    lab.nothing_left()


def test_redis_that_saves_in_the_background_is_stopped_with_its_child(lab: Lab) -> None:
    """The child that writes the file is ended by its own parent, which then writes it itself."""
    redis = databases.start_redis(lab)
    for number in range(200):
        redis.ask("SET", f"note{number}", "x" * 2000)
    redis.ask("CONFIG", "SET", "rdb-key-save-delay", "20000")
    redis.ask("BGSAVE")
    until(lambda: len(lab.living()) == 2)
    redis.ask("CONFIG", "SET", "rdb-key-save-delay", "0")

    report = lab.stop(redis.pid, "-t", "20s")

    assert report.outcome == "stopped"
    lab.nothing_left()
    again = databases.start_redis(lab)
    assert again.ask("DBSIZE") == b":200\r\n"
