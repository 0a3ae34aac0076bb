"""Who looks after a process and may start it again (pure: from collected text to `Manager` values).

Decision: an environment variable alone proves ancestry, not management, because every grandchild inherits it.
So it only supplies the names, and the cgroup or an ancestor has to confirm that the manager is there.
What the files of /proc do not tell, such as a unit's `Restart=`, is `unknown` here; no program is run to ask.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux import loops
from endtask._backends.linux.loops import Ancestor, base_name
from endtask._record import Record
from endtask.model import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")
_CONTAINER_PREFIXES = {
    "docker-": "docker",
    "libpod-": "podman",
    "cri-containerd-": "containerd",
    "crio-": "cri-o",
    "nerdctl-": "nerdctl",
}
_HEX = frozenset("0123456789abcdef")
_SHORT_ID = 12  # what docker, podman and crictl print and take
# Places in the order of nearness: ancestors come first with their distance, then what surrounds them all.
_CONTAINER, _UNIT, _SESSION, _GUESS = 1_000, 2_000, 3_000, 4_000
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


class Surroundings(Record):
    """All that the judgement rests on.

    Attributes:
        pid: The process.
        cgroup: Its cgroup, as in `Facts.cgroup`.
        environ: The environment it started with; empty if unreadable.
        cwd: Its working directory, empty if unreadable.
        ancestors: Parent, grandparent and so on.
        orphan: Whether the parent only reaps it.
        nodename: The host's name.
    """

    pid: int
    cgroup: str = ""
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed
    cwd: str = ""
    ancestors: tuple[Ancestor, ...] = ()
    orphan: bool = False
    nodename: str = ""


def quote(text: str) -> str:
    """Return *text* as one word of a shell command; not `shlex`, whose import brings `re` (5 ms, measured)."""
    if text and _SAFE.issuperset(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def command(*words: str) -> str:
    """Return a shell command of *words*, each quoted where it must be."""
    return " ".join(quote(word) for word in words)


def find_managers(around: Surroundings) -> tuple[Manager, ...]:
    """Return who looks after the process, the nearest first."""
    found: list[tuple[int, Manager]] = []
    for distance, ancestor in enumerate(around.ancestors):
        rule = _rule(ancestor)
        manager = rule(around, ancestor, distance) if rule else None
        if manager is not None:
            found.append((distance, manager))
    found += _around(around)
    loop = None if around.orphan else loops.find_loop(around.ancestors, known=frozenset(m.pid for _, m in found))
    if loop is not None:
        found.append(loop)
    found.sort(key=lambda pair: pair[0])
    unique: dict[tuple[str, str], Manager] = {}
    for _, manager in found:
        unique.setdefault((manager.kind, manager.name), manager)
    return tuple(unique.values())


def _around(around: Surroundings) -> list[tuple[int, Manager]]:
    """Return what the cgroup tells: the container, the unit, the login session."""
    parts = [part for part in around.cgroup.split("/") if part]
    container = _container(around, parts)
    if container is not None:
        return [(_CONTAINER, container)]
    found = []
    shim = _shim(around)
    if shim is not None:
        found.append((_CONTAINER, shim))
    unit = _unit(around, parts)
    if unit is not None:
        found.append((_SESSION if unit.kind == "session" else _UNIT, unit))
    if "KUBERNETES_SERVICE_HOST" in around.environ and shim is None and unit is None:
        because = "KUBERNETES_SERVICE_HOST in its environment; no cgroup confirms it from here"
        name = around.environ.get("HOSTNAME", "")
        stop = command("kubectl", "delete", "pod", name) if name else ""
        found.append((_GUESS, Manager("kubernetes", name, stop, "unknown", because, certain=False)))
    return found


# --------------------------------------------------------------------------- containers


def _container(around: Surroundings, parts: Sequence[str]) -> Manager | None:
    """Return the container that the cgroup names: the innermost one."""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index].removesuffix(".scope")
        if part.startswith("lxc.payload."):
            name = part.removeprefix("lxc.payload.")
            return Manager("lxc", name, command("lxc-stop", "-n", name), "no", f"cgroup `{parts[index]}`")
        kind = next((k for p, k in _CONTAINER_PREFIXES.items() if part.startswith(p)), "")
        number = part[part.rindex("-") + 1 :] if kind else part
        if len(number) != 64 or not _HEX.issuperset(number):
            continue
        above = parts[index - 1] if index else ""
        if any(p.startswith(("kubepods", "kubelet-kubepods")) for p in parts[:index]):
            return _pod(around, number, f"cgroup `{'/'.join(parts[: index + 1])}`")
        kind = kind or ("docker" if above == "docker" else "containerd")
        return container(kind, number, f"cgroup `{parts[index]}`" if above != "docker" else "cgroup `docker/...`", above)
    return None


def container(kind: str, number: str, because: str, namespace: str = "", pid: int = 0) -> Manager:
    """Return the manager of a container of one of the runtimes, by its id."""
    short = number[:_SHORT_ID]
    stop = {
        "docker": command("docker", "stop", short),
        "podman": command("podman", "stop", short),
        "nerdctl": command("nerdctl", "stop", short),
        "cri-o": command("crictl", "stop", short),
    }.get(kind) or (command("ctr", "-n", namespace, "tasks", "kill", number) if namespace else command("crictl", "stop", short))
    return Manager(kind, short, stop, "unknown", f"{because}; its restart policy was not read", pid=pid)


def _pod(around: Surroundings, number: str, because: str) -> Manager:
    """Return the kubelet's container; a pod's host name is its own name unless it uses the host's network."""
    host = around.environ.get("HOSTNAME", "")
    because += "; the kubelet restarts its containers unless `restartPolicy` says otherwise, which was not read"
    if host and host != around.nodename:
        return Manager("kubernetes", host, command("kubectl", "delete", "pod", host), "unknown", because)
    short = number[:_SHORT_ID]
    return Manager("kubernetes", short, command("crictl", "stop", short), "unknown", because)


