"""One engine that is served online."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_cases import EXACT, Case, case, draw_case, draw_options

from samullm_tui.simulate.engine import EngineConfig, EngineSimulation, simulate_requests


def engine_with(c: Case, capacity: int = 1) -> EngineSimulation:
    engine = EngineSimulation(c.config, EXACT, capacity)
    for key in sorted(range(len(c.prompt)), key=lambda i: (c.arrival_s[i], i)):
        engine.submit(
            key,
            c.prompt[key],
            c.output[key],
            c.arrival_s[key],
            stops=c.max_tokens is not None and c.output[key] < c.max_tokens[key],
            prefix=c.prefix[key] if c.prefix else -1,
            prefix_tokens=c.shared[key] if c.shared else 0,
            priority=c.priority[key] if c.priority else 0,
        )
    return engine


def to_the_end(engine: EngineSimulation) -> dict[int, float]:
    done = engine.advance()
    return dict(zip(done.keys.tolist(), done.finish_s.tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(draw_options())
def test_it_is_the_batch_with_all_options(c: Case) -> None:
    arrays = (np.array(column) for column in (c.arrival_s, c.prompt, c.output))
    batch = simulate_requests(c.config, EXACT, *arrays, **c.options)
    engine = engine_with(c)
    finished = to_the_end(engine)
    assert [finished[key] for key in range(len(c.prompt))] == batch.finish_s.tolist()
    assert (engine.iterations, engine.preemptions) == (batch.iterations, batch.preemptions)


@settings(max_examples=80, deadline=None)
@given(draw_options())
def test_a_prefix_can_turn_out_longer_than_it_was(c: Case) -> None:
    """Whatever comes in meanwhile: the requests are those of an engine that heard of the longest prefix at first."""
    engines = [EngineSimulation(c.config, EXACT) for _ in range(2)]
    longest = {p: max(s for q, s in zip(c.prefix, c.shared, strict=True) if p == q) for p in c.prefix or ()}
    for prefix, tokens in longest.items():
        engines[1].submit(-1 - prefix, tokens + 1, 1, 0.0, prefix=prefix, prefix_tokens=tokens)
        engines[1].remove(-1 - prefix)
    finished = []
    for engine in engines:
        done = {}
        for key in sorted(range(len(c.prompt)), key=lambda i: (c.arrival_s[i], i)):
            now = engine.advance(c.arrival_s[key])
            done |= dict(zip(now.keys.tolist(), now.finish_s.tolist(), strict=True))
            prefix, tokens = (c.prefix[key], c.shared[key]) if c.prefix and c.shared else (-1, 0)
            engine.submit(
                key, c.prompt[key], c.output[key], c.arrival_s[key], prefix=prefix, prefix_tokens=tokens
            )
        finished.append(done | to_the_end(engine))
    assert finished[0] == finished[1]


@settings(max_examples=80, deadline=None)
@given(draw_case(), st.floats(0, 60), st.integers(1, 40))
def test_a_look_ahead_leaves_no_trace(c: Case, until_s: float, extra: int) -> None:
    engine = engine_with(c)
    engine.advance(until_s)
    before = engine.snapshot()
    seen = (engine.clock_s, engine.running, engine.waiting, engine.kv_usage, engine.preemptions)
    for key in range(1000, 1000 + extra):
        engine.submit(key, 1, 1, engine.clock_s)
    to_the_end(engine)
    engine.restore(before)
    assert (engine.clock_s, engine.running, engine.waiting, engine.kv_usage, engine.preemptions) == seen
    first = to_the_end(engine)
    engine.restore(before)
    assert to_the_end(engine) == first
    assert first == {k: f for k, f in to_the_end(engine_with(c)).items() if k in first}


@settings(max_examples=80, deadline=None)
@given(draw_case(), st.floats(0, 60))
def test_unfinished_requests_and_finished_ones_are_all_requests(c: Case, until_s: float) -> None:
    engine = engine_with(c)
    done = engine.advance(until_s).keys.tolist()
    keys, tokens = engine.unfinished()
    assert sorted([*done, *keys.tolist()]) == list(range(len(c.prompt)))
    assert engine.running + engine.waiting == len(keys)
    for key, has in zip(keys.tolist(), tokens.tolist(), strict=True):
        assert 0 <= has < c.output[key]
    assert (engine.kv_usage > 0) == (engine.running > 0)
    assert engine.kv_usage <= 1


@settings(max_examples=80, deadline=None)
@given(draw_case(), st.floats(0, 60))
def test_requests_moved_to_another_engine_keep_their_tokens(c: Case, until_s: float) -> None:
    engine, other = engine_with(c), EngineSimulation(c.config, EXACT)
    done = engine.advance(until_s)
    other.clock_s = engine.clock_s
    keys, tokens = engine.unfinished()
    for key, has in zip(keys.tolist(), tokens.tolist(), strict=True):
        assert engine.remove(key) == has
        other.submit(key, c.prompt[key], c.output[key], engine.clock_s, generated=has)
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0.0)
    assert len(engine.unfinished()[0]) == 0
    finished = to_the_end(other)
    assert sorted([*done.keys.tolist(), *finished]) == list(range(len(c.prompt)))
    assert all(finish_s > engine.clock_s for finish_s in finished.values())


def test_a_removed_request_changes_nothing_for_those_before_it() -> None:
    config = EngineConfig(8, 64, 100, 4, 200)
    with_it, without = EngineSimulation(config, EXACT), EngineSimulation(config, EXACT)
    for engine in (with_it, without):
        engine.submit(1, 10, 20, 0.0)
        engine.submit(2, 10, 30, 5.0)
    with_it.submit(3, 10, 30, 1000.0)
    assert with_it.remove(3) == 0
    assert to_the_end(with_it) == to_the_end(without)


def test_no_step_starts_at_or_after_the_limit_and_a_step_in_progress_ends() -> None:
    engine = EngineSimulation(case().config, EXACT)
    engine.submit(7, 10, 20, 1.0)
    assert len(engine.advance(1.0)) == 0
    assert (engine.clock_s, engine.iterations) == (0.0, 0)
    engine.advance(np.nextafter(1.0, 2.0))
    assert engine.iterations == 1
    assert engine.clock_s > 1.0
    engine.advance(engine.clock_s)
    assert engine.iterations == 1


def test_stopping_at_a_finish_returns_one_step_at_a_time() -> None:
    engine = EngineSimulation(EngineConfig(8, 64, 100, 4, 200), EXACT)
    for key, output in ((5, 9), (6, 9), (7, 20)):
        engine.submit(key, 4, output, 0.0)
    first = engine.advance(stop_at_finish=True)
    assert first.keys.tolist() == [5, 6]
    assert (first.finish_s == engine.clock_s).all()
    assert (first.first_token_s < first.finish_s).all()
    assert engine.advance(stop_at_finish=True).keys.tolist() == [7]
    assert engine.advance(stop_at_finish=True).keys.tolist() == []


def test_a_key_can_be_used_again_only_after_its_request_finished() -> None:
    engine = EngineSimulation(case().config, EXACT, capacity=1)
    engine.submit(1, 5, 5, 0.0)
    with pytest.raises(ValueError, match="request 1 is not finished"):
        engine.submit(1, 5, 5, 0.0)
    to_the_end(engine)
    engine.submit(1, 5, 5, 0.0)
    assert set(to_the_end(engine)) == {1}


def test_ten_thousand_requests_grow_the_engine_and_equal_the_batch() -> None:
    rng = np.random.default_rng(7)
    prompt, output = rng.integers(1, 400, 10_000), rng.integers(1, 300, 10_000)
    config = EngineConfig(64, 512, 500, 16, 1024)
    engine = EngineSimulation(config, EXACT)
    for key in range(10_000):
        engine.submit(key, int(prompt[key]), int(output[key]), 0.0)
    batch = simulate_requests(config, EXACT, np.zeros(10_000), prompt, output)
    finished = to_the_end(engine)
    assert [finished[key] for key in range(10_000)] == batch.finish_s.tolist()
    assert engine.iterations == batch.iterations
    assert engine.preemptions == batch.preemptions > 0
