"""Who looks after a process: from plain text, so no manager has to be installed."""

from __future__ import annotations

import shlex
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)

from hypothesis import given
from hypothesis import strategies as st

from endtask._backends.linux import facts
from endtask._backends.linux.cgroup_managers import unescape_unit
from endtask._backends.linux.loops import find_loop, loop_word, shell_arguments
from endtask._backends.linux.managers import find_managers
from endtask._backends.linux.surroundings import Ancestor, Surroundings, command
from endtask.model import Manager, Row

_ID = "0123456789abcdef" * 4
_SHORT = _ID[:12]
_INIT = Ancestor(1, "systemd", ("/sbin/init",))


def _one(around: Surroundings) -> Manager:
    found = find_managers(around)
    assert len(found) == 1, found
    return found[0]


# --------------------------------------------------------------------------- cgroups


@pytest.mark.parametrize(
    ("cgroup", "kind", "name", "stop", "restarts"),
    [
        ("/system.slice/nginx.service", "systemd", "nginx.service", "systemctl stop nginx.service", "unknown"),
        ("/system.slice/ctl.service/payload/deep", "systemd", "ctl.service", "systemctl stop ctl.service", "unknown"),
        (
            "/system.slice/a\\x20b.service",
            "systemd",
            "a b.service",
            "systemctl stop 'a\\x20b.service'",
            "unknown",
        ),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "systemd",
            "getty@tty1.service",
            "systemctl stop getty@tty1.service",
            "unknown",
        ),
        ("/system.slice/run-u12.scope", "systemd", "run-u12.scope", "systemctl stop run-u12.scope", "no"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
            "systemd",
            "web.service",
            "systemctl --user stop web.service",
            "unknown",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x-1.scope",
            "systemd",
            "app-x-1.scope",
            "systemctl --user stop app-x-1.scope",
            "no",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "systemd",
            "user@1000.service",
            "systemctl stop user@1000.service",
            "unknown",
        ),
        ("/user.slice/user-0.slice/session-3.scope", "session", "session 3", "loginctl terminate-session 3", "no"),
        (f"/system.slice/docker-{_ID}.scope", "docker", _SHORT, f"docker stop {_SHORT}", "unknown"),
        (f"/docker/{_ID}", "docker", _SHORT, f"docker stop {_SHORT}", "unknown"),
        (f"/docker/{_ID}/init/deep", "docker", _SHORT, f"docker stop {_SHORT}", "unknown"),
        (f"/machine.slice/libpod-{_ID}.scope/container", "podman", _SHORT, f"podman stop {_SHORT}", "unknown"),
        (f"/system.slice/crio-{_ID}.scope", "cri-o", _SHORT, f"crictl stop {_SHORT}", "unknown"),
        (f"/system.slice/nerdctl-{_ID}.scope", "nerdctl", _SHORT, f"nerdctl stop {_SHORT}", "unknown"),
        (f"/default/{_ID}", "containerd", _SHORT, f"ctr -n default tasks kill {_ID}", "unknown"),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{_ID}.scope",
            "kubernetes",
            _SHORT,
            f"crictl stop {_SHORT}",
            "unknown",
        ),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-{_ID}.scope",
            "kubernetes",
            _SHORT,
            f"crictl stop {_SHORT}",
            "unknown",
        ),
        (f"/kubepods/besteffort/pod1-2/{_ID}", "kubernetes", _SHORT, f"crictl stop {_SHORT}", "unknown"),
        ("/lxc.payload.web", "lxc", "web", "lxc-stop -n web", "no"),
    ],
)
def test_cgroup_names_the_manager(cgroup: str, kind: str, name: str, stop: str, restarts: str) -> None:
    """The innermost unit or container of the path, with its own stop command."""
    manager = _one(Surroundings(7, cgroup, ancestors=(_INIT,), orphan=True))
    assert (manager.kind, manager.name, manager.stop, manager.restarts) == (kind, name, stop, restarts)
    assert manager.certain
    assert "cgroup" in manager.because


@pytest.mark.parametrize("cgroup", ["", "/", "/init.scope", "/user.slice", "/my.slice/x", "/docker", f"/x/{_ID[:63]}"])
def test_cgroup_of_nobody_names_nobody(cgroup: str) -> None:
    """The root, a slice and a path that is only similar have no manager."""
    assert find_managers(Surroundings(7, cgroup, orphan=True)) == ()


