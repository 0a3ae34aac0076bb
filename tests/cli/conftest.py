"""Fixtures of this folder."""

from __future__ import annotations

from tests.targets.fixtures import lab, scene

__all__ = ["lab", "scene"]
