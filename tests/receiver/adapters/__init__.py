"""The adapters, each with the real library and real processes."""

from __future__ import annotations
