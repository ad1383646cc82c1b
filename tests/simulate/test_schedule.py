"""The compiled schedule is the schedule."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Reference
from schedule_cases import EXACT, Case, case, draw_case, draw_options

from samullm_tui.domain.errors import InputError
from samullm_tui.simulate.engine import EngineConfig, EngineSimulation, simulate_requests

COLUMNS = (
    "start_s",
    "duration_s",
    "num_seqs",
    "prefill_tokens",
    "decode_seqs",
    "context_tokens",
    "kv_blocks",
)


def reference(c: Case) -> Reference:
    run = Reference(c.config, EXACT, c.requests)
    run.run()
    return run


def batch(c: Case, *, log: bool = False):
    arrays = (np.array(c.arrival_s), np.array(c.prompt, np.int64), np.array(c.output, np.int64))
    return simulate_requests(c.config, EXACT, *arrays, **c.options, log_iterations=log)


@settings(max_examples=600, deadline=None)
@given(st.one_of(draw_case(), draw_options()))
def test_every_step_equals_the_plain_schedule(c: Case) -> None:
    assert_every_step_equal(c)


def assert_every_step_equal(c: Case) -> None:
    expected, trace = reference(c), batch(c, log=True)
    assert trace.log is not None
    assert trace.iterations == len(expected.rows)
    assert trace.preemptions == expected.preemptions
    for column in COLUMNS:
        assert trace.log[column].tolist() == [getattr(row, column) for row in expected.rows], column
    assert trace.scheduled_s.tolist() == [r.scheduled_s for r in expected.requests]
    assert trace.first_token_s.tolist() == [r.first_token_s for r in expected.requests]
    assert trace.finish_s.tolist() == [r.finish_s for r in expected.requests]
    assert trace.makespan_s == max(r.finish_s for r in expected.requests)


def test_a_token_computed_again_past_the_prompt_counts_as_a_decode() -> None:
    """The second request is preempted and computed again in a chunk of its prompt and one of the one token after it."""
    c = Case(EngineConfig(4, 3, 7, 1, 7), [0.0, 0.0], [1, 3], [3, 2])
    assert_every_step_equal(c)
    trace = batch(c, log=True)
    assert trace.log is not None
    assert trace.preemptions == 1
    assert trace.log["decode_seqs"].sum() == 3


@settings(max_examples=200, deadline=None)
@given(st.one_of(draw_case(), draw_options()))
def test_jumping_without_a_log_gives_the_same_times(c: Case) -> None:
    expected, trace = reference(c), batch(c)
    assert (trace.iterations, trace.preemptions) == (len(expected.rows), expected.preemptions)
    assert trace.finish_s.tolist() == [r.finish_s for r in expected.requests]
    assert trace.log is None


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(draw_case(), draw_options(shared=False)),
    st.lists(st.integers(1, 60), max_size=12),
    st.booleans(),
    st.integers(0, 3),
)
def test_an_engine_served_online_gives_the_same_times(
    c: Case, pauses: list[int], stop: bool, capacity: int
) -> None:
    expected = reference(c)
    engine = EngineSimulation(c.config, EXACT, capacity)
    order = sorted(range(len(c.prompt)), key=lambda i: (c.arrival_s[i], i))
    finish: dict[int, float] = {}
    until = 0.0

    def work(until_s: float) -> None:
        done = engine.advance(until_s, stop_at_finish=stop)
        while len(done):
            finish.update(zip(done.keys.tolist(), done.finish_s.tolist(), strict=True))
            done = engine.advance(until_s, stop_at_finish=stop)

    for pause in pauses:
        until += pause
        while order and c.arrival_s[order[0]] < until:
            index = order.pop(0)
            submit(engine, c, index)
        work(until)
    for index in order:
        submit(engine, c, index)
    work(np.inf)
    assert finish == {r.index: r.finish_s for r in expected.requests}
    assert (engine.iterations, engine.preemptions) == (len(expected.rows), expected.preemptions)
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0.0)
    assert engine.clock_s == expected.now


def submit(engine: EngineSimulation, c: Case, index: int) -> None:
    engine.submit(
        index,
        c.prompt[index],
        c.output[index],
        c.arrival_s[index],
        stops=c.max_tokens is not None and c.output[index] < c.max_tokens[index],
        priority=c.priority[index] if c.priority else 0,
    )


@settings(max_examples=200, deadline=None)
@given(draw_options())
def test_every_token_is_computed_once_or_was_found_in_the_cache(c: Case) -> None:
    """Of the plain schedule, which the compiled one equals step by step, blocks included."""
    expected, trace = reference(c), batch(c, log=True)
    assert trace.log is not None
    assert (trace.log["kv_blocks"] <= c.config.usable_blocks).all()
    assert (trace.log["num_seqs"] <= c.config.max_num_seqs).all()
    assert (trace.log["prefill_tokens"] + trace.log["decode_seqs"] <= c.config.max_num_batched_tokens).all()
    chunks: dict[int, list[tuple[int, int]]] = {}
    for step in expected.work:
        for request, before, count in step:
            chunks.setdefault(request.index, []).append((before, before + count))
    for request in expected.requests:
        ends = 0
        for before, after in chunks[request.index]:
            cached = c.config.prefix_caching and ends == 0
            if before != ends and not cached:
                assert request.preemptions > 0
                assert before == 0 or c.config.prefix_caching
            assert c.config.prefix_caching or before in (0, ends)
            ends = after
        wasted = expected.stops_unforeseen(request) and c.config.async_scheduling
        assert ends - request.tokens + 1 in ((0, 1) if wasted else (0,))
        restarts = sum(after[0] < before[1] for before, after in pairwise(chunks[request.index]))
        assert restarts <= request.preemptions


@pytest.mark.parametrize("seed", [0, 1])
def test_the_schedule_of_a_real_engine_step_by_step(measured, seed: int) -> None:
    folder = measured / "vllm-cpu"
    requests = np.genfromtxt(folder / f"s64_t512_seed{seed}_requests.csv", delimiter=",", names=True)
    rows = np.genfromtxt(folder / f"s64_t512_seed{seed}_iterations.csv", delimiter=",", names=True)
    config = EngineConfig(64, 512, 8192, 128, 4096)
    prompt, output = (requests[name].astype(np.int64) for name in ("prompt_tokens", "output_tokens"))
    trace = simulate_requests(config, EXACT, requests["arrival_s"], prompt, output, log_iterations=True)
    assert trace.log is not None
    assert trace.iterations == len(rows) > 400
    for column in ("num_seqs", "prefill_tokens", "decode_seqs", "context_tokens", "kv_blocks"):
        np.testing.assert_array_equal(trace.log[column], rows[column], err_msg=column)
    assert trace.preemptions == rows["preempted"].sum()


def test_a_request_that_can_never_finish_is_refused_by_name() -> None:
    config = EngineConfig(4, 64, 5, 8, 64)
    ones = np.ones(3, np.int64)
    with pytest.raises(InputError, match="request 1: has a prompt that leaves no room"):
        simulate_requests(config, EXACT, np.zeros(3), np.array([4, 64, 4]), ones)
    with pytest.raises(InputError, match="request 2: is larger than the KV cache"):
        simulate_requests(config, EXACT, np.zeros(3), np.array([4, 5, 33]), ones)
    with pytest.raises(InputError, match="request 0: asks for no output"):
        simulate_requests(config, EXACT, np.zeros(1), np.array([4]), np.array([0]))
    with pytest.raises(InputError, match="larger than the KV cache"):
        EngineSimulation(config, EXACT).submit(0, 33, 1, 0.0)
    with pytest.raises(InputError, match="kv_blocks: is 1; at least 2"):
        EngineConfig(4, 64, 1, 8, 64)


def test_the_largest_request_that_the_cache_holds_runs_alone() -> None:
    config = EngineConfig(4, 64, 5, 8, 64)
    trace = simulate_requests(config, EXACT, np.zeros(2), np.array([30, 32]), np.array([3, 1]))
    assert np.isfinite(trace.finish_s).all()


def test_no_requests_take_no_time() -> None:
    empty = np.zeros(0, np.int64)
    trace = simulate_requests(case().config, EXACT, np.zeros(0), empty, empty, log_iterations=True)
    assert (trace.makespan_s, trace.iterations) == (0.0, 0)
    assert trace.log is not None
    assert len(trace.log) == 0


def test_a_log_longer_than_its_first_buffer_has_every_step() -> None:
    config = EngineConfig(1, 64, 4000, 16, 60_000)
    trace = simulate_requests(
        config, EXACT, np.zeros(1), np.array([5]), np.array([40_000]), log_iterations=True
    )
    assert trace.log is not None
    assert trace.log["iteration"].tolist() == list(range(40_000))
    assert trace.log["context_tokens"].tolist() == list(range(5, 40_005))
