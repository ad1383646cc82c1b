"""The loads of a profile: they fit the engine, and they show it everything that it can hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.engines.load_design import Ask, Bounds, Load, design, warm_up


@st.composite
def engines(draw: st.DrawFn) -> Bounds:
    """Any engine that starts: its KV cache holds one request as long as the context."""
    block_size = draw(st.sampled_from([16, 128]))
    context = draw(st.integers(64, 40_000))
    kv_blocks = -(-context // block_size) + draw(st.integers(0, 5000))
    return Bounds(
        max_num_seqs=draw(st.integers(1, 1024)),
        max_num_batched_tokens=draw(st.integers(64, 16_384)),
        max_model_len=context,
        kv_tokens=kv_blocks * block_size,
        block_size=block_size,
    )


def blocks_of(ask: Ask, bounds: Bounds) -> int:
    return -(-(ask.prompt_tokens + ask.output_tokens) // bounds.block_size)


def loads_of(bounds: Bounds) -> list[Load]:
    return [warm_up(bounds), *design(bounds, np.random.default_rng(0))]


@given(engines())
def test_no_request_is_longer_than_the_context(bounds: Bounds) -> None:
    for load in loads_of(bounds):
        for ask in (ask for stream in load.streams for ask in stream):
            assert ask.prompt_tokens >= 1
            assert ask.output_tokens >= 1
            assert ask.prompt_tokens + ask.output_tokens <= bounds.max_model_len


@given(engines())
def test_what_runs_at_the_same_time_fits_in_one_batch(bounds: Bounds) -> None:
    assert all(1 <= len(load.streams) <= bounds.max_num_seqs for load in loads_of(bounds))


@given(engines())
def test_what_runs_at_the_same_time_fits_in_the_kv_cache(bounds: Bounds) -> None:
    """Unless not even one block for each is there."""
    blocks = bounds.kv_tokens // bounds.block_size
    for load in design(bounds, np.random.default_rng(0)):
        needed = sum(max(blocks_of(ask, bounds) for ask in stream) for stream in load.streams)
        assert needed <= max(blocks, len(load.streams))


@given(engines())
def test_single_sequences_the_largest_batch_and_the_longest_prompt_are_all_there(bounds: Bounds) -> None:
    loads = design(bounds, np.random.default_rng(0))
    batches = {len(load.streams) for load in loads if "decoding" in load.name}
    assert {1, bounds.max_num_seqs} <= batches
    longest = max(ask.prompt_tokens for load in loads for stream in load.streams for ask in stream)
    most = min(bounds.max_model_len, 8 * bounds.max_num_batched_tokens)
    assert longest >= min(most, bounds.max_model_len - 2) - 1
    assert any(len(set(stream)) > 1 for load in loads for stream in load.streams), "mixed steps"


@given(engines(), st.integers(0, 9))
def test_the_same_seed_gives_the_same_loads(bounds: Bounds, seed: int) -> None:
    one, other = (design(bounds, np.random.default_rng(seed)) for _ in range(2))
    assert one == other


@given(engines())
def test_a_decode_batch_shrinks_one_by_one(bounds: Bounds) -> None:
    for load in design(bounds, np.random.default_rng(0)):
        if "decoding" in load.name and len(load.streams) > 1:
            outputs = [stream[0].output_tokens for stream in load.streams]
            assert outputs == sorted(outputs)
