"""What the security of a kernel object says."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_get_security = _advapi32.GetSecurityInfo
_get_security.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.DWORD,
    *[ctypes.c_void_p] * 4,
    ctypes.POINTER(ctypes.c_void_p),
)
_to_text = _advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW
_to_text.argtypes = (ctypes.c_void_p, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(wintypes.LPWSTR), ctypes.c_void_p)


def security_of(handle: int) -> str:
    """Return the access control list of a kernel object, as SDDL."""
    descriptor, text = ctypes.c_void_p(), wintypes.LPWSTR()
    # SE_KERNEL_OBJECT, DACL_SECURITY_INFORMATION
    assert _get_security(handle, 6, 4, None, None, None, None, ctypes.byref(descriptor)) == 0
    assert _to_text(descriptor, 1, 4, ctypes.byref(text), None)
    return text.value or ""
