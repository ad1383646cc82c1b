"""Promises of calibrating a GPU by the LLMs that were measured on it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measured_steps import serving_points, steady_loop
from samullm_tui.catalog.shapes import checkpoints, shape_of
from samullm_tui.domain.cluster import PRESETS
from samullm_tui.latency.experts import of_one_token, of_text
from samullm_tui.latency.fit import fit, predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import IterationLatency, typical
from samullm_tui.latency.roofline import EAGER, GRAPHS, Rates, Shape, roofline
from samullm_tui.latency.sharing import calibrated_rates, rates_from_times

A100, H100 = PRESETS["a100-80g"], PRESETS["h100-80g"]
LARGE = [shape for shape in map(shape_of, checkpoints()) if shape and shape.params_b > 5]
STEPS = [
    (8, 0, 0, 8, 8000),
    (128, 0, 0, 128, 60_000),
    (2, 2048, 1024 * 2048.0, 0, 0),
    (33, 512, 6e5, 32, 9000),
]


def known(name: str) -> Shape:
    shape = shape_of(name)
    assert shape
    return msgspec.structs.replace(shape, context=0)


def test_without_measurements_the_rates_are_the_prior() -> None:
    assert calibrated_rates([], A100) == EAGER
    assert calibrated_rates([], H100) == GRAPHS


def test_rates_that_made_the_measurements_come_back_as_times() -> None:
    """Two LLMs at two tp under EAGER, from a prior of another engine: a third one is met within 5 %."""
    measured = [
        (known(name), tp, roofline(known(name), A100, tp, EAGER))
        for name in ("Llama-2-7b-hf", "Qwen3-32B", "gpt-neox-20b")
        for tp in (1, 2, 4)
    ]
    rates = calibrated_rates(measured, A100, GRAPHS)
    wanted = known("CodeLlama-34b-Instruct-hf")
    for step in STEPS:
        true = typical(roofline(wanted, A100, 2, EAGER)).seconds(*step)
        assert typical(roofline(wanted, A100, 2, rates)).seconds(*step) == pytest.approx(true, rel=0.05)
    assert rates.stall_s == pytest.approx(EAGER.stall_s)


@given(st.sampled_from(LARGE), st.sampled_from(LARGE), st.sampled_from([1, 2, 4]), st.floats(0.3, 3.0))
def test_one_measured_llm_moves_all_others_by_its_ratio_to_its_roofline(
    one: Shape, other: Shape, tp: int, ratio: float
) -> None:
    """An engine that is slower or faster all over: every LLM's estimate follows, dense to dense."""
    if one.experts or other.experts or (one.kv_heads < one.heads) != (other.kv_heads < other.heads):
        return
    prior = roofline(one, H100, tp)
    measured = IterationLatency(tuple(ratio * c for c in prior.coefficients))
    rates = calibrated_rates([(one, tp, measured)], H100)
    for step in STEPS:
        moved = roofline(other, H100, tp, rates).seconds(*step) / roofline(other, H100, tp).seconds(*step)
        assert moved == pytest.approx(ratio, rel=0.15)


def test_a_host_that_is_slow_for_a_dense_llm_makes_reading_experts_no_slower() -> None:
    """No mixture was measured: its factor over the GPU's peak stays that of the prior, whatever launches take."""
    one = known("Llama-2-7b-hf")
    slow = IterationLatency(tuple(2 * c for c in roofline(one, H100, 1).coefficients))
    rates = calibrated_rates([(one, 1, slow)], H100)
    assert rates.expert_factor == pytest.approx(GRAPHS.expert_factor)
    assert rates.layer_launch_s > 1.5 * GRAPHS.layer_launch_s


def test_llms_of_one_shape_count_as_one() -> None:
    a, b = known("Llama-2-7b-hf"), known("Llama-2-13b-hf")
    slow = IterationLatency(tuple(2 * c for c in roofline(a, A100, 1).coefficients))
    plain = roofline(b, A100, 1)
    once = calibrated_rates([(a, 1, slow), (b, 1, plain)], A100)
    often = calibrated_rates([(a, 1, slow)] * 5 + [(b, 1, plain)], A100)
    same = [name for name in Rates.__struct_fields__ if name != "stall_s"]
    assert [getattr(often, n) for n in same] == pytest.approx([getattr(once, n) for n in same], rel=0.02)


@pytest.mark.data
def test_times_per_output_token_on_h100_are_met_on_the_half_no_fit_has_seen(measured: Path) -> None:
    """Qwen3-32B at tp 2, 4 and 8 in closed loops. Peer: 11.8 % mean error on the same points."""
    points, shape = serving_points(measured), known("Qwen3-32B")
    workloads = sorted({point.workload for point in points})
    seen = {workloads[i] for i in np.random.default_rng(0).permutation(len(workloads))[: len(workloads) // 2]}
    loops = {
        half: [
            steady_loop(shape, [p for p in points if p.tp == tp and (p.workload in seen) == half])
            for tp in (2, 4, 8)
        ]
        for half in (True, False)
    }
    rates = rates_from_times(loops[True], H100, EAGER)
    errors = [
        timed.shares @ predicted_s(roofline(shape, H100, timed.tp, rates), timed.steps) / timed.seconds - 1
        for timed in loops[False]
    ]
    assert sum(map(len, errors)) == 45
    assert np.abs(np.concatenate(errors)).mean() < 0.1


@pytest.mark.data
def test_an_llm_left_out_is_predicted_from_its_shape(
    authors_steps: dict[tuple[str, int], Iterations],
) -> None:
    """The others of the authors' A100, none of its shape, and a prior of another GPU and engine, but for how query
    heads share a cache: 15 %.
    """
    prior = msgspec.structs.replace(GRAPHS, shared_kv_factor=EAGER.shared_kv_factor)
    fitted = {}
    for (model, tp), rows in authors_steps.items():
        latency = fit(rows, rng=np.random.default_rng(0)).latency
        fitted[model, tp] = of_text(latency, roofline(known(model), A100, tp))
    errors = {}
    for (model, tp), rows in authors_steps.items():
        others = [(known(m), t, latency) for (m, t), latency in fitted.items() if known(m) != known(model)]
        rates = calibrated_rates(others, A100, prior)
        estimate_s = predicted_s(of_one_token(typical(roofline(known(model), A100, tp, rates))), rows)
        errors[model, tp] = float(np.median(np.abs(estimate_s / rows.latency_s - 1)))
    mixture = errors.pop(("Mixtral-8x7B-v0.1", 2))
    assert np.median(list(errors.values())) < 0.08
    assert max(errors.values()) < 0.15
    assert mixture < 0.1
