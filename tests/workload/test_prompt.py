"""Promise: a template is data. It puts texts in once, looks into nothing, and refuses everything but plain names."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.workload.prompt import Template, TemplateError, literal

NAMES = st.from_regex(r"[a-zA-Z0-9_]([a-zA-Z0-9_ -]{0,10}[a-zA-Z0-9_])?", fullmatch=True)
TEXTS = st.text(max_size=60)


@given(TEXTS)
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    template = Template.parse(literal(text))
    assert template.names == frozenset()
    assert template.render({}) == text


@given(st.lists(st.tuples(TEXTS, NAMES)), TEXTS)
def test_parsing_finds_every_literal_and_every_name(pieces: list[tuple[str, str]], end: str) -> None:
    source = "".join(literal(text) + "{" + name + "}" for text, name in pieces) + literal(end)
    template = Template.parse(source)
    assert template.literals == (*[text for text, _ in pieces], end)
    assert template.parts[1::2] == tuple(name for _, name in pieces)


@given(st.lists(st.tuples(TEXTS, NAMES), min_size=1), st.data())
def test_rendering_puts_values_in_unread(pieces: list[tuple[str, str]], data: st.DataObject) -> None:
    names = sorted({name for _, name in pieces})
    values = {name: data.draw(st.text(alphabet="{}abc_.!:0", max_size=12)) for name in names}
    source = "".join(literal(text) + "{" + name + "}" for text, name in pieces)
    assert Template.parse(source).render(values) == "".join(text + values[name] for text, name in pieces)


GRAMMAR = re.compile(r"(?:[^{}]|\{\{|\}\}|\{\w(?:[\w -]*\w)?\})*")


@given(st.text(alphabet="{}ab.[]!:_ -\n", max_size=30))
def test_a_text_is_a_template_exactly_when_the_grammar_says_so(text: str) -> None:
    refused = False
    try:
        Template.parse(text)
    except TemplateError:
        refused = True
    assert refused == (GRAMMAR.fullmatch(text) is None)


HOSTILE = [
    "{}", "{ a }", "{a.b}", "{a[0]}", "{a!r}", "{a:>10}", "{a:{b}}", "{__class__.__mro__}", "{a.__init__.__globals__}",
    "{", "}", "a}b", "{a", "a}", "{{}", "{}}", "{a}}", "{a\n}", "{\u202ea}", "{a\x1b[2J}", "{-a}", "{a-}",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_templates_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        Template.parse(text)


def test_braces_pair_from_the_left() -> None:
    assert Template.parse("{{{a}}}").render({"a": "x"}) == "{x}"
    assert Template.parse("{{{a}").render({"a": "x"}) == "{x"
    assert Template.parse('{{"k": {a}}}').render({"a": "1"}) == '{"k": 1}'


def test_a_message_says_where_and_stays_short() -> None:
    with pytest.raises(TemplateError, match=re.escape("on line 3 of the prompt")):
        Template.parse("one\ntwo\n{three.3}")
    with pytest.raises(TemplateError) as caught:
        Template.parse("{" + string.ascii_letters * 10 + "!}")
    assert len(caught.value.args[0]) < 100
