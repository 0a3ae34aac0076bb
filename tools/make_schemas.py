"""Writes src/endtask/schemas/*.json from the types and docstrings of endtask.model: `python tools/make_schemas.py`.

The types give the shape, the docstrings the descriptions, and `REFINED` what neither can say: patterns, bounds, closed sets of words that are plain text in Python.
A test compares the shipped files with what this makes, so a field that is added to a record cannot be forgotten here.
"""

from __future__ import annotations

import inspect
import json
import pathlib
import sys
import types
import typing

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "src" / "endtask" / "schemas"

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

    from endtask._record import Record

    Json = dict[str, object]


DOCUMENTS = {
    "report": ("Report", "The answer of `endtask stop` and `endtask wait`."),
    "look": ("Looked", "The answer of `endtask look`."),
    "plan": ("Planning", "The answer of `endtask plan` and `endtask stop --dry-run`."),
    "why": ("Explanation", "The answer of `endtask why`."),
    "event": ("Event", "One line of `endtask stop --jsonl`; the last line is a report."),
}
EXIT_CODES = [0, 1, 3, 10, 11, 77, 124, 130]
EVENT_KINDS = [
    "selected",
    "request",
    "exited",
    "joined",
    "heard",
    "said",
    "needs",
    "refuses",
    "step",
    "waiting",
    "port",
    "watching",
    "respawn",
    "suspect",
    "settled",
]
OUTCOMES = [
    "stopped",
    "forced",
    "running",
    "vetoed",
    "respawned",
    "already-gone",
    "not-permitted",
    "unreachable",
    "unproven",
]
SECONDS: Json = {"type": "number", "minimum": 0}
PID: Json = {"type": "integer", "minimum": 0}
REFINED: dict[str, Json] = {
    "PidRef": {"type": "string", "pattern": "^[1-9][0-9]*(:t?[0-9]+)?$"},
    "Event.kind": {"enum": EVENT_KINDS},
    "Event.outcome": {"enum": ["", *OUTCOMES]},
    "Facts.age_s": {"type": "number", "minimum": -1},
    "Facts.frozen": {"enum": ["", "v1", "v2"]},
    "Facts.state": {"type": "string", "minLength": 1, "maxLength": 1},
    "Listener.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "Listener.proto": {"enum": ["tcp", "udp"]},
    "Manager.restarts": {"enum": ["yes", "no", "unknown"]},
    "Missing.code": {"enum": ["no-match", "gone", "stale", "not-permitted"]},
    "ProcessEnd.signal": {"type": "integer", "minimum": 0, "maximum": 64},
    "ProcessEnd.status": {"type": ["integer", "null"], "minimum": 0, "maximum": 0xFFFFFFFF},
}
PIDS = {"ppid", "pgid", "sid", "tracer", "pid", "unreaped_by", "holder_pid", "ask_instead"}


