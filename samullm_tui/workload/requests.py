"""All requests of an application as one table, and the prompt of each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samullm_tui.domain.application import Application, Node
from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.workload.layout import NO_CAP, Layout
from samullm_tui.workload.problems import SHOWN, Problems
from samullm_tui.workload.prompt import Template, is_upstream
from samullm_tui.workload.records import Record, all_records
from samullm_tui.workload.tokens import TokenCounter, estimator
from samullm_tui.workload.values import text_of

__all__ = ["NO_CAP", "Workload", "build_requests"]


@dataclass(frozen=True)
class Workload:
    """An application with its records read and its requests counted.

    records        for each data set its records, in their order
    record_index   [n] where the record of each request stands in the records of its node's data set
    step           [n] steps of a chain from 1, else 0
    repetition     [n] from 1 where the node repeats its requests, else 0
    """

    application: Application
    table: RequestTable
    records: Mapping[str, Sequence[Record]]
    record_index: IntArray
    step: IntArray
    repetition: IntArray
    templates: tuple[Template, ...]

    @property
    def requests(self) -> dict[str, int]:
        """How many requests each node has."""
        counts = np.bincount(self.table.node, minlength=len(self.table.node_names))
        return {name: int(count) for name, count in zip(self.table.node_names, counts, strict=True)}

    def request_node(self, index: int) -> Node:
        return self.application.nodes[int(self.table.node[index])]

    def record(self, index: int) -> Record:
        return self.records[self.request_node(index).data][int(self.record_index[index])]

    def prompt(self, index: int, output_of: Callable[[int], str]) -> str:
        """The prompt of request `index`; `output_of` gives the output of each request whose output it takes.

        Several outputs of one source stand with a blank line between. `{previous}` of a first step is empty.
        Of a data set without texts it is empty: such applications run on simulated engines only.
        """
        node, template = self.request_node(index), self.templates[int(self.table.node[index])]
        record = self.record(index)
        if not self._has_texts(node):
            return ""
        taken = self._taken(index, node, output_of)
        values: dict[str, str] = {}
        for name in template.names:
            if name == "item" and node.chain is not None:
                values[name] = text_of(self._item(index, node)) or ""
            elif is_upstream(node, name):
                values[name] = "\n\n".join(taken.get(name, ()))
            else:
                values[name] = text_of(record.fields[name]) or ""
        return template.render(values)

    def sampling(self, index: int) -> dict[str, object]:
        """Sampling parameters of request `index`: the node's, with a seed of its own for each repetition.

        `max_tokens` is always said: left out, vLLM's completions would stop at 16. It caps by the context itself.
        """
        sampling = {"max_tokens": NO_CAP, **self.request_node(index).sampling}
        seed = sampling.get("seed")
        if isinstance(seed, int) and self.repetition[index]:
            sampling["seed"] = seed + int(self.repetition[index]) - 1
        return sampling

    def _has_texts(self, node: Node) -> bool:
        return next(d.has_texts for d in self.application.data if d.name == node.data)

    def _item(self, index: int, node: Node) -> object:
        elements = self.record(index).fields[node.chain or ""]
        return elements[int(self.step[index]) - 1] if isinstance(elements, list) else None

    def _taken(self, index: int, node: Node, output_of: Callable[[int], str]) -> dict[str, list[str]]:
        """The outputs that are part of the prompt, by placeholder."""
        taken: dict[str, list[str]] = {}
        table = self.table
        for k in range(table.parent_start[index], table.parent_start[index + 1]):
            if not table.fed[k]:
                continue
            parent = int(table.parents[k])
            source = table.node_names[table.node[parent]]
            name = "previous" if source == node.name else "output" if node.join == "any" else source
            taken.setdefault(name, []).append(output_of(parent))
        return taken


def build_requests(
    application: Application,
    count_tokens: TokenCounter | None = None,
    contexts: Mapping[str, int] | None = None,
) -> Workload:
    """Reads all records and lays out all requests.

    `count_tokens` counts a text for an LLM (default: `tokens.estimate`). `contexts` gives the context of LLMs whose
    entry in the application has none. Raises ApplicationError with everything wrong in the data, and with every
    prompt that leaves no room in the context.
    """
    found: list[Problem] = []
    records: dict[str, Sequence[Record]] = {}
    for data in application.data:
        problems = Problems(data.file or application.file, limit=SHOWN)
        records[data.name] = all_records(data, problems)
        found += problems.all()
    layout = Layout(application, count_tokens or estimator(application), contexts or {}, records)
    for node in application.nodes:
        found += layout.add_node(node)
    if found:
        raise ApplicationError(found)
    return _workload(layout)


WHOLE = 2**31 - 1
"""`prefix_tokens` of repetitions: their prompts are the same, with all that is fed to them."""


def _prefixes(layout: Layout) -> tuple[IntArray, IntArray]:
    """(number, tokens) of the beginning that each prompt shares with others of its LLM.

    The repetitions of a request share all of it; the other requests of a node what its template begins with, less the
    last token, which may depend on what follows. That prompts of different nodes or data records may begin alike by
    chance is not looked at.
    """
    columns = layout.columns
    node, repetition = _array(columns.node), _array(columns.repetition)
    heads = [
        layout.count_tokens(one.llm, template.literals[0]) - 1 if template.literals[0] else 0
        for one, template in zip(layout.application.nodes, layout.templates, strict=True)
    ]
    head = np.array(heads, np.int64)[node]
    repeated = repetition > 0
    own = len(heads) + np.cumsum(repetition == 1)
    prefix = np.where(repeated, own, np.where(head > 0, node, -1))
    return prefix, np.where(repeated, WHOLE, np.maximum(head, 0))


def _workload(layout: Layout) -> Workload:
    columns = layout.columns
    prefix, prefix_tokens = _prefixes(layout)
    table = RequestTable(
        ids=columns.ids,
        records=columns.records,
        llm_names=tuple(layout.llms),
        node_names=tuple(layout.outputs),
        llm=_array(columns.llm),
        node=_array(columns.node),
        prompt_tokens=_array(columns.prompt_tokens),
        max_tokens=_array(columns.max_tokens),
        known_tokens=_array(columns.known_tokens),
        group=_array(columns.group),
        parent_start=_array(columns.parent_start),
        parents=_array(columns.parents),
        fed=_array(columns.fed),
        prefix=prefix,
        prefix_tokens=prefix_tokens,
    )
    return Workload(
        application=layout.application,
        table=table,
        records=layout.records,
        record_index=_array(columns.record_index),
        step=_array(columns.step),
        repetition=_array(columns.repetition),
        templates=layout.templates,
    )


def _array(column: array[int]) -> IntArray:
    return np.array(column, dtype=np.int64)
