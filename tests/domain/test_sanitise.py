"""Promise 17: nothing that others wrote reaches the terminal as a control sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.sanitise import sanitise, sanitise_line

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ünïcode 漢字 ▁▂█", "plain ünïcode 漢字 ▁▂█"),
        ("\x1b[2J\x1b[H", "␛[2J␛[H"),
        ("\x1b]52;c;ZXZpbA==\x07", "␛]52;c;ZXZpbA==\\x07"),
        ("\x1bc", "␛c"),
        ("\x9b31m", "\\x9b31m"),
        ("\x90q\x9c", "\\x90q\\x9c"),
        ("a\rb\x08c\x7f\x00", "a\\x0db\\x08c\\x7f\\x00"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("\u2066x\u2069\u200f", "\\u2066x\\u2069\\u200f"),
        ("lone \ud83d surrogate", "lone \\ud83d surrogate"),
        ("\U000e0041", "\\U000e0041"),
        ("line\u2028separator", "line\\u2028separator"),
    ],
)
def test_control_sequences_are_shown_not_obeyed(text: str, expected: str) -> None:
    assert sanitise(text) == expected


def test_newlines_and_tabs_stay_only_where_they_are_wanted() -> None:
    assert sanitise("a\n\tb\x1b", newlines=True) == "a\n\tb␛"
    assert sanitise("a\n\tb\x1b") == "a  b␛"


@given(ANY_TEXT)
def test_any_text_becomes_printable_and_can_be_encoded(text: str) -> None:
    assert sanitise(text).isprintable()
    assert sanitise(text, newlines=True).replace("\n", "").replace("\t", "").isprintable()
    sanitise(text).encode()


@given(ANY_TEXT)
def test_sanitising_twice_changes_nothing(text: str) -> None:
    assert sanitise(sanitise(text)) == sanitise(text)


@given(ANY_TEXT, st.integers(1, 40))
def test_a_line_keeps_to_its_limit_and_says_when_it_was_cut(text: str, limit: int) -> None:
    line = sanitise_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert line == sanitise(text) if len(sanitise(text)) <= limit else line.endswith("…")
