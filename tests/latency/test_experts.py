"""Promises of mixtures on steps that repeat one token and on text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.experts import of_one_token, of_text
from samullm_tui.latency.model import COEFFICIENTS, DISTINCT_EXPERT, IterationLatency
from samullm_tui.latency.roofline import Shape, roofline

A100 = PRESETS["a100-80g"]


def known(name: str) -> Shape:
    shape = shape_of(name)
    assert shape
    return shape


TEXT = roofline(known("Mixtral-8x7B-v0.1"), A100, 2)
EXPERT_S = TEXT.coefficients[DISTINCT_EXPERT]
DENSE = roofline(known("Llama-2-7b-hf"), A100, 2)


def experts_read(latency: IterationLatency, tokens: int) -> float:
    """What a step of so many decodes takes more than the same without experts, in readings of one expert."""
    without = IterationLatency(latency.coefficients)
    step = (tokens, 0, 0, tokens, 100 * tokens)
    return (latency.seconds(*step) - without.seconds(*step)) / EXPERT_S


@given(st.integers(1, 100_000))
def test_steps_that_repeat_one_token_read_the_experts_of_one(tokens: int) -> None:
    assert experts_read(of_one_token(TEXT), tokens) == pytest.approx(2)


def test_text_reads_ever_more_experts_up_to_all() -> None:
    read = [experts_read(TEXT, tokens) for tokens in (1, 2, 8, 64, 512)]
    assert read[0] == pytest.approx(2)
    assert read == sorted(read)
    assert read[-1] == pytest.approx(8)


def test_a_measured_mixture_takes_as_long_for_one_token_and_the_other_experts_longer_for_many() -> None:
    measured = IterationLatency(
        tuple(0.02 if name == "constant_s" else 1e-5 for name in COEFFICIENTS[:10]) + (0.0,) * 6
    )
    text = of_text(measured, TEXT)
    assert (text.experts, text.experts_per_token) == (8, 2)
    assert text.seconds(1, 0, 0, 1, 50) == pytest.approx(measured.seconds(1, 0, 0, 1, 50))
    longer_s = text.seconds(256, 0, 0, 256, 2560) - measured.seconds(256, 0, 0, 256, 2560)
    assert longer_s == pytest.approx(6 * EXPERT_S)


def test_a_constant_shorter_than_reading_one_tokens_experts_is_not_made_negative() -> None:
    assert of_text(IterationLatency((1e-6,) * len(COEFFICIENTS)), TEXT).coefficients[0] == 0


def test_a_dense_llm_is_the_same_on_both() -> None:
    assert of_one_token(DENSE) == DENSE
    assert of_text(DENSE, DENSE) == DENSE
