"""A run deals chains as its forecast does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import table_of

from samullm_tui.domain.plan import Placement, Stage
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.dealing import deal, rates_of
from samullm_tui.simulate.problem import LLMModel, Problem, Progress, ShapeModel
from samullm_tui.supervisor.dispatch import assign
from samullm_tui.supervisor.ledger import Ledger

SECONDS = {"constant_s": 0.02, "per_sequence_s": 4e-4, "per_token_s": 1e-4}
LATENCY = IterationLatency(tuple(SECONDS.get(name, 0.0) for name in COEFFICIENTS))
SHAPE = ShapeModel(1, LATENCY, 5.0, EngineConfig(64, 2048, 4000, 16, 4096))


@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=20),
    st.integers(2, 4),
    st.integers(0, 100),
    st.booleans(),
)
def test_chains_go_where_the_forecast_has_them(
    steps: list[int], replicas: int, seed: int, loading: bool
) -> None:
    group = np.repeat(np.arange(len(steps)), steps)
    first = np.append(True, group[1:] != group[:-1])
    requests = [("a", () if begins else (i - 1,)) for i, begins in enumerate(first.tolist())]
    table = table_of("a", requests, group.tolist())
    expected = np.random.default_rng(seed).integers(1, 100, len(table))
    problem = Problem(table, (LLMModel("a", (SHAPE,), 1e9),), 4, (tuple(range(replicas)),), expected=expected)
    stage = Stage((Placement("a", 1, replicas, tuple(range(replicas))),), ("a",))
    fresh = Progress.fresh(problem)
    forecast = deal(problem, expected, fresh, stage.replicas, {}, fresh.left(problem), 0.0)
    ledger = Ledger(table, expected, (), [])
    rates = rates_of(SHAPE, float(problem.expected_prompts.mean()), float(expected.mean()))
    names = [replica.name for replica in stage.replicas]
    for number, name in enumerate(names):
        ledger.lanes.open(name, "a", rates)
        if number or not loading:
            ledger.lanes.serve(name, 64)
    sent = {action.request: names.index(action.replica) for action in assign(ledger.lanes, set())}
    assert sent == {i: int(forecast[i]) for i in np.flatnonzero(first).tolist()}
