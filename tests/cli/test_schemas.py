"""The JSON Schemas: exact, complete, the same words as the model."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import typing
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endtask import model
from endtask._record import Record
from endtask.cli.schema import schema_text
from endtask.model import Event, Evidence, Looked, PidRef, Report, TargetReport

if TYPE_CHECKING:
    from types import ModuleType

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("report", "look", "plan", "why", "event")


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_schemas", ROOT / "tools" / "make_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
TYPED = MAKER.load_model()  # the model with the words that only type checkers see
SCHEMAS: dict[str, dict[str, Any]] = {name: json.loads(schema_text(name)) for name in NAMES}
VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}


def values(hint: object) -> st.SearchStrategy[Any]:
    """Return random values of a type of the model."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*(values(a) for a in arguments))
    if origin is not None:
        return st.one_of(*(values(a) for a in arguments))
    if isinstance(hint, type) and hint.__name__ in MAKER.REFINED:
        return st.builds(PidRef, st.integers(1, 1 << 22), st.sampled_from(["", "1", "t99", "18446744073709551615"]))
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return records(hint.__name__)
    plain: dict[object, st.SearchStrategy[Any]] = {
        str: st.text(max_size=8),
        int: st.integers(0, 1 << 63),
        float: st.floats(0, 1e6),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return plain[hint]


def records(name: str) -> st.SearchStrategy[Any]:
    """Return random records of the real model whose fields follow the types and the refinements."""
    typed = getattr(TYPED, name)
    real = getattr(model, name)
    hints = typing.get_type_hints(typed, vars(TYPED))
    fields = {}
    for field in typed._fields:
        refined = MAKER.REFINED.get(f"{name}.{field}")
        fields[field] = (
            from_schema(refined)
            if refined
            else st.integers(0, 1 << 22)
            if field in MAKER.PIDS
            else values(hints[field])
        )
    if "schema" in fields:
        fields["schema"] = st.just(real._defaults["schema"])
    made = st.builds(real, **fields)
    if name == "TargetReport":
        made = made.filter(
            lambda t: (
                t.outcome not in ("stopped", "forced")
                or (t.evidence and all(e.strength != "unproven" for e in t.evidence))
            )
        )
        made = made.filter(lambda t: t.outcome != "respawned" or t.respawn is not None)
    return made


def from_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return random values of a refinement."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "string":
        return st.sampled_from("RSDTtZX?")
    if schema["type"] == "number":
        return st.floats(-1, 1e9)
    return st.integers(schema.get("minimum", 0), schema.get("maximum", 1 << 62))


def as_read(data: object) -> Any:
    """Return data as a reader of the JSON text sees it."""
    return json.loads(json.dumps(data))


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid_and_up_to_date(name: str) -> None:
    """The shipped file is what the model makes, and a valid 2020-12 schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert schema_text(name) == MAKER.make()[f"{name}.json"], "run `python tools/make_schemas.py`"


@pytest.mark.parametrize("name", ["report", "look", "plan", "why"])
def test_documents_of_random_values_are_valid(name: str) -> None:
    """Every document that can be made of the model's values follows its schema, weird names included."""

    @settings(max_examples=30, deadline=None)
    @given(records(MAKER.DOCUMENTS[name][0]))
    def check(record: Report | Looked) -> None:
        VALIDATORS[name].validate(as_read(record.to_json()))

    check()


@settings(deadline=None)
@given(records("Event"))
def test_events_are_valid(event: Event) -> None:
    """Every line of --jsonl follows the schema."""
    VALIDATORS["event"].validate(as_read({"schema": model.EVENT_SCHEMA, **model.document(event)}))


@pytest.mark.parametrize("name", ["report", "look", "plan", "why"])
def test_unknown_and_missing_fields_are_refused(name: str) -> None:
    """The schemas are exact."""
    empty = getattr(model, MAKER.DOCUMENTS[name][0])(())
    data = as_read(empty.to_json())
    VALIDATORS[name].validate(data)
    assert not VALIDATORS[name].is_valid({**data, "more": 1})
    for field in data:
        assert not VALIDATORS[name].is_valid({k: v for k, v in data.items() if k != field})


def objects(schema: object) -> list[dict[str, Any]]:
    """Return every object schema inside *schema*."""
    found = []
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            found.append(schema)
        for value in schema.values():
            found += objects(value)
    elif isinstance(schema, list):
        for value in schema:
            found += objects(value)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_closed_and_described(name: str) -> None:
    """No object takes further fields, and every field says what it is."""
    for schema in objects(SCHEMAS[name]):
        assert schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])
        for field, body in schema["properties"].items():
            assert body.get("description"), field


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ("report", ("TargetReport", "outcome"), "Outcome"),
        ("report", ("Evidence", "strength"), "Strength"),
        ("report", ("Receipt", "status"), "ReceiptStatus"),
        ("look", ("Prediction", "answer"), "Answer"),
        ("why", ("Prediction", "answer"), "Answer"),
    ],
)
def test_words_equal_those_of_the_model(schema: str, path: tuple[str, str], words: str) -> None:
    """Closed sets of words are the same in Python and in JSON."""
    record, field = path
    assert SCHEMAS[schema]["$defs"][record]["properties"][field]["enum"] == list(typing.get_args(getattr(TYPED, words)))


def test_outcomes_and_exit_codes_are_those_of_the_model() -> None:
    """The lists that the maker has to spell out have not drifted."""
    assert list(model.OUTCOMES) == MAKER.OUTCOMES == list(typing.get_args(TYPED.Outcome))
    assert sorted(MAKER.EXIT_CODES) == sorted({c for c in model._RANK if c != 2})


@pytest.mark.parametrize("outcome", ["stopped", "forced"])
def test_success_without_evidence_is_no_valid_report(outcome: typing.Literal["stopped", "forced"]) -> None:
    """`stopped` and `forced` need evidence, and evidence that shows something."""
    for evidence, valid in (
        ((), False),
        ((Evidence("pidfd", "proved", "x"),), True),
        ((Evidence("pidfd", "unproven", "x"),), False),
    ):
        done = Report((TargetReport("x", PidRef(1, "2"), "x", outcome, evidence=evidence),))
        assert VALIDATORS["report"].is_valid(as_read(done.to_json())) is valid


def test_names_that_are_no_text_become_plain_json() -> None:
    """Bytes that are not UTF-8 can be written and read by every JSON parser."""
    done = Report((TargetReport("\udcff", PidRef(1), "\x1b\udc80", "running"),))
    data = as_read(done.to_json())
    VALIDATORS["report"].validate(data)
    assert data["targets"][0]["what"] == "\\xff"
    assert isinstance(done, Record)