def test_unit_says_what_was_not_read_and_which_is_the_main_process() -> None:
    """`Restart=` is not in /proc; the main process is, if an ancestor is the one that the environment names."""
    nginx = Ancestor(50, "nginx", ("nginx: master",))
    around = Surroundings(51, "/system.slice/nginx.service", {"SYSTEMD_EXEC_PID": "50"}, "", (nginx, _INIT))
    unit = next(m for m in find_managers(around) if m.kind == "systemd")
    assert "Restart= was not read" in unit.because
    assert "main process is 50" in unit.because
    inherited = Surroundings(51, "/system.slice/nginx.service", {"SYSTEMD_EXEC_PID": "9"}, "", (nginx, _INIT))
    assert "main process" not in next(m for m in find_managers(inherited) if m.kind == "systemd").because


def test_pod_is_named_by_its_host_name_unless_that_is_the_hosts() -> None:
    """`kubectl delete pod` needs the pod's name, which is its host name when it has a network of its own."""
    cgroup = f"/kubepods/pod1/{_ID}"
    pod = _one(Surroundings(7, cgroup, {"HOSTNAME": "web-5d9"}, nodename="node1", orphan=True))
    assert pod.stop == "kubectl delete pod web-5d9"
    host = _one(Surroundings(7, cgroup, {"HOSTNAME": "node1"}, nodename="node1", orphan=True))
    assert host.stop == f"crictl stop {_SHORT}"
    inside = _one(Surroundings(7, "/", {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "web-5d9"}, orphan=True))
    assert inside.stop == "kubectl delete pod web-5d9"
    assert not inside.certain


@pytest.mark.parametrize(
    ("shim", "kind", "stop"),
    [
        (("containerd-shim-runc-v2", "-namespace", "moby", "-id", _ID), "docker", f"docker stop {_SHORT}"),
        (("/usr/bin/containerd-shim", "-namespace", "k8s.io", "-id", _ID), "kubernetes", f"crictl stop {_SHORT}"),
        (("containerd-shim-runc-v2", "-namespace", "x", "-id", _ID), "containerd", f"ctr -n x tasks kill {_ID}"),
        (("/usr/bin/conmon", "--api-version", "1", "-c", _ID), "podman", f"podman stop {_SHORT}"),
    ],
)
def test_shim_above_names_the_container_when_the_cgroup_does_not(shim: tuple[str, ...], kind: str, stop: str) -> None:
    """In a cgroup namespace the path says `/`, and the shim's command line has the id."""
    app = Ancestor(40, "app", ("app",))
    ancestors = (app, Ancestor(30, shim[0].rpartition("/")[2][:15], shim), _INIT)
    found = find_managers(Surroundings(41, "/", {}, "", ancestors))
    manager = next(m for m in found if m.kind == kind)
    assert manager.stop == stop


# --------------------------------------------------------------------------- ancestors


_SUPERVISOR = {
    "SUPERVISOR_ENABLED": "1",
    "SUPERVISOR_PROCESS_NAME": "web",
    "SUPERVISOR_GROUP_NAME": "apps",
    "SUPERVISOR_SERVER_URL": "unix:///run/my supervisor.sock",
}
_PM2 = {"PM2_HOME": "/home/ana/.pm2", "pm_exec_path": "/srv/app.js", "name": "my app"}
_TMUX = {"TMUX": "/tmp/tmux-0/default,30,0", "TMUX_PANE": "%3"}


