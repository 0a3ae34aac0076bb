"""Who a process runs as: user, integrity, and the numbers that stand for users.

Windows knows users by SID, a structure of up to 68 bytes, and endtask by number.
Decision: the number is a checksum of the SID, so that it is the same in every run, and the backend keeps which SID it stands for, so that two never share one.
Rejected: the last part of the SID (the RID), which is 500 for the administrator of every machine and domain; counting, whose numbers mean nothing in the next run.
"""

from __future__ import annotations

import binascii
import ctypes
import sys

assert sys.platform == "win32"

from endtask._backends.windows import errors
from endtask._backends.windows.handles import Handle, open_process
from endtask._backends.windows.winapi import advapi32, kernel32
from endtask._backends.windows.winapi._bind import DWORD, HANDLE, last_error
from endtask.errors import OsCallError, TargetError

_SID_BYTES = 68  # SECURITY_MAX_SID_SIZE
_NAME = 256  # UNLEN is 256; a domain is shorter
_INTEGRITY_BYTES = 128
_USERS = (advapi32.SID_TYPE_USER, advapi32.SID_TYPE_WELL_KNOWN_GROUP)

# "Mandatory Integrity Control": the level is the last part of a SID; values in between belong to the level below.
_LEVELS = ((0x5000, "protected"), (0x4000, "system"), (0x3000, "high"), (0x2000, "medium"), (0x1000, "low"))


def level_name(level: int) -> str:
    """Return the word for an integrity level (pure)."""
    for least, name in _LEVELS:
        if level >= least:
            return name
    return "untrusted"


# --------------------------------------------------------------------------- tokens


def open_token(process: int) -> Handle:
    """Return the access token of an opened process (PROCESS_QUERY_LIMITED_INFORMATION will do).

    Raises:
        AccessDeniedError: The token is not for us to read.
        OsCallError: Anything else.
    """
    token = HANDLE()
    if not advapi32.OpenProcessToken(process, advapi32.TOKEN_QUERY, ctypes.byref(token)):
        raise errors.failed("OpenProcessToken", last_error())
    return Handle(token.value or 0)


def user_of(token: int) -> bytes:
    """Return the SID of a token's user.

    Raises:
        OsCallError: It cannot be read.
    """
    # TOKEN_USER: a pointer to the SID, its attributes, then the SID itself.
    return _sid_in(_information(token, advapi32.TOKEN_USER, _SID_BYTES + 2 * ctypes.sizeof(ctypes.c_void_p)))


def integrity_of(token: int) -> int:
    """Return a token's integrity level, the last part of its SID.

    Raises:
        OsCallError: It cannot be read.
    """
    sid = _sid_in(_information(token, advapi32.TOKEN_INTEGRITY_LEVEL, _INTEGRITY_BYTES))
    return int.from_bytes(sid[-4:], "little")


def is_app_container(token: int) -> bool | None:
    """Return whether a token is that of an app container, None if the system does not know these (before Windows 8)."""
    flag = DWORD()
    size = ctypes.sizeof(flag)
    if not advapi32.GetTokenInformation(
        token, advapi32.TOKEN_IS_APP_CONTAINER, ctypes.byref(flag), size, ctypes.byref(DWORD())
    ):
        return None
    return bool(flag.value)


def _information(token: int, what: int, size: int) -> ctypes.Array[ctypes.c_char]:
    buffer = ctypes.create_string_buffer(size)
    if not advapi32.GetTokenInformation(token, what, buffer, size, ctypes.byref(DWORD())):
        raise errors.failed("GetTokenInformation", last_error())
    return buffer


def _sid_in(buffer: ctypes.Array[ctypes.c_char]) -> bytes:
    """Return the SID that the pointer at the begin of *buffer* points to."""
    at = ctypes.c_void_p.from_buffer(buffer).value or 0
    return ctypes.string_at(at, advapi32.GetLengthSid(at))


