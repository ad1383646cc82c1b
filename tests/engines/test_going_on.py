"""Where an answer can be cut so that another engine goes on with it, and how it is asked for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from samullm_tui.engines.going_on import can_go_on, find_seam, joined, less
from samullm_tui.engines.protocol import Begun, Completion

SPECIAL = 256
"""Tokens are bytes, and one more that a text does not show."""


def decode(token_ids: Sequence[int], *, skip: bool) -> str:
    shown = b"".join(bytes([i]) if i < SPECIAL else b"" if skip else b"<end>" for i in token_ids)
    return shown.decode(errors="replace")


async def detokenize(token_ids: Sequence[int]) -> str:
    return decode(token_ids, skip=False)


def streamed(prompt: Sequence[int], token_ids: Sequence[int]) -> str:
    """What vLLM makes of them: it holds back what may still become a character (`tokenizers`, DecodeStream). A prompt
    that ends within one leaves it without a beginning: it gives the prompt as well.
    """
    before, text = list(prompt), ""
    head = decode(before, skip=True)
    if head.endswith("\ufffd"):
        head = ""
    for one in token_ids:
        before.append(one)
        whole = decode(before, skip=True)
        if len(whole) > len(head) and not whole.endswith("\ufffd"):
            text, head = text + whole[len(head) :], whole
    return text


def cut_and_joined(prompt: str, answer: Sequence[int], at: int, stop: list[str]) -> tuple[int, str]:
    """Tokens kept, and the text of an answer whose engine was stopped after `at` tokens."""
    ids, prompt_ids = list(answer[:at]), list(prompt.encode())
    text = streamed(prompt_ids, ids)
    begun = Begun(output_tokens=at, prompt_ids=prompt_ids, token_ids=ids, text=text)
    kept, before = asyncio.run(find_seam(begun, {"stop": stop}, {SPECIAL}, detokenize))
    assert not any(before.endswith(one[:end]) for one in stop for end in range(1, len(one)))
    return kept, before + streamed([*prompt_ids, *ids[:kept]], answer[kept:])


@given(st.text(min_size=1), st.text(min_size=1, max_size=30), st.data())
@example("p", "\U0001f600é", None)
def test_a_text_of_two_pieces_is_the_text_of_one_wherever_it_is_cut(
    prompt: str, answer: str, data: st.DataObject | None
) -> None:
    prompt, answer = prompt.replace("\ufffd", ""), answer.replace("\ufffd", "")
    ids = list(answer.encode())
    for place in data.draw(st.lists(st.integers(0, len(ids)), max_size=3)) if data else ():
        ids.insert(place, SPECIAL)
    for at in range(1, len(ids) + 1):
        kept, text = cut_and_joined(prompt, ids, at, [])
        assert text == streamed(list(prompt.encode()), ids)
        assert kept >= at - 3 - ids.count(SPECIAL), "no more is lost than the bytes of one character"


JUNK = [0x80, 0xC3, 0xE2, ord("a"), ord("b"), SPECIAL]


@given(st.lists(st.sampled_from(JUNK), min_size=1, max_size=20), st.sampled_from([[], ["ax"], ["abb", "ba"]]))
@example([0x80, ord("a"), ord("b")], ["abb"])
def test_bytes_that_are_no_characters_are_joined_rightly_too(ids: list[int], stop: list[str]) -> None:
    for at in range(1, len(ids) + 1):
        assert cut_and_joined("so", ids, at, stop)[1] == streamed(list(b"so"), ids)


@given(st.text("ab.", min_size=1, max_size=30), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_no_stop_string_can_stand_across_the_seam(answer: str, stop: list[str]) -> None:
    for at in range(1, len(answer) + 1):
        cut_and_joined("p", list(answer.encode()), at, stop)


def test_a_text_that_is_not_that_of_the_tokens_is_not_gone_on_with() -> None:
    """An engine that keeps the reasoning apart, say."""
    begun = Begun(output_tokens=5, prompt_ids=(65,), token_ids=tuple(b"hello"), text="other")
    assert asyncio.run(find_seam(begun, {}, set(), detokenize)) == (0, "")


@pytest.mark.parametrize(
    ("sampling", "can"),
    [
        ({"temperature": 1.0, "stop": ["x"], "repetition_penalty": 1.2, "frequency_penalty": 0.0}, True),
        ({"presence_penalty": 0.1}, False),
        ({"thinking_token_budget": 0}, False),
        ({"structured_outputs": {"json": {}}}, False),
    ],
)
def test_what_depends_on_the_tokens_before_begins_anew(sampling: dict[str, object], can: bool) -> None:
    assert can_go_on(sampling) is can


def test_the_rest_has_what_is_left_of_the_limits() -> None:
    assert less({"min_tokens": 5}, 100, 30) == {"min_tokens": 0, "max_tokens": 70}
    assert less({"min_tokens": 50, "top_p": 0.5, "seed": 7}, 100, 30) == {
        "min_tokens": 20,
        "max_tokens": 70,
        "top_p": 0.5,
    }


def test_the_whole_counts_its_tokens_once() -> None:
    begun = Begun(output_tokens=3, pieces=2, prompt_ids=(1, 2), token_ids=(7, 8, 9), text="abc")
    rest = Completion(text="d", token_ids=(10, 11), finish_reason="stop", prompt_tokens=4, output_tokens=2)
    assert joined(begun, 2, "ab", rest) == Completion(
        text="abd", token_ids=(7, 8, 10, 11), finish_reason="stop", prompt_tokens=2, output_tokens=4, pieces=3
    )
