"""Where the socket of the channel is: which folder, under which name, and what is there already.

The folder is the first that fits of `$XDG_RUNTIME_DIR/endtask`, `/run/user/UID/endtask` and `/tmp/endtask-UID`; the name is PID.TOKEN.

Decision: nothing that is found there is trusted, because anybody can make files in `/tmp`.
The folder is opened first, no link is followed, and what is opened must be a folder, of ours, that nobody else may enter.
From then on everything is done through that descriptor, so that the folder cannot be exchanged meanwhile.
What has our name already is removed only if it is a socket, ours, and nobody listens to it: it was left by a program that was killed, or that became us by `exec`.
Rejected: sockets without a file (Linux's abstract names): anybody may take the name, and there is nothing that keeps others from connecting.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import _socket
import os
import stat
import time

from endtask_receiver._watcher import away, shut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "endtask"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOKS_MAX = 64  # at files of others, when we begin
_FRESH_S = 5.0  # who has just made its socket may not listen to it yet


class UnusableError(Exception):
    """Something cannot be used; the text says what and why."""


class Place:
    """A folder that is ours alone, and a socket in it.

    Attributes:
        path: Of the socket, for people.
        socket: It listens.
    """

    def __init__(self, folder: str, name: str) -> None:
        """Make the socket.

        Raises:
            UnusableError: The folder, or the name.
        """
        self.path = f"{folder}/{name}"
        self._name = name
        self._folder = _open_folder(folder)
        try:
            self.socket = self._listen()
            self._inode = self._look(name).st_ino
        except OSError as error:
            os.close(self._folder)
            raise UnusableError(f"{self.path}: {_why(error)}") from None
        except BaseException:
            os.close(self._folder)
            raise

    def _listen(self) -> Socket:
        socket = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            try:
                socket.bind(self._through(self._name))
            except OSError:
                if not self._is_left_over(self._name):
                    raise
                os.unlink(self._name, dir_fd=self._folder)
                socket.bind(self._through(self._name))
            os.chmod(self._name, 0o600, dir_fd=self._folder)  # before anybody can connect, and whatever our mask is
            socket.listen(16)
            socket.setblocking(False)
        except BaseException:
            socket.close()
            raise
        return elsewhere(socket)

    def _through(self, name: str) -> str:
        """Return a path of a file in the folder that leads through our descriptor; where there is none, through its name."""
        way = f"/proc/self/fd/{self._folder}"
        return f"{way}/{name}" if os.path.exists(way) else os.path.join(os.path.dirname(self.path), name)

    def _look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._folder, follow_symlinks=False)

    def _is_left_over(self, name: str) -> bool:
        """Return whether a file is a socket of ours that nobody listens to."""
        try:
            found = self._look(name)
        except OSError:
            return False
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            return False
        knock = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            knock.setblocking(False)
            knock.connect(self._through(name))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # its queue is full, or it is gone
        finally:
            knock.close()
        return False

    def sweep(self) -> None:
        """Remove what processes have left here that are gone; only some at a time."""
        try:
            for name in os.listdir(self._folder)[:_LOOKS_MAX]:
                pid, _, token = name.partition(".")
                if name == self._name or not pid.isdigit() or token == start(pid):
                    continue
                if time.time() - self._look(name).st_mtime > _FRESH_S and self._is_left_over(name):
                    os.unlink(name, dir_fd=self._folder)
        except OSError:
            pass  # ignored: somebody else sweeps here too

    def remove(self) -> None:
        """Remove the file, if it is still ours."""
        try:
            if self._look(self._name).st_ino == self._inode:
                os.unlink(self._name, dir_fd=self._folder)
        except OSError:
            pass  # ignored: it is gone

    def close(self) -> None:
        """Listen no more; the file stays."""
        self.socket.close()
        shut(self._folder)


class Socket(_socket.socket):
    """A socket that the end of the interpreter closes without a warning: we listen until then."""

    __slots__ = ()

    def close(self) -> None:
        """Close it, unless the program has done so with all descriptors that it had."""
        shut(self.detach())

    def __del__(self) -> None:
        """Do nothing, instead of a warning."""


def make() -> tuple[Place | None, list[str]]:
    """Return the first place that can be used, and why others before it cannot; None if there is none."""
    name = f"{_me()}.{start('self') or time.time_ns()}"
    said: list[str] = []
    for folder in _folders():
        try:
            return Place(folder, name), said
        except UnusableError as error:
            said.append(str(error))
    return None, said


def _me() -> str:
    """Return our pid as those see it who look into the same `/proc`: a pid namespace may have that of the one around it, pid_namespaces(7)."""
    try:
        return os.readlink("/proc/self")
    except OSError:
        return str(os.getpid())


def start(pid: str) -> str:
    """Return when a process began, in ticks since the system did, proc(5); empty if it is gone or this is no Linux."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096).rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _folders() -> Iterator[str]:
    """Yield the folders that come into question. Of those for the session only what is ours: root may have the environment of somebody else."""
    me = os.geteuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{me}"):
        try:
            if base.startswith("/") and os.stat(base).st_uid == me:
                yield f"{base}/{NAME}"
        except OSError:
            pass  # ignored: there is none
    yield f"/tmp/{NAME}-{me}"  # noqa: S108  # see the module's docstring


def _open_folder(path: str) -> int:
    """Make a folder if there is none, and return a descriptor of it.

    Raises:
        UnusableError: It is none, or not ours alone.
    """
    try:
        os.mkdir(path, 0o700)
        os.chmod(
            path, 0o700
        )  # it is ours, and new: whatever the mask of this program is, the next one must be able to enter
    except FileExistsError:
        pass  # the usual case, once somebody has been here
    except OSError as error:
        raise UnusableError(f"{path}: {_why(error)}") from None
    try:
        fd = away(os.open(path, _FOLDER_FLAGS))
    except OSError as error:
        raise UnusableError(f"{path}: {_why(error)}; it must be a folder, and no link to one") from None
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        why = f"it belongs to user {found.st_uid}"
    elif found.st_mode & 0o077:
        why = f"others may enter it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return fd
    os.close(fd)
    raise UnusableError(f"{path}: {why}")


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def elsewhere(socket: Socket) -> Socket:
    """Return the socket under a number that is none of the standard streams: a daemon has closed them, and code may still write there."""
    if socket.fileno() > 2:
        return socket
    return Socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, away(socket.detach()))