def _shim(around: Surroundings) -> Manager | None:
    """Return the container of a shim among the ancestors, for cgroups whose names say nothing."""
    for ancestor in around.ancestors:
        name = base_name(ancestor.cmdline[0]) if ancestor.cmdline else ancestor.name
        because = f"ancestor {ancestor.name} ({ancestor.pid})"
        if name.startswith("containerd-shim"):
            number = _option(ancestor.cmdline, "-id")
            namespace = _option(ancestor.cmdline, "-namespace")
            if namespace == "k8s.io":
                return _pod(around, number, because)
            return container("docker" if namespace == "moby" else "containerd", number, because, namespace, ancestor.pid)
        if name == "conmon":
            return container("podman", _option(ancestor.cmdline, "-c") or _option(ancestor.cmdline, "--cid"), because, "", ancestor.pid)
    return None


def _option(arguments: Sequence[str], *names: str) -> str:
    """Return the value of the first option of *names*: `-x value`, `--x value` or `--x=value`."""
    for index, argument in enumerate(arguments):
        if argument in names and index + 1 < len(arguments):
            return arguments[index + 1]
        for name in names:
            if name.startswith("--") and argument.startswith(name + "="):
                return argument[len(name) + 1 :]
    return ""


# --------------------------------------------------------------------------- systemd


def unescape_unit(name: str) -> str:
    r"""Return a unit's name for people: `\x20` is a space (systemd.unit(5), "String escaping")."""
    first, *rest = name.split("\\x")
    text = first
    for part in rest:
        try:
            text += chr(int(part[:2], 16)) + part[2:]
        except ValueError:
            text += "\\x" + part
    return text


def _unit(around: Surroundings, parts: Sequence[str]) -> Manager | None:
    """Return the unit that the cgroup names: the innermost component that is one (with Delegate= the leaf is below it)."""
    for index in range(len(parts) - 1, -1, -1):
        # systemd puts an underscore before names that could be mistaken for the kernel's own files
        name = parts[index].removeprefix("_")
        if not name.endswith(_UNIT_SUFFIXES):
            continue
        owner = next((p[5:-8] for p in parts[:index] if p.startswith("user@") and p.endswith(".service")), "")
        if name == "init.scope":
            if not owner:
                return None  # systemd itself
            name, owner = f"user@{owner}.service", ""  # the user's own systemd: a unit of the system's
        because = f"cgroup `{'/'.join(parts[: index + 1])}`"
        if name.startswith("session-") and name.endswith(".scope"):
            return _session(around, name[8:-6], because)
        stop = command("systemctl", *(["--user"] if owner else []), "stop", name)
        if owner:
            because += f", of the user manager of uid {owner}"
        if not name.endswith(".service"):
            return Manager("systemd", unescape_unit(name), stop, "no", because)
        main = around.environ.get("SYSTEMD_EXEC_PID", "")
        if main and main != str(around.pid) and any(str(a.pid) == main for a in around.ancestors):
            because += f"; the unit's main process is {main}"
        return Manager("systemd", unescape_unit(name), stop, "unknown", because + "; the unit's Restart= was not read")
    return None


