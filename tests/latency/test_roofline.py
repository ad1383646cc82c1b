"""Promises of the estimates for LLMs that nobody has measured, held against measurements."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from samullm_tui.catalog.shapes import checkpoints, shape_of
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.latency.experts import of_one_token
from samullm_tui.latency.fit import predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import COEFFICIENTS, DECODE_CONTEXT, IterationLatency
from samullm_tui.latency.roofline import (
    EAGER,
    GRAPHS,
    Rates,
    Shape,
    flops_per_token,
    kv_bytes_per_token,
    load_estimate_s,
    rescaled,
    roofline,
    weight_bytes,
)

A100 = PRESETS["a100-80g"]
SHAPES = [shape for shape in map(shape_of, checkpoints()) if shape]
GPUS = [gpu for gpu in PRESETS.values() if gpu.kind == "gpu"]


def known(name: str) -> Shape:
    shape = shape_of(name)
    assert shape
    return shape


def test_the_arithmetic_of_a_dense_llm_and_of_a_mixture() -> None:
    llama, mixtral = known("Llama-2-13b-hf"), known("Mixtral-8x7B-v0.1")
    assert kv_bytes_per_token(llama) == 819_200
    assert weight_bytes(llama) == pytest.approx(26.04e9)
    assert flops_per_token(llama) == pytest.approx(26.04e9)
    assert flops_per_token(mixtral) == pytest.approx(2 * 12.9e9, rel=0.02)


@given(
    st.sampled_from([s for s in SHAPES if s.params_b > 5]), st.sampled_from(GPUS), st.sampled_from([1, 2, 4])
)
def test_an_estimate_is_a_valid_latency_and_more_gpus_never_slow_a_large_step(
    shape: Shape, gpu: GpuType, tp: int
) -> None:
    one, two = roofline(shape, gpu, tp), roofline(shape, gpu, 2 * tp)
    assert all(np.isfinite(value) and value >= 0 for value in one.coefficients)
    large = (64, 8192, 8192 * 4096.0, 0, 0.0)
    assert 0 < two.seconds(*large) <= one.seconds(*large)


def test_rescaling_to_the_same_place_changes_nothing_and_elsewhere_follows_the_roofline() -> None:
    shape = known("Mixtral-8x7B-v0.1")
    two, four = roofline(shape, A100, 2), roofline(shape, A100, 4)
    assert rescaled(two, two, two) == two
    moved = rescaled(two, two, four)
    for step in ((16, 0, 0, 16, 16_000), (4, 8192, 8192 * 1000, 0, 0), (33, 1024, 1e6, 32, 9_000)):
        assert moved.seconds(*step) == pytest.approx(four.seconds(*step), rel=0.01)
    double = IterationLatency(tuple(2 * value for value in two.coefficients), 8, 2)
    assert rescaled(double, two, four).coefficients == pytest.approx(
        [2 * value for value in moved.coefficients]
    )


def test_rescaling_keeps_pieces_that_the_roofline_does_not_have() -> None:
    dense = known("Llama-2-7b-hf")
    one, two = roofline(dense, A100, 1), roofline(dense, A100, 2)
    measured = IterationLatency(tuple(0.01 for _ in COEFFICIENTS))
    moved = dict(zip(COEFFICIENTS, rescaled(measured, one, two).coefficients, strict=True))
    assert moved["per_token_above_512_s"] == pytest.approx(moved["per_token_s"])
    assert 0.005 < moved["per_token_s"] < 0.01


def test_kernel_times_published_for_a_mixture_are_met_within_a_fifth() -> None:
    """64 experts of 1,408, six a token, hidden 2,048, one layer, A100 (vllm-project/vllm pull request 40542)."""
    experts_b = 64 * 3 * 2048 * 1408 / 1e9
    shape = Shape(
        layers=1,
        hidden=2048,
        heads=16,
        kv_heads=16,
        head_dim=128,
        intermediate=1408,
        vocab=0,
        context=0,
        params_b=experts_b,
        experts=64,
        experts_per_token=6,
    )
    nothing = {name: 0.0 for name in EAGER.__struct_fields__ if "expert" not in name}
    kernel = roofline(shape, A100, 1, structs.replace(EAGER, **nothing))
    for tokens, published_us in ((16, 542.6), (64, 698.1), (256, 769.5), (1024, 1022.5), (4096, 2919.0)):
        assert kernel.seconds(tokens, 0, 0, tokens, 0) * 1e6 == pytest.approx(published_us, rel=0.2), tokens


def test_reading_a_cache_that_query_heads_share() -> None:
    """chatglm3-6b on A100, vLLM 0.3: the authors' log. Decodes with and without their contexts, two batches."""
    per_token_s = roofline(known("chatglm3-6b"), A100, 1, EAGER).coefficients[DECODE_CONTEXT]
    many_s, few_s = (0.2139 - 0.0296) / (2_135_437 - 417), (0.0966 - 0.0120) / (843_776 - 103)
    assert many_s < per_token_s < few_s


