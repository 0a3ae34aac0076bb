"""The code map in CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["", "_backends", "_backends/windows"])
def test_code_map_names_every_module(folder: str) -> None:
    """A reader finds each module of the core, and of the backend that has one for each way of asking."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The code map")[2].partition("\n## ")[0]
    named = set(re.findall(r"\w+\.py", text))
    there = {p.name for p in (ROOT / "src" / "endtask" / folder).glob("*.py") if not p.name.startswith("__")}
    assert there - named == set()