def _session(around: Surroundings, number: str, because: str) -> Manager:
    ssh = next((a for a in around.ancestors if a.name in ("sshd", "sshd-session")), None)
    stop = command("loginctl", "terminate-session", number)
    if ssh is not None:
        return Manager("ssh", f"session {number}", stop, "no", f"{because}; ancestor {ssh.name} ({ssh.pid})", pid=ssh.pid)
    return Manager("session", f"session {number}", stop, "no", because)


# --------------------------------------------------------------------------- ancestors


def _rule(ancestor: Ancestor) -> Callable[[Surroundings, Ancestor, int], Manager | None] | None:
    """Return the rule for an ancestor that is a manager by its name."""
    rule = _RULES.get(ancestor.name)
    if rule is None and ancestor.cmdline:
        rule = _RULES.get(base_name(ancestor.cmdline[0]))
    if rule is None and ancestor.name.startswith("PM2 v"):
        return _pm2
    return rule


def _levels(distance: int) -> tuple[str, str, bool]:
    """Return for a manager that restarts its own children: whether it restarts this one, why, and whether that is sure."""
    if distance == 0:
        return "yes", "", True
    return "unknown", f"; it is {distance} levels below what is managed, which may end with it", False


def _supervisord(around: Surroundings, ancestor: Ancestor, distance: int) -> Manager:
    restarts, below, certain = _levels(distance)
    env = around.environ
    program, group = env.get("SUPERVISOR_PROCESS_NAME", ""), env.get("SUPERVISOR_GROUP_NAME", "")
    because = f"ancestor supervisord ({ancestor.pid})" if distance else f"its parent is supervisord ({ancestor.pid})"
    if not program:
        because += "; its program name is in its environment, which does not show it"
        return Manager("supervisord", "", "", restarts, because + below, certain, ancestor.pid)
    name = f"{group}:{program}" if group else program
    url = env.get("SUPERVISOR_SERVER_URL", "")
    stop = command("supervisorctl", *(["-s", url] if url else []), "stop", name)
    return Manager("supervisord", name, stop, restarts, f"{because}, SUPERVISOR_PROCESS_NAME{below}", certain, ancestor.pid)


def _service_folder(around: Surroundings, ancestor: Ancestor, distance: int) -> str:
    """Return the service directory of a runsv, s6-supervise or supervise: it works in there, and so does its child."""
    given = ancestor.cmdline[1] if len(ancestor.cmdline) > 1 else ""
    if ancestor.cwd:
        return ancestor.cwd
    leaf = base_name(given.rstrip("/"))
    if distance == 0 and leaf and base_name(around.cwd) == leaf:
        return around.cwd
    return given


def _folder_manager(kind: str, stop: tuple[str, ...]) -> Callable[[Surroundings, Ancestor, int], Manager]:
    def rule(around: Surroundings, ancestor: Ancestor, distance: int) -> Manager:
        restarts, below, certain = _levels(distance)
        folder = _service_folder(around, ancestor, distance)
        name = base_name(folder.rstrip("/"))
        because = f"{'ancestor' if distance else 'its parent is'} {ancestor.name} ({ancestor.pid}){below}"
        return Manager(kind, name, command(*stop, folder) if folder else "", restarts, because, certain, ancestor.pid)

    return rule


def _pm2(around: Surroundings, ancestor: Ancestor, distance: int) -> Manager | None:
    name = around.environ.get("name", "")
    if "pm_exec_path" not in around.environ or not name:
        if distance:
            return None
        because = f"its parent is pm2's daemon ({ancestor.pid}); its environment does not show its name"
        return Manager("pm2", "", "", "yes", because, pid=ancestor.pid)
    restarts, below, certain = _levels(distance)
    home = around.environ.get("PM2_HOME", "")
    prefix = "" if not home or home.endswith("/.pm2") else f"PM2_HOME={quote(home)} "
    because = f"{'ancestor' if distance else 'its parent'} is pm2's daemon ({ancestor.pid}), pm_exec_path{below}"
    return Manager("pm2", name, prefix + command("pm2", "stop", name), restarts, because, certain, ancestor.pid)


