"""What the keys of an application file mean together: names that must exist, the graph, templates, fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samullm_tui.workload.graph import data_of_nodes, sources_first
from samullm_tui.workload.problems import Problems, did_you_mean, shown
from samullm_tui.workload.prompt import Template, TemplateError
from samullm_tui.workload.schema import DataModel, LLMModel, NodeModel
from samullm_tui.workload.synthetic import field_kind

__all__ = ["NodePart", "Parts", "check_parts"]

RESERVED = ("item", "previous", "output")
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class NodePart:
    """A node as written. `bad` are the keys already reported; `data` and `sources` are what its `from` names."""

    model: NodeModel
    bad: frozenset[str]
    data: tuple[str, ...]
    sources: tuple[str, ...]

    def template(self) -> Template | None:
        if "prompt" in self.bad:
            return None
        try:
            return Template.parse(self.model.prompt)
        except TemplateError:
            return None


@dataclass
class Parts:
    """Everything the file names, right or not, and what follows from it (filled by check_parts)."""

    llms: dict[str, tuple[LLMModel, frozenset[str]]]
    data: dict[str, tuple[DataModel, frozenset[str]]]
    nodes: dict[str, NodePart]
    order: list[str] = field(default_factory=list)
    data_of: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def fields_of(self, node: str) -> Mapping[str, Any] | None:
        """The fields of the node's records and how each is drawn; None when only the data can tell."""
        names = self.data_of.get(node, ())
        model = self.data[names[0]][0] if len(names) == 1 else None
        return None if model is None or model.synthetic is None else drawn_fields(model)


def drawn_fields(model: DataModel) -> dict[str, Any]:
    """The fields of a synthetic data set as plain data."""
    assert model.synthetic is not None
    fields: dict[str, Any] = model.synthetic.model_dump(by_alias=True, exclude_none=True)["fields"]
    return fields


def check_parts(parts: Parts, problems: Problems) -> None:
    """Reports everything that is wrong between the parts, and fills in `order` and `data_of`."""
    _check_names(parts, problems)
    for name, (llm, bad) in parts.llms.items():
        _check_remote_code(llm, f"llms.{name}", bad, problems)
    for name, part in parts.nodes.items():
        _check_references(name, part, parts, problems)
    _check_graph(parts, problems)
    for name, part in parts.nodes.items():
        _check_node(name, part, parts, problems)
    _check_unused(parts, problems)


def _check_names(parts: Parts, problems: Problems) -> None:
    for kind, names in (("llms", parts.llms), ("data", parts.data)):
        for name in names:
            if not _NAME.fullmatch(name):
                problems.add(
                    f"{kind}.{name}",
                    f"{shown(name)} is not a name",
                    "letters, digits, '.', '_' and '-', at most 64",
                )
    for name in parts.nodes:
        place = f"nodes.{name}"
        if not _NODE_NAME.fullmatch(name):
            problems.add(
                place, f"{shown(name)} is not a name", "letters, digits, '_' and '-', at most 64 (no dots)"
            )
        if name in RESERVED:
            problems.add(place, f"{name!r} means something else in prompts", "another name")
        if name in parts.data:
            problems.add(place, f"a data set is called {name!r} too", "different names")


def _check_remote_code(llm: LLMModel, place: str, bad: frozenset[str], problems: Problems) -> None:
    if not llm.trust_remote_code or bad & {"revision", "trust_remote_code"}:
        return
    if llm.revision is None or not _COMMIT.fullmatch(llm.revision):
        wrong = "trust_remote_code runs the checkpoint's own code" + (
            "" if llm.revision else " and no revision is pinned"
        )
        problems.add(
            f"{place}.trust_remote_code", wrong, "revision = the 40 hexadecimal digits of a commit you trust"
        )


def _check_references(name: str, part: NodePart, parts: Parts, problems: Problems) -> None:
    place, node = f"nodes.{name}", part.model
    if "llm" not in part.bad and node.llm not in parts.llms:
        problems.add(f"{place}.llm", f"unknown LLM {shown(node.llm)}", did_you_mean(node.llm, parts.llms))
    if "from" in part.bad:
        return
    for source in node.takes:
        if source not in parts.data and source not in parts.nodes:
            right = did_you_mean(source, [*parts.data, *parts.nodes])
            problems.add(f"{place}.from", f"no data set or node {shown(source)}", right)
    for source in sorted({s for s in node.takes if node.takes.count(s) > 1}):
        problems.add(f"{place}.from", f"{shown(source)} stands there twice", "each once")
    if node.join == "any" and "join" not in part.bad:
        _check_any(place, part, problems)


