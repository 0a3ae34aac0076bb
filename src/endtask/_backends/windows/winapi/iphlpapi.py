"""Prototypes of iphlpapi.dll: the tables of sockets with their owners."""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure

assert sys.platform == "win32"

from endtask._backends.windows.winapi._bind import BOOL, BYTE, DWORD, LPVOID, ULONG, bind, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from endtask._backends.windows.winapi._bind import ByRef

_dll = library("iphlpapi")

AF_INET = 2
AF_INET6 = 23  # of Winsock, not of POSIX
TCP_TABLE_OWNER_PID_LISTENER = 3
UDP_TABLE_OWNER_PID = 1
MIB_TCP_STATE_LISTEN = 2


class TcpRow(Structure):
    """MIB_TCPROW_OWNER_PID."""

    _fields_ = (
        ("state", DWORD),
        ("address", BYTE * 4),
        ("port", BYTE * 4),
        ("remote_address", BYTE * 4),
        ("remote_port", BYTE * 4),
        ("pid", DWORD),
    )


class Tcp6Row(Structure):
    """MIB_TCP6ROW_OWNER_PID."""

    _fields_ = (
        ("address", BYTE * 16),
        ("scope", DWORD),
        ("port", BYTE * 4),
        ("remote_address", BYTE * 16),
        ("remote_scope", DWORD),
        ("remote_port", BYTE * 4),
        ("state", DWORD),
        ("pid", DWORD),
    )


class UdpRow(Structure):
    """MIB_UDPROW_OWNER_PID."""

    _fields_ = (("address", BYTE * 4), ("port", BYTE * 4), ("pid", DWORD))


class Udp6Row(Structure):
    """MIB_UDP6ROW_OWNER_PID."""

    _fields_ = (("address", BYTE * 16), ("scope", DWORD), ("port", BYTE * 4), ("pid", DWORD))


# The result is the error itself.
GetExtendedTcpTable: Callable[[ByRef, ByRef, bool, int, int, int], int] = bind(
    _dll, "GetExtendedTcpTable", DWORD, LPVOID, ctypes.POINTER(DWORD), BOOL, ULONG, ctypes.c_int, ULONG
)
GetExtendedUdpTable: Callable[[ByRef, ByRef, bool, int, int, int], int] = bind(
    _dll, "GetExtendedUdpTable", DWORD, LPVOID, ctypes.POINTER(DWORD), BOOL, ULONG, ctypes.c_int, ULONG
)
