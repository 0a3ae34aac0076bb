"""Windows: for programs that change their console while they listen.

AttachConsole, AllocConsole and FreeConsole clear the table of control handlers ("Console Control Handlers", Microsoft Learn).
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"

from endtask_receiver._win_console import console_changed

__all__ = ["console_changed"]