class Maker:
    """Makes one document; collects the records that it needs as definitions."""

    def __init__(self, model: types.ModuleType) -> None:
        self.model = model
        self.words: dict[str, object] = {**vars(typing), **vars(model)}
        self.definitions: dict[str, Json] = {}

    def document(self, name: str) -> Json:
        """Return the whole schema called *name*."""
        class_name, title = DOCUMENTS[name]
        body = self.record(getattr(self.model, class_name))
        properties = typing.cast("dict[str, Json]", body["properties"])
        properties["schema"] = {"const": f"endtask.{name}/1", "description": "Name and version of this form."}
        if name != "event":
            properties["exit_code"] = {"enum": EXIT_CODES, "description": "The exit code of the command."}
        head: Json = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:endtask:schema:{name}:1",
            "title": f"endtask.{name}/1",
            "description": title,
        }
        body["required"] = list(properties)
        body.pop("description", None)
        return {**head, **body, "$defs": dict(sorted(self.definitions.items()))}

    def record(self, cls: type[Record]) -> Json:
        """Return the schema of a record: every field, required, and no other."""
        about, texts = described(cls)
        properties: dict[str, Json] = {}
        for owner in reversed(cls.__mro__):
            for field, annotation in inspect.get_annotations(owner).items():
                if field in cls._fields:
                    schema = dict(self.field(cls.__name__, field, str(annotation)))
                    if field in texts:
                        schema["description"] = texts[field]
                    properties[field] = schema
        body: Json = {
            "description": about,
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        if cls.__name__ == "TargetReport":
            body["allOf"] = [PROVED, CAME_BACK]
        return body

    def field(self, owner: str, field: str, annotation: str) -> Json:
        """Return the schema of one field."""
        refined = REFINED.get(f"{owner}.{field}")
        if refined is not None:
            return refined
        if field in PIDS:
            return PID
        if field.endswith("_s") and annotation == "float":
            return SECONDS
        # The annotations are our own source text.
        return self.hint(eval(annotation, self.words))  # noqa: S307

    def hint(self, hint: object) -> Json:
        """Return the schema of a type."""
        plain = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
        if isinstance(hint, type) and hint in plain:
            return {"type": plain[hint]}
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Literal:
            return {"enum": list(arguments)}
        if origin is tuple:
            return self.array(arguments)
        if origin in (types.UnionType, typing.Union):
            parts = [self.hint(a) for a in arguments]
            names = [p["type"] for p in parts if set(p) == {"type"}]
            if len(names) == len(parts):
                return {"type": names}
            return {"anyOf": parts}
        if isinstance(hint, type):
            return self.reference(hint)
        raise TypeError(f"no schema for {hint!r}")

    def array(self, arguments: tuple[object, ...]) -> Json:
        """Return the schema of a tuple type."""
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": self.hint(arguments[0])}
        count = len(arguments)
        return {
            "type": "array",
            "prefixItems": [self.hint(a) for a in arguments],
            "items": False,
            "minItems": count,
            "maxItems": count,
        }

    def reference(self, cls: type) -> Json:
        """Return a reference to a record's schema, which is made at its first use."""
        name = cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # a record may contain itself
            if name == "PidRef":
                self.definitions[name] = {"description": described(cls)[0], **REFINED[name]}
            else:
                self.definitions[name] = self.record(cls)
        return {"$ref": f"#/$defs/{name}"}


# `stopped` and `forced` never come without evidence, and never with evidence that shows nothing.
PROVED: Json = {
    "if": {"properties": {"outcome": {"enum": ["stopped", "forced"]}}},
    "then": {
        "properties": {
            "evidence": {
                "minItems": 1,
                "items": {"properties": {"strength": {"enum": ["proved", "observed"]}}},
            }
        }
    },
}
CAME_BACK: Json = {
    "if": {"properties": {"outcome": {"const": "respawned"}}},
    "then": {"properties": {"respawn": {"not": {"type": "null"}}}},
}


def described(cls: type) -> tuple[str, dict[str, str]]:
    """Return the summary of a docstring and what it says of each attribute."""
    text = inspect.cleandoc(cls.__doc__ or "")
    summary = text.split("\n\n", 1)[0].replace("\n", " ")
    texts: dict[str, str] = {}
    last = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        body = line.strip()
        if line.startswith("    ") and not line.startswith("     ") and ": " in body:
            names, _, meaning = body.partition(": ")
            last = names
            texts[last] = meaning.replace("None", "null")
        elif last and body:
            texts[last] += " " + body
    return summary, {n: meaning for names, meaning in texts.items() for n in names.split(", ")}


def load_model() -> types.ModuleType:
    """Return endtask.model with the words that only type checkers see."""
    source = (HERE.parent / "src" / "endtask" / "model.py").read_text(encoding="utf-8")
    module = types.ModuleType("endtask_model_with_types")
    module.__dict__["__name__"] = "endtask_model_with_types"
    code = compile(source.replace("TYPE_CHECKING = False", "TYPE_CHECKING = True", 1), "model.py", "exec")
    exec(code, module.__dict__)  # noqa: S102  # our own source
    return module


def make() -> dict[str, str]:
    """Return the text of every schema by its file name."""
    model = load_model()
    return {f"{name}.json": json.dumps(Maker(model).document(name), indent=2) + "\n" for name in DOCUMENTS}


def main(arguments: Iterable[str]) -> int:
    """Write the files, or with `--check` say whether they are up to date."""
    check = "--check" in arguments
    stale = []
    for file, text in make().items():
        path = TARGET / file
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(file)
            if not check:
                path.write_text(text, encoding="utf-8")
    print(f"{'stale' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "src"))
    sys.exit(main(sys.argv[1:]))