@pytest.mark.parametrize("rates", [EAGER, GRAPHS])
def test_a_shared_cache_is_read_faster_than_one_of_each_query_head(rates: Rates) -> None:
    """And where tp leaves one query head on a GPU nothing is shared."""
    own, shared = known("Llama-2-13b-hf"), structs.replace(known("Llama-2-13b-hf"), kv_heads=8)
    one, other = (roofline(shape, A100, 1, rates).coefficients[DECODE_CONTEXT] for shape in (own, shared))
    assert one / 5 <= other < one
    one, other = (roofline(shape, A100, 40, rates).coefficients[DECODE_CONTEXT] for shape in (own, shared))
    assert one == pytest.approx(other)


@pytest.mark.data
def test_measured_decode_steps_lie_within_a_factor_of_the_estimate(
    authors_steps: dict[tuple[str, int], Iterations],
) -> None:
    for (model, tp), rows in authors_steps.items():
        decode = rows[rows.decode_seqs > 0]
        ratio = predicted_s(of_one_token(roofline(known(model), A100, tp)), decode) / decode.latency_s
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        assert 0.8 < middle < 1.25, (model, tp, middle)
        assert low > 0.5, (model, tp, low)
        assert high < 1.6, (model, tp, high)


@pytest.mark.data
def test_measured_prefill_steps_lie_within_a_factor_of_the_estimate(
    authors_steps: dict[tuple[str, int], Iterations],
) -> None:
    for (model, tp), rows in authors_steps.items():
        prefill = rows[rows.prefill_tokens > 0]
        ratio = predicted_s(of_one_token(roofline(known(model), A100, tp)), prefill) / prefill.latency_s
        assert 0.7 < np.median(ratio) < 1.4, (model, tp, np.median(ratio))


@pytest.mark.data
def test_start_times_are_of_the_right_size(measured: Path) -> None:
    with (measured / "samullm-authors" / "engine_init_seconds_a100.csv").open() as file:
        rows = list(csv.DictReader(file))
    ape = [
        abs(load_estimate_s(known(row["model"]), A100, int(row["tp"])) / float(row["init_s"]) - 1)
        for row in rows
    ]
    assert np.median(ape) < 0.2


@pytest.mark.data
def test_a_70b_llm_of_another_study_is_estimated_within_a_third(measured: Path) -> None:
    """Llama-2-70B on A100, batch 1 and 8: nothing of it went into the calibration."""
    import gzip

    with gzip.open(measured / "splitwise" / "perf_model_llama2-70b.csv.gz", "rt") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["hardware"] == "a100-80gb" and row["token_size"] == "128"
        ]
    for tp in (2, 4, 8):
        latency = roofline(known("Llama-2-70b-hf"), A100, tp)
        for batch in (1, 8):
            same = [
                r
                for r in rows
                if (r["tensor_parallel"], r["batch_size"], r["prompt_size"]) == (str(tp), str(batch), "512")
            ]
            measured_s = float(np.median([float(r["token_time"]) for r in same])) / 1000
            estimate_s = latency.seconds(batch, 0, 0, batch, batch * 576)
            assert estimate_s == pytest.approx(measured_s, rel=0.33), (tp, batch)


@pytest.mark.data
def test_a_32b_llm_on_h100_is_estimated_within_a_quarter(measured: Path) -> None:
    """Times per output token under a closed loop: each step decodes `concurrency` and prefills its share."""
    with (measured / "aiconfigurator" / "silicon_vllm_h100_qwen3-32b.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["concurrency"]]
    ape = []
    for row in rows:
        isl, osl, users = float(row["isl"]), float(row["osl"]), float(row["concurrency"])
        if float(row["silicon_ttft_ms"]) > 1500:  # requests queued for KV blocks: another regime
            continue
        prefill = users * isl / osl
        step = (users, prefill, prefill * isl / 2, users, users * (isl + osl / 2))
        latency = roofline(known("Qwen3-32B"), PRESETS["h100-80g"], int(float(row["tp_size"])))
        ape.append(abs(latency.seconds(*step) * 1000 / float(row["silicon_tpot_ms"]) - 1))
    assert len(ape) > 80
    assert np.mean(ape) < 0.1
    assert max(ape) < 0.3
