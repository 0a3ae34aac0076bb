"""The adapters are tested on POSIX: their servers listen on sockets in the file system."""

from __future__ import annotations

import sys

collect_ignore_glob = ["*"] if sys.platform == "win32" else []
