"""The lower bound against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from planning_problems import SmallNode, ensemble, model, problem

from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.planner.bound import lower_bound
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.simulate.config import EngineConfig


def constant_latency(seconds: float) -> IterationLatency:
    return IterationLatency((seconds, *([0.0] * (len(COEFFICIENTS) - 1))))


def one_llm(load_s: float, max_num_seqs: int) -> LLMModel:
    config = EngineConfig(max_num_seqs, 64, 1000, 16, 512)
    return LLMModel("x", (ShapeModel(1, constant_latency(1.0), load_s, config),), 1e9)


def test_one_request_takes_its_load_and_one_step_a_token() -> None:
    some = problem([one_llm(7.0, 4)], [SmallNode("x", 1, prompt_tokens=5)], gpus=1)
    assert lower_bound(some, np.array([10])) == pytest.approx(17.0)


def test_a_chain_takes_the_steps_of_all_its_requests() -> None:
    some = problem([one_llm(7.0, 4)], [SmallNode("x", 3, prompt_tokens=5, chain=True)], gpus=8)
    assert lower_bound(some, np.array([10, 20, 30])) == pytest.approx(67.0)


def test_a_full_engine_shares_its_steps_among_as_many_sequences_as_it_takes() -> None:
    some = problem([one_llm(0.0, 4)], [SmallNode("x", 40, prompt_tokens=1)], gpus=2)
    # 40 requests of 10 tokens, 4 a step, two GPUs
    assert lower_bound(some, np.full(40, 10)) == pytest.approx(50.0)


def test_each_llm_adds_a_load_of_its_own() -> None:
    llms = [model(f"x{k}", load_s=100.0, tps=(1,)) for k in range(4)]
    some = problem(llms, [SmallNode(m.name, 1) for m in llms], gpus=2)
    assert 200.0 <= lower_bound(some, np.ones(4, dtype=np.int64)) < 201.0


def test_longer_outputs_never_lower_it() -> None:
    some = ensemble()
    lengths = np.random.default_rng(1).integers(1, 200, len(some.table))
    assert lower_bound(some, lengths) <= lower_bound(some, lengths + 10)


def test_nothing_to_do_takes_no_time() -> None:
    empty: Problem = problem([model("x")], [SmallNode("x", 0)])
    assert lower_bound(empty, np.zeros(0, dtype=np.int64)) == 0.0
