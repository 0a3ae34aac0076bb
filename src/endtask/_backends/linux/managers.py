"""Who looks after a process and may start it again (pure: from collected text to `Manager` values).

Decision: an environment variable alone proves ancestry, not management, because every grandchild inherits it.
So it only supplies the names, and the cgroup or an ancestor has to confirm that the manager is there.
What the files of /proc do not tell, such as a unit's `Restart=`, is `unknown` here; no program is run to ask.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux import loops
from endtask._backends.linux.cgroup_managers import container_of, shim_of, unit_of
from endtask._backends.linux.surroundings import base_name, command, option, quote
from endtask.model import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.linux.surroundings import Ancestor, Surroundings

# Places in the order of nearness: ancestors come first with their distance, then what surrounds them all.
_CONTAINER, _UNIT, _SESSION, _GUESS = 1_000, 2_000, 3_000, 4_000


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
    container = container_of(around, parts)
    if container is not None:
        return [(_CONTAINER, container)]
    found = []
    shim = shim_of(around)
    if shim is not None:
        found.append((_CONTAINER, shim))
    unit = unit_of(around, parts)
    if unit is not None:
        found.append((_SESSION if unit.kind == "session" else _UNIT, unit))
    if "KUBERNETES_SERVICE_HOST" in around.environ and shim is None and unit is None:
        because = "KUBERNETES_SERVICE_HOST in its environment; no cgroup confirms it from here"
        name = around.environ.get("HOSTNAME", "")
        stop = command("kubectl", "delete", "pod", name) if name else ""
        found.append((_GUESS, Manager("kubernetes", name, stop, "unknown", because, certain=False)))
    return found


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
    return (
        "unknown",
        f"; it is {distance} level{'s' * (distance > 1)} below what is managed, which may end with it",
        False,
    )


def _supervisord(around: Surroundings, ancestor: Ancestor, distance: int) -> Manager:
    restarts, below, _ = _levels(distance)
    certain = False  # its default, autorestart=unexpected, lets a program that ends well stay down, and the setting cannot be seen
    env = around.environ
    program, group = env.get("SUPERVISOR_PROCESS_NAME", ""), env.get("SUPERVISOR_GROUP_NAME", "")
    because = f"ancestor supervisord ({ancestor.pid})" if distance else f"its parent is supervisord ({ancestor.pid})"
    if not program:
        because += "; its program name is in its environment, which does not show it"
        return Manager("supervisord", "", "", restarts, because + below, certain, ancestor.pid)
    name = f"{group}:{program}" if group else program
    url = env.get("SUPERVISOR_SERVER_URL", "")
    stop = command("supervisorctl", *(["-s", url] if url else []), "stop", name)
    return Manager(
        "supervisord", name, stop, restarts, f"{because}, SUPERVISOR_PROCESS_NAME{below}", certain, ancestor.pid
    )


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
    return Manager(
        "screen", session, command("screen", "-S", session, *what), "no", f"{because}, STY", pid=ancestor.pid
    )


def _cron(_around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    because = f"ancestor {ancestor.name} ({ancestor.pid}); it starts the job again at its next time, which was not read"
    return Manager("cron", ancestor.name, "", "unknown", because, pid=ancestor.pid)


def _at(_around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    return Manager(
        "at", ancestor.name, "", "no", f"ancestor atd ({ancestor.pid}), which runs a job once", pid=ancestor.pid
    )


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
    name = option(ancestor.cmdline, "-n", "--name")
    again = any(a in ("-r", "--respawn") for a in ancestor.cmdline)
    stop = command("daemon", "-n", name, "--stop") if name else ""
    because = f"its parent is daemon ({ancestor.pid}){' with --respawn' if again else ''}"
    return Manager("daemon", name, stop, "yes" if again else "no", because, pid=ancestor.pid)


def _slurm(around: Surroundings, ancestor: Ancestor, _distance: int) -> Manager:
    job = around.environ.get("SLURM_JOB_ID", "")
    stop = command("scancel", job) if job else ""
    return Manager(
        "slurm", f"job {job}".rstrip(), stop, "no", f"ancestor slurmstepd ({ancestor.pid})", pid=ancestor.pid
    )


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
