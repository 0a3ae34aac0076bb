"""`endtask schema NAME`: the JSON Schemas that are shipped with the package."""

from __future__ import annotations


def schema_text(name: str) -> str:
    """Return the JSON Schema of `report`, `look`, `plan`, `why` or `event` as text."""
    from importlib.resources import files

    return (files("endtask") / "schemas" / f"{name}.json").read_text(encoding="utf-8")