def sid_text(sid: bytes) -> str:
    """Return a SID as it is written: `S-1-5-18` (pure; "SID Components")."""
    parts = [int.from_bytes(sid[at : at + 4], "little") for at in range(8, 8 + 4 * sid[1], 4)]
    return "-".join(map(str, ("S", sid[0], int.from_bytes(sid[2:8], "big"), *parts)))


def sid_from_text(text: str) -> bytes | None:
    """Return the SID that *text* writes, None if it writes none (pure)."""
    head, *numbers = text.upper().split("-")
    if head != "S" or not 3 <= len(numbers) <= 17 or not all(n.isascii() and n.isdigit() for n in numbers):
        return None
    revision, authority, *parts = map(int, numbers)
    if revision > 0xFF or authority >= 1 << 48 or any(p >= 1 << 32 for p in parts):
        return None
    head_bytes = bytes((revision, len(parts))) + authority.to_bytes(6, "big")
    return head_bytes + b"".join(p.to_bytes(4, "little") for p in parts)


# --------------------------------------------------------------------------- users


def name_of(sid: bytes) -> str:
    r"""Return `DOMAIN\user`, the SID as text where no name is known."""
    name, domain = (ctypes.create_unicode_buffer(_NAME) for _ in range(2))
    room = [DWORD(_NAME), DWORD(_NAME)]
    kind = DWORD()
    found = advapi32.LookupAccountSidW(
        None, sid, name, ctypes.byref(room[0]), domain, ctypes.byref(room[1]), ctypes.byref(kind)
    )
    if not found or not name.value:
        return sid_text(sid)  # a deleted account, or a domain that does not answer
    return f"{domain.value}\\{name.value}" if domain.value else name.value


def find_user(name: str) -> bytes | None:
    r"""Return the SID of the account *name* (`user`, `DOMAIN\user`, `user@domain`), None if there is none or it is no user."""
    sid, domain = ctypes.create_string_buffer(_SID_BYTES), ctypes.create_unicode_buffer(_NAME)
    size, room, kind = DWORD(_SID_BYTES), DWORD(_NAME), DWORD()
    found = advapi32.LookupAccountNameW(
        None, name, sid, ctypes.byref(size), domain, ctypes.byref(room), ctypes.byref(kind)
    )
    if not found or kind.value not in _USERS:
        return None
    return sid.raw[: advapi32.GetLengthSid(ctypes.addressof(sid))]


class Users:
    """Numbers for users, and back."""

    __slots__ = ("_names", "_numbers", "_sids")

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._sids: dict[int, bytes] = {}
        self._names: dict[int, str] = {}

    def number(self, sid: bytes) -> int:
        """Return the number of a user: a checksum of the SID; of two SIDs with the same one, the later gets the next."""
        known = self._numbers.get(sid)
        if known is None:
            known = binascii.crc32(sid)
            while known in self._sids:
                known += 1
            self._numbers[sid] = known
            self._sids[known] = sid
        return known

    def owner(self, pid: int) -> int | None:
        """Return the number of the user that the process with *pid* runs as, None if gone or not for us to see."""
        try:
            with Handle(open_process(pid, kernel32.PROCESS_QUERY_LIMITED_INFORMATION)) as process:
                if kernel32.GetProcessId(process) != pid:
                    return None
                with open_token(process) as token:
                    return self.number(user_of(token))
        except OsCallError:
            return None

    def name(self, number: int) -> str:
        r"""Return `DOMAIN\user` for a number, the number as text if it stands for nobody."""
        known = self._names.get(number)
        if known is None:
            sid = self._sids.get(number)
            known = str(number) if sid is None else name_of(sid)
            self._names[number] = known
        return known

    def find(self, name: str) -> int:
        r"""Return the number of the user `name`, `DOMAIN\name`, `S-1-5-...`, or of a number that stands for one.

        Raises:
            TargetError: There is no such user.
        """
        if name.isascii() and name.isdigit() and int(name) in self._sids:
            return int(name)
        sid = sid_from_text(name) or find_user(name.removeprefix(".\\"))
        if sid is not None:
            return self.number(sid)
        raise TargetError(f"there is no user `{name}`", hint=r"give a name, `DOMAIN\name` or a SID")
