"""Promises of composing an iteration latency from a profile of layers, and of what it forecasts of a real run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measured_steps import layer_profile, longest_over_mean, vllm_run
from samullm_tui.domain.errors import ProfileError
from samullm_tui.latency.layers import LayerProfile, composed_steps, fit_layers, parse_layers
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.engine import simulate_requests

DENSE = ("qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj")
ONCE = ("layernorm", "embedding", "final_layernorm")
GRID = [(0, 0, n, k) for n in (1, 2, 8) for k in (16, 1024)] + [(64, c, 0, 0) for c in (0, 512)]


def texts(**changes: str) -> dict[str, str]:
    """10 us and 1 us a token for each dense part, 5 us and 1 us a sequence, attention 2 us a context token."""
    parts = [(part, n, 10 + n) for part in (*DENSE, *ONCE) for n in (1, 100)]
    heads = [(part, n, 5 + n) for part in ("lm_head", "sampler") for n in (1, 10)]
    good = {
        "dense": "layer,tokens,time_us\n" + "\n".join(f"{p},{n},{t}" for p, n, t in parts),
        "per_sequence": "layer,sequences,time_us\n" + "\n".join(f"{p},{n},{t}" for p, n, t in heads),
        "attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"
        + "\n".join(f"{c},{p},{n},{k},{2 * (c * (p + c / 2) + n * k):g}" for c, p, n, k in GRID),
    }
    return good | changes


def test_a_step_is_the_sum_of_its_parts_over_all_layers() -> None:
    steps = composed_steps(parse_layers(**texts()), 4)
    at = GRID.index((0, 0, 8, 1024))
    dense = (len(DENSE) + 2) * (10 + 8)
    expected_us = 4 * (dense + 2 * 8 * 1024) + 2 * (10 + 8) + 2 * (5 + 8)
    assert steps.latency_s[at] == pytest.approx(expected_us * 1e-6)
    assert (steps.num_seqs[at], steps.decode_seqs[at], steps.decode_context[at]) == (8, 8, 8192)
    prompt = GRID.index((64, 512, 0, 0))
    assert (steps.num_seqs[prompt], steps.prefill_tokens[prompt]) == (1, 64)
    assert steps.prefill_context[prompt] == 64 * (512 + 32)


@given(st.floats(1, 8), st.floats(0, 1))
def test_unequal_contexts_lie_between_those_at_the_mean_and_at_the_longest(
    longest: float, skew: float
) -> None:
    profile = parse_layers(**texts(), skew=skew)
    equal, unequal = composed_steps(profile, 1), composed_steps(profile, 1, longest=longest)
    decodes = np.array([n > 1 for _c, _p, n, _k in GRID])
    added_s = unequal.latency_s - equal.latency_s
    assert (added_s[~decodes] == 0).all()
    contexts = equal.decode_context[decodes]
    np.testing.assert_allclose(added_s[decodes], skew * (longest - 1) * 2e-6 * contexts, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"dense": "layer,tokens\nqkv_proj,1"}, "dense.csv: line 1: column time_us is missing"),
        ({"dense": "layer,tokens,time_us\nqkv_proj,1,2\nqkv_proj,2,3"}, "fewer than two rows of rotary_emb"),
        ({"per_sequence": "layer,sequences,time_us\nlm_head,1,x"}, "line 2: not numbers"),
        ({"attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n1,2,3,4,nan"}, "not numbers"),
        ({"attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n1,2,-3,4,1"}, "not numbers"),
        ({"attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"}, "no rows"),
        ({"attention": ""}, "prefill_chunk is missing"),
    ],
)
def test_a_profile_that_is_none_is_refused(changes: dict[str, str], wrong: str) -> None:
    with pytest.raises(ProfileError, match=wrong):
        parse_layers(**texts(**changes))


@pytest.fixture(scope="module")
def rtx(measured: Path) -> LayerProfile:
    return layer_profile(measured)


@pytest.mark.data
def test_the_layer_profile_is_of_the_full_model(rtx: LayerProfile) -> None:
    """At one token the weights are read once: at most the bandwidth of the GPU, and more than half of it."""
    params = {"qkv_proj": 4096 * 6144, "o_proj": 4096**2, "gate_up_proj": 4096 * 28672}
    for part, count in params.items():
        assert 0.9e12 < 2 * count / rtx.dense[part][1][0] < 1.792e12, part


@pytest.mark.data
def test_a_real_run_is_forecast_within_2_percent(rtx: LayerProfile, measured: Path) -> None:
    """vLLM 0.19, 300 requests as they arrived. Peer: -4.0 % TTFT, -1.0 % TPOT, -1.8 % latency."""
    run = vllm_run(measured)
    context = int((run.prompt + run.output).max())
    result = fit_layers(
        rtx, 32, context=context, longest=longest_over_mean(run, 128), rng=np.random.default_rng(0)
    )
    config = EngineConfig(128, 2048, 30_000, 16, 131_072)
    trace = simulate_requests(config, result.latency, run.arrival_s, run.prompt, run.output)
    assert trace.makespan_s == pytest.approx(run.finish_s.max(), rel=0.02)
    latency_s = (trace.finish_s - run.arrival_s).mean()
    assert latency_s == pytest.approx((run.finish_s - run.arrival_s).mean(), rel=0.02)
    first_s = (trace.first_token_s - run.arrival_s).mean()
    assert first_s == pytest.approx((run.first_token_s - run.arrival_s).mean(), rel=0.04)
