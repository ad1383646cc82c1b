"""Prompt templates: literal text and `{name}` placeholders. Data only: nothing in a template is evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from samullm_tui.domain.application import Node

__all__ = ["Template", "TemplateError", "is_upstream", "literal"]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"\w(?:[\w \-]*\w)?")


class TemplateError(ValueError):
    """A text is not a template. `args[0]` says what is wrong, `right` what would be right."""

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(wrong)
        self.right = right


@dataclass(frozen=True, slots=True)
class Template:
    """Alternating texts: parts[0], parts[2], … are literal, parts[1], parts[3], … are names."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """`{name}` is a placeholder, `{{` and `}}` stand for one brace. Raises TemplateError."""
        parts, literal_text, end = [], "", 0
        for token in _TOKEN.finditer(text):
            literal_text += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                literal_text += token[0][0]
                continue
            name = token[1]
            if name is None or not _NAME.fullmatch(name):
                raise _mistake(text, token.start(), name)
            parts += [literal_text, name]
            literal_text = ""
        return cls((*parts, literal_text + text[end:]))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.parts[1::2])

    @property
    def literals(self) -> tuple[str, ...]:
        return self.parts[0::2]

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder replaced, once: values are not looked into. Raises KeyError."""
        return "".join([values[part] if k % 2 else part for k, part in enumerate(self.parts)])


def literal(text: str) -> str:
    """`text` as a template that renders to it."""
    return text.replace("{", "{{").replace("}", "}}")


def is_upstream(node: Node, name: str) -> bool:
    """Whether `{name}` in the node's prompt is a chain element or an output, and not a field of the record."""
    if node.chain is not None and name in ("item", "previous"):
        return True
    return name == "output" if node.join == "any" else name in node.sources


def _mistake(text: str, at: int, name: str | None) -> TemplateError:
    line = text.count("\n", 0, at) + 1
    where = f"on line {line} of the prompt" if "\n" in text else f"at character {at + 1}"
    if name is None:
        return TemplateError(
            f"a single {text[at]!r} {where}", "a brace that is meant as text is written twice: {{ or }}"
        )
    found = "{" + (name if len(name) <= 30 else name[:29] + "…") + "}"
    right = "only plain names such as {text}: no dots, indexes, formats or conversions; a brace meant as text is {{ or }}"
    return TemplateError(f"{found!r} {where} is not a placeholder", right)
