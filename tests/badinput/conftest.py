"""Fixtures of this folder."""

from __future__ import annotations

from tests.targets.fixtures import lab, own_namespace, scene

__all__ = ["lab", "own_namespace", "scene"]