def _check_any(place: str, part: NodePart, problems: Problems) -> None:
    if not part.sources:
        problems.add(
            f"{place}.join", 'join = "any" without a node in from', "nodes whose outputs make a request each"
        )
    if part.data:
        right = "leave the data set out: the fields of the record are there anyway"
        problems.add(f"{place}.from", 'join = "any" takes outputs of nodes only', right)
    if part.model.chain is not None:
        problems.add(f"{place}.chain", 'a chain with join = "any"', "a chain takes all its sources")


def _check_graph(parts: Parts, problems: Problems) -> None:
    sources = {name: part.sources for name, part in parts.nodes.items()}
    parts.order, cycles = sources_first(sources)
    for cycle in cycles:
        path = " → ".join(cycle)
        problems.add(
            f"nodes.{cycle[-1]}.from",
            f"a cycle: {path}",
            "a node may not feed itself, also not through others",
        )
    direct = {name: part.data for name, part in parts.nodes.items()}
    parts.data_of = data_of_nodes(parts.order, sources, direct)
    for name, found in parts.data_of.items():
        if len(found) > 1:
            wrong = f"its records come from {' and '.join(map(repr, found))}"
            problems.add(f"nodes.{name}.from", wrong, "sources that all go back to one data set")


def _check_node(name: str, part: NodePart, parts: Parts, problems: Problems) -> None:
    place, node = f"nodes.{name}", part.model
    if node.chain is not None and node.n > 1 and not part.bad & {"chain", "n"}:
        problems.add(f"{place}.n", "a chain cannot be repeated", "n = 1, or a node without chain")
    fields = parts.fields_of(name)
    for key, asked, kind in _asked_fields(node, part.bad):
        if fields is not None:
            _check_field(f"{place}.{key}", asked, kind, fields, problems)
    if node.where and fields and field_kind(fields.get(node.where.field, {})) == "label":
        _check_label(f"{place}.where.equals", node.where.equals, fields[node.where.field]["choice"], problems)
    if "prompt" not in part.bad:
        _check_prompt(name, part, parts, problems)


def _asked_fields(node: NodeModel, bad: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """The fields that a node asks for by name: key, field, and the kind that the field must have."""
    if node.where is not None and "where" not in bad:
        yield "where.field", node.where.field, "label"
    if node.chain is not None and "chain" not in bad:
        yield "chain", node.chain, "list"
    if node.output_tokens is not None and "output_tokens" not in bad:
        yield "output_tokens", node.output_tokens, "tokens"


def _check_field(place: str, name: str, kind: str, fields: Mapping[str, Any], problems: Problems) -> None:
    if name not in fields:
        problems.add(place, f"the records have no field {shown(name)}", did_you_mean(name, fields))
    elif field_kind(fields[name]) != kind:
        needed = {"label": "a label (choice)", "list": "a list", "tokens": "a number of tokens"}[kind]
        problems.add(place, f"the field {shown(name)} is not {needed}", "")


def _check_label(place: str, equals: object, labels: Mapping[str, float], problems: Problems) -> None:
    if equals not in labels:
        problems.add(place, f"no record can have {shown(equals)}", did_you_mean(str(equals), labels))


def _check_prompt(name: str, part: NodePart, parts: Parts, problems: Problems) -> None:
    place, node = f"nodes.{name}.prompt", part.model
    try:
        template = Template.parse(node.prompt)
    except TemplateError as error:
        problems.add(place, str(error), error.right)
        return
    fields = parts.fields_of(name)
    available = [*part.sources] if node.join == "all" else ["output"]
    available += ["item", "previous"] if node.chain is not None else []
    for wanted in sorted(template.names - set(available)):
        if wanted == node.chain:
            problems.add(place, f"{{{wanted}}} is the whole list", "{item} is the element of the step")
        elif wanted in part.sources:
            problems.add(
                place, f'{{{wanted}}} with join = "any"', "{output} is the output that the request takes"
            )
        elif wanted in parts.nodes:
            problems.add(place, f"{{{wanted}}} is a node that is not in from", f"add {wanted!r} to from")
        elif fields is not None and wanted not in fields:
            right = did_you_mean(wanted, [*available, *fields])
            problems.add(place, f"nothing is called {{{wanted}}} here", right)
        elif fields is not None and field_kind(fields[wanted]) == "list":
            problems.add(place, f"{{{wanted}}} is a list", "chain over it, and use {item}")


def _check_unused(parts: Parts, problems: Problems) -> None:
    """Only when every reference is right: a misspelt name has been said already."""
    used = {part.model.llm for part in parts.nodes.values()}
    taken = {name for part in parts.nodes.values() for name in part.model.takes}
    if used <= parts.llms.keys():
        for name in [name for name in parts.llms if name not in used]:
            problems.add(f"llms.{name}", "no node uses this LLM", "a node with this LLM, or leave it out")
    if taken <= parts.data.keys() | parts.nodes.keys():
        for name in [name for name in parts.data if name not in taken]:
            problems.add(
                f"data.{name}", "no node takes this data set", "a node with it in from, or leave it out"
            )
