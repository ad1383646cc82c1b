"""What a node takes from one record: texts (or token counts) for its template, chain elements, routing."""

from __future__ import annotations

from samullm_tui.domain.application import DataSet, Node, Where
from samullm_tui.domain.errors import Problem
from samullm_tui.workload.problems import SHOWN, Problems, did_you_mean, shown
from samullm_tui.workload.prompt import Template, is_upstream
from samullm_tui.workload.records import Record
from samullm_tui.workload.tokens import TokenCounter

__all__ = ["NodeReader", "reaches", "text_of"]

_LITERAL_CHARACTERS_PER_TOKEN = 4


def reaches(where: Where | None, record: Record) -> bool:
    """Whether routing lets the record through. 1 and 1.0 are equal; 1, true and "1" are not."""
    if where is None:
        return True
    value = record.fields.get(where.field)
    return value == where.equals and isinstance(value, bool) == isinstance(where.equals, bool)


def text_of(value: object) -> str | None:
    """A field as it stands in a prompt; None when it is nothing that can."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


class NodeReader:
    """Reads what one node needs out of the records of its data set, and keeps what is wrong with them."""

    def __init__(
        self, node: Node, template: Template, count_tokens: TokenCounter, data: DataSet, application_file: str
    ) -> None:
        self.node = node
        self.template = template
        self.count_tokens = count_tokens
        self.data = data
        self._file = application_file
        self._problems = Problems(data.file or application_file, limit=SHOWN)
        self._missing: dict[str, list[Record]] = {}

    def problems(self, reached: int) -> tuple[Problem, ...]:
        """Everything wrong so far. A field that none of the `reached` records has is one mistake, of the node."""
        overall: list[Problem] = []
        for name, records in self._missing.items():
            right = did_you_mean(name, records[0].fields)
            if len(records) == reached > 1:
                wrong = f"no record of {self.data.name!r} has a field {name!r}"
                overall.append(Problem(self._file, f"nodes.{self.node.name}", wrong, right))
                continue
            for record in records:
                self._wrong(record, f"no field {name!r}, which node {self.node.name!r} needs", right)
        self._missing.clear()
        return (*overall, *self._problems.all())

    def too_long(self, record: Record, tokens: int, context: int) -> None:
        wrong = f"its prompt for node {self.node.name!r} has about {tokens:,} tokens"
        self._wrong(record, wrong, f"less than the context of {self.node.llm!r}, {context:,} tokens")

    def elements(self, record: Record) -> list[object]:
        """The elements to chain over; none when the record has none or the field is wrong."""
        assert self.node.chain is not None
        value = record.fields.get(self.node.chain)
        if value is None:
            self._lacks(record, self.node.chain)
        elif not isinstance(value, list):
            wrong = f"the field {self.node.chain!r} is not a list"
            self._wrong(record, wrong, "a list of texts: the node chains over it")
        elif self.data.has_texts and any(text_of(element) is None for element in value):
            wrong = f"the list {self.node.chain!r} has elements that are not texts"
            self._wrong(record, wrong, "a list of texts")
        else:
            return value
        return []

    def prompt_tokens(self, record: Record, item: object) -> int:
        """Tokens of the prompt without upstream outputs. `item`: the chain element, if any."""
        if not self.data.has_texts:
            return self._drawn_tokens(record, item)
        values = self._values(record, item)
        if values is None:
            return 0
        text = self.template.render(values)
        if not text and not any(is_upstream(self.node, name) for name in self.template.names - {"item"}):
            self._wrong(record, f"its prompt for node {self.node.name!r} is empty", "a text")
        return self.count_tokens(self.node.llm, text)

    def _values(self, record: Record, item: object) -> dict[str, str] | None:
        """The texts of all placeholders, upstream outputs empty; None when one is missing (which is reported)."""
        values: dict[str, str] = {}
        for name in self.template.names:
            if is_upstream(self.node, name):
                values[name] = (text_of(item) or "") if name == "item" else ""
            elif (text := text_of(record.fields.get(name))) is not None:
                values[name] = text
            elif record.fields.get(name) is None:
                self._lacks(record, name)
            else:
                wrong = f"the field {name!r} is neither text nor number"
                self._wrong(record, wrong, "a text, a number, true or false")
        return values if len(values) == len(self.template.names) else None

    def known_tokens(self, record: Record) -> int:
        """The output tokens that the data tell, else -1."""
        name = self.node.output_tokens
        if name is None:
            return -1
        value = record.fields.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if value is None:
            self._lacks(record, name)
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            self._wrong(record, f"the field {name!r} is {shown(value)}", "a whole number of output tokens")
        else:
            return max(1, value)
        return -1

    def _drawn_tokens(self, record: Record, item: object) -> int:
        """Literal text is estimated, fields are numbers of tokens; a label is literal text."""
        characters, tokens = sum(map(len, self.template.literals)), 0
        for name in self.template.parts[1::2]:
            value = item if name == "item" and self.node.chain is not None else record.fields.get(name)
            if is_upstream(self.node, name) and name != "item":
                continue
            if isinstance(value, int):
                tokens += value
            else:
                characters += len(str(value))
        return tokens - (-characters // _LITERAL_CHARACTERS_PER_TOKEN)

    def _lacks(self, record: Record, name: str) -> None:
        records = self._missing.setdefault(name, [])
        if not records or records[-1] is not record:
            records.append(record)

    def _wrong(self, record: Record, wrong: str, right: str) -> None:
        place = record.place if record.line else f"data.{self.data.name}, {record.place}"
        self._problems.add(place, wrong, right)
