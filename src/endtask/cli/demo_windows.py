"""What `endtask demo` needs to know of Windows: its sample programs, how they are started, and its words."""

from __future__ import annotations

import os
import sys

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo_programs_windows.py")
# In a virtual environment `sys.executable` only starts the real interpreter and waits for it: it would stand in every tree.
PYTHON = str(getattr(sys, "_base_executable", "") or sys.executable or "")
REQUEST = "Ctrl+C"  # what the polite ones have a handler for, and the stubborn one ignores
PLACE = "console"  # what each of them has of its own

SESSION, FLAGS = False, 0x08000000  # CREATE_NO_WINDOW: a console of its own, without a window
