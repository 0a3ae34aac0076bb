"""Who looks after a whole cgroup: a container runtime, systemd, the login session (pure)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from endtask._backends.linux.surroundings import base_name, command, option
from endtask.model import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask._backends.linux.surroundings import Surroundings

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

# --------------------------------------------------------------------------- containers


def container_of(around: Surroundings, parts: Sequence[str]) -> Manager | None:
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
        return container(
            kind, number, f"cgroup `{parts[index]}`" if above != "docker" else "cgroup `docker/...`", above
        )
    return None


def container(kind: str, number: str, because: str, namespace: str = "", pid: int = 0) -> Manager:
    """Return the manager of a container of one of the runtimes, by its id."""
    short = number[:_SHORT_ID]
    stop = {
        "docker": command("docker", "stop", short),
        "podman": command("podman", "stop", short),
        "nerdctl": command("nerdctl", "stop", short),
        "cri-o": command("crictl", "stop", short),
    }.get(kind) or (
        command("ctr", "-n", namespace, "tasks", "kill", number) if namespace else command("crictl", "stop", short)
    )
    return Manager(kind, short, stop, "unknown", f"{because}; its restart policy was not read", pid=pid)


def _pod(around: Surroundings, number: str, because: str) -> Manager:
    """Return the kubelet's container; a pod's host name is its own name unless it uses the host's network."""
    host = around.environ.get("HOSTNAME", "")
    because += "; the kubelet restarts its containers unless `restartPolicy` says otherwise, which was not read"
    if host and host != around.nodename:
        return Manager("kubernetes", host, command("kubectl", "delete", "pod", host), "unknown", because)
    short = number[:_SHORT_ID]
    return Manager("kubernetes", short, command("crictl", "stop", short), "unknown", because)


def shim_of(around: Surroundings) -> Manager | None:
    """Return the container of a shim among the ancestors, for cgroups whose names say nothing."""
    for ancestor in around.ancestors:
        name = base_name(ancestor.cmdline[0]) if ancestor.cmdline else ancestor.name
        because = f"ancestor {ancestor.name} ({ancestor.pid})"
        if name.startswith("containerd-shim"):
            number = option(ancestor.cmdline, "-id")
            namespace = option(ancestor.cmdline, "-namespace")
            if namespace == "k8s.io":
                return _pod(around, number, because)
            return container(
                "docker" if namespace == "moby" else "containerd", number, because, namespace, ancestor.pid
            )
        if name == "conmon":
            return container(
                "podman",
                option(ancestor.cmdline, "-c") or option(ancestor.cmdline, "--cid"),
                because,
                "",
                ancestor.pid,
            )
    return None


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


def unit_of(around: Surroundings, parts: Sequence[str]) -> Manager | None:
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
        return Manager(
            "ssh", f"session {number}", stop, "no", f"{because}; ancestor {ssh.name} ({ssh.pid})", pid=ssh.pid
        )
    return Manager("session", f"session {number}", stop, "no", because)