@pytest.mark.parametrize(
    ("environ", "parent", "kind", "name", "stop", "restarts"),
    [
        (
            _SUPERVISOR,
            Ancestor(30, "supervisord", ("/usr/bin/python3", "/usr/bin/supervisord", "-n")),
            "supervisord",
            "apps:web",
            "supervisorctl -s 'unix:///run/my supervisor.sock' stop apps:web",
            "yes",
        ),
        ({}, Ancestor(30, "supervisord", ()), "supervisord", "", "", "yes"),
        (
            {},
            Ancestor(30, "runsv", ("runsv", "web"), "/etc/service/web"),
            "runit",
            "web",
            "sv stop /etc/service/web",
            "yes",
        ),
        ({}, Ancestor(30, "runsv", ("runsv", "web")), "runit", "web", "sv stop web", "yes"),
        (
            {},
            Ancestor(30, "s6-supervise", ("s6-supervise", "web"), "/run/s 6"),
            "s6",
            "s 6",
            "s6-svc -wD -d '/run/s 6'",
            "yes",
        ),
        (
            {},
            Ancestor(30, "supervise", ("supervise", "web"), "/service/web"),
            "daemontools",
            "web",
            "svc -d /service/web",
            "yes",
        ),
        (
            _PM2,
            Ancestor(30, "PM2 v7.0.4: God", ("PM2 v7.0.4: God Daemon (/home/ana/.pm2)",)),
            "pm2",
            "my app",
            "pm2 stop 'my app'",
            "yes",
        ),
        (
            {**_PM2, "PM2_HOME": "/srv/pm 2"},
            Ancestor(30, "PM2 v7.0.4: God", ()),
            "pm2",
            "my app",
            "PM2_HOME='/srv/pm 2' pm2 stop 'my app'",
            "yes",
        ),
        ({}, Ancestor(30, "PM2 v7.0.4: God", ()), "pm2", "", "", "yes"),
        (_TMUX, Ancestor(30, "tmux: server", ("tmux", "new")), "tmux", "pane %3", "tmux kill-pane -t %3", "no"),
        (
            {"TMUX": "/tmp/my sock,30,0", "TMUX_PANE": "%0"},
            Ancestor(30, "tmux: server", ("tmux",)),
            "tmux",
            "pane %0",
            "tmux -S '/tmp/my sock' kill-pane -t %0",
            "no",
        ),
        ({**_TMUX, "TMUX": "/tmp/tmux-0/default,31,0"}, Ancestor(30, "tmux: server", ()), "tmux", "", "", "no"),
        (
            {"STY": "30.pts-0.host", "WINDOW": "2"},
            Ancestor(30, "screen", ("SCREEN", "-S", "x")),
            "screen",
            "30.pts-0.host",
            "screen -S 30.pts-0.host -p 2 -X kill",
            "no",
        ),
        ({"STY": "30.x"}, Ancestor(30, "screen", ("SCREEN",)), "screen", "30.x", "screen -S 30.x -X quit", "no"),
        ({}, Ancestor(30, "cron", ("/usr/sbin/CRON", "-f")), "cron", "cron", "", "unknown"),
        ({}, Ancestor(30, "crond", ("busybox", "crond")), "cron", "crond", "", "unknown"),
        ({}, Ancestor(30, "atd", ("/usr/sbin/atd",)), "at", "atd", "", "no"),
        (
            {"XDG_SESSION_ID": "c2"},
            Ancestor(30, "sshd", ("sshd: ana",)),
            "ssh",
            "session c2",
            "loginctl terminate-session c2",
            "no",
        ),
        ({}, Ancestor(30, "sshd-session", ("sshd-session: ana",)), "ssh", "login", "", "no"),
        (
            {},
            Ancestor(30, "daemon", ("daemon", "-r", "-n", "web", "--", "app")),
            "daemon",
            "web",
            "daemon -n web --stop",
            "yes",
        ),
        ({}, Ancestor(30, "daemon", ("daemon", "--name=web", "app")), "daemon", "web", "daemon -n web --stop", "no"),
        (
            {"SLURM_JOB_ID": "77"},
            Ancestor(30, "slurmstepd", ("slurmstepd: [77.0]",)),
            "slurm",
            "job 77",
            "scancel 77",
            "no",
        ),
        (
            {"NOMAD_ALLOC_ID": "ab-c"},
            Ancestor(30, "nomad", ("nomad", "executor")),
            "nomad",
            "ab-c",
            "nomad alloc stop ab-c",
            "unknown",
        ),
    ],
)
def test_parent_is_the_manager(
    environ: dict[str, str], parent: Ancestor, kind: str, name: str, stop: str, restarts: str
) -> None:
    """The environment gives the name, the parent confirms that the manager is there."""
    manager = _one(Surroundings(40, "/", environ, "", (parent, _INIT)))
    assert (manager.kind, manager.name, manager.stop, manager.restarts) == (kind, name, stop, restarts)
    assert manager.pid == 30
    assert manager.certain is (kind != "supervisord")  # its autorestart= cannot be seen
    assert "30" in manager.because


@pytest.mark.parametrize(
    "environ", [_SUPERVISOR, _PM2, _TMUX, {"STY": "30.x"}, {"NOMAD_ALLOC_ID": "x", "SLURM_JOB_ID": "1"}]
)
def test_an_inherited_environment_alone_is_no_manager(environ: dict[str, str]) -> None:
    """A daemon that was once started from there is not looked after from there."""
    assert find_managers(Surroundings(40, "/", environ, "", (_INIT,), orphan=True)) == ()


