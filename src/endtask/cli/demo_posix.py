"""What `endtask demo` needs to know of a system of signals: its sample programs, how they are started, and its words."""

from __future__ import annotations

import os
import sys

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo_programs.py")
PYTHON = sys.executable or ""
REQUEST = "TERM"  # what the polite ones have a handler for, and the stubborn one ignores
PLACE = "session"  # what each of them has of its own

SESSION, FLAGS = True, 0  # how `subprocess` starts a program there
