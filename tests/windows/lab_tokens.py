"""Access rights and integrity levels for the tests."""

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import msvcrt
import os
import subprocess
from ctypes import wintypes
from typing import TYPE_CHECKING

from tests.windows.lab import open_handle
from tests.windows.lab_consoles import USE_STD_HANDLES, ProcessInformation, StartupInfo, create_process

if TYPE_CHECKING:
    from collections.abc import Sequence

LOW_INTEGRITY = "S-1-16-4096"
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)


class _Label(ctypes.Structure):
    """TOKEN_MANDATORY_LABEL."""

    _fields_ = (("sid", ctypes.c_void_p), ("attributes", wintypes.DWORD))


_open_token = _advapi32.OpenProcessToken
_open_token.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE))
_duplicate_token = _advapi32.DuplicateTokenEx
_duplicate_token.argtypes = (
    wintypes.HANDLE,
    wintypes.DWORD,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(wintypes.HANDLE),
)
_string_to_sid = _advapi32.ConvertStringSidToSidW
_string_to_sid.argtypes = (wintypes.LPCWSTR, ctypes.POINTER(ctypes.c_void_p))
_sid_length = _advapi32.GetLengthSid
_sid_length.argtypes = (ctypes.c_void_p,)
_set_token = _advapi32.SetTokenInformation
_set_token.argtypes = (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)
_create_as_user = _advapi32.CreateProcessAsUserW
_create_as_user.argtypes = (
    wintypes.HANDLE,
    wintypes.LPCWSTR,
    wintypes.LPWSTR,
    ctypes.c_void_p,
    ctypes.c_void_p,
    wintypes.BOOL,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.LPCWSTR,
    ctypes.POINTER(StartupInfo),
    ctypes.POINTER(ProcessInformation),
)
_string_to_descriptor = _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW
_string_to_descriptor.argtypes = (
    wintypes.LPCWSTR,
    wintypes.DWORD,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)
_set_security = _advapi32.SetKernelObjectSecurity
_set_security.argtypes = (wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p)
_local_free = _kernel32.LocalFree
_local_free.argtypes = (ctypes.c_void_p,)
_duplicate_handle = _kernel32.DuplicateHandle


def _checked(done: int) -> None:
    """Raise the last error if a call failed."""
    if not done:
        raise ctypes.WinError(ctypes.get_last_error())


def deny_termination(pid: int) -> None:
    """Deny everybody to open a process for termination from now on; handles that are open keep what they may."""
    handle = open_handle(pid, 0x40000)  # WRITE_DAC
    descriptor = ctypes.c_void_p()
    # PROCESS_TERMINATE is 0x1; everybody else may do what they like
    _checked(_string_to_descriptor("D:P(D;;0x0001;;;WD)(A;;0x1fffff;;;WD)", 1, ctypes.byref(descriptor), None))
    try:
        _checked(_set_security(handle, 0x4, descriptor))  # DACL_SECURITY_INFORMATION
    finally:
        _local_free(descriptor)
        _winapi.CloseHandle(handle)


def run_at_low_integrity(words: Sequence[str]) -> str:
    """Run a program with our token at low integrity, wait, and return what it printed.

    This needs no privilege, because the token is our own with less (Microsoft Learn, Designing Applications to Run at a Low Integrity Level).
    """
    token, ours, sid = wintypes.HANDLE(), wintypes.HANDLE(), ctypes.c_void_p()
    # TOKEN_ASSIGN_PRIMARY, TOKEN_DUPLICATE, TOKEN_QUERY, TOKEN_ADJUST_DEFAULT
    _checked(_open_token(_winapi.GetCurrentProcess(), 0x8B, ctypes.byref(ours)))
    _checked(_duplicate_token(ours, 0, None, 2, 1, ctypes.byref(token)))  # SecurityImpersonation, TokenPrimary
    _checked(_string_to_sid(LOW_INTEGRITY, ctypes.byref(sid)))
    label = _Label(sid, 0x20)  # SE_GROUP_INTEGRITY
    _checked(_set_token(token, 25, ctypes.byref(label), ctypes.sizeof(label) + _sid_length(sid)))
    reader, writer = os.pipe()
    try:
        process = _start(token, words, writer)
    finally:
        os.close(writer)
        _winapi.CloseHandle(token.value or 0)
        _winapi.CloseHandle(ours.value or 0)
        _local_free(sid)
    with os.fdopen(reader, "rb") as answer:
        printed = answer.read()
    _winapi.WaitForSingleObject(process, 10_000)
    _winapi.CloseHandle(process)
    return printed.decode()


def _start(token: wintypes.HANDLE, words: Sequence[str], output: int) -> int:
    """Start a program with *token*, its standard output into a file descriptor; return its handle."""
    inherited = msvcrt.get_osfhandle(output)
    os.set_handle_inheritable(inherited, True)
    startup = StartupInfo(size=104, flags=USE_STD_HANDLES, stdout=inherited, stderr=inherited)  # STARTUPINFOW alone
    flags = subprocess.CREATE_NO_WINDOW

    def create(line: object, startup: object, made: object) -> int:
        return int(_create_as_user(token, None, line, None, None, True, flags, None, None, startup, made))

    return create_process(words, startup, create)[1]