def test_a_grandchild_of_a_supervisor_is_a_guess() -> None:
    """What is below the managed process may end with it, or not."""
    chain = (Ancestor(41, "gunicorn", ("gunicorn",)), Ancestor(30, "supervisord", ("supervisord",)), _INIT)
    found = find_managers(Surroundings(42, "/system.slice/supervisor.service", _SUPERVISOR, "", chain))
    assert [m.kind for m in found] == ["supervisord", "systemd"]
    assert found[0].restarts == "unknown"
    assert not found[0].certain
    assert "1 level" in found[0].because


def test_nearest_manager_comes_first() -> None:
    """Ancestors by distance, then container, unit, login session."""
    chain = (
        Ancestor(60, "tmux: server", ("tmux",)),
        Ancestor(50, "runsv", ("runsv", "x"), "/sv/x"),
        Ancestor(40, "sshd", ("sshd: a",)),
    )
    found = find_managers(Surroundings(70, f"/system.slice/docker-{_ID}.scope", {}, "", chain))
    assert [m.kind for m in found] == ["tmux", "runit", "ssh", "docker"]
    login = find_managers(Surroundings(70, "/user.slice/user-0.slice/session-9.scope", {}, "", chain[2:]))
    assert [(m.kind, m.stop) for m in login] == [("ssh", "loginctl terminate-session 9")]


# --------------------------------------------------------------------------- loops


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (("sh", "-c", "while true; do app; done"), ("-c", "while true; do app; done")),
        (("/bin/bash", "-eu", "-o", "pipefail", "-c", "x", "arg"), ("-c", "x")),
        (("bash", "--norc", "--rcfile", "f", "script.sh", "-c"), ("script", "script.sh")),
        (("busybox", "sh", "run.sh"), ("script", "run.sh")),
        (("-bash",), ("", "")),
        (("bash", "-i"), ("", "")),
        (("sh", "-s", "arg"), ("", "")),
        (("sh", "-c"), ("", "")),
        (("python3", "-c", "while 1: pass"), ("", "")),
        ((), ("", "")),
        (("sh", "--", "-x"), ("script", "-x")),
    ],
)
def test_shell_arguments(cmdline: tuple[str, ...], expected: tuple[str, str]) -> None:
    """Text, script, or neither."""
    assert shell_arguments(cmdline) == expected


@given(st.lists(st.text(max_size=6), max_size=6))
def test_shell_arguments_takes_anything(words: list[str]) -> None:
    """No command line makes it fail."""
    kind, text = shell_arguments(["sh", *words])
    assert (kind == "") == (text == "") or text in words


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("while true; do app; sleep 1; done", "while"),
        ("#!/bin/sh\n# for a while\nuntil app; do :; done\n", "until"),
        ("for i in 1 2 3; do app; done", "for"),
        ("cd x && while :; do app; done", "while"),
        ("if x; then for f in *; do y; done; fi", "for"),
        ("echo wait for it while you can", ""),
        ("app # while", ""),
        ("exec app", ""),
        ("", ""),
    ],
)
def test_loop_word(script: str, word: str) -> None:
    """A keyword counts where a command begins, not in an argument or a comment."""
    assert loop_word(script) == word


def _parent(name: str, *cmdline: str, script: str | None = None) -> Ancestor:
    return Ancestor(30, name, cmdline, "", script)


_TERMINAL = Ancestor(20, "gnome-terminal-", ("/usr/libexec/gnome-terminal-server",))


@pytest.mark.parametrize(
    ("ancestors", "name", "stop"),
    [
        ((_parent("sh", "sh", "-c", "while :; do app; done"),), "sh -c", "endtask stop 30"),
        ((_parent("run.sh", "/bin/sh", "./run.sh", script="until app; do :; done"),), "sh run.sh", "endtask stop 30"),
        (
            (
                Ancestor(31, "npm run dev", ("npm run dev",)),
                _parent("bash", "bash", "-c", "for x in 1 2; do npm run dev; done"),
            ),
            "bash -c",
            "endtask stop 30",
        ),
        (
            (
                Ancestor(31, "sh", ("sh", "-c", "app")),
                Ancestor(32, "sudo", ("sudo", "sh")),
                _parent("sh", "sh", "x", script="while :; do :; done"),
            ),
            "sh x",
            "endtask stop 30",
        ),
    ],
)
def test_a_parent_that_could_start_it_again_is_a_guess(ancestors: tuple[Ancestor, ...], name: str, stop: str) -> None:
    """Nothing in /proc proves it, so it is said as a guess with its facts."""
    loop = _one(Surroundings(40, "/", ancestors=(*ancestors, _TERMINAL)))
    assert (loop.kind, loop.name, loop.stop, loop.restarts, loop.certain) == ("loop", name, stop, "unknown", False)
    assert loop.because


