"""Validates JSON documents against the schemas that endtask ships, also where a part of `jsonschema` cannot be loaded.

Its `rpds` is compiled, and needs bcryptprimitives.dll, which Wine 8 has not got. It offers three collections that are never changed, only copied
with a change; where it cannot be loaded, plain dictionaries, sets and tuples that are copied do the same, more slowly.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import types
from importlib import resources
from typing import Any


class _Map(dict[Any, Any]):
    """Stands for rpds.HashTrieMap."""

    @classmethod
    def convert(cls, value: Any) -> _Map:
        return cls(value)

    def insert(self, key: Any, value: Any) -> _Map:
        return _Map({**self, key: value})

    def remove(self, key: Any) -> _Map:
        return _Map({k: v for k, v in self.items() if k != key})

    def update(self, *others: Any) -> _Map:  # type: ignore[override]  # it returns a changed copy
        return _Map({k: v for each in (self, *others) for k, v in dict(each).items()})


class _Set(frozenset[Any]):
    """Stands for rpds.HashTrieSet."""

    def insert(self, value: Any) -> _Set:
        return _Set([*self, value])

    def discard(self, value: Any) -> _Set:
        return _Set(each for each in self if each != value)

    def update(self, *others: Any) -> _Set:
        return _Set(value for each in (self, *others) for value in each)


class _List(tuple[Any, ...]):
    """Stands for rpds.List."""

    __slots__ = ()

    def push_front(self, value: Any) -> _List:
        return _List((value, *self))


@functools.cache
def _jsonschema() -> Any:
    try:
        importlib.import_module("rpds")
    except ImportError:
        module: Any = types.ModuleType("rpds")
        module.HashTrieMap, module.HashTrieSet, module.List = _Map, _Set, _List
        sys.modules["rpds"] = module
    return importlib.import_module("jsonschema")


@functools.cache
def _validator(name: str) -> Any:
    text = resources.files("endtask").joinpath("schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    library, schema = _jsonschema(), json.loads(text)
    return library.validators.validator_for(schema)(schema)


def validate(document: dict[str, Any]) -> None:
    """Compare a document with the schema that it names.

    Raises:
        jsonschema.ValidationError: It does not follow it.
    """
    _validator(document["schema"].partition(".")[2].partition("/")[0]).validate(document)
