"""Promises of the iteration model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.latency.fit import predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import (
    COEFFICIENTS,
    TOKEN_BREAKS,
    IterationLatency,
    iteration_s,
    typical,
)

seconds = st.floats(0, 1e-2, allow_subnormal=False)
latencies = st.builds(
    lambda values, experts: IterationLatency(tuple(values), *experts),
    st.lists(seconds, min_size=len(COEFFICIENTS), max_size=len(COEFFICIENTS)),
    st.sampled_from([(0, 0), (8, 2), (128, 8)]),
)
counts = st.integers(0, 5000)
contexts = st.integers(0, 10**6)
steps = st.tuples(counts, counts, contexts, counts, contexts)


@given(latencies, steps, st.integers(0, 4), st.integers(1, 1000))
def test_more_of_anything_never_takes_less_time(
    latency: IterationLatency, step: tuple[int, ...], which: int, more: int
) -> None:
    """A further decoding sequence is a further sequence, too."""
    grows = {which, 0} if which == 3 else {which}
    larger = tuple(value + more * (place in grows) for place, value in enumerate(step))
    assert latency.seconds(*larger) >= latency.seconds(*step) * (1 - 1e-12)


@given(latencies, steps, st.integers(1, 1000))
def test_equal_additions_of_decode_context_take_equal_time(
    latency: IterationLatency, step: tuple[int, ...], k: int
) -> None:
    *rest, context = step
    t0, t1, t2 = (latency.seconds(*rest, context + i * k) for i in range(3))
    assert t2 - t1 == pytest.approx(t1 - t0, rel=1e-6, abs=1e-9)


@given(latencies, steps)
def test_the_vector_says_everything(latency: IterationLatency, step: tuple[int, ...]) -> None:
    vector = latency.vector()
    assert vector.dtype == np.float64
    again = IterationLatency(tuple(vector[:-2].tolist()), int(vector[-2]), int(vector[-1]))
    assert again == latency
    assert iteration_s(vector, *step) == latency.seconds(*step)


@given(latencies, steps)
def test_the_arrays_that_are_fitted_agree_with_the_compiled_step(
    latency: IterationLatency, step: tuple[int, ...]
) -> None:
    rows = Iterations(*(np.array([float(value)]) for value in (*step, 1)))
    assert predicted_s(latency, rows)[0] == pytest.approx(latency.seconds(*step), rel=1e-9, abs=1e-12)


def test_the_formula_by_hand() -> None:
    values = dict.fromkeys(COEFFICIENTS, 0.0)
    values |= {"constant_s": 1.0, "per_sequence_s": 0.5, "per_token_s": 0.25, "per_token_above_64_s": 2.0}
    values |= {"per_prefill_context_s": 0.125, "per_decode_context_s": 0.0625, "per_distinct_expert_s": 3.0}
    values |= {"per_further_tile_s": 10.0, "prefill_step_s": 20.0, "per_prefill_sequence_s": 40.0}
    values |= {"stall_per_squared_sequence_s": 100.0}
    latency = IterationLatency(tuple(values.values()), 4, 2)
    assert latency.seconds(3, 0, 0, 1, 16) == pytest.approx(1 + 1.5 + 0.25 + 1 + 3 * 2 + 900)
    assert latency.seconds(3, 64, 8, 2, 0) == pytest.approx(
        1 + 1.5 + 66 * 0.25 + 2 * 2 + 1 + 3 * 4 * (1 - 0.5**66) + 20 + 40 + 900
    )
    assert latency.seconds(2, 129, 0, 0, 0) == pytest.approx(
        latency.seconds(2, 128, 0, 0, 0) + 2.25 + 10 + 12 * 0.5**128
    )
    assert typical(latency).seconds(3, 0, 0, 1, 16) == pytest.approx(latency.seconds(3, 0, 0, 1, 16) - 900)


def test_too_few_coefficients_are_refused_before_they_are_computed_with() -> None:
    with pytest.raises(ValueError, match="3 coefficients"):
        IterationLatency((0.1, 0.2, 0.3)).vector()


def test_the_cost_of_experts_saturates_at_all_of_them() -> None:
    values = dict.fromkeys(COEFFICIENTS, 0.0) | {"per_distinct_expert_s": 1.0}
    latency = IterationLatency(tuple(values.values()), 8, 2)
    assert latency.seconds(1, 0, 0, 1, 0) == pytest.approx(2)
    assert latency.seconds(1, 4096, 0, 0, 0) == pytest.approx(8)


def test_the_breaks_rise_and_each_has_its_coefficient() -> None:
    assert list(TOKEN_BREAKS) == sorted(set(TOKEN_BREAKS))
    assert [name for name in COEFFICIENTS if "above" in name] == [
        f"per_token_above_{b}_s" for b in TOKEN_BREAKS
    ]