@pytest.mark.parametrize(
    "ancestors",
    [
        (_parent("bash", "-bash"),),
        (_parent("zsh", "zsh"),),
        (_parent("sudo", "sudo", "app"), Ancestor(31, "bash", ("-bash",))),
        (_parent("sh", "sh", "-c", "app"), Ancestor(31, "runner", ("runner",))),
        (_parent("gnome-terminal-", "gnome-terminal-server"),),
        (_parent("sh", "sh", "run.sh"),),  # a script that cannot be read
        (_parent("nodemon", "node", "/usr/bin/nodemon"),),  # any program might, nothing says that this one does
        (_parent("sshd", "sshd: a@pts/0"),),
        (_INIT,),
        (),
    ],
)
def test_a_person_or_a_wrapper_is_no_loop(ancestors: tuple[Ancestor, ...]) -> None:
    """Interactive shells, terminals, init, and what ends together with its command."""
    assert find_loop(ancestors) is None


def test_a_subshell_is_part_of_the_loop_that_it_is_a_fork_of() -> None:
    """`while ...; do (cd there; app); done`: the subshell ends with the command, and who starts it again is the shell above."""
    script = "while :; do (sleep 9; true); done"
    sub, top = (Ancestor(pid, "bash", ("bash", "run.sh"), script=script) for pid in (31, 30))
    found = find_loop((sub, top, _INIT))
    assert found is not None
    assert (found[0], found[1].pid, found[1].stop) == (1, 30, "endtask stop 30")


def test_an_orphan_has_no_loop() -> None:
    """Who only reaps it does not start it."""
    assert find_managers(Surroundings(40, "/", ancestors=(_parent("app-init", "app-init"),), orphan=True)) == ()


# --------------------------------------------------------------------------- words


@given(st.lists(st.text(min_size=1), min_size=1))
def test_commands_are_quoted_for_a_shell(words: list[str]) -> None:
    """A shell takes every word apart again as it was."""
    assert command(*words) == shlex.join(words)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a\\x20b.service", "a b.service"),
        ("dev-disk\\x2dby.mount", "dev-disk-by.mount"),
        ("a\\xzz", "a\\xzz"),
        ("plain", "plain"),
    ],
)
def test_unit_names_are_unescaped_for_people(raw: str, text: str) -> None:
    """Only what is an escape."""
    assert unescape_unit(raw) == text


# --------------------------------------------------------------------------- who only reaps


def _row(pid: int, ppid: int, sid: int, comm: str = "x", tty: int = 0) -> Row:
    return Row(pid, ppid, sid, sid, 0, "S", comm, tty=tty)


@pytest.mark.parametrize(
    ("row", "parent", "started", "how", "expected"),
    [
        (_row(9, 1, 5), _row(1, 0, 1, "systemd"), "", {}, True),  # a double fork
        (_row(9, 1, 9), _row(1, 0, 1, "systemd"), "9", {}, False),  # a service's main process
        (_row(9, 1, 9), _row(1, 0, 1, "systemd"), "", {}, True),  # setsid, parent gone
        (_row(9, 1, 9), _row(1, 0, 1, "systemd"), None, {}, None),
        (_row(9, 1, 9), _row(1, 0, 1, "init"), None, {}, True),
        (_row(9, 1, 9, tty=1025), _row(1, 0, 1, "init"), None, {}, None),  # a getty
        (_row(9, 1, 9), _row(1, 0, 1, "node"), "", {}, None),  # a container's program as init
        (_row(9, 1, 1), _row(1, 0, 1, "node"), "", {}, False),  # its worker
        (_row(9, 7, 5), _row(7, 1, 7, "systemd"), "", {"user_manager": True}, True),
        (_row(9, 7, 9), _row(7, 1, 7, "systemd"), "9", {"user_manager": True}, False),
        (_row(9, 7, 5), _row(7, 1, 7), "", {"leader_there": False}, True),  # a subreaper that leads a session
        (_row(9, 7, 5), _row(7, 1, 7), "", {"leader_there": True}, False),
        (_row(9, 7, 5), _row(7, 1, 3), "", {}, True),  # not born in the parent's session
        (_row(9, 7, 9), _row(7, 1, 7), "", {}, False),  # a child that called setsid
        (_row(9, 7, 7), _row(7, 1, 7), "", {}, False),
    ],
)
def test_only_reaps(row: Row, parent: Row, started: str | None, how: dict[str, bool], expected: bool | None) -> None:
    """What sessions prove, and what they do not."""
    assert facts.only_reaps(row, parent, started, **how) is expected
