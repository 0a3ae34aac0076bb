"""The value type: fields, defaults, immutability, equality, plain data."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from endtask._record import Record, plain, replace, to_data
from endtask.model import PidRef


class Point(Record):
    """A record with a default."""

    x: int
    y: int = 2


class Point3(Point):
    """A record that inherits fields."""

    z: int = 3


@pytest.fixture(autouse=True, params=["first", "often"])
def made(request: pytest.FixtureRequest) -> None:
    """Run every test twice: a class that is used often gets a constructor of its own, which must mean the same."""
    if request.param == "often":
        for n in range(200):
            assert (n, 2, 3) == (Point3(n).x, Point(n).y, Point3(n).z)


def test_fields_given_by_position_and_name_are_kept() -> None:
    """Positional and keyword fields mean the same."""
    assert (1, 5) == (Point(1, 5).x, Point(1, 5).y)
    assert Point(1, 5) == Point(x=1, y=5) == Point(1, y=5)


def test_class_that_inherits_has_its_own_constructor_and_hash() -> None:
    """However often the base was made, a record of the heir has all fields of the heir."""

    class Heir(Point):
        z: int = 4

    assert (1, 2, 4) == (Heir(1).x, Heir(1).y, Heir(1).z)
    assert Heir(1, 2, 5) != Heir(1, 2, 6)
    assert len({Heir(1, 2, 5), Heir(1, 2, 6), Heir(1, 2, 5)}) == 2


def test_record_without_fields_is_a_value() -> None:
    """Nothing but its type."""

    class Nothing(Record):
        pass

    values = [Nothing() for _ in range(200)]
    assert len(set(values)) == 1
    assert repr(values[0]) == "Nothing()"


def test_defaults_fill_what_is_not_given() -> None:
    """A field with a default may be left out."""
    assert Point(1, 2) == Point(1)


def test_fields_of_the_base_come_first() -> None:
    """A record that inherits has the fields of its base before its own."""
    assert ("x", "y", "z") == Point3._fields
    assert (1, 2, 3) == (Point3(1).x, Point3(1).y, Point3(1).z)


@pytest.mark.parametrize(
    ("args", "named", "says"),
    [
        ((), {}, "x"),
        ((1, 2, 3), {}, "2 fields, got 3|3 positional arguments but 4"),
        ((1,), {"x": 1}, "x"),
        ((1,), {"w": 1}, "w"),
        ((1, 2), {"y": 1}, "y"),
    ],
)
def test_wrong_fields_are_refused_with_the_field_named(args: tuple[int, ...], named: dict[str, int], says: str) -> None:
    """A missing, doubled or unknown field is a TypeError that names it."""
    with pytest.raises(TypeError, match=says):
        Point(*args, **named)


def test_a_record_cannot_be_changed() -> None:
    """Setting or deleting a field is an error, and so is a new attribute."""
    point = Point(1)
    for name in ("x", "new"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(point, name, 9)
    with pytest.raises(AttributeError, match="immutable"):
        del point.x
    assert Point(1) == point


def test_records_have_no_dict() -> None:
    """Slots keep ten thousand of them small."""
    assert not hasattr(Point3(1), "__dict__")


def test_equality_asks_for_type_and_fields() -> None:
    """Equal fields of another type are not equal."""
    assert Point(1, 2) != Point3(1, 2)
    assert Point(1, 2) != (1, 2)
    assert Point(1, 2) != Point(1, 3)


def test_equal_records_have_equal_hashes() -> None:
    """Records are keys."""
    assert {Point(1): "a"}[Point(1, 2)] == "a"
    assert len({Point(1), Point(1, 2), Point3(1)}) == 2


def test_repr_can_be_read_back() -> None:
    """The repr is the call that makes the value."""
    assert repr(Point3(1)) == "Point3(x=1, y=2, z=3)"
    assert eval(repr(Point3(7, 8, 9))) == Point3(7, 8, 9)


def test_copy_and_pickle_give_an_equal_record() -> None:
    """Values can be sent to another process."""
    ref = PidRef(12, "34")
    assert ref == copy.copy(ref) == copy.deepcopy(ref) == pickle.loads(pickle.dumps(ref))


def test_replace_changes_only_what_is_named() -> None:
    """`replace` returns a copy with other fields."""
    before = Point3(1, 2, 3)
    assert Point3(1, 9, 3) == replace(before, y=9)
    assert Point3(1, 2, 3) == before
    with pytest.raises(TypeError, match="w"):
        replace(before, w=1)


def test_signature_shows_fields_and_defaults() -> None:
    """`help()` and the documentation see the constructor."""
    assert str(inspect.signature(Point3)) == "(x, y=2, z=3)"


def test_to_data_makes_plain_data_of_everything_inside() -> None:
    """Records become dicts, tuples lists, a leaf its text."""
    value = (Point(1), {"ref": PidRef(3, "4"), 5: (True, None, 1.5)})
    expected = [{"x": 1, "y": 2}, {"ref": "3:4", "5": [True, None, 1.5]}]
    assert expected == to_data(value, lambda v: str(v) if isinstance(v, PidRef) else None)


def test_plain_shows_bytes_that_are_no_utf8() -> None:
    r"""A lone byte becomes `\xNN`, everything else stays."""
    assert plain(b"a\xff\xfeb".decode("utf-8", "surrogateescape")) == r"a\xff\xfeb"
    assert plain("naïve 日本") == "naïve 日本"


@settings(deadline=None)
@given(st.text(st.characters(), max_size=20))
@example("\ud800")
@example("a\udcff\udfffb")
def test_plain_can_always_be_encoded(text: str) -> None:
    """Whatever a name holds, lone surrogates of every kind included, its plain form is UTF-8."""
    assert plain(text).encode("utf-8").decode("utf-8") == plain(text)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert text == plain(text)


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_plain_of_any_bytes_can_be_encoded(name: bytes) -> None:
    """The names that a kernel gives can always be printed."""
    assert plain(name.decode("utf-8", "surrogateescape")).encode("utf-8") is not None
