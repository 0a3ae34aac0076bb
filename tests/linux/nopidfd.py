"""Runs a command on a kernel that has no pidfds: `python nopidfd.py ENOSYS|EPERM CALLS COMMAND...`.

A seccomp filter, seccomp(2), answers that error to the CALLS and lets everything else through; it cannot be taken off again.
CALLS: `both`, `open` (pidfd_open only, as between kernel 5.1 and 5.3) or `send` (pidfd_send_signal only).
EPERM is what old container runtimes answer to calls that they do not know.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

# The same on every architecture that Linux knows but alpha and mips: both calls are younger than the common numbering.
_NUMBERS = {"open": [434], "send": [424], "both": [434, 424]}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = (
    0x20,
    0x15,
    0x06,
)  # linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid(calls: str, code: int) -> None:
    """Make *calls* fail with the error *code* from now on, in this process and all that it starts."""
    numbers = _NUMBERS[calls]
    lines = [(_LOAD, 0, 0, 0)]  # the number of the call is the first field of struct seccomp_data
    for at, number in enumerate(numbers):
        lines.append((_JUMP_IF_EQUAL, len(numbers) - at, 0, number))
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | code)]
    code_bytes = b"".join(struct.pack("HBBI", *line) for line in lines)
    program = _Program(len(lines), code_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    forbid(sys.argv[2], getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[3], sys.argv[3:])
