"""Compares what endtask said with what the laboratory saw; every difference is a lie, told in one sentence."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, cast

import jsonschema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.targets.lab import Answer, Scene

OUTCOME_CODES = {
    "stopped": 0,
    "already-gone": 0,
    "forced": 10,
    "respawned": 11,
    "running": 124,
    "vetoed": 124,
    "not-permitted": 77,
    "unreachable": 77,
    "unproven": 3,
}
_RANK = (3, 2, 77, 124, 130, 11, 10, 1, 0)
_SIGNALS = {"TERM": 15, "KILL": 9, "INT": 2, "HUP": 1, "QUIT": 3, "ALRM": 14}


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    text = (resources.files("endtask") / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def schema_faults(document: dict[str, object]) -> list[str]:
    """Return in what a document differs from the JSON Schema that it names."""
    name = str(document.get("schema", "")).removeprefix("endtask.").partition("/")[0]
    return [f"schema: {error.json_path}: {error.message}" for error in _validator(name).iter_errors(document)]


def lies(
    answer: Answer, scene: Scene, *, outside: Iterable[int] = (), port: int | None = None, port_free: bool | None = None
) -> list[str]:
    """Return every statement of *answer* that is not true.

    Args:
        answer: Of `stop` or `wait`.
        scene: Where it ran.
        outside: Pids that may live whatever the answer: supervisors, innocents.
        port: A port that the target was named by.
        port_free: What the laboratory saw of it when the command returned.
    """
    alive = answer.left_pids() - set(outside)
    found = list(_about_code(answer, alive))
    if port is not None and answer.code in (0, 10) and not port_free:
        found.append(f"exit code {answer.code}, but somebody listens on port {port}")
    if "Traceback" in answer.text or "internal fault" in answer.text:
        found.append("it broke: " + answer.err.strip()[-200:])
    if answer.out.startswith("{"):
        found += _about_document(answer, scene, alive)
        found += [
            f"the document says that port {p['port']} is {'free' if p['free'] else 'held'}"
            for p in _ports(answer)
            if p["free"] != port_free
        ]
    else:
        found += _about_text(answer, scene, alive)
    return found


def _about_code(answer: Answer, alive: set[int]) -> Iterator[str]:
    code = answer.code
    if code in (0, 10) and alive:
        yield f"exit code {code}, but {sorted(alive)} still run"
    if code == 124 and not alive:
        yield "exit code 124, but nothing runs any more"
    if code in (124, 3):
        for pid in alive:
            if not re.search(rf"(?<!\d){pid}(?!\d)", answer.text):
                yield f"{pid} still runs, and is not named"
    if code == 11 and not alive:
        yield "exit code 11, but nothing came back"
    if code not in (*_RANK,):
        yield f"exit code {code} does not exist"


def _ports(answer: Answer) -> list[dict[str, object]]:
    return [p for target in answer.targets for p in cast("list[dict[str, object]]", target["ports"])]


def _about_document(answer: Answer, scene: Scene, alive: set[int]) -> Iterator[str]:
    document = answer.document
    yield from schema_faults(document)
    if document["exit_code"] != answer.code:
        yield f"the document says {document['exit_code']}, the exit code is {answer.code}"
    codes = [OUTCOME_CODES[str(t["outcome"])] for t in answer.targets]
    missing = cast("list[dict[str, object]]", document["missing"])
    codes += [77 if m["code"] == "not-permitted" else 1 for m in missing]
    if (
        not document["missing_ok"]
        and not document["force_ok"]
        and min(codes, key=_RANK.index, default=0) != answer.code
    ):
        yield f"outcomes {codes} do not make exit code {answer.code}"
    reaped = scene.reaped()
    for target in answer.targets:
        yield from _about_target(target, reaped, alive, scene)


def _about_target(target: dict[str, object], reaped: dict[int, int], alive: set[int], scene: Scene) -> Iterator[str]:
    outcome = target["outcome"]
    members = cast("list[dict[str, object]]", target["members"])
    if outcome in ("stopped", "forced") and not target["evidence"]:
        yield f"`{outcome}` without evidence"
    forced = any(m["forced"] for m in members)
    if forced and outcome == "stopped":
        yield "a member was forced, and the outcome is `stopped`"
    for member in members:
        pid = int(str(member["ref"]).partition(":")[0])
        if member["exited"] and pid in alive and not scene.exited(pid):
            yield f"the document says that {pid} has exited, it runs"
        if not member["exited"] and not member["kept"] and outcome in ("stopped", "forced", "already-gone"):
            yield f"`{outcome}`, but member {pid} has not exited"
        if not member["exited"] and pid not in alive and outcome == "running" and not member["kept"]:
            yield f"the document says that {pid} still runs, it does not"
        yield from _about_end(pid, cast("dict[str, object] | None", member["end"]), reaped)


def _about_end(pid: int, end: dict[str, object] | None, reaped: dict[int, int]) -> Iterator[str]:
    if end is None or not end["source"] or pid not in reaped:
        return
    status = reaped[pid]
    told = (end["status"], end["signal"])
    true = (None, status & 0x7F) if status & 0x7F else (status >> 8, 0)
    if told != true:
        yield f"the document says that {pid} ended with (status, signal) {told}, its parent got {true}"


def _about_text(answer: Answer, scene: Scene, alive: set[int]) -> Iterator[str]:
    whole = re.search(r"^(?:stopped|ended) (\d+) of (\d+) in", answer.out, re.MULTILINE)
    if whole and whole[1] == whole[2] and answer.code not in (0, 10, 1):
        yield f"`{whole[0]}`, but the exit code is {answer.code}"
    if answer.code == 10 and "forced" not in answer.out.replace("none forced", ""):
        yield "exit code 10, and the text does not say that force was used"
    for line in re.finditer(r"^still running: (\d+)", answer.out, re.MULTILINE):
        if int(line[1]) not in alive:
            yield f"`{line[0]}`, but it does not run"
    reaped = scene.reaped()
    for line in re.finditer(r" (\d+) \S+ (?:exited, status (\d+)|ended by ([A-Z]+))", answer.out):
        pid = int(line[1])
        if pid in alive and not scene.exited(pid):
            yield f"`{line[0].strip()}`, but it runs"
        if pid in reaped:
            status = reaped[pid]
            true = (status >> 8) if not status & 0x7F else -(status & 0x7F)
            told = int(line[2]) if line[2] else -_SIGNALS[line[3]]
            if told != true:
                yield f"`{line[0].strip()}`, but its parent got {true}"
