"""Lays out the requests of an application, node by node, in columns of plain numbers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from samullm_tui.domain.application import LLM, Application, Node
from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.workload.names import Names, Ranges
from samullm_tui.workload.problems import did_you_mean, shown
from samullm_tui.workload.prompt import Template
from samullm_tui.workload.records import Record
from samullm_tui.workload.tokens import TINY_CONTEXT, TokenCounter
from samullm_tui.workload.values import NodeReader, reaches

__all__ = ["MAX_REQUESTS", "NO_CAP", "Columns", "Layout"]

MAX_REQUESTS = 20_000_000
NO_CAP = 2**31 - 1
"""`max_tokens` of a node that sets none: only the context ends its outputs."""


def _integers() -> array[int]:
    return array("q")


@dataclass
class Columns:
    """The table while it grows: 8 bytes a number, and the letters of the names."""

    ids: Names = field(default_factory=Names)
    records: Names = field(default_factory=Names)
    llm: array[int] = field(default_factory=_integers)
    node: array[int] = field(default_factory=_integers)
    prompt_tokens: array[int] = field(default_factory=_integers)
    max_tokens: array[int] = field(default_factory=_integers)
    known_tokens: array[int] = field(default_factory=_integers)
    group: array[int] = field(default_factory=_integers)
    parent_start: array[int] = field(default_factory=lambda: array("q", [0]))
    parents: array[int] = field(default_factory=_integers)
    fed: array[int] = field(default_factory=_integers)
    record_index: array[int] = field(default_factory=_integers)
    step: array[int] = field(default_factory=_integers)
    repetition: array[int] = field(default_factory=_integers)


Source = tuple[range, int]
"""The requests whose outputs are taken, and whether they are part of the prompt."""


class Layout:
    """Lays out requests node by node. `outputs[node][record]` are the requests whose outputs consumers take."""

    def __init__(
        self,
        application: Application,
        count_tokens: TokenCounter,
        contexts: Mapping[str, int],
        records: Mapping[str, Sequence[Record]],
    ) -> None:
        self.application = application
        self.count_tokens = count_tokens
        self.contexts = contexts
        self.records = records
        self.data = {data.name: data for data in application.data}
        self.llms = {llm.name: k for k, llm in enumerate(application.llms)}
        self.templates = tuple(Template.parse(node.prompt) for node in application.nodes)
        self.columns = Columns()
        self.outputs: dict[str, Ranges] = {}
        self.groups = 0

    def add_node(self, node: Node) -> tuple[Problem, ...]:
        """Lays out the node's requests. Returns what is wrong with the records it takes."""
        number, data = len(self.outputs), self.data[node.data]
        reader = NodeReader(node, self.templates[number], self.count_tokens, data, self.application.file)
        context = self._context(self.application.llms[self.llms[node.llm]])
        outputs = Ranges()
        self.outputs[node.name] = outputs
        start, reached = len(self.columns.ids), 0
        for index, record in enumerate(self.records[node.data]):
            if not reaches(node.where, record):
                continue
            reached += 1
            first = len(self.columns.ids)
            longest = self._add_record(reader, index, record)
            stop = len(self.columns.ids)
            if stop > first:
                outputs.add(index, range(stop - 1 if node.chain is not None else first, stop))
            if stop > MAX_REQUESTS:
                wrong = f"more than {MAX_REQUESTS:,} requests in all"
                raise ApplicationError(Problem(self.application.file, f"nodes.{node.name}", wrong))
            if context is not None and longest >= context:
                reader.too_long(record, longest, context)
        self._fill(node, number, len(self.columns.ids) - start)
        return (*reader.problems(reached), *self._unreached(node))

    def _add_record(self, reader: NodeReader, index: int, record: Record) -> int:
        """The requests of one record. Returns the tokens of the longest prompt."""
        node = reader.node
        taken = [self.outputs[source].get(index) for source in node.sources]
        if node.join == "any":
            fed = int("output" in reader.template.names)
            units = [(f"@{s}", (t, fed)) for s, t in zip(node.sources, taken, strict=True) if t is not None]
            return self._add_units(reader, index, record, [(name, (source,)) for name, source in units])
        sources = [
            (t, int(s in reader.template.names))
            for s, t in zip(node.sources, taken, strict=True)
            if t is not None
        ]
        if len(sources) < len(node.sources):
            return 0
        if node.chain is not None:
            return self._add_chain(reader, index, record, sources)
        return self._add_units(reader, index, record, [("", tuple(sources))])

    def _add_units(
        self, reader: NodeReader, index: int, record: Record, units: Sequence[tuple[str, tuple[Source, ...]]]
    ) -> int:
        if not units:
            return 0
        n = reader.node.n
        tokens, known = reader.prompt_tokens(record, None), reader.known_tokens(record)
        for suffix, sources in units:
            for k in range(1, n + 1):
                name = f"{record.id}{suffix}#{k}" if n > 1 else record.id + suffix
                self._add(name, record.id, index, (tokens, known), sources, repetition=k if n > 1 else 0)
        return tokens

    def _add_chain(self, reader: NodeReader, index: int, record: Record, sources: Sequence[Source]) -> int:
        """Step 1 waits for all sources, a later one for the step before and the sources that it shows."""
        longest, known = 0, reader.known_tokens(record)
        fed = int("previous" in reader.template.names)
        shown_sources = tuple(source for source in sources if source[1])
        elements = reader.elements(record)
        for step, item in enumerate(elements, start=1):
            tokens = reader.prompt_tokens(record, item)
            last = len(self.columns.ids)
            takes = tuple(sources) if step == 1 else ((range(last - 1, last), fed), *shown_sources)
            self._add(
                f"{record.id}/{step}", record.id, index, (tokens, known), takes, step=step, group=self.groups
            )
            longest = max(longest, tokens)
        self.groups += bool(elements)
        return longest

    def _add(
        self,
        name: str,
        record: str,
        index: int,
        tokens: tuple[int, int],
        sources: Sequence[Source],
        *,
        step: int = 0,
        repetition: int = 0,
        group: int = -1,
    ) -> None:
        columns = self.columns
        columns.ids.append(name)
        columns.records.append(record)
        columns.record_index.append(index)
        columns.prompt_tokens.append(tokens[0])
        columns.known_tokens.append(tokens[1])
        columns.group.append(group)
        columns.step.append(step)
        columns.repetition.append(repetition)
        for parents, fed in sources:
            columns.parents.extend(parents)
            columns.fed.extend([fed] * len(parents))
        columns.parent_start.append(len(columns.parents))

    def _fill(self, node: Node, number: int, count: int) -> None:
        """The columns that are the same for all requests of a node."""
        cap = NO_CAP if node.max_tokens is None else node.max_tokens
        columns = self.columns
        for column, value in (
            (columns.node, number),
            (columns.llm, self.llms[node.llm]),
            (columns.max_tokens, cap),
        ):
            column.extend(array("q", [value]) * count)

    def _context(self, llm: LLM) -> int | None:
        if llm.context is not None:
            return llm.context
        return TINY_CONTEXT if llm.checkpoint.startswith("tiny:") else self.contexts.get(llm.name)

    def _unreached(self, node: Node) -> tuple[Problem, ...]:
        """A route that no record takes is a mistake."""
        records, where = self.records[node.data], node.where
        if where is None or not records or any(reaches(where, record) for record in records):
            return ()
        present = [record.fields[where.field] for record in records if where.field in record.fields]
        if not present:
            wrong, right = (
                f"no record has a field {where.field!r}",
                did_you_mean(where.field, records[0].fields),
            )
        else:
            wrong = f"no record has {where.field!r} equal to {shown(where.equals)}"
            values = {value for value in present if isinstance(value, str) and len(value) <= 40}
            right = (
                did_you_mean(str(where.equals), values) if len(values) <= 20 else "a value that the data have"
            )
        return (Problem(self.application.file, f"nodes.{node.name}.where", wrong, right),)
