"""Frozen value types, without the start-up cost of `dataclasses`.

Decision: `dataclasses` adds 15 ms to a command that should take 20 (measured, CPython 3.11), because it imports `inspect` and compiles source for every class.
This module keeps the part that endtask needs: positional and keyword fields, defaults, immutability, equality, hash, repr and a plain-data form for JSON.
Type checkers see it as a frozen dataclass (PEP 681).

Most classes are used a few times in a run, so one generic constructor serves them all.
A class that is used often (ten thousand targets make ten thousand of each word of the report) gets a constructor and a hash of its own,
made from source as `collections.namedtuple` makes its: 0.1 ms once, and then 0.5 instead of 2.6 microseconds for a record of nine fields (measured).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, TypeVar

    from typing_extensions import dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


_OFTEN = 64  # records of a class, after which it is worth a constructor of its own


class _RecordType(type):
    """Turns annotated fields into slots and remembers their defaults."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        own = tuple(n for n in namespace.get("__annotations__", ()) if not n.startswith("_"))
        defaults = {n: namespace.pop(n) for n in own if n in namespace}
        namespace["__slots__"] = own
        cls = super().__new__(mcs, name, bases, namespace)
        parent = bases[0] if bases else None
        cls._fields = getattr(parent, "_fields", ()) + own
        cls._defaults = {**getattr(parent, "_defaults", {}), **defaults}
        cls._setters = getattr(parent, "_setters", ()) + tuple(cls.__dict__[n].__set__ for n in own)
        cls._made = [0]
        if not TYPE_CHECKING:
            cls.__init__ = _init  # each class its own: one that was made for a base does not fit what inherits from it
            cls.__hash__ = _hash
        return cls

    @property
    def __signature__(cls) -> object:
        """The constructor's signature, for `help()` and the documentation."""
        import inspect

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(n, kind, default=cls._defaults.get(n, inspect.Parameter.empty)) for n in cls._fields]
        )

    # All are set in `__new__`; plain dict and tuple, so that the base of a hierarchy needs no special case.
    _fields: tuple[str, ...]
    _defaults: dict[str, Any]
    _setters: tuple[Callable[[object, object], None], ...]
    _made: list[int]  # how many; in a cell, because setting an attribute of a class is slow


if not TYPE_CHECKING:

    def _init(self, *args, **kwargs):
        """Set the fields of any record."""
        cls = type(self)
        cls._made[0] += 1
        if cls._made[0] == _OFTEN:
            _make_own(cls)
        # The slots' own setters are bound once per class: half the cost of `object.__setattr__` by name (measured).
        setters = cls._setters
        given = len(args)
        if given > len(setters):
            raise TypeError(f"{cls.__name__} takes {len(setters)} fields, got {given}")
        for put, value in zip(setters, args):  # noqa: B905 - `strict` costs a tenth of the whole
            put(self, value)
        if kwargs or given < len(setters):
            _put_named(self, given, kwargs)

    def _put_named(self, given, named):
        """Set the fields after the first *given* ones by name or by default."""
        fields = self._fields[given:]
        values = {**self._defaults, **named}
        try:
            for name, put in zip(fields, self._setters[given:], strict=True):
                put(self, values[name])
        except KeyError as exc:
            raise TypeError(f"{type(self).__name__} needs the field `{exc.args[0]}`") from None
        for name in named:
            if name not in fields:
                twice = "got twice the" if name in self._fields else "has no"
                raise TypeError(f"{type(self).__name__} {twice} field `{name}`")

    def _hash(self):
        """Return the hash of any record."""
        return hash(tuple([getattr(self, n) for n in self._fields]))

    def _make_own(cls):
        """Give *cls* a constructor and a hash with its own fields in them."""
        fields, defaults = cls._fields, cls._defaults
        known = {f"put_{n}": put for n, put in zip(fields, cls._setters, strict=True)} | {"defaults": defaults}
        takes = "".join([f", {n}=defaults[{n!r}]" if n in defaults else f", {n}" for n in fields])
        puts = "; ".join([f"put_{n}(self, {n})" for n in fields]) or "pass"
        values = "".join([f"self.{n}, " for n in fields])
        source = f"def __init__(self{takes}): {puts}\ndef __hash__(self): return hash(({values}))\n"
        exec(source, known)  # noqa: S102  # made of the names of our own fields
        for name in ("__init__", "__hash__"):
            known[name].__qualname__ = f"{cls.__qualname__}.{name}"  # for the message of a call that does not fit
            setattr(cls, name, known[name])


@dataclass_transform(frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """Base of every value type: fields are the annotations of the class, in order."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use `replace`")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, n) == getattr(other, n) for n in self._fields)

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...

    def __repr__(self) -> str:
        inside = ", ".join(f"{n}={getattr(self, n)!r}" for n in self._fields)
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), tuple(getattr(self, n) for n in self._fields))


def replace(record: R, **changes: object) -> R:
    """Return a copy of *record* with some fields changed."""
    values = {n: getattr(record, n) for n in record._fields}
    values.update(changes)
    return type(record)(**values)


def to_data(value: object, leaf: Callable[[object], str | None]) -> Any:
    r"""Return *value* as plain data for JSON: records become dicts, tuples lists, text is made printable.

    Names and arguments may hold bytes that are not UTF-8 (kept by Python as lone surrogates): they become `\xNN`.

    Args:
        value: Anything made of records, tuples, dicts, text and numbers.
        leaf: Gives the text for a record that is written as one word, None for all others.
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, (tuple, list, frozenset)):
        return [to_data(v, leaf) for v in value]
    if isinstance(value, Record):
        text = leaf(value)
        return {n: to_data(getattr(value, n), leaf) for n in value._fields} if text is None else text
    if isinstance(value, dict):
        return {plain(str(k)): to_data(v, leaf) for k, v in value.items()}
    return value


def plain(text: str) -> str:
    r"""Return *text* with surrogate escapes as `\xNN`, so that it can be encoded anywhere."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that no file name or argument can have given us
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
