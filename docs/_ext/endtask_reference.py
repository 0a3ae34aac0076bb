"""Directives that write the reference from the program itself, so that it cannot disagree with it.

`endtask-verbs` lists every verb with its options from the table that the command line parser reads, `endtask-schemas` every shipped JSON Schema.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from endtask.cli.options import GROUPS, VERBS, Option, Verb, options_of
from endtask.cli.slash_help import sections

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# Where a bare name in an annotation is documented.
HOMES = ("endtask.model", "endtask.errors", "endtask")
RECEIVER_HOMES = ("endtask_receiver", "endtask_receiver.testing", "endtask_receiver.workers")
# Names in annotations of the receiver that are described nowhere: of other libraries, or told in words beside them.
UNLINKED = frozenset(("BaseContext", "Misc", "Shield", "T"))
# Closed sets of words: their values are written out where the field is described.
SEVERAL_FIELDS = re.compile(r":ivar (\w+(?:, \w+)+): (.*)")
ALIASES = frozenset(
    ("Outcome", "Answer", "Kind", "Strength", "ScopeKind", "ReceiptStatus", "ReceiverState", "SaidKind", "What")
)


def markup(text: str) -> str:
    """Return text of the command line's help as reStructuredText: single backticks become literals, stars outside them stay stars."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is only a character
        return text.replace("`", "\\`").replace("*", "\\*")
    return "``".join(part if number % 2 else part.replace("*", "\\*") for number, part in enumerate(parts))


def underlined(text: str, mark: str) -> list[str]:
    """Return a heading."""
    return [text, mark * len(text), ""]


def option_lines(option: Option) -> list[str]:
    """Return the description of one option."""
    value = f" {option.value}" if option.value else ""
    signature = ", ".join(f"{flag}{value}" for flag in option.flags)
    notes = " May be given several times." if option.many and "repeated" not in option.text else ""
    text = markup(option.text)
    return [f".. option:: {signature}", "", f"   {text[0].upper()}{text[1:]}.{notes}", ""]


def verb_lines(verb: Verb) -> list[str]:
    """Return the section of one verb."""
    lines = [f".. program:: endtask {verb.name}", "", f".. _verb-{verb.name}:", "", *underlined(verb.name, "-")]
    lines += [".. code-block:: text", "", f"   {verb.usage}", ""]
    lines += [f"{markup(verb.summary[0].upper() + verb.summary[1:])}.", ""]
    for paragraph in verb.about.splitlines():
        lines += [markup(paragraph), ""]
    if verb.choices:
        lines += ["NAME is one of " + ", ".join(f"``{c}``" for c in verb.choices) + ".", ""]
    if verb.examples:
        lines += [".. code-block:: console", "", *(f"   $ {e}" for e in verb.examples), ""]
    if verb.windows_examples:
        lines += ["On Windows:", "", ".. code-block:: doscon", ""]
        lines += [*(f"   C:\\> {e}" for e in verb.windows_examples), ""]
    for heading, rows in sections(verb.name) if verb.words == "slashes" else ():
        lines += [f".. rubric:: {heading[0].upper()}{heading[1:]}".replace("`", ""), ""]
        for left, text in rows:
            lines += [f"``{left}``", f"   {markup(text)}", ""]
    for group in GROUPS:
        options = [o for o in options_of(verb.name) if o.group == group]
        if options:
            lines += [f".. rubric:: {group[0].upper()}{group[1:]}", ""]
            for option in options:
                lines += option_lines(option)
    return lines


class _Generated(SphinxDirective):
    """A directive whose content is made by the program."""

    def lines(self) -> list[str]:
        """Return the content as reStructuredText."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the content in place."""
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, StringList(self.lines(), source="generated"), node)
        return node.children


class Verbs(_Generated):
    """`endtask-verbs`: the command line."""

    def lines(self) -> list[str]:
        """Return one section for each verb."""
        return [line for verb in VERBS for line in verb_lines(verb)]


class Schemas(_Generated):
    """`endtask-schemas`: the JSON documents."""

    names: ClassVar[tuple[str, ...]] = ("report", "look", "plan", "why", "event")

    def lines(self) -> list[str]:
        """Return one section for each schema, with its fields."""
        found = sorted(
            (f for f in files("endtask").joinpath("schemas").iterdir() if f.name.endswith(".json")),
            key=lambda f: f.name,
        )
        return [line for file in found for line in schema_lines(file.name, json.loads(file.read_text("utf-8")))]


def schema_lines(name: str, schema: dict[str, Any]) -> list[str]:
    """Return the section of one schema: what it is and the fields of the document."""
    lines = underlined(name, "-")
    lines += [markup(schema.get("description") or schema.get("title") or ""), ""]
    for field, rule in schema.get("properties", {}).items():
        kind = rule.get("type") or rule.get("$ref", "").rsplit("/", 1)[-1] or "value"
        words = " or ".join(kind) if isinstance(kind, list) else kind
        lines += [f"``{field}`` ({words})", f"   {markup(rule.get('description', '')) or words}", ""]
    return lines


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement) -> nodes.Node | None:
    """Resolve a bare name in an annotation, such as `Report`, to the module that documents it.

    Annotations name types as the source does, without their module, because types are imported for the type checker only.
    """
    if node.get("refdomain") != "py":
        return None
    name = str(node.get("reftarget", "")).rsplit(".", 1)[-1]
    if name in ALIASES or name in UNLINKED:
        return contnode
    domain = env.get_domain("py")
    receiver = str(node.get("py:module") or "").startswith("endtask_receiver")
    for home in RECEIVER_HOMES if receiver else HOMES:
        full = f"{home}.{name}"
        if full in domain.data["objects"]:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, contnode)
    return None


class Docstrings:
    """Mends what napoleon, which reads the sections of docstrings, would misread."""

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}

    def before(self, app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
        """Keep the text of a property: its summary, "Whether it holds: in words", is not a type before a colon."""
        del app, item, options
        if what in {"property", "attribute"}:
            self.kept[name] = list(lines)

    def after(self, app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
        """Put it back, join a "type" of a result with its text, and give each of several fields with one description a line of its own."""
        del app, what, item, options
        if name in self.kept:
            lines[:] = self.kept.pop(name)
        # Types stand in the signatures only, so what was read as one is the beginning of the sentence.
        types = [line.removeprefix(":rtype: ") for line in lines if line.startswith(":rtype: ")]
        if types:
            lines[:] = [
                line.replace(":returns: ", f":returns: {types[0]}: ")
                for line in lines
                if not line.startswith(":rtype: ")
            ]
        several = [SEVERAL_FIELDS.match(line) for line in lines]
        for number in reversed(range(len(lines))):
            match = several[number]
            if match:
                lines[number : number + 1] = [f":ivar {field}: {match[2]}" for field in match[1].split(", ")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("endtask-verbs", Verbs)
    app.add_directive("endtask-schemas", Schemas)
    app.connect("missing-reference", resolve)
    docstrings = Docstrings()  # napoleon stands between the two, at 500
    app.connect("autodoc-process-docstring", docstrings.before, priority=400)
    app.connect("autodoc-process-docstring", docstrings.after, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