def _tmux(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager | None:
    # TMUX is `socket,pid of the server,session`; of several servers above each other it names the nearest
    socket, _, rest = around.environ.get("TMUX", "").partition(",")
    pane = around.environ.get("TMUX_PANE", "")
    because = f"ancestor tmux server ({ancestor.pid})"
    if rest.partition(",")[0] != str(ancestor.pid):
        return Manager("tmux", "", "", "no", because, pid=ancestor.pid)
    own = () if socket.endswith("/default") else ("-S", socket)
    stop = command("tmux", *own, "kill-pane", "-t", pane) if pane else ""
    return Manager("tmux", f"pane {pane}".rstrip(), stop, "no", f"{because}, TMUX_PANE", pid=ancestor.pid)


def _screen(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager | None:
    session = around.environ.get("STY", "")
    because = f"ancestor screen ({ancestor.pid})"
    if session.partition(".")[0] != str(ancestor.pid):
        # the client that a person sees is called `screen` too, and nothing runs below it
        return Manager("screen", "", "", "no", because, pid=ancestor.pid)
    window = around.environ.get("WINDOW", "")
    # only its own window: `-X quit` would end all the others as well
    what = ("-p", window, "-X", "kill") if window else ("-X", "quit")
    return Manager("screen", session, command("screen", "-S", session, *what), "no", f"{because}, STY", pid=ancestor.pid)


def _cron(_around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    because = f"ancestor {ancestor.name} ({ancestor.pid}); it starts the job again at its next time, which was not read"
    return Manager("cron", ancestor.name, "", "unknown", because, pid=ancestor.pid)


def _at(_around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    return Manager("at", ancestor.name, "", "no", f"ancestor atd ({ancestor.pid}), which runs a job once", pid=ancestor.pid)


def _ssh(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager | None:
    if any(p.startswith("session-") and p.endswith(".scope") for p in around.cgroup.split("/")):
        return None  # named with its session by the cgroup
    session = around.environ.get("XDG_SESSION_ID", "")
    stop = command("loginctl", "terminate-session", session) if session else ""
    name = f"session {session}" if session else "login"
    return Manager("ssh", name, stop, "no", f"ancestor {ancestor.name} ({ancestor.pid})", pid=ancestor.pid)


def _daemon(_around: Surroundings, ancestor: Ancestor, distance: int) -> Manager | None:
    if distance:
        return None
    name = _option(ancestor.cmdline, "-n", "--name")
    again = any(a in ("-r", "--respawn") for a in ancestor.cmdline)
    stop = command("daemon", "-n", name, "--stop") if name else ""
    because = f"its parent is daemon ({ancestor.pid}){' with --respawn' if again else ''}"
    return Manager("daemon", name, stop, "yes" if again else "no", because, pid=ancestor.pid)


def _slurm(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    job = around.environ.get("SLURM_JOB_ID", "")
    stop = command("scancel", job) if job else ""
    return Manager("slurm", f"job {job}".rstrip(), stop, "no", f"ancestor slurmstepd ({ancestor.pid})", pid=ancestor.pid)


def _nomad(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    allocation = around.environ.get("NOMAD_ALLOC_ID", "")
    stop = command("nomad", "alloc", "stop", allocation) if allocation else ""
    because = f"ancestor nomad ({ancestor.pid}); its restart policy was not read"
    return Manager("nomad", allocation, stop, "unknown", because, pid=ancestor.pid)


_RULES: dict[str, Callable[[Surroundings, Ancestor, int], Manager | None]] = {
    "supervisord": _supervisord,
    "runsv": _folder_manager("runit", ("sv", "stop")),
    "s6-supervise": _folder_manager("s6", ("s6-svc", "-wD", "-d")),
    "supervise": _folder_manager("daemontools", ("svc", "-d")),
    "tmux: server": _tmux,
    "SCREEN": _screen,
    "screen": _screen,
    "cron": _cron,
    "crond": _cron,
    "fcron": _cron,
    "anacron": _cron,
    "CRON": _cron,
    "atd": _at,
    "sshd": _ssh,
    "sshd-session": _ssh,
    "daemon": _daemon,
    "slurmstepd": _slurm,
    "nomad": _nomad,
}
